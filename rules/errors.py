"""What can go wrong with rules.

::

    HalError                   carries a remedy and an exit code for the command line
    └── RuleError              a rule or rule file makes no sense, or raised; the message says where (exit 2)
        ├── MistakesError      conditions in a rule file make no sense; carries them all
        └── UntrustedError     a rule file that others can write, refused (exit 5)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hal.errors import EXIT_REFUSED, EXIT_USAGE, HalError


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a rule file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("", 0)


class RuleError(HalError):
    """A rule or rule file makes no sense, or raised while it was evaluated."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, place: Place = NOWHERE, remedy: str = "") -> None:
        super().__init__(f"{place}: {message}" if place.file else message, remedy=remedy)
        self.place = place


class MistakesError(RuleError):
    """Conditions in a rule file make no sense: ``mistakes`` has all of them, each with its line, message and remedy."""

    def __init__(self, file: str, mistakes: Sequence[tuple[Place, str, str]]) -> None:
        self.mistakes = tuple(mistakes)
        place, message, remedy = self.mistakes[0]
        if len(self.mistakes) > 1:
            lines = [f"  {where}: {what}. {how}".rstrip() for where, what, how in self.mistakes]
            place, remedy = NOWHERE, ""
            message = "\n".join([f"{file}: {len(lines)} mistakes in conditions", *lines])
        super().__init__(message, place=place, remedy=remedy)
        self.place = self.mistakes[0][0]


class UntrustedError(RuleError):
    """A rule file that others could have written."""

    exit_code = EXIT_REFUSED
