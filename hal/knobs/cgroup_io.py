"""How much block I/O a cgroup may do: its weight among its siblings, and limits by device."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping

from hal import cgroups
from hal.errors import SettingError
from hal.host import Host
from hal.knobs.cgroup import GroupKnob, Place
from hal.knobs.cgroup_memory import size
from hal.knobs.knob import Knob, Support, whole_number
from hal.settings import Change, Subject, Value, cgroup

_WEIGHTS = {2: ("io.weight", "io.bfq.weight"), 1: ("blkio.bfq.weight", "blkio.weight")}
"""By version, the files that a weight may be in: of the cost model (iocost), or of a scheduler."""
_MOST_OF_BFQ = 1000  # BFQ_MAX_WEIGHT, block/bfq-iosched.h

_KINDS = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}
"""The limits on a device in the order of io.max, each with its file in v1."""
_MOST_BYTES = (1 << 63) - 1
_MOST_OPERATIONS = (1 << 32) - 1  # an unsigned int in the kernel, and this is "max"

type Limits = Mapping[str, Mapping[str, int]]
"""By device (MAJOR:MINOR) and kind; a kind that is not there is unlimited."""


class IoWeight(GroupKnob):
    """The share of a group in I/O that its siblings want too."""

    name = "cgroup.io_weight"
    title = "Weight of a cgroup in block I/O, among its siblings"
    values = "a number from 1 to 10000 (100 is everybody's); to 1000 where the BFQ scheduler is what heeds it"
    example = "200"
    controller = "io"
    file_v2 = "io.weight"
    file_v1 = "blkio.bfq.weight"

    def subjects(self, host: Host) -> Iterator[Subject]:
        home = cgroups.homes(host).get(self.controller)
        if home is not None:
            places = (Place(path, home) for path in cgroups.groups(host, home) if path != "/")
            yield from (cgroup(place.path) for place in places if self._file(host, place))

    def support(self, host: Host) -> Support:
        support = super().support(host)
        home = cgroups.homes(host).get(self.controller)
        if not support.works or home is None:
            return support
        groups = [Place(path, home) for path in cgroups.groups(host, home) if path != "/"]
        able = [place for place in groups if place.version == 1 or host.exists(place.file("io.stat"))]
        if able and not any(self._file(host, place) for place in able):
            return Support(False, _NO_WEIGHT, "set cgroup.io_max, or use a kernel with CONFIG_BLK_CGROUP_IOCOST or BFQ")
        return support

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=1, most=10_000)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        if "bfq" in self._file(host, self.place(host, subject)) and int(value or 0) > _MOST_OF_BFQ:
            raise SettingError(
                f"{self.name}: {value} is more than the BFQ scheduler takes", remedy=f"At most {_MOST_OF_BFQ} here."
            )

    def read(self, host: Host, subject: Subject) -> int:
        place = self.place(host, subject)
        return int(self.get(host, place, self._present(host, place)).split("\n")[0].split()[-1])

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        place = self.place(host, subject)
        self.put(host, place, self._present(host, place), str(value))

    def cost(self, old: Value, new: Value) -> str:
        return "it counts only on devices whose scheduler is BFQ, or with a cost model (io.cost.qos)"

    def _present(self, host: Host, place: Place) -> str:
        return self._file(host, place) or _WEIGHTS[place.version][0]

    def _file(self, host: Host, place: Place) -> str:
        return next((name for name in _WEIGHTS[place.version] if host.exists(place.file(name))), "")


_NO_WEIGHT = "this kernel has no weight for block I/O: neither a cost model (iocost) nor the BFQ scheduler"


class IoMax(GroupKnob):
    """Limits by device. A setting is on the devices that it names, and leaves the others alone."""

    name = "cgroup.io_max"
    title = "Most bytes and operations a second of a cgroup on a block device"
    values = (
        "MAJOR:MINOR and one or more of rbps=, wbps= (bytes/s, with units) and riops=, wiops= (operations/s), or max; "
        "further devices behind a comma"
    )
    example = "254:0 wbps=1048576"
    controller = "io"
    file_v2 = "io.max"
    file_v1 = "blkio.throttle.read_bps_device"

    def parse(self, text: str) -> str:
        limits: dict[str, dict[str, int]] = {}
        for part in text.split(","):
            device, found = self._device(part, text)
            if device in limits:
                raise self.malformed(text)
            limits[device] = found
        return written(limits)

    def _device(self, part: str, text: str) -> tuple[str, dict[str, int]]:
        device, *words = part.split()[:6] or [""]
        if not re.fullmatch(r"(0|[1-9]\d{0,3}):(0|[1-9]\d{0,6})", device, re.ASCII) or not words:
            raise self.malformed(text)
        if words == ["max"]:
            return device, {}
        found: dict[str, int] = {}
        for word in words:
            kind, _, amount = word.partition("=")
            if kind not in _KINDS or kind in found:
                raise self.malformed(text)
            found[kind] = self._amount(kind, amount, text)
        return device, {kind: amount for kind, amount in found.items() if amount}

    def _amount(self, kind: str, amount: str, text: str) -> int:
        """Return a limit, 0 for none."""
        if amount == "max":
            return 0
        number = size(amount) if kind.endswith("bps") else whole_number(self, amount, least=1, most=_MOST_OPERATIONS)
        if not number or number >= (_MOST_BYTES if kind.endswith("bps") else _MOST_OPERATIONS):
            raise self.malformed(text)
        return number

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        for device in limits_of(str(value)):
            if not host.exists(f"/sys/dev/block/{device}"):
                raise SettingError(f"{self.name}: there is no block device {device}", remedy="lsblk shows the numbers.")
            if host.exists(f"/sys/dev/block/{device}/partition"):
                raise SettingError(f"{self.name}: {device} is a partition", remedy="Name the whole disk: see lsblk.")

    def read(self, host: Host, subject: Subject) -> str:
        return written(self._read(host, self.place(host, subject)))

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        place = self.place(host, subject)
        found = self._read(host, place)
        for device, limits in sorted(limits_of(str(value)).items()):
            if place.version == 2:
                words = " ".join(f"{kind}={limits.get(kind, 'max')}" for kind in _KINDS)
                self.put(host, place, "io.max", f"{device} {words}")
                continue
            for kind, name in _KINDS.items():
                if limits.get(kind) != found.get(device, {}).get(kind):
                    self.put(host, place, name, f"{device} {limits.get(kind, 0)}")

    def same(self, wanted: Value, found: Value) -> bool:
        """Tell whether the devices named have the limits wanted."""
        have = limits_of(str(found or ""))
        if not wanted:
            return not have
        return all(limits == have.get(device, {}) for device, limits in limits_of(str(wanted)).items())

    def merged(self, host: Host, earlier: Value, later: Value) -> Value:
        return written({**limits_of(str(earlier)), **limits_of(str(later))})

    def replaced(self, old: Value, new: Value) -> Value:
        had = limits_of(str(old or ""))
        return written({device: had.get(device, {}) for device in limits_of(str(new))}) if old is not None else None

    def between(self, change: Change) -> tuple[Value, ...]:
        """Return what is there after each single write: device by device, and in v1 kind by kind."""
        return (*_steps(str(change.old), str(change.new)), *_steps(str(change.new), str(change.old)))

    def cost(self, old: Value, new: Value) -> str:
        return "what is beyond it waits" if any(limits_of(str(new)).values()) else ""

    def refusal(self, host: Host, place: Place, number: int) -> str:
        return "it is no whole disk: see lsblk" if number == errno.ENODEV else ""

    def _read(self, host: Host, place: Place) -> Limits:
        if place.version == 2:
            return _present(limits_of(self.get(host, place, "io.max").replace("\n", ", ")))
        found: dict[str, dict[str, int]] = {}
        for kind, name in _KINDS.items():
            for line in self.get(host, place, name).splitlines():
                device, amount = line.split()
                found.setdefault(device, {})[kind] = int(amount)
        return _present(found)


def _present(limits: Limits) -> Limits:
    """Leave out what stands for no limit."""
    kept = {
        device: {kind: amount for kind, amount in kinds.items() if amount < _no_limit(kind)}
        for device, kinds in limits.items()
    }
    return {device: kinds for device, kinds in kept.items() if kinds}


def _no_limit(kind: str) -> int:
    return _MOST_BYTES if kind.endswith("bps") else _MOST_OPERATIONS


def limits_of(value: str) -> dict[str, dict[str, int]]:
    """Return the limits in a canonical value; a device without any is there with nothing."""
    found: dict[str, dict[str, int]] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        device, *words = part.split()
        pairs = (word.partition("=") for word in words)
        found[device] = {kind: int(amount) for kind, _, amount in pairs if kind in _KINDS and amount.isdigit()}
    return found


def written(limits: Limits) -> str:
    """Return limits as a value: devices by number, kinds in the kernel's order, a device without limits as ``max``."""
    devices = sorted(limits, key=lambda device: tuple(map(int, device.split(":"))))
    return ", ".join(
        f"{device} "
        + (" ".join(f"{kind}={limits[device][kind]}" for kind in _KINDS if kind in limits[device]) or "max")
        for device in devices
    )


def _steps(before: str, after: str) -> Iterator[str]:
    state, target = limits_of(before), limits_of(after)
    for device in sorted(target):
        for kind in _KINDS:
            amounts = {**state.get(device, {}), kind: target[device].get(kind, 0)}
            state[device] = {name: amount for name, amount in amounts.items() if amount}
            yield written(state)


KNOBS: tuple[Knob, ...] = (IoWeight(), IoMax())
