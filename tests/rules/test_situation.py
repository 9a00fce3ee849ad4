"""What words stand for: every pair once, those that talk first, and facts of several words side by side."""

from __future__ import annotations

from hal.host import LinuxHost
from hal.machine import read
from hal.settings import tree
from rules import situation as module
from rules.situation import Machine, Situation, Thing, Workload, bindings

MACHINE = Machine(
    read(LinuxHost()), {"nodes": 2.0}, nics=(Thing("eth0", tree(1, 1), {"up": True}), Thing("eth1", tree(1, 1)))
)


def load(number: int, *, peers: dict[int, int] | None = None, intervals: int = 0) -> Workload:
    earlier = tuple({"demand.cores": float(n)} for n in range(intervals))
    times = tuple(map(float, range(intervals + 1)))
    return Workload(
        f"w{number}", tree(number, 1), {"demand.cores": 9.0}, earlier, times, frozenset({number}), peers or {}
    )


def pairs(situation: Situation, focus: Workload | None = None) -> list[tuple[str, str]]:
    found = bindings(situation, ("w", "o"), focus=focus)
    return [(one.workload.name, one.other.name) for one in found if one.workload and one.other]


def test_every_pair_is_there_once_and_those_that_talk_come_first() -> None:
    loads = (load(1), load(2), load(3, peers={1: 4, 999: 1}))
    found = pairs(Situation(MACHINE, loads))
    assert sorted(found[:2]) == [("w1", "w3"), ("w3", "w1")]
    assert sorted(found) == [(f"w{a}", f"w{b}") for a in (1, 2, 3) for b in (1, 2, 3) if a != b]


def test_of_one_workload_only_its_own_pairs() -> None:
    loads = (load(1), load(2, peers={3: 1}), load(3))
    assert pairs(Situation(MACHINE, loads), loads[2]) == [("w3", "w2"), ("w3", "w1")]


def test_of_very_many_those_that_talk_are_not_left_out() -> None:
    loads = tuple(load(number, peers={number + 50: 1} if number < 50 else {}) for number in range(1, 101))
    found = pairs(Situation(MACHINE, loads))
    assert len(found) == module.MOST_PAIRS
    assert {("w1", "w51"), ("w51", "w1"), ("w49", "w99")} <= set(found[:98])


def test_facts_of_all_words_stand_side_by_side() -> None:
    (first, *_) = bindings(Situation(MACHINE, (load(1), load(2))), ("w", "o", "nic"))
    assert first.facts.now["w.demand.cores"] == 9.0
    assert first.facts.now.get("m.nodes") == 2.0
    assert first.facts.now.get("nic.up") is True
    assert first.facts.now.get("disk.size") is None
    assert first.facts.now.get("w.no.such", 5) == 5
    assert set(first.facts.now) >= {"w.demand.cores", "o.demand.cores", "m.nodes", "nic.up", "pair.connections"}
    assert len(list(bindings(Situation(MACHINE, (load(1), load(2))), ("w", "o", "nic")))) == 4


def test_of_two_histories_what_both_have_counts() -> None:
    long, short = load(1, intervals=5), load(2, intervals=2)
    one = next(iter(bindings(Situation(MACHINE, (long, short)), ("w", "o"))))
    assert [values.get("w.demand.cores") for values in one.facts.earlier] == [3.0, 4.0]
    assert [values.get("o.demand.cores") for values in one.facts.earlier] == [0.0, 1.0]
    assert [values.get("m.nodes") for values in one.facts.earlier] == [2.0, 2.0]
    assert len(one.facts.times) == 3


def test_a_rule_about_the_machine_alone_is_evaluated_once() -> None:
    (only,) = bindings(Situation(MACHINE, (load(1), load(2))), ())
    assert only.workload is None
    assert only.facts.now.get("m.nodes") == 2.0
