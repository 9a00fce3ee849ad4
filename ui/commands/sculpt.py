"""The loop: watch a workload, try what the rules propose, keep what pays."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hal.errors import EXIT_FAILED, EXIT_REFUSED
from hal.host import LinuxHost
from sculpt.yielding import yield_to_others
from ui import options
from ui.commands import sculpt_alerts, sculpt_control, situations
from ui.commands.sculpt_asked import Options, order
from ui.commands.sculpt_report import report_command

if TYPE_CHECKING:
    from sculpt.alerting import Alerting
    from sculpt.session import Ended, Wanted
    from sculpt.step import Record
    from sculpt.watchers import Watcher

_BEHIND = "dna.behind_dashes"


class WithCommandBehind(TyperGroup):
    """A group whose arguments end at ``--``, behind which a command to launch may stand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take away what stands behind ``--``, and remember it."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_BEHIND] = args[at + 1 :] if "--" in args else None
        return super().parse_args(ctx, args[:at])


app = typer.Typer()
sculpt = typer.Typer(
    cls=WithCommandBehind,
    invoke_without_command=True,
    subcommand_metavar="[-- COMMAND... | report | status | pause | resume | stop]",
)
app.add_typer(sculpt, name="sculpt")

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="KIND=SOURCE",
        help="What matters: throughput, latency-p99 or energy, and where it is read, such as throughput=redis:127.0.0.1:6379. May be repeated.",
    ),
]


@sculpt.callback()
def sculpt_command(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE.toml", help="Targets with their metrics, guard, alerts: docs/sculpt.md."
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="MODE",
            help="observe, advise, or apply: only this one changes anything.",
            show_default="observe",
        ),
    ] = None,
    metric: Metrics = None,
    pid: situations.Pids = None,
    cgroup: situations.Cgroups = None,
    unit: situations.Units = None,
    container: situations.Containers = None,
    comm: situations.Comms = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Targets may come later, and come again: they are waited for.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", metavar="SECONDS", help="Length of one interval.", show_default="5"),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", metavar="SECONDS", help="How long; 0 until it is ended or all targets end.", show_default="0"
        ),
    ] = None,
    on_exit: Annotated[
        str | None,
        typer.Option(
            "--on-exit",
            metavar="WHAT",
            help="restore what was found, or keep what was proven.",
            show_default="restore",
        ),
    ] = None,
    unverified: Annotated[
        bool,
        typer.Option("--unverified", help="Where nothing can be judged, apply what rules alone suggest."),
    ] = False,
    own_limit: Annotated[
        str | None,
        typer.Option(
            "--own-limit",
            metavar="N%",
            help="Share of one core that all of it may cost: beyond, it slows down.",
            show_default="1%",
        ),
    ] = None,
    guard: Annotated[
        Path | None, typer.Option("--guard", metavar="FILE.toml", help="Limits: what may be set, when, how often.")
    ] = None,
    rules: options.Rules = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of what is drawn by lot.", show_default="1")
    ] = None,
    no_memory: Annotated[
        bool,
        typer.Option(
            "--no-memory", help="Begin with nothing known, quarantine too, and keep nothing of what is learned."
        ),
    ] = False,
    socket: Annotated[
        str,
        typer.Option(
            "--socket",
            metavar="PATH|none",
            help="Where it is asked how it stands, paused and ended.",
            show_default="below /run",
        ),
    ] = "",
    no_live: Annotated[bool, typer.Option("--no-live", help="Plain lines, on a terminal too.")] = False,
    alert_log: sculpt_alerts.AlertLog = None,
    alert_command: sculpt_alerts.AlertCommand = None,
    alert_webhook: sculpt_alerts.AlertWebhook = None,
    prometheus: sculpt_alerts.Prometheus = None,
    as_json: options.Json = False,
) -> None:
    """Watch workloads and try, with care, what the rules propose for them; keep what is proven to pay."""
    if ctx.invoked_subcommand is not None:
        return
    behind = ctx.meta.get(_BEHIND)
    asked = order(
        Options(
            situations.named_targets(pid or (), cgroup or (), unit or (), container or (), comm or (), behind),
            metric or (),
            config,
            mode,
            on_exit,
            wait,
            unverified,
            interval,
            duration,
            own_limit,
            guard,
            rules or (),
            packs,
            no_packs,
            seed,
            no_memory,
        )
    )
    with sculpt_alerts.alerting_for(
        asked.alerts,
        log=alert_log,
        command=alert_command,
        webhook=alert_webhook,
        prometheus=prometheus,
        mode=asked.mode,
    ) as alerting:
        if behind is None:  # a command that is started would inherit it
            yield_to_others(LinuxHost())
        ended = _run(asked.wanted, alerting, as_json=as_json, live=not (as_json or no_live), socket=socket)
    _tell_end(ended, as_json=as_json)


def _tell_end(ended: Ended, *, as_json: bool) -> None:
    """Say where the records are, and what did not go well; the exit status says so too."""
    if not as_json:
        typer.echo(f"\n{ended.records.stem}: dna sculpt report")
        for line in ended.troubles:
            typer.echo(line)
    for trouble in ended.failures:
        typer.echo(f"dna: {trouble}", err=True)
    for error in ended.errors:
        typer.echo(f"dna: not everything was taken back: {error}", err=True)
    if ended.errors:
        typer.echo("     dna undo", err=True)
        raise typer.Exit(EXIT_REFUSED)
    if ended.failures:
        raise typer.Exit(EXIT_FAILED)


sculpt.command("report")(report_command)
sculpt_control.add_to(sculpt)


def _run(wanted: Wanted, alerting: Alerting, *, as_json: bool, live: bool, socket: str) -> Ended:
    from dna.references import workloads_in_use
    from hal.host import LinuxHost
    from sculpt.session import run
    from ui.commands.sculpt_running import around

    with around(wanted, _WhileRead(_print_data if as_json else _Lines()), live=live, socket=socket) as given:
        watchers: tuple[Watcher, ...] = (*given.watchers, alerting)
        return run(
            wanted,
            watchers=watchers,
            alarms=alerting.alarms,
            control=given.control,
            host=LinuxHost(),
            library=workloads_in_use(),
        )


class _WhileRead:
    """Prints as long as somebody reads; when nobody does any more, as behind ``| head``, the run ends as at SIGTERM."""

    def __init__(self, lines: Watcher) -> None:
        self._lines = lines
        self._is_over = False

    def __call__(self, record: Record) -> None:
        if self._is_over:
            return
        try:
            self._lines(record)
        except (BrokenPipeError, SystemExit):  # rich makes the one into the other
            self._is_over = True
            os.kill(os.getpid(), signal.SIGTERM)


def _print_data(record: Record) -> None:
    from sculpt.records import record_data

    typer.echo(json.dumps(record_data(record)))


class _Lines:
    """Prints a line a step; where there are several workloads each says of which it is."""

    def __init__(self) -> None:
        from ui.output import console

        self._out = console()
        self._judged_by: dict[str, list[str]] = {}

    def __call__(self, record: Record) -> None:
        from rich.text import Text

        from ui.sculpt import alert_lines, judged_line, step_line

        names = [name for name, _ in record.judged.values]
        of = self._judged_by
        lines = [judged_line(record)] if of.get(record.workload) != names else []
        of[record.workload] = names
        for line in (*lines, step_line(record), *alert_lines(record)):
            self._out.print(Text.assemble((f"{record.workload}  ", "bold"), line) if len(of) > 1 else line)
