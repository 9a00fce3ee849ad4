"""Stored profiles: list, show, compare, similar, export, forget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ui import options

app = typer.Typer()


History = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="DNA_STORE",
        show_default=False,
        help="The history's file, instead of ~/.local/state/workload-dna/history.db (root: /var/lib/workload-dna/history.db).",
    ),
]
REFERENCE_HELP = "A stored profile: id or its beginning, name, last, last~1, NAME~1; or an exported .json file."
Reference = Annotated[str, typer.Argument(metavar="PROFILE", help=REFERENCE_HELP)]


@app.command("list")
def list_command(
    store: History = None,
    name: Annotated[str | None, typer.Option(help="Only profiles of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The latest so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """List stored profiles, latest first."""
    import time

    from dna.export import dumps
    from dna.store import Store
    from ui.glyphs import glyphs_for
    from ui.history import nothing_stored, profiles_table
    from ui.output import console

    with Store.open(store, create=False) as history:
        found, path = history.profiles(name=name), history.path
    if as_json:
        typer.echo(dumps([stored.to_json() for stored in found[:limit]]))
    elif found:
        out = console()
        out.print(profiles_table(found[:limit], time.time(), glyphs_for(out)))
    else:
        typer.echo(nothing_stored(path, name))


@app.command("show")
def show_command(profile: Reference = "last", store: History = None, as_json: options.Json = False) -> None:
    """Show the summary of a stored profile."""
    from dna import references
    from dna.export import dumps, to_json
    from dna.summary import summarise
    from ui.output import console
    from ui.summary import summary

    (found,) = references.load([profile], store)
    library = references.known_workloads_of(found, store)
    if as_json:
        typer.echo(dumps(to_json(found, library)))
    else:
        out = console()
        out.print(summary(found, summarise(found, library), out))


@app.command("compare")
def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help=REFERENCE_HELP)] = "last~1",
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")] = "last",
    store: History = None,
    everything: Annotated[bool, typer.Option("--all", help="Every feature, not only the 15 that differ most.")] = False,
    demand: Annotated[bool, typer.Option("--demand", help="Compare how much instead of how.")] = False,
    as_json: options.Json = False,
) -> None:
    """Say what differs between two profiles, largest first, and whether each difference is real."""
    from dataclasses import asdict

    from dna import references
    from dna.compare import compare, compare_demand
    from dna.export import dumps
    from dna.library import drift
    from ui.glyphs import glyphs_for
    from ui.history import differences
    from ui.output import console

    first, second = references.load([a, b], store)
    found = compare_demand(first, second) if demand else compare(first, second)
    apart = drift([i.dna for i in first.intervals if i.dna], [i.dna for i in second.intervals if i.dna])
    if as_json:
        sides = {"a": first.id or a, "b": second.id or b, "drift": asdict(apart) if apart else None}
        typer.echo(dumps(sides | {"differences": [asdict(d) for d in found]}))
    else:
        out = console()
        limit = len(found) if everything else 15
        out.print(differences(first, second, found, apart, glyphs_for(out), limit=limit, width=out.width))


@app.command("similar")
def similar_command(
    profile: Reference = "last",
    store: History = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="So many workloads.")] = 5,
    as_json: options.Json = False,
) -> None:
    """Say which known workloads a profile resembles, and what sets it apart from them."""
    from dataclasses import asdict

    from dna import references
    from dna.export import dumps
    from dna.summary import summarise
    from ui.glyphs import glyphs_for
    from ui.history import resemblance
    from ui.output import console

    (found,) = references.load([profile], store)
    known = references.comparable_workloads(found, store).without_run(found.id)
    totals = summarise(found, known, n=count)
    traits = known.traits(totals.features)
    if as_json:
        document = {"nearest": [asdict(m) for m in totals.nearest], "traits": [asdict(t) for t in traits]}
        typer.echo(dumps({"id": found.id, "model": known.model} | document))
    else:
        out = console()
        out.print(resemblance(totals.nearest, traits, glyphs_for(out)))


@app.command("export")
def export_command(
    profile: Reference = "last",
    store: History = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", help="json, csv or parquet; by default what --out ends in, else json."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; standard output without.")] = None,
) -> None:
    """Write a profile as JSON, CSV or Parquet."""
    from dna import references, tables
    from dna.export import write_json

    kind = format_ or (out.suffix[1:] if out and out.suffix[1:] in tables.FORMATS else "json")
    if kind not in tables.FORMATS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(tables.FORMATS)}", param_hint="--format")
    if kind == "parquet" and out is None:
        raise typer.BadParameter("Parquet is not for a terminal; give a file", param_hint="--out")
    (found,) = references.load([profile], store)
    path = out or Path("-")
    if kind == "json":
        write_json(found, path, references.known_workloads_of(found, store))
    elif kind == "csv":
        tables.write_csv(found, path)
    else:
        tables.write_parquet(found, path)


@app.command("forget")
def forget_command(
    profiles: Annotated[list[str] | None, typer.Argument(metavar="PROFILE...", help=REFERENCE_HELP)] = None,
    before: Annotated[str | None, typer.Option(help="All that began longer ago than this: 30d, 12h.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole history.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: History = None,
) -> None:
    """Delete stored profiles for good."""
    import time

    from dna import references
    from dna.store import Store
    from ui.glyphs import glyphs_for
    from ui.history import profiles_table
    from ui.output import console

    if sum([bool(profiles), before is not None, everything]) != 1:
        raise typer.BadParameter("give profiles, --before AGE or --all")
    try:
        limit = time.time() - references.seconds_of(before) if before else 0.0
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--before") from error
    with Store.open(store, create=False) as history:
        if profiles:
            chosen = list({found.id: found for found in map(history.find, profiles)}.values())
        else:
            chosen = history.profiles() if everything else history.started_before(limit)
        if chosen and not yes:
            out = console()
            out.print(profiles_table(chosen, time.time(), glyphs_for(out)))
            typer.confirm("Forget these for good?", abort=True)
        count = history.forget([stored.id for stored in chosen])
    typer.echo(f"forgot {count} profile{'s' if count != 1 else ''}")
