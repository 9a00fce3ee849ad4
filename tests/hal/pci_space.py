"""Configuration space of made-up PCI functions, and what hardware makes of writes to it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hal.fake import FakeHost
from hal.settings import Subject

DEVICES = "/sys/bus/pci/devices"
EXPRESS = 0x10
ENDPOINT, ROOT_PORT, INTEGRATED = 0, 4, 9
TRAINS = 0x0020  # of link control
WRITABLE = {0x08: 0x7FFF, 0x10: 0x0FDB, 0x28: 0xFFFF, 0x30: 0x0FFF}
"""From the control registers of the capability to their bits that keep what is written."""


def express_capability(
    *,
    port: int = ENDPOINT,
    version: int = 2,
    speeds: Sequence[int] = (1, 2, 3),
    speed: int | None = None,
    width: int = 8,
    aspm: int = 3,
    read_request: int = 2,
    control: int = 0x010F,
) -> bytes:
    """Return a PCI Express capability without its two first bytes (id and next).

    Args:
        speeds: codes of those it supports; the target is the highest.
        read_request: code of the maximum read request.
        control: other bits of device control: error reporting, payload, extended tags.
    """
    highest = max(speeds)
    words = {
        0x02: struct.pack("<H", port << 4 | version),
        0x04: struct.pack("<I", 0x0000_8002),
        0x08: struct.pack("<H", control | read_request << 12),
        0x0C: struct.pack("<I", highest | width << 4 | aspm << 10 | (1 << 20 if port == ROOT_PORT else 0)),
        0x10: struct.pack("<H", 0x0040),
        0x12: struct.pack("<H", (speed or highest) | width << 4 | (0x2000 if port == ROOT_PORT else 0)),
    }
    if version >= 2:
        words |= {
            0x2C: struct.pack("<I", sum(1 << code for code in speeds)),
            0x30: struct.pack("<H", highest),
        }
    registers = bytearray(0x3C if version >= 2 else 0x14)
    for at, data in words.items():
        registers[at : at + len(data)] = data
    return bytes(registers[2:])


def config_space(
    capabilities: Sequence[tuple[int, bytes]],
    *,
    header: int = 0,
    class_code: int = 0xFF0000,
    vendor: int = 0x8086,
    device: int = 0x10C9,
    size: int = 4096,
) -> bytearray:
    """Return a configuration space with these capabilities (id, what follows its two first bytes), one after the other."""
    space = bytearray(size)
    struct.pack_into("<HHHH", space, 0, vendor, device, 0x0406, 0x0010 if capabilities else 0)
    space[0x09:0x0C] = class_code.to_bytes(3, "little")
    space[0x0E] = header
    at, link = 0x40, 0x34
    for identity, body in capabilities:
        space[link] = at
        space[at] = identity
        space[at + 2 : at + 2 + len(body)] = body
        link, at = at + 1, at + 2 + len(body) + (-len(body) - 2) % 4
    return space


POWER = (0x01, bytes(6))
MSIX = (0x11, bytes(10))


@dataclass
class Function:
    """One function of a machine in memory."""

    address: str
    space: bytearray
    parent: str = ""
    files: dict[str, str] = field(default_factory=dict)
    keeps: dict[int, int] = field(default_factory=lambda: dict(WRITABLE))
    """Bits that keep what is written, by register of the PCI Express capability."""

    @property
    def folder(self) -> str:
        domain_bus = (self.parent or self.address)[: -len(":00.0")]
        below = f"{self.parent}/" if self.parent else ""
        return f"/sys/devices/pci{domain_bus}/{below}{self.address}"

    @property
    def config(self) -> str:
        return f"{self.folder}/config"

    @property
    def subject(self) -> Subject:
        return Subject("pci", self.address)

    @property
    def express(self) -> int:
        """Offset of its PCI Express capability."""
        at = self.space[0x34]
        while at and self.space[at] != EXPRESS:
            at = self.space[at + 1]
        return at

    def word(self, host: FakeHost, register: int) -> int:
        """Return a 16-bit register of the capability."""
        return int(struct.unpack_from("<H", host.binaries[self.config], self.express + register)[0])


def add(host: FakeHost, *functions: Function) -> None:
    """Put functions into a machine; ports train with what is behind them."""
    for one in functions:
        host.binaries[one.config] = bytearray(one.space)
        host.files |= {f"{one.folder}/{name}": text for name, text in one.files.items()}
        host.files.setdefault(f"{one.folder}/vendor", "0x8086\n")
        host.links[f"{DEVICES}/{one.address}"] = one.folder
    for one in functions:
        below = [other for other in functions if other.parent == one.address]
        host.binary_handlers[one.config] = Hardware(host, one, below)


@dataclass
class Hardware:
    """What a function makes of a write: only some bits keep it, and a port told to train takes up the speed agreed on."""

    host: FakeHost
    function: Function
    below: list[Function]

    def __call__(self, content: bytearray, offset: int, data: bytes) -> None:
        register = offset - self.function.express
        assert len(data) == 2, "registers are written whole, and nothing beside them"
        written = int.from_bytes(data, "little")
        kept = self.function.keeps.get(register, 0)
        before = int(struct.unpack_from("<H", content, offset)[0])
        struct.pack_into("<H", content, offset, before & ~kept | written & kept)
        if register == 0x10 and written & TRAINS and self.below:
            self.train(content)

    def train(self, content: bytearray) -> None:
        """Take up the highest speed that both ends support and this one aims at."""
        others = [(self.host.binaries[other.config], other.express) for other in self.below]
        train((content, self.function.express), *others)


type End = tuple[Any, int]
"""A writable buffer and where in it the PCI Express capability is."""


def train(upper: End, *lower: End) -> None:
    """Let both ends of a link take up the highest speed that they support and the upper one aims at."""
    ends = (upper, *lower)
    vectors = [int(struct.unpack_from("<I", content, at + 0x2C)[0]) for content, at in ends]
    target = upper[0][upper[1] + 0x30] & 0xF
    speed = max(code for code in range(1, 7) if code <= target and all(vector >> code & 1 for vector in vectors))
    for content, at in ends:
        status = int(struct.unpack_from("<H", content, at + 0x12)[0])
        struct.pack_into("<H", content, at + 0x12, status & ~0xF | speed)
