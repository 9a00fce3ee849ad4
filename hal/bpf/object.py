"""A compiled BPF object: map descriptions and programs, independent of the process that compiled it."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, fields

from hal.errors import BpfError

FORMAT = 1


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
