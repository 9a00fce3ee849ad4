"""What is gathered, against the tables that say what may be asked for."""

from __future__ import annotations

import pytest

from hal.host import LinuxHost
from rules import gather
from rules.errors import RuleError
from rules.tables import DISK, MACHINE, NIC, PCI

TWO_NODES = "pack:2 numa:1(memory=64GB) l3:2(size=32MB) core:4 pu:2"


def test_a_described_machine_is_what_it_says_and_nothing_more() -> None:
    machine = gather.described_machine(TWO_NODES)
    expected = {
        "cpus": 32, "cores": 16, "packages": 2, "threads_per_core": 2, "nodes": 2, "memory_nodes": 0, "llcs": 4,
        "cpus_per_node": 16, "cores_per_node": 8, "cpus_per_llc": 8, "llc_size": 32_000_000,
        "memory": 128_000_000_000, "memory_per_node": 64_000_000_000, "free_per_node": None,
        "memory_channels": None, "virtual": None, "governor": None, "load": None, "cgroup_version": 2,
        "hugepages.mode": "madvise", "hugepages.available": True, "numa_balancing": True, "irqbalance": False,
    }  # fmt: skip
    assert {name: machine.values[name] for name in expected} == expected
    assert machine.topology.node_count == 2


def test_facts_that_are_known_otherwise_replace_those_of_the_description() -> None:
    assert gather.described_machine(TWO_NODES, {"virtual": False}).values["virtual"] is False
    with pytest.raises(RuleError, match=r"there is no fact m\.vitual") as error:
        gather.described_machine(TWO_NODES, {"vitual": False})
    assert "m.virtual" in error.value.remedy


def test_every_fact_of_this_machine_is_in_the_tables_and_every_row_is_looked_for() -> None:
    machine = gather.read_machine(LinuxHost())
    assert set(machine.values) == {fact.name for fact in MACHINE}
    for things, table in ((machine.nics, NIC), (machine.disks, DISK), (machine.pcis, PCI)):
        for thing in things:
            assert set(thing.values) == {fact.name for fact in table}
