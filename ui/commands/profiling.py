"""What ``dna profile`` does: profiler, live view, summary and history put together."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from dna import references
from dna.errors import DnaError
from dna.export import dumps, to_json, write_json
from dna.library import Library
from dna.profiler import Profiler
from dna.store import Store
from dna.summary import summarise
from dna.target import Target
from dna.vector import Profile
from ui.commands.tool import tool_line
from ui.live import Comparison, follow
from ui.options import OptionError
from ui.summary import nothing_measured, summary
from ui.terminal import diverted, shows_live


@dataclass(frozen=True, slots=True)
class Output:
    """Where a profile goes."""

    name: str = ""
    json: str = ""
    """A file, "-" for standard output, or empty."""
    live: bool = True
    keep: bool = True
    """Whether in the history too."""
    store: Path | None = None
    """The history; None is the usual one."""

    def check(self) -> None:
        """Fail before measuring rather than after it, where the result could not be kept.

        Raises:
            OptionError, StoreError: there is no folder for the file, or the history cannot be written.
        """
        folder = Path(self.json).absolute().parent
        if self.json not in ("", "-") and not folder.is_dir():
            raise OptionError(f"--json {self.json}: there is no folder {folder}")
        if self.keep:
            Store.open(self.store).close()

    def write(self, profile: Profile, known: Library | None, console: Console) -> None:
        """Write the profile where it is to go, and say on ``console`` what it is kept as."""
        if self.json == "-":
            typer.echo(dumps(to_json(profile, known), indent=1))
        elif self.json:
            write_json(profile, self.json, known)
        if self.keep:
            with Store.open(self.store) as history:
                identity = history.save(profile)
            line = f"\nKept as {identity}: dna show {profile.name or identity}"
            console.print(line, style="bright_black", markup=False)


def profile(target: Target, output: Output, *, interval_s: float, duration_s: float | None) -> int:
    """Profile, show and keep; return the exit status, a launched command's own.

    Raises:
        DnaError: see ``Profiler`` and ``Output.check``, or nothing was measured.
    """
    output.check()
    # A launched command keeps standard output to itself, as under `time` and `perf stat`.
    console = Console(stderr=output.json == "-" or target.kind == "command", highlight=False)
    profiler = Profiler(target, interval=interval_s, duration=duration_s)
    measured, known = _measure(profiler, output, console)
    status = profiler.exit_status or 0
    if not measured.intervals:
        return _nothing(measured, interval_s, status)
    console.print(summary(measured, summarise(measured, known), console, profiler.remedies))
    if target.kind == "command" and profiler.exit_status is None:
        console.print("The command goes on: only its profile is over.")
    output.write(measured, known, console)
    return status


def _measure(profiler: Profiler, output: Output, console: Console) -> tuple[Profile, Library | None]:
    aside = output.live and profiler.target.kind == "command" and shows_live(console)
    with diverted(console) if aside else nullcontext(console) as shown:
        with profiler:
            known = references.workloads_in_use(output.store if output.keep else None)
            follow(
                profiler,
                console=shown,
                interval_s=profiler.interval,
                duration_s=profiler.duration,
                live=output.live,
                comparison=Comparison.with_library(known),
            )
            measured = profiler.profile(output.name, tool=tool_line())
        _settle(profiler)  # still diverted: what a command says at its end belongs to its output
    return measured, known


def _settle(profiler: Profiler) -> None:
    """After Ctrl-C, which the terminal sends to a launched command too, give that a second to end."""
    for _ in range(20):
        if profiler.exit_status is not None or profiler.target.kind != "command" or profiler.ended != "stopped":
            return
        time.sleep(0.05)


def _nothing(measured: Profile, interval_s: float, status: int) -> int:
    message, remedy = nothing_measured(measured.target, interval_s)
    if not status:
        raise DnaError(message, remedy=remedy)
    # The command failed on its own: that is the news, and its status is what counts.
    typer.echo(f"dna: {message}", err=True)
    return status
