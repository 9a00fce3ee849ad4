"""The guard's file: what it allows, when, and that what makes no sense is said."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.settings import SYSTEM, Change, Setting, Subject, tree
from rl.decision import Patience
from sculpt.errors import GuardFileError
from sculpt.guard import Guard, guard_of, read_guard, window_of

PIN = Setting("cpu.affinity", tree(5, 1), "0")
PAGES = Setting("memory.thp", SYSTEM, "never")
MONDAY = datetime(2026, 11, 23)


def test_everything_is_allowed_by_default() -> None:
    assert Guard().refusal("redis", [PIN, PAGES]) == ""
    assert Guard().delay([PIN], {PIN.key: 0.0}, now=0.0, moment=MONDAY) == ""


def test_targets_and_knobs() -> None:
    guard = guard_of({"targets": ["redis*"], "knobs": ["cpu.*", "memory.*"], "never": ["memory.thp"]})
    assert guard.refusal("redis-server", [PIN]) == ""
    assert "targets" in guard.refusal("nginx", [PIN])
    assert "never" in guard.refusal("redis-server", [PIN, PAGES])
    assert "knobs" in guard.refusal("redis-server", [Setting("nic.mtu", SYSTEM, 1500)])


def test_how_unlike_anything_known_a_workload_may_be_is_a_limit() -> None:
    assert Guard().most_novelty == Patience().novelty
    assert guard_of({"most_novelty": 5}).most_novelty == 5.0
    for wrong in (-1, True, "much", float("nan")):
        with pytest.raises(GuardFileError, match="most_novelty"):
            guard_of({"most_novelty": wrong})


def test_what_was_set_cools_down_by_the_most_particular_pattern() -> None:
    guard = guard_of({"cooldown_s": {"cpu.*": 10, "cpu.affinity": 60, "*": 1}})
    at = {PIN.key: 100.0, PAGES.key: 100.0}
    assert "cools down" in guard.delay([PIN], at, now=130.0, moment=MONDAY)
    assert guard.delay([PIN], at, now=160.0, moment=MONDAY) == ""
    assert guard.delay([PAGES], at, now=102.0, moment=MONDAY) == ""


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("Mon-Fri 08:00-18:00", "2026-11-23 08:00", "2026-11-22 09:00"),
        ("Mon-Fri 22:00-06:00", "2026-11-28 05:59", "2026-11-23 05:00"),
        ("01:00-05:00", "2026-11-22 01:00", "2026-11-22 05:00"),
        ("Sat-Mon 00:00-23:59", "2026-11-22 12:00", "2026-11-24 12:00"),
        ("sun 10:00-11:00", "2026-11-22 10:30", "2026-11-23 10:30"),
    ],
)
def test_windows(window: str, inside: str, outside: str) -> None:
    found = window_of(window)
    assert found.holds(datetime.fromisoformat(inside))
    assert not found.holds(datetime.fromisoformat(outside))
    guard = guard_of({"windows": [window]})
    assert guard.delay([PIN], {}, now=0, moment=datetime.fromisoformat(inside)) == ""
    assert "windows" in guard.delay([PIN], {}, now=0, moment=datetime.fromisoformat(outside))


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59), st.datetimes())
def test_a_stretch_and_its_contrary_share_the_day(h1: int, m1: int, h2: int, m2: int, moment: datetime) -> None:
    if (h1, m1) == (h2, m2):
        return
    one = window_of(f"{h1:02}:{m1:02}-{h2:02}:{m2:02}")
    other = window_of(f"{h2:02}:{m2:02}-{h1:02}:{m1:02}")
    assert one.holds(moment) is not other.holds(moment)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("target = []", "target"),
        ("targets = 'redis'", "list"),
        ("knobs = [1]", "list"),
        ("most_changes = 0", "most_changes"),
        ("most_changes = true", "most_changes"),
        ("windows = ['always']", "window"),
        ("windows = ['Xyz 01:00-02:00']", "window"),
        ("windows = ['25:00-26:00']", "window"),
        ("kill_switch = 'stop'", "absolute"),
        ("[cooldown_s]\nx = -1", "seconds"),
        ("cooldown_s = 5", "table"),
        ("= 5", "TOML"),
    ],
)
def test_what_makes_no_sense_is_said_with_the_file(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(content)
    with pytest.raises(GuardFileError, match=message) as caught:
        read_guard(file)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_said() -> None:
    with pytest.raises(GuardFileError, match="cannot be read"):
        read_guard("/nonexistent/guard.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses what others can write")
def test_what_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text("targets = ['x']")
    assert read_guard(file).targets == ("x",)
    file.chmod(0o666)
    with pytest.raises(GuardFileError, match="others can write") as caught:
        read_guard(file)
    assert "chmod" in caught.value.remedy


def test_limits_bound_values_and_how_many_change_at_once() -> None:
    guard = guard_of(
        {
            "limits": {
                "memory.swappiness": {"least": 10, "most": 60},
                "memory.thp": {"values": ["madvise", "never"]},
                "cpu.*": {"most_changes": 2},
            }
        }
    )
    assert guard.refusal("x", [Setting("memory.swappiness", SYSTEM, 60)]) == ""
    assert "from 10 to 60" in guard.refusal("x", [Setting("memory.swappiness", SYSTEM, 61)])
    assert "from 10 to 60" in guard.refusal("x", [Setting("memory.swappiness", SYSTEM, 9)])
    assert guard.refusal("x", [Setting("memory.thp", SYSTEM, "never")]) == ""
    assert "this is always" in guard.refusal("x", [Setting("memory.thp", SYSTEM, "always")])
    changes = [Change("cpu.affinity", Subject("thread", str(n)), "0-1", "0") for n in range(3)]
    assert guard.too_many(changes[:2]) == ""
    assert "cpu.*" in guard.too_many(changes)
    assert "500" not in guard.too_many([*changes[:2], Change("memory.thp", SYSTEM, "a", "b")])


def test_trials_in_an_hour_are_counted() -> None:
    guard = guard_of({"most_trials_an_hour": 2})
    assert guard.too_often([], now=1e6) == guard.too_often([1e6 - 4000, 1e6 - 5], now=1e6) == ""
    assert "as many as the guard allows" in guard.too_often([1e6 - 100, 1e6 - 5], now=1e6)
