"""What the history tells of a profile without reading it whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dna.export import dna_to_json
from dna.vector import Dna, Features

SYSTEM = "/var/lib/workload-dna/history.db"
"""Where root's history is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored profile without its intervals."""

    id: str
    name: str
    target: Mapping[str, object]
    machine: Mapping[str, object]
    tool: str
    started: float
    ended: float
    interval_s: float
    intervals: int
    dna: Dna | None
    """Mean vector and median novelty."""
    features: Features
    """Median of each over the intervals."""

    @property
    def duration_s(self) -> float:
        """From the start to the end of the last interval."""
        return max(self.ended - self.started, 0.0)

    def to_json(self) -> dict[str, object]:
        """Return the document of ``dna list --json``."""
        return {
            "id": self.id,
            "name": self.name,
            "target": self.target,
            "machine": self.machine,
            "tool": self.tool,
            "started": self.started,
            "duration_s": self.duration_s,
            "interval_s": self.interval_s,
            "intervals": self.intervals,
            "dna": dna_to_json(self.dna),
            "features": self.features,
        }
