"""SR-IOV: how many virtual functions a card has, and what it enforces on each.

Subjects: the card's PCI address, or the interface that sits on it; of one function ``eth0/vf0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.attributes import AttributesKnob, join, parts_of
from hal.knobs.files import FileKnob, names
from hal.knobs.knob import RANKS, Knob, Support, on_or_off, one_of, whole_number
from hal.knobs.nic import CLASS, net_admin, nic_of, nics
from hal.netlink import NO_MAC, VirtualFunction
from hal.settings import APPROXIMATE, Change, Subject, Value

_PCI = "/sys/bus/pci/devices"
_FOR_USERS = ("vfio", "uio", "igb_uio", "pci-stub", "pciback")
"""Beginnings of the names of drivers that give a function to a virtual machine or a program."""
_NETWORK = "0x02"
_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
_LINK_STATES = ("auto", "enable", "disable")


class Functions(FileKnob):
    """How many virtual functions there are."""

    name = "nic.sriov"
    title = "How many virtual functions a card has (SR-IOV)"
    subject_kind = "pci"
    values = "a number, 0 for none; the card says how many it can have"
    example = "2"
    absent = "no PCI device here has SR-IOV"
    absent_remedy = "it takes a card with it, switched on in the firmware, and the IOMMU on most machines"
    rank = RANKS["create"]
    creates = True
    brings = ("pci", "nic", "vf", "queue", "irq")
    reversibility = APPROXIMATE
    reversal = (
        "MAC, VLAN and rate of the functions that there were, what was set on their interfaces, and what the driver sets anew of "
        "the card itself: Intel's igb its queues"
    )

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("pci", "nic")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject.kind != "nic":
            return super().members(host, subject)
        nic_of(self, host, subject.name)
        try:
            device = host.read_link(f"{CLASS}/{subject.name}/device").rpartition("/")[2]
        except HostError:
            raise SettingError(
                f"{self.name}: {subject.name} sits on no device", remedy="Name one that is a card of its own."
            ) from None
        return (Subject("pci", device),)

    def path(self, subject: Subject) -> str:
        return f"{_PCI}/{subject.name}/sriov_numvfs"

    def subjects(self, host: Host) -> Iterable[Subject]:
        found = (Subject("pci", address) for address in names(host, _PCI))
        return (card for card in found if host.exists(self.path(card)) and self._most(host, card) > 0)

    def _most(self, host: Host, subject: Subject) -> int:
        return int(host.read_text(f"{_PCI}/{subject.name}/sriov_totalvfs"))

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=0, most=65535)  # NumVFs is a word of 16 bits

    def decode(self, text: str) -> int:
        return int(text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if not host.exists(self.path(subject)):
            known = ", ".join(one.name for one in self.subjects(host)) or "none"
            raise SettingError(f"{self.name}: {subject.name} has no SR-IOV", remedy=f"Those that have: {known}.")
        if int(value or 0) > self._most(host, subject):
            most = self._most(host, subject)
            raise SettingError(f"{self.name}: {subject.name} cannot have {value}", remedy=f"It can have {most}.")
        used = self.keep(host, subject)
        if used and value != self.read(host, subject):
            raise SettingError(
                f"{self.name}: {used}", remedy="Functions only change in number all at once: free it first."
            )

    def keep(self, host: Host, subject: Subject) -> str:
        """Return which function is in use, and so cannot be taken away."""
        return next(in_use(host, f"{_PCI}/{subject.name}"), "")

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        if self.read(host, subject) not in (0, value):
            host.write_text(self.path(subject), "0")  # the kernel goes from one number to another only by way of none
        super().write(host, subject, value)

    def between(self, change: Change) -> tuple[Value, ...]:
        return (0,)

    def cost(self, old: Value, new: Value) -> str:
        lost = "the functions that there are go, with their interfaces and all that is set on them; " if old else ""
        return f"{lost}most drivers restart the card, some with fewer queues of its own"

    def order(self, change: Change) -> tuple[int, ...]:
        return (0,)


def in_use(host: Host, base: str) -> Iterator[str]:
    """Yield the virtual functions of a device that somebody relies on, with who."""
    for name in [name for name in names(host, base) if name.startswith("virtfn")]:
        number = name.removeprefix("virtfn")
        try:
            function = f"{_PCI}/" + host.read_link(f"{base}/{name}").rpartition("/")[2]
            driver = host.read_link(f"{function}/driver").rpartition("/")[2]
        except HostError:
            continue  # nothing drives it
        made = names(host, f"{function}/net")
        if driver.startswith(_FOR_USERS):
            yield f"virtual function {number} is given to a virtual machine or a program ({driver})"
        elif not made and host.read_text(f"{function}/class").startswith(_NETWORK):
            yield f"the interface of virtual function {number} is in another network namespace"
        for nic in made:
            yield from (f"virtual function {number} is {nic}, which {why}" for why in _uses(host, nic))


def _uses(host: Host, nic: str) -> Iterator[str]:
    try:
        link = host.net().link(nic)
        yield from (f"has the address {address}" for address in host.net().addresses(nic))
    except NotFoundError:
        return
    if link.master:
        yield f"is a port of {link.master}"
    yield from (f"{one.name} sits on" for one in host.net().links() if one.parent == nic)


class Function(AttributesKnob):
    """What a card enforces on one of its virtual functions."""

    name = "nic.vf"
    title = "What a card enforces on one of its virtual functions: MAC address, VLAN, rate, and what it may do"
    subject_kind = "vf"
    values = (
        "mac=ADDRESS vlan=0..4094 qos=0..7 min-rate=MBIT max-rate=MBIT spoofcheck=on|off trust=on|off state=auto|enable|disable, "
        "or some of them; a rate or VLAN of 0 is none, and so is mac=00:00:00:00:00:00"
    )
    example = "mac=02:00:00:00:00:0a vlan=7"
    parts = ("mac", "vlan", "qos", "min-rate", "max-rate", "spoofcheck", "trust", "state")

    def support(self, host: Host) -> Support:
        allowed = net_admin(host)
        if allowed.works and next(iter(Functions().subjects(host)), None) is None:
            return Support(False, Functions.absent, Functions.absent_remedy)
        return allowed

    def subjects(self, host: Host) -> Iterable[Subject]:
        cards = [name for name in nics(host) if host.exists(f"{CLASS}/{name}/device/sriov_numvfs")]
        return (Subject("vf", f"{card}/vf{one.number}") for card in cards for one in host.net().link(card).functions)

    def part(self, name: str, text: str) -> str:
        if name == "mac":
            return mac_of(self, text)
        if name == "state":
            return one_of(self, text, _LINK_STATES)
        if name in ("spoofcheck", "trust"):
            return "on" if on_or_off(self, text) else "off"
        return str(whole_number(self, text, least=0, most={"vlan": 4094, "qos": 7}.get(name, 10_000_000)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        card, _, function = subject.name.partition("/")
        if not re.fullmatch(r"vf[0-9]{1,5}", function):
            raise SettingError(f"{self.name}: {subject.name!r} is no virtual function", remedy="Name one as eth0/vf0.")
        nic_of(self, host, card)
        try:
            present = self.read(host, subject)
        except NotFoundError as error:
            raise SettingError(
                f"{self.name}: {error}", remedy=f"Make some first: dna set nic.sriov {card} N"
            ) from error
        absent = [name for name in parts_of(value) if name not in parts_of(present)]
        if absent:
            raise self.unknown(subject.name, absent, parts_of(present))

    def read(self, host: Host, subject: Subject) -> Value:
        return join(self.parts, _words(_find(host, subject)))

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = parts_of(value)
        fields: dict[str, Any] = {key.replace("-", "_"): int(text) for key, text in wanted.items() if text.isdigit()}
        fields |= {key: wanted[key] for key in ("mac", "state") if key in wanted}
        fields |= {key: wanted[key] == "on" for key in ("spoofcheck", "trust") if key in wanted}
        host.net().set_function(subject.name.partition("/")[0], replace(_find(host, subject), **fields))

    def cost(self, old: Value, new: Value) -> str:
        return (
            "a driver or guest that uses the function has to start it anew to see its MAC address"
            if "mac=" in str(new)
            else ""
        )


def _find(host: Host, subject: Subject) -> VirtualFunction:
    card, _, function = subject.name.partition("/")
    for one in host.net().link(card).functions:
        if function == f"vf{one.number}":
            return one
    raise NotFoundError(f"{card} has no virtual function {function.removeprefix('vf')}", subject=subject.name)


def _words(function: VirtualFunction) -> dict[str, str]:
    words = {
        "mac": function.mac,
        "vlan": str(function.vlan),
        "qos": str(function.qos),
        "min-rate": str(function.min_rate),
        "max-rate": str(function.max_rate),
        "state": function.state,
    }
    switches = {"spoofcheck": function.spoofcheck, "trust": function.trust}
    words |= {name: "on" if on else "off" for name, on in switches.items() if on is not None}
    return {name: word for name, word in words.items() if word}


def mac_of(knob: Knob, text: str) -> str:
    """Return a MAC address that one interface can have; all zero means none.

    Raises:
        SettingError: it is none, or one of several interfaces (multicast).
    """
    mac = text.strip().lower()
    if not re.fullmatch(_MAC, mac) or (mac != NO_MAC and int(mac[:2], 16) & 1):
        raise knob.malformed(text)
    return mac


KNOBS: tuple[Knob, ...] = (Functions(), Function())
