"""What can go wrong with rules.

::

    HalError                   carries a remedy and an exit code for the command line
    └── RuleError              a rule or rule file makes no sense, or raised; the message says where (exit 2)
        └── UntrustedError     a rule file that others can write, refused (exit 5)
"""

from __future__ import annotations

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


class UntrustedError(RuleError):
    """A rule file that others could have written."""

    exit_code = EXIT_REFUSED
