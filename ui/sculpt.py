"""The loop on the screen: a line a step while it runs. Its story afterwards is in ``ui.sculpt_report`` and ``ui.report_page``."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.text import Text

from sculpt.step import Record
from ui.sculpt_words import EVENTS


def step_line(record: Record) -> Text:
    """Return one step as a line: when, what is in force, what it was worth, what was decided."""
    decision = record.decision
    line = Text(time.strftime("%H:%M:%S ", time.localtime(record.t)), style="dim")
    worth = "not measured" if record.judged.reward is None else f"{record.judged.reward:.6g}"
    line.append(f"{worth:>12}  ")
    line.append(f"{record.in_force}", style="bold" if record.in_force != "baseline" else "")
    if decision.event:
        style = {"promoted": "green", "made": "green", "rolled back": "yellow"}.get(decision.event, "cyan")
        line.append(f"  {EVENTS.get(decision.event, decision.event)}", style=style)
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
