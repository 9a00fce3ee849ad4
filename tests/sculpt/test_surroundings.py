"""Machine and load as numbers that a choice may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.vector import Interval
from rules.gather import described_machine
from sculpt.surroundings import NAMES, surroundings

SMALL, LARGE = described_machine("pack:1 core:2 pu:1"), described_machine("pack:2 numa:2 core:64 pu:2")
amounts = st.one_of(st.none(), st.floats(0, 1e15))


def interval(**demand: float | None) -> Interval:
    return Interval(0.0, {}, demand, {}, None, {})


def test_without_a_machine_nothing_is_known() -> None:
    np.testing.assert_array_equal(surroundings(None, interval(cores=1.0)), np.zeros(len(NAMES)))


def test_a_larger_machine_and_a_busier_workload_are_more() -> None:
    idle, busy = surroundings(SMALL, interval(cores=0.1)), surroundings(SMALL, interval(cores=1.9))
    large = surroundings(LARGE, interval(cores=0.1))
    assert (large[:2] > idle[:2]).all()
    assert busy[2] > idle[2] > large[2]
    assert busy[2] == pytest.approx(0.9)


def test_what_is_not_known_is_in_the_middle() -> None:
    found = surroundings(SMALL, interval(cores=None, resident=None))
    assert (found[2:4] == 0).all()


@given(amounts, amounts, st.one_of(st.none(), st.floats(-1, 2)), st.sampled_from([SMALL, LARGE]))
def test_they_are_never_far_from_what_dna_is(
    cores: float | None, resident: float | None, idle: float | None, machine: object
) -> None:
    here = replace(LARGE if machine is LARGE else SMALL, values={"idle_share": idle})
    found = surroundings(here, interval(cores=cores, resident=resident))
    assert found.shape == (len(NAMES),)
    assert (np.abs(found) <= 1).all()
