"""The busiest processes or cgroups, from /proc alone and cheap enough to leave running.

Each refresh reads /proc/PID/stat of every process (10 to 20 µs each); what costs more (run-queue delay and switches of each
thread, I/O) only of those that are to be shown. A value that could not be read is None: unknown, never 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dna.cgroups import container_of
from hal.errors import HalError
from hal.host import Host

MOST_THREADS = 64
"""A process with more threads gets no per-thread values: reading them all would cost more than they tell."""

_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h


@dataclass(frozen=True, slots=True)
class Process:
    """/proc/PID/stat, process wide."""

    pid: int
    comm: str
    kernel: bool
    start: int
    """Clock ticks after boot; with the pid it names a process for good."""
    cpu_ticks: int
    faults: int
    threads: int
    resident_pages: int


@dataclass(frozen=True, slots=True)
class Detail:
    """What is read of the processes to be shown only; sums over threads."""

    oncpu_ns: int | None = None
    runq_ns: int | None = None
    voluntary: int | None = None
    involuntary: int | None = None
    io_bytes: int | None = None
    """Bytes through read- and write-like calls, pipes and sockets included."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the host."""

    t_ns: int
    processes: Mapping[int, Process]
    details: Mapping[int, Detail] = field(default_factory=dict)
    cgroups: Mapping[int, str] = field(default_factory=dict)
    """Process to cgroup path, as far as known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One process or cgroup over one interval."""

    key: str
    """pid, or cgroup path."""
    name: str
    where: str
    """Container or unit; of a cgroup, its busiest process."""
    cpu: float
    """Cores kept busy."""
    time_s: float
    """CPU time since it started."""
    runq_share: float | None
    """Of the time it wanted a CPU, the part it waited for one."""
    voluntary: float | None
    """Switches per second, as the next."""
    involuntary: float | None
    faults: float
    """Per second."""
    resident: float
    """Bytes."""
    io: float | None
    """Bytes per second."""
    threads: int
    processes: int = 1

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; unknown is null."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


SORTS: Mapping[str, Callable[[Row], float]] = {
    "cpu": lambda row: row.cpu,
    "memory": lambda row: row.resident,
    "time": lambda row: row.time_s,
    "runq": lambda row: row.runq_share or 0.0,
    "voluntary": lambda row: row.voluntary or 0.0,
    "involuntary": lambda row: row.involuntary or 0.0,
    "faults": lambda row: row.faults,
    "io": lambda row: row.io or 0.0,
    "threads": lambda row: float(row.threads),
    "processes": lambda row: float(row.processes),
}
"""Sort name to what it orders by, largest first."""

_FROM_DETAIL = ("runq", "voluntary", "involuntary", "io")


# --- read


class Reader:
    """Reads snapshots; remembers what does not change of a process."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._cgroups: dict[int, tuple[int, str]] = {}
        self._stats: dict[str, tuple[bytes, Process]] = {}

    def read(self, wanted: Callable[[Mapping[int, Process]], Iterable[int]], *, all_cgroups: bool = False) -> Snapshot:
        """Return the host now, with details of the processes that ``wanted`` chooses from all of them."""
        processes = {process.pid: process for process in self._processes()}
        chosen = [pid for pid in wanted(processes) if pid in processes]
        details = {pid: self._detail(processes[pid]) for pid in chosen}
        cgroups = {pid: self._cgroup(processes[pid]) for pid in (processes if all_cgroups else chosen)}
        for gone in self._cgroups.keys() - processes.keys():
            del self._cgroups[gone]
        return Snapshot(self._host.monotonic_ns(), processes, details, cgroups)

    def _processes(self) -> Iterable[Process]:
        read, known, found = self._host.read_bytes, self._stats, {}
        for name in self._host.list_dir("/proc"):
            if name[0] not in "123456789":
                continue
            try:
                content = read(f"/proc/{name}/stat")
                before = known.get(name)
                # Most processes sleep: what has not changed need not be parsed again.
                parsed = before if before and before[0] == content else (content, parse_stat(content))
            except (HalError, ValueError, IndexError):
                continue  # it ended while we looked
            found[name] = parsed
            yield parsed[1]
        self._stats = found

    def _detail(self, process: Process) -> Detail:
        io_bytes = _io_bytes(self._text(f"/proc/{process.pid}/io"))
        if process.threads == 1:
            tasks = [f"/proc/{process.pid}"]
        elif process.threads <= MOST_THREADS:
            base = f"/proc/{process.pid}/task"
            tasks = [f"{base}/{tid}" for tid in self._names(base)]
        else:
            return Detail(io_bytes=io_bytes)
        times = [_numbers(self._text(f"{task}/schedstat"), 2) for task in tasks]
        switches = [_switches(self._text(f"{task}/status")) for task in tasks]
        return Detail(
            oncpu_ns=_total([t[0] if t else None for t in times]),
            runq_ns=_total([t[1] if t else None for t in times]),
            voluntary=_total([s[0] if s else None for s in switches]),
            involuntary=_total([s[1] if s else None for s in switches]),
            io_bytes=io_bytes,
        )

    def _cgroup(self, process: Process) -> str:
        known = self._cgroups.get(process.pid)
        if known is None or known[0] != process.start:
            known = process.start, cgroup_of(self._text(f"/proc/{process.pid}/cgroup") or "")
            self._cgroups[process.pid] = known
        return known[1]

    def _text(self, path: str) -> str | None:
        try:
            return self._host.read_text(path)
        except HalError:
            return None

    def _names(self, path: str) -> list[str]:
        try:
            return self._host.list_dir(path)
        except HalError:
            return []


def parse_stat(content: bytes) -> Process:
    """Return a process from /proc/PID/stat (proc_pid_stat(5)); raises ValueError or IndexError on anything else."""
    opening, closing = content.index(b"("), content.rindex(b")")
    fields = content[closing + 2 :].split()
    return Process(
        pid=int(content[:opening]),
        comm=content[opening + 1 : closing].decode("utf-8", "replace"),
        kernel=bool(int(fields[6]) & _KERNEL_THREAD),
        start=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        faults=int(fields[7]) + int(fields[9]),
        threads=int(fields[17]),
        resident_pages=int(fields[21]),
    )


def cgroup_of(text: str) -> str:
    """Return a process's cgroup from /proc/PID/cgroup: the unified hierarchy's, else the deepest of the others."""
    paths = [(line.split(":", 2)[1], line.split(":", 2)[2]) for line in text.splitlines() if line.count(":") >= 2]
    unified = next((path for controllers, path in paths if not controllers), "")
    if unified.strip("/"):
        return unified
    return max((path for _, path in paths), key=lambda path: path.count("/") if path != "/" else 0, default="")


def place_name(cgroup: str) -> str:
    """Return what people call a cgroup: the container (a hexadecimal id short), the unit, or its last part."""
    parts = [part for part in cgroup.split("/") if part]
    for part in reversed(parts):
        if container := container_of(part):
            return container[:12] if _HEXADECIMAL.fullmatch(container) else container
    units = [part for part in parts if part.endswith((".service", ".scope"))]
    return units[-1] if units else parts[-1] if parts else ""


def _numbers(text: str | None, least: int) -> list[int] | None:
    fields = (text or "").split()
    return [int(value) for value in fields] if len(fields) >= least else None


def _switches(text: str | None) -> tuple[int, int] | None:
    """Return (voluntary, involuntary) from /proc/TID/status, of which they are the last two lines."""
    tail = (text or "").rpartition("\nvoluntary_ctxt_switches:")[2].split()
    return (int(tail[0]), int(tail[2])) if len(tail) >= 3 and tail[0].isdigit() else None


def _io_bytes(text: str | None) -> int | None:
    values = dict(line.split(": ", 1) for line in (text or "").splitlines() if ": " in line)
    return int(values["rchar"]) + int(values["wchar"]) if "rchar" in values and "wchar" in values else None


def _total(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


# --- decide


def wanted(before: Snapshot | None, *, sort: str, rows: int) -> Callable[[Mapping[int, Process]], list[int]]:
    """Return the choice of processes to read in detail: those that ``rows`` rows sorted by ``sort`` could show.

    Before there is anything to compare with, all. Sorted by a detail, all that ran since the last look.
    """

    def choose(now: Mapping[int, Process]) -> list[int]:
        if before is None:
            return list(now)
        ran = {pid: process.cpu_ticks - _earlier(before, process).cpu_ticks for pid, process in now.items()}
        if sort in _FROM_DETAIL:
            return [pid for pid, ticks in ran.items() if ticks > 0 or pid in before.details]
        order: dict[str, Callable[[int], float]] = {
            "memory": lambda pid: now[pid].resident_pages,
            "time": lambda pid: now[pid].cpu_ticks,
            "faults": lambda pid: now[pid].faults - _earlier(before, now[pid]).faults,
            "threads": lambda pid: now[pid].threads,
        }
        return sorted(now, key=order.get(sort, lambda pid: ran[pid]), reverse=True)[:rows]

    return choose


def process_rows(
    before: Snapshot, after: Snapshot, *, tick_hz: int, page_size: int, pids: Iterable[int] | None = None
) -> list[Row]:
    """Return one row a process of ``pids`` (all) that is there in both snapshots, or began between them."""
    seconds = max((after.t_ns - before.t_ns) * 1e-9, 1e-9)
    rows = []
    for pid in after.processes if pids is None else pids:
        process = after.processes[pid]
        earlier = _earlier(before, process)
        was = before.details.get(pid, Detail()) if pid in before.processes else Detail()
        now = after.details.get(pid, Detail())
        oncpu, runq = _change(was.oncpu_ns, now.oncpu_ns), _change(was.runq_ns, now.runq_ns)
        rows.append(
            Row(
                key=str(pid),
                name=f"[{process.comm}]" if process.kernel else process.comm,
                where=place_name(after.cgroups.get(pid, "")),
                cpu=max(process.cpu_ticks - earlier.cpu_ticks, 0) / tick_hz / seconds,
                time_s=process.cpu_ticks / tick_hz,
                runq_share=None if oncpu is None or runq is None or oncpu + runq <= 0 else runq / (oncpu + runq),
                voluntary=_rate(_change(was.voluntary, now.voluntary), seconds),
                involuntary=_rate(_change(was.involuntary, now.involuntary), seconds),
                faults=max(process.faults - earlier.faults, 0) / seconds,
                resident=float(process.resident_pages * page_size),
                io=_rate(_change(was.io_bytes, now.io_bytes), seconds),
                threads=process.threads,
            )
        )
    return rows


def cgroup_rows(rows: Sequence[Row], cgroups: Mapping[int, str]) -> list[Row]:
    """Return one row a cgroup: sums over its own processes (not over cgroups below it); shares weighted by CPU time."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(cgroups.get(int(row.key), "") or "/", []).append(row)
    return [_merged(path, members) for path, members in groups.items()]


def _merged(path: str, members: Sequence[Row]) -> Row:
    busiest = max(members, key=lambda row: (row.cpu, row.resident))
    weighed = [(row.cpu, row.runq_share) for row in members if row.runq_share is not None and row.cpu > 0]
    weight = sum(cpu for cpu, _ in weighed)
    return Row(
        key=path,
        name=place_name(path) or path,
        where=busiest.name,
        cpu=sum(row.cpu for row in members),
        time_s=sum(row.time_s for row in members),
        runq_share=sum(cpu * share for cpu, share in weighed) / weight if weight > 0 else None,
        voluntary=_sum(row.voluntary for row in members),
        involuntary=_sum(row.involuntary for row in members),
        faults=sum(row.faults for row in members),
        resident=sum(row.resident for row in members),
        io=_sum(row.io for row in members),
        threads=sum(row.threads for row in members),
        processes=len(members),
    )


def ordered(rows: Iterable[Row], *, sort: str, search: str = "") -> list[Row]:
    """Return the rows that contain ``search`` in name, place or key (case ignored), largest ``sort`` first."""
    key = SORTS[sort]
    words = search.lower()
    found = [row for row in rows if words in f"{row.name}\n{row.where}\n{row.key}".lower()]
    return sorted(found, key=lambda row: (-key(row), -row.cpu, -row.resident, row.key))


def _earlier(before: Snapshot, process: Process) -> Process:
    """Return the process at the earlier moment; one that has begun since stood at 0."""
    was = before.processes.get(process.pid)
    return was if was is not None and was.start == process.start else replace(process, cpu_ticks=0, faults=0)


def _change(before: int | None, after: int | None) -> int | None:
    """Return the increase; a thread that ended takes its count along, which must not look like a negative rate."""
    return None if before is None or after is None else max(after - before, 0)


def _rate(count: int | None, seconds: float) -> float | None:
    return None if count is None else count / seconds


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


class Watch:
    """Successive looks at the host: each gives rows over the time since the last."""

    def __init__(self, host: Host, *, by_cgroup: bool = False) -> None:
        self._reader = Reader(host)
        self._before: Snapshot | None = None
        self._tick_hz = os.sysconf("SC_CLK_TCK")
        self._page_size = os.sysconf("SC_PAGE_SIZE")
        self.by_cgroup = by_cgroup

    def look(self, *, sort: str = "cpu", rows: int = 50, search: str = "") -> list[Row]:
        """Return what happened since the last look, as ``rows`` rows or more, ordered; none at the first look."""
        # Sums over cgroups need every process that did something, whatever is shown of it.
        choose = wanted(self._before, sort="io" if self.by_cgroup else sort, rows=rows)
        before, after = self._before, self._reader.read(choose, all_cgroups=self.by_cgroup)
        self._before = after
        if before is None:
            return []
        # The processes read in detail are those with most of ``sort``; only a search may show others.
        pids = None if self.by_cgroup or search else after.details
        found = process_rows(before, after, tick_hz=self._tick_hz, page_size=self._page_size, pids=pids)
        if self.by_cgroup:
            found = cgroup_rows(found, after.cgroups)
        return ordered(found, sort=sort, search=search)

    @property
    def counted(self) -> tuple[int, int]:
        """Processes and threads at the last look."""
        processes = self._before.processes if self._before else {}
        return len(processes), sum(process.threads for process in processes.values())
