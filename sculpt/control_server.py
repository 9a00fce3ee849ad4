"""A run's socket: who may asks how it stands, pauses, resumes or ends it.

Requests and answers are JSON objects, one a line, each with the version of this protocol::

    {"version": 1, "do": "status"}              {"version": 1, "ok": true, "status": {...}}
    {"version": 1, "do": "pause", "for_s": 60}  the same, after it was done
    {"version": 1, "do": "resume"}
    {"version": 1, "do": "stop", "on_exit": "keep"}      "restore", or left out: as the run was told
    anything else                               {"version": 1, "ok": false, "error": "why"}

Who asked to stop is told once more when the run is over: ``{"version": 1, "ok": true, "status": {..., "ended": {...}}}``; then the
connection ends. Only this user and root are answered. One thread serves all; whoever hangs, sends too much or does not read is
dropped, and where too many are there, the one that has been quiet for longest.
"""

from __future__ import annotations

import errno
import json
import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from sculpt.control import KEEP, RESTORE, Control
from sculpt.errors import ControlError
from sculpt.sockets import listening, make_folder, peer_of, remove_stale

VERSION = 1
MOST_REQUEST = 4096
"""Bytes of one request."""
MOST_CONNECTIONS = 16
PATIENCE_S = 10.0
"""A connection on which nothing moves for so long is dropped, unless it waits for the end of the run."""
LONGEST_PAUSE_S = 30 * 86_400.0
_PARTING_S = 0.5


@dataclass(slots=True, eq=False)
class _Connection:
    """One who asks."""

    socket: socket.socket
    moved: float
    """When something last moved on it."""
    incoming: bytes = b""
    outgoing: bytes = b""
    waits: bool = False
    """For the end of the run."""
    is_last: bool = False
    """It asks no more: what is to be told it is all."""


@dataclass(slots=True)
class ControlServer:
    """Serves a control on a socket, from the beginning of the run to the end of the context.

    Where the socket cannot be made ``warn`` is told why, once, and the run goes on without.

    Args:
        place: the socket's path; None for no socket.
    """

    control: Control
    place: Path | None
    warn: Callable[[str], None]
    patience_s: float = PATIENCE_S
    _listener: socket.socket | None = None
    _thread: threading.Thread | None = None
    _made: Path | None = None
    """The folder, where it is to go at the end if nothing is in it."""
    _connections: dict[int, _Connection] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _waker: socket.socket | None = None
    _woken: socket.socket | None = None

    def __enter__(self) -> ControlServer:
        if self.place is not None:
            self.control.when_begun(self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._waker is not None:
            self._waker.close()  # the other end is readable from now on
        if self._thread is not None:
            self._thread.join()
        for one in (self._listener, self._woken):
            if one is not None:
                one.close()
        self._selector.close()
        if self._listener is not None and self.place is not None:
            with suppress(OSError):
                self.place.unlink()
        self._unmake()

    def _begin(self) -> None:
        """Listen, and serve; only now: a command that is launched must be forked before there is another thread."""
        assert self.place is not None
        try:
            self._listener = self._listening(self.place)
        except (OSError, ControlError) as error:
            self.warn(f"no control socket, so `dna sculpt status` does not see this run: {_words(error)}")
            self._unmake()
            return
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def _listening(self, place: Path, *, tries: int = 3) -> socket.socket:
        """Make folder and socket; once more where another run that has just ended took the folder away."""
        self._made = make_folder(place.parent)
        remove_stale(place.parent)
        try:
            return listening(place)
        except FileNotFoundError:
            if tries <= 1:
                raise
            return self._listening(place, tries=tries - 1)

    def _unmake(self) -> None:
        if self._made is not None:
            with suppress(OSError):  # another run may have its socket there by now
                self._made.rmdir()

    # --- the thread

    def _serve(self) -> None:
        assert self._listener is not None
        assert self._woken is not None
        self._selector.register(self._listener, selectors.EVENT_READ, self._accepted)
        self._selector.register(self._woken, selectors.EVENT_READ)
        try:
            while all(key.data is not None and self._dispatch(key, events) for key, events in self._ready()):
                self._drop_idle()
        except Exception as error:  # the loop must go on whatever happens here
            self.warn(f"the control socket is closed: {error!r}")
        finally:
            self._part()

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what can be read or written; at least often enough to drop who hangs."""
        may_hang = any(not one.waits or one.outgoing for one in self._connections.values())
        return self._selector.select(self.patience_s / 4 if may_hang else None)

    def _dispatch(self, key: selectors.SelectorKey, events: int) -> bool:
        connection = self._accepted() if key.data == self._accepted else key.data
        if connection is None or connection.socket.fileno() < 0:  # nobody, or dropped a moment ago
            return True
        try:
            if events & selectors.EVENT_READ and key.data is connection:
                self._read(connection)
            self._go_on(connection)
        except OSError:
            self._drop(connection)
        return True

    def _accepted(self) -> _Connection | None:
        assert self._listener is not None
        try:
            found, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                time.sleep(0.1)  # it stays readable: without a rest this would be a busy loop
            return None
        found.setblocking(False)
        connection = _Connection(found, time.monotonic())
        self._connections[found.fileno()] = connection
        self._selector.register(found, selectors.EVENT_READ, connection)
        if (user := peer_of(found)[1]) not in (os.geteuid(), 0):
            connection.outgoing, connection.is_last = _line(_no(f"user {user} may not ask this run")), True
        elif len(self._connections) > MOST_CONNECTIONS:
            self._drop(min(self._connections.values(), key=lambda one: (one.waits, one.moved)))
        return connection

    def _read(self, connection: _Connection) -> None:
        chunk = connection.socket.recv(MOST_REQUEST)
        connection.moved = time.monotonic()
        connection.incoming += chunk
        connection.is_last = connection.is_last or not chunk

    def _go_on(self, connection: _Connection) -> None:
        """Write what is to be written, and only then take the next request: what is kept for a connection is bounded by that."""
        while self._write(connection) and b"\n" in connection.incoming:
            line, _, connection.incoming = connection.incoming.partition(b"\n")
            self._take(connection, line)
        if not connection.outgoing and len(connection.incoming) > MOST_REQUEST:
            connection.incoming, connection.is_last = b"", True
            connection.outgoing = _line(_no(f"a request of more than {MOST_REQUEST} bytes"))
            self._write(connection)
        if connection.is_last and not connection.outgoing:
            self._drop(connection)
            return
        wanted = selectors.EVENT_WRITE if connection.outgoing else selectors.EVENT_READ
        self._selector.modify(connection.socket, wanted, connection)

    def _write(self, connection: _Connection) -> bool:
        """Write what can be written; tell whether that was all."""
        with suppress(BlockingIOError):
            while connection.outgoing:
                sent = connection.socket.send(connection.outgoing)
                connection.moved = time.monotonic()
                connection.outgoing = connection.outgoing[sent:]
        return not connection.outgoing

    def _take(self, connection: _Connection, line: bytes) -> None:
        try:
            request = _request(line)
            _do(self.control, request)
        except ControlError as error:
            connection.outgoing = _line(_no(str(error)))
            return
        connection.waits = connection.waits or request["do"] == "stop"
        connection.outgoing = _line({"ok": True, "status": self.control.status()})

    def _drop_idle(self) -> None:
        now = time.monotonic()
        for one in list(self._connections.values()):
            if now - one.moved > self.patience_s and (not one.waits or one.outgoing):
                self._drop(one)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _part(self) -> None:
        """Tell who waits for the end how it ended."""
        ending = _line({"ok": True, "status": self.control.status()})
        for one in list(self._connections.values()):
            if one.waits:
                with suppress(OSError):
                    one.socket.settimeout(_PARTING_S)
                    one.socket.sendall(one.outgoing + ending)
            self._drop(one)


def _line(data: dict[str, object]) -> bytes:
    return json.dumps({"version": VERSION, **data}).encode() + b"\n"


def _no(error: str) -> dict[str, object]:
    return {"ok": False, "error": error}


def _words(error: OSError | ControlError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the socket'}: {error.strerror or error}"
    return str(error)


# --- requests


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError("a request is one JSON object on one line") from error
    if not isinstance(request, dict):
        raise ControlError("a request is one JSON object on one line")
    if request.get("version") != VERSION:
        raise ControlError(f"this run speaks version {VERSION}, not {request.get('version')!r}")
    return request


def _do(control: Control, request: dict[str, Any]) -> None:
    match request.get("do"):
        case "status":
            pass
        case "pause":
            control.pause(_seconds(request.get("for_s")))
        case "resume":
            control.resume()
        case "stop":
            if request.get("on_exit", "") not in ("", KEEP, RESTORE):
                raise ControlError(f"on_exit is {KEEP} or {RESTORE}, not {request['on_exit']!r}")
            control.stop(request.get("on_exit", ""))
        case other:
            raise ControlError(f"there is no {other!r}: status, pause, resume or stop")


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= LONGEST_PAUSE_S:  # type: ignore[arg-type, operator]
        raise ControlError(f"for_s is a number of seconds up to {LONGEST_PAUSE_S:g}, not {value!r}")
    return float(value)  # type: ignore[arg-type]
