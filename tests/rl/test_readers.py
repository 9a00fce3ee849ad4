"""Reading never holds up the loop, whatever a source does, and closing leaves nothing running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hal.errors import HalError, translate
from hal.fake import FakeHost
from rl.measured import LATENCY, THROUGHPUT, Metric, Problem
from rl.sources.found import Count, Found, Level, SourceError
from rl.sources.reader import SourceReader, read_all

LONG_S = 60.0
"""What nobody must wait for."""


class Scripted:
    """A source whose reads do what a test says, one after the other; the last one again and again."""

    def __init__(self, *reads: Callable[[], Found]) -> None:
        self.reads = list(reads)
        self.asked = 0
        self.closed = threading.Event()

    def fetch(self) -> Found:
        self.asked += 1
        return (self.reads.pop(0) if len(self.reads) > 1 else self.reads[0])()

    def close(self) -> None:
        self.closed.set()


class Blocking:
    """A read that lasts until it is let go."""

    def __init__(self, result: Found) -> None:
        self.go = threading.Event()
        self.result = result

    def __call__(self) -> Found:
        self.go.wait(LONG_S)
        return self.result


def reader(
    source: Scripted, kind: str = LATENCY, *, timeout_s: float = 20.0, host: FakeHost | None = None
) -> SourceReader:
    return SourceReader(Metric(kind, "test"), source, clock=(host or FakeHost()).monotonic_ns, timeout_s=timeout_s)


def raising(error: BaseException) -> Callable[[], Found]:
    def read() -> Found:
        raise error

    return read


@contextmanager
def ends_soon() -> Iterator[None]:
    before = time.monotonic()
    yield
    assert time.monotonic() - before < LONG_S / 2


def test_a_source_that_does_not_answer_is_slow_and_is_not_asked_twice_at_a_time() -> None:
    stuck = Blocking(Level(1.0))
    source = Scripted(stuck, lambda: Level(2.0))
    one = reader(source, timeout_s=0.05)
    with ends_soon():
        assert [one.read(0.0).problem, one.read(1.0).problem] == [Problem.SLOW] * 2
    assert source.asked == 1
    stuck.go.set()
    until = time.monotonic() + LONG_S / 2
    while (measured := one.read(2.0)).value is None:
        assert time.monotonic() < until
    assert measured.value == 2.0  # and not the late 1.0, which is of another interval
    one.close()


@pytest.mark.long
def test_after_a_slow_answer_a_count_begins_anew() -> None:
    host = FakeHost()
    stuck = Blocking(Count(1000.0))
    source = Scripted(lambda: Count(0.0), stuck, lambda: Count(5000.0), lambda: Count(5050.0))
    one = reader(source, THROUGHPUT, timeout_s=2.0, host=host)
    assert one.read(0.0).problem is Problem.FIRST
    assert one.read(5.0).problem is Problem.SLOW
    stuck.go.set()
    until = time.monotonic() + LONG_S / 2
    while (again := one.read(10.0)).problem is Problem.SLOW:
        assert time.monotonic() < until
    assert again.problem is Problem.FIRST
    host.advance(5.0)
    assert one.read(15.0).value == pytest.approx(10.0)


@pytest.mark.long
def test_several_slow_ones_take_the_time_of_one() -> None:
    stuck = [Blocking(Level(1.0)) for _ in range(40)]
    readers = [reader(Scripted(one), timeout_s=0.5) for one in stuck]
    fast = reader(Scripted(lambda: Level(3.0)))
    before = time.monotonic()
    measured = read_all([*readers, fast], 7.0)
    assert time.monotonic() - before < 40 * 0.5 / 2
    assert [one.problem for one in measured] == [Problem.SLOW] * 40 + [None]
    assert measured[-1].value == 3.0
    for one in stuck:
        one.go.set()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (SourceError(Problem.UNFIT, "no such number"), Problem.UNFIT),
        (ConnectionRefusedError(111, "refused"), Problem.GONE),
        (TimeoutError("timed out"), Problem.SLOW),
        (translate(2, "/x", "read"), Problem.GONE),
        (translate(13, "/x", "read"), Problem.REFUSED),
        (HalError("broken"), Problem.REFUSED),
        (RecursionError("a parser's bug"), Problem.REFUSED),
        (SystemExit(3), Problem.REFUSED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_is_named_and_survived(error: BaseException, problem: Problem) -> None:
    one = reader(Scripted(raising(error), lambda: Level(4.0)))
    measured = one.read(1.0)
    assert (measured.value, measured.problem) == (None, problem)
    assert measured.because
    assert one.read(2.0).value == 4.0


def test_rates_go_by_a_clock_that_does_not_jump() -> None:
    """The caller's time only labels what was measured: set back an hour, it changes nothing."""
    host = FakeHost()
    one = reader(Scripted(lambda: Count(0.0), lambda: Count(50.0)), THROUGHPUT, host=host)
    one.read(1_000_000.0)
    host.advance(5.0)
    measured = one.read(996_400.0)
    assert measured.value == pytest.approx(10.0)
    assert measured.t == 996_400.0


def test_closing_closes_at_once_or_when_the_read_is_over() -> None:
    idle = Scripted(lambda: Level(1.0))
    one = reader(idle)
    one.read(0.0)
    one.close()
    one.close()
    assert idle.closed.is_set()
    assert one.read(1.0).problem is Problem.GONE

    stuck = Blocking(Level(1.0))
    busy = Scripted(stuck)
    other = reader(busy, timeout_s=0.05)
    other.read(0.0)
    with ends_soon():
        other.close()
    assert not busy.closed.is_set()
    stuck.go.set()
    assert busy.closed.wait(LONG_S / 2)
