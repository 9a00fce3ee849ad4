"""The BPF programs of one profile in the kernel: built for this machine, attached as probes ask, read through shared memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dna.errors import ProbeUnavailableError
from dna.probes.bpf import layouts
from dna.sample import BUCKETS
from dna.syscalls import SyscallTable
from hal.bpf.btf import VMLINUX, offsets
from hal.bpf.compiler import Compiler, cache_dir
from hal.bpf.layout import Layout
from hal.bpf.loader import MAP_ARRAY, BpfMap, BpfProgram, LoadedObject, enable_statistics
from hal.bpf.object import BpfObject, MapSpec
from hal.errors import BpfError, HalError
from hal.host import Host
from hal.topology import Topology

_SOURCES = ("common.c", "follow.c", "syscalls.c", "sched.c", "faults.c", "net.c", "block.c")
_HERE = Path(__file__).parent

# Kernel structures: the name in the sources to (structure, member), the newest form first.
_OFFSETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "TASK_PID": (("task_struct", "pid"),),
    "TASK_TGID": (("task_struct", "tgid"),),
    "TASK_STATE": (("task_struct", "__state"), ("task_struct", "state")),  # 2f064a59a11f, 5.14
    "TASK_COMM": (("task_struct", "comm"),),
    "TASK_RAN": (("task_struct", "se.sum_exec_runtime"),),
    "TASK_MM": (("task_struct", "mm"),),
    "TASK_WAKE_CPU": (("task_struct", "wake_cpu"),),
    "TASK_FILES": (("task_struct", "files"),),
    "FILES_FDT": (("files_struct", "fdt"),),
    "FDT_MAX_FDS": (("fdtable", "max_fds"),),
    "FDT_FD": (("fdtable", "fd"),),
    "FILE_INODE": (("file", "f_inode"),),
    "FILE_POS": (("file", "f_pos"),),
    "INODE_MODE": (("inode", "i_mode"),),
    "SOCK_FAMILY": (("sock", "__sk_common.skc_family"),),
    "SOCK_DADDR": (("sock", "__sk_common.skc_daddr"),),
    "SOCK_RCV_SADDR": (("sock", "__sk_common.skc_rcv_saddr"),),
    "SOCK_V6_DADDR": (("sock", "__sk_common.skc_v6_daddr"),),
    "SOCK_V6_RCV_SADDR": (("sock", "__sk_common.skc_v6_rcv_saddr"),),
    "REQUEST_LENGTH": (("request", "__data_len"),),
}

# Offsets into pt_regs, part of the kernel's ABI with debuggers: first argument, fourth argument, system call number.
_REGISTERS = {"x86_64": (112, 56, 120), "aarch64": (0, 24, 280), "riscv64": (80, 104, 136)}


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    tracepoints: tuple[str, ...]
    """Tried in order."""
    needs: tuple[str, ...] = ()
    """Offsets without which it makes no sense."""


_FILES = ("TASK_FILES", "FILES_FDT", "FDT_MAX_FDS", "FDT_FD", "FILE_INODE", "INODE_MODE", "FILE_POS")
_SOCKETS = ("SOCK_FAMILY", "SOCK_DADDR", "SOCK_RCV_SADDR")
PROGRAMS: tuple[_Program, ...] = (
    _Program("on_fork", ("sched_process_fork",), ("TASK_PID", "TASK_TGID")),
    _Program("on_exec", ("sched_process_exec",)),
    _Program("on_exit", ("sched_process_exit",)),
    _Program("on_tick", (), ("TASK_RAN",)),
    _Program("on_syscall_enter", ("sys_enter",)),
    _Program("on_syscall_exit", ("sys_exit",), _FILES),
    _Program("on_switch", ("sched_switch",), ("TASK_PID", "TASK_TGID", "TASK_STATE", "TASK_RAN", *_FILES)),
    _Program("on_waking", ("sched_waking",), ("TASK_PID", "TASK_TGID", "TASK_MM", "TASK_COMM", "TASK_WAKE_CPU")),
    _Program("on_timer_begin", ("hrtimer_expire_entry",)),
    _Program("on_timer_end", ("hrtimer_expire_exit",)),
    _Program("on_fault", ("page_fault_user",)),
    _Program("on_sent", ("sock_send_length",), _SOCKETS),
    _Program("on_received", ("sock_recv_length",), _SOCKETS),
    _Program("on_block_start", ("block_io_start", "block_rq_issue"), ("REQUEST_LENGTH",)),
    _Program("on_block_done", ("block_io_done", "block_rq_complete")),
)
_BY_NAME = {program.name: program for program in PROGRAMS}

SAMPLED_PER_S = 4000
"""System calls sampled a second over all threads, about: at some 0.3 us each that is 0.1 % of a core."""
SAMPLE_AT_FIRST, SAMPLE_AT_LEAST = 8, 256
_WINDOW = 8
THREADS = 16384
EDGES = 16384
OUTSIDE, MEMBER, LEAVING = 0, 1, 3
"""Values in the map of members; see ``common.c``."""
_UNDRAWN, _UNKNOWN = (1 << 32) - 1, (1 << 64) - 1


def possible_cpus(host: Host) -> int:
    """Return the number of CPUs that may ever come online: the kernel numbers per-CPU data by it."""
    last = host.read_text("/sys/devices/system/cpu/possible").strip().replace(",", "-").split("-")[-1]
    return int(last) + 1


def pid_limit(host: Host) -> int:
    """Return pid_max rounded up to a power of two."""
    return 1 << (int(host.read_text("/proc/sys/kernel/pid_max")) - 1).bit_length()


def source(*, cpus: int, pids: int, whole_host: bool, found: Mapping[str, int], edges: int = EDGES) -> str:
    """Return the C source of all programs for one machine. Offsets it lacks are 0; programs that need them stay off."""
    arg0, arg3, number = _REGISTERS.get(platform.machine(), (0, 0, 0))
    constants = {
        "CPUS": cpus,
        "PIDS": pids,
        "THREADS": THREADS,
        "EDGES": edges,
        "UNDRAWN": _UNDRAWN,
        "WINDOW": _WINDOW,
        "BUCKETS": BUCKETS,
        "MAX_CPUS": layouts.MAX_CPUS,
        "REGS_ARG0": arg0,
        "REGS_ARG3": arg3,
        "REGS_SYSCALL": number,
        **{name: found.get(name, 0) for name in _OFFSETS},
    }
    head = [f"#define {name} {value}" for name, value in constants.items()]
    head += ["#define WHOLE_HOST"] if whole_host else []
    head += [f"struct members {{ u8 of[{pids}]; }};", *(layout.c for layout in layouts.ALL)]
    return "\n".join([*head, *((_HERE / name).read_text() for name in _SOURCES)])


class Meter:
    """Differences of one structure of counters, summed over CPUs. Fields must all be u64."""

    def __init__(self, counters: BpfMap, layout: Layout) -> None:
        self._layout = layout
        per_cpu = counters.view(layout.dtype)
        self._words = per_cpu.view(np.uint64).reshape(len(per_cpu), -1)
        self._last = self._words.copy()

    def delta(self) -> Mapping[str, NDArray[np.int64]]:
        """Return what was counted since the last call by field, shape of the field."""
        return self._split(self._step().sum(axis=0, dtype=np.uint64))

    def delta_by_cpu(self) -> Mapping[str, NDArray[np.int64]]:
        """Return the same with a leading axis of CPUs."""
        return self._split(self._step())

    def _step(self) -> NDArray[np.uint64]:
        now = self._words.copy()
        step = now - self._last
        self._last = now
        return step

    def _split(self, words: NDArray[np.uint64]) -> Mapping[str, NDArray[np.int64]]:
        view = np.ascontiguousarray(words).view(self._layout.dtype)
        leading = words.shape[:-1]
        fields = self._layout.fields.items()
        return {name: np.reshape(view[name].astype(np.int64), (*leading, *shape)) for name, (_, shape) in fields}


@dataclass(frozen=True, slots=True)
class Compiled:
    """All programs for one machine, not yet loaded."""

    object: BpfObject
    offsets: Mapping[str, int]


def compile_programs(host: Host, *, whole_host: bool = False, cache: bool = True, edges: int = EDGES) -> Compiled:
    """Compile, or take from the cache, what this machine needs; BpfError says why it cannot be done."""
    _refuse_foreign_pids(host)
    _try_a_map(host)
    directory = None
    if cache:
        with suppress(OSError):
            directory = cache_dir()
    compiler = Compiler(host, cache=directory)
    found = compiler.remember(f"offsets {_OFFSETS}", lambda: offsets(_btf(host), _OFFSETS))
    text = source(cpus=possible_cpus(host), pids=pid_limit(host), whole_host=whole_host, found=found, edges=edges)
    return Compiled(compiler.compile(text, [program.name for program in PROGRAMS]), found)


class Programs:
    """Loaded programs and their maps. Probes share attachments: ``attach`` of one that is attached does nothing."""

    def __init__(self, host: Host, loaded: LoadedObject, found: Mapping[str, int]) -> None:
        self._host = host
        self._loaded = loaded
        self._offsets = found
        self._statistics: int | None = None
        self._run_time: dict[str, tuple[int, int]] = {}
        self.members: NDArray[np.uint8] = loaded.maps["members"].bytes_view()
        self.threads: NDArray[np.void] = loaded.maps["threads"].view(layouts.THREAD.dtype)

    @classmethod
    def build(
        cls,
        host: Host,
        topology: Topology,
        table: SyscallTable,
        *,
        whole_host: bool = False,
        cache: bool = True,
        edges: int = EDGES,
    ) -> Programs:
        """Compile and load; see ``compile_programs`` and ``load``."""
        compiled = compile_programs(host, whole_host=whole_host, cache=cache, edges=edges)
        return cls.load(host, compiled, topology, table)

    @classmethod
    def load(cls, host: Host, compiled: Compiled, topology: Topology, table: SyscallTable) -> Programs:
        """Make the maps and fill the tables; programs follow as probes ask. BpfError says why it cannot be done."""
        loaded = LoadedObject(host, compiled.object)
        try:
            programs = cls(host, loaded, compiled.offsets)
            programs._fill_tables(topology, table)
        except BaseException:
            loaded.close()
            raise
        return programs

    def _fill_tables(self, topology: Topology, table: SyscallTable) -> None:
        value = np.zeros(1, dtype=layouts.TABLES.dtype)
        value["class_of"][0] = table.class_of
        value["op_of"][0] = table.op_of
        value["sample_every"][0] = SAMPLE_AT_FIRST
        for name, of_cpu in (("llc_of", topology.llc_of_cpu()), ("node_of", topology.node_of_cpu())):
            length = min(len(of_cpu), layouts.MAX_CPUS)
            value[name][0, :length] = np.maximum(of_cpu[:length], 0)
        self._tables = self._loaded.maps["tables"].view(layouts.TABLES.dtype)
        self._tables[:] = value

    def attach(self, *names: str) -> None:
        """Load and attach programs; ProbeUnavailableError with the kernel's reason."""
        for name in names:
            if name in self._loaded.programs:
                continue
            wanted = _BY_NAME[name]
            if missing := [need for need in wanted.needs if need not in self._offsets]:
                raise ProbeUnavailableError(f"this kernel's structures lack {', '.join(missing).lower()}")
            try:
                program = self._loaded.load(name, "raw_tracepoint")
                self._attach_first(program, wanted.tracepoints)
                self._tables["sees_switches"][0] |= name == "on_switch"
            except BpfError as error:
                if failed := self._loaded.programs.pop(name, None):
                    failed.close()
                raise ProbeUnavailableError(str(error), remedy=error.remedy) from error

    def _attach_first(self, program: BpfProgram, tracepoints: Sequence[str]) -> None:
        problems: list[BpfError] = []
        for tracepoint in tracepoints:
            try:
                program.attach_raw_tracepoint(tracepoint)
            except BpfError as error:
                problems.append(error)
            else:
                return
        raise problems[0]

    def meter(self, layout: Layout) -> Meter:
        """Return a meter of one structure of counters, starting now."""
        return Meter(self._loaded.maps[layout.name], layout)

    def adapt_sampling(self, calls_per_s: float) -> int:
        """Sample fewer of many system calls and all of few; return what was in force until now."""
        before = int(self._tables["sample_every"][0])
        every = min(max(round(calls_per_s / SAMPLED_PER_S), 1), SAMPLE_AT_LEAST)
        self._tables["sample_every"][0] = every
        if every < before:
            # Gaps drawn when fewer were sampled would outlast the interval.
            gaps = self.threads["gap"]
            drawn = np.flatnonzero((gaps > 2 * _WINDOW * (every - 1)) & (gaps != _UNDRAWN))
            gaps[drawn] = 2 * _WINDOW * (every - 1)
        return before

    def drain_edges(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Take the wake-up edges of the interval: (keys, values), of dtypes EDGE_KEY and EDGE, same length."""
        keys, values = self._loaded.maps["edges"].drain()
        return (
            np.ascontiguousarray(keys).view(layouts.EDGE_KEY.dtype).reshape(-1),
            np.ascontiguousarray(values).view(layouts.EDGE.dtype).reshape(-1),
        )

    def mark(self, tids: Iterable[int]) -> None:
        """Make threads members."""
        wanted = np.fromiter(tids, dtype=np.int64)
        self.members[wanted[wanted < len(self.members)]] = MEMBER

    def unmark(self, tids: Iterable[int]) -> None:
        """Take threads out. Those that the programs have seen leave when their slice ends, so that it is counted."""
        unwanted = np.fromiter(tids, dtype=np.int64)
        unwanted = unwanted[unwanted < len(self.members)]
        seen = np.isin(unwanted, self.threads["tid"])
        if not self._tables["sees_switches"][0]:
            seen[:] = False
        self.members[unwanted[seen]] = LEAVING
        self.members[unwanted[~seen]] = OUTSIDE

    def member_tids(self) -> NDArray[np.int64]:
        """Return all threads that the kernel follows now."""
        return np.flatnonzero(self.members == MEMBER)

    def seed_blocked(self, tid: int, tgid: int, number: int, blocked_class: int) -> None:
        """Tell the programs of a thread that is blocked already, so that its time counts from now."""
        for place in range(4):
            entry = self.threads[(tid + place * 4099) % THREADS]
            if entry["tid"] == 0:
                entry["off_ts"] = self._host.monotonic_ns()
                entry["tgid"] = tgid
                entry["nr"] = number + 1
                entry["blocked_class"] = blocked_class
                entry["ran_ns"] = _UNKNOWN
                entry["gap"] = _UNDRAWN
                entry["seed"] = tid * 2654435761 % (1 << 32)
                entry["tid"] = tid
                return

    def kick(self, perf_fds: Sequence[int]) -> None:
        """Attach the tick program to timers that the caller opened, one a CPU; closing them ends it."""
        import fcntl

        if "on_tick" not in self._loaded.programs:
            self._loaded.load("on_tick", "perf_event")
        for descriptor in perf_fds:
            fcntl.ioctl(descriptor, _PERF_IOC_SET_BPF, self._loaded.programs["on_tick"].fd)

    def count_run_time(self, on: bool) -> None:
        """Switch the kernel's accounting of BPF run time on or off; it costs some 20 ns a run, so only for a while."""
        if on and self._statistics is None:
            with suppress(HalError):
                self._statistics = enable_statistics(self._host)
        elif not on and self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None

    def run_time_s(self) -> dict[str, tuple[float, int]]:
        """Return (seconds, runs) by program while accounting was on."""
        return {
            name: (nanoseconds * 1e-9, runs)
            for name, program in self._loaded.programs.items()
            for nanoseconds, runs in [program.run_time()]
        }

    def close(self) -> None:
        """Detach and drop everything. Meters keep their counters' memory until they are dropped themselves."""
        self.count_run_time(on=False)
        self.members, self.threads, self._tables = (
            self.members[:0].copy(),
            self.threads[:0].copy(),
            self._tables[:0].copy(),
        )
        self._loaded.close()


_PERF_IOC_SET_BPF = 0x40042408
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"


def _refuse_foreign_pids(host: Host) -> None:
    """BPF helpers speak of process ids of the initial namespace; inside another one they would name other processes."""
    try:
        namespace = host.read_link("/proc/self/ns/pid")
    except HalError:
        return
    if namespace != _INITIAL_PID_NAMESPACE:
        raise BpfError(
            "this is a PID namespace of its own, whose process ids differ from those that BPF reports",
            remedy="run on the host, or start the container with --pid=host",
        )


def _try_a_map(host: Host) -> None:
    """Find out before compiling whether the kernel lets this user use BPF at all."""
    BpfMap(host, MapSpec("dna_try", MAP_ARRAY, 4, 8, 1, 0)).close()


def _btf(host: Host) -> bytes:
    try:
        return host.read_bytes(VMLINUX)
    except HalError as error:
        raise BpfError(
            "the kernel has no BTF, so the layout of its structures is not known",
            remedy="use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions are)",
        ) from error
