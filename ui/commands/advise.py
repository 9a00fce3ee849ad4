"""Advice: what the rules propose for a workload, with reasons; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui import options
from ui.commands import situations

if TYPE_CHECKING:
    from rules.gather_situation import Gathered
    from rules.rule import Rule
    from ui.advice import Told

app = typer.Typer()


@app.command("advise", cls=situations.WithCommandBehind, options_metavar="[OPTIONS] [-- COMMAND...]")
def advise_command(
    ctx: typer.Context,
    profiles: situations.Profiles = None,
    pid: situations.Pids = None,
    cgroup: situations.Cgroups = None,
    unit: situations.Units = None,
    container: situations.Containers = None,
    comm: situations.Comms = None,
    topology: options.Topology = None,
    interval: situations.IntervalS = 2.0,
    duration: situations.DurationS = 10.0,
    rules: options.Rules = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="PLAN.json", help="Write the plan there too.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every rule that cannot tell, not only the first.")] = False,
    store: situations.Store = None,
    as_json: options.Json = False,
) -> None:
    """Propose settings for running programs, a command or stored profiles, each with its reason; changes nothing."""
    from dna.export import dumps
    from hal.plan_json import plan_to_dict
    from rules.sources import load_all
    from ui.advice import advice_json, advice_view
    from ui.glyphs import glyphs_for
    from ui.output import console

    loaded = load_all(options.rule_sources(rules, packs, no_packs=no_packs))
    about = situations.asked(
        ctx,
        profiles=profiles,
        pid=pid,
        cgroup=cgroup,
        unit=unit,
        container=container,
        comm=comm,
        topology=topology,
        interval=interval,
        duration=duration,
        store=store,
    )
    told = _told(situations.gathered(about, store, quiet=as_json), loaded.rules)
    if out is not None:
        options.write_text(out, dumps(plan_to_dict(told.outcome.plan), indent=1) + "\n")
    if as_json:
        typer.echo(dumps(advice_json(told), indent=1))
        return
    # A launched command keeps standard output to itself.
    view = console(stderr=any(target.kind == "command" for target in about.targets))
    view.print(advice_view(told, glyphs_for(view), all_doubts=everything))
    if out is not None:
        count = len(told.outcome.plan.changes)
        view.print(f"\n{count} {'change' if count == 1 else 'changes'} planned in {out}: dna apply {out}", markup=False)


def _told(gathered: Gathered, rules: Sequence[Rule]) -> Told:
    from rules.advice import Advisor
    from rules.doubts import doubts
    from rules.engine import Engine
    from rules.outcome import outcome
    from ui.advice import Told

    advice = Advisor(Engine(rules)).advise(gathered.situation)
    names = ", ".join(workload.name for workload in gathered.situation.workloads)
    made = outcome(
        gathered.host,
        advice,
        title=f"advice for {names}",
        ours=situations.standing() if gathered.is_here else {},
        notes=gathered.notes,
    )
    return Told(gathered, advice, made, doubts(rules, gathered.situation), len(rules))
