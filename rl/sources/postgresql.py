"""``postgresql:CONNECTION``: transactions a second of one database, asked through psql.

CONNECTION is what psql takes: ``host=/run/postgresql dbname=shop``, or ``//user@host/shop`` after the colon as in a URI; or
nothing, for what the PG... variables say. Passwords come from ~/.pgpass or PGPASSFILE.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from hal.host import Host
from rl.errors import MetricError
from rl.measured import THROUGHPUT, Problem
from rl.sources.found import Count, Source, SourceError
from rl.sources.psql import Psql

_QUESTION = (
    "SELECT xact_commit + xact_rollback, pg_postmaster_start_time(), stats_reset"
    " FROM pg_stat_database WHERE datname = current_database()"
)


def connection(rest: str) -> str:
    """Return the connection string for psql; MetricError where it carries a password or makes no sense."""
    if rest.startswith("//"):
        try:
            password = urlsplit(f"postgresql:{rest}").password
        except ValueError as error:
            raise MetricError(f"postgresql:{rest}: {error}", remedy=f"write it as in {SOURCE.example}") from error
        if password is not None or "password=" in rest:
            raise _seen()
        return f"postgresql:{rest}"
    if re.search(r"(?:^|\s)password\s*=", rest):
        raise _seen()
    if rest and not re.fullmatch(r"\s*(?:\w+\s*=\s*(?:'(?:[^'\\]|\\.)*'|[^\s']+)\s*)+", rest):
        raise MetricError(
            f"postgresql:{rest}: neither 'name=value ...' nor a URI", remedy=f"write it as in {SOURCE.example}"
        )
    return rest


def _seen() -> MetricError:
    return MetricError(
        "postgresql: a command line is seen by all users, passwords in it too", remedy="put the password into ~/.pgpass"
    )


def check(rest: str) -> None:
    """Raise MetricError where psql could not connect with it, or everybody would see a password."""
    connection(rest)


@dataclass(slots=True)
class PostgresqlFetch:
    """One database."""

    psql: Psql

    def fetch(self) -> Count:
        """Ask the server."""
        return count(self.psql.ask(_QUESTION))

    def close(self) -> None:
        """Drop the connection."""
        self.psql.close()


def count(answer: str) -> Count:
    """Return transactions from what psql printed; one of each interval is our own question."""
    number, _, epoch = answer.strip().partition("|")
    try:
        transactions = float(number)
    except ValueError as error:
        raise SourceError(Problem.NOT_A_NUMBER, f"psql printed {answer.strip()[:60]!r}") from error
    if not math.isfinite(transactions):
        raise SourceError(Problem.NOT_A_NUMBER, f"psql printed {number}")
    # The server counts it about a second later, so that it shows at the next read or the one after.
    return Count(transactions, epoch, own=1.0, of_events=True)


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> PostgresqlFetch:
    return PostgresqlFetch(Psql(["-d", connection(rest)] if rest else [], timeout_s=timeout_s))


SOURCE = Source(
    "postgresql",
    "CONNECTION",
    "throughput=postgresql:host=/run/postgresql dbname=shop user=dna",
    (THROUGHPUT,),
    check,
    _open,
)
