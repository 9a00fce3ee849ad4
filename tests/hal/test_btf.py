"""BTF: a blob built by hand, damaged ones, and the running kernel's own."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.bpf.btf import VMLINUX, Btf, offsets
from hal.errors import BpfError

INT, PTR, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
TYPEDEF, CONST, FUNC, PROTO, VAR = 8, 10, 12, 13, 14
DATASEC, FLOAT, TAG, ENUM64 = 15, 16, 17, 19


class Blob:
    """Builds a BTF blob type by type; ids count from 1."""

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self._types = bytearray()
        self._count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        found = self._strings.find(b"\0" + text.encode() + b"\0")
        if found >= 0:
            return found + 1
        at = len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(self, kind: int, name: str = "", size: int = 0, *, count: int = 0, rest: bytes = b"", flag: int = 0) -> int:
        self._types += struct.pack("<III", self.name(name), flag << 31 | kind << 24 | count, size) + rest
        self._count += 1
        return self._count

    def compound(
        self, kind: int, name: str, size: int, members: Sequence[tuple[str, int, int]], *, bitfields: bool = False
    ) -> int:
        rest = b"".join(struct.pack("<III", self.name(member), of, offset) for member, of, offset in members)
        return self.add(kind, name, size, count=len(members), rest=rest, flag=int(bitfields))

    def bytes(self, *, magic: int = 0xEB9F) -> bytes:
        types, strings = bytes(self._types), bytes(self._strings)
        head = struct.pack("<HBBIIIII", magic, 1, 0, 24, 0, len(types), len(types), len(strings))
        return head + types + strings


def example() -> bytes:
    """Return structures as a kernel has them, among kinds of every size that must be stepped over."""
    blob = Blob()
    u32 = blob.add(INT, "unsigned int", 4, rest=struct.pack("<I", 32))
    blob.add(PTR, "", u32)
    blob.add(ARRAY, "", 0, rest=struct.pack("<III", u32, u32, 16))
    blob.add(ENUM, "color", 4, count=2, rest=struct.pack("<IiIi", 0, 0, 0, 1))
    blob.add(ENUM64, "wide", 8, count=1, rest=struct.pack("<III", 0, 1, 2))
    proto = blob.add(PROTO, "", u32, count=2, rest=struct.pack("<IIII", 0, u32, 0, u32))
    blob.add(FUNC, "run", proto)
    blob.add(VAR, "counter", u32, rest=struct.pack("<I", 1))
    blob.add(DATASEC, ".data", 4, count=1, rest=struct.pack("<III", 8, 0, 4))
    blob.add(FLOAT, "double", 8)
    blob.add(TAG, "tag", u32, rest=struct.pack("<i", -1))
    inner = blob.compound(STRUCT, "inner", 8, [("low", u32, 0), ("high", u32, 32)])
    alias = blob.add(TYPEDEF, "inner_t", blob.add(CONST, "", inner))
    nameless = blob.compound(UNION, "", 8, [("either", u32, 0), ("pair", alias, 0)])
    blob.compound(STRUCT, "task", 0, [])  # a declaration only
    blob.compound(STRUCT, "task", 64, [("state", u32, 0), ("", nameless, 64), ("box", alias, 192)])
    blob.compound(STRUCT, "flags", 4, [("one", u32, 1 << 24 | 0), ("rest", u32, 16)], bitfields=True)
    blob.compound(UNION, "either_of", 8, [("this", u32, 0), ("that", alias, 0)])
    return blob.bytes()


@pytest.mark.parametrize(
    ("structure", "path", "offset"),
    [
        ("task", "state", 0),
        ("task", "either", 8),
        ("task", "pair.high", 12),
        ("task", "box", 24),
        ("task", "box.high", 28),
        ("flags", "rest", 2),
        ("flags", "one", 0),
        ("either_of", "that.high", 4),
    ],
)
def test_offsets(structure: str, path: str, offset: int) -> None:
    assert Btf(example()).offset(structure, path) == offset


@pytest.mark.parametrize(
    ("structure", "path"),
    [("task", "nothing"), ("nobody", "state"), ("task", "state.low"), ("task", "box.low.lower"), ("color", "red")],
)
def test_what_is_not_there_is_a_key_error(structure: str, path: str) -> None:
    with pytest.raises(KeyError):
        Btf(example()).offset(structure, path)


def test_the_first_candidate_that_is_there_wins_and_others_are_left_out() -> None:
    wanted = {
        "STATE": [("task", "__state"), ("task", "state")],
        "BOX": [("task", "box"), ("task", "state")],
        "GONE": [("task", "gone"), ("gone", "too")],
    }
    assert offsets(example(), wanted) == {"STATE": 0, "BOX": 24}


def test_size() -> None:
    assert Btf(example()).size("task") == 64
    with pytest.raises(KeyError):
        Btf(example()).size("nobody")


def test_damaged_blobs_say_so() -> None:
    whole = example()
    for length in (0, 10, 23, 24, 100, len(whole) - 1):
        with pytest.raises(BpfError, match="truncated"):
            Btf(whole[:length])
    with pytest.raises(BpfError, match="unknown format"):
        Btf(b"\xeb\x9f" + whole[2:])


def test_circles_end() -> None:
    blob = Blob()
    blob.add(TYPEDEF, "one", 2)
    blob.add(TYPEDEF, "two", 1)
    blob.compound(STRUCT, "self", 8, [("", 3, 0), ("", 3, 0), ("round", 1, 0), ("far", 999, 0)])
    btf = Btf(blob.bytes())
    with pytest.raises(KeyError):
        btf.offset("self", "missing")
    for path in ("round.x", "far.x"):
        with pytest.raises(BpfError, match="damaged"):
            btf.offset("self", path)


@pytest.mark.long
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_damage_does_worse_than_an_error(data: st.DataObject) -> None:
    blob = bytearray(example())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(24, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.integers(0, len(blob)))]
    try:
        found = offsets(bytes(blob), {"A": [("task", "pair.high")], "B": [("task", "box.low"), ("flags", "rest")]})
    except BpfError:
        return
    assert all(offset >= 0 for offset in found.values())


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_noise_does_no_worse_either(noise: bytes) -> None:
    types = len(noise) // 2
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, types, types, len(noise) - types)
    for blob in (noise, head + noise):
        try:
            found = offsets(blob, {"A": [("task", "a.b")]})
        except BpfError:
            continue
        assert all(offset >= 0 for offset in found.values())


@pytest.fixture(scope="module")
def kernel() -> Btf:
    if not os.path.exists(VMLINUX):
        pytest.skip(f"no {VMLINUX}: use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
    with open(VMLINUX, "rb") as blob:
        return Btf(blob.read())


def test_the_running_kernel_has_what_every_kernel_has(kernel: Btf) -> None:
    size = kernel.size("task_struct")
    places = [kernel.offset("task_struct", name) for name in ("pid", "tgid", "comm", "se.sum_exec_runtime", "files")]
    assert all(0 < place < size for place in places)
    assert kernel.offset("task_struct", "tgid") == kernel.offset("task_struct", "pid") + 4
    assert kernel.offset("list_head", "prev") == struct.calcsize("P")
    assert kernel.size("list_head") == 2 * struct.calcsize("P")
    # Part of the interface with user space, so known: struct sockaddr_in6 of RFC 2553.
    assert kernel.offset("sockaddr_in6", "sin6_addr") == 8
    assert kernel.offset("iphdr", "daddr") == 16
