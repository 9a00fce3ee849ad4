"""Words must rest on known values, and say what a person would of the obvious cases."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.describe import (
    KINDS,
    TRAITS,
    Description,
    Finding,
    describe,
    distinctive,
    gaps_of,
    resemblance,
    unit_of,
)
from dna.features import DEMAND, FEATURES
from dna.vector import Match

_DEMAND_NAMES = [row.name for row in DEMAND]

REDIS = {
    "syscall.poll_share": 0.33,
    "syscall.network_share": 0.6,
    "net.bytes_per_cpu_second": 4e6,
    "net.sent_size_p50": 5.0,
    "net.loopback_share": 1.0,
    "sched.system_share": 0.7,
    "sched.busiest_thread_share": 0.99,
}


def _features_from(seed: int) -> dict[str, float | None]:
    """Return a synthetic workload: some features unknown, some at the ends of their scale or beyond it."""
    random = Random(seed)
    unknown = random.random()
    return {
        feature.name: None
        if random.random() < unknown
        else feature.scale.decode(random.choice((0.0, random.random(), 1.0))) * random.choice((1, 1, 1, 10))
        for feature in FEATURES
    }


def _demand_from(seed: int) -> dict[str, float | None]:
    random = Random(seed)
    return {name: random.choice((None, 0.0, random.random(), 10 ** random.uniform(0, 9))) for name in _DEMAND_NAMES}


# Drawn by seed: a dictionary of a hundred drawn floats takes hypothesis a tenth of a second an example.
_features = st.integers(0, 2**32).map(_features_from)
_demand = st.integers(0, 2**32).map(_demand_from)


@given(_features, _demand)
def test_every_word_rests_on_known_values(features: dict[str, float | None], demand: dict[str, float | None]) -> None:
    values = {**features, **{f"demand.{name}": value for name, value in demand.items()}}
    description = describe(features, demand)
    assert description.headline
    for finding in description.findings:
        assert finding.because
        for evidence in finding.because:
            assert values[evidence.name] == evidence.value
            assert evidence.unit == unit_of(evidence.name)


@given(_features, st.integers(0, 20))
def test_distinctive_names_only_known_features_in_order(features: dict[str, float | None], n: int) -> None:
    rows = distinctive(features, n)
    assert len(rows) <= n
    assert all(features[name] == value for name, value, _ in rows)
    deviations = [abs(deviation) for _, _, deviation in rows]
    assert deviations == sorted(deviations, reverse=True)
    assert all(deviation <= 1 for deviation in deviations)


@given(_features, _demand, st.sampled_from([f.name for f in FEATURES]))
def test_forgetting_a_value_never_adds_a_trait_that_rests_on_it(
    features: dict[str, float | None], demand: dict[str, float | None], forgotten: str
) -> None:
    description = describe({**features, forgotten: None}, demand)
    assert all(evidence.name != forgotten for finding in description.findings for evidence in finding.because)


def test_nothing_known_claims_nothing() -> None:
    description = describe({feature.name: None for feature in FEATURES}, dict.fromkeys(_DEMAND_NAMES))
    assert description.findings == ()
    assert "too little" in description.headline
    assert describe({}, {}).findings == ()


def test_every_rule_names_what_exists_and_can_hold() -> None:
    known = {feature.name for feature in FEATURES} | {f"demand.{name}" for name in _DEMAND_NAMES}
    for rule in (*KINDS, *TRAITS):
        assert rule.conditions
        for condition in rule.conditions:
            assert condition.name in known
            assert condition.low <= condition.high


def _words(description: Description) -> str:
    return description.headline


@pytest.mark.parametrize(
    ("features", "demand", "words"),
    [
        (REDIS, {"cores": 0.9, "messages": 90_000, "threads": 5}, "network program that waits for readiness"),
        ({"syscall.per_cpu_second": 20}, {"cores": 1.0}, "computation"),
        ({"insn.vector_share": 0.5, "syscall.per_cpu_second": 20}, {"cores": 1.0}, "vector computation"),
        ({"comm.pipe_share": 0.9, "comm.wakeups_per_cpu_second": 5e4}, {"processes": 3, "cores": 1}, "pipeline"),
        ({"io.sync_per_write": 0.5}, {"io_calls": 200, "cores": 0.1}, "forces its data to disk"),
        ({}, {"cores": 0.0, "syscalls": 3}, "idle"),
        ({"memory.random_share": 0.8}, {"cores": 1}, "random memory access"),
        ({"comm.futex_share": 0.9, "comm.wakeups_per_cpu_second": 9e3}, {"threads": 8, "cores": 2}, "threads"),
    ],
)
def test_obvious_cases(features: dict[str, float], demand: dict[str, float], words: str) -> None:
    assert words in _words(describe(features, demand))


def test_traits_stand_beside_the_kind() -> None:
    headline = describe(REDIS, {"cores": 0.9, "messages": 90_000, "threads": 5}).headline
    for words in ("small messages", "over loopback", "one thread does the work", "kernel-heavy"):
        assert words in headline


def test_an_idle_program_is_not_called_anything_else() -> None:
    assert describe(REDIS, {"cores": 0.001, "syscalls": 10}).headline == "idle program"


def test_evidence_carries_the_values() -> None:
    kind = describe(REDIS, {"cores": 0.9, "messages": 90_000}).kind
    assert isinstance(kind, Finding)
    assert {evidence.name: evidence.value for evidence in kind.because}["syscall.poll_share"] == 0.33


def test_resemblance() -> None:
    near = [Match("redis-get", 0.21, 3), Match("memcached", 0.9)]
    assert resemblance(near, None) == ""
    assert "Unlike anything known" in resemblance(near, 1.01)
    assert "redis-get" in resemblance(near, 1.01)
    assert resemblance(near, 0.4).startswith("Most like redis-get (0.21)")
    assert "Nothing is known" in resemblance([], 0.4)


def test_gaps_are_grouped_by_reason_with_the_remedy_once() -> None:
    missing = {"cpu": "no PMU", "net": "no BPF", "graph": "no BPF", "io": "gone"}
    gaps = gaps_of(missing, {"graph": "run as root", "cpu": "use bare metal"})
    assert [(gap.reason, gap.remedy, gap.parts) for gap in gaps] == [
        ("no BPF", "run as root", ("graph", "net")),
        ("no PMU", "use bare metal", ("cpu",)),
        ("gone", "", ("io",)),
    ]
