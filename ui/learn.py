"""What was learned as a table, and what came of removing, importing and replaying it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rl.learned import Learned
from rl.lessons import Lesson
from rl.replay import Estimate
from ui.glyphs import Glyphs
from ui.history import ago
from ui.sculpt_words import per_cent

_OUTCOMES = {
    "promoted": "kept",
    "confirmed": "still pays",
    "rolled back": "worse",
    "undecided": "no better",
    "made": "made for good",
}
_COLUMNS = ("configuration", "gain", "95 %", "expected", "trials", "last", "came to", "quarantine")


def lessons_table(lessons: Sequence[Lesson], now: float, glyphs: Glyphs) -> RenderableType:
    """Return the arms of each kind of workload, the largest gain first; ``now`` is Unix time."""
    parts: list[RenderableType] = []
    for (workload, objective), members in groupby(lessons, key=lambda one: (one.workload, one.objective)):
        table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, pad_edge=False)
        for name in _COLUMNS:
            right = name in ("gain", "95 %", "expected", "trials")
            table.add_column(name, overflow="fold", justify="right" if right else "left")
        for one in members:
            table.add_row(*(glyphs.text(cell) for cell in _cells(one, now)))
        parts += [Text.assemble((workload or "?", "bold"), f", by {objective}"), table]
    return Group(*parts)


def lessons_json(lessons: Sequence[Lesson]) -> list[dict[str, object]]:
    """Return the same as data; gains are differences of logarithms, times Unix time."""
    return [asdict(one) for one in lessons]


def nothing_learned(path: object, filtered: bool) -> str:
    """Return why there is nothing to show."""
    if filtered:
        return "Nothing of that was learned; see `dna learn show`."
    return f"Nothing was learned yet, in {path}: `dna sculpt --mode apply` learns."


def replay_table(
    decisions: int, was: Estimate, found: Mapping[str, tuple[Estimate, Estimate]], glyphs: Glyphs
) -> RenderableType:
    """Return what policies would have gained, by matching and by model."""
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, pad_edge=False)
    for name in ("policy", "by decisions that match", "if gains are as the model has them"):
        table.add_column(name, overflow="fold")
    table.add_row("as it was", _estimate(was, "measured"), "")
    for way, (matching, model) in found.items():
        rests = f"{matching.decisions:.0f} of {decisions} match"
        table.add_row(way, *(glyphs.text(cell) for cell in (_estimate(matching, rests), _estimate(model, ""))))
    return Group(
        Text(f"{_count(decisions, 'decision')}: mean gain of what would have been tried, for each; limits at 95 %"),
        table,
    )


def _estimate(one: Estimate, rests: str) -> str:
    if one.gain is None or one.interval is None:
        return f"cannot be told: {one.why_not}"
    limits = f"{per_cent(one.gain)} ({per_cent(one.interval[0])} .. {per_cent(one.interval[1])})"
    return f"{limits}, {rests}" if rests else limits


def contents(learned: Learned) -> str:
    """Return in words how much there is."""
    words = [
        _count(len(learned.trials), "trial"),
        _count(len(learned.proofs), "proof"),
        _count(len(learned.sentences), "sentence of quarantine", "sentences of quarantine"),
    ]
    return f"{words[0]}, {words[1]} and {words[2]}"


def _cells(one: Lesson, now: float) -> Iterable[str]:
    yield one.arm
    yield "" if one.gain is None else per_cent(one.gain)
    yield "" if one.interval is None else f"{per_cent(one.interval[0])} .. {per_cent(one.interval[1])}"
    yield "" if one.expected is None else per_cent(one.expected)
    yield f"{one.trials} in {_count(one.runs, 'run')}" if one.trials else ""
    yield ago(max(now - one.last, 0.0))
    yield ", ".join(_came_to(one))
    yield "" if one.until is None or one.until <= now else f"until {_moment(one.until, now)}"


def _came_to(one: Lesson) -> Iterable[str]:
    if one.is_proven:
        yield "proven"
    elif one.outcome:
        yield _OUTCOMES.get(one.outcome, one.outcome)
    if one.is_imported:
        yield "imported"


def _moment(t: float, now: float) -> str:
    pattern = "%H:%M:%S" if time.localtime(t)[:3] == time.localtime(now)[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(pattern, time.localtime(t))


def _count(number: int, word: str, words: str = "") -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"
