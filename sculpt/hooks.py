"""What alerts go to: a log of JSON lines, a command, a webhook. Each delivers one alert at a time, within a time of its own."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult

from hal.running import TIMED_OUT, run
from sculpt.alerts import CRITICAL, NOTICE, WARNING, Alert, alert_data
from sculpt.outlets import DeliveryError, Stop

if TYPE_CHECKING:
    from http.client import HTTPConnection

STDERR, SYSLOG = "stderr", "syslog"
SYSLOG_SOCKET = "/dev/log"
HEADER_VARIABLE = "DNA_ALERT_HEADER"
"""A header of the webhook, such as "Authorization: Bearer ...": the environment of a process is seen by its user and root alone."""
MOST_SAID = 2000
"""Characters of what a command says that are noted: the last ones."""
DELIVERY_SCHEMA = "workload-dna/alert-delivery/1"

_DAEMON = 3 << 3
_LEVELS = {CRITICAL: 2, WARNING: 4, NOTICE: 5}
"""Facility and severities of syslog (RFC 5424, section 6.2.1)."""


def _line(data: Mapping[str, object]) -> str:
    return json.dumps(data, ensure_ascii=True, allow_nan=False)


# --- log


@dataclass(slots=True)
class LogSink:
    """Writes each alert as a line of JSON, by a function that writes a line of a severity."""

    write: Callable[[str, str], None]
    host: str
    name: str = "log"

    def deliver(self, alert: Alert, _stop: Stop) -> str:
        """Write the alert."""
        self._write(alert_data(alert, self.host), alert.severity)
        return ""

    def note(self, sink: str, alert: Alert, outcome: Mapping[str, object]) -> None:
        """Write what came of delivering an alert elsewhere. What cannot be written is left out: the alert itself went out."""
        about = {"t": alert.t, "workload": alert.workload, "kind": alert.kind}
        with suppress(DeliveryError):
            self._write({"schema": DELIVERY_SCHEMA, "sink": sink, "alert": about, **outcome}, NOTICE)

    def _write(self, data: Mapping[str, object], severity: str) -> None:
        try:
            self.write(_line(data), severity)
        except OSError as error:
            raise DeliveryError(f"it cannot be written: {error.strerror or error}") from error


def to_file(path: str) -> Callable[[str, str], None]:
    """Return what writes lines to a file, opened anew for each, so that it may be rotated.

    Its calls raise OSError where that is not possible, or it is no plain file by now.
    """

    def write(line: str, _severity: str) -> None:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        )  # a pipe without a reader would hang
        descriptor = os.open(path, flags, 0o640)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file", path)
            data = line.encode() + b"\n"
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(descriptor)

    return write


def to_stderr(line: str, _severity: str) -> None:
    """Write a line to standard error."""
    try:
        print(line, file=sys.stderr, flush=True)
    except ValueError as error:  # closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from error


def to_syslog(path: str = SYSLOG_SOCKET) -> Callable[[str, str], None]:
    """Return what sends lines to the system's log, the journal where systemd is; connects for each, as that may restart."""

    def write(line: str, severity: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.settimeout(2.0)
            log.connect(path)
            log.send(f"<{_DAEMON | _LEVELS[severity]}>dna[{os.getpid()}]: {line}".encode())

    return write


# --- command


@dataclass(slots=True)
class CommandSink:
    """Runs a program for each alert, without a shell: the alert is on its standard input as JSON, and in DNA_ALERT_* variables.

    It ends when its time is over, with all that it started.
    """

    argv: Sequence[str]
    timeout_s: float
    host: str
    name: str = "command"

    def deliver(self, alert: Alert, stop: Stop) -> str:
        """Run it; return the last that it printed."""
        data = alert_data(alert, self.host)
        try:
            done = run(
                self.argv,
                timeout_s=self.timeout_s,
                given=_line(data).encode() + b"\n",
                environment=_environment(data),
                most_output=4 * MOST_SAID,
                cancel=stop.descriptor,
            )
        except OSError as error:
            raise DeliveryError(f"{self.argv[0]}: {error.strerror}") from error
        said = (done.stdout + done.stderr).strip()[-MOST_SAID:]
        if done.status == TIMED_OUT and stop.event.is_set():
            raise DeliveryError(f"{self.argv[0]} was ended: dna ends")
        if done.status != 0:
            raise DeliveryError(
                f"{self.argv[0]} ended with {done.status}: {said}"
                if said
                else f"{self.argv[0]} ended with {done.status}"
            )
        return said


def _environment(data: Mapping[str, object]) -> dict[str, str]:
    own = {f"DNA_ALERT_{name.upper()}": str(value).replace("\0", "") for name, value in data.items()}
    return {**{name: value for name, value in os.environ.items() if name != HEADER_VARIABLE}, **own}


# --- webhook

TRIES = 4
FIRST_WAIT_S = 1.0
MOST_WAIT_S = 60.0
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class _AgainError(Exception):
    """It may go better later."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(slots=True)
class WebhookSink:
    """Posts each alert as JSON, one at a time. What may pass is tried again, each time after twice as long.

    Certificates are verified; redirects are not followed, so that an alert and its headers go nowhere else. What is said of
    it names the host alone: addresses of webhooks are often secrets.
    """

    url: SplitResult
    headers: Mapping[str, str]
    timeout_s: float
    host: str
    first_wait_s: float = FIRST_WAIT_S
    name: str = "webhook"

    def deliver(self, alert: Alert, stop: Stop) -> str:
        """Post it."""
        body = _line(alert_data(alert, self.host)).encode()
        for attempt in range(TRIES):
            try:
                self._post(body, stop)
                return ""
            except _AgainError as error:
                wait_s = min(max(self.first_wait_s * 2**attempt, error.wait_s), MOST_WAIT_S)
                if attempt + 1 == TRIES or stop.event.wait(wait_s):
                    raise DeliveryError(f"{self.url.hostname} {error} ({attempt + 1} times)") from error
        raise AssertionError("the last try returns or raises")

    def _post(self, body: bytes, stop: Stop) -> None:
        from http.client import HTTPException

        connection = self._connection()
        try:
            with _cut_off(connection, self.timeout_s, stop):
                path = (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")
                headers = {"Content-Type": "application/json", "User-Agent": "workload-dna", "Connection": "close"}
                connection.request("POST", path, body, {**headers, **self.headers})
                answer = connection.getresponse()  # its status says all; nobody reads the rest
        except HTTPException as error:
            raise _AgainError(f"does not speak HTTP: {type(error).__name__}") from error
        except OSError as error:
            if is_unverified(error):
                raise DeliveryError(f"{self.url.hostname}: its certificate is not trusted: {error}") from error
            raise _AgainError(f"cannot be reached: {error.strerror or error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status in _TRY_AGAIN:
            raise _AgainError(f"answered {answer.status}", _seconds(answer.getheader("Retry-After")))
        if not 200 <= answer.status < 300:
            raise DeliveryError(f"{self.url.hostname} answered {answer.status}")

    def _connection(self) -> HTTPConnection:
        import http.client
        import ssl

        where, port = self.url.hostname or "", self.url.port
        if self.url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(where, port, timeout=self.timeout_s, context=context)
        return http.client.HTTPConnection(where, port, timeout=self.timeout_s)


@contextmanager
def _cut_off(connection: HTTPConnection, timeout_s: float, stop: Stop) -> Iterator[None]:
    """End what is done with a connection after a time, or when it is time to stop, however slowly the other side goes on answering."""
    done, until = threading.Event(), time.monotonic() + timeout_s

    def watch() -> None:
        while not done.wait(0.1):
            if connection.sock is not None and (time.monotonic() > until or stop.event.is_set()):
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    watcher = threading.Thread(target=watch, name="alerts-webhook-time", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def is_unverified(error: OSError) -> bool:
    """Tell whether a connection failed because the other side is not who it should be."""
    import ssl

    return isinstance(error, ssl.SSLCertVerificationError)


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() else 0.0
