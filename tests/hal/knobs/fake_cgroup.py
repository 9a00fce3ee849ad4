"""The cgroup family's part of the machine in memory: the unified hierarchy (v2), which refuses what the kernel refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable

from hal.fake import FakeHost, WriteHandler
from hal.lists import format_cpu_list, parse_cpu_list
from hal.settings import Subject, Value, cgroup, process

MOUNT = "/sys/fs/cgroup"
CPUS, NODES = "0-7", "0-1"
LONG_MAX = (1 << 63) - 1

FRESH = {
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000", "cpu.max.burst": "0", "cpu.idle": "0"},
    "cpuset": {
        "cpuset.cpus": "",
        "cpuset.mems": "",
        "cpuset.cpus.effective": "",
        "cpuset.mems.effective": "",
        "cpuset.cpus.partition": "member",
    },
    "io": {"io.max": "", "io.weight": "default 100", "io.stat": ""},
    "memory": {
        "memory.max": "max",
        "memory.high": "max",
        "memory.low": "0",
        "memory.min": "0",
        "memory.swap.max": "max",
        "memory.current": "0",
        "memory.stat": "anon 8388608\nfile 1048576\nshmem 0",
    },
    "pids": {"pids.max": "max", "pids.current": "0"},
}
"""The files of each controller in a group just made."""


def refuse(number: int) -> OSError:
    """Return the error with which the kernel refuses a write."""
    return OSError(number, "refused")


class Unified:
    """The unified hierarchy of a machine in memory."""

    def __init__(self, host: FakeHost, *, enabled: str) -> None:
        self._host = host
        host.makers[MOUNT] = self.fill
        root = {
            "cgroup.controllers": "cpuset cpu io memory pids",
            "cgroup.subtree_control": enabled,
            "cgroup.procs": "",
            "cpuset.cpus.effective": CPUS,
            "cpuset.mems.effective": NODES,
        }
        host.files |= {f"{MOUNT}/{name}": f"{text}\n" if text else "" for name, text in root.items()}
        self._handle(MOUNT)

    def add(self, path: str) -> None:
        """Add a group, as if it had long been there."""
        self.fill(MOUNT + path)

    def start(self, pid: int, comm: str, path: str, *, parent: int = 1, threads: tuple[int, ...] = ()) -> None:
        """Start a process in a group."""
        self._host.start(pid, comm, parent=parent, threads=threads, cgroup=f"0::{path}")
        procs = f"{MOUNT}{path.rstrip('/')}/cgroup.procs"
        self._host.files[procs] = joined({*numbers(self._host.files[procs]), pid})

    def fill(self, directory: str) -> None:
        """Put into a new group what the kernel puts there, given what its parent hands on."""
        parent = directory.rpartition("/")[0]
        self._write(f"{directory}/cgroup.procs", "")
        self._write(f"{directory}/cgroup.type", "domain")
        self._write(f"{directory}/cgroup.controllers", "")
        self._write(f"{directory}/cgroup.subtree_control", "")
        self._hand_on(directory, self._words(f"{parent}/cgroup.subtree_control"))
        self._handle(directory)

    def _write(self, path: str, text: str) -> None:
        self._host.files[path] = f"{text}\n" if text else "" if path.endswith((".procs", "io.max")) else "\n"

    def _read(self, path: str) -> str:
        return self._host.files.get(path, "").strip()

    def _words(self, path: str) -> list[str]:
        return self._read(path).split()

    def _children(self, directory: str) -> list[str]:
        found = {name[: -len("/cgroup.procs")] for name in self._host.files if name.endswith("/cgroup.procs")}
        return sorted(child for child in found if child.rpartition("/")[0] == directory)

    def _hand_on(self, directory: str, controllers: list[str]) -> None:
        """Let a group have exactly these controllers: their files come and go."""
        had = self._words(f"{directory}/cgroup.controllers")
        for controller, files in FRESH.items():
            for name, text in files.items():
                if controller in controllers and controller not in had:
                    self._write(f"{directory}/{name}", text)
                elif controller not in controllers:
                    self._host.files.pop(f"{directory}/{name}", None)
        self._write(f"{directory}/cgroup.controllers", " ".join(controllers))
        self._handle(directory)
        self._refresh(directory)

    def _refresh(self, directory: str) -> None:
        """Work out on what a group and those below it really are: their own, where that meets what is above."""
        parent = directory.rpartition("/")[0]
        for name, everything in (("cpuset.cpus", CPUS), ("cpuset.mems", NODES)):
            if f"{directory}/{name}" not in self._host.files or directory == MOUNT:
                continue
            above = parse_cpu_list(self._read(f"{parent}/{name}.effective") or everything)
            own = parse_cpu_list(self._read(f"{directory}/{name}"))
            self._write(f"{directory}/{name}.effective", format_cpu_list(set(own) & set(above) or above))
        for child in self._children(directory):
            self._refresh(child)

    def _handle(self, directory: str) -> None:
        rules: dict[str, Callable[[str], WriteHandler]] = {
            "cgroup.procs": self._entering,
            "cgroup.subtree_control": self._enabling,
            "cpu.weight": lambda _: in_range(1, 10_000),
            "cpu.max": self._quota,
            "cpu.max.burst": self._burst,
            "cpuset.cpus": lambda d: self._cpuset(d, "cpuset.cpus", CPUS),
            "cpuset.mems": lambda d: self._cpuset(d, "cpuset.mems", NODES),
            "cpuset.cpus.partition": lambda _: one_of("member", "root", "isolated"),
            "io.weight": lambda _: lambda _old, written: f"default {int(written)}\n",
            "io.max": lambda _: io_max,
            "pids.max": lambda _: in_range(0, 4_194_304),
        }
        for name in ("memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max"):
            rules[name] = lambda _: in_pages
        for name, rule in rules.items():
            self._host.handlers[f"{directory}/{name}"] = rule(directory)

    def _entering(self, directory: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            pid = int(written)
            if pid not in self._host.tasks:
                raise refuse(errno.ESRCH)
            if directory != MOUNT and self._words(f"{directory}/cgroup.subtree_control"):
                raise refuse(errno.EBUSY)
            move(self._host, MOUNT, pid)
            for tid, task in self._host.tasks.items():
                if task.pid == pid:
                    self._host.files[f"/proc/{tid}/cgroup"] = f"0::{directory.removeprefix(MOUNT) or '/'}\n"
            return joined({*numbers(self._host.files[f"{directory}/cgroup.procs"]), pid})

        return handler

    def _enabling(self, directory: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            enabled = old.split()
            for word in written.split():
                sign, controller = word[0], word[1:]
                if sign == "+" and controller not in self._words(f"{directory}/cgroup.controllers"):
                    raise refuse(errno.ENOENT)
                if sign == "+" and directory != MOUNT and self._words(f"{directory}/cgroup.procs"):
                    raise refuse(errno.EBUSY)
                below = [self._words(f"{child}/cgroup.subtree_control") for child in self._children(directory)]
                if sign == "-" and any(controller in words for words in below):
                    raise refuse(errno.EBUSY)
                enabled = [c for c in FRESH if (c in enabled or c == controller) and (sign, c) != ("-", controller)]
            for child in self._children(directory):
                self._hand_on(child, enabled)
            return " ".join(enabled) + "\n"

        return handler

    def _quota(self, directory: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            quota, *period = written.split()
            length = int(period[0]) if period else int(old.split()[1])
            burst = int(self._read(f"{directory}/cpu.max.burst"))
            if not 1000 <= length <= 1_000_000 or (quota != "max" and not max(1000, burst) <= int(quota)):
                raise refuse(errno.EINVAL)
            return f"{quota} {length}\n"

        return handler

    def _burst(self, directory: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            quota = self._words(f"{directory}/cpu.max")[0]
            if quota != "max" and int(written) > int(quota):
                raise refuse(errno.EINVAL)
            return f"{int(written)}\n"

        return handler

    def _cpuset(self, directory: str, name: str, present: str) -> WriteHandler:
        def handler(old: str, written: str) -> str:
            numbers_ = parse_cpu_list(written)
            if not set(numbers_) <= set(parse_cpu_list(present)):
                raise refuse(errno.ERANGE)
            self._host.files[f"{directory}/{name}"] = format_cpu_list(numbers_) + "\n"
            self._refresh(directory)
            return self._host.files[f"{directory}/{name}"]

        return handler


def numbers(text: str) -> list[int]:
    """Return the process ids in a ``cgroup.procs``."""
    return [int(word) for word in text.split()]


def joined(pids: set[int]) -> str:
    """Return process ids as ``cgroup.procs`` has them."""
    return "".join(f"{pid}\n" for pid in sorted(pids))


def move(host: FakeHost, mount: str, pid: int) -> None:
    """Take a process out of whatever group of a hierarchy it is in."""
    for path in [p for p in host.files if p.startswith(mount + "/") and p.endswith("/cgroup.procs")]:
        host.files[path] = joined(set(numbers(host.files[path])) - {pid})


def in_range(least: int, most: int) -> WriteHandler:
    """Behave like a file with a number in it, or ``max``."""

    def handler(old: str, written: str) -> str:
        if written.strip() == "max":
            return "max\n"
        if not least <= int(written) <= most:
            raise refuse(errno.ERANGE)
        return f"{int(written)}\n"

    return handler


def one_of(*words: str) -> WriteHandler:
    """Behave like a file with one of some words in it."""

    def handler(old: str, written: str) -> str:
        if written.strip() not in words:
            raise refuse(errno.EINVAL)
        return f"{written.strip()}\n"

    return handler


def in_pages(old: str, written: str) -> str:
    """Behave like a limit on memory: whole pages."""
    return "max\n" if written.strip() in ("max", "-1") else f"{int(written) // 4096 * 4096}\n"


def io_max(old: str, written: str) -> str:
    """Behave like ``io.max``: a line a device that has a limit, all four of them in it."""
    kinds = ("rbps", "wbps", "riops", "wiops")
    lines = {line.split()[0]: dict(w.split("=") for w in line.split()[1:]) for line in old.splitlines()}
    device, *words = written.split()
    if device not in ("254:0", "259:0"):
        raise refuse(errno.ENODEV)
    lines[device] = dict.fromkeys(kinds, "max") | lines.get(device, {}) | dict(w.split("=") for w in words)
    return "".join(
        f"{device} {' '.join(f'{kind}={limits[kind]}' for kind in kinds)}\n"
        for device, limits in lines.items()
        if set(limits.values()) != {"max"}
    )


def furnish(host: FakeHost) -> None:
    """Add the unified hierarchy with three groups, a server with a child in one of them, and two disks."""
    mounts = host.files.get("/proc/self/mounts", "")
    host.files["/proc/self/mounts"] = mounts + f"cgroup2 {MOUNT} cgroup2 rw,nosuid 0 0\n"
    host.files |= {
        "/sys/devices/system/cpu/online": f"{CPUS}\n",
        "/sys/devices/system/cpu/possible": f"{CPUS}\n",
        "/sys/dev/block/254:0/dev": "254:0\n",
        "/sys/dev/block/254:1/partition": "1\n",
        "/sys/dev/block/259:0/dev": "259:0\n",
    }
    host.files.setdefault("/proc/meminfo", "MemTotal: 16777216 kB\nSwapFree: 0 kB\n")
    host.files.setdefault("/sys/devices/system/node/has_memory", f"{NODES}\n")
    unified = Unified(host, enabled="cpuset cpu io memory pids")
    for path in ("/web", "/batch", "/other"):
        unified.add(path)
    unified.start(700, "webserver", "/web", threads=(701,))
    unified.start(710, "webworker", "/web", parent=700)


WEB = cgroup("/web")
BATCH = cgroup("/batch")


def cases(host: FakeHost) -> dict[str, tuple[Subject, Value]]:
    """Return for each knob a subject on this machine and a value other than the present one."""
    controllers = {f"cgroup.controller_{name}": (BATCH, True) for name in FRESH}
    return {
        "cgroup.exists": (cgroup("/fresh"), True),
        **controllers,
        "cgroup.cpu_weight": (WEB, 300),
        "cgroup.cpu_quota": (WEB, "40000/200000+10000"),
        "cgroup.memory_max": (WEB, 1 << 30),
        "cgroup.memory_high": (WEB, 1 << 29),
        "cgroup.memory_low": (WEB, 1 << 20),
        "cgroup.memory_min": (WEB, 1 << 16),
        "cgroup.memory_swap_max": (WEB, 0),
        "cgroup.io_weight": (WEB, 50),
        "cgroup.io_max": (WEB, "254:0 wbps=1048576, 259:0 riops=100"),
        "cgroup.cpus": (WEB, "1-2"),
        "cgroup.mems": (WEB, "1"),
        "cgroup.cpuset_partition": (WEB, "root"),
        "cgroup.pids_max": (WEB, 50),
        "cgroup.member": (process(700, host.tasks[700].start), "/other"),
    }
