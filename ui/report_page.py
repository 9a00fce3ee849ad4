"""A run told as one page of HTML that needs nothing else: no network, no script; light or dark as the reader's system is, and for paper.

Everything in it comes from the records and the journal. Texts can only be put in as texts (``ui.markup``), and the page forbids itself to
load or run anything, should one ever get through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from rl.policy import BASELINE
from sculpt.aftermath import Now
from sculpt.story import Story
from sculpt.told import Stretch, Told, Trial
from ui import sculpt_words as words
from ui.markup import Node, document, el
from ui.plots import COLUMNS, SIGNS, Band, Bar, Mark, Plot, Scale, limits_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
MOST_ROWS = 200
"""Rows of a table shown; of more the latest."""
MOST_TRIALS = 60
"""Trials told in full; of more the latest, the others in the table."""
_SIGNS = {
    "promoted": "kept", "made": "made", "confirmed": "kept", "recalled": "kept", "rolled back": "back", "undecided": "even",
}  # fmt: skip
_HEIGHT = 190
_BRIEF = 24
"""Characters that a table always has room for side by side."""


def page(story: Story, now: Now) -> str:
    """Return the page of a run."""
    title = f"{story.identity}: {words.target_words(story)}"
    several = len(story.workloads) > 1
    body = el(
        "main",
        el("header", el("h1", title), _pairs(words.head_pairs(story)), el("p", words.ending_words(story, now), class_="lead")),
        _warning(words.broken_words(story)),
        _contents(story) if several else None,
        *(_workload(told, number, story) for number, told in enumerate(story.workloads)),
        None if story.workloads else el("p", "It has no intervals: it ended, or was ended, before the first was over."),
        _now(now),
    )  # fmt: skip
    return document(el("html", _head(title), el("body", body), lang="en"))


def _head(title: str) -> Element:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        style(),
    )


def style() -> Element:
    """Return the page's looks, which are the only text in it that is not escaped: none of it is anybody's but ours."""
    made = el("style")
    made.text = Path(__file__).with_name("report_page.css").read_text(encoding="utf-8")
    return made


def _contents(story: Story) -> Element:
    items = [el("li", el("a", told.name or "?", href=f"#w{number}")) for number, told in enumerate(story.workloads)]
    return el("nav", el("ul", *items), aria_label="workloads")


def _warning(text: str) -> Node:
    return el("p", text, class_="warning") if text else None


def _pairs(pairs: Iterable[tuple[str, str]]) -> Element:
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in pairs))


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Node]]) -> Node:
    """Return a table; on a narrow page each row becomes a list, in which every value has its column's name."""
    if not rows:
        return None
    more = f" (the latest {MOST_ROWS} of {len(rows)})" if len(rows) > MOST_ROWS else ""
    head = el("tr", *(_cell("th", name, scope="col", role="columnheader") for name in columns), role="row")
    body = [
        el("tr", *(_cell("td", cell, data_label=name, role="cell") for name, cell in zip(columns, row, strict=True)), role="row")
        for row in rows[-MOST_ROWS:]
    ]  # fmt: skip
    parts = el("thead", head, role="rowgroup"), el("tbody", *body, role="rowgroup")
    return el("table", el("caption", caption + more), *parts, role="table")


def _cell(tag: str, content: Node, **attributes: str) -> Element:
    """Return a cell; what is short, such as a number, is not broken."""
    brief = isinstance(content, str) and len(content) <= _BRIEF
    return el(tag, content, class_="brief" if brief else None, **attributes)


def _workload(told: Told, number: int, story: Story) -> Element:
    name = f"w{number}"
    if not told.series.t:
        return _empty(told, name)
    x = Scale(told.series.t[0] - story.interval_s, told.series.t[-1])
    if not x.high > x.low:
        x = Scale(x.high - 1, x.high)
    shown = told.trials[-MOST_TRIALS:]
    return el(
        "section",
        el("h2", told.name or "?", id=f"{name}-name"),
        el("p", words.judged_words(told)),
        el("p", words.verdict(told), class_="lead"),
        _pairs(words.totals(told)),
        *_reward(told, name, x),
        *_budget(told, name, x),
        *_own(told, name, x),
        _worth(told),
        el("h3", "Trials") if told.trials else None,
        _trials_table(told, whole=len(shown) < len(told.trials)),
        *(_trial(trial, told, f"{name}-t{trial.number}") for trial in shown),
        _table("Proposed, and not tried", ("what", "why"), [*map(tuple, told.held.items())]),
        _events(told),
        _alerts(told),
        id=name,
        aria_labelledby=f"{name}-name",
    )


def _empty(told: Told, name: str) -> Element:
    title = el("h2", told.name or "?", id=f"{name}-name")
    return el(
        "section",
        title,
        el("p", words.verdict(told)),
        _pairs(words.totals(told)),
        id=name,
        aria_labelledby=f"{name}-name",
    )


def _figure(plot: Plot, caption: str, *more: Node) -> Element:
    return el("figure", plot.svg(), el("figcaption", caption, *more))


# --- over time


def _reward(told: Told, name: str, x: Scale) -> Iterator[Node]:
    series = told.series
    known = [one for one in series.reward if math.isfinite(one)]
    rows = 2 if told.alerts else 1
    scale = limits_of(series.reward)
    says = f"{len(known)} of {len(series.t)} intervals were measured. {words.verdict(told)}"
    plot = Plot(f"{name}-reward", f"Reward of {told.name} over time", says, x, scale, _HEIGHT, top=16 * rows + 4)
    plot.bands([_band(one) for one in told.stretches])
    if known:
        plot.grid(words.worth)
        plot.series(series.t, series.reward, gaps=series.gaps)
    plot.marks([*_trial_marks(told), *_turn_marks(told), *_alert_marks(told)])
    plot.times()
    none = "" if known else " There is no measurement."
    long = " Of each stretch its range, faintly, and its mean." if len(series.t) > 2 * COLUMNS else ""
    cut = "; the scale does not begin at 0" if scale.low > 0 else ""
    text = f"Reward (greater is better{cut}), and what was in force.{long}{none}{_beyond(known, scale)}"
    yield el("h3", "Reward")
    yield _figure(plot, text, _legend(told))


def _beyond(values: Sequence[float], scale: Scale, show: Callable[[float], str] = words.worth) -> str:
    """Return how many values a scale leaves out; "" where it holds all."""
    beyond = sum(not scale.low <= one <= scale.high for one in values)
    if not beyond:
        return ""
    return f" {beyond} of {len(values)} lie beyond the scale; from {show(min(values))} to {show(max(values))} in all."


def _share(value: float) -> str:
    return f"{value:.1%}"


def _band(one: Stretch) -> Band:
    return Band(
        one.start, one.end, one.role, f"{one.role}: {one.name}, {words.hour(one.start)} to {words.hour(one.end)}"
    )


def _trial_marks(told: Told) -> Iterator[Mark]:
    for trial in told.trials:
        label = f"{trial.number}. {words.tried_words(trial)}"
        yield Mark(trial.began, "begun", f"{label}: begun {words.hour(trial.began)}", text=str(trial.number))
        if trial.ended is not None:
            outcome = f"{label}: {words.outcome_words(trial)} {words.hour(trial.ended)}, {words.gain_words(trial.gain)}"
            yield Mark(trial.ended, _SIGNS.get(trial.outcome, "turn"), outcome)


def _turn_marks(told: Told) -> Iterator[Mark]:
    for turn in words.turns_apart(told):
        if turn.event != "novel":
            yield Mark(turn.t, _SIGNS.get(turn.event, "turn"), f"{words.hour(turn.t)} {words.turn_words(turn)}")


def _alert_marks(told: Told) -> Iterator[Mark]:
    for alert in told.alerts:
        times = f" ({alert.times} times until {words.hour(alert.last)})" if alert.times > 1 else ""
        yield Mark(alert.first, "alert", f"{words.hour(alert.first)} {alert.text}{times}", row=1)


def _legend(told: Told) -> Element:
    roles = dict.fromkeys(one.role for one in told.stretches)
    swatches = [el("li", el("span", class_=f"swatch {role}", aria_hidden="true"), role) for role in roles]
    marks = [(_SIGNS.get(one.outcome, "turn"), words.outcome_words(one)) for one in told.trials if one.outcome]
    marks += [
        (_SIGNS.get(one.event, "turn"), words.event_words(one))
        for one in words.turns_apart(told)
        if one.event != "novel"
    ]
    signs = dict([("begun", "trial begun")] if told.trials else [])
    for sign, meaning in marks:
        signs[sign] = " or ".join(dict.fromkeys([*signs.get(sign, "").split(" or "), meaning])).removeprefix(" or ")
    if told.alerts:
        signs["alert"] = "alert"
    return el("ul", *swatches, *(el("li", _sign(sign), meaning) for sign, meaning in signs.items()), class_="legend")


def _sign(sign: str) -> Element:
    shape = el("path", class_=f"sign {sign}", d=SIGNS[sign])
    return el("svg", shape, viewBox="-8 -8 16 16", width=14, height=14, aria_hidden="true")


def _budget(told: Told, name: str, x: Scale) -> Iterator[Node]:
    series = told.series
    known = [one for one in series.budget if math.isfinite(one)]
    if not known:
        return
    scale = limits_of(known, holds=(0.0,))
    says = (
        f"From {words.span(known[0])} at first to {words.span(known[-1])} at the end; least {words.span(min(known))}."
    )
    plot = Plot(f"{name}-budget", f"What was left of the budget of {told.name} over time", says, x, scale, 110, top=4)
    plot.grid(lambda value: f"{value:g} s")
    plot.series(series.t, series.budget, gaps=series.gaps, kind="line other")
    plot.times()
    yield el("h3", "Budget left")
    yield _figure(
        plot, f"What might still be lost, in seconds of the baseline's worth. {says}{_beyond(known, scale, words.span)}"
    )


def _own(told: Told, name: str, x: Scale) -> Iterator[Node]:
    series = told.series
    known = [one for one in series.own if math.isfinite(one)]
    if not known or told.own_mean is None or told.own_peak is None:
        return
    says = f"{told.own_mean:.2%} of a core on average, {told.own_peak:.2%} at most."
    scale = limits_of(known, holds=(0.0,))
    plot = Plot(f"{name}-own", "CPU time of the loop itself over time", says, x, scale, 110, top=4)
    plot.grid(lambda value: f"{value * 100:g} %")
    plot.series(series.t, series.own, gaps=series.gaps, kind="line other")
    plot.times()
    yield el("h3", "Own cost")
    yield _figure(plot, f"CPU time of the loop itself, of one core. {says}{_beyond(known, scale, _share)}")


# --- tables


def _worth(told: Told) -> Node:
    names = list(dict.fromkeys(name for one in told.worth for name in one.metrics))
    columns = (
        "in force",
        "intervals",
        "measured",
        "median reward",
        "10th to 90th percentile",
        *(f"median {name}" for name in names),
    )
    rows = [
        (
            one.name,
            str(one.intervals),
            str(one.measured),
            words.worth(one.median),
            f"{words.worth(one.low)} to {words.worth(one.high)}" if one.measured else "",
            *(words.worth(one.metrics.get(name)) for name in names),
        )
        for one in told.worth
    ]
    return _table("Reward by what was in force, as it came (not paired: no proof of anything)", columns, rows)


def _trials_table(told: Told, *, whole: bool) -> Node:
    if not whole:
        return None
    rows = [
        (str(one.number), words.day(one.began), words.tried_words(one), words.outcome_words(one), words.gain_words(one.gain), one.why)
        for one in told.trials
    ]  # fmt: skip
    return _table("All trials", ("number", "begun", "tried", "outcome", "effect", "why"), rows)


def _events(told: Told) -> Node:
    rows = [(words.day(one.t), words.turn_words(one)) for one in words.turns_apart(told)]
    return _table("Events besides trials", ("when", "what"), rows)


def _alerts(told: Told) -> Node:
    rows = [(words.day(one.first), one.kind, one.text, str(one.times)) for one in told.alerts]
    if not any(one.kind for one in told.alerts):
        return _table("Alerts", ("first", "what", "times"), [(first, text, times) for first, _, text, times in rows])
    return _table("Alerts", ("first", "kind", "what", "times"), rows)


# --- a trial


def _trial(trial: Trial, told: Told, name: str) -> Element:
    return el(
        "article",
        el(
            "h4",
            f"{trial.number}. {words.tried_words(trial)} ",
            el("span", words.outcome_words(trial), class_="outcome"),
        ),
        el("p", f"{words.day(trial.began)}", class_="when"),
        _pairs(words.trial_pairs(trial, told)),
        _gains(trial, name),
        aria_label=f"trial {trial.number}",
    )


def _gains(trial: Trial, name: str) -> Node:
    bars = _bars(trial)
    if not bars:
        return None
    scale = _gain_scale(bars)
    what = trial.against if trial.is_check else trial.candidate
    over = BASELINE if trial.is_check else trial.against
    says = f"{words.gain_words(trial.gain)} in the end."
    plot = Plot(
        name, f"Gain of {what} over {over}, block by block", says, Scale(0.5, len(bars) + 0.5), scale, 130, top=4
    )
    plot.grid(lambda value: f"{value * 100:+g} %" if value else "0 %")
    plot.bars(bars)
    unit = "judged once, before against after" if trial.one_way else "after each block"
    if not trial.one_way:
        every = max(1, math.ceil(len(bars) / 10))
        plot.numbers(range(1, len(bars) + 1, every))
    wider = any(
        one.low is not None and one.high is not None and (one.low < scale.low or one.high > scale.high) for one in bars
    )
    beyond = " Limits that reach an edge go on beyond it." if wider else ""
    limits = f" Lines: {words.COVER}." if not trial.one_way and any(one.low is not None for one in bars) else ""
    about = " Line: limits at about 95 %." if trial.one_way else ""
    return _figure(plot, f"Gain of {what} over {over}, {unit}.{limits}{about}{beyond}")


def _bars(trial: Trial) -> list[Bar]:
    if trial.one_way:
        gain = trial.gain
        if gain is None:
            return []
        return [Bar(1, _grown(gain.mean), _limit(gain.low), _limit(gain.high), words.gain_words(gain))]
    return [
        Bar(
            number,
            _grown(block.gain),
            _limit(block.low if block.low is not None else -math.inf),
            _limit(block.high if block.high is not None else math.inf),
            f"block {block.count}: {words.gain_words(block.as_gain)}",
        )
        for number, block in enumerate(trial.blocks, 1)
    ]


def _grown(gain: float) -> float:
    """Return a difference of logarithms as a share, as far as a plot has any use for it."""
    return math.expm1(min(gain, 50.0))


def _limit(gain: float | None) -> float | None:
    return gain if gain is None or not math.isfinite(gain) else _grown(gain)


def _gain_scale(bars: Sequence[Bar]) -> Scale:
    """Return a scale that holds all values and the last limits; the first limits may be far wider."""
    last = [one for one in (bars[-1].low, bars[-1].high) if one is not None and math.isfinite(one)]
    values = [0.0, *(one.value for one in bars), *last]
    room = 0.15 * ((max(values) - min(values)) or 0.01)
    return Scale(min(values) - room, max(values) + room)


def _now(now: Now) -> Element:
    rows = [
        (one.title, words.settings_words(one.settings, most=20), el("code", words.undo_words(one)))
        for one in now.standing
    ]
    return el(
        "section",
        el("h2", "In force now", id="now-name"),
        el("p", words.now_words(now)),
        _table("Not taken back", ("for", "settings", "to take it back"), rows),
        aria_labelledby="now-name",
    )
