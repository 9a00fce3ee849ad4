"""The budget is never overdrawn by what was foreseen, and quarantine grows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.safety import Ledger, Limits, Quarantine, loss

gains = st.floats(-0.35, 0.5)


@given(st.lists(st.tuples(gains, st.floats(0, 0.2), st.floats(1, 60)), max_size=60))
def test_as_long_as_nothing_is_worse_than_feared_the_budget_holds(steps: list[tuple[float, float, float]]) -> None:
    ledger = Ledger()
    for mean, deviation, duration in steps:
        if ledger.allows(mean, deviation, duration):
            worst = max(mean - ledger.limits.deviations * deviation, ledger.limits.hard)
            ledger = ledger.after(worst, duration)
        else:
            ledger = ledger.after(0.0, duration)  # the baseline
        assert ledger.lost_s <= ledger.limits.allowance_s + ledger.limits.budget * ledger.elapsed_s + 1e-9


def test_the_unknown_is_allowed_within_the_allowance_only() -> None:
    ledger = Ledger(Limits(allowance_s=1.0))
    assert not ledger.allows(0.0, 0.1, 60.0)
    assert ledger.allows(0.0, 0.1, 5.0)
    assert ledger.after(0.0, 3600.0).allows(0.0, 0.1, 60.0)


def test_gains_do_not_pay_for_recklessness() -> None:
    ledger = Ledger(Limits(allowance_s=1.0)).after(2.0, 1000.0)
    assert ledger.lost_s == 0
    assert ledger.room_s == pytest.approx(1.0 + 0.02 * 1000)


def test_loss_is_in_seconds_of_the_baseline() -> None:
    assert loss(math.log(0.5), 10.0) == pytest.approx(5.0)
    assert loss(0.0, 10.0) == 0.0
    assert loss(math.log(2.0), 10.0) == pytest.approx(-10.0)


def test_quarantine_doubles_to_a_limit_and_is_of_one_cluster() -> None:
    quarantine = Quarantine(Limits(first_quarantine_s=10, longest_quarantine_s=35))
    now, lengths = 0.0, []
    for _ in range(4):
        quarantine = quarantine.put("web", "pin", now)
        lengths.append(quarantine.sentences["web", "pin"].until - now)
        assert quarantine.holds("web", "pin", now)
        assert not quarantine.holds("db", "pin", now)
        assert not quarantine.holds("web", "pin", now + lengths[-1])
        now += 100
    assert lengths == [10, 20, 35, 35]
    assert not quarantine.pardon("web", "pin").holds("web", "pin", now)
