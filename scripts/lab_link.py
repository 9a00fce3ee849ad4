"""A PCI Express link in the lab's machine that a program plays: its configuration space is a piece of memory.

QEMU's ports and devices keep neither a read request size nor a link's speed. So the machine's firmware is given one more host
bridge, of PCI segment 1, whose configuration space lies in memory kept free for it. It is empty at start: who writes functions
there and has the bus looked at again gets them enumerated by the kernel like any hardware (tests/lab/guest/memory_link.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

SEGMENT = 1
ADDRESS = 0x7000_0000
BUSES = 2
SIZE = BUSES << 20
"""A MiB a bus: the enhanced configuration access mechanism (PCI Express Base Specification, 7.2.2)."""

KERNEL_WORDS = f"memmap={SIZE >> 20}M${ADDRESS:#x} iomem=relaxed"
"""Keeps the memory free, and lets root map it."""


def device(table: Path) -> Iterator[str]:
    """Yield the arguments that give the firmware a table that was written by ``table``."""
    yield from ("-acpitable", f"sig=SSDT,rev=2,data={str(table).replace(',', ',,')}")


def table() -> bytes:
    """Return the table's content in ACPI's machine language (ACPI Specification 6.5, chapter 20).

    ``\\_SB`` gets two devices: the host bridge, with where its configuration space is (_CBA), its buses (_CRS) and leave for the
    kernel to control everything (_OSC gives back what it is asked); and the memory, which the kernel wants to see reserved.
    """
    buses = struct.pack(
        "<BHBBBHHHHH", 0x88, 13, 2, 0x0C, 0, 0, 0, BUSES - 1, 0, BUSES
    )  # 6.4.3.5.3, kind 2: bus numbers
    memory = struct.pack("<BHBII", 0x86, 9, 1, ADDRESS, SIZE)  # 6.4.3.4, fixed 32-bit range
    bridge = _device(
        b"LNK0",
        _name(b"_HID", _eisa(0x0A08)),
        _name(b"_CID", _eisa(0x0A03)),
        _name(b"_UID", _byte(0x54)),
        _name(b"_SEG", _byte(SEGMENT)),
        _name(b"_BBN", _byte(0)),
        _name(b"_CBA", b"\x0c" + struct.pack("<I", ADDRESS)),
        _name(b"_CRS", _resources(buses)),
        b"\x14" + _sized(b"_OSC\x04" + b"\xa4\x6b"),  # a method of four arguments that returns the last
    )
    kept = _device(
        b"RES0", _name(b"_HID", _eisa(0x0C02)), _name(b"_UID", _byte(0x54)), _name(b"_CRS", _resources(memory))
    )
    return b"\x10" + _sized(b"\\_SB_" + bridge + kept)


def _device(name: bytes, *terms: bytes) -> bytes:
    return b"\x5b\x82" + _sized(name + b"".join(terms))


def _name(name: bytes, value: bytes) -> bytes:
    return b"\x08" + name + value


def _byte(value: int) -> bytes:
    return bytes([0x0A, value])


def _eisa(product: int) -> bytes:
    """Return the id of a product of "PNP", whose letters take five bits each."""
    letters = 0
    for letter in b"PNP":
        letters = letters << 5 | letter - 0x40
    return b"\x0c" + struct.pack(">HH", letters, product)


def _resources(descriptor: bytes) -> bytes:
    content = descriptor + b"\x79\x00"
    return b"\x11" + _sized(_byte(len(content)) + content)


def _sized(content: bytes) -> bytes:
    """Return content after its length, which counts itself in."""
    if len(content) < 0x3F:
        return bytes([len(content) + 1]) + content
    size = len(content) + 2
    return bytes([0x40 | size & 0xF, size >> 4]) + content
