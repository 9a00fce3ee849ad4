"""The history's database schema; see ``dna.database``. Version 1 is the first there ever was."""

from __future__ import annotations

import sqlite3

from dna.database import Layout


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


LAYOUT = Layout(0x444E4131, (_first,))
"""Its files begin with "DNA1"."""
