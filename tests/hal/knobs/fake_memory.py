"""The memory family's part of the machine in memory: four nodes, a process with memory on them, huge pages, KSM, files."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping, Sequence

from hal.fake import FakeHost, WriteHandler, selector
from hal.settings import SYSTEM, Subject, Value, cgroup, process

PID = 300
PAGE = 4096
HUGE = 2 << 20
HEAP = 0x10000000
HEAP_PAGES = 1024
LIBRARY = 0x7F0000000000
DATA = "/srv/data"
GROUP = "/sys/fs/cgroup/batch"
THP = "/sys/kernel/mm/transparent_hugepage"
KSM = "/sys/kernel/mm/ksm"
NODE = "/sys/devices/system/node"
INTERLEAVE = "/sys/kernel/mm/mempolicy/weighted_interleave"
HUGETLB = "/sys/kernel/mm/hugepages/hugepages-2048kB"
COLLAPSE, PAGEOUT = 25, 21


def number(least: int, most: int) -> WriteHandler:
    """Behave like a file of a number: EINVAL outside its bounds."""

    def write(_old: str, written: str) -> str:
        if not least <= int(written) <= most:
            raise OSError(errno.EINVAL, "out of bounds")
        return f"{int(written)}\n"

    return write


def mapping(start: int, size: int, path: str, kilobytes: Mapping[str, int], *, flags: str = "rd wr mr mw me ac") -> str:
    """Return one mapping as smaps has it; sizes other than ``size`` in KiB."""
    rights = "rw-p" if "wr" in flags else "r--p"
    fields = {"Size": size // 1024, "KernelPageSize": 4, "Rss": 0, "Referenced": 0, "Anonymous": 0, "AnonHugePages": 0}
    lines = "".join(f"{name}: {kb:>8} kB\n" for name, kb in (fields | dict(kilobytes)).items())
    return f"{start:x}-{start + size:x} {rights} 00000000 fe:00 0      {path}\n{lines}VmFlags: {flags} \n"


def furnish(host: FakeHost) -> None:
    """Add it."""
    _system(host)
    _nodes(host)
    _process(host)
    _group(host)
    host.files[DATA] = "x" * 10 * PAGE


def _file(host: FakeHost, path: str, text: str, handler: WriteHandler | None = None) -> None:
    host.files[path] = text
    if handler:
        host.handlers[path] = handler


def _system(host: FakeHost) -> None:
    host.files["/proc/meminfo"] = "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 1000000 kB\n"
    host.files["/proc/buddyinfo"] = "Node 0, zone   Normal  1 0 0 0 0 0 0 0 0 2 3\n"
    for name, present, most in (
        ("/proc/sys/vm/swappiness", 60, 200),
        ("/proc/sys/vm/zone_reclaim_mode", 0, 7),
        ("/proc/sys/vm/compaction_proactiveness", 20, 100),
        ("/proc/sys/kernel/numa_balancing", 0, 3),
        (f"{KSM}/run", 0, 2),
        (f"{KSM}/pages_to_scan", 100, 1 << 32),
        (f"{KSM}/sleep_millisecs", 20, 1 << 32),
        (f"{THP}/khugepaged/pages_to_scan", 4096, 1 << 32),
        (f"{THP}/khugepaged/scan_sleep_millisecs", 10000, 1 << 32),
        (f"{THP}/khugepaged/max_ptes_none", 511, 511),
        (f"{HUGETLB}/nr_hugepages", 0, 1000),
        ("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", 0, 2),
    ):
        _file(host, name, f"{present}\n", number(0, most))
    for name, text in (
        (f"{THP}/enabled", "always [madvise] never\n"),
        (f"{THP}/defrag", "always defer defer+madvise [madvise] never\n"),
        (f"{THP}/shmem_enabled", "always within_size advise [never] deny force\n"),
        (f"{THP}/hugepages-64kB/enabled", "always inherit madvise [never]\n"),
        (f"{THP}/hugepages-128kB/enabled", "always inherit madvise [never]\n"),
        (f"{THP}/hugepages-2048kB/enabled", "always [inherit] madvise never\n"),
    ):
        _file(host, name, text, selector)
    host.files[f"{THP}/hpage_pmd_size"] = f"{HUGE}\n"
    host.files[f"{KSM}/advisor_mode"] = "[none] scan-time\n"
    _file(
        host, "/sys/kernel/mm/numa/demotion_enabled", "true\n", lambda _old, written: f"{written == '1'}".lower() + "\n"
    )
    for name in ("dirty", "dirty_background"):
        _dirty(host, f"/proc/sys/vm/{name}")


def _dirty(host: FakeHost, path: str) -> None:
    """One of share and bytes counts; setting it to something else clears the other."""

    def clearing(other: str) -> WriteHandler:
        def write(old: str, written: str) -> str:
            if int(old) != int(written):
                host.files[other] = "0\n"
            return f"{int(written)}\n"

        return write

    _file(host, f"{path}_ratio", "20\n", clearing(f"{path}_bytes"))
    _file(host, f"{path}_bytes", "0\n", clearing(f"{path}_ratio"))


def _nodes(host: FakeHost) -> None:
    host.files[f"{NODE}/has_memory"] = "0-3\n"
    for node in range(4):
        lines = (f"Node {node} MemFree: 2000000 kB", f"Node {node} Inactive(file): 100000 kB")
        host.files[f"{NODE}/node{node}/meminfo"] = "\n".join(lines) + "\n"
        host.files[f"{NODE}/node{node}/compact"] = ""
        _file(host, f"{INTERLEAVE}/node{node}", "1\n", _weight(host))
    _file(host, f"{INTERLEAVE}/auto", "true\n", _auto(host))


def _weight(host: FakeHost) -> WriteHandler:
    def write(_old: str, written: str) -> str:
        host.files[f"{INTERLEAVE}/auto"] = "false\n"
        return number(1, 255)("", written)

    return write


def _auto(host: FakeHost) -> WriteHandler:
    def write(_old: str, written: str) -> str:
        for node in range(4):
            host.files[f"{INTERLEAVE}/node{node}"] = "1\n"
        return f"{written == '1'}".lower() + "\n"

    return write


def _process(host: FakeHost) -> None:
    """4 MiB of anonymous memory on node 0, in small pages, and a mapped file that is there in full."""
    host.start(PID, "database")
    host.files[f"/proc/{PID}/status"] = "Name: database\nMems_allowed_list:\t0-3\nTHP_enabled:\t1\n"
    host.files[f"/proc/{PID}/numa_maps"] = f"{HEAP:x} default anon={HEAP_PAGES} N0={HEAP_PAGES} kernelpagesize_kB=4\n"
    host.pages[PID] = {HEAP + number * PAGE: 0 for number in range(HEAP_PAGES)}
    host.memory[PID] = {LIBRARY: bytes(8 * PAGE)}
    _show(host, {"Rss": 4096, "Anonymous": 4096, "Referenced": 1024})
    host.on_advice = _advised(host)


def _show(host: FakeHost, heap: dict[str, int]) -> None:
    """Write what the heap is now into smaps."""
    library = mapping(LIBRARY, 8 * PAGE, "/lib/libc.so", {"Rss": 32, "Referenced": 32}, flags="rd mr mw me")
    host.files[f"/proc/{PID}/smaps"] = mapping(HEAP, HEAP_PAGES * PAGE, "", heap) + library
    host.files[f"/proc/{PID}/smaps_rollup"] = f"Rss: {heap['Rss'] + 32} kB\n"


def _advised(host: FakeHost) -> Callable[[int, Sequence[tuple[int, int]], int], int]:
    def take(pid: int, ranges: Sequence[tuple[int, int]], advice: int) -> int:
        taken = sum(length for _, length in ranges)
        inside = sum(length for start, length in ranges if HEAP <= start < HEAP + HEAP_PAGES * PAGE)
        text = host.files[f"/proc/{PID}/smaps"].partition("\nVmFlags")[0]
        heap = {
            name: int(kb) for name, kb in re.findall(r"^(Rss|Anonymous|Referenced|AnonHugePages): +(\d+)", text, re.M)
        }
        if pid == PID and advice == COLLAPSE:
            heap["AnonHugePages"] += inside // 1024
            _show(host, heap)
        if pid == PID and advice == PAGEOUT:
            heap["Rss"] = heap["Anonymous"] = max(heap["Rss"] - inside // 1024, 0)
            _show(host, heap)
        return taken

    return take


def _group(host: FakeHost) -> None:
    """A cgroup with memory to give, where the cgroup family put the unified hierarchy; else one of our own."""
    if "cgroup2" not in host.files.get("/proc/self/mounts", ""):
        host.files["/proc/self/mounts"] += "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
        host.files["/sys/fs/cgroup/cgroup.controllers"] = "cpu io memory\n"
    host.files |= {f"{GROUP}/cgroup.procs": "", f"{GROUP}/memory.current": f"{256 << 20}\n"}
    _file(host, f"{GROUP}/memory.reclaim", "", _reclaim(host))


def _reclaim(host: FakeHost) -> WriteHandler:
    def write(_old: str, written: str) -> str:
        present = int(host.files[f"{GROUP}/memory.current"])
        host.files[f"{GROUP}/memory.current"] = f"{present - min(int(written), 128 << 20)}\n"
        if int(written) > 128 << 20:
            raise OSError(errno.EAGAIN, "less than asked for")
        return ""

    return write


def cases(host: FakeHost) -> dict[str, tuple[Subject, Value]]:
    """Return for each knob a subject on this machine and a value other than the present one."""
    one = process(PID, host.tasks[PID].start)
    system: dict[str, Value] = {
        "memory.swappiness": 10,
        "memory.zone_reclaim": 1,
        "memory.numa_balancing": 1,
        "memory.compaction_proactiveness": 0,
        "memory.ksm": "on",
        "memory.ksm_scan": 1000,
        "memory.ksm_sleep": 100,
        "memory.demotion": False,
        "memory.dirty": "512M",
        "memory.dirty_background": "5%",
        "memory.interleave_weights": "0=3,2=2",
        "memory.thp": "always",
        "memory.thp_defrag": "defer",
        "memory.thp_shmem": "advise",
        "memory.thp_sizes": "64K=madvise,128K=always",
        "memory.khugepaged_scan": 8192,
        "memory.khugepaged_sleep": 1000,
        "memory.khugepaged_holes": 64,
        "memory.hugetlb_pages": "2M=512,1G=1",
    }
    return {name: (SYSTEM, value) for name, value in system.items()} | {
        "memory.placement": (one, "0=0.25,1=0.75"),
        "memory.hugepages": (one, "collapse:0.5"),
        "memory.pageout": (one, "1M"),
        "memory.cold": (one, "all"),
        "memory.prefault": (one, "all"),
        "memory.warm": (Subject("file", DATA), "all"),
        "memory.reclaim": (cgroup("/batch"), "64M"),
        "memory.compact": (Subject("node", "1"), "now"),
    }
