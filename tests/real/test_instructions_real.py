"""Instruction mix and data accesses of real programs that do one thing, known from their source."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dna import members as members_of
from dna.access_patterns import PAGE
from dna.errors import ProbeUnavailableError
from dna.features import features_of
from dna.probes.base import ProbeContext, Reading
from dna.probes.instructions import InstructionProbe
from dna.probes.memory import MemoryProbe, with_accesses
from dna.sample import INSTRUCTION_CLASSES, InstructionReading, Quality, Sample
from hal import topology
from hal.host import LinuxHost
from hal.perf_sampling import CpuSampler, ThreadSampler

SOURCE = Path(__file__).parent / "programs" / "kernels.c"
HOST = LinuxHost()
TOPOLOGY = topology.live(HOST, devices=False)
MIB = 1 << 20

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to build the programs: apt install gcc")


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    # Not pytest's own directory: another user must be able to run it.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = f"{directory}/kernels"
        subprocess.run(["gcc", "-O2", "-o", path, str(SOURCE)], check=True)
        yield path


@contextmanager
def running(program: str, kind: str, mib: int = 1) -> Iterator[int]:
    with subprocess.Popen([program, kind, str(mib)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_cpu(pid: int, seconds: float) -> float:
    """Wait until a process has run that much longer, however busy the machine is; return the time it took."""
    began, until = time.monotonic(), cpu_seconds(pid) + seconds
    while cpu_seconds(pid) < until:
        time.sleep(0.02)
    return time.monotonic() - began


def context(pid: int, interval_s: float) -> ProbeContext:
    members = members_of.tree(HOST, pid)
    members.refresh()
    return ProbeContext(HOST, members, TOPOLOGY, None, interval_s=interval_s)


def profile(pid: int, seconds: float, rate_hz: float = 199.0) -> tuple[Reading[InstructionReading], float]:
    """Return the reading over ``seconds`` of a process's CPU time, and the time that took."""
    probe = InstructionProbe(rate_hz=rate_hz)
    try:
        probe.start(context(pid, 4 * seconds))
    except ProbeUnavailableError as error:
        pytest.skip(f"{error}: {error.remedy}")
    try:
        took = wait_for_cpu(pid, seconds)
        return probe.read(took), took
    finally:
        probe.stop()


@pytest.mark.parametrize(
    ("kind", "mib", "expected"),
    [
        ("chase", 64, "load"),
        ("random", 64, "load"),
        ("store", 1, "store"),
        ("branch", 1, "branch"),
        ("integer", 1, "integer"),
        ("scalar", 1, "scalar_fp"),
        ("vector", 1, "vector"),
    ],
)
def test_the_class_that_a_program_is_bound_by_dominates(program: str, kind: str, mib: int, expected: str) -> None:
    with running(program, kind, mib) as pid:
        reading, _ = profile(pid, 0.6)
    value = reading.value
    mix = dict(zip(INSTRUCTION_CLASSES, value.by_class / value.by_class.sum(), strict=True))
    assert value.user_samples >= 80
    assert mix[expected] > 0.6, mix
    assert value.undecoded == 0
    assert reading.lost == 0
    assert value.hot_line_share is not None
    assert value.hot_line_share > 0.9  # a loop of a few lines


def test_samples_are_as_many_as_the_cpu_time_says(program: str) -> None:
    with running(program, "integer") as pid:
        reading, _ = profile(pid, 1.0)
    total = reading.value.user_samples + (reading.value.kernel_samples or 0)
    assert total == pytest.approx(199, rel=0.25)


def observe(program: str, kind: str) -> tuple[InstructionReading, Sample]:
    with running(program, kind, 512) as pid:
        memory_probe = MemoryProbe()
        memory_probe.start(context(pid, 5.0))
        reading, took = profile(pid, 3.0, rate_hz=997.0)
        memory = with_accesses(memory_probe.read(took).value, reading.value, host=HOST, topology=TOPOLOGY)
    sample = Sample(
        0.0, took, TOPOLOGY.cpu_count, TOPOLOGY.node_count, Quality(), instructions=reading.value, memory=memory
    )
    return reading.value, sample


@pytest.mark.slow
def test_random_and_streaming_access_are_told_apart_and_the_working_set_is_found(program: str) -> None:
    random, random_sample = observe(program, "random")
    stream, stream_sample = observe(program, "stream")
    random_features, stream_features = features_of(random_sample), features_of(stream_sample)

    assert random.direction is not None
    assert stream.direction is not None
    assert random.direction < 0.1
    assert stream.direction > 0.5
    assert (random_features["memory.random_share"] or 0) > 0.8
    assert (stream_features["memory.random_share"] or 0) < 0.5
    assert (random_features["memory.new_page_share"] or 0) > 0.9

    memory = random_sample.memory
    assert memory is not None
    assert memory.working_set is not None
    assert 256 * MIB < memory.working_set < 1024 * MIB
    assert memory.accesses_by_node is not None
    assert memory.accesses_by_node.sum() >= 0.9 * 1024  # the sampled addresses are real: pages are there


def test_computed_addresses_lie_in_the_array_that_the_program_reads(program: str) -> None:
    with running(program, "random", 64) as pid:
        reading, _ = profile(pid, 0.6)
        largest = max(
            (
                tuple(int(end, 16) for end in line.split()[0].split("-"))
                for line in HOST.read_text(f"/proc/{pid}/maps").splitlines()
            ),
            key=lambda mapping: mapping[1] - mapping[0],
        )
    addresses = reading.value.data_addresses
    assert addresses is not None
    assert len(addresses) > 50
    inside = (addresses >= largest[0]) & (addresses < largest[1])
    assert inside.mean() > 0.95


def test_a_small_working_set_is_not_mistaken_for_a_large_one(program: str) -> None:
    with running(program, "store", 1) as pid:
        reading, _ = profile(pid, 1.0, rate_hz=997.0)
    assert reading.value.data_pages <= MIB // PAGE + 16
    assert reading.value.data_pages > 100


def test_a_process_that_is_not_the_target_leaves_no_samples(program: str) -> None:
    with running(program, "branch"), running(program, "vector") as target:
        reading, _ = profile(target, 0.5)
    branch = INSTRUCTION_CLASSES.index("branch")
    assert reading.value.by_class[branch] < 0.2 * reading.value.by_class.sum()


def test_a_target_that_ended_gives_an_empty_reading(program: str) -> None:
    probe = InstructionProbe()
    with running(program, "integer") as pid:
        started = context(pid, 1.0)
        try:
            probe.start(started)
        except ProbeUnavailableError as error:
            pytest.skip(f"{error}: {error.remedy}")
        probe.read(1.0)
    started.members.refresh()
    probe.read(1.0)
    value = probe.read(1.0).value
    probe.stop()
    probe.stop()
    assert value.user_samples == 0
    assert value.hot_line_share is None
    assert value.direction is None


def test_one_s_own_threads_can_be_sampled_one_by_one() -> None:
    stop = threading.Event()
    spinner = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    spinner.start()
    sampler = ThreadSampler(HOST, rate_hz=997.0, samples=4000)
    try:
        sampler.follow(frozenset({spinner.native_id or 0}))
        began = time.thread_time(), time.monotonic()
        while time.monotonic() < began[1] + 0.5:
            time.sleep(0.02)
        samples = sampler.take()
        assert len(samples) > 20
        assert set(samples.tid.tolist()) == {spinner.native_id}
        assert (np.diff(samples.time_ns.astype(np.int64)) > 0).all()
        assert (samples.bits[samples.user] == 64).all()
        assert (samples.registers[samples.user] != 0).any()
        sampler.follow(frozenset())
        assert len(sampler.take()) == 0
    finally:
        stop.set()
        spinner.join()
        sampler.close()


def in_another_user(action: Callable[[], str]) -> str:
    """Return what ``action`` returns in a child process of this one that runs as nobody."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            answer = action()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, answer.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user: sudo make test")
def test_without_privilege_one_s_own_processes_are_sampled_and_kernel_time_is_unknown(program: str) -> None:
    paranoid = int(HOST.read_text("/proc/sys/kernel/perf_event_paranoid"))
    if paranoid != 2:
        pytest.skip(
            f"kernel.perf_event_paranoid is {paranoid}, the test is about 2: sysctl kernel.perf_event_paranoid=2"
        )

    def action() -> str:
        with running(program, "vector") as pid:
            probe = InstructionProbe()
            probe.start(context(pid, 2.0))
            wait_for_cpu(pid, 0.5)
            reading = probe.read(0.5)
            probe.stop()
            value = reading.value
            commonest = INSTRUCTION_CLASSES[int(value.by_class.argmax())]
            return f"{commonest} {value.kernel_samples} {value.user_samples > 50} {dict(reading.missing).keys()}"

    assert in_another_user(action) == "vector None True dict_keys(['kernel'])"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user: sudo make test")
def test_without_privilege_another_s_process_is_refused_with_the_remedy(program: str) -> None:
    with running(program, "integer") as pid:

        def action() -> str:
            probe = InstructionProbe()
            try:
                probe.start(context(pid, 2.0))
            except ProbeUnavailableError as error:
                return error.remedy
            return "no error"

        assert "CAP_PERFMON" in in_another_user(action)


def test_samples_that_find_no_room_are_counted(program: str) -> None:
    with running(program, "integer") as pid:
        try:
            sampler = CpuSampler(HOST, [cpu.os_index for cpu in TOPOLOGY.cpus], rate_hz=997.0, samples=1)
        except Exception as error:
            pytest.skip(f"CPUs cannot be sampled: {error}")
        try:
            wait_for_cpu(pid, 0.5)
            sampler.take()
            wait_for_cpu(pid, 0.1)
            samples = sampler.take()  # the kernel reports what was lost with the first record that fits again
            assert samples.lost > 100
        finally:
            sampler.close()
