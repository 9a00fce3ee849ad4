"""What one workload's loop may set on another: only what the guard names, and nobody else changes."""

from __future__ import annotations

from hal.settings import Setting, tree
from sculpt.guard import Guard, guard_of
from sculpt.sharing import Other, foreign

OWN = Setting("cpu.policy", tree(5, 1), "batch")
THEIRS = Setting("cpu.policy", tree(7, 1), "idle")
HOG = {"stress-ng": Other("stress-ng", {7, 8}, has_a_say=False)}


def test_what_is_ones_own_is_set() -> None:
    assert foreign([OWN], HOG, Guard()) == ""


def test_nobody_is_set_for_another_unless_the_guard_names_it() -> None:
    assert "neighbours do not name stress-ng" in foreign([OWN, THEIRS], HOG, Guard())
    assert "neighbours do not name stress-ng" in foreign([THEIRS], HOG, guard_of({"neighbours": ["gcc"]}))
    assert foreign([OWN, THEIRS], HOG, guard_of({"neighbours": ["stress*"]})) == ""


def test_who_is_changed_by_a_loop_of_its_own_does_not_yield() -> None:
    busy = {"stress-ng": Other("stress-ng", {7, 8}, has_a_say=True)}
    assert "a loop of its own" in foreign([THEIRS], busy, guard_of({"neighbours": ["*"]}))
