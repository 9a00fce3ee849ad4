"""Which settings a rule's body makes, read from its source: calls such as ``s.memory.hugepages(workload, "0.5")``.

Functions of the same file that the body calls are looked into; those of other modules are not.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hal.knobs import all_knobs
from rules.rule import PARAMETERS, Rule
from rules.settings import s

_PLAIN = (ast.Expr, ast.Yield, ast.YieldFrom, ast.Return, ast.List, ast.Tuple)
"""What stands around a setting that is made whenever the body is run."""
_LEAVES = (ast.Return, ast.Raise, ast.Assert)

type Words = Mapping[str, str]
"""The word of conditions that a variable stands for."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that stands in the source."""

    value: object


@dataclass(frozen=True, slots=True)
class Write:
    """One place where a body makes a setting."""

    knob: str
    """As it is written: there may be none of that name."""
    on: str
    """The word of conditions that the subject stands for ("m": the machine itself); empty where that cannot be told."""
    value: Fixed | None
    """None where it is worked out."""
    is_certain: bool
    """It is proposed whenever the body is run, and not as one of several ways."""
    line: int


def function_of(rule: Rule, tree: ast.Module) -> ast.FunctionDef | None:
    """Return where the body of a rule stands in the syntax tree of its file."""
    return _functions(tree).get((rule.body.__name__, rule.body.__code__.co_firstlineno))


@lru_cache(maxsize=8)
def _functions(tree: ast.Module) -> dict[tuple[str, int], ast.FunctionDef]:
    """Return the functions of a file by name and first line, that of the first decorator."""
    return {
        (node.name, min([node.lineno, *(one.lineno for one in node.decorator_list)])): node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


@lru_cache(maxsize=8)
def _helpers(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """Return the functions of a file that its bodies can call."""
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def writes_of(rule: Rule, tree: ast.Module) -> tuple[Write, ...]:
    """Return the settings that a rule's body makes, in the order in which they stand."""
    function = function_of(rule, tree)
    if function is None:
        return ()
    finder = _Finder(rule.body.__globals__, _helpers(tree))
    finder.look_into(function, {name: PARAMETERS[name] for name in rule.parameters}, certain=True)
    return tuple(finder.writes)


@dataclass(slots=True)
class _Finder:
    names: Mapping[str, object]
    """Globals of the file."""
    functions: Mapping[str, ast.FunctionDef]
    writes: list[Write] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def look_into(self, function: ast.FunctionDef, words: Words, *, certain: bool) -> None:
        self._seen.add(function.name)
        for statement in function.body:
            self._look(statement, words, certain=certain)
            certain = certain and not any(isinstance(node, _LEAVES) for node in ast.walk(statement))

    def _look(self, node: ast.AST, words: Words, *, certain: bool) -> None:
        if isinstance(node, ast.Call):
            knob = self._knob(node.func)
            if knob:
                self.writes.append(_write(knob, node, words, certain=certain))
            elif isinstance(node.func, ast.Name) and node.func.id in self.functions.keys() - self._seen:
                called = self.functions[node.func.id]
                self.look_into(called, dict(_passed(node, called, words)), certain=False)
        for child in ast.iter_child_nodes(node):
            self._look(child, words, certain=certain and isinstance(node, _PLAIN))

    def _knob(self, node: ast.expr) -> str:
        """Return the knob that an expression such as ``s.memory.hugepages`` names, "" for another expression."""
        match node:
            case ast.Attribute(ast.Attribute(ast.Name(name), family), short) if self.names.get(name) is s:
                return f"{family}.{short}"
            case _:
                return ""


def builder_of(knob: str) -> Callable[..., object] | None:
    """Return what makes a setting of a knob, None where there is no such knob."""
    family, _, short = knob.partition(".")
    found = getattr(getattr(s, family, None), short, None)
    return found if knob in all_knobs() and callable(found) else None


def _write(knob: str, call: ast.Call, words: Words, *, certain: bool) -> Write:
    builder = builder_of(knob)
    if builder is None:
        return Write(knob, "", None, certain, call.lineno)
    signature = inspect.signature(builder)
    given = dict(zip(signature.parameters, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    on = _word(given.get("on"), words) if "on" in signature.parameters else "m"
    return Write(knob, on, _fixed(given.get("value"), signature), certain, call.lineno)


def _fixed(node: ast.expr | None, signature: inspect.Signature) -> Fixed | None:
    if node is None:
        default = signature.parameters["value"].default
        return None if default is inspect.Parameter.empty else Fixed(default)
    try:
        return Fixed(ast.literal_eval(node))
    except ValueError:
        return None


def _word(node: ast.expr | None, words: Words) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(ast.Name(name), "subject"):
            return words.get(name, "")
        case _:
            return ""


def _passed(call: ast.Call, function: ast.FunctionDef, words: Words) -> Iterator[tuple[str, str]]:
    """Yield the parameters of a function that stand for words where it is called."""
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    yield from ((name, _word(value, words)) for name, value in zip(names, call.args, strict=False))
    yield from ((one.arg, _word(one.value, words)) for one in call.keywords if one.arg)
