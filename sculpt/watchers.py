"""Who is told of each step. Whatever befalls one of them is told once, and ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sculpt.step import Record

type Watcher = Callable[[Record], None]


@dataclass(slots=True)
class Watchers:
    """All of a run's watchers; called for one step at a time."""

    watchers: Iterable[Watcher]
    _told: set[int] = field(default_factory=set)
    _failures: list[str] = field(default_factory=list)
    _noted: set[str] = field(default_factory=set)

    def tell(self, record: Record) -> None:
        """Tell all of them of a step."""
        for number, watcher in enumerate(self.watchers):
            try:
                watcher(record)
            except Exception as error:
                if number not in self._told:
                    self._told.add(number)
                    name = getattr(watcher, "__qualname__", type(watcher).__name__)
                    self._failures.append(f"{name} cannot be told of steps: {type(error).__name__}: {error}")

    def note(self, trouble: str) -> None:
        """Have something told with the next step; once in a run."""
        if trouble not in self._noted:
            self._noted.add(trouble)
            self._failures.append(trouble)

    def failures(self) -> tuple[str, ...]:
        """Return what went wrong since this was asked last, each of it once in a run."""
        found = tuple(self._failures)
        self._failures.clear()
        return found
