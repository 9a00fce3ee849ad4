"""From records to alerts: each kind, once for each event, and no flood whatever happens."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.decision import BLIND, EVENTS, HOLD, TRIAL, Decision
from rl.policy import BASELINE, Arm
from sculpt import alerts
from sculpt.actuator import Done
from sculpt.alerts import (
    BURST,
    CRITICAL,
    EVERY_S,
    KINDS,
    NOTICE,
    SEVERITIES,
    WARNING,
    Alarms,
    Alert,
    alert_data,
    alerts_of,
    with_alerts,
)
from sculpt.candidates import Candidate, Layer
from sculpt.collapse import EARLY, FELL, LASTING, LATE, ROSE, STAYED, CollapseWatch
from sculpt.step import Judged, Record

HELD = Decision(Arm(BASELINE), HOLD, "baseline: nothing better is known")
DONE = Done(Candidate())
HUGE = Candidate((Layer("memory.huge", ()),))


def record(
    step: int = 0,
    *,
    reward: float | None = 1.0,
    why: str = "",
    decision: Decision = HELD,
    done: Done | None = DONE,
    in_force: str = BASELINE,
    lost: tuple[str, ...] = (),
    trouble: tuple[str, ...] = (),
    vector: tuple[float, ...] = (),
    novelty: float | None = None,
    workload: str = "redis",
) -> Record:
    return Record(
        1000.0 + 5 * step, workload, in_force, Judged(reward, why), decision, done,
        lost=lost, trouble=trouble, vector=vector, novelty=novelty,
    )  # fmt: skip


def ended(event: str, because: str, *, state: str = HOLD, arm: str = BASELINE, candidate: str = "") -> Decision:
    return Decision(Arm(arm), state, because, event, candidate)


def raised(records: Iterable[Record], alarms: Alarms | None = None) -> list[Alert]:
    alarms = alarms or Alarms()
    return [alert for one in records for alert in alarms.take(one)]


def kinds(found: Iterable[Alert]) -> list[str]:
    return [alert.kind for alert in found]


# --- each kind, from one record


def test_a_quiet_step_says_nothing() -> None:
    assert alerts_of(record()) == ()
    assert alerts_of(record(decision=ended("promoted", "better by +0.1", arm="x", candidate="x"))) == ()


@pytest.mark.parametrize(
    ("one", "kind", "severity", "words"),
    [
        (record(decision=ended("phase", "behaves otherwise")), "jump", NOTICE, "nothing of ours is in force"),
        (record(decision=ended("phase", "behaves otherwise"), in_force="x"), "jump", WARNING, "x taken back"),
        (record(decision=ended("novel", "unlike anything known")), "jump", NOTICE, "unlike"),
        (record(decision=ended("rolled back", "worse by -0.05", candidate="x")), "rollback", NOTICE, "x: worse by"),
        (record(decision=ended("rolled back", "far worse at once (-0.9)", candidate="x")), "rollback", WARNING, "far"),
        (record(decision=ended("rolled back", "x pays no longer", candidate="x")), "rollback", WARNING, "taken back"),
        (record(reward=None, why="gone", decision=ended("blind", "no measurement", state=BLIND)), "blind", WARNING, "(gone)"),
        (record(lost=("cpu.affinity of pid 7 is 1, and we set 0",)), "lost", WARNING, "it is left to them"),
        (record(trouble=("the rules could not be asked: x",)), "trouble", WARNING, "could not be asked"),
        (record(done=Done(Candidate(), error="no"), decision=ended("trial", "", state=TRIAL, arm="x")), "trouble", WARNING, "x could not be put in force: no"),
        (record(done=Done(HUGE, error="no")), "trouble", CRITICAL, "memory.huge could not be taken back: no"),
    ],
)  # fmt: skip
def test_a_record_says_what_happened_and_what_was_done(one: Record, kind: str, severity: str, words: str) -> None:
    (alert,) = alerts_of(one)
    assert (alert.kind, alert.severity) == (kind, severity)
    assert words in alert.text
    assert (alert.t, alert.workload) == (1000.0, "redis")
    assert Alarms().take(one) == (alert,)


def test_of_many_things_lost_a_few_are_named() -> None:
    lost = tuple(f"cpu.affinity of pid {n} is 1, and we set 0" for n in range(100))
    (alert,) = alerts_of(record(lost=lost))
    assert "pid 2 " in alert.text
    assert "pid 3 " not in alert.text
    assert "and 97 more" in alert.text


def test_an_alert_is_json_with_its_time() -> None:
    (alert,) = alerts_of(record(lost=("a of b is c",)))
    data = json.loads(json.dumps(alert_data(alert, "box")))
    assert data["schema"] == alerts.SCHEMA
    assert data["time"] == "1970-01-01T00:16:40Z"
    assert (data["host"], data["kind"], data["held"]) == ("box", "lost", 0)


# --- once for each event


def test_what_lasts_is_told_once_and_again_after_it_was_over() -> None:
    lost = ("cpu.affinity of pid 7 is 1, and we set 0",)
    longer = (*lost, "cpu.affinity of pid 8 is 1-3, and we set 0")
    found = raised([record(n, lost=longer if n % 2 else lost) for n in range(50)])
    assert kinds(found) == ["lost"]
    gap = [record(100 + n) for n in range(20)]
    assert kinds(raised([record(0, lost=lost), *gap, record(200, lost=lost)])) == ["lost", "lost"]
    flicker = [record(n, lost=lost if n % 3 == 0 else ()) for n in range(60)]
    assert kinds(raised(flicker)) == ["lost"]


def test_two_troubles_are_two_and_one_with_other_numbers_is_one() -> None:
    texts = [("rules: pid 7 is gone",), ("rules: pid 12 is gone",), ("the disk is full",)]
    assert len(raised(record(n, trouble=texts[n % 3]) for n in range(60))) == 2


@pytest.mark.parametrize("done", [None, DONE])
def test_blindness_is_told_once_with_its_reason_and_when_it_is_over(done: Done | None) -> None:
    before = [record(n, done=done) for n in range(20)]
    because = "no measurement for 3 intervals"
    missing = [
        record(20 + n, reward=None, why="gone", done=done, decision=ended("blind", because) if done and n > 1 else HELD)
        for n in range(30)
    ]
    after = [record(50 + n, done=done) for n in range(20)]
    found = raised([*before, *missing, *after])
    assert [(alert.kind, alert.severity) for alert in found] == [("blind", WARNING), ("blind", NOTICE)]
    assert "gone" in found[0].text
    assert found[0].t == missing[2].t
    assert "again" in found[1].text


def test_two_missing_measurements_are_no_blindness() -> None:
    assert raised(record(n, reward=None if n % 3 else 1.0) for n in range(60)) == []


def test_workloads_are_told_apart() -> None:
    records = [record(n, workload=name, lost=("a of b is c",)) for n in range(5) for name in ("one", "two")]
    assert [alert.workload for alert in raised(records)] == ["one", "two"]


# --- jumps, where no learner looks for them


def walk(vectors: Iterable[np.ndarray], done: Done | None = None) -> list[Record]:
    return [record(n, vector=tuple(map(float, vector)), done=done) for n, vector in enumerate(vectors)]


def test_a_jump_of_the_dna_is_told_once_also_when_nothing_is_decided() -> None:
    draw = np.random.default_rng(1)
    places = [np.zeros(16)] * 100 + [np.full(16, 0.8)] * 100
    records = walk(place + draw.normal(0, 0.02, 16) for place in places)
    (alert,) = raised(records)
    assert (alert.kind, alert.severity) == ("jump", NOTICE)
    assert records[100].t <= alert.t <= records[110].t
    assert raised([replace(one, done=DONE) for one in records]) == []  # there the learner says it


def test_noise_and_slow_drift_of_the_dna_are_no_jump() -> None:
    draw = np.random.default_rng(2)
    assert raised(walk(draw.normal(0, 0.1, 16) for _ in range(500))) == []


def test_another_model_is_no_jump_and_no_error() -> None:
    assert raised(walk([*[np.zeros(16)] * 10, *[np.zeros(8)] * 20])) == []


def test_novelty_is_told_once() -> None:
    found = raised(record(n, novelty=3.0, done=None) for n in range(50))
    assert kinds(found) == ["jump"]
    assert "novelty 3.0" in found[0].text


# --- collapse


def turns(rewards: Iterable[float], share: float = 0.5) -> list[tuple[int, str]]:
    watch = CollapseWatch(share)
    found = ((n, watch.take(reward)) for n, reward in enumerate(rewards))
    return [(n, turn.what) for n, turn in found if turn is not None]


@given(
    st.floats(1e-9, 1e9),
    st.floats(0.01, 0.45),
    st.integers(EARLY + LATE, 300),
    st.integers(0, 2**32 - 1),
)
def test_a_fall_is_seen_within_a_few_intervals_and_so_is_its_end(
    usual: float, left: float, before: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    means = [usual] * before + [usual * left] * 30 + [usual] * 30
    found = turns(mean * math.exp(draw.normal(0, 0.02)) for mean in means)
    assert [what for _, what in found] == [FELL, ROSE]
    assert before + 2 <= found[0][0] < before + LATE
    assert before + 32 <= found[1][0] < before + 30 + LATE


@given(st.lists(st.floats(1e-6, 1e6), min_size=60, max_size=60), st.integers(1, 3), st.integers(7, 20))
def test_bursts_are_no_collapse(heights: list[float], length: int, apart: int) -> None:
    rewards = [height if n % apart < length and n > 20 else 1.0 for n, height in enumerate(heights)]
    assert turns(rewards) == []


@pytest.mark.long
@pytest.mark.parametrize("deviation", [0.05, 0.3, 1.0])
def test_noise_is_no_collapse(deviation: float) -> None:
    draw = np.random.default_rng(3)
    heavy = draw.standard_t(2.5, 20_000)  # tails as those of response times
    assert turns(np.exp(deviation * draw.normal(size=20_000))) == []
    falls = [what for _, what in turns(np.exp(deviation * np.clip(heavy, -50, 50))) if what == FELL]
    assert len(falls) <= 4  # of 28 hours at five seconds


def test_a_small_fall_is_none_and_the_share_says_what_is_small() -> None:
    rewards = [1.0] * 50 + [0.7] * 30
    assert turns(rewards) == []
    assert [what for _, what in turns(rewards, 0.8)] == [FELL]


def test_what_stays_low_becomes_usual_and_can_fall_again() -> None:
    rewards = [1.0] * 40 + [0.2] * (LASTING + 40) + [0.05] * 20
    assert [what for _, what in turns(rewards)] == [FELL, STAYED, FELL]


def test_a_collapse_is_critical_under_something_of_ours() -> None:
    rewards = [1.0] * 30 + [0.2] * 10
    bare = raised(record(n, reward=reward) for n, reward in enumerate(rewards))
    kept = raised(record(n, reward=reward, in_force="memory.huge") for n, reward in enumerate(rewards))
    assert [(alert.kind, alert.severity) for alert in (*bare, *kept)] == [("collapse", WARNING), ("collapse", CRITICAL)]
    assert "20% of what is usual (0.2 against 1)" in bare[0].text
    assert "in force: memory.huge" in kept[0].text


def test_a_trial_of_something_bad_is_no_collapse() -> None:
    tried = Decision(Arm("x"), TRIAL, "block 1", candidate="x")
    records = [record(n) for n in range(40)]
    records += [
        record(40 + n, reward=0.3 if n % 2 else 1.0, in_force="x" if n % 2 else BASELINE, decision=tried)
        for n in range(40)
    ]
    assert raised(records) == []


# --- never a flood


def rolled_back(n: int) -> Record:
    return record(n, decision=ended("rolled back", f"worse by -0.{n}", candidate=f"arm {n}"))


def test_of_many_events_a_few_are_told_and_the_rest_counted() -> None:
    alarms = Alarms()
    count = 200
    found = raised((rolled_back(n) for n in range(count)), alarms)
    assert len(found) <= BURST + count * 5 / EVERY_S + 1
    assert sum(1 + alert.held for alert in [*found, *alarms.rest(0.0)]) == count


def test_what_was_held_back_is_told_when_it_may_be() -> None:
    found = raised([*(rolled_back(n) for n in range(10)), *(record(n) for n in range(10, 200))])
    assert len(found) == BURST + 1
    assert found[-1].held == 10 - BURST - 1
    assert "arm 9" in found[-1].text
    assert found[-1].t > 1000 + 45


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*EVENTS, ""]),
            st.one_of(st.none(), st.floats()),
            st.booleans(),
            st.sampled_from(["", "lost", "trouble", "error"]),
            st.floats(-1e6, 1e6),
        ),
        max_size=80,
    )
)
def test_whatever_happens_no_kind_is_told_oftener_than_allowed(
    steps: list[tuple[str, float | None, bool, str, float]],
) -> None:
    """Also where the clock jumps about: of each kind and severity a burst, and then one in so many seconds that went by."""
    alarms, found, elapsed, last = Alarms(), Counter[tuple[str, str]](), 0.0, 0.0
    for n, (event, reward, acts, what, moved) in enumerate(steps):
        done = Done(HUGE if n % 2 else Candidate(), error=f"error {n}" if what == "error" else "") if acts else None
        one = record(
            n,
            reward=reward,
            decision=ended(event, f"because {n}", candidate="x"),
            done=done,
            lost=(f"knob{n} of b is c",) if what == "lost" else (),
            trouble=(f"word{'abcdefgh'[n % 8]}",) if what == "trouble" else (),
            novelty=moved,
        )
        one = replace(one, t=one.t + moved)
        elapsed, last = elapsed + (max(one.t - last, 0.0) if n else 0.0), one.t
        for alert in alarms.take(one):
            assert alert.kind in KINDS
            assert alert.severity in SEVERITIES
            found[alert.kind, alert.severity] += 1
    assert all(count <= BURST + elapsed / EVERY_S + 1e-6 for count in found.values())


def test_many_workloads_are_forgotten_in_turn() -> None:
    alarms = Alarms()
    for n in range(3 * alerts.MOST_WORKLOADS):
        alarms.take(record(n, workload=f"w{n}"))
    assert len(alarms._workloads) == alerts.MOST_WORKLOADS


def test_a_record_tells_in_words_what_it_does_not_say_by_itself() -> None:
    alarms, told = Alarms(), []
    for n, reward in enumerate([1.0] * 30 + [0.2] * 10):
        one = record(n, reward=reward, lost=("a of b is c",))
        one = with_alerts(one, alarms.take(one))
        assert one.raised is not None
        told.append((one.alerts, kinds(one.raised)))
    assert told[0] == ((), ["lost"])
    ((words, raised),) = [one for one in told if one[0]]
    assert raised == ["collapse"]
    assert words[0].startswith("the reward has fallen to 20%")
