"""The observed configuration, and the knobs, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hal.knobs.knob import show
from hal.observing import KnobReport
from hal.planning import Observed
from hal.settings import EXACT, Setting
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, Glyphs
from ui.units import plain


def config_view(found: Observed, glyphs: Glyphs) -> RenderableType:
    """Return settings by family; subjects that have the same value share a line."""
    if not len(found.config):
        return Text("Nothing to show: no such setting can be read here. `dna config knobs` says why.")
    parts: list[RenderableType] = []
    for family, settings in groupby(found.config, key=lambda setting: setting.knob.partition(".")[0]):
        if parts:
            parts.append(Text())
        parts += [Text(family, style=STRONG), _family(list(settings), glyphs)]
    if found.unread:
        reasons = sorted({reason for reason in found.unread.values() if reason != "it is gone"})
        parts += [Text(), Text(f"{len(found.unread)} could not be read:", style=ACCENT)] if reasons else []
        parts += [Text(glyphs.text(plain(f"  {reason}")), style=DIM) for reason in reasons[:8]]
    return Group(*parts)


def _family(settings: Sequence[Setting], glyphs: Glyphs) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for knob, members in groupby(settings, key=lambda setting: setting.knob):
        by_value: dict[str, list[str]] = {}
        for setting in members:
            by_value.setdefault(show(setting.value), []).append(setting.subject.name)
        for value, names in sorted(by_value.items(), key=lambda item: -len(item[1])):
            cells = (f" {knob}", _names(names), value)
            styles = (TITLE, "", STRONG)
            table.add_row(*(Text(glyphs.text(plain(c)), style=s) for c, s in zip(cells, styles, strict=True)))
    return table


def _names(names: Sequence[str]) -> str:
    ordered = sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    shown = " ".join(ordered[:6])
    return f"{shown} ... ({len(ordered)})" if len(ordered) > 6 else shown


def knobs_table(reports: Sequence[KnobReport], glyphs: Glyphs) -> RenderableType:
    """Return every knob: what it sets, on what, its values, and whether it works here."""
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, header_style=TITLE, pad_edge=False)
    for name in ("knob", "on", "sets", "values", "undo", "here"):
        table.add_column(name, overflow="fold", no_wrap=name == "knob")
    for report in reports:
        knob = report.knob
        here = "yes" if report.works else f"no: {report.reason}"
        undo = "exact" if knob.reversibility == EXACT else knob.reversibility
        cells = (knob.name, " ".join(knob.accepts), knob.title, knob.values, undo, here)
        table.add_row(*(Text(glyphs.text(plain(cell)), style="" if report.works else DIM) for cell in cells))
    return table


def knobs_json(reports: Sequence[KnobReport]) -> list[dict[str, object]]:
    """Return every knob as JSON data."""
    return [
        {
            "knob": report.knob.name,
            "on": list(report.knob.accepts),
            "sets": report.knob.title,
            "values": report.knob.values,
            "example": report.knob.example,
            "action": report.knob.is_action,
            "reversibility": report.knob.reversibility,
            "not_restored": report.knob.reversal or None,
            "works": report.works,
            "reason": report.reason or None,
            "remedy": report.remedy or None,
        }
        for report in reports
    ]
