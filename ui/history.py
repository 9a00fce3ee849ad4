"""Stored profiles, differences and resemblances as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dna.compare import Difference, Verdict
from dna.features import BY_NAME
from dna.library import Drift, Trait
from dna.stored import SYSTEM, Stored
from dna.vector import Match, Profile
from ui.frame import target_line
from ui.glyphs import DIM, STRONG, TITLE, Glyphs, bar
from ui.units import clock, plain, three_digits, value_with_unit

_AGES = ((86400 * 365.25, "y"), (86400, "d"), (3600, "h"), (60, "m"))
_WIDE = 110
"""From this width on there is room for bars and reasons."""
_VERDICT_STYLE = {Verdict.REAL: STRONG, Verdict.NOISE: DIM, Verdict.UNCLEAR: ""}


def ago(seconds: float) -> str:
    """Return how long ago, such as ``3m ago``."""
    for size, unit in _AGES:
        if seconds >= size:
            return f"{int(seconds / size)}{unit} ago"
    return "now" if seconds < 1 else f"{int(seconds)}s ago"


def profiles_table(profiles: Sequence[Stored], now: float, glyphs: Glyphs) -> RenderableType:
    """Return stored profiles, one a row; ``now`` is Unix time in seconds."""
    table = _table("id", "name", "target", "started", ">for", ">intervals", ">novelty")
    for stored in profiles:
        novelty = three_digits(stored.dna.novelty) if stored.dna else "?"
        cells = (stored.id, plain(stored.name), target_line(stored.target), ago(now - stored.started))
        _row(table, (*cells, clock(stored.duration_s), str(stored.intervals), novelty), glyphs)
    return table


def nothing_stored(path: Path, name: str | None) -> str:
    """Return why a list is empty and what to do."""
    if name is not None:
        return f"No profile is named {name!r}; see `dna list`."
    hint = f"No profiles in {path} yet; `dna profile` stores each one it makes."
    if _there(SYSTEM) and path != Path(SYSTEM):
        hint += f"\nThose taken with sudo are root's, in {SYSTEM}: sudo dna list"
    return hint


def differences(
    a: Profile, b: Profile, found: Sequence[Difference], drift: Drift | None, glyphs: Glyphs, *, limit: int, width: int
) -> RenderableType:
    """Return what differs between two profiles, the first ``limit`` rows, for a console of ``width`` cells."""
    head = [_side("A", a, glyphs), _side("B", b, glyphs), _drift_line(drift, glyphs)]
    shown = found[:limit]
    wide = width >= _WIDE
    # The name is read first and never cut; what it means is in `dna features`.
    table = _table("feature", ">A", ">B", *(["difference"] if wide else [">B-A"]), ">p", "is it real?")
    if not wide:
        table.padding = 0
    for d in shown:
        size = "" if d.scaled is None else f"{d.scaled:+.2f}"
        size += f" {bar(abs(d.scaled), 8, glyphs)}" if wide and d.scaled is not None else ""
        p = "" if d.p is None else "<.001" if d.p < 0.001 else f"{d.p:.3f}"
        answer = f"{d.verdict}: {d.why}" if wide and d.verdict is Verdict.UNCLEAR else str(d.verdict)
        values = (value_with_unit(d.a, d.unit), value_with_unit(d.b, d.unit))
        _row(table, (d.name, *values, size, p, answer), glyphs, style=_VERDICT_STYLE[d.verdict])
    return Group(*head, "", table, Text(glyphs.text(_foot(found, len(shown))), style=DIM))


def resemblance(matches: Sequence[Match], traits: Sequence[Trait], glyphs: Glyphs) -> RenderableType:
    """Return the nearest labelled workloads, and what sets this one apart from all of them."""
    near = _table("workload", ">distance", ">runs")
    for match in matches:
        _row(near, (plain(match.label), three_digits(match.distance), str(match.runs)), glyphs)
    if not traits:
        return near
    apart = _table("sets it apart", ">here", ">usual", "")
    for trait in traits:
        unit = BY_NAME[trait.name].unit
        values = (value_with_unit(trait.value, unit), value_with_unit(trait.usual, unit))
        _row(apart, (trait.name, *values, BY_NAME[trait.name].meaning), glyphs)
    return Group(near, apart)


def _there(path: str) -> bool:
    try:
        return Path(path).exists()
    except PermissionError:
        return True  # the directory is root's alone, which is how root's history is made


def _side(letter: str, profile: Profile, glyphs: Glyphs) -> Text:
    name = f"{plain(profile.name)} " if profile.name else ""
    text = f"{letter}  {name}{profile.id} · {target_line(profile.target)} · {len(profile.intervals)} intervals"
    return Text(glyphs.text(text), style=STRONG)


def _drift_line(drift: Drift | None, glyphs: Glyphs) -> Text:
    if drift is None:
        return Text("Vectors cannot be compared: one has none, or their models differ.", style=DIM)
    text = f"Vectors are {three_digits(drift.distance)} apart"
    if drift.ratio is not None:
        text += f", {three_digits(drift.ratio)} × how much they vary within a profile"
    return Text(glyphs.text(text + "."))


def _foot(found: Sequence[Difference], shown: int) -> str:
    counts = ", ".join(f"{sum(d.verdict is verdict for d in found)} {verdict}" for verdict in Verdict)
    more = f" {len(found) - shown} smaller ones not shown; --all shows them." if shown < len(found) else ""
    meaning = (
        "Difference is a share of the scale; p is of the rank test over intervals, adjusted for all that is compared."
    )
    return f"Of {len(found)}: {counts}.{more}\n{meaning}"


def _table(*heads: str) -> Table:
    """Return an empty table; a head that begins with ``>`` is of numbers, to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style=TITLE)
    for head in heads:
        if head.startswith(">"):
            table.add_column(head[1:], justify="right", no_wrap=True)
        else:
            table.add_column(head, overflow="fold", no_wrap=head in ("id", "feature"))
    return table


def _row(table: Table, cells: Sequence[str], glyphs: Glyphs, *, style: str = "") -> None:
    # Text, not str: a name may hold what Rich would read as markup.
    table.add_row(*(Text(glyphs.text(cell)) for cell in cells), style=style or None)
