"""Metrics read from real servers, against what was really done; and the same when the server hangs, restarts or is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.running import MissingProgramError, Session, find_program, free_port
from hal.host import LinuxHost
from rl.measured import Measured, Problem
from rl.reward import open_reader, parse_metric
from rl.sources.reader import SourceReader
from rl.sources.resp import PASSWORD, Connection, Reply

pytestmark = pytest.mark.server

HOST = LinuxHost()
PATIENT_S = 20.0
"""How long a read may take on a machine that has other things to do."""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    one = Session(tmp_path, tmp_path)
    yield one
    one.close()


def needs(*programs: str) -> None:
    try:
        for program in programs:
            find_program(program)
    except MissingProgramError as error:
        pytest.skip(str(error))


@contextmanager
def reading(text: str, *, timeout_s: float = PATIENT_S) -> Iterator[SourceReader]:
    reader = open_reader(parse_metric(text), HOST, timeout_s=timeout_s)
    try:
        yield reader
    finally:
        reader.close()


@dataclass(frozen=True)
class Interval:
    """What was measured of an interval that lasted at least ``inner`` and at most ``outer`` seconds."""

    measured: Measured
    inner: float
    outer: float

    def holds(self, work: float, *, more: float = 0.0) -> bool:
        """Tell whether the measured rate is that of so much work, or of at most so much more."""
        assert self.measured.value is not None, self.measured
        return work / self.outer <= self.measured.value <= (work + more) / self.inner


def interval(reader: SourceReader, work: Callable[[], object]) -> Interval:
    begin = time.monotonic()
    reader.read(0.0)
    inner = time.monotonic()
    work()
    end = time.monotonic()
    measured = reader.read(1.0)
    return Interval(measured, end - inner, time.monotonic() - begin)


# --- Redis


def redis_server(session: Session, port: int, *options: str) -> subprocess.Popen[bytes]:
    process = session.spawn(
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        *("--enable-debug-command", "yes", *options),
    )
    session.wait_for_port(port)
    return process


class Client:
    """Asks a Redis server."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(("127.0.0.1", port), timeout_s=PATIENT_S)

    def __call__(self, *words: str) -> Reply:
        return self._connection.ask(*words)

    def many(self, count: int, *words: str) -> None:
        for _ in range(count):
            self(*words)


@pytest.fixture
def redis(session: Session) -> int:
    needs("redis-server")
    port = free_port()
    redis_server(session, port)
    return port


def test_redis_commands_are_those_that_clients_sent(redis: int) -> None:
    client = Client(redis)
    with reading(f"throughput=redis:127.0.0.1:{redis}") as reader:
        assert reader.read(0.0).problem is Problem.FIRST
        assert interval(reader, lambda: client.many(700, "SET", "a", "b")).holds(700)
        assert interval(reader, lambda: time.sleep(0.05)).measured.problem is Problem.UNCHANGED  # our own do not count
        reader.read(0.0)
        client("CONFIG", "RESETSTAT")
        assert reader.read(1.0).problem is Problem.RESET


def test_redis_percentile_is_of_the_interval_not_of_all_time(redis: int) -> None:
    client = Client(redis)

    def slow() -> None:
        client.many(10, "DEBUG", "SLEEP", "0.05")
        client.many(190, "GET", "a")

    with reading(f"latency-p99=redis:127.0.0.1:{redis}") as reader:
        found = interval(reader, slow).measured
        assert found.value is not None
        assert found.value > 0.05 / 2.1  # its buckets are powers of two
        assert found.noise is not None
        calm = interval(reader, lambda: client.many(2000, "GET", "a")).measured
        assert calm.value is not None
        assert calm.value < found.value
        few = interval(reader, lambda: client.many(5, "GET", "a")).measured
        assert few.problem is Problem.TOO_FEW
        assert "5 in the interval" in few.because


def test_redis_that_restarts_hangs_or_is_gone_is_named(session: Session) -> None:
    needs("redis-server")
    port = free_port()
    with reading(f"throughput=redis:127.0.0.1:{port}") as reader:
        assert reader.read(0.0).problem is Problem.GONE
        first = redis_server(session, port)
        assert interval(reader, lambda: Client(port).many(3, "PING")).measured.value
        first.kill()
        first.wait()
        assert reader.read(1.0).problem is Problem.GONE
        second = redis_server(session, port)
        Client(port).many(3000, "PING")  # more than the first ever had: only that it is another one tells
        assert [reader.read(2.0).problem, reader.read(3.0).problem] == [Problem.FIRST, Problem.UNCHANGED]
    with reading(f"throughput=redis:127.0.0.1:{port}", timeout_s=0.3) as hasty:
        second.send_signal(signal.SIGSTOP)
        try:
            assert hasty.read(4.0).problem is Problem.SLOW
        finally:
            second.send_signal(signal.SIGCONT)


def test_redis_with_a_password_says_where_to_put_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("redis-server")
    port = free_port()
    redis_server(session, port, "--requirepass", "sesame")
    with reading(f"throughput=redis:127.0.0.1:{port}") as reader:
        refused = reader.read(0.0)
        assert refused.problem is Problem.REFUSED
        assert PASSWORD in refused.because
    monkeypatch.setenv(PASSWORD, "sesame")
    with reading(f"throughput=redis:127.0.0.1:{port}") as reader:
        assert interval(reader, lambda: time.sleep(0.05)).measured.problem is Problem.UNCHANGED
    monkeypatch.setenv(PASSWORD, "wrong")
    with reading(f"throughput=redis:127.0.0.1:{port}") as reader:
        assert reader.read(0.0).problem is Problem.REFUSED


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--latency-tracking", "no"), "latency-tracking yes"),
        (("--rename-command", "LATENCY", ""), "keeps no histograms"),
    ],
)
def test_redis_without_histograms_says_so(session: Session, options: tuple[str, ...], says: str) -> None:
    needs("redis-server")
    port = free_port()
    redis_server(session, port, *options)
    with reading(f"latency-p99=redis:127.0.0.1:{port}") as reader:
        measured = reader.read(0.0)
        assert measured.problem is Problem.UNFIT
        assert says in measured.because


def test_another_kind_of_server_is_not_taken_for_redis(exporter: Exporter) -> None:
    with reading(f"throughput=redis:127.0.0.1:{exporter.port}") as reader:
        assert reader.read(0.0).problem in (Problem.REFUSED, Problem.GONE)


# --- PostgreSQL


@pytest.fixture
def postgresql(session: Session) -> tuple[int, subprocess.Popen[bytes]]:
    needs("initdb", "postgres", "psql")
    user = "postgres" if os.geteuid() == 0 else None
    home, port = session.private_folder(user), free_port()
    data = home / "data"
    session.finish("initdb", "-D", data, "-A", "trust", "-N", "-U", "postgres", user=user)
    server = session.spawn(
        *("postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", home, "-c", "fsync=off"),
        *("-c", "autovacuum=off"),
        user=user,
    )
    session.wait_for_port(port)
    session.wait_for_output("ready to accept connections")
    return port, server


def test_postgresql_transactions_are_those_of_clients(postgresql: tuple[int, subprocess.Popen[bytes]]) -> None:
    port, server = postgresql
    where = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"

    def transactions(count: int) -> None:
        script = "SELECT 1;\n" * count
        subprocess.run(["psql", "-X", "-q", "-o", "/dev/null", where], input=script, text=True, check=True)

    with reading(f"throughput=postgresql:{where}") as reader:
        assert reader.read(0.0).problem is Problem.FIRST
        assert interval(reader, lambda: transactions(500)).holds(499, more=4)  # its own is about one
        for _ in range(3):  # the server takes a second to count, also what we asked in a hurry
            time.sleep(1.5)
            idle = reader.read(2.0)
        assert idle.problem is Problem.UNCHANGED  # our own do not count
        transactions(10)
        deadline = time.monotonic() + 30
        while not (counted := reader.read(2.0).value) and time.monotonic() < deadline:
            time.sleep(0.5)  # until the server has got to it
        assert counted
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        gone = reader.read(3.0)
        assert gone.problem is Problem.REFUSED
        assert "server" in gone.because or "connection" in gone.because
        assert "refused" in reader.read(4.0).because
    with reading(f"throughput=postgres://postgres@127.0.0.1:{port}/postgres") as reader:
        assert "refused" in reader.read(0.0).because


def test_postgresql_that_wants_a_password_does_not_wait_for_one(session: Session) -> None:
    needs("psql")
    port = free_port()
    listener = session.python(
        "import socket, sys, time\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "c, _ = s.accept(); c.recv(100); c.send(b'N'); c.recv(1000); c.send(b'R\\0\\0\\0\\x08\\0\\0\\0\\x03')\n"
        "time.sleep(600)",
        str(port),
    )
    deadline = time.monotonic() + PATIENT_S
    with reading(f"throughput=postgresql:host=127.0.0.1 port={port} user=x") as reader:
        while (measured := reader.read(0.0)).problem is Problem.REFUSED and "refused" in measured.because:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "password" in measured.because
    assert listener.poll() is None


# --- an endpoint of Prometheus's format

_EXPORTER = """
import sys, prometheus_client as p
work = p.Counter("work", "w", ["code"])
took = p.Histogram("took_seconds", "t", buckets=(0.01, 0.1, 0.2, 0.4, 1.0))
level = p.Gauge("level", "l")
p.start_http_server(int(sys.argv[1]), addr="127.0.0.1")
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Exporter:
    """A program with metrics, made by the official library, that does what it is told."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _EXPORTER, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait("ready")

    def __call__(self, code: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.close()


def endpoint(port: int, selected: str, path: str = "/metrics") -> str:
    return f"prometheus:http://127.0.0.1:{port}{path}#{selected}"


def test_counters_and_histograms_of_a_real_endpoint(exporter: Exporter) -> None:
    exporter("work.labels('500').inc(5000)")
    with reading(f"throughput={endpoint(exporter.port, 'work_total{code="200"}')}") as reader:
        assert reader.read(0.0).problem is Problem.GONE  # nothing with that label yet
        exporter("work.labels('200').inc(7)")
        found = interval(reader, lambda: exporter("work.labels('200').inc(640); work.labels('500').inc(9)"))
        assert found.holds(640)
        assert interval(reader, lambda: None).measured.problem is Problem.UNCHANGED
    exporter("[took.observe(0.9) for _ in range(10_000)]")
    with reading(f"latency-p99={endpoint(exporter.port, 'took_seconds')}") as reader:
        found = interval(reader, lambda: exporter("[took.observe(0.15) for _ in range(1000)]"))
        assert found.measured.value == pytest.approx(0.199)
        beyond = interval(reader, lambda: exporter("[took.observe(3.0) for _ in range(1000)]"))
        assert beyond.measured.problem is Problem.BEYOND


def test_gauges_of_a_real_endpoint_and_what_they_may_say(exporter: Exporter) -> None:
    with reading(f"latency-p99={endpoint(exporter.port, 'level')}") as reader:
        exporter("level.set(0.25)")
        assert reader.read(0.0).value == 0.25
        exporter("level.set(float('nan'))")
        assert reader.read(1.0).problem is Problem.NOT_A_NUMBER
        exporter("level.set(0)")
        assert reader.read(2.0).problem is Problem.NOT_POSITIVE
        exporter.process.kill()
        exporter.process.wait()
        assert reader.read(3.0).problem is Problem.GONE


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", Problem.REFUSED),
        (b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", Problem.REFUSED),
        (b"HTTP/1.0 200 OK\r\n\r\nlevel 3\n", None),
        (b"HTTP/1.0 200 OK\r\n\r\nlevel three\n", Problem.REFUSED),
        (b"HTTP/1.0 200 OK\r\n\r\n", Problem.GONE),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Problem.REFUSED),
        (b"", Problem.REFUSED),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"level 3\n" * (1 << 22), Problem.REFUSED),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nlevel 3\n", Problem.REFUSED),
        (b"HTTP/1.0 200 OK\r\n\r\nlevel 3", Problem.GONE),
    ],
    ids=[
        "404",
        "elsewhere",
        "plain",
        "no number",
        "empty",
        "no HTTP",
        "nothing",
        "endless",
        "cut off",
        "perhaps cut off",
    ],
)
def test_whatever_an_endpoint_answers(session: Session, answer: bytes, problem: Problem | None) -> None:
    port = free_port()
    session.python(
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True:\n"
        "    c, _ = s.accept(); c.recv(10000)\n"
        "    try: c.sendall(open(sys.argv[2], 'rb').read()); c.shutdown(socket.SHUT_WR); c.recv(10000)\n"
        "    except OSError: pass\n"
        "    c.close()\n",
        str(port),
        str(_written(session.folder / "answer", answer)),
    )
    session.wait_for_port(port)
    with reading(f"throughput={endpoint(port, 'level')}") as reader:
        measured = reader.read(0.0)
        assert measured.problem == problem, measured


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_endpoint_that_trickles_holds_nobody_up(session: Session) -> None:
    """Every byte comes within the socket's limit, the answer never does."""
    port = free_port()
    session.python(
        "import socket, sys, time\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True:\n"
        "    c, _ = s.accept()\n"
        "    try:\n"
        "        c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n')\n"
        "        while True: c.sendall(b'#'); time.sleep(0.05)\n"
        "    except OSError: pass\n",
        str(port),
    )
    session.wait_for_port(port)
    with reading(f"throughput={endpoint(port, 'level')}", timeout_s=0.4) as reader:
        before = time.monotonic()
        assert [reader.read(float(t)).problem for t in range(3)] == [Problem.SLOW] * 3
        assert time.monotonic() - before < PATIENT_S


# --- files and commands


def test_a_real_file_and_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    path.write_text("5\n")
    with reading(f"throughput=file:{path}") as reader:
        assert reader.read(0.0).problem is Problem.FIRST
        path.write_text("6\n")
        assert reader.read(1.0).value == 6.0
        path.unlink()
        assert reader.read(2.0).problem is Problem.GONE
        os.mkfifo(path)
        assert reader.read(3.0).problem is Problem.REFUSED
    for strange in ("/dev/zero", str(tmp_path)):
        with reading(f"throughput=file:{strange}") as reader:
            assert reader.read(0.0).problem is Problem.REFUSED


def test_a_real_counter_of_the_kernel(tmp_path: Path) -> None:
    with reading("throughput=rate:file:/proc/self/io") as reader:  # its last line: cancelled_write_bytes
        path = tmp_path / "scratch"

        def cancel() -> None:
            path.write_bytes(b"x" * 65536)
            path.unlink()

        found = interval(reader, cancel)
        if found.measured.problem is Problem.UNCHANGED:
            pytest.skip("this file system does not account for writes that were cancelled")
        assert found.holds(65536)


def test_a_real_command_in_time_and_not(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("tps = 900\ntps = 1000.5\n")
    with reading(f"throughput=command:tail -n1 {path}") as reader:
        assert reader.read(0.0).value == 1000.5
        path.unlink()
        missing = reader.read(1.0)
        assert missing.problem is Problem.REFUSED
        assert "tail ended with 1" in missing.because
    with reading("throughput=command:sh -c 'sleep 600 & sleep 600; echo 3'", timeout_s=0.3) as reader:
        before = time.monotonic()
        assert reader.read(0.0).problem is Problem.SLOW
        assert time.monotonic() - before < 300
