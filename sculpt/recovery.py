"""What a run that was killed left in force is taken back by the next one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hal.errors import HalError, RefusedError
from hal.host import Host
from hal.journal import Journal, Transaction
from hal.planning import machine_id
from hal.processes import start_of
from hal.undo import undo
from sculpt.errors import SculptError
from sculpt.records import read_run
from sculpt.serving import TITLE


def recover(host: Host, journal: Journal, folder: Path) -> int:
    """Take back what a run that was killed left in force; return how many transactions that were.

    What a run that ended has declared to be kept stays.

    Raises:
        SculptError: such a run is still alive, or something could not be taken back.
    """
    left = left_behind(host, journal, folder)
    for transaction in left:
        if _is_alive(host, transaction):
            raise SculptError(
                f"another run (pid {transaction.pid}) has changes in force on this machine",
                remedy="Let it end, or run this one with --mode advise.",
            )
        try:
            result = undo(host, journal, transaction.identity)
        except RefusedError as error:
            raise SculptError(f"what a killed run left could not be taken back: {error}", remedy="dna undo") from error
        if result.failed:
            raise SculptError("what a killed run left could not all be taken back", remedy="dna undo")
    return len(left)


def left_by_killed(host: Host, journal: Journal, folder: Path) -> list[Transaction]:
    """Return what runs that were killed left in force, the newest first."""
    return [one for one in left_behind(host, journal, folder) if not _is_alive(host, one)]


def left_behind(host: Host, journal: Journal, folder: Path) -> list[Transaction]:
    """Return what runs that have not come to their end have in force, the newest first."""
    here = machine_id(host)
    ours = [one for one in journal.unfinished() if one.title.startswith(f"{TITLE} ") and one.machine == here]
    return [one for one in reversed(ours) if one.standing() and not _has_ended(one, folder)]


def _has_ended(transaction: Transaction, folder: Path) -> bool:
    """Tell whether the run that a transaction is of came to its end: its records then say so."""
    identity = transaction.title.split(" ", 2)[1]
    with suppress(SculptError):
        return read_run(folder / f"{identity}.jsonl").end is not None
    return False


def _is_alive(host: Host, transaction: Transaction) -> bool:
    """Tell whether the run that a transaction is of is still there; its process id alone may be another's by now, or our own."""
    with suppress(HalError):
        start = start_of(host, transaction.pid)
        was_there = start is not None and start <= transaction.began and transaction.pid != os.getpid()
        return was_there and "sculpt" in host.read_text(f"/proc/{transaction.pid}/cmdline")
    return False
