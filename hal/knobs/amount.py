"""Values that say how much: ``64M``, or ``all``."""

from __future__ import annotations

import re

from hal.errors import HostError
from hal.host import Host
from hal.knobs.knob import Knob
from hal.settings import Value
from hal.sizes import format_size, parse_size


def parse_amount(knob: Knob, text: str) -> str:
    """Return the canonical form of an amount.

    Raises:
        SettingError: it is none.
    """
    if text.strip().lower() == "all":
        return "all"
    try:
        return format_size(parse_size(text))
    except ValueError:
        raise knob.malformed(text) from None


def amount_of(value: Value, everything: int) -> int:
    """Return the bytes that an amount stands for."""
    return everything if value == "all" else parse_size(str(value))


def meminfo(host: Host, name: str) -> int:
    """Return a field of /proc/meminfo in bytes, 0 where it is not there."""
    try:
        found = re.search(rf"^{re.escape(name)}:\s+(\d+) kB", host.read_text("/proc/meminfo"), re.MULTILINE)
    except HostError:
        return 0
    return int(found[1]) * 1024 if found else 0
