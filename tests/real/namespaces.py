"""Network namespaces for tests: a thread that lives in one of its own, with a ``/sys`` that shows it.

Nothing of the machine's own network can be touched from there. A namespace goes when its thread ends; what is virtual in it goes
too, and what is a device comes back to the first namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_REC_PRIVATE = (1 << 14) | (1 << 18)
_LINES = b"one line there and back\n" * 5000


class Namespace:
    """One network namespace."""

    def __init__(self, work: ThreadPoolExecutor, thread: int) -> None:
        self._work = work
        self.thread = thread
        """Id of the thread, by which ``ip link set NAME netns ID`` finds it."""

    def run[T](self, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call something inside, and return what it returns or raise what it raises."""
        return self._work.submit(work, *arguments, **options).result()

    def command(self, line: str) -> str:
        """Run a command inside and return what it prints."""
        return self.run(_output, shlex.split(line))

    def ip(self, line: str) -> list[dict[str, Any]]:
        """Return what ``ip -j`` says inside."""
        return list(json.loads(self.command(f"ip -j -d {line}") or "[]"))

    def address(self, nic: str, address: str) -> None:
        """Give an interface an address and switch it on."""
        self.command(f"ip address add {address} dev {nic}")
        self.command(f"ip link set {nic} up")

    def take(self, nic: str, other: Namespace) -> None:
        """Take an interface from another namespace."""
        other.command(f"ip link set {nic} netns {self.thread}")


def _output(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def _enter() -> int:
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    for source, target, kind, flags in ((b"none", b"/", None, _REC_PRIVATE), (b"sysfs", b"/sys", b"sysfs", 0)):
        if _LIBC.mount(source, target, kind, flags, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return threading.get_native_id()


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a network namespace; the test is skipped where that is not allowed or there is no ``ip`` to look at it with."""
    with ThreadPoolExecutor(1) as work:
        try:
            thread = work.submit(_enter).result()
        except OSError as error:
            pytest.skip(f"no network namespace can be made: {error}; run it as root, outside a container")
        one = Namespace(work, thread)
        try:
            one.command("ip link set lo up")
        except FileNotFoundError:
            pytest.skip("there is no ip command: apt install iproute2")
        yield one


def talk(here: Namespace, there: Namespace, address: str) -> int:
    """Send lines from one namespace to a server at an address of the other and back; return how many bytes came back."""
    with there.run(socket.create_server, (address, 0)) as server:
        answering = threading.Thread(target=_answer, args=(server,))
        answering.start()
        try:
            with here.run(socket.create_connection, (address, server.getsockname()[1]), timeout=30) as line:
                sending = threading.Thread(target=line.sendall, args=(_LINES,))
                sending.start()
                came = _read(line, len(_LINES))
                sending.join()
        finally:
            server.close()
            answering.join()
    assert came == _LINES
    return len(came)


def _answer(server: socket.socket) -> None:
    server.settimeout(30)
    try:
        line, _ = server.accept()
    except OSError:
        return
    with line:
        line.settimeout(30)
        while data := line.recv(65536):
            line.sendall(data)


def _read(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := line.recv(size - len(data))):
        data += more
    return data
