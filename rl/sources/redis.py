"""``redis:HOST:PORT`` or ``redis:/SOCKET``: what a Redis (or Valkey) server counts of itself.

Throughput is commands a second, its own questions left out. latency-p99 is of the time that commands take inside the server, from the
histograms that it keeps since version 7: waiting in sockets and queues is not in it. The password is taken from REDISCLI_AUTH.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hal.host import Host
from rl.errors import MetricError
from rl.measured import LATENCY, THROUGHPUT, Problem
from rl.sources.found import Count, Found, Source, SourceError, Spread
from rl.sources.resp import PASSWORD, Connection, Reply, ServerError

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):([0-9]{1,5})")
_OUR_OWN = ("info", "auth", "latency")
UNIT_S = 1.024e-6
"""Upper limit of the first bucket; each next one is twice as large (``latencyCommandGenSpecificCommandsReply``, src/latency.c)."""
BUCKETS = 21
"""Up to about a second, as which the server counts whatever takes longer."""
LIMITS = tuple(UNIT_S * 2**number for number in range(BUCKETS))


def address(rest: str) -> tuple[str, int] | str:
    """Return (host, port) or a socket's path; MetricError where it is neither."""
    if rest.startswith("/"):
        return rest
    found = _PLACE.fullmatch(rest)
    if not found or not 0 < int(found[3]) < 65536:
        raise MetricError(
            f"redis:{rest} is no HOST:PORT and no socket's path",
            remedy=f"write it as in {SOURCE.example}; a password goes into the variable {PASSWORD}",
        )
    return found[1] or found[2], int(found[3])


def check(rest: str) -> None:
    """Raise MetricError where it is no server's address."""
    address(rest)


@dataclass(slots=True)
class RedisFetch:
    """One server."""

    connection: Connection
    kind: str

    def fetch(self) -> Found:
        """Ask the server."""
        try:
            return self._latencies() if self.kind == LATENCY else self._commands()
        except ServerError as error:
            raise SourceError(Problem.REFUSED, _explained(str(error))) from error

    def close(self) -> None:
        """Drop the connection."""
        self.connection.close()

    def _commands(self) -> Count:
        info = parse_info(self.connection.ask("INFO"))
        if "total_commands_processed" not in info:
            raise SourceError(Problem.UNFIT, "the server's INFO has no total_commands_processed")
        # A command is counted when it is done: this INFO is not among them, all that we sent before are.
        own = self.connection.sent - 1
        return Count(float(info["total_commands_processed"]) - own, info.get("run_id", ""), of_events=True)

    def _latencies(self) -> Spread:
        info = parse_info(self.connection.ask("INFO", "server"))
        try:
            reply = self.connection.ask("LATENCY", "HISTOGRAM")
        except ServerError as error:
            if "NOAUTH" in str(error) or "NOPERM" in str(error):
                raise
            version = info.get("redis_version", "of an older version")
            raise SourceError(
                Problem.UNFIT, f"this Redis ({version}) keeps no histograms of latency; 7.0 and later do"
            ) from error
        counts = spread(reply)
        if counts is None:
            raise SourceError(
                Problem.UNFIT, "the server tracks no latencies: redis-cli CONFIG SET latency-tracking yes"
            )
        return Spread(LIMITS, counts, info.get("run_id", ""))


def parse_info(reply: Reply) -> Mapping[str, str]:
    """Return the fields of an INFO."""
    if not isinstance(reply, str):
        raise SourceError(Problem.REFUSED, "the answer is not Redis's")
    lines = (line.partition(":") for line in reply.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def spread(reply: Reply) -> tuple[float, ...] | None:
    """Return events by bucket of ``LIMITS`` from a LATENCY HISTOGRAM, over all commands but our own; None where it has none at all.

    The server leaves out buckets in which nothing was added, and gives sums up to each limit.
    """
    entries = _pairs(reply)
    if not entries:
        return None
    sums = [0.0] * BUCKETS
    for name, of_command in entries:
        if str(name).partition("|")[0] not in _OUR_OWN:
            fields = {str(field): value for field, value in _pairs(of_command)}
            for number, count in enumerate(_filled(_pairs(fields.get("histogram_usec", [])))):
                sums[number] += count
    return tuple(above - below for below, above in pairwise([0.0, *sums]))


def _filled(pairs: Sequence[tuple[Reply, Reply]]) -> list[float]:
    """Return the sums up to each of ``LIMITS``."""
    sums = [0.0] * BUCKETS
    for limit_us, count in pairs:
        if not isinstance(limit_us, int) or not isinstance(count, int) or limit_us < 1:
            raise SourceError(Problem.REFUSED, "the answer is not Redis's")
        number = min(max(round(math.log2(limit_us * 1e-6 / UNIT_S)), 0), BUCKETS - 1)
        sums[number:] = [float(count)] * (BUCKETS - number)
    return sums


def _pairs(reply: Reply) -> list[tuple[Reply, Reply]]:
    if not isinstance(reply, list) or len(reply) % 2:
        raise SourceError(Problem.REFUSED, "the answer is not Redis's")
    return list(zip(reply[::2], reply[1::2], strict=True))


def _explained(error: str) -> str:
    wants_password = error.startswith(("NOAUTH", "WRONGPASS"))
    return f"{error} (set {PASSWORD} to the password)" if wants_password else error


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> RedisFetch:
    return RedisFetch(Connection(address(rest), timeout_s=timeout_s), kind)


SOURCE = Source("redis", "HOST:PORT", "throughput=redis:127.0.0.1:6379", (THROUGHPUT, LATENCY), check, _open)
