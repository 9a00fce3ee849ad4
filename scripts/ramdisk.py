"""Archives that Linux unpacks as its first file system (an initial RAM disk)."""

from __future__ import annotations

from collections.abc import Iterable

FOLDER = 0o040755
LINK = 0o120777
FILE = 0o100644
PROGRAM = 0o100755

type Entry = tuple[str, int, bytes]
"""Name without leading slash, mode with the kind of file, content (of a link: where it leads)."""


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return a "newc" archive; folders must come before what is in them."""
    return b"".join(_member(*entry) for entry in entries) + _member("TRAILER!!!", 0, b"")


def _member(name: str, mode: int, data: bytes) -> bytes:
    # Documentation/driver-api/early-userspace/buffer-format.rst
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
