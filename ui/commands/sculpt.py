"""The loop: watch a workload, try what the rules propose, keep what pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hal.errors import EXIT_REFUSED
from ui import options
from ui.commands import sculpt_control
from ui.commands.sculpt_report import report_command
from ui.commands.tool import tool_line

if TYPE_CHECKING:
    from sculpt.loop import Record
    from sculpt.session import Ended, Wanted

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
    pid: options.Pid = None,
    cgroup: options.Cgroup = None,
    unit: options.Unit = None,
    container: options.Container = None,
    comm: options.Comm = None,
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
    as_json: options.Json = False,
) -> None:
    """Watch a workload and try, with care, what the rules propose for it; keep what is proven to pay."""
    if ctx.invoked_subcommand is not None:
        return
    from sculpt.guard import Guard, read_guard
    from sculpt.loop import MODES
    from sculpt.session import KEEP, RESTORE, Wanted

    options.choice_of("--mode", mode, MODES)
    options.choice_of("--on-exit", on_exit, (RESTORE, KEEP))
    target = options.choose_target(
        pid=pid, cgroup=cgroup, unit=unit, container=container, comm=comm, command=ctx.meta.get(_BEHIND)
    )
    from rules.reload import Rules

    follow = Rules(options.rule_sources(rules, packs, no_packs=no_packs))
    wanted = Wanted(
        target,
        mode,
        options.interval_of(interval),
        duration if duration > 0 else None,
        on_exit,
        read_guard(guard) if guard else Guard(),
        follow=follow,
        seed=seed,
        command=tool_line(),
    )
    ended = _run(wanted, metric or [], as_json=as_json)
    if ended.done is not None and ended.done.error:
        typer.echo(f"dna: not everything was taken back: {ended.done.error}", err=True)
        typer.echo("     dna undo", err=True)
        raise typer.Exit(EXIT_REFUSED)


sculpt.command("report")(report_command)
sculpt_control.add_to(sculpt)


def _run(wanted: Wanted, named: list[str], *, as_json: bool) -> Ended:
    from dataclasses import replace

    from hal.host import LinuxHost
    from rl.reward import parse_metrics
    from sculpt.judging import open_judge
    from sculpt.session import run
    from ui.output import console

    metrics = parse_metrics(named)
    wanted = replace(wanted, kinds=tuple(dict.fromkeys(metric.kind for metric in metrics)) or wanted.kinds)
    host, out = LinuxHost(), console()

    judged_by: list[str] = []

    def watch(record: Record) -> None:
        from sculpt.records import record_data
        from ui.sculpt import alert_lines, judged_line, step_line

        if as_json:
            typer.echo(json.dumps(record_data(record)))
            return
        if (names := [name for name, _ in record.judged.values]) != judged_by:
            judged_by[:] = names
            out.print(judged_line(record))
        out.print(step_line(record))
        for line in alert_lines(record):
            out.print(line)

    judge = open_judge(metrics, host)
    try:
        ended = run(wanted, judge, watch=watch, host=host)
    finally:
        judge.close()
    if not as_json:
        out.print(f"\n{ended.records.stem}: dna sculpt report")
    return ended
