"""Plans as diffs, and what became of them: applied, undone, the journal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hal.apply import Applied
from hal.journal import APPLIED, OPEN, Step, Transaction
from hal.knobs import all_knobs
from hal.knobs.knob import show
from hal.lists import format_cpu_list
from hal.plan_json import change_to_dict
from hal.settings import EXACT, Change, LeftOut, Plan
from hal.undo import Undone
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, Glyphs
from ui.units import plain

_UNDO_WORDS = {EXACT: "", "approximate": "undo: about", "irreversible": "no undo"}
MOST_IN_TABLE = 1000
"""Transactions; more are lines."""
_MANY = 12
"""From so many changes of one knob to one value on, they share a line."""


def plan_view(plan: Plan, glyphs: Glyphs, *, compared: bool = False) -> RenderableType:
    """Return a plan as a difference, with what is left out and what should be known before."""
    head = "Nothing differs." if compared else "Nothing to change."
    parts: list[RenderableType] = [changes_table(plan.changes, glyphs) if plan.changes else Text(head)]
    if not compared:
        parts += _costs(plan.changes, glyphs)
    return Group(*parts, *left_out_lines(plan.left_out, glyphs), *note_lines(plan.notes, glyphs))


def applied_view(plan: Plan, done: Applied | None, glyphs: Glyphs) -> RenderableType:
    """Return what applying a plan did; ``done`` is None where there was nothing to do."""
    if done is None or not (done.identity or done.gone):
        return Group(Text("Nothing to change."), *left_out_lines(plan.left_out, glyphs))
    parts: list[RenderableType] = []
    if done.done:
        parts.append(changes_table(done.done, glyphs))
    parts += [_line(f"{change.knob} of {_subject(change)}: {text}", glyphs) for change, text in done.outcomes]
    parts += [_line(f"{change.knob} of {_subject(change)}: it ended meanwhile", glyphs, DIM) for change in done.gone]
    parts += [_line(f"{change.knob} of {_subject(change)} was so already", glyphs, DIM) for change in done.already]
    count = len(done.done)
    summary = f"{count} {'change' if count == 1 else 'changes'} made: dna undo {done.identity}"
    return Group(
        *parts, *left_out_lines(plan.left_out, glyphs), *note_lines(plan.notes, glyphs), _line(summary, glyphs, STRONG)
    )


def applied_json(plan: Plan, done: Applied | None) -> dict[str, object]:
    """Return what applying a plan did as JSON data."""
    return {
        "schema": "workload-dna/applied/1",
        "id": done.identity if done else None,
        "done": [change_to_dict(change) for change in done.done] if done else [],
        "gone": [change_to_dict(change) for change in done.gone] if done else [],
        "already": [change_to_dict(change) for change in done.already] if done else [],
        "outcomes": [{**change_to_dict(change), "text": text} for change, text in done.outcomes] if done else [],
        "left_out": [
            {"knob": left.setting.knob, "subject": str(left.setting.subject), "why": left.reason}
            for left in plan.left_out
        ],
        "notes": list(plan.notes),
    }


def undone_view(result: Undone, glyphs: Glyphs) -> RenderableType:
    """Return what taking back a transaction did."""
    if result.restarted:
        return _line(f"{result.identity}: the machine was started since; nothing of it was left", glyphs)
    parts: list[RenderableType] = []
    if result.restored:
        back = [
            Change(s.change.knob, s.change.subject, s.change.new, s.change.old, label=s.change.label)
            for s in result.restored
        ]
        parts.append(changes_table(back, glyphs))
    for step in result.gone:
        parts.append(_line(f"{step.change.knob} of {_subject(step.change)}: it ended meanwhile", glyphs, DIM))
    for step in result.kept:
        parts.append(_line(f"left: {step.change.knob} of {_subject(step.change)}: {step.left}", glyphs, ACCENT))
    for step in result.failed:
        parts.append(_line(f"FAILED: {step.change.knob} of {_subject(step.change)}: {step.left}", glyphs, ACCENT))
    tail = "; dna undo tries again" if result.failed else ""
    count = len(result.restored)
    summary = f"{result.identity}: {count} {'change' if count == 1 else 'changes'} taken back{tail}"
    parts.append(_line(summary, glyphs, STRONG))
    if result.unwritten:
        words = f"the journal does not say so: {result.unwritten}. Once that is mended, dna undo sets it right."
        parts.append(_line(words, glyphs, ACCENT))
    return Group(*parts)


def undone_json(result: Undone | Transaction) -> dict[str, object]:
    """Return what became of a transaction as JSON data."""
    if isinstance(result, Transaction):
        return {
            "id": result.identity,
            "title": result.title,
            "state": result.state,
            "started": result.started,
            "ended": result.ended or None,
            "pid": result.pid,
            "command": result.command,
            "failure": result.failure or None,
            "merged": result.merged,
            "machine": {"hostname": result.machine.hostname, "boot_id": result.machine.boot_id},
            "steps": [
                {
                    **change_to_dict(step.change),
                    "done": step.done,
                    "gone": step.gone,
                    "undone": step.undone,
                    "left": step.left,
                    "outcome": step.outcome or None,
                }
                for _, step in sorted(result.steps.items())
            ],
        }
    groups = {"restored": result.restored, "kept": result.kept, "gone": result.gone, "failed": result.failed}
    return {
        "id": result.identity,
        "restarted": result.restarted,
        "unwritten": result.unwritten or None,
        **{name: [{**change_to_dict(s.change), "why": s.left} for s in steps] for name, steps in groups.items()},
    }


def transactions_table(found: Sequence[Transaction], glyphs: Glyphs) -> RenderableType:
    """Return transactions, one a row."""
    if not found:
        return Text("Nothing was changed by dna that is not taken back." if found == [] else "")
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, header_style=TITLE, pad_edge=False)
    for name in ("id", "when", "what", "changes", "state"):
        table.add_column(name, overflow="fold")
    for one in found:
        style = ACCENT if one.state == OPEN else ("" if one.state == APPLIED else DIM)
        table.add_row(*(Text(glyphs.text(plain(cell)), style=style) for cell in _cells(one)))
    return table


def transaction_line(one: Transaction, glyphs: Glyphs) -> str:
    """Return a transaction as a line: a table takes seconds to lay out thousands of rows."""
    identity, when, what, count, state = (glyphs.text(plain(cell)) for cell in _cells(one))
    return f"{identity}  {when}  {count:>4}  {state}  {what}"


def _cells(one: Transaction) -> tuple[str, str, str, str, str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.started))
    count = len(one.steps) if one.merged is None else one.merged
    return one.identity, when, one.title or one.command, str(count), state_words(one)


def not_shown_line(count: int, glyphs: Glyphs) -> Text:
    """Say how many transactions came before those shown."""
    what = "transaction was" if count == 1 else "transactions were"
    return _line(f"{count:,} earlier {what} taken back whole and are not shown: dna journal --all", glyphs, DIM)


def transaction_view(one: Transaction, glyphs: Glyphs) -> RenderableType:
    """Return the story of one transaction."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.started))
    parts: list[RenderableType] = [
        _line(f"{one.identity} · {state_words(one)}", glyphs, STRONG),
        _line(f"{when}, pid {one.pid}: {one.command or one.title}", glyphs, DIM),
    ]
    if one.failure:
        parts.append(_line(f"stopped: {one.failure}", glyphs, ACCENT))
    if one.merged is not None:
        parts.append(_line(f"{one.merged} changes; their steps are no longer kept", glyphs, DIM))
    for number, step in sorted(one.steps.items()):
        change = step.change
        words = (
            f"{number:4} {change.knob} of {_subject(change)}: {' '.join(side for side, _ in _sides(change, glyphs))}"
        )
        parts.append(_line(f"{words}  [{step_words(step)}]", glyphs))
        parts += [_line(f"     {text}", glyphs, DIM) for text in (step.outcome, change.reason) if text]
    return Group(*parts)


def state_words(one: Transaction) -> str:
    """Return the state of a transaction in words."""
    left = sum(bool(step.left) and not step.gone for step in one.steps.values())
    if one.state == OPEN:
        return "interrupted: dna undo" if one.standing() else "interrupted before anything was changed"
    if one.state == APPLIED:
        return "stands"
    return f"taken back, {left} left as they are" if left else "taken back"


def step_words(step: Step) -> str:
    """Return how far a step came, in words."""
    if step.gone:
        return "it had ended"
    if step.undone:
        return "taken back"
    if step.left:
        return step.left
    return "stands" if step.done else "begun, not confirmed"


def changes_table(changes: Iterable[Change], glyphs: Glyphs) -> RenderableType:
    """Return changes, one a row; threads of one process that go from the same to the same share a row."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(6):
        table.add_column(overflow="fold")

    def kind(change: Change) -> tuple[object, ...]:
        # Threads of one process that go from the same to the same are one line for people.
        alike = change.subject.kind if change.subject.kind == "thread" else str(change.subject)
        return (change.knob, alike, change.label, str(change.old), str(change.new))

    for _, group in groupby(changes, key=kind):
        same = list(group)
        one = same[0]
        names = [change.subject.name for change in same]
        if len(same) > 1 and all(name.isdigit() for name in names):
            what = f"{one.subject.kind}s {_some(names)}"
        else:
            what = str(one.subject)
        cells = ((one.knob, TITLE), (what, ""), (one.label, DIM), *_sides(one, glyphs))
        table.add_row(*(Text(glyphs.text(plain(cell)), style=style) for cell, style in cells))
    return table


def _sides(change: Change, glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    """Return what was, an arrow, and what is to be, with styles; of what is done rather than set only what is done."""
    knob = all_knobs().get(change.knob)
    if knob is not None and knob.is_action:
        return ((show(change.new), STRONG),)
    return ((show(change.old), ""), (glyphs.arrow, DIM), (show(change.new), STRONG))


def _some(names: Sequence[str]) -> str:
    numbers = [int(name) for name in names]
    text = format_cpu_list(numbers)
    return text if len(text) <= 40 else f"{numbers[0]}, {numbers[1]}, ... ({len(numbers)})"


def _costs(changes: Iterable[Change], glyphs: Glyphs) -> list[RenderableType]:
    lines: dict[tuple[str, str], None] = {}
    for change in changes:
        words = [w for w in (_UNDO_WORDS[change.reversibility], change.cost, change.reason) if w]
        if words:
            lines.setdefault((change.knob, "; ".join(words)), None)
    return [_line(f"{knob}: {words}", glyphs, DIM) for knob, words in lines]


def left_out_lines(left_out: Sequence[LeftOut], glyphs: Glyphs) -> list[RenderableType]:
    """Return what a plan leaves out, and why."""
    parts: list[RenderableType] = []
    for (knob, reason, remedy), found in _grouped(left_out):
        names = str(found[0].setting.subject) + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        parts.append(_line(f"left out: {knob} of {names}: {reason}", glyphs, ACCENT))
        if remedy:
            parts.append(_line(f"  {remedy}", glyphs, DIM))
    return parts


def _grouped(left_out: Sequence[LeftOut]) -> list[tuple[tuple[str, str, str], list[LeftOut]]]:
    groups: dict[tuple[str, str, str], list[LeftOut]] = {}
    for left in left_out:
        names_it = left.setting.subject.name and left.remedy.endswith(f" {left.setting.subject.name}")
        general = left.remedy.rpartition(" ")[0] if names_it else left.remedy
        groups.setdefault(
            (left.setting.knob, left.reason, f"{general} N" if general != left.remedy else general), []
        ).append(left)
    return list(groups.items())


def note_lines(notes: Sequence[str], glyphs: Glyphs) -> list[RenderableType]:
    """Return what should be known before a plan is applied."""
    return [_line(f"note: {note}", glyphs, DIM) for note in notes]


def _subject(change: Change) -> str:
    return f"{change.subject} ({change.label})" if change.label else str(change.subject)


def _line(text: str, glyphs: Glyphs, style: str = "") -> Text:
    return Text(glyphs.text(plain(text)), style=style)
