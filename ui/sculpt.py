"""The loop on the screen: a line a step while it runs, and its story afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sculpt.loop import Record
from sculpt.records import Run
from ui.glyphs import Glyphs

_EVENTS = {
    "trial": "trying",
    "promoted": "kept",
    "made": "made for good",
    "rolled back": "taken back",
    "undecided": "no better",
    "phase": "another phase",
    "blind": "no measurement",
    "novel": "unlike anything known",
    "gone": "no longer proposed",
}
"""Events of a decision, for people."""


def per_cent(gain: float) -> str:
    """Return a difference of logarithms as people read it: +5.1 %."""
    return f"{math.expm1(gain) * 100:+.1f} %"


def step_line(record: Record) -> Text:
    """Return one step as a line: when, what is in force, what it was worth, what was decided."""
    decision = record.decision
    line = Text(time.strftime("%H:%M:%S ", time.localtime(record.t)), style="dim")
    worth = "not measured" if record.judged.reward is None else f"{record.judged.reward:.6g}"
    line.append(f"{worth:>12}  ")
    line.append(f"{record.in_force}", style="bold" if record.in_force != "baseline" else "")
    if decision.event:
        style = {"promoted": "green", "made": "green", "rolled back": "yellow"}.get(decision.event, "cyan")
        line.append(f"  {_EVENTS.get(decision.event, decision.event)}", style=style)
        if decision.candidate:
            line.append(f" {decision.candidate}")
    line.append(f"  {decision.because}", style="dim")
    return line


def judged_line(record: Record) -> Text:
    """Return what the workload is judged by, a proxy named as one."""
    names = ", ".join(name for name, _ in record.judged.values)
    return Text(f"judged by {names}" if names else f"not judged: {record.judged.why}", style="bold")


def alert_lines(record: Record) -> Iterable[Text]:
    """Yield the alerts of a step."""
    return (Text(f"         ! {alert}", style="yellow") for alert in record.alerts)


def report(run: Run, glyphs: Glyphs) -> RenderableType:
    """Return the story of a run: how it went, each trial with its measured effect, what was held back, alerts."""
    return Group(*_head(run), Text(), _trials(run, glyphs), *_held(run), *_alerts(run))


def report_json(run: Run) -> dict[str, object]:
    """Return the same as data."""
    return {
        "run": run.identity,
        "head": dict(run.head),
        "steps": len(run.steps),
        "share_in_force": in_force(run),
        "trials": trials(run),
        "alerts": alerts(run),
        "end": dict(run.end) if run.end else None,
    }


def trials(run: Run) -> list[dict[str, Any]]:
    """Return what was tried and what came of it: candidate, when, outcome, gain (difference of logarithms) and why."""
    found = []
    for step in run.steps:
        decision = step["decision"]
        if decision["event"] in ("promoted", "made", "rolled back", "undecided") and decision["candidate"]:
            found.append(
                {
                    "t": step["t"],
                    "candidate": decision["candidate"],
                    "outcome": decision["event"],
                    "gain": decision["gain"],
                    "interval": decision.get("interval"),
                    "because": decision["because"],
                }
            )
    return found


def in_force(run: Run) -> dict[str, float]:
    """Return the share of the steps that each configuration was in force."""
    names = [str(step["in_force"]) for step in run.steps]
    return {name: names.count(name) / len(names) for name in dict.fromkeys(names)}


def alerts(run: Run) -> list[dict[str, Any]]:
    """Return each alert once, with the first time and how often."""
    found: dict[str, dict[str, Any]] = {}
    for step in run.steps:
        for alert in step["alerts"]:
            entry = found.setdefault(alert, {"alert": alert, "first": step["t"], "times": 0})
            entry["times"] += 1
    return list(found.values())


def _head(run: Run) -> Iterable[Text]:
    head, steps = run.head, run.steps
    target: Mapping[str, Any] = head.get("target") or {}
    name = target.get("comm") or target.get("value") or "?"
    yield Text.assemble(
        (f"{run.identity}", "bold"), f"  {name}, mode {head.get('mode')}, every {head.get('interval_s'):g} s"
    )
    if not steps:
        yield Text("It ended before the first interval was over.")
        return
    length = steps[-1]["t"] - steps[0]["t"] + head["interval_s"]
    missing = sum(step["reward"] is None for step in steps)
    words = f"{len(steps)} intervals, {length / 60:.1f} minutes"
    yield Text(f"{words}; {missing} without a measurement" if missing else words)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in in_force(run).items())
    yield Text(f"in force: {shares}")
    yield Text(_ending(run))


def _ending(run: Run) -> str:
    if run.end is None:
        return "It has not ended, or was killed: `dna undo`, or the next run, takes back what it had in force."
    kept = run.end.get("in_force") or "nothing of ours"
    return f"It ended ({run.end.get('why') or 'stopped'}); in force since: {kept}."


def _trials(run: Run, glyphs: Glyphs) -> RenderableType:
    found = trials(run)
    if not found:
        return Text("Nothing was tried.")
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, pad_edge=False)
    for column in ("when", "tried", "outcome", "effect", "why"):
        table.add_column(column, overflow="fold")
    for one in found:
        effect = "" if one["gain"] is None else per_cent(one["gain"])
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(one["t"])),
            one["candidate"],
            _EVENTS[one["outcome"]],
            effect,
            one["because"],
        )
    return table


def _held(run: Run) -> Iterable[Text]:
    held: dict[str, str] = {}
    for step in run.steps:
        held.update(step.get("held") or {})
    if held:
        yield Text("\nproposed, and not tried:")
    yield from (Text(f"  {name}: {because}") for name, because in held.items())


def _alerts(run: Run) -> Iterable[Text]:
    found = alerts(run)
    if found:
        yield Text("\nalerts:")
    for one in found:
        times = f" ({one['times']} times)" if one["times"] > 1 else ""
        yield Text(f"  {time.strftime('%H:%M:%S', time.localtime(one['first']))} {one['alert']}{times}")
