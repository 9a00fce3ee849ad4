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

from dna import database
from rl.errors import LearnedDamagedError, LearnedDeniedError, LearnedError
from rl.memory_schema import LAYOUT

_ELSEWHERE = "use another with DNA_LEARNED=FILE, or run with --no-memory"
_PARTS = ("", "-wal", "-shm")
"""Of the database, by what its files' names end in."""


def is_missing(place: Path) -> bool:
    """Tell whether there is no file; not being allowed to look is not the same."""
    with translate(place, "open"):
        return database.is_missing(place)


def connect(place: Path, timeout_s: float) -> tuple[sqlite3.Connection, bool]:
    """Open the file, making it where there is none; also tell whether it can be written."""
    try:
        with translate(place, "open"):
            return database.open_database(place, LAYOUT, timeout_s=timeout_s, any_thread=True)
    except database.ForeignDatabaseError as error:
        raise LearnedError(f"{place} is a database of another program", remedy=f"Or {_ELSEWHERE}.") from error
    except database.TooNewDatabaseError as error:
        message = f"{place} has schema {error.version}; this version of dna knows {len(LAYOUT.steps)}"
        raise LearnedError(message, remedy=f"Upgrade workload-dna, or {_ELSEWHERE}.") from error


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
    message = f"cannot {action} what was learned, {path}: {error}"
    kind = database.kind_of(error)
    if kind == database.DAMAGED:
        remedy = f"The next run sets it aside and begins anew; or {_ELSEWHERE}."
        return LearnedDamagedError(f"{path} is damaged: {error}", remedy=remedy)
    if kind == database.BUSY:
        return LearnedError(f"cannot {action} what was learned, {path}: another process is writing to it")
    if kind in (database.READ_ONLY, database.DENIED):
        return LearnedDeniedError(message, remedy=f"Make it and its folder writable, or {_ELSEWHERE}.")
    if kind == database.FULL:
        return LearnedError(f"no room to write what was learned, {path}", remedy=f"Make room, or {_ELSEWHERE}.")
    return LearnedError(message, remedy=f"Check the disk, or {_ELSEWHERE}.")
