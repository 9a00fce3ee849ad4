"""Follows a recording on the terminal that it is started on; a program for the tests, not one of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.console import Console

from dna.vector import Interval
from tests.ui.recording import Recording, interval_at
from ui.live import follow


class Paced(Recording):
    """Yields an interval every fifth of a second until it is stopped."""

    def __init__(self) -> None:
        super().__init__(tuple(interval_at(index) for index in range(1000)))

    def __iter__(self) -> Iterator[Interval]:
        for interval in self.intervals:
            # A flag and a sleep: an Event's lock must not be taken by a signal handler that interrupts its wait.
            for _ in range(10):
                time.sleep(0.02)
                if self.stopped:
                    return
            self.shown.append(interval)
            yield interval


def main() -> None:
    source = Paced()
    try:
        follow(source, console=Console(), interval_s=0.2)
    except KeyboardInterrupt:
        print("ABORTED")
        sys.exit(130)
    print(f"SUMMARY of {min(len(source.shown), 1)}+ intervals")


if __name__ == "__main__":
    main()
