"""The programs that are made faster: how each is started under load, what it is judged by, and how that is read."""

from __future__ import annotations

import mmap
import os
import re
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path

from benchmarks.inputs import c_program
from benchmarks.running import Session, StartError, find_program, free_port

THROUGHPUT, LATENCY = "throughput", "latency-p99"
_BUCKETS = 4096
_STEPS = 16

type Reading = tuple[float, Sequence[int]]
"""When, in seconds of a clock that does not jump, and the counters then."""


@dataclass(slots=True)
class Live:
    """A program that runs under load."""

    target: int
    """Root of the process tree that is to be made faster."""
    metric: str
    """What ``dna sculpt --metric`` is told."""
    counters: Callable[[], Sequence[int]]
    value: Callable[[Reading, Reading], float]
    """From two readings to what was between them, in the program's unit."""
    neighbours: Mapping[str, int] = field(default_factory=dict)
    """Other programs on the machine that may be set for its good: name to root."""

    @property
    def roots(self) -> tuple[int, ...]:
        """All trees that settings may be made on, the target first."""
        return (self.target, *self.neighbours.values())

    def read(self) -> Reading:
        """Return the counters now."""
        return time.monotonic(), tuple(self.counters())


@dataclass(frozen=True, slots=True)
class Program:
    """One of the programs."""

    name: str
    about: str
    unit: str
    needs: tuple[str, ...]
    start: Callable[[Session], Live]
    kind: str = THROUGHPUT
    restart: bool = False
    """Started anew for each measurement: something that an arm does to it cannot be taken back."""
    settle_s: float = 0.7
    """After a change, before what is measured counts."""
    interval_s: float = 1.0
    """Of the loop."""
    longer: float = 1.0
    """How many times as long as others it is measured: percentiles take more than means."""

    def gain(self, value: float, base: float) -> float:
        """Return how many times as good a value is as another: above 1 is better, whatever the direction."""
        return value / base if self.kind == THROUGHPUT else base / value

    def missing(self) -> str:
        """Return what is not installed and how to get it; "" where all is there."""
        for command in self.needs:
            try:
                find_program(command)
            except Exception as error:
                return str(error)
        return ""


def _rate(before: Reading, after: Reading) -> float:
    return (after[1][0] - before[1][0]) / (after[0] - before[0])


def _in_file(path: Path) -> Callable[[], Sequence[int]]:
    return lambda: (int(path.read_text()),)


def _wait_for(path: Path, session: Session, *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > deadline:
            raise StartError(f"{path.name} was not written: {session._log_end()}")
        time.sleep(0.02)


# --- random access over gigabytes


def _lookups(session: Session) -> Live:
    mib = "512" if os.environ.get("DNA_GAINS_QUICK") else "2048"
    done = session.folder / "done"
    program = session.spawn(c_program(session.shared, "lookups"), mib, done)
    _wait_for(done, session)
    return Live(program.pid, f"throughput=rate:file:{done}", _in_file(done), _rate)


# --- a pair that talks


def _pingpong(session: Session) -> Live:
    done = session.folder / "done"
    program = session.spawn(c_program(session.shared, "pingpong"), done)
    _wait_for(done, session)
    return Live(program.pid, f"throughput=rate:file:{done}", _in_file(done), _rate)


# --- servers under load from loopback


def _redis_server(session: Session) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    server = session.spawn(
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        *("--dir", session.folder),
    )
    session.wait_for_port(port)
    return server, port


def _redis(session: Session) -> Live:
    server, port = _redis_server(session)
    fill = ("-q", "-t", "set", "-n", "200000", "-r", "200000", "-P", "16", "-d", "64")
    session.finish("redis-benchmark", "-p", str(port), *fill)
    session.spawn("redis-benchmark", "-p", str(port), "-q", "-n", "2000000000", "-r", "200000", "-t", "get", "-c", "50")
    connection = socket.create_connection(("127.0.0.1", port))

    def counters() -> Sequence[int]:
        connection.sendall(b"INFO stats\r\n")
        text = connection.recv(1 << 16).decode()
        return (int(re.findall(r"total_commands_processed:(\d+)", text)[0]),)

    return Live(server.pid, f"throughput=redis:127.0.0.1:{port}", counters, _rate)


def _nginx(session: Session) -> Live:
    port, folder = free_port(), session.folder
    (folder / "page").write_bytes(b"x" * 1024)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; worker_processes 1; pid {folder}/pid;\n"
        f"error_log {folder}/error.log; events {{ worker_connections 512; }}\n"
        f"http {{ access_log off; sendfile on; default_type text/plain; keepalive_requests 1000000000; {places}"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; location /status {{ stub_status; }} }} }}\n"
    )
    server = session.spawn("nginx", "-p", folder, "-c", configuration, "-e", folder / "error.log")
    session.wait_for_port(port)
    session.spawn("wrk", "-t", "1", "-c", "32", "-d", "86400", f"http://127.0.0.1:{port}/page")
    address = f"http://127.0.0.1:{port}/status"

    def counters() -> Sequence[int]:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return (int(answer.read().split(b"\n")[2].split()[2]),)

    return Live(server.pid, f"throughput=rate:command:sh -c 'curl -s {address} | sed -n 3p'", counters, _rate)


def _postgresql(session: Session) -> Live:
    user = "postgres" if os.geteuid() == 0 else None
    home, port = session.private_folder(user), str(free_port())
    data = home / "data"
    session.finish("initdb", "-D", data, "-A", "trust", "-N", "-U", "postgres", user=user)
    options = ("-h", "127.0.0.1", "-k", home, "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB")
    server = session.spawn("postgres", "-D", data, "-p", port, *options, user=user)
    session.wait_for_port(int(port))
    where = ("-h", "127.0.0.1", "-p", port, "-U", "postgres")
    session.finish("pgbench", *where, "-i", "-q", "-s", "20", "postgres")
    log = session.folder / "progress"
    words = ("-T", "86400", "-P", "1", "--progress-timestamp", "-c", "4", "-S", "-M", "prepared", "postgres")
    line = " ".join(map(str, (find_program("pgbench"), *where, *words)))
    session.shell(f"exec {line} > /dev/null 2> {log}")
    _wait_for(log, session)
    row = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")

    def value(before: Reading, after: Reading) -> float:
        """Of as many whole seconds, those that began after the first reading: the last is waited for."""
        wanted = max(round(after[0] - before[0]), 1)
        for _ in range(200):
            offset = time.time() - time.monotonic()
            told = [(float(t) - offset, float(tps)) for t, tps in row.findall(log.read_text())]
            inside = [tps for (start, _), (_, tps) in pairwise(told) if start >= before[0]]
            if len(inside) >= wanted:
                return sum(inside[:wanted]) / wanted
            time.sleep(0.05)
        raise StartError("pgbench told nothing for ten seconds")

    metric = f"throughput=command:sh -c 'tail -n1 {log} | cut -d\" \" -f4'"
    return Live(server.pid, metric, lambda: (), value)


# --- a service beside work that can wait

_UNION = 4000
"""Members of the sets whose union is asked for."""


def _paced(
    session: Session, port: int, rate: int, question: str, answer: bytes
) -> tuple[str, Callable[[], Sequence[int]]]:
    histogram, p99 = session.folder / "histogram", session.folder / "p99"
    program = c_program(session.shared, "paced")
    session.spawn(program, str(port), str(rate), "8", question, str(len(answer)), histogram, p99)
    _wait_for(p99, session)
    with histogram.open("rb") as file:
        counted = mmap.mmap(file.fileno(), _BUCKETS * 8, prot=mmap.PROT_READ)
    return f"latency-p99=file:{p99}", lambda: struct.unpack(f"{_BUCKETS}Q", counted[:])


def percentile(counts: Sequence[int], share: float) -> float:
    """Return the value below which a share of what a histogram of ``paced`` counted lies, in microseconds."""
    wanted, so_far = share * sum(counts), 0
    for number, count in enumerate(counts):
        so_far += count
        if count and so_far >= wanted:
            return float(2 ** ((number + 0.5) / _STEPS))
    raise StartError("nothing was answered in a measurement")


def _p99(before: Reading, after: Reading) -> float:
    return percentile([new - old for old, new in zip(before[1], after[1], strict=True)], 0.99)


def _beside_stress(session: Session) -> Live:
    port = free_port()
    user = ["-u", "root"] if os.geteuid() == 0 else []
    server = session.spawn("memcached", "-l", "127.0.0.1", "-p", str(port), "-m", "64", "-t", "2", *user)
    session.wait_for_port(port)
    metric, counters = _paced(session, port, 2000, "get nothing", b"END\r\n")
    return Live(server.pid, metric, counters, _p99, {"stress-ng": _stress(session, workers=1)})


def _costly_beside_stress(session: Session) -> Live:
    server, port = _redis_server(session)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for key, first in product(("a", "b"), range(0, _UNION, 1000)):
            members = " ".join(f"{number * 7919 % 100_003} member:{number}" for number in range(first, first + 1000))
            connection.sendall(f"ZADD {key} {members}\r\n".encode())
            connection.recv(1 << 10)
    metric, counters = _paced(session, port, 100, "ZUNIONSTORE union 2 a b", f":{_UNION}\r\n".encode())
    return Live(server.pid, metric, counters, _p99, {"stress-ng": _stress(session, workers=4)})


def _stress(session: Session, *, workers: int) -> int:
    """Start so many that compute on each CPU."""
    count = str(workers * (os.cpu_count() or 1))
    options = ("--quiet", "--cpu", count, "--cpu-method", "matrixprod", "--timeout", "86400")
    return session.spawn("stress-ng", *options).pid


PROGRAMS: tuple[Program, ...] = (
    Program("random-access", "dependent look-ups at random in a table of 2 GiB", "look-ups/s", ("gcc",), _lookups, restart=True),
    Program("redis", "GET of 64 bytes, 50 clients of redis-benchmark", "requests/s", ("redis-server", "redis-benchmark"), _redis),
    Program(
        *("postgresql", "pgbench, look-ups by key, 4 clients, 300 MB", "transactions/s"),
        *(("initdb", "postgres", "pgbench"), _postgresql),
    ),
    Program("nginx", "a file of 1 KiB over 32 connections of wrk", "requests/s", ("nginx", "wrk", "curl"), _nginx),
    Program("pair", "two processes that hand a message to and fro through pipes", "round trips/s", ("gcc",), _pingpong),
    Program(
        *("beside-batch", "memcached asked 2,000 times a second beside stress-ng on both CPUs", "us, 99th percentile"),
        *(("gcc", "memcached", "stress-ng"), _beside_stress),
        kind=LATENCY,
        interval_s=2.0,
        longer=2.0,
    ),
    Program(
        "costly-beside-batch",
        "redis asked 100 times a second for a union of some 3 ms, beside four of stress-ng a CPU",
        "us, 99th percentile",
        ("gcc", "redis-server", "stress-ng"),
        _costly_beside_stress,
        kind=LATENCY,
        interval_s=2.0,
        longer=2.0,
    ),
)  # fmt: skip
