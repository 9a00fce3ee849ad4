"""The view of ``dna top``: a table of the busiest, live on a terminal, plain elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console
from rich.text import Text

from dna.top import Row, ordered
from ui import glyphs as g
from ui.glyphs import Glyphs, glyphs_for
from ui.panels import Rows, row
from ui.terminal import Keys, Screen
from ui.units import clock, fit, percent, plain, si, size

KEYS = {"p": "cpu", "m": "memory", "t": "time", "r": "runq", "v": "voluntary", "f": "faults", "i": "io", "n": "threads"}
"""Key to sort; P, M and T as in top."""

HELP = (
    ("q", "quit"),
    ("Space", "freeze the picture; measuring goes on"),
    ("/", "show only what contains a word; empty shows all again"),
    ("P M T", "sort by CPU, memory, CPU time"),
    ("R V F I N", "sort by run-queue share, voluntary switches, faults, I/O, threads"),
    ("C", "processes or cgroups"),
    ("?", "this help"),
    ("", ""),
    ("CPU", "per cent of one core"),
    ("RUNQ", "of the time it wanted a CPU, the part it waited for one"),
    ("VOL INVOL", "context switches a second: because it blocked, because it was preempted"),
    ("IO", "bytes a second through read- and write-like calls, pipes and sockets included"),
)


class Source(Protocol):
    """What the view asks for rows: ``dna.top.Watch``."""

    by_cgroup: bool

    def look(self, *, sort: str = "cpu", rows: int = 50, search: str = "") -> list[Row]:
        """Return what happened since the last look, ordered."""
        ...

    @property
    def counted(self) -> tuple[int, int]:
        """Processes and threads at the last look."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table; ``importance`` 0 always stays, the largest goes first where there is no room."""

    title: str
    width: int
    importance: int
    text: Callable[[Row], str]
    sort: str = ""


def _optional(value: float | None, form: Callable[[float], str]) -> str:
    return "?" if value is None else form(value)


_COLUMNS: tuple[Column, ...] = (
    Column("PID", 8, 0, lambda r: r.key),
    Column("PROCS", 6, 2, lambda r: str(r.processes), "processes"),
    Column("CPU", 6, 0, lambda r: f"{100 * r.cpu:.1f}", "cpu"),
    Column("RUNQ", 6, 1, lambda r: _optional(r.runq_share, percent), "runq"),
    Column("VOL/s", 7, 3, lambda r: _optional(r.voluntary, si_short), "voluntary"),
    Column("INVOL/s", 8, 5, lambda r: _optional(r.involuntary, si_short), "involuntary"),
    Column("FAULT/s", 8, 4, lambda r: si_short(r.faults), "faults"),
    Column("RES", 9, 0, lambda r: size(r.resident), "memory"),
    Column("IO/s", 9, 2, lambda r: _optional(r.io, size), "io"),
    Column("THR", 5, 3, lambda r: str(r.threads), "threads"),
    Column("TIME", 9, 4, lambda r: clock(r.time_s), "time"),
)
_LEAST_NAME = 16


def si_short(value: float) -> str:
    """Return a rate in at most 6 cells."""
    return si(round(value)) if value >= 9.5 or value == 0 else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class TopView:
    """Everything on the screen."""

    rows: tuple[Row, ...] = ()
    counted: tuple[int, int] = (0, 0)
    sort: str = "cpu"
    by_cgroup: bool = False
    interval_s: float = 2.0
    search: str = ""
    typing: bool = False
    """The search is being typed."""
    paused: bool = False
    help: bool = False
    ready: bool = False
    """Two looks have been taken."""


def top_frame(view: TopView, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Return exactly ``height`` rows of at most ``width`` cells."""
    rows = [_head(view, width, glyphs)]
    if view.help:
        rows += [row((f"  {key:<12}", g.STRONG), fit(text, max(width - 14, 0))) for key, text in HELP]
    else:
        rows += table(view, width, max(height - 2, 0), glyphs)
    rows = rows[: max(height - 1, 0)]
    rows += [row("")] * (height - 1 - len(rows))
    rows.append(_foot(view, width, glyphs))
    for text in rows:
        text.truncate(width)
    return rows[-height:]


def _head(view: TopView, width: int, glyphs: Glyphs) -> Text:
    processes, threads = view.counted
    cores = sum(r.cpu for r in view.rows)
    what = "cgroups" if view.by_cgroup else "processes"
    parts = [
        f"{processes} processes, {threads} threads",
        f"shown {cores:.2f} cores",
        f"{what} by {view.sort}",
        f"every {view.interval_s:g} s",
        *([f"only {plain(view.search)!r}"] if view.search and not view.typing else []),
        *(["paused"] if view.paused else []),
    ]
    return row(
        ("dna top ", g.ACCENT),
        fit(glyphs.text(" · ".join(parts)), max(width - 8, 0), ellipsis=glyphs.ellipsis),
    )


def _foot(view: TopView, width: int, glyphs: Glyphs) -> Text:
    if view.typing:
        return row((fit(f"/{plain(view.search)}_  (Return keeps, Escape clears)", width), g.STRONG))
    keys = "q quit  space pause  / search  P CPU  M memory  T time  C cgroups  ? help"
    return row((fit(keys, width, ellipsis=glyphs.ellipsis), g.DIM))


def chosen_columns(width: int, *, by_cgroup: bool) -> list[Column]:
    """Return the columns that fit beside a name, the least important left out."""
    columns = [c for c in _COLUMNS if c.title != ("PID" if by_cgroup else "PROCS")]
    while sum(c.width for c in columns) + _LEAST_NAME > width and any(c.importance for c in columns):
        columns.remove(max(reversed(columns), key=lambda c: c.importance))
    return columns


def table(view: TopView, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Return the head of the table and as many rows as fit below it."""
    columns = chosen_columns(width, by_cgroup=view.by_cgroup)
    space = max(width - sum(c.width for c in columns) - 1, 0)
    place = space - 18 if space >= 18 + _LEAST_NAME else 0
    name = space - place
    head = row(*[(f"{c.title:>{c.width}}", g.ACCENT if c.sort == view.sort else g.TITLE) for c in columns], " ")
    head.append(fit("CGROUP" if view.by_cgroup else "COMMAND", name).ljust(name), g.TITLE)
    if place:
        head.append(fit("BUSIEST" if view.by_cgroup else "WHERE", place), g.TITLE)
    shown = ordered(view.rows, sort=view.sort, search=view.search)[: max(height - 1, 0)]
    if not shown:
        reason = "nothing matches the search" if view.search else "nothing there"
        return [head, row((fit(reason if view.ready else "measuring", width), g.DIM))][:height]
    return [head, *(_row(r, columns, name, place, view.sort, glyphs) for r in shown)][:height]


def _row(r: Row, columns: Sequence[Column], name: int, place: int, sort: str, glyphs: Glyphs) -> Text:
    text = row(*[(glyphs.text(c.text(r)).rjust(c.width), g.STRONG if c.sort == sort else "") for c in columns], " ")
    label = fit(glyphs.text(plain(r.name)), name - bool(place), ellipsis=glyphs.ellipsis)
    text.append(label)
    if place:
        text.pad_right(name - Text(label).cell_len)
        text.append(fit(glyphs.text(plain(r.where)), place, ellipsis=glyphs.ellipsis), g.DIM)
    return text


# --- loops


def watch_plainly(
    source: Source, console: Console, view: TopView, *, count: int | None, limit: int, sleep: Callable[[float], None]
) -> None:
    """Print one table a refresh, ``count`` of them or until interrupted."""
    glyphs = glyphs_for(console)
    source.look(sort=view.sort, rows=limit, search=view.search)
    printed = 0
    while count is None or printed < count:
        sleep(view.interval_s)
        rows = source.look(sort=view.sort, rows=limit, search=view.search)[:limit]
        shown = replace(view, rows=tuple(rows), counted=source.counted, ready=True)
        if printed:
            console.print()
        console.print(_head(shown, console.width, glyphs))
        for text in table(shown, console.width, limit + 1, glyphs):
            console.print(text)
        printed += 1


def watch_json(
    source: Source,
    write: Callable[[str], None],
    view: TopView,
    *,
    count: int | None,
    limit: int,
    sleep: Callable[[float], None],
) -> None:
    """Write one JSON document a line and refresh, ``count`` of them or until interrupted."""
    source.look(sort=view.sort, rows=limit)
    written = 0
    while count is None or written < count:
        sleep(view.interval_s)
        rows = [found.to_json() for found in source.look(sort=view.sort, rows=limit)[:limit]]
        by = "cgroup" if view.by_cgroup else "process"
        write(json.dumps({"t": time.time(), "interval_s": view.interval_s, "by": by, "sort": view.sort, "rows": rows}))
        written += 1


class TopLive:
    """The live table: one thread waits for keys, the next refresh, or another size."""

    def __init__(self, source: Source, console: Console, view: TopView, *, count: int | None, keys: Keys) -> None:
        self._source = source
        self._keys = keys
        self._screen = Screen(console, keys)
        self._glyphs = glyphs_for(console)
        self._newest: tuple[Row, ...] = ()
        self._left = count
        self._over = False
        self.view = view

    def run(self) -> None:
        """Show until a key, an interrupt or the count ends it."""
        with self._screen:
            self._look()
            self._draw()
            due = time.monotonic() + min(
                self.view.interval_s, 0.5
            )  # the first look tells nothing yet: take the next soon
            size_before = self._screen.size()
            while not self._over:
                for key in self._keys.wait(min(due - time.monotonic(), 1.0)):
                    self.press(key)
                if self._screen.size() != size_before:
                    size_before = self._screen.size()
                    self._screen.forget()
                    self._draw()
                if time.monotonic() >= due:
                    due = time.monotonic() + self.view.interval_s
                    self._refresh()

    def _look(self) -> None:
        view = self.view
        visible = max(self._screen.size()[1] - 3, 1)
        self._newest = tuple(self._source.look(sort=view.sort, rows=visible, search=view.search)[:visible])

    def _refresh(self) -> None:
        self._look()
        if not self.view.paused:
            self.view = replace(self.view, rows=self._newest, counted=self._source.counted, ready=True)
            self._draw()
        if self._left is not None:
            self._left -= 1
            self._over = self._over or self._left <= 0

    def press(self, key: str) -> None:
        """Act on a key."""
        self.view, quit_ = pressed(self.view, key)
        self._over = self._over or quit_
        if self._source.by_cgroup != self.view.by_cgroup:
            self._source.by_cgroup = self.view.by_cgroup
            self.view = replace(self.view, rows=(), ready=False)
        self._draw()

    def _draw(self) -> None:
        self._screen.draw(top_frame(self.view, *self._screen.size(), self._glyphs))


def pressed(view: TopView, key: str) -> tuple[TopView, bool]:
    """Return the view after a key, and whether to quit."""
    if view.typing:
        return _typed(view, key), False
    if key in "qQ":
        return view, True
    if key == " ":
        return replace(view, paused=not view.paused), False
    if key == "/":
        return replace(view, typing=True, search="", help=False), False
    if key in "?hH" or (key == "\x1b" and view.help):
        return replace(view, help=not view.help), False
    if key in "cC":
        return replace(view, by_cgroup=not view.by_cgroup, help=False), False
    sort = KEYS.get(key.lower())
    if sort is None:
        return view, False
    return replace(view, sort=sort, help=False), False


def _typed(view: TopView, key: str) -> TopView:
    if key in "\r\n":
        return replace(view, typing=False)
    if key == "\x1b":
        return replace(view, typing=False, search="")
    if key in "\x7f\b":
        return replace(view, search=view.search[:-1])
    return replace(view, search=view.search + key) if key.isprintable() else view
