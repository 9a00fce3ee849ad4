"""What SQLite and the file system say about the history, in words and with a remedy: the one place of translation."""

from __future__ import annotations

import errno
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dna.database import BUSY, DAMAGED, DENIED, FULL, READ_ONLY, kind_of
from dna.errors import StoreDeniedError, StoreError

_ELSEWHERE = "use another history with --store PATH or DNA_STORE"


@contextmanager
def translate(path: Path, action: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ``StoreError``."""
    try:
        yield
    except OSError as error:
        raise _of_file(path, action, error) from error
    except sqlite3.Error as error:
        raise _of_database(path, action, error) from error


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn contents that cannot be decoded into ``StoreError``."""
    try:
        yield
    except (ValueError, zlib.error) as error:
        raise _damaged(path, str(error)) from error


def _of_file(path: Path, action: str, error: OSError) -> StoreError:
    message = f"cannot {action} the history {path}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return _denied(message)
    if error.errno == errno.ENOSPC:
        return _full(path)
    if error.errno == errno.EROFS:
        return _read_only(path)
    return StoreError(message, remedy=f"Check the path, or {_ELSEWHERE}.")


def _of_database(path: Path, action: str, error: sqlite3.Error) -> StoreError:
    name, kind = str(getattr(error, "sqlite_errorname", "")), kind_of(error)
    if kind == DAMAGED or (not name and isinstance(error, sqlite3.DatabaseError)):
        return _damaged(path, str(error))
    if kind == BUSY:
        return StoreError(
            f"cannot {action} the history {path}: another process is writing to it",
            remedy=f"Try again in a moment, or {_ELSEWHERE}.",
        )
    if kind == FULL:
        return _full(path)
    if kind == READ_ONLY:
        return _read_only(path)
    message = f"cannot {action} the history {path}: {error}"
    if kind == DENIED or (name.startswith("SQLITE_CANTOPEN") and path.exists()):
        return _denied(message)
    return StoreError(message, remedy=f"Check the disk, or {_ELSEWHERE}.")


def _denied(message: str) -> StoreError:
    remedy = f"It may belong to another user (profiles taken with sudo are root's: `sudo dna ...`); else {_ELSEWHERE}."
    return StoreDeniedError(message, remedy=remedy)


def _full(path: Path) -> StoreError:
    remedy = (
        f"Make room on {path.parent} (`dna forget --before 30d`), or {_ELSEWHERE}. What was stored before is intact."
    )
    return StoreError(f"no room to write the history {path}", remedy=remedy)


def _read_only(path: Path) -> StoreError:
    return StoreDeniedError(
        f"the history {path} is read-only", remedy=f"Make it and its directory writable, or {_ELSEWHERE}."
    )


def _damaged(path: Path, reason: str) -> StoreError:
    remedy = f"Move it away, try `sqlite3 FILE .recover`, or {_ELSEWHERE}."
    return StoreError(f"{path} is not a history of dna, or is damaged: {reason}", remedy=remedy)
