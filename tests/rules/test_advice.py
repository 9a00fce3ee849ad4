"""From rules to advice: bodies are run with care, and proposals merged by rank, whole or not at all."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.host import LinuxHost
from hal.machine import read
from hal.settings import Subject, tree
from rules import choice, m, never, o, rule, s, w, when
from rules.advice import Advice, Advisor, merged
from rules.engine import Engine
from rules.errors import RuleError
from rules.rule import Option, Rule, Wish, Yielded, effects
from rules.situation import Machine, Situation, Workload

MACHINE = Machine(read(LinuxHost()), {"nodes": 2})


def load(name: str = "x", pid: int = 5, **values: object) -> Workload:
    return Workload(name, tree(pid, 1), {"demand.cores": 1.0} | {k.replace("__", "."): v for k, v in values.items()})


def advise(*rules: Rule, workloads: tuple[Workload, ...] = (load(),)) -> Advice:
    return Advisor(Engine(rules)).advise(Situation(MACHINE, workloads))


def setter(name: str, *wishes: Wish, priority: int = 0, conditions: tuple[Any, ...] = (w.demand.cores > 0.5,)) -> Rule:
    """Return a rule that wants these settings."""

    def body() -> Iterator[Yielded]:
        """Why."""
        yield from wishes

    body.__name__ = name
    return rule(priority=priority)(when(*conditions)(body))


def thp(value: str) -> Wish:
    return s.memory.thp(value)


# --- making a rule


def test_a_rule_is_data_and_a_function() -> None:
    @rule(priority=20, expect="throughput +5..30 %; latency-p99 -10 %", source="a measurement", limits="none known")
    @when(w.memory.random_share > 0.6, m.nodes > 1)
    def huge_pages(workload: Workload, machine: Machine) -> Iterator[Yielded]:
        """Random access misses the TLB.

        More of it.
        """
        yield s.memory.hugepages(workload)

    assert (huge_pages.name, huge_pages.priority, huge_pages.summary) == (
        "huge_pages",
        20,
        "Random access misses the TLB.",
    )
    assert [str(effect) for effect in effects(huge_pages.expect)] == ["throughput +5..30 %", "latency-p99 -10 %"]
    assert huge_pages.variables == ("w",)
    assert huge_pages.specificity == 2
    assert huge_pages.place.file == __file__
    assert list(huge_pages(load(), MACHINE) or ()) == [Wish("memory.hugepages", tree(5, 1), "collapse:0.5")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": True}, "priority"),
        ({"expect": "faster"}, "expect"),
        ({"expect": "throughput 5"}, "expect"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message) as caught:
        rule(**arguments)(lambda: None)
    assert caught.value.place.file == __file__


def test_a_body_may_ask_for_what_there_is() -> None:
    def body(workloads: object) -> None: ...

    with pytest.raises(RuleError, match="workloads"):
        rule()(body)


def test_conditions_only() -> None:
    with pytest.raises(RuleError, match="no condition"):
        when(True)  # type: ignore[arg-type]


def test_a_wish_is_held_against_its_knob_at_once() -> None:
    with pytest.raises(RuleError, match=r"memory\.thp"):
        s.memory.thp("sometimes")
    with pytest.raises(RuleError, match="not set on a cpu"):
        s.memory.hugepages(Subject("cpu", "1"))
    with pytest.raises(RuleError, match="nothing to set"):
        s.memory.hugepages("redis")  # type: ignore[arg-type]


# --- what fires


def test_what_fires_proposes_with_its_evidence() -> None:
    found = advise(setter("thp", thp("never")), setter("quiet", thp("always"), conditions=(w.demand.cores > 9,)))
    (proposal,) = found.proposals
    assert (proposal.rule.name, proposal.about) == ("thp", ("x",))
    assert proposal.evidence[0].actual == "1"
    assert [setting.value for setting in found.config] == ["never"]
    assert "thp" in found.config.settings[0].reason


def test_pairs_see_every_other_workload() -> None:
    seen = []

    @rule()
    @when(w.demand.cores > 0.5, o.demand.cores > 0.5)
    def look(workload: Workload, other: Workload) -> None:
        """Why."""
        seen.append((workload.name, other.name))

    advise(look, workloads=tuple(load(name, pid) for pid, name in enumerate("abc", 5)))
    assert sorted(seen) == sorted(itertools.permutations("abc", 2))


# --- bodies that come to grief


def test_a_body_that_raises_costs_itself_only() -> None:
    @rule()
    @when(w.demand.cores > 0)
    def broken(workload: Workload) -> Iterator[Yielded]:
        """Why."""
        yield s.memory.thp("never")
        raise ZeroDivisionError("no")

    found = advise(broken, setter("good", thp("always")))
    assert [proposal.rule.name for proposal in found.proposals] == ["good"]
    (failure,) = found.failures
    assert "ZeroDivisionError" in failure.message
    assert failure.place.line == broken.place.line + 5


@pytest.mark.parametrize("how", ["exit", "interrupt", "nonsense", "endless"])
def test_nothing_that_a_body_does_gets_out(how: str) -> None:
    @rule()
    def bad() -> Iterator[Any]:
        """Why."""
        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "nonsense":
            yield "always"
        while True:
            yield s.memory.thp("never")

    found = advise(bad, setter("good", thp("always")))
    assert [failure.rule.name for failure in found.failures] == ["bad"]
    assert [proposal.rule.name for proposal in found.proposals] == ["good"]


@pytest.mark.long
@pytest.mark.parametrize("loops", [True, False])
def test_a_body_that_does_not_end_is_left_behind_and_not_asked_again(loops: bool) -> None:
    asked = []

    @rule()
    def slow() -> None:
        """Why."""
        asked.append(1)
        while loops:
            pass
        time.sleep(30)

    advisor = Advisor(Engine([slow, setter("good", thp("always"))]))
    for _ in range(2):
        found = advisor.advise(Situation(MACHINE, (load(),)))
        assert [failure.rule.name for failure in found.failures] == ["slow"]
        assert [proposal.rule.name for proposal in found.proposals] == ["good"]
    assert asked == [1]


def test_what_a_body_prints_is_kept_from_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    @rule()
    def loud() -> None:
        """Why."""
        print("hello")

    found = advise(loud)
    assert capsys.readouterr().out == ""
    assert any("hello" in note for note in found.notes)


# --- merging


def test_the_higher_priority_counts() -> None:
    found = advise(setter("low", thp("never")), setter("high", thp("always"), priority=5))
    assert [proposal.rule.name for proposal in found.proposals] == ["high"]
    assert "priority" in found.dropped[0].because


def test_of_one_priority_the_more_particular_counts() -> None:
    special = (w.demand.cores > 0.5, w.demand.cores < 9)
    found = advise(setter("general", thp("never")), setter("special", thp("always"), conditions=special))
    assert [proposal.rule.name for proposal in found.proposals] == ["special"]
    assert "specificity" in found.dropped[0].because


def test_what_is_level_is_a_conflict_and_not_taken() -> None:
    found = advise(setter("one", thp("never")), setter("two", thp("always")), setter("third", s.memory.ksm("on")))
    assert [proposal.rule.name for proposal in found.proposals] == ["third"]
    (conflict,) = found.conflicts
    assert (conflict.knob, {proposal.rule.name for proposal in conflict.proposals}) == ("memory.thp", {"one", "two"})
    assert len(found.dropped) == 2


def test_a_lighter_one_does_not_profit_from_a_conflict_above_it() -> None:
    """What those that know better do not agree on is not left to those that know less."""
    found = advise(
        setter("one", thp("never"), priority=1), setter("two", thp("always"), priority=1), setter("low", thp("madvise"))
    )
    assert found.proposals == ()
    assert "conflict" in found.dropped[-1].because


def test_agreement_is_no_conflict() -> None:
    found = advise(setter("one", thp("never")), setter("two", thp("never")))
    assert len(found.proposals) == 2
    assert len(found.config) == 1


def test_a_proposal_is_taken_whole_or_not() -> None:
    found = advise(setter("high", thp("never"), priority=1), setter("both", thp("always"), s.memory.ksm("on")))
    assert [setting.knob for setting in found.config] == ["memory.thp"]


def test_a_choice_takes_its_first_way_that_goes() -> None:
    @rule()
    def either() -> Iterator[Yielded]:
        """Why."""
        yield choice("pages", Option("off", (thp("never"),)), Option("asked for", (thp("madvise"),)))

    assert [one.option.name for one in advise(either).proposals] == ["off"]
    found = advise(either, setter("high", thp("madvise"), priority=9))
    assert [one.option.name for one in found.proposals if one.choice] == ["asked for"]


def test_what_is_forbidden_is_dropped_with_the_reason() -> None:
    @rule(priority=-100)
    def hands_off(workload: Workload) -> Iterator[Yielded]:
        """Why."""
        yield never(workload, "memory.huge*", "the vendor says so")

    wanted = setter("pages", s.memory.hugepages(tree(5, 1)), priority=100)
    other = setter("others", s.memory.hugepages(tree(6, 1)))
    found = advise(hands_off, wanted, other)
    assert [proposal.rule.name for proposal in found.proposals] == ["others"]
    assert "the vendor says so" in found.dropped[0].because
    (veto,) = found.vetoed
    assert (veto.proposal.rule.name, veto.by.name, veto.knobs) == ("pages", "hands_off", "memory.huge*")
    assert veto.reason == "the vendor says so"
    assert found.partly_vetoed == ()


def test_a_way_that_is_forbidden_is_told_where_another_is_taken() -> None:
    @rule()
    def hands_off() -> Iterator[Yielded]:
        """Why."""
        yield never(None, "memory.thp", "the database asks for it")

    @rule()
    @when(w.demand.cores > 0.5)
    def either(workload: Workload) -> Iterator[Yielded]:
        """Why."""
        yield choice("pages", Option("all", (thp("always"),)), Option("its own", (s.memory.hugepages(workload),)))

    found = advise(hands_off, either)
    assert [one.option.name for one in found.proposals] == ["its own"]
    assert [(one.option.name, one.by.name, one.reason) for one in found.partly_vetoed] == [
        ("all", "hands_off", "the database asks for it")
    ]
    assert found.dropped == ()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["never", "always", "madvise"]), st.booleans()), max_size=8),
    st.randoms(),
)
def test_merging_does_not_depend_on_the_order(wanted: list[tuple[int, str, bool]], random: Any) -> None:
    rules = [
        setter(
            f"r{number}",
            thp(value),
            *([s.memory.ksm("on" if value == "never" else "off")] if also else []),
            priority=priority,
        )
        for number, (priority, value, also) in enumerate(wanted)
    ]
    proposals = list(advise(*rules).proposals) + [one.proposal for one in advise(*rules).dropped]
    straight = merged(proposals)
    random.shuffle(proposals)
    shuffled = merged(proposals)
    assert straight.config.values() == shuffled.config.values()
    assert {one.rule.name for one in straight.proposals} == {one.rule.name for one in shuffled.proposals}
    assert len(straight.proposals) + len(straight.dropped) == len(wanted)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["never", "always"])), max_size=8))
def test_nothing_taken_contradicts(wanted: list[tuple[int, str]]) -> None:
    found = advise(*(setter(f"r{n}", thp(value), priority=priority) for n, (priority, value) in enumerate(wanted)))
    assert len({wish.value for proposal in found.proposals for wish in proposal.option.wishes}) <= 1
    assert {setting.value for setting in found.config} == {w.value for p in found.proposals for w in p.option.wishes}
