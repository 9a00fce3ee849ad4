"""What the conditions of a rule found: the value beside the threshold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rules.language import Evidence
from ui.glyphs import ACCENT, DIM, STRONG, Glyphs
from ui.units import plain

_UNKNOWN = re.compile(r"~\(\(?([^()]+?)\)?\.is_known\)")
_WORDS = {True: "holds", False: "does not hold", None: "cannot tell"}
_STYLES = {True: "", False: DIM, None: ACCENT}


def evidence_table(found: Iterable[Evidence], glyphs: Glyphs) -> Table:
    """Return conditions, one a row, those that one is made of below it: the text, the value, how far it is from the
    threshold, and whether it holds."""
    table = _table(4)
    for depth, one in _flat(found, 0):
        verdict = (_WORDS[one.truth], _STYLES[one.truth])
        _row(table, glyphs, ("  " * depth + one.text, ""), (_value(one), STRONG), (margin_words(one), DIM), verdict)
    return table


def reasons(found: Iterable[Evidence], glyphs: Glyphs) -> list[RenderableType]:
    """Return what made conditions hold: of alternatives the one that did, and in one line what is unknown and was let pass."""
    table, passed = _table(3), dict[str, None]()
    for one in (leaf for evidence in found for leaf in decisive(evidence)):
        if unknown := _UNKNOWN.fullmatch(one.text):
            passed[unknown[1]] = None
        else:
            _row(table, glyphs, (one.text, ""), (_value(one), STRONG), (margin_words(one), DIM))
    parts: list[RenderableType] = [table] if table.row_count else []
    if passed:
        parts.append(
            Text(glyphs.text(plain(f"unknown, which does not count against it: {', '.join(passed)}")), style=DIM)
        )
    return parts


def decisive(one: Evidence) -> Iterator[Evidence]:
    """Yield the comparisons that made a condition hold; of one that does not hold, itself."""
    held = [part for part in one.parts if part.truth is True]
    if one.truth is not True or not one.parts:
        yield one
    elif one.text.startswith("~"):  # none of its parts holds: what they looked at is said once
        values = dict.fromkeys(part.actual for part in one.parts if part.actual)
        yield Evidence(one.text, one.truth, ", ".join(values))
    elif len(held) == len(one.parts):
        for part in held:
            yield from decisive(part)
    elif held:
        yield from decisive(min(held, key=lambda part: bool(_UNKNOWN.fullmatch(part.text))))
    else:
        yield one


def _table(columns: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column(overflow="fold")
    return table


def _row(table: Table, glyphs: Glyphs, *cells: tuple[str, str]) -> None:
    table.add_row(*(Text(glyphs.text(plain(text)), style=style) for text, style in cells))


def _value(one: Evidence) -> str:
    """Return the value found; the threshold too where the condition does not state it as a number."""
    limit = one.threshold.rpartition(" ")[0] and one.threshold
    stated = not limit or one.margin is None or not re.search(r"[<>=] .*[a-z]+\.[a-z]", one.text)
    return one.actual if stated else f"{one.actual} {limit}"


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
