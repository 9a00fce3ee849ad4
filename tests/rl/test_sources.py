"""What is made of what servers, files, commands and meters say; the real ones are met in tests/real/test_metrics_*.py."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.fake import FakeHost
from hal.host import CommandResult
from rl.errors import MetricDeniedError, MetricUnavailableError
from rl.measured import ENERGY, LATENCY, THROUGHPUT, Problem
from rl.reward import open_reader, parse_metric
from rl.sources import postgresql, prometheus, redis, uprobe
from rl.sources.found import Count, Found, Level, SourceError, Spread
from rl.sources.numbers import last_number
from rl.sources.resp import Reply

# --- numbers in what was printed


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", 42.0),
        ("requests: 1200.5 /s\n", 1200.5),
        ("p99 3.2ms", 3.2),
        ("a=1 b=-2.5e-3\n\n", -2.5e-3),
        ("load 93%", 93.0),
        ("tps = .5 (without initial connection time)", 0.5),
        ("7.", 7.0),
        ("+6E+2", 600.0),
        ("12 in cpu0", 12.0),
        ("inf", math.inf),
        ("5\n-Infinity", -math.inf),
    ],
)
def test_the_last_number_counts(text: str, number: float) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize("text", ["", "\n", "none", "p99", "1,234", "1.234.567", "v1.2.3", "0x1f", "info", "٤٢"])
def test_what_is_no_number_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        last_number(text)
    assert caught.value.problem is Problem.NOT_A_NUMBER


@given(st.floats(allow_nan=False, width=64), st.sampled_from(["{}", "{}\n", "x: {}", "{} ms", "1 2 {}"]))
def test_every_number_is_read_back(value: float, form: str) -> None:
    assert last_number(form.format(repr(value))) == value


def test_nan_is_a_number_that_is_none() -> None:
    assert math.isnan(last_number("3 nan"))


# --- Prometheus

PAGE = """
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",path="/a"} 900
http_requests_total{code="200",path="/b"} 100
http_requests_total{code="500",path="/a"} 7
# TYPE http_requests gauge
http_requests 3
# TYPE old counter
old 11
# TYPE seconds histogram
seconds_bucket{job="a",le="0.1"} 10
seconds_bucket{job="a",le="0.5"} 30
seconds_bucket{job="a",le="+Inf"} 31
seconds_sum{job="a"} 6.5
seconds_count{job="a"} 31
seconds_bucket{job="b",le="0.1"} 1
seconds_bucket{job="b",le="0.5"} 2
seconds_bucket{job="b",le="+Inf"} 3
seconds_sum{job="b"} 2
seconds_count{job="b"} 3
seconds_bucket{job="other",le="9"} 3
seconds_bucket{job="other",le="+Inf"} 3
# TYPE rpc summary
rpc{quantile="0.5"} 0.01
rpc{quantile="0.99"} 0.07
rpc_sum 5
rpc_count 50
# TYPE idle summary
idle_sum 5
idle_count 50
# TYPE dated counter
dated_total 5 1700000000500
# TYPE watts gauge
watts{package="0"} 11.5
watts{package="1"} NaN
untyped_total 12
plain{} 2.5
plain{host="a\\"b\\\\c"} 4
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e9
"""


def asked(selected: str, kind: str = THROUGHPUT) -> Found:
    return prometheus.interpret(PAGE, prometheus.parse(f"http://h/metrics#{selected}"), kind)


BORN = "1700000000.0"


@pytest.mark.parametrize(
    ("selected", "kind", "found"),
    [
        ("http_requests_total", THROUGHPUT, Count(1007.0, BORN)),
        ('http_requests_total{code="200"}', THROUGHPUT, Count(1000.0, BORN)),
        ('http_requests_total{code="200",path="/b"}', THROUGHPUT, Count(100.0, BORN)),
        ("http_requests", THROUGHPUT, Level(3.0)),
        ("old", THROUGHPUT, Count(11.0, BORN)),
        ("untyped_total", THROUGHPUT, Count(12.0, BORN)),
        ("dated_total", THROUGHPUT, Count(5.0, BORN, stamp_s=1700000000.5)),
        ('seconds{job="a"}', LATENCY, Spread((0.1, 0.5, math.inf), (10.0, 20.0, 1.0), BORN)),
        ('seconds_bucket{job="a"}', LATENCY, Spread((0.1, 0.5, math.inf), (10.0, 20.0, 1.0), BORN)),
        ('seconds_count{job="a"}', THROUGHPUT, Count(31.0, BORN)),
        ("seconds_sum", THROUGHPUT, Count(8.5, BORN)),
        ("rpc", LATENCY, Level(0.07)),
        ("rpc", THROUGHPUT, Count(50.0, BORN)),
        ("rpc_count", THROUGHPUT, Count(50.0, BORN)),
        ('watts{package="0"}', ENERGY, Level(11.5)),
        ('plain{host="a\\"b\\\\c"}', THROUGHPUT, Level(4.0)),
    ],
)
def test_a_metric_is_found_by_name_and_labels(selected: str, kind: str, found: Found) -> None:
    assert asked(selected, kind) == found


def test_series_with_the_same_buckets_are_added_up() -> None:
    page = PAGE.replace('job="other"', 'job="c"').replace('le="9"', 'le="0.1"')
    with pytest.raises(SourceError, match="different buckets") as caught:
        asked("seconds", LATENCY)
    assert caught.value.problem is Problem.UNFIT
    page = "\n".join(line for line in page.splitlines() if 'job="c"' not in line)
    found = prometheus.interpret(page, prometheus.parse("http://h#seconds"), LATENCY)
    assert found == Spread((0.1, 0.5, math.inf), (11.0, 21.0, 2.0), BORN)


@pytest.mark.parametrize(
    ("selected", "kind", "problem", "says"),
    [
        ("nothing", THROUGHPUT, Problem.GONE, "there is none"),
        ('http_requests_total{code="404"}', THROUGHPUT, Problem.GONE, "with other labels"),
        ("watts", ENERGY, Problem.UNFIT, "2 series match"),
        ("idle", LATENCY, Problem.UNFIT, "no quantile 0.99"),
    ],
)
def test_what_is_not_there_is_named(selected: str, kind: str, problem: Problem, says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        asked(selected, kind)
    assert caught.value.problem is problem


@pytest.mark.parametrize("page", ["<html>x_total</html>", 'x_total{a="b} 3', "x_total three", "# TYPE x_total"])
def test_what_is_another_format_is_refused_or_has_no_such_metric(page: str) -> None:
    with pytest.raises(SourceError) as caught:
        prometheus.interpret(page, prometheus.parse("http://h#x_total"), THROUGHPUT)
    assert caught.value.problem in (Problem.REFUSED, Problem.GONE)


def test_labels_and_addresses_are_parsed() -> None:
    selection = prometheus.parse('http://h:1/m?a=b#x_y:z{ a="1,2}" , b="q\\"\\\\\\n", }')
    assert selection.url == urlsplit("http://h:1/m?a=b")
    assert (selection.name, dict(selection.labels)) == ("x_y:z", {"a": "1,2}", "b": 'q"\\\n'})


# --- Redis


def test_a_histogram_of_latencies_is_put_into_buckets_of_its_own() -> None:
    own: list[Reply] = ["calls", 5, "histogram_usec", [1, 5]]
    get: list[Reply] = ["calls", 100, "histogram_usec", [1, 40, 4, 90, 33, 99, 2113, 100]]
    reply: list[Reply] = ["get", get, "set", ["calls", 1], "info", own, "latency|histogram", own]
    counts = redis.spread(reply)
    assert counts is not None
    assert {number: count for number, count in enumerate(counts) if count} == {0: 40, 2: 50, 5: 9, 11: 1}
    assert redis.LIMITS[11] == pytest.approx(2113e-6, rel=0.02)
    assert redis.spread([]) is None


@pytest.mark.parametrize("reply", [None, 3, "x", ["get"], ["get", 5], ["get", ["histogram_usec", ["a", 1]]]])
def test_what_is_no_histogram_is_refused(reply: Reply) -> None:
    with pytest.raises(SourceError):
        redis.spread(reply)


# --- PostgreSQL


def test_transactions_are_counted_and_which_are_our_own() -> None:
    answer = "1042|2026-01-01 10:00:00+00|\n"
    assert postgresql.count(answer) == Count(1042.0, "2026-01-01 10:00:00+00|", own=1.0, of_events=True)
    for bad in ("", "x|y|z", "nan|a|b", "(0 rows)"):
        with pytest.raises(SourceError):
            postgresql.count(bad)


def test_psql_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = open_reader(parse_metric("throughput=postgresql:"), FakeHost()).read(0.0)
    assert missing.problem is Problem.GONE
    assert "postgresql-client" in missing.because


@pytest.mark.parametrize(
    ("script", "problem", "says"),
    [
        ("echo 'psql: error: no such role' >&2; echo more; exit 2", Problem.REFUSED, "no such role"),
        ("exit 0", Problem.REFUSED, "without a word"),
        ("read a; echo '(0 rows)'; echo dna-answered; read b", Problem.NOT_A_NUMBER, "0 rows"),
        ("read a; echo 7; read b; read c", Problem.SLOW, "0.3 s"),
        ("read a; echo 'WARNING: x'; echo '7|a|b'; echo dna-answered; read b; read c", Problem.FIRST, "first"),
    ],
)
def test_whatever_psql_does_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, problem: Problem, says: str
) -> None:
    psql = tmp_path / "psql"
    psql.write_text(f"#!/bin/sh\n{script}\n")
    psql.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    timeout_s = 0.3 if problem is Problem.SLOW else 30.0
    reader = open_reader(parse_metric("throughput=postgresql:"), FakeHost(), timeout_s=timeout_s)
    measured = reader.read(0.0)
    assert measured.problem is problem
    assert says in measured.because
    reader.close()


# --- commands and files on a machine in memory


def test_a_command_is_read_by_its_last_number() -> None:
    host = FakeHost(commands={"tool": CommandResult(0, "p99: 12 ms\np99: 13 ms\n", "")})
    reader = open_reader(parse_metric("latency-p99=command:tool --short 'a b'"), host)
    assert reader.read(0.0).value == 13.0
    host.commands["tool"] = CommandResult(1, "14", "broken\n")
    assert "tool ended with 1: broken" in reader.read(1.0).because
    del host.commands["tool"]
    assert reader.read(2.0).problem is Problem.GONE


def test_a_file_counts_when_it_was_written_anew() -> None:
    host = FakeHost({"/run/app/rate": "10\n"})
    reader = open_reader(parse_metric("throughput=file:/run/app/rate"), host)
    assert reader.read(0.0).problem is Problem.FIRST
    assert reader.read(1.0).problem is Problem.UNCHANGED
    host.modified["/run/app/rate"] = 5
    assert reader.read(2.0).value == 10.0
    host.files["/run/app/rate"] = "11"  # as in /sys, where the time of writing says nothing
    assert reader.read(3.0).value == 11.0
    host.files["/run/app/rate"] = ""
    assert reader.read(4.0).problem is Problem.NOT_A_NUMBER
    host.files["/run/app/rate"] = "1" * (1 << 20 | 1)
    assert "command:tail" in reader.read(5.0).because
    del host.files["/run/app/rate"]
    assert reader.read(6.0).problem is Problem.GONE


def test_a_number_that_grows_becomes_its_rate() -> None:
    host = FakeHost({"/sys/packets": "1000\n"})
    reader = open_reader(parse_metric("throughput=rate:file:/sys/packets"), host)
    assert reader.read(0.0).problem is Problem.FIRST
    host.files["/sys/packets"] = "1500\n"
    host.advance(5.0)
    assert reader.read(5.0).value == pytest.approx(100.0)


# --- energy

CAP = "/sys/class/powercap/intel-rapl:0"


def test_energy_is_power_of_the_packages_or_of_a_domain() -> None:
    zone = {"name": "package-0\n", "energy_uj": "0\n", "max_energy_range_uj": "262143328850\n"}
    host = FakeHost({f"{CAP}/{name}": text for name, text in zone.items()})
    reader, other = (open_reader(parse_metric(text), host) for text in ("energy=rapl", "energy=rapl:ram"))
    assert reader.read(0.0).problem is Problem.FIRST
    other.read(0.0)
    host.files[f"{CAP}/energy_uj"] = "250000000\n"
    host.advance(5.0)
    assert reader.read(5.0).value == pytest.approx(50.0)
    missing = other.read(5.0)
    assert missing.problem is Problem.UNFIT
    assert "pkg" in missing.because
    host.advance(5.0)
    assert reader.read(10.0).problem is Problem.UNCHANGED


def test_a_machine_without_meters_says_so_at_once() -> None:
    with pytest.raises(MetricUnavailableError) as caught:
        open_reader(parse_metric("energy=rapl"), FakeHost())
    assert caught.value.remedy
    zone = {f"{CAP}/name": "package-0", f"{CAP}/energy_uj": "1", f"{CAP}/max_energy_range_uj": "9"}
    with pytest.raises(MetricDeniedError):
        open_reader(parse_metric("energy=rapl"), FakeHost(zone, denied=[f"{CAP}/energy_uj"], uid=1000))


# --- durations of functions


def test_buckets_are_an_eighth_of_a_power_of_two_and_end_where_the_next_begins() -> None:
    limits = np.array(uprobe.limits())
    assert len(limits) == uprobe.BUCKETS
    assert limits[0] == pytest.approx(1e-9)
    assert limits[-1] == pytest.approx(2.0**41 * 1e-9)
    steps = np.diff(limits) / limits[:-1]
    assert (steps > 0).all()
    assert steps[8:].max() <= 1 / 8 + 1e-9
