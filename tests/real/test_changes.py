"""Real processes set, killed appliers recovered from, as root on the running kernel. taskset, chrt and ps are the witnesses."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hal.apply import apply
from hal.errors import ChangeFailedError
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs.cpu import autogroup
from hal.planning import machine_id, make_plan
from hal.processes import start_of, threads_of
from hal.settings import Setting, Subject, thread, tree
from hal.subjects import resolve
from hal.undo import interrupted, pending, undo

ROOT = Path(__file__).resolve().parents[2]
HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(CPUS) < 2, reason="one CPU: nothing to choose; give the machine two"),
]

PROGRAM = """
import os, sys, threading, time
def serve():
    while True: time.sleep(0.05)
for _ in range(int(sys.argv[1])): threading.Thread(target=serve, daemon=True).start()
for _ in range(int(sys.argv[2])):
    if os.fork() == 0: time.sleep(600); os._exit(0)
print("ready", flush=True)
for line in sys.stdin:
    if line == "thread\\n": threading.Thread(target=serve, daemon=True).start()
    if line == "child\\n" and os.fork() == 0: time.sleep(600); os._exit(0)
    print("done", flush=True)
"""


@contextmanager
def program(threads: int = 3, children: int = 2) -> Iterator[subprocess.Popen[str]]:
    """Run a program of threads and children in a process group of its own; all of it is ended in the end."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", PROGRAM, str(threads), str(children)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def tell(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin
    assert child.stdout
    child.stdin.write(f"{word}\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"


def root_of(child: subprocess.Popen[str]) -> Subject:
    start = start_of(HOST, child.pid)
    assert start
    return tree(child.pid, start)


def members(child: subprocess.Popen[str]) -> list[int]:
    """Return all threads of the session of a program, by ps."""
    listed = subprocess.run(
        ["ps", "-L", "-s", str(child.pid), "-o", "lwp="], capture_output=True, text=True, check=True
    )
    return sorted(int(word) for word in listed.stdout.split())


def taskset(tid: int) -> str:
    done = subprocess.run(["taskset", "-cp", str(tid)], capture_output=True, text=True, check=True)
    return done.stdout.rpartition(":")[2].strip()


def masks(child: subprocess.Popen[str]) -> dict[int, str]:
    return {tid: taskset(tid) for tid in members(child)}


def test_a_tree_with_what_starts_later_and_back(tmp_path: Path) -> None:
    with program() as child:
        before = masks(child)
        assert len(before) == 6
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])
        tell(child, "thread")  # between plan and apply
        tell(child, "child")
        journal = Journal(tmp_path)
        done = apply(plan, HOST, journal)
        tell(child, "thread")  # and afterwards
        tell(child, "child")
        assert set(masks(child).values()) == {str(CPUS[0])}
        assert len(masks(child)) == 10
        result = undo(HOST, journal, done.identity)
        assert not result.failed
        assert not result.kept
        assert len(set(masks(child).values())) == 1
        assert {tid: mask for tid, mask in masks(child).items() if tid in before} == before


def test_policy_and_nice_and_back(tmp_path: Path) -> None:
    def seen(pid: int) -> tuple[str, str]:
        policy = subprocess.run(["chrt", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        nice = subprocess.run(["ps", "-o", "ni=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return policy, nice.strip()

    with program(0, 0) as child:
        before = seen(child.pid)
        journal = Journal(tmp_path)
        settings = [Setting("cpu.policy", root_of(child), "batch"), Setting("cpu.nice", root_of(child), 7)]
        done = apply(make_plan(HOST, settings), HOST, journal)
        assert "SCHED_BATCH" in seen(child.pid)[0]
        assert seen(child.pid)[1] == "7"
        undo(HOST, journal, done.identity)
        assert seen(child.pid) == before


def test_of_a_process_that_has_ended_no_session_is_known() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert autogroup(HOST, child.pid) is None


@pytest.mark.skipif(
    not autogroup(HOST, os.getpid()), reason="sessions are no scheduling groups here, or a cgroup's weight counts"
)
def test_a_session_is_nice_and_back(tmp_path: Path) -> None:
    def nice(pid: int) -> str:
        return Path(f"/proc/{pid}/autogroup").read_text().split()[2]

    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True) as leader:
        try:
            root = tree(leader.pid, start_of(HOST, leader.pid) or 0)
            while len(resolve(HOST, root, "process")) < 2:
                time.sleep(0.01)
            plan = make_plan(HOST, [Setting("cpu.autogroup_nice", root, 9)])
            assert len(plan.changes) == 1  # the session has one value, however many processes
            journal = Journal(tmp_path)
            done = apply(plan, HOST, journal)
            assert {nice(int(one.name)) for one in resolve(HOST, root, "process")} == {"9"}
            assert nice(os.getpid()) != "9"
            assert undo(HOST, journal, done.identity).restored
            assert {nice(int(one.name)) for one in resolve(HOST, root, "process")} == {"0"}
        finally:
            os.killpg(leader.pid, signal.SIGKILL)


def test_a_pinned_child_is_left_alone_and_said(tmp_path: Path) -> None:
    with program(0, 2) as child:
        pinned = members(child)[-1]
        os.sched_setaffinity(pinned, {CPUS[1]})
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])
        assert [left.setting.subject.name for left in plan.left_out] == [str(pinned)]
        apply(plan, HOST, Journal(tmp_path))
        assert taskset(pinned) == str(CPUS[1])


def test_a_process_that_ends_in_the_middle_is_normal(tmp_path: Path) -> None:
    with program(0, 3) as child:
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])
        victim = int(plan.changes[-1].subject.name)
        os.kill(victim, signal.SIGKILL)
        while Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)
        done = apply(plan, HOST, Journal(tmp_path))
        assert [change.subject.name for change in done.gone] == [str(victim)]
        assert len(done.done) == 3


APPLIER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal, Writer
from hal.plan_json import plan_from_text
until, count = int(sys.argv[4]), 0
real = Writer.append
def append(self, record):
    global count
    count += 1
    if count == until:
        print("here", flush=True)
        sys.stdin.read()  # until somebody kills us
    real(self, record)
Writer.append = append
plan = plan_from_text(open(sys.argv[2]).read())
apply(plan, LinuxHost(), Journal(sys.argv[3]))
print("whole", flush=True)
"""


@pytest.mark.parametrize("record", [1, 2, 3, 4, 17, 40, 41])
def test_kill_9_in_the_middle_and_one_undo(tmp_path: Path, record: int) -> None:
    """The applier is a process of its own, and is killed when it is about to write that record."""
    from hal.plan_json import plan_to_dict

    with program(16, 3) as child:
        before = masks(child)
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])
        assert len(plan.changes) == 20
        (tmp_path / "plan.json").write_text(json.dumps(plan_to_dict(plan)))
        folder = tmp_path / "journal"
        applier = subprocess.Popen(
            [sys.executable, "-c", APPLIER, str(ROOT), str(tmp_path / "plan.json"), str(folder), str(record)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert applier.stdout
        assert applier.stdout.readline() == "here\n"
        applier.kill()
        applier.wait()
        changed = sum(mask == str(CPUS[0]) for mask in masks(child).values())
        assert changed == max(record - 1, 0) // 2
        done = dna(folder, "undo")
        assert done.returncode == 0, done.stderr
        assert masks(child) == before
        assert interrupted(Journal(folder), machine_id(HOST)) == []
        assert dna(folder, "journal").returncode == 0


def test_ctrl_c_takes_back_what_was_begun(tmp_path: Path) -> None:
    with program(8, 0) as child:
        before = masks(child)
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])

        def interrupt(_what: str, change: Any) -> None:
            if change == plan.changes[4]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            apply(plan, HOST, Journal(tmp_path), watch=interrupt)
        assert masks(child) == before
        assert pending(Journal(tmp_path)) == []


# --- the commands


def dna(folder: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    environment = {**os.environ, "DNA_JOURNAL": str(folder)}
    return subprocess.run(
        command,
        env=environment,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        check=False,
    )


def test_set_by_hand_and_undo(tmp_path: Path) -> None:
    with program(1, 1) as child:
        before = masks(child)
        done = dna(tmp_path, "set", "cpu.affinity", "--pid", str(child.pid), str(CPUS[1]), "--reason", "a test")
        assert done.returncode == 0, done.stderr
        assert set(masks(child).values()) == {str(CPUS[1])}
        story = json.loads(dna(tmp_path, "journal", "--json").stdout)
        assert story[0]["state"] == "applied"
        assert {step["reason"] for step in story[0]["steps"]} == {"a test"}
        again = dna(tmp_path, "set", "cpu.affinity", "--pid", str(child.pid), str(CPUS[1]))
        assert "Nothing to change" in again.stdout
        undone = dna(tmp_path, "undo", "--last", "--json")
        assert undone.returncode == 0, undone.stderr
        assert len(json.loads(undone.stdout)[0]["restored"]) == 3
        assert masks(child) == before


@pytest.mark.parametrize("option", ["", "--json"])
def test_how_far_a_slow_change_is_shows_on_a_terminal(tmp_path: Path, option: str) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    terminal, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "cli.py"), "set", "memory.warm", str(large), "all", *option.split()]
    environment = {**os.environ, "DNA_JOURNAL": str(tmp_path / "journal"), "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True) as child:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(terminal, 4096):
                written += chunk
        assert child.stdout is not None
        told = child.stdout.read()
    os.close(terminal)
    assert child.returncode == 0, written
    assert "64 MiB of 64 MiB are cached" in told
    assert (b"memory.warm of file" in written) == (not option), written


def test_a_negative_value_is_a_value(tmp_path: Path) -> None:
    with program(0, 0) as child:
        done = dna(tmp_path, "set", "cpu.nice", "--pid", str(child.pid), "-3")
        assert done.returncode == 0, done.stderr
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == -3


def test_dry_run_and_a_saved_plan(tmp_path: Path) -> None:
    with program(1, 0) as child:
        before = masks(child)
        words = ("set", "cpu.affinity", "--pid", str(child.pid), str(CPUS[0]))
        looked = dna(tmp_path, *words, "--dry-run")
        assert looked.returncode == 0
        assert "cpu.affinity" in looked.stdout
        plan = tmp_path / "plan.json"
        assert dna(tmp_path, *words, "--out", str(plan)).returncode == 0
        assert masks(child) == before
        assert not list(tmp_path.glob("*.jsonl"))
        asked = dna(tmp_path, "apply", str(plan))
        assert asked.returncode == 2
        assert "--yes" in asked.stderr
        assert dna(tmp_path, "apply", str(plan), "--yes").returncode == 0
        assert set(masks(child).values()) == {str(CPUS[0])}
        os.sched_setaffinity(child.pid, {CPUS[1]})
        dna(tmp_path, "undo")
        assert taskset(child.pid) == str(CPUS[1])  # set by somebody else since: theirs


def test_a_plan_is_refused_where_the_machine_moved(tmp_path: Path) -> None:
    with program(0, 0) as child:
        plan = tmp_path / "plan.json"
        dna(tmp_path, "set", "cpu.affinity", "--pid", str(child.pid), str(CPUS[0]), "--out", str(plan))
        os.sched_setaffinity(child.pid, {CPUS[1]})
        refused = dna(tmp_path, "apply", str(plan), "--yes")
        assert refused.returncode == 5
        assert "moved" in refused.stderr
        assert taskset(child.pid) == str(CPUS[1])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("set", "cpu.affinity", "0"), 2),
        (("set", "cpu.affinty", "--pid", "1", "0"), 2),
        (("set", "cpu.affinity", "--pid", "4194304", "0"), 3),
        (("set", "cpu.affinity", "--pid", "-1", "0"), 2),
        (("set", "cpu.affinity", "--pid", "1", "--comm", "x", "0"), 2),
        (("set", "cpu.affinity", "--pid", "PID", "65000"), 2),
        (("set", "cpu.affinity", "--pid", "PID", ""), 2),
        (("set", "cpu.nice", "--pid", "PID", "99"), 2),
        (("set", "cpu.affinity", "--pid", "PID"), 2),
        (("apply", "/nonexistent.json"), 2),
        (("apply", "/etc/hostname", "--yes"), 2),
        (("undo", "nonsense"), 1),
        (("undo", "--last", "--all"), 2),
        (("journal", "nonsense"), 1),
        (("config", "show", "nonsense"), 2),
        (("config", "diff", "/etc/hostname"), 2),
    ],
)
def test_wrong_use_is_one_line_with_what_to_do(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    with program(0, 0) as child:
        done = dna(tmp_path, *(word.replace("PID", str(child.pid)) for word in words))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: cannot become somebody else; run as root")
def test_another_users_process_needs_privilege(tmp_path: Path) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder, program(0, 0) as child:
        os.chown(folder, nobody, nobody)
        before = masks(child)
        plan = make_plan(HOST, [Setting("cpu.affinity", root_of(child), str(CPUS[0]))])
        pid = os.fork()
        if pid == 0:
            os.setgid(nobody)
            os.setuid(nobody)
            try:
                apply(plan, HOST, Journal(folder))
            except ChangeFailedError as error:
                os._exit(error.exit_code)
            os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
        assert masks(child) == before


def test_one_thread_alone(tmp_path: Path) -> None:
    with program(2, 0) as child:
        tid = threads_of(HOST, child.pid)[1]
        start = start_of(HOST, tid)
        assert start
        apply(make_plan(HOST, [Setting("cpu.affinity", thread(tid, start), str(CPUS[0]))]), HOST, Journal(tmp_path))
        assert [t for t, mask in masks(child).items() if mask == str(CPUS[0])] == [tid]
