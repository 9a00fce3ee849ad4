"""File and block I/O against /proc/PID/io and what the program was told to do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dna.probes.io import IoProbe, ProcIoProbe
from dna.probes.syscalls import SyscallProbe
from dna.sample import BUCKETS, IoReading
from dna.target import Target
from tests.real.watching import HOST, Actor, Watch, actor, bpf_marks

pytestmark = bpf_marks()


def proc_io(pid: int) -> dict[str, int]:
    lines = HOST.read_text(f"/proc/{pid}/io").splitlines()
    return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}


def buckets(counts: Any) -> dict[int, int]:
    return {index: int(counts[index]) for index in range(BUCKETS) if counts[index]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    with path.open("wb") as out:
        out.write(bytes(4 << 20))
        out.flush()
        os.fsync(out.fileno())  # dirty pages cannot be dropped from the cache
    return path


def io_of(watch: Watch, one: Actor, code: str) -> IoReading:
    one(code)
    io: IoReading = watch.readings()[0].value
    return io


def sample_all(watch: Watch, one: Actor) -> None:
    """Two intervals of next to nothing: from then on every call is sampled, the one it waits in included."""
    for _ in range(2):
        one("pass")
        time.sleep(0.05)  # so that the rate of calls is low
        watch.readings()


def test_few_calls_are_exact(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one(f"f = os.open({str(file)!r}, os.O_RDWR)")
        sample_all(watch, one)
        before = proc_io(one.pid)
        io = io_of(watch, one, "[os.read(f, 4096) for _ in range(60)]; [os.write(f, b'x' * 1000) for _ in range(40)]")
        after = proc_io(one.pid)
    assert (io.read_bytes, io.write_bytes) == (60 * 4096, 40 * 1000)
    assert (io.read_calls, io.write_calls) == (60, 40)
    assert buckets(io.read_sizes) == {12: 60}
    assert buckets(io.write_sizes) == {9: 40}
    # The witness also counts the pipes over which the program gets its orders.
    assert 0 <= after["rchar"] - before["rchar"] - 60 * 4096 < 1000
    assert 0 <= after["wchar"] - before["wchar"] - 40 * 1000 < 10
    assert after["syscw"] - before["syscw"] == 40 + 1


def test_every_call_of_short_commands_counts(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one(f"dd = ['dd', 'if={file}', 'of=/dev/null', 'bs=100', 'count=10', 'status=none']")
        sample_all(watch, one)
        io = io_of(watch, one, "for _ in range(5): os.waitpid(os.posix_spawn('/bin/dd', dd, {}), 0)")
    assert buckets(io.read_sizes)[6] == 50


def test_many_calls_are_sampled_within_bounds(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one(f"f = os.open({str(file)!r}, os.O_RDONLY); z = os.open('/dev/zero', 0)")
        # Two intervals of the same: the first one sets the sampling.
        busy = "for _ in range(15000): os.pread(f, 512, 0); os.pread(f, 8192, 0); os.read(z, 64)"
        io_of(watch, one, busy)
        one(busy)
        io, calls = (reading.value for reading in watch.readings())
    assert calls.sample_every > 2
    windows = 45000 / calls.sample_every / 8
    # Two in three calls are on the file; a window holds consecutive calls, so it is nearly always 5 or 6 of its 8.
    assert io.read_calls == pytest.approx(30000, rel=1.0 / windows**0.5)
    assert io.read_bytes == pytest.approx(15000 * 8704, rel=1.5 / windows**0.5)
    sizes = buckets(io.read_sizes)
    assert set(sizes) == {9, 13}
    # A window has one more or one less of either than of the other: over many these even out, as steps to either side do.
    assert abs(sizes[9] - sizes[13]) <= 4 * ((sizes[9] + sizes[13]) / 5) ** 0.5


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        ("os.lseek(f, 0, 0)\nwhile os.read(f, 8192): pass", 0.95, 1.0),
        ("[os.pread(f, 4096, i * 4096) for i in range(900)]", 0.95, 1.0),
        ("[os.pread(f, 4096, r.randrange(1000) * 4096) for i in range(900)]", 0.0, 0.02),
        ("for i in range(900): os.lseek(f, r.randrange(4000000), 0); os.write(f, b'x' * 100)", 0.0, 0.02),
        ("a = os.open(path, os.O_WRONLY | os.O_APPEND); [os.write(a, b'x' * 100) for i in range(900)]", 0.95, 1.0),
        ("[os.preadv(f, [bytearray(100), bytearray(60)], i * 160) for i in range(900)]", 0.95, 1.0),
    ],
    ids=["read", "pread", "random pread", "random write", "append", "preadv"],
)
def test_sequential_share(file: Path, code: str, low: float, high: float) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one(f"import random; r = random.Random(1); path = {str(file)!r}; f = os.open(path, os.O_RDWR)")
        watch.readings()
        io = io_of(watch, one, code)
    assert io.positioned is not None
    assert io.sequential is not None
    assert io.positioned > 40  # all but the first call of each window of 8
    assert low <= io.sequential / io.positioned <= high


def test_two_files_read_in_turn_are_each_sequential(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one(f"f = os.open({str(file)!r}, 0); g = os.open({str(file)!r}, 0)")
        watch.readings()
        io = io_of(watch, one, "for _ in range(300): os.read(f, 512); os.read(g, 700)")
    assert io.positioned
    assert io.sequential == io.positioned


def test_pipes_sockets_and_devices_are_no_files() -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, SyscallProbe) as watch:
        one("import socket; r, w = os.pipe(); a, b = socket.socketpair(); n = os.open('/dev/null', 1)")
        watch.readings()
        io = io_of(
            watch,
            one,
            "for _ in range(50): os.write(w, b'x'); os.read(r, 1); a.send(b'x'); b.recv(1); os.write(n, b'x')",
        )
    assert (io.read_bytes, io.write_bytes) == (0, 0)
    assert buckets(io.read_sizes) == buckets(io.write_sizes) == {}


def test_sync_calls(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe) as watch:
        one(f"f = os.open({str(file)!r}, os.O_RDWR)")
        watch.readings()
        io = io_of(watch, one, "for _ in range(5): os.write(f, b'x'); os.fdatasync(f); os.fsync(f)")
    assert io.sync_calls == 10


def test_device_bytes_are_those_of_proc(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe, ProcIoProbe) as watch:
        one(f"f = os.open({str(file)!r}, os.O_RDWR)")
        watch.readings()
        before = proc_io(one.pid)
        one("os.write(f, bytes(1 << 20)); os.fsync(f)")
        bpf, proc = (reading.value for reading in watch.readings())
        after = proc_io(one.pid)
    assert bpf.device_write_bytes == proc.device_write_bytes == after["write_bytes"] - before["write_bytes"]
    assert proc.write_bytes == after["wchar"] - before["wchar"]


def test_block_requests_are_timed(file: Path) -> None:
    with actor() as one, Watch(Target.pid(one.pid), IoProbe) as watch:
        one(f"f = os.open({str(file)!r}, os.O_RDONLY)")
        before = proc_io(one.pid)["read_bytes"]
        watch.readings()
        io = io_of(
            watch,
            one,
            "os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED); [os.pread(f, 65536, i << 20) for i in range(4)]",
        )
        moved = proc_io(one.pid)["read_bytes"] - before
    if not moved:
        pytest.skip("the temporary directory is not on a block device: give another with TMPDIR")
    if io.block_bytes is None:
        pytest.skip("this kernel has no block tracepoints")
    assert io.block_latency is not None
    assert int(io.block_latency.sum()) >= 4
    assert io.block_bytes == pytest.approx(moved, rel=0.5)
