"""System calls: mix, errors, where threads block, sampled latency."""

from __future__ import annotations

import numpy as np

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.bpf.programs import Meter, Programs
from dna.probes.bpf.threads import correction, snapshot
from dna.sample import SYSCALL_CLASSES, Counts, Seconds, SyscallReading
from dna.syscalls import UNTYPED, SyscallTable, table

_FILE, _NETWORK = SYSCALL_CLASSES.index("file"), SYSCALL_CLASSES.index("network")
_SOCKET = 1  # KIND_SOCKET of the BPF sources


def need_bpf(context: ProbeContext) -> Programs:
    """Return the programs, or say why there are none."""
    if context.bpf is None:
        raise ProbeUnavailableError(context.bpf_reason or "BPF is not used")
    return context.bpf


def by_class(counts: Counts, names: SyscallTable, socket_share: float) -> Counts:
    """Return calls by class, shape (8,), from calls by number, shape (512,).

    Calls that work on any descriptor (read, write, ...) move from "file" to "network" by the share of them that the
    sampling found to be on sockets.
    """
    classes = np.bincount(names.class_of, weights=counts, minlength=len(SYSCALL_CLASSES)).astype(np.int64)
    untyped = sum(int(counts[number]) for number, name in enumerate(names.names) if name in UNTYPED)
    moved = round(untyped * socket_share)
    classes[_FILE] -= moved
    classes[_NETWORK] += moved
    return classes


class SyscallProbe:
    """Counts every call in the kernel and samples windows of consecutive ones."""

    name = "syscalls"
    field = "syscalls"

    def start(self, context: ProbeContext) -> None:
        self._programs = need_bpf(context)
        self._host = context.host
        self._cpus = context.topology.cpu_slots
        self._table = table()
        self._missing: list[tuple[str, str]] = []
        self._programs.attach("on_syscall_enter")
        self._sampled = self._try("on_syscall_exit", "latency and errors")
        self._blocks = self._try("on_switch", "blocked time")
        self._calls = self._programs.meter(layouts.SYSCALLS)
        self._sched: Meter = self._programs.meter(layouts.SCHED)
        self._before = snapshot(self._programs, self._host)

    def _try(self, program: str, part: str) -> bool:
        try:
            self._programs.attach(program)
        except ProbeUnavailableError as error:
            self._missing.append((part, str(error)))
            return False
        return True

    def read(self, interval_s: float) -> Reading[SyscallReading]:
        step = self._calls.delta()
        calls = step["calls"]
        sampled = step["io_sampled"].sum(axis=0)
        socket_share = float(sampled[_SOCKET] / sampled.sum()) if sampled.sum() else 0.0
        every = self._programs.adapt_sampling(int(calls.sum()) / max(interval_s, 1e-9))
        reading = SyscallReading(
            by_name={self._table.names[number]: int(calls[number]) for number in np.flatnonzero(calls)},
            by_class=by_class(calls, self._table, socket_share),
            errors=int(step["errors"]) if self._sampled else None,
            blocked_s=self._blocked(),
            latency=step["latency"] if self._sampled else None,
            sample_every=every,
        )
        return Reading(reading, missing=tuple(self._missing))

    def _blocked(self) -> Seconds | None:
        if not self._blocks:
            return None
        after = snapshot(self._programs, self._host)
        ended = self._sched.delta()["blocked_ns"]
        under_way = correction(self._before, after, cpus=self._cpus).blocked_by_class
        self._before = after
        blocked: Seconds = np.maximum(ended + under_way, 0) * 1e-9
        return blocked

    def stop(self) -> None:
        """Detached with the programs."""
