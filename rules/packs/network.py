"""Network: on which CPUs packets are handled, and how long they are held back.

Nothing here is for traffic within the host: loopback and Unix sockets have no card, no queue and no interrupt.
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Wish, any_of, m, nic, none_of, rule, s, w, when
from rules.placing import cpu_list, nodes_of, usable
from rules.situation import Machine, Thing, Workload
from rules.traits import (
    carries_traffic,
    latency_critical,
    not_above,
    serves_the_network,
    short_bursts,
    small_messages,
)

_FLOWS = 32768
"""Flows that RFS remembers on a moderately loaded server, as Documentation/networking/scaling.rst has it."""


@rule(
    priority=10,
    expect="throughput +0..40 %; latency-p99 -20..+5 %",
    source="Documentation/networking/scaling.rst, RPS: Receive Packet Steering (suggested configuration)",
    limits="Costs an interrupt between CPUs for each batch of packets: a loss where one CPU keeps up. Never on cards "
    "with several queues, whose hardware does it for nothing.",
)
@when(
    nic.rx_queues == 1,
    ~nic.rps,
    carries_traffic(),
    m.cpus >= 4,
    serves_the_network(w),
    # One CPU handles some hundred thousand packets a second; with a fifth of that on it, it is the busiest there is.
    any_of(w.demand.messages > "20 k/s", w.demand.received > "100 MB/s"),
    w.demand.connections >= 8,
    not_above(m.load, 0.8),
)
def rps_for_one_queue(machine: Machine, nic: Thing) -> Iterator[Wish]:
    """A card with one receiving queue interrupts one CPU, which then handles every packet: let others of its node do so.

    A flow stays on one CPU, so it takes several flows to gain.
    """
    cpus = [cpu for cpu in usable(machine) if nic.node is None or cpu.node == nic.node]
    if len(cpus) >= 2:
        yield s.nic.rps(nic, cpu_list(cpus))


@rule(
    priority=10,
    expect="throughput +0..10 %",
    source="Documentation/networking/scaling.rst, RPS: Receive Packet Steering (with a queue for each CPU it is "
    "redundant)",
    limits="Not where RPS was set to take packets off CPUs that are kept for something else.",
)
@when(
    nic.rps,
    carries_traffic(),
    nic.rx_queues >= 2,
    nic.rx_queues >= m.cpus,
    none_of(m.isolated_cpus > 0),
)
def no_rps_for_many_queues(nic: Thing) -> Iterator[Wish]:
    """With a receiving queue for each CPU the card has spread the packets already: steering them once more only costs interrupts."""
    yield s.nic.rps(nic, "none")


@rule(
    priority=10,
    expect="throughput +0..15 %; latency-p99 -15..+5 %",
    source="Documentation/networking/scaling.rst, RFS: Receive Flow Steering",
    limits="Threads that migrate often take their flows along, out of order at worst. Not where a thread is bound to "
    "each queue's CPU, which is better.",
)
@when(
    carries_traffic(),
    nic.rx_queues < m.cpus,
    m.cpus >= 4,
    serves_the_network(w),
    w.demand.messages > "20 k/s",
    w.demand.connections >= 32,
    # Several threads read, or there would be one CPU to go to; and the scheduler leaves them where they are.
    w.sched.busiest_thread_share < 0.5,
    w.sched.migrations_per_switch < 0.1,
    not_above(m.load, 0.8),
)
def rfs_for_many_flows(nic: Thing) -> Iterator[Wish]:
    """Many connections read by many threads: handle each flow's packets on the CPU of the thread that reads it.

    Its data is then in the cache of that CPU, and the wake-up stays on it.
    """
    queues = nic.number("rx_queues")
    if queues is not None and queues >= 1:
        yield s.nic.rfs_entries(_FLOWS)
        yield s.nic.rfs(nic, _power_of_2(_FLOWS / queues))


@rule(
    priority=10,
    expect="throughput +0..10 %; latency-p99 -15..0 %",
    source="Li et al., Tales of the Tail: Hardware, OS, and Application-level Sources of Tail Latency, SoCC 2014 "
    "(interrupt routing); Documentation/core-api/irq/irq-affinity.rst",
    limits="Interrupts that the kernel manages stay where they are. irqbalance would move them again. Of two workloads "
    "bound to different nodes neither is followed.",
)
@when(
    m.nodes >= 2,
    ~m.irqbalance,
    carries_traffic(),
    ~nic.virtual,
    serves_the_network(w),
    any_of(w.demand.messages > "10 k/s", (w.demand.sent + w.demand.received) > "100 MB/s"),
    # It stays on one node, and the card is on the same or on none in particular.
    w.cpus.nodes == 1,
)
def interrupts_near_workload(workload: Workload, machine: Machine, nic: Thing) -> Iterator[Wish]:
    """The card's interrupts go to the node on which the workload is kept: packets are then handled where they are read.

    From another node every packet's header and data cross the interconnect once more.
    """
    nodes = nodes_of(machine, workload) if workload.cpus else {}
    if len(nodes) == 1 and nic.node in (None, *nodes):
        cpus = [cpu for cpu in usable(machine) if cpu.node in nodes]
        yield s.irq.affinity(nic, cpu_list(cpus))


@rule(
    priority=12,
    expect="latency-p99 -30..-5 %",
    source="Intel Ethernet 800 Series Linux Performance Tuning Guide, Interrupt Moderation; Solarflare Server Adapter "
    "User Guide, Interrupt Moderation",
    limits="More interrupts, more CPU time: not on a machine without CPUs to spare. Drivers differ in the names that "
    "they take; those without are refused.",
)
@when(
    carries_traffic(),
    ~nic.virtual,
    serves_the_network(w),
    latency_critical(w),
    small_messages(w),
    not_above(m.load, 0.5),
    # Few bytes: with gigabits the card had better wait for a few packets more.
    (w.demand.sent + w.demand.received) < nic.speed * 0.1,
)
def interrupt_at_once(nic: Thing) -> Iterator[Wish]:
    """Small requests, each waited for: the card tells of a packet within 8 µs instead of waiting for more.

    Moderation of 50 µs and more is a large part of a round trip in a data centre; adaptive moderation guesses, and guesses late.
    """
    yield s.nic.coalesce(nic, "adaptive-rx=off rx-usecs=8")


@rule(
    priority=8,
    expect="throughput +0..15 %",
    source="Intel Ethernet 800 Series Linux Performance Tuning Guide, Interrupt Moderation (adaptive moderation is the "
    "default for a reason)",
    limits="Adds some tens of microseconds to a packet that comes alone.",
)
@when(
    carries_traffic(),
    ~nic.virtual,
    serves_the_network(w),
    (w.demand.sent + w.demand.received) > nic.speed * 0.3,
    any_of(w.net.sent_size_p50 > "8 KiB", w.net.received_size_p50 > "8 KiB"),
    none_of(latency_critical(w)),
)
def interrupt_seldom(nic: Thing) -> Iterator[Wish]:
    """Bulk transfer at a third of the link and more: let the card adapt, and tell of many packets at once."""
    yield s.nic.coalesce(nic, "adaptive-rx=on")


@rule(
    priority=6,
    expect="latency-p99 -30..-5 %; energy +0..30 %",
    source="Documentation/admin-guide/sysctl/net.rst, busy_poll and busy_read; Documentation/networking/napi.rst, busy "
    "polling",
    limits="Every program that waits in poll, select or epoll for sockets of a card now spins 50 µs first: for machines "
    "that are there for one service. Not in other network namespaces, not for paravirtual cards without support.",
)
@when(
    carries_traffic(),
    ~nic.virtual,
    serves_the_network(w),
    short_bursts(w),
    small_messages(w),
    # Answers come soon: it waits less than some hundred microseconds on average, so that spinning often pays.
    w.demand.messages > "10 k/s",
    (w.syscall.network_blocked_share + w.syscall.poll_blocked_share) > 0.5,
    # CPUs to spare: spinning takes them.
    m.load < 0.3,
    w.demand.cores < m.cores * 0.3,
)
def busy_poll_small_messages() -> Iterator[Wish]:
    """A service of small requests on a machine with idle CPUs asks the card for packets rather than to sleep until interrupted."""
    yield s.nic.busy_poll(50)
    yield s.nic.busy_read(50)


def _power_of_2(number: float) -> int:
    return 1 << max(int(number).bit_length() - 1, 0)
