"""A run told after the fact: on the terminal, as data, or as a page of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from ui import options

if TYPE_CHECKING:
    from sculpt.aftermath import Now
    from sculpt.story import Story


def report_command(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Which; its name's beginning, or a file of records. Else the last.")
    ] = "",
    html: Annotated[
        str, typer.Option("--html", metavar="FILE|-", help="Write it as one page with plots, which needs nothing else.")
    ] = "",
    workload: Annotated[
        str, typer.Option("--workload", metavar="NAME", help="Of a run with several, only this one.")
    ] = "",
    list_runs: Annotated[bool, typer.Option("--list", help="List the runs instead.")] = False,
    as_json: options.Json = False,
) -> None:
    """Tell a run: what was tried and why, its measured effect, what was kept or taken back, what it cost, what is in force now."""
    from dna.export import dumps
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.sculpt_report import report, report_json

    if html and (as_json or list_runs):
        raise typer.BadParameter("it is a form of its own: leave out --json and --list", param_hint="--html")
    if list_runs:
        _list(as_json=as_json)
        return
    story, now = _story(run, workload)
    if html:
        _write_page(story, now, html)
    elif as_json:
        typer.echo(dumps(report_json(story, now), indent=1))
    else:
        out = console()
        out.print(report(story, now, glyphs_for(out)))


def _list(*, as_json: bool) -> None:
    from dna.export import dumps
    from sculpt.listing import briefs
    from sculpt.records import default_folder
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.sculpt_report import listing, listing_json

    runs = briefs(default_folder())
    if as_json:
        typer.echo(dumps(listing_json(runs), indent=1))
        return
    out = console()
    out.print(listing(runs, glyphs_for(out)))


def _story(run: str, workload: str) -> tuple[Story, Now]:
    from sculpt.errors import SculptError
    from sculpt.records import default_folder, find_run
    from sculpt.story import read_story

    path = Path(run) if run.endswith(".jsonl") else find_run(default_folder(), run)
    story = read_story(path)
    if workload:
        chosen = tuple(one for one in story.workloads if one.name == workload)
        if not chosen:
            there = ", ".join(one.name for one in story.workloads) or "none"
            raise SculptError(f"there is no workload {workload!r} in {story.identity}", remedy=f"There is: {there}.")
        story = replace(story, workloads=chosen)
    return story, _now(story, path)


def _now(story: Story, path: Path) -> Now:
    from hal.errors import HalError
    from hal.host import LinuxHost
    from hal.journal import Journal
    from hal.planning import machine_id
    from sculpt.aftermath import Now, is_there, standing_of
    from sculpt.records import is_going

    going = story.end is None and is_going(path)
    try:
        host, transactions = LinuxHost(), Journal().transactions()
        found = standing_of(story.identity, transactions, machine_id(host), partial(is_there, host))
        return Now(going, found)
    except HalError as error:
        return Now(going, trouble=str(error))


def _write_page(story: Story, now: Now, where: str) -> None:
    from dna.files import write_whole
    from ui.report_page import page

    text = page(story, now).encode()
    if where == "-":
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return

    def write(stream: IO[bytes]) -> None:
        stream.write(text)

    write_whole(where, write)
    typer.echo(f"{where}: {len(text) / 1024:.0f} KiB")
