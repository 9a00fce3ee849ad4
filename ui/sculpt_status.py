"""How runs of the loop stand, as ``dna sculpt status`` tells it: from the answers of ``sculpt.control``, which may be of another version."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from rl.policy import BASELINE
from sculpt.told import Gain
from ui import glyphs as g
from ui.glyphs import Glyphs
from ui.sculpt_words import EVENTS, gain_words, per_cent, span
from ui.units import percent, plain, si
from ui.view import number, numbers, numbers_or_text, records

LABEL = 10
SHOWN_NEWS = 3


def effect(gain: float | None, interval: object = None) -> str:
    """Return a gain (difference of logarithms) as people read it, with its limits; those that are None are not known yet."""
    if gain is None:
        return "not known yet"
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return gain_words(Gain(gain))
    low, high = (math.inf if limit is None else limit for limit in interval)
    return gain_words(Gain(gain, low, high))


def doing(workload: Mapping[str, Any]) -> str:
    """Return what the loop does with a workload, in words."""
    candidate = plain(str(workload.get("candidate") or "something"))
    match workload.get("activity"):
        case "trying":
            block = int(number(workload, "blocks") or 0) + 1
            return f"trying {candidate}, block {block}{_so_far(workload)}"
        case "judging":
            return f"judging {candidate}, which was made for good"
        case "blind":
            return "cannot judge: there is no measurement"
        case "holding":
            return f"holding {plain(str(workload.get('in_force')))}"
    return "watching"


def _so_far(workload: Mapping[str, Any]) -> str:
    gain = number(workload, "gain")
    return "" if gain is None or not number(workload, "blocks") else f": {per_cent(gain)} so far"


def answer(run: Mapping[str, Any], glyphs: Glyphs) -> RenderableType:
    """Return in one line what a run was told, and how it stands since."""
    return Text(glyphs.text(f"{plain(str(run.get('run')))}: {switch(run) or 'goes on'}"))


def status(runs: Iterable[Mapping[str, Any]], glyphs: Glyphs, *, now: float | None = None) -> RenderableType:
    """Return how runs stand, one after the other."""
    moment = time.time() if now is None else now
    lines: list[Text] = []
    for run in runs:
        lines += [Text()] if lines else []
        lines += run_lines(run, moment)
    for line in lines:
        line.plain = glyphs.text(line.plain)
    return Group(*lines)


def ending(run: Mapping[str, Any], glyphs: Glyphs) -> RenderableType:
    """Return what a run that is over came to: what is in force since, and of each workload what was kept and what happened last."""
    lines = [Text(switch(run), style=g.STRONG)]
    for workload in records(run, "workloads"):
        lines.append(Text.assemble("  ", (plain(str(workload.get("workload"))), g.TITLE)))
        kept = numbers_or_text(workload, "kept")
        lines.append(_fact("was kept", _kept(kept) if kept else "nothing"))
        lines += _news_lines(workload)
    for line in lines:
        line.plain = glyphs.text(line.plain)
    return Group(*lines)


def run_lines(run: Mapping[str, Any], now: float) -> Iterable[Text]:
    """Yield how one run stands."""
    head = Text.assemble((f"{plain(str(run.get('run') or '?'))}", g.STRONG), f"  pid {run.get('pid')}, {_mode(run)}")
    head.append(f", every {number(run, 'interval_s') or 0:g} s, for {span(now - (number(run, 'since') or now))}")
    yield head
    if what := switch(run):
        yield Text(f"  {what}", style=g.ACCENT)
    if run.get("ended"):
        return
    workloads = records(run, "workloads")
    if not workloads:
        yield Text("  no workload has been watched for an interval yet")
    for workload in workloads:
        yield from workload_lines(workload, run)
    own = numbers(run, "own")
    yield Text(f"  {'own cost':<{LABEL}}{percent(own.get('share', 0.0))} of a core", style=g.DIM)


def _mode(run: Mapping[str, Any]) -> str:
    return f"mode {plain(str(run.get('mode')))}"


def switch(run: Mapping[str, Any]) -> str:
    """Return whether a run is paused, ending or over."""
    ended = numbers_or_text(run, "ended")
    if ended:
        return plain(f"ended ({ended.get('why')}); in force: {ended.get('in_force') or BASELINE}")
    if run.get("stopping"):
        return "ending"
    if not run.get("paused"):
        return ""
    left = number(run, "paused_for_s")
    return "paused: nothing new is begun" + ("" if left is None else f"; goes on in {span(left)}")


def workload_lines(workload: Mapping[str, Any], run: Mapping[str, Any]) -> Iterable[Text]:
    """Yield how one workload of a run stands."""
    yield Text.assemble(
        "  ", (plain(str(workload.get("workload"))), g.TITLE), f"  {doing(workload)}", _late(workload, run)
    )
    for name, words in _facts(workload, run):
        yield _fact(name, words)
    yield from _news_lines(workload)


def _fact(name: str, words: str) -> Text:
    return Text.assemble("    ", (f"{name:<{LABEL}}", g.DIM), plain(words))


def _news_lines(workload: Mapping[str, Any]) -> Iterable[Text]:
    for news in records(workload, "news")[-SHOWN_NEWS:]:
        yield _fact(time.strftime("%H:%M:%S", time.localtime(number(news, "t") or 0)), news_words(news))


def news_words(news: Mapping[str, Any]) -> str:
    """Return one thing that happened, in one line."""
    kind, text = str(news.get("kind")), str(news.get("text"))
    if kind == "alert":
        return plain(f"! {text}")
    gain = number(news, "gain")
    measured = "" if gain is None else effect(gain, news.get("interval"))
    words = (EVENTS.get(kind, kind), str(news.get("candidate") or ""), measured)
    return plain(f"{' '.join(word for word in words if word)}: {text}")


def _facts(workload: Mapping[str, Any], run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if workload.get("mode") not in (None, run.get("mode")):
        yield "mode", str(workload.get("mode"))
    if (number(workload, "interval_s") or 0) > (number(run, "interval_s") or 0) > 0:
        yield "slowed", f"every {number(workload, 'interval_s'):g} s, since it costs more than it may"
    yield "in force", str(workload.get("in_force"))
    kept = numbers_or_text(workload, "kept")
    if kept:
        yield "kept", _kept(kept)
    yield "judged by", judged(workload)
    room = number(workload, "room_s")
    if room is not None:
        yield "budget", f"{span(max(room, 0.0))} of the baseline's worth left"
    if proposed := workload.get("proposed"):
        yield "proposed", ", ".join(str(one) for one in proposed)
    for name, why in numbers_or_text(workload, "held").items():
        yield "held", f"{name}: {why}"


def _kept(kept: Mapping[str, object]) -> str:
    return f"{kept.get('name')}: {effect(number(kept, 'gain'), kept.get('interval'))}"


def judged(workload: Mapping[str, Any]) -> str:
    """Return by what a workload is judged, and what it was last."""
    metrics = numbers_or_text(workload, "metrics")
    values = ", ".join(
        f"{name} {si(value) if isinstance(value, float | int) else '?'}" for name, value in metrics.items()
    )
    why = workload.get("why_not")
    return "; ".join(part for part in (values, f"not measured: {why}" if why else "") if part) or "nothing"


def _late(workload: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    age, interval = number(workload, "age_s"), number(workload, "interval_s") or number(run, "interval_s")
    if age is None or not interval or age < 3 * interval or run.get("ended"):
        return ""
    return f", and nothing heard for {span(age)}"
