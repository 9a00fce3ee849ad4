"""One instruction at a time through capstone: class, operands, and the registers it writes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import capstone
from capstone import arm64_const, x86_const

from dna.decode_rules import LOAD, STORE, arm64_kind, x86_kind

_INSN_BYTES = ctypes.sizeof(capstone._cs_insn)
EXTEND_NONE, EXTEND_UNSIGNED, EXTEND_SIGNED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Access:
    """An address: ``base + extend(index) * scale + displacement``; base and index are columns of ``Decoder.columns``."""

    base: int
    index: int
    scale: int = 1
    displacement: int = 0
    extend: int = EXTEND_NONE
    bits: int = 64

    def registers(self) -> int:
        """Return the columns used, as a bit mask."""
        return 1 << self.base | 1 << self.index


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction; ``kind`` is an index into ``INSTRUCTION_CLASSES``."""

    kind: int
    size: int
    access: Access | None
    written: int
    """Columns of registers that it writes, as a bit mask."""
    leaves: bool
    """Whether the next instruction executed may be another than the one behind it."""
    never_falls_through: bool = False
    """Whether the one behind it is never executed next: jumps without condition, returns, traps."""
    padding: bool = False
    """Whether it fills up the space before an aligned branch target."""


class Engine:
    """capstone's C interface without its Python objects, which cost three times as much as the decoding."""

    _MODE: dict[int, int]
    _ARCH: int

    def __init__(self, columns: tuple[str, ...], bits: int) -> None:
        self._cs = capstone.Cs(self._ARCH, self._MODE[bits])
        self._cs.detail = True
        self._sizes = capstone.Cs(self._ARCH, self._MODE[bits])
        library = capstone._cs
        self._handle = self._cs.csh
        # By index: a function object of our own, whose types are not shared with capstone's.
        self._disassemble, self._registers_of, allocate, self._sweep, self._free = (
            library[name] for name in ("cs_disasm_iter", "cs_regs_access", "cs_malloc", "cs_disasm", "cs_free")
        )
        self._sweep.restype = ctypes.c_size_t
        self._free.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._disassemble.restype = ctypes.c_bool
        allocate.restype = ctypes.c_void_p
        self._at = ctypes.c_void_p(allocate(self._handle))
        self._insn = capstone._cs_insn.from_address(self._at.value)
        self._detail = self._insn.detail.contents
        self._bits = bits
        self._columns = {name: i for i, name in enumerate(columns)}
        self._pc, self._zero = self._columns["pc"], self._columns["zero"]
        self._names = [(self._cs.reg_name(i) or "") for i in range(700)]
        self._column_of = [self._column(name) for name in self._names]
        self._read = (ctypes.c_uint16 * 64)()
        self._written = (ctypes.c_uint16 * 64)()
        self._count_read, self._count_written = ctypes.c_uint8(), ctypes.c_uint8()

    def _column(self, name: str) -> int:
        raise NotImplementedError

    def decode(self, code: bytes) -> Instruction | None:
        buffer = ctypes.create_string_buffer(code, len(code))
        at = ctypes.c_void_p(ctypes.addressof(buffer))
        size, address = ctypes.c_size_t(len(code)), ctypes.c_uint64(0)
        done = self._disassemble(
            self._handle,
            ctypes.byref(at),
            ctypes.byref(size),
            ctypes.byref(address),
            self._at,
        )
        return self._instruction() if done else None

    def last_size(self, code: bytes) -> tuple[int, int]:
        """Return (size of the last instruction, number of instructions) of code that ends with one; (0, n) where not."""
        first = ctypes.c_void_p()
        swept = self._sweep(
            self._sizes.csh, code, ctypes.c_size_t(len(code)), ctypes.c_uint64(0), 0, ctypes.byref(first)
        )
        if not swept or first.value is None:
            return 0, 0
        last = capstone._cs_insn.from_address(first.value + (swept - 1) * _INSN_BYTES)
        size = last.size if last.address + last.size == len(code) else 0
        self._free(first, swept)
        return size, swept

    def _instruction(self) -> Instruction:
        raise NotImplementedError

    def _bit(self, name: str) -> int:
        column = self._column(name)
        return 1 << column if column >= 0 else 0

    def _groups(self) -> frozenset[int]:
        return frozenset(self._detail.groups[: self._detail.groups_count])

    def _mask_written(self) -> int:
        self._registers_of(
            self._handle,
            self._at,
            self._read,
            ctypes.byref(self._count_read),
            self._written,
            ctypes.byref(self._count_written),
        )
        mask = 0
        for register in self._written[: self._count_written.value]:
            column = self._column_of[register]
            if column >= 0:
                mask |= 1 << column
        return mask


class _X86(Engine):
    _ARCH = capstone.CS_ARCH_X86
    _MODE = {32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}  # noqa: RUF012

    def _column(self, name: str) -> int:
        return self._columns.get(_X86_WHOLE.get(name, ""), -1)

    def _instruction(self) -> Instruction:
        insn, detail = self._insn, self._detail.arch.x86
        memory: list[Any] = []
        names: list[str] = []
        memory_first = False
        for i in range(detail.op_count):
            operand = detail.operands[i]
            if operand.type == x86_const.X86_OP_REG:
                names.append(self._names[operand.value.reg])
            elif operand.type == x86_const.X86_OP_MEM:
                memory.append(operand.value.mem)
                memory_first |= i == 0
        mnemonic = insn.mnemonic.decode()
        kind, leaves = x86_kind(mnemonic, self._groups(), names, memory=bool(memory), memory_first=memory_first)
        written = self._mask_written()
        if names and not memory_first and not mnemonic.startswith(("cmp", "test")):
            written |= self._bit(names[0])  # capstone calls the destination of some AVX moves read
        return Instruction(
            kind,
            insn.size,
            self._access(mnemonic, memory, insn.size),
            written,
            leaves,
            never_falls_through=mnemonic.rsplit(" ", 1)[-1] in _X86_NEVER_ON,
            padding=mnemonic.rsplit(" ", 1)[-1] in _X86_PADDING,
        )

    def _access(self, mnemonic: str, memory: list[Any], size: int) -> Access | None:
        name = mnemonic.rsplit(" ", 1)[-1]
        if name in _X86_NO_ACCESS or name.startswith(("prefetch", "nop", "bnd")):
            return None
        if memory:
            return self._operand(memory[0], size)
        if name.startswith(("push", "call")):
            return Access(self._columns["rsp"], self._zero, displacement=-self._bits // 8, bits=self._bits)
        if name.startswith("ret") or (name.startswith("pop") and name != "popcnt"):
            return Access(self._columns["rsp"], self._zero, bits=self._bits)
        if name == "leave":
            return Access(self._columns["rbp"], self._zero, bits=self._bits)
        return None

    def _operand(self, operand: Any, size: int) -> Access | None:
        segment, base, index, scale, displacement = (
            getattr(operand, name) for name in ("segment", "base", "index", "scale", "disp")
        )
        if segment in (x86_const.X86_REG_FS, x86_const.X86_REG_GS):
            return None
        columns = [self._zero if register == 0 else self._address_column(register) for register in (base, index)]
        if min(columns) < 0:
            return None
        if columns[0] == self._pc:
            displacement += size
        return Access(columns[0], columns[1], scale, displacement, bits=self._bits)

    def _address_column(self, register: int) -> int:
        """Return the column of a register of full width for this mode; others (addr32, vector index) are left out."""
        name = self._names[register]
        full = name.startswith("r") and not name.endswith(("d", "w", "b")) if self._bits == 64 else name.startswith("e")
        return self._column_of[register] if full else -1


_X86_NEVER_ON = frozenset(
    {"jmp", "ljmp", "ret", "retf", "retfq", "iret", "iretd", "iretq", "ud2", "hlt", "sysret", "sysretq"}
)
_X86_PADDING = frozenset({"nop", "int3"})
_X86_NO_ACCESS = frozenset({"lea", "clflush", "clflushopt", "clwb", "cldemote", "invlpg", "endbr64", "endbr32"})
_X86_WHOLE: dict[str, str] = {"rip": "pc", "eip": "pc"}
for _letter in "abcd":
    for _form in (f"r{_letter}x", f"e{_letter}x", f"{_letter}x", f"{_letter}l", f"{_letter}h"):
        _X86_WHOLE[_form] = f"r{_letter}x"
for _pair in ("si", "di", "bp", "sp"):
    for _form in (f"r{_pair}", f"e{_pair}", _pair, f"{_pair}l"):
        _X86_WHOLE[_form] = f"r{_pair}"
for _number in range(8, 16):
    for _suffix in ("", "d", "w", "b"):
        _X86_WHOLE[f"r{_number}{_suffix}"] = f"r{_number}"


_ARM_NEVER_ON = frozenset({"b", "br", "ret", "brk", "udf", "eret"})


class _Arm64(Engine):
    _ARCH = capstone.CS_ARCH_ARM64
    _MODE = {64: capstone.CS_MODE_ARM}  # noqa: RUF012

    def _column(self, name: str) -> int:
        name = {"fp": "x29", "lr": "x30", "wsp": "sp"}.get(name, name)
        if name[:1] == "w" and name[1:].isdigit():
            name = "x" + name[1:]
        if name in ("xzr", "wzr"):
            return self._zero
        return self._columns.get(name, -1)

    def _instruction(self) -> Instruction:
        insn, detail = self._insn, self._detail.arch.arm64
        mnemonic = insn.mnemonic.decode()
        names: list[str] = []
        access: Access | None = None
        for i in range(detail.op_count):
            operand = detail.operands[i]
            if operand.type == arm64_const.ARM64_OP_REG:
                names.append(self._names[operand.value.reg])
            elif operand.type == arm64_const.ARM64_OP_MEM:
                access = self._operand(operand)
            elif operand.type == arm64_const.ARM64_OP_IMM and mnemonic.startswith("ldr") and detail.op_count == 2:
                access = Access(self._pc, self._zero, displacement=operand.value.imm)  # literal
        if mnemonic.startswith("prfm"):
            access = None
        kind, leaves = arm64_kind(mnemonic, self._groups(), names)
        written = self._mask_written()
        # Of atomic operations capstone does not say which registers they write.
        for name in names if kind in (LOAD, STORE) else names[:1]:
            written |= self._bit(name)
        return Instruction(
            kind,
            insn.size,
            access,
            written & ~(1 << self._zero),
            leaves,
            never_falls_through=mnemonic in _ARM_NEVER_ON,
            padding=mnemonic == "nop",
        )

    def _operand(self, operand: Any) -> Access | None:
        memory = operand.value.mem
        base = self._column_of[memory.base]
        index = self._column_of[memory.index] if memory.index else self._zero
        if base < 0 or index < 0:
            return None
        narrow = memory.index and self._names[memory.index].startswith("w")
        signed = operand.ext in (arm64_const.ARM64_EXT_SXTW,)
        extend = (EXTEND_SIGNED if signed else EXTEND_UNSIGNED) if narrow else EXTEND_NONE
        shift = operand.shift.value if memory.index else 0
        return Access(base, index, 1 << shift, memory.disp, extend)


def engine_for(machine: str, columns: tuple[str, ...], bits: int) -> Engine:
    """Return the engine for an architecture and mode (32 or 64 bits)."""
    return (_X86 if machine == "x86_64" else _Arm64)(columns, bits)
