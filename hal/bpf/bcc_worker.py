"""Run as a script in a process of its own: compile with the distribution's bcc, print the object, end.

Input on stdin: JSON {source, cflags, programs: [name, ...], bcc: path of the bcc package}. Imports nothing of this
project, so that it also runs under an interpreter that does not have it.
"""

import base64
import importlib.util
import json
import os
import struct
import sys

BPF_LD_IMM64 = 0x18
BPF_PSEUDO_MAP_FD = 1


def import_bcc(path):
    """Import the package ``bcc`` from one directory without putting all its neighbours on sys.path."""
    spec = importlib.util.spec_from_file_location(
        "bcc", os.path.join(path, "__init__.py"), submodule_search_locations=[path]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    spec.loader.exec_module(module)
    return module


def describe_maps(lib, module):
    """Return ([map description], {descriptor: index})."""
    maps, index_of = [], {}
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


def with_map_indices(code, index_of):
    """Replace the descriptors of maps in instructions by their indices."""
    code = bytearray(code)
    for at in range(0, len(code), 8):
        if code[at] == BPF_LD_IMM64 and code[at + 1] >> 4 == BPF_PSEUDO_MAP_FD:
            (descriptor,) = struct.unpack_from("<i", code, at + 4)
            struct.pack_into("<i", code, at + 4, index_of[descriptor])
    return bytes(code)


def main():
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
