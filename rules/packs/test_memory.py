"""The pack ``memory``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.testing import beside, given

RULES = beside(__file__)
MACHINE = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:2"
ROOMY: Mapping[str, Any] = {"memory": "64 GiB", "free": "40 GiB", "swap": "8 GiB"}
SHORT: Mapping[str, Any] = {**ROOMY, "free": "3 GiB"}


def fires(rule: str, *workloads: Mapping[str, Any], machine: str = MACHINE, **more: Any) -> bool:
    return given(*workloads, machine=machine, **more).ask(RULES).fired(rule)


# --- huge pages

HEAP: Mapping[str, Any] = {
    "name": "lookup",
    "memory.random_share": 0.8,
    "memory.hugepage_share": 0.0,
    "demand.resident": "2 GiB",
    "hugepages.eligible": "2 GiB",
    "hugepages.dense_share": 0.98,
    "syscall.process_share": 0.0,
    "intervals": 6,
}


def test_a_dense_heap_accessed_at_random_gets_huge_pages() -> None:
    available = {**ROOMY, "hugepages.available": True}
    assert given(HEAP, machine=MACHINE, facts=available).ask(RULES).settings("huge_pages_for_random_access") == {
        "memory.hugepages": "collapse:0.5"
    }
    counted = {**HEAP, "memory.random_share": None, "cpu.dtlb_mpki": 20.0}
    assert fires("huge_pages_for_random_access", counted, facts=available)


def test_huge_pages_are_not_for_those_whom_they_hurt() -> None:
    available = {**ROOMY, "hugepages.available": True}
    for change in (
        {"hugepages.dense_share": 0.3},  # sparse: each page touched would become 512
        {"name": "redis-server"},  # forks to save
        {"name": "valkey-server"},
        {"syscall.process_share": 0.5},  # forks all the time
        {"memory.random_share": 0.1},
        {"memory.hugepage_share": 0.9},  # has them
        {"demand.resident": "100 MiB"},
        {"hugepages.eligible": "10 MiB"},  # files
        {"intervals": 1},  # may be gone before it pays
    ):
        assert not fires("huge_pages_for_random_access", {**HEAP, **change}, facts=available), change
    assert not fires("huge_pages_for_random_access", HEAP, facts={**available, "free": "2 GiB"})
    assert not fires("huge_pages_for_random_access", HEAP, facts={**available, "hugepages.available": False})
    two = "pack:2 numa:1(memory=64GB) core:8 pu:1"
    shared = {**HEAP, "memory.numa_locality": 0.4}  # threads of several nodes in one huge page
    assert not fires("huge_pages_for_random_access", shared, machine=two, facts=available)
    assert fires("huge_pages_for_random_access", {**HEAP, "memory.numa_locality": 0.9}, machine=two, facts=available)


SPARSE: Mapping[str, Any] = {
    "memory.hugepage_share": 0.8,
    "memory.working_set_share": 0.05,
    "memory.random_share": 0.1,
    "demand.resident": "20 GiB",
    "intervals": 6,
}


def test_huge_pages_on_request_only_where_memory_is_short_and_wasted() -> None:
    always = {**SHORT, "hugepages.mode": "always"}
    assert given(SPARSE, machine=MACHINE, facts=always).ask(RULES).settings("huge_pages_only_on_request") == {
        "memory.thp": "madvise"
    }
    for change in (
        {"memory.hugepage_share": 0.0},
        {"memory.working_set_share": 0.8},
        {"demand.resident": "100 MiB"},
        {"intervals": 1},
    ):
        assert not fires("huge_pages_only_on_request", {**SPARSE, **change}, facts=always), change
    assert not fires("huge_pages_only_on_request", SPARSE, facts={**always, "free": "40 GiB"})
    assert not fires("huge_pages_only_on_request", SPARSE, facts={**SHORT, "hugepages.mode": "madvise"})


# --- swap and reclaim

SWAPPED: Mapping[str, Any] = {
    "memory.anonymous_share": 0.95,
    "memory.swap_share": 0.2,
    "memory.major_fault_share": 0.3,
    "io.bytes_per_cpu_second": "1 MB/s",
}


def test_heaps_that_were_swapped_out_while_files_could_go_swap_later() -> None:
    facts = {**ROOMY, "swappiness": 60}
    assert given(SWAPPED, machine=MACHINE, facts=facts).ask(RULES).settings("swap_late_for_heaps") == {
        "memory.swappiness": 10
    }
    for change in (
        {"memory.anonymous_share": 0.3},
        {"memory.swap_share": 0.0},
        {"memory.major_fault_share": 0.0},
        {"io.bytes_per_cpu_second": "500 MB/s"},  # lives by the files that would go instead
    ):
        assert not fires("swap_late_for_heaps", {**SWAPPED, **change}, facts=facts), change
    for other in ({"swappiness": 10}, {"swap": 0}, {"free": "2 GiB"}):
        assert not fires("swap_late_for_heaps", SWAPPED, facts={**facts, **other}), other


COLD: Mapping[str, Any] = {
    "name": "cold",
    "memory.working_set_share": 0.1,
    "demand.resident": "10 GiB",
    "pressure.memory_some": 0.0,
    "earlier": ({"memory.working_set_share": 0.1}, {"memory.working_set_share": 0.1}),
    "times": (0, 5, 10),
}
SQUEEZED: Mapping[str, Any] = {
    "name": "squeezed",
    "pressure.memory_some": 0.2,
    "demand.resident": "10 GiB",
    "earlier": ({"pressure.memory_some": 0.1}, {"pressure.memory_some": 0.1}),
    "times": (0, 5, 10),
}


def test_cold_memory_goes_first_when_another_is_short_of_it() -> None:
    said = given(COLD, SQUEEZED, machine=MACHINE, facts=SHORT).ask(RULES)
    assert said.settings("cold_memory_goes_first") == {"memory.cold": "all"}
    assert said.settings("cold_memory_goes_first", on=said.situation.workloads[1]) == {}
    [proposal] = said.advice.proposals
    assert proposal.options[1].wishes[0].value == "4608M"  # half of nine tenths of 10 GiB


def test_memory_in_use_or_without_somewhere_to_go_stays() -> None:
    for change in (
        {"memory.working_set_share": 0.9},
        {"earlier": (), "times": ()},  # one interval tells nothing
        {"demand.resident": "100 MiB"},
        {"pressure.memory_some": 0.1},
    ):
        assert not fires("cold_memory_goes_first", {**COLD, **change}, SQUEEZED, facts=SHORT), change
    assert not fires("cold_memory_goes_first", COLD, {**SQUEEZED, "pressure.memory_some": 0.0}, facts=SHORT)
    assert not fires("cold_memory_goes_first", COLD, SQUEEZED, facts=ROOMY)
    assert not fires("cold_memory_goes_first", {**COLD, "memory.file_share": 0.0}, SQUEEZED, facts={**SHORT, "swap": 0})
    assert not fires("cold_memory_goes_first", COLD, facts=SHORT)


# --- files

STARTING: Mapping[str, Any] = {
    "memory.major_fault_share": 0.6,
    "memory.faults_per_cpu_second": "5000/s",
    "memory.file_share": 0.8,
    "demand.resident": "3 GiB",
}


def test_a_program_that_waits_for_its_files_gets_them_at_once() -> None:
    assert given(STARTING, machine=MACHINE, facts=ROOMY).ask(RULES).settings("prefault_mapped_files") == {
        "memory.prefault": "all"
    }
    for change in (
        {"memory.major_fault_share": 0.01},
        {"memory.file_share": 0.05, "memory.swap_share": 0.0},
        {"memory.faults_per_cpu_second": "1/s"},
        {"demand.resident": "30 GiB"},  # would push out everything else
    ):
        assert not fires("prefault_mapped_files", {**STARTING, **change}, facts=ROOMY), change
    assert not fires(
        "prefault_mapped_files", STARTING, facts=SHORT
    )  # it faults since memory is short: more makes it worse


DATABASE: Mapping[str, Any] = {"io.sync_per_write": 0.3, "demand.written": "50 MB/s", "io.block_latency_p99": "200 ms"}


def test_who_waits_for_fsync_gets_early_write_back() -> None:
    facts = {"dirty_background": "6 GiB"}
    assert given(DATABASE, machine=MACHINE, facts=facts).ask(RULES).settings("write_back_early_for_fsync") == {
        "memory.dirty_background": "256M",
        "memory.dirty": "2G",
    }
    for change in ({"io.sync_per_write": 0.0}, {"demand.written": "1 MB/s"}, {"io.block_latency_p99": "2 ms"}):
        assert not fires("write_back_early_for_fsync", {**DATABASE, **change}, facts=facts), change
    assert not fires("write_back_early_for_fsync", DATABASE, facts={"dirty_background": "256 MiB"})
