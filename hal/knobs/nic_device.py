"""What ethtool sets of a network card: how many queues, how long rings, how interrupts are held back."""

from __future__ import annotations

from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.attributes import AttributesKnob, changes, join, numbers_of, parts_of
from hal.knobs.knob import Knob, on_or_off
from hal.knobs.nic import NicKnob, nic_of
from hal.netlink import CHANNELS, COALESCING, RINGS, SWITCHES, Amounts
from hal.settings import APPROXIMATE, Change, Subject, Value

_SETTABLE = ("rx", "tx", "combined")
"""Of CHANNELS: the others are for interrupts of the link and the like."""


class DeviceKnob(AttributesKnob, NicKnob):
    """A knob whose parts a driver has, or has not."""

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: the driver rounds; ask for what it has" if wrong else ""


class SizesKnob(DeviceKnob):
    """A knob whose parts are sizes with a most each."""

    def amounts(self, host: Host, name: str) -> Amounts:
        """Return what there is and could be."""
        raise NotImplementedError

    def read(self, host: Host, subject: Subject) -> Value:
        found = self.amounts(host, subject.name)
        return join(self.parts, {name: str(found.now[name]) for name in self.parts if found.most.get(name)})

    def has(self, host: Host, name: str) -> bool:
        return super().has(host, name) and self.read(host, Subject("nic", name)) != ""

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        found = self.amounts(host, subject.name)
        wanted = numbers_of(value)
        absent = [name for name in wanted if not found.most.get(name)]
        if absent:
            raise self.unknown(subject.name, absent, parts_of(self.read(host, subject)))
        for name, number in wanted.items():
            if number > found.most[name]:
                raise SettingError(
                    f"{self.name}: {subject.name} cannot have {name}={number}",
                    remedy=f"It has {found.most[name]} at most.",
                )


class Queues(SizesKnob):
    """How many queues an interface has."""

    name = "nic.queues"
    title = "How many queues an interface has, each with an interrupt of its own as a rule"
    values = "combined=N, or rx=N tx=N, as the device has it; N alone means combined"
    example = "combined=4"
    presumes = ("nic.sriov",)  # functions take queues from the card
    parts = tuple(name for name in CHANNELS if name in _SETTABLE)
    reversibility = APPROXIMATE
    reversal = "what was set on queues that went meanwhile (RPS, XPS, flow counts), and where their interrupts went"

    def parse(self, text: str) -> Value:
        word = text.strip(" ")
        return super().parse(f"combined={word}" if word.isdigit() else text)

    def amounts(self, host: Host, name: str) -> Amounts:
        return host.net().channels(name)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        after = {**self.amounts(host, subject.name).now, **numbers_of(value)}
        for direction, words in (("rx", "to receive"), ("tx", "to send")):
            if after[direction] + after["combined"] == 0:
                raise SettingError(f"{self.name}: {subject.name} would have no queue {words}", remedy="Leave it one.")

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = changes(numbers_of(value), self.amounts(host, subject.name).now)
        if wanted:
            host.net().set_channels(subject.name, wanted)

    def order(self, change: Change) -> tuple[int, ...]:
        return (-1,)  # before what is set on queues

    def cost(self, old: Value, new: Value) -> str:
        return "most drivers restart the device: packets are lost for a moment, and its interrupts are asked for anew"


class Rings(SizesKnob):
    """How many packets a queue's ring holds."""

    name = "nic.rings"
    title = "How many packets the rings of an interface hold"
    values = "rx=N tx=N, or one of them"
    example = "rx=1024 tx=1024"
    parts = RINGS

    def amounts(self, host: Host, name: str) -> Amounts:
        return host.net().rings(name)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        if any(numbers_of(value).get(name) == 0 for name in ("rx", "tx")):
            raise SettingError(f"{self.name}: a ring of 0 holds nothing", remedy="Leave it some.")

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = changes(numbers_of(value), self.amounts(host, subject.name).now)
        if wanted:
            host.net().set_rings(subject.name, wanted)

    def cost(self, old: Value, new: Value) -> str:
        return "most drivers restart the device: packets are lost for a moment"


class Coalescing(DeviceKnob):
    """How long a device waits for more packets before it interrupts."""

    name = "nic.coalesce"
    title = "How long a device holds back interrupts to tell of several packets at once"
    values = "ethtool's names: rx-usecs=N tx-usecs=N rx-frames=N adaptive-rx=on, ..."
    example = "rx-usecs=50 adaptive-rx=off"
    parts = COALESCING
    adapted: ClassVar[dict[str, str]] = {"adaptive-rx": "rx-", "adaptive-tx": "tx-"}
    """Where the device adapts these by itself, they say nothing."""

    def part(self, name: str, text: str) -> str:
        if name in SWITCHES:
            return "on" if on_or_off(self, text) else "off"
        return super().part(name, text)

    def read(self, host: Host, subject: Subject) -> Value:
        found = host.net().coalescing(subject.name)
        words = {name: ("off", "on")[bool(n)] if name in SWITCHES else str(n) for name, n in found.items()}
        return join(self.parts, words)

    def has(self, host: Host, name: str) -> bool:
        return super().has(host, name) and self.read(host, Subject("nic", name)) != ""

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic_of(self, host, subject.name)
        super().check(host, subject, value)
        present = host.net().coalescing(subject.name)
        absent = [name for name in parts_of(value) if name not in present]
        if absent:
            raise self.unknown(subject.name, absent, present)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = changes(numbers_of(value), host.net().coalescing(subject.name))
        if wanted:
            host.net().set_coalescing(subject.name, wanted)

    def same(self, wanted: Value, found: Value) -> bool:
        parts, present = parts_of(wanted), parts_of(found)
        moving = tuple(prefix for switch, prefix in self.adapted.items() if parts.get(switch) == "on")
        return all(present.get(name) == text for name, text in parts.items() if not name.startswith(moving or ("\0",)))

    def cost(self, old: Value, new: Value) -> str:
        return "fewer interrupts cost latency, more of them CPU time"


KNOBS: tuple[Knob, ...] = (Queues(), Rings(), Coalescing())
