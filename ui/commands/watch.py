"""Watching what runs: profile, top."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ui import options

app = typer.Typer()


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
    interval = min(interval_of(interval), limit or interval)

    from ui.commands.profiling import Output, profile

    output = Output(name=name, json=json, live=not no_live, keep=not no_store, store=store)
    if status := profile(target, output, interval_s=interval, duration_s=limit):
        raise typer.Exit(status)


@app.command("top")
def top_command(
    sort: Annotated[str, typer.Option(metavar="FEATURE", help=f"One of {', '.join(options.TOP_SORTS)}.")] = "cpu",
    by: Annotated[str, typer.Option(metavar="KIND", help="process or cgroup.")] = "process",
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between refreshes.")] = 2.0,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Refreshes, then the end.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One refresh as a plain table.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Rows, off a terminal.")] = 20,
    as_json: options.Json = False,
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
