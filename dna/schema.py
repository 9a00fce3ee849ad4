"""The history's database schema: one step a version, each run once, in one transaction.

``PRAGMA user_version`` holds the number of steps a file has been through. A new version of the schema is one more
``Step`` at the end of STEPS; a released step is never edited. Version 1 is the first there ever was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

type Step = Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x444E4131
"""Written into the file's header ("DNA1"), so that another program's database is recognised and left alone."""


def _first(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE profiles (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            started REAL NOT NULL,
            interval_s REAL NOT NULL,
            ended REAL NOT NULL,
            intervals INTEGER NOT NULL,
            target TEXT NOT NULL,   -- JSON
            machine TEXT NOT NULL,  -- JSON
            tool TEXT NOT NULL,
            model TEXT,             -- of the mean vector; NULL without one
            vector TEXT,            -- JSON list of 16
            novelty REAL,
            features TEXT NOT NULL  -- JSON: median of each over the intervals
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE intervals (
            profile TEXT NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            body BLOB NOT NULL,     -- zlib-compressed JSON of one interval
            PRIMARY KEY (profile, position)
        ) WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX profiles_by_name ON profiles (name, started)")
    connection.execute("CREATE INDEX profiles_by_start ON profiles (started)")


STEPS: tuple[Step, ...] = (_first,)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of steps the file has been through; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def upgrade(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Run the steps that the file has not been through, all or none.

    The connection must be in autocommit mode. Two processes may call this at once: the second waits, then finds nothing
    to do.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, step in enumerate(steps[version_of(connection) :], start=version_of(connection) + 1):
            step(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
