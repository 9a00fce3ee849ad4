"""``dna sculpt status``, ``pause``, ``resume``, ``stop``, ``recover``, its socket and its live view, on real runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sculpt.control_client import Asking
from tests.cli.sculpt_runs import CPUS, LIMIT_S, Runs, runs_in, until
from tests.ui.pseudo_terminal import Terminal

pytestmark = pytest.mark.timeout(600)  # programs are started again and again, which takes its time on a busy machine
needs_two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with runs_in(tmp_path) as found:
        yield found


@pytest.mark.parametrize("command", ["status", "pause", "resume", "stop"])
def test_where_no_run_goes_on_it_says_so(runs: Runs, command: str) -> None:
    done = runs.ask(command)
    assert done.returncode == 3
    assert "no run of dna sculpt goes on" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert runs.ask(command, "4242").returncode == 3
    assert not (runs.folder / "run").exists()


def test_no_run_is_an_empty_list_in_json(runs: Runs) -> None:
    done = runs.ask("status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"] == []


@pytest.mark.parametrize("span", ["0", "soon", "-5", "10 minutes", "31d", "1e9"])
def test_a_pause_is_a_time(runs: Runs, span: str) -> None:
    done = runs.ask("pause", f"--for={span}")
    assert done.returncode == 2
    assert "10m" in done.stderr


def test_to_stop_is_to_keep_or_to_restore(runs: Runs) -> None:
    assert runs.ask("stop", "--keep", "--restore").returncode == 2


@pytest.mark.slow
def test_a_run_is_asked_paused_and_ended(runs: Runs) -> None:
    process = runs.start("--mode", "advise", "--interval", "0.5")
    status = runs.wait_for_step()
    assert status["pid"] == process.pid
    assert status["mode"] == "advise"
    assert json.loads(runs.ask("status", "--json").stdout)["runs"][0]["run"] == status["run"]
    text = runs.ask("status").stdout
    assert f"pid {process.pid}, mode advise" in text
    assert "watching" in text
    assert "of a core" in text
    place = runs.folder / "run" / f"sculpt-{process.pid}.sock"
    assert place.stat().st_mode & 0o777 == 0o600
    assert "paused" in runs.ask("pause", "--for", "10m").stdout
    assert 0 < runs.status()[0]["paused_for_s"] <= 600
    assert "goes on" in runs.ask("resume", str(process.pid)).stdout
    assert "ended (stopped)" in runs.ask("stop", status["run"][:8]).stdout
    output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert errors == ""
    assert "dna sculpt report" in output
    assert not place.parent.exists()


@pytest.mark.slow
@needs_two_cpus
def test_paused_what_is_kept_stays_and_stop_may_keep_it(runs: Runs) -> None:
    process = runs.start(*runs.applying())
    workload = runs.wait_for_kept()
    assert workload["activity"] == "holding"
    assert workload["kept"]["gain"] > 0.2
    assert workload["room_s"] > 0
    assert runs.is_pinned
    assert "holding" in runs.ask("status").stdout
    assert runs.ask("pause").returncode == 0
    steps = runs.status()[0]["workloads"][0]["steps"]
    until(lambda: runs.status()[0]["workloads"][0]["steps"] > steps + 3)
    assert runs.is_pinned
    assert runs.ask("stop", "--keep").returncode == 0
    assert process.wait(LIMIT_S) == 0
    assert runs.is_pinned
    assert "no killed run" in runs.ask("recover").stdout
    assert runs.is_pinned


@pytest.mark.slow
@needs_two_cpus
def test_stop_leaves_the_machine_as_found(runs: Runs) -> None:
    process = runs.start(*runs.applying(), "--on-exit", "keep")
    until(lambda: runs.is_pinned)
    assert "in force: baseline" in runs.ask("stop", "--restore").stdout
    assert not runs.is_pinned
    assert process.wait(LIMIT_S) == 0


@pytest.mark.slow
@needs_two_cpus
def test_a_pause_ends_the_trial_that_runs_and_begins_none(runs: Runs) -> None:
    process = runs.start(*runs.applying(), "--interval", "1")  # a trial takes ten of these and more
    until(lambda: runs.stands() == "trying")
    with Asking(runs.folder / "run" / f"sculpt-{process.pid}.sock") as asking:  # no command is as quick
        asking.ask("pause")
    until(lambda: runs.stands() == "watching")
    assert not runs.is_pinned
    began = runs.status()[0]["workloads"][0]
    until(lambda: runs.status()[0]["workloads"][0]["steps"] > began["steps"] + 6)
    assert runs.status()[0]["workloads"][0]["counts"]["trial"] == began["counts"]["trial"]
    assert not runs.is_pinned
    runs.ask("resume")
    until(lambda: runs.stands() == "trying")
    process.send_signal(signal.SIGHUP)  # as when the terminal is closed
    assert process.wait(LIMIT_S) == 0
    assert not runs.is_pinned


@pytest.mark.slow
def test_of_several_runs_one_has_to_be_named(runs: Runs) -> None:
    first, second = (runs.start("--interval", "0.5") for _ in range(2))
    until(lambda: len(runs.status()) == 2)
    text = runs.ask("status").stdout
    assert f"pid {first.pid}" in text
    assert f"pid {second.pid}" in text
    several = runs.ask("pause")
    assert several.returncode == 2
    assert "several runs go on" in several.stderr
    assert all(f"{one.pid} (" in several.stderr for one in (first, second))
    assert runs.ask("stop", str(first.pid)).returncode == 0
    assert [one["pid"] for one in runs.status()] == [second.pid]
    second.kill()
    second.wait()
    assert (runs.folder / "run" / f"sculpt-{second.pid}.sock").exists()
    assert runs.ask("status").returncode == 3


@pytest.mark.slow
def test_a_socket_may_be_elsewhere_or_nowhere(runs: Runs) -> None:
    elsewhere = runs.folder / "mine.sock"
    process = runs.start("--interval", "0.5", "--socket", str(elsewhere))
    until(elsewhere.exists)
    assert runs.status() == []
    assert runs.ask("stop", str(elsewhere)).returncode == 0
    assert process.wait(LIMIT_S) == 0
    (runs.folder / "file").write_text("")
    without = runs.start("--interval", "0.5", "--duration", "1", DNA_RUN=str(runs.folder / "file" / "run"))
    _, errors = without.communicate(timeout=LIMIT_S)
    assert without.returncode == 0
    assert errors.count("no control socket") == len(errors.splitlines()) == 1
    none = runs.start("--interval", "0.5", "--duration", "1", "--socket", "none")
    _, errors = none.communicate(timeout=LIMIT_S)
    assert (none.returncode, errors) == (0, "")
    assert not (runs.folder / "run").exists()


@pytest.mark.slow
@needs_two_cpus
def test_what_a_killed_run_left_is_taken_back_when_asked(runs: Runs) -> None:
    process = runs.start(*runs.applying())
    runs.wait_for_kept()
    assert runs.is_pinned
    process.kill()
    process.wait()
    assert runs.is_pinned
    assert "taken back" in runs.ask("recover").stdout
    assert not runs.is_pinned
    assert runs.ask("recover", "--quiet").stdout == ""


@pytest.mark.slow
@needs_two_cpus
def test_a_service_manager_hears_of_it(runs: Runs) -> None:
    name = str(runs.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(LIMIT_S)
        process = runs.start(*runs.applying(), NOTIFY_SOCKET=name, WATCHDOG_USEC="400000")
        heard = ""
        while "holding" not in heard or "WATCHDOG=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert heard.startswith("READY=1\n")
        process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert process.wait(LIMIT_S) == 0
    assert not runs.is_pinned


# --- the live view


@pytest.mark.slow
def test_on_a_terminal_it_is_live_and_keys_steer_it(runs: Runs) -> None:
    arguments = ["sculpt", "--pid", str(runs.pid), "--mode", "advise", "--interval", "0.5"]
    terminal = Terminal("-m", "cli", *arguments, width=100, environment=runs.environment)
    try:
        terminal.until("what happened")
        assert "mode advise" in terminal.text
        terminal.press("p")
        terminal.until("paused: nothing new is begun")
        assert runs.status()[0]["paused"] is True
        terminal.press("p")
        until(lambda: runs.status()[0]["paused"] is False)
        terminal.press("q")
        terminal.until("dna sculpt report")
        assert terminal.end() == 0
        terminal.check_restored()
        assert "ended (stopped); in force: baseline" in terminal.text[terminal.text.rindex("\x1b[?1049l") :]
    finally:
        terminal.close()


@pytest.mark.slow
def test_ctrl_c_ends_it_and_a_command_of_its_own_is_kept_off_the_screen(runs: Runs) -> None:
    code = "import time\nprint('hello from it', flush=True)\nwhile True: sum(range(10000))"
    arguments = ["-m", "cli", "sculpt", "--interval", "0.5", "--", sys.executable, "-c", code]
    terminal = Terminal(*arguments, width=100, environment=runs.environment)
    try:
        terminal.until("what happened")
        assert "hello from it" not in terminal.text
        terminal.process.send_signal(signal.SIGINT)  # no key: the pseudo-terminal is nobody's controlling one
        terminal.until("hello from it")
        assert terminal.end() == 0
        terminal.check_restored()
    finally:
        terminal.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(terminal.process.pid, signal.SIGKILL)  # the command goes on: it is not the run's to end


@pytest.mark.slow
def test_no_live_gives_lines_on_a_terminal_too(runs: Runs) -> None:
    arguments = ["sculpt", "--pid", str(runs.pid), "--interval", "0.5", "--duration", "1", "--no-live"]
    terminal = Terminal("-m", "cli", *arguments, width=100, environment=runs.environment)
    try:
        terminal.until("dna sculpt report")
        assert terminal.end() == 0
        assert "\x1b[?1049h" not in terminal.text
        assert "baseline" in terminal.text
    finally:
        terminal.close()
