"""From what the groups counted to one number an event: scaling, anchoring, and refusing what cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dna.probes.counting.plan import ANCHOR
from hal.perf import COVERAGE_FLOOR, Counts, scaled

PARTS: Mapping[str, str] = {
    "instructions:k": "instructions",
    "branches": "instructions",
    "branch-misses": "branches",
    "cache-misses": "cache-references",
    "stalled-cycles-frontend": "cycles",
    "stalled-cycles-backend": "cycles",
}
"""Events of which there cannot be more than of another."""

MOST_PER_CYCLE = 16.0
"""No core retires more instructions a cycle (the widest of 2025 retire 10 to 16)."""

_SLACK = 1.1
"""Up to this much over is the noise of sharing the PMU, and clamped; beyond it the event is not what its name says."""

_DEAD_NS = 1_000_000
_DEAD_CYCLES = 1_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Events of one interval; each wanted event is in ``events`` or in ``unavailable``."""

    events: dict[str, float] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    """Events whose value was clamped, with what was found."""

    def reject(self, name: str, reason: str) -> None:
        """Make an event unknown."""
        self.events.pop(name, None)
        self.coverage.pop(name, None)
        self.unavailable[name] = reason


def estimate(names: Sequence[Sequence[str]], counts: Sequence[Counts], *, floor: float = COVERAGE_FLOOR) -> Estimate:
    """Return the estimate of an interval.

    Args:
        names: events of each group, in the order of its values.
        counts: what each group counted in the interval, summed over threads or CPUs.
        floor: groups that counted for a smaller share of the time are rejected.

    An event is ``anchor_total * value / anchor`` where its group has the anchor too (instructions, which every group
    counts): the ratio holds within a group whenever it ran, and the total comes from the group that ran most. Where it
    has not, it is scaled by time. Ratio estimators vary less than scaling each by time when the two go together
    (Cochran, Sampling Techniques, chapter 6).
    """
    result = Estimate()
    total = _anchor_total(names, counts, floor)
    order = sorted(range(len(names)), key=lambda i: -counts[i].coverage)
    for i in order:
        _add_group(result, names[i], counts[i], total, floor)
    for name in result.events:
        result.unavailable.pop(name, None)
    _reject_dead(result, names, counts)
    _reject_impossible(result)
    _add_sums(result)
    return result


def _anchor_total(names: Sequence[Sequence[str]], counts: Sequence[Counts], floor: float) -> float | None:
    having = [(c.coverage, -i) for i, c in enumerate(counts) if ANCHOR in names[i]]
    if not having:
        return None
    best = -max(having)[1]
    values = scaled(counts[best], floor=floor)
    return None if values is None else values[list(names[best]).index(ANCHOR)]


def _add_group(result: Estimate, names: Sequence[str], counts: Counts, total: float | None, floor: float) -> None:
    values = scaled(counts, floor=floor)
    anchor = counts.values[list(names).index(ANCHOR)] if ANCHOR in names else 0
    for i, name in enumerate(names):
        if name in result.events:
            continue
        if values is None:
            result.unavailable[name] = f"it counted for {counts.coverage:.1%} of the time, less than {floor:.0%}"
            continue
        anchored = anchor > 0 and total is not None
        result.events[name] = counts.values[i] / anchor * total if anchored and total is not None else values[i]
        result.coverage[name] = counts.coverage


def _add_sums(result: Estimate) -> None:
    """Add all page faults: the kernel counts each that it serves as minor or major (mm/memory.c, mm_account_fault)."""
    minor, major = result.events.get("minor-faults"), result.events.get("major-faults")
    if "page-faults" not in result.events and minor is not None and major is not None:
        result.events["page-faults"] = minor + major
        result.coverage["page-faults"] = result.coverage["minor-faults"]


def _reject_dead(result: Estimate, names: Sequence[Sequence[str]], counts: Sequence[Counts]) -> None:
    """Make counters unknown that exist but never move (some hypervisors' and emulators')."""
    running = max((c.running for group, c in zip(names, counts, strict=True) if "cycles" in group), default=0)
    cycles = result.events.get("cycles")
    for name in ("cycles", "instructions"):
        if result.events.get(name) == 0 and running >= _DEAD_NS:
            result.reject(name, "the counter stands still")
    if cycles is not None and cycles >= _DEAD_CYCLES:
        for name in ("stalled-cycles-frontend", "stalled-cycles-backend"):
            if result.events.get(name) == 0:
                result.reject(name, "the counter stands still")


def _reject_impossible(result: Estimate) -> None:
    instructions, cycles = result.events.get("instructions"), result.events.get("cycles")
    if instructions is not None and cycles and instructions > cycles * MOST_PER_CYCLE:
        result.reject("cycles", f"impossible: {instructions / cycles:.3g} instructions a cycle")
    for part, whole in PARTS.items():
        value, limit = result.events.get(part), result.events.get(whole)
        if value is None or limit is None or value <= limit:
            continue
        found = f"{value / limit:.0%} of {whole}" if limit > 0 else f"{value:g} of no {whole}"
        if value > limit * _SLACK:
            result.reject(part, f"impossible: {found}")
        else:
            result.events[part] = limit
            result.flags[part] = f"clamped: {found}"
