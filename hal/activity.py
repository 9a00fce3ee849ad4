"""How busy the machine is: load, CPU time nobody used, traffic, disks at work, swap; and how deep its CPUs may sleep."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.errors import HostError
from hal.host import Host

_CPUS = "/sys/devices/system/cpu"
_IDLE_FIELDS = (3, 4)  # idle and iowait of /proc/stat (Documentation/filesystems/proc.rst)
_IO_TICKS = 9  # of /sys/block/*/stat, in ms (Documentation/block/stat.rst)
_LEAST_TICKS = 20  # a fifth of a second of one CPU: one tick is then 5 %
_COUNTED = 8  # what follows, guests' time, is in user and nice already


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time of all CPUs since the start, in clock ticks."""

    idle: int
    total: int


def load_average(host: Host) -> float | None:
    """Return the tasks that ran, waited for a CPU or for a disk, on average over the last minute; None where unknown."""
    try:
        return float(host.read_text("/proc/loadavg").split()[0])
    except (HostError, ValueError, IndexError):
        return None


def cpu_time(host: Host) -> CpuTime | None:
    """Return the CPU time so far, None where the kernel does not say."""
    try:
        first = host.read_text("/proc/stat").split("\n", 1)[0].split()
    except HostError:
        return None
    if not first or first[0] != "cpu" or len(first) < 5 or not all(word.isdigit() for word in first[1:]):
        return None
    ticks = [int(word) for word in first[1 : _COUNTED + 1]]
    return CpuTime(sum(ticks[field] for field in _IDLE_FIELDS if field < len(ticks)), sum(ticks))


def idle_share(before: CpuTime | None, after: CpuTime | None) -> float | None:
    """Return the share of CPU time between two readings that nobody used; None where one is unknown, or they are too near."""
    if before is None or after is None or after.total - before.total < _LEAST_TICKS:
        return None
    return min(max((after.idle - before.idle) / (after.total - before.total), 0.0), 1.0)


def swap_bytes(host: Host) -> int | None:
    """Return the size of all swap space, None where the kernel does not say."""
    try:
        found = re.search(r"^SwapTotal:\s+(\d+) kB", host.read_text("/proc/meminfo"), re.MULTILINE)
    except HostError:
        return None
    return int(found[1]) * 1024 if found else None


def nic_bytes(host: Host, name: str) -> int | None:
    """Return the bytes that an interface has received and sent so far, None where the kernel does not say."""
    counts = [_number(host, f"/sys/class/net/{name}/statistics/{way}_bytes") for way in ("rx", "tx")]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def disk_busy_s(host: Host, name: str) -> float | None:
    """Return for how long a disk has had requests under way so far, in seconds; None where the kernel does not say."""
    try:
        return int(host.read_text(f"/sys/block/{name}/stat").split()[_IO_TICKS]) * 1e-3
    except (HostError, ValueError, IndexError):
        return None


def deepest_idle_s(host: Host, cpu: int) -> float | None:
    """Return the exit latency, in seconds, of the deepest idle state that a CPU may enter; None where the kernel has none.

    A state counts that is not switched off, and is not too slow for the CPU's limit (``power.idle_latency_us``).
    """
    base = f"{_CPUS}/cpu{cpu}/cpuidle"
    try:
        states = [name for name in host.list_dir(base) if re.fullmatch(r"state\d+", name)]
    except HostError:
        return None
    latencies = {name: _number(host, f"{base}/{name}/latency") for name in states}
    limit = _latency_limit(host, cpu)
    allowed = [
        latency
        for name, latency in latencies.items()
        if latency is not None and _number(host, f"{base}/{name}/disable") == 0 and latency <= limit
    ]
    return max(allowed) * 1e-6 if allowed else 0.0 if states else None


def _latency_limit(host: Host, cpu: int) -> float:
    """Return the microseconds that a CPU may take to wake; 0 in the file is no limit, and n/a none at all (see IdleLatency)."""
    path = f"{_CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us"
    try:
        if host.read_text(path).strip() == "n/a":
            return 0.0
    except HostError:
        return float("inf")
    return _number(host, path) or float("inf")


def _number(host: Host, path: str) -> int | None:
    try:
        return int(host.read_text(path))
    except (HostError, ValueError):
        return None
