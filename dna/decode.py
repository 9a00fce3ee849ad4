"""Machine instructions decoded: the class of each, and the address of the memory it touches.

**Classes.** Each instruction is in exactly one of ``INSTRUCTION_CLASSES``; the first rule that fits decides:

1. ``branch``: jumps, calls and returns, whatever they read or push;
2. ``other``: no-ops, fences, prefetches, system calls and what runs or reads the machine itself;
3. ``store``: whatever writes memory, read-modify-write and pushes included;
4. ``scalar_fp`` or ``vector``: arithmetic on floating-point or vector registers, also with a memory operand; a vector
   register used whole (packed integers, floats, masks, register-to-register moves) makes it ``vector``;
5. ``load``: whatever else reads memory: plain loads into any register, pops, integer arithmetic with a memory source;
6. ``integer``: everything else (address arithmetic such as ``lea`` included).

So a loop of multiply-adds over arrays counts as vector even where the compiler folds its loads into the arithmetic.

**Addresses.** A timer's sample points at the instruction to be executed *next*, with the registers as they are before
it. Its effective address therefore follows exactly from them. Where it touches no memory, the straight line after it is
followed until an instruction that does and whose address registers are still unchanged, or until control may leave.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dna.decode_engine import EXTEND_SIGNED, EXTEND_UNSIGNED, Access, Engine, Instruction, engine_for
from hal.perf_sampling import register_names

CODE_BYTES = 32
"""Bytes of code that ``Decoder.site`` likes to see."""

_LOOK_AHEAD = 6
_MOST_KNOWN = 16384


@dataclass(frozen=True, slots=True)
class Site:
    """What a sample at an instruction pointer says: the instruction's class and the next access in straight line."""

    kind: int
    access: Access | None


class Decoder:
    """Decodes instructions of one architecture; remembers each encoding, so capstone sees it once.

    Args:
        machine: as ``uname -m`` gives it: ``"x86_64"`` or ``"aarch64"``.

    Raises:
        UnsupportedError: for another architecture.
    """

    def __init__(self, machine: str | None = None) -> None:
        self._machine = machine or platform.machine()
        self.columns = (*register_names(self._machine), "pc", "zero")
        """Names of the registers that addresses are made of; ``pc`` is the sampled instruction pointer."""
        self._pc = len(self.columns) - 2
        self._zero = len(self.columns) - 1
        self._known: dict[int, dict[bytes, Instruction]] = {32: {}, 64: {}}
        self._engines: dict[int, Engine] = {}
        self.decoded = 0
        """Instructions that capstone was asked for."""

    def _engine(self, bits: int) -> Engine:
        if bits not in self._engines:
            self._engines[bits] = engine_for(self._machine, self.columns, bits)
        return self._engines[bits]

    def instruction(self, code: bytes, bits: int = 64) -> Instruction | None:
        """Return the instruction at the start of ``code``, or None where there is none (or it is cut off)."""
        known = self._known[bits]
        # No encoding is the beginning of another, so the first known one that fits is the one.
        for size in (4,) if self._machine == "aarch64" else range(1, 16):
            found = known.get(code[:size])
            if found is not None:
                return found
        self.decoded += 1
        instruction = self._engine(bits).decode(code)
        if instruction is not None and instruction.size <= len(code):
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[bytes(code[: instruction.size])] = instruction
        return instruction

    def site(self, code: bytes, bits: int = 64) -> Site | None:
        """Return what the code at an instruction pointer says, or None where it cannot be decoded."""
        first = self.instruction(code, bits)
        if first is None:
            return None
        here: Instruction | None = first
        offset, written = 0, 0
        for _ in range(_LOOK_AHEAD):
            if here is None:
                break
            if here.access is not None and not here.access.registers() & written:
                return Site(first.kind, self._shifted(here.access, offset))
            if here.leaves:
                break
            written |= here.written
            offset += here.size
            here = self.instruction(code[offset:], bits) if offset < len(code) else None
        return Site(first.kind, None)

    def _shifted(self, access: Access, offset: int) -> Access:
        if access.base != self._pc or not offset:
            return access
        return replace(access, displacement=access.displacement + offset)


def effective_addresses(
    accesses: Sequence[Access], which: NDArray[np.intp], registers: NDArray[np.uint64], ip: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return the address of each sample's access, shape (n,).

    Args:
        accesses: distinct accesses.
        which: index into ``accesses`` for each sample, shape (n,).
        registers: shape (n, registers), columns as ``register_names``.
        ip: instruction pointers, shape (n,).
    """
    if not len(which):
        return np.zeros(0, dtype=np.uint64)
    rows = np.arange(len(which))
    values = np.column_stack([registers, ip, np.zeros(len(ip), dtype=np.uint64)])
    table = np.array(
        [(a.base, a.index, a.scale, a.displacement, a.extend, a.bits) for a in accesses], dtype=np.int64
    ).reshape(-1, 6)[which]
    index = values[rows, table[:, 1]]
    low = index & np.uint64(0xFFFFFFFF)
    signed = low.astype(np.uint32).view(np.int32).astype(np.int64).view(np.uint64)
    index = np.select([table[:, 4] == EXTEND_UNSIGNED, table[:, 4] == EXTEND_SIGNED], [low, signed], index)
    scaled = index * table[:, 2].astype(np.uint64)
    address: NDArray[np.uint64] = values[rows, table[:, 0]] + scaled + table[:, 3].astype(np.uint64)
    return np.where(table[:, 5] == 32, address & np.uint64(0xFFFFFFFF), address)
