"""Instruction mix and data accesses, from samples of the software clock; no performance monitoring unit is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dna.access_patterns import PAGE, PAGE_BITS, direction, page_counts
from dna.decode import CODE_BYTES, Decoder, effective_addresses
from dna.decode_engine import Access
from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.sample import INSTRUCTION_CLASSES, InstructionReading
from hal.errors import HalError, HostError, NotPermittedError, PerfError
from hal.host import Host
from hal.perf_sampling import CpuSampler, Samples, ThreadSampler

RATES_HZ = (19.0, 49.0, 97.0, 199.0, 397.0, 997.0)
"""Primes, so that the clock does not beat with timers of the workload."""

WANTED_PER_S = 400.0
"""Samples of the target per second that the rate is steered towards: enough for shares to about 2 % in 5 s."""

MOST_PER_S = 1000.0
"""Samples per second of anything, the rest of the machine included."""

START_HZ = 199.0

_DECODE_SHARE = 0.002
_SAVED_READS = 2
_SITE_US, _FETCH_US = 3.0, 20.0
_REREAD_AFTER = 12
_MOST_SITES = 32768
_HOT_LINES = 10
_LINE_BITS = 6
_LEAST_ADDRESS, _MOST_ADDRESS = PAGE, 1 << 56
_UNKNOWN = -1
_PERMISSION_REMEDY = (
    "Run as root, or give the tool CAP_PERFMON and CAP_SYS_PTRACE, or set kernel.perf_event_paranoid to 2 or less "
    "(and kernel.yama.ptrace_scope to 0) to sample your own processes."
)


def next_rate(rate_hz: float, *, kept_per_s: float, taken_per_s: float, most_hz: float) -> float:
    """Return the rate of RATES_HZ that would have come closest to WANTED_PER_S, within what the machine may cost.

    Args:
        rate_hz: the rate of the past interval.
        kept_per_s: samples of the target per second.
        taken_per_s: samples per second, of others included.
        most_hz: what the ring buffers have room for.
    """
    scale = min(WANTED_PER_S / max(kept_per_s, 1e-9), MOST_PER_S / max(taken_per_s, 1e-9))
    wanted = min(rate_hz * scale, most_hz)
    allowed = [rate for rate in RATES_HZ if rate <= wanted * 1.25]
    return allowed[-1] if allowed else RATES_HZ[0]


class CodeReader:
    """Bytes of code of other processes, a page at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pages: dict[tuple[int, int], bytes] = {}
        self.fetched = 0
        self.refused = ""
        """Why the last code that could not be read for lack of privilege was refused."""

    def read(self, pid: int, address: int) -> tuple[bytes, bytes]:
        """Return (up to CODE_BYTES bytes before an address, as many from it on); none where they cannot be read."""
        page = address & ~(PAGE - 1)
        key = (pid, page)
        if key not in self._pages:
            self._pages[key] = self._fetch(pid, page)
        code, offset = self._pages[key], address - page
        return code[max(offset - CODE_BYTES, 0) : offset], code[offset : offset + CODE_BYTES]

    def _fetch(self, pid: int, page: int) -> bytes:
        self.fetched += 1
        try:
            return self._host.read_memory(pid, page, PAGE + CODE_BYTES)
        except NotPermittedError as error:
            self.refused = str(error)
        except HostError:
            pass
        return b""

    def forget(self) -> None:
        """Drop what was read: code may change, processes end."""
        self._pages.clear()


@dataclass(slots=True)
class _Sites:
    """What is known about instruction pointers: (pid, ip) to (class, index of the access, number of the read)."""

    known: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    accesses: list[Access] = field(default_factory=list)
    index: dict[Access, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.known.clear()
        self.accesses.clear()
        self.index.clear()

    def access_index(self, access: Access | None) -> int:
        if access is None:
            return _UNKNOWN
        if access not in self.index:
            self.index[access] = len(self.accesses)
            self.accesses.append(access)
        return self.index[access]


class InstructionProbe:
    """Fills ``Sample.instructions``.

    Watches all CPUs where that is allowed and keeps the samples of the target's processes, else the target's threads one
    by one. Decodes a random part of the samples if all would take more than 0.2 % of the time, what earlier intervals
    left over included; ``coverage`` says which share that was (and, thread by thread, which share of the threads was watched).
    """

    name = "instructions"
    field = "instructions"

    def __init__(self, *, seed: int = 0, rate_hz: float = START_HZ, filter_program: int | None = None) -> None:
        self._rate_hz = rate_hz
        self._random = np.random.default_rng(seed)
        self._filter = filter_program
        self._sampler: CpuSampler | ThreadSampler | None = None
        self._sites = _Sites()
        self._reads = 0
        self._credit_us = math.inf  # cut to _SAVED_READS allowances at the first read

    def start(self, context: ProbeContext) -> None:
        self._context = context
        room = math.ceil(RATES_HZ[-1] * context.interval_s * 1.05)
        try:
            self._decoder = Decoder()
            self._sampler = self._open(context, room)
        except (NotPermittedError, PerfError) as error:
            raise ProbeUnavailableError(
                f"threads cannot be sampled: {error}", remedy=error.remedy or _PERMISSION_REMEDY
            ) from error
        except HalError as error:
            raise ProbeUnavailableError(f"threads cannot be sampled: {error}", remedy=error.remedy) from error
        self._code = CodeReader(context.host)

    def _open(self, context: ProbeContext, room: int) -> CpuSampler | ThreadSampler:
        cpus = [cpu.os_index for cpu in context.topology.cpus]
        try:
            return CpuSampler(context.host, cpus, rate_hz=self._rate_hz, samples=room, filter_program=self._filter)
        except (NotPermittedError, PerfError):
            sampler = ThreadSampler(context.host, rate_hz=self._rate_hz, samples=room)
            sampler.follow(context.members.tids())
            return sampler

    def read(self, interval_s: float) -> Reading[InstructionReading]:
        sampler = self._sampler
        if sampler is None:
            raise ProbeUnavailableError("threads are not being sampled")
        taken = sampler.take()
        samples, watched = self._keep(sampler, taken)
        sampler.set_rate(
            next_rate(
                sampler.rate_hz,
                kept_per_s=len(samples) / interval_s,
                taken_per_s=len(taken) / interval_s,
                most_hz=sampler.capacity() / interval_s,
            )
        )
        user = samples.where(self._random.permutation(np.flatnonzero(samples.user)))
        kinds, accesses = self._look_up(user, interval_s)
        value = self._reading(samples, user, kinds, accesses, kernel_seen=not sampler.exclude_kernel)
        decoded = len(kinds) / len(user) if len(user) else 1.0
        return Reading(value, lost=samples.lost, coverage=min(watched, decoded), missing=self._missing(value))

    def _keep(self, sampler: CpuSampler | ThreadSampler, taken: Samples) -> tuple[Samples, float]:
        """Return the target's samples, and the share of its threads that was watched."""
        members = self._context.members
        if isinstance(sampler, ThreadSampler):
            watched = sampler.watched
            try:
                sampler.follow(members.tids())
            except HalError:
                watched = 0.0  # the target may have ended
            return taken, watched
        if members.kind == "host":
            return taken, 1.0
        return taken.where(np.isin(taken.pid, np.fromiter(members.pids(), dtype=np.int32))), 1.0

    def _look_up(self, user: Samples, interval_s: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (class, index of the access) of as many samples, from the first on, as the time allows.

        The samples are in random order, so the first ones stand for all.
        """
        self._reads += 1
        if len(self._sites.known) > _MOST_SITES:
            self._sites.clear()
        self._code.forget()
        allowance = _DECODE_SHARE * interval_s * 1e6
        # One number for process and address; a collision would only mix up two samples.
        keys = user.ip ^ (user.pid.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        before = self._spent_us()
        self._credit_us = min(self._credit_us, _SAVED_READS * allowance) + allowance
        kinds = np.full(len(first), _UNKNOWN, dtype=np.int64)
        accesses = np.full(len(first), _UNKNOWN, dtype=np.int64)
        done = len(user)
        for number, unique in enumerate(np.argsort(first)):
            at = int(first[unique])
            if self._spent_us() - before + number * _SITE_US > self._credit_us:
                done = at
                break
            kinds[unique], accesses[unique] = self._site(int(user.pid[at]), int(user.ip[at]), int(user.bits[at]))
        self._credit_us -= self._spent_us() - before
        return kinds[inverse[:done]], accesses[inverse[:done]]

    def _spent_us(self) -> float:
        return self._decoder.work_us + self._code.fetched * _FETCH_US

    def _site(self, pid: int, ip: int, bits: int) -> tuple[int, int]:
        known = self._sites.known.get((pid, ip))
        if known is not None and self._reads - known[2] < _REREAD_AFTER:
            return known[0], known[1]
        before, code = self._code.read(pid, ip)
        site = self._decoder.site(code, bits, before=before)
        if site is None:
            return _UNKNOWN, _UNKNOWN
        kind, access = site.kind, self._sites.access_index(site.access)
        self._sites.known[(pid, ip)] = (kind, access, self._reads)
        return kind, access

    def _reading(
        self,
        samples: Samples,
        user: Samples,
        kinds: NDArray[np.int64],
        accesses: NDArray[np.int64],
        *,
        kernel_seen: bool,
    ) -> InstructionReading:
        chosen = np.flatnonzero(accesses >= 0)
        data = user.where(chosen)
        addresses = effective_addresses(self._sites.accesses, accesses[chosen], data.registers, data.ip)
        valid = (addresses >= _LEAST_ADDRESS) & (addresses < _MOST_ADDRESS)
        bases = np.array([access.base for access in self._sites.accesses], dtype=np.int64)[accesses[chosen][valid]]
        data, addresses = data.where(valid), addresses[valid]
        pages = page_counts(data.pid, addresses)
        return InstructionReading(
            user_samples=len(user),
            kernel_samples=len(samples) - len(user) if kernel_seen else None,
            by_class=np.bincount(kinds[kinds >= 0], minlength=len(INSTRUCTION_CLASSES)).astype(np.int64),
            undecoded=int((kinds < 0).sum()),
            hot_line_share=hot_line_share(user.ip),
            data_accesses=pages.accesses,
            data_pages=pages.distinct,
            data_pages_once=pages.once,
            data_pages_twice=pages.twice,
            direction=direction(data.tid, data.ip, data.time_ns, addresses, bases),
            data_addresses=addresses >> np.uint64(PAGE_BITS) << np.uint64(PAGE_BITS),
            data_pids=data.pid,
        )

    def _missing(self, value: InstructionReading) -> tuple[tuple[str, str], ...]:
        parts: list[tuple[str, str]] = []
        if value.kernel_samples is None:
            parts.append(("kernel", "the kernel lets this user sample user space only (kernel.perf_event_paranoid)"))
        if self._code.refused and not value.by_class.any():
            parts.append(("mix", self._code.refused))
        return tuple(parts)

    def stop(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        self._sites.clear()


def hot_line_share(ips: NDArray[np.uint64]) -> float | None:
    """Return the share of instruction pointers in their ten commonest 64-byte lines; None without any."""
    if not len(ips):
        return None
    _, counts = np.unique(ips >> np.uint64(_LINE_BITS), return_counts=True)
    return float(np.sort(counts)[-_HOT_LINES:].sum() / len(ips))
