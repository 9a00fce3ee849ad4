"""One frame of the live view: header, panels in columns, footer. Pure; every row fits the width it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from dna.describe import Gap, describe, gaps_of, resemblance
from ui import glyphs as g
from ui.glyphs import Glyphs
from ui.panels import PANELS, Panel, Rows, row
from ui.units import clock, fit, percent, plain, si, size
from ui.view import View, number, numbers, numbers_or_text

_COLUMN = 40
"""Fewer cells than this make a column unreadable."""
_MOST_COLUMNS = 3
_CLOCK = 24
"""Cells at the right end of the first row that belong to the clock, which is drawn apart."""

HELP = (
    ("q, Ctrl-C", "stop and print the summary"),
    ("Ctrl-C twice", "abort without it"),
    ("Space", "freeze the picture; measuring goes on"),
    ("?", "this help"),
    ("", ""),
    ("Vector", "one row an interval, the newest on top: a change of picture is a change of behaviour"),
    ("What makes it itself", "features furthest from what is usual, up or down"),
    ("Latency", "how often each time span occurred, from 128 ns at the left to 17 s at the right"),
    ("Who wakes whom", "wake-ups a second between processes (threads of a single one)"),
    ("Own cost", "CPU time of the profiler and its kernel programs, in per cent of one core"),
)


@dataclass(slots=True)
class _Column:
    """Panels placed under one another."""

    room: int
    panels: list[Panel] = field(default_factory=list)
    heights: dict[str, int] = field(default_factory=dict)


def frame(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Return exactly ``height`` rows of at most ``width`` cells, without the clock (see ``clock_text``)."""
    head = header(view, width, glyphs)
    foot = footer(view, width, glyphs, tall=height >= 40)
    room = height - len(head) - len(foot)
    if view.help:
        body = _help(width, glyphs)
    elif room >= 3:
        body = _body(view, width, room, glyphs)
    else:
        body = []
    body = body[: max(room, 0)]
    blank = [row("")] * (room - len(body))
    rows = [*head, *body, *blank, *foot][-height:] if room >= 0 else [*head, *foot][:height]
    for text in rows:
        text.truncate(width)
    return rows


def clock_text(*, elapsed_s: float, next_s: float | None, duration_s: float | None, paused: bool) -> str:
    """Return the right end of the first row, ``_CLOCK`` cells: time since the start and until the next interval."""
    left = clock(elapsed_s) + (f"/{clock(duration_s)}" if duration_s else "")
    right = "paused" if paused else "" if next_s is None else f"next {max(next_s, 0):.0f} s"
    return f"{left}  {right}".rjust(_CLOCK)[-_CLOCK:]


CLOCK_WIDTH = _CLOCK


# --- header


def header(view: View, width: int, glyphs: Glyphs) -> Rows:
    """Return the target's, the machine's and the description's row."""
    target = fit(glyphs.text(target_line(view.target)), max(width - _CLOCK - 5, 0), ellipsis=glyphs.ellipsis)
    machine = fit(glyphs.text(machine_line(view.machine)), width, ellipsis=glyphs.ellipsis)
    return [row(("dna ", g.ACCENT), (target, g.STRONG)), row((machine, g.DIM)), _kind_row(view, width, glyphs)]


def _kind_row(view: View, width: int, glyphs: Glyphs) -> Text:
    if view.last is None:
        return row(fit(f"measuring the first {view.interval_s:g} s", width, ellipsis=glyphs.ellipsis))
    words = describe(view.last.features, view.last.demand).headline
    return row((fit(glyphs.text(words), width, ellipsis=glyphs.ellipsis), g.ACCENT))


def target_line(target: Mapping[str, object]) -> str:
    """Return the target in one line: what was asked for, its command, how many processes."""
    kind, value = str(target.get("kind", "")), plain(str(target.get("value", "")))
    parts = [f"{kind} {value}".strip()]
    comm = plain(str(target.get("comm") or ""))
    if comm and comm not in value:
        parts.append(comm)
    count = number(target, "processes")
    if count is not None and kind != "host":
        parts.append("1 process" if count == 1 else f"{count:.0f} processes")
    return " · ".join(parts)


def machine_line(machine: Mapping[str, object]) -> str:
    """Return the machine in one line."""
    memory = number(machine, "memory")
    cpus, packages, nodes = (number(machine, key) for key in ("cpus", "packages", "numa_nodes"))
    parts = [
        plain(str(machine.get("hostname") or "")),
        plain(f"Linux {machine.get('kernel') or '?'} {machine.get('arch') or ''}".strip()),
        plain(str(machine.get("model") or "")),
        _count(cpus, "CPU"),
        _count(packages, "package"),
        _count(nodes, "NUMA node"),
        "" if memory is None else size(memory),
    ]
    return " · ".join(part for part in parts if part)


def _count(n: float | None, name: str) -> str:
    return "" if n is None else f"{n:.0f} {name}{'' if n == 1 else 's'}"


# --- footer


def footer(view: View, width: int, glyphs: Glyphs, *, tall: bool) -> Rows:
    """Return the quality rows and the row of resemblance and keys."""
    rows = [row((fit(glyphs.text(quality_line(view)), width, ellipsis=glyphs.ellipsis), g.DIM))]
    if tall:
        rows += _gap_rows(view, width, glyphs)
    keys = "q quit  space pause  ? help"
    text = _resembles(view)
    if not text:
        return [*rows, row((fit(keys, width).rjust(width), g.DIM))]
    left = fit(glyphs.text(text), max(width - len(keys) - 2, 0), ellipsis=glyphs.ellipsis)
    last = row((left, g.STRONG))
    last.pad_right(max(width - last.cell_len - len(keys), 0))
    last.append(keys, g.DIM)
    return [*rows, last]


def _resembles(view: View) -> str:
    return resemblance(view.nearest, view.last.novelty) if view.last and view.nearest else ""


def gaps(view: View) -> tuple[Gap, ...]:
    """Return what the latest interval lacks, grouped by reason."""
    missing = numbers_or_text(view.last.quality if view.last else {}, "missing")
    return gaps_of({part: str(reason) for part, reason in missing.items()}, view.remedies)


def _gap_rows(view: View, width: int, glyphs: Glyphs) -> Rows:
    return [row((fit(glyphs.text(gap_line(gap)), width, ellipsis=glyphs.ellipsis), g.DIM)) for gap in gaps(view)[:3]]


def gap_line(gap: Gap) -> str:
    """Return one gap in one line."""
    return f"  {', '.join(gap.parts)}: {gap.reason}" + (f" ({gap.remedy})" if gap.remedy else "")


def quality_line(view: View) -> str:
    """Return how far the latest interval can be trusted, in one line."""
    if view.last is None:
        return "quality: nothing measured yet"
    quality = view.last.quality
    found = gaps(view)
    parts = ", ".join(part for gap in found for part in gap.parts)
    reasons = "; ".join(gap.reason for gap in found)
    missing = f"missing {parts} ({reasons})" if found else "nothing missing"
    return f"own cost {own_cost(quality, view.span_s)} · {lost_line(quality)} · {missing}"


def lost_line(quality: Mapping[str, object]) -> str:
    """Return how many updates were lost, and by which probe."""
    lost = {probe: count for probe, count in numbers(quality, "lost").items() if count > 0}
    if not lost:
        return "no events lost"
    return "lost " + ", ".join(f"{probe} {si(count)}" for probe, count in sorted(lost.items()))


def own_cost(quality: Mapping[str, object], interval_s: float) -> str:
    """Return the CPU time of the profiler and its kernel programs in per cent of a core."""
    own, kernel = number(quality, "own_cpu_s"), number(quality, "bpf_cpu_s")
    if own is None or interval_s <= 0:
        return "unknown"
    return f"{percent((own + (kernel or 0.0)) / interval_s)} of a core"


# --- body


def _help(width: int, glyphs: Glyphs) -> Rows:
    rows = [row("")]
    for key, meaning in HELP:
        rows.append(row((f"  {key:<22}", g.STRONG), fit(meaning, max(width - 24, 0), ellipsis=glyphs.ellipsis)))
    return rows


def _body(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    count = min(max((width + 2) // (_COLUMN + 1), 1), _MOST_COLUMNS)
    columns = place(PANELS, count, height)
    column_width = (width - 2 * (count - 1)) // count
    drawn = [_draw_column(view, column, column_width, glyphs) for column in columns]
    rows = []
    for index in range(height):
        text = row("")
        for number_, column_rows in enumerate(drawn):
            if number_:
                text.pad_right(max(number_ * (column_width + 2) - text.cell_len, 0))
            if index < len(column_rows):
                text.append_text(column_rows[index])
        rows.append(text)
    return rows


def place(panels: Sequence[Panel], count: int, height: int) -> list[_Column]:
    """Return ``count`` columns of ``height`` rows with the panels that fit, the least important left out.

    Each panel goes, most important first, where most room is left; then the room left over goes to those that can use it.
    It depends on the size alone, so that nothing jumps about from frame to frame.
    """
    columns = [_Column(height) for _ in range(count)]
    for panel in panels:
        column = max(columns, key=lambda c: c.room)
        if column.room < panel.least + 1:
            continue
        column.panels.append(panel)
        column.heights[panel.title] = panel.least
        column.room -= panel.least + 1
    for column in columns:
        _share_room(column)
    return columns


def _share_room(column: _Column) -> None:
    """Give the spare rows out one by one, the first panels first."""
    while column.room:
        growing = [panel for panel in column.panels if column.heights[panel.title] < panel.best]
        if not growing:
            return
        for panel in growing[: column.room]:
            column.heights[panel.title] += 1
            column.room -= 1


def _draw_column(view: View, column: _Column, width: int, glyphs: Glyphs) -> Rows:
    rows: Rows = []
    for panel in column.panels:
        height = column.heights[panel.title]
        drawn = panel.draw(view, width, height, glyphs)[:height]
        for text in drawn:
            text.truncate(width)
        rows.append(_title(panel, view, width, glyphs))
        rows += [*drawn, *(row("") for _ in range(height - len(drawn)))]
    return rows


def _title(panel: Panel, view: View, width: int, glyphs: Glyphs) -> Text:
    note = ""
    if panel.title == "Vector" and view.last and view.last.novelty is not None:
        note = f"novelty {view.last.novelty:.2f} "
    rest = max(width - len(panel.title) - len(note) - 3, 0)
    return row((f"{glyphs.rule} ", g.DIM), (f"{panel.title} ", g.TITLE), note, (glyphs.rule * rest, g.DIM))
