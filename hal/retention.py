"""Retention: transactions that were taken back long ago become a line each in one file, so that a long run's journal stays small.

Only what is closed is merged: it has nothing standing, and undoing it does nothing, before and after. The newest keep their own files, and
so does what was closed within the last hour: who made it may still look at it. It is done under the journal's lock, by whoever
has just changed something; a kill at any point leaves a transaction in its file, in the line, or in both, where the file counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hal.errors import HalError
from hal.journal import CLOSED, MERGED, Journal, Transaction, is_closed, mend, sync_folder, to_line, transaction_of


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept."""

    files: int = 200
    """The newest transactions keep their own files, whatever became of them."""
    slack: int = 50
    """Merging begins when there are so many more, so that it is seldom."""
    age_s: float = 3600.0
    """What was closed since then keeps its file as well."""
    most_bytes: int = 8 << 20
    """Of the merged ones, some 25,000; beyond that the older half is forgotten."""


DEFAULT = Limits()


def retain(journal: Journal, limits: Limits = DEFAULT, *, now: float | None = None) -> int:
    """Merge what is old and closed; return how many that were. To be called under the journal's lock.

    A journal that cannot be tidied, as on a full disk, is left as it is: nothing depends on it.

    Args:
        now: seconds since the epoch; the clock's unless given.
    """
    merged = 0
    with contextlib.suppress(OSError, HalError):
        paths = journal.paths()
        if len(paths) > limits.files + limits.slack:
            old = _old(paths[: len(paths) - limits.files], limits, time.time() if now is None else now)
            merged = _merge(journal.folder, old)
            _forget(journal.folder / MERGED, limits.most_bytes)
    return merged


def _old(paths: Iterable[Path], limits: Limits, now: float) -> list[tuple[Path, Transaction]]:
    found = []
    for path in paths:
        if not is_closed(path):
            continue
        with contextlib.suppress(HalError):  # one that is damaged stays, for people to see
            transaction = transaction_of(path)
            # A time that has yet to come is from before the clock was set back.
            if transaction and transaction.state == CLOSED and not 0 <= now - transaction.ended < limits.age_s:
                found.append((path, transaction))
    return found


def _merge(folder: Path, old: list[tuple[Path, Transaction]]) -> int:
    """Write the lines, have them on disk, and only then remove the files."""
    if not old or not _append(folder / MERGED, [to_line(transaction) for _, transaction in old]):
        return 0
    sync_folder(folder)
    for path, _ in old:
        path.unlink(missing_ok=True)
    return len(old)


def _append(path: Path, records: Iterable[dict[str, object]]) -> bool:
    """Append records and sync them; return whether there was room for all, else nothing is added."""
    data = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        data = mend(descriptor) + data
        try:
            whole = os.write(descriptor, data) == len(data)
        except OSError:
            whole = False
        if not whole:
            os.ftruncate(descriptor, before)
        os.fsync(descriptor)
        return whole
    finally:
        os.close(descriptor)


def _forget(path: Path, most_bytes: int) -> None:
    """Keep the newer half of what was merged where it has become too much; the file is whole at any time."""
    if not path.exists() or path.stat().st_size <= most_bytes:
        return
    lines = path.read_bytes().splitlines(keepends=True)
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines(lines[len(lines) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
