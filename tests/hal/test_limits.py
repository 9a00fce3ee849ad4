"""Room for file descriptors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hal.fake import FakeHost
from hal.limits import RESERVE, descriptor_room
from tests.hal.perf_kernel import PerfKernel


def host_with(kernel: PerfKernel, used: int = 4) -> FakeHost:
    return FakeHost({f"/proc/self/fd/{number}": "" for number in range(used)}, syscalls=kernel.syscalls)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 10000), st.integers(1, 100))
def test_room_is_what_the_hard_limit_leaves(soft: int, more: int, wanted: int, used: int) -> None:
    kernel = PerfKernel(limit=(soft, soft + more))
    room = descriptor_room(host_with(kernel, used), wanted)
    assert room == max(min(wanted, soft + more - used - RESERVE), 0)
    assert kernel.limit[0] >= min(soft, room + used + RESERVE)


def test_the_soft_limit_rises_only_as_far_as_needed() -> None:
    kernel = PerfKernel(limit=(1024, 4096))
    assert descriptor_room(host_with(kernel), 500) == 500
    assert kernel.limit == (1024, 4096)
    assert descriptor_room(host_with(kernel), 2000) == 2000
    assert kernel.limit == (2000 + 4 + RESERVE, 4096)


def test_an_unknown_limit_leaves_it_to_the_kernel() -> None:
    assert descriptor_room(FakeHost(), 123) == 123
