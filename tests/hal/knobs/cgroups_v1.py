"""Cgroup v1 in memory: a hierarchy for each controller, which refuses what the kernel refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from hal.fake import FakeHost, WriteHandler
from hal.lists import format_cpu_list, parse_cpu_list
from tests.hal.knobs.fake_cgroup import in_pages, in_range, joined, move, numbers, refuse

ROOT = "/sys/fs/cgroup"
HIERARCHIES = {"cpu,cpuacct": 4, "cpuset": 3, "memory": 5, "blkio": 6, "pids": 7}
"""Names as mounted, and the numbers that /proc gives them."""
UNLIMITED = (1 << 63) - 4096
THROTTLES = [f"blkio.throttle.{way}_{kind}_device" for way in ("read", "write") for kind in ("bps", "iops")]

FRESH: dict[str, Mapping[str, str]] = {
    "cpu,cpuacct": {
        "cpu.shares": "1024",
        "cpu.cfs_quota_us": "-1",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "0",
        "cpu.idle": "0",
    },
    "cpuset": {"cpuset.cpus": "", "cpuset.mems": "", "cpuset.effective_cpus": "", "cpuset.effective_mems": ""},
    "memory": {"memory.limit_in_bytes": str(UNLIMITED), "memory.stat": "total_rss 8388608\ntotal_shmem 0"},
    "blkio": {"blkio.bfq.weight": "100", **dict.fromkeys(THROTTLES, "")},
    "pids": {"pids.max": "max"},
}


class Separate:
    """The hierarchies of v1 on a machine in memory."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        mounts = [f"cgroup {ROOT}/{name} cgroup rw,nosuid,{name} 0 0\n" for name in HIERARCHIES]
        host.files["/proc/self/mounts"] = "".join(mounts) + f"cgroup2 {ROOT}/unified cgroup2 rw 0 0\n"
        host.files |= {f"{ROOT}/unified/cgroup.procs": "", f"{ROOT}/unified/cgroup.controllers": "\n"}
        host.files |= {"/sys/devices/system/cpu/online": "0-7\n", "/sys/devices/system/node/has_memory": "0-1\n"}
        host.files |= {"/proc/meminfo": "SwapFree: 0 kB\n", "/sys/dev/block/254:0/dev": "254:0\n"}
        host.links[f"{ROOT}/cpu"] = "cpu,cpuacct"
        for name in HIERARCHIES:
            self.fill(f"{ROOT}/{name}")
            host.makers[f"{ROOT}/{name}"] = self.fill
        for name, text in {"cpuset.cpus": "0-7", "cpuset.mems": "0-1", "cpuset.effective_cpus": "0-7"}.items():
            host.files[f"{ROOT}/cpuset/{name}"] = f"{text}\n"

    def start(self, pid: int, comm: str, *, threads: tuple[int, ...] = (), **paths: str) -> None:
        """Start a process in these groups (by hierarchy, ``cpu`` for ``cpu,cpuacct``), in the roots otherwise."""
        where = {name: paths.get(name.split(",")[0], "/") for name in HIERARCHIES}
        self._host.start(pid, comm, threads=threads, cgroup=self._lines(where))
        for name, path in where.items():
            procs = f"{ROOT}/{name}{path.rstrip('/')}/cgroup.procs"
            self._host.files[procs] = joined({*numbers(self._host.files[procs]), pid})

    def fill(self, directory: str) -> None:
        """Put into a new group what the kernel puts there."""
        name = directory.removeprefix(f"{ROOT}/").split("/")[0]
        for file, text in {"cgroup.procs": "", **FRESH[name]}.items():
            self._host.files[f"{directory}/{file}"] = f"{text}\n" if text or file.startswith("cpuset") else ""
        rules: dict[str, Callable[[str], WriteHandler]] = {
            "cgroup.procs": self._entering,
            "cpu.shares": lambda _: lambda _old, written: f"{min(max(int(written), 2), 262144)}\n",
            "cpu.cfs_quota_us": lambda d: self._bandwidth(d, "cpu.cfs_quota_us"),
            "cpu.cfs_period_us": lambda d: self._bandwidth(d, "cpu.cfs_period_us"),
            "cpu.cfs_burst_us": lambda d: self._bandwidth(d, "cpu.cfs_burst_us"),
            "cpuset.cpus": lambda d: self._cpuset(d, "cpuset.cpus", "cpuset.effective_cpus"),
            "cpuset.mems": lambda d: self._cpuset(d, "cpuset.mems", "cpuset.effective_mems"),
            "memory.limit_in_bytes": lambda _: limit_in_bytes,
            "blkio.bfq.weight": lambda _: in_range(1, 1000),
            "pids.max": lambda _: in_range(0, 4_194_304),
            **dict.fromkeys(THROTTLES, lambda _: throttle),
        }
        for file, rule in rules.items():
            self._host.handlers[f"{directory}/{file}"] = rule(directory)

    def _lines(self, where: Mapping[str, str]) -> str:
        return "".join(f"{HIERARCHIES[name]}:{name}:{path}\n" for name, path in where.items()) + "0::/"

    def _read(self, path: str) -> str:
        return self._host.files[path].strip()

    def _entering(self, directory: str) -> WriteHandler:
        name, _, path = directory.removeprefix(f"{ROOT}/").partition("/")

        def handler(old: str, written: str) -> str:
            pid = int(written)
            if pid not in self._host.tasks:
                raise refuse(errno.ESRCH)
            if name == "cpuset" and not (
                self._read(f"{directory}/cpuset.cpus") and self._read(f"{directory}/cpuset.mems")
            ):
                raise refuse(errno.ENOSPC)
            move(self._host, f"{ROOT}/{name}", pid)
            for tid, task in self._host.tasks.items():
                if task.pid == pid:
                    self._locate(tid, name, f"/{path}")
            return joined({*numbers(self._host.files[f"{directory}/cgroup.procs"]), pid})

        return handler

    def _locate(self, tid: int, hierarchy: str, path: str) -> None:
        lines = [line.split(":", 2) for line in self._host.files[f"/proc/{tid}/cgroup"].splitlines()]
        kept = [[n, names, path if names == hierarchy else where] for n, names, where in lines]
        self._host.files[f"/proc/{tid}/cgroup"] = "".join(":".join(fields) + "\n" for fields in kept)

    def _bandwidth(self, directory: str, file: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us")
            quota, period, burst = (
                int(written if name == file else self._read(f"{directory}/{name}")) for name in files
            )
            above = directory.rpartition("/")[0]
            limits = [int(self._host.files.get(f"{above}/{name}", "-1")) for name in files[:2]]
            too_much = limits[0] > 0 and quota / period > limits[0] / limits[1]
            if not 1000 <= period <= 1_000_000 or (quota != -1 and (quota < max(1000, burst) or too_much)):
                raise refuse(errno.EINVAL)
            return f"{int(written)}\n"

        return handler

    def _cpuset(self, directory: str, name: str, effective: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            wanted = set(parse_cpu_list(written))
            if not wanted and self._read(f"{directory}/cgroup.procs"):
                raise refuse(errno.ENOSPC)
            above = set(parse_cpu_list(self._read(f"{directory.rpartition('/')[0]}/{name}")))
            if not wanted <= above:
                raise refuse(errno.EACCES)
            below = [p for p in self._host.files if p.startswith(f"{directory}/") and p.endswith(f"/{name}")]
            if any(not set(parse_cpu_list(self._read(p))) <= wanted for p in below if p != f"{directory}/{name}"):
                raise refuse(errno.EBUSY)
            self._host.files[f"{directory}/{effective}"] = format_cpu_list(wanted) + "\n"
            return format_cpu_list(wanted) + "\n"

        return handler


def limit_in_bytes(old: str, written: str) -> str:
    """Behave like ``memory.limit_in_bytes``: -1, and what comes near, is as much as there is."""
    return f"{UNLIMITED}\n" if int(written) == -1 else in_pages(old, written)


def throttle(old: str, written: str) -> str:
    """Behave like one of ``blkio.throttle``: a line for each device that has a limit."""
    lines = dict(line.split() for line in old.splitlines())
    device, amount = written.split()
    if device != "254:0":
        raise refuse(errno.ENODEV)
    lines[device] = amount
    return "".join(f"{device} {amount}\n" for device, amount in lines.items() if amount != "0")


def separate() -> FakeHost:
    """Return a machine with cgroup v1: a group ``/web`` with a server in it for CPU and memory only."""
    host = FakeHost({"/proc/sys/kernel/hostname": "old\n", "/proc/sys/kernel/random/boot_id": "b00t\n"})
    hierarchies = Separate(host)
    for name in HIERARCHIES:
        host.make_dir(f"{ROOT}/{name}/web")
    host.writes.clear()
    hierarchies.start(700, "webserver", threads=(701,), cpu="/web", memory="/web")
    return host
