"""What advice comes to on a machine, and which rules cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from hal.fake import FakeHost
from hal.settings import SYSTEM, tree
from rules import any_of, m, none_of, rule, s, w, when
from rules.advice import Advice, Advisor
from rules.doubts import doubts
from rules.engine import Engine
from rules.outcome import ALREADY, CHANGES, LEFT_OUT, Outcome, outcome
from rules.rule import Rule, Wish
from rules.situation import Situation, Workload
from rules.testing import given

PID = 40


@rule(priority=20)
@when(w.demand.cores > 0.5)
def pinned(workload: Workload) -> Iterator[Wish]:
    """Bind it."""
    yield s.cpu.affinity(workload, "0-1")
    yield s.cpu.nice(workload, 0)


@rule(priority=10)
@when(w.demand.cores > 0.5)
def impossible(workload: Workload) -> Iterator[Wish]:
    """Bind it where there is nothing."""
    yield s.cpu.affinity(workload, "4096")


@rule(priority=5)
@when(w.demand.cores > 0.5)
def the_same_again(workload: Workload) -> Iterator[Wish]:
    """Bind it there for another reason."""
    yield s.cpu.affinity(workload, "0-1")


@rule(priority=1)
@when(w.demand.cores > 0.5)
def absent_here() -> Iterator[Wish]:
    """Something that this machine does not have."""
    yield s.power.boost(True)


def machine() -> FakeHost:
    host = FakeHost(
        {
            "/proc/self/mounts": "",
            "/proc/sys/kernel/hostname": "fake\n",
            "/sys/devices/system/cpu/online": "0-3\n",
            "/sys/devices/system/cpu/possible": "0-3\n",
        }
    )
    host.start(1, "init", parent=0)
    host.start(PID, "db", threads=(41, 42))
    return host


def advice(host: FakeHost, *rules: Rule) -> Advice:
    situation = given({"demand.cores": 1.0, "subject": tree(PID, host.tasks[PID].start)}).situation
    return Advisor(Engine([replace(one, pack="mine") for one in rules])).advise(situation)


def states(made: Outcome) -> dict[str, list[str]]:
    return {proposal.rule.name: [fate.state for fate in fates] for proposal, fates in made.proposals}


def test_each_setting_changes_something_or_is_so_already() -> None:
    host = machine()
    made = outcome(host, advice(host, pinned), title="a try", notes=["mind the gap"])
    assert states(made) == {"pinned": [CHANGES, ALREADY]}
    assert {change.knob for change in made.plan.changes} == {"cpu.affinity"}
    assert {change.subject.name for change in made.plan.changes} == {"40", "41", "42"}
    assert all("mine.pinned: Bind it." in change.reason for change in made.plan.changes)
    assert made.plan.title == "a try"
    assert "mind the gap" in made.plan.notes
    assert host.writes == []


def test_what_the_machine_cannot_take_costs_its_own_proposal_only() -> None:
    host = machine()
    (refused,) = outcome(host, advice(host, impossible)).refused
    assert refused.proposal.rule.name == "impossible"
    assert "4096 is not online" in refused.message
    both = outcome(host, advice(host, impossible, replace(pinned, priority=30)))
    assert states(both) == {"pinned": [CHANGES, ALREADY]}
    assert both.refused == ()  # the other one counts already, and this one was dropped


def test_one_that_the_machine_does_not_have_is_left_out_with_the_reason() -> None:
    host = machine()
    made = outcome(host, advice(host, absent_here))
    ((_, (fate,)),) = made.proposals
    assert (fate.state, fate.setting.subject) == (LEFT_OUT, SYSTEM)
    assert "boost" in fate.because
    assert made.makes_no_difference


def test_two_that_want_the_same_share_the_change_and_the_weightier_gives_the_reason() -> None:
    host = machine()
    made = outcome(host, advice(host, the_same_again, pinned))
    assert states(made) == {"pinned": [CHANGES, ALREADY], "the_same_again": [CHANGES]}
    assert len(made.plan.changes) == 3
    assert all(change.reason.startswith("mine.pinned") for change in made.plan.changes)


def test_a_child_that_somebody_pinned_is_left_and_the_rest_is_done() -> None:
    host = machine()
    host.start(50, "child", parent=PID)
    host.tasks[50].affinity = (3,)
    ((_, (fate, _)),) = outcome(host, advice(host, pinned)).proposals
    assert fate.state == CHANGES
    assert {change.subject.name for change in fate.changes} == {"40", "41", "42"}
    assert "pinned to 3" in fate.because


def test_nothing_advised_is_an_empty_plan() -> None:
    host = machine()
    made = outcome(host, advice(host))
    assert made.makes_no_difference
    assert (made.proposals, made.refused) == ((), ())


# --- rules that cannot tell


@rule()
@when(w.demand.cores > 0.5, w.cpu.llc_mpki > 3, m.memory_channels > 2)
def two_unknown() -> Iterator[Wish]:
    """Needs two things that are unknown."""
    yield s.memory.swappiness(1)


@rule()
@when(w.demand.cores > 0.5, w.cpu.ipc > 1)
def one_unknown() -> Iterator[Wish]:
    """Needs one thing that is unknown."""
    yield s.memory.swappiness(1)


@rule()
@when(w.demand.cores > 0.5, any_of(w.demand.cores > 5, none_of(w.cpu.dtlb_mpki > 3)))
def within_alternatives() -> Iterator[Wish]:
    """What is unknown is one part of an alternative."""
    yield s.memory.swappiness(1)


@rule()
@when(w.demand.cores > 5, w.cpu.ipc > 1)
def cannot_be() -> Iterator[Wish]:
    """One condition fails, so that the unknown one does not matter."""
    yield s.memory.swappiness(1)


@rule()
@when((w.demand.cores > 0.5).for_at_least(9))
def not_long_enough() -> Iterator[Wish]:
    """Known, but not for long enough."""
    yield s.memory.swappiness(1)


def situation(*workloads: Mapping[str, object]) -> Situation:
    return given(*workloads).situation


def told(rules: Sequence[Rule], *workloads: Mapping[str, object]) -> list[tuple[str, tuple[str, ...]]]:
    return [(doubt.rule.name, doubt.unknown) for doubt in doubts(rules, situation(*workloads))]


def test_those_nearest_to_firing_come_first_and_name_what_is_unknown() -> None:
    rules = (two_unknown, cannot_be, within_alternatives, one_unknown, pinned)
    assert told(rules, {"demand.cores": 1.0}) == [
        ("one_unknown", ("w.cpu.ipc",)),
        ("within_alternatives", ("w.cpu.dtlb_mpki",)),
        ("two_unknown", ("w.cpu.llc_mpki", "m.memory_channels")),
    ]


def test_a_rule_that_holds_for_one_workload_is_in_no_doubt() -> None:
    known, unknown = {"demand.cores": 1.0, "cpu.ipc": 2.0}, {"demand.cores": 1.0}
    assert told([one_unknown], unknown, known) == []
    assert told([one_unknown], unknown, {"demand.cores": 0.1}) == [("one_unknown", ("w.cpu.ipc",))]


def test_what_has_not_lasted_long_enough_names_what_it_looks_at() -> None:
    assert told([not_long_enough], {"demand.cores": 1.0}) == [("not_long_enough", ("w.demand.cores",))]


def test_the_first_of_several_workloads_that_is_nearest_is_named() -> None:
    (doubt,) = doubts([two_unknown], situation({"demand.cores": 1.0}, {"demand.cores": 1.0, "cpu.llc_mpki": 9.0}))
    assert doubt.unknown == ("m.memory_channels",)
    assert (doubt.open, doubt.conditions) == (1, 3)


@pytest.mark.parametrize("cores", [None, 0.1])
def test_no_doubt_where_a_condition_decides(cores: float | None) -> None:
    found = told([pinned], {} if cores is None else {"demand.cores": cores})
    assert found == ([("pinned", ("w.demand.cores",))] if cores is None else [])
