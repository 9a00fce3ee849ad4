"""Functions in ELF files: where in the file a function's code begins, which is how the kernel wants a probe placed.

Layouts are those of elf(5), 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hal.errors import HalError
from hal.host import Host

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOL_TABLE, _DYNAMIC_SYMBOLS, _LOAD = 2, 11, 1
_FUNCTION, _INDIRECT = 2, 10
_GO_SECTIONS = (".go.buildinfo", ".gopclntab", ".note.go.buildid")


class ElfError(HalError):
    """A file is no ELF file that this reads, or lacks what is asked of it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section."""

    name: str
    kind: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Function:
    """One function."""

    name: str
    offset: int
    """Of its first instruction in the file."""
    is_go: bool
    """In a program written in Go, whose stacks move: what replaces return addresses makes it crash."""


class _File:
    """An ELF file in memory."""

    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.path = data, path
        if data[:4] != b"\x7fELF":
            raise ElfError(f"{path} is no program or library")
        if data[4:6] != b"\x02\x01":
            raise ElfError(f"{path} is not of 64 bits and little-endian")
        fields = _HEADER.unpack_from(data)
        self._segments_at, self._sections_at = fields[5], fields[6]
        self._segments, self._sections, self._names = fields[10], fields[12], fields[13]

    def sections(self) -> list[Section]:
        found = [_SECTION.unpack_from(self.data, self._sections_at + 64 * i) for i in range(self._sections)]
        names = found[self._names][4] if found else 0
        return [Section(self.string(names + s[0]), s[1], s[4], s[5], s[6]) for s in found]

    def string(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode("utf-8", "replace")

    def offset_of(self, address: int) -> int | None:
        for i in range(self._segments):
            kind, _, offset, start, _, size, _, _ = _SEGMENT.unpack_from(self.data, self._segments_at + 56 * i)
            if kind == _LOAD and start <= address < start + size:
                return int(address - start + offset)
        return None

    def symbols(self, name: str, sections: list[Section]) -> Iterator[tuple[int, int]]:
        """Yield (kind, address) of defined symbols of one name."""
        wanted = name.encode() + b"\0"
        for table in sections:
            if table.kind in (_SYMBOL_TABLE, _DYNAMIC_SYMBOLS):
                strings = sections[table.link].offset
                entries = self.data[table.offset : table.offset + table.size // _SYMBOL.size * _SYMBOL.size]
                for at, info, _, where, address, _ in _SYMBOL.iter_unpack(entries):
                    if where and self.data.startswith(wanted, strings + at):
                        yield info & 15, address


def find_function(host: Host, path: str, name: str) -> Function:
    """Return where a function of a program or library is.

    Raises:
        HostError: the file cannot be read.
        ElfError: it is no such file, or has no function of that name that a probe could be placed on.
    """
    host.file_size(path)  # refuses what is no regular file: a device would never end
    data = host.read_bytes(path)
    try:
        file = _File(data, path)
        sections = file.sections()
        found = set(file.symbols(name, sections))
        offsets = {file.offset_of(address) for kind, address in found if kind == _FUNCTION}
    except (struct.error, ValueError, IndexError) as error:
        raise ElfError(f"{path} is damaged") from error
    if not found:
        has_all = any(section.kind == _SYMBOL_TABLE for section in sections)
        raise ElfError(
            f"{path} names no function {name}",
            remedy="see `nm -D --defined-only` for those that it names"
            + ("" if has_all else "; it is stripped: an unstripped build names all that were not inlined"),
        )
    if any(kind == _INDIRECT for kind, _ in found):
        raise ElfError(f"{name} in {path} is chosen at start-up among several", remedy="name the one that is chosen")
    offset = offsets.pop() if len(offsets) == 1 else None
    if offset is None:
        what = f"{len(offsets) + 1} functions are called" if offsets else "there is no code at"
        raise ElfError(f"{path}: {what} {name}", remedy="name one that is there once")
    return Function(name, offset, any(section.name in _GO_SECTIONS for section in sections))
