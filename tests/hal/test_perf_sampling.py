"""Records of the software clock parsed, and its attributes packed as the kernel wants them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.errors import NotPermittedError, UnsupportedError, translate
from hal.fake import FakeHost
from hal.perf_sampling import CpuSampler, ThreadSampler, attributes, parse, record_bytes, register_names

REGISTERS = 16
USER, KERNEL = 2, 1


def sample(
    *, ip: int, pid: int = 10, tid: int = 11, time: int = 5, abi: int = 2, mode: int = USER, registers: int = REGISTERS
) -> bytes:
    words = struct.pack("<QiiQQ", ip, pid, tid, time, abi)
    body = words + (struct.pack(f"<{registers}Q", *range(100, 100 + registers)) if abi else b"")
    return struct.pack("<IHH", 9, mode, 8 + len(body)) + body


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", 2, 0, 24, 1, count)


def throttled() -> bytes:
    return struct.pack("<IHHQQQ", 5, 0, 32, 1, 2, 3)


def test_samples_carry_thread_mode_and_registers() -> None:
    found = parse(sample(ip=0x1000, pid=-1, tid=7) + sample(ip=0xFFFFFFFF81000000, mode=KERNEL, time=9), REGISTERS)
    assert found.ip.tolist() == [0x1000, 0xFFFFFFFF81000000]
    assert found.user.tolist() == [True, False]
    assert found.pid.tolist() == [-1, 10]
    assert found.tid.tolist() == [7, 11]
    assert found.bits.tolist() == [64, 64]
    assert found.registers[0].tolist() == list(range(100, 116))


def test_kernel_threads_have_no_registers_and_keep_their_place_in_time() -> None:
    data = sample(ip=1, time=1) + sample(ip=2, time=2, abi=0, mode=KERNEL) + sample(ip=3, time=3, abi=1)
    found = parse(data, REGISTERS)
    assert found.ip.tolist() == [1, 2, 3]
    assert found.bits.tolist() == [64, 0, 32]
    assert not found.registers[1].any()


def test_other_records_are_passed_over_and_losses_added_up() -> None:
    found = parse(throttled() + lost(5) + sample(ip=1) + lost(7), REGISTERS)
    assert len(found) == 1
    assert found.lost == 12


def test_an_empty_ring_is_an_empty_answer() -> None:
    found = parse(b"", REGISTERS)
    assert len(found) == 0
    assert found.registers.shape == (0, REGISTERS)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2]), st.booleans()), max_size=40))
def test_no_sample_is_lost_or_invented(rows: list[tuple[int, int, bool]]) -> None:
    data = b"".join(
        (throttled() if noise else b"") + sample(ip=ip, abi=abi, time=i) for i, (ip, abi, noise) in enumerate(rows)
    )
    assert parse(data, REGISTERS).ip.tolist() == [ip for ip, _, _ in rows]


def test_samples_can_be_chosen() -> None:
    found = parse(sample(ip=1) + sample(ip=2) + lost(3), REGISTERS)
    chosen = found.where(np.array([False, True]))
    assert chosen.ip.tolist() == [2]
    assert chosen.lost == 3


def test_attributes_are_a_software_clock_with_user_registers() -> None:
    packed = attributes(rate_hz=100, exclude_kernel=True, machine="x86_64")
    kind, size, config, period, sampled, _, flags = struct.unpack_from("<IIQQQQQ", packed)
    assert (kind, size, config, period) == (1, len(packed), 0, 10_000_000)
    assert sampled == 1 | 2 | 4 | 1 << 12
    assert flags & 1 << 5  # exclude_kernel
    mask = struct.unpack_from("<Q", packed, 80)[0]
    assert mask == 0xFF00FF  # the kernel refuses the segment registers of a 64-bit task
    assert not attributes(rate_hz=100, exclude_kernel=False, machine="x86_64")[40] & 1 << 5


@pytest.mark.parametrize(("machine", "count"), [("x86_64", 16), ("aarch64", 32)])
def test_each_architecture_names_its_registers(machine: str, count: int) -> None:
    assert len(register_names(machine)) == count
    assert record_bytes(machine) == 8 * (5 + count)


def test_an_unknown_architecture_is_unsupported() -> None:
    with pytest.raises(UnsupportedError):
        register_names("s390x")


def refuse(number: int) -> FakeHost:
    def refused(*arguments: int) -> int:
        raise translate(number, "perf_event_open", "call")

    return FakeHost(syscalls={"perf_event_open": refused})


def test_a_refusal_is_passed_on_by_both_samplers() -> None:
    with pytest.raises(NotPermittedError):
        CpuSampler(refuse(13), [0, 1], rate_hz=99, samples=10)
    with pytest.raises(NotPermittedError):
        ThreadSampler(refuse(13), rate_hz=99, samples=10).follow(frozenset({5}))


def test_offline_cpus_are_left_out_but_not_all_of_them() -> None:
    with pytest.raises(UnsupportedError, match="no CPU"):
        CpuSampler(refuse(19), [0, 1], rate_hz=99, samples=10)  # ENODEV


def test_threads_that_ended_meanwhile_are_no_error() -> None:
    sampler = ThreadSampler(refuse(3), rate_hz=99, samples=10)  # ESRCH
    sampler.follow(frozenset({5, 6}))
    assert sampler.watched == 0.0
