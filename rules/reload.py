"""Rules that follow their files: a changed one takes effect once it is found fit, and not before.

Nothing runs by itself: who uses the rules asks them to look. A file that changed is loaded, checked and its tests are run before its
rules replace the old ones, all at once; when anything is wrong that is told once, and the old ones stay until the file changes
again. A file that is gone takes its rules with it when it is missed twice: some editors remove a file before they write it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rules.cases import try_cases
from rules.errors import RuleError
from rules.findings import ERROR
from rules.lint import lint
from rules.loader import RuleFile, load
from rules.rule import Rule
from rules.sources import Found, Sources, combined, find, load_all
from rules.trust import Stamp, stamp_of

type State = tuple[Stamp | None, Stamp | None]
"""Of a rule file and its test module; None for one that is not there."""
type Check = Callable[[RuleFile, Sequence[RuleFile]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class News:
    """What became of a file that changed."""

    path: Path | None
    """None where not even the files could be found."""
    taken: bool
    """Whether it is in effect now."""
    messages: tuple[str, ...]


class Rules:
    """The rules of some sources, as their files are.

    Args:
        check: what keeps a loaded file from being taken, given the other files in effect.

    Raises:
        RuleError: they cannot be loaded to begin with.
    """

    def __init__(self, sources: Sources, *, check: Check | None = None) -> None:
        self._sources = sources
        self._check = unfit if check is None else check
        self._states = {found.path: _state(found.path) for found in find(sources)}
        self._missed: set[Path] = set()
        self._trouble = ""
        self.loaded = load_all(sources)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in effect."""
        return self.loaded.rules

    def look(self) -> tuple[News, ...]:
        """Look at the files, take in what changed and is fit, and return what is new; () as a rule."""
        try:
            found = find(self._sources)
        except RuleError as error:  # a folder that others can write by now, a file that was named and is gone
            return self._troubled(str(error))
        self._trouble = ""
        there = [one for one in found if one.path.exists()]
        return (*self._changed(there), *self._gone({one.path for one in there}))

    def _troubled(self, message: str) -> tuple[News, ...]:
        if message == self._trouble:
            return ()
        self._trouble = message
        return (News(None, taken=False, messages=(message,)),)

    def _changed(self, found: Sequence[Found]) -> Iterator[News]:
        for one in found:
            state = _state(one.path)
            self._missed.discard(one.path)
            if state != self._states.get(one.path):
                self._states[one.path] = state  # before it is read: what changes meanwhile is seen the next time
                yield self._taken(one)

    def _taken(self, found: Found) -> News:
        others = [file for file in self.loaded.files if file.path != found.path]
        try:
            file = load(found.path, origin=found.origin)
            wrong = tuple(self._check(file, others))
            loaded = combined([file, *others])
        except RuleError as error:
            return News(found.path, taken=False, messages=(str(error),))
        if wrong:
            return News(found.path, taken=False, messages=wrong)
        self.loaded = loaded
        return News(found.path, taken=True, messages=(f"{len(file.rules)} rules",))

    def _gone(self, there: set[Path]) -> Iterator[News]:
        for path in set(self._states) - there:
            if path not in self._missed:
                self._missed.add(path)
                continue
            self._missed.discard(path)
            del self._states[path]
            self.loaded = combined(file for file in self.loaded.files if file.path != path)
            yield News(path, taken=True, messages=("it is gone, and its rules with it",))


def unfit(file: RuleFile, among: Sequence[RuleFile]) -> list[str]:
    """Return what keeps a file from being used: errors that a check finds, and cases that fail."""
    found = [f"{one.place}: {one.message}" for one in lint([file], among=among) if one.severity == ERROR]
    tried = try_cases(file)
    if tried.error is not None:
        found.append(str(tried.error))
    return found + [f"{case.place}: {case.name}: {case.message}" for case in tried.failures]


def _state(path: Path) -> State:
    return _stamp(path), _stamp(path.with_name(f"test_{path.name}"))


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
