"""One frame of the loop's live view: every workload in a row, the one that is looked at in full. Pure; every row fits the width."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from sculpt.control import About, workload_data
from sculpt.state import ALERT, BASELINE_ROLE, KEPT_ROLE, WorkloadState
from ui import glyphs as g
from ui.glyphs import Glyphs, level
from ui.panels import Rows, row
from ui.sculpt_status import doing, effect, judged, news_words
from ui.sculpt_words import span
from ui.units import fit, percent, plain, si

CLOCK = 24
"""Cells at the right end of the first row that belong to the clock."""
_LABEL = 10
_NAME = 16
_LEAST_RANGE = 0.05
"""A sparkline spans at least this share of its largest value: less is noise, and looks like it."""
_OF_EVENTS = ("rollback", "jump", "blind")
"""Kinds of alerts that an event of the same step tells already."""
KEYS = "q end  p pause  space freeze  ? help"
HELP = (
    ("q, Ctrl-C", "end the run between two steps; the machine is left as declared"),
    ("p", "pause: nothing new is begun, a running trial is ended, what is kept stays; again: go on"),
    ("Space", "freeze the picture; the loop goes on"),
    ("j k, arrows", "look at another workload"),
    ("?", "this help"),
    ("", ""),
    ("worth", "each interval's reward, the newest at the right; it spans from the least to the greatest shown"),
    ("in force", "in the same intervals: the baseline (a dot), what is tried (half), what is kept (full)"),
    ("gain", "measured against what was kept before, with the limits within which it lies with 95 %"),
    ("budget", "what trials may still cost, in seconds of what the baseline brings"),
)


@dataclass(frozen=True, slots=True)
class SculptView:
    """Everything on the screen except the clock."""

    about: About
    run: str = ""
    states: tuple[WorkloadState, ...] = ()
    looked_at: int = 0
    paused: bool = False
    """The loop, for ``pause_left`` seconds or until it is told to go on."""
    pause_left: float | None = None
    stopping: bool = False
    own_share: float = 0.0
    duration_s: float | None = None
    frozen: bool = False
    help: bool = False

    @property
    def state(self) -> WorkloadState | None:
        """The workload that is looked at."""
        return self.states[self.looked_at % len(self.states)] if self.states else None


def sculpt_frame(view: SculptView, width: int, height: int, glyphs: Glyphs) -> Rows:
    """Return exactly ``height`` rows of at most ``width`` cells, without the clock."""
    head = _head(view, width)
    foot = [_foot(view, width)]
    room = max(height - len(head) - len(foot), 0)
    body = (_help(width) if view.help else _body(view, width, room, glyphs))[:room]
    rows = [*head, *body, *[row("")] * (room - len(body)), *foot][:height]
    for text in rows:
        text.plain = glyphs.text(text.plain)
        text.truncate(width, overflow="ellipsis" if glyphs.micro == "µ" else "crop")
    return rows


def _head(view: SculptView, width: int) -> Rows:
    many = f" · {len(view.states)} workloads" if len(view.states) > 1 else ""
    title = fit(f"mode {view.about.mode} · every {view.about.interval_s:g} s{many}", max(width - CLOCK - 12, 0))
    return [row(("dna sculpt ", g.ACCENT), (title, g.STRONG)), row((_switch(view), g.ACCENT))]


def _switch(view: SculptView) -> str:
    if view.stopping:
        return "ending: the machine is left as declared"
    if view.paused:
        return "paused: nothing new is begun" + (f"; goes on in {span(view.pause_left)}" if view.pause_left else "")
    return "" if view.states else "no workload has been watched for an interval yet"


def _foot(view: SculptView, width: int) -> Text:
    left = f"own cost {percent(view.own_share)} of a core · {view.run}"
    text = row((fit(left, max(width - len(KEYS) - 2, 0)), g.DIM))
    text.pad_right(max(width - text.cell_len - len(KEYS), 0))
    text.append(KEYS, g.DIM)
    return text


def _help(width: int) -> Rows:
    return [row(""), *(row((f"  {key:<14}", g.STRONG), fit(meaning, max(width - 16, 0))) for key, meaning in HELP)]


def _body(view: SculptView, width: int, room: int, glyphs: Glyphs) -> Rows:
    state = view.state
    if state is None:
        return []
    table = _table(view, width, room, glyphs) if len(view.states) > 1 else []
    facts = _facts(view, state, width, glyphs)
    left = room - len(table) - len(facts) - 2
    return [
        *table,
        _rule(state.workload, width, glyphs),
        *facts,
        *(_events(state, width, left, glyphs) if left > 0 else []),
    ]


def _rule(title: str, width: int, glyphs: Glyphs) -> Text:
    name = fit(plain(title), max(width - 4, 0))
    text = row((f"{glyphs.rule} ", g.DIM), (f"{name} ", g.TITLE))
    return text.append(glyphs.rule * max(width - text.cell_len, 0), g.DIM)


def _table(view: SculptView, width: int, room: int, glyphs: Glyphs) -> Rows:
    """Return one row a workload, those about the one that is looked at where there is no room for all."""
    most = max(room // 3, 1)
    first = min(max(view.looked_at % len(view.states) - most // 2, 0), max(len(view.states) - most, 0))
    rows = []
    for state in view.states[first : first + most]:
        is_shown = state is view.state
        mark = glyphs.arrow if is_shown else " "
        text = row(f"{mark} ", (fit(plain(state.workload), _NAME).ljust(_NAME + 1), g.STRONG if is_shown else ""))
        line = spark_between(state.rewards, max(min(width // 4, 40), 0), glyphs)
        rest = max(width - text.cell_len - len(line) - 12, 0)
        text.append(fit(doing(workload_data(state)), rest).ljust(rest + 1))
        text.append(line, g.BAR).append(_worth(state.latest.judged.reward).rjust(10), g.STRONG)
        rows.append(text)
    return rows


def _facts(view: SculptView, state: WorkloadState, width: int, glyphs: Glyphs) -> Rows:
    data, record = workload_data(state), state.latest
    cells = max(width - _LABEL - 12, 0)
    rows = [
        _fact("doing", (doing(data), g.ACCENT)),
        _fact("because", record.decision.because),
        _fact(
            "worth",
            (spark_between(state.rewards, cells, glyphs), g.BAR),
            (f" {_worth(record.judged.reward)}", g.STRONG),
        ),
        _fact("in force", (strip(state.roles, cells, glyphs), g.BAR), f" {plain(state.in_force)}"),
        _fact("judged by", judged(data)),
        _fact("gain", _gain(state)),
    ]
    if record.room_s is not None:
        rows.append(_fact("budget", f"{span(max(record.room_s, 0.0))} of the baseline's worth left"))
    rows.append(_fact("proposed", ", ".join(record.proposed) or "nothing"))
    if record.held:
        rows.append(_fact("held", "; ".join(f"{held.name}: {held.because}" for held in record.held)))
    return rows


def _gain(state: WorkloadState) -> str:
    if state.kept is None:
        return "nothing is kept yet"
    return f"{state.kept.name}: {effect(state.kept.gain, state.kept.interval)}"


def _fact(label: str, *parts: str | tuple[str, str]) -> Text:
    cleaned = [plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts]
    return row((label.ljust(_LABEL), g.DIM), *cleaned)


def _worth(reward: float | None) -> str:
    return "?" if reward is None else si(reward)


def _events(state: WorkloadState, width: int, room: int, glyphs: Glyphs) -> Rows:
    """Return what happened of late, the newest on top; an alert that only repeats an event is left out."""
    rows: Rows = [_rule("what happened", width, glyphs)]
    events = {one.kind for one in state.news}
    times = {one.t for one in state.news if one.kind != ALERT}
    for news in reversed(state.news):
        repeats = news.t in times if news.about in _OF_EVENTS else news.text.partition(":")[0] in events
        if news.kind == ALERT and repeats:
            continue
        data = {"kind": news.kind, "text": news.text, "candidate": news.candidate, "gain": news.gain}
        words = news_words({**data, "interval": news.interval})
        rows.append(_fact(time.strftime("%H:%M:%S", time.localtime(news.t)), words))
    return rows[: room + 1]


def spark_between(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """Return the last ``width`` values as ramp signs from the least to the greatest of them; unknown is blank."""
    shown = list(values)[-width:] if width > 0 else []
    known = [value for value in shown if value is not None]
    if not known:
        return " " * len(shown)
    high = max(known)
    low = min(*known, high - _LEAST_RANGE * abs(high))
    reach = (high - low) or 1.0
    return "".join(" " if value is None else level(0.1 + 0.9 * (value - low) / reach, glyphs) for value in shown)


def strip(roles: Sequence[str], width: int, glyphs: Glyphs) -> str:
    """Return what was in force in the last ``width`` intervals, one sign each."""
    signs = {BASELINE_ROLE: glyphs.dot, KEPT_ROLE: glyphs.full}
    return "".join(signs.get(role, level(0.5, glyphs)) for role in (list(roles)[-width:] if width > 0 else []))
