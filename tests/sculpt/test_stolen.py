"""What the hypervisor takes in a burst is told from what it takes all the time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.fake import FakeHost
from hal.host import LinuxHost
from sculpt.stolen import USUAL_OF, Stolen


class Guest:
    """A machine of which so much is stolen in each interval."""

    def __init__(self, *, of_tail: bool = False) -> None:
        self.host = FakeHost({"/proc/stat": "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n"})
        self.stolen = Stolen(self.host, of_tail)
        self.stolen.refusal()
        self.idle = self.taken = 0

    def intervals(self, *shares: float) -> list[bool]:
        """Return of each whether it counts."""
        found = []
        for share in shares:
            self.taken += round(1000 * share)
            self.idle += 1000 - round(1000 * share)
            self.host.files["/proc/stat"] = f"cpu  0 0 0 {self.idle} 0 0 0 {self.taken} 0 0\n"
            found.append(not self.stolen.refusal())
        return found


def test_a_burst_does_not_count() -> None:
    assert Guest().intervals(*[0.0] * 9, 0.4, 0.0, 0.2, 0.3, 0.0) == [True] * 9 + [False, True, False, False, True]


def test_a_percentile_is_spoiled_by_less_and_for_longer() -> None:
    """Its window may hold some of the interval before."""
    shares = (*[0.0] * 9, 0.02, 0.0, 0.0, 0.4, 0.3, 0.0, 0.0)
    assert Guest(of_tail=True).intervals(*shares) == [True] * 9 + [False, False, True, False, False, False, True]
    assert Guest().intervals(*shares) == [True] * 12 + [False, False, True, True]


@given(st.lists(st.floats(0, 1), min_size=100, max_size=100), st.booleans())
def test_whatever_is_stolen_some_intervals_count(shares: list[float], of_tail: bool) -> None:
    found = Guest(of_tail=of_tail).intervals(*shares)
    assert all(any(found[at : at + 2 * USUAL_OF]) for at in range(len(found) - 2 * USUAL_OF))


@pytest.mark.parametrize("of_tail", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_what_is_always_stolen_is_how_things_are(share: float, of_tail: bool) -> None:
    assert all(Guest(of_tail=of_tail).intervals(*[share] * 30))
    later = Guest(of_tail=of_tail).intervals(*[0.0] * 30, *[share] * 30)[30:]
    assert all(later[USUAL_OF // 2 + 1 :])
    assert all(later) is (share == 0.01)


def test_every_other_interval_is_how_things_are_too() -> None:
    found = Guest(of_tail=True).intervals(*[0.0] * 30, *[0.4, 0.0] * 15)
    assert all(found[-10:])


def test_that_it_is_how_things_are_now_is_said_once() -> None:
    guest = Guest()
    new = []
    for share in (*[0.0] * 20, *[0.4] * 20, *[0.0] * 20):
        guest.intervals(share)
        new.append(guest.stolen.is_new)
    assert new.count(True) == 1
    assert new.index(True) <= 20 + USUAL_OF // 2 + 1
    assert not any(guest.intervals(0.9))
    assert guest.stolen.is_spoiled


def test_it_is_said_how_much() -> None:
    guest = Guest()
    guest.intervals(0.0, 0.0, 0.0)
    guest.taken, guest.idle = 400, 3600
    guest.host.files["/proc/stat"] = "cpu  0 0 0 3600 0 0 0 400 0 0\n"
    assert "took 40% of the CPUs' time" in guest.stolen.refusal()


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"])
def test_where_nothing_tells_everything_counts(text: str) -> None:
    for host in (FakeHost({"/proc/stat": text}), FakeHost({})):
        stolen = Stolen(host)
        assert [stolen.refusal() for _ in range(3)] == ["", "", ""]


def test_this_machine_tells() -> None:
    stolen = Stolen(LinuxHost())
    stolen.refusal()
    time.sleep(0.1)
    assert stolen.refusal() == ""
    assert 0 <= (stolen.usual if stolen.usual is not None else -1) <= 1
