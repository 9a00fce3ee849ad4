"""A run told on the terminal, and as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sculpt.aftermath import Now
from sculpt.listing import Brief
from sculpt.story import Story
from sculpt.told import Alerted, Told
from ui import sculpt_words as words
from ui.glyphs import DIM, STRONG, Glyphs
from ui.units import plain

_STYLES = {"promoted": "green", "made": "green", "confirmed": "green", "rolled back": "yellow"}
_LATEST = 40
"""Events and alerts shown; of more the latest."""
_FULL = 20
"""Trials told in full; of more the latest, the others in a line each."""


def report(story: Story, now: Now, glyphs: Glyphs) -> RenderableType:
    """Return the story of a run: how it went, each decision with its measured effect, how it ended and what is in force now."""
    parts: list[RenderableType] = [*_head(story, now, glyphs)]
    for told in story.workloads:
        parts += _workload(told, glyphs)
    if not story.workloads:
        parts.append(Text("It has no intervals: it ended, or was ended, before the first was over."))
    return Group(*parts, Text(), *_now(now, glyphs))


def _line(text: str, glyphs: Glyphs, style: str = "") -> Text:
    return Text(glyphs.text(plain(text)), style=style)


def _head(story: Story, now: Now, glyphs: Glyphs) -> Iterator[RenderableType]:
    yield _line(f"{story.identity}  {words.target_words(story)}", glyphs, STRONG)
    yield _pairs(words.head_pairs(story), glyphs)
    yield _line(words.ending_words(story, now), glyphs)
    if broken := words.broken_words(story):
        yield _line(broken, glyphs, "yellow")


def _workload(told: Told, glyphs: Glyphs) -> Iterator[RenderableType]:
    yield Text()
    yield _line(told.name, glyphs, STRONG)
    yield _line(words.judged_words(told), glyphs)
    yield _line(words.verdict(told), glyphs)
    yield _pairs(words.totals(told), glyphs)
    yield from _listed("trials before:", [words.trial_line(one) for one in told.trials[:-_FULL]], glyphs)
    for trial in told.trials[-_FULL:]:
        yield Text()
        title = Text.assemble(
            (f"{trial.number}. {words.hour(trial.began)}  ", DIM),
            (glyphs.text(plain(words.tried_words(trial))), STRONG),
            "  ",
            (words.outcome_words(trial), _STYLES.get(trial.outcome, "cyan")),
        )
        yield title
        yield _pairs(words.trial_pairs(trial, told), glyphs)
    yield from _worth(told, glyphs)
    yield from _listed("proposed, and not tried:", [f"{name}: {why}" for name, why in told.held.items()], glyphs)
    yield from _listed(
        "events besides trials:",
        [f"{words.hour(one.t)} {words.turn_words(one)}" for one in words.turns_apart(told)],
        glyphs,
    )
    yield from _listed("alerts:", [_alert(one) for one in told.alerts], glyphs)


def _alert(one: Alerted) -> str:
    kind = f" [{one.kind}]" if one.kind else ""
    return f"{words.hour(one.first)}{kind} {one.text}" + (f" ({one.times} times)" if one.times > 1 else "")


def _pairs(pairs: Iterable[tuple[str, str]], glyphs: Glyphs) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style=DIM)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, _line(value, glyphs))
    return Padding(table, (0, 0, 0, 2))


def _worth(told: Told, glyphs: Glyphs) -> Iterator[RenderableType]:
    if not any(one.measured for one in told.worth):
        return
    yield Text("\nreward by what was in force, as it came (not paired: no proof of anything):")
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, pad_edge=False)
    for column in ("in force", "intervals", "median", "10th to 90th percentile"):
        table.add_column(column, overflow="fold", justify="left" if column == "in force" else "right")
    for one in told.worth:
        spread = f"{words.worth(one.low)} to {words.worth(one.high)}" if one.measured else ""
        table.add_row(_line(one.name, glyphs), str(one.intervals), words.worth(one.median), spread)
    yield table


def _listed(title: str, lines: Sequence[str], glyphs: Glyphs) -> Iterator[RenderableType]:
    if not lines:
        return
    yield Text(f"\n{title}")
    if len(lines) > _LATEST:
        yield _line(f"  ({len(lines) - _LATEST} earlier ones: --json, or --html)", glyphs, DIM)
    yield from (_line(f"  {line}", glyphs) for line in lines[-_LATEST:])


def _now(now: Now, glyphs: Glyphs) -> Iterator[RenderableType]:
    yield _line(words.now_words(now), glyphs, STRONG if now.standing else "")
    for one in now.standing:
        yield _line(f"  {one.title}: {words.settings_words(one.settings)}", glyphs)
        yield _line(f"    {words.undo_words(one)}", glyphs)


def report_json(story: Story, now: Now) -> dict[str, object]:
    """Return the same as data; gains are differences of logarithms, times seconds, and limits that do not exist yet null."""
    data = _strict(
        {
            "run": story.identity,
            "head": dict(story.head),
            "workloads": [_workload_json(told) for told in story.workloads],
            "lines_left_out": story.broken,
            "end": dict(story.end) if story.end else None,
            "going": now.going,
            "in_force_now": [asdict(one) for one in now.standing],
        }
    )
    assert isinstance(data, dict)
    return data


def _strict(value: object) -> object:
    """Return data in which what JSON has no number for is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _strict(one) for name, one in value.items()}
    return [_strict(one) for one in value] if isinstance(value, list | tuple) else value


def _workload_json(told: Told) -> dict[str, object]:
    whole = told.counts.get("intervals", 0)
    return {
        "workload": told.name,
        "judged_by": list(told.judged_by),
        "steps": whole,
        "counts": dict(told.counts),
        "seconds": dict(told.seconds),
        "kept": told.kept,
        "gain": asdict(told.gain) if told.gain else None,
        "parts": [asdict(one) for one in (*told.for_good, *told.standing)],
        "share_in_force": {one.name: one.intervals / whole for one in told.worth},
        "worth": [asdict(one) for one in told.worth],
        "trials": [{**asdict(one), "cost_s": one.cost_s} for one in told.trials],
        "events": [asdict(one) for one in told.turns],
        "alerts": [asdict(one) for one in told.alerts],
        "held": dict(told.held),
        "candidates": {name: dict(what) for name, what in told.known.items()},
        "own_share": {"mean": told.own_mean, "peak": told.own_peak},
        "quarantined": list(told.quarantined),
    }


def listing(runs: Sequence[Brief], glyphs: Glyphs) -> RenderableType:
    """Return the runs whose records are there, the latest last."""
    if not runs:
        return Text("Nothing was recorded yet.")
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, pad_edge=False)
    for column in ("run", "workload", "mode", "began", "length", "ended"):
        table.add_column(column, overflow="fold")
    for one in runs:
        length = "" if one.began is None or one.last is None else words.span(one.last - one.began)
        began = "" if one.began is None else words.day(one.began)
        cells = (one.identity, one.workload, one.mode, began, length, _ended(one))
        table.add_row(*(_line(cell, glyphs) for cell in cells))
    return table


def _ended(one: Brief) -> str:
    if one.trouble:
        return one.trouble
    if one.why is None:
        return "goes on" if one.going else "killed, or cut off"
    return words.ENDS.get(one.why, one.why)


def listing_json(runs: Sequence[Brief]) -> list[dict[str, object]]:
    """Return the same as data."""
    return [asdict(one) for one in runs]
