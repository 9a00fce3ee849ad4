"""Options of queueing disciplines, between the kernel's bytes and text.

Only kinds whose options can be put back exactly as they were read are here; of others (htb with its classes, ...) nobody could
restore what a text says. Numbers of attributes: include/uapi/linux/pkt_sched.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping

type Spec = tuple[int, str]
"""Number of an attribute, and how it is written: "u32", "u8", "codel" (microseconds), "bytes" (hexadecimal)."""

_FQ: dict[str, Spec] = {
    "limit": (1, "u32"),
    "flow_limit": (2, "u32"),
    "quantum": (3, "u32"),
    "initial_quantum": (4, "u32"),
    "pacing": (5, "u32"),
    "maxrate": (7, "u32"),
    "buckets_log": (8, "u32"),
    "refill_delay": (9, "u32"),
    "orphan_mask": (10, "u32"),
    "low_rate_threshold": (11, "u32"),
    "ce_threshold": (12, "u32"),
    "timer_slack": (13, "u32"),
    "horizon": (14, "u32"),
    "horizon_drop": (15, "u8"),
    "priomap": (16, "bytes"),
    "weights": (17, "bytes"),
    "offload_horizon": (18, "u32"),
}
_FQ_CODEL: dict[str, Spec] = {
    "target": (1, "codel"),
    "limit": (2, "u32"),
    "interval": (3, "codel"),
    "ecn": (4, "u32"),
    "flows": (5, "u32"),
    "quantum": (6, "u32"),
    "ce_threshold": (7, "codel"),
    "drop_batch": (8, "u32"),
    "memory_limit": (9, "u32"),
    "ce_threshold_selector": (10, "u8"),
    "ce_threshold_mask": (11, "u8"),
}
_FIFO: dict[str, Spec] = {"limit": (0, "u32")}
KINDS: dict[str, dict[str, Spec]] = {
    "fq": _FQ,
    "fq_codel": _FQ_CODEL,
    "pfifo": _FIFO,
    "bfifo": _FIFO,
    "pfifo_head_drop": _FIFO,
    "pfifo_fast": {},
    "noqueue": {},
    "mq": {},
}
"""Kinds that can be restored, and their options."""
_PLAIN = ("pfifo", "bfifo", "pfifo_head_drop")
"""Kinds whose options are a struct, not attributes."""
_HIGHEST = {"u32": 2**32 - 1, "u8": 2**8 - 1, "codel": 2**32 - 1}
_ATTRIBUTE = struct.Struct("=HH")


def is_value(kind: str, name: str, text: str) -> bool:
    """Tell whether a text is a value of an option of a kind."""
    spec = KINDS.get(kind, {}).get(name)
    if spec is None or not text.isascii():
        return False
    if spec[1] == "bytes":
        return len(text) % 2 == 0 and 0 < len(text) <= 64 and all(c in "0123456789abcdef" for c in text)
    return text.isdigit() and len(text) <= 10 and int(text) <= _HIGHEST[spec[1]]


def canonical(kind: str, name: str, text: str) -> str:
    """Return a value without leading zeros; ``is_value`` must hold."""
    return text if KINDS[kind][name][1] == "bytes" else str(int(text))


def decode(kind: str, data: bytes) -> dict[str, str]:
    """Return the options in the content of a TCA_OPTIONS attribute; of an unknown kind none."""
    if kind in _PLAIN:
        return {"limit": str(struct.unpack_from("=I", data)[0])} if len(data) >= 4 else {}
    by_number = {number: (name, how) for name, (number, how) in KINDS.get(kind, {}).items()}
    found = {}
    for number, content in attributes(data):
        if number in by_number:
            name, how = by_number[number]
            found[name] = content.hex() if how == "bytes" else str(int.from_bytes(content, sys.byteorder))
    return {name: found[name] for name in KINDS.get(kind, {}) if name in found}


def encode(kind: str, options: Mapping[str, str]) -> bytes:
    """Return the content of a TCA_OPTIONS attribute; empty where a kind has none."""
    if kind in _PLAIN:
        return struct.pack("=I", int(options["limit"])) if "limit" in options else b""
    return b"".join(
        attribute(KINDS[kind][name][0], _content(KINDS[kind][name][1], text)) for name, text in options.items()
    )


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    """Return the netlink attributes (number, content) in some bytes; a damaged end is left out."""
    found = []
    while len(data) >= _ATTRIBUTE.size:
        length, number = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size or length > len(data):
            break
        found.append((number & 0x3FFF, data[_ATTRIBUTE.size : length]))
        data = data[(length + 3) & ~3 :]
    return found


def attribute(number: int, content: bytes) -> bytes:
    """Return one netlink attribute, padded to four bytes."""
    raw = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), number) + content
    return raw + b"\0" * (-len(raw) % 4)


def _content(how: str, text: str) -> bytes:
    if how == "bytes":
        return bytes.fromhex(text)
    if how == "u8":
        return struct.pack("=B", int(text))
    return struct.pack("=I", _codel_time(int(text)) if how == "codel" else int(text))


def _codel_time(microseconds: int) -> int:
    """Return what to write so that this is read: the kernel keeps units of 1024 ns and rounds down both ways.

    include/net/codel.h: ``(time * NSEC_PER_USEC) >> CODEL_SHIFT``; iproute2 shows 4.99 ms for the default of 5.
    """
    units = -(-microseconds * 1000 // 1024)
    return min(-(-units * 1024 // 1000), 2**32 - 1)
