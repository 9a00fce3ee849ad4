"""The report of ``dna doctor``: a verdict, then everything found under its heading, what is missing with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hal.capabilities import CHANGE, MEASURE, Capability, Report
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, glyphs_for
from ui.units import plain, size

_TITLES = {MEASURE: "What can be measured", CHANGE: "What could be changed"}
_MARKS = {True: ("✓", "ok"), False: ("✗", "--"), None: ("?", "??")}
_STYLES = {True: "cyan", False: ACCENT, None: ACCENT}
_NAME_WIDTH = 22
_MANY = 3
"""From so many alike on, capabilities share a line."""


class DoctorView:
    """Renders a report at any width, with or without colour, in UTF-8 or ASCII."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = glyphs_for(console)
        ascii_only = glyphs.micro != "µ"

        def text(value: str, style: str = "") -> Text:
            return Text(glyphs.text(plain(value)), style=style)

        yield text(machine_line(self._report), STRONG)
        yield text(topology_line(self._report), DIM)
        yield Text()
        for sentence in self._report.verdict():
            yield _hanging(text(glyphs.dot), text(sentence))
        for group, title in _TITLES.items():
            members = [one for one in self._report.capabilities if one.group == group]
            if not members:
                continue
            yield Text()
            yield text(f"{title} ({sum(one.available is True for one in members)} of {len(members)})", TITLE)
            for area, found in groupby(members, key=lambda one: one.area):
                if area != group:
                    yield text(f" {area}", STRONG)
                yield _table(list(found), text, width=options.max_width, ascii_only=ascii_only)


def machine_line(report: Report) -> str:
    """Return model, kernel and container in one line."""
    where = f"in a container ({report.situation.container})" if report.situation.container else ""
    parts = [report.model, f"Linux {report.situation.release} {report.architecture}".strip(), where]
    return " · ".join(part for part in parts if part)


def topology_line(report: Report) -> str:
    """Return the topology in one line, with where it was read."""
    shape = report.topology
    if shape is None:
        return f"topology unknown: {report.topology_error}"
    counts = [
        _count(shape.cpu_count, "CPU"),
        _count(shape.core_count, "core"),
        _count(shape.packages, "package"),
        _count(shape.llc_count, "LLC"),
        _count(shape.node_count, "NUMA node"),
        size(shape.memory_bytes) if shape.memory_bytes else "",
    ]
    return " · ".join([*(part for part in counts if part), f"by {shape.source}"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Textual(Protocol):
    def __call__(self, value: str, style: str = "") -> Text: ...


def _table(found: Sequence[Capability], text: _Textual, *, width: int, ascii_only: bool) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=2, no_wrap=True, overflow="crop")
    table.add_column(width=min(_NAME_WIDTH, width // 3), overflow="fold")
    table.add_column(overflow="fold")
    for alike in _merged(found):
        first = alike[0]
        mark = _MARKS[first.available][ascii_only]
        table.add_row(text(mark, _STYLES[first.available]), text(_name(alike)), Group(*_words(alike, text)))
    return Padding(table, (0, 0, 0, 2))


def _merged(found: Sequence[Capability]) -> list[list[Capability]]:
    """Return capabilities in order; those that differ by name only together, where the first of them stands."""
    alike: dict[object, list[Capability]] = {}
    for one in found:
        alike.setdefault((one.available, one.detail, one.reason, one.remedy), []).append(one)
    merged = {id(members[0]): members for members in alike.values() if len(members) >= _MANY}
    inside = {id(one) for members in merged.values() for one in members}
    return [merged.get(id(one), [one]) for one in found if id(one) in merged or id(one) not in inside]


def _name(alike: Sequence[Capability]) -> str:
    if len(alike) == 1:
        return alike[0].name
    prefix = alike[0].name.partition(" ")[0]
    return f"{len(alike)} {prefix} {'events' if prefix == 'perf' else 'kinds'}"


def _words(alike: Sequence[Capability], text: _Textual) -> Iterator[RenderableType]:
    first = alike[0]
    shown = " - ".join(part for part in (first.detail, first.reason) if part)
    if shown:
        yield text(shown, "" if first.available is not True else DIM if not first.reason else "")
    if len(alike) > 1:
        prefix = first.name.partition(" ")[0] + " "
        yield text(", ".join(one.name.removeprefix(prefix) for one in alike), DIM)
    if first.remedy:
        yield _hanging(text("→"), text(first.remedy))
    if not shown and len(alike) == 1 and not first.remedy:
        yield Text()


def _hanging(mark: Text, body: Text) -> Table:
    """Return text whose further lines stand under its first, after a mark."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1, no_wrap=True, overflow="crop")
    table.add_column(overflow="fold")
    table.add_row(mark, body)
    return table
