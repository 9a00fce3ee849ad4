"""What the typed words of conditions have in common: a fact that does not exist becomes a problem that names the nearest."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from rules.language import Problem, Term


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
            return Term(f"{self._prefix}.{name}", "1", (unknown(f"{self._prefix}.{name}"),))


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
        f"there is no fact {name}",
        f"Did you mean {shown}?" if shown else "See docs/rules-reference.md for those there are.",
    )
