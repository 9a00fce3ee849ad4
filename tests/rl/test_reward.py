"""How metrics are named: what is taken, and that what is not gets one line that says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import EXIT_USAGE
from hal.fake import FakeHost
from rl.errors import MetricError
from rl.measured import HIGHER, KINDS, LOWER, Metric
from rl.reward import SOURCES, open_reader, parse_metric, parse_metrics
from rules.rule import EFFECTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_every_source_takes_its_own_example(source) -> None:  # type: ignore[no-untyped-def]
    metric = parse_metric(source.example)
    assert metric.source.partition(":")[0] == source.name
    assert metric.kind in source.kinds
    assert not metric.is_proxy
    assert str(metric) == source.example


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_documented(source: str) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert f"## `{source}" in text
    assert SOURCES[source].example in text


def test_kinds_are_those_that_rules_speak_of() -> None:
    assert tuple(KINDS) == EFFECTS


def test_weight_unit_and_direction() -> None:
    metric = parse_metric("2*latency-p99=redis:127.0.0.1:6379")
    assert (metric.weight, metric.unit, metric.direction) == (2.0, "s", LOWER)
    assert str(metric) == "2*latency-p99=redis:127.0.0.1:6379"
    metric = parse_metric(" 0.5 * throughput = command:tail -n1 out.txt ")
    assert (metric.weight, metric.unit, metric.direction) == (0.5, "", HIGHER)
    assert metric.source == "command:tail -n1 out.txt"


@pytest.mark.parametrize(
    "text",
    [
        "throughput=postgres:",
        "throughput=postgresql://dna@localhost:5433/shop",
        "throughput=postgresql:host='/run/my sockets' dbname=shop",
        "throughput=rate:file:/sys/class/net/lo/statistics/rx_packets",
        "throughput=redis:[::1]:6379",
        "throughput=redis:/run/redis/redis.sock",
        'throughput=prometheus:https://[::1]:9100/m?x=1#a_total{b="c,}d\\"e", f="g"}',
        "throughput=prometheus:http://host#a_total{}",
        "energy=prometheus:http://host:1/m#joules_total",
        "energy=rapl:ram",
        "throughput=command:sh -c 'a | b'",
        "latency-p99=uprobe:/proc/12/root/usr/bin/x:ns::f",
    ],
)
def test_what_is_taken(text: str) -> None:
    assert parse_metric(text).source == text.partition("=")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no KIND=SOURCE"),
        ("redis:127.0.0.1:6379", "is no KIND=SOURCE"),
        ("thruput=redis:127.0.0.1:6379", "did you mean throughput?"),
        ("latency=redis:127.0.0.1:6379", "'latency' is no kind"),
        ("=redis:127.0.0.1:6379", "'' is no kind"),
        ("throughput=", "'' is no source"),
        ("throughput=promtheus:http://x#y", "did you mean prometheus?"),
        ("throughput=http://x#y", "'http' is no source"),
        ("0*throughput=rapl", "no weight above 0"),
        ("-1*throughput=rapl", "no weight above 0"),
        ("nan*throughput=rapl", "no weight above 0"),
        ("inf*throughput=rapl", "no weight above 0"),
        ("²*throughput=rapl", "no weight above 0"),
        ("*throughput=rapl", "no weight above 0"),
        ("throughput=rapl", "rapl gives energy, not throughput"),
        ("energy=rapl:../..", "a domain is"),
        ("latency-p99=postgresql:", "postgresql gives throughput, not latency-p99"),
        ("energy=redis:127.0.0.1:6379", "redis gives throughput and latency-p99"),
        ("throughput=redis:127.0.0.1", "no HOST:PORT"),
        ("throughput=redis:127.0.0.1:0", "no HOST:PORT"),
        ("throughput=redis:127.0.0.1:65536", "no HOST:PORT"),
        ("throughput=redis:127.0.0.1:٦٣٧٩", "no HOST:PORT"),
        ("throughput=redis::6379", "no HOST:PORT"),
        ("throughput=file:out.txt", "no absolute path"),
        ("throughput=file:", "no absolute path"),
        ("throughput=command:", "without a command"),
        ("throughput=command:'tail", "no closing quotation"),
        ("throughput=command:tail out | cut -f1", "| means something to a shell"),
        ("throughput=rate:redis:127.0.0.1:6379", "rate: goes before file: or command:"),
        ("throughput=rate:", "rate: goes before"),
        ("throughput=prometheus:127.0.0.1:9100#x", "no URL of http"),
        ("throughput=prometheus:ftp://h/#x", "no URL of http"),
        ("throughput=prometheus:http://h:x/#y", "is no URL"),
        ("throughput=prometheus:http://h:70000/#y", "is no URL"),
        ("throughput=prometheus:http://h/a b#y", "no URL of http"),
        ("throughput=prometheus:http://h/metrics", "no metric's name"),
        ("throughput=prometheus:http://h/metrics#9x", "is no metric's name"),
        ("throughput=prometheus:http://h/metrics#x{a=b}", "are no labels"),
        ('throughput=prometheus:http://h/metrics#x{a="b" c="d"}', "are no labels"),
        ('throughput=prometheus:http://h/metrics#x{a="b",a="d"}', "are no labels"),
        ("throughput=prometheus:http://me:secret@h/metrics#x", "seen by all users"),
        ("throughput=postgresql:shop", "neither 'name=value ...' nor a URI"),
        ("throughput=postgresql:-c drop", "neither 'name=value ...' nor a URI"),
        ("throughput=postgresql:host=x password=y", "seen by all users"),
        ("throughput=postgresql://a:b@h/x", "seen by all users"),
        ("throughput=uprobe:nginx:f", "no /PATH:FUNCTION"),
        ("throughput=uprobe:/usr/sbin/nginx", "no /PATH:FUNCTION"),
        ("throughput=uprobe:/usr/sbin/nginx:", "no /PATH:FUNCTION"),
    ],
)
def test_what_is_not_taken_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(MetricError, match=_literal(message)) as caught:
        parse_metric(text)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def _literal(text: str) -> str:
    import re

    return re.escape(text)


@given(st.text(max_size=60), st.sampled_from([*KINDS, ""]), st.sampled_from([*(f"{name}:" for name in SOURCES), ""]))
def test_whatever_is_typed_is_taken_or_refused(text: str, kind: str, source: str) -> None:
    metric: Metric | None = None
    remedy = ""
    try:
        metric = parse_metric(f"{kind}={source}{text}")
    except MetricError as error:
        remedy = error.remedy
    assert remedy if metric is None else parse_metric(str(metric)) == metric


def test_the_same_twice_is_a_mistake() -> None:
    with pytest.raises(MetricError, match="given twice") as caught:
        parse_metrics(["energy=rapl", "throughput=redis:h:1", "2*energy=rapl"])
    assert "2*energy=rapl" in caught.value.remedy
    assert len(parse_metrics(["throughput=redis:h:1", "latency-p99=redis:h:1"])) == 2


def test_opening_a_server_that_is_not_there_is_no_error() -> None:
    for text in ("throughput=redis:127.0.0.1:1", "throughput=file:/nothing", "throughput=postgresql:"):
        open_reader(parse_metric(text), FakeHost()).close()
