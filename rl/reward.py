"""What a workload is judged by: ``KIND=SOURCE`` as given on a command line, to readers of it.

    throughput=redis:127.0.0.1:6379
    2*throughput=prometheus:http://127.0.0.1:9100/metrics#requests_total{code="200"}
    latency-p99=command:tail -n1 /run/app/p99

Where several are given, ``sculpt.objective`` makes one number of them. Where none is, see ``rl.proxies``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hal.host import Host
from rl.errors import MetricError
from rl.measured import KINDS, Metric
from rl.sources import command, file, postgresql, prometheus, rapl, redis, uprobe
from rl.sources.found import Count, Fetch, Level, Source
from rl.sources.interpreter import Patience
from rl.sources.reader import TIMEOUT_S, SourceReader

_MODULES = (prometheus, command, file, redis, postgresql, uprobe, rapl)
SOURCES: dict[str, Source] = {module.SOURCE.name: module.SOURCE for module in _MODULES}
ALIASES = {"postgres": "postgresql"}
RATE = "rate"
"""Before ``file:`` or ``command:``: the number there only grows, and its rate is meant."""
GROWING = ("file", "command")
_OWN_UNIT = ("redis", "postgresql", "uprobe", "rapl")
"""Sources whose unit is known; of the others their owner alone knows it."""


def parse_metric(text: str) -> Metric:
    """Return the metric that ``[WEIGHT*]KIND=SOURCE`` names. Pure: the source is not asked.

    Raises:
        MetricError: it is not that; the message says what is wrong with it, the remedy what to write.
    """
    named, sign, source = text.strip().partition("=")
    if not sign:
        raise MetricError(f"--metric {text!r} is no KIND=SOURCE", remedy=_example())
    weight, kind = _weight(named.strip(), text)
    if kind not in KINDS:
        raise MetricError(
            f"--metric {text!r}: {kind!r} is no kind{_meant(kind, KINDS)}", remedy=f"one of {', '.join(KINDS)}"
        )
    place = _place(source.strip(), text)
    if kind not in place.source.kinds:
        gives = " and ".join(place.source.kinds)
        raise MetricError(
            f"--metric {text!r}: {place.source.name} gives {gives}, not {kind}", remedy=f"write {place.source.example}"
        )
    place.source.check(place.rest)
    unit, direction = KINDS[kind]
    return Metric(kind, source.strip(), weight, unit if place.source.name in _OWN_UNIT else "", direction)


def parse_metrics(texts: Sequence[str]) -> tuple[Metric, ...]:
    """Return all that are named; MetricError where one makes no sense, or is there twice."""
    metrics = tuple(parse_metric(text) for text in texts)
    for number, metric in enumerate(metrics):
        if any((metric.kind, metric.source) == (other.kind, other.source) for other in metrics[:number]):
            raise MetricError(
                f"--metric {metric.kind}={metric.source} is given twice",
                remedy=f"give it once, with a weight: 2*{metric.kind}={metric.source}",
            )
    return metrics


def open_reader(
    metric: Metric,
    host: Host,
    *,
    timeout_s: float = TIMEOUT_S,
    patience: Patience | None = None,
) -> SourceReader:
    """Open what a metric is read from.

    Args:
        timeout_s: how long one read keeps its caller waiting at most.

    Raises:
        MetricError: this machine does not have it, or this user may not read it. A server that is not there is no error:
            it may come, and each read says that it has not.
    """
    place = _place(metric.source, str(metric))
    fetch = place.source.open(place.rest, metric.kind, host, timeout_s)
    if place.is_rate:
        fetch = _Growing(fetch)
    return SourceReader(metric, fetch, clock=host.monotonic_ns, timeout_s=timeout_s, patience=patience)


@dataclass(frozen=True, slots=True)
class _Place:
    source: Source
    rest: str
    is_rate: bool


def _place(text: str, whole: str) -> _Place:
    name, _, rest = text.partition(":")
    is_rate = name == RATE
    if is_rate:
        name, _, rest = rest.partition(":")
        if name not in GROWING:
            raise MetricError(
                f"--metric {whole!r}: rate: goes before file: or command:, whose numbers may grow",
                remedy="leave it out: other sources know by themselves what is a counter",
            )
    found = SOURCES.get(ALIASES.get(name, name))
    if found is None:
        known = ", ".join(f"{source.name}:" for source in SOURCES.values())
        raise MetricError(
            f"--metric {whole!r}: {name!r} is no source{_meant(name, SOURCES)}", remedy=f"one of {known}; {_example()}"
        )
    return _Place(found, rest, is_rate)


def _weight(named: str, text: str) -> tuple[float, str]:
    number, star, kind = named.rpartition("*")
    if not star:
        return 1.0, named
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0 and number.isascii()):
        raise MetricError(f"--metric {text!r}: {number!r} is no weight above 0", remedy=f"as in 2*{kind.strip()}=...")
    return weight, kind.strip()


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _example() -> str:
    return f"write it as in --metric {redis.SOURCE.example}"


@dataclass(slots=True)
class _Growing:
    """A source whose level only grows."""

    fetch_level: Fetch

    def fetch(self) -> Count:
        found = self.fetch_level.fetch()
        assert isinstance(found, Level)
        return Count(found.value)

    def close(self) -> None:
        self.fetch_level.close()
