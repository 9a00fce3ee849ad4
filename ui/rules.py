"""Rules as people and programs read them: what is in effect, what a check found, what became of cases, why a rule fires or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hal.knobs.knob import show
from hal.plan_json import setting_to_dict
from rules.advice import Proposal
from rules.cases import Case, Tried
from rules.explain import DROPPED, FAILED, NO, NOTHING, PROPOSED, SILENT, UNTOLD, Explained
from rules.findings import CODES, ERROR, Finding
from rules.replay import Difference
from rules.rule import Rule
from rules.sources import Loaded
from ui.evidence import evidence_json, evidence_table, margin_words
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, Glyphs
from ui.units import plain

_ORDER = (PROPOSED, DROPPED, FAILED, SILENT, UNTOLD, NO, NOTHING)
_IN_FULL = (PROPOSED, DROPPED, FAILED, SILENT)
"""What is shown with all its conditions; of the others only those that stand in the way."""
_WIDEST = 120
"""Characters of a condition that are shown where it is not shown in full."""
_STYLES = {PROPOSED: STRONG, DROPPED: ACCENT, FAILED: ACCENT, UNTOLD: ACCENT}


def line(text: str, glyphs: Glyphs, style: str = "") -> Text:
    """Return one line of plain text."""
    return Text(glyphs.text(plain(text)), style=style)


def count(number: int, word: str) -> str:
    """Return a number of things, such as ``2 rules``."""
    return f"{number} {word}{'s' * (number != 1)}"


# --- which there are


def rules_table(loaded: Loaded, glyphs: Glyphs) -> RenderableType:
    """Return the rules in effect, those that count first at the front."""
    table = Table(box=box.SIMPLE_HEAD if glyphs.micro == "µ" else box.ASCII2, header_style=TITLE, pad_edge=False)
    for name, side in (
        ("rule", "left"),
        ("from", "left"),
        ("priority", "right"),
        ("conditions", "right"),
        ("why", "left"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold", no_wrap=name == "rule")
    for rule in loaded.rules:
        origin = loaded.file_of(rule).origin
        cells = (rule.identity, origin, str(rule.priority), str(rule.specificity), rule.summary)
        table.add_row(*(line(cell, glyphs) for cell in cells))
    replaced = [
        line(f"{by.identity} of {by.place.file} takes the place of the one in {rule.place.file}", glyphs, DIM)
        for by, rule in loaded.replaced.values()
    ]
    return Group(table, *replaced)


def rules_json(loaded: Loaded) -> list[dict[str, object]]:
    """Return the rules in effect as JSON data."""
    return [_rule_json(rule, loaded) for rule in loaded.rules]


def _rule_json(rule: Rule, loaded: Loaded) -> dict[str, object]:
    replaced = loaded.replaced.get(rule.identity)
    return {
        "rule": rule.identity,
        "from": loaded.file_of(rule).origin,
        "file": rule.place.file,
        "line": rule.place.line,
        "priority": rule.priority,
        "specificity": rule.specificity,
        "about": list(rule.variables),
        "conditions": [condition.text for condition in rule.conditions],
        "reason": rule.reason,
        "expect": rule.expect or None,
        "source": rule.source or None,
        "limits": rule.limits or None,
        "replaces": replaced[1].place.file if replaced else None,
    }


# --- what a check found


def findings_view(found: Sequence[Finding], glyphs: Glyphs, *, files: int, rules: int) -> RenderableType:
    """Return what was found, a line each with the remedy below it, as compilers print it."""
    lines: list[RenderableType] = []
    for one in found:
        style = ACCENT if one.severity == ERROR else ""
        lines.append(line(f"{one.place}: {one.severity}: {one.message} [{one.code}]", glyphs, style))
        if one.remedy:
            lines.append(line(f"    {one.remedy}", glyphs, DIM))
    by = Counter(one.severity for one in found)
    checked = f"{count(rules, 'rule')} in {count(files, 'file')} checked"
    total = ", ".join(count(number, severity) for severity, number in sorted(by.items())) or "nothing found"
    return Group(*lines, line(f"{checked}: {total}.", glyphs, STRONG))


def findings_json(found: Iterable[Finding]) -> list[dict[str, object]]:
    """Return what was found as JSON data."""
    return [
        {
            "file": one.place.file,
            "line": one.place.line,
            "severity": one.severity,
            "code": one.code,
            "means": CODES[one.code][1],
            "rule": one.rule or None,
            "message": one.message,
            "remedy": one.remedy or None,
        }
        for one in found
    ]


# --- what became of cases


def tried_view(tried: Sequence[Tried], glyphs: Glyphs) -> RenderableType:
    """Return what became of the cases of rule files: failures in full, the rest in numbers."""
    lines: list[RenderableType] = []
    for one in tried:
        lines += _tried_lines(one, glyphs)
    cases = sum(len(one.cases) for one in tried)
    failed = sum(len(one.failures) for one in tried) + sum(one.error is not None for one in tried)
    total = (
        f"{count(cases, 'case')} of {count(len(tried), 'file')}: {count(failed, 'failure') if failed else 'all hold'}."
    )
    return Group(*lines, line(total if cases or failed else "There are no cases.", glyphs, STRONG))


def _tried_lines(tried: Tried, glyphs: Glyphs) -> list[RenderableType]:
    lines: list[RenderableType] = [line(case, glyphs, ACCENT) for one in tried.failures for case in _failure(one)]
    if tried.error is not None:
        lines += [
            line(str(tried.error), glyphs, ACCENT),
            *([line(f"    {tried.error.remedy}", glyphs, DIM)] if tried.error.remedy else []),
        ]
        return lines
    for printed in (case for case in tried.cases if case.printed.strip()):
        lines.append(line(f"{printed.place}: {printed.name} printed: {_first_line(printed.printed)}", glyphs, DIM))
    if tried.never_fired:
        lines.append(line(f"No case makes fire: {', '.join(tried.never_fired)}", glyphs))
    if tried.never_held:
        lines.append(line(f"No case asks without its firing: {', '.join(tried.never_held)}", glyphs))
    return lines


def _failure(case: Case) -> list[str]:
    return [f"{case.place}: {case.name} fails: {case.message}", *([f"    {case.remedy}"] if case.remedy else [])]


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200]


def tried_json(tried: Iterable[Tried]) -> list[dict[str, object]]:
    """Return what became of the cases of rule files as JSON data."""
    return [
        {
            "file": str(one.file.path),
            "passed": one.passed,
            "error": str(one.error) if one.error else None,
            "cases": [
                {"name": case.name, "line": case.place.line, "passed": case.passed, "message": case.message or None}
                for case in one.cases
            ],
            "never_fired": list(one.never_fired),
            "never_held": list(one.never_held),
        }
        for one in tried
    ]


def differences_view(found: Sequence[Difference], glyphs: Glyphs, *, profiles: int) -> RenderableType:
    """Return what is proposed otherwise for recorded profiles."""
    changed = [one for one in found if not one.is_empty]
    if not profiles:
        return line("No stored profiles to replay.", glyphs)
    head = f"Replayed {count(profiles, 'profile')} against the installed rules: "
    if not changed:
        return line(f"{head}nothing is proposed otherwise.", glyphs)
    lines: list[RenderableType] = [line(f"{head}{len(changed)} would be advised otherwise.", glyphs, STRONG)]
    for one in changed:
        lines.append(line(f"{one.label}", glyphs, TITLE))
        lines += [line(f"  new      {_proposed(proposal)}", glyphs) for proposal in one.new]
        lines += [line(f"  gone     {_proposed(proposal)}: {why}", glyphs) for proposal, why in one.gone]
        lines += [
            line(f"  changed  {_proposed(old)} {glyphs.arrow} {_settings(new)}", glyphs) for old, new in one.changed
        ]
    return Group(*lines)


def differences_json(found: Iterable[Difference]) -> list[dict[str, object]]:
    """Return what is proposed otherwise as JSON data."""
    return [
        {
            "profile": one.label,
            "new": [_proposal_json(proposal) for proposal in one.new],
            "gone": [{**_proposal_json(proposal), "because": why} for proposal, why in one.gone],
            "changed": [{**_proposal_json(new), "before": _proposal_json(old)["settings"]} for old, new in one.changed],
            "conflicts": one.conflicts,
            "failures": [f"{failure.place}: {failure.message}" for failure in one.failures],
        }
        for one in found
    ]


def _proposed(proposal: Proposal) -> str:
    return f"{proposal.rule.identity}: {_settings(proposal)}"


def _settings(proposal: Proposal) -> str:
    return ", ".join(f"{wish.knob}={show(wish.value)}" for wish in proposal.option.wishes)


def _proposal_json(proposal: Proposal) -> dict[str, object]:
    return {
        "rule": proposal.rule.identity,
        "choice": proposal.choice or None,
        "settings": [setting_to_dict(setting) for setting in proposal.settings()],
    }


# --- why


def explained_view(found: Sequence[Explained], glyphs: Glyphs, *, in_full: bool) -> RenderableType:
    """Return why each rule fires or does not: those that do first, each condition with what was found.

    Args:
        in_full: every condition of rules that do not hold too, not only those that stand in the way.
    """
    parts: list[RenderableType] = []
    shown = found if in_full else _nearest(found)
    for outcome in _ORDER:
        for one in (one for one in shown if one.outcome == outcome):
            parts += _explained(one, glyphs, in_full=in_full)
    by = Counter(one.outcome for one in found)
    total = ", ".join(f"{by[outcome]} {outcome}" for outcome in _ORDER if by[outcome])
    return Group(*parts, line(f"{total}.", glyphs, STRONG))


def _nearest(found: Sequence[Explained]) -> list[Explained]:
    """Return, of each rule that holds of nothing, only where it is nearest to doing so; of the others everything."""
    best: dict[str, Explained] = {}
    for one in found:
        rival = best.get(one.rule.identity)
        if one.outcome == NO and (rival is None or len(one.unmet) < len(rival.unmet)):
            best[one.rule.identity] = one
    others = {one.rule.identity for one in found if one.outcome != NO}
    return [
        one
        for one in found
        if one.outcome != NO or (best[one.rule.identity] is one and one.rule.identity not in others)
    ]


def _explained(one: Explained, glyphs: Glyphs, *, in_full: bool) -> list[RenderableType]:
    about = f" for {' and '.join(one.about)}" if one.about else ""
    because = f": {one.because}" if one.because else ""
    head = Text.assemble(
        (plain(one.rule.identity), TITLE), glyphs.text(plain(about)), "  ",
        (glyphs.text(plain(f"{one.outcome}{because}")), _STYLES.get(one.outcome, DIM)),
    )  # fmt: skip
    body: list[RenderableType] = [line(_settings(proposal), glyphs) for proposal in one.proposals]
    if in_full or one.outcome in _IN_FULL:
        body.append(evidence_table(one.evidence, glyphs))
    elif one.outcome == UNTOLD:
        body.append(evidence_table(one.unmet, glyphs))
    elif one.outcome == NO:
        body.append(line(_in_the_way(one), glyphs, DIM))
    return [head, Padding(Group(*body, fit=True), (0, 0, 0, 2), expand=False)] if body else [head]


def _in_the_way(one: Explained) -> str:
    """Return the first condition that does not hold, and how many more do not."""
    failing = [evidence for evidence in one.evidence if evidence.truth is False]
    text = failing[0].text if len(failing[0].text) <= _WIDEST else f"{failing[0].text[:_WIDEST]}..."
    words = (text, f"is {failing[0].actual}" if failing[0].actual else "", margin_words(failing[0]))
    more = f"and {len(failing) - 1} more" if len(failing) > 1 else ""
    return "  ".join(word for word in (*words, more) if word)


def explained_json(found: Iterable[Explained]) -> list[dict[str, object]]:
    """Return why each rule fires or does not as JSON data."""
    return [
        {
            "rule": one.rule.identity,
            "about": list(one.about),
            "outcome": one.outcome,
            "because": one.because or None,
            "reason": one.rule.reason,
            "conditions": [evidence_json(evidence) for evidence in one.evidence],
            "proposals": [_proposal_json(proposal) for proposal in one.proposals],
        }
        for one in found
    ]
