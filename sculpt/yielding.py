"""The loop runs behind what it watches: its own work can wait, and a burst of it is what a 99th percentile sees first."""

from __future__ import annotations

import os
from contextlib import suppress

from hal.errors import HalError
from hal.host import Host

NICE = 5
"""As the unit has it."""
AUTOGROUP_NICE = 10
"""A tenth of the weight of another session's."""


def yield_to_others(host: Host) -> None:
    """Make this process, and what it starts from now on, run behind others; as far as it may."""
    with suppress(OSError):
        os.nice(NICE)
    # Between sessions the session's own value alone counts; a terminal's is that of its other programs too.
    if os.getsid(0) == os.getpid():
        with suppress(HalError):
            host.write_text("/proc/self/autogroup", str(AUTOGROUP_NICE))
