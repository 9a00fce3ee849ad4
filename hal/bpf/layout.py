"""Structures shared with BPF programs, described once: C text for the compiler and a numpy dtype for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_C_TYPES = {"u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "u1"}


@dataclass(frozen=True, slots=True)
class Layout:
    """A C structure; ``fields`` maps a name to (type, shape), shape () for a scalar.

    The fields must be naturally aligned without padding, so that C and numpy agree: checked when built.
    """

    name: str
    fields: Mapping[str, tuple[str, tuple[int, ...]]]

    def __post_init__(self) -> None:
        aligned = np.dtype(self._spec(), align=True)
        packed = np.dtype(self._spec())
        if aligned != packed and aligned.itemsize != packed.itemsize:
            raise ValueError(f"structure {self.name} would need padding: order its fields by size")

    def _spec(self) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(name, _C_TYPES[kind], shape) for name, (kind, shape) in self.fields.items()]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The numpy view of one structure."""
        return np.dtype(self._spec())

    @property
    def c(self) -> str:
        """The C definition."""
        lines = [
            f"  {kind} {name}{''.join(f'[{length}]' for length in shape)};"
            for name, (kind, shape) in self.fields.items()
        ]
        return "\n".join([f"struct {self.name} {{", *lines, "};"])
