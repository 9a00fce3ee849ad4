"""Plots as SVG made by hand: a few lines, bands and signs, as wide as the page and never wider.

Across, everything is in per cent of the width (lines in a drawing of their own that is stretched), so that words keep their size on a
telephone and on paper. Long runs are thinned with the least and the greatest value of each column kept. Colours are the page's; what a colour
says, a shape or a word says too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from xml.etree.ElementTree import Element

from ui.markup import Node, el, short

COLUMNS = 450
"""More detail than this across is not seen."""
_WIDTH = 1000
_DROPS = 60
"""Of more marks than this the lines down would hide what they point at."""
_LABEL = 0.16
"""Of the width of a telephone's page, what a time of day takes."""
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)

type Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Band:
    """What was in force from one place of the horizontal scale to another."""

    start: float
    end: float
    role: str
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened."""

    x: float
    sign: str
    """One of ``SIGNS``."""
    label: str
    row: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its limits; None where they are not known, infinite where there are none yet."""

    x: float
    value: float
    low: float | None
    high: float | None
    label: str


SIGNS = {
    "begun": "M-4,-5 L5,0 L-4,5 Z",
    "kept": "M0,-6 L6,5 L-6,5 Z",
    "made": "M-5,-5 L5,-5 L5,5 L-5,5 Z",
    "back": "M0,6 L6,-5 L-6,-5 Z",
    "even": "M0,-6 L6,0 L0,6 L-6,0 Z",
    "turn": "M-5,-5 L5,5 M-5,5 L5,-5",
    "alert": "M0,-6 L0,2 M0,5 L0,6",
}
"""Shapes of marks, about (0, 0)."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places: of the width (0 to 1), or down from the top of a plot."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 for the lowest; within [0, 1]."""
        return min(max((value - self.low) / ((self.high - self.low) or 1.0), 0.0), 1.0)


@dataclass(slots=True)
class Plot:
    """One plot as it is made.

    Args:
        name: of the plot, within the page.
        title: what is shown, in a few words, for those who cannot see it too.
        says: what there is to see, in words.
    """

    name: str
    title: str
    says: str
    x: Scale
    y: Scale
    height: int = 200
    top: int = 0
    """Room above the plot for marks."""
    _parts: list[Node] = field(default_factory=list)
    _words: list[Node] = field(default_factory=list)
    """Above all else."""
    _bottom: int = 0

    def bands(self, bands: Sequence[Band]) -> None:
        """Draw what was in force: a tint behind, and a strip below whose pattern says the same."""
        for band in thin_bands(bands, self.x):
            left, wide = self.x.share(band.start), self.x.share(band.end) - self.x.share(band.start)
            place = {"x": percent(left), "width": percent(max(wide, 0.0))}
            title = el("title", band.label)
            fill = f"url(#{self.name}-hatch)" if band.role == "tried" else None
            self._parts.append(el("rect", class_=f"tint {band.role}", y=self.top, height=self.height, **place))
            strip = el(
                "rect", title, class_=f"strip {band.role}", y=self.top + self.height + 2, height=9, fill=fill, **place
            )
            self._parts.append(strip)
        self._bottom = max(self._bottom, 13)

    def grid(self, words: Callable[[float], str], *, ticks: Sequence[float] | None = None) -> None:
        """Draw the vertical scale: lines across, each with its value above it."""
        for tick in nice(self.y.low, self.y.high) if ticks is None else ticks:
            y = self._y(tick)
            self._parts.append(el("line", class_="zero" if tick == 0 else "grid", x1=0, x2="100%", y1=y, y2=y))
            above = y - 3 if y - self.top > 14 else y + 12
            self._words.append(el("text", words(tick), class_="scale", x=3, y=above))

    def line(self, points: Sequence[Points], kind: str = "line") -> None:
        """Draw a line through pieces of points that were thinned."""
        path = " ".join(self._path(piece) for piece in points if piece)
        drawn = el("path", class_=kind, d=path)
        self._parts.append(self._stretched(drawn))

    def series(
        self, t: Sequence[float], values: Sequence[float], *, gaps: Sequence[int] = (), kind: str = "line"
    ) -> None:
        """Draw a line through values; of a long one from least to greatest faintly, and the mean of each column over it."""
        pieces = thin(t, values, self.x, gaps=gaps)
        if len(t) <= 2 * COLUMNS:
            self.line(pieces, kind)
            return
        self.line(pieces, f"{kind} faint")
        self.line([means(t, values, self.x)], kind)

    def _path(self, piece: Points) -> str:
        places = [f"{short(self.x.share(x) * _WIDTH)},{short(self._y(y) - self.top)}" for x, y in piece]
        return f"M{' L'.join(places)}" if len(places) > 1 else f"M{places[0]} h0.01"

    def _stretched(self, drawn: Element) -> Element:
        view = f"0 0 {_WIDTH} {self.height}"
        return el(
            "svg", drawn, x=0, y=self.top, width="100%", height=self.height, viewBox=view, preserveAspectRatio="none"
        )

    def bars(self, bars: Sequence[Bar]) -> None:
        """Draw values with their limits; where there are none yet a dashed line from edge to edge."""
        for bar in bars:
            x = percent(self.x.share(bar.x))
            if bar.low is not None and bar.high is not None:
                endless = not (math.isfinite(bar.low) and math.isfinite(bar.high))
                low, high = (self.y.low, self.y.high) if endless else (bar.low, bar.high)
                kind = "limits endless" if endless else "limits"
                self._parts.append(el("line", class_=kind, x1=x, x2=x, y1=self._y(high), y2=self._y(low)))
            title = el("title", bar.label)
            self._parts.append(el("circle", title, class_="value", cx=x, cy=self._y(bar.value), r=4))

    def marks(self, marks: Sequence[Mark]) -> None:
        """Draw signs in the room above, each with a line down to what it happened to."""
        shown = thin_marks(marks, self.x)
        for mark in shown:
            x, y = percent(self.x.share(mark.x)), 9 + 16 * mark.row
            if len(shown) <= _DROPS:
                self._parts.append(el("line", class_="drop", x1=x, x2=x, y1=y + 7, y2=self.top + self.height))
            shape = el("path", class_=f"sign {mark.sign}", d=SIGNS[mark.sign])
            side = {"x": -8, "text_anchor": "end"} if self.x.share(mark.x) > 0.9 else {"x": 8}
            words = el("text", mark.text, class_="number", y=4, **side) if mark.text else None
            self._parts.append(el("svg", el("title", mark.label), shape, words, x=x, y=y, overflow="visible"))

    def times(self) -> None:
        """Draw the horizontal scale as times of day."""
        ticks = time_ticks(self.x.low, self.x.high)
        days = self.x.high - self.x.low > 86_400
        self._below(
            [(tick, time.strftime("%m-%d %H:%M" if days else "%H:%M:%S", time.localtime(tick))) for tick in ticks]
        )

    def numbers(self, values: Iterable[int]) -> None:
        """Draw the horizontal scale as whole numbers."""
        self._below([(value, str(value)) for value in values])

    def _below(self, labels: Sequence[tuple[float, str]]) -> None:
        y, free = self.top + self.height + self._bottom + 14, 0.0
        for at, words in labels:
            share = self.x.share(at)
            anchor, left = (
                ("start", share)
                if share < 0.08
                else ("end", share - _LABEL)
                if share > 0.92
                else ("middle", share - _LABEL / 2)
            )
            if left >= free:  # where a telephone has no room for all of them some are left out
                self._parts.append(el("text", words, class_="scale", x=percent(share), y=y, text_anchor=anchor))
                free = left + (_LABEL if len(words) > 3 else 0.0)
        self._bottom += 20

    def _y(self, value: float) -> float:
        return self.top + self.height * (1 - self.y.share(value))

    def svg(self) -> Element:
        """Return the plot."""
        ids = f"{self.name}-title", f"{self.name}-desc"
        return el(
            "svg",
            el("title", self.title, id=ids[0]),
            el("desc", self.says, id=ids[1]),
            el("defs", _hatch(f"{self.name}-hatch")),
            *self._parts,
            *self._words,
            class_="plot",
            role="img",
            aria_labelledby=" ".join(ids),
            width="100%",
            height=self.top + self.height + self._bottom,
        )


def _hatch(name: str) -> Element:
    stripe = el("path", class_="hatch", d="M-1,1 L1,-1 M0,6 L6,0 M5,7 L7,5")
    ground = el("rect", class_="ground", width=6, height=6)
    return el("pattern", ground, stripe, id=name, width=6, height=6, patternUnits="userSpaceOnUse")


def percent(share: float) -> str:
    """Return a share as SVG takes it."""
    return f"{short(share * 100)}%"


def thin(
    t: Sequence[float], values: Sequence[float], x: Scale, *, gaps: Sequence[int] = (), columns: int = COLUMNS
) -> list[Points]:
    """Return the pieces of a line, of each column the first, least, greatest and last point only; NaN and gaps part pieces."""
    pieces: list[Points] = []
    piece: Points = []
    column: Points = []
    breaks = set(gaps)
    at = -1
    for number, (when, value) in enumerate(zip(t, values, strict=True)):
        if math.isnan(value) or number in breaks:
            piece += _extremes(column)
            if piece:
                pieces.append(piece)
            piece, column = [], []
        if math.isnan(value):
            continue
        here = int(x.share(when) * columns)
        if here != at:
            piece += _extremes(column)
            column, at = [], here
        column.append((when, value))
    piece += _extremes(column)
    return [*pieces, piece] if piece else pieces


def means(t: Sequence[float], values: Sequence[float], x: Scale, *, columns: int = COLUMNS // 3) -> Points:
    """Return the mean of the values in each column."""
    found: dict[int, list[tuple[float, float]]] = {}
    for when, value in zip(t, values, strict=True):
        if not math.isnan(value):
            found.setdefault(int(x.share(when) * columns), []).append((when, value))
    return [(fmean(when for when, _ in each), fmean(value for _, value in each)) for _, each in sorted(found.items())]


def _extremes(column: Points) -> Points:
    if len(column) <= 4:
        return column
    least = min(range(len(column)), key=lambda at: column[at][1])
    most = max(range(len(column)), key=lambda at: column[at][1])
    return [column[at] for at in sorted({0, least, most, len(column) - 1})]


def thin_bands(bands: Sequence[Band], x: Scale, *, columns: int = COLUMNS) -> list[Band]:
    """Return bands none of which is too narrow to be seen: such are taken together, under what was in force the longest."""
    if len(bands) <= columns:
        return list(bands)
    width = (x.high - x.low) / columns
    found: list[Band] = []
    group: list[Band] = []
    for band in bands:
        group.append(band)
        if band.end - group[0].start >= width:
            found.append(_joined(group))
            group = []
    return [*found, _joined(group)] if group else found


def _joined(group: Sequence[Band]) -> Band:
    longest = max(group, key=lambda band: band.end - band.start)
    label = longest.label if len(group) == 1 else f"{longest.label}, and {len(group) - 1} more"
    return Band(group[0].start, group[-1].end, longest.role, label)


def thin_marks(marks: Sequence[Mark], x: Scale, *, columns: int = 90) -> list[Mark]:
    """Return marks that do not lie upon each other: of those of one row and place the last, which says how many they are."""
    places: dict[tuple[int, int], list[Mark]] = {}
    for mark in marks:
        places.setdefault((mark.row, int(x.share(mark.x) * columns)), []).append(mark)
    found = []
    for together in places.values():
        last = together[-1]
        more = f" (and {len(together) - 1} more here)" if len(together) > 1 else ""
        found.append(Mark(last.x, last.sign, last.label + more, last.row, last.text if len(places) <= 30 else ""))
    return found


def nice(low: float, high: float, *, most: int = 4) -> list[float]:
    """Return round values within two limits, ``most`` or so."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)
    first = math.ceil(low / step - 1e-9)
    ticks: list[float] = []
    for number in count(first):
        if number * step > high + step * 1e-9 or len(ticks) > 2 * most:
            return ticks
        ticks.append(number * step)
    return ticks


def time_ticks(start: float, end: float, *, most: int = 5) -> list[float]:
    """Return round times of day between two, ``most`` of them at most."""
    span = end - start
    step = next((step for step in _STEPS_S if span / step <= most), math.ceil(span / most / 86_400) * 86_400 or 1)
    offset = time.localtime(start).tm_gmtoff
    first = math.ceil((start + offset) / step) * step - offset
    return [first + number * step for number in range(most + 1) if first + number * step <= end]


def limits_of(values: Iterable[float], *, holds: Sequence[float] = (), room: float = 0.08) -> Scale:
    """Return a scale for values, a little wider than they are; a few that lie far out are left out of it, but none of ``holds``."""
    known = sorted(value for value in values if math.isfinite(value))
    if not known:
        return Scale(0.0, 1.0)
    low, high = known[0], known[-1]
    inner = known[len(known) // 200], known[-1 - len(known) // 200]
    wide = 1.5 * (inner[1] - inner[0])
    if wide > 0:
        low, high = max(low, inner[0] - wide), min(high, inner[1] + wide)
    low, high = min(low, *holds, high), max(high, *holds, low)
    span = (high - low) or abs(high) or 1.0
    return Scale(low - room * span, high + room * span)
