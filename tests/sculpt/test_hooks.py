"""Where alerts go, with real commands, files, sockets and servers: what hangs, fails or floods costs its alerts, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from sculpt import hooks
from sculpt.alert_settings import AlertSettings, address_of, open_outlets, settings_of, url_of, with_options
from sculpt.alerts import KINDS, Alert, alert_data
from sculpt.errors import AlertSettingsError
from sculpt.hooks import HEADER_VARIABLE, CommandSink, LogSink, WebhookSink, to_file, to_stderr, to_syslog
from sculpt.outlets import DeliveryError, Outlet, Stop, close_all

ALERT = Alert(1000.0, "redis", "lost", "warning", 'cpu.affinity of pid 7 is 1; é "quoted" $(touch /x)\nsecond', 2)
LONG_S = 300
"""What must be cut short would take so long."""
PATIENT_S = 60.0


@pytest.fixture
def stop() -> Iterator[Stop]:
    one = Stop()
    yield one
    one.close()


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- outlets


class Slow:
    """Delivers when it is let."""

    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen: list[Alert] = []

    def deliver(self, alert: Alert, stop: Stop) -> str:
        while not self.go.wait(0.01):
            if stop.event.is_set():
                raise DeliveryError("ended")
        self.seen.append(alert)
        return ""


def test_what_hangs_holds_up_nobody_and_what_finds_no_room_is_counted() -> None:
    sink = Slow()
    outlet = Outlet(sink, waiting=5)
    began = time.monotonic()
    for _ in range(100_000):
        outlet.put(ALERT)
    assert time.monotonic() - began < PATIENT_S
    sink.go.set()
    outlet.close(time.monotonic() + PATIENT_S)
    assert 5 <= outlet.counts.delivered <= 100_000
    assert outlet.counts.delivered == len(sink.seen)
    assert outlet.counts.delivered + outlet.counts.dropped == 100_000


@pytest.mark.long
def test_the_end_does_not_wait_for_what_hangs() -> None:
    outlets = [Outlet(Slow()) for _ in range(3)]
    for outlet in outlets:
        for _ in range(3):
            outlet.put(ALERT)
    began = time.monotonic()
    close_all(outlets, 0.5)
    assert time.monotonic() - began < 30
    assert [(outlet.counts.delivered, outlet.counts.failed + outlet.counts.dropped) for outlet in outlets] == [
        (0, 3)
    ] * 3


@pytest.mark.long
def test_one_that_hangs_at_the_end_leaves_the_others_their_time(tmp_path: Path) -> None:
    slow, quick = Outlet(Slow()), Outlet(CommandSink(["sh", "-c", "sleep 0.2"], PATIENT_S, "box"))
    for outlet in (quick, slow):
        outlet.put(ALERT)
        outlet.put(ALERT)
    close_all([quick, slow], 3.0)
    assert slow.counts.delivered == 0
    assert quick.counts.delivered > 0


def test_what_raises_does_not_end_the_outlet() -> None:
    class Wrong:
        name = "wrong"
        calls = 0

        def deliver(self, _alert: Alert, _stop: Stop) -> str:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("oh")
            return "said"

    noted: list[tuple[str, Mapping[str, object]]] = []
    outlet = Outlet(Wrong(), note=lambda name, _alert, outcome: noted.append((name, outcome)))
    outlet.put(ALERT)
    outlet.put(ALERT)
    outlet.close(time.monotonic() + PATIENT_S)
    assert (outlet.counts.failed, outlet.counts.delivered, outlet.counts.trouble) == (1, 1, "ZeroDivisionError: oh")
    assert [name for name, _ in noted] == ["wrong", "wrong"]
    assert noted[0][1]["failed"] == "ZeroDivisionError: oh"
    assert noted[1][1]["said"] == "said"


# --- log


def test_each_alert_is_a_line_also_after_rotation(tmp_path: Path, stop: Stop) -> None:
    path = tmp_path / "alerts.jsonl"
    sink = LogSink(to_file(str(path)), "box")
    sink.deliver(ALERT, stop)
    sink.deliver(ALERT, stop)
    assert lines(path) == [alert_data(ALERT, "box")] * 2
    assert path.stat().st_mode & 0o137 == 0
    path.rename(tmp_path / "old")
    sink.deliver(ALERT, stop)
    assert len(lines(path)) == 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "full", "gone"])
def test_a_log_that_cannot_be_written_fails_and_does_not_hang(tmp_path: Path, stop: Stop, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "full":
        path = Path("/dev/full")
    else:
        path = tmp_path / "no" / "log"
    with pytest.raises(DeliveryError, match="cannot be written"):
        LogSink(to_file(str(path)), "box").deliver(ALERT, stop)


def test_standard_error_has_one_line(capfd: pytest.CaptureFixture[str], stop: Stop) -> None:
    LogSink(to_stderr, "box").deliver(ALERT, stop)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["text"] == ALERT.text


def test_the_systems_log_has_the_severity(tmp_path: Path, stop: Stop) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        LogSink(to_syslog(path), "box").deliver(ALERT, stop)
        text = server.recv(1 << 16).decode()
    assert text.startswith(f"<{3 * 8 + 4}>dna[{os.getpid()}]: {{")  # daemon, warning
    assert json.loads(text.partition(": ")[2])["kind"] == "lost"
    with pytest.raises(DeliveryError):
        LogSink(to_syslog(path + "x"), "box").deliver(ALERT, stop)


# --- command


def command(code: str, *, timeout_s: float = PATIENT_S) -> CommandSink:
    return CommandSink([sys.executable, "-S", "-E", "-c", code], timeout_s, "box")


def test_a_command_has_the_alert_on_its_input_and_in_its_environment(
    stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HEADER_VARIABLE, "Authorization: secret")
    code = (
        "import json, os, sys; data = json.load(sys.stdin)\n"
        "own = {k[10:].lower(): v for k, v in os.environ.items() if k.startswith('DNA_ALERT_')}\n"
        "print(all(str(data[k]) == own[k] for k in data), sorted(own), 'secret' in str(os.environ), data['text'])"
    )
    said = command(code).deliver(ALERT, stop)
    names = sorted(alert_data(ALERT, "box"))
    assert said == f"True {names} False {ALERT.text}"


def test_what_a_command_ends_with_is_told_with_what_it_said(stop: Stop) -> None:
    with pytest.raises(DeliveryError, match="ended with 3: out\nerr"):
        command("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)").deliver(ALERT, stop)
    with pytest.raises(DeliveryError, match="No such file"):
        CommandSink(["/nonexistent/page"], 1.0, "box").deliver(ALERT, stop)


@pytest.mark.long
def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path, stop: Stop) -> None:
    note = tmp_path / "pids"
    sink = CommandSink(["sh", "-c", f"sleep {LONG_S} & echo $$ $! > {note}; wait"], 1.0, "box")
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="did not finish within 1 s"):
        sink.deliver(ALERT, stop)
    assert time.monotonic() - began < LONG_S / 2
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 2
    assert within(20, lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.long
def test_a_command_that_floods_is_bounded(stop: Stop) -> None:
    said = command("import sys\nfor n in range(300_000): print(n, 'x' * 50)").deliver(ALERT, stop)
    assert len(said) <= hooks.MOST_SAID
    assert said.splitlines()[-1].startswith("299999 ")
    with pytest.raises(DeliveryError):
        CommandSink(["yes"], 0.5, "box").deliver(ALERT, stop)


def test_the_end_ends_a_command_that_hangs(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    outlet = Outlet(CommandSink(["sh", "-c", f"echo $$ > {note}; sleep {LONG_S}"], LONG_S, "box"))
    outlet.put(ALERT)
    assert within(PATIENT_S, lambda: note.exists() and bool(note.read_text()))
    began = time.monotonic()
    outlet.close(time.monotonic() + 0.2)
    assert time.monotonic() - began < LONG_S / 2
    assert within(20, lambda: is_gone(int(note.read_text())))
    assert outlet.counts.failed == 1
    assert "dna ends" in outlet.counts.trouble


def test_what_a_command_says_goes_to_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    settings = AlertSettings(
        log=str(path), command=("sh", "-c", 'echo "paged for $DNA_ALERT_WORKLOAD"; exit "$DNA_ALERT_HELD"')
    )
    outlets = open_outlets(settings)
    for outlet in outlets:
        outlet.put(ALERT)
    close_all(outlets, PATIENT_S)
    by_schema = {line["schema"]: line for line in lines(path)}
    assert set(by_schema) == {"workload-dna/alert/1", "workload-dna/alert-delivery/1"}
    delivery = by_schema["workload-dna/alert-delivery/1"]
    assert delivery["sink"] == "command"
    assert delivery["failed"].endswith("ended with 2: paged for redis")
    assert delivery["alert"]["kind"] == "lost"


# --- webhook


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted, and answers as told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answers: list[int] = []
        self.headers_to_send: dict[str, str] = {}
        self.drips = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class Handler(BaseHTTPRequestHandler):
    """Of ``Receiver``."""

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((self.path, dict(self.headers), body))
        if server.drips:
            self._drip()
            return
        self.send_response(server.answers.pop(0) if server.answers else 204)
        for name, value in server.headers_to_send.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self) -> None:
        try:
            for _ in range(LONG_S * 10):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def serving(server: Receiver) -> Iterator[Receiver]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving(Receiver()) as server:
        yield server


def webhook(url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = PATIENT_S) -> WebhookSink:
    return WebhookSink(url_of(url), headers or {}, timeout_s, "box", first_wait_s=0.01)


def test_a_webhook_gets_the_alert_with_its_headers(receiver: Receiver, stop: Stop) -> None:
    webhook(receiver.url, {"Authorization": "Bearer abc"}).deliver(ALERT, stop)
    ((path, headers, body),) = receiver.got
    assert path == "/hook?x=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer abc"
    assert json.loads(body) == alert_data(ALERT, "box")


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(receiver: Receiver, stop: Stop) -> None:
    receiver.answers = [503, 429, 500]
    webhook(receiver.url).deliver(ALERT, stop)
    assert len(receiver.got) == 4
    receiver.got.clear()
    receiver.answers = [503] * 10
    with pytest.raises(DeliveryError, match=r"answered 503 \(4 times\)"):
        webhook(receiver.url).deliver(ALERT, stop)
    assert len(receiver.got) == hooks.TRIES
    receiver.got.clear()
    receiver.answers = [404]
    with pytest.raises(DeliveryError, match="answered 404"):
        webhook(receiver.url).deliver(ALERT, stop)
    assert len(receiver.got) == 1


@pytest.mark.long
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", ["file:///etc/passwd", "{url}/other"])
def test_no_redirect_is_followed(receiver: Receiver, stop: Stop, status: int, elsewhere: str) -> None:
    receiver.answers = [status]
    receiver.headers_to_send = {"Location": elsewhere.format(url=receiver.url)}
    with pytest.raises(DeliveryError, match=f"answered {status}"):
        webhook(receiver.url, {"Authorization": "Bearer abc"}).deliver(ALERT, stop)
    assert len(receiver.got) == 1


@pytest.mark.long
def test_a_server_that_never_ends_its_answer_is_cut_off(receiver: Receiver, stop: Stop) -> None:
    receiver.drips = True
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="4 times"):
        webhook(receiver.url, timeout_s=0.3).deliver(ALERT, stop)
    assert time.monotonic() - began < LONG_S / 2


@pytest.mark.long
@pytest.mark.parametrize("kind", ["refuses", "hangs", "speaks otherwise"])
def test_a_server_that_is_none_fails(stop: Stop, kind: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if kind != "refuses":
            server.listen(16)
        if kind == "speaks otherwise":
            threading.Thread(target=_answer_nonsense, args=(server,), daemon=True).start()
        sink = webhook(f"http://127.0.0.1:{server.getsockname()[1]}/secret-path", timeout_s=0.3)
        with pytest.raises(DeliveryError, match="4 times") as raised:
            sink.deliver(ALERT, stop)
    assert "secret-path" not in str(raised.value)


def _answer_nonsense(server: socket.socket) -> None:
    for _ in range(hooks.TRIES):
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"SSH-2.0-nonsense\r\n\r\n")


def test_the_end_ends_tries(stop: Stop) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        outlet = Outlet(WebhookSink(url_of(f"http://127.0.0.1:{server.getsockname()[1]}/"), {}, LONG_S, "box"))
        outlet.put(ALERT)
        with server.accept()[0]:  # it has connected, and waits for an answer
            began = time.monotonic()
            outlet.close(time.monotonic() + 0.2)
    assert time.monotonic() - began < LONG_S / 2
    assert outlet.counts.failed + outlet.counts.dropped == 1


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate: apt-get install openssl")
    return key, certificate


def test_a_certificate_that_nobody_vouches_for_is_refused_and_a_trusted_one_is_not(
    certificate: tuple[Path, Path], stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, chain = certificate
    server = Receiver()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        url = f"https://127.0.0.1:{server.server_port}/"
        with pytest.raises(DeliveryError, match="certificate is not trusted"):
            webhook(url).deliver(ALERT, stop)
        assert server.got == []
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        webhook(url).deliver(ALERT, stop)
        assert len(server.got) == 1
        with pytest.raises(DeliveryError, match="certificate is not trusted"):
            webhook(url.replace("127.0.0.1", "localhost")).deliver(ALERT, stop)


# --- settings


def test_a_table_says_where_alerts_go() -> None:
    settings = settings_of(
        {
            "log": "/var/log/alerts",
            "command": ["page", "--urgent"],
            "webhook": "https://example.org/x",
            "header_file": "/etc/header",
            "at_least": "warning",
            "kinds": ["lost"],
            "collapse": 0.3,
            "timeout_s": 2,
            "prometheus": 9464,
        }
    )
    assert settings == AlertSettings(
        "/var/log/alerts", ("page", "--urgent"), "https://example.org/x", "/etc/header", "warning", ("lost",), 0.3, 2.0, "9464"
    )  # fmt: skip
    assert settings_of({}) == AlertSettings()
    assert settings.takes(ALERT)
    assert not settings.takes(Alert(0, "", "lost", "notice", ""))
    assert not settings.takes(Alert(0, "", "jump", "critical", ""))
    assert all(AlertSettings().takes(Alert(0, "", kind, "notice", "")) for kind in KINDS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"logs": "stderr"}, r"\[alerts\]: there is no 'logs' \(did you mean log\?\)"),
        ({"log": "relative"}, "no absolute path"),
        ({"log": 3}, "must be a word"),
        ({"log": ""}, "must be a word"),
        ({"command": "page --urgent"}, "must be a list of words"),
        ({"command": []}, "is empty"),
        ({"webhook": "ftp://example.org/"}, "no URL of http"),
        ({"webhook": "https://example.org:x/"}, "no URL"),
        ({"webhook": "https://me:secret@example.org/"}, "seen by all users"),
        ({"webhook": "https://example.org/a b"}, "no URL"),
        ({"at_least": "loud"}, "there is no 'loud'"),
        ({"kinds": ["lost", "found"]}, "there is no 'found'"),
        ({"kinds": []}, "is empty"),
        ({"collapse": 1.0}, "from 0.01 to 0.99"),
        ({"collapse": True}, "from 0.01"),
        ({"timeout_s": 0}, "from 0.1 to 600"),
        ({"timeout_s": float("nan")}, "from 0.1"),
        ({"prometheus": ":9464"}, "whom to answer"),
        ({"prometheus": "x"}, "no \\[HOST:\\]PORT"),
        ({"prometheus": 70000}, "no \\[HOST:\\]PORT"),
        ({"prometheus": "::1:9464"}, "no \\[HOST:\\]PORT"),
        ({"prometheus": True}, "must be a word"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(AlertSettingsError, match=message) as raised:
        settings_of(table)
    assert raised.value.exit_code == 2
    assert "secret" not in str(raised.value)


def test_options_count_before_the_table() -> None:
    base = settings_of({"log": "/a", "webhook": "https://a/"})
    settings = with_options(base, log="stderr", command=["x"])
    assert (settings.log, settings.command, settings.webhook) == ("stderr", ("x",), "https://a/")
    assert with_options(base) == base
    assert with_options(base, log="x").log == str(Path.cwd() / "x")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


def test_headers_come_from_a_file_that_others_cannot_read_and_from_the_environment(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "header"
    path.write_text("# of the pager\nAuthorization: Bearer abc\n\n")
    path.chmod(0o600)
    monkeypatch.setenv(HEADER_VARIABLE, "X-Team: db")
    outlets = open_outlets(AlertSettings(webhook=receiver.url, header_file=str(path)))
    outlets[0].put(ALERT)
    close_all(outlets, PATIENT_S)
    ((_, headers, _),) = receiver.got
    assert (headers["Authorization"], headers["X-Team"]) == ("Bearer abc", "db")
    path.chmod(0o644)
    with pytest.raises(AlertSettingsError, match="others can get at"):
        open_outlets(AlertSettings(webhook=receiver.url, header_file=str(path)))


@pytest.mark.parametrize("line", ["no header", "A: b\x01", ": b", "A b: c"])
def test_what_is_no_header_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv(HEADER_VARIABLE, line)
    with pytest.raises(AlertSettingsError, match="none") as raised:
        open_outlets(AlertSettings(webhook="http://127.0.0.1:9/"))
    assert line not in str(raised.value)


def test_what_is_not_there_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(AlertSettingsError, match="no program"):
        open_outlets(AlertSettings(command=("no-such-program",)))
    with pytest.raises(AlertSettingsError, match="cannot be written"):
        open_outlets(AlertSettings(log=str(tmp_path / "no" / "log")))
    with pytest.raises(AlertSettingsError, match="no plain file"):
        open_outlets(AlertSettings(log=str(tmp_path)))
    with pytest.raises(AlertSettingsError, match="cannot be read"):
        open_outlets(AlertSettings(webhook="http://127.0.0.1:9/", header_file=str(tmp_path / "none")))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another's program is run as root otherwise: sudo")
def test_root_runs_no_program_that_others_can_write(tmp_path: Path) -> None:
    program = tmp_path / "page"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    with pytest.raises(AlertSettingsError, match="others can write"):
        open_outlets(AlertSettings(command=(str(program),)))
