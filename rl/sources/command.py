"""``command:PROGRAM ARGUMENT...``: the last number that a command prints, run anew for each interval, without a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from hal.host import CommandResult, Host
from hal.running import TIMED_OUT
from rl.errors import MetricError
from rl.measured import ENERGY, LATENCY, THROUGHPUT, Problem
from rl.sources.found import Level, Source, SourceError
from rl.sources.numbers import last_number

_SHOWN = 160


def split(rest: str) -> list[str]:
    """Return the words of a command line; MetricError where it has none, or an open quote."""
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise MetricError(f"command:{rest}: {str(error).lower()}", remedy="close the quotes") from error
    if not words:
        raise MetricError("command: without a command", remedy=f"name one, as in {SOURCE.example}")
    return words


def check(rest: str) -> None:
    """Raise MetricError where there is no command line, or one that only a shell would understand."""
    words = split(rest)
    if signs := [word for word in words if word in ("|", "||", "&&", ";", "&", ">", ">>", "<")]:
        raise MetricError(
            f"command:{rest}: {signs[0]} means something to a shell, and there is none",
            remedy="call one, as in command:sh -c 'tail -n1 out.txt | cut -f2', or put it into a script",
        )


@dataclass(slots=True)
class CommandFetch:
    """One command."""

    host: Host
    argv: Sequence[str]
    timeout_s: float

    def fetch(self) -> Level:
        """Return the last number of its output."""
        done = self.host.run(self.argv, timeout_s=self.timeout_s)
        refuse_failed(self.argv[0], done)
        return Level(last_number(done.stdout))

    def close(self) -> None:
        """Nothing is held open."""


def refuse_failed(name: str, done: CommandResult) -> None:
    """Raise SourceError where a command did not end well, with the last that it said."""
    if done.status == TIMED_OUT and not done.stdout:
        raise SourceError(Problem.SLOW, done.stderr.strip() or f"{name} did not finish")
    if done.status != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = f": {lines[-1][:_SHOWN]}" if lines else ""
        raise SourceError(Problem.REFUSED, f"{name} ended with {done.status}{said}")


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> CommandFetch:
    return CommandFetch(host, split(rest), timeout_s)


SOURCE = Source(
    "command", "PROGRAM ARGUMENTS", "throughput=command:tail -n1 out.txt", (THROUGHPUT, LATENCY, ENERGY), check, _open
)
