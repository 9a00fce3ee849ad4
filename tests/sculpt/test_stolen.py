"""What the hypervisor takes in a burst is told from what it takes all the time."""

from __future__ import annotations

import pytest

from hal.fake import FakeHost
from hal.host import LinuxHost
from sculpt.stolen import BELIEVED, Stolen


class Guest:
    """A machine of which so much is stolen in each interval."""

    def __init__(self) -> None:
        self.host = FakeHost({"/proc/stat": "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n"})
        self.stolen = Stolen(self.host)
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


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_what_is_always_stolen_is_how_things_are(share: float) -> None:
    found = Guest().intervals(*[share] * 30)
    assert all(found[BELIEVED:])
    assert Guest().intervals(*[0.0] * 30, *[share] * 30).count(False) < BELIEVED


def test_it_is_said_how_much() -> None:
    guest = Guest()
    guest.taken, guest.idle = 400, 600
    guest.host.files["/proc/stat"] = "cpu  0 0 0 600 0 0 0 400 0 0\n"
    assert "took 40% of the CPUs' time" in guest.stolen.refusal()


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"])
def test_where_nothing_tells_everything_counts(text: str) -> None:
    for host in (FakeHost({"/proc/stat": text}), FakeHost({})):
        stolen = Stolen(host)
        assert [stolen.refusal() for _ in range(3)] == ["", "", ""]


def test_this_machine_tells() -> None:
    stolen = Stolen(LinuxHost())
    assert stolen.refusal() == ""
