"""Where alerts go and which: a table of settings, read strictly, and opened.

::

    [alerts]
    log = "/var/log/workload-dna/alerts.jsonl"    # or "stderr", or "syslog"
    command = ["/usr/local/bin/page", "--team", "db"]
    webhook = "https://alerts.example.org/dna"
    header_file = "/etc/workload-dna/header"      # a line such as "Authorization: Bearer ...", which others must not be able to read
    at_least = "warning"                          # or "notice", which is all, or "critical"
    kinds = ["lost", "collapse", "trouble"]       # all when it is not given
    collapse = 0.5                                # share of the usual reward below which a fall is a collapse
    timeout_s = 10                                # for one run of the command, and one try of the webhook
    prometheus = "127.0.0.1:9464"                 # where to answer with metrics
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

from sculpt.alerts import KINDS, NOTICE, SEVERITIES, Alert
from sculpt.errors import AlertSettingsError, SculptError
from sculpt.hooks import (
    HEADER_VARIABLE,
    STDERR,
    SYSLOG,
    SYSLOG_SOCKET,
    CommandSink,
    LogSink,
    WebhookSink,
    to_file,
    to_stderr,
    to_syslog,
)
from sculpt.outlets import Outlet
from sculpt.toml_file import choice_of, number_of, refuse_unknown, text_of, words_of

LOOPBACK = "127.0.0.1"
_PLAIN = re.compile(r"[!-~]+")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*)")
"""RFC 9110, sections 5.1 and 5.5: a token, and visible ASCII."""
_NAMES = ("log", "command", "webhook", "header_file", "at_least", "kinds", "collapse", "timeout_s", "prometheus")


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Where alerts go, and which; nowhere unless said."""

    log: str = ""
    """A file, STDERR or SYSLOG."""
    command: tuple[str, ...] = ()
    webhook: str = ""
    header_file: str = ""
    at_least: str = NOTICE
    kinds: tuple[str, ...] = tuple(KINDS)
    collapse: float = 0.5
    timeout_s: float = 10.0
    prometheus: str = ""
    """``[HOST:]PORT``; this machine alone without a host."""

    def takes(self, alert: Alert) -> bool:
        """Tell whether an alert is of a kind and severity that is wanted."""
        return alert.kind in self.kinds and SEVERITIES.index(alert.severity) >= SEVERITIES.index(self.at_least)


def settings_of(table: Mapping[str, Any]) -> AlertSettings:
    """Return the settings that a table says.

    Raises:
        AlertSettingsError: a name or value makes no sense.
    """
    try:
        return checked(_read(table))
    except SculptError as error:
        raise AlertSettingsError(f"[alerts]: {error}", remedy=error.remedy) from error


def _read(table: Mapping[str, Any]) -> AlertSettings:
    refuse_unknown("", table, _NAMES)
    port = table.get("prometheus")
    if isinstance(port, int) and not isinstance(port, bool):
        table = {**table, "prometheus": str(port)}
    for name in ("command", "kinds"):
        if name in table and not words_of(table, name):
            raise AlertSettingsError(f"{name} is empty", remedy=f'{name} = ["...", "..."]')
    return AlertSettings(
        log=text_of(table, "log"),
        command=words_of(table, "command"),
        webhook=text_of(table, "webhook"),
        header_file=text_of(table, "header_file"),
        at_least=choice_of(table, "at_least", NOTICE, SEVERITIES),
        kinds=words_of(table, "kinds", tuple(KINDS)),
        collapse=number_of(table, "collapse", 0.5, least=0.01, most=0.99),
        timeout_s=number_of(table, "timeout_s", 10.0, least=0.1, most=600.0),
        prometheus=text_of(table, "prometheus"),
    )


def with_options(
    settings: AlertSettings,
    *,
    log: str | None = None,
    command: Sequence[str] | None = None,
    webhook: str | None = None,
    prometheus: str | None = None,
) -> AlertSettings:
    """Return settings with those of the command line, which count before.

    Raises:
        AlertSettingsError: one makes no sense.
    """
    if log and log not in (STDERR, SYSLOG):
        log = os.path.abspath(log)
    given = {"log": log, "command": tuple(command) if command else None, "webhook": webhook, "prometheus": prometheus}
    return checked(replace(settings, **cast(Any, {name: value for name, value in given.items() if value is not None})))


def checked(settings: AlertSettings) -> AlertSettings:
    """Return settings that make sense together; AlertSettingsError for others."""
    if unknown := [kind for kind in settings.kinds if kind not in KINDS]:
        raise AlertSettingsError(f"kinds: there is no {unknown[0]!r}", remedy=f"Of: {', '.join(KINDS)}.")
    if settings.log not in ("", STDERR, SYSLOG) and not settings.log.startswith("/"):
        raise AlertSettingsError(
            f"log: {settings.log!r} is no absolute path", remedy=f"Give one, or {STDERR}, or {SYSLOG}."
        )
    if settings.webhook:
        url_of(settings.webhook)
    if settings.prometheus:
        address_of(settings.prometheus)
    return settings


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``; this machine alone is reached where no host is said. Port 0 is any free one.

    Raises:
        AlertSettingsError: it is no such thing.
    """
    host, colon, port = text.rpartition(":")
    if colon and not host:
        raise AlertSettingsError(
            f"prometheus: {text!r} does not say whom to answer",
            remedy=f"Give {port} to answer this machine alone, 0.0.0.0:{port} to answer all who can reach it.",
        )
    is_number = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        is_number = False
    if not is_number or not (not host or _PLAIN.fullmatch(host)):
        raise AlertSettingsError(
            f"prometheus: {text!r} is no [HOST:]PORT", remedy="Give such as 9464, or 192.0.2.1:9464, or [::1]:9464."
        )
    return host or LOOPBACK, int(port)


def url_of(text: str) -> SplitResult:
    """Return the address of a webhook.

    Raises:
        AlertSettingsError: it is none, or has a password in it.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise AlertSettingsError("webhook: it is no URL", remedy="Give one such as https://host/path.") from error
    if url.username is not None or url.password is not None:
        raise AlertSettingsError(
            "webhook: a password in an address is seen by all users",
            remedy=f"Give a header in header_file, or in the variable {HEADER_VARIABLE}.",
        )
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not _PLAIN.fullmatch(text):
        raise AlertSettingsError("webhook: it is no URL of http or https", remedy="Give one such as https://host/path.")
    return url


# --- opening


def open_outlets(settings: AlertSettings) -> list[Outlet]:
    """Return the outlets, the log first; each has begun to work.

    Raises:
        AlertSettingsError: what is named is not there, or not fit.
    """
    host = socket.gethostname()
    log = LogSink(_writer(settings.log), host) if settings.log else None
    sinks: list[CommandSink | WebhookSink] = []
    if settings.command:
        sinks.append(CommandSink(_program(settings.command), settings.timeout_s, host))
    if settings.webhook:
        sinks.append(WebhookSink(url_of(settings.webhook), headers(settings), settings.timeout_s, host))
    if log is None:
        return [Outlet(sink) for sink in sinks]
    return [Outlet(log), *(Outlet(sink, note=log.note) for sink in sinks)]


def _writer(log: str) -> Any:
    if log == STDERR:
        return to_stderr
    if log == SYSLOG:
        if not os.path.exists(SYSLOG_SOCKET):
            raise AlertSettingsError(f"log: there is no {SYSLOG_SOCKET} here", remedy="Give a file, or stderr.")
        return to_syslog()
    path = Path(log)
    if path.exists() and not path.is_file():
        raise AlertSettingsError(f"log: {log} is no plain file", remedy="Give one that is, or that is not there yet.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise AlertSettingsError(f"log: {log} cannot be written", remedy=f"Does {path.parent} exist, and is it yours?")
    return to_file(log)


def _program(argv: Sequence[str]) -> list[str]:
    """Return the command with its program's absolute path; the folder may be another when it runs."""
    found = shutil.which(argv[0])
    if found is None:
        raise AlertSettingsError(f"command: there is no program {argv[0]}", remedy="Give its path; there is no shell.")
    path = os.path.abspath(found)
    if os.geteuid() == 0 and _others_can_write(os.stat(path)):
        raise AlertSettingsError(
            f"command: others can write {path}, which root would run", remedy=f"chown root {path}; chmod go-w {path}"
        )
    return [path, *argv[1:]]


def _others_can_write(found: os.stat_result) -> bool:
    return found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def headers(settings: AlertSettings) -> dict[str, str]:
    """Return the headers that the webhook is to have: of the file, and of the environment.

    Raises:
        AlertSettingsError: the file cannot be read, others can read it, or something is no header.
    """
    lines = _lines(settings.header_file) if settings.header_file else []
    if from_environment := os.environ.get(HEADER_VARIABLE):
        lines.append(from_environment)
    return dict(_header(line) for line in lines)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise AlertSettingsError(f"header_file: others can get at {path}", remedy=f"chmod o=,g-w {path}")
            text = file.read(1 << 16)
    except UnicodeDecodeError as error:
        raise AlertSettingsError(f"header_file: {path} is not ASCII") from error
    except OSError as error:
        raise AlertSettingsError(f"header_file: {path} cannot be read: {error.strerror}") from error
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _header(line: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(line.strip())
    if match is None:  # not shown: it may be a secret
        raise AlertSettingsError(
            "webhook: there is a header that is none", remedy='Write it as "Authorization: Bearer ...".'
        )
    return match[1], match[2]
