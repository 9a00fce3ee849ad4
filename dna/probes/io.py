"""File and block I/O: sizes, sequentiality, sync calls, block latency."""

from __future__ import annotations

from collections.abc import Iterable

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.syscalls import need_bpf
from dna.sample import IoReading
from dna.syscalls import READS, SYNC_CALLS, WRITES, table
from hal.errors import HalError
from hal.host import Host

_FILE = 0  # KIND_FILE of the BPF sources
_READ, _WRITE = 0, 1


class ProcIo:
    """/proc/PID/io of many processes by difference."""

    FIELDS = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes")
    MOST = 500

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: dict[int, dict[str, int]] = {}

    def step(self, pids: Iterable[int]) -> dict[str, int] | None:
        """Return the sums since the last call; None when no process may be read."""
        now = {pid: fields for pid in sorted(pids)[: self.MOST] if (fields := self._read(pid))}
        last, self._last = self._last, now
        if not now:
            return None
        return {
            name: sum(max(fields.get(name, 0) - last.get(pid, {}).get(name, 0), 0) for pid, fields in now.items())
            for name in self.FIELDS
        }

    def _read(self, pid: int) -> dict[str, int] | None:
        try:
            lines = self._host.read_text(f"/proc/{pid}/io").splitlines()
            return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
        except (HalError, ValueError):
            return None


class IoProbe:
    """Sampled system calls on regular files and block devices, scaled by the exact number of calls of their kind."""

    name = "io"
    field = "io"

    def start(self, context: ProbeContext) -> None:
        self._programs = need_bpf(context)
        self._members = context.members
        self._programs.attach("on_syscall_enter", "on_syscall_exit")
        self._missing: tuple[tuple[str, str], ...] = ()
        try:
            self._programs.attach("on_block_start", "on_block_done")
            self._blocks = True
        except ProbeUnavailableError as error:
            self._missing = (("block latency", str(error)),)
            self._blocks = False
        names = table().names
        self._reads = [number for number, name in enumerate(names) if name in READS]
        self._writes = [number for number, name in enumerate(names) if name in WRITES]
        self._syncs = [number for number, name in enumerate(names) if name in SYNC_CALLS]
        self._calls = self._programs.meter(layouts.SYSCALLS)
        self._block = self._programs.meter(layouts.BLOCK)
        self._proc = ProcIo(context.host)
        self._proc.step(self._members.pids())

    def read(self, interval_s: float) -> Reading[IoReading]:
        step, block = self._calls.delta(), self._block.delta()
        proc = self._proc.step(self._members.pids())
        calls = step["calls"]
        scales = []
        for direction, numbers in ((_READ, self._reads), (_WRITE, self._writes)):
            sampled = int(step["io_sampled"][direction].sum())
            made = int(calls[numbers].sum())
            scales.append(made / sampled if sampled else (0.0 if made == 0 else None))

        def scaled(field: str, direction: int) -> float | None:
            scale = scales[direction]
            return None if scale is None else float(step[field][direction, _FILE]) * scale

        reading = IoReading(
            read_bytes=scaled("io_bytes", _READ),
            write_bytes=scaled("io_bytes", _WRITE),
            read_calls=scaled("io_calls", _READ),
            write_calls=scaled("io_calls", _WRITE),
            read_sizes=step["io_sizes"][_READ, _FILE],
            write_sizes=step["io_sizes"][_WRITE, _FILE],
            sequential=int(step["sequential"]),
            positioned=int(step["positioned"]),
            sync_calls=int(calls[self._syncs].sum()),
            device_read_bytes=float(proc["read_bytes"]) if proc else None,
            device_write_bytes=float(proc["write_bytes"]) if proc else None,
            block_latency=block["latency"] if self._blocks else None,
            block_bytes=float(block["bytes"]) if self._blocks else None,
            exact_files=True,
        )
        return Reading(reading, missing=self._missing)

    def stop(self) -> None:
        """Detached with the programs."""


class ProcIoProbe:
    """From /proc/PID/io: sums over files, pipes and those sockets that are used with read and write."""

    name = "io (from /proc)"
    field = "io"

    def start(self, context: ProbeContext) -> None:
        self._members = context.members
        self._proc = ProcIo(context.host)
        if self._proc.step(self._members.pids()) is None:
            raise ProbeUnavailableError("/proc/PID/io of the target may not be read", remedy="run as root")

    def read(self, interval_s: float) -> Reading[IoReading]:
        step = self._proc.step(self._members.pids()) or {}

        def value(name: str) -> float | None:
            return float(step[name]) if name in step else None

        reading = IoReading(
            read_bytes=value("rchar"),
            write_bytes=value("wchar"),
            read_calls=value("syscr"),
            write_calls=value("syscw"),
            read_sizes=None,
            write_sizes=None,
            sequential=None,
            positioned=None,
            sync_calls=None,
            device_read_bytes=value("read_bytes"),
            device_write_bytes=value("write_bytes"),
            block_latency=None,
            block_bytes=None,
        )
        return Reading(reading)

    def stop(self) -> None:
        """Nothing is held."""
