"""Faults, residency and NUMA placement of the target's memory, through /proc and ``move_pages`` alone.

Three budgets keep it bounded for any number of processes: the small files of at most 150 processes per second are read, in
turn where there are more; walks over page tables (``smaps``) take at most 0.3 % of the time on average, the processes with
most resident memory and the oldest walk first; and about a thousand pages a read are asked for their node. Costs are
estimated rather than timed, so that what is measured does not depend on how busy the machine is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from dna.access_patterns import PageCounts, working_set
from dna.errors import ProbeUnavailableError
from dna.faults import FaultLedger, ProcessFaults, parse_stat
from dna.placement import count_nodes, sample_nodes
from dna.probes.base import ProbeContext, Reading
from dna.residency import PageWalk, Residency, parse_smaps, parse_status
from dna.sample import Counts, InstructionReading, MemoryReading
from hal.errors import HalError, HostError, NotPermittedError
from hal.host import Host
from hal.topology import Topology

SAMPLED_PAGES = 1024
"""Pages whose node is asked for in one read."""

_MOST_PROCESSES_ASKED = 16
_PROCESSES_PER_S = 150
_WALK_SHARE = 0.003
_FIRST_CREDIT_S = 0.05
_SAVED_READS = 12
_REWALK_AFTER = 6
_WALK_S, _WALK_S_PER_RESIDENT_BYTE, _WALK_S_PER_TEXT_BYTE = 1e-4, 30e-9 / 4096, 30e-9
_LONGEST_WALK_S = 1.0
_HUGE_COVERED = 0.25
_HUGE_PAGE = 2 << 20
_NEVER = -1_000_000


@dataclass(slots=True)
class _Known:
    """What is remembered of a process between reads."""

    start: int
    read: int = _NEVER
    residency: Residency = field(default_factory=Residency)
    switched_off: bool = False
    """It has huge pages switched off for itself: prctl(PR_SET_THP_DISABLE)."""
    walked: int = _NEVER
    walk: PageWalk | None = None

    @property
    def too_small(self) -> bool:
        return self.residency.anonymous + self.residency.shared < _HUGE_PAGE


class MemoryProbe:
    """Fills ``Sample.memory`` but for the strides of faults; ``with_accesses`` adds what sampled accesses say."""

    name = "memory"
    field = "memory"

    def __init__(self, *, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._known: dict[int, _Known] = {}
        self._ledger = FaultLedger()
        self._reads = 0
        self._credit_s = _FIRST_CREDIT_S
        self._refused = ""

    def start(self, context: ProbeContext) -> None:
        self._context = context
        self._host: Host = context.host
        self._nodes = tuple(node.os_index for node in context.topology.nodes)
        if self._visit(None) is None:
            raise ProbeUnavailableError(
                "nothing of the target can be read under /proc", remedy="Run as the target's user or as root."
            )

    def read(self, interval_s: float) -> Reading[MemoryReading]:
        self._reads += 1
        faults = self._visit(max(round(_PROCESSES_PER_S * interval_s), 1))
        self._credit_s = min(self._credit_s + _WALK_SHARE * interval_s, _SAVED_READS * _WALK_SHARE * interval_s)
        self._walk()
        fresh = [known for known in self._known.values() if known.read == self._reads]
        total = sum((known.residency for known in self._known.values()), Residency())
        huge, huge_reason = self._huge(total)
        eligible = self._eligible(total) if huge is not None else (None, None)
        pages, pages_reason = self._placement()
        value = MemoryReading(
            minor_faults=faults[0] if faults else None,
            major_faults=faults[1] if faults else None,
            fault_sequential=None,
            fault_near=None,
            fault_random=None,
            resident=total.resident if self._known else None,
            anonymous=total.anonymous if self._known else None,
            file=total.file if self._known else None,
            shared=total.shared if self._known else None,
            swap=total.swap if self._known else None,
            hugepages=huge,
            working_set=None,
            pages_by_node=pages,
            accesses_by_node=None,
            node_ids=self._nodes,
            eligible=eligible[0],
            eligible_present=eligible[1],
        )
        missing = (("hugepages", huge_reason), ("placement", pages_reason))
        members = len(self._context.members.pids())
        return Reading(
            value,
            coverage=min(len(fresh) / members, 1.0) if members else 1.0,
            missing=tuple((part, reason) for part, reason in missing if reason),
        )

    def _visit(self, most: int | None) -> tuple[int, int] | None:
        """Read each process's small files, longest unread and then largest first; return its faults, None if unreadable."""
        alive = self._context.members.pids()
        for pid in self._known.keys() - alive:
            del self._known[pid]
        uptime_s = self._uptime()
        seen: dict[int, ProcessFaults] = {}
        for pid in sorted(alive, key=self._urgency)[:most]:
            faults = self._visit_one(pid)
            if faults is not None:
                seen[pid] = faults
        if not seen:
            return None
        return self._ledger.update(seen, alive, uptime_s)

    def _urgency(self, pid: int) -> tuple[int, int]:
        known = self._known.get(pid)
        return (_NEVER, 0) if known is None else (known.read, -known.residency.resident)

    def _visit_one(self, pid: int) -> ProcessFaults | None:
        try:
            faults = parse_stat(self._host.read_text(f"/proc/{pid}/stat"))
            status = self._host.read_text(f"/proc/{pid}/status")
        except (HalError, ValueError):  # it ended, or belongs to somebody else under hidepid
            return None
        known = self._known.get(pid)
        if known is None or known.start != faults.start:
            known = self._known[pid] = _Known(faults.start)
        known.read, known.residency = self._reads, parse_status(status)
        known.switched_off = "\nTHP_enabled:\t0" in status
        return faults

    def _uptime(self) -> float:
        return float(self._host.read_text("/proc/uptime").split()[0])

    def _walk(self) -> None:
        """Walk page tables while there is time for it; each walk is paid for by waiting."""
        due = [
            (pid, known)
            for pid, known in self._known.items()
            if self._reads - known.walked >= _REWALK_AFTER and known.residency.resident
        ]
        due.sort(key=lambda item: item[1].residency.resident * (self._reads - item[1].walked), reverse=True)
        for pid, known in due:
            if self._credit_s <= 0:
                break
            pages_s = known.residency.resident * _WALK_S_PER_RESIDENT_BYTE
            if pages_s > _LONGEST_WALK_S:
                self._refused = "a process is too large for a walk over its page tables"
                continue
            known.walked = self._reads
            self._credit_s -= _WALK_S + pages_s + self._walk_one(pid, known) * _WALK_S_PER_TEXT_BYTE

    def _walk_one(self, pid: int, known: _Known) -> int:
        """Walk the page tables of one process; return how many bytes of text that took."""
        try:
            text = self._host.read_text(f"/proc/{pid}/smaps")
        except NotPermittedError as error:
            self._refused = str(error)
            return 0
        except HostError:
            known.walk = None
            return 0
        known.walk = parse_smaps(text)
        return len(text)

    def _huge(self, total: Residency) -> tuple[int | None, str]:
        """Return bytes in huge pages, scaled up from the processes known to those not walked over yet.

        Private and shared memory smaller than one huge page has none, so such processes need no walk.
        """
        if not total.resident:
            return None, ""
        settled = [known for known in self._known.values() if known.walk is not None or known.too_small]
        covered = sum(known.residency.resident for known in settled)
        if covered < _HUGE_COVERED * total.resident:
            share = covered / total.resident
            return None, self._refused or f"page tables walked so far hold {share:.0%} of the resident memory"
        transparent = sum(known.walk.huge for known in settled if known.walk is not None)
        return round(transparent * total.resident / covered) + total.hugetlb, ""

    def _eligible(self, total: Residency) -> tuple[int | None, int | None]:
        """Return the bytes that may become huge pages, and those of them that are resident, scaled up as in ``_huge``."""
        settled = [known for known in self._known.values() if known.walk is not None or known.too_small]
        covered = sum(known.residency.resident for known in settled)
        walks = [known.walk for known in settled if known.walk is not None and not known.switched_off]
        parts = [(walk.eligible, walk.present) for walk in walks]
        if any(eligible is None for eligible, _ in parts) or not covered:
            return None, None
        eligible, present = (sum(part[which] or 0 for part in parts) for which in (0, 1))
        return round(eligible * total.resident / covered), round(present * total.resident / covered)

    def _placement(self) -> tuple[Counts | None, str]:
        """Return the nodes of sampled pages of up to 16 processes, drawn in proportion to their resident memory."""
        walked = [(pid, known) for pid, known in self._known.items() if known.walk is not None and known.walk.mappings]
        if not walked:
            return None, self._refused
        weight = np.array([known.residency.resident for _, known in walked], dtype=np.float64) + 1.0
        shares = self._random.multinomial(_MOST_PROCESSES_ASKED, weight / weight.sum())
        counts = np.zeros(len(self._nodes), dtype=np.int64)
        reason = ""
        for (pid, known), share in zip(walked, shares, strict=True):
            if not share or known.walk is None:
                continue
            wanted = int(share) * SAMPLED_PAGES // _MOST_PROCESSES_ASKED
            try:
                nodes = sample_nodes(self._host, pid, known.walk.mappings, wanted, self._random)
            except HalError as error:
                reason = str(error)
                continue
            counts += count_nodes(nodes, self._nodes)
        return (counts, "") if counts.any() else (None, reason)

    def stop(self) -> None:
        self._known.clear()


def with_accesses(
    memory: MemoryReading,
    instructions: InstructionReading,
    *,
    host: Host,
    topology: Topology,
    random: np.random.Generator | None = None,
) -> MemoryReading:
    """Return the reading with the working set, and the nodes of the pages that sampled instructions accessed.

    Args:
        memory: what MemoryProbe read.
        instructions: what InstructionProbe read over the same interval.
        host: asked for the node of at most SAMPLED_PAGES pages.
        topology: names the nodes.
        random: chooses the pages where there are more; seeded with 0 if not given.
    """
    counts = PageCounts(
        instructions.data_accesses,
        instructions.data_pages,
        instructions.data_pages_once,
        instructions.data_pages_twice,
    )
    nodes = tuple(node.os_index for node in topology.nodes)
    return replace(
        memory,
        working_set=working_set(counts, memory.resident),
        accesses_by_node=_access_nodes(instructions, host, nodes, random or np.random.default_rng(0)),
    )


def _access_nodes(
    instructions: InstructionReading, host: Host, nodes: tuple[int, ...], random: np.random.Generator
) -> Counts | None:
    addresses, pids = instructions.data_addresses, instructions.data_pids
    if addresses is None or pids is None or not len(addresses):
        return None
    if len(addresses) > SAMPLED_PAGES:
        chosen = random.choice(len(addresses), SAMPLED_PAGES, replace=False)
        addresses, pids = addresses[chosen], pids[chosen]
    counts = np.zeros(len(nodes), dtype=np.int64)
    for pid in np.unique(pids):
        try:
            counts += count_nodes(host.page_nodes(int(pid), addresses[pids == pid]), nodes)
        except HalError:  # it ended
            continue
    return counts if counts.any() else None
