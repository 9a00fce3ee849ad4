"""What a service manager is told, heard on a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sculpt.control import About, Control
from sculpt.notify import Notifier, status_line
from tests.sculpt.control_runs import record


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return the name of a socket as a manager gives it, and the socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@dna-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(30)
        yield name, listener


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().splitlines()


def all_heard(listener: socket.socket) -> list[list[str]]:
    found: list[list[str]] = []
    with contextlib.suppress(TimeoutError):
        while len(found) < 10:
            found.append(heard(listener))
    return found


def test_ready_when_it_has_begun_and_how_it_stands_when_that_changes(manager: tuple[str, socket.socket]) -> None:
    name, listener = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "OTHER": "stays"}
    control = Control(About("apply", 5.0))
    with Notifier(control, environment=environment, pid=2) as notifier:
        assert environment == {"OTHER": "stays"}
        control.begin("a", lambda: None)
        assert heard(listener)[0] == "READY=1"
        for number in range(3):
            one = record(number, state="trial", candidate="pages", arm="pages")
            control(one)
            notifier(one)
        control(record(3, arm="pages"))
        notifier(record(3))
        assert heard(listener) == ["STATUS=redis-server: trying pages"]
        assert heard(listener) == ["STATUS=redis-server: holding pages"]
    assert heard(listener) == ["STOPPING=1"]


@pytest.mark.long
def test_the_watchdog_is_fed_only_while_something_moves(manager: tuple[str, socket.socket]) -> None:
    name, listener = manager
    clock = Clock()
    control = Control(About("apply", 5.0), clock=clock)
    with Notifier(control, environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000"}) as notifier:
        control.begin("a", lambda: None)
        assert heard(listener)[0] == "READY=1"
        assert heard(listener) == ["WATCHDOG=1"]
        clock.now += 1000  # nothing was heard of the run since
        notifier.tell("FLUSH=1")
        while heard(listener) != ["FLUSH=1"]:
            pass
        listener.settimeout(0.3)  # thirty times what it is fed after
        assert len(all_heard(listener)) <= 1  # one may have been under way
        listener.settimeout(30)
        control.beat()
        assert heard(listener) == ["WATCHDOG=1"]


def test_without_a_manager_nothing_is_told() -> None:
    control = Control(About("apply", 5.0))
    with Notifier(control, environment={"WATCHDOG_USEC": "1000"}) as notifier:
        control.begin("a", lambda: None)
        notifier(record())


def test_a_manager_that_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    control = Control(About("apply", 5.0))
    with Notifier(control, environment={"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        control.begin("a", lambda: None)
        notifier(record())


def test_a_status_is_one_line_whatever_a_workload_is_called() -> None:
    control = Control(About("apply", 5.0))
    control(record(workload="evil\nREADY=1"))
    control.pause()
    assert status_line(control.states(), paused=control.is_paused()) == "paused; evil.READY=1: watching"
    assert status_line(()) == "waiting"
