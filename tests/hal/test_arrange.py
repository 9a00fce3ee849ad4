"""CPUs chosen on machines of every shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hal.arrange import apart, domain, pack, parse_arrangement, spread, together, usable
from hal.errors import SettingError
from hal.lists import parse_cpu_list
from hal.topology import Cpu, NumaNode, Topology, from_synthetic

BIG = from_synthetic("pack:2 numa:2 l3:2 core:4 pu:2")
"""4 nodes, 8 last-level caches of 4 cores, 64 CPUs: two threads a core, numbered one after the other."""


def shape(nodes: int, caches: int, cores: int, threads: int) -> Topology:
    """Return a machine of nodes of caches of cores of threads; siblings are numbered apart, as Linux does on x86."""
    total = nodes * caches * cores
    cpus = [
        Cpu(core + thread * total, core, 0, core // (caches * cores), core // cores)
        for core in range(total)
        for thread in range(threads)
    ]
    cpus.sort(key=lambda cpu: cpu.os_index)
    members = {node: tuple(c.os_index for c in cpus if c.node == node) for node in range(nodes)}
    return Topology(tuple(cpus), tuple(NumaNode(n, members[n], 1 << 30) for n in range(nodes)), "made up")


SHAPES = st.builds(shape, st.integers(1, 8), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2))


def count_of(topology: Topology, cpus: tuple[int, ...], level: str) -> int:
    return len({getattr(cpu, level) for cpu in topology.cpus if cpu.os_index in cpus})


@given(topology=SHAPES, data=st.data())
def test_choices_are_of_the_right_number_and_may_be_used(topology: Topology, data: st.DataObject) -> None:
    avoid = data.draw(st.sets(st.sampled_from([cpu.os_index for cpu in topology.cpus])))
    free = [cpu.os_index for cpu in usable(topology, avoid)]
    assume(free)
    count = data.draw(st.integers(1, len(free)))
    for chosen in (
        pack(topology, count, avoid=avoid),
        pack(topology, count, smt=False, avoid=avoid),
        *(spread(topology, count, over=level, avoid=avoid) for level in ("core", "llc", "node")),
    ):
        assert len(set(chosen)) == len(chosen) == count
        assert set(chosen) <= set(free)
        assert list(chosen) == sorted(chosen)


@given(topology=SHAPES, data=st.data())
def test_packing_takes_no_more_domains_than_spreading(topology: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, topology.cpu_count))
    packed = pack(topology, count)
    for level in ("node", "llc", "core"):
        over = spread(topology, count, over=level)
        assert count_of(topology, packed, level) <= count_of(topology, over, level)
        assert count_of(topology, over, level) == min(count, len({getattr(cpu, level) for cpu in topology.cpus}))


@given(topology=SHAPES, data=st.data())
def test_packing_takes_as_few_nodes_as_hold_them(topology: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, topology.cpu_count))
    each = topology.cpu_count // topology.node_count
    assert count_of(topology, pack(topology, count), "node") == -(-count // each)


@given(topology=SHAPES, data=st.data())
def test_apart_shares_no_core_and_as_little_else_as_can_be(topology: Topology, data: st.DataObject) -> None:
    one = data.draw(st.integers(1, topology.cpu_count))
    other = data.draw(st.integers(1, topology.cpu_count))
    try:
        mine, theirs = apart(topology, one, other)
    except SettingError:
        threads = topology.cpu_count // topology.core_count
        assert -(-one // threads) + -(-other // threads) > topology.core_count
        return
    assert (len(mine), len(theirs)) == (one, other)

    def shared(level: str) -> set[int]:
        sides = [{getattr(c, level) for c in topology.cpus if c.os_index in side} for side in (mine, theirs)]
        return sides[0] & sides[1]

    assert not shared("core")
    each = topology.cpu_count // topology.node_count
    if -(-one // each) + -(-other // each) <= topology.node_count:
        assert not shared("node")


@given(
    topology=SHAPES,
    threads=st.lists(st.integers(1, 500), unique=True, max_size=40),
    data=st.data(),
)
def test_every_thread_gets_one_whole_cache(topology: Topology, threads: list[int], data: st.DataObject) -> None:
    pairs = st.tuples(st.sampled_from(threads), st.sampled_from(threads)) if threads else st.nothing()
    edges = data.draw(st.dictionaries(pairs, st.floats(0, 1e6), max_size=30)) if threads else {}
    found = together(topology, threads, edges)
    caches = {
        tuple(cpu.os_index for cpu in topology.cpus if cpu.llc == llc) for llc in {cpu.llc for cpu in topology.cpus}
    }
    assert set(found) == set(threads)
    assert set(found.values()) <= caches
    assert found == together(topology, threads, edges)


def test_those_that_talk_share_a_cache() -> None:
    pairs = [(n, n + 100) for n in range(8)]
    edges = dict.fromkeys(pairs, 1000.0) | {(n, n + 1): 1.0 for n in range(7)}
    threads = [thread for pair in pairs for thread in pair]
    found = together(BIG, threads, edges)
    assert all(found[one] == found[other] for one, other in pairs)


def test_a_group_too_large_for_one_cache_is_divided_and_stays_near() -> None:
    edges = {(0, n): 10.0 for n in range(1, 12)}
    found = together(BIG, range(12), edges)
    nodes = {cpu.node for cpu in BIG.cpus if any(cpu.os_index in cpus for cpus in found.values())}
    assert len(set(found.values())) == 2
    assert len(nodes) == 1


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8", "0-3,8"),
        ("all", "0-63"),
        ("pack:2", "0-1"),
        ("pack:8", "0-7"),
        ("pack:4:3", "48-51"),
        ("cores:4", "0,2,4,6"),
        ("spread:4", "0,16,32,48"),
        ("spread:2:node", "0,16"),
        ("spread:8:llc", "0,8,16,24,32,40,48,56"),
        ("node:1", "16-31"),
        ("node:0,2", "0-15,32-47"),
        ("llc:7", "56-63"),
    ],
)
def test_words(text: str, cpus: str) -> None:
    assert parse_arrangement(text, BIG) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pack",
        "pack:",
        "pack:0",
        "pack:65",
        "pack:x",
        "pack:1:9",
        "spread:2:socket",
        "node:9",
        "node:",
        "llc:-1",
        "kind:big",
        "many",
        "-1",
        "3-1",
        "1,,x",
        "0-3:2/0",
        "9" * 30,
        "pack:1:2:3",
        "\x00",
    ],
)
def test_nonsense_is_refused_with_what_it_takes(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_arrangement(text, BIG)
    assert caught.value.remedy


def test_isolated_cpus_are_taken_only_by_number() -> None:
    assert 0 not in parse_cpu_list(parse_arrangement("pack:2", BIG, isolated=[0]))
    assert parse_arrangement("0-1", BIG, isolated=[0]) == "0-1"


def test_cpus_outside_the_cpuset_are_left_out() -> None:
    small = replace(BIG, cpus=tuple(replace(cpu, allowed=cpu.node == 2) for cpu in BIG.cpus))
    assert {cpu.node for cpu in small.cpus if cpu.os_index in pack(small, 16)} == {2}
    with pytest.raises(SettingError):
        pack(small, 17)
    with pytest.raises(SettingError):
        domain(small, "node", [0])


def test_hybrid_machines_by_kind_of_core() -> None:
    cpus = tuple(Cpu(n, n, 0, 0, 0, kind=int(n < 4)) for n in range(8))
    machine = Topology(cpus, (NumaNode(0, tuple(range(8)), 0),), "made up", cpu_kinds=("efficiency", "performance"))
    assert parse_arrangement("kind:performance", machine) == "0-3"
    with pytest.raises(SettingError):
        parse_arrangement("kind:fast", machine)


def test_nodes_without_cpus_and_no_nodes_at_all() -> None:
    far_memory = shape(2, 1, 2, 1)
    far_memory = replace(far_memory, nodes=(*far_memory.nodes, NumaNode(2, (), 1 << 30, "CXL-DRAM")))
    assert pack(far_memory, 2) == (0, 1)
    with pytest.raises(SettingError):
        parse_arrangement("node:2", far_memory)
    none = Topology(tuple(Cpu(n, n, 0, -1, 0) for n in range(4)), (), "made up")
    assert pack(none, 3) == (0, 1, 2)
    assert spread(none, 2, over="node") == (0, 1)
