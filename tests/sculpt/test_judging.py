"""Intervals are judged by the metrics that were named, or by one proxy from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dna.vector import Interval
from hal.fake import FakeHost
from hal.host import LinuxHost
from rl.errors import MetricError
from rl.measured import Problem
from rl.reward import parse_metrics
from sculpt.judging import ByMetrics, ByProxy, open_judge


def interval(
    demand: Mapping[str, float | None] | None = None, features: Mapping[str, float | None] | None = None
) -> Interval:
    return Interval(100.0, features or {}, demand or {}, {}, None, {})


def test_named_metrics_are_read_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    speed, power = tmp_path / "speed", tmp_path / "power"
    for path in (speed, power):
        path.write_text("1")
    judge = open_judge(parse_metrics([f"throughput=file:{speed}", f"energy=file:{power}"]), LinuxHost())
    assert isinstance(judge, ByMetrics)
    first = judge(interval(), 0.0)
    assert first.reward is None
    assert "first" in first.why
    speed.write_text("1000 requests/s")
    power.write_text("50 W")
    found = judge(interval(), 0.0)
    assert found.reward == pytest.approx(20.0)
    assert found.values == ((f"throughput=file:{speed}", 1000.0), (f"energy=file:{power}", 50.0))
    speed.write_text("900")
    power.unlink()
    broken = judge(interval(), 0.0)
    assert broken.reward is None
    assert "power" in broken.why
    assert judge.problems == {Problem.FIRST: 2, Problem.GONE: 1}
    judge.close()
    assert judge(interval(), 0.0).reward is None


def test_a_proxy_is_named_as_such_and_never_exchanged() -> None:
    judge = open_judge([], FakeHost())
    assert isinstance(judge, ByProxy)
    nothing = judge(interval(), 0.0)
    assert nothing.reward is None
    assert "--metric" in nothing.why
    server = {"syscall.network_share": 0.7, "syscall.file_share": 0.0}
    found = judge(interval({"syscalls": 900.0, "messages": 400.0}, server), 0.0)
    assert found.reward == pytest.approx(400.0)
    ((name, value),) = found.values
    assert "proxy" in name
    assert value == 400.0
    assert judge(interval({"instructions": 1e9}), 0.0).reward is None
    assert judge.problems == {Problem.GONE: 1}
    judge.close()


def test_what_cannot_be_opened_closes_what_was(tmp_path: Path) -> None:
    named = [f"throughput=file:{tmp_path}/x", "latency-p99=uprobe:/no/such/program:f"]
    with pytest.raises(MetricError, match="/no/such/program") as caught:
        open_judge(parse_metrics(named), LinuxHost())
    assert caught.value.remedy
