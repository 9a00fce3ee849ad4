"""Probes on functions of programs: counted by the kernel alone, or with a BPF program run at each call or return.

They are perf events of the ``uprobe`` PMU (Documentation/trace/uprobetracer.rst; since 4.17, commit 33ea4b24277b), so they are gone with
their descriptors whatever becomes of us. A probed call costs one or two microseconds: the kernel traps and steps over an
instruction, and a probed return as much again.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from contextlib import suppress

from hal.errors import HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host

_PMU = "/sys/bus/event_source/devices/uprobe"
_ATTR_SIZE = 72  # PERF_ATTR_SIZE_VER1: the first with config2
_DISABLED = 1 << 0
_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408


class Uprobe:
    """A probe on one place of a file, in all processes that run it, on the given CPUs.

    Args:
        on_return: at the function's return instead of its call.
        program: descriptor of a BPF program of type kprobe; it sees calls on all CPUs whatever ``cpus`` are.

    Raises:
        HostError: the kernel has no such probes, does not let this user place one, or cannot place one there.
    """

    def __init__(
        self,
        host: Host,
        path: str,
        offset: int,
        *,
        cpus: Sequence[int] = (0,),
        on_return: bool = False,
        program: int | None = None,
    ) -> None:
        self._host = host
        self._fds: list[int] = []
        attr = _attributes(host, on_return=on_return)
        name = ctypes.create_string_buffer(path.encode())
        struct.pack_into("<QQ", attr, 56, ctypes.addressof(name), offset)
        try:
            for cpu in cpus:
                self._fds.append(host.syscall("perf_event_open", ctypes.addressof(attr), -1, cpu, -1, _FD_CLOEXEC))
                if program is not None:
                    host.syscall("ioctl", self._fds[-1], _IOC_SET_BPF, program)
                host.syscall("ioctl", self._fds[-1], _IOC_ENABLE, 0)
        except BaseException as error:
            self.close()
            if isinstance(error, NotPermittedError):
                raise NotPermittedError(
                    "probing programs needs a privilege", remedy="run as root, or with CAP_PERFMON and CAP_BPF"
                ) from error
            raise

    def count(self) -> int:
        """Return how often the place was reached since the beginning, on all its CPUs."""
        value = ctypes.c_uint64()
        total = 0
        for descriptor in self._fds:
            self._host.syscall("read", descriptor, ctypes.addressof(value), 8)
            total += value.value
        return total

    def close(self) -> None:
        """Take the probe away; harmless when closed before."""
        while self._fds:
            with suppress(HostError):
                self._host.syscall("close", self._fds.pop())


def _attributes(host: Host, *, on_return: bool) -> ctypes.Array[ctypes.c_char]:
    try:
        kind = int(host.read_text(f"{_PMU}/type"))
        bit = int(host.read_text(f"{_PMU}/format/retprobe").partition(":")[2])
    except (NotFoundError, ValueError) as error:
        raise UnsupportedError("this kernel cannot probe programs (CONFIG_UPROBE_EVENTS)") from error
    config = 1 << bit if on_return else 0
    packed = struct.pack("<IIQQQQQ", kind, _ATTR_SIZE, config, 0, 0, 0, _DISABLED)
    return ctypes.create_string_buffer(packed.ljust(_ATTR_SIZE, b"\0"), _ATTR_SIZE)
