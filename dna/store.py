"""The history: profiles in one SQLite file, private to its owner.

Where it is: ``--store PATH``, else ``$DNA_STORE``, else for root ``/var/lib/workload-dna/history.db``, else
``$XDG_STATE_HOME/workload-dna/history.db`` (``~/.local/state`` by default). Root's is apart because root must not write
into a directory that somebody else controls. The file is made with mode 0600 and its directory with 0700: command lines
and host names are nobody else's business.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dna.database import ForeignDatabaseError, Layout, TooNewDatabaseError, is_missing, open_database, upgrade, writing
from dna.errors import NoSuchProfileError, StoreError, StoreTooNewError
from dna.export import dumps, interval_from_json, interval_to_json, plain
from dna.library import Entry
from dna.schema import LAYOUT
from dna.store_errors import damaged, translate
from dna.stored import SYSTEM, Stored
from dna.summary import summarise
from dna.vector import Dna, Profile

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, whose order is that of ASCII and which has no letters that look like digits."""
_LEAST_PREFIX = 3
LATEST = "last"
"""The reference to the latest profile; a bare ``~`` would be the shell's."""
_RELATIVE = re.compile(r"(?P<name>.*)~(?P<back>\d{1,9})")


def default_path(environment: Mapping[str, str] | None = None, *, euid: int | None = None) -> Path:
    """Return where the history is when nothing says otherwise; see the module's docstring."""
    env = os.environ if environment is None else environment
    if env.get("DNA_STORE"):
        return Path(env["DNA_STORE"]).expanduser()
    if (os.geteuid() if euid is None else euid) == 0:
        return Path(SYSTEM)
    state = env.get("XDG_STATE_HOME", "")
    # The XDG specification tells programs to ignore a relative path here.
    if os.path.isabs(state):
        return Path(state) / "workload-dna" / "history.db"
    home = env.get("HOME", "")
    if not os.path.isabs(home):
        raise StoreError("no place for the history: HOME is not set", remedy="Set DNA_STORE or give --store PATH.")
    return Path(home) / ".local" / "state" / "workload-dna" / "history.db"


def new_id(started: float) -> str:
    """Return a short id that sorts by time: seven characters of the second, two at random."""
    seconds = max(int(started), 0)
    head = "".join(_ALPHABET[(seconds >> shift) & 31] for shift in range(30, -1, -5))
    return head + "".join(secrets.choice(_ALPHABET) for _ in range(2))


class Store:
    """An open history. A context manager; not for use from several threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        create: bool = True,
        timeout_s: float = 5.0,
        layout: Layout = LAYOUT,
    ) -> Store:
        """Open the history, upgrading an older one; without ``create`` a missing one reads as empty and is not made.

        ``timeout_s`` is how long to wait for another process that is writing.

        Raises:
            StoreError: it cannot be read, is damaged, locked, or not a history.
            StoreTooNewError: a newer version of dna wrote it.
            StoreDeniedError: this user may not.
        """
        place = default_path() if path is None else Path(path).expanduser()
        if not create and _missing(place):
            empty = sqlite3.connect(":memory:", isolation_level=None)
            upgrade(empty, layout)
            return cls(empty, place)
        return cls(_opened(place, layout, timeout_s), place)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def save(self, profile: Profile) -> str:
        """Store a profile and return its id; one without an id is given one, one stored before is replaced.

        Raises:
            StoreError: disk full, read-only, locked, ...
        """
        identity = profile.id or new_id(profile.started)
        with self._transaction("write"):
            if not profile.id:
                identity = self._unused(identity, profile.started)
            self._connection.execute("DELETE FROM profiles WHERE id = ?", (identity,))
            self._connection.execute(
                f"INSERT INTO profiles ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                _row(replace(profile, id=identity)),
            )
            bodies = (zlib.compress(dumps(interval_to_json(i)).encode()) for i in profile.intervals)
            rows = ((identity, position, body) for position, body in enumerate(bodies))
            self._connection.executemany("INSERT INTO intervals VALUES (?, ?, ?)", rows)
        return identity

    def profiles(self, *, name: str | None = None) -> list[Stored]:
        """Return what is stored, latest first; with ``name`` only those of that name."""
        where, values = ("WHERE name = ?", (name,)) if name is not None else ("", ())
        with translate(self.path, "read"):
            rows = self._select(f"{where} ORDER BY started DESC, id DESC", values)
            return [_stored(row) for row in rows]

    def find(self, reference: str) -> Stored:
        """Return the one profile that a reference means.

        In this order: ``last``, ``last~N`` or ``~N`` (N before the latest), an id, a name (its latest), ``NAME~N``, a
        unique prefix of an id of at least three characters.

        Raises:
            NoSuchProfileError: none, or more than one.
        """
        relative = _RELATIVE.fullmatch(reference)
        if reference == LATEST or (relative and relative["name"] in ("", LATEST)):
            return self._back(self.profiles(), int(relative["back"]) if relative else 0, reference)
        with translate(self.path, "read"):
            exact = self._select("WHERE id = ?", (reference,))
        if exact:
            return _stored(exact[0])
        if named := self.profiles(name=reference):
            return named[0]
        if relative and (named := self.profiles(name=relative["name"])):
            return self._back(named, int(relative["back"]), reference)
        return self._by_prefix(reference)

    def get(self, reference: str) -> Profile:
        """Return the profile that a reference means (see ``find``), with its intervals."""
        stored = self.find(reference)
        with translate(self.path, "read"), damaged(self.path):
            rows = self._connection.execute(
                "SELECT body FROM intervals WHERE profile = ? ORDER BY position", (stored.id,)
            ).fetchall()
            intervals = tuple(interval_from_json(json.loads(zlib.decompress(body))) for (body,) in rows)
        return Profile(
            id=stored.id,
            name=stored.name,
            machine=stored.machine,
            target=stored.target,
            started=stored.started,
            interval_s=stored.interval_s,
            intervals=intervals,
            tool=stored.tool,
        )

    def forget(self, identities: Iterable[str]) -> int:
        """Delete profiles by id, give their space back, and return how many there were."""
        with self._transaction("write"):
            count = sum(
                self._connection.execute("DELETE FROM profiles WHERE id = ?", (identity,)).rowcount
                for identity in identities
            )
        self._shrink()
        return count

    def started_before(self, t: float) -> list[Stored]:
        """Return the profiles that began before a Unix time, latest first."""
        return [stored for stored in self.profiles() if stored.started < t]

    def entries(self, model: str) -> list[Entry]:
        """Return the named profiles that have a vector of ``model``, as entries for a library."""
        return [
            Entry(stored.name, stored.id, stored.dna.vector, stored.features)
            for stored in self.profiles()
            if stored.name and stored.dna is not None and stored.dna.model == model
        ]

    def _select(self, clause: str, values: Sequence[object]) -> list[Any]:
        return self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM profiles {clause}", values).fetchall()

    def _back(self, found: Sequence[Stored], back: int, reference: str) -> Stored:
        if back < len(found):
            return found[back]
        raise NoSuchProfileError(f"there is no {reference}: {_count(len(found))} stored", remedy=_LIST)

    def _by_prefix(self, reference: str) -> Stored:
        prefix = reference.lower()
        with translate(self.path, "read"):
            rows = self._select("WHERE substr(id, 1, ?) = ? ORDER BY id", (len(prefix), prefix))
        if len(prefix) < _LEAST_PREFIX or not rows:
            raise NoSuchProfileError(f"no stored profile has the id or name {reference!r}", remedy=_LIST)
        if len(rows) > 1:
            some = ", ".join(row[0] for row in rows[:4]) + (", ..." if len(rows) > 4 else "")
            message = f"{reference!r} begins the ids of {len(rows)} profiles: {some}"
            raise NoSuchProfileError(message, remedy="Give more of the id.")
        return _stored(rows[0])

    def _unused(self, identity: str, started: float) -> str:
        while self._connection.execute("SELECT 1 FROM profiles WHERE id = ?", (identity,)).fetchone():
            identity = new_id(started)
        return identity

    @contextmanager
    def _transaction(self, action: str) -> Iterator[None]:
        with translate(self.path, action), writing(self._connection):
            yield

    def _shrink(self) -> None:
        with translate(self.path, "write"):
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            # What was deleted is also in the write-ahead log until that is emptied.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


_LIST = "See `dna list`, or give the path of an exported .json file."
_COLUMNS = (
    *("id", "name", "started", "interval_s", "ended", "intervals", "target"),
    *("machine", "tool", "model", "vector", "novelty", "features"),
)


def _row(profile: Profile) -> tuple[object, ...]:
    summary = summarise(profile)
    dna = summary.dna
    return (
        profile.id,
        plain(profile.name),
        profile.started,
        profile.interval_s,
        profile.started + summary.duration_s,
        summary.intervals,
        dumps(plain(profile.target)),
        dumps(plain(profile.machine)),
        plain(profile.tool),
        dna.model if dna else None,
        dumps([float(x) for x in dna.vector]) if dna else None,
        dna.novelty if dna else None,
        dumps(plain(summary.features)),
    )


def _stored(row: Sequence[Any]) -> Stored:
    cell = dict(zip(_COLUMNS, row, strict=True))
    dna = None
    if cell["vector"] is not None:
        dna = Dna(np.array(json.loads(cell["vector"]), dtype=np.float64), cell["novelty"], cell["model"])
    return Stored(
        id=cell["id"],
        name=cell["name"],
        target=json.loads(cell["target"]),
        machine=json.loads(cell["machine"]),
        tool=cell["tool"],
        started=cell["started"],
        ended=cell["ended"],
        interval_s=cell["interval_s"],
        intervals=cell["intervals"],
        dna=dna,
        features=json.loads(cell["features"]),
    )


def _count(n: int) -> str:
    return "nothing is" if n == 0 else "only 1 profile is" if n == 1 else f"only {n} profiles are"


def _missing(place: Path) -> bool:
    with translate(place, "open"):
        return is_missing(place)


def _opened(place: Path, layout: Layout, timeout_s: float) -> sqlite3.Connection:
    try:
        with translate(place, "open"):
            return open_database(place, layout, timeout_s=timeout_s)[0]
    except TooNewDatabaseError as error:
        message = f"the history {place} has schema {error.version}; this version of dna knows {len(layout.steps)}"
        raise StoreTooNewError(
            message, remedy="Upgrade workload-dna, or use another history with --store PATH."
        ) from error
    except ForeignDatabaseError as error:
        message = f"{place} is a database of another program"
        raise StoreError(message, remedy="Give another path with --store or DNA_STORE.") from error
