"""Network interfaces as values, and the part of a host that reads and changes them.

``LinuxHost.net()`` answers with ``hal.netlink_linux`` (pyroute2), ``FakeHost.net()`` with ``hal.fake_net``. Nothing here imports
pyroute2, which takes a second to load. Interfaces are addressed by name; what they are called is what an administrator sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

ROOT = 0xFFFFFFFF
"""Parent of the qdisc that a packet meets first (TC_H_ROOT)."""
NO_MAC = "00:00:00:00:00:00"
ELSEWHERE = "elsewhere"
"""Stands for the name of an interface in another network namespace, which cannot be looked up from here."""
MODES = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
}
"""include/uapi/linux/if_link.h: enum macvlan_mode, enum ipvlan_mode"""
CHANNELS = ("rx", "tx", "other", "combined")
RINGS = ("rx", "rx-mini", "rx-jumbo", "tx")
SWITCHES = ("adaptive-rx", "adaptive-tx", "cqe-mode-tx", "cqe-mode-rx")
"""Those of COALESCING that are on or off."""
COALESCING = (
    *(
        "rx-usecs",
        "rx-frames",
        "rx-usecs-irq",
        "rx-frames-irq",
        "tx-usecs",
        "tx-frames",
        "tx-usecs-irq",
        "tx-frames-irq",
    ),
    *(
        "stats-block-usecs",
        "adaptive-rx",
        "adaptive-tx",
        "pkt-rate-low",
        "rx-usecs-low",
        "rx-frames-low",
        "tx-usecs-low",
    ),
    *("tx-frames-low", "pkt-rate-high", "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high"),
    *("sample-interval", "cqe-mode-tx", "cqe-mode-rx", "tx-aggr-max-bytes", "tx-aggr-max-frames", "tx-aggr-time-usecs"),
)
"""By ethtool's names, in the order of the kernel's attributes (include/uapi/linux/ethtool_netlink.h), the first of which is 2."""


@dataclass(frozen=True, slots=True)
class VirtualFunction:
    """What the physical function's driver enforces on one of its virtual functions."""

    number: int
    mac: str = NO_MAC
    """All zero: the function chooses its own."""
    vlan: int = 0
    """VLAN that its traffic is put into; 0 for none."""
    qos: int = 0
    min_rate: int = 0
    """Mbit/s; 0 for no guarantee."""
    max_rate: int = 0
    """Mbit/s; 0 for no limit."""
    spoofcheck: bool | None = None
    """None where the driver does not have it; so below."""
    trust: bool | None = None
    state: str = ""
    """"auto", "enable", "disable", or empty."""


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface."""

    name: str
    index: int = 0
    kind: str = ""
    """"veth", "macvlan", "vlan", "bridge", ...; empty for one that a device's driver made."""
    mac: str = ""
    mtu: int = 0
    min_mtu: int = 0
    max_mtu: int = 0
    """0: the kernel does not say."""
    is_up: bool = False
    state: str = ""
    """Operational state of RFC 2863, in lower case: "up", "down", "lowerlayerdown", ..."""
    parent: str = ""
    """The interface that it sits on, or a veth's other end; ELSEWHERE for one of another network namespace."""
    master: str = ""
    """The bridge or bond that it is a port of."""
    mode: str = ""
    """Of macvlan and ipvlan, one of MODES."""
    vlan: int | None = None
    protocol: str = ""
    """Of a VLAN: "802.1q" or "802.1ad"."""
    functions: tuple[VirtualFunction, ...] = ()


@dataclass(frozen=True, slots=True)
class NewLink:
    """An interface to be made."""

    name: str
    kind: str
    """"macvlan", "ipvlan", "vlan" or "veth"."""
    parent: str = ""
    """For macvlan, ipvlan and vlan what it is to sit on; for veth the other end's name."""
    mode: str = ""
    vlan: int = 0
    protocol: str = "802.1q"
    mac: str = ""
    mtu: int = 0
    """0: as the kernel has it."""
    peer_mac: str = ""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sizes that a device can be set to, by ethtool's names: channels ("combined", "rx", ...) or rings ("rx", "tx", ...)."""

    now: Mapping[str, int]
    most: Mapping[str, int]
    """0 for what the device does not have."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One offload or other feature of an interface, called as the kernel calls it ("tx-tcp-segmentation")."""

    on: bool
    wanted: bool
    """What was asked for; it stays off where something that it depends on is."""
    changeable: bool


@dataclass(frozen=True, slots=True)
class Qdisc:
    """One queueing discipline; ``options`` are those of ``hal.qdiscs``, empty where that does not know the kind."""

    kind: str
    handle: int
    """Major number in the upper half, as TC_H_MAJ has it; 0 for one that the kernel put there by itself."""
    parent: int
    options: Mapping[str, str]
    has_filters: bool = False


class Net(Protocol):
    """What the rest of the project may ask of a machine's network interfaces.

    All failures are ``HostError`` and name the interface and what was asked: ``NotFoundError`` where there is no such interface,
    ``UnsupportedError`` where its driver does not have it.
    """

    def links(self) -> tuple[Link, ...]:
        """Return all interfaces of this network namespace, without their virtual functions, sorted by index."""
        ...

    def link(self, name: str) -> Link:
        """Return one interface, with its virtual functions."""
        ...

    def addresses(self, name: str) -> tuple[str, ...]:
        """Return an interface's addresses with prefix length ("10.0.0.1/24"), sorted; link-local ones (fe80::) left out."""
        ...

    def add_link(self, link: NewLink) -> None:
        """Make an interface; it is down."""
        ...

    def delete_link(self, name: str) -> None:
        """Remove a virtual interface; of a veth both ends go."""
        ...

    def set_link(
        self,
        name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        up: bool | None = None,
        mode: str | None = None,
    ) -> None:
        """Change what is given of an interface; ``mode`` is a macvlan's or ipvlan's."""
        ...

    def set_function(self, name: str, wanted: VirtualFunction) -> None:
        """Set what differs of one of a physical function's virtual functions; what is None or empty stays as it is."""
        ...

    def channels(self, name: str) -> Amounts:
        """Return how many queues of each sort an interface has, and could have."""
        ...

    def set_channels(self, name: str, counts: Mapping[str, int]) -> None:
        """Set numbers of queues; what is not given stays."""
        ...

    def rings(self, name: str) -> Amounts:
        """Return how many descriptors each ring has, and could have."""
        ...

    def set_rings(self, name: str, sizes: Mapping[str, int]) -> None:
        """Set numbers of descriptors; what is not given stays."""
        ...

    def coalescing(self, name: str) -> Mapping[str, int]:
        """Return how long interrupts are held back, by ethtool's names ("rx-usecs"); switches are 0 or 1.

        Only what the driver has, where the kernel tells.
        """
        ...

    def set_coalescing(self, name: str, values: Mapping[str, int]) -> None:
        """Set what is given of ``coalescing``."""
        ...

    def features(self, name: str) -> Mapping[str, Feature]:
        """Return an interface's features by the kernel's names."""
        ...

    def set_features(self, name: str, wanted: Mapping[str, bool]) -> None:
        """Ask for features to be on or off."""
        ...

    def qdiscs(self, name: str) -> tuple[Qdisc, ...]:
        """Return the queueing disciplines of an interface's sending side, the root's first."""
        ...

    def add_qdisc(self, name: str, qdisc: Qdisc) -> None:
        """Put a queueing discipline at a place, in the stead of what is there; handle 0 lets the kernel choose."""
        ...

    def delete_qdisc(self, name: str) -> None:
        """Take away an interface's root qdisc: the kernel puts its default there."""
        ...
