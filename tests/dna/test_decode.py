"""Machine code to class and address, for both architectures on any machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna.decode import Decoder, effective_addresses
from dna.sample import INSTRUCTION_CLASSES
from hal.errors import UnsupportedError

X86 = Decoder("x86_64")
ARM = Decoder("aarch64")


def code(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def word(instruction: int) -> bytes:
    return instruction.to_bytes(4, "little")


# Encodings by GNU as.
X86_CLASSES = [
    ("48 8b 06", "load", "mov rax, [rsi]"),
    ("48 89 06", "store", "mov [rsi], rax"),
    ("48 03 06", "load", "add rax, [rsi]"),
    ("48 01 06", "store", "add [rsi], rax"),
    ("48 39 06", "load", "cmp [rsi], rax"),
    ("48 85 06", "load", "test [rsi], rax"),
    ("48 87 06", "store", "xchg [rsi], rax"),
    ("f0 48 0f b1 0e", "store", "lock cmpxchg [rsi], rcx"),
    ("f3 a4", "store", "rep movsb"),
    ("ae", "load", "scasb"),
    ("48 f7 26", "load", "mul qword [rsi]"),
    ("48 f7 1e", "store", "neg qword [rsi]"),
    ("0f 94 00", "store", "sete [rax]"),
    ("50", "store", "push rax"),
    ("58", "load", "pop rax"),
    ("c9", "load", "leave"),
    ("c3", "branch", "ret"),
    ("e8 00 00 00 00", "branch", "call"),
    ("ff 50 08", "branch", "call [rax+8]"),
    ("75 f0", "branch", "jne"),
    ("eb 10", "branch", "jmp"),
    ("48 01 c8", "integer", "add rax, rcx"),
    ("48 8d 44 8b 08", "integer", "lea rax, [rbx+rcx*4+8]"),
    ("48 89 c8", "integer", "mov rax, rcx"),
    ("f3 48 0f b8 c1", "integer", "popcnt rax, rcx"),
    ("48 f7 f1", "integer", "div rcx"),
    ("f2 0f 58 c1", "scalar_fp", "addsd xmm0, xmm1"),
    ("f2 0f 58 06", "scalar_fp", "addsd xmm0, [rsi]"),
    ("f2 48 0f 2c 06", "scalar_fp", "cvttsd2si rax, [rsi]"),
    ("66 0f 2e c1", "scalar_fp", "ucomisd xmm0, xmm1"),
    ("dc 06", "scalar_fp", "fadd qword [rsi]"),
    ("dd 06", "load", "fld qword [rsi]"),
    ("dd 1e", "store", "fstp qword [rsi]"),
    ("c4 e2 f1 b9 16", "scalar_fp", "vfmadd231sd xmm2, xmm1, [rsi]"),
    ("0f 58 c1", "vector", "addps xmm0, xmm1"),
    ("0f 58 06", "vector", "addps xmm0, [rsi]"),
    ("c5 f5 fe d0", "vector", "vpaddd ymm2, ymm1, ymm0"),
    ("66 0f 38 3d c1", "vector", "pmaxsd xmm0, xmm1"),
    ("c4 e2 7d 1e d1", "vector", "vpabsd ymm2, ymm1"),
    ("66 0f d7 c1", "vector", "pmovmskb eax, xmm1"),
    ("f3 0f 10 0e", "load", "movss xmm1, [rsi]"),
    ("c5 fc 10 06", "load", "vmovups ymm0, [rsi]"),
    ("c5 fc 11 06", "store", "vmovups [rsi], ymm0"),
    ("c5 fd e7 06", "store", "vmovntdq [rsi], ymm0"),
    ("c4 e3 7d 39 08 01", "store", "vextracti128 [rax], ymm1, 1"),
    ("c4 e2 7d 18 06", "load", "vbroadcastss ymm0, [rsi]"),
    ("90", "other", "nop"),
    ("66 0f 1f 44 00 00", "other", "nopw [rax+rax]"),
    ("0f 05", "other", "syscall"),
    ("0f ae f0", "other", "mfence"),
    ("0f 18 08", "other", "prefetcht0 [rax]"),
    ("0f a2", "other", "cpuid"),
    ("c5 f8 77", "other", "vzeroupper"),
]

ARM_CLASSES = [
    (0xF9400020, "load", "ldr x0, [x1]"),
    (0xA8C17BFD, "load", "ldp x29, x30, [sp], #16"),
    (0x3DC00020, "load", "ldr q0, [x1]"),
    (0xC8DFFC20, "load", "ldar x0, [x1]"),
    (0x58000040, "load", "ldr x0, literal"),
    (0xA9BF7BFD, "store", "stp x29, x30, [sp, #-16]!"),
    (0xC89FFC20, "store", "stlr x0, [x1]"),
    (0xF8208020, "store", "swp x0, x0, [x1]"),
    (0xF8200020, "store", "ldadd x0, x0, [x1]"),
    (0x54000041, "branch", "b.ne"),
    (0x94000001, "branch", "bl"),
    (0xD65F03C0, "branch", "ret"),
    (0xB4000040, "branch", "cbz x0"),
    (0x8B020020, "integer", "add x0, x1, x2"),
    (0x1E622820, "scalar_fp", "fadd d0, d1, d2"),
    (0x9E670000, "scalar_fp", "fmov d0, x0"),
    (0x4E62D420, "vector", "fadd v0.2d, v1.2d, v2.2d"),
    (0xF9800000, "other", "prfm"),
    (0xD4000001, "other", "svc"),
    (0xD503201F, "other", "nop"),
]


@pytest.mark.parametrize(("text", "kind", "name"), X86_CLASSES, ids=[case[2] for case in X86_CLASSES])
def test_x86_instructions_have_the_class_of_the_documented_rules(text: str, kind: str, name: str) -> None:
    instruction = X86.instruction(code(text) + b"\x90" * 16)
    assert instruction is not None
    assert INSTRUCTION_CLASSES[instruction.kind] == kind, name
    assert instruction.size == len(code(text))


@pytest.mark.parametrize(("value", "kind", "name"), ARM_CLASSES, ids=[case[2] for case in ARM_CLASSES])
def test_arm_instructions_have_the_class_of_the_documented_rules(value: int, kind: str, name: str) -> None:
    instruction = ARM.instruction(word(value))
    assert instruction is not None
    assert INSTRUCTION_CLASSES[instruction.kind] == kind, name


def address(
    decoder: Decoder, following: bytes, registers: dict[str, int], *, before: bytes = b"", ip: int = 0x400000
) -> int | None:
    """Return the address that a sample with these registers says, or None."""
    site = decoder.site(following, before=before)
    assert site is not None
    if site.access is None:
        return None
    values = np.zeros((1, len(decoder.columns) - 2), dtype=np.uint64)
    for name, value in registers.items():
        values[0, decoder.columns.index(name)] = value
    return int(effective_addresses([site.access], np.array([0]), values, np.array([ip], dtype=np.uint64))[0])


X86_ADDRESSES = [
    ("48 8b 44 8b f8", {"rbx": 0x1000, "rcx": 5}, 0x1000 + 5 * 4 - 8, "mov rax, [rbx+rcx*4-8]"),
    ("48 8b 05 10 00 00 00", {}, 0x400000 + 7 + 0x10, "mov rax, [rip+16]"),
    ("48 8b 05 f0 ff ff ff", {}, 0x400000 + 7 - 0x10, "mov rax, [rip-16]"),
    ("43 8b 04 ec", {"r12": 0x2000, "r13": 2}, 0x2010, "mov eax, [r12+r13*8]"),
    ("50", {"rsp": 0x7FFE0}, 0x7FFD8, "push rax"),
    ("58", {"rsp": 0x7FFE0}, 0x7FFE0, "pop rax"),
    ("c9", {"rbp": 0x7FFE0}, 0x7FFE0, "leave"),
    ("f3 a4", {"rdi": 0x3000, "rsi": 0x4000}, 0x3000, "rep movsb"),
    ("64 48 8b 04 25 00 00 00 00", {}, None, "mov rax, fs:0: the segment's base is not sampled"),
    ("c4 e2 75 92 1c 90", {"rax": 0x1000}, None, "vgatherdps: many addresses"),
    ("48 8d 06 c3", {"rsi": 0x1000, "rsp": 0x2000}, 0x2000, "lea touches nothing, the ret behind it does"),
    ("48 01 c8 48 8b 06", {"rsi": 0x5000}, 0x5000, "add rax, rcx; mov rax, [rsi]"),
    ("48 01 ce 48 8b 06", {"rsi": 0x5000}, None, "add rsi, rcx; mov rax, [rsi]: rsi changes"),
    ("75 f0 48 8b 06", {"rsi": 0x5000}, None, "jne: control may leave"),
    ("48 01 c8 48 8b 05 10 00 00 00", {}, 0x400000 + 10 + 0x10, "rip-relative behind another instruction"),
]


@pytest.mark.parametrize(("text", "registers", "expected", "name"), X86_ADDRESSES, ids=[c[3] for c in X86_ADDRESSES])
def test_x86_addresses_follow_from_the_registers(
    text: str, registers: dict[str, int], expected: int | None, name: str
) -> None:
    found = address(X86, code(text) + b"\xcc" * 16, registers)
    assert found == expected, name


ARM_ADDRESSES = [
    (0xF9400420, {"x1": 0x1000}, 0x1008, "ldr x0, [x1, #8]"),
    (0xF8408420, {"x1": 0x1000}, 0x1000, "ldr x0, [x1], #8"),
    (0xF8408C20, {"x1": 0x1000}, 0x1008, "ldr x0, [x1, #8]!"),
    (0xF8627820, {"x1": 0x1000, "x2": 3}, 0x1018, "ldr x0, [x1, x2, lsl #3]"),
    (0xF822D820, {"x1": 0x1000, "x2": 0xFFFFFFFF}, 0x1000 - 8, "str x0, [x1, w2, sxtw #3]"),
    (0xA9BF7BFD, {"sp": 0x8000}, 0x7FF0, "stp x29, x30, [sp, #-16]!"),
    (0x58000040, {}, 0x400008, "ldr x0, pc+8"),
]


@pytest.mark.parametrize(("value", "registers", "expected", "name"), ARM_ADDRESSES, ids=[c[3] for c in ARM_ADDRESSES])
def test_arm_addresses_follow_from_the_registers(
    value: int, registers: dict[str, int], expected: int, name: str
) -> None:
    assert address(ARM, word(value), registers) == expected, name


@settings(deadline=None)
@given(
    base=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**64 - 1),
    scale=st.sampled_from([0, 1, 2, 3]),
    displacement=st.integers(-(2**31), 2**31 - 1),
)
def test_address_arithmetic_wraps_as_the_processor_does(base: int, index: int, scale: int, displacement: int) -> None:
    # mov rax, [rbx + rcx * 2**scale + disp32]: 48 8b 84 SIB disp32
    instruction = code("48 8b 84") + bytes([scale << 6 | 1 << 3 | 3]) + displacement.to_bytes(4, "little", signed=True)
    expected = (base + (index << scale) + displacement) % 2**64
    assert address(X86, instruction + b"\xcc", {"rbx": base, "rcx": index}) == expected


# A straight line as a compiler would emit it.
LINE = [
    code(t) for t in ("48 89 c8", "48 c1 e8 07", "48 31 c1", "48 8b 04 d7", "48 83 c2 08", "48 39 f2", "0f 1f 40 00")
]


def test_a_sample_is_charged_to_the_instruction_before() -> None:
    before, following = b"".join(LINE[:4]), b"".join(LINE[4:])
    site = X86.site(following, before=before)
    assert site is not None
    assert INSTRUCTION_CLASSES[site.kind] == "load"
    assert address(X86, following, {"rdi": 0x10000, "rdx": 4}, before=before) == 0x10020


def test_the_instruction_before_is_not_asked_for_an_address_it_changed() -> None:
    load = code("48 8b 00")  # mov rax, [rax]
    following = code("48 8b 00") + b"\xcc" * 8
    assert address(X86, following, {"rax": 0x7000}, before=b"".join(LINE) + load) == 0x7000  # of the load to come


@pytest.mark.parametrize("end", ["c3", "eb 20", "90", "cc", "0f 1f 40 00"], ids=["ret", "jmp", "nop", "int3", "nopl"])
def test_what_cannot_be_fallen_into_was_jumped_to(end: str) -> None:
    site = X86.site(code("48 01 c8") + b"\x90" * 8, before=b"".join(LINE[:4]) + code(end))
    assert site is not None
    assert INSTRUCTION_CLASSES[site.kind] == "branch"


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINE[:6]), min_size=10, max_size=20))
def test_going_back_over_code_finds_the_last_instruction(line: list[bytes]) -> None:
    found = X86.previous_size(b"".join(line)[-32:])
    assert found in (0, len(line[-1]))


def test_going_back_is_rarely_left_open() -> None:
    random = np.random.default_rng(0)
    lines = [[LINE[i] for i in random.integers(0, 6, 14)] for _ in range(200)]
    found = [X86.previous_size(b"".join(line)[-32:]) == len(line[-1]) for line in lines]
    assert np.mean(found) > 0.9


def test_one_encoding_is_decoded_once() -> None:
    decoder = Decoder("x86_64")
    decoder.instruction(code("48 8b 06") + b"\x90" * 8)
    work = decoder.work_us
    decoder.instruction(code("48 8b 06") + b"\xc3" * 8)
    assert decoder.work_us == work


def test_32_bit_code_is_decoded_in_its_own_mode() -> None:
    inc = X86.instruction(code("40 90"), 32)  # inc eax; a REX prefix in 64-bit mode
    assert inc is not None
    assert inc.size == 1
    site = X86.site(code("8b 03") + b"\xcc" * 8, 32)  # mov eax, [ebx]
    assert site is not None
    assert site.access is not None
    registers = np.zeros((1, 16), dtype=np.uint64)
    registers[0, X86.columns.index("rbx")] = 0xFFFFFFFF
    assert effective_addresses([site.access], np.array([0]), registers, np.array([0], dtype=np.uint64))[0] == 0xFFFFFFFF


@pytest.mark.parametrize("data", [b"", code("48"), code("06 06 06")], ids=["empty", "cut off", "not an instruction"])
def test_what_is_no_instruction_is_none(data: bytes) -> None:
    assert X86.instruction(data) is None
    assert X86.site(data) is None


@settings(deadline=None)
@given(st.binary(min_size=0, max_size=64), st.integers(0, 64))
def test_any_bytes_are_survived(data: bytes, cut: int) -> None:
    for decoder in (X86, ARM):
        site = decoder.site(data[cut:], before=data[:cut][-32:])
        if site is not None:
            assert 0 <= site.kind < len(INSTRUCTION_CLASSES)


def test_an_architecture_without_register_layout_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        Decoder("riscv64")
