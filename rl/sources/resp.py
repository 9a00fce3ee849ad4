"""Redis's protocol (RESP2), as far as asking a server for its statistics takes it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from rl.measured import Problem
from rl.sources.found import SourceError

type Reply = str | int | list[Reply] | None

PASSWORD = "REDISCLI_AUTH"
"""Variable of the environment that redis-cli takes the password from, too."""
MOST_BYTES = 1 << 24
MOST_PARTS = 1 << 16
_DEPTH = 8


class ServerError(Exception):
    """The server answered with an error; its text says which."""


class Connection:
    """One connection, made when it is first needed and again after it broke.

    Args:
        address: (host, port), or the path of a Unix socket.
    """

    def __init__(self, address: tuple[str, int] | str, *, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._buffer = b""
        self.sent = 0
        """Commands sent so far: the server counts them with all others."""

    def ask(self, *words: str) -> Reply:
        """Send one command and return the answer.

        Raises:
            ServerError: the answer is an error.
            SourceError: the answer is no answer of Redis.
            OSError: the server is not there, or went away.
        """
        if self._socket is None:
            self._connect()
        try:
            self._send(words)
            return self._reply()
        except ServerError:
            raise
        except BaseException:
            self.close()  # what is left of the answer would be taken for the next one
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket, self._buffer = None, b""

    def _connect(self) -> None:
        if isinstance(self._address, str):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(self._address)
        else:
            self._socket = socket.create_connection(self._address, timeout=self._timeout_s)
        if password := os.environ.get(PASSWORD):
            try:
                self.ask("AUTH", password)
            except ServerError as error:
                raise SourceError(Problem.REFUSED, f"the server takes no password of {PASSWORD}: {error}") from error

    def _send(self, words: Sequence[str]) -> None:
        assert self._socket is not None
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)]
        self._socket.sendall(b"".join(parts))
        self.sent += 1

    def _reply(self, depth: int = 0) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:].decode("utf-8", "replace")
        match kind:
            case b"+":
                return rest
            case b"-":
                raise ServerError(rest)
            case b":":
                return self._number(rest)
            case b"$":
                size = self._number(rest)
                return None if size < 0 else self._take(size + 2)[:-2].decode("utf-8", "replace")
            case b"*" if depth < _DEPTH:
                return [self._reply(depth + 1) for _ in range(min(max(self._number(rest), 0), MOST_PARTS))]
        raise SourceError(Problem.REFUSED, "the answer is not Redis's")

    def _number(self, text: str) -> int:
        try:
            return int(text)
        except ValueError as error:
            raise SourceError(Problem.REFUSED, "the answer is not Redis's") from error

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _more(self) -> None:
        assert self._socket is not None
        if len(self._buffer) > MOST_BYTES:
            raise SourceError(Problem.REFUSED, "an answer of more than 16 MiB is not Redis's")
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += data
