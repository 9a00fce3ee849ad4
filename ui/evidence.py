"""What the conditions of a rule found: the value beside the threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from rules.language import Evidence
from ui.glyphs import ACCENT, DIM, STRONG, Glyphs
from ui.units import plain

_WORDS = {True: "holds", False: "does not hold", None: "cannot tell"}
_STYLES = {True: "", False: DIM, None: ACCENT}


def evidence_table(found: Iterable[Evidence], glyphs: Glyphs, *, verdict: bool = True) -> Table:
    """Return conditions, one a row, those that one is made of below it: the text, the value, how far it is from the threshold.

    Args:
        verdict: whether each holds stands beside it; not needed where all do.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(4 if verdict else 3):
        table.add_column(overflow="fold")
    for depth, one in _flat(found, 0):
        cells = [("  " * depth + one.text, ""), (one.actual, STRONG), (margin_words(one), DIM)]
        if verdict:
            cells.append((_WORDS[one.truth], _STYLES[one.truth]))
        table.add_row(*(Text(glyphs.text(plain(text)), style=style) for text, style in cells))
    return table


def margin_words(one: Evidence) -> str:
    """Return how far a value is from its threshold, as a share of that; "" where that says nothing."""
    if one.margin is None:
        return ""
    if abs(one.margin) >= 10:
        return f"{1 + one.margin:.3g} times the threshold" if one.margin > 0 else ""
    return f"margin {one.margin:+.0%}"


def evidence_json(one: Evidence) -> dict[str, object]:
    """Return what a condition found as JSON data."""
    return {
        "condition": one.text,
        "holds": one.truth,
        "actual": one.actual or None,
        "threshold": one.threshold or None,
        "margin": one.margin,
        "parts": [evidence_json(part) for part in one.parts],
    }


def _flat(found: Iterable[Evidence], depth: int) -> Iterator[tuple[int, Evidence]]:
    for one in found:
        yield depth, one
        yield from _flat(one.parts, depth + 1)
