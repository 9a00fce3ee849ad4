"""A port and a device behind it that this program plays: their configuration space is memory; see scripts/lab_link.py."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hal.host import LinuxHost
from scripts import lab_link
from tests.hal.pci_space import EXPRESS, ROOT_PORT, TRAINS, config_space, express_capability, train

PORT, CARD = f"{lab_link.SEGMENT:04x}:00:00.0", f"{lab_link.SEGMENT:04x}:01:00.0"
AT = 0x40
"""Of the PCI Express capability, in both."""
PAGE = 4096
_BUS = 1 << 20
_CONTROL, _STATUS = 0x10, 0x12
"""Registers of the link."""


class MemoryLink(LinuxHost):
    """This machine, and the hardware of both ends: what is written to their configuration space, it does."""

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__()
        self._memory = memory
        self.trains = True
        """Whether the hardware does what it is told about training."""
        self._status = [self.word(bus, _STATUS) for bus in (0, 1)]

    def page(self, bus: int) -> bytes:
        """Return the configuration space of the function on a bus."""
        return bytes(self._memory[bus * _BUS : bus * _BUS + PAGE])

    def word(self, bus: int, register: int) -> int:
        """Return a 16-bit register of a function's PCI Express capability."""
        return int(struct.unpack_from("<H", self._memory, bus * _BUS + AT + register)[0])

    def _put(self, bus: int, register: int, word: int) -> None:
        struct.pack_into("<H", self._memory, bus * _BUS + AT + register, word)

    def write_bytes(self, path: str, data: bytes, *, offset: int = 0) -> None:
        super().write_bytes(path, data, offset=offset)
        self.react()

    def react(self) -> None:
        """Be the hardware for a moment."""
        for bus in (0, 1):  # the kernel acknowledges bits by writing them, which memory takes literally
            self._put(bus, _STATUS, self._status[bus])
        if self.word(0, _CONTROL) & TRAINS:
            self._put(0, _CONTROL, self.word(0, _CONTROL) & ~TRAINS)
            if self.trains:
                train((self._memory, AT), (self._memory, _BUS + AT))
                self._status = [self.word(bus, _STATUS) for bus in (0, 1)]


@contextmanager
def memory_link() -> Iterator[MemoryLink]:
    """Plug the two functions in for a while: a port for 16 GT/s, and behind it a device for 8 that runs at them."""
    ends = (
        config_space(
            [(EXPRESS, express_capability(port=ROOT_PORT, speeds=(1, 2, 3, 4), speed=3))], header=1, class_code=0x060400
        ),
        config_space([(EXPRESS, express_capability(speeds=(1, 2, 3)))]),
    )
    ends[0][0x18:0x1B] = b"\x00\x01\x01"  # the buses above and below the port
    descriptor = os.open("/dev/mem", os.O_RDWR | os.O_SYNC)
    memory = mmap.mmap(descriptor, lab_link.SIZE, offset=lab_link.ADDRESS)
    os.close(descriptor)
    for bus, content in enumerate(ends):
        memory[bus * _BUS : bus * _BUS + PAGE] = bytes(content)
    link = MemoryLink(memory)
    try:
        Path(f"/sys/class/pci_bus/{lab_link.SEGMENT:04x}:00/rescan").write_text("1")
        assert Path(f"/sys/bus/pci/devices/{CARD}").exists(), "the kernel found the device"
        link.react()
        yield link
    finally:
        Path(f"/sys/bus/pci/devices/{PORT}/remove").write_text("1")
        for bus in range(len(ends)):
            memory[bus * _BUS : bus * _BUS + PAGE] = bytes(PAGE)
        memory.close()
