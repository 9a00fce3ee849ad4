"""Things that might have been learned."""

from __future__ import annotations

from rl.learned import LearnedProof, LearnedSentence, LearnedTrial, MachineFacts, Numbers, Origin
from rl.policy import BASELINE, Arm

MACHINE = MachineFacts("here", "Big Server 9000", "6.18.0", 2, 16)
HERE = Origin(MACHINE, "model-1", "throughput", "web")
VECTOR: Numbers = (0.1,) * 16
NOW = 1_800_000_000.0


def trial(
    *,
    at: float = NOW - 60.0,
    gain: float = 0.1,
    weight: float = 3.0,
    name: str = "pin",
    run: str = "r1",
    origin: Origin = HERE,
    vector: Numbers = VECTOR,
    outcome: str = "promoted",
    interval: tuple[float, float] | None = (0.05, 0.15),
    imported: bool = False,
    share: float = 1.0,
    probability: float | None = 0.5,
) -> LearnedTrial:
    arm = Arm(name, (f"part of {name}",), 0.05, 2.0)
    return LearnedTrial(
        origin=origin,
        run=run,
        at=at,
        cluster="",
        vector=vector,
        arm=arm,
        gain=gain,
        weight=weight,
        outcome=outcome,
        interval=interval,
        offered=(Arm(BASELINE, trust=0.0), arm, Arm("other", ("other",))),
        probability=probability,
        share=share,
        imported=imported,
    )


def proof(
    *,
    at: float = NOW - 60.0,
    gain: float = 0.1,
    origin: Origin = HERE,
    vector: Numbers = VECTOR,
    imported: bool = False,
) -> LearnedProof:
    return LearnedProof(origin, at, "", vector, ("part of pin",), gain, imported)


def sentence(
    *,
    at: float = NOW - 60.0,
    length_s: float = 600.0,
    origin: Origin = HERE,
    vector: Numbers = VECTOR,
    arm: str = "bad",
) -> LearnedSentence:
    return LearnedSentence(origin, at, "", vector, arm, at + length_s, length_s)
