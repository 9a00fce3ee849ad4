"""Messages through sockets, connections and peers, against what the program was told to send."""

from __future__ import annotations

from typing import Any

import pytest

from dna.probes.net import NetProbe, SampledNetProbe
from dna.probes.syscalls import SyscallProbe
from dna.sample import BUCKETS, NetReading
from dna.target import Target
from tests.real.watching import Watch, actor, bpf_marks

pytestmark = bpf_marks()

_SERVER = """
import socket
def listen(family, address):
    global server
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind((address, 0)); server.listen()
    open('/proc/self/comm', 'w').write(str(server.getsockname()[1]))
def serve(n, size, answer):
    for _ in range(n):
        got = 0
        while got < size: got += len(peer.recv(size - got))
        peer.sendall(b'y' * answer)
"""


def port_of(pid: int) -> int:
    with open(f"/proc/{pid}/comm") as comm:
        return int(comm.read())


def buckets(counts: Any) -> dict[int, int]:
    return {index: int(counts[index]) for index in range(BUCKETS) if counts[index]}


def needs_socket_tracepoints(watch: Watch) -> None:
    assert watch.programs is not None


@pytest.mark.parametrize(("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
def test_tcp_over_loopback(family: str, address: str) -> None:
    with actor() as server, actor() as client:
        server(_SERVER)
        server(f"listen(socket.{family}, {address!r})")
        port = port_of(server.pid)
        with (
            Watch(Target.pid(client.pid), NetProbe) as client_watch,
            Watch(Target.pid(server.pid), NetProbe) as server_watch,
        ):
            client(f"import socket; c = socket.socket(socket.{family}); c.connect(({address!r}, {port}))")
            server("peer, _ = server.accept()")
            opened: NetReading = client_watch.read()
            accepted: NetReading = server_watch.read()
            server.begin("serve(200, 1000, 30)")
            client("for _ in range(200):\n c.sendall(b'x' * 1000)\n got = 0\n while got < 30: got += len(c.recv(30))")
            server.end()
            sent: NetReading = client_watch.read()
            served: NetReading = server_watch.read()
    assert (opened.connects, opened.accepts, opened.connections) == (1, 0, 1)
    assert (accepted.connects, accepted.accepts, accepted.connections) == (0, 1, 1)
    assert (sent.sent_bytes, sent.received_bytes) == (200_000, 6000)
    assert (served.received_bytes, served.sent_bytes) == (200_000, 6000)
    assert (sent.sent, sent.received, served.sent) == (200, 200, 200)
    assert buckets(sent.sent_sizes) == {9: 200}
    assert buckets(sent.received_sizes) == {4: 200}
    assert sent.loopback_bytes == served.loopback_bytes == 206_000
    assert sent.unix_bytes == 0
    assert [(peer.pid, peer.connections, peer.port) for peer in sent.peers] == [(server.pid, 1, port)]
    assert [(peer.pid, peer.port) for peer in served.peers] == [(client.pid, port)]


def test_ipv4_through_ipv6_sockets_is_loopback() -> None:
    with actor() as server, actor() as client:
        server(_SERVER)
        server("listen(socket.AF_INET, '127.0.0.1')")
        with Watch(Target.pid(client.pid), NetProbe) as watch:
            client(
                "import socket; c = socket.socket(socket.AF_INET6)\n"
                f"c.connect(('::ffff:127.0.0.1', {port_of(server.pid)})); c.sendall(b'x' * 77)"
            )
            server("peer, _ = server.accept()")
            reading: NetReading = watch.read()
    assert (reading.sent_bytes, reading.loopback_bytes, reading.connections) == (77, 77, 1)
    assert [peer.pid for peer in reading.peers] == [server.pid]


@pytest.mark.parametrize(
    ("make", "loopback", "unix"),
    [
        ("a, b = socket.socketpair()", 0, 1),
        ("a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", 0, 1),
        (
            "a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "a.bind(('127.0.0.1', 0)); b.bind(('127.0.0.1', 0)); a.connect(b.getsockname()); b.connect(a.getsockname())",
            1,
            0,
        ),
        (
            "a = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); b = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
            "a.bind(('::1', 0)); b.bind(('::1', 0)); a.connect(b.getsockname()); b.connect(a.getsockname())",
            1,
            0,
        ),
    ],
    ids=["unix stream", "unix datagram", "udp", "udp v6"],
)
@pytest.mark.parametrize(
    ("send", "receive"),
    [("os.write(a.fileno(), data)", "os.read(b.fileno(), 9000)"), ("a.send(data)", "b.recv(9000)")],
    ids=["read and write", "send and recv"],
)
def test_messages_of_every_family(make: str, loopback: int, unix: int, send: str, receive: str) -> None:
    with actor() as one, Watch(Target.pid(one.pid), NetProbe) as watch:
        one(f"import socket; data = b'x' * 300\n{make}")
        watch.read()
        one(f"for _ in range(150):\n {send}\n {receive}")
        reading: NetReading = watch.read()
    assert (reading.sent, reading.received) == (150, 150)
    assert (reading.sent_bytes, reading.received_bytes) == (45000, 45000)
    assert buckets(reading.sent_sizes) == buckets(reading.received_sizes) == {8: 150}
    assert (reading.loopback_bytes, reading.unix_bytes) == (90000 * loopback, 90000 * unix)


def test_what_is_only_looked_at_is_not_received() -> None:
    with actor() as one, Watch(Target.pid(one.pid), NetProbe) as watch:
        one("import socket; a, b = socket.socketpair()")
        watch.read()
        one("a.send(b'x' * 10); [b.recv(10, socket.MSG_PEEK) for _ in range(5)]; b.recv(10)")
        reading: NetReading = watch.read()
    assert (reading.received, reading.received_bytes) == (1, 10)


def test_talk_with_the_kernel_is_no_network() -> None:
    with actor() as one, Watch(Target.pid(one.pid), NetProbe) as watch:
        one("import socket, struct; n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); n.bind((0, 0))")
        watch.read()
        one("n.send(struct.pack('IHHII16s', 32, 18, 0x301, 1, 0, b'')); data = n.recv(65536); assert len(data) > 32")
        reading: NetReading = watch.read()
    assert (reading.sent, reading.received, reading.sent_bytes) == (0, 0, 0)


def test_failed_and_empty_messages_do_not_count() -> None:
    with actor() as one, Watch(Target.pid(one.pid), NetProbe) as watch:
        one("import socket; a, b = socket.socketpair(); b.setblocking(False)")
        watch.read()
        one("for _ in range(5):\n try: b.recv(10)\n except BlockingIOError: pass\na.close(); assert b.recv(10) == b''")
        reading: NetReading = watch.read()
    assert (reading.sent, reading.received) == (0, 0)


def test_sampled_calls_agree_with_the_socket_layer() -> None:
    with actor() as one, Watch(Target.pid(one.pid), NetProbe, SampledNetProbe, SyscallProbe) as watch:
        one("import socket; a, b = socket.socketpair(); z = os.open('/dev/zero', 0)")
        work = "for _ in range(4000): a.send(b'x' * 500); b.recv(9000); os.read(z, 10)"
        for _ in range(2):
            one(work)
            exact, sampled, calls = (reading.value for reading in watch.readings())
    assert exact.sent_bytes == 2_000_000
    windows = 12000 / calls.sample_every / 8
    assert sampled.sent_bytes == pytest.approx(2_000_000, rel=0.05)  # all writes but one are on the socket
    assert sampled.received_bytes == pytest.approx(2_000_000, rel=1.5 / windows**0.5)
    assert sampled.loopback_bytes is None
