"""The whole chain on a machine in memory with a stated performance model: rules, learner, guard, actuator and journal, from seeds.

What an interval was worth is worked out from the settings that are in force on the machine, not from what the loop believes is.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from dna.vector import Dna, Interval, Profile
from hal.fake import FakeHost
from hal.journal import Journal
from hal.settings import tree
from rl.bandit import LinearBandit
from rl.learner import Learner
from rules import rule, s, w, when
from rules.advice import Advisor
from rules.engine import Engine
from rules.gather import described_machine
from rules.rule import Rule, Yielded
from rules.situation import Workload
from sculpt.actuator import Actuator
from sculpt.guard import Guard
from sculpt.loop import Loop
from sculpt.step import APPLY, Judged, Record

MACHINE = described_machine("pack:1 core:8 pu:1")
THREADS = (100, 101, 102, 110)
SWAPPINESS, KSM = "/proc/sys/vm/swappiness", "/sys/kernel/mm/ksm/run"


def machine() -> FakeHost:
    host = FakeHost({"/sys/devices/system/cpu/online": "0-7\n", "/sys/devices/system/cpu/possible": "0-7\n"})
    host.files |= {"/proc/self/mounts": "", SWAPPINESS: "60\n", KSM: "0\n"}
    host.start(1, "init", parent=0)
    host.start(100, "server", threads=[101, 102])
    host.start(110, "worker", parent=100)
    return host


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def pack(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.affinity(workload, "0-3")


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def yield_to_others(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.nice(workload, 5)


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def in_batches(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.policy(workload, "batch")


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def keep_programs(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    del workload
    yield s.memory.swappiness(10)


@rule(expect="throughput +30..60 %")
@when(w.demand.cores > 0.5)
def merge(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    del workload
    yield s.memory.ksm("on")


RULES: tuple[Rule, ...] = (pack, yield_to_others, in_batches, keep_programs)
IN_FORCE: Mapping[str, Callable[[FakeHost], float]] = {
    "pack": lambda host: _share(host, lambda tid: host.affinity(tid) == (0, 1, 2, 3)),
    "yield_to_others": lambda host: _share(host, lambda tid: host.scheduling(tid).nice == 5),
    "in_batches": lambda host: _share(host, lambda tid: host.scheduling(tid).policy == os.SCHED_BATCH),
    "keep_programs": lambda host: float(host.files[SWAPPINESS].strip() == "10"),
    "merge": lambda host: float(host.files[KSM].strip() == "1"),
}
"""By rule, the share of what it wants that is so on the machine."""
GAINS = {"pack": 0.2, "in_batches": 0.1, "yield_to_others": -0.15}


def _share(host: FakeHost, is_so: Callable[[int], bool]) -> float:
    return sum(map(is_so, THREADS)) / len(THREADS)


class World:
    """One workload whose reward's logarithm is the sum of ``gains`` of what is in force, and noise."""

    def __init__(self, folder: Path, gains: Mapping[str, float], *, seed: int, rules: Sequence[Rule] = RULES) -> None:
        self.host, self.gains = machine(), gains
        self.before = self.state()
        self.draw = np.random.default_rng(seed)
        self.truths: list[float] = []
        self.intervals: list[Interval] = []
        workload = Workload("server", tree(100, self.host.tasks[100].start), {"demand.cores": 1.0})
        self.loop = Loop(
            "server",
            APPLY,
            self.host,
            lambda: MACHINE,
            lambda *_: workload,
            self.judge,
            Advisor(Engine(list(rules))),
            Learner(LinearBandit(seed=seed), seed=seed),
            Actuator(self.host, Journal(folder / "journal"), "test"),
            Guard(kill_switch=str(folder / "stop")),
            own_limit=1e9,
        )

    def truth(self) -> float:
        return sum(self.gains.get(name, 0.0) * share(self.host) for name, share in IN_FORCE.items())

    def judge(self, _interval: Interval, _stall_s: float) -> Judged:
        return Judged(math.exp(self.truth() + self.draw.normal(0, 0.02)))

    def run(self, steps: int, *, late_s: float = 0.0) -> list[Record]:
        """Let so many intervals end, and the loop hear of each so much later."""
        records = []
        for step in range(len(self.intervals), len(self.intervals) + steps):
            interval = Interval(5.0 * (step + 1), {}, {"cores": 1.0}, {}, Dna(np.zeros(16), 0.5, "m"), {})
            self.intervals.append(interval)
            self.truths.append(self.truth())
            profile = Profile("p", "", {}, {}, 0.0, 5.0, tuple(self.intervals[-6:]))
            records.append(self.loop.step(profile, ended=time.monotonic() - late_s))
        return records

    def state(self) -> object:
        """Return all of the machine that a setting could have changed."""
        tasks = {tid: (task.affinity, task.scheduling) for tid, task in self.host.tasks.items()}
        return tasks, {path: text.strip() for path, text in self.host.files.items()}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_it_converges_to_what_pays_and_leaves_the_machine_as_it_was(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, GAINS, seed=seed)
    world.run(320)
    assert IN_FORCE["pack"](world.host) == 1
    assert np.mean(world.truths[-100:]) > 0.9 * 0.3
    assert IN_FORCE["yield_to_others"](world.host) == 0
    assert world.loop.end(keep=False).error == ""
    assert world.state() == world.before
    assert not Journal(tmp_path / "journal").standing()


@pytest.mark.long
def test_where_everything_hurts_nothing_is_kept_and_no_more_is_lost_than_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path, dict.fromkeys(IN_FORCE, -0.2), seed=1)
    records = world.run(300)
    limits = world.loop.learner.ledger.limits
    lost = np.cumsum([5.0 * (1 - math.exp(truth)) for truth in world.truths])
    assert (lost <= limits.allowance_s + limits.budget * 5.0 * np.arange(1, 301)).all()
    assert "rolled back" in {record.decision.event for record in records}
    assert not any(record.decision.event == "promoted" for record in records)
    world.loop.end(keep=False)
    assert world.state() == world.before


@pytest.mark.parametrize("gain", [-0.3, 0.3])
def test_what_cannot_be_flipped_back_is_taken_back_where_it_was_worse_and_at_the_end(
    tmp_path: Path, gain: float
) -> None:
    """Pages that were merged (KSM) are not all given back by switching it off: it is made once, and can be taken back all the same."""
    world = World(tmp_path, {"merge": gain}, seed=1, rules=(merge,))
    records = world.run(60)
    (judged,) = (one for one in records if one.decision.event in ("made", "rolled back"))
    assert judged.decision.event == ("made" if gain > 0 else "rolled back")
    assert sum(truth == pytest.approx(gain) for truth in world.truths) >= 4
    world.loop.end(keep=True)
    assert bool(IN_FORCE["merge"](world.host)) is (gain > 0)
    world.loop.end(keep=False)
    assert world.state() == world.before


def test_taking_back_what_hurts_is_never_too_late(tmp_path: Path) -> None:
    """A late decision is not carried out, but for one that takes back what cannot be flipped while something else is kept."""
    world = World(tmp_path, {"pack": 0.2, "merge": -0.3}, seed=1, rules=(pack, merge))
    for _ in range(200):
        world.run(1)
        if IN_FORCE["merge"](world.host) and world.loop.learner.kept.parts:
            break
    else:
        pytest.fail("nothing was kept when the other was made")
    records = world.run(12, late_s=60)
    assert "rolled back" in {record.decision.event for record in records}
    assert IN_FORCE["pack"](world.host) == 1
    assert IN_FORCE["merge"](world.host) == 0


def test_a_trial_during_which_the_hypervisor_takes_the_cpus_ends_without_a_verdict(tmp_path: Path) -> None:
    world = World(tmp_path, {"pack": 0.2}, seed=1, rules=(pack,))
    ticks = stolen = 0

    def interval(share: float) -> str:
        nonlocal ticks, stolen
        ticks, stolen = ticks + 1000, stolen + round(1000 * share)
        world.host.files["/proc/stat"] = f"cpu  0 0 0 {ticks - stolen} 0 0 0 {stolen} 0 0\n"
        world.gains = {"pack": 0.2 if share < 0.1 else -2.0}
        (record,) = world.run(1)
        return record.decision.event

    for _ in range(60):
        if interval(0.01) == "trial":
            break
    assert "held" in [interval(0.6) for _ in range(4)]
    assert IN_FORCE["pack"](world.host) == 0
    later = [interval(0.01) for _ in range(80)]
    assert "promoted" in later
    assert "rolled back" not in later
