"""A workload's DNA as it would be without what the loop itself has put in force.

A setting that pays often moves the DNA too: what is pinned waits less, what has huge pages faults less. Taken for another phase, that
would undo every gain as soon as it is kept. So what moves with a configuration, in the first intervals that it is in force, is laid
to it and taken away from then on; what moves later, or without it, is the workload's own doing.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from rl.policy import BASELINE

type Vector = NDArray[np.float64]

OVER = 6
"""The mean of so many intervals with one thing in force is its DNA: one alone is noisy."""
MOST = 2.0
"""Distance beyond which it is not laid to a configuration: unlike programs are about 1 apart."""


class OwnEffect:
    """Tells what in a DNA is the loop's own doing, from how it differs between what it has in force in turn."""

    def __init__(self) -> None:
        self._recent: dict[str, deque[Vector]] = {}
        self._shifts: dict[str, _Shift] = {}
        self._usual: Vector | None = None
        self._offset: Vector | None = None
        """What is taken away whatever is in force."""
        self._change: _Shift | None = None
        """Of the way of measuring, as far as it is known yet."""

    def without(self, vector: Vector, in_force: str) -> Vector:
        """Take in the DNA of an interval, shape (d,), and what was in force in it; return what it would be with nothing in force.

        It is the mean over the latest intervals in which the same was in force.
        """
        if self._offset is not None:
            vector = vector - self._offset
        if self._change is not None and self._usual is not None:
            return self._compared(vector, in_force, self._change, self._usual)
        recent = self._recent.setdefault(in_force, deque(maxlen=OVER))
        recent.append(vector)
        seen: Vector = np.mean(np.stack(recent), axis=0)
        if in_force == BASELINE or self._usual is None:
            self._usual = seen
            return seen
        shift = self._shifts.setdefault(in_force, _Shift(np.zeros_like(vector)))
        if shift.count < OVER:
            shift.take(vector - self._usual)
            return seen - shift.mean
        self._usual = seen - shift.mean
        return self._usual

    def made(self, name: str) -> None:
        """What was in force by this name is part of the machine from now on, under whatever else is in force."""
        if (shift := self._shifts.pop(name, None)) is not None:
            self._take_away(shift.mean)
        self._recent.clear()

    def measured_otherwise(self) -> None:
        """From now on the DNA is of other measurements, as without BPF programs: what that does to it is taken away too."""
        self._recent.clear()
        self._change = _Shift(np.zeros_like(self._usual)) if self._usual is not None else None

    def forget(self) -> None:
        """The workload behaves otherwise by itself: what was laid to settings need not hold any longer."""
        self._recent.clear()
        self._shifts.clear()
        self._usual = self._offset = self._change = None

    def _compared(self, vector: Vector, in_force: str, change: _Shift, usual: Vector) -> Vector:
        """Take in an interval that shows what another way of measuring does; nothing else can be told from it."""
        known = self._shifts.get(in_force)
        change.take(vector - usual - (known.mean if known is not None else 0.0))
        if change.count == OVER:
            self._take_away(change.mean)
            self._change = None
        return usual

    def _take_away(self, shift: Vector) -> None:
        self._offset = shift if self._offset is None else self._offset + shift


class _Shift:
    """By how much one configuration moves the DNA: the mean over its first intervals, no further than what can be laid to it."""

    def __init__(self, nothing: Vector) -> None:
        self.count = 0
        self._sum = nothing

    @property
    def mean(self) -> Vector:
        """What is to be taken away."""
        mean: Vector = self._sum / max(self.count, 1)
        size = float(np.linalg.norm(mean))
        return mean if size <= MOST else mean * (MOST / size)

    def take(self, difference: Vector) -> None:
        """Take in one interval's difference."""
        self._sum = self._sum + difference
        self.count += 1
