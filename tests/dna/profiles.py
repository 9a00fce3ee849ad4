"""Profiles for tests: made by hand, or any that hypothesis can think of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dna.features import DEMAND, FEATURE_NAMES
from dna.vector import DIMENSIONS, Dna, Interval, Profile

START = 1_750_000_000.0


def make_interval(
    t: float,
    features: dict[str, float | None] | None = None,
    *,
    vector: Sequence[float] | None = None,
    model: str = "model-1",
    demand: dict[str, float | None] | None = None,
) -> Interval:
    dna = None if vector is None else Dna(np.array(vector, dtype=np.float64), 0.5, model)
    return Interval(t, features or {}, demand or {"cores": 1.0}, {"missing": {"counters": "no PMU"}}, dna, {})


def make_profile(
    rows: Sequence[dict[str, float | None]] = ({"syscall.file_share": 0.5},),
    *,
    identity: str = "",
    name: str = "",
    started: float = START,
    vector: Sequence[float] | None = None,
    model: str = "model-1",
) -> Profile:
    """Return a profile with one interval of 5 s per row of features."""
    intervals = tuple(
        make_interval(started + 5.0 * (i + 1), row, vector=vector, model=model) for i, row in enumerate(rows)
    )
    target = {"kind": "pid", "value": "42", "comm": "redis-server"}
    return Profile(identity, name, {"hostname": "box", "cpus": 2}, target, started, 5.0, intervals, "dna 0.1.0")


numbers = st.floats(-1e300, 1e300)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, plain_values, max_size=3)
dnas = st.builds(Dna, arrays(np.float64, DIMENSIONS, elements=numbers), numbers, text)
some_features = st.dictionaries(st.sampled_from(FEATURE_NAMES), st.none() | numbers, max_size=6)
some_demand = st.dictionaries(st.sampled_from([row.name for row in DEMAND]), st.none() | numbers, max_size=4)
intervals = st.builds(Interval, numbers, some_features, some_demand, objects, st.none() | dnas, objects)
profiles = st.builds(
    Profile,
    id=st.just(""),
    name=text,
    machine=objects,
    target=objects,
    started=st.floats(0, 2e9),
    interval_s=st.floats(0.1, 60),
    intervals=st.lists(intervals, max_size=4).map(tuple),
    tool=text,
)
