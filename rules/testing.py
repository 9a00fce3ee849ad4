"""Try rules on situations that are written down: what the test module beside a rule file imports.

::

    from rules.testing import beside, given

    RULES = beside(__file__)  # in test_mine.py: the rules of mine.py

    def test_fires() -> None:
        case = given({"memory.random_share": 0.8, "demand.resident": "2 GiB"}, facts={"hugepages.available": True})
        assert case.ask(RULES).settings("huge_pages") == {"memory.hugepages": "collapse:0.5"}

Whatever is not given is unknown. Amounts may be text, which is parsed by the fact's unit, as in conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from dna.vector import Match as Neighbour
from hal.settings import Subject, Value, tree
from rules import loader
from rules.advice import Advice, Advisor, Proposal, arguments
from rules.engine import Engine
from rules.errors import RuleError
from rules.gather import described_machine
from rules.language import Facts, Truth
from rules.rule import Rule
from rules.running import collected
from rules.situation import Machine, Situation, Thing, Workload, bindings
from rules.tables import FACTS, FLAG, NEIGHBOURS, WORD, Fact
from rules.units import parse_amount, show_amount
from rules.words import unknown

type Written = Mapping[str, object]
"""Facts by their name behind a word, as a test writes them."""
SMALL = "pack:1 numa:1 core:8 pu:2"
"""The machine of a case that names none: one package of eight cores with two CPUs each."""
_FIRST_PID = 1000


def given(
    *workloads: Written,
    machine: str | Machine = SMALL,
    facts: Written | None = None,
    nics: Iterable[Written] = (),
    disks: Iterable[Written] = (),
    pcis: Iterable[Written] = (),
) -> Given:
    """Return a situation to ask rules about.

    Args:
        workloads: facts behind ``w``, such as ``{"memory.random_share": 0.8, "demand.resident": "2 GiB"}``; also
            ``neighbours`` (label and distance of each), and what bodies use: ``cpus``, ``node_bytes``, ``pids``, ``peers``,
            ``cgroup``, ``subject``, and for trends ``earlier`` (facts of the intervals before) with ``times`` in seconds.
        machine: a topology description as ``--topology`` takes it, or a machine.
        facts: facts behind ``m``, which count before what the description says.
        nics: facts behind ``nic`` of each card; also ``irqs`` and ``subject``. ``disks`` and ``pcis`` likewise.

    Raises:
        RuleError: a fact does not exist, or does not take the value.
    """
    described = _machine(machine, checked("m", facts or {}))
    here = replace(
        described,
        nics=tuple(_thing("nic", "nic", one) for one in nics) or described.nics,
        disks=tuple(_thing("disk", "block", one) for one in disks) or described.disks,
        pcis=tuple(_thing("pci", "pci", one) for one in pcis) or described.pcis,
    )
    return Given(Situation(here, tuple(_workload(number, one) for number, one in enumerate(workloads))))


def beside(test_file: str | Path) -> tuple[Rule, ...]:
    """Return the rules of the file that a test module stands beside: of ``test_mine.py`` those of ``mine.py``.

    Raises:
        RuleError: there is no such file, or it cannot be loaded.
    """
    test = Path(test_file)
    if not test.name.startswith("test_"):
        raise RuleError(f"{test}: no test module", remedy="beside(__file__) is for test_NAME.py beside NAME.py.")
    return loader.rules_in(test.with_name(test.name.removeprefix("test_")))


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A situation that was written down."""

    situation: Situation

    def ask(self, rules: Iterable[Rule] | ModuleType) -> Said:
        """Return what rules, or those of a module, say of it."""
        asked = loader.rules_of(rules) if isinstance(rules, ModuleType) else tuple(rules)
        return Said(asked, self.situation, Advisor(Engine(asked)).advise(self.situation))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a test learned of one rule."""

    rule: str
    """Its identity."""
    fired: bool


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What rules said of a situation."""

    rules: tuple[Rule, ...]
    situation: Situation
    advice: Advice

    def fired(self, name: str) -> bool:
        """Tell whether a rule matched anything and had something to say about it: a setting, a choice or a veto.

        Raises:
            RuleError: there is no such rule, or its body came to grief.
        """
        rule = self._rule(name)
        fired = any(
            collected(rule(**arguments(rule, binding)))
            for binding in bindings(self.situation, rule.variables)
            if _truth(rule, binding.facts)
        )
        return _heard(rule, fired=fired)

    def truth(self, name: str) -> Truth:
        """Tell whether the conditions of a rule hold of anything; None when that cannot be told.

        Raises:
            RuleError: there is no such rule.
        """
        rule = self._rule(name)
        seen = [_truth(rule, binding.facts) for binding in bindings(self.situation, rule.variables)]
        truth = True if True in seen else None if None in seen else False
        _heard(rule, fired=truth is True)
        return truth

    def settings(self, name: str, *, on: Subject | Workload | Thing | None = None) -> dict[str, Value]:
        """Return what a rule proposes, by knob, whether it is taken or not; of a choice the option that is meant.

        Args:
            on: only what is proposed for this subject.

        Raises:
            RuleError: there is no such rule, its body came to grief, or it sets a knob differently on several subjects.
        """
        rule = self._rule(name)
        subject = on.subject if isinstance(on, Workload | Thing) else on
        found: dict[str, Value] = {}
        for wish in (wish for one in self._proposals(rule) for wish in one.option.wishes):
            if subject in (None, wish.subject) and found.setdefault(wish.knob, wish.value) != wish.value:
                raise RuleError(
                    f"{name} sets {wish.knob} to {found[wish.knob]!r} and {wish.value!r}",
                    remedy="Say on which subject: settings(NAME, on=...)",
                )
        _heard(rule, fired=bool(found))
        return found

    def _proposals(self, rule: Rule) -> list[Proposal]:
        for failure in self.advice.failures:
            if failure.rule is rule:
                raise RuleError(f"{rule.name}: {failure.message}", place=failure.place)
        made = [*self.advice.proposals, *(dropped.proposal for dropped in self.advice.dropped)]
        return [proposal for proposal in made if proposal.rule is rule]

    def _rule(self, name: str) -> Rule:
        found = [rule for rule in self.rules if name in (rule.name, rule.identity)]
        if len(found) == 1:
            return found[0]
        there = ", ".join(sorted({rule.identity for rule in found or self.rules})) or "none"
        raise RuleError(
            f"{'several rules are' if found else 'no rule is'} called {name!r}", remedy=f"There is: {there}."
        )


def _truth(rule: Rule, facts: Facts) -> Truth:
    seen = [condition.truth(facts) for condition in rule.conditions]
    return False if False in seen else None if None in seen else True


# --- what tests asked


_listening: list[list[Answer]] = []


@contextmanager
def listening() -> Iterator[list[Answer]]:
    """Collect what tests ask about rules, from whatever thread they run in."""
    heard: list[Answer] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.pop()


def _heard(rule: Rule, *, fired: bool) -> bool:
    for heard in _listening:
        heard.append(Answer(rule.identity, fired))
    return fired


# --- from what is written to values


def checked(word: str, values: Written) -> dict[str, object]:
    """Return facts behind a word, held against the table: amounts that are text are parsed.

    Raises:
        RuleError: a fact does not exist, or does not take the value.
    """
    return {
        name: _checked(f"{word}.{name}", value)
        for name, value in ((given.removeprefix(f"{word}."), value) for given, value in values.items())
    }


def _checked(name: str, value: object) -> object:
    fact = FACTS.get(name)
    if fact is None:
        problem = unknown(name)
        raise RuleError(problem.message, remedy=problem.remedy)
    if value is None:
        return None
    if fact.unit == FLAG:
        return _of_type(name, value, bool, "true or false")
    if fact.unit == WORD:
        return _of_type(name, value, str, "a word")
    return _number(name, fact, value)


def _of_type(name: str, value: object, kind: type, words: str) -> object:
    if not isinstance(value, kind):
        raise RuleError(f"{name} is {words}, and {value!r} is not")
    return value


def _number(name: str, fact: Fact, value: object) -> float:
    if isinstance(value, str):
        try:
            value = parse_amount(value, fact.unit)
        except ValueError as error:
            raise RuleError(f"{name}: {error}") from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RuleError(f"{name} is a number in {fact.unit}, and {value!r} is none")
    if not fact.low <= value <= fact.high:
        raise RuleError(
            f"{name} is never {show_amount(value, fact.unit)}",
            remedy=f"It is from {fact.low:g} to {fact.high:g} {fact.unit}.",
        )
    return value


def _machine(machine: str | Machine, facts: Written) -> Machine:
    if isinstance(machine, Machine):
        return replace(machine, values={**machine.values, **facts})
    return described_machine(machine, facts)


def _neighbours(written: Any) -> tuple[Neighbour, ...]:
    """Return the nearest known workloads of pairs of label and distance."""
    made = (one if isinstance(one, Neighbour) else Neighbour(*one) for one in written)
    return tuple(sorted(made, key=lambda neighbour: neighbour.distance))


def _subject(written: Any) -> Subject:
    if not isinstance(written, Subject):
        raise TypeError("a Subject, such as hal.settings.tree(1000, 1)")
    return written


_OF_WORKLOAD: dict[str, Callable[[Any], object]] = {
    "subject": _subject,
    "earlier": lambda moments: tuple(checked("w", moment) for moment in moments),
    "times": lambda times: tuple(float(time) for time in times),
    "pids": frozenset,
    "peers": dict,
    "cpus": frozenset,
    "cgroup": str,
    "node_bytes": dict,
}
_OF_THING: dict[str, Callable[[Any], object]] = {"subject": _subject, "irqs": tuple}


def _workload(number: int, written: Written) -> Workload:
    more = _more(written, _OF_WORKLOAD)
    values = checked("w", {name: value for name, value in written.items() if name not in (*more, NEIGHBOURS)})
    if NEIGHBOURS in written:
        values[NEIGHBOURS] = _neighbours(written[NEIGHBOURS])
    name = str(values.get("name") or ("workload" if number == 0 else f"workload {number + 1}"))
    pid = _FIRST_PID + number
    made = Workload(name, tree(pid, 1), values, pids=frozenset((pid,)))
    return replace(made, **more)  # type: ignore[arg-type]  # by _OF_WORKLOAD


def _thing(word: str, kind: str, written: Written) -> Thing:
    more = _more(written, _OF_THING)
    values = checked(word, {name: value for name, value in written.items() if name not in more})
    name = str(values.get("name") or values.get("address") or f"{word}0")
    node = values.get("node")
    made = Thing(name, Subject(kind, name), values, int(node) if isinstance(node, int | float) else None)
    return replace(made, **more)  # type: ignore[arg-type]  # by _OF_THING


def _more(written: Written, kinds: Mapping[str, Callable[[Any], object]]) -> dict[str, object]:
    """Return what is given besides facts."""
    found: dict[str, object] = {}
    for name, make in kinds.items():
        if name in written:
            try:
                found[name] = make(written[name])
            except (TypeError, ValueError) as error:
                raise RuleError(f"{name}={written[name]!r}: {error}") from error
    return found
