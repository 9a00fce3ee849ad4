"""The shipped packs: their cases, whom they never disturb, and that nothing they yield is refused on any machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.described import described
from hal.knobs import all_knobs
from hal.knobs.knob import show
from hal.knobs.memory_placement import shares_of
from hal.lists import format_cpu_list, parse_cpu_list
from hal.machine import CpuStates, NodeMemory
from hal.settings import Subject, tree
from hal.topology_values import UNKNOWN_NODE
from rules.advice import Advisor, arguments
from rules.engine import Engine
from rules.gather import described_machine
from rules.gather_workload import cpu_facts, placement_facts
from rules.language import Facts
from rules.lint import lint
from rules.loader import rules_of
from rules.rule import Choice, Never, Rule, Wish, effects
from rules.running import collected
from rules.situation import Binding, Machine, Situation, Thing, Workload, bindings
from rules.sources import Sources, packs_of, shipped
from rules.testing import listening

SHARED = Path(__file__).resolve().parents[3] / "shared" / "topologies"
PACKS = ("cpu", "memory", "network", "numa", "pcie", "power", "storage")
RULES = tuple(rule for name in PACKS for rule in rules_of(import_module(f"rules.packs.{name}")))
BY_NAME = {rule.name: rule for rule in RULES}
GIB = 1 << 30
ONE_CORE = "numa:1(memory=4GB) l3:1(size=8MB) core:1 pu:1"
SYNTHETIC = (
    ONE_CORE,
    "core:1 pu:1",  # of no known size
    "numa:1(memory=4GB) core:1 pu:2",
    "numa:1(memory=8GB) l3:1(size=8MB) core:2 pu:1",
    "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:2",
    "pack:2 numa:1 core:4 pu:2",
    "pack:2 numa:1(memory=64GB) l3:1(size=32MB) core:16 pu:2",
    "pack:2 numa:1(memory=64GB) l3:4(size=32MB) core:8 pu:2",
    "pack:4 numa:2(memory=32GB) l3:1(size=16MB) core:8 pu:1",
    "pack:2 l3:4(size=16MB) numa:1(memory=16GB) core:4 pu:2",
    "numa:4(memory=1GB) core:1 pu:1",
)
CASES = [
    pytest.param(case, id=f"{name}.{case.__name__.removeprefix('test_')}")
    for name in PACKS
    for case in vars(import_module(f"rules.packs.test_{name}")).values()
    if inspect.isfunction(case) and case.__name__.startswith("test_")
]


# --- what they are


def test_there_are_the_packs_that_were_promised() -> None:
    assert shipped() == PACKS
    assert len(RULES) >= 18
    assert len(BY_NAME) == len(RULES)  # a name says which, without its pack


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.identity)
def test_every_rule_says_why_from_where_how_much_and_how_far(rule: Rule) -> None:
    assert rule.reason
    assert effects(rule.expect)
    assert rule.source
    assert rule.limits


def test_lint_finds_nothing() -> None:
    assert lint(packs_of(Sources.of())) == []


@pytest.mark.parametrize("case", CASES)
def test_case(case: Callable[[], None]) -> None:
    case()


@pytest.mark.slow
def test_every_rule_is_seen_to_speak_and_to_be_silent() -> None:
    with listening() as heard:
        for case in CASES:
            case.values[0]()  # type: ignore[operator]
    seen = {(answer.rule, answer.fired) for answer in heard}
    assert {(rule.identity, fired) for rule in RULES for fired in (True, False)} - seen == set()


# --- where nothing is known, or nothing can be done


def conditions_hold(rule: Rule, facts: Mapping[str, object]) -> bool | None:
    """Return whether all conditions of a rule hold; None when that cannot be told."""
    seen = [condition.truth(Facts(facts)) for condition in rule.conditions]
    return False if False in seen else None if None in seen else True


@cache
def machine(text: str) -> Machine:
    return described_machine(text)


@pytest.mark.parametrize("text", SYNTHETIC)
def test_of_a_workload_of_which_nothing_is_known_nothing_is_said(text: str) -> None:
    nobody, other = (Workload(name, tree(pid, 1), {}) for name, pid in (("nobody", 1000), ("other", 1001)))
    said = Advisor(Engine(RULES)).advise(Situation(machine(text), (nobody, other)))
    assert (said.proposals, said.conflicts, said.failures) == ((), (), ())


PLACES = ("cpu.affinity", "memory.placement", "irq.affinity", "nic.rps")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.identity)
def test_on_one_core_nothing_is_placed(rule: Rule) -> None:
    """Whatever the workload: the machine alone makes the conditions false, or the body finds nowhere else to go."""
    here = machine(ONE_CORE)
    if conditions_hold(rule, {f"m.{name}": value for name, value in here.values.items()}) is False:
        return
    for one in (a_workload({0}), a_workload(set())):
        for wish in wishes_of(rule, here, one, one):
            assert wish.knob not in PLACES or wish.value == "none", wish


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.pack in ("power", "pcie")], ids=lambda rule: rule.identity
)
def test_power_and_links_of_a_virtual_machine_are_the_hosts(rule: Rule) -> None:
    assert conditions_hold(rule, {"m.virtual": True}) is False


# --- on every machine


def a_workload(cpus: Iterable[int], **more: Any) -> Workload:
    values = {"demand.cores": 0.5, "demand.resident": GIB, "memory.working_set_share": 0.1, **more}
    return Workload("some", tree(1000, 1), values, pids=frozenset((1000,)), cpus=frozenset(cpus))


def bound(rule: Rule, here: Machine, workload: Workload, other: Workload) -> Iterator[Binding]:
    """Yield what a rule is evaluated for, conditions aside."""
    things = {
        "nic": [*here.nics, Thing("eth9", Subject("nic", "eth9"), {"rx_queues": 3})],
        "disk": [*here.disks, Thing("sdz", Subject("block", "sdz"), {})],
        "pci": [*here.pcis, Thing("0000:ff:1f.0", Subject("pci", "0000:ff:1f.0"), {"max_speed": 7.5})],
    }
    full = replace(here, nics=tuple(things["nic"]), disks=tuple(things["disk"]), pcis=tuple(things["pci"]))
    return bindings(
        Situation(full, (workload, other)), rule.variables, focus=workload if "w" in rule.variables else None
    )


def wishes_of(rule: Rule, here: Machine, workload: Workload, other: Workload) -> Iterator[Wish]:
    """Yield every setting, of all ways, that a rule's body yields, whether or not its conditions hold."""
    for binding in bound(rule, here, workload, other):
        for one in collected(rule(**arguments(rule, binding))):
            if isinstance(one, Choice):
                yield from (wish for option in one.options for wish in option.wishes)
            elif not isinstance(one, Never):
                yield one


def shared_machines() -> Iterator[str]:
    yield from (str(path) for path in sorted(SHARED.glob("*.xml")))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Machines of descriptions, some of their CPUs isolated, forbidden or of no known node, with memory free or full."""
    here = machine(draw(st.sampled_from([*SYNTHETIC, *shared_machines()])))
    shape = here.topology
    numbers = [cpu.os_index for cpu in shape.cpus]
    some = st.sets(st.sampled_from(numbers), max_size=len(numbers))
    rarely: st.SearchStrategy[set[int]] = st.one_of(st.just(set()), st.just(set()), some)
    isolated, forbidden, nowhere = draw(rarely), draw(rarely), draw(rarely)
    kinds = draw(st.sampled_from([1, 1, 2]))
    cpus = tuple(
        replace(
            cpu,
            allowed=cpu.os_index not in forbidden,
            node=UNKNOWN_NODE if cpu.os_index in nowhere else cpu.node,
            kind=cpu.core % kinds,
        )
        for cpu in shape.cpus
    )
    closed = draw(st.sets(st.sampled_from([node.os_index for node in shape.nodes]), max_size=1))
    nodes = tuple(replace(node, allowed=node.os_index not in closed) for node in shape.nodes)
    memory = tuple(NodeMemory(n.os_index, draw(st.integers(0, 64 * GIB)), draw(st.integers(0, GIB))) for n in nodes)
    hardware = replace(
        here.hardware,
        topology=replace(shape, cpus=cpus, nodes=nodes, cpu_kinds=("slow", "fast") if kinds > 1 else ()),
        cpus=CpuStates(isolated=tuple(sorted(isolated))),
        memory=memory if draw(st.booleans()) else (),
    )
    channels = draw(st.sampled_from([None, 1, 8]))
    return replace(here, hardware=hardware, values={**here.values, "memory_channels": channels})


@st.composite
def workloads(draw: st.DrawFn, here: Machine) -> Workload:
    """Workloads of any size that may run on some CPUs, on none that is known, or on one that is not there."""
    numbers = [cpu.os_index for cpu in here.topology.cpus]
    nodes = st.sampled_from([*(node.os_index for node in here.topology.nodes), 77])
    values = {
        "demand.cores": draw(st.sampled_from([None, 0.0, 0.3, 1.0, 3.0, 10.0, 1e9])),
        "demand.resident": draw(st.sampled_from([None, 0, 1 << 20, GIB, 20 * GIB, 1 << 50])),
        "memory.working_set_share": draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
    }
    cpus = draw(st.sets(st.sampled_from([*numbers, 9999]), max_size=len(numbers)))
    return replace(a_workload(cpus, **values), node_bytes=draw(st.dictionaries(nodes, st.integers(0, GIB), max_size=3)))


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_whatever_a_body_yields_can_be_set(data: st.DataObject) -> None:
    """Conditions aside: no body raises, and none yields what this machine does not have, has kept for others, or has no room for."""
    here = data.draw(machines())
    workload = data.draw(workloads(here))
    other = replace(data.draw(workloads(here)), subject=tree(1001, 1), pids=frozenset((1001,)))
    for rule in RULES:
        for wish in wishes_of(rule, here, workload, other):
            about = {workload.subject: workload, other.subject: other}.get(wish.subject)
            assert refusal(rule, wish, here, about) == "", (rule.identity, wish)


def refusal(rule: Rule, wish: Wish, here: Machine, about: Workload | None) -> str:
    """Return what is wrong with a setting on this machine, worked out anew from what the machine is."""
    knob = all_knobs()[wish.knob]
    if wish.value is None or knob.parse(show(wish.value)) != wish.value:
        return "not in canonical form"
    if wish.knob in ("cpu.affinity", "irq.affinity", "nic.rps") and wish.value != "none":
        wrong = wrong_cpus(rule, set(parse_cpu_list(str(wish.value))), here, about)
        if not wrong and wish.knob == "cpu.affinity":
            knob.check(described(here.topology), wish.subject, wish.value)
        return wrong
    if wish.knob == "memory.placement":
        assert about is not None
        return wrong_nodes(shares_of(wish.value), here, about)
    return ""


def wrong_cpus(rule: Rule, cpus: set[int], here: Machine, about: Workload | None) -> str:
    free = {cpu.os_index for cpu in here.topology.cpus if cpu.allowed} - set(here.hardware.cpus.isolated)
    if not cpus or not cpus <= free:
        return f"CPUs {format_cpu_list(cpus - free)} are not there, forbidden or isolated"
    if about is not None and about.cpus and rule.name == "widen_the_pin":
        return "" if cpus > about.cpus else "not wider"
    if about is not None and about.cpus and not cpus <= about.cpus:
        return "outside of what it may run on"
    return ""


def wrong_nodes(shares: Mapping[int, float], here: Machine, about: Workload) -> str:
    sizes = {node.os_index: node.memory_bytes for node in here.topology.nodes if node.allowed}
    resident = about.number("demand.resident") or 0.0
    for node, share in shares.items():
        now = here.hardware.memory_of(node)
        free = now.free_bytes + now.cached_bytes if now else sizes.get(node, 0)
        if not sizes.get(node):
            return f"node {node} is not there, forbidden or without memory"
        # Shares are in thousandths.
        if (share - 0.001) * resident - about.node_bytes.get(node, 0) > free:
            return f"no room on node {node}"
    return ""


# --- advice that is followed


FOLLOWED: dict[str, dict[str, Any]] = {
    "random": {"memory.random_share": 0.8, "memory.direction": 0.1, "demand.cores": 3.0, "demand.resident": 8 * GIB},
    "many random": {
        "memory.random_share": 0.8,
        "memory.direction": 0.1,
        "demand.cores": 5.0,
        "demand.resident": 8 * GIB,
    },
    "pipeline": {
        "comm.wakeups_per_cpu_second": 2e4,
        "comm.outside_share": 0.0,
        "demand.threads": 4,
        "demand.cores": 1.5,
        "demand.resident": GIB // 10,
        "sched.system_share": 0.7,
    },
    "streaming": {
        "memory.direction": 0.9,
        "memory.new_page_share": 0.7,
        "demand.cores": 14.0,
        "demand.resident": 4 * GIB,
        "intervals": 5,
    },
    "vectors": {"insn.vector_share": 0.5, "insn.scalar_fp_share": 0.0, "demand.cores": 3.0, "demand.threads": 3},
    "service": {
        "sched.slice_p50": 4e-5,
        "sched.slice_p90": 2e-4,
        "sched.runq_p99": 4e-3,
        "demand.messages": 2e4,
        "demand.cores": 1.0,
        "demand.resident": GIB,
    },
    "hog": {"sched.slice_p90": 4e-3, "sched.voluntary_share": 0.1, "demand.cores": 2.0, "demand.resident": GIB},
}


def standing(here: Machine, one: Workload) -> Workload:
    """Return a workload with the facts that follow from where it is: its threads evenly on its CPUs, accessing all its memory alike."""
    on = [cpu for cpu in here.topology.cpus if cpu.os_index in one.cpus]
    nodes = {node: sum(cpu.node == node for cpu in on) / len(on) for node in {cpu.node for cpu in on}}
    total = sum(one.node_bytes.values()) or 1
    local = sum(share * one.node_bytes.get(node, 0) / total for node, share in nodes.items())
    where = {
        **cpu_facts(here.topology, one.cpus, pinned=False),
        **placement_facts(one.node_bytes, here.topology, one.cpus),
        "memory.numa_locality": local,
        "comm.cross_cache_share": 1 - 1 / len({cpu.llc for cpu in on}),
        "realtime": False,
        "nice": 0,
    }
    return replace(one, values={**one.values, **where})


def following(here: Machine, those: tuple[Workload, ...]) -> tuple[Workload, ...]:
    """Return workloads after the advice on where they run and have their memory was taken."""
    wanted = Advisor(Engine(RULES)).advise(Situation(here, those)).config.values()
    moved = []
    for one in those:
        cpus, shares = wanted.get(("cpu.affinity", one.subject)), wanted.get(("memory.placement", one.subject))
        total = sum(one.node_bytes.values())
        moved.append(
            replace(
                one,
                cpus=frozenset(parse_cpu_list(str(cpus))) if cpus else one.cpus,
                node_bytes={n: round(total * s) for n, s in shares_of(shares).items()} if shares else one.node_bytes,
            )
        )
    return tuple(standing(here, one) for one in moved)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("text", [text for text in SYNTHETIC if "GB" in text and "pack" in text])
def test_advice_that_is_followed_settles(text: str, channels: int | None) -> None:
    """Whoever takes the advice is not sent elsewhere by the next, nor back and forth: after two rounds all stay."""
    here = replace(machine(text), values={**machine(text).values, "load": 0.3, "memory_channels": channels})
    everywhere = frozenset(cpu.os_index for cpu in here.topology.cpus)
    last = here.topology.nodes[-1].os_index
    groups = [(name,) for name in FOLLOWED] + [("service", "hog"), ("random", "pipeline"), ("service", "hog", "random")]
    for names in groups:
        those = tuple(
            standing(
                here,
                replace(
                    a_workload(everywhere, **FOLLOWED[name]),
                    name=name,
                    subject=tree(1000 + number, 1),
                    pids=frozenset((1000 + number,)),
                    node_bytes={last: FOLLOWED[name].get("demand.resident", GIB)},
                ),
            )
            for number, name in enumerate(names)
        )
        rounds = [those]
        for _ in range(4):
            rounds.append(following(here, rounds[-1]))
        places = [[(one.cpus, one.node_bytes) for one in those] for those in rounds]
        assert places[2] == places[3] == places[4], names
