"""Run as a script in a process of its own: compile with the distribution's bcc, print the object, end.

Input on stdin: JSON {source, cflags, programs: [name, ...], bcc: path of the bcc package}. Imports nothing of this
project, so that it also runs under an interpreter that does not have it.
"""

import base64
import ctypes
import importlib.util
import json
import os
import struct
import sys
from typing import Any

BPF_LD_IMM64 = 0x18
BPF_PSEUDO_MAP_FD = 1


def import_bcc(path: str) -> Any:
    """Import the package ``bcc`` from one directory without putting all its neighbours on sys.path."""
    spec = importlib.util.spec_from_file_location(
        "bcc", os.path.join(path, "__init__.py"), submodule_search_locations=[path]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"no package bcc in {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    spec.loader.exec_module(module)
    return module


def describe_maps(lib: Any, module: Any) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Return ([map description], {descriptor: index})."""
    # The binding declares only some of these; without it ctypes cuts the 64-bit module pointer to an int.
    for name in ("fd", "type", "key_size", "leaf_size", "max_entries", "flags"):
        getattr(lib, f"bpf_table_{name}_id").argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        getattr(lib, f"bpf_table_{name}_id").restype = (
            ctypes.c_size_t if name.endswith(("size", "entries")) else ctypes.c_int
        )
    lib.bpf_num_tables.argtypes, lib.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
    lib.bpf_table_name.argtypes, lib.bpf_table_name.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_char_p
    maps: list[dict[str, Any]] = []
    index_of: dict[int, int] = {}
    for i in range(lib.bpf_num_tables(module)):
        index_of[lib.bpf_table_fd_id(module, i)] = len(maps)
        maps.append(
            {
                "name": lib.bpf_table_name(module, i).decode(),
                "type": lib.bpf_table_type_id(module, i),
                "key_size": lib.bpf_table_key_size_id(module, i),
                "value_size": lib.bpf_table_leaf_size_id(module, i),
                "max_entries": lib.bpf_table_max_entries_id(module, i),
                "flags": lib.bpf_table_flags_id(module, i),
            }
        )
    return maps, index_of


def with_map_indices(code: bytes, index_of: dict[int, int]) -> bytes:
    """Replace the descriptors of maps in instructions by their indices."""
    patched = bytearray(code)
    for at in range(0, len(patched), 8):
        if patched[at] == BPF_LD_IMM64 and patched[at + 1] >> 4 == BPF_PSEUDO_MAP_FD:
            (descriptor,) = struct.unpack_from("<i", patched, at + 4)
            struct.pack_into("<i", patched, at + 4, index_of[descriptor])
    return bytes(patched)


def main() -> None:
    job = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(2, 1)  # clang prints its complaints on stdout
    bcc = import_bcc(job["bcc"])
    bpf = bcc.BPF(text=job["source"], cflags=job["cflags"])
    maps, index_of = describe_maps(bcc.lib, bpf.module)
    programs = []
    for name in job["programs"]:
        code = bpf.dump_func(name.encode())
        if code is None:
            raise SystemExit(f"no program {name} in the source")
        programs.append({"name": name, "instructions": base64.b64encode(with_map_indices(code, index_of)).decode()})
    with os.fdopen(answer, "w") as out:
        json.dump({"format": 1, "maps": maps, "programs": programs}, out)


main()
