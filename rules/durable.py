"""Match rules with durable-rules, within its limits.

What it cannot do is kept from it (measured with 2.0.28; the tests pin each): rulesets hold few rules, since from 512 it hangs and
since one fact that matches more than 64 fires nothing; every condition begins with an equality, so that partial matches
are not counted; facts hold whole numbers only, and only the columns of their ruleset; a fact has an id of its own and is always
taken back, since what stays is kept for ever. Its Python layer is passed by: that starts two timer threads for each host, which run
actions beside the caller, and rewrites the state after every action. What matched is read from the engine itself.

It is compiled when it is installed, and its last release does not know Python 3.13: docs/rules-engine.md says how to install it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from rules.errors import RuleError
from rules.formula import Column, Formula, Literal, columns_of, rule_formula
from rules.language import OPERATORS, Facts
from rules.rule import Rule

MATCHES_A_SHARD = 60
"""Below the 64 ways in which one fact may match a ruleset at once; a rule matches once for each alternative that holds."""
_OPERATORS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte", "!=": "$neq"}
_SID = "s"
_KEY = "k"
_OK, _NOT_HANDLED = 0, 1

_names = itertools.count()  # a name cannot be used twice in one process


def _library() -> ModuleType:
    try:
        import durable_rules_engine
    except ImportError as error:
        raise RuleError(
            f"durable-rules cannot be loaded: {error}",
            remedy="Leave --matcher at plain, which needs nothing, or see docs/rules-engine.md for how it is installed.",
        ) from error
    return durable_rules_engine  # type: ignore[no-any-return]


def is_installed() -> bool:
    """Tell whether durable-rules can be used here."""
    try:
        _library()
    except RuleError:
        return False
    return True


class DurableMatcher:
    """A set of rules, in as many rulesets as their number asks for.

    Raises:
        RuleError: durable-rules is not installed, or refuses the rules.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._shards = [_Shard(members) for members in _sharded([rule_formula(rule.conditions) for rule in rules])]

    def matches(self, facts: Facts) -> list[int]:
        """See ``rules.engine.Matcher``."""
        return sorted(number for shard in self._shards for number in shard.matches(facts))


def _sharded(made: Sequence[Formula]) -> list[dict[int, Formula]]:
    """Return the formulas by number in sets of which one fact cannot match too much."""
    shards: list[dict[int, Formula]] = []
    room = 0
    for number, wanted in enumerate(made):
        formula = wanted if _ways(wanted) <= MATCHES_A_SHARD else _worked_out(number, wanted)
        if _ways(formula) > room:
            shards.append({})
            room = MATCHES_A_SHARD
        shards[-1][number] = formula
        room -= _ways(formula)
    return shards


def _worked_out(number: int, formula: Formula) -> Literal:
    """Return a formula of too many alternatives as one column."""
    return Literal(Column(f"rule {number}", lambda facts: int(_holds(formula, facts))), "==", 1)


def _ways(formula: Formula) -> int:
    """Return in how many ways a formula can match at most."""
    if isinstance(formula, Literal):
        return 1
    ways = [_ways(part) for part in formula.parts]
    return math.prod(ways) if formula.every else sum(ways)


def _holds(formula: Formula, facts: Facts) -> bool:
    if isinstance(formula, Literal):
        value = formula.column.of(facts)
        return value is not None and OPERATORS[formula.op](value, formula.limit)
    return (all if formula.every else any)(_holds(part, facts) for part in formula.parts)


class _Shard:
    """One ruleset; its rules are named by their numbers."""

    def __init__(self, made: dict[int, Formula]) -> None:
        self._library: Any = _library()
        columns = columns_of(made.values())
        self._columns = [(f"c{number}", column.of) for number, column in enumerate(columns)]
        names = {column: f"c{number}" for number, column in enumerate(columns)}
        definition = {str(number): _definition(formula, names) for number, formula in made.items()}
        self._handle = self._library.create_ruleset(f"dna{next(_names)}", json.dumps(definition))
        self._ids = itertools.count()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.delete_ruleset(self._handle)

    def matches(self, facts: Facts) -> list[int]:
        """Return the numbers of the rules that match, ascending."""
        known = {name: value for name, of in self._columns if (value := of(facts)) is not None}
        fact = json.dumps({"id": str(next(self._ids)), "sid": _SID, _KEY: 1, **known})
        try:
            code, state = self._library.assert_fact(self._handle, fact)
            if code == _NOT_HANDLED:
                return []
            if code != _OK:
                raise RuleError(f"durable-rules answered {code} to a fact")
            return sorted(self._fired(state))
        finally:
            self._library.retract_fact(self._handle, fact)

    def _fired(self, state: int) -> set[int]:
        """Return what fired: the engine hands out one match after the other."""
        found = set()
        first = self._library.start_action_for_state(self._handle, state)
        message = first[1] if first else None
        while message:
            found.add(_name_in(message))
            message = self._library.complete_and_start_action(self._handle, state)
        return found


def _name_in(message: str) -> int:
    """Return the rule's number from ``{"12":{"m":{...}}}``; the facts behind it need not be parsed."""
    return int(message[2 : message.index('"', 2)])


def _definition(formula: Formula, names: dict[Column, str]) -> dict[str, Any]:
    return {"all": [{"m": {"$and": [{_KEY: 1}, _expression(formula, names)]}}]}


def _expression(formula: Formula, names: dict[Column, str]) -> dict[str, Any]:
    if isinstance(formula, Literal):
        name = names[formula.column]
        return {name: formula.limit} if formula.op == "==" else {_OPERATORS[formula.op]: {name: formula.limit}}
    if not formula.parts:
        return {_KEY: 1}
    parts = [_expression(part, names) for part in formula.parts]
    return parts[0] if len(parts) == 1 else {"$and" if formula.every else "$or": parts}
