"""Load for memcached, in its text protocol. Arguments: port, ``get`` or ``set``, connections."""

from __future__ import annotations

import random
import select
import socket
import sys

port, kind, connections = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
draw = random.Random(1)
size = 100 if kind == "get" else 32768
value = b"v" * size


def connect() -> socket.socket:
    """Return a connection without Nagle's delay."""
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def stored(number: int) -> bytes:
    """Return the request that stores a key."""
    return b"set key%d 0 0 %d\r\n%s\r\n" % (number, size, value)


keys = 5000 if kind == "get" else 1000
first = connect()
for number in range(keys):
    first.sendall(stored(number))
    first.recv(64)

requests = [stored(n) if kind == "set" else b"get key%d\r\n" % n for n in range(keys)]
peers = [connect() for _ in range(connections)]
poll = select.epoll()
by_number = {peer.fileno(): peer for peer in peers}
for peer in peers:
    poll.register(peer, select.EPOLLIN)
    peer.sendall(requests[draw.randrange(keys)])
while True:
    for number, _ in poll.poll():
        peer = by_number[number]
        if not peer.recv(65536):
            sys.exit(0)
        peer.sendall(requests[draw.randrange(keys)])
