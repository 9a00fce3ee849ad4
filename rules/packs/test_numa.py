"""The pack ``numa``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hal.settings import SYSTEM
from rules.testing import Given, beside, given

RULES = beside(__file__)
TWO = "pack:2 numa:1(memory=64GB) l3:1(size=32MB) core:16 pu:2"
"""Node 0 has CPUs 0 to 31, node 1 those from 32; siblings are neighbours."""
FOUR = "pack:4 numa:1(memory=64GB) l3:1(size=32MB) core:16 pu:1"
ONE = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:16 pu:2"
NODE_0, NODE_1 = "0-31", "32-63"
NODE_0_CORES = "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30"

RANDOM: Mapping[str, Any] = {
    "memory.random_share": 0.8,
    "memory.direction": 0.1,
    "demand.cores": 3.0,
    "demand.resident": "8 GiB",
}
"""As a stored profile has it: nobody knows where its threads may run."""
UNBOUND: Mapping[str, Any] = {
    "cpus.allowed": 64,
    "cpus.nodes": 2,
    "cpus.pinned": False,
    "realtime": False,
    "nice": 0,
    "cpus": range(64),
}
LOCAL: Mapping[str, Any] = {**RANDOM, "memory.numa_locality": 0.9}
GIB = 1 << 30


def asked(workload: Mapping[str, Any], machine: str = TWO, **more: Any) -> Given:
    return given(workload, machine=machine, **more)


def fires(rule: str, workload: Mapping[str, Any], machine: str = TWO, **more: Any) -> bool:
    return asked(workload, machine, **more).ask(RULES).fired(rule)


# --- the founding example


def test_local_and_small_prefers_its_node_and_a_core_each() -> None:
    said = asked(LOCAL).ask(RULES)
    assert said.settings("local_with_channels") == {"cpu.affinity": NODE_0_CORES, "memory.placement": "0=1"}
    assert [option.name for option in said.advice.proposals[0].options] == ["one node", "two nodes"]


def test_more_busy_cores_than_channels_serve_prefers_a_second_node() -> None:
    # Two channels a node serve six busy cores; ten want four.
    said = asked({**LOCAL, "demand.cores": 10.0}, facts={"memory_channels": 4}).ask(RULES)
    assert said.settings("local_with_channels")["memory.placement"] == "0=0.5,1=0.5"
    assert [option.name for option in said.advice.proposals[0].options] == ["two nodes", "one node"]
    enough = asked({**LOCAL, "demand.cores": 10.0}, facts={"memory_channels": 16}).ask(RULES)
    assert enough.settings("local_with_channels")["memory.placement"] == "0=1"


def test_small_reads_and_writes_count_as_well_as_small_accesses() -> None:
    calls = {
        "memory.numa_locality": 0.9,
        "syscall.per_cpu_second": "50 k/s",
        "io.read_size_p50": "512 B",
        "demand.cores": 2.0,
        "demand.resident": "4 GiB",
    }
    assert fires("local_with_channels", calls)
    assert not fires("local_with_channels", {**calls, "io.read_size_p50": "256 KiB"})
    assert not fires("local_with_channels", {**calls, "syscall.per_cpu_second": "100/s"})


def test_it_stays_on_the_node_that_has_its_memory() -> None:
    at_1 = {**LOCAL, **UNBOUND, "node_bytes": {0: GIB // 10, 1: 8 * GIB}}
    assert asked(at_1).ask(RULES).settings("local_with_channels")["memory.placement"] == "1=1"


def test_local_with_channels_leaves_alone_what_packing_hurts() -> None:
    for change in (
        {"memory.numa_locality": 0.4},
        {"memory.direction": 0.9},  # bandwidth-bound
        {"demand.cores": 14.0},  # as large as the node
        {"demand.resident": "100 GiB"},
        {"demand.resident": "64 MiB"},  # in the caches anyway
        {**UNBOUND, "cpus.pinned": True},
        {**UNBOUND, "realtime": True},
        {**UNBOUND, "cpus.nodes": 1},  # done already
    ):
        assert not fires("local_with_channels", {**LOCAL, **change}), change
    assert not fires("local_with_channels", LOCAL, ONE)
    assert not fires("local_with_channels", LOCAL, facts={"load": 0.95})


# --- one node


def test_random_access_that_fits_is_kept_on_one_node() -> None:
    assert asked(RANDOM).ask(RULES).settings("keep_on_one_node") == {"cpu.affinity": NODE_0, "memory.placement": "0=1"}


def test_without_sampled_addresses_the_counters_tell() -> None:
    counted = {"cpu.dtlb_mpki": 12.0, "demand.cores": 3.0, "demand.resident": "8 GiB"}
    assert fires("keep_on_one_node", counted)
    assert not fires("keep_on_one_node", {**counted, "cpu.dtlb_mpki": 0.5})


def test_only_cpus_that_it_may_run_on_are_chosen() -> None:
    half = {**RANDOM, **UNBOUND, "cpus": {8, 9, 10, 11, *range(32, 64)}}
    assert asked(half).ask(RULES).settings("keep_on_one_node") == {"cpu.affinity": NODE_1, "memory.placement": "1=1"}


def test_keep_on_one_node_leaves_alone_what_packing_hurts() -> None:
    for change in (
        {"memory.random_share": 0.1, "memory.direction": 0.9},
        {"demand.cores": 14.0},
        {"demand.resident": "100 GiB"},
        {"demand.resident": "64 MiB"},
        {"memory.numa_locality": 0.98},
        {**UNBOUND, "cpus.pinned": True},
        {**UNBOUND, "realtime": True},
        {**UNBOUND, "cpus.nodes": 1},
    ):
        assert not fires("keep_on_one_node", {**RANDOM, **change}), change
    assert not fires("keep_on_one_node", RANDOM, ONE)
    assert not fires("keep_on_one_node", RANDOM, facts={"load": 0.95})
    # Cores of two nodes for their channels are the founding rule's advice: not taken back once its locality is one half.
    assert not fires("keep_on_one_node", {**RANDOM, "demand.cores": 10.0}, facts={"memory_channels": 4})


# --- memory and threads apart

APART: Mapping[str, Any] = {
    **UNBOUND,
    "placement.home_share": 0.98,
    "memory.numa_locality": 0.3,
    "memory.direction": 0.2,
    "demand.cores": 4.0,
    "demand.resident": "16 GiB",
    "node_bytes": {0: GIB // 2, 1: 15 * GIB},
}


def test_threads_go_to_the_memory_first() -> None:
    said = asked(APART).ask(RULES)
    assert said.settings("threads_follow_memory") == {"cpu.affinity": NODE_1}
    [proposal] = [one for one in said.advice.proposals if one.rule.name == "threads_follow_memory"]
    assert [option.name for option in proposal.options] == ["threads to the memory", "both to the emptiest node"]


def test_without_another_node_that_fits_there_is_no_choice() -> None:
    said = asked({**APART, "demand.resident": "50 GiB"}).ask(RULES)  # more than is surely free on a node of 64
    assert said.settings("threads_follow_memory") == {"cpu.affinity": NODE_1}
    assert not said.advice.proposals[0].choice


def test_threads_do_not_follow_memory_where_that_hurts() -> None:
    for change in (
        {"memory.numa_locality": 0.9},
        {"placement.home_share": 0.5},
        {"memory.direction": 0.9, "memory.new_page_share": 0.9},  # it needs all channels
        {"demand.cores": 14.0},
        {"cpus.pinned": True},
        {"demand.resident": "64 MiB"},
    ):
        assert not fires("threads_follow_memory", {**APART, **change}), change
    assert not fires("threads_follow_memory", APART, facts={"load": 0.95})


BOUND: Mapping[str, Any] = {
    **UNBOUND,
    "cpus": range(32),
    "cpus.nodes": 1,
    "cpus.pinned": True,
    "placement.here_share": 0.1,
    "demand.cores": 4.0,
    "demand.resident": "16 GiB",
    "node_bytes": {0: GIB, 1: 15 * GIB},
}


def test_pages_go_to_threads_that_are_bound() -> None:
    assert asked(BOUND).ask(RULES).settings("pages_follow_threads") == {"memory.placement": "0=1"}
    on_two = {**BOUND, "cpus": range(32), "cpus.nodes": 2}
    said = asked(on_two, FOUR).ask(RULES)
    assert said.settings("pages_follow_threads") == {"memory.placement": "0=0.5,1=0.5"}


def test_pages_stay_where_moving_them_is_no_use() -> None:
    for change in (
        {"placement.here_share": 0.95},
        {"cpus.nodes": 2, "cpus": range(64)},  # its threads may go to the memory
        {"demand.resident": "64 MiB"},
        {"demand.resident": "60 GiB"},  # no room
        {"cpus": ()},  # nobody knows where its threads are
    ):
        assert not fires("pages_follow_threads", {**BOUND, **change}), change
    assert not fires(
        "pages_follow_threads", BOUND, facts={"memory_nodes": 1}
    )  # pages on slower memory are there on purpose


# --- bandwidth

STREAM: Mapping[str, Any] = {
    **UNBOUND,
    "memory.direction": 0.9,
    "memory.new_page_share": 0.6,
    "demand.cores": 28.0,
    "demand.resident": "20 GiB",
    "placement.home_share": 0.95,
    "node_bytes": {0: 19 * GIB, 1: GIB},
}


def test_streams_larger_than_a_node_are_interleaved() -> None:
    assert asked(STREAM).ask(RULES).settings("interleave_streaming") == {"memory.placement": "0=0.5,1=0.5"}
    assert not any(fires(packing, STREAM) for packing in ("keep_on_one_node", "local_with_channels"))


def test_what_fits_a_node_or_is_spread_is_not_interleaved() -> None:
    for change in (
        {"demand.cores": 4.0},
        {"memory.direction": 0.1},
        {"placement.home_share": 0.5},
        {"demand.resident": "100 MiB"},
        {"cpus.nodes": 1},
        {"cpus": ()},
    ):
        assert not fires("interleave_streaming", {**STREAM, **change}), change
    assert not fires("interleave_streaming", STREAM, ONE)


# --- the whole machine


def test_balancing_is_off_for_a_bound_workload_that_the_machine_is_for() -> None:
    bound = {**BOUND, "placement.here_share": 0.99, "demand.cores": 30.0, "intervals": 6}
    on = {"numa_balancing": True}
    assert asked(bound, facts=on).ask(RULES).settings("numa_balancing_off_when_bound") == {"memory.numa_balancing": 0}
    for change in (
        {"cpus.nodes": 2},
        {"placement.here_share": 0.5},
        {"demand.cores": 4.0},  # others may need it
        {"intervals": 1},
    ):
        assert not fires("numa_balancing_off_when_bound", {**bound, **change}, facts=on), change
    assert not fires("numa_balancing_off_when_bound", bound, facts={"numa_balancing": False})
    assert not fires("numa_balancing_off_when_bound", bound, facts={**on, "memory_nodes": 1})


def test_balancing_is_on_for_a_spread_workload_far_from_its_memory() -> None:
    spread = {**UNBOUND, "memory.numa_locality": 0.5, "demand.cores": 30.0, "demand.resident": "80 GiB", "intervals": 6}
    off: Mapping[str, Any] = {"numa_balancing": False}
    assert asked(spread, facts=off).ask(RULES).settings("numa_balancing_on_when_spread") == {"memory.numa_balancing": 1}
    for change in (
        {"cpus.pinned": True},
        {"memory.numa_locality": 0.9},
        {"demand.cores": 4.0},
        {"memory.direction": 0.9},  # interleaved on purpose
        {"intervals": 1},
        {"cpus.nodes": 1},
    ):
        assert not fires("numa_balancing_on_when_spread", {**spread, **change}, facts=off), change
    # Beside a bound one that wants it off it stays on, on whichever side it begins.
    bound = {**BOUND, "placement.here_share": 0.99, "demand.cores": 30.0, "intervals": 6}
    for facts in (off, {"numa_balancing": True}):
        said = given(spread, bound, machine=TWO, facts=facts).ask(RULES)
        assert said.advice.config.values()["memory.numa_balancing", SYSTEM] == 1


def test_zone_reclaim_is_off_for_who_lives_by_the_page_cache() -> None:
    files = {"memory.file_share": 0.6}
    on = {"zone_reclaim": True}
    assert asked(files, facts=on).ask(RULES).settings("zone_reclaim_off_for_page_cache") == {"memory.zone_reclaim": 0}
    assert fires("zone_reclaim_off_for_page_cache", {"io.bytes_per_cpu_second": "500 MB/s"}, facts=on)
    assert not fires(
        "zone_reclaim_off_for_page_cache", {"memory.file_share": 0.05, "io.bytes_per_cpu_second": 0.0}, facts=on
    )
    assert not fires("zone_reclaim_off_for_page_cache", files, facts={"zone_reclaim": False})
    assert not fires("zone_reclaim_off_for_page_cache", files, ONE, facts=on)


# --- a card

SENDER: Mapping[str, Any] = {
    **UNBOUND,
    "net.loopback_share": 0.0,
    "net.unix_share": 0.0,
    "demand.sent": "800 MB/s",
    "demand.received": "50 MB/s",
    "demand.cores": 4.0,
    "demand.resident": "8 GiB",
}
CARD: Mapping[str, Any] = {
    "name": "eth0",
    "up": True,
    "virtual": False,
    "node": 1,
    "speed": "3 GB/s",
    "traffic": "900 MB/s",
}


def test_who_lives_by_a_card_runs_on_its_node() -> None:
    said = asked(SENDER, nics=[CARD]).ask(RULES)
    assert said.settings("near_the_card") == {"cpu.affinity": NODE_1, "memory.placement": "1=1"}


def test_far_from_the_card_is_well_for_who_hardly_uses_it() -> None:
    for change in (
        {"net.loopback_share": 0.9},
        {"demand.sent": "1 MB/s", "demand.received": "1 MB/s"},
        {"demand.cores": 14.0},
        {"cpus.pinned": True},
        {"cpus.nodes": 1},
        {"demand.resident": "100 GiB"},
    ):
        assert not fires("near_the_card", {**SENDER, **change}, nics=[CARD]), change
    for other in ({"up": False}, {"virtual": True}, {"node": None}, {"traffic": 0.0}):
        assert not fires("near_the_card", SENDER, nics=[{**CARD, **other}]), other
    assert not fires("near_the_card", SENDER)
    assert not fires("near_the_card", SENDER, ONE, nics=[{**CARD, "node": 0}])


def test_of_two_cards_on_different_nodes_neither_is_chosen() -> None:
    said = asked(SENDER, nics=[CARD, {**CARD, "name": "eth1", "node": 0}]).ask(RULES)
    assert {conflict.knob for conflict in said.advice.conflicts} == {"cpu.affinity", "memory.placement"}
    assert not said.advice.config.settings
