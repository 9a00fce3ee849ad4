"""Measurements that cannot be true: a thousand times what is usual for one interval is a fault of the source, for ever it is how things are now."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

FACTOR = 100.0
"""Of the usual reward, up or down: no setting does that."""
LEAST = 6
"""Rewards that make a usual one."""
BELIEVED = 3
"""So many on end that are implausible alike are believed."""


@dataclass(slots=True)
class Plausible:
    """Holds rewards against those before."""

    _usual: deque[float] = field(default_factory=lambda: deque(maxlen=24))
    _strange: int = 0

    def refusal(self, reward: float) -> str:
        """Take in a reward above 0; return why it is not believed, "" where it is."""
        if len(self._usual) >= LEAST:
            times = math.exp(math.log(reward) - median(self._usual))
            if not 1 / FACTOR <= times <= FACTOR:
                self._strange += 1
                if self._strange < BELIEVED:
                    return f"{times:.3g} times what is usual: not believed"
                self._usual.clear()
        self._strange = 0
        self._usual.append(math.log(reward))
        return ""
