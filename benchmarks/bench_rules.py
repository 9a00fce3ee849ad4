"""What a decision costs: 10, 100 and 1,000 rules over the facts of one workload, memory over 100,000 decisions, 1,000 workloads a tick.

The rules are random (a seed), of three to five comparisons over the real table of facts; one in twenty matches. Held against each
other in the same rounds: the plain matcher, durable-rules behind ours, the conditions evaluated one by one as the explanation does,
and CLIPS (clipspy), given the same comparisons. durable-rules and clipspy are compared where they are installed. A tick is
everything: facts, matching, running the bodies of the shipped packs and merging. Run: ``python -m benchmarks.bench_rules``.
"""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import psutil

from benchmarks.harness import Options, Report, in_rounds, options, paired_ratios
from dna.features import BY_NAME, FEATURES
from hal.settings import tree
from rules.advice import Advisor
from rules.durable import DurableMatcher, is_installed
from rules.engine import Engine, Matcher, PlainMatcher
from rules.errors import NOWHERE
from rules.formula import Column, Literal, columns_of, literals, rule_formula
from rules.gather import described_machine
from rules.language import Facts, Term, compare
from rules.rule import Rule
from rules.situation import Machine, Situation, Workload
from rules.sources import Sources, load_all

SIZES = (10, 100, 1000)
LIMIT_US = 200.0
"""Wanted: at most this for a decision over 100 rules."""
TICK_S = 0.5
"""Wanted: at most this for a tick of 1,000 workloads."""
DECISIONS = 100_000
WORKLOADS = 1000
MATCHING = 0.05
TOPOLOGY = "pack:2 numa:2 l3:2 core:8 pu:2"


def random_values(draw: random.Random) -> dict[str, object]:
    """Return a value of each feature, evenly over its range, one in ten unknown."""
    return {f.name: None if draw.random() < 0.1 else f.scale.decode(draw.random()) for f in FEATURES}


def random_rules(count: int, values: Mapping[str, object], draw: random.Random) -> list[Rule]:
    """Return rules of which the share MATCHING holds of these values."""
    return [_random_rule(number, values, draw, matching=draw.random() < MATCHING) for number in range(count)]


def _random_rule(number: int, values: Mapping[str, object], draw: random.Random, *, matching: bool) -> Rule:
    known = [name for name, value in values.items() if isinstance(value, float)]
    names = draw.sample(known, draw.randint(3, 5))
    conditions = []
    for position, name in enumerate(names):
        value = values[name]
        assert isinstance(value, float)
        # The first comparison of one that shall not match fails; what is behind it is as often true as not.
        holds = matching or (position > 0 and draw.random() < 0.5)
        op = draw.choice(["<", ">"])
        limit = value * 1.1 + 1e-3 if (op == "<") is holds else value * 0.9 - 1e-3
        conditions.append(compare(Term[Any](f"w.{name}", BY_NAME[name].unit), op, limit))
    return Rule(f"r{number}", tuple(conditions), lambda: (), 0, "", "", "", "", NOWHERE, variables=("w",))


class OneByOne:
    """The conditions themselves, each rule until one does not hold."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [rule.conditions for rule in rules]

    def matches(self, facts: Facts) -> list[int]:
        return [n for n, conditions in enumerate(self._rules) if all(one.truth(facts) is True for one in conditions)]


class Clips:
    """The same comparisons as rules of CLIPS over one template, a slot for each fact that is compared."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        import clips

        formulas = [rule_formula(rule.conditions) for rule in rules]
        columns = columns_of(formulas)
        self._slots = {f"c{number}": column.of for number, column in enumerate(columns)}
        names = {column: f"c{number}" for number, column in enumerate(columns)}
        self._found: list[int] = []
        self._environment: Any = clips.Environment()
        self._environment.define_function(self._found.append, name="found")
        self._environment.build(f"(deftemplate facts {' '.join(f'(slot {slot})' for slot in self._slots)})")
        for number, formula in enumerate(formulas):
            self._environment.build(_defrule(number, list(literals(formula)), names))
        self._template = self._environment.find_template("facts")

    def matches(self, facts: Facts) -> list[int]:
        self._found.clear()
        fact = self._template.assert_fact(
            **{slot: -(1 << 60) if (v := of(facts)) is None else v for slot, of in self._slots.items()}
        )
        self._environment.run()
        fact.retract()
        return sorted(self._found)


def _defrule(number: int, compared: Sequence[Literal], names: Mapping[Column, str]) -> str:
    # The random rules compare known values only, so that what stands for unknown is never looked at.
    by_slot: dict[str, list[Literal]] = {}
    for literal in compared:
        by_slot.setdefault(names[literal.column], []).append(literal)
    slots = [
        f"({slot} ?{slot}&" + "&".join(f":({one.op} ?{slot} {one.limit})" for one in some) + ")"
        for slot, some in by_slot.items()
    ]
    return f"(defrule r{number} (facts {' '.join(slots)}) => (found {number}))"


def matchers() -> dict[str, Callable[[Sequence[Rule]], Matcher]]:
    """Return what can be compared here."""
    found: dict[str, Callable[[Sequence[Rule]], Matcher]] = {"plain": PlainMatcher, "one by one": OneByOne}
    if is_installed():
        found["durable-rules"] = DurableMatcher
    if importlib.util.find_spec("clips"):
        found["CLIPS"] = Clips
    return found


def timed(matcher: Matcher, facts: Facts, repeats: int) -> float:
    """Return the microseconds of one decision."""
    began = time.perf_counter()
    for _ in range(repeats):
        matcher.matches(facts)
    return (time.perf_counter() - began) / repeats * 1e6


def decisions(report: Report, given: Options) -> None:
    """Time a decision at each size, all matchers in the same rounds."""
    draw = random.Random(given.seed)
    values = random_values(draw)
    facts = Facts({f"w.{name}": value for name, value in values.items()})
    for size in SIZES:
        rules = random_rules(size, values, draw)
        made = {name: make(rules) for name, make in matchers().items()}
        answers = {name: matcher.matches(facts) for name, matcher in made.items()}
        assert len(set(map(tuple, answers.values()))) == 1, f"they do not agree: {answers}"
        repeats = max(3, 2000 // size)
        conditions = {name: partial(timed, matcher, facts, repeats) for name, matcher in made.items()}
        results = in_rounds(conditions, rounds=given.rounds, seed=given.seed)
        for name in made:
            median = report.add(f"{size} rules, {len(answers['plain'])} match: {name}", results[name], "µs")
            if size == 100 and name == "plain":  # what is used unless something else is asked for
                report.judge(f"a decision over 100 rules within {LIMIT_US:g} µs", median <= LIMIT_US)
        for name in made:
            if name != "plain":
                report.add(f"{size} rules: {name} / plain", paired_ratios(results, name, "plain"), "times")


def memory(report: Report, given: Options) -> None:
    """Make many decisions on changing facts, and see what memory they leave behind."""
    draw = random.Random(given.seed)
    values = random_values(draw)
    rules = random_rules(100, values, draw)
    changing = [Facts({f"w.{name}": value for name, value in random_values(draw).items()}) for _ in range(50)]
    count = DECISIONS // 20 if given.quick else DECISIONS
    for name in ("plain", "durable-rules"):
        if name not in matchers():
            continue
        matcher = matchers()[name](rules)
        for number in range(count // 10):
            matcher.matches(changing[number % 50])
        before = psutil.Process().memory_info().rss
        for number in range(count):
            matcher.matches(changing[number % 50])
        grown = psutil.Process().memory_info().rss - before
        report.note(
            f"{count} decisions: {name}", f"{grown / count:.1f} B a decision kept ({grown / 2**20:.1f} MiB in all)"
        )
        report.judge(f"{name}: memory is flat (below 10 B a decision)", grown / count < 10)


def tick(report: Report, given: Options) -> None:
    """Time everything for 1,000 workloads under the shipped packs."""
    draw = random.Random(given.seed)
    machine: Machine = described_machine(TOPOLOGY)
    workloads = tuple(Workload(f"w{n}", tree(n + 2, 1), random_values(draw)) for n in range(WORKLOADS))
    rules = load_all(Sources(user=None, system=None)).rules
    single = [rule for rule in rules if "o" not in rule.variables]
    situation = Situation(machine, workloads)

    def once(matcher: str, some: Sequence[Rule]) -> Callable[[], float]:
        advisor = Advisor(Engine(some, matcher=matcher))

        def run() -> float:
            began = time.perf_counter()
            advisor.advise(situation)
            return time.perf_counter() - began

        return run

    conditions = {"plain": once("plain", rules), "plain, no pairs": once("plain", single)}
    if is_installed():
        conditions["durable-rules, no pairs"] = once("durable", single)
    results = in_rounds(conditions, rounds=given.rounds, seed=given.seed)
    report.note("shipped rules", f"{len(rules)}, {len(rules) - len(single)} of them about pairs")
    for name, seconds in results.items():
        median = report.add(f"tick of {WORKLOADS} workloads: {name}", seconds, "s")
        if name == "plain":
            report.judge(f"a tick of {WORKLOADS} workloads within {TICK_S:g} s", median <= TICK_S)


def main() -> int:
    """Run it."""
    given = options(__doc__ or "", rounds=15, quick_rounds=3)
    report = Report("rules", "what a decision by rules costs")
    report.note("compared", ", ".join(matchers()))
    decisions(report, given)
    memory(report, given)
    tick(report, given)
    return report.print(given)


if __name__ == "__main__":
    raise SystemExit(main())
