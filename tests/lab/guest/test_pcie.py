"""PCI Express through the kernel: a link whose registers we hold, and QEMU's own devices, which keep nothing of this."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal import pci
from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Setting, Subject
from hal.undo import pending, undo
from tests.lab.guest.memory_link import AT, CARD, PORT, MemoryLink, memory_link

HOST = LinuxHost()
DEVICES = Path("/sys/bus/pci/devices")
NIC = DEVICES.parent.parent.parent / "class/net/eth0/device"


@pytest.fixture
def link() -> Iterator[MemoryLink]:
    with memory_link() as found:
        yield found


def pci_function(address: str) -> Subject:
    return Subject("pci", address)


def changed(before: bytes, after: bytes) -> dict[int, tuple[int, int]]:
    """Return the 16-bit registers that differ, by offset."""
    words = [struct.unpack(f"<{len(page) // 2}H", page) for page in (before, after)]
    return {2 * at: (old, new) for at, (old, new) in enumerate(zip(*words, strict=True)) if old != new}


def test_the_largest_read_request_changes_and_returns(link: MemoryLink, tmp_path: Path) -> None:
    journal, before = Journal(tmp_path), (link.page(0), link.page(1))
    assert knob_of("pcie.max_read_request").read(link, pci_function(CARD)) == 512
    plan = make_plan(link, [Setting("pcie.max_read_request", pci_function(CARD), 4096)])
    done = apply(plan, link, journal)
    old = struct.unpack_from("<H", before[1], AT + 0x08)[0]
    assert changed(before[1], link.page(1)) == {AT + 0x08: (old, old & ~0x7000 | 0x5000)}
    assert link.page(0) == before[0]
    undone = undo(link, journal, done.identity)
    assert not undone.failed
    assert (link.page(0), link.page(1)) == before


def test_both_ends_of_a_link_rest_and_are_woken_again(link: MemoryLink, tmp_path: Path) -> None:
    journal, before = Journal(tmp_path), (link.page(0), link.page(1))
    done = apply(make_plan(link, [Setting("pcie.aspm", pci_function(CARD), "l1")]), link, journal)
    assert [change.subject.name for change in done.done] == [PORT, CARD]
    for bus in (0, 1):
        old = struct.unpack_from("<H", before[bus], AT + 0x10)[0]
        assert changed(before[bus], link.page(bus)) == {AT + 0x10: (old, old | 0x2)}
    undo(link, journal, done.identity)
    assert (link.page(0), link.page(1)) == before


def test_the_link_runs_slower_and_as_fast_as_before_again(link: MemoryLink, tmp_path: Path) -> None:
    speed = DEVICES / CARD / "current_link_speed"
    journal, before = Journal(tmp_path), (link.page(0), link.page(1))
    assert speed.read_text() == "8.0 GT/s PCIe\n"
    done = apply(make_plan(link, [Setting("pcie.link_speed", pci_function(CARD), "2.5")]), link, journal)
    assert speed.read_text() == "2.5 GT/s PCIe\n"
    assert link.word(0, 0x30) & 0xF == 1
    undo(link, journal, done.identity)
    assert speed.read_text() == "8.0 GT/s PCIe\n"
    assert (link.page(0), link.page(1)) == before


def test_a_link_that_does_not_train_is_told_and_left_as_it_was(link: MemoryLink, tmp_path: Path) -> None:
    """Hardware that ignores us."""
    journal, before = Journal(tmp_path), (link.page(0), link.page(1))
    link.trains = False
    plan = make_plan(link, [Setting("pcie.link_speed", pci_function(PORT), "5")])
    with pytest.raises(ChangeFailedError, match="runs at 8 GT/s after it was trained for 5"):
        apply(plan, link, journal)
    assert not pending(journal)
    assert (link.page(0), link.page(1)) == before


def test_a_speed_that_no_end_has_is_refused_and_the_present_one_is_no_change(link: MemoryLink) -> None:
    before = (link.page(0), link.page(1))
    with pytest.raises(SettingError, match="does not support 32"):
        make_plan(link, [Setting("pcie.link_speed", pci_function(CARD), "32")])
    assert make_plan(link, [Setting("pcie.link_speed", pci_function(CARD), "16")]).changes == ()
    assert (link.page(0), link.page(1)) == before


class TestEmulatedDevices:
    """QEMU 10 keeps neither size, state nor speed: what is written is found not to have been taken, and nothing is left."""

    @pytest.mark.parametrize(
        ("knob", "value"), [("pcie.max_read_request", 4096), ("pcie.aspm", "l0s"), ("pcie.link_speed", "2.5")]
    )
    def test_what_is_not_taken_is_found_out(self, knob: str, value: int | str, tmp_path: Path) -> None:
        card = NIC.resolve().name
        port = NIC.resolve().parent.name
        before = [(DEVICES / address / "config").read_bytes() for address in (port, card)]
        plan = make_plan(HOST, [Setting(knob, Subject("nic", "eth0"), value)])
        assert plan.changes
        with pytest.raises(ChangeFailedError, match="let it be set"):
            apply(plan, HOST, Journal(tmp_path))
        assert [(DEVICES / address / "config").read_bytes() for address in (port, card)] == before

    def test_a_state_that_the_card_lacks_is_refused(self) -> None:
        with pytest.raises(SettingError, match="does not support l1"):
            make_plan(HOST, [Setting("pcie.aspm", Subject("nic", "eth0"), "l1")])

    def test_a_field_that_is_kept_is_the_only_one_written(self) -> None:
        """Error reporting, which QEMU's port does keep: the same write that the knobs make."""
        port = NIC.resolve().parent.name
        config = DEVICES / port / "config"
        before = config.read_bytes()
        at = pci.express(HOST, port).offset + 0x08
        reporting = pci.Field(0x08, 0x000F)
        old = reporting.of(struct.unpack_from("<H", before, at)[0])
        try:
            pci.set_field(HOST, port, reporting, old ^ 0x0005)
            assert set(changed(before, config.read_bytes())) == {at}
        finally:
            pci.set_field(HOST, port, reporting, old)
        assert config.read_bytes() == before

    def test_everything_has_a_place_in_the_tree(self) -> None:
        card, port = NIC.resolve().name, NIC.resolve().parent.name
        assert pci.address_of(HOST, Subject("nic", "eth0")) == card
        assert pci.parent_of(HOST, card) == port
        assert [end.address for end in pci.link_of(HOST, port).ends] == [port, card]
        disk = pci.address_of(HOST, Subject("block", "nvme0n1"))
        assert pci.link_of(HOST, disk).upper.address == (DEVICES / disk).resolve().parent.name
