"""The feature table, on any readings a probe could give."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dna.features import BY_NAME, DEMAND, FEATURE_NAMES, FEATURES, demand_of, encode, features_of
from dna.sample import (
    BUCKETS,
    CounterReading,
    Edge,
    GraphReading,
    InstructionReading,
    IoReading,
    MemoryReading,
    NetReading,
    PressureReading,
    Quality,
    Sample,
    SchedReading,
    SyscallReading,
    TcpPeer,
    quantile,
)

CPUS, NODES = 4, 2
EVENTS = (
    "cycles",
    "instructions",
    "instructions:k",
    "cache-misses",
    "cache-references",
    "branches",
    "branch-misses",
    "L1-dcache-load-misses",
    "dTLB-load-misses",
    "iTLB-load-misses",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
)

count = st.integers(0, 1 << 40)
seconds = st.floats(0, 1e4, allow_subnormal=False)
unit = st.floats(0, 1)


def maybe[T](strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | strategy


def counts(*shape: int) -> st.SearchStrategy[NDArray[np.int64]]:
    return arrays(np.int64, shape, elements=st.integers(0, 1 << 32), fill=st.just(0))


def times(*shape: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return arrays(np.float64, shape, elements=seconds, fill=st.just(0.0))


edges = st.builds(Edge, count, count, st.just("a"), st.just("b"), st.integers(1, 1 << 40))

SYSCALLS = st.builds(
    SyscallReading,
    st.dictionaries(st.sampled_from(["read", "write", "futex", "poll"]), count),
    counts(8),
    maybe(count),
    maybe(times(8)),
    maybe(counts(8, BUCKETS)),
)
SCHED = st.builds(
    SchedReading,
    oncpu_s=seconds,
    runq_s=maybe(seconds),
    offcpu_s=maybe(seconds),
    runq=maybe(counts(BUCKETS)),
    slices=maybe(counts(BUCKETS)),
    voluntary=maybe(count),
    involuntary=maybe(count),
    migrations=maybe(count),
    oncpu_by_cpu=maybe(times(CPUS)),
    busiest_thread_s=maybe(seconds),
    user_s=maybe(seconds),
    system_s=maybe(seconds),
    processes=st.integers(1, 9),
    threads=st.integers(1, 99),
)
COUNTERS = st.builds(
    CounterReading,
    st.dictionaries(st.sampled_from(EVENTS), st.floats(0, 1e15)),
    st.just({}),
    energy_j=st.dictionaries(st.just("pkg"), seconds),
)
INSTRUCTIONS = st.builds(
    InstructionReading, count, maybe(count), counts(7), count, maybe(unit), count, count, count, count, maybe(unit)
)
MEMORY = st.builds(
    MemoryReading,
    *[maybe(count)] * 11,
    maybe(st.floats(0, 1e13)),
    maybe(counts(NODES)),
    maybe(counts(NODES)),
    maybe(times(NODES)),
)
IO = st.builds(
    IoReading,
    *[maybe(st.floats(0, 1e15))] * 4,
    *[maybe(counts(BUCKETS))] * 2,
    *[maybe(count)] * 3,
    *[maybe(st.floats(0, 1e15))] * 2,
    maybe(counts(BUCKETS)),
    maybe(st.floats(0, 1e15)),
)
NET = st.builds(
    NetReading,
    *[maybe(st.floats(0, 1e15))] * 4,
    *[maybe(counts(BUCKETS))] * 2,
    *[maybe(st.floats(0, 1e15))] * 2,
    *[maybe(count)] * 3,
    st.lists(st.builds(TcpPeer, count, st.just("peer"), count, count), max_size=2).map(tuple),
)
GRAPH = st.builds(
    GraphReading,
    st.lists(edges, max_size=3).map(tuple),
    *[st.integers(0, 999)] * 3,
    *[count] * 2,
    counts(4),
    *[maybe(count)] * 2,
)
PRESSURE = st.builds(PressureReading, st.just("host"), *[maybe(unit)] * 5)
READINGS = {
    "syscalls": SYSCALLS,
    "sched": SCHED,
    "counters": COUNTERS,
    "instructions": INSTRUCTIONS,
    "memory": MEMORY,
    "io": IO,
    "net": NET,
    "graph": GRAPH,
    "pressure": PRESSURE,
}
SAMPLES = st.builds(
    Sample,
    t=st.just(1.75e9),
    interval_s=st.floats(0.1, 60),
    cpus=st.just(CPUS),
    nodes=st.sampled_from([1, NODES]),
    quality=st.just(Quality()),
    **{name: maybe(strategy) for name, strategy in READINGS.items()},
)

relaxed = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

GAUGES = {
    "hot_line_share",
    "direction",
    "resident",
    "anonymous",
    "file",
    "shared",
    "swap",
    "hugepages",
    "working_set",
    "processes",
    "threads",
    "nodes",
    "pairs",
    "reciprocal_pairs",
    "connections",
    "source",
    "sink",
    "sample_every",
    "peers",
    "coverage",
}
"""What does not grow with the length of the interval."""


def grown(name: str, value: Any) -> Any:
    """Return a field of a reading as it would be over twice the interval at the same rates."""
    if name in GAUGES or value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, dict):
        return {key: 2 * item for key, item in value.items() if not isinstance(item, str)}
    if isinstance(value, tuple):
        return tuple(dataclasses.replace(item, count=2 * item.count) for item in value)
    return 2 * value


def twice_as_long(sample: Sample) -> Sample:
    changes: dict[str, Any] = {"interval_s": 2 * sample.interval_s}
    for name in READINGS:
        reading = getattr(sample, name)
        if reading is not None and name != "pressure":
            fields = {f.name: grown(f.name, getattr(reading, f.name)) for f in dataclasses.fields(reading)}
            changes[name] = type(reading)(**fields)
    return dataclasses.replace(sample, **changes)


def test_names_are_unique_and_of_a_group() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert all("." in name for name in FEATURE_NAMES)
    assert all(feature.meaning and feature.unit for feature in FEATURES)
    assert len({row.name for row in DEMAND}) == len(DEMAND)


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_a_scale_maps_both_ways(name: str) -> None:
    scale = BY_NAME[name].scale
    for position in (0.0, 0.25, 0.5, 1.0):
        assert scale.encode(scale.decode(position)) == pytest.approx(position)
    assert scale.encode(scale.low - abs(scale.low) - 1) == 0.0
    assert scale.encode(scale.high * 2) == 1.0


@given(SAMPLES)
@relaxed
def test_every_value_keeps_to_its_unit(sample: Sample) -> None:
    for name, value in features_of(sample).items():
        if value is None:
            continue
        assert math.isfinite(value), name
        assert value >= 0, name
        if BY_NAME[name].unit == "share":
            assert value <= 1, name
    assert all(value is None or (math.isfinite(value) and value >= 0) for value in demand_of(sample).values())


@given(SAMPLES)
@relaxed
def test_the_encoding_is_bounded_and_marks_the_unknown(sample: Sample) -> None:
    features = features_of(sample)
    values, known = encode(features)
    assert values.shape == known.shape == (len(FEATURES),)
    assert ((values >= 0) & (values <= 1)).all()
    assert list(known) == [features[name] is not None for name in FEATURE_NAMES]
    assert not values[~known].any()


GROUPS = {
    "syscalls": ("syscall.", {"syscalls"}),
    "sched": ("sched.", {"cores", "processes", "threads", "switches"}),
    "counters": ("cpu.", {"instructions", "power"}),
    "instructions": ("insn.", set()),
    "memory": ("memory.fault", {"resident", "working_set", "faults"}),
    "io": ("io.", {"read", "written", "io_calls", "device"}),
    "net": ("net.", {"sent", "received", "messages", "connections"}),
    "graph": ("comm.", {"wakeups"}),
    "pressure": ("pressure.", set()),
}


@pytest.mark.long
@pytest.mark.parametrize("probe", GROUPS)
@given(sample=SAMPLES)
@settings(relaxed, max_examples=5)
def test_without_its_probe_a_feature_is_unknown(probe: str, sample: Sample) -> None:
    prefix, magnitudes = GROUPS[probe]
    changes: dict[str, Any] = {probe: None}
    without = dataclasses.replace(sample, **changes)
    features, demand = features_of(without), demand_of(without)
    assert {value for name, value in features.items() if name.startswith(prefix)} == {None}
    assert all(demand[name] is None for name in magnitudes)


@given(SAMPLES)
@relaxed
def test_features_do_not_depend_on_how_long_one_looks(sample: Sample) -> None:
    longer = twice_as_long(sample)
    before, after = features_of(sample), features_of(longer)
    for name, value in before.items():
        if value is not None:
            assert after[name] == pytest.approx(value, rel=1e-9), name
    for name, value in demand_of(sample).items():
        assert demand_of(longer)[name] == (None if value is None else pytest.approx(value, rel=1e-9)), name


def test_a_handful_of_events_is_unknown_rather_than_a_share() -> None:
    few = SyscallReading({"read": 3}, np.array([3, 0, 0, 0, 0, 0, 0, 0]), 0, None, None)
    sample = Sample(t=0, interval_s=1, cpus=1, nodes=1, quality=Quality(), syscalls=few)
    assert features_of(sample)["syscall.file_share"] is None
    assert demand_of(sample)["syscalls"] == 3.0


def test_calls_without_names_have_no_entropy() -> None:
    unnamed = SyscallReading({}, np.array([100, 0, 0, 0, 0, 0, 0, 0]), 0, None, None)
    sample = Sample(t=0, interval_s=1, cpus=1, nodes=1, quality=Quality(), syscalls=unnamed)
    assert features_of(sample)["syscall.entropy"] is None


@given(counts(BUCKETS), st.floats(0, 1))
@relaxed
def test_a_quantile_lies_in_a_bucket_that_counts(histogram: NDArray[np.int64], q: float) -> None:
    value = quantile(histogram, q)
    if histogram.sum() == 0:
        assert value is None
        return
    assert value is not None
    filled = np.flatnonzero(histogram)
    assert 2.0 ** filled[0] <= value <= 2.0 ** (filled[-1] + 1)
