"""Network interfaces: what every knob on one shares, and those that are one number or switch each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hal.checks.situation import situation
from hal.errors import HostError, SettingError
from hal.host import Host
from hal.knobs.files import FileKnob, names, readable
from hal.knobs.knob import WORKS, Knob, Support, on_or_off, whole_number
from hal.netlink import Link
from hal.settings import SYSTEM, Subject, Value

CLASS = "/sys/class/net"
_CORE = "/proc/sys/net/core"
_LEAST_FOR_IPV6 = 1280  # RFC 8200, section 5
_FOLLOWS_DOWN = ("vlan", "macvlan")
"""Interfaces whose MTU goes down with that of what they sit on, and stays down when that is raised again."""


def nics(host: Host) -> list[str]:
    """Return the names of the interfaces, the loopback one left out; "bonding_masters" beside them is a file."""
    return [name for name in names(host, CLASS) if name != "lo" and host.exists(f"{CLASS}/{name}/ifindex")]


def net_admin(host: Host) -> Support:
    """Say whether this user may change network interfaces."""
    who = situation(host)
    return WORKS if who.has("NET_ADMIN") else Support(False, *who.lacking("NET_ADMIN"))


def nic_of(knob: Knob, host: Host, name: str) -> Link:
    """Return an interface.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in nics(host):
        known = ", ".join(nics(host)) or "none but the loopback one"
        raise SettingError(f"{knob.name}: there is no network interface {name}", remedy=f"There is {known}.")
    return host.net().link(name)


class NicKnob(Knob):
    """A knob on one interface, set through netlink."""

    subject_kind = "nic"
    absent: ClassVar[str] = "no network interface here has this"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (Subject("nic", name) for name in nics(host) if self.has(host, name))

    def has(self, host: Host, name: str) -> bool:
        """Tell whether an interface has what is set."""
        try:
            self.read(host, Subject("nic", name))
        except HostError:
            return False
        return True

    def support(self, host: Host) -> Support:
        allowed = net_admin(host)
        if allowed.works and next(iter(self.subjects(host)), None) is None:
            return Support(False, self.absent, "nothing to do: what needs it is left out")
        return allowed

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic_of(self, host, subject.name)
        if not self.has(host, subject.name):
            raise SettingError(
                f"{self.name}: {subject.name} does not have it", remedy="Its driver knows no such thing: leave it out."
            )


class Mtu(NicKnob):
    """The largest packet that an interface sends."""

    name = "nic.mtu"
    title = "Largest packet of an interface, in bytes (MTU)"
    values = "a number of bytes, within what the device takes"
    example = "9000"
    presumes = ("nic.virtual",)  # of an interface that sits on it

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=68, most=1 << 20)  # RFC 791: every link carries 68

    def read(self, host: Host, subject: Subject) -> int:
        return host.net().link(subject.name).mtu

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        host.net().set_link(subject.name, mtu=int(value or 0))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        link, mtu = nic_of(self, host, subject.name), int(value or 0)
        most = link.max_mtu or mtu
        if not link.min_mtu <= mtu <= most:
            raise SettingError(
                f"{self.name}: {link.name} takes no {mtu}", remedy=f"It takes {link.min_mtu} to {most} bytes."
            )
        if mtu < _LEAST_FOR_IPV6 <= link.mtu and any(":" in one for one in host.net().addresses(link.name)):
            raise SettingError(
                f"{self.name}: below {_LEAST_FOR_IPV6} the kernel takes the IPv6 addresses of {link.name} away for good",
                remedy="Take them off first, or stay above.",
            )
        self._check_upper(host, link, mtu)

    def _check_upper(self, host: Host, link: Link, mtu: int) -> None:
        higher = [
            one for one in host.net().links() if one.parent == link.name and one.kind in _FOLLOWS_DOWN and one.mtu > mtu
        ]
        if higher:
            raise SettingError(
                f"{self.name}: {higher[0].name} sits on {link.name}, and would be left with a lower MTU by undoing",
                remedy=f"Lower {higher[0].name} first.",
            )

    def cost(self, old: Value, new: Value) -> str:
        return "most drivers restart the device: packets are lost for a moment"


class NicFile(FileKnob):
    """A knob on one interface that is a file of sysfs."""

    subject_kind = "nic"
    absent = "no network interface here has this"
    file: ClassVar[str]

    def path(self, subject: Subject) -> str:
        return f"{CLASS}/{subject.name}/{self.file}"

    def subjects(self, host: Host) -> Iterable[Subject]:
        found = (Subject("nic", name) for name in nics(host))
        return (nic for nic in found if readable(host, self.path(nic)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic_of(self, host, subject.name)


class NicNumber(NicFile):
    """A file with a number in it."""

    most: ClassVar[int]

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=0, most=self.most)

    def decode(self, text: str) -> int:
        return int(text)


class TxQueueLength(NicNumber):
    """How many packets may wait to be sent."""

    name = "nic.txqueuelen"
    title = "How many packets may wait in a sending queue of pfifo_fast or pfifo"
    values = "a number of packets"
    example = "1000"
    file = "tx_queue_len"
    most = 10_000_000


class GroFlushTimeout(NicNumber):
    """How long received packets wait for more to be merged with."""

    name = "nic.gro_flush_timeout"
    title = "How long received packets may wait to be merged with others (GRO), in ns"
    values = "a number of ns; 0: only as long as one round of polling"
    example = "20000"
    file = "gro_flush_timeout"
    most = 1_000_000_000


class DeferHardIrqs(NicNumber):
    """How often the device is polled again before its interrupt is let through."""

    name = "nic.napi_defer_hard_irqs"
    title = "How often an idle device is polled again before its interrupt is switched on"
    values = "a number of rounds; works together with nic.gro_flush_timeout"
    example = "2"
    file = "napi_defer_hard_irqs"
    most = (1 << 31) - 1


class Threaded(NicFile):
    """Whether received packets are handled by threads."""

    name = "nic.threaded"
    title = (
        "Whether received packets are handled by threads, which can be scheduled and pinned, instead of soft interrupts"
    )
    values = "on, off"
    example = "on"
    file = "threaded"

    def parse(self, text: str) -> bool:
        return on_or_off(self, text)

    def decode(self, text: str) -> Value:
        word = text.strip()
        return {"0": False, "1": True}.get(word, word)


class Core(FileKnob):
    """A knob of the whole machine's networking that is a number in ``/proc/sys/net/core``."""

    subject_kind = "system"
    absent = (
        "there is no such file below /proc/sys/net/core: another network namespace than the first has not all of them"
    )
    absent_remedy = "set it on the host itself"
    file: ClassVar[str]
    least: ClassVar[int] = 0
    most: ClassVar[int]

    def path(self, subject: Subject) -> str:
        return f"{_CORE}/{self.file}"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if readable(host, self.path(SYSTEM)) else ()

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=self.least, most=self.most)

    def decode(self, text: str) -> int:
        return int(text)


class BusyPoll(Core):
    """How long poll and select look for packets themselves."""

    name = "nic.busy_poll"
    title = "How long poll(2) and select(2) ask the device for packets before they sleep, in µs"
    values = "a number of µs; 0 for not at all"
    example = "50"
    file = "busy_poll"
    most = 1_000_000

    def cost(self, old: Value, new: Value) -> str:
        return "waiting uses CPU time" if new else ""


class BusyRead(Core):
    """How long reading a socket looks for packets itself."""

    name = "nic.busy_read"
    title = "How long reading from a socket asks the device for packets before it sleeps, in µs"
    values = "a number of µs; 0 for not at all; sockets that exist keep what they began with"
    example = "50"
    file = "busy_read"
    most = 1_000_000

    def cost(self, old: Value, new: Value) -> str:
        return "waiting uses CPU time" if new else ""


class Backlog(Core):
    """How many packets may wait for a CPU."""

    name = "nic.backlog"
    title = "How many received packets may wait for each CPU (RPS and devices without polling)"
    values = "a number of packets"
    example = "4096"
    file = "netdev_max_backlog"
    least = 1
    most = 10_000_000


class Budget(Core):
    """How many packets one round of polling takes."""

    name = "nic.budget"
    title = "How many packets one round of polling takes from all devices of a CPU"
    values = "a number of packets"
    example = "600"
    file = "netdev_budget"
    least = 1
    most = 1_000_000


class BudgetTime(Core):
    """How long one round of polling may take."""

    name = "nic.budget_usecs"
    title = "How long one round of polling may take, in µs"
    values = "a number of µs"
    example = "4000"
    file = "netdev_budget_usecs"
    least = 1
    most = 10_000_000


KNOBS: tuple[Knob, ...] = (
    Mtu(),
    TxQueueLength(),
    GroFlushTimeout(),
    DeferHardIrqs(),
    Threaded(),
    BusyPoll(),
    BusyRead(),
    Backlog(),
    Budget(),
    BudgetTime(),
)
