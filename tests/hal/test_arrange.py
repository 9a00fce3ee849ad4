"""Arrangements on machines of many kinds: what is chosen, that it may be, and that nothing better was there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hal import topology
from hal.arrange import apart, everything, members, pack, parse_arrangement, spread, together
from hal.errors import EXIT_USAGE, SettingError
from hal.lists import parse_cpu_list
from hal.topology import UNKNOWN_NODE, Cpu, NumaNode, Topology

SHARED = Path(__file__).resolve().parents[3] / "shared" / "topologies"


def machine(
    *,
    nodes: int = 2,
    caches: int = 2,
    cores: int = 2,
    threads: int = 2,
    memory_only: int = 0,
    kinds: int = 1,
    distances: bool = True,
    siblings_last: bool = False,
) -> Topology:
    """Return a machine of nodes of caches of cores of threads; with ``siblings_last`` numbered as on most Intel machines."""
    total = nodes * caches * cores
    cpus = []
    for core in range(total):
        for thread in range(threads):
            number = core + thread * total if siblings_last else core * threads + thread
            node, cache = core // (caches * cores), core // cores
            cpus.append(Cpu(number, core, node, node, cache, kind=(core % cores) * kinds // cores))
    cpus.sort(key=lambda cpu: cpu.os_index)
    numbers = range(nodes + memory_only)
    near = [[10.0 if a == b else 10.0 + 4 * abs(a - b) for b in numbers] for a in numbers]
    return Topology(
        cpus=tuple(cpus),
        nodes=tuple(NumaNode(n, tuple(c.os_index for c in cpus if c.node == n), 1 << 30) for n in numbers),
        source="test",
        packages=nodes,
        llcs=tuple(tuple(c.os_index for c in cpus if c.llc == i) for i in range(nodes * caches)),
        distances=tuple(map(tuple, near)) if distances else (),
        cpu_kinds=tuple(f"kind {index}" for index in range(kinds)) if kinds > 1 else (),
    )


def without(shape: Topology, gone: Collection[int], forbidden: Collection[int] = ()) -> Topology:
    """Return a machine some of whose CPUs are offline, and others outside the cpuset."""
    cpus = tuple(replace(c, allowed=c.os_index not in forbidden) for c in shape.cpus if c.os_index not in gone)
    return replace(shape, cpus=cpus)


@st.composite
def machines(draw: st.DrawFn) -> Topology:
    """Return any machine: 1 to 8 nodes, some without CPUs, hybrid, without SMT or distances, with CPUs missing or forbidden."""
    cores = draw(st.integers(1, 4))
    shape = machine(
        nodes=draw(st.sampled_from([1, 2, 3, 4, 8])),
        caches=draw(st.integers(1, 3)),
        cores=cores,
        threads=draw(st.integers(1, 2)),
        memory_only=draw(st.integers(0, 2)),
        kinds=draw(st.integers(1, min(cores, 2))),
        distances=draw(st.booleans()),
        siblings_last=draw(st.booleans()),
    )
    numbers = [cpu.os_index for cpu in shape.cpus]
    gone = draw(st.sets(st.sampled_from(numbers), max_size=len(numbers) - 1))
    left = sorted(set(numbers) - gone)
    forbidden = draw(st.sets(st.sampled_from(left), max_size=len(left) - 1))
    shape = without(shape, gone, forbidden)
    if draw(st.booleans()):
        lost = draw(st.integers(0, len(shape.nodes) - 1))  # a node that the description leaves out
        shape = replace(shape, cpus=tuple(replace(c, node=UNKNOWN_NODE) if c.node == lost else c for c in shape.cpus))
    return shape


def chosen(shape: Topology, numbers: Iterable[int]) -> list[Cpu]:
    by_number = {cpu.os_index: cpu for cpu in shape.cpus}
    return [by_number[number] for number in numbers]


def over(shape: Topology, numbers: Iterable[int], level: str) -> int:
    return len({getattr(cpu, level) for cpu in chosen(shape, numbers)})


def may(shape: Topology, avoid: Collection[int] = ()) -> list[Cpu]:
    return [cpu for cpu in shape.cpus if cpu.allowed and cpu.os_index not in avoid]


# --- what always holds


@settings(deadline=None)  # other work may be going on beside
@given(shape=machines(), data=st.data())
def test_what_is_chosen_may_be_chosen_and_is_as_many_as_wanted(shape: Topology, data: st.DataObject) -> None:
    numbers = [cpu.os_index for cpu in may(shape)]
    avoid = data.draw(st.sets(st.sampled_from(numbers), max_size=len(numbers) - 1))
    left = {cpu.os_index for cpu in may(shape, avoid)}
    count = data.draw(st.integers(1, len(left)))
    near = data.draw(st.none() | st.sampled_from([node.os_index for node in shape.nodes]))
    results = [pack(shape, count, near=near, avoid=avoid)]
    results += [spread(shape, count, over=level, near=near, avoid=avoid) for level in ("node", "llc", "core")]
    for result in results:
        assert len(result) == len(set(result)) == count
        assert set(result) <= left
        assert list(result) == sorted(result)


@settings(deadline=None)
@given(shape=machines(), data=st.data())
def test_the_same_wish_is_the_same_choice_whatever_the_order_of_the_description(
    shape: Topology, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(may(shape))))
    mixed = replace(shape, cpus=tuple(data.draw(st.permutations(shape.cpus))))
    assert pack(shape, count) == pack(mixed, count)
    assert spread(shape, count, over="llc") == spread(mixed, count, over="llc")
    assert apart_or_none(shape, count, 1) == apart_or_none(mixed, count, 1)


@settings(deadline=None)
@given(shape=machines(), data=st.data())
def test_packing_takes_the_fewest_nodes_that_there_is_a_way_to(shape: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(may(shape))))
    rooms = [sum(cpu.node == node for cpu in may(shape)) for node in {cpu.node for cpu in may(shape)}]
    fewest = next(n for n in range(1, len(rooms) + 1) if sum(sorted(rooms, reverse=True)[:n]) >= count)
    assert over(shape, pack(shape, count), "node") == fewest
    for level in ("node", "llc", "core"):
        assert over(shape, spread(shape, count, over=level), "node") >= fewest


@settings(deadline=None)
@given(shape=machines(), data=st.data())
def test_packing_within_a_node_takes_the_fewest_caches(shape: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(may(shape))))
    packed = pack(shape, count)
    assume(over(shape, packed, "node") == 1)
    best = len(shape.llcs)
    for node in {cpu.node for cpu in may(shape)}:
        own = [cpu for cpu in may(shape) if cpu.node == node]
        rooms = sorted((sum(cpu.llc == llc for cpu in own) for llc in {cpu.llc for cpu in own}), reverse=True)
        if sum(rooms) >= count:
            best = min(best, next(n for n in range(1, len(rooms) + 1) if sum(rooms[:n]) >= count))
    assert over(shape, packed, "llc") == best


@settings(deadline=None)
@given(shape=machines(), data=st.data())
def test_spreading_takes_as_many_of_its_level_as_there_are(shape: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(may(shape))))
    for level in ("node", "llc", "core"):
        there = len({getattr(cpu, level) for cpu in may(shape)})
        result = spread(shape, count, over=level)
        assert over(shape, result, level) == min(count, there)
        assert over(shape, pack(shape, count), level if level == "node" else "node") <= over(shape, result, "node")


@settings(deadline=None)
@given(shape=machines(), data=st.data())
def test_nobody_shares_a_core_while_another_is_free(shape: Topology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(may(shape))))
    cores = len({cpu.core for cpu in may(shape)})
    assert over(shape, spread(shape, count), "core") == min(count, cores)
    if count <= cores:
        assert over(shape, pack(shape, count, smt=False), "core") == count


# --- machines one knows


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("pack:2", "0-1"),
        ("pack:4", "0-3"),
        ("pack:6", "0-5"),
        ("pack:10", "0-9"),
        ("pack:2:nosmt", "0,2"),
        ("pack:4:nosmt", "0,2,4,6"),
        ("pack:4:near=1", "8-11"),
        ("spread:2", "0,2"),
        ("spread:4", "0,2,4,6"),
        ("spread:2:llc", "0,4"),
        ("spread:4:llc", "0,4,8,12"),
        ("spread:2:node", "0,8"),
        ("spread:4:node", "0,4,8,12"),
        ("spread:3:node:near=1", "0,8,12"),
        ("spread:9", "0-2,4,6,8,10,12,14"),
        ("node:1", "8-15"),
        ("node:0,1", "0-15"),
        ("llc:0,3", "0-3,12-15"),
        ("core:7", "14-15"),
        ("package:1", "8-15"),
        ("all", "0-15"),
        ("performance", "0-15"),
        (" PACK:2 ", "0-1"),
        ("0-3,8", "0-3,8"),
        ("8,0-3,2", "0-3,8"),
        ("0-7:1/2", "0,2,4,6"),
    ],
)
def test_two_nodes_of_two_caches_of_two_cores_of_two_threads(text: str, cpus: str) -> None:
    assert parse_arrangement(text, machine()) == cpus


def test_siblings_are_known_however_they_are_numbered() -> None:
    shape = machine(siblings_last=True)
    assert pack(shape, 4) == (0, 1, 8, 9)
    assert spread(shape, 4) == (0, 1, 2, 3)


def test_eight_nodes_come_in_neighbours() -> None:
    shape = machine(nodes=8)
    assert {cpu.node for cpu in chosen(shape, pack(shape, 24, near=6))} == {5, 6, 7}
    assert {cpu.node for cpu in chosen(shape, pack(shape, 12))} in ({n, n + 1} for n in range(7))


def test_a_device_on_memory_without_cpus_has_near_ones() -> None:
    shape = machine(memory_only=1)
    assert parse_arrangement("pack:2:near=2", shape) == "8-9"
    with pytest.raises(SettingError, match="memory only") as caught:
        parse_arrangement("node:2", shape)
    assert "near=2" in caught.value.remedy


def test_kinds_of_core() -> None:
    shape = machine(nodes=1, caches=1, cores=4, threads=1, kinds=2)
    assert parse_arrangement("performance", shape) == "2-3"
    assert parse_arrangement("efficient", shape) == "0-1"
    assert parse_arrangement("pack:2", shape) == "2-3", "the capable ones first"
    assert parse_arrangement("pack:2:efficient", shape) == "0-1"
    named = replace(shape, cpu_kinds=("Small", "Big"))
    assert parse_arrangement("kind:small", named) == parse_arrangement("pack:2:kind=Small", named) == "0-1"
    with pytest.raises(SettingError, match="no cores of kind"):
        parse_arrangement("kind:fast", named)
    with pytest.raises(SettingError, match="2 can be chosen"):
        parse_arrangement("spread:3:performance", shape)
    with pytest.raises(SettingError, match="alike"):
        raise_with_remedy("efficient", machine())


def raise_with_remedy(text: str, shape: Topology) -> None:
    try:
        parse_arrangement(text, shape)
    except SettingError as error:
        raise SettingError(f"{error} {error.remedy}") from error


def test_no_nodes_at_all() -> None:
    shape = Topology(tuple(Cpu(n, n, 0, UNKNOWN_NODE, 0) for n in range(4)), (), "no NUMA")
    assert pack(shape, 3) == (0, 1, 2)
    assert spread(shape, 2, over="node") == (0, 1)
    assert apart(shape, 1, 2).level == "core"
    with pytest.raises(SettingError, match="no node 0"):
        pack(shape, 1, near=0)


def test_a_cache_that_spans_nodes() -> None:
    shape = machine(nodes=4, caches=1)
    shape = replace(shape, cpus=tuple(replace(cpu, llc=0) for cpu in shape.cpus), llcs=(tuple(range(16)),))
    assert over(shape, pack(shape, 8), "node") == 2
    assert over(shape, spread(shape, 4, over="node"), "node") == 4
    assert apart(shape, 4, 4).level == "node"


def test_a_restricted_cpuset_and_isolated_cpus() -> None:
    shape = without(machine(), (), forbidden=range(4))
    assert everything(shape) == tuple(range(4, 16))
    assert pack(shape, 4) == (4, 5, 6, 7)
    assert members(shape, "node", [0]) == (4, 5, 6, 7)
    assert parse_arrangement("node:0", shape, avoid=(4, 5)) == "6-7"
    assert parse_arrangement("4-5", shape, avoid=(4, 5)) == "4-5", "named by number they are meant"
    with pytest.raises(SettingError, match="no CPU that may be used"):
        parse_arrangement("llc:0", shape)
    with pytest.raises(SettingError, match="no CPU is left"):
        everything(shape, avoid=range(16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pack",
        "pack:",
        "pack:0",
        "pack:-1",
        "pack:1e3",
        "pack:٣",
        "pack:99999999",
        "pack:2:node",
        "pack:2:what",
        "pack:2:near=x",
        "pack:2:near=1:near=0",
        "spread:2:llc:node",
        "spread:2:socket",
        "node",
        "node:",
        "node:x",
        "node:1:2",
        "node:-1",
        "node:99",
        "llc:9",
        "core:0-",
        "all:2",
        "0-99",
        "0,,1",
        "3-1",
        "0-7:0/0",
        "0-3;8",
        "9" * 400,
        "nodes:1",
        "pack:2:near=7",
    ],
)
def test_what_makes_no_sense_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_arrangement(text, machine())
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_an_arrangement_or_refused(text: str) -> None:
    try:
        found = parse_arrangement(text, machine())
    except SettingError:
        return
    assert parse_cpu_list(found)
    assert parse_arrangement(found, machine()) == found


def test_more_than_there_is() -> None:
    with pytest.raises(SettingError, match="17 CPUs are wanted, and 16 can be chosen: 0-15"):
        pack(machine(), 17)


@pytest.mark.long
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.xml")), ids=lambda path: path.stem)
def test_machines_as_described(path: Path) -> None:
    shape = topology.from_xml(path)
    there = {cpu.os_index for cpu in may(shape)}
    for count in range(1, len(there) + 1):
        assert len(pack(shape, count)) == count
        for level in ("node", "llc", "core"):
            found = spread(shape, count, over=level)
            assert len(found) == count
            assert set(found) <= there
    if len({cpu.core for cpu in may(shape)}) > 1:
        found_apart = apart(shape, 1, 1)
        assert not set(found_apart.victim) & set(found_apart.neighbour)


# --- apart


def apart_or_none(shape: Topology, victim: float, neighbour: float) -> object:
    try:
        return apart(shape, victim, neighbour)
    except SettingError:
        return None


@settings(deadline=None)
@given(shape=machines(), victim=st.floats(0, 40), neighbour=st.floats(0, 40))
def test_neighbours_never_share_a_core_nor_more_than_is_said(shape: Topology, victim: float, neighbour: float) -> None:
    try:
        found = apart(shape, victim, neighbour)
    except SettingError:
        assert len({cpu.core for cpu in may(shape)}) == 1
        return
    mine, theirs = chosen(shape, found.victim), chosen(shape, found.neighbour)
    assert mine
    assert theirs
    assert all(cpu.allowed for cpu in (*mine, *theirs))
    assert not {cpu.core for cpu in mine} & {cpu.core for cpu in theirs}
    assert not {getattr(cpu, found.level) for cpu in mine} & {getattr(cpu, found.level) for cpu in theirs}


@settings(deadline=None)
@given(shape=machines(), victim=st.integers(1, 12), neighbour=st.integers(1, 12))
def test_what_both_want_they_get_where_it_is_there(shape: Topology, victim: int, neighbour: int) -> None:
    cores = {cpu.core for cpu in may(shape)}
    size = {core: sum(cpu.core == core for cpu in may(shape)) for core in cores}
    assume(len(cores) > 1)
    found = apart(shape, victim, neighbour)
    if len(cores) <= 8:
        possible = any(
            sum(size[core] for core in own) >= victim and sum(size[core] for core in cores - set(own)) >= neighbour
            for count in range(1, len(cores))
            for own in combinations(sorted(cores), count)
        )
        uniform = len(set(size.values())) == 1
        if possible and uniform:
            assert len(found.victim) >= victim
            assert len(found.neighbour) >= neighbour


def test_the_widest_thing_is_divided_first() -> None:
    assert apart(machine(), 4, 4).level == "node"
    assert apart(machine(nodes=1), 3, 2).level == "llc"
    assert apart(machine(nodes=1, caches=1, cores=4), 3, 2).level == "core"
    assert apart(machine(), 10, 4).level == "llc"
    with pytest.raises(SettingError, match="one core"):
        apart(machine(nodes=1, caches=1, cores=1), 1, 1)


def test_the_neighbour_is_far_and_the_victim_near_its_memory() -> None:
    shape = machine(nodes=4)
    found = apart(shape, 2, 2, near=1)
    assert {cpu.node for cpu in chosen(shape, found.victim)} == {1}
    assert {cpu.node for cpu in chosen(shape, found.neighbour)} == {3}


def test_more_than_there_is_is_shared_in_proportion() -> None:
    found = apart(machine(nodes=1, caches=1, cores=8, threads=1), 30, 10)
    assert (len(found.victim), len(found.neighbour)) == (6, 2)


@pytest.mark.parametrize("demand", [-1, float("nan"), float("inf")])
def test_a_demand_is_a_number_of_cpus(demand: float) -> None:
    with pytest.raises(SettingError):
        apart(machine(), demand, 1)


# --- together


def test_pairs_that_talk_come_together() -> None:
    shape = machine(nodes=2, caches=2, cores=2, threads=1)
    edges = {(pair, pair + 10): 100.0 for pair in range(4)} | {(pair, pair + 1): 1.0 for pair in range(3)}
    found = together(shape, edges)
    assert all(found[pair] == found[pair + 10] for pair in range(4))
    assert len(set(found.values())) == 4, "a cache each"


def test_clusters_too_large_for_one_cache_stay_on_near_nodes() -> None:
    shape = machine(nodes=2, caches=2, cores=2, threads=1)
    ring = {(i, (i + 1) % 4): 10.0 for i in range(4)} | {(10 + i, 10 + (i + 1) % 4): 10.0 for i in range(4)}
    found = together(shape, ring)
    for first in (0, 10):
        nodes = {cpu.node for tid in range(first, first + 4) for cpu in chosen(shape, found[tid])}
        assert len(nodes) == 1
    assert found[0] != found[10]


def test_threads_of_one_memory_stay_together_where_they_can() -> None:
    shape = machine(nodes=1, caches=2, cores=2, threads=2)
    edges = {(1, 5): 50.0, (2, 6): 50.0}
    found = together(shape, edges, groups=[(1, 2, 3, 4)])
    assert len({found[tid] for tid in (1, 2, 3, 4)}) == 1
    large = together(shape, {}, groups=[range(20)])
    assert set(large) == set(range(20)), "one that fits nowhere is laid out all the same"


def test_idle_threads_need_no_room() -> None:
    shape = machine(nodes=1, caches=2, cores=1, threads=1)
    edges = {(0, tid): 1.0 for tid in range(1, 30)}
    found = together(shape, edges, demand=dict.fromkeys(range(30), 0.01))
    assert len(set(found.values())) == 1


def test_those_that_talk_to_nobody_are_balanced() -> None:
    found = together(machine(nodes=2, caches=2, cores=2, threads=1), {}, threads=range(8))
    assert sorted(list(found.values()).count(cpus) for cpus in set(found.values())) == [2, 2, 2, 2]


graphs = st.dictionaries(
    st.tuples(st.integers(0, 15), st.integers(0, 15)), st.floats(allow_nan=True, allow_infinity=True), max_size=40
)


@settings(deadline=None)
@given(shape=machines(), edges=graphs, data=st.data())
def test_every_thread_gets_one_cache_whole_and_always_the_same(
    shape: Topology, edges: dict[tuple[int, int], float], data: st.DataObject
) -> None:
    demand = data.draw(st.none() | st.dictionaries(st.integers(0, 20), st.floats(0, 3)))
    found = together(shape, edges, demand=demand)
    assert set(found) == {tid for pair in edges for tid in pair} | set(demand or {})
    domains = {tuple(c.os_index for c in may(shape) if c.llc == llc) for llc in {c.llc for c in may(shape)}}
    assert set(found.values()) <= domains
    mixed = dict(data.draw(st.permutations(list(edges.items()))))
    assert together(shape, mixed, demand=demand) == found


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(2, 4), st.data())
def test_hidden_clusters_are_found(clusters: int, size: int, data: st.DataObject) -> None:
    """Clusters that fit, talking ten times more inside than outside, each end up in a cache of their own."""
    shape = machine(nodes=clusters, caches=1, cores=size, threads=1)
    names = data.draw(st.permutations(range(clusters * size)))
    home = {name: index // size for index, name in enumerate(names)}
    edges = {(a, b): 10.0 * size if home[a] == home[b] else 0.9 / clusters for a, b in combinations(sorted(home), 2)}
    found = together(shape, edges)
    assert all((found[a] == found[b]) == (home[a] == home[b]) for a, b in combinations(home, 2))
