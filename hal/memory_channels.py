"""How many memory channels are in use, as the memory controller's error counters (EDAC) name them.

Nothing else in the kernel tells: the firmware's table of memory devices (DMI) names slots as the board's maker likes.
"""

from __future__ import annotations

import re

from hal.errors import HostError
from hal.host import Host

_CONTROLLERS = "/sys/devices/system/edac/mc"
_PLACE = re.compile(r"([a-z]+) (\d+)")
_WITHIN_A_CHANNEL = ("slot", "csrow")


def memory_channels(host: Host) -> int | None:
    """Return how many channels have memory; None where the kernel does not say (no EDAC driver, most virtual machines).

    Each ``dimm*`` or ``rank*`` is a module that is there, with its place in words: ``channel 1 slot 0``, ``csrow 0 channel 1``
    (Documentation/admin-guide/ras.rst).
    """
    found: set[tuple[object, ...]] = set()
    for controller in _names(host, _CONTROLLERS, r"mc\d+"):
        for module in _names(host, f"{_CONTROLLERS}/{controller}", r"(dimm|rank)\d+"):
            place = _places(host, f"{_CONTROLLERS}/{controller}/{module}")
            if not any(level == "channel" for level, _ in place):
                return None
            found.add((controller, *(part for part in place if part[0] not in _WITHIN_A_CHANNEL)))
    return len(found) or None


def _places(host: Host, module: str) -> list[tuple[str, str]]:
    try:
        return _PLACE.findall(host.read_text(f"{module}/dimm_location"))
    except HostError:
        return []


def _names(host: Host, folder: str, pattern: str) -> list[str]:
    try:
        return [name for name in host.list_dir(folder) if re.fullmatch(pattern, name)]
    except HostError:
        return []
