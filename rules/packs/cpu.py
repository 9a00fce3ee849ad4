"""CPUs: who shares a cache, a core or a run queue with whom.

A workload that one thread makes is left alone throughout: there is nothing to bring together, and nothing that it waits for.
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Choice, Option, Wish, all_of, any_of, choice, m, none_of, o, pair, rule, s, w, when
from rules.placing import (
    away_from,
    cache_for,
    capable_cores,
    core_each,
    cpu_list,
    holds,
    node_for_both,
    one_core,
    usable,
    widened,
)
from rules.situation import Machine, Workload
from rules.traits import (
    answers,
    cache_friendly,
    cpu_hog,
    does_not_stream,
    fits_cache_domain,
    has_room,
    latency_critical,
    movable,
    not_above,
    not_below,
    short_bursts,
)


@rule(
    priority=30,
    expect="throughput +0..10 %; latency-p99 -15..0 %",
    source="Tam, Azimi and Stumm, Thread Clustering: Sharing-aware Scheduling on SMP-CMP-SMT Multiprocessors, EuroSys "
    "2007 (up to 7 %); Documentation/scheduler/sched-domains.rst",
    limits="Only as long as it fits: it gets one cache and half of the bandwidth that two have. Threads that are woken "
    "but share no data gain only the shorter wake-up.",
)
@when(
    m.llcs >= 2,
    movable(w),
    not_below(w.cpus.llcs, 2),
    # A wake-up for each 200 us of CPU time, and not all within one cache already.
    w.comm.wakeups_per_cpu_second > "5000/s",
    not_below(w.comm.cross_cache_share, 0.2),
    # Between its own threads: with other workloads it is pairs that are brought together.
    not_above(w.comm.outside_share, 0.5),
    w.demand.threads >= 2,
    w.demand.cores > 0.2,
    cache_friendly(w),
    fits_cache_domain(w),
    has_room(),
)
def one_cache_domain(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Threads that wake each other all the time share one last-level cache: what one writes the next then finds there.

    Across caches each handed-over line is fetched from the other chip, and each wake-up is an interrupt to a farther CPU. Those bound by
    memory are excluded: one cache and one node's channels are less than several.
    """
    domain = cache_for(machine, workload)
    if domain is None:
        return
    yield s.cpu.affinity(workload, domain.cpus)
    if machine.number("nodes") != 1 and holds(machine, domain.node, workload):
        yield s.memory.placement(workload, str(domain.node))


@rule(
    priority=34,
    expect="throughput +0..15 %; latency-p99 -20..0 %",
    source="Tam, Azimi and Stumm, Thread Clustering: Sharing-aware Scheduling on SMP-CMP-SMT Multiprocessors, EuroSys "
    "2007; Majo and Gross, Memory Management in NUMA Multicore Systems: Trapped between Cache Contention and "
    "Interconnect Overhead, ISMM 2011",
    limits="Where both need cores or cache more than each other they are better apart: only while both together fit with "
    "headroom.",
)
@when(
    any_of(m.llcs >= 2, m.nodes >= 2),
    pair.connections >= 1,
    # Most of what at least one of them says, it says on this host; the smaller one is the client as a rule.
    w.demand.cores >= o.demand.cores,
    any_of(w.net.loopback_share > 0.5, o.net.loopback_share > 0.5),
    any_of(w.demand.messages > "1000/s", o.demand.messages > "1000/s"),
    movable(w),
    movable(o),
    not_below(w.cpus.llcs, 2),
    (w.demand.cores + o.demand.cores) <= m.cores_per_node * 0.7,
    does_not_stream(w),
    does_not_stream(o),
    not_above(w.cpu.llc_mpki, 10),
    not_above(o.cpu.llc_mpki, 10),
    has_room(),
)
def pair_together(workload: Workload, other: Workload, machine: Machine) -> Iterator[Wish]:
    """Two workloads that talk over loopback run in one cache domain, or on one node when that is too small for both.

    Loopback is a copy into kernel memory by one CPU and out of it by another: through the cache they share, or across the
    interconnect.
    """
    domain = cache_for(machine, workload, other) or node_for_both(machine, workload, other)
    if domain is None:
        return
    for one in (workload, other):
        yield s.cpu.affinity(one, domain.cpus)
        if machine.number("nodes") != 1 and holds(machine, domain.node, workload, other):
            yield s.memory.placement(one, str(domain.node))


@rule(
    priority=40,
    expect="latency-p99 -70..-10 %",
    source="Leverich and Kozyrakis, Reconciling High Server Utilization and Sub-millisecond Quality-of-Service, EuroSys "
    "2014; Lo et al., Heracles: Improving Resource Efficiency at Scale, ISCA 2015",
    limits="Memory bandwidth is still shared within a node. The neighbour can no longer use the CPUs that its victim "
    "leaves idle.",
)
@when(
    m.cores >= 2,
    latency_critical(w),
    # A scheduler's slice is some 3 ms: who waits a millisecond for a CPU waits behind somebody.
    w.sched.runq_p99 > "1 ms",
    cpu_hog(o),
    pair.shared_cpus > 0.5,
    none_of(pair.connections >= 1),
    movable(w),
    movable(o),
    (w.demand.cores + o.demand.cores) <= m.cores * 0.7,
)
def apart_from_noisy_neighbour(workload: Workload, other: Workload, machine: Machine) -> Iterator[Choice]:
    """A service that waits for CPUs behind a neighbour that computes is kept apart from it, as far as the machine allows.

    Each gets whole nodes, caches or cores, whichever is widest. Where CPUs are to stay open to both, the neighbour yields: as an idle task
    it gives way at once, as a batch task it at least does not preempt.
    """
    found = away_from(machine, workload, other)
    if found is None:
        return
    apart = (s.cpu.affinity(workload, _listed(found.victim)), s.cpu.affinity(other, _listed(found.neighbour)))
    yield choice("noisy neighbour", Option(f"no {found.level} shared", apart), *_yielding(workload, other))


@rule(
    priority=14,
    expect="latency-p99 -80..-5 %",
    source="sched(7), SCHED_IDLE, SCHED_BATCH, autogroup; kernel commit 3c29e651e16d (a CPU that runs only idle tasks counts as "
    "idle for who wakes); Documentation/scheduler/sched-nice-design.rst; Leverich and Kozyrakis, Reconciling High "
    "Server Utilization and Sub-millisecond Quality-of-Service, EuroSys 2014",
    limits="As idle, what computes stands still while the rest of the machine is busy, with whatever locks it holds. Within "
    "a cgroup (or a session, with sched_autogroup) it gives way at once; between cgroups only where a task is put when it "
    "wakes is better, and cgroup.cpu_weight says who gets how much; between sessions the session's own nice value does.",
)
@when(
    cpu_hog(o),
    any_of(
        # A CPU that is free is reached in 10 to 50 us: who waits longer waits behind somebody, ...
        all_of(latency_critical(w), w.sched.runq_p99 > "50 us"),
        # ... and whose requests take milliseconds themselves, behind a slice of who computes, some 3 ms, or several.
        all_of(answers(w), w.sched.runq_p99 > "2 ms"),
    ),
    pair.shared_cpus > 0.5,
    none_of(pair.connections >= 1),
    any_of(~o.realtime, ~o.nice.is_known),
    not_above(o.nice, 0),
    # The machine is too full to keep them apart: that is the other rule's.
    (w.demand.cores + o.demand.cores) > m.cores * 0.7,
)
def batch_work_yields(workload: Workload, other: Workload) -> Iterator[Choice]:
    """On a full machine a workload that computes yields to one that answers.

    As idle it gives way to every normal task that wakes, in the middle of its slice, and CPUs on which nothing else runs count as free;
    as batch with a nice value of 10 it keeps a tenth of the weight, and its slice. Where each session is a scheduling group of its own
    both only count within it: between sessions it is the session that is nice.
    """
    yield choice("batch work", *_yielding(workload, other))


@rule(
    priority=32,
    expect="throughput +0..60 %; latency-p99 -40..0 %",
    source="Ding et al., Gleaner: Mitigating the Blocked-Waiter Wakeup Problem for Virtualized Multicore Applications, "
    "USENIX ATC 2014; Documentation/virt/guest-halt-polling.rst (what waking an idle virtual CPU costs)",
    limits="Only as long as they do take turns: what could run at once then queues. One CPU is also all that they get of a "
    "busy machine. On bare metal with shallow idle states there is less to gain.",
)
@when(
    m.cpus >= 2,
    movable(w),
    w.demand.threads >= 2,
    # Handing over is what it does: a wake-up for each 50 us of CPU time, from one to the other and back, ...
    w.comm.wakeups_per_cpu_second > "20 k/s",
    w.comm.outside_share < 0.1,
    w.comm.reciprocity > 0.8,
    # ... and never much more than one of them at work.
    w.demand.cores > 0.2,
    w.demand.cores <= 1.3,
    # The load average is of the last minute: CPUs that are idle now do as well.
    any_of(has_room(), m.idle_share > 0.15),
)
def turns_on_one_core(workload: Workload, machine: Machine) -> Iterator[Choice | Wish]:
    """Two that hand each other the work, and do nothing meanwhile, take turns on one CPU.

    Each wake-up of another CPU is an interrupt, and for a CPU that sleeps the time to wake up, in a virtual machine by way of the
    hypervisor: more than the work itself where that is a few microseconds. On one CPU it is a context switch.
    """
    core = one_core(machine, workload)
    if not core:
        return
    one = s.cpu.affinity(workload, cpu_list(core[-1:]))
    if len(core) == 1:
        yield one
        return
    siblings = s.cpu.affinity(workload, cpu_list(core))
    yield choice("taking turns", Option("one CPU", (one,)), Option("one core", (siblings,), "throughput +0..20 %"))


@rule(
    priority=10,
    expect="throughput +0..15 %",
    source="Saini et al., The Impact of Hyper-Threading on Processor Resource Utilization in Production Applications, "
    "HiPC 2011",
    limits="The kernel fills idle cores first by itself: it counts where other work wakes often. Not where more threads "
    "than cores are busy: they gain from SMT.",
)
@when(
    m.threads_per_core >= 2,
    movable(w),
    # Vector and floating-point units are what two threads of a core have one set of.
    (w.insn.vector_share + w.insn.scalar_fp_share) > 0.3,
    w.demand.cores >= 2,
    w.demand.cores <= m.cores * 0.9,
    w.demand.threads <= m.cores,
    not_below(w.cpus.allowed_share, 0.9),
    has_room(),
)
def core_each_for_vectors(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Fewer busy threads than cores, computing with vectors: a core each, since SMT siblings would share its execution units."""
    cpus = usable(machine, workload)
    singles = core_each(cpus)
    if len(singles) < len(cpus):
        yield s.cpu.affinity(workload, cpu_list(singles))


@rule(
    priority=12,
    expect="throughput +0..40 %; latency-p99 -30..0 %",
    source="Documentation/arch/x86/intel-hfi.rst; Documentation/scheduler/sched-capacity.rst",
    limits="Energy: efficient cores do the same work for less. Kernels with hardware feedback (ITMT, Intel Thread "
    "Director) prefer these cores by themselves while they are idle.",
)
@when(
    m.core_kinds >= 2,
    movable(w),
    any_of(
        latency_critical(w),
        all_of(w.sched.busiest_thread_share > 0.8, w.demand.cores > 0.7),
    ),
    has_room(),
)
def performance_cores(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """On a hybrid processor, what one thread's speed decides runs on performance cores."""
    cpus = capable_cores(machine, workload)
    if cpus is not None:
        yield s.cpu.affinity(workload, cpus)


@rule(
    priority=45,
    expect="throughput +5..100 %; latency-p99 -80..-10 %",
    source="Lozi et al., The Linux Scheduler: a Decade of Wasted Cores, EuroSys 2016 (threads that wait while cores "
    "idle); sched_setaffinity(2)",
    limits="A pin that somebody meant (a licence by the core, a partition) is theirs: a plan leaves it out unless the "
    "workload is named.",
)
@when(
    # A pin and not a cpuset, which no affinity goes beyond.
    w.cpus.pinned,
    w.cpus.allowed_share < 0.9,
    # A fifth of its threads' time waiting, CPUs of its own used up, and others idle.
    w.sched.runq_share > 0.2,
    w.demand.cores / w.cpus.allowed > 0.9,
    m.load < 0.6,
    any_of(~w.realtime, ~w.nice.is_known),
)
def widen_the_pin(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """Threads queue on the CPUs that they are bound to while others idle: widen the pin, on the same nodes where these suffice."""
    cpus = widened(machine, workload)
    if cpus is not None:
        yield s.cpu.affinity(workload, cpus)


@rule(
    priority=10,
    expect="throughput +0..10 %; latency-p99 +0..50 %",
    source="sched(7), SCHED_BATCH (no extra preemptions for interactivity); Documentation/scheduler/sched-design-CFS.rst; TuneD, "
    "throughput-performance, sched_wakeup_granularity_ns (the same for a whole machine, up to Linux 6.5)",
    limits="Each single answer comes later: not where latency is what counts. Without effect while there are CPUs free, and for "
    "clients on other machines, whom it does not preempt. On two CPUs with Linux 6.18, whose wake-ups preempt less by themselves, "
    "no gain was shown (docs/gains.md).",
)
@when(
    short_bursts(w),
    w.demand.messages > "10 k/s",
    # Those whom it answers are on this machine, and the CPUs are too few for all.
    w.net.loopback_share > 0.5,
    any_of(m.load > 0.8, m.idle_share < 0.1),
    w.sched.runq_share > 0.05,
    any_of(~w.realtime, ~w.nice.is_known),
)
def requests_by_the_dozen(workload: Workload) -> Iterator[Wish]:
    """On a full machine a server that is woken for each message does not preempt who sends: it finds several at once, and answers all.

    Woken at once it takes the CPU from its own client after every request, for one answer: two switches a request instead of two a dozen.
    """
    yield s.cpu.policy(workload, "batch")


def _listed(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))


def _yielding(workload: Workload, other: Workload) -> tuple[Option, ...]:
    """Return the ways in which work that can wait makes room, the one that does most first."""
    sessions = [one.number("autogroup") for one in (workload, other)]
    idle, batch = (s.cpu.policy(other, "idle"),), (s.cpu.policy(other, "batch"), s.cpu.nice(other, 10))
    if None not in sessions and sessions[0] != sessions[1]:
        return (
            Option("its session is nice", (s.cpu.autogroup_nice(other, 19),), "latency-p99 -60..-5 %"),
            Option("it is idle", idle, "latency-p99 -15..0 %"),
            Option("it is batch", batch, "latency-p99 -10..0 %"),
        )
    return (
        Option("it is idle", idle, "latency-p99 -80..-5 %"),
        Option("it is batch", batch, "latency-p99 -50..0 %"),
    )
