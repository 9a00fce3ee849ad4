"""What the shipped rules say of real programs on machines of several shapes: what an expert would, and nothing where nothing is due.

The profiles are those of ``examples/profiles``, recorded on a machine of one node; see examples/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from dna.export import read_json
from hal.lists import parse_cpu_list
from hal.settings import Subject, Value
from hal.topology_values import Topology
from rules.advice import Advice, Advisor
from rules.engine import Engine
from rules.gather_situation import Asked, Gathered, gather_situation
from rules.outcome import Outcome, outcome
from rules.sources import Sources, load_all

PROFILES = Path(__file__).parents[2] / "examples" / "profiles"
ONE_NODE = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:2"
TWO_NODES = "pack:2 numa:1(memory=128GB) l3:2(size=32MB) core:8 pu:2"
EIGHT_NODES = "pack:4 numa:2(memory=32GB) l3:1(size=32MB) core:8 pu:2"
TOPOLOGIES = (ONE_NODE, TWO_NODES, EIGHT_NODES)
NAMES = ("one node", "two nodes", "eight nodes")


@dataclass(frozen=True)
class Asking:
    """What was said of some examples on a topology."""

    gathered: Gathered
    advice: Advice
    outcome: Outcome

    @property
    def topology(self) -> Topology:
        return self.gathered.situation.machine.topology

    def settings(self, number: int = 0) -> dict[str, Value]:
        """Return what is proposed for a workload, by knob."""
        subject: Subject = self.gathered.situation.workloads[number].subject
        return {setting.knob: setting.value for setting in self.advice.config if setting.subject == subject}

    def nodes_of(self, cpus: Value) -> set[int]:
        chosen = parse_cpu_list(str(cpus))
        return {cpu.node for cpu in self.topology.cpus if cpu.os_index in chosen}

    def caches_of(self, cpus: Value) -> set[int]:
        chosen = parse_cpu_list(str(cpus))
        return {cpu.llc for cpu in self.topology.cpus if cpu.os_index in chosen}


@cache
def asked(topology: str, *names: str) -> Asking:
    profiles = tuple(read_json(PROFILES / f"{name}.json") for name in names)
    gathered = gather_situation(Asked(profiles=profiles, topology=topology))
    advice = Advisor(Engine(load_all(Sources(system=None)).rules)).advise(gathered.situation)
    assert advice.failures == ()
    return Asking(gathered, advice, outcome(gathered.host, advice))


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=NAMES)
def test_random_access_over_a_gibibyte_is_short_of_tlb_entries_and_far_from_its_memory(topology: str) -> None:
    said = asked(topology, "random-access-1gib")
    found = said.settings()
    # One entry of the TLB covers 2 MiB instead of 4 KiB.
    assert str(found.pop("memory.hugepages")).startswith("collapse")
    if topology == ONE_NODE:
        assert found == {}  # there is nowhere else to be
        return
    # It waits for each access: on one node, with all of its memory, and the whole node so that the scheduler keeps its freedom.
    cpus = found.pop("cpu.affinity")
    (node,) = said.nodes_of(cpus)
    assert found == {"memory.placement": f"{node}=1"}
    assert set(parse_cpu_list(str(cpus))) == {cpu.os_index for cpu in said.topology.cpus if cpu.node == node}


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=NAMES)
@pytest.mark.parametrize(
    "names", [("redis-server", "redis-benchmark"), ("postgresql-select", "pgbench-select")], ids=["redis", "postgresql"]
)
def test_a_server_and_its_client_on_one_machine_belong_together(names: tuple[str, str], topology: str) -> None:
    said = asked(topology, *names)
    first, second = said.settings(0), said.settings(1)
    if topology == ONE_NODE:
        assert (first, second) == ({}, {})
        return
    # What one writes into the socket the other reads from the cache that they share; neither needs huge pages for its few MiB.
    assert first["cpu.affinity"] == second["cpu.affinity"]
    assert len(said.caches_of(first["cpu.affinity"])) == 1
    assert set(first) | set(second) <= {"cpu.affinity", "memory.placement"}


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=NAMES)
def test_a_pipeline_hands_its_data_on_within_one_cache(topology: str) -> None:
    said = asked(topology, "pipeline")
    found = said.settings()
    if topology == ONE_NODE:
        assert found == {}
        return
    assert len(said.caches_of(found.pop("cpu.affinity"))) == 1
    assert set(found) <= {"memory.placement"}


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=NAMES)
@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("redis-server", "alone: 16 MiB, one thread; whom it talks to is not asked about"),
        ("postgresql-tpcb", "it waits for the log's disk, of which a description says nothing"),
        ("gcc-make", "short-lived processes that share nothing: the scheduler spreads them"),
        ("node-http", "one thread, 57 MiB"),
        ("streaming-copy", "one thread: one node's channels are enough, and prefetching hides the latency"),
    ],
)
def test_nothing_is_due(name: str, because: str, topology: str) -> None:
    said = asked(topology, name)
    assert said.advice.config.settings == (), because
    assert said.advice.conflicts == ()
    assert said.outcome.makes_no_difference


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=NAMES)
def test_no_example_gets_a_setting_of_the_whole_machine(topology: str) -> None:
    for path in sorted(PROFILES.glob("*.json")):
        said = asked(topology, path.stem)
        assert [setting for setting in said.advice.config if setting.subject.kind == "system"] == [], path.stem


def test_each_proposal_comes_with_its_reason_and_can_be_planned() -> None:
    said = asked(TWO_NODES, "random-access-1gib")
    assert said.outcome.refused == ()
    for proposal, fates in said.outcome.proposals:
        assert proposal.rule.reason
        assert proposal.expect
        assert proposal.evidence
        assert all(evidence.truth for evidence in proposal.evidence)
        assert {fate.state for fate in fates} == {"changes"}
    knobs = {change.knob for change in said.outcome.plan.changes}
    assert knobs == {"memory.hugepages", "cpu.affinity", "memory.placement"}
    placed = next(change for change in said.outcome.plan.changes if change.knob == "memory.placement")
    assert placed.old == "0=0.5,1=0.5"
