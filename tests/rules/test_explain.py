"""Why rules fire or not, and what other rules would have proposed for what was recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from dna.vector import Dna, Interval, Profile
from rules import Wish, m, never, nic, o, rule, s, w, when
from rules.engine import Engine
from rules.explain import DROPPED, FAILED, NO, NOTHING, PROPOSED, SILENT, UNTOLD, Explained, explain
from rules.language import Condition
from rules.replay import recorded_situations, replay
from rules.rule import Never, Rule
from rules.situation import Machine, Workload
from rules.testing import Given, given


def a_rule(name: str, *conditions: Condition, nice: int = 1, priority: int = 0) -> Rule:
    def body(workload: Workload) -> list[Wish]:
        """Because."""
        return [s.cpu.nice(workload, nice)]

    body.__name__ = name
    return rule(priority=priority)(when(*conditions)(body))


def explained(case: Given, *rules: Rule) -> dict[str, Explained]:
    return {one.rule.name: one for one in explain(Engine(rules), case.situation)}


BUSY: Mapping[str, object] = {"demand.cores": 2.0}


def test_every_outcome_is_told_apart() -> None:
    @rule()
    @when(w.demand.cores > 1)
    def raises(workload: Workload) -> list[Wish]:
        """Because."""
        raise ValueError(workload.name)

    @rule()
    @when(w.demand.cores > 1)
    def silent(workload: Workload) -> list[Never]:
        """Because."""
        return [never(workload, "irq.*", "why")]

    found = explained(
        given(BUSY),
        a_rule("wins", w.demand.cores > 1, priority=5),
        a_rule("loses", w.demand.cores > 1, nice=2),
        a_rule("not_so", w.demand.cores > 3),
        a_rule("not_known", w.memory.random_share > 0.5),
        a_rule("no_pair", o.demand.cores > 1),
        a_rule("no_card", nic.up),
        raises,
        silent,
    )
    assert {name: one.outcome for name, one in found.items()} == {
        "wins": PROPOSED,
        "loses": DROPPED,
        "not_so": NO,
        "not_known": UNTOLD,
        "no_pair": NOTHING,
        "no_card": NOTHING,
        "raises": FAILED,
        "silent": SILENT,
    }
    assert "wins" in found["loses"].because
    assert "ValueError" in found["raises"].because
    assert "second workload" in found["no_pair"].because
    assert "network card" in found["no_card"].because


def test_every_condition_has_value_threshold_and_margin() -> None:
    one = explained(given(BUSY), a_rule("one", w.demand.cores > 1, w.memory.random_share > 0.5, m.nodes > 3))["one"]
    cores, share, nodes = one.evidence
    assert (cores.truth, cores.actual, cores.threshold, cores.margin) == (True, "2", "> 1", 1.0)
    assert (share.truth, share.actual, share.margin) == (None, "unknown", None)
    assert (nodes.truth, nodes.actual) == (False, "1")
    assert nodes.margin == pytest.approx(-2 / 3)
    assert one.unmet == (share, nodes)


def test_each_thing_is_explained_by_itself() -> None:
    rules = [a_rule("one", w.demand.cores > 1)]
    found = explain(Engine(rules), given(BUSY, {"name": "idle", "demand.cores": 0.1}).situation)
    assert [(one.about, one.outcome) for one in found] == [(("workload",), PROPOSED), (("idle",), NO)]


def test_two_of_equal_rank_are_told_to_be_in_conflict() -> None:
    found = explained(given(BUSY), a_rule("one", w.demand.cores > 1), a_rule("two", w.demand.cores > 1, nice=2))
    assert {one.outcome for one in found.values()} == {DROPPED}
    assert "conflict" in found["one"].because


# --- replay


def profile(identity: str, cores: float, machine: Mapping[str, object] = {}) -> Profile:
    intervals = tuple(
        Interval(float(t), {"memory.numa_locality": 0.4}, {"cores": cores}, {}, Dna(np.zeros(2), 0.1, "m"), {})
        for t in (5, 10)
    )
    return Profile(identity, "", dict(machine), {"kind": "pid", "value": "7"}, 0.0, 5.0, intervals)


@pytest.fixture
def machine() -> Machine:
    return given(machine="numa:2 core:4 pu:1").situation.machine


type Replayed = Callable[..., list[tuple[list[str], list[str], list[str]]]]


@pytest.fixture
def replayed(machine: Machine) -> Replayed:
    def run(before: list[Rule], after: list[Rule], *cores: float) -> list[tuple[list[str], list[str], list[str]]]:
        recorded = recorded_situations([profile(str(n), one) for n, one in enumerate(cores)], machine)
        return [
            (
                [one.rule.name for one in found.new],
                [one.rule.name for one, _ in found.gone],
                [new.rule.name for _, new in found.changed],
            )
            for found in replay(recorded, before=before, after=after)
        ]

    return run


def test_the_same_rules_change_nothing(replayed: Replayed) -> None:
    rules = [a_rule("one", w.demand.cores > 1)]
    assert replayed(rules, rules, 0.5, 2.0) == [([], [], []), ([], [], [])]


def test_what_is_new_gone_and_changed_is_told_for_each_profile(replayed: Replayed) -> None:
    before = [a_rule("same", w.demand.cores > 1), a_rule("old", w.demand.cores < 1)]
    after = [a_rule("same", w.demand.cores > 1, nice=3), a_rule("fresh", w.demand.cores < 1, nice=5)]
    assert replayed(before, after, 2.0, 0.5) == [([], [], ["same"]), (["fresh"], ["old"], [])]


def test_why_a_proposal_is_gone_is_told(machine: Machine) -> None:
    (one,) = recorded_situations([profile("a", 2.0)], machine)
    old = a_rule("one", w.demand.cores > 1)
    (lost,) = replay([one], before=[old], after=[old, a_rule("two", w.demand.cores > 1, nice=2, priority=3)])
    ((gone, why),) = lost.gone
    assert gone.rule.name == "one"
    assert why.startswith("two sets")
    (stopped,) = replay([one], before=[old], after=[])
    assert "does not fire" in stopped.gone[0][1]
    (torn,) = replay([one], before=[old], after=[old, a_rule("two", w.demand.cores > 1, nice=2)])
    assert torn.conflicts == 1


def test_what_rested_on_another_machine_is_unknown_here(machine: Machine) -> None:
    (elsewhere,) = recorded_situations([profile("a", 2.0, {"hostname": "another"})], machine)
    (workload,) = elsewhere.situation.workloads
    assert workload.number("memory.numa_locality") is None
    assert workload.number("demand.cores") == 2.0


def test_profiles_are_named_by_id_and_label(machine: Machine) -> None:
    named = dataclasses.replace(profile("a1", 2.0), name="db")
    assert [one.label for one in recorded_situations([profile("a0", 2.0), named], machine)] == ["a0", "a1 db"]


def test_no_difference_is_empty(machine: Machine) -> None:
    (one,) = recorded_situations([profile("a", 2.0)], machine)
    advice = next(iter(replay([one], before=[], after=[])))
    assert advice.is_empty
