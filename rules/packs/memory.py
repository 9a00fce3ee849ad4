"""Memory: huge pages where the TLB is what is short, reclaim where memory is."""

from __future__ import annotations

from collections.abc import Iterator

from rules import Choice, Option, Wish, any_of, choice, m, none_of, o, rule, s, w, when
from rules.situation import Workload
from rules.traits import not_above, not_below, random_access

_SNAPSHOTS = ("redis*", "valkey*", "keydb*", "dragonfly*")
"""Servers that fork to save what they hold."""
_MIB = 1 << 20


_MEMORY_SHORT = any_of(m.free / m.memory < 0.1, w.pressure.memory_some > 0.05)


@rule(
    priority=20,
    expect="throughput +5..100 %",
    source="Basu et al., Efficient Virtual Memory for Big Memory Servers, ISCA 2013; Kwon et al., Coordinated and "
    "Efficient Huge Page Management with Ingens, OSDI 2016 (up to 18 %; and what sparse memory costs); "
    "madvise(2), MADV_COLLAPSE",
    limits="What is allocated later is small again. Fork-based snapshots split the pages they write to (commit "
    "3917c80280c9; before Linux 5.8 they copied 2 MiB for each first write), so such servers are excluded. Pages "
    "that threads of several nodes write to are better small (Gaud et al., Large Pages May Be Harmful on NUMA "
    "Systems, USENIX ATC 2014).",
)
@when(
    random_access(w),
    w.memory.hugepage_share < 0.3,
    # A second-level TLB of 1,500 to 3,000 entries covers 6 to 12 MiB: beyond 512 MiB nearly every random access misses it.
    w.demand.resident > "512 MiB",
    w.hugepages.eligible > "256 MiB",
    # Dense: at most a quarter more memory than it has now, and there is that much.
    w.hugepages.dense_share > 0.8,
    not_below(m.free / m.memory, 0.2),
    m.hugepages.available,
    # Long-lived: collapsing 1 GiB takes some seconds.
    w.intervals >= 3,
    none_of(*(w.name.fits(pattern) for pattern in _SNAPSHOTS)),
    not_above(w.syscall.process_share, 0.2),
    any_of(m.nodes == 1, not_below(w.memory.numa_locality, 0.5)),
)
def huge_pages_for_random_access(workload: Workload) -> Iterator[Wish]:
    """Random access over a large, densely used heap misses the TLB: back it with huge pages.

    One entry then covers 2 MiB instead of 4 KiB, and the page walk that is left is one level shorter and stays in the cache.
    """
    yield s.memory.hugepages(workload)


@rule(
    priority=10,
    expect="throughput -5..0 %; latency-p99 -30..0 %",
    source="Kwon et al., Coordinated and Efficient Huge Page Management with Ingens, OSDI 2016 (memory bloat of 69 %); "
    "Documentation/admin-guide/mm/transhuge.rst",
    limits="For the whole machine, and for memory mapped from now on: programs that gained from huge pages without "
    "asking lose them; those that ask (jemalloc, tcmalloc, the JVM with UseTransparentHugePages) keep them.",
)
@when(
    m.hugepages.mode == "always",
    w.memory.hugepage_share > 0.3,
    # In huge pages, and little of it used.
    w.memory.working_set_share < 0.2,
    any_of(w.hugepages.dense_share < 0.5, w.memory.random_share < 0.3),
    w.demand.resident > "1 GiB",
    w.intervals >= 3,
    _MEMORY_SHORT,
)
def huge_pages_only_on_request() -> Iterator[Wish]:
    """Memory is short while huge pages back memory that is hardly used: give them to those only who ask.

    With "always" the first touch of a byte takes 2 MiB.
    """
    yield s.memory.thp("madvise")


@rule(
    priority=10,
    expect="throughput +0..20 %; latency-p99 -60..0 %",
    source="Documentation/admin-guide/sysctl/vm.rst, swappiness",
    limits="Only for swap on disks: with zram or zswap swapping is cheaper than reading files, and a high value right. "
    "Files are dropped instead: bad for who reads them again.",
)
@when(
    m.swappiness > 20,
    m.swap > 0,
    w.memory.anonymous_share > 0.7,
    w.memory.swap_share > 0.05,
    # It waits for what was swapped out, ...
    w.memory.major_fault_share > 0.05,
    # ... while there is file cache to drop.
    m.free / m.memory > 0.2,
    not_above(w.io.bytes_per_cpu_second, "10 MB/s"),
)
def swap_late_for_heaps() -> Iterator[Wish]:
    """Heap was swapped out and is faulted in again while there are files to drop: let the kernel swap later."""
    yield s.memory.swappiness(10)


@rule(
    priority=10,
    expect="latency-p99 -40..0 %",
    source="Weiner et al., TMO: Transparent Memory Offloading in Datacenters, ASPLOS 2022 (20 to 32 % of memory saved); "
    "madvise(2), MADV_COLD and MADV_PAGEOUT",
    limits="The working set is estimated from sampled accesses, and too small where a few pages take most of them: "
    "marking as cold only says what goes first, paging out goes at once.",
)
@when(
    # Idle for longer than an interval, and large enough for it to help.
    (w.memory.working_set_share < 0.3).for_at_least(3),
    w.demand.resident > "1 GiB",
    not_above(w.pressure.memory_some, 0.01),
    # The one that suffers is the other.
    o.pressure.memory_some > 0.05,
    m.free / m.memory < 0.15,
    # Somewhere to go to.
    any_of(m.swap > 0, w.memory.file_share > 0.3),
)
def cold_memory_goes_first(workload: Workload) -> Iterator[Choice]:
    """One workload waits for memory while another holds gigabytes that it does not touch: let those be reclaimed first.

    Left alone the kernel finds the cold pages too, but by scanning everybody's, at the time when memory is needed.
    """
    resident, used = workload.number("demand.resident"), workload.number("memory.working_set_share")
    if resident is None or used is None:
        return
    # Half of what seems cold: the estimate is a lower bound of the working set.
    half = max(int(resident * (1 - used) / 2) // _MIB, 1)
    yield choice(
        "cold memory",
        Option("mark it", (s.memory.cold(workload, "all"),)),
        Option("page half of it out", (s.memory.pageout(workload, f"{half}M"),), "latency-p99 -60..+20 %"),
    )


@rule(
    priority=10,
    expect="latency-p99 -80..-10 %",
    source="madvise(2), MADV_WILLNEED; Documentation/filesystems/proc.rst (/proc/PID/mem)",
    limits="Only the files that it maps, and what it has in swap; all of it, needed or not. Not for programs that map "
    "far more than they use.",
)
@when(
    w.memory.major_fault_share > 0.2,
    w.memory.faults_per_cpu_second > "100/s",
    any_of(w.memory.file_share > 0.3, w.memory.swap_share > 0.1),
    # There is room, and so it is not the lack of it that it faults from.
    m.free / m.memory > 0.3,
    w.demand.resident <= m.free * 0.5,
)
def prefault_mapped_files(workload: Workload) -> Iterator[Wish]:
    """A program that has just started waits for its files page by page: read them in at once, in large requests.

    A fault reads some 64 KiB around it and waits; reading ahead in order keeps the disk busy instead.
    """
    yield s.memory.prefault(workload, "all")


@rule(
    priority=10,
    expect="latency-p99 -50..0 %; throughput -5..0 %",
    source="Documentation/admin-guide/sysctl/vm.rst, dirty_background_bytes; PostgreSQL documentation, "
    "checkpoint_flush_after (stalls when an fsync comes upon much that is dirty)",
    limits="For the whole machine. Programs that write, and delete or rewrite soon, write more to the disk.",
)
@when(
    # One write in twenty and more is followed by fsync.
    w.io.sync_per_write > 0.05,
    w.demand.written > "10 MB/s",
    w.io.block_latency_p99 > "20 ms",
    # Seconds of writing even for a fast disk. A tenth of available memory, as is the default, is more from 10 GiB on.
    m.dirty_background > "1 GiB",
)
def write_back_early_for_fsync() -> Iterator[Wish]:
    """Writers that call fsync wait for all that is dirty ahead of them: begin to write back early, and little is.

    The kernel begins at a tenth of available memory, by default, and then writes gigabytes at once.
    """
    yield s.memory.dirty_background("256M")
    yield s.memory.dirty("2G")
