"""NUMA: memory near the threads that use it, bandwidth from all nodes where bandwidth is what counts.

Packing never touches what is larger than a node, what streams, what somebody has bound, or real-time tasks.
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Choice, Option, Wish, all_of, any_of, choice, m, nic, rule, s, w, when
from rules.placing import (
    emptiest_node,
    has_cores,
    nearest_nodes,
    node_for,
    nodes_for_channels,
    nodes_of,
    on_nodes,
    shares_over,
)
from rules.situation import Machine, Thing, Workload
from rules.traits import (
    carries_traffic,
    does_not_stream,
    fits_cores_of_node,
    fits_memory_of_node,
    has_room,
    is_large,
    movable,
    not_above,
    not_on_slow_memory,
    random_access,
    roams_nodes,
    serves_the_network,
    streams,
)

_SEVERAL_NODES = m.nodes >= 2


@rule(
    priority=26,
    expect="throughput +3..20 %; latency-p99 -20..-3 %",
    source="Tang et al., Optimizing Google's Warehouse Scale Computers: The NUMA Experience, HPCA 2013; Majo and Gross, "
    "Memory Management in NUMA Multicore Systems: Trapped between Cache Contention and Interconnect Overhead, "
    "ISMM 2011",
    limits="Not where other workloads fill the chosen node's caches: remote memory can then be the lesser evil (Tang et "
    "al.). The number of channels is known only with an EDAC driver; without one a node counts as having enough.",
)
@when(
    _SEVERAL_NODES,
    movable(w),
    roams_nodes(w),
    # Already mostly local: its threads and pages belong to one place, and it is the scheduler that would part them.
    w.memory.numa_locality > 0.7,
    # Frequent and small: a cache line here and there; or ten thousand calls a CPU second that carry less than a page.
    any_of(
        w.memory.random_share > 0.3,
        all_of(
            w.syscall.per_cpu_second > "10 k/s",
            any_of(
                w.io.read_size_p50 <= "4 KiB",
                w.io.write_size_p50 <= "4 KiB",
                w.net.received_size_p50 <= "4 KiB",
                w.net.sent_size_p50 <= "4 KiB",
            ),
        ),
    ),
    does_not_stream(w),
    is_large(w),
    fits_cores_of_node(w),
    fits_memory_of_node(w),
    has_room(),
)
def local_with_channels(workload: Workload, machine: Machine) -> Iterator[Wish | Choice]:
    """High locality with frequent small reads and writes prefers its own node, and more memory channels for each core.

    Small accesses wait for latency: a remote one takes 1.5 to 3 times as long as a local one. What a core then needs besides is
    a channel that is not busy with others: a core each instead of SMT siblings, and a second node once more cores are busy than the
    channels of one can serve (about three cores a channel).
    """
    node = node_for(machine, workload)
    if node is None:
        return
    one = _way("one node", machine, workload, (node,))
    pair = nearest_nodes(machine, workload, 2, around=node)
    two = _way("two nodes", machine, workload, pair) if len(pair) == 2 else None
    yield from _best("locality or channels", *((two, one) if nodes_for_channels(machine, workload) > 1 else (one, two)))


@rule(
    priority=20,
    expect="throughput +3..20 %; latency-p99 -20..-3 %",
    source="Documentation/admin-guide/mm/numa_memory_policy.rst; Tang et al., Optimizing Google's Warehouse Scale "
    "Computers: The NUMA Experience, HPCA 2013 (10 to 20 % on two services); numactl(8), --cpunodebind and "
    "--membind",
    limits="A mean over seconds hides bursts: one that needs more cores than the node has will queue. Helps little below "
    "256 MiB, which caches hold.",
)
@when(
    _SEVERAL_NODES,
    movable(w),
    roams_nodes(w),
    not_above(w.memory.numa_locality, 0.7),
    random_access(w),
    is_large(w),
    fits_cores_of_node(w),
    fits_memory_of_node(w),
    has_room(),
)
def keep_on_one_node(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Random access that fits one node is kept on it, threads and pages: no miss then crosses the interconnect.

    Random accesses have few misses under way at once, so each one's latency counts in full.
    """
    node = node_for(machine, workload)
    cpus = None if node is None else on_nodes(machine, (node,), workload)
    if cpus is not None and nodes_for_channels(machine, workload) == 1:
        yield s.cpu.affinity(workload, cpus)
        yield s.memory.placement(workload, str(node))


@rule(
    priority=24,
    expect="throughput +5..30 %",
    source="Lepers, Quema and Fedorova, Thread and Memory Placement on NUMA Systems: Asymmetry Matters, USENIX ATC 2015; "
    "Documentation/admin-guide/mm/numa_memory_policy.rst",
    limits="The scheduler can no longer use other nodes for it: undo when it grows beyond the node.",
)
@when(
    _SEVERAL_NODES,
    movable(w),
    roams_nodes(w),
    w.placement.home_share > 0.8,
    w.memory.numa_locality < 0.6,
    is_large(w),
    fits_cores_of_node(w),
    ~streams(w),
    has_room(),
)
def threads_follow_memory(workload: Workload, machine: Machine) -> Iterator[Wish | Choice]:
    """Memory on one node, threads mostly on others: bring them together, the threads first, as moving them copies nothing.

    Moving both to an emptier node is the other way: it costs a copy of all pages, and leaves a crowded node.
    """
    home = workload.home
    if home is None or not has_cores(machine, home, workload):
        return
    cpus = on_nodes(machine, (home,), workload)
    stay = None if cpus is None else Option("threads to the memory", (s.cpu.affinity(workload, cpus),))
    emptier = emptiest_node(machine, workload, but=home)
    leave = None if emptier is None else _way("both to the emptiest node", machine, workload, (emptier,))
    yield from _best("bring together", stay, leave)


@rule(
    priority=18,
    expect="throughput +5..30 %",
    source="migrate_pages(2); Documentation/admin-guide/mm/numa_memory_policy.rst; Documentation/mm/page_migration.rst",
    limits="Moving pages stalls who touches them; shared pages of other processes stay. Not with memory-only nodes, "
    "where the kernel keeps cold pages away on purpose.",
)
@when(
    _SEVERAL_NODES,
    not_on_slow_memory(),
    w.cpus.nodes < m.nodes,
    w.placement.here_share < 0.7,
    is_large(w),
)
def pages_follow_threads(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Threads held on some nodes by a pin or cpuset, memory on others: move the pages, since the threads may not move.

    That is what is left behind when somebody pins a program that already runs.
    """
    shares = shares_over(machine, tuple(nodes_of(machine, workload)), workload) if workload.cpus else None
    if shares is not None:
        yield s.memory.placement(workload, shares)


@rule(
    priority=16,
    expect="throughput +5..40 %",
    source="Dashti et al., Traffic Management: A Holistic Approach to Memory Placement on NUMA Systems, ASPLOS 2013; "
    "set_mempolicy(2), MPOL_INTERLEAVE",
    limits="Only pages that there are: new ones go where they are first touched. A program whose threads each stream "
    "their own memory does better with that memory local (first touch, or memory.numa_balancing).",
)
@when(
    _SEVERAL_NODES,
    not_on_slow_memory(),
    streams(w),
    # Larger than a node, and using it: whatever fits a node is not for spreading.
    w.demand.cores > m.cores_per_node * 0.7,
    w.cpus.nodes >= 2,
    w.placement.home_share > 0.6,
    w.demand.resident > "1 GiB",
)
def interleave_streaming(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Many threads streaming from one node's memory wait for its channels while those of the other nodes idle: interleave the pages.

    Congestion of one memory controller costs more than distance does: under load a remote access to an idle controller is the
    faster one.
    """
    shares = shares_over(machine, tuple(nodes_of(machine, workload)), workload) if workload.cpus else None
    if shares is not None:
        yield s.memory.placement(workload, shares)


@rule(
    priority=8,
    expect="throughput +0..5 %",
    source="Documentation/admin-guide/sysctl/kernel.rst, numa_balancing: a workload that is bound to nodes already does "
    "without it",
    limits="It is switched off for the whole machine: other workloads that are bound to nothing lose it. Not with "
    "memory-only nodes, where it is also what promotes hot pages.",
)
@when(
    _SEVERAL_NODES,
    not_on_slow_memory(),
    m.numa_balancing,
    # Bound by whomever, dna included.
    w.cpus.nodes < m.nodes,
    w.placement.here_share > 0.9,
    # What the machine is for: nearly half of its CPU time.
    w.demand.cores > m.cpus * 0.4,
    w.intervals >= 3,
)
def numa_balancing_off_when_bound() -> Iterator[Wish]:
    """A bound workload with local memory gains nothing from NUMA balancing, and pays for its page faults."""
    yield s.memory.numa_balancing(0)


@rule(
    priority=9,
    expect="throughput +0..15 %",
    source="Documentation/admin-guide/sysctl/kernel.rst, numa_balancing",
    limits="Sampling takes page faults, worst for programs that live for seconds or share all pages among all threads. "
    "It is for the whole machine.",
)
@when(
    _SEVERAL_NODES,
    not_on_slow_memory(),
    # Whether it is on or off: or a bound workload beside it would switch it off, this one on again, and so on for ever.
    movable(w),
    w.cpus.nodes >= m.nodes,
    w.memory.numa_locality < 0.6,
    w.demand.cores > m.cores_per_node * 0.7,
    is_large(w),
    does_not_stream(w),
    w.intervals >= 3,
)
def numa_balancing_on_when_spread() -> Iterator[Wish]:
    """A workload larger than a node, bound to nothing and far from its memory: let the kernel bring pages to those who use them."""
    yield s.memory.numa_balancing(1)


@rule(
    priority=8,
    expect="throughput +0..20 %; latency-p99 -50..0 %",
    source="Documentation/admin-guide/sysctl/vm.rst, zone_reclaim_mode; kernel commit 4f9b16a64753 (off by default since "
    "3.16)",
    limits="On purpose it is set only where each job fits a node and remote memory is dear (partitioned HPC nodes).",
)
@when(
    _SEVERAL_NODES,
    m.zone_reclaim,
    # It lives by the page cache: files mapped, or a lot read and written.
    any_of(w.memory.file_share > 0.3, w.io.bytes_per_cpu_second > "100 MB/s"),
)
def zone_reclaim_off_for_page_cache() -> Iterator[Wish]:
    """Who lives by the page cache wants it on every node: dropping it to keep pages local reads them from disk again."""
    yield s.memory.zone_reclaim(0)


@rule(
    priority=28,
    expect="throughput +0..15 %; latency-p99 -15..0 %",
    source="Li et al., Tales of the Tail: Hardware, OS, and Application-level Sources of Tail Latency, SoCC 2014; "
    "Neugebauer et al., Understanding PCIe Performance for End Host Networking, SIGCOMM 2018 (remote memory costs "
    "a device's reads some 100 ns)",
    limits="Of two cards on different nodes with like traffic neither is chosen. Not for traffic within the host.",
)
@when(
    _SEVERAL_NODES,
    carries_traffic(),
    ~nic.virtual,
    nic.node.is_known,
    serves_the_network(w),
    # A tenth of the link: below that the card is not what limits it.
    w.demand.sent + w.demand.received > nic.speed * 0.1,
    movable(w),
    roams_nodes(w),
    fits_cores_of_node(w),
    fits_memory_of_node(w),
    has_room(),
)
def near_the_card(workload: Workload, machine: Machine, nic: Thing) -> Iterator[Wish]:
    """A workload that lives by one card runs on the card's node: its packets are then written to, and read from, near memory and cache."""
    node = node_for(machine, workload, near=nic.node)
    cpus = None if node is None or node != nic.node else on_nodes(machine, (node,), workload)
    if cpus is not None:
        yield s.cpu.affinity(workload, cpus)
        yield s.memory.placement(workload, str(node))


def _way(name: str, machine: Machine, workload: Workload, nodes: tuple[int, ...]) -> Option | None:
    """Return the way to have a workload on these nodes, a core each, its pages shared equally among them."""
    cpus, shares = on_nodes(machine, nodes, workload, smt=False), shares_over(machine, nodes, workload)
    if cpus is None or shares is None:
        return None
    return Option(name, (s.cpu.affinity(workload, cpus), s.memory.placement(workload, shares)))


def _best(name: str, *ways: Option | None) -> Iterator[Wish | Choice]:
    """Yield the choice among the ways that there are; where there is but one, what it sets."""
    there = [way for way in ways if way is not None]
    if len(there) > 1:
        yield choice(name, *there)
    else:
        yield from (wish for way in there for wish in way.wishes)
