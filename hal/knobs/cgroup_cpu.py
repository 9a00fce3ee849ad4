"""How much CPU time a cgroup gets: its weight among its siblings, and what it can have at most."""

from __future__ import annotations

import errno
import itertools
import math
import re
from dataclasses import dataclass, replace

from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.cgroup import GroupFile, GroupKnob, Place, nested
from hal.knobs.knob import Knob, whole_number
from hal.settings import Change, Subject, Value

# kernel/sched/core.c: sched_weight_from_cgroup(), tg_set_cfs_bandwidth(); kernel/sched/fair.c: MIN_SHARES, MAX_SHARES
_SHARES_OF_DEFAULT_WEIGHT = 1024
_SHARES = (2, 1 << 18)
_QUOTA_US = (1_000, (1 << 44) - 1)
_PERIOD_US = (1_000, 1_000_000)
_DEFAULT_PERIOD_US = 100_000


class CpuWeight(GroupFile):
    """The share of a group in CPU time that its siblings want too."""

    name = "cgroup.cpu_weight"
    title = "Weight of a cgroup in CPU time, among its siblings"
    values = "a number from 1 to 10000 (100 is everybody's); of cgroup v1 also shares=2 to shares=262144"
    example = "200"
    controller = "cpu"
    file_v2 = "cpu.weight"
    file_v1 = "cpu.shares"

    def parse(self, text: str) -> Value:
        _, shares, number = text.strip().partition("shares=")
        if not shares:
            return whole_number(self, text, least=1, most=10_000)
        return weight_of(whole_number(self, number, least=_SHARES[0], most=_SHARES[1]))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        place = self.place(host, subject)
        try:
            idle = host.read_text(place.file("cpu.idle")).strip() == "1"
        except HostError:
            return
        if idle:
            raise SettingError(
                f"{self.name}: {subject} is idle (cpu.idle) and has no weight",
                remedy="Write 0 into its cpu.idle first.",
            )

    def decode(self, text: str, version: int) -> Value:
        return weight_of(int(text)) if version == 1 else int(text)

    def encode(self, value: Value, version: int) -> str:
        if version == 1:
            return str(shares_of(value))
        if not isinstance(value, int):
            raise SettingError(f"{self.name}: {value} is of cgroup v1", remedy="Give a weight from 1 to 10000.")
        return str(value)


def shares_of(weight: Value) -> int:
    """Return the shares that the kernel itself takes for a weight: 1024 for 100 (sched_weight_from_cgroup)."""
    if isinstance(weight, int):
        return (weight * _SHARES_OF_DEFAULT_WEIGHT + 50) // 100
    return int(str(weight).removeprefix("shares="))


def weight_of(shares: int) -> Value:
    """Return the weight that stands for these shares exactly, or else the shares themselves, as ``shares=300``."""
    weight = max(1, min(round(shares * 100 / _SHARES_OF_DEFAULT_WEIGHT), 10_000))
    return weight if shares_of(weight) == shares else f"shares={shares}"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """CPU time that a group may use in each period; all times in microseconds."""

    quota_us: int | None
    """None for as much as there is."""
    period_us: int = _DEFAULT_PERIOD_US
    burst_us: int = 0
    """What may be saved up from periods in which less was used."""

    @property
    def cpus(self) -> float:
        """Return how many CPUs it comes to."""
        return math.inf if self.quota_us is None else self.quota_us / self.period_us

    def __str__(self) -> str:
        if self == Bandwidth(None):
            return "max"
        burst = f"+{self.burst_us}" if self.burst_us else ""
        return f"{'max' if self.quota_us is None else self.quota_us}/{self.period_us}{burst}"


def bandwidth(value: str) -> Bandwidth | None:
    """Return the bandwidth that a value stands for, None when it is no such value or out of the kernel's bounds."""
    percent = re.fullmatch(r"(\d{1,12})(?:\.(\d{1,3}))?%", value, re.ASCII)
    if value == "max":
        return Bandwidth(None)
    if percent:
        thousandths = int(percent[1]) * 1000 + int((percent[2] or "").ljust(3, "0"))
        return _within(Bandwidth(thousandths * _DEFAULT_PERIOD_US // 100_000))
    found = re.fullmatch(r"(max|\d{1,14})/(\d{1,7})(?:\+(\d{1,14}))?", value, re.ASCII)
    if not found:
        return None
    return _within(Bandwidth(None if found[1] == "max" else int(found[1]), int(found[2]), int(found[3] or 0)))


def _within(wanted: Bandwidth) -> Bandwidth | None:
    quota = _QUOTA_US[0] if wanted.quota_us is None else wanted.quota_us
    fits = _QUOTA_US[0] <= quota and quota + wanted.burst_us <= _QUOTA_US[1]
    fits &= _PERIOD_US[0] <= wanted.period_us <= _PERIOD_US[1]
    return wanted if fits and (wanted.quota_us is None or wanted.burst_us <= quota) else None


class CpuQuota(GroupKnob):
    """The CPU time that a group may use at most. Quota, period and burst are one value, as they are one to the kernel."""

    name = "cgroup.cpu_quota"
    title = "Most CPU time of a cgroup"
    values = (
        "max, a percentage of one CPU such as 150%, or QUOTA/PERIOD in microseconds such as 20000/100000, "
        "with +BURST behind it where wanted"
    )
    example = "20000/100000"
    controller = "cpu"
    file_v2 = "cpu.max"
    file_v1 = "cpu.cfs_quota_us"

    def parse(self, text: str) -> str:
        found = bandwidth(text.strip())
        if found is None:
            raise self.malformed(text)
        return str(found)

    def read(self, host: Host, subject: Subject) -> str:
        return str(self._read(host, self.place(host, subject)))

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        place = self.place(host, subject)
        wanted = bandwidth(str(value))
        if wanted is None:
            raise self.malformed(str(value))
        found = self._read(host, place)
        # The kernel holds the burst against the quota at every write: less of it first, more of it last.
        if wanted.burst_us < found.burst_us:
            self._write_burst(host, place, wanted)
        if replace(wanted, burst_us=0) != replace(found, burst_us=0):
            self._write_quota(host, place, found, wanted)
        if wanted.burst_us > found.burst_us:
            self._write_burst(host, place, wanted)

    def between(self, change: Change) -> tuple[Value, ...]:
        old, new = bandwidth(str(change.old)) or Bandwidth(None), bandwidth(str(change.new)) or Bandwidth(None)
        quotas = (old.quota_us, new.quota_us, None)
        periods, bursts = (old.period_us, new.period_us), (old.burst_us, new.burst_us)
        mixed = itertools.product(quotas, periods, bursts)
        return tuple(dict.fromkeys(str(Bandwidth(*parts)) for parts in mixed))

    def order(self, change: Change) -> tuple[int, ...]:
        old, new = bandwidth(str(change.old)) or Bandwidth(None), bandwidth(str(change.new)) or Bandwidth(None)
        return nested(change, grows=new.cpus > old.cpus)

    def cost(self, old: Value, new: Value) -> str:
        wanted = bandwidth(str(new))
        if wanted is None or wanted.quota_us is None:
            return ""
        return f"what has used its time up waits for the next period, up to {wanted.period_us / 1000:g} ms"

    def refusal(self, host: Host, place: Place, number: int) -> str:
        if number == errno.EINVAL and place.version == 1:
            return "in cgroup v1 a group has no more than its parent, and no less than any of its children"
        return ""

    def _read(self, host: Host, place: Place) -> Bandwidth:
        if place.version == 2:
            quota, period = self.get(host, place, "cpu.max").split()
        else:
            quota = self.get(host, place, "cpu.cfs_quota_us").replace("-1", "max")
            period = self.get(host, place, "cpu.cfs_period_us")
        return Bandwidth(None if quota == "max" else int(quota), int(period), _burst(host, place))

    def _write_quota(self, host: Host, place: Place, found: Bandwidth, wanted: Bandwidth) -> None:
        quota = "max" if wanted.quota_us is None else str(wanted.quota_us)
        if place.version == 2:
            self.put(host, place, "cpu.max", f"{quota} {wanted.period_us}")
            return
        if wanted.period_us != found.period_us:
            # Without a quota meanwhile: old quota and new period together may be more than the parent has.
            if found.quota_us is not None:
                self.put(host, place, "cpu.cfs_quota_us", "-1")
            self.put(host, place, "cpu.cfs_period_us", str(wanted.period_us))
        if wanted.quota_us is not None or wanted.period_us == found.period_us:
            self.put(host, place, "cpu.cfs_quota_us", "-1" if wanted.quota_us is None else quota)

    def _write_burst(self, host: Host, place: Place, wanted: Bandwidth) -> None:
        self.put(host, place, _burst_file(place), str(wanted.burst_us))


def _burst_file(place: Place) -> str:
    return "cpu.max.burst" if place.version == 2 else "cpu.cfs_burst_us"


def _burst(host: Host, place: Place) -> int:
    try:
        return int(host.read_text(place.file(_burst_file(place))))
    except NotFoundError:
        return 0  # before Linux 5.14 (f4183717b370)


KNOBS: tuple[Knob, ...] = (CpuWeight(), CpuQuota())
