"""What interrupts a machine has, of which device, and where they go."""

from __future__ import annotations

from hal.fake import FakeHost
from hal.interrupts import counts_by_number, interrupts, of_device
from hal.settings import Subject
from hal.topology_values import UNKNOWN_NODE
from tests.hal.knobs import fake_irq
from tests.hal.pci_space import Function, add, config_space

CARD = Function(
    "0000:81:00.0", config_space([]), files={f"msi_irqs/{number}": "msix\n" for number in (120, 121, 122, 123)}
)


def machine() -> FakeHost:
    host = FakeHost()
    fake_irq.furnish(host)
    add(host, CARD)
    host.files[f"{CARD.folder}/net/ens80/mtu"] = "1500\n"
    host.links["/sys/class/net/ens80"] = f"{CARD.folder}/net/ens80"
    return host


def test_each_one_that_somebody_asked_for_is_described() -> None:
    found = interrupts(machine())
    assert [one.number for one in found] == [120, 121, 122]
    one = found[1]
    assert one.handlers == ("ens80-TxRx-0",)
    assert one.device == CARD.address
    assert one.affinity == tuple(range(8))
    assert one.effective == (0,)
    assert one.node == 0
    assert one.counts == {cpu: 1210 + cpu for cpu in range(8)}
    assert [one.is_movable for one in found] == [True, True, False]


def test_what_a_machine_does_not_say_is_unknown() -> None:
    host = machine()
    for name in ("effective_affinity_list", "node"):
        del host.files[f"/proc/irq/120/{name}"]
    host.files["/proc/interrupts"] = "damaged\n 120: x y\n"
    first = interrupts(host)[0]
    assert first.effective is None
    assert first.node == UNKNOWN_NODE
    assert first.counts == {}


def test_a_machine_without_any_has_none() -> None:
    assert interrupts(FakeHost()) == ()


def test_a_shared_interrupt_has_all_its_handlers() -> None:
    host = machine()
    host.files["/sys/kernel/irq/120/actions"] = "PCIe PME,aerdrv,pciehp\n"
    assert interrupts(host)[0].handlers == ("PCIe PME", "aerdrv", "pciehp")


def test_counts_are_by_the_cpus_that_are_online() -> None:
    host = FakeHost(
        {"/proc/interrupts": "           CPU0       CPU5\n  9:     3     4   IO-APIC   acpi\nLOC:  1  2  x\nERR: 0\n"}
    )
    assert counts_by_number(host) == {9: {0: 3, 5: 4}}


def test_a_device_has_those_of_its_function_that_are_in_use() -> None:
    host = machine()
    for subject in (Subject("pci", CARD.address), Subject("pci", "81:00.0"), Subject("nic", "ens80")):
        assert of_device(host, subject) == (120, 121, 122)


def test_without_messages_a_device_has_its_line() -> None:
    host = machine()
    old = Function("0000:82:00.0", config_space([]), files={"irq": "11\n"})
    none = Function("0000:83:00.0", config_space([]), files={"irq": "0\n"})
    add(host, old, none)
    assert of_device(host, Subject("pci", old.address)) == (11,)
    assert of_device(host, Subject("pci", none.address)) == ()


def test_without_a_function_they_are_told_by_name() -> None:
    """As on virtio-mmio, and platform devices."""
    host = FakeHost()
    for number, name in (
        (5, "virtio2"),
        (6, "virtio2-input.0"),
        (7, "virtio20"),
        (8, "eth1-rx-0"),
        (9, "eth10"),
        (10, "eth1"),
    ):
        fake_irq.add_interrupt(host, number, name)
    host.links |= {
        "/sys/class/net/eth0/device": "../../../virtio2",
        "/sys/class/net/eth0": "/sys/devices/platform/v/net/eth0",
    }
    assert of_device(host, Subject("nic", "eth0")) == (5, 6)
    assert of_device(host, Subject("nic", "eth1")) == (8, 10)
    assert of_device(host, Subject("nic", "lo")) == ()
