"""Plans, what became of them and the journal, in words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from hal.apply import Applied
from hal.journal import Step, Transaction
from hal.settings import IRREVERSIBLE, Change, MachineId, Plan, Subject
from hal.undo import Undone
from ui.changes import applied_view, plan_view, transaction_view, undone_json, undone_view
from ui.glyphs import ASCII, UNICODE, Glyphs

COMPACT = Change("memory.compact", Subject("node", "1"), None, "now", reversibility=IRREVERSIBLE)
SWAPPINESS = Change("memory.swappiness", Subject("system"), 60, 10)
MADE = Change("nic.virtual", Subject("nic", "mv0"), None, "macvlan link=eth0 mode=bridge")
MACHINE = MachineId("here", "b00t")
TOLD = "1.5 GiB are free in blocks of 2 MiB or more"


def text(view: RenderableType, *, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, _environ={}).print(view)
    return out.getvalue()


def line(shown: str, word: str) -> str:
    lines = [" ".join(one.split()) for one in shown.splitlines()]
    (found,) = [one for one in lines if one.startswith(word)]
    return found


def transaction(*steps: Step) -> Transaction:
    return Transaction("20260101-000000-000a", "", MACHINE, 0.0, 1, "dna set", steps=dict(enumerate(steps, 1)))


@pytest.mark.parametrize(("glyphs", "arrow"), [(UNICODE, "→"), (ASCII, ">")])
def test_what_is_done_has_no_value_before_and_what_is_set_has(glyphs: Glyphs, arrow: str) -> None:
    plan = Plan((COMPACT, SWAPPINESS, MADE), MACHINE, 0.0)
    done = Applied("ID", plan.changes, (), (), ((COMPACT, TOLD),))
    for shown in (text(plan_view(plan, glyphs)), text(applied_view(plan, done, glyphs))):
        assert line(shown, "memory.compact node 1 n") == "memory.compact node 1 now"
        assert line(shown, "memory.swappiness system") == f"memory.swappiness system 60 {arrow} 10"
        assert f"nic mv0 absent {arrow} macvlan" in line(shown, "nic.virtual")


def test_the_journal_tells_what_a_change_came_to() -> None:
    one = transaction(Step(COMPACT, done=True, outcome=TOLD), Step(SWAPPINESS, done=True))
    shown = text(transaction_view(one, UNICODE))
    assert "1 memory.compact of node 1: now  [stands]" in shown
    assert line(shown, "1.5 GiB") == TOLD
    assert "2 memory.swappiness of system: 60 → 10  [stands]" in shown
    steps = undone_json(one)["steps"]
    assert isinstance(steps, list)
    assert [step["outcome"] for step in steps] == [TOLD, None]


def test_a_knob_that_this_version_does_not_have_is_shown_as_it_was_set() -> None:
    older = Change("memory.forgotten", Subject("system"), 1, 2)
    assert "memory.forgotten of system: 1 → 2" in text(transaction_view(transaction(Step(older)), UNICODE))


def test_what_cannot_be_taken_back_says_why() -> None:
    kept = Step(COMPACT, done=True, left="cannot be undone: it stays done")
    shown = text(undone_view(Undone("ID", kept=(kept,)), UNICODE))
    assert "left: memory.compact of node 1: cannot be undone: it stays done" in shown
