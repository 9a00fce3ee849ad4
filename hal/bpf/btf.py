"""Where members of kernel structures are, read from the running kernel's own BTF.

Programs compiled against the headers of another kernel would read wrong offsets without any error, so every offset of a
kernel structure comes from here. Format: Documentation/bpf/btf.rst of the Linux kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from hal.errors import BpfError

VMLINUX = "/sys/kernel/btf/vmlinux"

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT = 9, 10, 11, 12, 13, 14, 15, 16
_DECL_TAG, _TYPE_TAG, _ENUM64 = 17, 18, 19
_COMPOUND = (_STRUCT, _UNION)
_MODIFIERS = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)


@dataclass(frozen=True, slots=True)
class _Compound:
    name: str
    members_at: int
    count: int
    bitfields: bool


_NESTED_AT_MOST = 64
"""Typedefs of typedefs: more are a damaged blob's circle."""


@contextmanager
def _damage() -> Iterator[None]:
    """Positions in a damaged blob lead anywhere; whatever reading there gives is one error."""
    try:
        yield
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise BpfError("the kernel's BTF is damaged", remedy="see `dna doctor`") from error


class Btf:
    """One parsed BTF blob; BpfError when it is damaged. Parsing walks every type once, about 0.1 s for a kernel's."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < _HEADER.size:
            raise BpfError("the kernel's BTF is truncated")
        magic, _version, _flags, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(blob)
        if magic != _MAGIC:
            raise BpfError("the kernel's BTF has an unknown format (or another byte order)")
        self._blob = blob
        self._types = header + type_at
        self._types_end = self._types + type_size
        self._strings = header + string_at
        self._strings_end = self._strings + string_size
        self._offsets: list[int] = [0]
        if max(self._types_end, self._strings_end) > len(blob):
            raise BpfError("the kernel's BTF is truncated")
        with _damage():
            self._walk()

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start, self._strings_end)].decode("ascii", "replace")

    def _walk(self) -> None:
        """Record where each type starts. Kinds differ only in what follows their 12 bytes."""
        blob, at, end = self._blob, self._types, self._types_end
        offsets = self._offsets
        unpack = _TYPE.unpack_from
        fixed = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
        per_member = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
        while at < end:
            offsets.append(at)
            _name, info, _size = unpack(blob, at)
            kind = (info >> 24) & 0x1F
            at += 12 + fixed.get(kind, 0) + per_member.get(kind, 0) * (info & 0xFFFF)

    def _compound_by_name(self, name: str) -> _Compound:
        wanted = self._string_offset(name)
        for at in self._offsets[1:]:
            offset, info, _size = _TYPE.unpack_from(self._blob, at)
            if offset == wanted and ((info >> 24) & 0x1F) in _COMPOUND and info & 0xFFFF:
                return self._compound(at)
        raise KeyError(name)

    def _string_offset(self, name: str) -> int:
        """Return where the string section holds exactly this name; every name stands there once."""
        found = self._blob.find(b"\0" + name.encode() + b"\0", self._strings, self._strings_end)
        if found < 0:
            raise KeyError(name)
        return int(found + 1 - self._strings)

    def _compound(self, at: int) -> _Compound:
        offset, info, _size = _TYPE.unpack_from(self._blob, at)
        return _Compound(self._name(offset), at + 12, info & 0xFFFF, bool(info >> 31))

    def _resolve(self, type_id: int) -> tuple[int, int]:
        """Follow typedefs and qualifiers; return (position, kind)."""
        for _ in range(_NESTED_AT_MOST):
            at = self._offsets[type_id]
            _name, info, target = _TYPE.unpack_from(self._blob, at)
            kind = (info >> 24) & 0x1F
            if kind not in _MODIFIERS:
                return at, kind
            type_id = target
        raise ValueError("types in a circle")

    def _members(self, compound: _Compound) -> Iterator[tuple[str, int, int]]:
        """Yield (name, type id, bit offset)."""
        for index in range(compound.count):
            name, type_id, offset = _MEMBER.unpack_from(self._blob, compound.members_at + 12 * index)
            yield self._name(name), type_id, offset & 0xFFFFFF if compound.bitfields else offset

    def offset(self, structure: str, path: str) -> int:
        """Return the byte offset of a member; ``path`` may go into nested members (``"f_path.dentry"``).

        Anonymous structures and unions are searched through. Raises KeyError where the kernel has no such member.
        """
        with _damage():
            return self._offset(structure, path)

    def _offset(self, structure: str, path: str) -> int:
        compound = self._compound_by_name(structure)
        bits: int = 0
        parts = path.split(".")
        for position, part in enumerate(parts):
            found = self._find(compound, part)
            if found is None:
                raise KeyError(f"{structure}.{path}")
            type_id, offset = found
            bits += offset
            if position + 1 < len(parts):
                at, kind = self._resolve(type_id)
                if kind not in _COMPOUND:
                    raise KeyError(f"{structure}.{path}")
                compound = self._compound(at)
        return int(bits // 8)

    def _find(self, compound: _Compound, name: str, seen: set[int] | None = None) -> tuple[int, int] | None:
        seen = seen or set()  # a damaged blob may nest a structure in itself
        anonymous: list[tuple[int, int]] = []
        for member, type_id, offset in self._members(compound):
            if member == name:
                return type_id, offset
            if not member:
                anonymous.append((type_id, offset))
        for type_id, base in anonymous:
            at, kind = self._resolve(type_id)
            if kind not in _COMPOUND or at in seen:
                continue
            seen.add(at)
            if found := self._find(self._compound(at), name, seen):
                return found[0], base + found[1]
        return None

    def size(self, structure: str) -> int:
        """Return the size of a structure in bytes."""
        with _damage():
            at = self._compound_by_name(structure).members_at - 12
        return int(_TYPE.unpack_from(self._blob, at)[2])


def offsets(blob: bytes, wanted: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, int]:
    """Return for each name the offset of the first of its (structure, member path) candidates that the kernel has.

    Names without any are left out: members move and are renamed between kernels, and the caller knows what it can do
    without.
    """
    btf = Btf(blob)
    found: dict[str, int] = {}
    for name, candidates in wanted.items():
        for structure, path in candidates:
            try:
                found[name] = btf.offset(structure, path)
            except KeyError:
                continue
            break
    return found
