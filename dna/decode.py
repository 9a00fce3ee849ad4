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

**Which instruction.** A timer interrupt is taken between two instructions: the sample points at the one to be executed
*next*, but what the processor waited for was the one *before* (over nine samples in ten of a loop of cache misses point
behind the load). So a sample is charged to the instruction before, where that can be told: going back over x86 code means
decoding from several earlier bytes until they fall into step. An instruction preceded by an unconditional jump, a return or
padding was jumped to: charged as a branch. Where it cannot be told, the next instruction stands in.

**Addresses.** The registers are those after the instruction before and before the next one. So the address that the one
before used follows exactly where it did not change its own address registers; else that of the next instruction, or of the
first one in straight line behind it that touches memory while its address registers are still unchanged.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dna.decode_engine import EXTEND_SIGNED, EXTEND_UNSIGNED, Access, Engine, Instruction, engine_for
from dna.decode_rules import BRANCH
from hal.perf_sampling import register_names

CODE_BYTES = 32
"""Bytes of code from the instruction pointer on that ``Decoder.site`` likes to see, and as many before it."""

_LOOK_AHEAD = 4
_MOST_KNOWN = 8192
_SWEEPS, _VOTES = 8, 2
_DECODE_US, _SWEEP_US = 45.0, 3.0
_NOP = {"x86_64": b"\x90", "aarch64": b"\x1f\x20\x03\xd5"}


@dataclass(frozen=True, slots=True)
class Site:
    """What a sample at an instruction pointer says: the class it is charged to, and an access with known registers."""

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
        self._sites: dict[tuple[bytes, bytes, int], Site | None] = {}
        self.work_us = 0.0
        """Rough time spent in capstone so far, for budgets that do not depend on a clock."""
        self.instruction(_NOP[self._machine])  # the engine's tables are made now, not in the first interval

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
        self.work_us += _DECODE_US
        instruction = self._engine(bits).decode(code)
        if instruction is not None and instruction.size <= len(code):
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[bytes(code[: instruction.size])] = instruction
        return instruction

    def site(self, code: bytes, bits: int = 64, *, before: bytes = b"") -> Site | None:
        """Return what a sample says, or None where its code cannot be decoded.

        Args:
            code: bytes from the instruction pointer on.
            bits: mode of the processor, 32 or 64.
            before: bytes that end at the instruction pointer.
        """
        key = (before, code, bits)
        if key not in self._sites:
            if len(self._sites) >= _MOST_KNOWN:
                self._sites.clear()
            self._sites[key] = self._new_site(code, bits, before)
        return self._sites[key]

    def _new_site(self, code: bytes, bits: int, before: bytes) -> Site | None:
        size = self.previous_size(before, bits)
        previous = self.instruction(before[len(before) - size :], bits) if size else None
        if previous is None:
            following = self.instruction(code, bits)
            return None if following is None else Site(following.kind, self._next_access(code, bits))
        if previous.padding or previous.never_falls_through:
            return Site(BRANCH, self._next_access(code, bits))
        access = previous.access
        if access is not None and not access.registers() & previous.written and not previous.leaves:
            return Site(previous.kind, self._shifted(access, -size))
        return Site(previous.kind, self._next_access(code, bits))

    def previous_size(self, before: bytes, bits: int = 64) -> int:
        """Return the size of the instruction that ends where ``before`` ends, 0 where that cannot be told."""
        if self._machine == "aarch64":
            return 4 if len(before) >= 4 else 0
        engine = self._engine(bits)
        votes: dict[int, int] = {}
        for start in range(min(_SWEEPS, max(len(before) - 1, 0))):
            size, swept = engine.last_size(before[start:])
            self.work_us += _SWEEP_US * swept
            if size:
                votes[size] = votes.get(size, 0) + 1
                if votes[size] == _VOTES:
                    return size
        return 0

    def _next_access(self, code: bytes, bits: int) -> Access | None:
        offset, written = 0, 0
        for _ in range(_LOOK_AHEAD):
            here = self.instruction(code[offset:], bits) if offset < len(code) else None
            if here is None:
                return None
            if here.access is not None and not here.access.registers() & written:
                return self._shifted(here.access, offset)
            if here.leaves:
                return None
            written |= here.written
            offset += here.size
        return None

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
