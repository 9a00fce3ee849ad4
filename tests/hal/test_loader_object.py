"""Layouts shared with C, compiled objects as text, and maps and programs in the running kernel."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna.probes.bpf import layouts
from hal.bpf.layout import Layout
from hal.bpf.loader import F_MMAPABLE, MAP_ARRAY, MAP_HASH, BpfMap, LoadedObject
from hal.bpf.object import BpfObject, MapSpec, ProgramSpec
from hal.errors import BpfError, translate
from hal.fake import FakeHost
from hal.host import LinuxHost

# --- layouts

_KINDS = {"u64": 8, "u32": 4, "u16": 2, "u8": 1}
_HEAD = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16; typedef uint8_t u8;
"""


def compiled_layouts(some: list[Layout], folder: Path) -> dict[str, int]:
    """Return what the C compiler makes of them: "structure" to its size, "structure.field" to its offset."""
    if not shutil.which("gcc"):
        pytest.skip("the C compiler is the witness: `apt install gcc`")
    prints = []
    for layout in some:
        prints.append(f'printf("{layout.name} %zu\\n", sizeof(struct {layout.name}));')
        prints += [
            f'printf("{layout.name}.{field} %zu\\n", offsetof(struct {layout.name}, {field}));'
            for field in layout.fields
        ]
    source = folder / "layouts.c"
    source.write_text("\n".join([_HEAD, *(layout.c for layout in some), "int main(void) {", *prints, "}"]))
    program = folder / "layouts"
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    out = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


def numpy_layouts(some: list[Layout]) -> dict[str, int]:
    found = {layout.name: layout.dtype.itemsize for layout in some}
    for layout in some:
        offsets = {name: entry[1] for name, entry in (layout.dtype.fields or {}).items()}
        found |= {f"{layout.name}.{name}": offset for name, offset in offsets.items()}
    return found


def test_c_and_numpy_agree_on_the_programs_structures(tmp_path: Path) -> None:
    assert compiled_layouts(list(layouts.ALL), tmp_path) == numpy_layouts(list(layouts.ALL))


_fields = st.lists(
    st.tuples(st.sampled_from(sorted(_KINDS)), st.lists(st.integers(1, 3), max_size=2).map(tuple)),
    min_size=1,
    max_size=6,
)


def _layout_or_none(name: str, fields: list[tuple[str, tuple[int, ...]]]) -> Layout | None:
    try:
        return Layout(name, {f"f{index}": field for index, field in enumerate(fields)})
    except ValueError:
        return None


def test_c_and_numpy_agree_on_any_structure_that_is_accepted(tmp_path: Path) -> None:
    accepted: list[Layout] = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(_fields)
    def collect(fields: list[tuple[str, tuple[int, ...]]]) -> None:
        if layout := _layout_or_none(f"s{len(accepted)}", fields):
            accepted.append(layout)

    collect()
    assert len(accepted) > 20
    assert compiled_layouts(accepted, tmp_path) == numpy_layouts(accepted)


def test_structures_with_padding_are_refused() -> None:
    with pytest.raises(ValueError, match="padding"):
        Layout("holes", {"small": ("u8", ()), "large": ("u64", ())})
    with pytest.raises(ValueError, match="padding"):
        Layout("tail", {"large": ("u64", ()), "small": ("u8", ())})


# --- objects

_names = st.text("abcdefgh_", min_size=1, max_size=15)
_numbers = st.integers(0, 1 << 20)
_objects = st.builds(
    BpfObject,
    maps=st.lists(st.builds(MapSpec, _names, *[_numbers] * 5), max_size=3).map(tuple),
    programs=st.lists(st.builds(ProgramSpec, _names, st.binary(max_size=32)), max_size=3).map(tuple),
)


@given(_objects)
def test_objects_survive_as_text(compiled: BpfObject) -> None:
    assert BpfObject.from_json(compiled.to_json()) == compiled


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["format", "maps", "programs"]), _json | st.just(1)) | _json)
def test_anything_else_is_a_damaged_object(data: object) -> None:
    try:
        compiled = BpfObject.from_json(json.dumps(data))
    except BpfError:
        return
    assert compiled == BpfObject((), ())  # the only thing so small that is one


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", '{"format": 2}', '{"format": 1, "maps": [{"name": 5}], "programs": []}'],
)
def test_texts_that_are_no_objects(text: str) -> None:
    with pytest.raises(BpfError):
        BpfObject.from_json(text)


# --- the kernel

HASH = MapSpec("pairs", MAP_HASH, 4, 8, 64, 0)
ARRAY = MapSpec("cells", MAP_ARRAY, 4, 8, 1000, F_MMAPABLE)
needs_bpf = pytest.mark.skipif(os.geteuid() != 0, reason="makes BPF maps, which needs root: run `sudo make test`")


def instructions(*words: tuple[int, int, int, int]) -> bytes:
    """Assemble (opcode, registers, offset, immediate)."""
    return b"".join(struct.pack("<BBhi", *word) for word in words)


RETURN_ZERO = instructions((0xB7, 0, 0, 0), (0x95, 0, 0, 0))


@needs_bpf
@pytest.mark.root
@pytest.mark.bpf
def test_a_hash_is_drained_whole_and_only_once() -> None:
    pairs = BpfMap(LinuxHost(), HASH)
    try:
        for key in range(50):
            pairs.update(struct.pack("<I", key), struct.pack("<Q", key * key))
        keys, values = pairs.drain(batch=8)
        again, _ = pairs.drain()
    finally:
        pairs.close()
    found = dict(zip(keys.view("<u4")[:, 0].tolist(), values.view("<u8")[:, 0].tolist(), strict=True))
    assert found == {key: key * key for key in range(50)}
    assert again.shape == (0, 4)


@needs_bpf
@pytest.mark.root
@pytest.mark.bpf
def test_arrays_are_shared_memory() -> None:
    cells = BpfMap(LinuxHost(), ARRAY)
    dtype = np.dtype([("value", "<u8")])
    view = cells.view(dtype)
    cells.update(struct.pack("<I", 999), struct.pack("<Q", 1 << 40))
    assert view["value"][999] == 1 << 40
    assert cells.view(dtype)["value"].shape == (1000,)
    with pytest.raises(BpfError, match="values of 8 bytes, not 16"):
        cells.view(np.dtype([("a", "<u8"), ("b", "<u8")]))
    cells.close()
    assert view["value"][999] == 1 << 40  # a view in use stays readable
    pairs = BpfMap(LinuxHost(), HASH)
    with pytest.raises(BpfError, match="cannot be mapped"):
        pairs.view(dtype)
    pairs.close()


@needs_bpf
@pytest.mark.root
@pytest.mark.bpf
def test_programs_load_attach_and_go() -> None:
    before = len(os.listdir("/proc/self/fd"))
    loaded = LoadedObject(LinuxHost(), BpfObject((HASH, ARRAY), (ProgramSpec("nothing", RETURN_ZERO),)))
    program = loaded.load("nothing", "raw_tracepoint")
    program.attach_raw_tracepoint("sched_switch")
    with pytest.raises(BpfError, match="no tracepoint no_such_tracepoint"):
        program.attach_raw_tracepoint("no_such_tracepoint")
    assert program.run_time()[0] >= 0
    loaded.close()
    loaded.close()
    assert len(os.listdir("/proc/self/fd")) == before


@needs_bpf
@pytest.mark.root
@pytest.mark.bpf
def test_what_the_verifier_rejects_is_quoted() -> None:
    unset = instructions((0x95, 0, 0, 0))  # returns without having set a value
    loaded = LoadedObject(LinuxHost(), BpfObject((), (ProgramSpec("broken", unset),)))
    with pytest.raises(BpfError, match=r"rejected the BPF program broken: .*R0 !read_ok"):
        loaded.load("broken", "raw_tracepoint")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.E2BIG])
def test_refused_maps(number: int) -> None:
    def refuse(*_: int) -> int:
        raise translate(number, "bpf", "call")

    with pytest.raises(BpfError, match="BPF") as refused:
        LoadedObject(FakeHost(syscalls={"bpf": refuse}), BpfObject((HASH,), ()))
    assert ("CAP_BPF" in refused.value.remedy) == (number == errno.EPERM)
    assert ("map pairs" in str(refused.value)) == (number != errno.EPERM)


def test_refused_programs() -> None:
    def refuse(*_: int) -> int:
        raise translate(errno.EPERM, "bpf", "call")

    loaded = LoadedObject(FakeHost(syscalls={"bpf": refuse}), BpfObject((), (ProgramSpec("nothing", RETURN_ZERO),)))
    with pytest.raises(BpfError, match="refused the BPF program nothing") as refused:
        loaded.load("nothing", "raw_tracepoint")
    assert "CAP_BPF" in refused.value.remedy
