"""Traits: what several packs mean by the same words, such as "latency-critical" or "fits one node", as conditions.

Each takes the word that it is about (``w`` or ``o``). Where a fact may be missing without harm, the trait says so itself, by
``is_known``: of a stored profile nobody knows where its threads may run, and of a described machine nobody knows its load.
"""

from __future__ import annotations

from typing import Any

from rules.language import Condition, Number, all_of, any_of, none_of
from rules.vocabulary import Disk, Nic, Workload, disk, m, nic

HEADROOM = 0.7
"""Share of a domain's cores that a workload may keep busy to be packed there. What is measured is a mean over seconds; beyond 0.7
of busy time waiting grows faster than load (of an M/M/1 queue by 1 / (1 - load))."""
FREE_SHARE = 0.9
"""Share of the memory free on a node that may be filled: the rest stays for what it allocates next."""
SIZE_SHARE = 0.6
"""Share of a node's memory that may be filled when nobody knows what is free: of a machine that is only described."""


def not_above(value: Number[Any], limit: float | str) -> Condition:
    """Return the condition that a value is not known to be above a limit."""
    return any_of(value <= limit, ~value.is_known)


def not_below(value: Number[Any], limit: float | str) -> Condition:
    """Return the condition that a value is not known to be below a limit."""
    return any_of(value >= limit, ~value.is_known)


# --- where it may run


def movable(word: Workload) -> Condition:
    """Nobody has bound its threads, and it is no real-time task: of a profile whose processes are gone that is taken for granted."""
    return all_of(
        any_of(~word.cpus.pinned, ~word.cpus.allowed.is_known),
        any_of(~word.realtime, ~word.nice.is_known),
    )


def roams_nodes(word: Workload) -> Condition:
    """Its threads may run on more than one NUMA node."""
    return not_below(word.cpus.nodes, 2)


def fits_cores_of_node(word: Workload) -> Condition:
    """A node has cores enough for it, SMT siblings not counted."""
    return word.demand.cores <= m.cores_per_node * HEADROOM


def fits_memory_of_node(word: Workload) -> Condition:
    """A node has memory enough for it, or has it already."""
    return any_of(
        word.placement.home_share > 0.9,
        word.demand.resident <= m.free_per_node * FREE_SHARE,
        all_of(~m.free_per_node.is_known, word.demand.resident <= m.memory_per_node * SIZE_SHARE),
    )


def fits_cache_domain(word: Workload) -> Condition:
    """A last-level cache's cores are enough for it: of two CPUs a core only one is counted."""
    taken = word.demand.cores / m.cpus_per_llc
    return any_of(all_of(m.threads_per_core == 1, taken <= HEADROOM), taken <= HEADROOM / 2)


def has_room() -> Condition:
    """The machine is not full already, as far as is known: packing onto a part of a full machine makes a queue."""
    return not_above(m.load, 0.8)


def is_large(word: Workload) -> Condition:
    """Its memory is more than caches hold (the largest have about 256 MiB), so that where it is matters."""
    return word.demand.resident > "256 MiB"


# --- how it behaves


def streams(word: Workload) -> Condition:
    """It runs through memory in one direction: bandwidth is what it needs, and prefetchers hide latency.

    Of random accesses the direction is 0, of a sweep over one array 1; copying one array to another was measured at 0.5.
    """
    return all_of(word.memory.direction > 0.4, word.memory.new_page_share > 0.2)


def does_not_stream(word: Workload) -> Condition:
    """It is not known to stream."""
    return any_of(not_above(word.memory.direction, 0.4), word.memory.new_page_share <= 0.2)


def random_access(word: Workload) -> Condition:
    """Its accesses go here and there over a wide footprint: latency is what it waits for.

    Without sampled addresses the counters tell: TLB misses (5 in 1000 instructions is one in some 60 loads).
    """
    return any_of(word.memory.random_share > 0.6, word.cpu.dtlb_mpki > 5)


def memory_bound(word: Workload) -> Condition:
    """It waits for memory rather than for its neighbours in the cache: packed into one cache it would lose."""
    return any_of(random_access(word), streams(word), word.cpu.llc_mpki > 10)


def cache_friendly(word: Workload) -> Condition:
    """It is known not to be bound by memory: mostly in the kernel, or its accesses stay on pages seen before."""
    return all_of(
        any_of(
            word.sched.system_share > 0.5,
            word.memory.new_page_share < 0.3,
            word.cpu.llc_mpki < 2,
        ),
        not_above(word.cpu.llc_mpki, 10),
        not_above(word.memory.random_share, 0.6),
    )


def short_bursts(word: Workload) -> Condition:
    """It runs in short bursts: nine in ten are shorter than what a scheduler leaves to who computes (some 3 ms).

    Who ends them does not matter: on a busy machine a server is preempted by those that it wakes, and 3 in 100 of its switches
    may be its own will.
    """
    return all_of(word.sched.slice_p50 < "500 us", word.sched.slice_p90 < "2 ms")


def latency_critical(word: Workload) -> Condition:
    """It serves: short bursts, each the answer to somebody's request.

    A pipeline among its own threads does not count: nobody waits for each of its steps.
    """
    return all_of(
        short_bursts(word),
        any_of(
            word.demand.messages > "1000/s",
            all_of(word.demand.wakeups > "2000/s", word.comm.outside_share > 0.3),
        ),
    )


def answers(word: Workload) -> Condition:
    """It serves at its own pace: whoever asks waits for it, and between the requests it sleeps; each may take milliseconds."""
    return all_of(
        word.demand.messages > "20/s",
        word.comm.outside_share > 0.3,
        word.sched.offcpu_share > 0.2,
    )


def cpu_hog(word: Workload) -> Condition:
    """It computes without pause, half a CPU busy or more, and it is the scheduler that ends its slices, which are long.

    Beside a service that preempts it they are as short as the service's pauses: then what tells is that it never waits for anything, and
    neither answers nor wakes anybody.
    """
    undisturbed = word.sched.slice_p90 > "2 ms"
    preempted = all_of(
        word.sched.offcpu_share < 0.1,
        not_above(word.demand.messages, "1000/s"),
        not_above(word.demand.wakeups, "2000/s"),
    )
    return all_of(any_of(undisturbed, preempted), word.sched.voluntary_share < 0.5, word.demand.cores > 0.5)


def serves_the_network(word: Workload) -> Condition:
    """Its traffic goes through a card: not to this host itself, nor through Unix sockets, where no card is involved."""
    return all_of(word.net.loopback_share < 0.2, not_above(word.net.unix_share, 0.2))


def small_messages(word: Workload) -> Condition:
    """Its messages are small: a kilobyte is one packet, for which latency counts and not bandwidth."""
    return all_of(word.net.received_size_p50 <= "1 KiB", word.net.sent_size_p50 <= "1 KiB")


def reaches_disks(word: Workload) -> Condition:
    """Its file I/O reaches a disk rather than the page cache only."""
    return all_of(word.io.device_share > 0.2, word.demand.device > "1 MB/s")


# --- things


def carries_traffic(word: Nic = nic) -> Condition:
    """It is up, and the only card or one that is in use."""
    return all_of(word.up, any_of(m.nics == 1, word.traffic > "1 MB/s"))


def is_used(word: Disk = disk) -> Condition:
    """It is the only disk, or a busy one: a workload's I/O must not tune disks that it does not touch."""
    return any_of(m.disks == 1, word.busy_share > 0.2)


def not_on_slow_memory() -> Condition:
    """No memory-only nodes: where the kernel keeps cold pages on slower memory, moving them back would undo its work."""
    return none_of(m.memory_nodes > 0)
