"""Virtual interfaces: made, changed and removed; None where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.attributes import join, parts_of, split_parts
from hal.knobs.knob import RANKS, Knob, Support, on_or_off, one_of, show, whole_number
from hal.knobs.nic import net_admin, nics
from hal.knobs.nic_functions import mac_of
from hal.netlink import ELSEWHERE, MODES, NO_MAC, Link, NewLink
from hal.settings import APPROXIMATE, EXACT, Change, Subject, Value

_REQUIRED = {"macvlan": ("link",), "ipvlan": ("link",), "vlan": ("link", "id"), "veth": ("peer",)}
_GIVEN = {"macvlan": {"mode": "bridge"}, "ipvlan": {"mode": "l2"}, "vlan": {"protocol": "802.1q"}, "veth": {}}
"""What is meant where it is left out."""
_FIXED = ("link", "id", "protocol", "peer")
"""What cannot be changed of an interface that is there."""
_PARTS = ("link", "peer", "id", "protocol", "mode", "mac", "mtu", "up", "peer-mac", "peer-mtu", "peer-up")
_OWN = {"macvlan": ("mode",), "ipvlan": ("mode",), "vlan": ("id", "protocol"), "veth": ()}
_COMMON = ("mac", "mtu", "up")
_LONGEST = 15  # IFNAMSIZ with its end


class Virtual(Knob):
    """A macvlan, ipvlan, VLAN or veth."""

    name = "nic.virtual"
    title = "A virtual interface: macvlan, ipvlan, VLAN or veth"
    subject_kind = "nic"
    values = (
        "macvlan link=NIC mode=bridge|private|vepa|passthru|source, ipvlan link=NIC mode=l2|l3|l3s, vlan link=NIC id=N "
        "protocol=802.1q|802.1ad, or veth peer=NAME; each with mac=, mtu=, up=on|off; veth also peer-mac=, peer-mtu=, peer-up=; or absent"
    )
    example = "macvlan link=eth0 mode=bridge"
    rank = RANKS["create"]
    creates = True
    brings = ("queue",)
    reversibility = APPROXIMATE
    reversal = "addresses, routes, flags, queue settings and network namespace of an interface that was removed"
    absent: ClassVar[tuple[str, ...]] = ("absent", "none")

    def support(self, host: Host) -> Support:
        return net_admin(host)

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (Subject("nic", link.name) for link in host.net().links() if link.kind in _REQUIRED)

    # --- values

    def parse(self, text: str) -> Value:
        if text.strip().lower() in self.absent:
            return None
        kind, _, rest = text.strip(" ").partition(" ")
        if kind not in _REQUIRED:
            raise self.malformed(text)
        known = (
            ("link", *_OWN[kind], *_COMMON) if kind != "veth" else ("peer", *_COMMON, *(f"peer-{n}" for n in _COMMON))
        )
        try:
            given = _GIVEN[kind] | split_parts(rest, known)
        except ValueError:
            raise self.malformed(text) from None
        if any(name not in given for name in _REQUIRED[kind]):
            raise self.malformed(text)
        return f"{kind} {join(_PARTS, {name: self._part(kind, name, value) for name, value in given.items()})}"

    def _part(self, kind: str, name: str, text: str) -> str:
        bare = name.removeprefix("peer-")
        if bare == "mac" and text != NO_MAC:
            return mac_of(self, text)
        if bare == "mtu":
            return str(whole_number(self, text, least=68, most=1 << 20))
        if bare == "up":
            return "on" if on_or_off(self, text) else "off"
        if name == "id":
            return str(whole_number(self, text, least=0, most=4094))
        if name in ("mode", "protocol"):
            return one_of(self, text, MODES[kind] if name == "mode" else ("802.1q", "802.1ad"))
        if not is_name(text) or bare == "mac":
            raise self.malformed(text)
        return text

    def same(self, wanted: Value, found: Value) -> bool:
        if wanted is None or found is None:
            return wanted is found
        mine, present = parts_of(wanted), parts_of(found)
        if present.get("peer") == ELSEWHERE:  # moved to another network namespace, it is no less the one that was made
            mine = {name: value for name, value in mine.items() if not name.startswith("peer")}
        return _kind(wanted) == _kind(found) and all(present.get(name) == value for name, value in mine.items())

    def makes(self, subject: Subject, value: Value) -> tuple[Subject, ...]:
        peer = parts_of(value).get("peer")
        return () if value is None else (subject, Subject("nic", peer)) if peer else (subject,)

    def rests_on(self, value: Value) -> tuple[Subject, ...]:
        return (Subject("nic", parts_of(value)["link"]),) if "link" in parts_of(value) else ()

    # --- the machine

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        present = _link(host, subject.name)
        if value is None:
            if present is not None:
                self._check_removable(host, present)
        elif present is None:
            self._check_possible(host, subject, value)
        else:
            self._check_changeable(host, present, value)

    def check_on(self, host: Host, subject: Subject, value: Value, below: Value) -> None:
        if _link(host, subject.name) is not None:
            self.check(host, subject, value)
            return
        self._check_name(subject)
        self._check_kinds(_kind(value), _kind(below), parts_of(value)["link"], parts_of(below).get("link", ""))

    def _check_removable(self, host: Host, link: Link) -> None:
        why, remedy = relied_on(host, link.name), "If it is to go all the same: ip link delete."
        if not link.kind:
            why = f"{link.name} is no virtual interface, but one that a driver made"
            remedy = "It goes with its driver; those of virtual functions with nic.sriov."
        elif link.kind not in _REQUIRED:
            why = f"{link.name} is a {link.kind}: dna could not make it again"
        elif link.parent in ("", ELSEWHERE):
            why = f"{link.name} has its other end in another network namespace: dna could not make it again"
        if why:
            raise SettingError(f"{self.name}: {why}", remedy=remedy)

    def _check_possible(self, host: Host, subject: Subject, value: Value) -> None:
        parts, kind = parts_of(value), _kind(value)
        self._check_name(subject)
        if kind == "veth":
            if parts["peer"] == subject.name or parts["peer"] in nics(host):
                raise SettingError(
                    f"{self.name}: there is an interface {parts['peer']} already", remedy="Name it otherwise."
                )
            return
        if parts["link"] not in nics(host):
            known = ", ".join(nics(host)) or "none but the loopback one"
            raise SettingError(
                f"{self.name}: there is no network interface {parts['link']}", remedy=f"There is {known}."
            )
        self._check_beside(host, kind, parts)

    def _check_name(self, subject: Subject) -> None:
        if not is_name(subject.name):
            raise SettingError(
                f"{self.name}: {subject.name!r} cannot be the name of an interface",
                remedy=f"A name has 1 to {_LONGEST} characters, without spaces, '/', ':' and '%'.",
            )

    def _check_kinds(self, kind: str, below: str, name: str, under: str) -> None:
        """Refuse what the kernel would put on what the interface ``name`` itself is on."""
        if kind == below and kind in MODES:
            raise SettingError(
                f"{self.name}: a {kind} on the {kind} {name} would be put on {under} by the kernel",
                remedy=f"Say link={under}.",
            )

    def _check_beside(self, host: Host, kind: str, parts: dict[str, str]) -> None:
        """Refuse what cannot be on an interface, or not beside what there is on it."""
        below = host.net().link(parts["link"])
        self._check_kinds(kind, below.kind, below.name, below.parent)
        for other in [link for link in host.net().links() if link.parent == parts["link"]]:
            same_tag = (other.vlan, other.protocol) == (int(parts.get("id", -1)), parts.get("protocol"))
            if kind == other.kind == "vlan" and same_tag:
                raise SettingError(
                    f"{self.name}: {other.name} is VLAN {parts['id']} of {parts['link']} already",
                    remedy="Take another id.",
                )
            if {kind, other.kind} == {"macvlan", "ipvlan"}:
                raise SettingError(
                    f"{self.name}: {other.name} is a {other.kind} on {parts['link']}, which cannot have both",
                    remedy=f"Make a {other.kind}.",
                )
            if kind == other.kind == "ipvlan" and other.mode != parts["mode"]:
                raise SettingError(
                    f"{self.name}: all ipvlans on {parts['link']} have one mode, and {other.name} has {other.mode}",
                    remedy=f"Take mode={other.mode}.",
                )

    def _check_changeable(self, host: Host, link: Link, value: Value) -> None:
        found = described(host, link)
        wanted, present = parts_of(value), parts_of(found)
        other = [name for name in _FIXED if name in wanted and wanted[name] != present.get(name)]
        if _kind(value) != link.kind or (other and not self.same(value, found)):
            raise SettingError(
                f"{self.name}: there is an interface {link.name} already: {show(found)}",
                remedy=f"Remove it first: dna set nic.virtual {link.name} absent",
            )

    def read(self, host: Host, subject: Subject) -> Value:
        link = _link(host, subject.name)
        return described(host, link) if link is not None else None

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        present = _link(host, subject.name)
        if value is None:
            if present is not None:
                host.net().delete_link(subject.name)
            return
        parts = parts_of(value)
        if present is None:
            host.net().add_link(_new(subject.name, _kind(value), parts))
            present = host.net().link(subject.name)
        self._adjust(host, subject.name, parts, parts_of(described(host, present)))

    def _adjust(self, host: Host, name: str, wanted: dict[str, str], present: dict[str, str]) -> None:
        """Change what is otherwise of an interface that is there, and of its other end."""
        for prefix, nic in (("", name), ("peer-", present.get("peer", ELSEWHERE))):
            changed = {
                key: wanted[prefix + key]
                for key in (*_COMMON, *(() if prefix else ("mode",)))
                if prefix + key in wanted and wanted[prefix + key] != present.get(prefix + key)
            }
            if changed and nic != ELSEWHERE:
                host.net().set_link(
                    nic,
                    mac=changed.get("mac"),
                    mtu=int(changed["mtu"]) if "mtu" in changed else None,
                    up=changed["up"] == "on" if "up" in changed else None,
                    mode=changed.get("mode"),
                )

    def between(self, change: Change) -> tuple[Value, ...]:
        """Return what there may be in the middle: one that has not all yet that is set once it is there, or one end changed."""
        old, new = parts_of(change.old), parts_of(change.new)
        one_end = old | {name: text for name, text in new.items() if not name.startswith("peer-")}
        values = [f"{_kind(change.new)} {join(_PARTS, one_end)}"] if old and new else []
        for value in (change.old, change.new):
            if value is not None:
                parts = {
                    name: text for name, text in parts_of(value).items() if name not in ("up", "peer-up", "peer-mtu")
                }
                values.append(f"{_kind(value)} {join(_PARTS, parts)}")
        return tuple(values)

    def keep(self, host: Host, subject: Subject) -> str:
        return relied_on(host, subject.name)

    def reversible(self, old: Value, new: Value) -> str:
        return APPROXIMATE if new is None else EXACT

    def cost(self, old: Value, new: Value) -> str:
        return "its addresses and routes go with it" if new is None else ""

    def order(self, change: Change) -> tuple[int, ...]:
        return (1,)  # after the functions whose interfaces it may sit on


def is_name(text: str) -> bool:
    """Tell whether the kernel takes a text as an interface's name (net/core/dev.c: dev_valid_name); "%" is a pattern to it."""
    bad = any(c in "/:%=," or c.isspace() or not c.isprintable() for c in text)
    return 0 < len(text.encode()) <= _LONGEST and not bad and text not in (".", "..", ELSEWHERE)


def described(host: Host, link: Link) -> str:
    """Return the value of an interface; of one that is none of these its kind alone."""
    if link.kind not in _REQUIRED:
        return link.kind or "device"
    parts = {"mac": link.mac, "mtu": str(link.mtu), "up": _switch(link.is_up)}
    if link.kind == "veth":
        parts["peer"] = link.parent or ELSEWHERE
        other = _link(host, link.parent) if link.parent not in ("", ELSEWHERE) else None
        if other is not None:
            parts |= {"peer-mac": other.mac, "peer-mtu": str(other.mtu), "peer-up": _switch(other.is_up)}
    else:
        parts["link"] = link.parent or ELSEWHERE
    if link.kind == "vlan":
        parts |= {"id": str(link.vlan), "protocol": link.protocol}
    elif link.mode:
        parts["mode"] = link.mode
    return f"{link.kind} {join(_PARTS, parts)}"


def relied_on(host: Host, name: str) -> str:
    """Return what would be lost with an interface besides its own settings, "" for nothing."""
    links = host.net().links()
    ends = {name, *(one.name for one in links if one.kind == "veth" and one.parent == name)}
    for one in links:
        if one.name in ends and one.master:
            return f"{one.name} is a port of {one.master}"
        if one.name not in ends and one.parent in ends:
            return f"{one.name} sits on {one.parent}"
    return ""


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _kind(value: Value) -> str:
    return str(value).partition(" ")[0]


def _link(host: Host, name: str) -> Link | None:
    try:
        return host.net().link(name)
    except NotFoundError:
        return None
    except HostError:
        if is_name(name):
            raise
        return None  # the kernel takes no such name


def _new(name: str, kind: str, parts: dict[str, str]) -> NewLink:
    return NewLink(
        name,
        kind,
        parent=parts.get("link") or parts["peer"],
        mode=parts.get("mode", ""),
        vlan=int(parts.get("id", 0)),
        protocol=parts.get("protocol", "802.1q"),
        mac=parts.get("mac", ""),
        mtu=int(parts.get("mtu", 0)),
        peer_mac=parts.get("peer-mac", ""),
    )


KNOBS: tuple[Knob, ...] = (Virtual(),)
