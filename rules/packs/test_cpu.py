"""The pack ``cpu``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hal.lists import parse_cpu_list
from rules.gather import described_machine
from rules.situation import Machine
from rules.testing import beside, given

RULES = beside(__file__)
CHIPLETS = "pack:2 numa:1(memory=64GB) l3:4(size=32MB) core:8 pu:2"
"""Two nodes of four caches of eight cores: CPUs 0 to 15 share a cache, 0 to 63 a node."""
ONE_CACHE = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:2"
ONE_CORE = "pack:1 numa:1(memory=4GB) l3:1(size=8MB) core:1 pu:2"
NO_SMT = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:1"
EVERYWHERE: Mapping[str, Any] = {
    "cpus.allowed": 128,
    "cpus.allowed_share": 1.0,
    "cpus.nodes": 2,
    "cpus.llcs": 8,
    "cpus.pinned": False,
    "realtime": False,
    "nice": 0,
    "cpus": range(128),
}
PIPELINE: Mapping[str, Any] = {
    "comm.wakeups_per_cpu_second": "20 k/s",
    "comm.outside_share": 0.05,
    "demand.threads": 4,
    "demand.cores": 1.5,
    "demand.resident": "40 MiB",
    "sched.system_share": 0.7,
}
SERVICE: Mapping[str, Any] = {
    "name": "service",
    "sched.slice_p50": "40 us",
    "sched.slice_p90": "200 us",
    "sched.runq_p99": "4 ms",
    "demand.messages": "20 k/s",
    "demand.cores": 1.0,
    "demand.resident": "500 MiB",
}
HOG: Mapping[str, Any] = {
    "name": "hog",
    "sched.slice_p90": "4 ms",
    "sched.voluntary_share": 0.1,
    "demand.cores": 4.0,
    "demand.resident": "500 MiB",
}


def on(machine: str, workload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a workload that may run everywhere on a machine."""
    cpus = len(described_machine(machine).topology.cpus)
    return {**EVERYWHERE, **workload, "cpus": range(cpus), "cpus.allowed": cpus}


def fires(rule: str, *workloads: Mapping[str, Any], machine: str | Machine = CHIPLETS, **more: Any) -> bool:
    return given(*workloads, machine=machine, **more).ask(RULES).fired(rule)


# --- one cache


def test_threads_that_wake_each_other_share_one_cache() -> None:
    said = given(PIPELINE, machine=CHIPLETS).ask(RULES)
    assert said.settings("one_cache_domain") == {"cpu.affinity": "0-15", "memory.placement": "0=1"}


def test_the_cache_is_one_near_its_memory() -> None:
    at_1 = {**EVERYWHERE, **PIPELINE, "comm.cross_cache_share": 0.6, "node_bytes": {1: 40 << 20}}
    said = given(at_1, machine=CHIPLETS).ask(RULES)
    assert said.settings("one_cache_domain") == {"cpu.affinity": "64-79", "memory.placement": "1=1"}


def test_caches_are_not_shared_by_those_whom_it_hurts() -> None:
    for change in (
        {"comm.wakeups_per_cpu_second": "50/s"},
        {"comm.cross_cache_share": 0.02},  # they share one already
        {"comm.outside_share": 0.9},
        {"demand.threads": 1},
        {"demand.cores": 7.0},  # too many for a cache of eight cores
        {"sched.system_share": 0.1},  # and nobody knows whether it is bound by memory
        {"sched.system_share": 0.1, "memory.random_share": 0.8, "memory.new_page_share": 0.9},  # it is
        {"cpu.llc_mpki": 25.0},
        {**EVERYWHERE, "cpus.pinned": True},
        {**EVERYWHERE, "cpus.llcs": 1},
        {**EVERYWHERE, "realtime": True},
    ):
        assert not fires("one_cache_domain", {**PIPELINE, **change}), change
    assert not fires("one_cache_domain", PIPELINE, machine=ONE_CACHE)
    assert not fires("one_cache_domain", PIPELINE, facts={"load": 0.95})


# --- two that talk

SERVER: Mapping[str, Any] = {
    **EVERYWHERE,
    "name": "postgres",
    "pids": {100},
    "peers": {200: 8},
    "net.loopback_share": 0.99,
    "demand.messages": "40 k/s",
    "demand.cores": 2.0,
    "demand.resident": "2 GiB",
}
CLIENT: Mapping[str, Any] = {
    **EVERYWHERE,
    "name": "pgbench",
    "pids": {200},
    "net.loopback_share": 1.0,
    "demand.messages": "40 k/s",
    "demand.cores": 1.0,
    "demand.resident": "30 MiB",
}


def test_two_that_talk_over_loopback_share_a_cache_or_a_node() -> None:
    said = given(SERVER, CLIENT, machine=CHIPLETS).ask(RULES)
    server, client = said.situation.workloads
    wanted = {"cpu.affinity": "0-15", "memory.placement": "0=1"}
    assert said.settings("pair_together", on=server) == said.settings("pair_together", on=client) == wanted
    assert len(said.advice.proposals) == 1  # not once more the other way round

    large = given({**SERVER, "demand.cores": 10.0}, CLIENT, machine=CHIPLETS).ask(RULES)
    assert large.settings("pair_together", on=client) == {"cpu.affinity": "0-63", "memory.placement": "0=1"}


def test_strangers_and_those_who_need_all_bandwidth_are_not_brought_together() -> None:
    changes: tuple[Mapping[str, Any], ...] = (
        {"peers": {}},
        {"demand.messages": "10/s"},
        {"memory.direction": 0.95, "memory.new_page_share": 0.8},
        {"cpu.llc_mpki": 30.0},
        {"cpus.pinned": True},
        {"cpus.llcs": 1},
        {"demand.cores": 30.0},
    )
    for change in changes:
        quiet = {"demand.messages": "10/s"} if "demand.messages" in change else {}
        assert not fires("pair_together", {**SERVER, **change}, {**CLIENT, **quiet}), change
    assert not fires("pair_together", SERVER, {**CLIENT, "cpus.pinned": True})
    assert not fires("pair_together", SERVER, CLIENT, machine=ONE_CACHE)
    assert not fires("pair_together", SERVER, CLIENT, facts={"load": 0.95})


# --- one that disturbs


def test_a_service_is_kept_apart_from_who_computes_beside_it() -> None:
    said = given({**EVERYWHERE, **SERVICE}, {**EVERYWHERE, **HOG}, machine=CHIPLETS).ask(RULES)
    service, hog = said.situation.workloads
    assert said.settings("apart_from_noisy_neighbour", on=service) == {"cpu.affinity": "0-63"}
    assert said.settings("apart_from_noisy_neighbour", on=hog) == {"cpu.affinity": "64-127"}
    assert [option.name for option in said.advice.proposals[0].options] == [
        "no node shared",
        "it is idle",
        "it is batch",
    ]


def test_on_one_cache_they_share_no_core() -> None:
    said = given(on(ONE_CACHE, SERVICE), on(ONE_CACHE, {**HOG, "demand.cores": 3.0}), machine=ONE_CACHE).ask(RULES)
    service, hog = said.situation.workloads
    mine, theirs = (
        set(parse_cpu_list(str(said.settings("apart_from_noisy_neighbour", on=one)["cpu.affinity"])))
        for one in (service, hog)
    )
    assert not mine & theirs
    assert not {cpu // 2 for cpu in mine} & {cpu // 2 for cpu in theirs}


def test_nobody_is_kept_apart_without_need_or_room() -> None:
    service, hog = on(CHIPLETS, SERVICE), on(CHIPLETS, HOG)
    changes: tuple[Mapping[str, Any], ...] = (
        {"sched.runq_p99": "50 us"},  # it does not wait
        {"sched.slice_p50": "4 ms"},
        {"sched.slice_p90": "4 ms"},
        {"cpus": range(64, 128)},  # apart already
        {"cpus.pinned": True},
        {"realtime": True},
    )
    for change in changes:
        rest = {"cpus": range(64)} if "cpus" in change else {}
        assert not fires("apart_from_noisy_neighbour", {**service, **change}, {**hog, **rest}), change
    for other in ({"demand.cores": 0.1}, {"sched.voluntary_share": 0.9}, {"cpus.pinned": True}, {"demand.cores": 60.0}):
        assert not fires("apart_from_noisy_neighbour", service, {**hog, **other}), other
    talking = {**service, "pids": {100}, "peers": {200: 2}}, {**hog, "pids": {200}}
    assert not fires("apart_from_noisy_neighbour", *talking)
    assert not fires("apart_from_noisy_neighbour", on(ONE_CORE, SERVICE), on(ONE_CORE, HOG), machine=ONE_CORE)


def test_on_a_full_machine_who_computes_yields() -> None:
    hog, service = on(ONE_CACHE, {**HOG, "demand.cores": 7.0}), on(ONE_CACHE, SERVICE)
    said = given(service, hog, machine=ONE_CACHE).ask(RULES)
    served, computing = said.situation.workloads
    assert said.settings("batch_work_yields", on=computing) == {"cpu.policy": "idle"}
    assert said.settings("batch_work_yields", on=served) == {}
    assert [option.name for option in said.advice.proposals[0].options] == ["it is idle", "it is batch"]
    assert not said.fired("apart_from_noisy_neighbour")
    for change in ({"nice": 5}, {"realtime": True}, {"demand.cores": 1.0}, {"sched.voluntary_share": 0.9}):
        assert not fires("batch_work_yields", service, {**hog, **change}, machine=ONE_CACHE), change
    assert not fires("batch_work_yields", {**service, "sched.runq_p99": "20 us"}, hog, machine=ONE_CACHE)


def test_who_answers_at_its_own_pace_is_yielded_to_as_well() -> None:
    hog = on(ONE_CACHE, {**HOG, "demand.cores": 7.0})
    costly = {
        **SERVICE,
        "sched.slice_p50": "1 ms",
        "sched.slice_p90": "5 ms",
        "sched.runq_p99": "7 ms",
        "sched.offcpu_share": 0.5,
        "demand.messages": "200/s",
        "comm.outside_share": 1.0,
    }
    assert fires("batch_work_yields", on(ONE_CACHE, costly), hog, machine=ONE_CACHE)
    for change in (
        {"sched.runq_p99": "1 ms"},
        {"demand.messages": "2/s"},
        {"comm.outside_share": 0.1},
        {"sched.offcpu_share": 0.0},
    ):
        assert not fires("batch_work_yields", on(ONE_CACHE, {**costly, **change}), hog, machine=ONE_CACHE), change


def test_between_sessions_it_is_the_session_that_is_nice() -> None:
    hog, service = on(ONE_CACHE, {**HOG, "demand.cores": 7.0}), on(ONE_CACHE, SERVICE)

    def ways(here: int | None, there: int | None) -> list[str]:
        said = given({**service, "autogroup": here}, {**hog, "autogroup": there}, machine=ONE_CACHE).ask(RULES)
        return [option.name for option in said.advice.proposals[0].options]

    assert ways(7, 9) == ["its session is nice", "it is idle", "it is batch"]
    assert ways(7, 7) == ways(None, 9) == ways(7, None) == ["it is idle", "it is batch"]


def test_who_computes_is_known_also_while_it_is_preempted_all_the_time() -> None:
    service = on(ONE_CACHE, SERVICE)
    chopped = {**HOG, "demand.cores": 7.0, "sched.slice_p90": "400 us", "sched.offcpu_share": 0.0, "demand.messages": 0}
    assert fires("batch_work_yields", service, on(ONE_CACHE, chopped), machine=ONE_CACHE)
    for change in ({"sched.offcpu_share": 0.5}, {"demand.messages": "50 k/s"}, {"demand.wakeups": "9 k/s"}):
        assert not fires("batch_work_yields", service, on(ONE_CACHE, {**chopped, **change}), machine=ONE_CACHE), change


# --- two that take turns

TURNS: Mapping[str, Any] = {
    "name": "pair",
    "demand.threads": 2,
    "demand.cores": 0.9,
    "demand.resident": "4 MiB",
    "comm.wakeups_per_cpu_second": "100 k/s",
    "comm.outside_share": 0.0,
    "comm.reciprocity": 1.0,
}


def test_two_that_take_turns_do_so_on_one_cpu() -> None:
    said = given(on(ONE_CACHE, TURNS), machine=ONE_CACHE).ask(RULES)
    assert said.settings("turns_on_one_core") == {"cpu.affinity": "15"}
    assert [option.name for option in said.advice.proposals[0].options] == ["one CPU", "one core"]
    alone = given(on(NO_SMT, TURNS), machine=NO_SMT).ask(RULES)
    assert alone.settings("turns_on_one_core") == {"cpu.affinity": "7"}
    assert not alone.advice.proposals[0].choice


def test_what_runs_at_once_or_serves_others_is_not_put_on_one_cpu() -> None:
    for change in (
        {"demand.cores": 1.9},  # both are at work
        {"demand.cores": 0.05},  # and here nobody
        {"demand.threads": 1},
        {"comm.wakeups_per_cpu_second": "3 k/s"},
        {"comm.outside_share": 0.6},
        {"comm.reciprocity": 0.3},  # a pipeline: each could go on while the next works
        {"cpus.pinned": True},
        {"realtime": True},
        {"cpus": [3]},
    ):
        assert not fires("turns_on_one_core", {**on(ONE_CACHE, TURNS), **change}, machine=ONE_CACHE), change
    assert not fires("turns_on_one_core", on(ONE_CORE, TURNS), machine=ONE_CORE)
    busy = {"load": 0.95}
    assert not fires("turns_on_one_core", on(ONE_CACHE, TURNS), machine=ONE_CACHE, facts=busy)
    assert fires("turns_on_one_core", on(ONE_CACHE, TURNS), machine=ONE_CACHE, facts={**busy, "idle_share": 0.4})


# --- cores

VECTORS: Mapping[str, Any] = {
    "insn.vector_share": 0.4,
    "insn.scalar_fp_share": 0.05,
    "demand.cores": 6.0,
    "demand.threads": 6,
}


def test_vectors_get_a_core_each() -> None:
    said = given(VECTORS, machine=ONE_CACHE).ask(RULES)
    assert said.settings("core_each_for_vectors") == {"cpu.affinity": "0,2,4,6,8,10,12,14"}
    for change in (
        {"insn.vector_share": 0.05},
        {"demand.cores": 1.0},  # one busy thread: nothing to share
        {"demand.cores": 12.0, "demand.threads": 16},  # more than cores: they gain from SMT
        {**EVERYWHERE, "cpus.pinned": True},
        {**EVERYWHERE, "cpus.allowed_share": 0.5},
    ):
        assert not fires("core_each_for_vectors", {**VECTORS, **change}, machine=ONE_CACHE), change
    assert not fires("core_each_for_vectors", VECTORS, machine=NO_SMT)
    assert not fires("core_each_for_vectors", VECTORS, machine=ONE_CACHE, facts={"load": 0.95})


def hybrid() -> Machine:
    """Return a machine of which CPUs 8 to 15 are the more capable ones."""
    plain = described_machine(ONE_CACHE)
    shape = plain.topology
    cpus = tuple(replace(cpu, kind=int(cpu.os_index >= 8)) for cpu in shape.cpus)
    hardware = replace(plain.hardware, topology=replace(shape, cpus=cpus, cpu_kinds=("efficient", "performance")))
    return replace(plain, hardware=hardware, values={**plain.values, "core_kinds": 2})


def test_what_one_thread_decides_runs_on_performance_cores() -> None:
    alone = {"sched.busiest_thread_share": 0.95, "demand.cores": 1.0}
    assert given(alone, machine=hybrid()).ask(RULES).settings("performance_cores") == {"cpu.affinity": "8-15"}
    assert given(SERVICE, machine=hybrid()).ask(RULES).settings("performance_cores") == {"cpu.affinity": "8-15"}
    many = {"sched.busiest_thread_share": 0.1, "demand.cores": 6.0}
    assert not fires("performance_cores", many, machine=hybrid())
    assert not fires("performance_cores", {**SERVICE, "demand.cores": 4.0}, machine=hybrid())  # more than those cores
    assert not fires("performance_cores", {**alone, **EVERYWHERE, "cpus.pinned": True}, machine=hybrid())
    assert not fires("performance_cores", alone, machine=ONE_CACHE)


# --- a pin that is too narrow

PINNED: Mapping[str, Any] = {
    **EVERYWHERE,
    "cpus": range(4),
    "cpus.allowed": 4,
    "cpus.allowed_share": 0.03,
    "cpus.pinned": True,
    "sched.runq_share": 0.5,
    "demand.cores": 3.9,
}


def test_a_pin_that_makes_a_queue_is_widened_on_the_same_node() -> None:
    idle = {"load": 0.1}
    assert given(PINNED, machine=CHIPLETS, facts=idle).ask(RULES).settings("widen_the_pin") == {"cpu.affinity": "0-63"}
    node = {**PINNED, "cpus": range(64), "cpus.allowed": 64, "cpus.allowed_share": 0.5, "demand.cores": 62.0}
    assert given(node, machine=CHIPLETS, facts=idle).ask(RULES).settings("widen_the_pin") == {"cpu.affinity": "0-127"}
    for change in (
        {"sched.runq_share": 0.02},
        {"demand.cores": 1.0},  # waiting for something else
        {"cpus.allowed_share": 1.0},
        {"cpus.pinned": False},  # a cpuset, which an affinity does not widen
        {"realtime": True},
        {"cpus": ()},
    ):
        assert not fires("widen_the_pin", {**PINNED, **change}, facts=idle), change
    assert not fires("widen_the_pin", PINNED, facts={"load": 1.5})


def test_one_busy_thread_is_left_alone() -> None:
    alone = on(
        CHIPLETS,
        {"demand.cores": 1.0, "demand.threads": 1, "sched.busiest_thread_share": 1.0, "sched.voluntary_share": 0.0},
    )
    assert not given(alone, machine=CHIPLETS, facts={"load": 0.01}).ask(RULES).advice.proposals


# --- many that ask


def test_a_server_on_a_full_machine_does_not_preempt_its_clients() -> None:
    busy = {
        "sched.slice_p50": "20 us",
        "sched.slice_p90": "80 us",
        "sched.runq_share": 0.3,
        "demand.messages": "60 k/s",
        "net.loopback_share": 1.0,
        "realtime": False,
        "nice": 0,
    }
    full = {"load": 0.97}
    assert given(busy, facts=full).ask(RULES).settings("requests_by_the_dozen") == {"cpu.policy": "batch"}
    for change in (
        {"demand.messages": "2 k/s"},
        {"net.loopback_share": 0.1},  # its clients run elsewhere
        {"sched.runq_share": 0.01},
        {"sched.slice_p90": "5 ms"},
        {"realtime": True},
    ):
        assert not fires("requests_by_the_dozen", {**busy, **change}, facts=full), change
    assert not fires("requests_by_the_dozen", busy, facts={"load": 0.5})
