"""Rules: which there are, whether they are sound, why they fire or not, what they would change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hal.errors import EXIT_FAILED
from ui import options
from ui.commands import situations

if TYPE_CHECKING:
    from rules.checking import Work
    from rules.replay import Difference
    from rules.rule import Rule

app = typer.Typer()
rules = typer.Typer(help="Rules: write, check, try and explain them.", no_args_is_help=True)
app.add_typer(rules, name="rules")

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="Rule files or folders of them; else all that are in effect."),
]
_REPLAYED = 100


@rules.command("new")
def new_command(file: Annotated[Path, typer.Argument(metavar="FILE", help="The rule file to begin, NAME.py.")]) -> None:
    """Begin a rule file with one rule, and a test module beside it; nothing is overwritten."""
    from rules.new import write_new

    path, test = write_new(file)
    typer.echo(f"{path} and {test} are written. Next: dna rules check {path}; dna rules test {path}")


@rules.command("list")
def list_command(
    rules: options.Rules = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    as_json: options.Json = False,
) -> None:
    """List the rules in effect: where they come from, what they weigh, and why."""
    from dna.export import dumps
    from rules.sources import load_all
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.rules import rules_json, rules_table

    loaded = load_all(options.rule_sources(rules, packs, no_packs=no_packs))
    out = console()
    if as_json:
        typer.echo(dumps(rules_json(loaded), indent=1))
    else:
        out.print(rules_table(loaded, glyphs_for(out)))


@rules.command("check")
def check_command(
    paths: Paths = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    as_json: options.Json = False,
) -> None:
    """Check rule files: unknown facts, wrong units, what never holds, whose settings quarrel; exit 1 if anything is found."""
    from dna.export import dumps
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.rules import findings_json, findings_view

    work = _work(paths, packs, no_packs=no_packs)
    found = work.findings()
    out = console()
    if as_json:
        typer.echo(dumps(findings_json(found), indent=1))
    else:
        files, count = len(work.files) + len(work.broken), sum(len(file.rules) for file in work.files)
        out.print(findings_view(found, glyphs_for(out), files=files, rules=count), soft_wrap=True)
    if found:
        raise typer.Exit(EXIT_FAILED)


@rules.command("test")
def try_command(
    paths: Paths = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    profiles: Annotated[
        int, typer.Option("--replay", metavar="N", min=0, help="Replay the latest N stored profiles; 0 for none.")
    ] = _REPLAYED,
    topology: options.Topology = None,
    store: situations.Store = None,
    as_json: options.Json = False,
) -> None:
    """Run the cases beside rule files, then say what would be proposed otherwise for stored profiles than by the rules installed."""
    from dna.export import dumps
    from rules.cases import try_cases
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.rules import differences_json, differences_view, tried_json, tried_view

    work = _work(paths, packs, no_packs=no_packs)
    for _, error in work.broken:
        raise error
    tried = [try_cases(file) for file in work.files]
    replayed = _replayed(work, profiles, topology, store) if paths and profiles else None
    out = console()
    if as_json:
        typer.echo(dumps({"files": tried_json(tried), "replay": differences_json(replayed or ())}, indent=1))
    else:
        out.print(tried_view(tried, glyphs_for(out)), soft_wrap=True)
        if replayed is not None:
            out.print(differences_view(replayed, glyphs_for(out), profiles=len(replayed)), soft_wrap=True)
    if not all(one.passed for one in tried):
        raise typer.Exit(EXIT_FAILED)


@rules.command("explain", cls=situations.WithCommandBehind, options_metavar="[OPTIONS] [-- COMMAND...]")
def explain_command(
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
    names: Annotated[
        list[str] | None, typer.Option("--rule", metavar="NAME", help="Only this rule, in full; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every condition of every rule.")] = False,
    rules: options.Rules = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    store: situations.Store = None,
    as_json: options.Json = False,
) -> None:
    """Say why each rule fires or does not: every condition with the value found, the threshold and the margin between them."""
    from dna.export import dumps
    from rules.engine import Engine
    from rules.explain import explain
    from rules.sources import load_all
    from ui.glyphs import glyphs_for
    from ui.output import console
    from ui.rules import explained_json, explained_view

    loaded = load_all(options.rule_sources(rules, packs, no_packs=no_packs))
    wanted = _named(loaded.rules, names or ())
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
    # All rules are asked, so that what one of them loses against is known.
    found = explain(Engine(loaded.rules), situations.gathered(about, store, quiet=as_json).situation)
    shown = [one for one in found if any(one.rule is rule for rule in wanted)]
    out = console()
    if as_json:
        typer.echo(dumps(explained_json(shown), indent=1))
    else:
        out.print(explained_view(shown, glyphs_for(out), in_full=everything or bool(names)))


def _work(paths: Sequence[Path] | None, packs: str | None, *, no_packs: bool) -> Work:
    """Return the files that are named, or all, beside those that are installed; one of these that is broken is said, and left out."""
    from rules.checking import work_on

    work = work_on(paths or (), options.rule_sources(None, packs, no_packs=no_packs))
    for path, error in work.left_out:
        typer.echo(f"dna: left out of what is installed: {path}: {error}", err=True)
    return work


def _named(all_rules: Sequence[Rule], names: Iterable[str]) -> list[Rule]:
    """Return the rules of these names, all where none is given.

    Raises:
        OptionError: there is no such rule.
    """
    import difflib

    wanted = set(names)
    known = {word for rule in all_rules for word in (rule.name, rule.identity)}
    for name in wanted - known:
        near = sorted(word for word in known if name in word) or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise options.OptionError(f"--rule {name}: there is no such rule", remedy=f"{hint}See `dna rules list`.")
    return [rule for rule in all_rules if not wanted or {rule.name, rule.identity} & wanted]


def _replayed(work: Work, count: int, topology: str | None, store: Path | None) -> list[Difference]:
    from dna import references
    from dna.store import Store
    from hal.host import LinuxHost
    from rules.gather import described_machine, read_machine
    from rules.replay import recorded_situations, replay

    with Store.open(store, create=False) as history:
        latest = [history.get(stored.id) for stored in history.profiles()[:count] if stored.intervals]
    machine = read_machine(LinuxHost()) if topology is None else described_machine(topology)
    recorded = recorded_situations(latest, machine, references.workloads_in_use(store))
    return list(replay(recorded, before=work.before(), after=work.after()))
