"""What a run costs is kept within a limit: on made-up costs that behave as measured ones do, and on real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna.profiler import Profiler
from dna.target import Target
from hal.journal import Journal
from rl.reward import parse_metrics
from rules import rule, s, w, when
from rules.rule import Yielded
from rules.situation import Workload
from sculpt.cost import LONGEST_STRETCH, OwnCost, Verdict, spent_s
from sculpt.session import Asked, Wanted, run
from sculpt.step import Record


class World:
    """A run in which each interval costs so much CPU time, and BPF programs so much of a core."""

    def __init__(
        self, *, limit: float, each_s: float, bpf: float = 0.0, workloads: int = 1, dispensable: bool = False
    ) -> None:
        self.now = self.cpu_s = 0.0
        self.each_s, self.bpf, self.dispensable = each_s, bpf, dispensable
        self.names = [f"w{number}" for number in range(workloads)]
        self.light: set[str] = set()
        self.cost = OwnCost(limit, 5.0, lambda: self.cpu_s, lambda: self.now)

    def run(self, seconds: float) -> list[Verdict]:
        verdicts, until = [], self.now + seconds
        while self.now < until:
            elapsed = self.cost.interval_s * self.cost.stretch
            self.now += elapsed
            for name in self.names:
                self.cpu_s += self.each_s
                bpf_s = None if name in self.light else self.bpf * elapsed
                verdicts.append(self.cost.take(name, bpf_s, elapsed, dispensable=self.dispensable))
                self.light |= {name} if verdicts[-1].lighten else set()
        return verdicts

    def share(self) -> float:
        """Return what is really spent, over some minutes."""
        began, cpu_s = self.now, self.cpu_s
        self.run(600)
        bpf = self.bpf * (len(self.names) - len(self.light))
        return (self.cpu_s - cpu_s) / (self.now - began) + bpf


def test_below_the_limit_nothing_is_slowed() -> None:
    world = World(limit=0.01, each_s=0.02)
    verdicts = world.run(600)
    assert {one.interval_s for one in verdicts} == {5.0}
    assert not any(one.told or one.lighten for one in verdicts)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.2), st.integers(1, 6))
def test_past_it_intervals_become_longer_until_it_is_kept(each_s: float, workloads: int) -> None:
    world = World(limit=0.01, each_s=each_s, workloads=workloads)
    verdicts = world.run(3600)
    possible = each_s * workloads / (5.0 * LONGEST_STRETCH) < 0.009
    assert not possible or world.share() <= 0.0105
    assert all(5.0 <= one.interval_s <= 5.0 * LONGEST_STRETCH for one in verdicts)
    if each_s * workloads / 5.0 > 0.0105:
        assert any("is the limit" in one.told for one in verdicts)


def test_when_it_costs_less_again_intervals_become_shorter_slowly() -> None:
    world = World(limit=0.01, each_s=0.2)
    world.run(1800)
    assert world.cost.stretch > 3
    world.each_s = 0.01
    lengths = [one.interval_s for one in world.run(3600)]
    assert lengths[-1] == 5.0
    assert all(after >= 0.8 * before for before, after in pairwise(lengths))


def test_where_bpf_alone_is_too_much_the_heaviest_goes_on_without() -> None:
    world = World(limit=0.01, each_s=0.01, bpf=0.05, workloads=2, dispensable=True)
    verdicts = world.run(600)
    assert world.light == {"w0", "w1"}
    assert sum(one.lighten for one in verdicts) == 2
    assert world.share() <= 0.01


def test_where_it_cannot_be_done_without_that_is_said_once() -> None:
    world = World(limit=0.01, each_s=0.01, bpf=0.05)
    told = [one.told for one in world.run(7200) if one.told]
    assert "help no more" in told[-1]
    assert len(told) <= 8
    assert not world.light


def test_children_that_ended_are_counted() -> None:
    before = spent_s()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert spent_s() - before >= 0.3


@pytest.mark.long
def test_the_pace_of_a_profiler_can_change_while_it_goes() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        lengths = []
        with Profiler(Target.pid(sleeper.pid), interval=0.2, duration=20, use_bpf=False, keep=2) as profiler:
            for number, _ in enumerate(profiler):
                lengths.append(profiler.interval)
                profiler.pace(0.2 if number < 2 else 0.6)
                if number == 4:
                    break
            kept = profiler.profile().intervals
        sleeper.kill()
    assert len(kept) == 2
    assert kept[1].t - kept[0].t >= 0.5


@pytest.mark.slow
def test_a_run_that_costs_too_much_says_so_and_slows_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sculpt.cost.WINDOW_S", 4.0)  # nobody wants to wait
    records: list[Record] = []
    with subprocess.Popen(["sleep", "300"]) as sleeper:
        rate = tmp_path / "rate"
        rate.write_text("100\n")
        asked = Asked(Target.pid(sleeper.pid), metrics=parse_metrics([f"throughput=file:{rate}"]))
        wanted = Wanted((asked,), 0.2, 9.0, own_limit=0.0001)
        run(wanted, watchers=[records.append], journal=Journal(tmp_path / "journal"), folder=tmp_path / "runs")
        sleeper.kill()
    alerts = [alert for record in records for alert in record.alerts if "own cost" in alert]
    assert alerts
    assert records[-1].interval_s is not None
    assert records[-1].interval_s > 0.2
    assert records[-1].own_share > 0


@pytest.mark.slow
@pytest.mark.bpf
@pytest.mark.root
def test_what_bpf_programs_told_is_not_forgotten_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sculpt.loop.RULES_EVERY", 1)  # asked each time, whatever that costs
    monkeypatch.setattr("sculpt.serving.ASKING", 1e6)
    monkeypatch.setattr("sculpt.cost.WINDOW_S", 4.0)

    @rule(expect="throughput +5..15 %")
    @when(w.syscall.file_share > 0.5)
    def step_back(workload: Workload) -> Iterator[Yielded]:
        """Why."""
        yield s.cpu.nice(workload, 1)

    records: list[Record] = []
    with subprocess.Popen(["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "status=none"]) as busy:
        try:
            rate = tmp_path / "rate"
            rate.write_text("100\n")
            asked = Asked(Target.pid(busy.pid), mode="advise", metrics=parse_metrics([f"throughput=file:{rate}"]))
            wanted = Wanted((asked,), 0.5, 15.0, rules=(step_back,), own_limit=0.01)
            run(wanted, watchers=[records.append], journal=Journal(tmp_path / "journal"), folder=tmp_path / "runs")
        finally:
            busy.kill()
    told = [number for number, record in enumerate(records) if any("without" in one for one in record.alerts)]
    assert told, [record.alerts for record in records]
    after = records[told[0] + 1 :]
    assert after
    assert all(record.proposed == ("step_back",) for record in after), [record.proposed for record in after]
