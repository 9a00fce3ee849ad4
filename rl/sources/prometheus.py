"""``prometheus:URL#NAME{LABELS}``: one metric of an endpoint in Prometheus's text format.

Counters become rates, histograms the 99th percentile of the interval (or a rate), summaries their own 0.99 quantile, gauges stay as
they are. Series that match are added up, except gauges and quantiles, of which only one may match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from hal.host import Host
from rl.errors import MetricError
from rl.measured import ENERGY, LATENCY, THROUGHPUT, Problem
from rl.sources.found import Count, Found, Level, Source, SourceError, Spread

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

MOST_BYTES = 1 << 24
"""Of an answer; more is no list of metrics."""
_STARTED = "process_start_time_seconds"
_SELECTION = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?", re.DOTALL)
_PLAIN = re.compile(r"[!-~]+")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|$)', re.DOTALL)
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read from where."""

    url: SplitResult
    name: str
    labels: Mapping[str, str]

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series has all the labels that are asked for."""
        return all(labels.get(name) == value for name, value in self.labels.items())

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}}" if labels else self.name


def parse(rest: str) -> Selection:
    """Return what ``URL#NAME{LABELS}`` names; MetricError where it is no such thing."""
    address, _, selected = rest.partition("#")
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise _mistake(rest, f"{address!r} is no URL ({error})") from error
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not _PLAIN.fullmatch(address):
        raise _mistake(rest, f"{address!r} is no URL of http or https")
    if url.username is not None or url.password is not None:
        raise MetricError(
            f"prometheus:{url.scheme}://...@{url.hostname}: a command line is seen by all users, passwords in it too",
            remedy="use command: with a program that gets the password from a file, such as curl --netrc",
        )
    found = _SELECTION.fullmatch(selected)
    if not found:
        raise _mistake(rest, f"{selected!r} is no metric's name" if selected else "no metric's name after '#'")
    return Selection(url, found[1], _labels(found[2] or "", rest))


def _labels(text: str, rest: str) -> Mapping[str, str]:
    body, labels, at = text[1:-1].strip(), dict[str, str](), 0
    while at < len(body):
        found = _LABEL.match(body, at)
        if not found or found[1] in labels:
            raise _mistake(rest, f"{text} are no labels")
        labels[found[1]] = re.sub(r"\\[\\\"n]", lambda escaped: _ESCAPED[escaped[0]], found[2])
        at = found.end()
    return labels


def _mistake(rest: str, what: str) -> MetricError:
    return MetricError(f"prometheus:{rest}: {what}", remedy=f"write it as in {SOURCE.example}")


# --- what an answer says


def interpret(text: str, selection: Selection, kind: str) -> Found:
    """Return what an answer says of the selection. Pure.

    Raises:
        SourceError: it is not there, is another thing than asked for, or is said by several series that cannot be added up.
    """
    family, samples, epoch = _matching(text, selection)
    match family.type:
        case "counter":
            return _count(samples, epoch)
        case "histogram" if selection.name.endswith(("_count", "_sum")):
            return _count([sample for sample in samples if sample.name == selection.name], epoch)
        case "histogram":
            return _spread([sample for sample in samples if sample.name.endswith("_bucket")], epoch)
        case "summary":
            return _summary(samples, selection, kind, epoch)
    if selection.name.endswith("_total"):
        return _count(samples, epoch)
    return _only(samples, selection)


def _matching(text: str, selection: Selection) -> tuple[Family, list[Sample], str]:
    from prometheus_client.parser import text_string_to_metric_families  # here: it takes a fifth of a second to load

    try:
        families = list(text_string_to_metric_families(_relevant(text, selection.name)))
    except ValueError as error:
        raise SourceError(Problem.REFUSED, f"the answer is not in Prometheus's text format: {error}") from error
    epoch = next(
        (str(family.samples[0].value) for family in families if family.name == _STARTED and family.samples), ""
    )
    named = _named(families, selection.name)
    matching = [(family, sample) for family in named for sample in family.samples if selection.takes(sample.labels)]
    if not matching:
        there = "there is, but with other labels" if named else "there is none"
        raise SourceError(Problem.GONE, f"no {selection} at {selection.url.netloc}: {there}")
    # What has no TYPE line comes as a family of its own for each series.
    return matching[0][0], [sample for _, sample in matching], epoch


def _relevant(text: str, name: str) -> str:
    """Return the lines about one metric: parsing thousands of others would take as long as all the rest of the loop."""
    stem = _stem(name)
    starts = (stem, f"# TYPE {stem}", _STARTED)
    return "\n".join(line for line in text.splitlines() if line.startswith(starts)) + "\n"


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _named(families: Sequence[Family], name: str) -> list[Family]:
    """Return the families of a name: as a line bears it, else as its TYPE does.

    The parser takes the _total from the names of counters' families, and adds it to the lines of those that came without.
    """
    by_line = [family for family in families if any(sample.name == name for sample in family.samples)]
    return by_line or [family for family in families if family.name == name]


def _count(samples: Sequence[Sample], epoch: str) -> Count:
    return Count(sum(float(sample.value) for sample in samples), epoch, stamp_s=_stamp(samples))


def _stamp(samples: Sequence[Sample]) -> float | None:
    """Return when they were taken in seconds, where all of them say the same."""
    stamps = {sample.timestamp for sample in samples}
    stamp = stamps.pop() if len(stamps) == 1 else None
    return None if stamp is None else float(stamp)


def _spread(samples: Sequence[Sample], epoch: str) -> Spread:
    cumulative: dict[float, float] = {}
    series: dict[tuple[tuple[str, str], ...], set[float]] = {}
    for sample in samples:
        limit = float(sample.labels.get("le", "nan"))
        others = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        series.setdefault(others, set()).add(limit)
        cumulative[limit] = cumulative.get(limit, 0.0) + float(sample.value)
    if len({frozenset(limits) for limits in series.values()}) != 1:
        raise SourceError(Problem.UNFIT, f"{len(series)} series with different buckets match: add labels")
    limits = tuple(sorted(cumulative))
    if any(limit != limit for limit in limits):
        raise SourceError(Problem.REFUSED, "a bucket has no limit (le)")
    totals = [0.0, *(cumulative[limit] for limit in limits)]
    return Spread(limits, tuple(b - a for a, b in pairwise(totals)), epoch)


def _summary(samples: Sequence[Sample], selection: Selection, kind: str, epoch: str) -> Found:
    if kind != LATENCY or selection.name.endswith(("_count", "_sum")):
        wanted = selection.name if selection.name.endswith(("_count", "_sum")) else f"{selection.name}_count"
        return _count([sample for sample in samples if sample.name == wanted], epoch)
    quantiles = [sample for sample in samples if _is_p99(sample.labels.get("quantile", ""))]
    if not quantiles:
        raise SourceError(Problem.UNFIT, f"the summary {selection.name} has no quantile 0.99")
    return _only(quantiles, selection)


def _is_p99(text: str) -> bool:
    try:
        return float(text) == 0.99
    except ValueError:
        return False


def _only(samples: Sequence[Sample], selection: Selection) -> Level:
    if len(samples) > 1:
        raise SourceError(Problem.UNFIT, f"{len(samples)} series match {selection}: add labels until one does")
    return Level(float(samples[0].value), stamp=_stamp(samples))


# --- asking


@dataclass(slots=True)
class PrometheusFetch:
    """One metric of one endpoint; each read is one request."""

    selection: Selection
    kind: str
    get: Callable[[], str]

    def fetch(self) -> Found:
        """Ask, and return what the answer says."""
        return interpret(self.get(), self.selection, self.kind)

    def close(self) -> None:
        """Nothing is held open."""


def get(url: SplitResult, timeout_s: float) -> str:
    """Return what a URL answers; SourceError or OSError where it does not, or with something else."""
    from http.client import HTTPException  # here: only those who ask load it

    connection = _connection(url, timeout_s)
    try:
        path = (url.path or "/metrics") + (f"?{url.query}" if url.query else "")
        connection.request("GET", path, headers={"Accept": "text/plain; version=0.0.4", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SourceError(Problem.REFUSED, f"{url.netloc}{path} answered {answer.status} {answer.reason}")
        body = answer.read(MOST_BYTES + 1)
    except HTTPException as error:
        raise SourceError(Problem.REFUSED, f"{url.netloc} does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if len(body) > MOST_BYTES:
        raise SourceError(Problem.REFUSED, f"{url.netloc}{path} answers with more than 16 MiB")
    if answer.length:
        raise SourceError(Problem.REFUSED, f"the answer of {url.netloc}{path} was cut off")
    if answer.length is None and not answer.chunked:
        body = body[: body.rfind(b"\n") + 1]  # it may have been cut off, in the middle of a number too
    return body.decode("utf-8", "replace")


def _connection(url: SplitResult, timeout_s: float) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return kind(url.hostname or "", url.port, timeout=timeout_s)


def check(rest: str) -> None:
    """Raise MetricError where it is no URL, name and labels."""
    parse(rest)


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> PrometheusFetch:
    selection = parse(rest)
    return PrometheusFetch(selection, kind, lambda: get(selection.url, timeout_s))


SOURCE = Source(
    "prometheus",
    "URL#NAME{LABELS}",
    "latency-p99=prometheus:http://127.0.0.1:9100/metrics#http_request_duration_seconds",
    (THROUGHPUT, LATENCY, ENERGY),
    check,
    _open,
)
