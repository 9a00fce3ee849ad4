"""Configuration space: capability lists of every kind, fields, links; damaged ones cost no more than an answer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import pci
from hal.errors import EXIT_NOT_PERMITTED, HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.fake import FakeHost
from hal.settings import Subject
from tests.hal.pci_space import (
    EXPRESS,
    INTEGRATED,
    MSIX,
    POWER,
    ROOT_PORT,
    Function,
    Hardware,
    add,
    config_space,
    express_capability,
)

PORT = Function(
    "0000:80:00.0", config_space([POWER, (EXPRESS, express_capability(port=ROOT_PORT, speeds=(1, 2, 3, 4)))])
)
CARD = Function("0000:81:00.0", config_space([POWER, MSIX, (EXPRESS, express_capability())]), parent=PORT.address)
FIELDS = [pci.MAX_PAYLOAD, pci.MAX_READ_REQUEST, pci.ASPM, pci.TARGET_SPEED]


def machine(*functions: Function) -> FakeHost:
    host = FakeHost()
    add(host, *functions)
    return host


@settings(deadline=None)
@given(
    content=st.binary(max_size=512),
    header=st.sampled_from([0, 1, 2, 0x80, 0x7F]),
    first=st.integers(0, 255),
    pointers=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=64),
)
def test_any_bytes_are_walked_to_an_end(
    content: bytes, header: int, first: int, pointers: list[tuple[int, int]]
) -> None:
    space = bytearray(content)
    if len(space) > 0x40:
        space[:2], space[0x06], space[0x0E] = b"\x86\x80", 0x10, header
        space[0x14] = space[0x34] = first
        for at, value in pointers:
            space[at % len(space)] = value
    found = pci.capabilities(bytes(space))
    assert all(0x40 <= at <= min(len(space), 256) - 2 and space[at] == identity for identity, at in found.items())
    express = pci.parse_express("0000:00:00.0", bytes(space))
    if express:
        assert isinstance(express.speeds, tuple)
        assert len(express.registers) == 0x3C


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 3, 4, 5, 9, 0x0D, 0x11, 0x12, 0x14]), unique=True, max_size=8), st.integers(0, 8))
def test_every_capability_is_found_wherever_it_lies(others: list[int], place: int) -> None:
    listed: list[tuple[int, bytes]] = [(identity, bytes(6)) for identity in others]
    listed.insert(min(place, len(listed)), (EXPRESS, express_capability()))
    space = bytes(config_space(listed))
    assert set(pci.capabilities(space)) == {*others, EXPRESS}
    found = pci.parse_express("0000:00:00.0", space)
    assert found
    assert found.registers[2:] == express_capability()


def test_a_list_that_bites_its_tail_ends() -> None:
    space = config_space([POWER, MSIX])
    space[0x41 + 8] = 0x40
    assert set(pci.capabilities(bytes(space))) == {POWER[0], MSIX[0]}


@settings(deadline=None)
@given(word=st.integers(0, 0xFFFF), field=st.sampled_from(FIELDS), value=st.integers(0, 7))
def test_a_field_changes_its_own_bits_only(word: int, field: pci.Field, value: int) -> None:
    value &= field.mask >> field.shift
    changed = field.put(word, value)
    assert field.of(changed) == value
    assert changed & ~field.mask == word & ~field.mask


@settings(deadline=None)
@given(st.integers(-9, 4096), st.sampled_from(FIELDS))
def test_a_value_too_large_for_its_field_is_refused(value: int, field: pci.Field) -> None:
    if 0 <= value <= field.mask >> field.shift:
        return
    with pytest.raises(ValueError, match="fit"):
        field.put(0, value)


@settings(deadline=None)
@given(control=st.integers(0, 0xFFF), request=st.integers(0, 7), value=st.integers(0, 5))
def test_writing_a_field_leaves_every_other_bit_of_the_function(control: int, request: int, value: int) -> None:
    body = express_capability(control=control, read_request=request)
    one = Function("0000:81:00.0", config_space([POWER, (EXPRESS, body), MSIX]))
    host = machine(one)
    del host.binary_handlers[one.config]  # hardware that keeps everything
    pci.set_field(host, one.address, pci.MAX_READ_REQUEST, value)
    expected = bytearray(one.space)
    struct.pack_into("<H", expected, one.express + 8, control | value << 12)
    assert host.binaries[one.config] == expected
    assert len(host.writes) == 1


def test_a_function_is_never_reset_by_writing_back_what_was_read() -> None:
    one = Function("0000:81:00.0", config_space([(EXPRESS, express_capability(control=0x8000))]))
    host = machine(one)
    del host.binary_handlers[one.config]
    pci.set_field(host, one.address, pci.MAX_READ_REQUEST, 5)
    assert one.word(host, 0x08) == 0x5000


def test_a_short_old_capability_at_the_very_end_is_read() -> None:
    space = bytearray(256)
    struct.pack_into("<HHHH", space, 0, 0x8086, 0x10D3, 0, 0x0010)
    space[0x34], space[0xE0] = 0xE0, EXPRESS
    body = express_capability(version=1, speeds=(1,), speed=1)
    space[0xE2 : 0xE2 + len(body)] = body
    found = pci.parse_express("0000:00:00.0", bytes(space))
    assert found
    assert found.get(pci.MAX_READ_REQUEST) == 2
    assert found.speeds == (1,)
    assert not found.has_target_speed


@pytest.mark.parametrize(
    ("speeds", "version", "expected"),
    [((1, 2, 3, 4), 2, (1, 2, 3, 4)), ((1, 3), 2, (1, 3)), ((1, 2), 1, (1, 2)), ((1,), 1, (1,))],
)
def test_speeds_are_those_of_the_vector_or_of_before_there_was_one(
    speeds: Sequence[int], version: int, expected: tuple[int, ...]
) -> None:
    space = bytes(config_space([(EXPRESS, express_capability(speeds=speeds, version=version))]))
    found = pci.parse_express("", space)
    assert found
    assert found.speeds == expected


def test_without_privilege_it_says_so() -> None:
    host = machine(CARD)
    host.binaries[CARD.config] = host.binaries[CARD.config][:64]
    with pytest.raises(NotPermittedError) as caught:
        pci.express(host, CARD.address)
    assert caught.value.exit_code == EXIT_NOT_PERMITTED
    assert "root" in caught.value.remedy


def test_what_does_not_answer_is_not_believed() -> None:
    host = machine(CARD)
    host.binaries[CARD.config] = bytearray(b"\xff" * 4096)
    with pytest.raises(UnsupportedError, match="does not answer"):
        pci.express(host, CARD.address)
    with pytest.raises(NotFoundError):
        pci.express(host, "0000:99:00.0")


def test_a_register_that_is_not_there_is_not_written() -> None:
    built_in = Function("0000:80:14.0", config_space([(EXPRESS, express_capability(port=INTEGRATED))]))
    old = Function("0000:80:15.0", config_space([(EXPRESS, express_capability(version=1))]))
    host = machine(built_in, old)
    for one, field in ((built_in, pci.ASPM), (built_in, pci.TARGET_SPEED), (old, pci.TARGET_SPEED)):
        with pytest.raises(UnsupportedError, match="no register"):
            pci.set_field(host, one.address, field, 1)
    assert host.writes == []


class TestLink:
    def test_either_end_names_it(self) -> None:
        second = Function("0000:81:00.1", CARD.space, parent=PORT.address)
        virtual = Function("0000:81:10.0", CARD.space, parent=PORT.address, files={"physfn/vendor": "0x8086"})
        host = machine(PORT, CARD, second, virtual)
        for address in (PORT.address, CARD.address, second.address):
            link = pci.link_of(host, address)
            assert [end.address for end in link.ends] == [PORT.address, CARD.address, second.address]
            assert link.speeds == (1, 2, 3)

    def test_what_has_none_says_so(self) -> None:
        built_in = Function("0000:80:14.0", config_space([(EXPRESS, express_capability(port=INTEGRATED))]))
        alone = Function("0000:80:02.0", CARD.space)
        bridge = Function("0000:80:01.0", config_space([POWER], header=1))
        behind = Function("0000:82:00.0", CARD.space, parent=bridge.address)
        host = machine(built_in, alone, bridge, behind)
        for one in (built_in, alone, bridge, behind):
            with pytest.raises(UnsupportedError):
                pci.link_of(host, one.address)

    def test_training_is_waited_for(self) -> None:
        host = TrainingHost(after_s=0.35)
        add(host, PORT, CARD)
        host.watch(PORT)
        began = host.monotonic_ns()
        pci.retrain(host, PORT.address)
        waited_s = (host.monotonic_ns() - began) * 1e-9
        assert 0.35 <= waited_s < 0.5
        assert not pci.express(host, PORT.address).is_training

    def test_training_that_does_not_end_is_given_up(self) -> None:
        host = TrainingHost(after_s=1e9)
        add(host, PORT, CARD)
        host.watch(PORT)
        with pytest.raises(HostError, match="not up after 1 s"):
            pci.retrain(host, PORT.address)


class TrainingHost(FakeHost):
    """A machine whose port takes time to train."""

    def __init__(self, *, after_s: float) -> None:
        super().__init__()
        self._after_s = after_s
        self._trained_ns = 0
        self._port: Function | None = None

    def watch(self, port: Function) -> None:
        self._port = port
        hardware = self.binary_handlers[port.config]
        assert isinstance(hardware, Hardware)

        def begin(content: bytearray, offset: int, data: bytes) -> None:
            hardware(content, offset, data)
            if offset == port.express + 0x10 and data[0] & 0x20:
                self._trained_ns = self.monotonic_ns() + round(self._after_s * 1e9)
                self._show()

        self.binary_handlers[port.config] = begin

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._show()

    def _show(self) -> None:
        assert self._port
        at = self._port.express + 0x13
        content = self.binaries[self._port.config]
        training = self.monotonic_ns() < self._trained_ns
        content[at] = content[at] & ~0x28 | (0x08 if training else 0x20)


class TestAddress:
    def test_of_what_sits_on_a_function(self) -> None:
        host = machine(PORT, CARD)
        host.files |= {f"{CARD.folder}/net/ens80/mtu": "1500", f"{CARD.folder}/virtio2/block/vda/size": "9"}
        host.links |= {
            "/sys/class/net/ens80": f"{CARD.folder}/net/ens80",
            "/sys/block/vda": f"{CARD.folder}/virtio2/block/vda",
            "/sys/class/net/lo": "/sys/devices/virtual/net/lo",
        }
        assert pci.address_of(host, Subject("nic", "ens80")) == CARD.address
        assert pci.address_of(host, Subject("block", "vda")) == CARD.address
        assert pci.address_of(host, Subject("nic", "lo")) == ""
        assert pci.address_of(host, Subject("nic", "nope")) == ""

    def test_of_a_disk_with_several_paths_is_that_of_one(self) -> None:
        host = machine(PORT, CARD)
        head = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
        host.files[f"{head}/nvme0n1/size"] = "9"
        host.links |= {
            "/sys/block/nvme0n1": f"{head}/nvme0n1",
            f"{head}/nvme0n1/device": head,
            f"{head}/nvme0": f"{CARD.folder}/nvme/nvme0",
        }
        assert pci.address_of(host, Subject("block", "nvme0n1")) == CARD.address

    @pytest.mark.parametrize("name", ["0000:81:00.0", "81:00.0"])
    def test_of_a_function_is_its_own(self, name: str) -> None:
        assert pci.address_of(machine(PORT, CARD), Subject("pci", name)) == CARD.address

    @pytest.mark.parametrize("name", ["", "81:00", "0000:99:00.0", "../../0000:81:00.0", "0000:81:00.0/config"])
    def test_of_no_function_is_none(self, name: str) -> None:
        assert pci.address_of(machine(PORT, CARD), Subject("pci", name)) == ""

    def test_the_path_may_be_relative_as_the_kernel_has_it(self) -> None:
        path = f"../../..{CARD.folder.removeprefix('/sys')}"
        assert pci.addresses_in(path) == (PORT.address, CARD.address)
        assert pci.addresses_in("../../../devices/pci0000:80/0000:80:00.0:pcie001") == ()
