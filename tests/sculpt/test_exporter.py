"""Metrics as who scrapes them sees them: over HTTP, parsed, and read by our own ``prometheus:`` source."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hal.host import LinuxHost
from rl.decision import HOLD, TRIAL, Decision
from rl.policy import BASELINE, Arm
from rl.reward import open_reader, parse_metric
from sculpt import alert_settings, exporter
from sculpt.actuator import Done
from sculpt.alert_settings import AlertSettings, with_options
from sculpt.alerting import Alerting, open_alerting
from sculpt.alerts import KINDS, Alert, alert_data, with_alerts
from sculpt.candidates import Candidate
from sculpt.errors import AlertSettingsError, SculptError
from sculpt.exporter import AT_ONCE, MOST_NAME, MOST_WORKLOADS, Exporter, Metrics
from sculpt.hooks import HEADER_VARIABLE
from sculpt.outlets import Counts
from sculpt.step import Judged, Record

PATIENT_S = 60.0
HOLDS = Decision(Arm(BASELINE), HOLD, "")


def record(
    t: float = 1000.0,
    *,
    workload: str = "redis",
    reward: float | None = 42.0,
    decision: Decision = HOLDS,
    done: Done | None = None,
) -> Record:
    return Record(
        t, workload, BASELINE, Judged(reward), decision, done,
        own_share=0.004, room_s=9.5, quarantined=("a", "b"), took_s=0.02, lost=("cpu.affinity of pid 7 is 1",),
    )  # fmt: skip


@contextmanager
def scraped(about: dict[str, str] | None = None) -> Iterator[Alerting]:
    alerting = open_alerting(AlertSettings(prometheus="0"), about=about)
    try:
        yield alerting
    finally:
        alerting.close()


def page(alerting: Alerting) -> str:
    with urllib.request.urlopen(alerting.address, timeout=PATIENT_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def families(alerting: Alerting) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page(alerting))}


def value(alerting: Alerting, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for family in families(alerting).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_what_a_step_shows_is_scraped() -> None:
    with scraped({"mode": "apply"}) as alerting:
        assert alerting.address.startswith("http://127.0.0.1:")
        alerting(record())
        assert value(alerting, "dna_sculpt_run_info", mode="apply") == 1
        assert value(alerting, "dna_sculpt_reward", workload="redis") == 42
        assert value(alerting, "dna_sculpt_arm_info", workload="redis", arm="baseline", state="hold") == 1
        assert value(alerting, "dna_sculpt_budget_left_seconds", workload="redis") == 9.5
        assert value(alerting, "dna_sculpt_quarantined_arms", workload="redis") == 2
        assert value(alerting, "dna_sculpt_lost_settings", workload="redis") == 1
        assert value(alerting, "dna_sculpt_own_cpu_ratio", workload="redis") == 0.004
        assert value(alerting, "dna_sculpt_last_step_timestamp_seconds", workload="redis") == 1000
        assert value(alerting, "dna_sculpt_alerts_total", workload="redis", kind="lost", severity="warning") == 1
        assert value(alerting, "dna_sculpt_alerts_total", workload="redis", kind="blind", severity="warning") == 0
        assert value(alerting, "dna_sculpt_step_duration_seconds_count", workload="redis") == 1
        assert value(alerting, "dna_sculpt_step_duration_seconds_bucket", workload="redis", le="0.01") == 0
        assert value(alerting, "dna_sculpt_step_duration_seconds_bucket", workload="redis", le="0.025") == 1
        assert value(alerting, "dna_sculpt_gain_ratio", workload="redis") is None
        assert value(alerting, "process_start_time_seconds") is not None


def test_what_happens_is_counted() -> None:
    with scraped() as alerting:
        for event in ("trial", "promoted", "trial", "rolled back", "undecided", ""):
            alerting(record(decision=replace(HOLDS, event=event), done=Done(Candidate(), changed=2)))
        alerting(record(reward=None, done=Done(Candidate(), error="no")))
        counted = {name: value(alerting, f"dna_sculpt_{name}_total") for name in exporter._EVER}
    assert counted == {
        "intervals": 7, "missing_measurements": 1, "trials": 2, "promotions": 1, "rollbacks": 1, "undecided_trials": 1,
        "phases": 0, "changes": 12, "failed_changes": 1,
    }  # fmt: skip


def test_a_gain_is_a_multiple_with_its_limits() -> None:
    with scraped() as alerting:
        tried = Decision(Arm("x"), TRIAL, "", candidate="x", gain=math.log(1.2), interval=(0.0, math.log(1.5)))
        alerting(record(decision=tried))
        alerting(record())
        found = [value(alerting, f"dna_sculpt_gain{which}_ratio") for which in ("", "_lower", "_upper")]
        assert found == pytest.approx([1.2, 1.0, 1.5])
        alerting(record(decision=Decision(Arm("y"), TRIAL, "", "trial", "y")))
        assert value(alerting, "dna_sculpt_gain_ratio") is None


def test_names_follow_the_conventions() -> None:
    with scraped() as alerting:
        alerting(record(decision=replace(HOLDS, gain=0.1, interval=(0.0, 0.2))))
        found = families(alerting)
    own = [family for name, family in found.items() if name.startswith("dna_")]
    assert len(own) > 20
    for family in own:
        assert family.documentation, family.name
        assert family.name == family.name.lower()
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample
            assert not {"pid", "command"} & set(sample.labels)


def test_nothing_of_it_is_in_the_registry_that_programs_share() -> None:
    with scraped() as alerting:
        alerting(record())
        names = {family.name for family in prometheus_client.REGISTRY.collect()}
    assert not [name for name in names if name.startswith("dna_")]


@pytest.mark.long
def test_workloads_and_names_are_bounded() -> None:
    with scraped() as alerting:
        for n in range(3 * MOST_WORKLOADS):
            arm = "x" * 1000
            alerting(replace(record(workload=f"{n:04d}" + "w" * 1000), in_force=arm))
        samples = [sample for family in families(alerting).values() for sample in family.samples]
    workloads = {sample.labels["workload"] for sample in samples if "workload" in sample.labels}
    assert len(workloads) == MOST_WORKLOADS
    assert max(len(value) for sample in samples for value in sample.labels.values()) <= MOST_NAME


def test_what_has_not_been_seen_for_long_is_not_told_as_if_it_were_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "STALE_S", -1.0)
    monkeypatch.setattr(exporter, "STALE_STEPS", 0.0)
    with scraped() as alerting:
        alerting(record())
        assert value(alerting, "dna_sculpt_reward") is None
        assert value(alerting, "dna_sculpt_intervals_total") == 1


def test_deliveries_are_counted() -> None:
    metrics = Metrics({}, lambda: {"webhook": Counts(delivered=3, failed=2, dropped=1)})
    served = Exporter(metrics, "127.0.0.1", 0)
    served.start()
    try:
        with urllib.request.urlopen(served.url, timeout=PATIENT_S) as answer:
            text = answer.read().decode()
    finally:
        served.close()
    assert 'dna_sculpt_alert_deliveries_total{outcome="failed",sink="webhook"} 2.0' in text


def test_our_own_metric_source_reads_it() -> None:
    with scraped() as alerting:
        alerting(record())
        source = f'throughput=prometheus:{alerting.address}#dna_sculpt_intervals_total{{workload="redis"}}'
        reader = open_reader(parse_metric(source), LinuxHost(), timeout_s=PATIENT_S)
        try:
            reader.read(0.0)
            for _ in range(50):
                alerting(record())
            measured = reader.read(1.0)
        finally:
            reader.close()
    assert measured.value is not None, measured
    assert measured.value > 0


def test_a_port_that_is_taken_is_said_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SculptError, match=f"127.0.0.1:{port}: Address already in use") as raised:
            open_alerting(AlertSettings(prometheus=str(port)))
    assert "--prometheus" in raised.value.remedy


def test_other_addresses_are_answered_only_when_they_are_named() -> None:
    with pytest.raises(AlertSettingsError, match="whom to answer"):
        with_options(AlertSettings(), prometheus=":9464")
    alerting = open_alerting(with_options(AlertSettings(), prometheus="0.0.0.0:0"))
    try:
        assert alerting.exporter is not None
        assert alerting.exporter._server.server_address[0] == "0.0.0.0"
    finally:
        alerting.close()
    with pytest.raises(SculptError, match="cannot be answered"):
        open_alerting(AlertSettings(prometheus="192.0.2.1:9464"))  # of nobody: RFC 5737


@pytest.mark.slow
def test_those_who_ask_and_say_nothing_do_not_keep_others_waiting_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "ANSWERED_S", 0.5)
    with scraped() as alerting:
        alerting(record())
        assert alerting.exporter is not None
        address = alerting.exporter._server.server_address[:2]
        before = threading.active_count()
        silent = [
            socket.create_connection((str(address[0]), int(address[1])), timeout=PATIENT_S) for _ in range(3 * AT_ONCE)
        ]
        try:
            assert threading.active_count() <= before + AT_ONCE
            for one in silent:
                assert one.recv(1) == b""  # turned away, or cut off
        finally:
            for one in silent:
                one.close()
        assert value(alerting, "dna_sculpt_reward") == 42


def test_steps_go_on_while_it_is_scraped() -> None:
    with scraped() as alerting:
        stop = threading.Event()
        pages: list[str] = []

        def scrape() -> None:
            while not stop.is_set():
                pages.append(page(alerting))

        threads = [threading.Thread(target=scrape) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(500):
            alerting(record(1000.0 + n, workload=f"w{n % 10}"))
        stop.set()
        for thread in threads:
            thread.join(PATIENT_S)
        assert pages
        for one in pages[:20]:
            list(text_string_to_metric_families(one))


@pytest.mark.long
def test_nothing_is_loaded_where_nothing_is_asked() -> None:
    code = (
        "import sys; from sculpt.alerting import open_alerting; from sculpt.alert_settings import AlertSettings\n"
        "open_alerting(AlertSettings()).close(); print('prometheus_client' in sys.modules, 'http.server' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["False", "False"]


def test_there_are_no_threads_before_the_first_step(tmp_path: Path) -> None:
    before = threading.active_count()
    alerting = open_alerting(AlertSettings(log=str(tmp_path / "log"), command=("true",), prometheus="0"))
    assert threading.active_count() == before
    alerting(record())
    assert threading.active_count() == before + 3
    assert alerting.close(PATIENT_S) == ()
    assert threading.active_count() == before


def test_only_what_is_asked_for_goes_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    alerting = open_alerting(AlertSettings(log=str(log), kinds=("blind",)))
    for n in range(5):
        alerting(record(1000.0 + 5 * n, reward=None))
    assert alerting.close() == ()
    assert [json.loads(line)["kind"] for line in log.read_text().splitlines()] == ["blind"]


def test_what_the_run_has_raised_is_not_raised_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    alerting = open_alerting(AlertSettings(log=str(log)))
    for raised in ((), (Alert(1000.0, "redis", "jump", "notice", "as the run says"),)):
        alerting(with_alerts(record(), raised))
    assert alerting.close() == ()
    assert [json.loads(line)["text"] for line in log.read_text().splitlines()] == ["as the run says"]


def test_what_was_not_delivered_is_told_at_the_end() -> None:
    alerting = open_alerting(AlertSettings(command=("false",)))
    alerting(record())
    (told,) = alerting.close(PATIENT_S)
    assert told.startswith("alerts: command: 1 not delivered, the last because")


def test_the_page_on_alerts_names_every_metric_kind_setting_and_variable() -> None:
    text = (Path(__file__).parents[2] / "docs/alerts.md").read_text()
    with scraped() as alerting:
        alerting(record(decision=replace(HOLDS, gain=0.1, interval=(0.0, 0.2))))
        found = families(alerting).values()
    metrics = [
        f"{one.name}_total" if one.type == "counter" else f"{one.name}_info" if one.type == "info" else one.name
        for one in found
    ]
    variables = [f"DNA_ALERT_{name.upper()}" for name in alert_data(Alert(0.0, "", "lost", "notice", ""), "box")]
    words = [name for name in metrics if name.startswith("dna_")] + variables + list(KINDS) + [HEADER_VARIABLE]
    assert [word for word in words if f"`{word}`" not in text] == []
    assert [name for name in alert_settings._NAMES if f"\n{name} = " not in text] == []
