"""What is gathered, against the tables that say what may be asked for."""

from __future__ import annotations

import pytest

from hal.activity import deepest_idle_s
from hal.fake import FakeHost, SyscallHandler
from hal.host import LinuxHost
from hal.hypervisor import is_virtual
from hal.memory_channels import memory_channels
from rules import gather
from rules.errors import RuleError
from rules.gather import MachineReader
from rules.tables import DISK, FLAG, MACHINE, NIC, PCI, WORD
from tests.hal.machines import MACHINES, Tree
from tests.rules.furnished import DISK as DISK_NAME
from tests.rules.furnished import NIC as NIC_NAME
from tests.rules.furnished import busier, furnished

KINDS: dict[str, type] = {FLAG: bool, WORD: str}

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


def test_a_well_furnished_machine_leaves_no_fact_unknown() -> None:
    host = furnished()
    reader = MachineReader(host)
    busier(host, 2.0)
    machine = reader.read()
    card = next(nic for nic in machine.nics if nic.name == NIC_NAME)
    disk = next(disk for disk in machine.disks if disk.name == DISK_NAME)
    function = next(pci for pci in machine.pcis if pci.name == "0000:81:00.0")
    for table, values in ((MACHINE, machine.values), (NIC, card.values), (DISK, disk.values), (PCI, function.values)):
        assert {fact.name for fact in table if values.get(fact.name) is None} == set()
        assert set(values) == {fact.name for fact in table}
        for fact in table:
            assert isinstance(values[fact.name], KINDS.get(fact.unit, int | float)), fact.name
    expected = {
        "cpus": 64, "cores": 32, "nodes": 8, "llcs": 8, "farthest": 2.1, "memory_channels": 16,
        "memory_channels_per_core": 0.5, "virtual": False, "load": 0.5, "deepest_idle": 133e-6, "swap": 8 << 30,
        "cgroup_version": 2, "irqbalance": True, "tuner": False, "governor": "schedutil", "hugepages.available": True,
        "dirty_background": (16 << 30) / 10,
    }  # fmt: skip
    assert {name: machine.values[name] for name in expected} == expected
    assert machine.number("idle_share") == pytest.approx(0.9, abs=0.01)
    assert machine.number("free_per_node") == (64 << 30) * 3 // 8
    assert card.number("traffic") == pytest.approx(10e6, rel=0.01)
    assert (card.node, card.irqs, card.values["speed"]) == (5, (40, 41), 12.5e9)
    assert (card.values["virtual_functions"], card.values["virtual_functions_possible"]) == (6, 64)
    assert disk.number("busy_share") == pytest.approx(0.5, abs=0.01)
    assert disk.values["read_ahead"] == 128 << 10
    assert (function.values["reduced"], function.values["aspm"], function.values["max_read_request"]) == (
        True,
        "off",
        512,
    )


def test_what_takes_time_is_unknown_of_a_first_look_and_of_one_right_after_another() -> None:
    host = furnished()
    reader = MachineReader(host)
    first = reader.read()
    assert first.values["idle_share"] is None
    assert next(nic for nic in first.nics if nic.name == NIC_NAME).values["traffic"] is None
    busier(host, 2.0)
    assert reader.read().values["idle_share"] is not None
    assert reader.read().values["idle_share"] is None


def test_what_moves_is_read_again() -> None:
    host = furnished()
    reader = MachineReader(host)
    host.files["/proc/loadavg"] = "0.64 0.00 0.00 1/1 1\n"
    host.end(700)
    host.start(800, "tuned")
    state = next(path for path in host.files if path.endswith(f"net/{NIC_NAME}/operstate"))
    host.files[state] = "down\n"
    host.files["/proc/sys/vm/dirty_background_bytes"] = f"{256 << 20}\n"
    machine = reader.read()
    assert machine.values["dirty_background"] == 256 << 20
    assert machine.values["load"] == pytest.approx(0.01)
    assert (machine.values["irqbalance"], machine.values["tuner"]) == (False, True)
    assert next(nic for nic in machine.nics if nic.name == NIC_NAME).values["up"] is False


def test_cpus_outside_the_cpuset_and_isolated_ones_are_none_that_may_be_used() -> None:
    machine = MachineReader(MACHINES["in a container"]().host()).read()
    assert {name: machine.values[name] for name in ("cpus", "nodes", "isolated_cpus")} == {
        "cpus": 2, "nodes": 1, "isolated_cpus": 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_no_machine_is_too_strange(name: str) -> None:
    machine = MachineReader(MACHINES[name]().host()).read()
    assert set(machine.values) == {fact.name for fact in MACHINE}
    assert (machine.number("cpus") or 0) >= 1


@pytest.mark.parametrize(
    ("places", "channels"),
    [
        (["channel 0 slot 0 ", "channel 0 slot 1 ", "channel 1 slot 0 "], 2),
        (["csrow 0 channel 0 ", "csrow 1 channel 0 ", "csrow 0 channel 1 "], 2),
        (["branch 0 channel 0 slot 0 ", "branch 1 channel 0 slot 0 "], 2),
        (["memory 0 "], None),
        ([], None),
    ],
)
def test_channels_are_told_by_the_places_of_memory_modules(places: list[str], channels: int | None) -> None:
    base = "/sys/devices/system/edac/mc/mc0"
    files = {
        f"{base}/{'rank' if 'csrow' in place else 'dimm'}{n}/dimm_location": place for n, place in enumerate(places)
    }
    assert memory_channels(FakeHost(files)) == channels


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"/proc/cpuinfo": "flags\t\t: fpu hypervisor lm\n"}, True),
        ({"/proc/cpuinfo": "flags\t\t: fpu lm\n"}, False),
        ({"/proc/cpuinfo": "flags\t\t: fpu hypervisor\n", "/proc/xen/capabilities": "control_d\n"}, False),
        ({"/sys/class/dmi/id/sys_vendor": "QEMU\n"}, True),
        ({"/sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "/sys/class/dmi/id/product_name": "m7g.metal\n"}, False),
        ({"/sys/class/dmi/id/sys_vendor": "Ampere\n"}, False),
        ({"/proc/cpuinfo": "Features\t: fp asimd\n"}, None),
    ],
)
def test_a_virtual_machine_is_told_by_what_the_processor_or_firmware_says(
    files: dict[str, str], virtual: bool | None
) -> None:
    assert is_virtual(FakeHost(files)) is virtual


@pytest.mark.parametrize(("limit", "deepest"), [("0", 133e-6), ("10", 2e-6), ("n/a", 0.0)])
def test_how_deep_a_cpu_may_sleep_heeds_its_limit(limit: str, deepest: float) -> None:
    host = furnished()
    host.files["/sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us"] = f"{limit}\n"
    assert deepest_idle_s(host, 0) == pytest.approx(deepest)


def test_pci_functions_that_nothing_can_be_said_of_are_left_out() -> None:
    names = {pci.name for pci in MachineReader(furnished()).read().pcis}
    assert {"0000:81:00.0", "0000:41:00.0", "0000:c1:00.0", "0000:01:00.0"} == names


def test_a_card_that_is_plugged_in_later_is_there() -> None:
    host = furnished()
    reader = MachineReader(host)
    tree = Tree(host.files, host.links)
    card = tree.pci("0000:a1:00.0", 0x020000, node=6, link=("8.0 GT/s PCIe", 8, "8.0 GT/s PCIe", 8))
    tree.nic("late0", card, queues=(2, 2), speed=10_000)
    machine = reader.read()
    assert {nic.name: nic.node for nic in machine.nics}["late0"] == 6
    assert "0000:a1:00.0" in {pci.name for pci in machine.pcis}
    link = f"{card}/current_link_width"
    host.files[link] = "4\n"
    assert next(pci for pci in reader.read().pcis if pci.name == "0000:a1:00.0").values["reduced"] is True


@pytest.mark.parametrize(("answers", "available"), [({"madvise": lambda *_: 0}, True), ({}, False)])
def test_huge_pages_are_to_be_had_also_for_who_may_not_make_them(
    answers: dict[str, SyscallHandler], available: bool
) -> None:
    host = furnished()
    host.syscalls |= answers
    host._uid = 1000
    host.files["/proc/self/status"] = "CapEff:\t0000000000000000\n"
    assert MachineReader(host).read().values["hugepages.available"] is available
