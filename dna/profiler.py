"""The profiler: probes on a target, an interval at a time."""

from __future__ import annotations

import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from dna import machine as machine_facts
from dna.assemble import Readings, assemble
from dna.detail import detail_of, quality_of
from dna.errors import DnaError, ModelError, ProbeUnavailableError, TargetError
from dna.features import demand_of, features_of
from dna.follow import Follower
from dna.launch import Launched
from dna.members import resolve
from dna.overhead import Overhead
from dna.probes.base import Probe, ProbeContext, Reading
from dna.probes.bpf.programs import Compiled, Programs, compile_programs
from dna.sample import Sample
from dna.store import new_id
from dna.syscalls import table
from dna.target import Target
from dna.vector import Dna, Features, Interval, Profile
from hal import topology as topologies
from hal.errors import HalError
from hal.host import Host, LinuxHost
from hal.topology import Topology

SHORTEST_S, LONGEST_S = 0.2, 3600.0
_PARTIAL = 0.2
"""A last interval shorter than this part of a whole one is dropped, unless it is all there is."""

type Encode = Callable[[Features], Dna]
type Choices = Sequence[Sequence[Callable[[], Probe[Any]]]]


def standard_probes() -> Choices:
    """Return the probes of a profile: for each field of a sample those that can fill it, best first."""
    from dna.probes.counters import CountersProbe
    from dna.probes.faults import FaultProbe
    from dna.probes.graph import GraphProbe
    from dna.probes.instructions import InstructionProbe
    from dna.probes.io import IoProbe, ProcIoProbe
    from dna.probes.memory import MemoryProbe
    from dna.probes.net import NetProbe, ProcNetProbe, SampledNetProbe
    from dna.probes.pressure import PressureProbe
    from dna.probes.sched import ProcSchedProbe, SchedProbe
    from dna.probes.syscalls import SyscallProbe

    return (
        (SchedProbe, ProcSchedProbe),
        (SyscallProbe,),
        (GraphProbe,),
        (CountersProbe,),
        (InstructionProbe,),
        (IoProbe, ProcIoProbe),
        (NetProbe, SampledNetProbe, ProcNetProbe),
        (FaultProbe,),
        (MemoryProbe,),
        (PressureProbe,),
    )


def shipped_encoder() -> Encode | None:
    """Return the encoder that comes with the package, None when there is none."""
    from dna.encoder import Encoder

    try:
        return Encoder.load().encode
    except ModelError:
        return None


class Profiler:
    """Watches one target; a context manager that iterates over intervals.

    Attributes after entering: ``machine`` and ``target_info`` (plain values for reports), ``missing`` (probe to reason),
    ``ended`` (``"duration"``, ``"target"`` or ``"stopped"`` once iteration is over) and ``exit_status`` of a launched
    command. With ``keep`` only so many of the latest intervals are remembered. Raises TargetGoneError, PermissionNeededError or TargetError on entering.
    """

    def __init__(
        self,
        target: Target,
        *,
        interval: float = 5.0,
        duration: float | None = None,
        host: Host | None = None,
        topology: Topology | None = None,
        encoder: Encode | None = None,
        probes: Choices | None = None,
        use_bpf: bool = True,
        keep: int | None = None,
    ) -> None:
        if not SHORTEST_S <= interval <= LONGEST_S:
            raise TargetError(
                f"an interval of {interval:g} s", remedy=f"give one from {SHORTEST_S:g} to {LONGEST_S:g} s"
            )
        if duration is not None and not duration > 0:
            raise TargetError(f"a duration of {duration:g} s", remedy="give one above 0 s")
        self.target = target
        self.interval = interval
        self.duration = duration
        self.machine: Mapping[str, object] = {}
        self.target_info: Mapping[str, object] = {}
        self.missing: dict[str, str] = {}
        self.remedies: dict[str, str] = {}
        self.ended = ""
        self._host = host or LinuxHost()
        self._topology = topology
        self._encode = encoder
        self._choices = probes
        self._use_bpf = use_bpf
        self._exit = ExitStack()
        self._probes: list[Probe[Any]] = []
        self._intervals: deque[Interval] = deque(maxlen=keep)
        self._programs: Programs | None = None
        self._launched: Launched | None = None
        self._wake_read, self._wake_write = -1, -1
        self._started = 0.0
        self._last_read = 0

    # --- start

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def _start(self) -> None:
        host = self._host
        self._wake_read, self._wake_write = os.pipe()
        self._exit.callback(os.close, self._wake_read)
        self._exit.callback(os.close, self._wake_write)
        os.set_blocking(self._wake_write, False)
        if self.target.kind == "command":
            self._launched = Launched(self.target.argv)
            self._exit.callback(self._launched.close)
        self._members = resolve(host, self.target, started=self._launched.pid if self._launched else None)
        # The first start compiles in a process of its own for about a second; what else takes time is done meanwhile.
        # The thread begins after the command was forked: a fork copies only the thread that calls it.
        with ThreadPoolExecutor(1) as pool:
            compiling = (
                pool.submit(compile_programs, host, whole_host=self.target.kind == "host") if self._use_bpf else None
            )
            self._topology = self._topology or topologies.live(host, devices=False)
            self._encode = self._encode or shipped_encoder()
            self._choices = self._choices if self._choices is not None else standard_probes()
            self._overhead = Overhead(host)
            self._exit.callback(self._overhead.close)
            reason = self._load_programs(compiling)
        self._follower = Follower(host, self.target, self._members, self._programs)
        self._follow()
        self._start_probes(reason)
        # What happened while one probe after the other started belongs to no interval.
        self._read(self.interval, {})
        self._overhead.start(self._programs)
        self.machine = machine_facts.describe(host, self._topology)
        self.target_info = machine_facts.of_target(host, self.target, self._members.pids(), self._cgroup())
        self._started = time.time()
        if self._launched:
            self._launched.go()

    def _cgroup(self) -> str | None:
        return self._members.cgroup_dir("") or self._members.cgroup_dir("cpu")

    def _load_programs(self, compiling: Future[Compiled] | None) -> str:
        """Bring the BPF programs in; return why not, "" when they are."""
        if compiling is None:
            return "BPF was not asked for"
        assert self._topology is not None
        try:
            self._programs = Programs.load(self._host, compiling.result(), self._topology, table())
        except HalError as error:
            self._note("bpf", error)
            return str(error)
        self._exit.callback(self._programs.close)
        return ""

    def _follow(self) -> None:
        try:
            self._follower.start()
            self._follower.seed(table())
        except ProbeUnavailableError as error:
            self._note("follow", error)
            self._programs = None
            self._follower = Follower(self._host, self.target, self._members, None)

    def _note(self, name: str, error: DnaError | HalError) -> None:
        self.missing[name] = str(error)
        if error.remedy:
            self.remedies[name] = error.remedy

    def _start_probes(self, bpf_reason: str) -> None:
        assert self._topology is not None
        context = ProbeContext(
            host=self._host,
            members=self._members,
            topology=self._topology,
            bpf=self._programs,
            bpf_reason=bpf_reason,
            interval_s=self.interval,
        )
        for candidates in self._choices or ():
            self._start_first(context, [make() for make in candidates])
        self._follower.kick(self._topology)

    def _start_first(self, context: ProbeContext, candidates: Sequence[Probe[Any]]) -> None:
        """Start the first probe that can; what a lesser one lacks is noted as missing "in full"."""
        refusals: dict[str, DnaError | HalError] = {}
        for probe in candidates:
            self._exit.callback(probe.stop)
            try:
                probe.start(context)
            except (ProbeUnavailableError, HalError) as error:
                refusals[probe.name] = error
                probe.stop()
            else:
                self._probes.append(probe)
                break
        else:
            for name, refusal in refusals.items():
                self._note(name, refusal)
            return
        for name, refusal in refusals.items():
            self._note(f"{name} in full", refusal)

    # --- measure

    def __iter__(self) -> Iterator[Interval]:
        """Yield an interval when it is over; end with the duration, the target, or ``stop``."""
        due = begin = self._host.monotonic_ns()
        end = None if self.duration is None else begin + round(self.duration * 1e9)
        while not self.ended:
            step = round(self.interval * 1e9)
            due += step
            self._wait(due if end is None else min(due, end))
            self._follower.update()
            now = self._host.monotonic_ns()
            elapsed = (now - self._last_read) * 1e-9
            if not self.ended:
                self.ended = "" if self._alive() else "target"
            if not self.ended and end is not None and now >= end:
                self.ended = "duration"
            if self.ended and self._intervals and elapsed < _PARTIAL * self.interval:
                return
            due += max(now - due, 0) // step * step  # intervals slept through are not made up
            yield self._measure(elapsed)

    def _alive(self) -> bool:
        if self._launched is not None:
            self._launched.poll()
        return self._members.alive or self.target.kind == "host"

    def _wait(self, until_ns: int) -> None:
        """Sleep until a moment, the end of the target's first process, or ``stop``."""
        # Not select(2): counters of many threads take descriptors past its limit of 1024.
        watch = select.poll()
        watch.register(self._wake_read, select.POLLIN)
        with ExitStack() as stack:
            if (descriptor := self._pidfd()) is not None:
                stack.callback(os.close, descriptor)
                watch.register(descriptor, select.POLLIN)
            while (left := (until_ns - self._host.monotonic_ns()) * 1e-9) > 0:
                left = min(left, self._overhead.due_s())
                ready = [number for number, _ in watch.poll(math.ceil(left * 1000))]
                self._overhead.tick()
                if self._wake_read in ready:
                    self.ended = "stopped"
                    return
                if ready and descriptor is not None:
                    watch.unregister(descriptor)  # the first process ended; its children may go on
                    self._follower.update()
                    if not self._alive():
                        return

    def _pidfd(self) -> int | None:
        pid = self._launched.pid if self._launched else int(self.target.value) if self.target.kind == "pid" else None
        if pid is None:
            return None
        try:
            return os.pidfd_open(pid)
        except OSError:
            return None

    def _measure(self, elapsed: float) -> Interval:
        assert self._topology is not None
        missing = dict(self.missing)
        readings = self._with_accesses(self._read(elapsed, missing))
        sample = assemble(
            readings,
            t=time.time(),
            interval_s=elapsed,
            topology=self._topology,
            missing=missing,
            cost=self._overhead.take(elapsed),
        )
        interval = self._interval(sample)
        self._intervals.append(interval)
        return interval

    def _read(self, elapsed: float, missing: dict[str, str]) -> dict[str, tuple[str, Reading[Any]]]:
        """Read every probe, always in the same order and at once, so that all intervals are equally long for each."""
        readings: dict[str, tuple[str, Reading[Any]]] = {}
        self._last_read = self._host.monotonic_ns()
        for probe in self._probes:
            try:
                readings[probe.field] = (probe.name, probe.read(elapsed))
            except (HalError, DnaError) as error:
                missing[probe.name] = str(error)
        return readings

    def _with_accesses(self, readings: Readings) -> Readings:
        """Ask where the pages are that sampled instructions accessed; takes two readings and the machine."""
        from dna.probes.memory import with_accesses

        memory, instructions = readings.get("memory"), readings.get("instructions")
        if memory is None or instructions is None:
            return readings
        assert self._topology is not None
        name, reading = memory
        value = with_accesses(reading.value, instructions[1].value, host=self._host, topology=self._topology)
        return {**readings, "memory": (name, replace(reading, value=value))}

    def _interval(self, sample: Sample) -> Interval:
        features = features_of(sample)
        return Interval(
            t=sample.t,
            features=features,
            demand=demand_of(sample),
            quality=quality_of(sample.quality),
            dna=self._encode(features) if self._encode else None,
            detail=detail_of(sample),
        )

    def pace(self, interval: float) -> None:
        """Let intervals be so long from the next one on; for the thread that iterates."""
        self.interval = min(max(interval, SHORTEST_S), LONGEST_S)

    # --- end

    def stop(self) -> None:
        """End the interval under way and then the iteration; may be called from a signal handler or another thread."""
        if self._wake_write >= 0:
            with suppress(OSError):
                os.write(self._wake_write, b"s")

    @property
    def exit_status(self) -> int | None:
        """Exit status of a launched command as a shell gives it, None while it runs or when nothing was launched."""
        return self._launched.poll() if self._launched else None

    @property
    def launched(self) -> int | None:
        """Process id of a launched command, None when nothing was launched."""
        return self._launched.pid if self._launched else None

    @property
    def launched_cpu_s(self) -> float:
        """CPU time of a launched command that has ended; 0 before."""
        return self._launched.cpu_s if self._launched else 0.0

    @property
    def pids(self) -> frozenset[int]:
        """The target's processes, as they were at the last look."""
        return self._members.pids()

    def profile(self, name: str = "", *, tool: str = "") -> Profile:
        """Return what has been measured so far."""
        return Profile(
            id=new_id(self._started),
            name=name,
            machine=self.machine,
            target=self.target_info,
            started=self._started,
            interval_s=self.interval,
            intervals=tuple(self._intervals),
            tool=tool,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wake_write, closing = -1, self._exit  # its number may be another file's from now on
        closing.close()
        self._probes.clear()  # they keep counters' memory
