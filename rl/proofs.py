"""What was proven to gain, and in which context: in one that is near it counts again, without another trial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rl.policy import Arm, Context
from rl.watch import distance


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """An arm that was promoted."""

    context: Context
    parts: frozenset[str]
    gain: float
    """Over the baseline, difference of logarithms."""
    is_own: bool = True
    """It is of this run; what an earlier one has proven is held against the baseline again soon."""


class Proofs:
    """All proofs of one workload.

    Args:
        near: distance of contexts up to which one proof counts in another.
    """

    def __init__(self, near: float, known: Iterable[Proof] = ()) -> None:
        self._near = near
        self.known = list(known)

    def add(self, proof: Proof) -> None:
        """Take in a proof; it replaces those of the same parts nearby."""
        self.known = [one for one in self.known if one.parts != proof.parts or not self._is_near(one, proof.context)]
        self.known.append(proof)

    def drop(self, context: Context) -> None:
        """Forget what was proven near a context: what is proven there is found to hold no longer."""
        self.known = [one for one in self.known if not self._is_near(one, context)]

    def best(self, context: Context, arms: Sequence[Arm]) -> tuple[Arm, float] | None:
        """Return the arm of which most is proven near a context, and its gain; None where there is none."""
        gains = {one.parts: one.gain for one in self.known if self._is_near(one, context)}
        found = [(arm, gains[frozenset(arm.parts)]) for arm in arms if arm.parts and frozenset(arm.parts) in gains]
        return max(found, key=lambda pair: pair[1], default=None)

    def is_own(self, context: Context, arm: Arm) -> bool:
        """Tell whether what is proven of an arm near a context was proven, or confirmed, in this run."""
        return any(
            one.is_own and one.parts == frozenset(arm.parts) and self._is_near(one, context) for one in self.known
        )

    def _is_near(self, proof: Proof, context: Context) -> bool:
        return distance(proof.context, context) <= self._near
