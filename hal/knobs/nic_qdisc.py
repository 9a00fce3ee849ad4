"""What orders the packets that wait to be sent: the root queueing discipline of an interface."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hal import qdiscs
from hal.errors import SettingError
from hal.host import Host
from hal.knobs.attributes import parts_of
from hal.knobs.knob import Knob
from hal.knobs.nic import NicKnob, nic_of
from hal.netlink import ROOT, Qdisc
from hal.settings import Change, Subject, Value

_DEFAULT = "default"
_OPAQUE = "(opaque)"
"""Ends the value of one that cannot be put back from its text."""
_OWN_HANDLES = 0x8000
"""Handles from here on are given by the kernel; nobody refers to them."""
_HANDLE = r"[1-7][0-9a-f]{0,3}|[89a-f][0-9a-f]{0,2}"
"""Hexadecimal, below _OWN_HANDLES, as ``tc`` shows it without its colon."""


class RootQdisc(NicKnob):
    """The root qdisc; ``mq KIND`` has one of a kind for each sending queue below it."""

    name = "nic.qdisc"
    title = "Queueing discipline of an interface's sending side"
    values = (
        f"{_DEFAULT} (the kernel's own), or one of {', '.join(k for k in qdiscs.KINDS if k != 'mq')} with options such as limit=N, "
        "or mq followed by one of them, which each sending queue then has"
    )
    example = "fq_codel limit=10240"

    def parse(self, text: str) -> str:
        words = re.split(r"[ ,]+", text.strip(" ").lower())
        kinds = [word for word in words if "=" not in word]
        if kinds == words == [_DEFAULT]:
            return _DEFAULT
        under = kinds[:1] == ["mq"] and len(kinds) == 2
        if kinds[-1:] == [] or kinds[-1] not in qdiscs.KINDS or len(kinds) > 1 + under:
            raise self.malformed(text)
        if words[: len(kinds)] != kinds or (under and kinds[1] in ("mq", "noqueue")):
            raise self.malformed(text)
        return " ".join([*kinds, *self._options(kinds[-1], words[len(kinds) :], text)])

    def _options(self, kind: str, words: Sequence[str], text: str) -> list[str]:
        pairs = dict(word.split("=", 1) for word in words)
        handle = pairs.pop("handle", None)
        if len(pairs) + (handle is not None) != len(words) or (handle and not re.fullmatch(_HANDLE, handle)):
            raise self.malformed(text)
        if handle == "" or not all(qdiscs.is_value(kind, name, value) for name, value in pairs.items()):
            raise self.malformed(text)
        named = [f"{name}={qdiscs.canonical(kind, name, pairs[name])}" for name in qdiscs.KINDS[kind] if name in pairs]
        return [*([f"handle={handle}"] if handle else []), *named]

    def read(self, host: Host, subject: Subject) -> str:
        return described(host.net().qdiscs(subject.name))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic_of(self, host, subject.name)
        present = self.read(host, subject)
        if present.endswith(_OPAQUE):
            raise SettingError(
                f"{self.name}: {subject.name} has {present.removesuffix(_OPAQUE).strip()}, which dna could not put back",
                remedy="Take it away with tc first, if it is no longer wanted.",
            )

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        net, name = host.net(), subject.name
        root = next(iter(net.qdiscs(name)), None)
        has_own = root is not None and root.handle != 0
        if value == _DEFAULT:
            if has_own:
                net.delete_qdisc(name)
            return
        *above, kind = _kinds(value)
        options = parts_of(value)
        handle = int(options.pop("handle", "0"), 16) << 16
        if has_own and root is not None and handle == root.handle:
            net.delete_qdisc(name)  # the kernel would change it in place, and keep the options that are not given
        net.add_qdisc(name, Qdisc("mq" if above else kind, handle, ROOT, {} if above else options))
        if above:
            for place in [qdisc.parent for qdisc in net.qdiscs(name) if qdisc.parent != ROOT]:
                net.add_qdisc(name, Qdisc(kind, 0, place, options))

    def same(self, wanted: Value, found: Value) -> bool:
        if wanted == found:
            return True
        mine, present = parts_of(wanted), parts_of(found)
        return _kinds(wanted) == _kinds(found) and all(present.get(name) == value for name, value in mine.items())

    def between(self, change: Change) -> tuple[Value, ...]:
        # An "mq" whose queues have not all got their own yet is described as one that is kept.
        return (_DEFAULT, "mq", f"mq {_OPAQUE}")

    def cost(self, old: Value, new: Value) -> str:
        return "packets that wait are dropped"


def _kinds(value: Value) -> list[str]:
    return [word for word in str(value).split() if "=" not in word]


def described(present: Sequence[Qdisc]) -> str:
    """Return the value of the qdiscs of an interface, the root's first; nothing is what one that is down has by itself."""
    if not present or present[0].handle == 0:
        return _DEFAULT
    root, children = present[0], [qdisc for qdisc in present[1:] if qdisc.parent >> 16 == present[0].handle >> 16]
    if root.kind not in qdiscs.KINDS or any(qdisc.has_filters for qdisc in present):
        return f"{root.kind} {_OPAQUE}"
    major = root.handle >> 16
    handle = [f"handle={major:x}"] if 0 < major < _OWN_HANDLES else []
    if root.kind != "mq":
        return " ".join([root.kind, *handle, *(f"{name}={value}" for name, value in root.options.items())])
    own = [child for child in children if child.handle != 0]
    if not own:
        return " ".join(["mq", *handle])
    first = own[0]
    if len(own) < len(children) or any((c.kind, c.options) != (first.kind, first.options) for c in own):
        return f"mq {_OPAQUE}"
    if first.kind not in qdiscs.KINDS or any(child.handle >> 16 < _OWN_HANDLES for child in own):
        return f"mq {_OPAQUE}"
    return " ".join(["mq", first.kind, *handle, *(f"{name}={value}" for name, value in first.options.items())])


KNOBS: tuple[Knob, ...] = (RootQdisc(),)
