"""The memory's database schema; see ``dna.database``."""

from __future__ import annotations

import sqlite3

from dna.database import Layout


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


LAYOUT = Layout(0x444E4132, (_first,))
"""Its files begin with "DNA2"."""
