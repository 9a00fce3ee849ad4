"""What is wrong with conditions although each makes sense by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dna.features import DEMAND, FEATURES
from rules.findings import Finding, of_condition
from rules.language import Compare, Condition, Facts, Group, Not, parts_of
from rules.logic import always_holds, can_hold, follows, range_of, tree_of, trees_of
from rules.rule import Rule
from rules.units import show_amount

_WORKLOADS_OWN = (*(feature.name for feature in FEATURES), *(f"demand.{row.name}" for row in DEMAND))
_MEASURED = frozenset(f"{word}.{name}" for word in "wo" for name in _WORKLOADS_OWN)
_EXACT_UNITS = ("1", "B", "B/s", "GT/s", "s")
"""Units in which facts of a machine, unlike measurements, have exact values."""


def check(rule: Rule) -> Iterator[Finding]:
    """Yield what is wrong with the conditions of a rule."""
    joined = [part for condition in rule.conditions for part in _conjuncts(condition)]
    alone = [finding for part in joined for finding in _alone(rule, part)]
    yield from alone
    yield from (_exact(rule, one) for part in joined for one, _ in _comparisons(part) if _is_exact(one))
    if not can_hold(trees_of(joined)):
        if not any(finding.code == "never" for finding in alone):
            yield _contradiction(rule, joined)
    else:
        yield from _redundant(rule, joined)


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions all of which must hold."""
    if isinstance(condition, Group) and condition.every:
        for part in condition.parts:
            yield from _conjuncts(part)
    else:
        yield condition


def _comparisons(condition: Condition, *, negated: bool = False) -> Iterator[tuple[Condition, bool]]:
    """Yield the conditions that are not made of others, and whether their contrary is meant."""
    if isinstance(condition, Not):
        yield from _comparisons(condition.of, negated=not negated)
    elif parts := parts_of(condition):
        for part in parts:
            yield from _comparisons(part, negated=negated)
    else:
        yield condition, negated


def _alone(rule: Rule, part: Condition) -> Iterator[Finding]:
    """Yield what is wrong with a condition whatever the others say."""
    found = False
    for one, negated in _comparisons(part):
        meant = Not(one) if negated else one
        if not can_hold([tree_of(meant)]):
            found = True
            yield of_condition(rule, one, "never", f"{meant.text} never holds{_because(one)}", "Correct the amount.")
        elif always_holds(meant):
            found = True
            yield _always(rule, one, meant)
    if not found and not can_hold([tree_of(part)]):
        yield of_condition(rule, part, "never", f"{part.text} never holds", "Correct the amounts.")
    elif not found and always_holds(part):
        yield _always(rule, part, part)


def _always(rule: Rule, where: Condition, meant: Condition) -> Finding:
    return of_condition(
        rule,
        where,
        "always",
        f"{meant.text} always holds{_because(where)}",
        "Leave it out, or say .is_known if that is what is meant.",
    )


def _because(condition: Condition) -> str:
    """Return the range of what is compared, where there is one."""
    if not isinstance(condition, Compare) or not condition.against_amount:
        return ""
    low, high = (show_amount(limit, condition.left.unit) for limit in range_of(condition.left))
    return (
        f": {condition.left.text} is from {low} to {high}"
        if high != "inf"
        else f": {condition.left.text} is from {low}"
    )


def _contradiction(rule: Rule, joined: Sequence[Condition]) -> Finding:
    """Return the finding that names no more conditions than are needed for the contradiction."""
    left = list(joined)
    for one in joined:
        without = [other for other in left if other is not one]
        if not can_hold(trees_of(without)):
            left = without
    together = " and ".join(one.text for one in left)
    return of_condition(rule, left[-1], "never", f"{together} never hold together", "Correct one of them.")


def _redundant(rule: Rule, joined: Sequence[Condition]) -> Iterator[Finding]:
    left = [(one, tree_of(one)) for one in joined]
    for one, tree in reversed(left.copy()):
        others = [(other, its) for other, its in left if other is not one]
        if not always_holds(one) and follows([tree], [its for _, its in others]):
            left = others
            yield of_condition(rule, one, "redundant", f"{one.text} follows from the other conditions", "Leave it out.")


def _is_exact(condition: Condition) -> bool:
    if not isinstance(condition, Compare) or condition.op not in ("==", "!="):
        return False
    if condition.against_amount and condition.right.value(Facts({})) == 0:  # "none at all" can be meant
        return False
    return condition.left.unit not in _EXACT_UNITS or bool(condition.names() & _MEASURED)


def _exact(rule: Rule, condition: Condition) -> Finding:
    return of_condition(
        rule,
        condition,
        "exact",
        f"{condition.text}: a number that is measured is hardly ever exactly that",
        "Compare with < or >, or use .between(low, high).",
    )
