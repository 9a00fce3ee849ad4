"""The configuration: what the machine is set to, what can be set, and how two configurations differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui import options

if TYPE_CHECKING:
    from hal.host import Host
    from hal.planning import Observed

app = typer.Typer()
config = typer.Typer(help="What the machine is set to, and what can be set.", no_args_is_help=True)
app.add_typer(config, name="config")

Only = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KNOB]...", help="Families or knobs, such as memory or nic.mtu; else all."),
]


@config.command("show")
def show_command(
    only: Only = None,
    pid: options.Pid = None,
    cgroup: options.Cgroup = None,
    unit: options.Unit = None,
    container: options.Container = None,
    comm: options.Comm = None,
    processes: Annotated[bool, typer.Option("--processes", help="All processes and threads as well.")] = False,
    topology: options.Topology = None,
    as_json: options.Json = False,
) -> None:
    """Show what the machine is set to, or a target's processes, or what a described machine would be set to."""
    from dna.export import dumps
    from hal.plan_json import config_to_dict
    from hal.planning import machine_id
    from ui.config import config_view
    from ui.glyphs import glyphs_for
    from ui.output import console

    host = _host(topology)
    target = options.optional_target(pid=pid, cgroup=cgroup, unit=unit, container=container, comm=comm)
    found = _observed(host, only or [], target, processes=processes)
    out = console()
    if as_json:
        typer.echo(dumps(config_to_dict(found.config, machine_id(host)), indent=1))
    else:
        out.print(config_view(found, glyphs_for(out)))


@config.command("knobs")
def knobs_command(as_json: options.Json = False) -> None:
    """List every knob: what it sets, its values, whether it works here, and whether it can be undone."""
    from dna.export import dumps
    from hal.host import LinuxHost
    from hal.observing import knobs_here
    from ui.config import knobs_json, knobs_table
    from ui.glyphs import glyphs_for
    from ui.output import console

    reports = knobs_here(LinuxHost())
    out = console()
    if as_json:
        typer.echo(dumps(knobs_json(reports), indent=1))
    else:
        out.print(knobs_table(reports, glyphs_for(out)))


@config.command("diff")
def diff_command(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="As `dna config show --json` writes it.")],
    after: Annotated[Path | None, typer.Argument(metavar="[B.json]", help="Another one; else the machine now.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the plan from now to A there, for `dna apply`.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show what differs between two configurations, or between one that was saved and now; exit 1 if anything does."""
    from dna.export import dumps
    from hal.host import LinuxHost
    from hal.plan_json import config_from_text, plan_to_dict
    from hal.planning import diff, machine_id, make_plan, observe
    from ui.changes import plan_view
    from ui.glyphs import glyphs_for
    from ui.output import console

    host = LinuxHost()
    first, of = config_from_text(options.text_of(before), str(before))
    if out is not None:
        plan = make_plan(host, first, title=f"back to {before}")
        options.write_text(out, dumps(plan_to_dict(plan), indent=1) + "\n")
        typer.echo(f"{len(plan.changes)} changes planned in {out}: dna apply {out}")
        return
    if after is not None:
        second = config_from_text(options.text_of(after), str(after))[0]
    else:
        second = observe(host, (setting.key for setting in first)).config
    found = diff(first, second, machine=machine_id(host) if after is None else of)
    view = console()
    if as_json:
        typer.echo(dumps(plan_to_dict(found), indent=1))
    else:
        view.print(plan_view(found, glyphs_for(view), compared=True))
    if found.changes:
        raise typer.Exit(1)


def _host(topology: str | None) -> Host:
    from hal.host import LinuxHost

    if topology is None:
        return LinuxHost()
    from hal.described import described
    from hal.machine import named

    return described(named(topology).topology)


def _observed(host: Host, only: list[str], target: object, *, processes: bool) -> Observed:
    from dna.members import resolve
    from dna.target import Target
    from hal.knobs import knob_of
    from hal.observing import observe_machine, observe_processes
    from hal.planning import Observed
    from hal.settings import ServerConfig

    for name in only:
        if "." in name:
            knob_of(name)
        else:
            options.family_of(name)
    if isinstance(target, Target):
        return observe_processes(host, sorted(resolve(host, target).pids()), only)
    found = observe_machine(host, only)
    if not processes:
        return found
    more = observe_processes(host, None, only)
    return Observed(ServerConfig.of([*found.config, *more.config]), {**found.unread, **more.unread})
