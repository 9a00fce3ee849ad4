"""The loop's decisions on a simulated workload: gains are found and kept, losses are bounded, and doubt leads to the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.bandit import LinearBandit
from rl.decision import BLIND, EVENTS, HOLD, ONE_WAY, TRIAL, Decision, Patience, Seen
from rl.learner import Learner
from rl.policy import BASELINE, Arm, Context
from rl.proofs import Proof

NOTHING = Arm(BASELINE)
PAGES = Arm("pages", ("memory.hugepages=collapse",), expected=0.1)
PIN = Arm("pin", ("cpu.affinity=node",), expected=0.05)
ARMS = (NOTHING, PAGES, PIN)
HERE = Context(np.zeros(4), "web")
THERE = Context(np.full(4, 2.0), "db")


def run(
    gains: Callable[[str, int], float],
    steps: int,
    *,
    seed: int = 1,
    noise: float = 0.03,
    arms: Sequence[Arm] = ARMS,
    context: Callable[[int], Context] = lambda _: HERE,
    reward: Callable[[int, float], float | None] = lambda _, value: value,
    one_way: frozenset[str] = frozenset(),
    way_back: frozenset[str] = frozenset(),
    hold: Callable[[int], str] = lambda _: "",
    spoiled: Callable[[int], bool] = lambda _: False,
    learner: Learner | None = None,
) -> tuple[Learner, list[Decision], list[float]]:
    """Run a learner on a workload where an arm gains ``gains(name, step)`` in logarithms; return what was decided, and gained."""
    draw = np.random.default_rng(seed)
    learner = learner or Learner(LinearBandit(seed=seed), seed=seed)
    in_force, decisions, truths = BASELINE, [], []
    for step in range(steps):
        truth = gains(in_force, step)
        value = math.exp(truth + draw.normal(0, noise))
        seen = Seen(
            5.0 * step,
            5.0,
            context(step),
            tuple(arms),
            reward(step, value),
            in_force,
            one_way=one_way,
            way_back=way_back,
            hold=hold(step),
            is_spoiled=spoiled(step),
        )
        decisions.append(learner.decide(seen))
        truths.append(truth)
        in_force = decisions[-1].arm.name
    return learner, decisions, truths


def fixed(**gains: float) -> Callable[[str, int], float]:
    return lambda name, _: gains.get(name, 0.0)


@pytest.mark.long
def test_a_gain_is_found_and_kept() -> None:
    found = [run(fixed(pages=0.2, pin=-0.1), 400, seed=seed)[0].kept.name for seed in range(10)]
    assert found.count("pages") >= 9


@pytest.mark.long
def test_where_nothing_helps_the_baseline_stays() -> None:
    ended = [run(fixed(), 300, seed=seed) for seed in range(30)]
    assert sum(learner.kept.name != BASELINE for learner, _, _ in ended) <= 30 * 0.05 * 2 + 4


@pytest.mark.long
def test_where_everything_hurts_the_loss_is_within_the_budget() -> None:
    for seed in range(10):
        learner, _, truths = run(fixed(pages=-0.2, pin=-0.3), 600, seed=seed)
        lost = sum(5.0 * (1 - math.exp(truth)) for truth in truths)
        limits = learner.ledger.limits
        block = 5.0 * 2 * (learner.design.settle + learner.design.measure)
        assert learner.kept.name == BASELINE
        # What was not yet known of the block in progress comes on top, for each arm once.
        assert lost <= limits.allowance_s + limits.budget * 5.0 * 600 + 2 * block * 0.3
        assert learner.counts["trial"] >= 1


def test_what_brought_nothing_is_left_alone_for_longer_each_time() -> None:
    learner, decisions, _ = run(
        fixed(), 1500, arms=(NOTHING, PAGES), learner=Learner(LinearBandit(seed=1), seed=1, patience=Patience(likely=0))
    )
    events = [(step, decision.event) for step, decision in enumerate(decisions) if decision.candidate == "pages"]
    began = [step for step, event in events if event == "trial"]
    ended = [step for step, event in events if event in ("undecided", "rolled back")]
    assert len(began) >= 3
    for number, (end, again) in enumerate(zip(ended, began[1:], strict=False)):
        assert 5.0 * (again - end) >= learner.ledger.limits.first_quarantine_s * 2**number


@pytest.mark.long
def test_what_is_known_to_hurt_is_not_tried_again() -> None:
    _, decisions, _ = run(fixed(pages=-0.3), 1500, arms=(NOTHING, PAGES))
    assert [decision.event for decision in decisions if decision.candidate == "pages"].count("trial") == 1


def test_another_phase_is_judged_anew() -> None:
    learner, decisions, _ = run(
        lambda name, step: {"pages": 0.2 if step < 300 else -0.2}.get(name, 0.0),
        700,
        arms=(NOTHING, PAGES),
        context=lambda step: HERE if step < 300 else THERE,
    )
    assert any(decision.event == "promoted" for decision in decisions[:300])
    assert [decision.event for decision in decisions[300:302]] == ["", "phase"]  # one strange interval is not believed
    assert decisions[301].arm.name == BASELINE
    assert learner.kept.name == BASELINE


def test_what_was_proven_in_a_phase_is_kept_again_when_it_comes_back() -> None:
    _, decisions, _ = run(
        fixed(pages=0.2),
        460,
        arms=(NOTHING, PAGES),
        context=lambda step: THERE if 300 <= step < 360 else HERE,
    )
    back = next(step for step, decision in enumerate(decisions) if step > 302 and decision.event == "phase")
    recalled = next(step for step, decision in enumerate(decisions) if decision.event == "recalled")
    assert back < recalled <= back + 6
    assert not any(decision.state == TRIAL for decision in decisions[back:440])


def test_one_strange_interval_changes_nothing() -> None:
    learner, decisions, _ = run(
        fixed(pages=0.2), 200, arms=(NOTHING, PAGES), context=lambda step: THERE if step % 20 == 10 else HERE
    )
    assert learner.counts["phase"] == 0
    assert learner.kept.name == "pages"
    assert any("does not count" in decision.because for decision in decisions)


@pytest.mark.long
def test_noise_alone_is_no_disaster_and_a_gain_within_it_is_found() -> None:
    """Measurements that scatter by a fifth, as a 99th percentile does: one that is far worse says nothing of the candidate."""
    ended = [run(fixed(pages=0.4), 400, seed=seed, noise=0.2, arms=(NOTHING, PAGES)) for seed in range(10)]
    assert sum(learner.kept.name == "pages" for learner, _, _ in ended) >= 8
    at_once = [
        decision for _, decisions, _ in ended for decision in decisions if "far worse at once" in decision.because
    ]
    assert len(at_once) <= 3


def test_a_fall_of_the_reward_is_looked_into_before_its_time() -> None:
    """What is kept begins to hurt long before the next check in turn."""
    learner, decisions, _ = run(
        lambda name, step: {"pages": 0.2 if step < 200 else -0.1}.get(name, 0.0),
        320,
        arms=(NOTHING, PAGES),
        learner=Learner(LinearBandit(seed=1), seed=1, patience=Patience(recheck=100_000)),
    )
    ended = next(step for step, decision in enumerate(decisions) if step > 200 and decision.event == "rolled back")
    assert "pays no longer" in decisions[ended].because
    assert learner.kept.name == BASELINE


@pytest.mark.long
def test_what_pays_is_checked_ever_more_seldom() -> None:
    _, decisions, _ = run(fixed(pages=0.2), 3000, arms=(NOTHING, PAGES), noise=0.01)
    checks = [step for step, decision in enumerate(decisions) if decision.event == "confirmed"]
    gaps = [later - earlier for earlier, later in pairwise(checks)]
    assert len(checks) >= 3
    assert all(later > 1.7 * earlier for earlier, later in pairwise(gaps))
    assert not any(decision.arm.name == BASELINE and decision.state == HOLD for decision in decisions[checks[0] :])


def test_when_what_was_proven_fails_what_was_refuted_is_tried_again() -> None:
    """Two arms change places and no vector shows it."""
    learner, _, _ = run(lambda name, step: {"pages": 0.2, "pin": -0.1}.get(name, 0.0) * (1 if step < 300 else -1), 900)
    assert learner.kept.name == "pin"


@pytest.mark.long
def test_rules_that_lie_cost_no_more_than_the_budget() -> None:
    """Much is expected with much trust, and everything hurts: each is tried only when the budget can bear the worst."""
    arms = (NOTHING, *(Arm(f"arm-{n}", (f"part-{n}",), expected=0.3, trust=5.0) for n in range(12)))
    for seed in range(5):
        learner, _, truths = run(fixed(**{f"arm-{n}": -0.3 for n in range(12)}), 400, arms=arms, seed=seed)
        limits = learner.ledger.limits
        lost = np.cumsum([5.0 * (1 - math.exp(truth)) for truth in truths])
        budget = limits.allowance_s + limits.budget * 5.0 * np.arange(1, 401)
        assert (lost <= budget + 5.0 * (1 - math.exp(-0.3))).all()  # the interval in which it shows comes on top
        assert learner.kept.name == BASELINE


def test_the_ledger_tells_what_was_lost() -> None:
    learner, _, truths = run(fixed(pages=-0.15, pin=-0.2), 300, noise=0.01)
    lost = sum(5.0 * (1 - math.exp(truth)) for truth in truths)
    assert learner.ledger.lost_s == pytest.approx(lost, rel=0.35)
    assert learner.ledger.elapsed_s == pytest.approx(1500.0)


@pytest.mark.long
@given(st.integers(0, 10_000), st.floats(0.0, 0.5), st.floats(0.0, 0.3), st.floats(0.0, 0.3))
@settings(max_examples=25, deadline=None)
def test_whatever_is_seen_a_proposed_arm_is_wanted(seed: int, noise: float, missing: float, strange: float) -> None:
    draw = np.random.default_rng(seed)
    learner, in_force = Learner(LinearBandit(seed=seed), seed=seed), BASELINE
    for step in range(150):
        arms = (NOTHING, *(arm for arm in (PAGES, PIN) if draw.random() > 0.1))
        reward = None if draw.random() < missing else math.exp(draw.normal(0, noise))
        context = THERE if draw.random() < strange else HERE
        one_way = frozenset({"pin"}) if draw.random() < 0.5 else frozenset()
        decision = learner.decide(Seen(5.0 * step, 5.0, context, arms, reward, in_force, one_way=one_way))
        assert decision.arm.name in {arm.name for arm in arms}
        assert decision.event in {"", *EVENTS}
        assert learner.ledger.lost_s >= 0
        in_force = decision.arm.name if draw.random() < 0.9 else in_force


def test_a_gain_that_fades_unseen_is_given_up() -> None:
    learner, _, _ = run(
        lambda name, step: {"pages": 0.2 if step < 300 else -0.2}.get(name, 0.0),
        1000,
        arms=(NOTHING, PAGES),
        learner=Learner(LinearBandit(seed=1), seed=1, patience=Patience(recheck=60)),
    )
    assert learner.kept.name == BASELINE


def test_what_is_held_ends_a_trial_without_a_verdict_also_when_nothing_was_measured() -> None:
    learner, decisions, _ = run(
        fixed(pages=0.2),
        60,
        arms=(NOTHING, PAGES),
        reward=lambda step, value: None if step == 10 else value,
        hold=lambda step: "paused" if step == 10 else "",
    )
    assert decisions[9].state == TRIAL
    assert (decisions[10].event, decisions[10].arm) == ("held", NOTHING)
    assert learner.kept == PAGES
    assert learner.counts["rolled back"] == 0


def test_what_was_looked_at_before_it_was_held_counts_as_a_try() -> None:
    """Or who pauses often enough would find a gain where there is none."""
    learner, decisions, _ = run(
        fixed(pages=0.2), 80, arms=(NOTHING, PAGES), hold=lambda step: "paused" if step == 16 else ""
    )
    assert decisions[16].event == "held"
    assert learner.kept == PAGES
    assert len(learner.tries["web", "pages"]) == 2


def test_a_check_that_was_held_up_is_made_up_for() -> None:
    patience = Patience(recheck=30)
    began: list[int] = []

    def hold(step: int) -> str:
        if learner.is_trying and learner.kept == PAGES and not began:
            began.append(step)
            return "paused"
        return ""

    learner = Learner(LinearBandit(seed=1), seed=1, patience=patience)
    _, decisions, _ = run(fixed(pages=0.2), 150, arms=(NOTHING, PAGES), hold=hold, learner=learner)
    again = [step for step, one in enumerate(decisions) if one.event == "trial" and step > began[0]]
    assert again[0] <= began[0] + patience.dwell + 1


def test_what_is_spoiled_does_not_count_and_is_no_sign_of_blindness() -> None:
    learner, decisions, _ = run(
        fixed(pages=0.2),
        120,
        arms=(NOTHING, PAGES),
        reward=lambda step, value: None if 60 <= step < 70 else value,
        spoiled=lambda step: 60 <= step < 70,
    )
    assert decisions[59].arm == PAGES
    assert {one.arm for one in decisions[60:]} == {PAGES}
    assert learner.counts["blind"] == learner.counts["missing"] == 0


@pytest.mark.long
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, 0.0, -1.0])
def test_without_measurements_it_goes_back_and_stays(bad: float | None) -> None:
    learner, decisions, _ = run(
        fixed(pages=0.3), 400, arms=(NOTHING, PAGES), reward=lambda step, value: value if step < 300 else bad
    )
    assert any(decision.arm.name == "pages" for decision in decisions[:300])
    assert decisions[302].state == BLIND
    assert all(decision.arm.name == BASELINE for decision in decisions[302:])
    assert learner.counts["missing"] == 100
    assert [decision.event for decision in decisions].count("blind") == 1


def test_an_arm_that_is_no_longer_proposed_is_given_up() -> None:
    learner = Learner(LinearBandit(seed=1), seed=1)
    run(fixed(pages=0.3), 200, arms=(NOTHING, PAGES), learner=learner)
    assert learner.kept.name == "pages"
    decision = learner.decide(Seen(2000.0, 5.0, HERE, (NOTHING,), 1.0, "pages"))
    assert (decision.arm.name, decision.event) == (BASELINE, "gone")


def test_what_is_novel_is_only_watched() -> None:
    learner = Learner(LinearBandit(seed=1), seed=1)
    decisions = [learner.decide(Seen(5.0 * n, 5.0, HERE, ARMS, 1.0, BASELINE, novelty=5.0)) for n in range(50)]
    assert {decision.arm.name for decision in decisions} == {BASELINE}
    assert learner.counts["trial"] == 0


def test_what_cannot_be_flipped_is_made_once_and_judged_before_against_after() -> None:
    made = False

    def gains(name: str, _: int) -> float:
        nonlocal made
        made = made or name == "pages"
        return 0.3 if made else 0.0

    surely = replace(PAGES, expected=0.3)
    learner, decisions, _ = run(gains, 60, arms=(NOTHING, surely), one_way=frozenset({"pages"}))
    first = next(step for step, decision in enumerate(decisions) if decision.state == ONE_WAY)
    (last,) = (step for step, decision in enumerate(decisions) if decision.event == "made")
    assert all(decision.arm.name == "pages" for decision in decisions[first:last])
    assert decisions[last].gain == pytest.approx(0.3, abs=0.15)
    assert "before against after" in decisions[last].because
    assert learner.kept.name == BASELINE
    assert not any(decision.event == "trial" for decision in decisions[last:])


@pytest.mark.parametrize("way_back", [frozenset({"pages"}), frozenset()])
def test_what_cannot_be_flipped_and_was_worse_is_taken_back_where_there_is_a_way(way_back: frozenset[str]) -> None:
    surely = replace(PAGES, expected=0.3)
    only = frozenset({"pages"})
    learner, decisions, _ = run(fixed(pages=-0.3), 60, arms=(NOTHING, surely), one_way=only, way_back=way_back)
    (last,) = (step for step, decision in enumerate(decisions) if decision.event in ("rolled back", "made"))
    assert decisions[last].event == ("rolled back" if way_back else "made")
    low, high = decisions[last].interval or (0.0, 0.0)
    assert low < -0.3 < high < 0
    assert decisions[last].arm.name == BASELINE
    assert learner.quarantine.holds("web", "pages", 5.0 * last)


def test_what_cannot_be_flipped_waits_until_the_budget_can_bear_it_for_long() -> None:
    doubtful = replace(PAGES, expected=0.05)
    _, decisions, _ = run(fixed(pages=0.1), 400, arms=(NOTHING, doubtful), one_way=frozenset({"pages"}))
    assert {decision.arm.name for decision in decisions[:200]} == {BASELINE}


def test_a_late_change_says_nothing_of_either_side() -> None:
    """Two machines that differ only in intervals in which the wrong thing was in force decide alike."""
    prompt, late = (Learner(LinearBandit(seed=1), seed=1) for _ in range(2))
    _, decisions, _ = run(fixed(pages=0.2), 100, arms=(NOTHING, PAGES), learner=prompt)
    in_force, found, step = BASELINE, [], 0
    draw = np.random.default_rng(1)
    for wanted in decisions:
        value = math.exp(fixed(pages=0.2)(in_force, step) + draw.normal(0, 0.03))
        if late.decide(Seen(5.0 * step, 5.0, HERE, (NOTHING, PAGES), 0.001, "something else")).event == "":
            found.append(late.counts["late"])
        late.decide(Seen(5.0 * step, 5.0, HERE, (NOTHING, PAGES), value, in_force))
        in_force, step = wanted.arm.name, step + 1
    assert late.counts["late"] > 0
    assert late.counts["rolled back"] == 0


def test_a_seed_reproduces() -> None:
    first, again = (run(fixed(pages=0.1), 200, seed=4)[1] for _ in range(2))
    assert [decision.arm.name for decision in first] == [decision.arm.name for decision in again]


def test_what_an_earlier_run_has_proven_is_kept_at_once_and_checked_soon() -> None:
    known = [Proof(HERE, frozenset(PAGES.parts), 0.2, is_own=False)]
    learner = Learner(LinearBandit(seed=1), seed=1, known=known)
    _, decisions, _ = run(fixed(pages=0.2, pin=-0.1), 120, learner=learner)
    events = [decision.event for decision in decisions]
    recalled, confirmed = events.index("recalled"), events.index("confirmed")
    assert recalled <= learner.patience.dwell
    assert decisions[confirmed].candidate == "pages"
    assert confirmed - recalled < learner.patience.recheck / 2
    assert learner.proofs.is_own(HERE, PAGES)


def test_what_an_earlier_run_has_proven_and_holds_no_longer_is_given_up_soon() -> None:
    known = [Proof(HERE, frozenset(PAGES.parts), 0.2, is_own=False)]
    learner = Learner(LinearBandit(seed=1), seed=1, known=known)
    _, decisions, _ = run(fixed(pages=-0.1, pin=0.0), 120, learner=learner)
    assert learner.kept.name != "pages"
    assert not [one for one in learner.proofs.known if one.parts == frozenset(PAGES.parts)]
    given_up = next(step for step, decision in enumerate(decisions) if decision.event == "rolled back")
    assert given_up < learner.patience.recheck / 2
