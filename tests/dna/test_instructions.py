"""The instruction probe's decisions: rates, code read, hot lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna.access_patterns import PAGE
from dna.probes.instructions import MOST_PER_S, RATES_HZ, WANTED_PER_S, CodeReader, hot_line_share, next_rate
from hal.errors import translate
from hal.fake import FakeHost

CODE = bytes(range(256)) * (PAGE // 256)


class CodeHost(FakeHost):
    """One page of code at 0x1000 of process 7; process 8 may not be read."""

    reads = 0

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        self.reads += 1
        if pid == 8:
            raise translate(13, f"/proc/{pid}/mem", "read")
        if address != 0x1000:
            raise translate(5, f"/proc/{pid}/mem", "read")
        return CODE[:size]


def test_code_is_read_a_page_at_a_time() -> None:
    host = CodeHost()
    reader = CodeReader(host)
    assert reader.read(7, 0x1040) == (CODE[0x20:0x40], CODE[0x40:0x60])
    assert reader.read(7, 0x1F00)[1] == CODE[0xF00:0xF20]
    assert host.reads == 1
    reader.forget()
    reader.read(7, 0x1040)
    assert host.reads == 2


def test_code_ends_with_its_page() -> None:
    reader = CodeReader(CodeHost())
    assert reader.read(7, 0x1004) == (CODE[:4], CODE[4:36])
    assert reader.read(7, 0x1FF8) == (CODE[-40:-8], CODE[-8:])


def test_unreadable_code_is_empty_and_a_refusal_is_remembered() -> None:
    reader = CodeReader(CodeHost())
    assert reader.read(7, 0x9000) == (b"", b"")
    assert not reader.refused
    assert reader.read(8, 0x1000) == (b"", b"")
    assert "/proc/8/mem" in reader.refused


def test_the_rate_is_steered_to_the_wanted_samples() -> None:
    assert next_rate(199, kept_per_s=398, taken_per_s=398, most_hz=2000) == 199
    assert next_rate(199, kept_per_s=199, taken_per_s=398, most_hz=2000) == 397
    assert next_rate(397, kept_per_s=1600, taken_per_s=1600, most_hz=2000) == 97


def test_a_busy_machine_around_a_quiet_target_bounds_the_rate() -> None:
    assert next_rate(199, kept_per_s=1, taken_per_s=199 * 64, most_hz=2000) == RATES_HZ[0]


def test_the_rate_fits_the_ring() -> None:
    assert next_rate(199, kept_per_s=0, taken_per_s=0, most_hz=250) == 199


@settings(deadline=None)
@given(st.sampled_from(RATES_HZ), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e5))
def test_the_rate_is_always_one_of_the_list(rate: float, kept: float, others: float, most: float) -> None:
    found = next_rate(rate, kept_per_s=kept, taken_per_s=kept + others, most_hz=most)
    assert found in RATES_HZ
    if found > RATES_HZ[0] and kept:
        assert kept * found / rate <= WANTED_PER_S * 1.3
        assert (kept + others) * found / rate <= MOST_PER_S * 1.3


def test_hot_lines_are_the_ten_commonest() -> None:
    hot = np.repeat(np.arange(10, dtype=np.uint64) * np.uint64(64), 9)
    cold = np.arange(100, 110, dtype=np.uint64) * np.uint64(64)
    assert hot_line_share(np.concatenate([hot, cold])) == pytest.approx(0.9)
    assert hot_line_share(np.zeros(0, dtype=np.uint64)) is None
