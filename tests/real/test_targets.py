"""Targets that are a condition, launched commands, and the profiler around them, on the running kernel."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dna.errors import TargetGoneError
from dna.probes.sched import SchedProbe
from dna.probes.syscalls import SyscallProbe
from dna.profiler import Choices, Profiler
from dna.target import Target
from dna.vector import Dna, Features
from tests.real.watching import HOST, Watch, actor, bpf_marks, this_machine, wait_for

pytestmark = bpf_marks()
PROBES: Choices = ((SchedProbe,), (SyscallProbe,))


def no_vector(features: Features) -> Dna:
    return Dna(vector=np.zeros(16), novelty=0.0, model="none")


def profiler(target: Target, *, interval: float = 0.3, duration: float | None = None) -> Profiler:
    return Profiler(
        target,
        interval=interval,
        duration=duration,
        probes=PROBES,
        topology=this_machine(),
        encoder=no_vector,
    )


# --- cgroups


@pytest.fixture
def cgroup() -> Iterator[Path]:
    directory = _make_cgroup(f"dna-test-{os.getpid()}")
    if directory is None:
        pytest.skip(
            "no cgroup can be made: needs root and a writable /sys/fs/cgroup (a container may have it read-only)"
        )
    yield directory
    wait_for(lambda: _removed(directory), "the cgroup is empty")


def _make_cgroup(name: str) -> Path | None:
    for base in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if (Path(base) / "cgroup.procs").exists():
            with suppress(OSError):
                (Path(base) / name).mkdir()
                return Path(base) / name
    return None


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def join(pid: int, directory: Path) -> None:
    (directory / "cgroup.procs").write_text(str(pid))


def test_a_cgroup_is_who_is_in_it(cgroup: Path) -> None:
    work = "for _ in range(100): os.getppid()"
    with actor() as first, actor() as second:
        join(first.pid, cgroup)
        with Watch(Target.cgroup(str(cgroup)), SyscallProbe) as watch:
            second(work)
            assert "getppid" not in watch.read().by_name
            join(second.pid, cgroup)
            watch.read()
            second(work)
            assert watch.read().by_name["getppid"] == 100
            assert watch.members.pids() == {first.pid, second.pid}
            join(first.pid, cgroup.parent)
            watch.read()
            assert watch.members.pids() == {second.pid}
            first("pass")  # it is let go at the end of its next slice
            watch.read()
            first(work)
            assert "getppid" not in watch.read().by_name
            assert watch.programs.member_tids().tolist() == [second.pid]
            assert watch.programs.threads["tid"][watch.programs.threads["tid"] > 0].tolist() == [second.pid]
        join(second.pid, cgroup.parent)


def test_children_of_a_cgroup_and_cgroups_below(cgroup: Path) -> None:
    below = cgroup / "below"
    below.mkdir()
    with actor() as one:
        join(one.pid, below)
        with Watch(Target.cgroup(str(cgroup)), SyscallProbe) as watch:
            one("if os.fork() == 0:\n [os.getppid() for _ in range(50)]\n os._exit(0)\nos.wait()")
            assert watch.read().by_name["getppid"] == 50
            inside = f"/{cgroup.name}/below"
            with Watch(Target.cgroup(inside), SyscallProbe) as by_path:
                assert by_path.members.pids() == {one.pid}
    wait_for(lambda: _removed(below), "it is empty")


def test_an_emptied_cgroup_ends_the_profile(cgroup: Path) -> None:
    with actor() as one:
        join(one.pid, cgroup)
        with profiler(Target.cgroup(str(cgroup)), duration=30) as profile:
            intervals = 0
            for _ in profile:
                intervals += 1
                join(one.pid, cgroup.parent)
        assert profile.ended == "target"
        assert intervals <= 2
    with pytest.raises(TargetGoneError):
        profiler(Target.cgroup(str(cgroup))).__enter__()


# --- by name


def named(name: str) -> subprocess.Popen[bytes]:
    code = f"open('/proc/self/comm', 'w').write('{name}'); print(1, flush=True)\nwhile True:\n input()\n print(2, flush=True)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    return child


def test_processes_of_a_name_appear_later() -> None:
    name = f"dna{os.getpid()}"
    children = [named(name)]
    try:
        with Watch(Target.comm(f"^{name}$"), SyscallProbe) as watch:
            children.append(named(name))
            children.append(named(f"x{name}"))
            watch.read()
            assert watch.members.pids() == {child.pid for child in children[:2]}
            children[0].kill()
            children[0].wait()
            watch.read()
            assert watch.members.pids() == {children[1].pid}
    finally:
        for child in children:
            child.kill()
            child.communicate()


# --- the whole host


def test_the_whole_host_has_everybody() -> None:
    with actor() as one, Watch(Target.host(), SyscallProbe, SchedProbe) as watch:
        watch.readings()
        one("for _ in range(2000): os.getppid()")
        calls, sched = (reading.value for reading in watch.readings())
    assert calls.by_name["getppid"] >= 2000
    assert sched.oncpu_s > 0
    assert sched.oncpu_s <= sum(sched.oncpu_by_cpu) + 1e-6
    assert sched.processes > 10


# --- commands


def run(*argv: str, **options: float) -> tuple[Profiler, int]:
    with profiler(Target.command(argv), **options) as profile:
        count = sum(1 for _ in profile)
        wait_for(lambda: profile.exit_status is not None, "the command ends")
    return profile, count


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)]
)
def test_exit_status_is_passed_on(script: str, status: int) -> None:
    profile, intervals = run("sh", "-c", script, interval=10)
    assert profile.exit_status == status
    assert profile.ended == "target"
    assert intervals == 1


def test_commands_that_cannot_run(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    with pytest.raises(TargetGoneError, match="was not found") as gone:
        profiler(Target.command(["no-such-command-anywhere"])).__enter__()
    assert gone.value.exit_code == 3
    assert gone.value.remedy
    with pytest.raises(TargetGoneError, match="not executable"):
        profiler(Target.command([str(plain)])).__enter__()
    plain.chmod(0o755)
    profile, _ = run(str(plain), interval=10)
    assert profile.exit_status == 126


@pytest.mark.slow
def test_commands_meet_the_signals_they_expect(tmp_path: Path) -> None:
    """Python ignores two signals; a command must not inherit that."""
    out = tmp_path / "ignored"
    run("sh", "-c", f"grep SigIgn /proc/self/status > {out}", interval=10)
    ignored = int(out.read_text().split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)
    assert not ignored & 1 << (signal.SIGXFSZ - 1)


def test_children_go_on_when_the_root_ends() -> None:
    began = time.monotonic()
    with profiler(Target.command(["sh", "-c", "sleep 1.2 & exit 3"]), interval=0.3) as profile:
        intervals = sum(1 for _ in profile)
    assert profile.ended == "target"
    assert profile.exit_status == 3
    assert intervals >= 3
    assert time.monotonic() - began < 20


def test_a_target_that_ends_cuts_the_interval_short() -> None:
    child = subprocess.Popen(["sleep", "0.5"])
    began = time.monotonic()
    with profiler(Target.pid(child.pid), interval=60) as profile:
        # The test is the parent: the process ends as a zombie, and must count as ended all the same.
        intervals = list(profile)
    child.wait()
    assert profile.ended == "target"
    assert len(intervals) == 1
    assert time.monotonic() - began < 30


def test_stop_from_a_signal_handler() -> None:
    with actor() as one, profiler(Target.pid(one.pid), interval=60) as profile:
        before = signal.signal(signal.SIGUSR1, lambda *_: profile.stop())
        try:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            intervals = list(profile)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert profile.ended == "stopped"
    assert len(intervals) == 1


def test_two_profilers_at_once_see_the_same() -> None:
    work = "for _ in range(500): os.getppid()"
    with actor() as one:
        with Watch(Target.pid(one.pid), SyscallProbe) as first, Watch(Target.pid(one.pid), SyscallProbe) as second:
            first.read()
            second.read()
            one(work)
            seen = [watch.read().by_name for watch in (first, second)]
        assert seen[0] == seen[1]
        assert seen[0]["getppid"] == 500


@pytest.mark.slow
def _leftovers() -> tuple[int, int, int]:
    """Return (descriptors, BPF ones among them, mapped BPF maps) of this process."""
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    maps = HOST.read_text("/proc/self/maps").count("bpf-map")
    return len(links), sum("bpf" in link for link in links), maps


def test_nothing_of_bpf_is_left_behind() -> None:
    with actor() as one:
        _, *of_bpf = _leftovers()
        with profiler(Target.pid(one.pid), duration=0.2):
            pass
        before = _leftovers()
        kept = []
        for _ in range(3):
            with profiler(Target.pid(one.pid), duration=0.2) as profile:
                list(profile)
            kept.append(profile)  # its results are still wanted
        assert _leftovers() == before
        assert list(before[1:]) == of_bpf
        assert all(profile.profile().intervals for profile in kept)


def test_descriptors_past_those_of_select_are_waited_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Profiler(Target.pid(os.getpid()), interval=0.2, duration=0.4, probes=((SchedProbe,),)) as profiler:
            assert len(list(profiler)) == 2
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
