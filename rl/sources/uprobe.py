"""``uprobe:BINARY:FUNCTION``: how often a function of a program or library is called, or how long its calls take.

In all processes that run that file. The rate is counted by the kernel alone; durations take BPF, and with it bcc. Each call costs some
microseconds more, so a function that is called too often is refused, before and while it is watched.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hal.bpf.compiler import Compiler, cache_dir
from hal.bpf.layout import Layout
from hal.bpf.loader import BpfMap, LoadedObject
from hal.elf import ElfError, Function, find_function
from hal.errors import BpfError, HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host
from hal.lists import parse_cpu_list
from hal.uprobe import Uprobe
from rl.errors import MetricDeniedError, MetricError, MetricUnavailableError
from rl.measured import LATENCY, THROUGHPUT, Problem
from rl.sources.found import Count, Fetch, Found, Source, SourceError, Spread

MOST_CALLS_PER_S = 10_000
"""Of a function that may be probed. At 2 to 12 us a call that is up to a tenth of a core: already a price."""
TRIED_S = 0.1
_FIRST_POWERS, _PARTS = 3, 8
_POWERS = 41
BUCKETS = (_POWERS - 2) * _PARTS
"""Eight to each power of two of nanoseconds, up to some 36 minutes."""
SPREAD = Layout("spread", {"buckets": ("u64", (BUCKETS,))})
# Of the stack pointer in pt_regs, part of the kernel's ABI with debuggers; and what a return takes off the stack.
_STACK = {"x86_64": (152, 8), "aarch64": (248, 0), "riscv64": (16, 0)}
_SOURCE = Path(__file__).with_name("uprobe.c")


def limits() -> tuple[float, ...]:
    """Return the upper limits of the buckets in seconds, shape (BUCKETS,)."""
    first = [float(number + 1) for number in range(_PARTS)]
    rest = [
        float((_PARTS + part + 1) << (power - _FIRST_POWERS))
        for power in range(_FIRST_POWERS, _POWERS)
        for part in range(_PARTS)
    ]
    return tuple(limit * 1e-9 for limit in first + rest)


def split(rest: str) -> tuple[str, str]:
    """Return (path, function); MetricError where it is not that."""
    path, _, function = rest.rpartition(":")
    if not path.startswith("/") or not function or any(sign.isspace() for sign in function):
        raise MetricError(
            f"uprobe:{rest} is no /PATH:FUNCTION",
            remedy=f"write it as in {SOURCE.example}; of a container's file, as /proc/PID/root/PATH:FUNCTION",
        )
    return path, function


def check(rest: str) -> None:
    """Raise MetricError where it is no path and function."""
    split(rest)


class RateFetch:
    """Calls of one function."""

    def __init__(self, host: Host, path: str, function: Function) -> None:
        cpus = parse_cpu_list(host.read_text("/sys/devices/system/cpu/online"))
        self._probe = Uprobe(host, path, function.offset, cpus=cpus)
        self._brake = _Brake(host, function.name)

    def fetch(self) -> Found:
        """Return calls since it was opened."""
        self._brake.hold()
        count = self._probe.count()
        self._brake.mind(count, self)
        return Count(float(count), of_events=True)

    def close(self) -> None:
        """Take the probe away."""
        self._probe.close()


class DurationFetch:
    """Durations of one function's calls."""

    def __init__(self, host: Host, path: str, function: Function) -> None:
        self._probes: list[Uprobe] = []
        self._brake = _Brake(host, function.name)
        self._loaded = load(host)
        self._limits = limits()
        try:
            # Returns first: a call that was seen and its return not would stay in the table.
            for name, on_return in (("on_return", True), ("on_call", False)):
                program = self._loaded.load(name, "kprobe")
                self._probes.append(Uprobe(host, path, function.offset, on_return=on_return, program=program.fd))
        except BaseException:
            self.close()
            raise
        self._counts: NDArray[np.void] | None = _map(self._loaded).view(SPREAD.dtype)

    def fetch(self) -> Found:
        """Return calls by duration since it was opened."""
        self._brake.hold()
        if self._counts is None:
            raise SourceError(Problem.GONE, "it is closed")
        counts = self._counts["buckets"].sum(axis=0, dtype=np.uint64)
        self._brake.mind(int(counts.sum()), self)
        return Spread(self._limits, tuple(map(float, counts)))

    def close(self) -> None:
        """Take the probes away."""
        self._counts = None
        for probe in reversed(self._probes):
            probe.close()
        self._loaded.close()


def _map(loaded: LoadedObject) -> BpfMap:
    return loaded.maps["spread"]


def load(host: Host) -> LoadedObject:
    """Compile the programs, or take them from the cache, and make their maps; BpfError says why it cannot be done."""
    compiled = Compiler(host, cache=cache_dir()).compile(source(host), ["on_call", "on_return"])
    return LoadedObject(host, compiled)


def source(host: Host) -> str:
    """Return the C source for this machine."""
    if platform.machine() not in _STACK:
        raise UnsupportedError(f"durations of functions are not known on {platform.machine()}")
    stack, pops = _STACK[platform.machine()]
    cpus = parse_cpu_list(host.read_text("/sys/devices/system/cpu/possible"))[-1] + 1
    constants = {"CPUS": cpus, "BUCKETS": BUCKETS, "SP_OFFSET": stack, "RETURN_POPS": pops}
    return "\n".join([*(f"#define {name} {value}" for name, value in constants.items()), SPREAD.c, _SOURCE.read_text()])


@dataclass(slots=True)
class _Brake:
    """Takes a probe away that costs too much."""

    host: Host
    function: str
    _count: int = 0
    _at_ns: int = 0
    _refused: str = ""

    def hold(self) -> None:
        """Raise SourceError where the probe was taken away."""
        if self._refused:
            raise SourceError(Problem.REFUSED, self._refused)

    def mind(self, count: int, fetch: Fetch) -> None:
        """Look at how fast the count grows; close and raise SourceError where that is too much."""
        now = self.host.monotonic_ns()
        if self._at_ns:
            rate = (count - self._count) / max((now - self._at_ns) * 1e-9, 1e-3)
            if rate > MOST_CALLS_PER_S:
                self._refused = too_often(self.function, rate)
                fetch.close()
        self._count, self._at_ns = count, now
        self.hold()


def too_often(function: str, rate: float) -> str:
    """Return what is said of a function that is called too often."""
    return f"{function} is called {rate:,.0f} times a second; above {MOST_CALLS_PER_S:,} a probe costs too much"


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> Fetch:
    path, name = split(rest)
    try:
        function = find_function(host, path, name)
        refuse_dangerous(function, kind, path)
        fetch: Fetch = DurationFetch(host, path, function) if kind == LATENCY else RateFetch(host, path, function)
    except (ElfError, NotFoundError) as error:
        remedy = error.remedy or "name a program or library that is there"
        raise MetricError(f"uprobe:{rest}: {error}", remedy=remedy) from error
    except NotPermittedError as error:
        raise MetricDeniedError(f"uprobe:{rest}: {error}", remedy=error.remedy or "run as root") from error
    except (HostError, BpfError) as error:
        raise MetricUnavailableError(f"uprobe:{rest}: {error}", remedy=error.remedy or "name another source") from error
    _try(host, fetch, rest)
    return fetch


def refuse_dangerous(function: Function, kind: str, path: str) -> None:
    """Raise MetricError where a probe could harm what runs."""
    if kind == LATENCY and function.is_go:
        raise MetricError(
            f"{path} is written in Go: a probe on a function's return would make it crash",
            remedy="throughput=uprobe:... is harmless; for latency take the program's own metrics",
        )


def _try(host: Host, fetch: Fetch, rest: str) -> None:
    """Watch for a moment whether the function is called too often."""
    try:
        fetch.fetch()
        host.sleep(TRIED_S)
        fetch.fetch()
    except SourceError as error:
        fetch.close()
        raise MetricUnavailableError(
            f"uprobe:{rest}: {error}", remedy="name a function that is called once for a whole unit of work"
        ) from error
    except BaseException:
        fetch.close()
        raise


SOURCE = Source(
    "uprobe",
    "/PATH:FUNCTION",
    "throughput=uprobe:/usr/sbin/nginx:ngx_http_finalize_request",
    (THROUGHPUT, LATENCY),
    check,
    _open,
)
