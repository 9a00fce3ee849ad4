"""One trial at a time: what is tried for one workload of a machine would disturb what is measured of another."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Turns:
    """Who has a trial. Not for several threads at once: steps are taken one after the other."""

    holder: str = ""

    def hold(self, name: str) -> str:
        """Return why a workload may not begin a trial now; "" when it may."""
        return f"{self.holder} has a trial, and one would disturb the other" if self.holder not in ("", name) else ""

    def note(self, name: str, *, trying: bool) -> None:
        """Take note whether a workload has a trial after its step."""
        if trying:
            self.holder = name
        elif self.holder == name:
            self.holder = ""


@dataclass(slots=True)
class Turn:
    """One workload's part in it."""

    name: str
    turns: Turns = field(default_factory=Turns)

    def hold(self) -> str:
        """See ``Turns.hold``."""
        return self.turns.hold(self.name)

    def note(self, *, trying: bool) -> None:
        """See ``Turns.note``."""
        self.turns.note(self.name, trying=trying)
