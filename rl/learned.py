"""What was learned, as plain values that say where they are from: trials, proofs, and sentences of quarantine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from rl.policy import Arm

type Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Which machine, and what of it decides whether a lesson holds elsewhere."""

    identity: str
    """The same at every start of one installation; a digest, so that it may leave the machine."""
    hardware: str
    """Model of machine and processor; "" where that is not known."""
    kernel: str
    nodes: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was learned, or is to be used."""

    machine: MachineFacts
    model: str
    """Of the DNA: vectors of different models cannot be compared."""
    objective: str
    """What was judged by, such as "throughput": gains of different objectives cannot be compared."""
    workload: str
    """Its name, for people: what carries over is decided by the vector."""


@dataclass(frozen=True, slots=True)
class LearnedTrial:
    """One finished trial."""

    origin: Origin
    run: str
    """And which workload of it: "20261122-101500-4242/redis-server"."""
    at: float
    """Unix time."""
    cluster: str
    vector: Numbers
    """Of the context."""
    arm: Arm
    gain: float
    """Over the baseline, difference of logarithms."""
    weight: float
    """In trials of the usual deviation, see ``rl.policy``."""
    outcome: str
    """The decision's event, of ``rl.decision.EVENTS``."""
    interval: tuple[float, float] | None = None
    """Limits of the gain, where the trial told them."""
    offered: tuple[Arm, ...] = ()
    """What it was chosen among; the baseline first."""
    probability: float | None = None
    """With which it was chosen among them; None where that is not known."""
    share: float = 1.0
    """Of its weight, what is left since it was found to hold no longer."""
    imported: bool = False

    @property
    def key(self) -> str:
        """Return what tells it from all others; the same on every machine."""
        return _digest(_origin(self.origin), self.run, self.at, self.vector, self.arm.name, self.gain)


@dataclass(frozen=True, slots=True)
class LearnedProof:
    """A gain that was proven."""

    origin: Origin
    at: float
    cluster: str
    vector: Numbers
    parts: tuple[str, ...]
    gain: float
    imported: bool = False

    @property
    def key(self) -> str:
        """Return what tells it from all others."""
        return _digest(_origin(self.origin), self.at, self.vector, self.parts, self.gain)


@dataclass(frozen=True, slots=True)
class LearnedSentence:
    """An arm's time in quarantine."""

    origin: Origin
    at: float
    cluster: str
    vector: Numbers
    arm: str
    until: float
    """Unix time."""
    length_s: float
    imported: bool = False

    @property
    def key(self) -> str:
        """Return what tells it from all others."""
        return _digest(_origin(self.origin), self.at, self.vector, self.arm, self.until)


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial in progress: what is left of it where the machine goes down under it."""

    origin: Origin
    run: str
    at: float
    boot: str
    """Which start of the machine it is in."""
    pid: int
    cluster: str
    vector: Numbers
    arm: str


@dataclass(frozen=True, slots=True)
class Learned:
    """A selection of what was learned."""

    trials: tuple[LearnedTrial, ...] = ()
    """Oldest first."""
    proofs: tuple[LearnedProof, ...] = ()
    sentences: tuple[LearnedSentence, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.trials or self.proofs or self.sentences)


def _origin(origin: Origin) -> list[object]:
    machine = origin.machine
    facts = [machine.identity, machine.hardware, machine.kernel, machine.nodes, machine.cpus]
    return [*facts, origin.model, origin.objective, origin.workload]


def _digest(*values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()
