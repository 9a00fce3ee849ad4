"""A compiled BPF object: map descriptions and programs, independent of the process that compiled it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from hal.errors import BpfError

FORMAT = 1
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What bpf(BPF_MAP_CREATE) needs."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """Instructions of one program.

    Where an instruction loads a map (BPF_LD_IMM64 with src_reg BPF_PSEUDO_MAP_FD) its immediate is the index into the
    object's maps, replaced by a descriptor at load time.
    """

    name: str
    instructions: bytes


@dataclass(frozen=True, slots=True)
class BpfObject:
    """Everything one compilation gave."""

    maps: tuple[MapSpec, ...]
    programs: tuple[ProgramSpec, ...]

    def to_json(self) -> str:
        """Return the object as text."""
        return json.dumps(
            {
                "format": FORMAT,
                "maps": [asdict(spec) for spec in self.maps],
                "programs": [
                    {"name": p.name, "instructions": base64.b64encode(p.instructions).decode()} for p in self.programs
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> BpfObject:
        """Parse what ``to_json`` wrote; BpfError when it is anything else."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise BpfError("a compiled BPF object of another format")
            maps = tuple(_map(spec) for spec in data["maps"])
            programs = tuple(
                ProgramSpec(str(p["name"]), base64.b64decode(p["instructions"], validate=True))
                for p in data["programs"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BpfError(f"a damaged compiled BPF object: {error}") from error
        return cls(maps, programs)


def _map(spec: dict[str, object]) -> MapSpec:
    wanted = {field.name: str if field.name == "name" else int for field in fields(MapSpec)}
    if not all(type(spec[name]) is kind for name, kind in wanted.items()):
        raise TypeError(f"the map {spec['name']!r} is described in other types")
    return MapSpec(**spec)  # type: ignore[arg-type]


def relocate(instructions: bytes, places: Sequence[int]) -> bytes:
    """Return the instructions with every map's immediate ``i`` replaced by ``places[i]``."""
    patched = bytearray(instructions)
    for at in range(0, len(patched), 8):
        if patched[at] == _LD_IMM64 and patched[at + 1] >> 4 == _PSEUDO_MAP_FD:
            (index,) = struct.unpack_from("<i", patched, at + 4)
            struct.pack_into("<i", patched, at + 4, places[index])
    return bytes(patched)


def merge(objects: Sequence[BpfObject]) -> BpfObject:
    """Return one object of several; maps of one name are one map, and must be alike. Raises BpfError where they are not."""
    maps: dict[str, MapSpec] = {}
    for spec in (spec for one in objects for spec in one.maps):
        if maps.setdefault(spec.name, spec) != spec:
            raise BpfError(f"the BPF map {spec.name} is described in two ways")
    place = {name: index for index, name in enumerate(maps)}
    programs = tuple(
        ProgramSpec(program.name, relocate(program.instructions, [place[spec.name] for spec in one.maps]))
        for one in objects
        for program in one.programs
    )
    return BpfObject(tuple(maps.values()), programs)
