"""An SQLite file of our own: private, made and upgraded whole by whoever comes first, read where it cannot be written.

``PRAGMA user_version`` holds the number of steps a file has been through. A new version of a layout is one more step at its end; a
released step is never edited. What goes wrong are the errors of SQLite and of the file system, and the two here; what
keeps something in such a file puts them into words of its own.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

type Step = Callable[[sqlite3.Connection], None]

BUSY, DAMAGED, DENIED, FULL, READ_ONLY, OTHER = "busy", "damaged", "denied", "full", "read-only", "other"
_KINDS = {
    "SQLITE_NOTADB": DAMAGED,
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_BUSY": BUSY,
    "SQLITE_LOCKED": BUSY,
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR_WRITE": FULL,
    "SQLITE_IOERR_TRUNCATE": FULL,
    "SQLITE_IOERR_SHMSIZE": FULL,
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_PERM": DENIED,
    "SQLITE_AUTH": DENIED,
}
"""By how the name of an error begins."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a kind of file holds."""

    application: int
    """Written into the file's header, so that another program's database is recognised and left alone."""
    steps: tuple[Step, ...]
    """One a version, each run once."""


class ForeignDatabaseError(Exception):
    """The file is a database of another program."""


class TooNewDatabaseError(Exception):
    """A newer version of dna wrote the file; ``version`` says which."""

    def __init__(self, version: int) -> None:
        super().__init__(f"schema {version}")
        self.version = version


def kind_of(error: sqlite3.Error) -> str:
    """Return what kind of trouble an error is: one of the words above."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return next((kind for begin, kind in _KINDS.items() if name.startswith(begin)), OTHER)


def is_missing(place: Path) -> bool:
    """Tell whether there is no file.

    Raises:
        OSError: it may not be looked at, which is not the same.
    """
    try:
        place.lstat()
    except FileNotFoundError:
        return True
    return False


def open_database(
    place: Path, layout: Layout, *, timeout_s: float, any_thread: bool = False
) -> tuple[sqlite3.Connection, bool]:
    """Open the file, making and upgrading it where needed; also tell whether it can be written.

    SQLite does not wait where several processes make one file at once, so this does.

    Args:
        timeout_s: how long to wait for another process that is writing.
        any_thread: the connection may be used from any thread, one at a time.

    Raises:
        OSError, sqlite3.Error: it cannot be opened.
        ForeignDatabaseError, TooNewDatabaseError: it is not ours, or not ours to read.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        connection, is_writable = _connect(place, timeout_s, any_thread=any_thread)
        try:
            _prepare(connection, layout)
        except BaseException as error:
            connection.close()
            is_busy = isinstance(error, sqlite3.Error) and kind_of(error) == BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return connection, is_writable


def upgrade(connection: sqlite3.Connection, layout: Layout) -> None:
    """Run the steps that the file has not been through, all or none.

    The connection must be in autocommit mode. Two processes may call this at once: the second waits, then finds nothing
    to do.
    """
    with writing(connection):
        for number, step in enumerate(layout.steps[version_of(connection) :], start=version_of(connection) + 1):
            step(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {layout.application}")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of steps the file has been through; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is inside in one transaction, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _connect(place: Path, timeout_s: float, *, any_thread: bool) -> tuple[sqlite3.Connection, bool]:
    """Open for writing, making file and directory; where that is not allowed, for reading."""
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
    found = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=not any_thread)
    return found, is_writable


def _make(place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # SQLite gives its log and index files the mode of the database file.
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def _prepare(connection: sqlite3.Connection, layout: Layout) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    version = version_of(connection)
    # In this order: another process may be making the file, tables and id in one transaction, between the two.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != layout.application:
        raise ForeignDatabaseError
    if version > len(layout.steps):
        raise TooNewDatabaseError(version)
    if version < len(layout.steps):
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        upgrade(connection, layout)
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    # With NORMAL a power cut may cost what was written last; one fsync for each is cheap.
    connection.execute("PRAGMA synchronous = FULL")
