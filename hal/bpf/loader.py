"""Load compiled BPF objects with bpf(2): maps, programs, attachment. No library in between."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import numpy as np
from numpy.typing import NDArray

from hal.bpf.object import BpfObject, MapSpec, ProgramSpec
from hal.errors import BpfError, HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host

# include/uapi/linux/bpf.h
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = 0, 1, 2, 3, 4, 5
OBJ_INFO, RAW_TRACEPOINT_OPEN, MAP_LOOKUP_AND_DELETE_BATCH, ENABLE_STATS = 15, 17, 25, 32
PROG_KPROBE, PROG_TRACEPOINT, PROG_PERF_EVENT, PROG_RAW_TRACEPOINT = 2, 5, 7, 17
MAP_HASH, MAP_ARRAY, MAP_LRU_HASH = 1, 2, 9
F_MMAPABLE = 1 << 10

_PROGRAM_TYPES = {
    "raw_tracepoint": PROG_RAW_TRACEPOINT,
    "perf_event": PROG_PERF_EVENT,
    "tracepoint": PROG_TRACEPOINT,
    "kprobe": PROG_KPROBE,  # the kernel's name for those of user space, too
}
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1
_LOG_SIZE = 1 << 20
_PAGE = mmap.PAGESIZE


def bpf(host: Host, command: int, attribute: bytes) -> int:
    """Make one bpf(2) call with a packed ``union bpf_attr``."""
    buffer = ctypes.create_string_buffer(attribute.ljust(128, b"\0"), 128)
    return host.syscall("bpf", command, ctypes.addressof(buffer), 128)


def _address(data: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(data)


class BpfMap:
    """One map in the kernel. Arrays made with BPF_F_MMAPABLE are read and written through shared memory."""

    def __init__(self, host: Host, spec: MapSpec) -> None:
        self.spec = spec
        self._host = host
        name = spec.name.encode()[:15]
        attribute = struct.pack(
            "<IIIIIII16s", spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags, 0, 0, name
        )
        try:
            self.fd = bpf(host, MAP_CREATE, attribute)
        except NotPermittedError as error:
            raise BpfError(
                "the kernel does not let this user use BPF",
                remedy="run as root, or with CAP_BPF and CAP_PERFMON (and on kernels before 5.11 a larger `ulimit -l`)",
            ) from error
        except HostError as error:
            raise BpfError(f"cannot make the BPF map {spec.name}: {error}") from error
        self._memory: mmap.mmap | None = None

    def view(self, dtype: np.dtype[np.void] | np.dtype[np.uint8]) -> NDArray[np.void]:
        """Return the whole array as shared memory, shape (max_entries,): what the kernel writes is seen at once."""
        if not self.spec.flags & F_MMAPABLE:
            raise BpfError(f"the BPF map {self.spec.name} cannot be mapped")
        stride = (self.spec.value_size + 7) // 8 * 8
        size = stride * self.spec.max_entries
        raw = np.frombuffer(self._mapped(size), dtype=np.uint8, count=size)
        if dtype.itemsize != stride:
            raise BpfError(f"the BPF map {self.spec.name} has values of {stride} bytes, not {dtype.itemsize}")
        return raw.view(dtype)

    def bytes_view(self) -> NDArray[np.uint8]:
        """Return the first value of an array as shared bytes, shape (value_size,)."""
        return np.frombuffer(self._mapped(self.spec.value_size), dtype=np.uint8, count=self.spec.value_size)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(self.fd, (size + _PAGE - 1) // _PAGE * _PAGE)
        return self._memory

    def update(self, key: bytes, value: bytes) -> None:
        """Set one element."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        value_buffer = ctypes.create_string_buffer(value, len(value))
        bpf(
            self._host,
            MAP_UPDATE,
            struct.pack("<I4xQQQ", self.fd, _address(key_buffer), _address(value_buffer), 0),
        )

    def drain(self, *, batch: int = 4096) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Take all elements out of a hash: (keys, values), shapes (n, key_size) and (n, value_size).

        An update that races with the removal of its element starts a new one: nothing is counted twice.
        """
        keys, values = [], []
        for some_keys, some_values in self._batches(batch):
            keys.append(some_keys)
            values.append(some_values)
        if not keys:
            return (
                np.empty((0, self.spec.key_size), dtype=np.uint8),
                np.empty((0, self.spec.value_size), dtype=np.uint8),
            )
        return np.concatenate(keys), np.concatenate(values)

    def _batches(self, batch: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        # A hash is walked by bucket; a batch smaller than the fullest bucket fails with ENOSPC, 4096 never is.
        keys = ctypes.create_string_buffer(self.spec.key_size * batch)
        values = ctypes.create_string_buffer(self.spec.value_size * batch)
        cursor_in = ctypes.create_string_buffer(8)
        cursor_out = ctypes.create_string_buffer(8)
        first = True
        while True:
            attribute = ctypes.create_string_buffer(
                struct.pack(
                    "<QQQQIIQQ",
                    0 if first else _address(cursor_in),
                    _address(cursor_out),
                    _address(keys),
                    _address(values),
                    batch,
                    self.fd,
                    0,
                    0,
                ),
                128,
            )
            done = False
            try:
                self._host.syscall("bpf", MAP_LOOKUP_AND_DELETE_BATCH, ctypes.addressof(attribute), 128)
            except NotFoundError:
                done = True
            (count,) = struct.unpack_from("<I", attribute.raw, 32)
            if count:
                yield (
                    np.frombuffer(keys.raw, dtype=np.uint8, count=count * self.spec.key_size).reshape(count, -1),
                    np.frombuffer(values.raw, dtype=np.uint8, count=count * self.spec.value_size).reshape(count, -1),
                )
            if done:
                return
            first = False
            cursor_in.raw = cursor_out.raw

    def close(self) -> None:
        """Drop the descriptor; views that are still in use keep the memory, and with it the map."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._memory = None


class BpfProgram:
    """One loaded program and what it is attached to; closing detaches."""

    def __init__(self, host: Host, spec: ProgramSpec, kind: str, maps: list[BpfMap]) -> None:
        self.name = spec.name
        self._host = host
        self._links = ExitStack()
        code = _with_descriptors(spec.instructions, maps)
        self.fd = self._load(code, _PROGRAM_TYPES[kind])

    def _load(self, code: bytes, kind: int) -> int:
        instructions = ctypes.create_string_buffer(code, len(code))
        license_text = ctypes.create_string_buffer(b"Dual BSD/GPL")
        name = self.name.encode()[:15]

        def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
            attribute = struct.pack(
                "<IIQQIIQII16s",
                kind,
                len(code) // 8,
                _address(instructions),
                _address(license_text),
                1 if log else 0,
                len(log) if log else 0,
                _address(log) if log else 0,
                0,
                0,
                name,
            )
            return bpf(self._host, PROG_LOAD, attribute)

        try:
            return load(None)
        except HostError as error:
            if error.number == errno.EPERM:
                raise BpfError(
                    f"the kernel refused the BPF program {self.name}",
                    remedy="loading needs root, or CAP_BPF and CAP_PERFMON",
                ) from error
            # EACCES is the verifier's: it found an access that it could not prove safe.
            log = ctypes.create_string_buffer(_LOG_SIZE)
            with suppress(HostError):
                os.close(load(log))
            last = log.value.decode("utf-8", "replace").strip().splitlines()[-3:]
            raise BpfError(f"the kernel rejected the BPF program {self.name}: {error}; {' / '.join(last)}") from error

    def attach_raw_tracepoint(self, tracepoint: str) -> None:
        """Attach to a raw tracepoint; BpfError when the kernel has none of that name."""
        name = ctypes.create_string_buffer(tracepoint.encode())
        try:
            link = bpf(self._host, RAW_TRACEPOINT_OPEN, struct.pack("<QI", _address(name), self.fd))
        except (NotFoundError, UnsupportedError) as error:
            raise BpfError(f"this kernel has no tracepoint {tracepoint}") from error
        except HostError as error:
            raise BpfError(f"cannot attach to the tracepoint {tracepoint}: {error}") from error
        self._links.callback(os.close, link)

    def run_time(self) -> tuple[int, int]:
        """Return (nanoseconds run, runs) since loading; counted only while the kernel's BPF statistics are on."""
        info = ctypes.create_string_buffer(256)
        attribute = struct.pack("<IIQ", self.fd, 256, _address(info))
        bpf(self._host, OBJ_INFO, attribute)
        nanoseconds, runs = struct.unpack_from("<QQ", info.raw, 192)
        return int(nanoseconds), int(runs)

    def close(self) -> None:
        """Detach and drop the program."""
        self._links.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class LoadedObject:
    """The maps of an object in the kernel, and its programs as they are asked for."""

    def __init__(self, host: Host, compiled: BpfObject) -> None:
        self._host = host
        self._specs = {spec.name: spec for spec in compiled.programs}
        self._order: list[BpfMap] = []
        self.maps: dict[str, BpfMap] = {}
        self.programs: dict[str, BpfProgram] = {}
        try:
            for spec in compiled.maps:
                self._order.append(BpfMap(host, spec))
                self.maps[spec.name] = self._order[-1]
        except BaseException:
            self.close()
            raise

    def load(self, name: str, kind: str) -> BpfProgram:
        """Load one program; ``kind`` is ``"raw_tracepoint"``, ``"tracepoint"``, ``"perf_event"`` or ``"kprobe"``."""
        program = BpfProgram(self._host, self._specs[name], kind, self._order)
        self.programs[name] = program
        return program

    def close(self) -> None:
        """Detach and drop everything."""
        for program in self.programs.values():
            program.close()
        for one in self._order:
            one.close()


def enable_statistics(host: Host) -> int:
    """Switch on the kernel's accounting of BPF run time until the returned descriptor is closed."""
    return bpf(host, ENABLE_STATS, struct.pack("<I", 0))


def _with_descriptors(code: bytes, maps: list[BpfMap]) -> bytes:
    patched = bytearray(code)
    for at in range(0, len(patched), 8):
        if patched[at] == _LD_IMM64 and patched[at + 1] >> 4 == _PSEUDO_MAP_FD:
            (index,) = struct.unpack_from("<i", patched, at + 4)
            struct.pack_into("<i", patched, at + 4, maps[index].fd)
    return bytes(patched)
