"""Changing the machine: set, apply, undo, journal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal.errors import EXIT_FAILED, EXIT_USAGE
from ui import options
from ui.commands.tool import tool_line

if TYPE_CHECKING:
    from hal.host import LinuxHost
    from hal.journal import Journal
    from hal.knobs.knob import Knob
    from hal.settings import Plan, Setting, Subject

app = typer.Typer()

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_command(
    knob: Annotated[str, typer.Argument(metavar="KNOB", help="What to set: see `dna config knobs`.")],
    words: Annotated[
        list[str],
        typer.Argument(metavar="[SUBJECT] VALUE", help="On what (a device, an interrupt, a file), and to what."),
    ],
    pid: options.Pid = None,
    tid: Annotated[int | None, typer.Option("--tid", metavar="N", help="One thread.")] = None,
    cgroup: options.Cgroup = None,
    unit: options.Unit = None,
    container: options.Container = None,
    comm: options.Comm = None,
    no_children: Annotated[bool, typer.Option("--no-children", help="With --pid: not its children.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the journal.")] = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the plan there; do nothing.")] = None,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Set one thing by hand, with the same care as a plan: journalled, read back, undone by `dna undo`."""
    from hal.host import LinuxHost
    from hal.journal import Journal
    from hal.knobs import knob_of
    from hal.planning import make_plan
    from hal.settings import Setting

    host, chosen = LinuxHost(), knob_of(knob)
    target = options.optional_target(pid=pid, cgroup=cgroup, unit=unit, container=container, comm=comm)
    subjects = _subjects(host, chosen, words[:-1], target, tid, children=not no_children)
    value = _value(host, chosen, words[-1])
    settings = [Setting(chosen.name, subject, value, reason) for subject in subjects]
    journal = Journal()
    names = ", ".join(map(str, subjects[:3])) + (", ..." if len(subjects) > 3 else "")
    plan = make_plan(host, settings, title=f"{knob} of {names}: {words[-1]}", ours=_ours(journal))
    if out is not None:
        _save(plan, out)
    elif dry_run:
        _show(plan, as_json=as_json)
    else:
        _apply(plan, host, journal, as_json=as_json)
        _nothing_possible(plan, settings)


@app.command("apply")
def apply_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.json", help="A plan, as --out writes it; - is standard input.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Apply exactly a plan that was saved; refused where the machine moved since in what it touches."""
    from hal.host import LinuxHost
    from hal.journal import Journal
    from hal.plan_json import plan_from_text

    found = plan_from_text(options.text_of(plan), str(plan))
    if dry_run:
        _show(found, as_json=as_json)
        return
    if not yes and not as_json:
        _show(found, as_json=False)
    if not yes:
        _confirm("Apply this?")
    _apply(found, LinuxHost(), Journal(), as_json=as_json)


@app.command("undo")
def undo_command(
    identity: Annotated[str, typer.Argument(metavar="[ID]", help="Which; the first characters will do.")] = "",
    last: Annotated[bool, typer.Option("--last", help="The newest that stands.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Everything that stands, newest first.")] = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Take back what was changed: what was interrupted, or left by a loop that was killed, else the last; or a given one, or all."""
    from dna.export import dumps
    from hal.host import LinuxHost
    from hal.journal import Journal
    from hal.undo import undo
    from ui.changes import transactions_table, undone_json, undone_view
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.progress import meter

    if (bool(identity), last, all_).count(True) > 1:
        raise options.OptionError("an ID, --last or --all", remedy="Give one of them, or none.")
    host, journal = LinuxHost(), Journal()
    chosen = _to_undo(host, journal, identity, last=last, all_=all_)
    out = console()
    if dry_run or not chosen:
        found = dumps([undone_json(t) for t in chosen]) if as_json else transactions_table(chosen, glyphs_for(out))
        typer.echo(found) if as_json else out.print(found)
        return
    failed = False
    results = []
    with _terminated_gently():
        for transaction in chosen:
            with meter(quiet=as_json) as progress:
                result = undo(host, journal, transaction.identity, progress=progress)
            failed |= bool(result.failed or result.unwritten)
            results.append(result)
            if not as_json:
                out.print(undone_view(result, glyphs_for(out)))
    if as_json:
        typer.echo(dumps([undone_json(result) for result in results]))
    if failed:
        raise typer.Exit(EXIT_FAILED)


@app.command("journal")
def journal_command(
    identity: Annotated[str, typer.Argument(metavar="[ID]", help="One transaction, step by step.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Also what was taken back long ago.")] = False,
    as_json: options.Json = False,
) -> None:
    """Tell what was changed, when, by which command, and what stands."""
    from dna.export import dumps
    from hal.journal import Journal
    from ui.changes import (
        MOST_IN_TABLE,
        not_shown_line,
        transaction_line,
        transaction_view,
        transactions_table,
        undone_json,
    )
    from ui.glyphs import glyphs_for
    from ui.output import console

    journal = Journal()
    found = [journal.find(identity)] if identity else journal.transactions()
    earlier = [] if identity else journal.earlier()
    found = [*earlier, *found] if all_ else found
    out = console()
    if as_json:
        typer.echo(dumps([undone_json(one) for one in found]))
    elif identity:
        out.print(transaction_view(found[0], glyphs_for(out)))
    elif len(found) > MOST_IN_TABLE:
        typer.echo("\n".join(transaction_line(one, glyphs_for(out)) for one in found))
    else:
        out.print(transactions_table(found, glyphs_for(out)))
    if earlier and not (all_ or as_json):
        out.print(not_shown_line(len(earlier), glyphs_for(out)))


def _subjects(
    host: LinuxHost, knob: Knob, words: list[str], target: Any, tid: int | None, *, children: bool
) -> list[Subject]:
    """Return what is to be set, from options and words."""
    from hal import wanted

    given = [bool(words), target is not None, tid is not None]
    if given.count(True) > 1 or len(words) > 1:
        raise options.OptionError(
            "several subjects", remedy="Give one of --pid, --tid, --cgroup, ... or a device, then the value."
        )
    if tid is not None:
        return [wanted.of_thread(host, knob, tid)]
    if target is not None:
        return _of_target(host, knob, target, children=children)
    return [wanted.of_word(host, knob, words[0]) if words else wanted.system(knob)]


def _of_target(host: LinuxHost, knob: Knob, target: Any, *, children: bool) -> list[Subject]:
    from dna.cgroups import of_container, of_unit
    from dna.members import resolve
    from hal import wanted
    from hal.cgroups import inside

    if target.kind == "pid":
        return [wanted.of_process(host, knob, int(target.value), children=children)]
    if target.kind == "comm":
        return [wanted.of_process(host, knob, pid, children=False) for pid in sorted(resolve(host, target).pids())]
    finders = {"unit": of_unit, "container": of_container}
    path = finders[target.kind](host, target.value) if target.kind in finders else target.value
    return [wanted.of_cgroup(knob, inside(host, path))]


def _value(host: LinuxHost, knob: Knob, text: str) -> Any:
    """Return the value of a text; CPUs may be named by an arrangement, which needs the topology."""
    if knob.name == "cpu.affinity" and not text[:1].isdigit():
        from hal.arrange import parse_arrangement
        from hal.machine import cpu_states
        from hal.topology import live

        shape = live(host, devices=False)
        return parse_arrangement(text, shape, avoid=cpu_states(host, shape).isolated)
    return knob.parse(text)


def _ours(journal: Journal) -> Any:
    """Return what stands of ours; nothing where this user may not read the journal."""
    from hal.errors import HalError

    try:
        return journal.standing()
    except HalError:
        return {}


def _save(plan: Plan, path: Path) -> None:
    from dna.export import dumps
    from hal.plan_json import plan_to_dict

    options.write_text(path, dumps(plan_to_dict(plan), indent=1) + "\n")
    typer.echo(f"{len(plan.changes)} changes planned in {path}: dna apply {path}")


def _show(plan: Plan, *, as_json: bool) -> None:
    from dna.export import dumps
    from hal.plan_json import plan_to_dict
    from ui.changes import plan_view
    from ui.glyphs import glyphs_for
    from ui.output import console

    out = console()
    if as_json:
        typer.echo(dumps(plan_to_dict(plan), indent=1))
    else:
        out.print(plan_view(plan, glyphs_for(out)))


def _apply(plan: Plan, host: LinuxHost, journal: Journal, *, as_json: bool) -> None:
    from dna.export import dumps
    from hal.apply import apply
    from ui.changes import applied_json, applied_view
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.progress import meter

    out = console()
    done = None
    if plan.changes or plan.follow:
        with _terminated_gently(), meter(quiet=as_json) as progress:
            done = apply(plan, host, journal, command=tool_line(), progress=progress)
    typer.echo(dumps(applied_json(plan, done))) if as_json else out.print(applied_view(plan, done, glyphs_for(out)))


def _nothing_possible(plan: Plan, settings: list[Setting]) -> None:
    """Fail where what was asked for by name could not be done at all."""
    refused = [left for left in plan.left_out if left.setting.key in {setting.key for setting in settings}]
    if refused and not plan.changes:
        raise typer.Exit(EXIT_FAILED)


def _to_undo(host: LinuxHost, journal: Journal, identity: str, *, last: bool, all_: bool) -> Any:
    from hal.planning import machine_id
    from hal.undo import interrupted, pending

    if identity:
        return [journal.find(identity)]
    standing = pending(journal)
    if all_:
        return standing
    if last:
        return standing[:1]
    broken = [*interrupted(journal, machine_id(host)), *_left_by_the_loop(host, journal)]
    newest_first = sorted({one.identity: one for one in broken}.items(), reverse=True)
    return [one for _, one in newest_first] or standing[:1]


def _left_by_the_loop(host: LinuxHost, journal: Journal) -> Any:
    """Return what a run of the loop that was killed left in force: all of it, since it was one configuration."""
    from sculpt.records import default_folder
    from sculpt.recovery import left_by_killed

    is_there = any(one.title.startswith("sculpt ") for one in journal.unfinished())
    return left_by_killed(host, journal, default_folder()) if is_there else []


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        typer.echo("dna: not a terminal: nobody to ask", err=True)
        typer.echo("     say --yes, or look first with --dry-run", err=True)
        raise typer.Exit(EXIT_USAGE)
    if not typer.confirm(question, default=False):
        typer.echo("Nothing was changed.")
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def _terminated_gently() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit that undoes what was begun."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
