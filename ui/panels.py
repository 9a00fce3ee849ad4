"""The panels of the live view: each draws one aspect of a view into so many rows and columns of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from rich.text import Text

from dna.features import BY_NAME, DEMAND
from dna.sample import BUCKETS, quantile
from ui import glyphs as g
from ui.glyphs import Glyphs
from ui.units import clock, fit, percent, plain, seconds, si, value_with_unit
from ui.view import View, number, numbers, numbers_or_text, records, series

type Rows = list[Text]
type Draw = Callable[[View, int, int, Glyphs], Rows]


@dataclass(frozen=True, slots=True)
class Panel:
    """One aspect: its title and how many rows below the title it needs, likes and can use."""

    title: str
    least: int
    best: int
    draw: Draw
    probe: str = ""
    """The probe without which there is nothing to draw."""


def row(*parts: tuple[str, str] | str) -> Text:
    """Return one row of styled parts."""
    text = Text(no_wrap=True)
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(*part)
    return text


def _padded(text: str, width: int, glyphs: Glyphs) -> str:
    return fit(text, width, ellipsis=glyphs.ellipsis).ljust(width)


def _value(value: float | None, unit: str, width: int, glyphs: Glyphs) -> str:
    return glyphs.text(value_with_unit(value, unit)).rjust(width)


def _nothing(text: str, width: int, glyphs: Glyphs) -> Rows:
    return [row((fit(glyphs.text(text), width, ellipsis=glyphs.ellipsis), g.DIM))]


# --- the vector


def draw_vector(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """One row an interval, the newest on top, one column a dimension; height of the sign and colour are the value."""
    label = 6
    cell = (width - label) // 16
    known = [interval for interval in view.intervals if interval.dna is not None]
    if not known or cell < 1:
        return _nothing(
            "no vector: no model fits" if view.intervals else "the first interval is not over", width, glyphs
        )
    shown = known[-height:][::-1]
    vectors = np.stack([interval.dna.vector for interval in shown if interval.dna])
    largest = max(float(np.abs(vectors).max()), 1e-9)
    now = view.intervals[-1].t
    rows = []
    for interval, vector in zip(shown, vectors, strict=True):
        age = now - interval.t
        text = row((_padded("now" if age < 0.01 else f"-{clock(age)}", label, glyphs), g.DIM))
        for value in vector:
            position = float(value) / largest
            sign = glyphs.ramp[1:][round((position + 1) / 2 * (len(glyphs.ramp) - 2))]
            text.append(sign * max(cell - 1, 1), g.diverging(position))
            text.append(" " * (cell - max(cell - 1, 1)))
        rows.append(text)
    return rows


# --- features


def draw_features(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """The features furthest from the ordinary, with value and how far up or down."""
    if not view.features:
        return _nothing("nothing known yet", width, glyphs)
    largest = max(abs(deviation) for _, _, deviation in view.features) or 1.0
    rows = []
    for name, value, deviation in view.features[:height]:
        unit = BY_NAME[name].unit if name in BY_NAME else ""
        marks = max(round(3 * abs(deviation) / largest), 1)
        sign = (glyphs.up if deviation > 0 else glyphs.down) * marks
        name_width = width - 15
        rows.append(
            row(
                _padded(name, name_width, glyphs),
                (_value(value, unit, 11, glyphs), g.STRONG),
                " ",
                (sign.ljust(3), g.diverging(deviation / largest)),
            )
        )
    return rows


def draw_demand(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """How much, with its course over the intervals; what was never known is left out."""
    histories = [(m, [interval.demand.get(m.name) for interval in view.intervals]) for m in DEMAND]
    shown = [(m, history) for m, history in histories if any(value is not None for value in history)]
    rows = []
    for m, history in shown[:height]:
        rows.append(
            row(
                _padded(m.name, 12, glyphs),
                (_value(history[-1], m.unit, 12, glyphs), g.STRONG),
                "  ",
                (g.spark(history, max(width - 26, 0), glyphs), g.BAR),
            )
        )
    return rows or _nothing("nothing known yet", width, glyphs)


# --- mixes


def _mix(shares: Sequence[tuple[str, float]], width: int, glyphs: Glyphs) -> Rows:
    """Return one row a share: name, bar, per cent."""
    name = min(max((len(n) for n, _ in shares), default=0), 9)
    space = max(width - name - 7, 1)
    return [
        row(_padded(n, name, glyphs), " ", (g.bar(value, space, glyphs), g.BAR), f"{percent(value):>6}")
        for n, value in shares
    ]


def _shares(counts: dict[str, float]) -> list[tuple[str, float]]:
    whole = sum(counts.values())
    if whole <= 0:
        return []
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [(name, count / whole) for name, count in ordered if count > 0]


def _side_by_side(left: Rows, right: Rows, width: int, gap: str = "  ") -> Rows:
    rows = []
    for a, b in zip_longest(left, right):
        text = a.copy() if a is not None else row("")
        text.pad_right(max(width - text.cell_len, 0))
        text.append(gap)
        if b is not None:
            text.append_text(b)
        rows.append(text)
    return rows


def draw_syscalls(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Classes as bars at the left, the commonest calls at the right."""
    classes = _shares(numbers(view.detail, "syscall_classes"))
    if not classes:
        return _nothing(view.missing("syscalls") or "no system calls", width, glyphs)
    left = (width - 2) // 2
    right = width - 2 - left
    calls = sorted(numbers(view.detail, "syscalls").items(), key=lambda item: -item[1])[:height]
    names = [
        row(_padded(plain(name), right - 8, glyphs), (f"{si(rate) + '/s':>8}", g.STRONG))
        for name, rate in calls
        if rate > 0
    ]
    return _side_by_side(_mix(classes[:height], left, glyphs), names, left)[:height]


def draw_instructions(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Classes of sampled instructions, in two columns where the rows are few."""
    shares = [(name.replace("_", " "), share) for name, share in _shares(numbers(view.detail, "instructions"))]
    if not shares:
        return _nothing(view.missing("instructions") or "no samples in user code", width, glyphs)
    if height >= len(shares):
        return _mix(shares, width, glyphs)
    left = (width - 2) // 2
    bars = _mix(shares[: 2 * height], left, glyphs)
    return _side_by_side(bars[:height], bars[height:], left)


# --- distributions

_FIRST_BUCKET = 7  # 128 ns
_LAST_BUCKET = 34  # 17 s


def _histogram_row(name: str, counts: Sequence[float], width: int, glyphs: Glyphs) -> Text:
    space = max(width - 10 - 16, 1)
    histogram = np.zeros(BUCKETS, dtype=np.int64)
    histogram[: len(counts)] = np.asarray(counts, dtype=np.float64)[:BUCKETS]
    p50, p99 = quantile(histogram, 0.5), quantile(histogram, 0.99)
    shape = _columns(histogram, space)
    return row(
        _padded(name, 10, glyphs),
        (g.spark(shape, space, glyphs).ljust(space), g.BAR),
        (_span(p50, glyphs), g.STRONG),
        (_span(p99, glyphs), g.STRONG),
    )


def _span(nanoseconds: float | None, glyphs: Glyphs) -> str:
    """Return a time span in at most 7 cells and a space before it."""
    text = "?" if nanoseconds is None else glyphs.text(seconds(nanoseconds * 1e-9).replace(" ", ""))
    return f"{text:>8}"


def _columns(histogram: np.ndarray[tuple[int], np.dtype[np.int64]], space: int) -> list[float]:
    """Return the counts between 128 ns and 17 s, what is beyond added to the ends, merged to at most ``space`` columns."""
    inside = histogram[_FIRST_BUCKET : _LAST_BUCKET + 1].astype(np.float64)
    inside[0] += float(histogram[:_FIRST_BUCKET].sum())
    inside[-1] += float(histogram[_LAST_BUCKET + 1 :].sum())
    merge = -(-len(inside) // space)
    wide = max(space // len(inside), 1)
    merged = np.add.reduceat(inside, np.arange(0, len(inside), merge))
    return [float(count) for count in np.repeat(merged, wide)]


def draw_latency(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Histograms of waiting for a CPU, running, and of system calls by class, from 128 ns to 17 s."""
    detail = view.detail
    rows: list[tuple[str, list[float]]] = [("run queue", series(detail, "runq")), ("slices", series(detail, "slices"))]
    latency = numbers_or_text(detail, "latency")
    by_count = sorted(latency, key=lambda name: -sum(series(latency, name)))
    rows += [(name, series(latency, name)) for name in by_count]
    drawn = [_histogram_row(name, counts, width, glyphs) for name, counts in rows if sum(counts) > 0]
    if not drawn:
        return _nothing(view.missing("sched") or "nothing measured", width, glyphs)
    space = max(width - 10 - 16, 1)
    axis = _padded("128ns" + "17s".rjust(max(min(space, 28) - 5, 3)), space, glyphs) if space >= 9 else " " * space
    head = row((" " * 10 + axis + "     p50     p99", g.DIM))
    return [head, *drawn][:height]


# --- communication


def draw_edges(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Who wakes whom, heaviest first: a -> b, times a second, through what."""
    edges = records(view.detail, "edges")
    if not edges:
        return _nothing(view.missing("graph") or "no wake-ups seen", width, glyphs)
    name = max((width - 19) // 2, 4)
    rows = []
    for edge in edges[:height]:
        rows.append(
            row(
                _padded(_end(edge.get("source"), edge.get("source_name"), name), name, glyphs),
                (f" {glyphs.arrow} ", g.ACCENT),
                _padded(_end(edge.get("sink"), edge.get("sink_name"), name), name, glyphs),
                (f"{si(number(edge, 'per_s') or 0.0) + '/s':>8}", g.STRONG),
                " ",
                (_padded(str(edge.get("channel", "")), 6, glyphs), g.DIM),
            )
        )
    return rows


def _end(identity: object, name: object, width: int) -> str:
    if identity == 0:
        return "outside"
    text = plain(str(name))
    with_number = f"{text} {identity}"
    return with_number if len(with_number) <= width else text


def draw_peers(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Processes of this host at the other end of TCP connections."""
    peers = records(view.detail, "peers")
    if not peers:
        return _nothing("none on this host", width, glyphs)
    return [
        row(
            _padded(f"{plain(str(peer.get('name')))} {peer.get('pid')}", max(width - 22, 4), glyphs),
            (f"{si(number(peer, 'connections') or 0)} conn".rjust(10), g.STRONG),
            f" port {int(number(peer, 'port') or 0):<6}",
        )
        for peer in peers[:height]
    ]


def draw_cpus(view: View, width: int, height: int, glyphs: Glyphs) -> Rows:
    """One sign a CPU, as high as the target kept it busy."""
    busy = series(view.detail, "oncpu_by_cpu")
    if not busy:
        return _nothing(view.missing("sched") or "nothing measured", width, glyphs)
    head = f"{len(busy)} CPUs, busiest {percent(max(busy))}, mean {percent(sum(busy) / len(busy))}"
    wide = max(min(width // len(busy), 4), 1)
    signs = [g.level(share, glyphs) * max(wide - 1, 1) + " " * (wide > 1) for share in busy]
    each = max(width // wide, 1)
    lines = ["".join(signs[start : start + each]) for start in range(0, len(signs), each)]
    return [row(fit(head, width)), *(row((line, g.BAR)) for line in lines)][:height]


PANELS: tuple[Panel, ...] = (
    Panel("Vector", 2, 24, draw_vector),
    Panel("What makes it itself", 3, 16, draw_features),
    Panel("System calls", 3, 12, draw_syscalls, "syscalls"),
    Panel("Demand", 3, len(DEMAND), draw_demand),
    Panel("Latency", 3, 9, draw_latency, "sched"),
    Panel("Who wakes whom", 2, 12, draw_edges, "graph"),
    Panel("Instructions", 2, 7, draw_instructions, "instructions"),
    Panel("CPUs", 2, 6, draw_cpus),
    Panel("TCP peers", 1, 6, draw_peers),
)
"""Most important first; the last are dropped first where there is no room."""
