"""Why each rule says what it says of a situation: every condition with what it found, and what became of the proposal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rules.advice import Advice, Advisor, Proposal
from rules.engine import Engine
from rules.language import Evidence, Truth
from rules.rule import Rule
from rules.situation import Binding, Situation, bindings

PROPOSED, DROPPED, SILENT, FAILED, UNTOLD, NO, NOTHING = (
    "proposed", "dropped", "silent", "failed", "cannot tell", "does not hold", "nothing to ask about",
)  # fmt: skip
"""What can become of a rule for something: its settings are taken, or lost against others; it holds and yields no setting, or
raises; what it asks is not known, or not so; there is no such thing as it is about."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What one rule says of one thing, and why."""

    rule: Rule
    about: tuple[str, ...]
    """Names of the workload and things that it was held against."""
    outcome: str
    """One of the words above."""
    because: str = ""
    """Of a proposal that was dropped, and of a failure."""
    evidence: tuple[Evidence, ...] = ()
    proposals: tuple[Proposal, ...] = ()

    @property
    def unmet(self) -> tuple[Evidence, ...]:
        """The conditions that stand in its way."""
        return tuple(one for one in self.evidence if one.truth is not True)


def explain(rules: Engine, situation: Situation) -> tuple[Explained, ...]:
    """Return what each rule says of each thing it can be held against, in the order of the rules; nothing is changed."""
    advice = Advisor(rules).advise(situation)
    return tuple(one for rule in rules.rules for one in _of_rule(rule, situation, advice))


def _of_rule(rule: Rule, situation: Situation, advice: Advice) -> Iterator[Explained]:
    anything = False
    for binding in bindings(situation, rule.variables):
        anything = True
        yield _of_binding(rule, binding, advice)
    if not anything:
        yield Explained(rule, (), NOTHING, f"there is no {_missing(rule, situation)} here")


def _of_binding(rule: Rule, binding: Binding, advice: Advice) -> Explained:
    evidence = tuple(condition.evidence(binding.facts) for condition in rule.conditions)
    truth = _all(one.truth for one in evidence)
    if truth is not True:
        return Explained(rule, binding.names, NO if truth is False else UNTOLD, evidence=evidence)
    for failure in advice.failures:
        if failure.rule is rule and failure.about == binding.names:
            return Explained(rule, binding.names, FAILED, f"{failure.place}: {failure.message}", evidence)
    mine = tuple(one for one in advice.proposals if one.rule is rule and one.about == binding.names)
    lost = [one for one in advice.dropped if one.proposal.rule is rule and one.proposal.about == binding.names]
    if mine:
        return Explained(rule, binding.names, PROPOSED, "", evidence, mine)
    if lost:
        return Explained(rule, binding.names, DROPPED, lost[0].because, evidence, tuple(one.proposal for one in lost))
    return Explained(rule, binding.names, SILENT, "it holds and proposes no setting here", evidence)


def _all(truths: Iterator[Truth]) -> Truth:
    seen = list(truths)
    return False if False in seen else None if None in seen else True


def _missing(rule: Rule, situation: Situation) -> str:
    """Return what a rule is about that a situation has not."""
    words = {
        "w": ("workload", situation.workloads),
        "o": ("second workload", situation.workloads[1:]),
        "nic": ("network card", situation.machine.nics),
        "disk": ("disk", situation.machine.disks),
        "pci": ("PCI device", situation.machine.pcis),
    }
    missing = [name for word, (name, there) in words.items() if word in rule.variables and not there]
    return " and no ".join(missing)
