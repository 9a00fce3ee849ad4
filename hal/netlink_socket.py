"""Netlink requests: pyroute2's message classes over a plain socket.

Its own sockets start an event loop for each request and cannot be used from code that runs in one; a request here is a ``send`` and
as many ``recv`` as the answer takes. Failures are ``OSError`` with the kernel's own words where it has some; callers name what failed.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

from hal.qdiscs import attributes

ROUTE = 0
GENERIC = 16
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_HEADER = struct.Struct("=IHHII")
_ACK_HAS_WORDS = 0x200  # NLM_F_ACK_TLVS
_WORDS = 1  # NLMSGERR_ATTR_MSG
_TIMEOUT_S = 10.0


def change(protocol: int, message: Any, kind: int, flags: int = 0) -> None:
    """Send a request that changes something, and wait until it is done.

    Raises:
        OSError: the kernel refused; ``strerror`` is its own explanation where there is one.
    """
    _exchange(protocol, message, kind, NLM_F_REQUEST | NLM_F_ACK | flags)


def ask(protocol: int, message: Any, kind: int, *, dump: bool = False) -> list[Any]:
    """Send a question, and return the answers as messages of its own class.

    Raises:
        OSError: see ``change``.
    """
    return _exchange(protocol, message, kind, NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK))


def _exchange(protocol: int, message: Any, kind: int, flags: int) -> list[Any]:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["header"]["sequence_number"] = 1
    message.encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as line:
        line.settimeout(_TIMEOUT_S)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            with suppress(OSError):  # the last came with 4.20 (89d35528d17d)
                line.setsockopt(_SOL_NETLINK, option, 1)
        line.bind((0, 0))
        line.send(message.data)
        answers: list[Any] = []
        while not _take(_receive(line), type(message), answers):
            pass
    return answers


def _receive(line: socket.socket) -> bytes:
    """Return one datagram whole, however long: that of a card with many virtual functions has hundreds of kilobytes."""
    size = line.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
    return line.recv(max(size, _HEADER.size))


def _take(data: bytes, answer: Any, answers: list[Any]) -> bool:
    """Decode the messages of one datagram; tell whether the last one has come."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            _raise(data[offset : offset + length], kind, flags)
            return True
        message = answer(data, offset=offset)
        message.decode()
        answers.append(message)
        offset += (length + 3) & ~3
    return False


def _raise(data: bytes, kind: int, flags: int) -> None:
    """Raise what the kernel says went wrong, if anything did."""
    body = data[_HEADER.size :]
    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if number <= 0:
        return
    # An error repeats the request's header before its words (CAP_ACK leaves the rest out), the end of a dump does not.
    words = body[4 + _HEADER.size :] if kind == NLMSG_ERROR else body[4:]
    said = dict(attributes(words)).get(_WORDS, b"") if flags & _ACK_HAS_WORDS else b""
    raise OSError(number, said.rstrip(b"\0").decode("utf-8", "replace") or os.strerror(number))
