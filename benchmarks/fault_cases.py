"""The cases of the fault campaign: what goes wrong with the loop, its target, its metric, its disk, its clock and its machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fault_rig import (
    CPUS,
    INTERVAL_S,
    Agent,
    Clock,
    Place,
    State,
    Target,
    agent,
    fill,
    impostor,
    memory_group,
    setting_of,
    small_disk,
    trying,
    until,
)

type Steps = Sequence[dict[str, Any]]
GONE: State = {}
"""What is expected of a target that has ended."""
RUN_ENDED = (0, 1)
"""Exit status of an agent that ended by itself in order."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One run of a case: a target as it was found, and a place of its own."""

    place: Place
    goal: Target
    before: State
    draw: random.Random

    @contextmanager
    def trying(self, *more: str) -> Iterator[Agent]:
        """Run the agent from when it has something in force, and a moment drawn by lot."""
        with agent(self.place, self.goal, *more) as one:
            one.wait_for(trying, "a trial")
            time.sleep(self.draw.uniform(0, 4 * INTERVAL_S))
            yield one

    def standing(self) -> list[str]:
        """Return the transactions of which something stands."""
        return [one.identity for one in self.place.journal.unfinished() if one.standing()]

    def undo_all(self) -> None:
        """Take back all that stands."""
        self.undo("--all")

    def undo(self, *words: str) -> None:
        """Do what a user does after a crash."""
        done = self.place.dna("undo", *words)
        assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of fault.

    Args:
        run: makes it happen; returns the state that the target must then be in.
    """

    name: str
    declared: str
    run: Callable[[Scene], State]
    runs: int = 3
    quick: int = 1


# --- the target


def target_killed(scene: Scene) -> State:
    """It is killed in the middle of a trial."""
    with scene.trying() as one:
        scene.goal.kill()
        until(lambda: not one.is_alive(), "the agent to end with its target")
        assert one.process.returncode in RUN_ENDED, one.errors
        assert "Traceback" not in one.errors, one.errors
    return GONE


def reused_pid(scene: Scene) -> State:
    """It ends while the agent cannot look, and another program gets its id: that one is never touched, and neither by undo."""
    pid, is_killed = scene.goal.pid, scene.draw.random() < 0.5
    with scene.trying() as one:
        one.process.send_signal(signal.SIGSTOP)
        ours = scene.goal.state()[pid]
        scene.goal.kill()
        with impostor(pid):
            _set(pid, ours)
            assert setting_of(pid) == ours, (
                "the impostor could not be set"
            )  # as in force: by its values it cannot be told apart
            if is_killed:
                one.kill()
            else:
                one.process.send_signal(signal.SIGCONT)
                until(lambda: not one.is_alive(), "the agent to end with its target")
            assert setting_of(pid) == ours, (
                f"whoever has the id now was set to {setting_of(pid)} by the loop, from {ours}"
            )
            scene.undo_all()
            assert setting_of(pid) == ours, f"whoever has the id now was set to {setting_of(pid)} by undo, from {ours}"
    return GONE


def _set(pid: int, setting: tuple[tuple[int, ...], int, int]) -> None:
    cpus, nice, policy = setting
    os.sched_setaffinity(pid, cpus)
    os.setpriority(os.PRIO_PROCESS, pid, nice)
    os.sched_setscheduler(pid, policy, os.sched_param(0))


# --- the metric


def metric_gone(scene: Scene) -> State:
    """Its source is removed."""
    return _blind(scene, scene.goal.rate.unlink)


def metric_nan(scene: Scene) -> State:
    """Its source says what is no number."""
    words = scene.draw.choice(("nan", "inf", "-1", "0", "", "many", "1e999"))
    return _blind(scene, lambda: scene.goal.rate.write_text(f"{words}\n"))


def metric_frozen(scene: Scene) -> State:
    """Its source is written no more."""
    return _blind(scene, lambda: None)


def _blind(scene: Scene, spoil: Callable[[], object]) -> State:
    """Whatever is wrong with the metric: back to the baseline while it lasts, and on when it is back."""
    mute = Path(f"{scene.goal.rate}.mute")
    with scene.trying() as one:
        mute.touch()
        time.sleep(0.2)  # what is just being written
        spoil()
        one.wait_for(lambda steps: steps[-1]["decision"]["event"] == "blind", "the loop to see that it is blind")
        assert scene.goal.state() == scene.before
        mute.unlink()
        one.wait_for(lambda steps: steps[-1]["reward"] is not None, "a measurement again")
        one.wait_for(trying, "another trial")
        assert one.stop() == 0, one.errors
    return scene.before


# --- the disk, the clock, the machine


def full_disk(scene: Scene) -> State:
    """The journal's file system is full: nothing new is done, what was is taken back as far as it is known."""
    with small_disk(scene.place.folder / "journal", 2048) as disk:
        with scene.trying() as one:
            filler = fill(disk)
            one.wait_for_steps(scene.draw.randrange(1, 12))
            assert one.stop() in (0, 5), one.errors
            assert "Traceback" not in one.errors, one.errors
        assert scene.goal.state() == scene.before, "not as found while the disk was full"
        filler.unlink()
        scene.undo_all()
        assert not scene.standing()
    return scene.before


def clock_jumps(scene: Scene) -> State:
    """The wall clock that the agent sees is set forward and back, by seconds and by years."""
    offset = Clock(scene.place.folder / "clock.so", scene.place.folder / "offset")
    with scene.trying() as one:
        for _ in range(3):
            reach = scene.draw.choice((2, 3_600, 86_400, 10**8))
            offset.jump(scene.draw.choice((-1, 1)) * reach)
            one.wait_for_steps(scene.draw.randrange(2, 7))
        assert one.stop() == 0, one.errors
    began = [one.began for one in scene.place.journal.transactions()]
    assert began == sorted(began), "transactions are not in the order in which they were made"
    return scene.before


def agent_stopped(scene: Scene) -> State:
    """SIGSTOP in the middle of anything, for the length of many intervals."""
    with scene.trying() as one:
        one.process.send_signal(signal.SIGSTOP)
        there = scene.goal.state()
        time.sleep(scene.draw.uniform(20, 60) * INTERVAL_S)
        assert scene.goal.state() == there
        one.process.send_signal(signal.SIGCONT)
        one.wait_for_steps(5)
        assert one.stop() == 0, one.errors
    return scene.before


def memory_pressure(scene: Scene) -> State:
    """Its memory becomes so little that it, or its neighbour in the group, is killed for it."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(scene.trying())
        group = stack.enter_context(memory_group(f"dna-faults-{os.getpid()}", 4096))
        stack.callback(one.kill)  # before the group can be removed
        (group / "cgroup.procs").write_text(str(one.process.pid))
        resident = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        words = "import time; held = [bytearray(1 << 20) for _ in range(1 << 14) if not time.sleep(0.01)]"
        hog = subprocess.Popen([sys.executable, "-S", "-E", "-c", words])
        stack.callback(hog.wait)
        stack.callback(hog.kill)
        (group / "cgroup.procs").write_text(str(hog.pid))
        _limit(group, resident // 4 + (scene.draw.randrange(8, 48) << 20))  # what it shares with us is charged to us
        until(lambda: not one.is_alive() or hog.poll() is not None, "somebody to be killed")
        hog.kill()
        _limit(group, 4096 << 20)
        try:
            one.wait_for_steps(3)
        except TimeoutError:  # it may have been chosen to be killed a moment before
            if one.is_alive():
                raise
        if one.is_alive():
            assert one.stop() == 0, one.errors
        else:
            scene.undo_all()
    return scene.before


def _limit(group: Path, size: int) -> None:
    names = ("memory.limit_in_bytes", "memory.max")
    path = next(path for name in names if (path := group / name).exists())
    with contextlib.suppress(OSError):  # v1 refuses what cannot be met at once
        path.write_text(str(size))


# --- others


def another_tool(scene: Scene) -> State:
    """Somebody sets what the loop sets, with the tools that there are: it stays theirs, and the rest comes back."""
    pid = scene.goal.pid
    cpus, nice, policy = scene.before[pid]
    with scene.trying() as one:
        one.wait_for_steps(1)
        tool = scene.draw.choice(("taskset", "renice", "chrt"))
        theirs: tuple[tuple[int, ...], int, int]
        if tool == "taskset":
            cpu = CPUS[-1] if setting_of(pid)[0] == (CPUS[0],) else CPUS[0]
            words, theirs = ["taskset", "-cp", str(cpu), str(pid)], ((cpu,), nice, policy)
        elif tool == "renice":
            words, theirs = ["renice", "-n", "9", "-p", str(pid)], (cpus, 9, policy)
        else:
            words, theirs = ["chrt", "--idle", "-p", "0", str(pid)], (cpus, nice, os.SCHED_IDLE)
        subprocess.run(words, check=True, capture_output=True)
        one.wait_for_steps(scene.draw.randrange(1, 20))
        assert one.stop() == 0, one.errors
    return {**scene.before, pid: theirs}


# --- kill -9


def killed(scene: Scene) -> State:
    """kill -9 at a moment drawn by lot, half of them just when something is changed; then the next start, or undo, recovers."""
    with agent(scene.place, scene.goal) as one:
        if scene.draw.random() < 0.2:
            time.sleep(scene.draw.uniform(0, 3))  # while it starts
        else:
            one.wait_for(trying, "a trial")
            time.sleep(scene.draw.uniform(0, 10 * INTERVAL_S))
            if scene.draw.random() < 0.6:
                _wait_for_a_change(scene, one)
        one.kill()
    if scene.draw.random() < 0.5:
        scene.undo()
        assert not scene.standing(), "one undo left something of a killed run"
        return scene.before
    with agent(scene.place, scene.goal) as following:
        following.wait_for(bool, "a first step of the next run")
        assert "Traceback" not in following.errors, following.errors
        left = [one for one in scene.place.journal.unfinished() if one.standing() and one.pid != following.process.pid]
        assert not left, "the next run left what a killed one had in force"
        assert following.stop() == 0, following.errors
    return scene.before


def _wait_for_a_change(scene: Scene, one: Agent) -> None:
    """Wait until something is written to the journal, and a few milliseconds more: from the first record to after the last."""
    folder = scene.place.folder / "journal"

    def size() -> int:
        return sum(path.stat().st_size for path in folder.glob("*.jsonl"))

    there, end = size(), time.monotonic() + 20
    while size() == there and one.is_alive() and time.monotonic() < end:
        time.sleep(0.0005)
    time.sleep(scene.draw.uniform(0, 0.015))


CASES = (
    Case("target killed", "the run ends, nothing stands", target_killed),
    Case("reused pid", "whoever has the id now is not touched", reused_pid, runs=4),
    Case("metric gone", "back to the baseline until it is there again", metric_gone),
    Case("metric not a number", "back to the baseline until it is one again", metric_nan),
    Case("metric frozen", "back to the baseline until it moves again", metric_frozen),
    Case("full disk under the journal", "as found; undo closes the journal when there is room", full_disk),
    Case("clock jumps", "as found", clock_jumps),
    Case("agent stopped", "stays as it was meanwhile, then as found", agent_stopped),
    Case("another tool sets the same", "what it set is its own, the rest as found", another_tool, runs=9, quick=2),
    Case("memory pressure", "as found, or by undo where the agent was killed", memory_pressure),
    Case("kill -9", "as found by the next start, or undo", killed, runs=50, quick=2),
)


def environment_for(case: Case, folder: Path) -> dict[str, str]:
    """Return what the agent of a case needs in its environment."""
    if case.run is not clock_jumps:
        return {}
    from benchmarks.fault_rig import clock

    return clock(folder).environment


def scene_for(case: Case, folder: Path, goal: Target, seed: int) -> Scene:
    """Return the scene for one run of a case."""
    place = Place(folder, environment_for(case, folder))
    return Scene(place, goal, goal.state(), random.Random(seed))


def play(case: Case, folder: Path, goal: Target, seed: int) -> str:
    """Run a case once; return what was wrong, "" for nothing.

    Raises:
        CannotRunError: this machine lacks what it needs.
    """
    scene = scene_for(case, folder, goal, seed)
    try:
        expected = case.run(scene)
        if expected is not GONE:
            assert goal.state() == expected, f"{goal.state()} and not {expected}"
            scene.undo_all()
            assert goal.state() == expected, f"after undo: {goal.state()} and not {expected}"
        else:
            scene.undo_all()
        assert not scene.standing(), "something stands in the journal"
    except (AssertionError, TimeoutError) as error:
        return str(error) or type(error).__name__
    return ""
