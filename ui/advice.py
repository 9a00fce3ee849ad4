"""Advice as people and programs read it: each proposal as a difference with its reasons, and what was not proposed and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import dedent

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from hal.knobs.knob import show
from hal.plan_json import plan_to_dict, setting_to_dict, subject_to_dict
from rules.advice import Advice, Conflict, Proposal
from rules.doubts import Doubt
from rules.gather_situation import Gathered
from rules.outcome import ALREADY, LEFT_OUT, Fate, Outcome
from ui.changes import changes_table, left_out_lines, note_lines
from ui.evidence import evidence_json, reasons
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, Glyphs
from ui.units import plain

SCHEMA = "workload-dna/advice/1"
_MOST_DOUBTS = 5
_MOST_UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Told:
    """All that there is to tell of one advice."""

    gathered: Gathered
    advice: Advice
    outcome: Outcome
    doubts: tuple[Doubt, ...]
    rules: int
    """Rules that were asked."""


def advice_view(told: Told, glyphs: Glyphs, *, all_doubts: bool = False) -> RenderableType:
    """Return advice: proposals first, the weightiest at the front, then what stands against others."""
    parts: list[RenderableType] = [_line(_head(told), glyphs, STRONG)]
    for proposal, fates in told.outcome.proposals:
        parts += [Text(), *_proposal(proposal, fates, glyphs)]
    for title, section in _sections(told, glyphs, all_doubts=all_doubts):
        parts += [Text(), _line(title, glyphs, STRONG), _indented(*section)]
    left, notes = told.outcome.plan.left_out, (*told.outcome.plan.notes, *told.advice.notes)
    if left or notes:
        parts += [Text(), *left_out_lines(left, glyphs), *note_lines(notes, glyphs)]
    return Group(*parts)


def _head(told: Told) -> str:
    names = _listed(workload.name for workload in told.gathered.situation.workloads)
    where = "this machine" if told.gathered.is_here else "the machine described"
    count = len(told.outcome.plan.changes)
    rules = f"{told.rules} rule{'s' * (told.rules != 1)}"
    if told.outcome.proposals and not count:
        return f"Nothing to change for {names} on {where}: what is proposed is so already, or cannot be set."
    if not told.outcome.proposals and (told.advice.conflicts or told.advice.dropped or told.outcome.refused):
        return f"Nothing is proposed for {names} on {where}, of {rules}: see below why."
    if not told.outcome.proposals and not told.rules:
        return f"Nothing is due for {names} on {where}: there are no rules."
    if not told.outcome.proposals:
        return f"Nothing is due for {names} on {where}: none of {rules} applies."
    by = len({proposal.rule.identity for proposal, _ in told.outcome.proposals})
    changes = f"{count} change{'s' * (count != 1)}"
    return f"{changes} proposed for {names} on {where}, by {by} of {rules}. Nothing was changed."


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    if len(every) <= 3:
        return ", ".join(every[:-1]) + (" and " if len(every) > 1 else "") + "".join(every[-1:])
    return f"{', '.join(every[:3])} and {len(every) - 3} more"


def _proposal(proposal: Proposal, fates: Sequence[Fate], glyphs: Glyphs) -> list[RenderableType]:
    rule = proposal.rule
    title = Text.assemble((plain(rule.identity), TITLE), (f" {plain(_about(proposal.about))}", ""))
    changes = [change for fate in fates for change in fate.changes]
    body: list[RenderableType] = [changes_table(changes, glyphs)] if changes else []
    body += [_fate(fate, glyphs) for fate in fates if fate.state in (ALREADY, LEFT_OUT)]
    body.append(_line(rule.summary, glyphs))
    if proposal.expect:
        body.append(_line(f"expected: {proposal.expect}", glyphs))
    if proposal.choice:
        others = [option.name for option in proposal.options if option is not proposal.option]
        body.append(
            _line(f"{proposal.choice}: {proposal.option.name}; it could also be {', '.join(others)}", glyphs, DIM)
        )
    body += [_indented(part) for part in reasons(proposal.evidence, glyphs)]
    costs = dict.fromkeys(change.cost for change in changes if change.cost)
    body += [_line(f"cost: {cost}", glyphs, DIM) for cost in costs]
    body += [_line(f"{name}: {_flat(text)}", glyphs, DIM) for name, text in _origin(proposal) if text]
    return [title, _indented(*body)]


def _origin(proposal: Proposal) -> tuple[tuple[str, str], ...]:
    return (("limits", proposal.rule.limits), ("source", proposal.rule.source))


def _fate(fate: Fate, glyphs: Glyphs) -> Text:
    what = f"{fate.setting.knob} of {fate.setting.subject}"
    if fate.state == ALREADY:
        return _line(f"{what}: {show(fate.setting.value)} already", glyphs, DIM)
    return _line(f"{what}: {show(fate.setting.value)} is left out: {fate.because}", glyphs, ACCENT)


def _sections(told: Told, glyphs: Glyphs, *, all_doubts: bool) -> Iterable[tuple[str, list[RenderableType]]]:
    advice = told.advice
    if advice.conflicts:
        yield (
            "Conflicts: rules of one rank want one setting otherwise, so none is taken",
            [_line(_conflict(conflict), glyphs, ACCENT) for conflict in advice.conflicts],
        )
    if advice.dropped:
        yield (
            "Not proposed",
            [
                _line(f"{one.proposal.rule.identity} {_about(one.proposal.about)}: {one.because}", glyphs)
                for one in advice.dropped
            ],
        )
    if advice.partly_vetoed:
        yield (
            "Ways that a rule forbids",
            [
                _line(
                    f"{one.proposal.rule.identity} {_about(one.proposal.about)}, {one.option.name}: {one.because}",
                    glyphs,
                )
                for one in advice.partly_vetoed
            ],
        )
    if told.outcome.refused:
        yield (
            "Not possible on this machine",
            [
                _line(f"{one.proposal.rule.identity} {_about(one.proposal.about)}: {one.message}", glyphs, ACCENT)
                for one in told.outcome.refused
            ],
        )
    if advice.failures:
        yield (
            "Rules that failed",
            [
                _line(f"{one.place}: {one.rule.identity} {_about(one.about)}: {one.message}", glyphs, ACCENT)
                for one in advice.failures
            ],
        )
    if told.doubts:
        shown = told.doubts if all_doubts else told.doubts[:_MOST_DOUBTS]
        lines: list[RenderableType] = [_line(_doubt(one), glyphs, DIM) for one in shown]
        if len(shown) < len(told.doubts):
            lines.append(_line(f"and {len(told.doubts) - len(shown)} more: --all", glyphs, DIM))
        yield "Cannot tell, for want of facts", lines


def _conflict(conflict: Conflict) -> str:
    wanted = [
        f"{proposal.rule.identity} wants {show(wish.value)}"
        for proposal in conflict.proposals
        for wish in proposal.option.wishes
        if (wish.knob, wish.subject) == (conflict.knob, conflict.subject)
    ]
    return f"{conflict.knob} of {conflict.subject}: {', '.join(wanted)}"


def _doubt(doubt: Doubt) -> str:
    names = ", ".join(doubt.unknown[:_MOST_UNKNOWN])
    more = len(doubt.unknown) - _MOST_UNKNOWN
    return f"{doubt.rule.identity} {_about(doubt.about)}: {names}{f' and {more} more' if more > 0 else ''}"


def _about(names: Sequence[str]) -> str:
    return f"for {' and '.join(names)}" if names else "for the machine"


def _flat(text: str) -> str:
    return " ".join(dedent(text).split())


def _indented(*parts: RenderableType) -> RenderableType:
    return Padding(Group(*parts, fit=True), (0, 0, 0, 2), expand=False)


def _line(text: str, glyphs: Glyphs, style: str = "") -> Text:
    return Text(glyphs.text(plain(text)), style=style)


# --- for programs


def advice_json(told: Told) -> dict[str, object]:
    """Return advice as JSON data; docs/advise.md describes it."""
    gathered, advice = told.gathered, told.advice
    return {
        "schema": SCHEMA,
        "here": gathered.is_here,
        "workloads": [
            {
                "name": workload.name,
                "subject": subject_to_dict(workload.subject),
                "runs": workload.subject not in gathered.stand_ins,
            }
            for workload in gathered.situation.workloads
        ],
        "rules": told.rules,
        "proposals": [
            {**_proposal_json(proposal), "settings": [_fate_json(fate) for fate in fates]}
            for proposal, fates in told.outcome.proposals
        ],
        "conflicts": [
            {
                "knob": one.knob,
                "subject": subject_to_dict(one.subject),
                "rules": [proposal.rule.identity for proposal in one.proposals],
            }
            for one in advice.conflicts
        ],
        "dropped": [{**_proposal_json(one.proposal), "because": one.because} for one in advice.dropped],
        "vetoed": [
            {
                "rule": one.proposal.rule.identity,
                "about": list(one.proposal.about),
                "way": one.option.name or None,
                "by": one.by.identity,
                "knobs": one.knobs,
                "because": one.reason,
            }
            for one in advice.vetoed
        ],
        "refused": [
            {**_proposal_json(one.proposal), "because": one.message, "remedy": one.remedy or None}
            for one in told.outcome.refused
        ],
        "failures": [
            {"rule": one.rule.identity, "about": list(one.about), "message": one.message, "place": str(one.place)}
            for one in advice.failures
        ],
        "cannot_tell": [
            {"rule": one.rule.identity, "about": list(one.about), "unknown": list(one.unknown)} for one in told.doubts
        ],
        "notes": list(advice.notes),
        "plan": plan_to_dict(told.outcome.plan),
    }


def _proposal_json(proposal: Proposal) -> dict[str, object]:
    rule = proposal.rule
    return {
        "rule": rule.identity,
        "about": list(proposal.about),
        "reason": rule.reason,
        "expect": proposal.expect or None,
        "priority": rule.priority,
        "source": rule.source or None,
        "limits": rule.limits or None,
        "choice": proposal.choice or None,
        "options": [option.name for option in proposal.options] if proposal.choice else [],
        "settings": [setting_to_dict(setting) for setting in proposal.settings()],
        "conditions": [evidence_json(one) for one in proposal.evidence],
    }


def _fate_json(fate: Fate) -> dict[str, object]:
    return {**setting_to_dict(fate.setting), "state": fate.state, "because": fate.because or None}
