"""Runs that go on: how they stand, pause, go on, end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hal.errors import EXIT_FAILED
from ui import options
from ui.commands import sculpt_service
from ui.options import OptionError

STATUS_SCHEMA = "workload-dna/sculpt-status/1"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Run = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]",
        help="Which: its process id, its name's beginning or its socket's path. Needed where several go on.",
    ),
]


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group ``sculpt``."""
    for command in (status, pause, resume, stop, sculpt_service.recover, sculpt_service.unit):
        group.command(command.__name__)(command)


def status(run: Run = "", as_json: options.Json = False) -> None:
    """Tell how the runs that go on stand: what is in force, what is being tried, gains, budget, alerts, own cost."""
    from sculpt.control_client import find, none, running

    found = [find(run)] if run else running()
    if not found and not as_json:
        raise none()
    answering = [one.status for one in found if one.status]
    if as_json:
        _print_json(answering)
    else:
        _show(answering)
    for one in found:
        if one.trouble:
            typer.echo(f"dna: {one.trouble}", err=True)
    if len(answering) < len(found):
        raise typer.Exit(EXIT_FAILED)


def pause(
    run: Run = "",
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="Go on by itself after that: 90, 90s, 10m, 2h, 1d.")
    ] = "",
    as_json: options.Json = False,
) -> None:
    """Begin nothing new: a running trial is ended, what is kept stays in force."""
    for_s = span_of(for_) if for_ else None
    _ask(run, "pause", as_json=as_json, for_s=for_s)


def resume(run: Run = "", as_json: options.Json = False) -> None:
    """Go on after a pause."""
    _ask(run, "resume", as_json=as_json)


def stop(
    run: Run = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave what was proven to pay, whatever was declared.")] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Leave the machine as found, whatever was declared.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long to wait until it has ended; 0 not at all.")
    ] = 60.0,
    as_json: options.Json = False,
) -> None:
    """End a run, and wait until it has ended: the machine is then as the run declared."""
    from sculpt.control import KEEP, RESTORE
    from sculpt.control_client import Asking, find, wait_for_end

    if keep and restore:
        raise OptionError("--keep and --restore: one of them", remedy="Without either it is as the run was told.")
    found = find(run)
    with Asking(found.place) as asking:
        told = asking.ask("stop", on_exit=KEEP if keep else RESTORE if restore else None)
        ended = wait_for_end(asking, found, wait) if wait > 0 else {}
    _tell(ended or told, as_json=as_json)
    trouble = str((ended.get("ended") or {}).get("trouble") or "")
    if trouble:
        typer.echo(f"dna: not everything was taken back: {trouble}\n     dna undo", err=True)
        raise typer.Exit(EXIT_FAILED)


def span_of(text: str) -> float:
    """Return a time span in seconds: ``90``, ``90s``, ``10m``, ``2h``, ``1d``.

    Raises:
        OptionError: it is none, or longer than 30 days.
    """
    from sculpt.control_server import LONGEST_PAUSE_S

    match = _SPAN.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST_PAUSE_S:
        raise OptionError(
            f"--for {text}: a time such as 90s, 10m or 2h", remedy="At most 30 days; without it: until resumed."
        )
    return seconds


def _ask(run: str, do: str, *, as_json: bool, **rest: object) -> None:
    from sculpt.control_client import Asking, find

    with Asking(find(run).place) as asking:
        told = asking.ask(do, **rest)
    _tell(told, as_json=as_json)


def _tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json([told])
        return
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.sculpt_status import answer

    out = console()
    out.print(answer(told, glyphs_for(out)))


def _print_json(runs: list[Mapping[str, Any]]) -> None:
    from dna.export import dumps

    typer.echo(dumps({"schema": STATUS_SCHEMA, "runs": runs}, indent=1))


def _show(runs: list[Mapping[str, Any]]) -> None:
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.sculpt_status import status as shown

    out = console()
    out.print(shown(runs, glyphs_for(out)))
