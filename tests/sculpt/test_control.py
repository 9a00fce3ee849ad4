"""A run's control: what it says, what it does when asked, and that nobody who asks can hold it up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sculpt.control import KEEP, RESTORE, About, Control
from sculpt.control_client import Asking, find, running, wait_for_end
from sculpt.control_server import MOST_CONNECTIONS, MOST_REQUEST, ControlServer
from sculpt.errors import ControlError, NoRunError
from sculpt.sockets import default_folder, remove_stale
from tests.sculpt.control_runs import record

ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0
NOBODY = 65534


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def control_of(clock: Callable[[], float] = time.monotonic) -> Control:
    return Control(About("apply", 5.0, RESTORE, "dna sculpt"), clock=clock)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


# --- the state


def workload(control: Control, name: str = "redis-server") -> dict[str, Any]:
    found = control.status()["workloads"]
    assert isinstance(found, list)
    return next(one for one in found if one["workload"] == name)


def test_a_status_tells_each_workload() -> None:
    control = control_of()
    control(record(0))
    control(record(0, workload="postgres", changes=False))
    control(record(1, state="trial", arm="pages", event="trial", candidate="pages", alerts=("something",)))
    assert workload(control)["activity"] == "trying"
    assert workload(control)["in_force"] == "pages"
    assert workload(control)["candidate"] == "pages"
    assert workload(control)["steps"] == 2
    assert [one["kind"] for one in workload(control)["news"]] == ["trial", "alert"]
    assert workload(control, "postgres")["activity"] == "watching"


def test_what_is_kept_is_told_with_its_gain_until_it_is_not_kept() -> None:
    control = control_of()
    control(record(0, state="trial", arm="pages", event="trial", candidate="pages"))
    control(record(1, arm="pages", event="promoted", candidate="pages", gain=0.2, interval=(0.1, 0.3)))
    assert workload(control)["kept"] == {"name": "pages", "gain": 0.2, "interval": [0.1, 0.3]}
    control(record(2, arm="pages"))
    assert workload(control)["activity"] == "holding"
    assert workload(control)["kept"]["gain"] == 0.2
    control(record(3, state="trial", arm="baseline", candidate="pin", event="trial"))
    assert workload(control)["kept"]["name"] == "pages"
    control(record(4, event="phase"))
    assert workload(control)["kept"] is None
    assert workload(control)["counts"] == {"trial": 2, "promoted": 1, "phase": 1}


def test_a_status_is_json_whatever_was_measured() -> None:
    control = control_of()
    control(record(0, gain=float("nan"), interval=(float("-inf"), float("inf")), reward=None))
    told = json.loads(json.dumps(control.status(), allow_nan=False))
    assert told["workloads"][0]["interval"] == [None, None]
    assert told["workloads"][0]["why_not"] == "the file is gone"


def test_a_pause_ends_by_itself_or_when_it_is_ended() -> None:
    clock = Clock()
    control = control_of(clock)
    assert not control.is_paused()
    control.pause(60)
    assert control.is_paused()
    assert control.status()["paused_for_s"] == 60
    clock.now += 59
    assert control.is_paused()
    clock.now += 1
    assert not control.is_paused()
    control.pause()
    clock.now += 1e9
    assert control.is_paused()
    control.resume()
    assert not control.is_paused()


def test_stop_ends_the_run_now_or_as_soon_as_it_begins() -> None:
    stopped = threading.Event()
    early = control_of()
    early.stop()
    early.begin("a", stopped.set)
    assert stopped.is_set()
    stopped.clear()
    control = control_of()
    control.begin("a", stopped.set)
    assert not stopped.is_set()
    assert control.on_exit_of(RESTORE) == RESTORE
    control.stop(KEEP)
    assert stopped.is_set()
    assert control.on_exit_of(RESTORE) == KEEP
    assert control.is_stopping


def test_its_own_cost_is_counted() -> None:
    control = control_of()
    before, ended = time.process_time(), 0.05
    while time.process_time() - before < ended:
        sum(range(1000))
    own = control.status()["own"]
    assert isinstance(own, dict)
    assert own["cpu_s"] >= ended
    assert 0 < own["share"] <= os.cpu_count() * 1.05  # type: ignore[operator]


# --- the socket


@pytest.fixture
def control() -> Control:
    return control_of()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / "sculpt-1.sock"


@pytest.fixture
def served(control: Control, place: Path) -> Iterator[Control]:
    warned: list[str] = []
    with ControlServer(control, place, warned.append, patience_s=2.0):
        control.begin("20270115-080000-1", lambda: None)
        control(record(0))
        yield control
    assert warned == []


def raw(place: Path, *sent: bytes, size: int = 1 << 20) -> bytes:
    """Send bytes, and return everything that comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(LIMIT_S)
        client.connect(str(place))
        try:
            for one in sent:
                client.sendall(one)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # dropped while it was sending
        found = b""
        try:
            while chunk := client.recv(size):
                found += chunk
        except ConnectionError:
            pass
        return found


def answers(place: Path, *sent: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw(place, *sent).splitlines()]


def test_who_asks_is_answered(served: Control, place: Path) -> None:
    with Asking(place) as asking:
        assert asking.ask("status")["run"] == "20270115-080000-1"
        assert asking.ask("pause", for_s=60)["paused"] is True
        assert served.is_paused()
        assert asking.ask("resume")["paused"] is False
        assert not served.is_paused()


def test_nobody_else_can_open_it_whatever_the_umask(control: Control, place: Path) -> None:
    for umask in (0o000, 0o022, 0o777):
        before = os.umask(umask)
        try:
            server = ControlServer(control, place, pytest.fail)
            server.__enter__()
            control.begin("a", lambda: None)
        finally:
            os.umask(before)
        try:
            assert place.stat().st_mode & 0o777 == 0o600
            assert (place.parent.stat().st_mode & 0o077) == 0
        finally:
            server.__exit__(None, None, None)
        assert not place.parent.exists()


def test_stop_is_answered_and_its_end_told(control: Control, place: Path) -> None:
    stopped = threading.Event()
    with ControlServer(control, place, pytest.fail):
        control.begin("a", stopped.set)
        asking = Asking(place)
        assert asking.ask("stop", on_exit=KEEP)["stopping"] is True
        assert stopped.is_set()
        control.end("stopped", "pages")
    with asking:
        assert asking.wait(LIMIT_S)["ended"] == {"why": "stopped", "in_force": "pages", "trouble": ""}
        assert asking.wait(LIMIT_S) == {}
    assert not place.exists()


WRONG = [
    (b"nonsense\n", "one JSON object"),
    (b"[]\n", "one JSON object"),
    (b"[" * 4000 + b"\n", "one JSON object"),
    (b"\xff\xfe\n", "one JSON object"),
    (b'{"do": "status"}\n', "version"),
    (b'{"version": 2, "do": "status"}\n', "version 1, not 2"),
    (b'{"version": 1}\n', "there is no None"),
    (b'{"version": 1, "do": ["status"]}\n', "there is no"),
    (b'{"version": 1, "do": "dance"}\n', "there is no 'dance'"),
    (b'{"version": 1, "do": "pause", "for_s": -1}\n', "for_s"),
    (b'{"version": 1, "do": "pause", "for_s": true}\n', "for_s"),
    (b'{"version": 1, "do": "pause", "for_s": 1e400}\n', "for_s"),
    (b'{"version": 1, "do": "stop", "on_exit": "burn"}\n', "on_exit"),
    (b"x" * (MOST_REQUEST + 1), "more than"),
]


@pytest.mark.parametrize(("sent", "error"), WRONG)
def test_what_makes_no_sense_is_answered_with_why(served: Control, place: Path, sent: bytes, error: str) -> None:
    (found,) = answers(place, sent)
    assert found["version"] == 1
    assert found["ok"] is False
    assert error in found["error"]
    assert not served.is_paused()
    assert not served.is_stopping
    assert answers(place, b'{"version": 1, "do": "status"}\n')[0]["ok"] is True


@given(st.binary(max_size=3 * MOST_REQUEST))
def test_no_bytes_hurt(tmp_path_factory: pytest.TempPathFactory, sent: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    control = control_of()
    with ControlServer(control, folder / "sculpt-1.sock", pytest.fail):
        control.begin("a", lambda: None)
        assert all(not one["ok"] for one in answers(folder / "sculpt-1.sock", sent))
        assert answers(folder / "sculpt-1.sock", b'{"version": 1, "do": "status"}\n')[0]["ok"] is True


def test_many_requests_at_once_are_answered_one_after_the_other(served: Control, place: Path) -> None:
    found = answers(place, b'{"version": 1, "do": "status"}\n' * 2000)
    assert len(found) == 2000
    assert all(one["ok"] for one in found)


def connected(place: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(LIMIT_S)
    while True:
        try:
            client.connect(str(place))
        except BlockingIOError:  # the queue is full, and with a time limit there is no waiting for it
            time.sleep(0.01)
        else:
            return client


@pytest.mark.long
def test_those_who_hang_hold_nothing_up_and_are_dropped(served: Control, place: Path) -> None:
    silent = [connected(place) for _ in range(3 * MOST_CONNECTIONS)]
    for one in silent[-5:]:
        one.sendall(b'{"version": 1, "do"')  # and no more
    with Asking(place) as asking:
        assert asking.ask("status")["run"]
    for one in silent:
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1) == b""  # the first by those who came after, the last by and by
        one.close()


@pytest.mark.long
def test_one_who_does_not_read_is_dropped(served: Control, place: Path) -> None:
    deaf = connected(place)
    deaf.setblocking(False)
    asked = b'{"version": 1, "do": "status"}\n'

    def is_dropped() -> bool:
        try:
            deaf.send(asked)
        except BlockingIOError:  # no more is taken from it until it reads
            return False
        except BrokenPipeError:
            return True
        return False

    assert not is_dropped()
    until(is_dropped)
    deaf.close()
    with Asking(place) as asking:
        assert asking.ask("status")["run"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_is_refused_even_with_the_mode_loosened(served: Control, place: Path) -> None:
    for folder in place.parents:
        if not folder.stat().st_mode & 0o001:  # those that pytest made
            folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        f"import os, socket; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"client = socket.socket(socket.AF_UNIX); client.connect({str(place)!r})\n"
        "print(client.makefile().readline())"
    )
    denied = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert "PermissionError" in denied.stderr
    place.chmod(0o666)
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert json.loads(refused.stdout)["error"] == f"user {NOBODY} may not ask this run"
    assert not served.is_stopping


# --- where there is no socket, or an old one


def test_a_run_goes_on_without_a_socket_and_says_so_once(control: Control, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    taken = tmp_path / "sculpt-2.sock"
    taken.write_text("mine")
    for place, why in [
        (tmp_path / "file" / "run" / "sculpt-1.sock", "Not a directory"),
        (tmp_path / "file" / "sculpt-1.sock", "is no folder"),
        (tmp_path / ("x" * 100) / "sculpt-1.sock", "longer than"),
        (loose / "sculpt-1.sock", "others can write"),
        (taken, "no socket"),
    ]:
        warned: list[str] = []
        with ControlServer(control, place, warned.append):
            control.begin("a", lambda: None)
        assert len(warned) == 1, warned
        assert why in warned[0]
    assert taken.read_text() == "mine"


def test_none_asked_for_is_none(control: Control) -> None:
    with ControlServer(control, None, pytest.fail):
        control.begin("a", lambda: None)


def test_two_runs_cannot_have_one_socket(served: Control, place: Path) -> None:
    warned: list[str] = []
    other = control_of()
    with ControlServer(other, place, warned.append):
        other.begin("b", lambda: None)
    assert "another run listens" in warned[0]
    with Asking(place) as asking:
        assert asking.ask("status")["run"]


def stub(folder: Path, *rest: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sculpt.control_runs", str(folder), *rest]
    environment = {**os.environ, "DNA_RUN": str(folder)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.long
def test_the_socket_of_a_killed_run_is_found_stale_and_removed(tmp_path: Path) -> None:
    killed, alive = stub(tmp_path), stub(tmp_path)
    try:
        killed.kill()
        killed.wait()
        assert (tmp_path / f"sculpt-{killed.pid}.sock").exists()
        assert [one.pid for one in running([tmp_path])] == [alive.pid]
        assert remove_stale(tmp_path) == [tmp_path / f"sculpt-{killed.pid}.sock"]
        assert remove_stale(tmp_path) == []
        assert [one.pid for one in running([tmp_path])] == [alive.pid]
    finally:
        alive.kill()
        alive.wait()


@pytest.mark.long
def test_a_stopped_process_is_neither_stale_nor_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sculpt.control_client.LISTING_S", 0.3)
    process = stub(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert remove_stale(tmp_path) == []
        (found,) = running([tmp_path])
        assert found.pid == process.pid
        assert "does not answer" in found.trouble
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
def test_runs_are_found_by_pid_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNA_RUN", str(tmp_path))
    with pytest.raises(NoRunError, match="no run of dna sculpt goes on"):
        find()
    one, other = stub(tmp_path), stub(tmp_path, "other")
    try:
        with pytest.raises(ControlError, match=f"several runs go on: {one.pid} "):
            find()
        assert find(str(one.pid)).pid == one.pid
        assert find(str(tmp_path / "sculpt-other.sock")).pid == other.pid
        with pytest.raises(NoRunError, match="no run 1 goes on") as raised:
            find("1")
        assert str(one.pid) in raised.value.remedy
        other.kill()
        other.wait()
        assert find("20270115").pid == one.pid
        found = find()
        with Asking(found.place) as asking:
            asking.ask("stop", on_exit="keep")
            assert wait_for_end(asking, found, LIMIT_S)["ended"]["in_force"] == "pages"
        assert one.stdout is not None
        assert one.stdout.read() == "ended keep\n"
        assert one.wait(LIMIT_S) == 0
        assert not found.place.exists()
    finally:
        for process in (one, other):
            process.kill()
            process.wait()


def test_where_sockets_are() -> None:
    assert default_folder({}, euid=0) == Path("/run/dna")
    assert default_folder({"DNA_RUN": "/x"}, euid=0) == Path("/x")
    assert default_folder({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}, euid=7) == Path("/run/user/7/dna")
    assert default_folder({"HOME": "/h"}, euid=2**31) == Path("/h/.local/state/workload-dna/run")
    with pytest.raises(ControlError, match="no place"):
        default_folder({}, euid=2**31)


@pytest.mark.long
def test_one_who_answers_in_drops_is_not_waited_for_without_end(tmp_path: Path) -> None:
    place = tmp_path / "sculpt-1.sock"
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as connection, contextlib.suppress(OSError):
            while not over.wait(0.05):
                connection.sendall(b" ")

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            with Asking(place, patience_s=0.5) as asking, pytest.raises(ControlError, match="does not answer"):
                asking.ask("status")
        finally:
            over.set()
            thread.join()
