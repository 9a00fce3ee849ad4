"""What conditions found, as people read it: what decided, and what was let pass."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from rules import any_of, m, none_of, w
from rules.language import Condition, Evidence, Facts
from ui.evidence import decisive, evidence_json, evidence_table, reasons
from ui.glyphs import ASCII

FACTS = Facts({"w.demand.cores": 2.0, "w.name": "redis-server", "m.cores_per_node": 8, "w.cpu.ipc": None})
UNKNOWN_OR_LOW = any_of(w.cpu.ipc < 1, ~w.cpu.ipc.is_known)


def found(condition: Condition) -> Evidence:
    return condition.evidence(FACTS)


def deciding(condition: Condition) -> list[str]:
    return [one.text for one in decisive(found(condition))]


def shown(*parts: RenderableType) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160)
    for part in parts:
        console.print(part)
    return out.getvalue()


def test_of_alternatives_the_one_that_held_counts() -> None:
    assert deciding(any_of(w.demand.cores > 9, w.demand.cores > 1)) == ["w.demand.cores > 1"]
    assert deciding(any_of(w.cpu.ipc > 9, w.demand.cores > 1)) == ["w.demand.cores > 1"]
    assert deciding((w.demand.cores > 1) & (w.demand.cores < 3)) == ["w.demand.cores > 1", "w.demand.cores < 3"]


def test_what_does_not_hold_stands_for_itself() -> None:
    condition = any_of(w.demand.cores > 9, w.demand.cores > 8)
    assert deciding(condition) == [condition.text]


def test_none_of_several_is_one_row_with_what_they_looked_at() -> None:
    (one,) = decisive(found(none_of(w.name.fits("nginx*"), w.name.fits("caddy*"))))
    assert one.actual == "redis-server"


def test_what_is_unknown_and_was_let_pass_is_one_line() -> None:
    text = shown(*reasons([found(w.demand.cores > 1), found(UNKNOWN_OR_LOW)], ASCII))
    assert "unknown, which does not count against it: w.cpu.ipc" in text
    assert "is_known" not in text
    assert "margin +100%" in text


def test_a_threshold_that_is_worked_out_is_shown() -> None:
    text = shown(*reasons([found(w.demand.cores <= m.cores_per_node * 0.5)], ASCII))
    assert "2 <= 4" in text
    assert "<=" not in shown(*reasons([found(w.demand.cores > 1)], ASCII))


def test_the_whole_tree_says_of_each_whether_it_holds() -> None:
    text = shown(evidence_table([found(UNKNOWN_OR_LOW)], ASCII))
    assert "cannot tell" in text
    assert "holds" in text
    assert evidence_json(found(UNKNOWN_OR_LOW))["holds"] is True
