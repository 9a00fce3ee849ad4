"""What is told of a run is what its records say, whole or not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.decision import EVENTS
from sculpt.errors import SculptError
from sculpt.story import read_story, tell
from sculpt.teller import ENDINGS
from tests.sculpt.telling import END, HEAD, START, lines, step, story, trial

RATE = "throughput=file:/rate"


def test_a_trial_is_told_with_what_was_seen_proposed_chosen_measured_and_done() -> None:
    before = [step(number, reward=80.0 + 10 * number) for number in range(3)]
    told = story(before, trial(3, "huge", blocks=3), step(16, in_force="huge", arm="huge"), END).workloads[0]
    (one,) = told.trials
    assert (one.number, one.candidate, one.against, one.outcome) == (1, "huge", "baseline", "promoted")
    assert one.before == pytest.approx((80 + 90 + 100 + 100) / 4)
    assert one.demand == {"cores": 1.5, "resident": 2.0 * (1 << 30)}
    assert one.proposed == ("huge", "other")
    assert one.held == {"third": "the guard"}
    assert one.chosen == "huge might pay"
    assert one.expected == (0.1, 0.05)
    assert one.why == "huge was judged"
    assert one.gain is not None
    assert (one.gain.mean, one.gain.low, one.gain.high) == pytest.approx((0.2, 0.0, 0.4))
    assert [block.count for block in one.blocks] == [1, 2, 3]
    widths = [block.high - block.low for block in one.blocks if block.low is not None and block.high is not None]
    assert widths == sorted(widths, reverse=True)
    assert one.ended == START + 2.0 * 15
    assert one.in_force_s == 6 * 2.0
    assert one.cost_s == pytest.approx((1 - math.exp(0.2)) * 12.0)
    assert told.kept == "huge"
    assert told.gain == one.gain
    assert told.judged_by == (RATE,)


def test_limits_before_there_are_any_are_infinite_not_unknown() -> None:
    halfway = step(1, state="trial", candidate="huge", gain=0.1, blocks=1, interval=[None, None])
    told = story(step(0, state="trial", event="trial", candidate="huge"), halfway).workloads[0]
    assert told.trials[0].blocks[0].low == -math.inf
    without = step(1, state="trial", candidate="huge", gain=0.1, blocks=1, interval=None)
    told = story(step(0, state="trial", event="trial", candidate="huge"), without).workloads[0]
    assert told.trials[0].blocks[0].low is None


def test_gains_of_layers_add_up_and_so_do_their_limits() -> None:
    second = trial(20, "huge + near", against="huge", gain=0.1, blocks=2)
    told = story(trial(0, "huge", blocks=3), second, END).workloads[0]
    assert [one.name for one in told.standing] == ["huge", "huge + near"]
    assert told.gain is not None
    assert (told.gain.mean, told.gain.low, told.gain.high) == pytest.approx((0.3, -0.2, 0.8))


def test_a_check_tells_what_is_kept_over_the_baseline() -> None:
    check = trial(20, "baseline", against="huge", outcome="confirmed", gain=0.15, blocks=3)
    told = story(trial(0, "huge", blocks=3), check, END).workloads[0]
    one = told.trials[1]
    assert one.is_check
    assert all(block.gain == pytest.approx(0.15) for block in one.blocks)
    assert one.cost_s is not None
    assert one.cost_s > 0, "while the baseline is in force what is kept is missed"
    assert [part.event for part in told.standing] == ["confirmed"]


def test_a_check_too_short_for_limits_leaves_those_of_the_proof() -> None:
    check = trial(20, "baseline", against="huge", outcome="confirmed", gain=0.15, blocks=2)
    check[-1]["decision"]["interval"] = [None, None]
    told = story(trial(0, "huge", blocks=3), check, END).workloads[0]
    assert told.trials[1].outcome == "confirmed"
    assert [(part.event, part.gain) for part in told.standing] == [("promoted", told.trials[0].gain)]


@pytest.mark.parametrize("event", ["phase", "blind", "gone", "rolled back"])
def test_what_leads_back_to_the_baseline_leaves_nothing_kept(event: str) -> None:
    back = step(30, in_force="huge", event=event, state="blind" if event == "blind" else "hold", because="why")
    told = story(trial(0, "huge"), step(20, in_force="huge", arm="huge"), back, step(31), END).workloads[0]
    assert told.gain is None
    assert told.kept == "baseline"
    assert (told.turns[-1].event, told.turns[-1].because) == (event, "why")


def test_a_trial_may_end_by_what_ends_everything() -> None:
    begun = step(0, state="trial", event="trial", candidate="huge")
    told = story(
        begun,
        step(1, in_force="huge", state="trial", arm="huge", candidate="huge"),
        step(2, event="phase", because="moved"),
    ).workloads[0]
    (one,) = told.trials
    assert (one.outcome, one.why, one.gain) == ("phase", "moved", None)


def test_the_baseline_is_another_after_what_was_made_for_good() -> None:
    made = [
        step(0, reward=100.0),
        step(1, state="one-way", event="trial", candidate="huge", arm="huge"),
        step(2, in_force="huge", state="one-way", candidate="huge", arm="huge"),
        step(3, in_force="huge", event="made", candidate="huge", gain=0.4, interval=[0.3, 0.5]),
        step(4, reward=150.0),
    ]
    told = story(made, END).workloads[0]
    assert [one.name for one in told.worth] == ["baseline", "baseline with huge made", "huge"]
    assert [one.median for one in told.worth][:2] == [100.0, 150.0]
    assert told.trials[0].one_way
    assert told.gain is not None
    assert (told.gain.mean, told.gain.low, told.gain.high) == (0.4, 0.3, 0.5)


def test_a_run_that_goes_on_or_was_killed_is_told_as_far_as_it_came() -> None:
    begun = [step(0), step(1, state="trial", event="trial", candidate="huge")]
    whole = lines(*begun, step(2, in_force="huge", state="trial", candidate="huge", arm="huge"))
    found = tell([*whole, '{"t": 17900000'])
    assert found.end is None
    assert found.broken == 1
    assert (found.workloads[0].trials[0].outcome, found.workloads[0].trials[0].ended) == ("", None)
    assert found.last == START + 4


def test_a_run_without_steps_has_no_times() -> None:
    found = story(END)
    assert (found.workloads, found.began, found.last) == ((), None, None)


def test_what_joined_and_left_is_told_though_it_had_no_interval() -> None:
    joined = {"joined": {"workload": "late", "mode": "advise"}}
    left = {"left": {"workload": "late", "why": "failed", "error": "no such process"}}
    found = story(joined, step(0), left, END)
    late = found.workloads[0]
    assert (late.name, late.joined["mode"]) == ("late", "advise")
    assert late.left is not None
    assert late.left["error"] == "no such process"
    assert found.last == START


def test_missing_late_blind_and_novel_are_counted() -> None:
    steps = [
        step(0, arm="huge"),
        step(1, reward=None, why_not="gone"),
        step(2, reward=None, why_not="gone", state="blind", event="blind"),
        step(3, event="novel", because="unlike"),
        step(4, event="novel", because="unlike"),
    ]
    told = story(steps).workloads[0]
    counts = {name: told.counts[name] for name in ("intervals", "missing", "late", "blind", "novel")}
    assert counts == {"intervals": 5, "missing": 2, "late": 1, "blind": 1, "novel": 2}
    assert told.why_not == {"gone": 2}
    assert [(one.event, one.times) for one in told.turns] == [("blind", 1), ("novel", 2)]


def test_every_event_of_a_decision_has_its_place() -> None:
    apart = {"trial", "recalled", "novel", "unverified"}
    assert set(EVENTS) <= set(ENDINGS) | apart


def test_what_was_applied_unverified_is_in_force_and_has_no_gain() -> None:
    applied = step(3, reward=None, arm="huge", event="unverified", candidate="huge")
    told = story(step(0, reward=None), applied, step(4, reward=None, in_force="huge", arm="huge"), END).workloads[0]
    assert [(one.name, one.event, one.gain) for one in told.standing] == [("huge", "unverified", None)]
    assert (told.kept, told.gain) == ("huge", None)
    assert [one.role for one in told.stretches] == ["baseline", "kept"]


def test_alerts_are_told_once_with_their_kind_where_they_were_raised() -> None:
    raised = [{"kind": "lost", "text": "theirs", "t": 1}]
    steps = [step(0, alerts=["full"]), step(1, alerts=["full"], raised=[]), step(2, alerts=["said too"], raised=raised)]
    told = story(steps).workloads[0]
    assert [(one.text, one.kind, one.times, one.first) for one in told.alerts] == [
        ("full", "", 2, START),
        ("theirs", "lost", 1, START + 4),
    ]


def test_a_gap_and_a_clock_set_back_count_as_one_interval_each() -> None:
    late, back = step(1000), step(500)
    told = story(step(0), late, back).workloads[0]
    assert told.seconds["all"] == 6.0
    assert told.counts["clock went back"] == 1
    assert told.series.gaps == (1,)
    assert list(told.series.t) == sorted(told.series.t)


def test_intervals_that_grow_longer_are_no_gaps() -> None:
    told = story(step(0), step(20, interval_s=40.0), step(40, interval_s=40.0)).workloads[0]
    assert (told.seconds["all"], told.series.gaps, told.longest_s) == (2.0 + 40 + 40, (), 40.0)


def test_what_is_no_record_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(SculptError, match=r"x\.jsonl cannot be read"):
        read_story(path)
    for content in ("", "not json\n", '{"schema": "other/1"}\n', "\x00\xff"):
        path.write_text(content)
        with pytest.raises(SculptError, match="no record of a run"):
            read_story(path)


def test_steps_of_several_workloads_do_not_mix() -> None:
    one = [step(0), *trial(1, "huge"), step(20, in_force="huge", arm="huge", alerts=["a"])]
    two = [
        dict(each, workload="two") for each in [*trial(0, "near", outcome="undecided", blocks=4), step(22, reward=None)]
    ]
    mixed = sorted([*one, *two], key=lambda each: (float(each["t"]), str(each["workload"])))
    together = {told.name: told for told in story(mixed).workloads}
    alone = [*story(one).workloads, *story(two).workloads]
    assert [repr(together[told.name]) for told in alone] == [repr(told) for told in alone]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = list(step(0))
OF_DECISION = list(step(0)["decision"])


@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(OF_DECISION), JSON, JSON), max_size=6), st.data())
def test_nothing_that_a_record_may_hold_stops_the_story(
    spoilt: list[tuple[str, str, Any, Any]], data: st.DataObject
) -> None:
    """A later version, or a damaged disk, may put anything anywhere."""
    records: list[dict[str, Any]] = [step(0), *trial(1, "huge"), step(30)]
    for name, inner, value, other in spoilt:
        at = data.draw(st.integers(0, len(records) - 1))
        records[at] = {**records[at], name: value}
        if isinstance(records[at].get("decision"), dict):
            records[at]["decision"] = {**records[at]["decision"], inner: other}
    found = tell([json.dumps(HEAD), *(json.dumps(one) for one in records)])
    for told in found.workloads:
        assert told.counts["intervals"] == len(told.series.t)
        parts = sum(told.seconds.get(role, 0.0) for role in ("baseline", "kept", "tried"))
        assert parts == pytest.approx(told.seconds["all"])
        assert list(told.series.t) == sorted(told.series.t)
        assert all(a.end <= b.start + 1e-6 for a, b in zip(told.stretches, told.stretches[1:], strict=False))
