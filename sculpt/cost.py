"""What a run costs by itself, over all its workloads, and how it is kept within a limit.

Counted is the CPU time of this process and of its children (commands that metrics run; not a command that is served), and the run time of its BPF
programs on all CPUs. Past the limit intervals become longer, which makes everything cheaper but BPF programs; where these alone cost too much,
a workload that is judged by metrics goes on without them. Both were measured to be what counts: of an interval's 15 ms nine tenths are spent
once an interval, however long it is, and BPF programs cost what the workload's system calls and switches make them.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

OWN_LIMIT = 0.01
"""Share of one core that a run may cost, unless said otherwise."""
LONGEST_STRETCH = 12.0
"""Times the interval that was asked for."""
AIM = 0.85
"""Share of the limit that is aimed at when it was exceeded."""
EASY = 0.6
"""Below this share of the limit intervals become shorter again, ..."""
EASING = 0.85
"""... to this part, one window after the other."""
WINDOW_S, WINDOW_INTERVALS = 20.0, 4
"""Cost is judged over so long at least: a single step may ask the rules, and the next not."""
_NEW = 0.3
"""Weight of the latest interval in what BPF programs are taken to cost: each tells of a tenth of a second only."""


def spent_s() -> float:
    """Return the CPU time of this process, its threads and the children that have ended, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run costs, and what follows for the workload that has just made a step."""

    share: float
    """Of one core, over the latest window, or as far as it is known."""
    interval_s: float
    """How long the next interval is to be."""
    lighten: bool = False
    """Go on without BPF programs."""
    told: str = ""
    """What has changed, and why; "" where nothing has."""


@dataclass(slots=True)
class OwnCost:
    """The cost of a run. For one step at a time.

    Args:
        limit: share of one core.
        interval_s: as it was asked for.
        spent: CPU time so far, in seconds.
    """

    limit: float
    interval_s: float
    spent: Callable[[], float] = spent_s
    clock: Callable[[], float] = time.monotonic
    stretch: float = 1.0
    _foreign_s: dict[str, float] = field(default_factory=dict)
    _bpf: dict[str, float] = field(default_factory=dict)
    _samples: deque[tuple[float, float]] = field(default_factory=deque)
    _dispensable: set[str] = field(default_factory=set)
    _due: set[str] = field(default_factory=set)
    """Those that are to go on without BPF programs from their next step on."""
    _is_told: bool = False
    _shown: float | None = None
    """Of this process and its children, over so much of the latest window that it says something."""

    def take(self, workload: str, bpf_s: float | None, elapsed_s: float, *, dispensable: bool) -> Verdict:
        """Take in a step of a workload.

        Args:
            bpf_s: run time of its BPF programs in the interval; None where it has none, or that is unknown.
            dispensable: it can be judged without them.
        """
        (self._dispensable.add if dispensable else self._dispensable.discard)(workload)
        verdict = self._taken(workload, bpf_s, elapsed_s)
        if workload in self._due:
            self._due.discard(workload)
            verdict = replace(verdict, lighten=True)
        return verdict

    def _taken(self, workload: str, bpf_s: float | None, elapsed_s: float) -> Verdict:
        now = self.clock()
        share = (bpf_s or 0.0) / elapsed_s if elapsed_s > 0 else 0.0
        known = self._bpf.get(workload)
        self._bpf[workload] = share if known is None or bpf_s is None else known + _NEW * (share - known)
        self._samples.append((now, self.spent() - sum(self._foreign_s.values())))
        window_s = max(WINDOW_S, WINDOW_INTERVALS * self.interval_s * self.stretch)
        while len(self._samples) > 2 and self._samples[1][0] <= now - window_s:
            self._samples.popleft()
        span_s = now - self._samples[0][0]
        if span_s >= window_s / 4 or self._shown is None:
            self._shown = self._own()
        total = self._shown + sum(self._bpf.values())
        return Verdict(total, self._paced()) if span_s < window_s else self._judged(self._shown, total)

    def left(self, workload: str) -> None:
        """A workload is served no longer."""
        self._bpf.pop(workload, None)
        self._due.discard(workload)
        self._dispensable.discard(workload)

    def foreign(self, workload: str, seconds: float) -> None:
        """So much of the children's time was that of a command that was started to be served."""
        self._foreign_s[workload] = seconds

    def _own(self) -> float:
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def _paced(self) -> float:
        return self.interval_s * self.stretch

    def _judged(self, own: float, total: float) -> Verdict:
        """Say what follows from the cost of a whole window."""
        if total > self.limit:
            return self._lower(own, total)
        self._is_told = False
        if total < self.limit * EASY and self.stretch > 1:
            self.stretch = max(self.stretch * EASING, 1.0)
            self._samples.clear()
            words = f"own cost {total:.1%} of a core: intervals of {self._paced():.3g} s again"
            return Verdict(total, self._paced(), told=words)
        return Verdict(total, self._paced())

    def _lower(self, own: float, total: float) -> Verdict:
        heaviest = max(self._bpf, key=lambda name: self._bpf[name])
        lighten = heaviest in self._dispensable and sum(self._bpf.values()) > self.limit * AIM / 2
        words = []
        if lighten:
            words.append(
                f"BPF programs on {heaviest} alone cost {self._bpf[heaviest]:.1%}: it goes on without, and without what only they see"
            )
            self._bpf[heaviest] = 0.0
            self._due.add(heaviest)
        bpf = sum(self._bpf.values())
        room = max(self.limit * AIM - bpf, self.limit * 0.1)
        wanted = min(self.stretch * max(own / room, 1.0), LONGEST_STRETCH)
        if wanted >= self.stretch * 1.05:
            self.stretch = wanted
            words.append(f"intervals of {self._paced():.3g} s from now on")
        elif not lighten and not self._is_told:
            self._is_told = True
            words.append(
                f"of which BPF programs {bpf:.1%}; longer intervals help no more. Name metrics, or allow more with --own-limit"
            )
        self._samples.clear()
        told = self._exceeded(total, "; ".join(words)) if words else ""
        return Verdict(total, self._paced(), told=told)

    def _exceeded(self, total: float, words: str) -> str:
        return f"own cost {total:.1%} of a core, and {100 * self.limit:g} % is the limit: {words}"
