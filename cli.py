"""The command line: parse, call one library function, render."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dna.errors import DnaError
from dna.target import Target
from hal.errors import EXIT_FAILED, HalError
from ui import options

if TYPE_CHECKING:
    from rich.console import Console

    from dna.library import Library
    from dna.profiler import Profiler
    from dna.summary import Summary
    from dna.vector import Features, Interval, Match, Profile
    from ui.live import Comparison

app = typer.Typer(
    name="dna",
    help="Watch how a running workload behaves, and what it resembles.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]


def tool_version() -> str:
    """Return the installed version, or "0+unknown" when run from a bare checkout."""
    try:
        return version("workload-dna")
    except PackageNotFoundError:
        return "0+unknown"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dna {tool_version()}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("profile", cls=options.WithCommand)
def profile_command(
    ctx: typer.Context,
    command: options.Command = None,
    pid: options.Pid = None,
    cgroup: options.Cgroup = None,
    unit: options.Unit = None,
    container: options.Container = None,
    comm: options.Comm = None,
    host: options.WholeHost = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Length of one interval.")] = 5.0,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long; 0 is until it ends or Ctrl-C.",
            show_default="30; a command until it ends",
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="LABEL", help="Name for it in the history.")] = "",
    json: Annotated[str, typer.Option("--json", metavar="FILE", help="Write it as JSON; - is standard output.")] = "",
    no_live: Annotated[bool, typer.Option("--no-live", help="Plain lines, on a terminal too.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep it in the history.")] = False,
    store: Annotated[Path | None, typer.Option("--store", metavar="PATH", help="The history to keep it in.")] = None,
) -> None:
    """Watch a running program or a command: live view, then what it is, its vector and what it resembles."""
    from ui.options import choose_target, command_of, duration_of, interval_of

    target = choose_target(
        pid=pid,
        cgroup=cgroup,
        unit=unit,
        container=container,
        comm=comm,
        host=host,
        command=command_of(ctx, command),
    )
    limit = duration_of(duration, default=None if target.kind == "command" else 30.0)
    times = (min(interval_of(interval), limit or interval), limit)
    status = _profile(target, times, name=name, json=json, live=not no_live, store=None if no_store else (store,))
    if status:
        raise typer.Exit(status)


def _profile(
    target: Target,
    times: tuple[float, float | None],
    *,
    name: str,
    json: str,
    live: bool,
    store: tuple[Path | None] | None,
) -> int:
    """Profile, show and keep; ``times`` are (interval, duration), ``store`` None or (path,). Return the exit status."""
    from contextlib import nullcontext

    from rich.console import Console

    from dna.profiler import Profiler
    from ui.live import follow
    from ui.summary import nothing_measured, summary
    from ui.terminal import diverted, shows_live

    _check_outputs(json, store)
    # A launched command keeps standard output to itself, as under `time` and `perf stat`.
    console = Console(stderr=json == "-" or target.kind == "command", highlight=False)
    aside = live and target.kind == "command" and shows_live(console)
    known = _Known(store[0] if store else None)
    with diverted(console) if aside else nullcontext(console) as shown:
        with Profiler(target, interval=times[0], duration=times[1]) as profiler:
            comparison = known.comparison()
            follow(profiler, console=shown, interval_s=times[0], duration_s=times[1], live=live, comparison=comparison)
            profile = profiler.profile(name, tool=_tool_line())
        status = exit_status(_settled(profiler))
    if not profile.intervals:
        message, remedy = nothing_measured(profile.target, times[0])
        if status:  # the command failed on its own: that is the news, and its status is what counts
            typer.echo(f"dna: {message}", err=True)
            return status
        raise DnaError(message, remedy=remedy)
    totals = known.summarise(profile)
    console.print(summary(profile, totals, console, profiler.remedies))
    if target.kind == "command" and profiler.exit_status is None:
        console.print("The command goes on: only its profile is over.")
    _keep(profile, known, console, json=json, store=store)
    return status


def _settled(profiler: Profiler) -> int | None:
    """Return a command's exit status; after Ctrl-C, which the terminal sends to it too, give it a second to end."""
    for _ in range(20):
        if profiler.exit_status is not None or profiler.target.kind != "command" or profiler.ended != "stopped":
            break
        time.sleep(0.05)
    return profiler.exit_status


def _tool_line() -> str:
    """Return version and command line, which stand in every stored profile."""
    return f"dna {tool_version()}: {shlex.join(['dna', *sys.argv[1:]])}"


def exit_status(status: int | None) -> int:
    """Return a launched command's exit status as a shell gives it: 128 and the signal's number where it was killed."""
    if status is None:
        return 0
    return 128 - status if status < 0 else status


class _Known:
    """The labelled workloads of the model in use, shipped ones and the user's; read once, and not before they are needed."""

    def __init__(self, store: Path | None) -> None:
        self._store = store

    @cached_property
    def library(self) -> Library | None:
        """None where no model's library can be read: a profile is worth having without."""
        from dna.encoder import default_folder
        from dna.library import Library
        from dna.store import Store

        try:
            library = Library.load([default_folder() / "library.json"])
        except DnaError:
            return None
        try:
            with Store.open(self._store, create=False) as history:
                return library.with_entries(history.entries(library.model), library.model)
        except DnaError:
            return library

    def comparison(self) -> Comparison:
        """Return how the live view tells what is special."""
        from ui.live import Comparison

        library = self.library
        if library is None or not library.entries:
            return Comparison()

        def distinctive(features: Features) -> list[tuple[str, float, float]]:
            return [(trait.name, trait.value, trait.score) for trait in library.traits(features, 16)]

        def nearest(interval: Interval) -> list[Match]:
            same = interval.dna is not None and interval.dna.model == library.model
            return library.nearest(interval.dna.vector, 3) if interval.dna and same else []

        return Comparison(distinctive, nearest)

    def summarise(self, profile: Profile) -> Summary:
        """Return a profile's summary with what it resembles."""
        from dna.summary import summarise

        return summarise(profile, self.library)


def _check_outputs(json: str, store: tuple[Path | None] | None) -> None:
    """Fail before measuring rather than after it, where the result could not be kept."""
    from dna.store import Store

    folder = Path(json).absolute().parent
    if json not in ("", "-") and not folder.is_dir():
        raise options.OptionError(f"--json {json}: there is no folder {folder}")
    if store:
        Store.open(store[0]).close()


def _keep(profile: Profile, known: _Known, console: Console, *, json: str, store: tuple[Path | None] | None) -> None:
    from dna.export import dumps, to_json, write_json
    from dna.store import Store

    if json == "-":
        typer.echo(dumps(to_json(profile, known.library), indent=1))
    elif json:
        write_json(profile, json, known.library)
    if store:
        with Store.open(store[0]) as history:
            identity = history.save(profile)
        console.print(f"\nKept as {identity}: dna show {profile.name or identity}", style="bright_black", markup=False)


@app.command("top")
def top_command(
    sort: Annotated[str, typer.Option(metavar="FEATURE", help=f"One of {', '.join(options.TOP_SORTS)}.")] = "cpu",
    by: Annotated[str, typer.Option(metavar="KIND", help="process or cgroup.")] = "process",
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between refreshes.")] = 2.0,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Refreshes, then the end.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One refresh as a plain table.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Rows, off a terminal.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the busiest processes or cgroups, live; from /proc alone, without privilege."""
    from rich.console import Console

    from dna.top import Watch
    from hal.host import LinuxHost
    from ui import output
    from ui.options import choice_of, interval_of
    from ui.terminal import Keys, input_descriptor, shows_live
    from ui.top import TopLive, TopView, watch_json, watch_plainly

    sort = choice_of("--sort", sort, options.TOP_SORTS)
    view = TopView(sort=sort, by_cgroup=choice_of("--by", by, ("process", "cgroup")) == "cgroup")
    view = replace(view, interval_s=interval_of(interval))
    host, console = LinuxHost(), Console(highlight=False)
    watch = Watch(host, by_cgroup=view.by_cgroup)
    count = 1 if once else count
    if as_json:
        watch_json(watch, typer.echo, view, count=count, limit=limit, sleep=host.sleep)
    elif once or not shows_live(console):
        watch_plainly(watch, output.console(), view, count=count, limit=limit, sleep=host.sleep)
    else:
        keys = Keys(input_descriptor())
        try:
            TopLive(watch, console, view, count=count, keys=keys).run()
        except KeyboardInterrupt:
            return  # Ctrl-C is the ordinary way out of a live table
        finally:
            keys.close()


From = Annotated[
    list[Path] | None,
    typer.Option("--from", help="Exported profiles (.json, .json.gz) or a data set (.npz); else the history."),
]
StorePath = Annotated[Path | None, typer.Option("--store", help="The history to read.")]


@app.command("train")
def train_command(
    from_: From = None,
    store: StorePath = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and its library.")] = Path("dna-model"),
    epochs: Annotated[int, typer.Option(min=1)] = 800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a model from named profiles: several runs each of PROGRAM/LOAD."""
    from rich.console import Console

    from dna import dataset, model_folder
    from dna.train import Settings, train
    from ui.training import progress

    data = dataset.gather(from_ or [], store)
    with progress(Console(stderr=True), "training", epochs) as advance:
        encoder = train(data, Settings(epochs=epochs, seed=seed), lambda _, loss: advance(f"loss {loss:.3f}"))
    model_folder.write(out, encoder, data)
    typer.echo(f"model {encoder.model_id} of {len(set(data.runs.tolist()))} runs in {out}; use it with DNA_MODEL={out}")


@app.command("evaluate")
def evaluate_command(
    from_: From = None,
    store: StorePath = None,
    model: Annotated[
        Path | None, typer.Option(help="A finished model to try on this data; else models are trained on parts of it.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Say how well vectors tell workloads apart, against k-NN on raw features and principal components."""
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console

    from dna import dataset
    from dna.encoder import Encoder
    from dna.evaluate import evaluate, evaluate_model
    from ui.training import progress, report

    data = dataset.gather(from_ or [], store)
    if model:
        found = evaluate_model(data, Encoder.load(model))
    else:
        from dna.train import Settings, train

        settings = Settings(epochs=epochs, seed=seed)
        with progress(Console(stderr=True), "training", 2 * folds) as advance:
            found = evaluate(data, lambda part: train(part, settings), folds=folds, step=lambda: advance(""))
    if as_json:
        typer.echo(dumps(asdict(found)))
    else:
        Console().print(report(found))


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
    as_json: Json = False,
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
def show_command(profile: Reference = "last", store: History = None, as_json: Json = False) -> None:
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
    as_json: Json = False,
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
    as_json: Json = False,
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


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what this machine can measure and change, and how to get the rest."""
    from dna.export import dumps
    from hal.capabilities import examine
    from hal.host import LinuxHost
    from ui.doctor import DoctorView
    from ui.output import console

    report = examine(LinuxHost())
    if as_json:
        typer.echo(dumps({"tool": f"dna {tool_version()}", **report.to_dict()}))
    else:
        console().print(DoctorView(report))


@app.command("features")
def features_command(as_json: Json = False) -> None:
    """Print what is measured: every feature and magnitude with unit and meaning."""
    from dna.export import dumps
    from ui.features import features_json, features_table
    from ui.glyphs import glyphs_for
    from ui.output import console

    if as_json:
        typer.echo(dumps(features_json()))
    else:
        out = console()
        out.print(features_table(glyphs_for(out)))


def _abandon_output() -> None:
    """Let nothing more be written to a standard output that is gone or full, not even when Python flushes it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; every error of ours becomes one line with its remedy and the exit code of DESIGN."""
    try:
        app()
    except (DnaError, HalError) as error:
        typer.echo(f"dna: {error}", err=True)
        if error.remedy:
            typer.echo(f"     {error.remedy}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _abandon_output()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        _abandon_output()
        typer.echo(f"dna: {error}", err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
