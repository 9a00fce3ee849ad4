"""Storage: read-ahead, schedulers and completion of disks that a workload does reach.

What the page cache answers reaches no disk: then nothing here is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Wish, all_of, any_of, disk, m, o, rule, s, w, when
from rules.situation import Thing
from rules.traits import is_used, not_above, reaches_disks

_READS_MOSTLY = w.io.read_share > 0.7


@rule(
    priority=10,
    expect="throughput +5..50 %",
    source="Documentation/ABI/stable/sysfs-block, read_ahead_kb; Red Hat Enterprise Linux, Monitoring and managing "
    "system status and performance, generic block device tuning parameters",
    limits="Files opened from now on. Memory for what may never be read, and worse for others who read at random through "
    "mapped files on that disk. Little to gain where the program itself reads in large pieces far ahead.",
)
@when(
    is_used(),
    _READS_MOSTLY,
    w.io.device_share > 0.2,
    w.io.sequential_share > 0.8,
    w.demand.device > "20 MB/s",
    # It waits for the disk: what is read ahead far enough is not waited for.
    any_of(w.pressure.io_some > 0.05, w.syscall.file_blocked_share > 0.3),
    not_above(w.memory.major_fault_share, 0.2),
    disk.read_ahead < "1 MiB",
)
def read_far_ahead(disk: Thing) -> Iterator[Wish]:
    """Reading files from end to end, and waiting for the disk: read further ahead.

    128 KiB are a millisecond of a disk that gives 150 MB/s, less than one revolution, and too little to keep several flash channels, or the
    disks of a RAID, busy at once.
    """
    rotational = disk.values.get("rotational")
    yield s.block.read_ahead(disk, 4096 if rotational is True else 1024)


@rule(
    priority=12,
    expect="throughput +0..30 %; latency-p99 -30..0 %",
    source="Documentation/ABI/stable/sysfs-block, read_ahead_kb; MongoDB Manual, Production Notes (readahead between 8 "
    "and 32 sectors for random access)",
    limits="Sequential readers of the same disk lose. Not for plain reads: where those are at random the kernel reads "
    "nothing ahead by itself.",
)
@when(
    is_used(),
    w.demand.device > "1 MB/s",
    # Mapped files: each fault reads around itself, by as much as read-ahead says.
    w.memory.major_fault_share > 0.2,
    w.memory.file_share > 0.3,
    any_of(
        w.memory.fault_random_share > 0.5,
        all_of(~w.memory.fault_random_share.is_known, w.io.sequential_share < 0.3),
    ),
    # At 16 KiB too, where it changes nothing, so that a sequential reader does not set it up again and so on for ever.
    disk.read_ahead >= "16 KiB",
)
def read_no_further(disk: Thing) -> Iterator[Wish]:
    """Faults here and there on mapped files: what is read around them is thrown away, and takes the disk's time and memory.

    16 KiB are the pages of most databases; a fault on a mapped file then reads four pages instead of 32 and more.
    """
    yield s.block.read_ahead(disk, 16)


@rule(
    priority=10,
    expect="throughput +0..20 %; latency-p99 -20..0 %",
    source="Documentation/block/switching-sched.rst; Documentation/block/bfq-iosched.rst (1.9 µs a request under one "
    "lock)",
    limits="Not where cgroups share the disk by weight (io.bfq.weight) or by priority: that is what the scheduler is "
    "for. A flash disk behind a slow controller may gain from mq-deadline.",
)
@when(
    is_used(),
    ~disk.rotational,
    disk.queues >= 4,
    disk.scheduler.is_in("mq-deadline", "bfq", "kyber"),
    reaches_disks(w),
    # Requests enough for their order to cost: 10,000 a second of 4 KiB, or a tenth of a fast disk's bandwidth.
    any_of(
        all_of(w.demand.io_calls > "10 k/s", w.io.device_share > 0.5),
        w.demand.device > "300 MB/s",
    ),
)
def no_scheduler_for_nvme(disk: Thing) -> Iterator[Wish]:
    """A flash disk with a queue for each CPU orders requests itself: a scheduler in between adds a lock that all CPUs share."""
    yield s.block.scheduler(disk, "none")


@rule(
    priority=10,
    expect="latency-p99 -50..0 %; throughput +0..20 %",
    source="Documentation/block/deadline-iosched.rst; Documentation/block/switching-sched.rst",
    limits="A RAID controller with a cache of its own reorders better. In virtual machines the disk only says that it "
    "turns.",
)
@when(
    is_used(),
    disk.rotational,
    ~m.virtual,
    disk.scheduler == "none",
    reaches_disks(w),
    # Readers beside writers: those who wait for an answer, and those who do not.
    w.io.read_share.between(0.1, 0.95),
    w.io.block_latency_p99 > "50 ms",
)
def deadline_for_rotating(disk: Thing) -> Iterator[Wish]:
    """A disk that turns needs its requests in order of place, and reads before writes: mq-deadline does both, "none" neither."""
    yield s.block.scheduler(disk, "mq-deadline")


@rule(
    priority=8,
    expect="throughput +0..15 %",
    source="Documentation/ABI/stable/sysfs-block, rq_affinity; kernel commit 5757a6d76cdf (strict: one CPU of a group "
    "was overloaded with completions)",
    limits="An interrupt between CPUs for each request completed elsewhere: a loss at low rates. No difference with a "
    "queue for each CPU.",
)
@when(
    is_used(),
    ~disk.rotational,
    disk.rq_affinity < 2,
    disk.queues < m.cpus,
    m.cpus >= 4,
    w.io.device_share > 0.5,
    w.demand.io_calls > "50 k/s",
    w.sched.busiest_thread_share < 0.5,
)
def complete_where_asked(disk: Thing) -> Iterator[Wish]:
    """Tens of thousands of requests a second from many threads: complete each on the CPU that asked.

    Otherwise one CPU of each group does all completions, and every result is fetched from its cache.
    """
    yield s.block.rq_affinity(disk, 2)


@rule(
    priority=8,
    expect="latency-p99 -60..0 %",
    source="Documentation/ABI/stable/sysfs-block, wbt_lat_usec; block/blk-wbt.c",
    limits="Who writes is slowed down. On most kernels it is set already; bfq throttles by itself, and direct writes are "
    "not throttled.",
)
@when(
    is_used(),
    ~disk.rotational,
    disk.scheduler.is_in("none", "mq-deadline", "kyber"),
    # One reads, and waits ten times as long as a flash disk takes; the other writes through the page cache.
    reaches_disks(w),
    _READS_MOSTLY,
    w.io.block_latency_p99 > "5 ms",
    o.io.read_share < 0.3,
    o.demand.written > "50 MB/s",
    not_above(o.io.sync_per_write, 0.05),
)
def throttle_write_back(disk: Thing) -> Iterator[Wish]:
    """Reads wait behind another workload's write-back on a flash disk: hold write-back down as long as reads take over 2 ms."""
    yield s.block.wbt_lat_usec(disk, 2000)
