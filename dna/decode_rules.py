"""Which class an instruction belongs to, from its name, groups and operands; ``dna.decode`` states the rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import capstone

from dna.sample import INSTRUCTION_CLASSES

LOAD, STORE, BRANCH, INTEGER, SCALAR_FP, VECTOR, OTHER = range(len(INSTRUCTION_CLASSES))

_BRANCH_GROUPS = frozenset(
    {capstone.CS_GRP_JUMP, capstone.CS_GRP_CALL, capstone.CS_GRP_RET, capstone.CS_GRP_BRANCH_RELATIVE}
)
_AWAY_GROUPS = frozenset({capstone.CS_GRP_INT, capstone.CS_GRP_IRET})

_X86_OTHER = re.compile(
    r"(nop\w*|fnop|[lsm]fence|prefetch\w*|pause|endbr\w*|syscall|sysenter|sysret\w*|int\w*|iret\w*|hlt|cpuid|rdtscp?|rdpmc"
    r"|rdrand|rdseed|xgetbv|xsetbv|xsave\w*|xrstor\w*|fx\w+|fw?n?init|wait|fn?stcw|fn?stsw|fldcw|fn?stenv|fldenv|emms"
    r"|vzero\w+|ldmxcsr|stmxcsr|vldmxcsr|vstmxcsr|cl(flush|flushopt|wb|demote|zero|ac|d|i)|serialize|lgdt|sgdt|lidt"
    r"|sidt|ud\d|bnd\w+|rdfsbase|rdgsbase|wrfsbase|wrgsbase|rdpkru|wrpkru|tpause|umwait|umonitor|x(begin|end|abort|test)"
    r"|in[sbwd]?|out\w*|invlpg|rdpid)"
)
_X86_LEAVES = re.compile(r"(syscall|sysenter|sysret\w*|int\w*|iret\w*|hlt|ud\d|x(begin|end|abort))")
_X86_VECTOR_REGISTER = re.compile(r"([xyz]?mm\d+|k\d|tmm\d)")
_X86_MOVE = re.compile(
    r"(v?mov(?!msk)\w*|v?lddqu|vp?broadcast\w*|vp?maskmov\w*|vp?gather\w*|v?p?(compress|expand)\w*|kmov\w)"
)
_X86_READS_FIRST = re.compile(
    r"(test|bt|cmp(?!xchg)\w*|scas\w|lods\w|mul|imul|div|idiv|ver[rw]|l[gs]?jmp|f(?!b?i?stp?|isttp)\w+)"
)
_X86_IMPLICIT_LOADS = frozenset({"pop", "popf", "popfd", "popfq", "popal", "popaw", "leave", "xlatb"})
_X86_SCALAR = re.compile(r"(?!v?p|vbroadcast)\w*s[sdh]")
_X86_CONVERT = re.compile(r"v?cvtt?s[sdh]2u?si")


def x86_kind(
    mnemonic: str, groups: Collection[int], registers: Sequence[str], *, memory: bool, memory_first: bool
) -> tuple[int, bool]:
    """Return (class, whether control may go elsewhere than to the next instruction).

    capstone's access flags are not used: it gives "read" for the destination of most AVX stores.

    Args:
        mnemonic: capstone's, prefixes such as ``lock`` or ``rep`` before it.
        groups: capstone's groups.
        registers: names of the register operands.
        memory: whether it has a memory operand.
        memory_first: whether that is the first operand: the destination, except of what only reads.
    """
    name = mnemonic.rsplit(" ", 1)[-1]
    if _BRANCH_GROUPS.intersection(groups):
        return BRANCH, True
    if _X86_OTHER.fullmatch(name):
        return OTHER, _X86_LEAVES.fullmatch(name) is not None
    kind = _x86_data_kind(name, registers, memory=memory, memory_first=memory_first)
    return kind, bool(_AWAY_GROUPS.intersection(groups))


def _x86_data_kind(name: str, registers: Sequence[str], *, memory: bool, memory_first: bool) -> int:
    if name == "lea":
        return INTEGER
    if name.startswith("push") or (memory_first and not _X86_READS_FIRST.fullmatch(name)):
        return STORE
    if name.startswith("f"):  # x87
        return LOAD if memory and name in ("fld", "fild", "fbld") else SCALAR_FP
    if _X86_CONVERT.fullmatch(name):
        return SCALAR_FP
    vector = any(_X86_VECTOR_REGISTER.fullmatch(register) for register in registers)
    if vector and not (memory and _X86_MOVE.fullmatch(name)):
        return SCALAR_FP if _X86_SCALAR.fullmatch(name) else VECTOR
    return LOAD if memory or name in _X86_IMPLICIT_LOADS else INTEGER


_ARM_OTHER = re.compile(
    r"(nop|svc|hvc|smc|brk|hlt|dmb|dsb|isb|sb|ssbb|pssbb|csdb|mrs|msr|hint|yield|wfe|wfi|wfit|wfet|sevl?|prfu?m|bti|pac\w*"
    r"|aut\w*|xpac\w*|dc|ic|at|tlbi|sysl?|clrex|udf|esb|tsb|dgh|cfinv|axflag|xaflag|prf[bhwd])"
)
_ARM_LEAVES = re.compile(r"(svc|hvc|smc|brk|hlt|udf)")
_ARM_READ_MODIFY_WRITE = re.compile(r"(ld(add|clr|eor|set|smax|smin|umax|umin)\w*|swp\w*|cas\w*)")
_ARM_VECTOR_REGISTER = re.compile(r"([vqzp]\d+)")
_ARM_FP_REGISTER = re.compile(r"([dshb]\d+)")


def arm64_kind(mnemonic: str, groups: Collection[int], registers: Sequence[str]) -> tuple[int, bool]:
    """Return (class, whether control may go elsewhere); arguments as of ``x86_kind``."""
    name = mnemonic.split(".", 1)[0]
    if _BRANCH_GROUPS.intersection(groups) or name in ("b", "bl", "br", "blr", "ret", "eret"):
        return BRANCH, True
    if _ARM_OTHER.fullmatch(name):
        return OTHER, _ARM_LEAVES.fullmatch(name) is not None
    if name.startswith("st") or _ARM_READ_MODIFY_WRITE.fullmatch(name):
        return STORE, False
    if name.startswith("ld"):
        return LOAD, False
    if any(_ARM_VECTOR_REGISTER.fullmatch(register) for register in registers):
        return VECTOR, False
    if any(_ARM_FP_REGISTER.fullmatch(register) for register in registers):
        return SCALAR_FP, False
    return INTEGER, False
