"""Functions of real programs: found in their files, counted and timed against what the programs did, and left as they were."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.elf import ElfError, find_function
from hal.errors import HalError, UnsupportedError
from hal.host import LinuxHost
from rl.errors import MetricError, MetricUnavailableError
from rl.measured import LATENCY, Problem
from rl.reward import open_reader, parse_metric
from rl.sources import uprobe
from rl.sources.found import Spread
from rl.sources.reader import SourceReader

HOST = LinuxHost()
PATIENT_S = 30.0
SOURCE = r"""
#include <stdio.h>
#include <string.h>
#include <time.h>
static void pause_us(long us) { struct timespec t = {us / 1000000, us % 1000000 * 1000}; nanosleep(&t, 0); }
__attribute__((noinline)) void work(int depth, long us) {
  asm volatile("");
  if (depth > 0) work(depth - 1, us); else pause_us(us);
  asm volatile("");
}
__attribute__((noinline)) void empty(void) { asm volatile(""); }
__attribute__((noinline, weak)) int __attribute__((aligned(64))) other(void) { return 3; }
int main(void) {
  long calls, us; int depth; char name[20];
  puts("ready"); fflush(stdout);
  while (scanf("%19s %ld %d %ld", name, &calls, &depth, &us) == 4) {
    for (long i = 0; i < calls; i++)
      if (strcmp(name, "empty")) work(depth, us); else empty();
    puts("done"); fflush(stdout);
  }
  return other();
}
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to build the program: apt install gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uprobes")
    (folder / "program.c").write_text(SOURCE)
    path = folder / "program"
    subprocess.run(["gcc", "-O1", "-o", path, folder / "program.c"], check=True)
    return path


class Running:
    """The program, waiting for orders."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._wait("ready")

    def __call__(self, name: str, calls: int, *, depth: int = 0, us: int = 0) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{name} {calls} {depth} {us}\n")
        self.process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running(program: Path) -> Iterator[Running]:
    one = Running(program)
    yield one
    one.close()


def need_probes(*, kind: str = "throughput") -> None:
    if os.geteuid() != 0:
        pytest.skip("probes functions, which needs root: run `sudo make test`")
    try:
        reader = open_reader(parse_metric(f"{kind}=uprobe:{_libc()}:getppid"), HOST)
    except HalError as error:
        pytest.skip(f"{error}; {error.remedy}")
    reader.close()


def _libc() -> str:
    (path,) = {line.split()[-1] for line in open("/proc/self/maps") if "/libc.so" in line or "/libc-" in line}  # noqa: SIM115
    return path


# --- finding them


def test_a_function_is_where_it_runs_from(program: Path) -> None:
    function = find_function(HOST, str(program), "work")
    nm = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    (address,) = (int(line.split()[0], 16) for line in nm.splitlines() if line.endswith(" T work"))
    # The first code segment of a small program lies in the file as it does in memory.
    assert function.offset == address
    assert not function.is_go


def test_a_library_function_is_found_by_its_dynamic_symbol() -> None:
    """Of a running library: its code in memory is what the file has at that offset."""
    path = _libc()
    function = find_function(HOST, path, "getppid")
    address = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value
    assert address
    in_memory = ctypes.string_at(address, 16)
    assert Path(path).read_bytes()[function.offset : function.offset + 16] == in_memory


def test_stripped_programs_say_that_they_are(program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    with pytest.raises(ElfError, match="names no function work") as caught:
        find_function(HOST, str(stripped), "work")
    assert "stripped" in caught.value.remedy


@pytest.mark.parametrize("length", [0, 3, 4, 40, 64, 1000, 5000, 9000])
def test_damaged_files_are_no_accident(program: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(program.read_bytes()[:length])
    with pytest.raises(ElfError):
        find_function(HOST, str(cut), "work")


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="no program or library"):
        find_function(HOST, __file__, "work")
    with pytest.raises(UnsupportedError):
        find_function(HOST, "/dev/zero", "work")
    with pytest.raises(MetricError, match="names no function nothing") as caught:
        open_reader(parse_metric(f"throughput=uprobe:{_libc()}:nothing"), HOST)
    assert caught.value.exit_code == 2


def test_returns_of_go_functions_are_never_touched(program: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    note = tmp_path / "note"
    note.write_bytes(b"\xff Go buildinf:")
    subprocess.run(["objcopy", "--add-section", f".go.buildinfo={note}", program, go], check=True)
    assert find_function(HOST, str(go), "work").is_go
    with pytest.raises(MetricError, match="written in Go") as caught:
        open_reader(parse_metric(f"latency-p99=uprobe:{go}:work"), HOST)
    assert caught.value.exit_code == 2


# --- watching them


def reading(kind: str, program: Path, function: str = "work") -> SourceReader:
    return open_reader(parse_metric(f"{kind}=uprobe:{program}:{function}"), HOST, timeout_s=PATIENT_S)


@pytest.mark.root
@pytest.mark.bpf
def test_calls_are_counted_in_every_process_of_the_program(program: Path, running: Running) -> None:
    need_probes()
    reader = reading("throughput", program)
    other = Running(program)
    try:
        begin = time.monotonic()
        assert reader.read(0.0).problem is Problem.FIRST
        inner = time.monotonic()
        running("work", 300, us=100)
        other("work", 200, us=100)
        end = time.monotonic()
        value = reader.read(1.0).value
        assert value is not None
        assert 500 / (time.monotonic() - begin) <= value <= 500 / (end - inner)
        assert reader.read(2.0).problem is Problem.UNCHANGED
    finally:
        other.close()
        reader.close()
    running("work", 10)  # without the probe it goes on
    assert reader.read(3.0).problem is Problem.GONE


@pytest.mark.root
@pytest.mark.bpf
def test_durations_are_those_of_the_calls_recursive_ones_too(program: Path, running: Running) -> None:
    need_probes(kind=LATENCY)
    reader = reading(LATENCY, program)
    try:
        reader.read(0.0)
        running("work", 300, us=1000)
        running("work", 30, us=20_000)
        p99 = reader.read(1.0)
        assert p99.value is not None
        assert p99.value >= 0.02 * 7 / 8  # buckets are an eighth wide; sleeping never takes less than it was to
        running("work", 100, us=1000, depth=3)
        assert reader.read(2.0).value
    finally:
        reader.close()


@pytest.mark.root
@pytest.mark.bpf
def test_every_call_is_timed_once(program: Path, running: Running) -> None:
    need_probes(kind=LATENCY)
    fetch = uprobe.DurationFetch(HOST, str(program), find_function(HOST, str(program), "work"))
    try:
        running("work", 50, us=2000, depth=4)
        found = fetch.fetch()
        assert isinstance(found, Spread)
        assert sum(found.counts) == 50 * 5
        below = sum(count for limit, count in zip(found.limits, found.counts, strict=True) if limit <= 0.002)
        assert below == 0
    finally:
        fetch.close()


@pytest.mark.root
@pytest.mark.bpf
@pytest.mark.parametrize("kind", ["throughput", LATENCY])
def test_what_is_called_too_often_is_left_alone(program: Path, running: Running, kind: str) -> None:
    """While it is watched, and from the beginning where it is so then already."""
    need_probes(kind=kind)
    reader = reading(kind, program, "empty")
    try:
        reader.read(0.0)
        begin = time.monotonic()
        running("empty", 200_000)
        if 200_000 / (time.monotonic() - begin) < uprobe.MOST_CALLS_PER_S * 1.5:
            pytest.skip("this machine is too slow for a function to be called too often")
        refused = reader.read(1.0)
        assert refused.problem is Problem.REFUSED
        assert "costs too much" in refused.because
        assert reader.read(2.0).problem is Problem.REFUSED
    finally:
        reader.close()
    assert running.process.stdin
    running.process.stdin.write("empty 2000000000 0 0\n")
    running.process.stdin.flush()
    with pytest.raises(MetricUnavailableError, match="costs too much") as caught:
        reading(kind, program, "empty")
    assert caught.value.remedy
