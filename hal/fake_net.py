"""Network interfaces of a machine in memory, behaving as the kernel's do as far as dna can tell.

What is modelled: virtual interfaces come and go (a veth with its other end, others not without what they sit on, and all of them
with it), with their directory in ``/sys/class/net`` and a directory for each queue; queues, rings and coalescing have the bounds
given; features that depend on others go off and come back with them; the kernel's default qdisc returns when one is taken away;
``sriov_numvfs`` refuses to go from one number of functions to another, and makes PCI functions with interfaces. What is not:
packets, addresses (only listed), other network namespaces, and what a driver resets when queues change.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hal.errors import NotFoundError, translate
from hal.lists import format_cpu_mask, parse_cpu_mask
from hal.netlink import ROOT, Amounts, Feature, Link, NewLink, Qdisc, VirtualFunction

_CLASS = "/sys/class/net"
_PCI = "/sys/bus/pci/devices"
_OWN_HANDLES = 0x8001
_NEEDS = {
    "tx-tcp-segmentation": "tx-scatter-gather",
    "tx-tcp6-segmentation": "tx-scatter-gather",
    "tx-generic-segmentation": "tx-scatter-gather",
}
"""A part of netdev_fix_features (net/core/dev.c)."""
FEATURES = {
    "rx-gro": Feature(on=True, wanted=True, changeable=True),
    "rx-gro-hw": Feature(on=False, wanted=False, changeable=True),
    "rx-gro-list": Feature(on=False, wanted=False, changeable=True),
    "rx-udp-gro-forwarding": Feature(on=False, wanted=False, changeable=True),
    "rx-lro": Feature(on=False, wanted=False, changeable=True),
    "rx-checksum": Feature(on=True, wanted=True, changeable=True),
    "rx-hashing": Feature(on=True, wanted=True, changeable=True),
    "rx-ntuple-filter": Feature(on=False, wanted=False, changeable=True),
    "rx-vlan-hw-parse": Feature(on=True, wanted=True, changeable=True),
    "tx-vlan-hw-insert": Feature(on=True, wanted=True, changeable=True),
    "tx-scatter-gather": Feature(on=True, wanted=True, changeable=True),
    "tx-checksum-ip-generic": Feature(on=True, wanted=True, changeable=True),
    "tx-checksum-sctp": Feature(on=True, wanted=True, changeable=True),
    "tx-generic-segmentation": Feature(on=True, wanted=True, changeable=True),
    "tx-tcp-segmentation": Feature(on=True, wanted=True, changeable=True),
    "tx-tcp6-segmentation": Feature(on=True, wanted=True, changeable=True),
    "tx-udp-segmentation": Feature(on=True, wanted=True, changeable=True),
    "tx-nocache-copy": Feature(on=False, wanted=False, changeable=True),
    "hw-tc-offload": Feature(on=False, wanted=False, changeable=True),
    "highdma": Feature(on=True, wanted=True, changeable=False),
}
"""What a card has unless others are given."""


class Tree(Protocol):
    """The part of a machine in memory that network interfaces show themselves in."""

    files: dict[str, str]
    links: dict[str, str]
    handlers: dict[str, Callable[[str, str], str]]
    writes: list[tuple[str, str]]


@dataclass(slots=True)
class FakeInterface:
    """One interface, with what ethtool and tc know of it; None for what its driver does not have."""

    link: Link
    channels: Amounts | None = None
    rings: Amounts | None = None
    coalescing: dict[str, int] | None = None
    features: dict[str, Feature] = field(default_factory=dict)
    qdiscs: list[Qdisc] = field(default_factory=list)
    """Those that somebody put there; none: the kernel's own."""
    addresses: list[str] = field(default_factory=list)
    device: str = ""
    """PCI address."""


class FakeNet:
    """See ``hal.netlink.Net``; every change is in the machine's ``writes``."""

    def __init__(self, tree: Tree) -> None:
        self.interfaces: dict[str, FakeInterface] = {}
        self._tree = tree
        self._index = 0
        self._handle = _OWN_HANDLES

    def state(self) -> dict[str, Any]:
        """Return all there is to see of the interfaces; what numbers they have is not part of it, as it never comes back."""
        return {name: _seen(one) for name, one in sorted(self.interfaces.items())}

    # --- furnishing

    def plug(self, interface: FakeInterface, *, functions: int = 0) -> None:
        """Add an interface as if it had always been there, with ``functions`` virtual ones that it could have."""
        self._appear(interface)
        if interface.device:
            base = f"{_PCI}/{interface.device}"
            self._tree.links[f"{_CLASS}/{interface.link.name}/device"] = base
            self._tree.files |= {f"{base}/class": "0x020000\n", f"{base}/net/{interface.link.name}/ifindex": "1\n"}
        if functions:
            files = {"sriov_totalvfs": f"{functions}\n", "sriov_numvfs": "0\n"}
            self._tree.files |= {f"{base}/{name}": text for name, text in files.items()}
            self._tree.handlers[f"{base}/sriov_numvfs"] = self._numvfs(interface.link.name, base, functions)

    def _numvfs(self, name: str, base: str, most: int) -> Callable[[str, str], str]:
        def handler(old: str, written: str) -> str:
            count, present = int(written), int(old)
            if count > most:
                raise OSError(errno.ERANGE, "more than there can be")
            if count and present:
                raise OSError(errno.EBUSY, "there are some already")
            for number in range(present):
                self._remove_function(name, base, number)
            for number in range(count):
                self._make_function(name, base, number)
            mine = self.interfaces[name]
            mine.link = replace(
                mine.link, functions=tuple(VirtualFunction(n, spoofcheck=True, trust=False) for n in range(count))
            )
            return f"{count}\n"

        return handler

    def _make_function(self, name: str, base: str, number: int) -> None:
        address = f"{base[:-1]}{number + 1}"
        self._tree.links[f"{base}/virtfn{number}"] = address
        self._tree.links[f"{address}/driver"] = "/sys/bus/pci/drivers/igbvf"
        made = f"{name}v{number}"
        self._tree.files |= {f"{address}/class": "0x020000\n", f"{address}/net/{made}/ifindex": "1\n"}
        self._appear(FakeInterface(Link(made, mac=self._mac(), mtu=1500), features=dict(FEATURES)))

    def _remove_function(self, name: str, base: str, number: int) -> None:
        address = self._tree.links.pop(f"{base}/virtfn{number}")
        for path in [path for path in self._tree.files if path.startswith(f"{address}/")]:
            del self._tree.files[path]
        self._tree.links.pop(f"{address}/driver", None)
        self._vanish(f"{name}v{number}")

    # --- interfaces

    def links(self) -> tuple[Link, ...]:
        found = (replace(one.link, functions=()) for one in self.interfaces.values())
        return tuple(sorted(found, key=lambda link: link.index))

    def link(self, name: str) -> Link:
        return self._find(name).link

    def addresses(self, name: str) -> tuple[str, ...]:
        return tuple(sorted(self._find(name).addresses))

    def add_link(self, link: NewLink) -> None:
        if link.kind != "veth":
            self._find(link.parent)
        for name in (link.name, *((link.parent,) if link.kind == "veth" else ())):
            if name in self.interfaces:
                raise translate(errno.EEXIST, link.name, f"make the {link.kind}")
        self._note(link.name, f"add {link.kind} on {link.parent}")
        mtu = link.mtu or (1500 if link.kind == "veth" else self._find(link.parent).link.mtu)
        made = Link(link.name, 0, link.kind, link.mac or self._mac(), mtu, 68, 65535, state="down", parent=link.parent)
        if link.kind == "vlan":
            made = replace(made, vlan=link.vlan, protocol=link.protocol)
        self._appear(FakeInterface(replace(made, mode=link.mode), features=dict(FEATURES)))
        if link.kind == "veth":
            other = replace(made, name=link.parent, mac=link.peer_mac or self._mac(), parent=link.name)
            self._appear(FakeInterface(other, features=dict(FEATURES)))

    def delete_link(self, name: str) -> None:
        found = self._find(name)
        if not found.link.kind:
            raise translate(errno.EOPNOTSUPP, name, "remove")
        self._note(name, "delete")
        self._vanish(name)
        if found.link.kind == "veth":
            self._vanish(found.link.parent)

    def set_link(
        self,
        name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        up: bool | None = None,
        mode: str | None = None,
    ) -> None:
        one = self._find(name)
        if mtu is not None and not one.link.min_mtu <= mtu <= (one.link.max_mtu or mtu):
            raise translate(errno.EINVAL, name, "change")
        given = {"mac": mac, "mtu": mtu, "is_up": up, "mode": mode}
        wanted: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self._note(name, " ".join(f"{key}={value}" for key, value in wanted.items()))
        one.link = replace(one.link, **wanted)
        if up is not None:
            one.link = replace(one.link, state="up" if up else "down")
        self._show(one)

    def set_function(self, name: str, wanted: VirtualFunction) -> None:
        one = self._find(name)
        present = next((f for f in one.link.functions if f.number == wanted.number), None)
        if present is None:
            raise NotFoundError(f"{name} has no virtual function {wanted.number}", subject=f"{name}/vf{wanted.number}")
        kept = {
            key: getattr(present, key)
            for key in ("spoofcheck", "trust", "state", "mac")
            if getattr(wanted, key) in (None, "") or getattr(present, key) in (None, "")
        }
        self._note(f"{name}/vf{wanted.number}", str(wanted))
        after = replace(wanted, **kept)
        one.link = replace(one.link, functions=tuple(after if f is present else f for f in one.link.functions))

    # --- what ethtool sets

    def channels(self, name: str) -> Amounts:
        return _had(self._find(name).channels, name, "read the queues of")

    def set_channels(self, name: str, counts: Mapping[str, int]) -> None:
        one = self._find(name)
        one.channels = self._resized(name, "queues", _had(one.channels, name, "set the queues of"), counts)
        self._show(one)

    def rings(self, name: str) -> Amounts:
        return _had(self._find(name).rings, name, "read the rings of")

    def set_rings(self, name: str, sizes: Mapping[str, int]) -> None:
        one = self._find(name)
        one.rings = self._resized(name, "rings", _had(one.rings, name, "set the rings of"), sizes)

    def _resized(self, name: str, what: str, present: Amounts, wanted: Mapping[str, int]) -> Amounts:
        if any(value > present.most.get(key, 0) for key, value in wanted.items()):
            raise translate(errno.EINVAL, name, f"set the {what} of")
        self._note(name, f"{what} {dict(wanted)}")
        return replace(present, now={**present.now, **wanted})

    def coalescing(self, name: str) -> Mapping[str, int]:
        return dict(_had(self._find(name).coalescing, name, "read the interrupt coalescing of"))

    def set_coalescing(self, name: str, values: Mapping[str, int]) -> None:
        present = _had(self._find(name).coalescing, name, "set the interrupt coalescing of")
        if not set(values) <= set(present):
            raise translate(errno.EOPNOTSUPP, name, "set the interrupt coalescing of")
        self._note(name, f"coalescing {dict(values)}")
        present |= values

    def features(self, name: str) -> Mapping[str, Feature]:
        wanted = self._find(name).features
        return {key: replace(one, on=one.wanted and _possible(key, wanted)) for key, one in wanted.items()}

    def set_features(self, name: str, wanted: Mapping[str, bool]) -> None:
        features = self._find(name).features
        self._note(name, f"features {dict(wanted)}")
        for key, on in wanted.items():
            if key in features and features[key].changeable:
                features[key] = replace(features[key], on=on, wanted=on)

    # --- queueing disciplines

    def qdiscs(self, name: str) -> tuple[Qdisc, ...]:
        one = self._find(name)
        return tuple(one.qdiscs) if one.qdiscs else tuple(self._defaults(one))

    def add_qdisc(self, name: str, qdisc: Qdisc) -> None:
        one = self._find(name)
        self._note(name, f"qdisc {qdisc.kind} {dict(qdisc.options)}")
        self._handle += 1
        made = replace(qdisc, handle=qdisc.handle or self._handle << 16)
        if qdisc.parent == ROOT:
            children = [Qdisc("pfifo_fast", 0, made.handle | n, {}) for n in range(1, _sending(one) + 1)]
            one.qdiscs = [made, *(children if made.kind == "mq" else [])]
        else:
            one.qdiscs = [made if q.parent == qdisc.parent else q for q in one.qdiscs]

    def delete_qdisc(self, name: str) -> None:
        one = self._find(name)
        if not one.qdiscs:
            raise translate(errno.ENOENT, name, "take away the qdisc of")
        self._note(name, "delete qdisc")
        one.qdiscs = []

    def _defaults(self, one: FakeInterface) -> list[Qdisc]:
        if one.link.kind:
            return [Qdisc("noqueue", 0, ROOT, {})] if one.link.is_up else []
        count = _sending(one)
        if count == 1:
            return [Qdisc("fq_codel", 0, ROOT, {"limit": "10240"})]
        return [Qdisc("mq", 0, ROOT, {}), *(Qdisc("fq_codel", 0, n, {"limit": "10240"}) for n in range(1, count + 1))]

    # --- /sys

    def _appear(self, interface: FakeInterface) -> None:
        self._index += 1
        interface.link = replace(interface.link, index=self._index)
        self.interfaces[interface.link.name] = interface
        base = f"{_CLASS}/{interface.link.name}"
        first = {"tx_queue_len": "1000", "threaded": "0", "gro_flush_timeout": "0", "napi_defer_hard_irqs": "0"}
        self._tree.files |= {f"{base}/{name}": f"{text}\n" for name, text in first.items()}
        self._tree.handlers |= {f"{base}/{name}": number for name in first}
        self._show(interface)

    def _show(self, interface: FakeInterface) -> None:
        """Let the files say what is so; queues that are new have nothing set, and those that went are gone."""
        base = f"{_CLASS}/{interface.link.name}"
        own = {"ifindex": "1", "mtu": interface.link.mtu, "address": interface.link.mac}
        self._tree.files |= {f"{base}/{name}": f"{value}\n" for name, value in own.items()}
        there = self._queue_files(base, interface)
        for path in [p for p in self._tree.files if p.startswith(f"{base}/queues/") and p not in there]:
            del self._tree.files[path]
            self._tree.handlers.pop(path, None)
        for path in sorted(there - set(self._tree.files)):
            self._tree.files[path] = "0\n"
            self._tree.handlers[path] = power_of_2 if path.endswith("flow_cnt") else _mask

    def _queue_files(self, base: str, interface: FakeInterface) -> set[str]:
        receiving = {
            f"{base}/queues/rx-{n}/{f}" for n in range(_receiving(interface)) for f in ("rps_cpus", "rps_flow_cnt")
        }
        return receiving | {f"{base}/queues/tx-{n}/xps_cpus" for n in range(_sending(interface))}

    def _vanish(self, name: str) -> None:
        self.interfaces.pop(name, None)
        for path in [path for path in self._tree.files if path.startswith(f"{_CLASS}/{name}/")]:
            del self._tree.files[path]
            self._tree.handlers.pop(path, None)
        self._tree.links.pop(f"{_CLASS}/{name}/device", None)
        for child in [one.link for one in self.interfaces.values() if one.link.parent == name]:
            if child.kind != "veth":
                self._vanish(child.name)

    def _mac(self) -> str:
        return f"02:00:00:00:00:{len(self.interfaces):02x}"

    def _find(self, name: str) -> FakeInterface:
        if name not in self.interfaces:
            raise NotFoundError(f"there is no network interface {name}", number=errno.ENODEV, subject=name)
        return self.interfaces[name]

    def _note(self, name: str, what: str) -> None:
        self._tree.writes.append((f"net {name}", what))


def card(name: str, *, queues: int = 4, most: int = 8, device: str = "") -> FakeInterface:
    """Return an Ethernet card of a server, up, with everything that ethtool could set."""
    none = dict.fromkeys(("rx", "tx", "other"), 0)
    return FakeInterface(
        Link(name, mac="02:11:22:33:44:55", mtu=1500, min_mtu=68, max_mtu=9216, is_up=True, state="up"),
        channels=Amounts({**none, "combined": queues}, {**none, "combined": most}),
        rings=Amounts(
            {"rx": 512, "rx-mini": 0, "rx-jumbo": 0, "tx": 512}, {"rx": 4096, "rx-mini": 0, "rx-jumbo": 0, "tx": 4096}
        ),
        coalescing={"rx-usecs": 3, "rx-frames": 0, "tx-usecs": 50, "adaptive-rx": 0, "adaptive-tx": 0},
        features=dict(FEATURES),
        device=device,
    )


def _seen(one: FakeInterface) -> tuple[Any, ...]:
    qdiscs = tuple(replace(qdisc, handle=0, parent=0) for qdisc in one.qdiscs)
    parameters = dict(one.coalescing) if one.coalescing is not None else None
    return (replace(one.link, index=0), one.channels, one.rings, parameters, dict(one.features), qdiscs, *one.addresses)


def _had[T](value: T | None, name: str, action: str) -> T:
    if value is None:
        raise translate(errno.EOPNOTSUPP, name, action)
    return value


def _possible(key: str, features: Mapping[str, Feature]) -> bool:
    needed = _NEEDS.get(key)
    return needed is None or needed not in features or features[needed].wanted


def _receiving(one: FakeInterface) -> int:
    return one.channels.now["combined"] + one.channels.now["rx"] if one.channels else 1


def _sending(one: FakeInterface) -> int:
    return one.channels.now["combined"] + one.channels.now["tx"] if one.channels else 1


def number(old: str, written: str) -> str:
    """Behave like a file with a number in it."""
    return f"{int(written)}\n"


def _mask(old: str, written: str) -> str:
    try:
        return format_cpu_mask(parse_cpu_mask(written)) + "\n"
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error


def power_of_2(old: str, written: str) -> str:
    """Behave like a file whose number the kernel rounds up to a power of 2."""
    count = int(written)
    return f"{1 << (count - 1).bit_length() if count else 0}\n"
