"""Situations that are written down, what rules say of them, and test modules run without pytest."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

import rules.packs.numa
from hal.settings import cgroup, tree
from rules import Choice, Wish, choice, disk, never, nic, pair, rule, s, w, when
from rules.cases import Tried, try_cases
from rules.errors import RuleError
from rules.language import Condition
from rules.loader import load
from rules.rule import Never, Option, Rule
from rules.situation import Workload
from rules.testing import beside, given, listening

RANDOM: Mapping[str, object] = {"memory.random_share": 0.8, "demand.resident": "2 GiB"}


@rule()
@when(w.memory.random_share > 0.6, w.demand.resident > "1 GiB")
def huge(workload: Workload) -> list[Wish]:
    """Because."""
    return [s.memory.hugepages(workload)]


@rule()
@when(w.demand.cores > 1)
def silent() -> list[Wish]:
    """Because."""
    return []


@rule()
@when(w.demand.cores > 1)
def veto(workload: Workload) -> list[Never]:
    """Because."""
    return [never(workload, "cpu.*", "why")]


@rule()
@when(w.demand.cores > 1)
def either(workload: Workload) -> list[Choice]:
    """Because."""
    first, second = Option("a", (s.cpu.nice(workload, 1),)), Option("b", (s.cpu.nice(workload, 2),))
    return [choice("which", first, second)]


@rule()
@when(w.demand.cores > 1)
def broken(workload: Workload) -> list[Wish]:
    """Because."""
    raise ValueError(workload.name)


def a_rule(*conditions: Condition) -> Rule:
    def body(workload: Workload) -> list[Wish]:
        """Because."""
        return [s.memory.hugepages(workload)]

    return rule()(when(*conditions)(body))


RULES: tuple[Rule, ...] = (huge, silent, veto, either, broken)


# --- what is given


def test_amounts_are_parsed_by_the_fact_s_unit() -> None:
    (workload,) = given(RANDOM).situation.workloads
    assert workload.values["demand.resident"] == 2 * 2**30


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"memory.random_shar": 0.8}, "memory.random_share"),
        ({"memory.random_share": 60}, "never"),
        ({"memory.random_share": "much"}, "no amount"),
        ({"demand.resident": True}, "number"),
        ({"name": 5}, "a word"),
        ({"realtime": 1}, "true or false"),
        ({"cpus": 5}, "cpus=5"),
        ({"subject": "tree"}, "Subject"),
        ({"earlier": [{"memory.random_shar": 0.5}]}, "memory.random_share"),
    ],
)
def test_what_is_wrong_in_a_case_is_said(wrong: Mapping[str, object], words: str) -> None:
    with pytest.raises(RuleError) as caught:
        given(wrong)
    assert words in f"{caught.value} {caught.value.remedy}"


def test_facts_of_the_machine_and_its_things() -> None:
    situation = given(
        {"w.demand.cores": 1},
        machine="pack:2 numa:1 core:4 pu:1",
        facts={"llc_size": "32 MiB", "virtual": None},
        nics=[{"name": "eth7", "node": 1, "rx_queues": 4, "irqs": (30, 31)}],
        disks=[{"name": "nvme0n1"}],
        pcis=[{"address": "0000:01:00.0"}],
    ).situation
    machine = situation.machine
    assert machine.number("nodes") == 2
    assert machine.number("llc_size") == 32 * 2**20
    (card,) = machine.nics
    assert (card.name, card.node, card.irqs, str(card.subject)) == ("eth7", 1, (30, 31), "nic eth7")
    assert str(machine.disks[0].subject) == "block nvme0n1"
    assert str(machine.pcis[0].subject) == "pci 0000:01:00.0"
    assert situation.workloads[0].number("demand.cores") == 1


def test_a_machine_may_be_given_as_one() -> None:
    machine = given(machine="numa:2 core:2 pu:1").situation.machine
    again = given(machine=machine, facts={"load": 0.5}).situation.machine
    assert again.topology is machine.topology
    assert again.number("load") == 0.5


def test_workloads_are_told_apart_and_have_what_bodies_use() -> None:
    one, other = given(
        {
            "cpus": range(4),
            "node_bytes": {0: 1, 1: 5},
            "cgroup": "/a",
            "subject": cgroup("/a"),
            "pids": [7],
            "peers": {8: 2},
        },
        {"name": "db", "pids": [8]},
    ).situation.workloads
    assert (one.name, other.name) == ("workload", "db")
    assert one.subject == cgroup("/a") != other.subject
    assert (one.cpus, one.home, one.pids) == (frozenset(range(4)), 1, frozenset({7}))

    @rule()
    @when(pair.connections > 0)
    def talk(workload: Workload, other: Workload) -> list[Wish]:
        """Because."""
        return [s.cpu.nice(workload, 1), s.cpu.nice(other, 2)]

    assert given({"pids": [7], "peers": {8: 2}}, {"pids": [8]}).ask([talk]).fired("talk")
    assert not given({"pids": [7]}, {"pids": [8]}).ask([talk]).fired("talk")


def test_what_was_before_is_given_for_trends() -> None:
    grows = a_rule(w.demand.resident.trend > "1 MiB/s")
    past = [{"demand.resident": "10 MiB"}, {"demand.resident": "30 MiB"}]
    now = {"demand.resident": "50 MiB"}
    assert given({**now, "earlier": past, "times": (0, 5, 10)}).ask([grows]).truth("body") is True
    assert given({**now, "earlier": past[:1], "times": (0, 5)}).ask([grows]).truth("body") is None


def test_nearest_workloads_are_given_as_pairs() -> None:
    known = a_rule(w.like("redis*", within=1.0))
    assert given({"neighbours": [("mysql", 0.2), ("redis-server", 0.9)]}).ask([known]).fired("body")
    assert given({"neighbours": [("redis-server", 1.1)]}).ask([known]).truth("body") is False
    assert given({}).ask([known]).truth("body") is None


# --- what is said


def test_a_rule_fires_or_does_not_or_cannot_tell() -> None:
    assert given(RANDOM).ask(RULES).fired("huge")
    assert given(RANDOM).ask(RULES).truth("huge") is True
    little = given({**RANDOM, "demand.resident": "10 MiB"}).ask(RULES)
    assert (little.fired("huge"), little.truth("huge"), little.settings("huge")) == (False, False, {})
    assert given({"demand.resident": "2 GiB"}).ask(RULES).truth("huge") is None


def test_settings_are_by_knob_also_of_choices() -> None:
    assert given(RANDOM).ask(RULES).settings("huge") == {"memory.hugepages": "collapse:0.5"}
    assert given({"demand.cores": 2}).ask([either]).settings("either") == {"cpu.nice": 1}


def test_firing_is_having_something_to_say() -> None:
    said = given({"demand.cores": 2}).ask([silent, veto])
    assert (said.fired("silent"), said.truth("silent")) == (False, True)
    assert said.fired("veto")


def test_settings_of_several_subjects_are_asked_for_one_by_one() -> None:
    by_name = rule()(when(w.demand.cores > 0)(_nice_by_cores))
    case = given({"demand.cores": 1}, {"demand.cores": 2})
    said = case.ask([by_name])
    with pytest.raises(RuleError, match=r"cpu\.nice"):
        said.settings("_nice_by_cores")
    first, second = case.situation.workloads
    assert said.settings("_nice_by_cores", on=first) == {"cpu.nice": 1}
    assert said.settings("_nice_by_cores", on=second.subject) == {"cpu.nice": 2}
    assert said.settings("_nice_by_cores", on=tree(1, 1)) == {}


def _nice_by_cores(workload: Workload) -> list[Wish]:
    """Because."""
    return [s.cpu.nice(workload, round(workload.number("demand.cores") or 0))]


def test_a_body_that_raises_fails_the_case() -> None:
    said = given({"demand.cores": 2}).ask(RULES)
    with pytest.raises(ValueError, match="workload"):
        said.fired("broken")
    with pytest.raises(RuleError, match=Path(__file__).name):
        said.settings("broken")


def test_a_rule_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(RuleError) as caught:
        given(RANDOM).ask(RULES).fired("hug")
    assert "huge" in caught.value.remedy


def test_a_module_can_be_asked_and_rules_beside_a_test_are_its_own() -> None:
    said = given(RANDOM, machine="pack:2 numa:1(memory=64GB) core:8 pu:1").ask(rules.packs.numa)
    assert said.truth("numa.keep_on_one_node") is not True
    assert {one.identity for one in beside(Path(str(rules.packs.numa.__file__)).with_name("test_numa.py"))} == {
        one.identity for one in said.rules
    }
    with pytest.raises(RuleError, match="no test module"):
        beside("/x/numa.py")


def test_things_of_the_machine_are_asked_each() -> None:
    each = a_rule(nic.rx_queues > 1, disk.rotational)
    cards = [{"rx_queues": 1}, {"rx_queues": 8}]
    assert given({}, nics=cards, disks=[{"rotational": True}]).ask([each]).truth("body") is True
    assert given({}, nics=cards, disks=[{}]).ask([each]).truth("body") is None
    assert given({}, nics=cards, disks=[{"rotational": False}]).ask([each]).truth("body") is False
    assert given({}, nics=cards).ask([each]).truth("body") is False  # there is no disk


@pytest.mark.long
def test_asking_leaves_no_threads_behind() -> None:
    gc.collect()
    before = threading.active_count()
    for _ in range(50):
        given(RANDOM).ask(RULES)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "rules" and threading.active_count() > before:
            thread.join(1)
    assert threading.active_count() < before + 25


def test_what_is_asked_is_heard() -> None:
    with listening() as heard:
        said = given(RANDOM).ask(RULES)
        said.fired("huge")
        said.settings("huge")
        said.truth("silent")
    given(RANDOM).ask(RULES).fired("huge")
    assert [(answer.rule, answer.fired) for answer in heard] == [("huge", True), ("huge", True), ("silent", False)]


# --- running cases


RULE = """
from rules import rule, s, w, when

@rule()
@when(w.demand.cores > 1)
def one(workload):
    '''Because.'''
    yield s.memory.hugepages(workload)

@rule()
@when(w.demand.cores > 2)
def two(workload):
    '''Because.'''
    yield s.memory.hugepages(workload)
"""
TOP = "from rules.testing import beside, given\nRULES = beside(__file__)\n"


def tried(folder: Path, test: str | None, rules: str = RULE) -> Tried:
    path = folder / "mine.py"
    path.write_text(rules)
    if test is not None:
        (folder / "test_mine.py").write_text(TOP + test)
    return try_cases(load(path))


def test_cases_are_run_and_what_they_try_is_told(tmp_path: Path) -> None:
    found = tried(
        tmp_path,
        "def test_a():\n    assert given({'demand.cores': 1.5}).ask(RULES).fired('one')\n"
        "def test_b():\n    assert not given({'demand.cores': 1.5}).ask(RULES).fired('two')\n",
    )
    assert found.passed
    assert [case.name for case in found.cases] == ["test_a", "test_b"]
    assert found.never_fired == ("mine.two",)
    assert found.never_held == ("mine.one",)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def test_a():\n    x = 1\n    assert x == 2\n", ":5: "),
        ("def test_a():\n    x = 1\n    assert x == 2\n", "assert x == 2"),
        ("def test_a():\n    assert False, 'because'\n", "because"),
        ("def test_a():\n    {}['k']\n", "KeyError"),
        ("def test_a():\n    given({'demand.core': 1})\n", "w.demand.core"),
        ("def test_a(fixture):\n    pass\n", "fixture"),
        ("def test_a():\n    raise SystemExit\n", "SystemExit"),
    ],
)
def test_a_failing_case_says_where_and_why(tmp_path: Path, body: str, words: str) -> None:
    found = tried(tmp_path, body)
    assert not found.passed
    (case,) = found.failures
    assert words in f"{case.place}: {case.message}"


def test_a_case_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rules.cases.CASE_LIMIT_S", 0.3)
    found = tried(tmp_path, "def test_a():\n    while True:\n        pass\ndef test_b():\n    pass\n")
    assert [case.passed for case in found.cases] == [False, True]
    assert "did not end" in found.failures[0].message


@pytest.mark.long
def test_output_stays_whole_when_a_case_is_given_up_in_the_middle_of_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule's own time limit redirects output too, inside the case's: what is left behind must not put back the wrong one."""
    monkeypatch.setattr("rules.cases.CASE_LIMIT_S", 0.3)
    before = threading.enumerate()
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    looping = RULE.replace("    '''Because.'''\n", "    '''Because.'''\n    while True: pass\n", 1)
    found = tried(tmp_path, "def test_a():\n    given({'demand.cores': 9}).ask(RULES)\n", looping)
    assert not found.passed
    left = [thread for thread in threading.enumerate() if thread.name == "rules" and thread not in before]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)  # nor does the rule go on looping
    assert sys.stdout is out


def test_what_a_case_prints_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (case,) = tried(tmp_path, "def test_a():\n    print('hello')\n").cases
    assert case.printed == "hello\n"
    assert capfd.readouterr() == ("", "")


def test_without_a_test_module_nothing_is_tried(tmp_path: Path) -> None:
    found = tried(tmp_path, None)
    assert (found.cases, found.passed) == ((), True)
    assert found.never_fired == found.never_held == ("mine.one", "mine.two")


@pytest.mark.parametrize("test", ["x = = 1\n", "1 / 0\n", "import nowhere_at_all\n"])
def test_a_test_module_that_cannot_be_run_fails(tmp_path: Path, test: str) -> None:
    found = tried(tmp_path, test)
    assert not found.passed
    assert found.error is not None
    assert "test_mine.py" in str(found.error)


def test_a_test_module_that_others_can_write_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("")
    (tmp_path / "test_mine.py").chmod(0o666)
    found = tried(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert found.error is not None
    assert not (tmp_path / "ran").exists()


def test_the_cases_are_about_the_rules_that_were_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RULE)
    (tmp_path / "test_mine.py").write_text(
        TOP + "def test_a():\n    assert {one.name for one in RULES} == {'one', 'two'}\n"
    )
    file = load(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("")
    assert try_cases(file).passed


def test_functions_that_are_no_cases_are_left_alone(tmp_path: Path) -> None:
    found = tried(tmp_path, "def helper(x):\n    raise ValueError\ntest_number = 5\ndef test_a():\n    pass\n")
    assert [case.name for case in found.cases] == ["test_a"]


@pytest.mark.slow
def test_the_shipped_packs_pass_their_own_cases() -> None:
    module: ModuleType = rules.packs.numa
    found = try_cases(load(Path(str(module.__file__))))
    assert found.passed, [case.message for case in found.failures]
    assert found.cases
