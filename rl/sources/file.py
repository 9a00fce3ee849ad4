"""``file:PATH``: the last number in a file that somebody writes anew at least once an interval.

A file that was not written since the read before says nothing of the interval: it is told by its time of writing, or where that stands
still, as in /sys, by its content. With ``rate:`` before it the number is one that only grows, and need not be written.
"""

from __future__ import annotations

from dataclasses import dataclass

from hal.host import Host
from rl.errors import MetricError
from rl.measured import ENERGY, LATENCY, THROUGHPUT, Problem
from rl.sources.found import Level, Source, SourceError
from rl.sources.numbers import last_number

MOST_BYTES = 1 << 20


def check(rest: str) -> None:
    """Raise MetricError where no path is given."""
    if not rest.startswith("/"):
        raise MetricError(f"file:{rest} is no absolute path", remedy=f"write it out, as in {SOURCE.example}")


@dataclass(slots=True)
class FileFetch:
    """One file."""

    host: Host
    path: str

    def fetch(self) -> Level:
        """Return the number, stamped by when and as what it was written."""
        if self.host.file_size(self.path) > MOST_BYTES:
            raise SourceError(
                Problem.REFUSED, f"{self.path} is larger than 1 MiB: read it with command:tail -n1 {self.path}"
            )
        stamp = self.host.modified_ns(self.path)
        # A number that is another than before is new whatever the time of writing says: values are compared with the stamp.
        return Level(last_number(self.host.read_text(self.path)), stamp=float(stamp))

    def close(self) -> None:
        """Nothing is held open."""


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> FileFetch:
    return FileFetch(host, rest)


SOURCE = Source(
    "file", "/PATH", "throughput=file:/run/app/requests_per_second", (THROUGHPUT, LATENCY, ENERGY), check, _open
)
