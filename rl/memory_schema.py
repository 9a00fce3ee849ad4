"""The memory's database schema: one step a version, each run once; see ``dna.schema``, whose conventions these are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

type Step = Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x444E4132
"""Written into the file's header ("DNA2"), so that another program's database is recognised and left alone."""


def _first(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE origins (
            id INTEGER PRIMARY KEY,
            machine TEXT NOT NULL, hardware TEXT NOT NULL, kernel TEXT NOT NULL,
            nodes INTEGER NOT NULL, cpus INTEGER NOT NULL,
            model TEXT NOT NULL, objective TEXT NOT NULL, workload TEXT NOT NULL,
            UNIQUE (machine, hardware, kernel, nodes, cpus, model, objective, workload)
        )
        """
    )
    connection.execute(
        """
        CREATE TABLE trials (
            key TEXT PRIMARY KEY,
            origin INTEGER NOT NULL REFERENCES origins (id),
            at REAL NOT NULL, cluster TEXT NOT NULL, vector TEXT NOT NULL,  -- JSON
            imported INTEGER NOT NULL,
            run TEXT NOT NULL, arm TEXT NOT NULL,       -- JSON: name, parts, expected, trust
            gain REAL NOT NULL, weight REAL NOT NULL, outcome TEXT NOT NULL,
            low REAL, high REAL,
            offered TEXT NOT NULL,                      -- JSON: arms
            probability REAL,
            share REAL NOT NULL
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE proofs (
            key TEXT PRIMARY KEY,
            origin INTEGER NOT NULL REFERENCES origins (id),
            at REAL NOT NULL, cluster TEXT NOT NULL, vector TEXT NOT NULL,
            imported INTEGER NOT NULL,
            parts TEXT NOT NULL, gain REAL NOT NULL
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE sentences (
            key TEXT PRIMARY KEY,
            origin INTEGER NOT NULL REFERENCES origins (id),
            at REAL NOT NULL, cluster TEXT NOT NULL, vector TEXT NOT NULL,
            imported INTEGER NOT NULL,
            arm TEXT NOT NULL, until REAL NOT NULL, length_s REAL NOT NULL
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE begun (
            origin INTEGER NOT NULL REFERENCES origins (id),
            run TEXT NOT NULL,
            at REAL NOT NULL, cluster TEXT NOT NULL, vector TEXT NOT NULL,
            boot TEXT NOT NULL, pid INTEGER NOT NULL, arm TEXT NOT NULL,
            PRIMARY KEY (run, origin)
        ) WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX trials_by_time ON trials (at)")


STEPS: tuple[Step, ...] = (_first,)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of steps the file has been through; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def upgrade(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Run the steps that the file has not been through, all or none; of two processes the second finds nothing to do."""
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
