"""What was learned, in one SQLite file beside the journal, private to its owner: ``$DNA_LEARNED``, or ``learned.db``.

Several processes write at once: each adds and removes only what is its own or what it has read, one short transaction a time, on disk when
the call returns. So a killed process loses the trial in progress and nothing else. What is damaged is set aside, never mended and never
in the way. A disk that is full or read-only is an error of this module; ``rl.remembering`` lets it cost the memory, not the loop.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

from dna.database import upgrade, writing
from hal.journal import default_folder
from rl.errors import LearnedDamagedError, LearnedError
from rl.learned import Begun, Learned, LearnedProof, LearnedSentence, LearnedTrial, MachineFacts, Numbers, Origin
from rl.memory_file import connect, is_missing, translate
from rl.memory_schema import LAYOUT
from rl.policy import Arm

MOST_TRIALS = 5_000
"""The oldest go first."""

type _Row = Sequence[Any]


def default_path(environment: Mapping[str, str] | None = None, *, journal: Path | None = None) -> Path:
    """Return where the memory is: ``$DNA_LEARNED``, else beside the journal.

    Args:
        journal: its folder, where it is not the usual one.

    Raises:
        JournalError: there is no place for either.
    """
    named = (os.environ if environment is None else environment).get("DNA_LEARNED")
    return Path(named).expanduser() if named else (journal or default_folder(environment)).parent / "learned.db"


class Memory:
    """An open memory. A context manager; several threads may share it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, is_writable: bool = True) -> None:
        self._connection = connection
        self._lock = RLock()
        self.path = path
        self.is_writable = is_writable

    @classmethod
    def open(cls, path: str | Path | None = None, *, create: bool = True, timeout_s: float = 2.0) -> Memory:
        """Open the memory, making it where there is none; without ``create`` a missing one reads as empty and is not made.

        Args:
            timeout_s: how long to wait for another process that is writing.

        Raises:
            LearnedError: it cannot be read, is another program's, or a newer version's.
            LearnedDamagedError: it is damaged, see ``rl.memory_file.set_aside``.
            LearnedDeniedError: this user may not.
        """
        place = default_path() if path is None else Path(path).expanduser()
        if not create and is_missing(place):
            empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            upgrade(empty, LAYOUT)
            return cls(empty, place)
        connection, is_writable = connect(place, timeout_s)
        return cls(connection, place, is_writable=is_writable)

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # --- reading

    def read(self, *, model: str | None = None, objective: str | None = None) -> Learned:
        """Return everything, or what is of one DNA model or objective."""
        where = {"model": model, "objective": objective}
        with self._reading():
            trials = [_trial(row) for row in self._rows("trials", _TRIAL, where)]
            proofs = [_proof(row) for row in self._rows("proofs", _PROOF, where)]
            sentences = [_sentence(row) for row in self._rows("sentences", _SENTENCE, where)]
        return Learned(tuple(trials), tuple(proofs), tuple(sentences))

    def _rows(self, table: str, columns: Sequence[str], where: Mapping[str, str | None]) -> list[_Row]:
        given = {name: value for name, value in where.items() if value is not None}
        named = ", ".join([*(f"o.{name}" for name in _ORIGIN), *(f"t.{name}" for name in (*_COMMON, *columns))])
        limit = " AND ".join(["t.origin = o.id", *(f"o.{name} = ?" for name in given)])
        query = f"SELECT {named} FROM {table} t, origins o WHERE {limit} ORDER BY t.at, t.key"
        return self._connection.execute(query, tuple(given.values())).fetchall()

    # --- writing

    def add(self, learned: Learned, *, without: Iterable[str] = ()) -> int:
        """Store what is not there yet, and remove proofs and sentences of these keys in the same step; return how much was new.

        Raises:
            LearnedError: disk full, read-only, locked, ...
        """
        gone = [(key,) for key in without]
        with self._transaction():
            for table in ("proofs", "sentences"):
                self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", gone)
            added = sum(self._put("trials", _TRIAL, one, _trial_row(one)) for one in learned.trials)
            added += sum(self._put("proofs", _PROOF, one, _proof_row(one)) for one in learned.proofs)
            added += sum(self._put("sentences", _SENTENCE, one, _sentence_row(one)) for one in learned.sentences)
        return added

    def fade(self, keys: Iterable[str], share: float) -> None:
        """Leave these trials this share of what they weigh."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE trials SET share = share * ? WHERE key = ?", [(share, key) for key in keys]
            )

    def remove(self, learned: Learned) -> int:
        """Remove this; return how much there was."""
        with self._transaction():
            count = 0
            for table in ("trials", "proofs", "sentences"):
                keys = [(one.key,) for one in getattr(learned, table)]
                count += (
                    self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", keys).rowcount if keys else 0
                )
            self._forget_origins()
        with self._reading():
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return count

    def prune(self, most: int = MOST_TRIALS) -> None:
        """Remove the oldest trials beyond so many."""
        with self._transaction():
            beyond = "SELECT key FROM trials ORDER BY at DESC LIMIT -1 OFFSET ?"
            self._connection.execute(f"DELETE FROM trials WHERE key IN ({beyond})", (most,))
            self._forget_origins()

    def begin(self, begun: Begun) -> None:
        """Note a trial before it is made; it replaces what the same run noted of the same workload."""
        row = (begun.at, begun.cluster, json.dumps(begun.vector), begun.boot, begun.pid, begun.arm)
        with self._transaction():
            values = (self._origin(begun.origin), begun.run, *row)
            self._connection.execute(f"INSERT OR REPLACE INTO begun VALUES ({_marks(len(values))})", values)

    def ended(self, run: str, origin: Origin) -> None:
        """Note that nothing is being tried in a run any more."""
        with self._transaction():
            self._connection.execute("DELETE FROM begun WHERE run = ? AND origin = ?", (run, self._origin(origin)))

    def cut_off(self, machine: str, boot: str) -> tuple[Begun, ...]:
        """Take out, and return, the trials under which this machine went down: begun in another start of it, and never ended.

        What was begun in this start by a process that is no more was killed with it: that is taken out as well, and says nothing.
        """
        columns = ", ".join((*(f"o.{name}" for name in _ORIGIN), "at, cluster, vector, run, boot, pid, arm"))
        where = "origin = o.id AND o.machine = ? AND boot != ?"
        with self._transaction():
            query = f"SELECT {columns}, o.id FROM begun, origins o WHERE {where}"
            rows = self._connection.execute(query, (machine, boot)).fetchall()
            self._connection.executemany(
                "DELETE FROM begun WHERE run = ? AND origin = ?", [(row[-5], row[-1]) for row in rows]
            )
            self._forget_killed(machine, boot)
        return tuple(_begun(row) for row in rows)

    def _forget_killed(self, machine: str, boot: str) -> None:
        query = "SELECT run, origin, pid FROM begun, origins o WHERE origin = o.id AND o.machine = ? AND boot = ?"
        found = self._connection.execute(query, (machine, boot)).fetchall()
        killed = [(run, origin) for run, origin, pid in found if not os.path.exists(f"/proc/{pid}")]
        self._connection.executemany("DELETE FROM begun WHERE run = ? AND origin = ?", killed)

    def _put(self, table: str, columns: Sequence[str], one: Any, row: _Row) -> int:
        names = ("origin", *_COMMON, *columns)
        common = (one.key, one.at, one.cluster, json.dumps(one.vector), int(one.imported))
        found = self._connection.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({_marks(len(names))})",
            (self._origin(one.origin), *common, *row),
        )
        return found.rowcount

    def _origin(self, origin: Origin) -> int:
        values = (*astuple(origin.machine), origin.model, origin.objective, origin.workload)
        self._connection.execute(
            f"INSERT OR IGNORE INTO origins ({', '.join(_ORIGIN)}) VALUES ({_marks(len(values))})", values
        )
        query = f"SELECT id FROM origins WHERE {' AND '.join(f'{name} = ?' for name in _ORIGIN)}"
        return int(self._connection.execute(query, values).fetchone()[0])

    def _forget_origins(self) -> None:
        used = " UNION ".join(f"SELECT origin FROM {table}" for table in ("trials", "proofs", "sentences", "begun"))
        self._connection.execute(f"DELETE FROM origins WHERE id NOT IN ({used})")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, translate(self.path, "read"):
            try:
                yield
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise LearnedDamagedError(f"{self.path} is damaged: {error}", remedy="Move it away.") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self.is_writable:
            raise LearnedError(f"what is learned cannot be kept: {self.path} is read-only")
        with self._lock, translate(self.path, "write"), writing(self._connection):
            yield


_ORIGIN = ("machine", "hardware", "kernel", "nodes", "cpus", "model", "objective", "workload")
_COMMON = ("key", "at", "cluster", "vector", "imported")
_TRIAL = ("run", "arm", "gain", "weight", "outcome", "low", "high", "offered", "probability", "share")
_PROOF = ("parts", "gain")
_SENTENCE = ("arm", "until", "length_s")


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _trial_row(one: LearnedTrial) -> _Row:
    low, high = one.interval or (None, None)
    offered = json.dumps([arm_data(arm) for arm in one.offered])
    told = (one.gain, one.weight, one.outcome, low, high)
    return (one.run, json.dumps(arm_data(one.arm)), *told, offered, one.probability, one.share)


def _proof_row(one: LearnedProof) -> _Row:
    return json.dumps(one.parts), one.gain


def _sentence_row(one: LearnedSentence) -> _Row:
    return one.arm, one.until, one.length_s


def _from(row: _Row) -> Origin:
    return Origin(MachineFacts(*row[:5]), *row[5:8])


def _vector(text: str) -> Numbers:
    return tuple(float(number) for number in json.loads(text))


def _trial(row: _Row) -> LearnedTrial:
    _, at, cluster, vector, imported, *rest = row[8:]
    run, arm, gain, weight, outcome, low, high, offered, probability, share = rest
    return LearnedTrial(
        origin=_from(row),
        run=run,
        at=at,
        cluster=cluster,
        vector=_vector(vector),
        arm=arm_of(json.loads(arm)),
        gain=gain,
        weight=weight,
        outcome=outcome,
        interval=None if low is None or high is None else (low, high),
        offered=tuple(arm_of(one) for one in json.loads(offered)),
        probability=probability,
        share=share,
        imported=bool(imported),
    )


def _proof(row: _Row) -> LearnedProof:
    _, at, cluster, vector, imported, parts, gain = row[8:]
    return LearnedProof(_from(row), at, cluster, _vector(vector), tuple(json.loads(parts)), gain, bool(imported))


def _sentence(row: _Row) -> LearnedSentence:
    _, at, cluster, vector, imported, arm, until, length_s = row[8:]
    return LearnedSentence(_from(row), at, cluster, _vector(vector), arm, until, length_s, bool(imported))


def _begun(row: _Row) -> Begun:
    at, cluster, vector, run, boot, pid, arm, _ = row[8:]
    return Begun(_from(row), run, at, boot, pid, cluster, _vector(vector), arm)


def arm_data(arm: Arm) -> list[object]:
    """Return an arm as JSON data."""
    return [arm.name, list(arm.parts), arm.expected, arm.trust]


def arm_of(data: Sequence[Any]) -> Arm:
    """Return the arm of such data."""
    name, parts, expected, trust = data
    return Arm(str(name), tuple(str(part) for part in parts), float(expected), float(trust))
