"""Runs of the loop on real programs, one after the other: what the first has proven the second has at once, where it is of the same kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dna.target import Target
from dna.vector import Interval
from hal.fake import FakeHost
from hal.journal import Journal
from rl.learned import Learned
from rl.measured import Metric
from rl.memory import Memory
from rl.proxies import INSTRUCTIONS
from rules import rule, s, w, when
from rules.rule import Yielded
from rules.situation import Workload
from sculpt.guard import Guard
from sculpt.judging import ByMetrics, ByProxy
from sculpt.objective import Objective
from sculpt.remember import machine_facts, objective_of, open_memory
from sculpt.session import Asked, Wanted, run
from sculpt.step import APPLY, Judged, Record
from tests.rl.lessons import trial

CPUS = sorted(os.sched_getaffinity(0))
needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
COMPUTES = "import hashlib\nwhile True: hashlib.sha256(bytes(65536)).digest()"
TALKS = """
import os
a, b = os.pipe()
while True:
    os.write(b, bytes(64)); os.read(a, 64)
"""


@contextmanager
def running(code: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@rule(expect="throughput +20..40 %")
@when(w.demand.cores > 0.1)
def pin(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.affinity(workload, str(CPUS[0]))


def serve(
    code: str, folder: Path, *, until: tuple[str, ...], at_most: int = 400, remembers: bool = True
) -> list[Record]:
    """Run the loop on a program that is half as fast again while it is pinned, until one of these events, or for so many steps."""
    records: list[Record] = []

    def watch(record: Record) -> None:
        records.append(record)
        if record.decision.event in until or len(records) == at_most:
            os.kill(os.getpid(), signal.SIGTERM)

    with running(code) as pid:

        def judge(_interval: Interval, _stall_s: float) -> Judged:
            return Judged(1.5 if len(os.sched_getaffinity(pid)) == 1 else 1.0)

        wanted = Wanted(
            (Asked(Target.pid(pid), APPLY),),
            0.3,
            120.0,
            Guard(kill_switch=str(folder / "stop"), most_novelty=1e9),
            (pin,),
            remembers=remembers,
        )
        journal = Journal(folder / "journal")
        run(wanted, watchers=[watch], judge_of=lambda *_: judge, journal=journal, folder=folder / "runs")
        assert os.sched_getaffinity(pid) == set(CPUS)
    return records


def events(records: list[Record]) -> list[str]:
    return [record.decision.event for record in records if record.decision.event]


def told(records: list[Record]) -> str:
    return next(record.decision.because for record in records if "workloads like" in record.decision.because)


def stored(folder: Path) -> Learned:
    with Memory.open(folder / "learned.db") as memory:
        return memory.read()


@pytest.mark.slow
@needs_two
def test_the_second_run_begins_with_what_the_first_has_proven(tmp_path: Path) -> None:
    first = serve(COMPUTES, tmp_path, until=("promoted",))
    assert "trial" in events(first)
    assert "nothing is known yet" in told(first)
    learned = stored(tmp_path)
    assert [one.outcome for one in learned.trials] == ["promoted"]
    assert learned.trials[0].origin.workload.startswith("python")
    assert len(learned.proofs) == 1

    second = serve(COMPUTES, tmp_path, until=("recalled", "promoted"))
    assert events(second) == ["recalled"]
    assert "1 proven" in told(second)
    assert len(second) < len(first)

    blank = serve(COMPUTES, tmp_path, until=("recalled", "promoted"), remembers=False)
    assert "recalled" not in events(blank)
    assert "trial" in events(blank)
    assert stored(tmp_path) == learned


@pytest.mark.slow
@needs_two
def test_what_is_recalled_is_checked_soon(tmp_path: Path) -> None:
    serve(COMPUTES, tmp_path, until=("promoted",))
    second = serve(COMPUTES, tmp_path, until=("confirmed",))
    assert events(second)[0] == "recalled"
    assert events(second)[-1] == "confirmed"
    assert {one.outcome for one in stored(tmp_path).trials} == {"promoted", "confirmed"}


@pytest.mark.slow
@needs_two
def test_a_program_that_behaves_otherwise_proves_for_itself(tmp_path: Path) -> None:
    serve(COMPUTES, tmp_path, until=("promoted",))
    other = serve(TALKS, tmp_path, until=("recalled", "promoted"))
    assert "recalled" not in events(other)
    assert "nothing is known yet" in told(other)


def test_a_damaged_memory_is_set_aside_and_said(tmp_path: Path) -> None:
    place, said = tmp_path / "learned.db", list[str]()
    place.write_bytes(b"this is no database, and long enough to be told from an empty one" * 20)
    memory = open_memory(place, said.append)
    assert memory is not None
    with memory:
        memory.add(Learned((trial(),)))
    (line,) = said
    assert "set aside as" in line
    assert len(list(tmp_path.glob("learned.db.damaged-*"))) == 1
    again = open_memory(place, said.append)
    assert again is not None
    with again:
        assert len(again.read().trials) == 1
    assert len(said) == 1


def test_where_there_can_be_no_memory_the_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("not a folder")
    assert open_memory(tmp_path / "file" / "learned.db", said.append) is None
    assert "begins with nothing known" in said[0]


def test_a_machine_is_told_by_its_id_and_does_not_give_it_away() -> None:
    described = {"model": "Big Server 9000", "kernel": "6.18.0", "numa_nodes": 2, "cpus": 16}
    one, other, renamed = FakeHost(), FakeHost(), FakeHost()
    for host, identity in ((one, "a1"), (other, "b2"), (renamed, "a1")):
        host.files["/etc/machine-id"] = f"{identity}\n"
    renamed.files["/proc/sys/kernel/hostname"] = "another\n"
    facts = machine_facts(one, described)
    assert facts == machine_facts(renamed, described)
    assert facts.identity != machine_facts(other, described).identity
    assert "a1" not in facts.identity
    assert (facts.hardware, facts.kernel, facts.nodes, facts.cpus) == ("Big Server 9000", "6.18.0", 2, 16)


def test_a_proxy_is_no_metric_and_weights_count() -> None:
    throughput = Metric("throughput", "file:x")
    energy = Metric("energy", "rapl:")
    assert objective_of(ByProxy(), ("throughput",)) == ""
    assert objective_of(ByProxy(INSTRUCTIONS), ("throughput",)).startswith("proxy")
    assert objective_of(ByMetrics(Objective((throughput,)), ()), ()) == "throughput"
    both = objective_of(ByMetrics(Objective((throughput, energy)), ()), ())
    assert both == objective_of(ByMetrics(Objective((energy, throughput)), ()), ())
    assert both != objective_of(ByMetrics(Objective((throughput, replace(energy, weight=0.5))), ()), ())
