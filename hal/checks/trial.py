"""Small things for trials through bpf(2) and perf_event_open(2): packed attributes and descriptors that get closed."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hal.errors import HostError
from hal.host import Host

# include/uapi/linux/bpf.h
MAP_CREATE, PROG_LOAD, RAW_TRACEPOINT_OPEN = 0, 5, 17
KPROBE, TRACEPOINT, PERF_EVENT, RAW_TRACEPOINT, TRACING = 2, 5, 7, 17, 26
TRACE_RAW_TP, TRACE_FENTRY = 23, 24

# include/uapi/linux/perf_event.h
TYPE_SOFTWARE, TYPE_TRACEPOINT = 1, 2
_DISABLED = 1 << 0
_FD_CLOEXEC = 1 << 3
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408

# r0 = 0; exit: the shortest program that the verifier lets pass.
_RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")


@contextmanager
def descriptor(host: Host, number: int) -> Iterator[int]:
    """Close a descriptor at the end, whatever happens."""
    try:
        yield number
    finally:
        with suppress(HostError):
            host.syscall("close", number)


def create_map(host: Host) -> int:
    """Make an array map of one element; return its descriptor."""
    return _bpf(host, MAP_CREATE, struct.pack("<IIIII", 2, 4, 8, 1, 0))


def load_program(host: Host, kind: int, *, attach_type: int = 0, attach_btf_id: int = 0) -> int:
    """Load the program that does nothing, as one of ``kind``; return its descriptor."""
    code = ctypes.create_string_buffer(_RETURN_0, len(_RETURN_0))
    license_text = ctypes.create_string_buffer(b"GPL")
    attribute = bytearray(128)
    struct.pack_into("<IIQQ", attribute, 0, kind, 2, ctypes.addressof(code), ctypes.addressof(license_text))
    struct.pack_into("<I", attribute, 68, attach_type)
    struct.pack_into("<I", attribute, 108, attach_btf_id)
    return _bpf(host, PROG_LOAD, bytes(attribute))


def open_raw_tracepoint(host: Host, program: int, name: str = "") -> int:
    """Attach a raw tracepoint program by name, or a tracing program to what it was loaded for."""
    text = ctypes.create_string_buffer(name.encode())
    return _bpf(host, RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(text) if name else 0, program))


def open_event(host: Host, kind: int, config: int, *, cpu: int = -1, text: str = "", period: int = 0) -> int:
    """Open a perf event, disabled, on this process (``cpu`` -1) or on a CPU; ``text`` is a kprobe's function."""
    name = ctypes.create_string_buffer(text.encode())
    attribute = bytearray(112)
    struct.pack_into("<IIQQQQQ", attribute, 0, kind, len(attribute), config, period, 0, 0, _DISABLED)
    if text:
        struct.pack_into("<Q", attribute, 56, ctypes.addressof(name))
    buffer = ctypes.create_string_buffer(bytes(attribute), len(attribute))
    return host.syscall("perf_event_open", ctypes.addressof(buffer), -1 if cpu >= 0 else 0, cpu, -1, _FD_CLOEXEC)


def attach_to_event(host: Host, event: int, program: int) -> None:
    """Attach a BPF program to a perf event and switch it on."""
    host.syscall("ioctl", event, _IOC_SET_BPF, program)
    host.syscall("ioctl", event, _IOC_ENABLE, 0)


def outcome(attempt: Callable[[], None]) -> HostError | None:
    """Return the error that an attempt ends with, or None when it works."""
    try:
        attempt()
    except HostError as error:
        return error
    return None


def _bpf(host: Host, command: int, attribute: bytes) -> int:
    buffer = ctypes.create_string_buffer(attribute.ljust(128, b"\0"), 128)
    return host.syscall("bpf", command, ctypes.addressof(buffer), 128)
