"""The report of a run, on the terminal, as data and as a page: whole, and harmless whatever the names in it are."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rl.decision import EVENTS
from sculpt.aftermath import Now, Standing
from sculpt.story import Story, read_story, tell
from tests.sculpt.telling import END, HEAD, lines, step, story, trial
from ui import sculpt_words as words
from ui.glyphs import ASCII, UNICODE
from ui.report_page import POLICY, page
from ui.sculpt_report import report, report_json

RECORDED = Path(__file__).parents[1] / "sculpt/runs/random-access.jsonl"
NOW = Now(False)
HOSTILE = "</title></style></script><script>alert(1)</script>'\"><img src=x onerror=alert(2)>&amp;\x1b[31m\u202e\ud800"


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.policy = ""
        self.feed(text)
        self.text = "\n".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values.get("content") or ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def shown(told: Story, now: Now = NOW, *, width: int = 100, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=file, width=width, color_system=None, legacy_windows=False)
    console.print(report(told, now, UNICODE if encoding == "utf-8" else ASCII))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


def squeezed(text: str) -> str:
    return "".join(text.split())


def hostile() -> Story:
    """Return a run in which every text is an attack."""
    spoilt = json.loads(json.dumps([*trial(1, "NAME", blocks=2), step(30, event="phase", because="x", alerts=["x"])]))

    def spoil(value: Any, name: str = "") -> Any:
        if isinstance(value, str) and name not in ("state", "event"):
            return HOSTILE
        if isinstance(value, dict):
            return {
                HOSTILE if name in ("metrics", "held", "estimates") else key: spoil(one, key)
                for key, one in value.items()
            }
        return [spoil(one, name) for one in value] if isinstance(value, list) else value

    extra = {"candidates": {HOSTILE: {"because": HOSTILE, "settings": [HOSTILE], "one_way": True}}, "why_not": HOSTILE}
    head = {**spoil(HEAD), "schema": HEAD["schema"]}
    records = [
        {**spoil(one), **extra, "alerts": [HOSTILE], "raised": [{"kind": HOSTILE, "text": HOSTILE}]} for one in spoilt
    ]
    return tell(lines(*records, {"end": {"why": HOSTILE, "in_force": HOSTILE, "on_exit": HOSTILE}}, head=head))


STANDING = Now(False, (Standing("20260101-000000-abcde", HOSTILE, (HOSTILE,), False, True, False),))


def test_every_decision_of_a_recorded_run_is_told_on_the_terminal_and_on_the_page() -> None:
    told = read_story(RECORDED)
    (workload,) = told.workloads
    assert [one.outcome for one in workload.trials] == ["promoted", "made", "promoted"]
    for text in (shown(told), Seen(page(told, NOW)).text):
        for one in workload.trials:
            for said in (one.candidate, one.chosen, one.why, *one.proposed, *one.held):
                assert squeezed(said) in squeezed(text)
        for alert in workload.alerts:
            assert squeezed(alert.text) in squeezed(text)
        assert "+104.1%(+31.1%to+217.7%),6blocks" in squeezed(text)


def test_the_sums_are_those_of_the_steps() -> None:
    steps = [json.loads(line) for line in RECORDED.read_text().splitlines() if '"decision"' in line]
    found: dict[str, Any] = report_json(read_story(RECORDED), NOW)
    (workload,) = found["workloads"]
    assert workload["steps"] == len(steps)
    assert workload["counts"]["missing"] == sum(one["reward"] is None for one in steps)
    assert workload["counts"]["changes"] == sum((one["done"] or {}).get("changed", 0) for one in steps)
    assert sum(one["intervals"] for one in workload["worth"]) == len(steps)
    json.dumps(found, allow_nan=False)


def test_how_it_ended_and_what_is_in_force_now_with_the_way_back() -> None:
    told = story(trial(0, "huge"), END)
    assert "It ended: its time was over. It left in force: baseline." in shown(told)
    assert "Nothing of it is in force now" in shown(told)
    exact = Standing("20260101-000000-abcde", "walker: huge", ("cpu.nice of tree 7 = -5",), True, True, False)
    text = shown(told, Now(False, (exact, replace(exact, is_exact=False))))
    assert "dna undo 20260101-000000-abcde\n" in text
    assert "dna undo 20260101-000000-abcde (it cannot be taken back exactly)" in text
    assert "has ended; dna journal" in shown(told, Now(False, (replace(exact, is_gone=True),)))
    assert "cannot be told: no room" in shown(told, Now(False, trouble="no room"))


def test_a_run_that_goes_on_a_killed_one_and_an_empty_one() -> None:
    begun = story(step(0), step(1, state="trial", event="trial", candidate="huge"))
    for tellers in (shown, lambda told, now: Seen(page(told, now)).text):
        assert "It still goes on" in tellers(begun, Now(True))
        assert "killed" in tellers(begun, NOW)
        assert "not ended" in tellers(begun, NOW)
        assert "has no intervals" in tellers(story(END), NOW)
        joined = story({"joined": {"workload": "late", "mode": "advise"}}, END)
        assert "late" in tellers(joined, NOW)
        cut = tell([*lines(step(0)), '{"t": 17'])
        assert "1 line of the records could not be read" in tellers(cut, NOW)


def test_every_event_has_words() -> None:
    assert set(EVENTS) <= set(words.EVENTS)


def test_several_workloads_are_told_one_by_one() -> None:
    other = [dict(one, workload="server") for one in trial(0, "near", outcome="rolled back")]
    told = story(trial(0, "huge"), other, END)
    seen = Seen(page(told, NOW))
    assert ("href", "#w1") in seen.attributes
    assert ("id", "w1") in seen.attributes
    text = shown(told)
    assert text.index("\nwalker\n") < text.index("\nserver\n")


def test_no_name_can_become_markup_or_reach_the_terminal() -> None:
    text = page(hostile(), STANDING)
    seen = Seen(text)
    harmless = Seen(page(story(trial(1, "NAME", blocks=2), step(30, event="phase"), END), STANDING))
    assert set(seen.tags) <= set(harmless.tags) | {"code", "tbody"}
    assert not {"script", "img", "iframe", "object", "a"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("style", "srcdoc", "action")]
    assert {value for name, value in seen.attributes if name in ("href", "src")} == {"data:,"}
    assert text.count("<style>") == text.count("</style>") == 1
    assert "<script>alert(1)</script>" in seen.text, "it is told, as a text"
    text.encode("utf-8")
    for told in (text, shown(hostile(), STANDING)):
        assert not {"\x1b", "\u202e"} & set(told)


def test_the_page_needs_nothing_and_forbids_everything() -> None:
    text = page(read_story(RECORDED), NOW)
    seen = Seen(text)
    assert seen.policy == POLICY
    assert "script" not in seen.tags
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not [value for name, value in seen.attributes if "://" in value and name not in ("content", "data-label")]


def test_every_plot_has_a_name_and_says_what_there_is_to_see() -> None:
    seen = Seen(page(read_story(RECORDED), NOW))
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = [part for name, value in seen.attributes if name == "aria-labelledby" for part in value.split()]
    assert seen.tags.count("svg") > 6
    assert set(named) <= set(ids)
    assert ("lang", "en") in seen.attributes


@pytest.mark.long
def test_a_long_run_makes_a_page_of_sane_size() -> None:
    steps = [
        step(number, reward=100.0 + number % 17, in_force=("baseline", "huge")[number // 3 % 2])
        for number in range(20_000)
    ]
    short, long = (len(page(tell(lines(*steps[:many])), NOW)) for many in (2_000, 20_000))
    assert long < 300_000
    assert long < 1.5 * short


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_may_be_narrow_or_only_know_ascii(width: int, encoding: str) -> None:
    text = shown(read_story(RECORDED), width=width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width


VALUE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.just([None, 1e308])
)
FIELDS = [name for name in step(0) if name != "decision"]
OF_DECISION = list(step(0)["decision"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.sampled_from(FIELDS + OF_DECISION), VALUE), max_size=8))
def test_whatever_the_records_hold_there_is_a_report(spoilt: list[tuple[int, str, Any]]) -> None:
    records = [step(0), *trial(1, "huge"), step(20, event="made", candidate="x", gain=700.0, interval=[None, None])]
    for at, name, value in spoilt:
        one = records[at]
        records[at] = {**one, name: value} if name in one else {**one, "decision": {**one["decision"], name: value}}
    told = story(records, END)
    json.dumps(report_json(told, NOW), allow_nan=False)
    Seen(page(told, NOW))
    shown(told)
