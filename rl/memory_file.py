"""The memory's file: opened whatever state it is in, set aside where it is damaged, and what SQLite says of it in words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rl.errors import LearnedDamagedError, LearnedDeniedError, LearnedError
from rl.memory_schema import APPLICATION_ID, STEPS, upgrade, version_of

_ELSEWHERE = "use another with DNA_LEARNED=FILE, or run with --no-memory"
_PARTS = ("", "-wal", "-shm")
"""Of the database, by what its files' names end in."""


def is_missing(place: Path) -> bool:
    """Tell whether there is no file; not being allowed to look is not the same."""
    with translate(place, "open"):
        try:
            place.lstat()
        except FileNotFoundError:
            return True
    return False


def connect(place: Path, timeout_s: float) -> tuple[sqlite3.Connection, bool]:
    """Open and prepare the file, making it where there is none; also tell whether it can be written.

    SQLite does not wait where several processes make one file at once, so this does.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        with translate(place, "open"):
            connection, is_writable = _connect(place, timeout_s)
        try:
            with translate(place, "open"):
                _prepare(connection, place)
        except BaseException as error:
            connection.close()
            if not isinstance(error, _BusyError) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return connection, is_writable


def set_aside(place: Path) -> Path | None:
    """Rename a damaged file, with its log, and return what it is called now; None where it is damaged no longer.

    Another process may have done so already, and made a new one: that one must stay.

    Raises:
        LearnedError: it cannot be renamed.
    """
    with translate(place, "set aside"), _only_one(place.parent):
        if not is_damaged(place):
            return None
        name = f"{place}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        for part in _PARTS:
            path = Path(f"{place}{part}")
            if path.exists():
                path.rename(f"{name}{part}")
    return Path(name)


def is_damaged(place: Path) -> bool:
    """Read the whole file, and tell whether any of it is damaged."""
    if is_missing(place):
        return False
    try:
        connection, _ = connect(place, 1.0)
        with closing(connection), translate(place, "read"):
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except LearnedDamagedError:
        return True


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(place: Path, timeout_s: float) -> tuple[sqlite3.Connection, bool]:
    try:
        _make(place)
        is_writable = os.access(place, os.W_OK) and os.access(place.parent, os.W_OK)
    except OSError:
        if not place.exists():
            raise
        is_writable = False
    mode = "rw"
    if not is_writable:
        # SQLite needs the directory to read a write-ahead log; what nobody is writing can be read without.
        log = Path(f"{place}-wal")
        mode = "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"
    uri = f"{place.absolute().as_uri()}?mode={mode}"
    found = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    return found, is_writable


def _make(place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # SQLite gives its log and index files the mode of the database file.
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def _prepare(connection: sqlite3.Connection, place: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    version = version_of(connection)
    # In this order: another process may be making the file, tables and id in one transaction, between the two.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise LearnedError(f"{place} is a database of another program", remedy=f"Or {_ELSEWHERE}.")
    if version > len(STEPS):
        message = f"{place} has schema {version}; this version of dna knows {len(STEPS)}"
        raise LearnedError(message, remedy=f"Upgrade workload-dna, or {_ELSEWHERE}.")
    if version < len(STEPS):
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        upgrade(connection)
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    # A trial that is noted before it is made must be on disk when the machine goes down under it.
    connection.execute("PRAGMA synchronous = FULL")


class _BusyError(LearnedError):
    """Another process is writing."""


@contextmanager
def translate(path: Path, action: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ``LearnedError``."""
    try:
        yield
    except OSError as error:
        raise _of_file(path, action, error) from error
    except sqlite3.Error as error:
        raise _of_database(path, action, error) from error


def _of_file(path: Path, action: str, error: OSError) -> LearnedError:
    message = f"cannot {action} what was learned, {path}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LearnedDeniedError(message, remedy=f"What root learned is root's: `sudo dna ...`; or {_ELSEWHERE}.")
    return LearnedError(message, remedy=f"Check the path, or {_ELSEWHERE}.")


def _of_database(path: Path, action: str, error: sqlite3.Error) -> LearnedError:
    name = str(getattr(error, "sqlite_errorname", ""))
    message = f"cannot {action} what was learned, {path}: {error}"
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        remedy = f"The next run sets it aside and begins anew; or {_ELSEWHERE}."
        return LearnedDamagedError(f"{path} is damaged: {error}", remedy=remedy)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _BusyError(f"cannot {action} what was learned, {path}: another process is writing to it")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return LearnedDeniedError(message, remedy=f"Make it and its folder writable, or {_ELSEWHERE}.")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHMSIZE")):
        return LearnedError(f"no room to write what was learned, {path}", remedy=f"Make room, or {_ELSEWHERE}.")
    return LearnedError(message, remedy=f"Check the disk, or {_ELSEWHERE}.")
