"""Network interfaces of the running machine: links, virtual functions and qdiscs through rtnetlink, the rest through ethtool.

Everything is of the network namespace that the calling thread is in. Numbers: include/uapi/linux/if_link.h, rtnetlink.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, nla
from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_DELQDISC,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWLINK,
    RTM_NEWQDISC,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from hal import netlink_socket as line
from hal import qdiscs as options
from hal.errors import HostError, NotFoundError, translate
from hal.ethtool import Ethtool
from hal.netlink import ELSEWHERE, MODES, NO_MAC, ROOT, Amounts, Feature, Link, NewLink, Qdisc, VirtualFunction

_FUNCTIONS, _NO_STATISTICS = 1 << 0, 1 << 3  # RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS
_UP = 1
_INGRESS = 0xFFFFFFF1
_PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}
_STATES = ("auto", "enable", "disable")


class _Ipvlan(nla):  # type: ignore[misc]
    prefix = "IFLA_"
    nla_map = (("IFLA_IPVLAN_UNSPEC", "none"), ("IFLA_IPVLAN_MODE", "uint16"), ("IFLA_IPVLAN_FLAGS", "uint16"))


class _Macvlan(nla):  # type: ignore[misc]
    prefix = "IFLA_"
    nla_map = (("IFLA_MACVLAN_UNSPEC", "none"), ("IFLA_MACVLAN_MODE", "uint32"))


class _Qdisc(tcmsg):  # type: ignore[misc]
    """As pyroute2 has it, but with the options as they came: it knows no fq, and gives pfifo a limit of 0 by itself."""

    nla_map = tuple(
        (name, "cdata" if name == "TCA_OPTIONS" else kind if name == "TCA_KIND" else "hex")
        for name, kind in tcmsg.nla_map
    )


class LinuxNet:
    """The running machine's interfaces; see ``hal.netlink.Net``."""

    def __init__(self, *, netlink: bool = True) -> None:
        """``netlink`` False lets what is ethtool's go through ioctl, as on older kernels."""
        self._ethtool = Ethtool(netlink=netlink)

    # --- interfaces

    def links(self) -> tuple[Link, ...]:
        with _naming("list", "network interfaces"):
            message = _link_message(attributes={"IFLA_EXT_MASK": _NO_STATISTICS})
            found = line.ask(line.ROUTE, message, RTM_GETLINK, dump=True)
        names = {one["index"]: str(one.get_attr("IFLA_IFNAME")) for one in found}
        return tuple(sorted((_link(one, names) for one in found), key=lambda link: link.index))

    def link(self, name: str) -> Link:
        with _naming("read", name):
            message = _link_message(name, {"IFLA_EXT_MASK": _NO_STATISTICS | _FUNCTIONS})
            found = line.ask(line.ROUTE, message, RTM_GETLINK)[0]
        return _link(found, _Names())

    def addresses(self, name: str) -> tuple[str, ...]:
        index = self._index(name)
        message = ifaddrmsg()
        with _naming("read the addresses of", name):
            found = line.ask(line.ROUTE, message, RTM_GETADDR, dump=True)
        texts = (f"{_address(one)}/{one['prefixlen']}" for one in found if one["index"] == index)
        return tuple(sorted(text for text in texts if not ipaddress.ip_interface(text).is_link_local))

    def add_link(self, link: NewLink) -> None:
        values: dict[str, Any] = {"IFLA_LINKINFO": _kind_of(link)}
        if link.kind != "veth":
            values["IFLA_LINK"] = self._index(link.parent)
        with _naming(f"make the {link.kind}", link.name):
            message = _link_message(link.name, {**_common(link.mac, link.mtu), **values})
            line.change(line.ROUTE, message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)

    def delete_link(self, name: str) -> None:
        with _naming("remove", name):
            line.change(line.ROUTE, _link_message(name), RTM_DELLINK)

    def set_link(
        self,
        name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        up: bool | None = None,
        mode: str | None = None,
    ) -> None:
        values = _common(mac or "", mtu or 0)
        if mode is not None:
            values["IFLA_LINKINFO"] = _kind_of(NewLink(name, self.link(name).kind, mode=mode))
        message = _link_message(name, values)
        if up is not None:
            message["flags"], message["change"] = _UP if up else 0, _UP
        with _naming("set up" if up is not None and not values else "change", name):
            line.change(line.ROUTE, message, RTM_NEWLINK)

    def set_function(self, name: str, wanted: VirtualFunction) -> None:
        present = next((one for one in self.link(name).functions if one.number == wanted.number), None)
        if present is None:
            raise NotFoundError(f"{name} has no virtual function {wanted.number}", subject=f"{name}/vf{wanted.number}")
        # One at a time: drivers take them one by one, and what came before a refused one would stay.
        for what, attribute in _function_changes(present, wanted):
            values = {"IFLA_VFINFO_LIST": {"attrs": [("IFLA_VF_INFO", {"attrs": [attribute]})]}}
            with _naming(f"set the {what} of", f"virtual function {wanted.number} of {name}"):
                line.change(line.ROUTE, _link_message(name, values), RTM_NEWLINK)

    # --- what ethtool sets

    def channels(self, name: str) -> Amounts:
        with _naming("read the queues of", name):
            return self._ethtool.channels(name)

    def set_channels(self, name: str, counts: Mapping[str, int]) -> None:
        with _naming("set the queues of", name):
            self._ethtool.set_channels(name, counts)

    def rings(self, name: str) -> Amounts:
        with _naming("read the rings of", name):
            return self._ethtool.rings(name)

    def set_rings(self, name: str, sizes: Mapping[str, int]) -> None:
        with _naming("set the rings of", name):
            self._ethtool.set_rings(name, sizes)

    def coalescing(self, name: str) -> Mapping[str, int]:
        with _naming("read the interrupt coalescing of", name):
            return self._ethtool.coalescing(name)

    def set_coalescing(self, name: str, values: Mapping[str, int]) -> None:
        with _naming("set the interrupt coalescing of", name):
            self._ethtool.set_coalescing(name, values)

    def features(self, name: str) -> Mapping[str, Feature]:
        with _naming("read the features of", name):
            return self._ethtool.features(name)

    def set_features(self, name: str, wanted: Mapping[str, bool]) -> None:
        with _naming("set the features of", name):
            self._ethtool.set_features(name, wanted)

    # --- queueing disciplines

    def qdiscs(self, name: str) -> tuple[Qdisc, ...]:
        index = self._index(name)
        with _naming("read the qdiscs of", name):
            found = [
                _qdisc(one) for one in line.ask(line.ROUTE, _Qdisc(), RTM_GETQDISC, dump=True) if one["index"] == index
            ]
            sending = sorted((q for q in found if q.parent != _INGRESS), key=lambda q: (q.parent != ROOT, q.parent))
            return tuple(replace(q, has_filters=self._has_filters(index, q.handle)) for q in sending)

    def _has_filters(self, index: int, handle: int) -> bool:
        if handle == 0:
            return False
        message = _Qdisc()
        message["index"], message["parent"] = index, handle
        return bool(line.ask(line.ROUTE, message, RTM_GETTFILTER, dump=True))

    def add_qdisc(self, name: str, qdisc: Qdisc) -> None:
        message = _Qdisc()
        message["index"] = self._index(name)
        message["handle"], message["parent"] = qdisc.handle, qdisc.parent
        message["attrs"] = [("TCA_KIND", qdisc.kind)]
        content = options.encode(qdisc.kind, qdisc.options)
        if content:
            message["attrs"].append(("TCA_OPTIONS", content))
        with _naming(f"set the qdisc {qdisc.kind} of", name):
            # Exclusive too, or the kernel would change one of the same kind in place: options that are not given would stay,
            # and some (fq_codel's flows) cannot be changed (net/sched/sch_api.c: tc_modify_qdisc).
            try:
                line.change(line.ROUTE, message, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_EXCL)
            except OSError as error:
                if error.errno == errno.ENOENT:  # as if the interface were gone; it is the kind that this kernel lacks
                    raise OSError(errno.EOPNOTSUPP, error.strerror) from error
                raise

    def delete_qdisc(self, name: str) -> None:
        message = _Qdisc()
        message["index"], message["parent"] = self._index(name), ROOT
        with _naming("take away the qdisc of", name):
            line.change(line.ROUTE, message, RTM_DELQDISC)

    def _index(self, name: str) -> int:
        return self.link(name).index


@contextmanager
def _naming(action: str, subject: str) -> Iterator[None]:
    """Translate what the kernel says, with the interface and what was asked of it."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        words = error.strerror or ""
        if number == errno.ENODEV:
            raise NotFoundError(f"there is no network interface {subject}", number=number, subject=subject) from error
        found = translate(number, subject, action)
        if words and words != os.strerror(number):
            found = type(found)(f"{found} ({words})", number=number, subject=subject)
        raise found from error


class _Names(dict[int, str]):
    """Names of interfaces by index, asked for one by one."""

    def __missing__(self, index: int) -> str:
        message = _link_message(attributes={"IFLA_EXT_MASK": _NO_STATISTICS})
        message["index"] = index
        try:
            with _naming("read", f"number {index}"):
                self[index] = str(line.ask(line.ROUTE, message, RTM_GETLINK)[0].get_attr("IFLA_IFNAME"))
        except HostError:
            self[index] = ""
        return self[index]


def _link_message(name: str = "", attributes: Mapping[str, Any] | None = None) -> Any:
    message = ifinfmsg()
    message["attrs"] = [*([("IFLA_IFNAME", name)] if name else []), *(attributes or {}).items()]
    return message


def _common(mac: str, mtu: int) -> dict[str, Any]:
    return {**({"IFLA_ADDRESS": mac} if mac else {}), **({"IFLA_MTU": mtu} if mtu else {})}


def _kind_of(link: NewLink) -> dict[str, Any]:
    """Return the attribute that says of which kind an interface is to be, and how."""
    data: list[tuple[str, Any]] = []
    if link.kind == "veth":
        peer = {"attrs": [("IFLA_IFNAME", link.parent), *_common(link.peer_mac, link.mtu).items()]}
        data = [("VETH_INFO_PEER", peer)]
    elif link.kind == "vlan":
        data = [("IFLA_VLAN_ID", link.vlan), ("IFLA_VLAN_PROTOCOL", _PROTOCOLS[link.protocol])]
    elif link.mode:
        data = [(f"IFLA_{link.kind.upper()}_MODE", MODES[link.kind][link.mode])]
    return {"attrs": [("IFLA_INFO_KIND", link.kind), *([("IFLA_INFO_DATA", {"attrs": data})] if data else [])]}


def _link(message: Any, names: Mapping[int, str]) -> Link:
    kind, data = _kind_and_data(message)
    name = str(message.get_attr("IFLA_IFNAME"))
    index = int(message["index"])
    return Link(
        name=name,
        index=index,
        kind=kind,
        mac=str(message.get_attr("IFLA_ADDRESS") or ""),
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        min_mtu=int(message.get_attr("IFLA_MIN_MTU") or 0),
        max_mtu=int(message.get_attr("IFLA_MAX_MTU") or 0),
        is_up=bool(message["flags"] & _UP),
        state=str(message.get_attr("IFLA_OPERSTATE") or "").lower(),
        parent=_parent(message, index, names),
        master=_named(message.get_attr("IFLA_MASTER"), names),
        mode=_mode(kind, data),
        vlan=data.get("IFLA_VLAN_ID"),
        protocol={number: text for text, number in _PROTOCOLS.items()}.get(data.get("IFLA_VLAN_PROTOCOL", 0), ""),
        functions=_functions(message),
    )


def _kind_and_data(message: Any) -> tuple[str, dict[str, Any]]:
    info = message.get_attr("IFLA_LINKINFO")
    if info is None:
        return "", {}
    data = info.get_attr("IFLA_INFO_DATA")
    attributes = data["attrs"] if data is not None and not isinstance(data, str | bytes) else []
    return str(info.get_attr("IFLA_INFO_KIND") or ""), {name: value for name, value, *_ in attributes}


def _parent(message: Any, index: int, names: Mapping[int, str]) -> str:
    parent = message.get_attr("IFLA_LINK")
    if parent is None or parent == index:
        return ""
    if message.get_attr("IFLA_LINK_NETNSID") is not None:
        return ELSEWHERE
    return _named(parent, names)


def _named(index: Any, names: Mapping[int, str]) -> str:
    """Return an interface's name; one that went in the meantime has none."""
    if not index:
        return ""
    try:
        return names[int(index)]
    except KeyError:
        return ""


def _mode(kind: str, data: Mapping[str, Any]) -> str:
    number = data.get(f"IFLA_{kind.upper()}_MODE")
    return next((name for name, own in MODES.get(kind, {}).items() if own == number), "")


def _functions(message: Any) -> tuple[VirtualFunction, ...]:
    listed = message.get_attr("IFLA_VFINFO_LIST")
    found = listed.get_attrs("IFLA_VF_INFO") if listed is not None else []
    return tuple(sorted((_function(one) for one in found), key=lambda function: function.number))


def _function(info: Any) -> VirtualFunction:
    mac, vlan, rate = info.get_attr("IFLA_VF_MAC"), info.get_attr("IFLA_VF_VLAN"), info.get_attr("IFLA_VF_RATE")
    state = info.get_attr("IFLA_VF_LINK_STATE")
    return VirtualFunction(
        number=int(mac["vf"]),
        mac=mac["mac"] or NO_MAC,
        vlan=vlan["vlan"] if vlan else 0,
        qos=vlan["qos"] if vlan else 0,
        min_rate=rate["min_tx_rate"] if rate else 0,
        max_rate=rate["max_tx_rate"] if rate else 0,
        spoofcheck=_switch(info.get_attr("IFLA_VF_SPOOFCHK"), "spoofchk"),
        trust=_switch(info.get_attr("IFLA_VF_TRUST"), "trust"),
        state=_STATES[state["link_state"]] if state and state["link_state"] < len(_STATES) else "",
    )


def _switch(attribute: Any, name: str) -> bool | None:
    # Drivers that do not have it leave -1 there (net/core/rtnetlink.c: rtnl_fill_vfinfo).
    return bool(attribute[name]) if attribute is not None and attribute[name] in (0, 1) else None


def _function_changes(
    present: VirtualFunction, wanted: VirtualFunction
) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    number = {"vf": wanted.number}
    if wanted.mac and wanted.mac != present.mac:
        yield "MAC address", ("IFLA_VF_MAC", {**number, "mac": wanted.mac})
    if (wanted.vlan, wanted.qos) != (present.vlan, present.qos):
        yield "VLAN", ("IFLA_VF_VLAN", {**number, "vlan": wanted.vlan, "qos": wanted.qos})
    if (wanted.min_rate, wanted.max_rate) != (present.min_rate, present.max_rate):
        rates = {"min_tx_rate": wanted.min_rate, "max_tx_rate": wanted.max_rate}
        yield "rate", ("IFLA_VF_RATE", {**number, **rates})
    if wanted.spoofcheck is not None and wanted.spoofcheck != present.spoofcheck:
        yield "spoof check", ("IFLA_VF_SPOOFCHK", {**number, "spoofchk": int(wanted.spoofcheck)})
    if wanted.trust is not None and wanted.trust != present.trust:
        yield "trust", ("IFLA_VF_TRUST", {**number, "trust": int(wanted.trust)})
    if wanted.state and wanted.state != present.state:
        yield "link state", ("IFLA_VF_LINK_STATE", {**number, "link_state": _STATES.index(wanted.state)})


def _address(message: Any) -> str:
    return str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))


def _qdisc(message: Any) -> Qdisc:
    kind = str(message.get_attr("TCA_KIND"))
    content = message.get_attr("TCA_OPTIONS") or b""
    return Qdisc(kind, int(message["handle"]), int(message["parent"]), options.decode(kind, bytes(content)))


for _name, _data in (("ipvlan", _Ipvlan), ("macvlan", _Macvlan)):
    # pyroute2 has no flags for the one, and translates the other's modes into words of its own.
    ifinfmsg.ifinfo.data_map[_name] = _data
