"""What the typed words of conditions have in common: a fact that does not exist becomes a problem that names the nearest."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from rules.language import Condition, Problem, Term, all_of, any_of, as_condition, here

NO_SUCH_FACT = "there is no fact"


class Words:
    """Facts behind one word or group of it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __repr__(self) -> str:
        return self._prefix

    if not TYPE_CHECKING:  # a type checker shall see that it does not exist

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return Missing(f"{self._prefix}.{name}")


class Missing(Term[Any]):
    """A fact that does not exist, in whose place a number, a flag, a word or a group may have been meant.

    Whatever is made of it is a condition or expression with the one problem that it does not exist.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __init__(self, name: str) -> None:
        super().__init__(name, "1", (unknown(name),))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Missing(f"{self.name}.{name}")

    def _condition(self, *_arguments: object, **_named: object) -> Condition:
        return as_condition(self, here())

    def _number(self, *_arguments: object) -> Missing:
        return self

    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _condition  # type: ignore[assignment]
    __invert__ = between = is_in = fits = for_at_least = like = _condition
    __add__ = __sub__ = __mul__ = __rmul__ = __truediv__ = _number

    def __and__(self, other: object) -> Condition:
        return all_of(self, other)  # type: ignore[arg-type]

    def __or__(self, other: object) -> Condition:
        return any_of(self, other)  # type: ignore[arg-type]


def unknown(name: str) -> Problem:
    """Return the problem of a fact that does not exist, with the nearest ones that do."""
    from rules.tables import FACTS

    word = name.partition(".")[0]
    own = [fact for fact in FACTS if fact.startswith(f"{word}.")]
    # By the whole name, and by what is behind the last dot: the group is as often wrong as the spelling.
    last = {fact.rpartition(".")[2]: fact for fact in own}
    near = difflib.get_close_matches(name, own, n=2, cutoff=0.6)
    near += [last[one] for one in difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.8)]
    shown = " or ".join(dict.fromkeys(near))
    return Problem(
        f"{NO_SUCH_FACT} {name}",
        f"Did you mean {shown}?" if shown else "See docs/rules-reference.md for those there are.",
    )
