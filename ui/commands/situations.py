"""What ``dna advise`` and ``dna rules explain`` are asked about: targets and profiles, several at once, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ui import options

if TYPE_CHECKING:
    from dna.target import Target
    from dna.vector import Interval, Profile
    from rules.gather_situation import Asked, Gathered

Profiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROFILE]...",
        help="Stored profiles: id or its beginning, name, last, last~1; or exported .json files. Else targets are watched.",
    ),
]
Pids = Annotated[
    list[int] | None, typer.Option("--pid", metavar="N", help="A process, its threads and children; may be repeated.")
]
Cgroups = Annotated[list[str] | None, typer.Option("--cgroup", metavar="PATH", help="A cgroup and those below it.")]
Units = Annotated[list[str] | None, typer.Option("--unit", metavar="NAME", help="A systemd unit.")]
Containers = Annotated[list[str] | None, typer.Option("--container", metavar="ID", help="A container, by id or name.")]
Comms = Annotated[
    list[str] | None, typer.Option("--comm", metavar="REGEX", help="Each program of a command name, with its children.")
]
IntervalS = Annotated[float, typer.Option("--interval", metavar="SECONDS", help="Length of one interval.")]
DurationS = Annotated[float, typer.Option("--duration", metavar="SECONDS", help="How long targets are watched.")]
Store = Annotated[Path | None, typer.Option("--store", envvar="DNA_STORE", metavar="PATH", help="The history's file.")]

_BEHIND = "dna.behind_dashes"


class WithCommandBehind(TyperCommand):
    """A command whose arguments end at ``--``, behind which another command may stand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take away what stands behind ``--``, and remember it."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_BEHIND] = args[at + 1 :] if "--" in args else None
        return super().parse_args(ctx, args[:at])


def asked(
    ctx: typer.Context,
    *,
    profiles: Sequence[str] | None,
    pid: Sequence[int] | None,
    cgroup: Sequence[str] | None,
    unit: Sequence[str] | None,
    container: Sequence[str] | None,
    comm: Sequence[str] | None,
    topology: str | None,
    interval: float,
    duration: float,
    store: Path | None,
) -> Asked:
    """Return what options and arguments ask about.

    Raises:
        OptionError: nothing is named, or something makes no sense.
        DnaError: a profile is not there, a target is misnamed.
    """
    from rules.gather_situation import Asked

    command: list[str] | None = ctx.meta.get(_BEHIND)
    targets = named_targets(pid or (), cgroup or (), unit or (), container or (), comm or (), command)
    if not targets and not profiles:
        raise options.OptionError(
            "nothing is named",
            remedy="Give a stored profile, or one or several of --pid N, --cgroup PATH, --unit NAME, --container ID, --comm REGEX, -- COMMAND...",
        )
    seconds = options.duration_of(duration, default=duration)
    if seconds is None:
        raise options.OptionError("--duration 0: advice needs an end", remedy="Ten seconds show most of a steady load.")
    every = min(options.interval_of(interval), seconds)
    return Asked(targets, _loaded(profiles or (), store), topology, every, seconds)


def named_targets(
    pids: Sequence[int],
    cgroups: Sequence[str],
    units: Sequence[str],
    containers: Sequence[str],
    comms: Sequence[str],
    command: Sequence[str] | None,
) -> tuple[Target, ...]:
    """Return the targets that options name, each once.

    Raises:
        TargetError: one is misnamed.
    """
    from dna.target import Target

    named: tuple[tuple[Callable[[Any], Target], Sequence[Any]], ...] = (
        (Target.pid, pids),
        (Target.cgroup, cgroups),
        (Target.unit, units),
        (Target.container, containers),
        (Target.comm, comms),
        (Target.command, () if command is None else (command,)),
    )
    return tuple(dict.fromkeys(make(one) for make, values in named for one in values))


def _loaded(profiles: Sequence[str], store: Path | None) -> tuple[Profile, ...]:
    from dna import references
    from dna.errors import NoSuchProfileError

    if not profiles:
        return ()
    try:
        found = references.load(profiles, store)
    except NoSuchProfileError as error:
        word = next((word for word in profiles if not references.is_path(word)), "")
        how = f"A process is --pid {word}." if word.isdigit() else f"A running program is --comm {word}."
        error.remedy = f"{error.remedy} {how}".strip()
        raise
    empty = [word for word, profile in zip(profiles, found, strict=True) if not profile.intervals]
    if empty:
        raise options.OptionError(f"{empty[0]} has no interval", remedy="Nothing was measured in it: profile it again.")
    return tuple(found)


def gathered(about: Asked, store: Path | None, *, quiet: bool = False) -> Gathered:
    """Return the situation that is asked about; what is being watched is shown on standard error of a terminal.

    Raises:
        DnaError, HalError: see ``rules.gather_situation.gather_situation``.
    """
    from dna import references
    from hal.host import LinuxHost
    from rules.gather_situation import gather_situation
    from ui.commands.tool import tool_line

    library = references.workloads_in_use(store)
    with _watching(about, quiet=quiet) as seen:
        return gather_situation(
            about,
            host=LinuxHost(),
            known=lambda _profile: library,
            ours=standing(),
            tool=tool_line(),
            watching=seen,
        )


def standing() -> Any:
    """Return what stands of what dna set; nothing where this user may not read the journal."""
    from hal.errors import HalError
    from hal.journal import Journal

    try:
        return Journal().standing()
    except HalError:
        return {}


@contextmanager
def _watching(about: Asked, *, quiet: bool) -> Iterator[Callable[[Target, Interval], None]]:
    """Show on a terminal what is watched and how far that is; no thread draws, so that commands can be started meanwhile."""
    from rich.console import Console

    from ui.units import plain

    out = Console(stderr=True, highlight=False)
    if quiet or not about.targets or not out.is_terminal:
        yield lambda _target, _interval: None
        return
    names = ", ".join(str(target) for target in about.targets[:4]) + (", ..." if len(about.targets) > 4 else "")
    count = max(round(about.duration_s / about.interval_s), 1) * len(about.targets)
    done = 0

    def draw() -> None:
        line = plain(f"Watching {names}: {about.duration_s:g} s, {min(done, count) / count:.0%}")
        out.file.write(f"\r{line[: out.width - 1]}\x1b[K")
        out.file.flush()

    def seen(_target: Target, _interval: Interval) -> None:
        nonlocal done
        done += 1
        draw()

    draw()
    try:
        yield seen
    finally:
        out.file.write("\r\x1b[K")
        out.file.flush()
