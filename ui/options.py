"""Options that several commands share, from the words of the command line to values: targets and time spans."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from dna.errors import DnaError
from dna.target import Target
from hal.errors import EXIT_USAGE

if TYPE_CHECKING:
    from rules.sources import Sources

Json = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]

Topology = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|TEXT",
        help='Another machine: an hwloc XML file, a folder with its /sys and /proc, or a description such as "pack:2 numa:2 core:8 pu:2".',
    ),
]

Pid = Annotated[int | None, typer.Option("--pid", metavar="N", help="A process, its threads and children.")]
Cgroup = Annotated[str | None, typer.Option("--cgroup", metavar="PATH", help="A cgroup and those below it.")]
Unit = Annotated[str | None, typer.Option("--unit", metavar="NAME", help="A systemd unit.")]
Container = Annotated[str | None, typer.Option("--container", metavar="ID", help="A container, by id or name.")]
Comm = Annotated[str | None, typer.Option("--comm", metavar="REGEX", help="All processes of a command name.")]
WholeHost = Annotated[bool, typer.Option("--host", help="Everything that runs on this machine.")]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- COMMAND", help="A command to start and follow; its exit status is passed on."),
]

Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="PATH", help="A rule file or a folder of them; may be repeated. Also DNA_RULES."),
]
Packs = Annotated[
    str | None, typer.Option("--packs", metavar="NAME,...", help="Only these of the rules that are shipped.")
]
NoPacks = Annotated[bool, typer.Option("--no-packs", help="None of the rules that are shipped.")]

LEAST_INTERVAL_S = 0.2
MOST_INTERVAL_S = 3600.0

TOP_SORTS = ("cpu", "memory", "time", "runq", "voluntary", "involuntary", "faults", "io", "threads", "processes")
"""The names of ``dna.top.SORTS``, here so that --help need not import it."""

_HOW = "Give one of --pid N, --cgroup PATH, --unit NAME, --container ID, --comm REGEX, --host, or -- COMMAND..."
_BEHIND = "dna.behind_dashes"


class OptionError(DnaError):
    """The command line asks for something that makes no sense."""

    exit_code = EXIT_USAGE


class WithCommand(TyperCommand):
    """A command that takes another command after ``--``; options behind it belong to that one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember what stood behind ``--``: typer drops the dashes."""
        ctx.allow_interspersed_args = False
        ctx.meta[_BEHIND] = args[args.index("--") + 1 :] if "--" in args else None
        return super().parse_args(ctx, args)


def command_of(ctx: typer.Context, words: Sequence[str] | None) -> list[str] | None:
    """Return the command given after ``--``, None where there was no ``--``.

    Raises:
        OptionError: words without ``--`` before them.
    """
    behind: list[str] | None = ctx.meta.get(_BEHIND)
    if behind is not None and behind == list(words or []):
        return behind
    if not words:
        return None
    word = words[0]
    if word.isdigit():
        raise OptionError(f"{word}: what is it?", remedy=f"A process is --pid {word}; a command to start is -- {word}")
    remedy = f"A running program is --comm {word}, a command to start is -- {' '.join(words)}"
    raise OptionError(f"{word}: say whether it runs or is to be started", remedy=remedy)


def choose_target(
    *,
    pid: int | None = None,
    cgroup: str | None = None,
    unit: str | None = None,
    container: str | None = None,
    comm: str | None = None,
    host: bool = False,
    command: Sequence[str] | None = None,
) -> Target:
    """Return the one target that the options name.

    Raises:
        OptionError: none or several were given.
        TargetError: the one given is misnamed.
    """
    given = {
        "--pid": pid is not None,
        "--cgroup": cgroup is not None,
        "--unit": unit is not None,
        "--container": container is not None,
        "--comm": comm is not None,
        "--host": host,
        "-- COMMAND": command is not None,
    }
    names = [name for name, present in given.items() if present]
    if not names:
        raise OptionError("no target", remedy=_HOW)
    if len(names) > 1:
        raise OptionError(f"{len(names)} targets: {', '.join(names)}", remedy="Give exactly one.")
    if pid is not None:
        return Target.pid(pid)
    if cgroup is not None:
        return Target.cgroup(cgroup)
    if unit is not None:
        return Target.unit(unit)
    if container is not None:
        return Target.container(container)
    if comm is not None:
        return Target.comm(comm)
    return Target.host() if host else Target.command(command or [])


def optional_target(
    *, pid: int | None, cgroup: str | None, unit: str | None, container: str | None, comm: str | None
) -> Target | None:
    """Return the target that the options name, None where they name none.

    Raises:
        OptionError: several were given.
        TargetError: the one given is misnamed.
    """
    if all(given is None for given in (pid, cgroup, unit, container, comm)):
        return None
    return choose_target(pid=pid, cgroup=cgroup, unit=unit, container=container, comm=comm)


def rule_sources(rules: Sequence[Path] | None, packs: str | None, *, no_packs: bool) -> Sources:
    """Return where to look for rules.

    Raises:
        OptionError: the options contradict one another.
        RuleError: there is no such pack.
    """
    from rules.sources import Sources

    if no_packs and packs is not None:
        raise OptionError("--packs and --no-packs", remedy="Give one of them.")
    names = [] if no_packs else None if packs is None else [name.strip() for name in packs.split(",") if name.strip()]
    return Sources.of(rules or (), packs=names)


def text_of(path: Path) -> str:
    """Return the content of a file that an argument names; ``-`` is standard input.

    Raises:
        OptionError: it cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: it is not text", remedy="Give a file as --out or --json writes it.") from error
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}", remedy="Give a file as --out or --json writes it.") from error


def write_text(path: Path, text: str) -> None:
    """Write a file that an option names.

    Raises:
        OptionError: it cannot be written.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}", remedy="Give a place that can be written to.") from error


def family_of(name: str) -> str:
    """Return a family of knobs.

    Raises:
        OptionError: there is none of that name.
    """
    from hal.knobs import all_knobs

    return choice_of("KNOB", name, sorted({knob.partition(".")[0] for knob in all_knobs()}))


def interval_of(seconds: float) -> float:
    """Return a valid interval in seconds.

    Raises:
        OptionError: it is too short, too long, or no number.
    """
    if not LEAST_INTERVAL_S <= seconds <= MOST_INTERVAL_S:
        raise OptionError(
            f"--interval {seconds:g}: seconds between {LEAST_INTERVAL_S:g} and {MOST_INTERVAL_S:g}",
            remedy="Two to five seconds suit most workloads.",
        )
    return seconds


def duration_of(seconds: float | None, *, default: float | None) -> float | None:
    """Return how long to measure in seconds, None for until the end; 0 asks for that.

    Raises:
        OptionError: it is negative, too short, or no number.
    """
    if seconds is None:
        return default
    if seconds == 0:
        return None
    if not LEAST_INTERVAL_S <= seconds < 1e9:
        raise OptionError(
            f"--duration {seconds:g}: seconds, {LEAST_INTERVAL_S:g} or more", remedy="0 is until it ends, or Ctrl-C."
        )
    return seconds


def choice_of(option: str, value: str, choices: Iterable[str]) -> str:
    """Return ``value`` where it is one of the choices.

    Raises:
        OptionError: it is not.
    """
    known = list(choices)
    if value not in known:
        raise OptionError(f"{option} {value}: there is no such choice", remedy=f"Give one of {', '.join(known)}.")
    return value
