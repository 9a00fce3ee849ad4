"""The loop: watch a workload, try what the rules propose, keep what pays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hal.errors import EXIT_FAILED, EXIT_REFUSED
from ui import options
from ui.commands import sculpt_alerts, sculpt_control, situations
from ui.commands.sculpt_report import report_command
from ui.commands.tool import tool_line

if TYPE_CHECKING:
    from dna.target import Target
    from sculpt.loop import Record
    from sculpt.session import Ended, Wanted
    from sculpt.targets import Asked
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
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="observe, advise, or apply: only this one changes anything.")
    ] = "observe",
    metric: Metrics = None,
    pid: situations.Pids = None,
    cgroup: situations.Cgroups = None,
    unit: situations.Units = None,
    container: situations.Containers = None,
    comm: situations.Comms = None,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", help="Length of one interval.")] = 5.0,
    duration: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", help="How long; 0 until it is ended or the target ends.")
    ] = 0.0,
    on_exit: Annotated[
        str, typer.Option("--on-exit", metavar="WHAT", help="restore what was found, or keep what was proven.")
    ] = "restore",
    guard: Annotated[
        Path | None, typer.Option("--guard", metavar="FILE.toml", help="Limits: what may be set, when, how often.")
    ] = None,
    rules: options.Rules = None,
    packs: options.Packs = None,
    no_packs: options.NoPacks = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of what is drawn by lot.")] = 1,
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
    from rules.reload import Rules
    from sculpt.guard import Guard, read_guard
    from sculpt.loop import MODES
    from sculpt.session import Wanted

    options.choice_of("--mode", mode, MODES)
    options.choice_of("--on-exit", on_exit, ("restore", "keep"))
    behind = ctx.meta.get(_BEHIND)
    targets = situations.named_targets(pid or (), cgroup or (), unit or (), container or (), comm or (), behind)
    wanted = Wanted(
        _asked(targets, mode, metric or [], on_exit),
        options.interval_of(interval),
        duration if duration > 0 else None,
        read_guard(guard) if guard else Guard(),
        follow=Rules(options.rule_sources(rules, packs, no_packs=no_packs)),
        seed=seed,
        command=tool_line(),
    )
    with sculpt_alerts.alerting_for(
        {},
        log=alert_log,
        command=alert_command,
        webhook=alert_webhook,
        prometheus=prometheus,
        mode=mode,
        as_json=as_json,
    ) as alerting:
        ended = _run(wanted, [alerting], as_json=as_json, live=not (as_json or no_live), socket=socket)
    _tell_end(ended, as_json=as_json)


def _asked(targets: Sequence[Target], mode: str, metrics: list[str], on_exit: str) -> tuple[Asked, ...]:
    from rl.reward import parse_metrics
    from sculpt.targets import Asked

    if not targets:
        raise options.OptionError(
            "no target",
            remedy="Give one or several of --pid N, --cgroup PATH, --unit NAME, --container ID, --comm REGEX, -- COMMAND...",
        )
    parsed = parse_metrics(metrics)
    if parsed and len(targets) > 1:
        raise options.OptionError(
            f"--metric, and {len(targets)} targets: of which of them is it?",
            remedy="Name one target, or give each its own metrics in a file: --config FILE.toml, see docs/sculpt.md.",
        )
    return tuple(Asked(target, mode, parsed, on_exit) for target in targets)


def _tell_end(ended: Ended, *, as_json: bool) -> None:
    """Say where the records are, and what did not go well; the exit status says so too."""
    if not as_json:
        typer.echo(f"\n{ended.records.stem}: dna sculpt report")
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


def _run(wanted: Wanted, watchers: Sequence[Watcher], *, as_json: bool, live: bool, socket: str) -> Ended:
    from hal.host import LinuxHost
    from sculpt.session import run
    from ui.commands.sculpt_running import around

    with around(wanted, _print_data if as_json else _Lines(), live=live, socket=socket) as given:
        return run(wanted, watchers=[*given.watchers, *watchers], control=given.control, host=LinuxHost())


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
