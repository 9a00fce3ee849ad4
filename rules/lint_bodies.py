"""What is wrong with what rules do and say: settings that do not exist, values that they do not take, reasons that are missing."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator

from hal.errors import SettingError
from hal.knobs import all_knobs, knob_of
from hal.knobs.knob import show
from hal.settings import Value
from rules.findings import Finding, of_rule
from rules.rule import Rule
from rules.writes import Fixed, Write, builder_of, function_of

_WORKLOAD = ("tree", "process", "cgroup")
_KINDS = {"w": _WORKLOAD, "o": _WORKLOAD, "nic": ("nic",), "disk": ("block",), "pci": ("pci",)}
"""The kinds of subject that words stand for."""


def check(rule: Rule, writes: Iterable[Write], tree: ast.Module) -> Iterator[Finding]:
    """Yield what is wrong with the body of a rule and its description."""
    yield from _described(rule)
    for write in writes:
        yield from _setting(rule, write)
    function = function_of(rule, tree)
    if function is not None:
        yield from _unused(rule, function)
        if not any(_says(node) for node in ast.walk(function)):
            yield of_rule(rule, "no-settings", f"{rule.name} yields nothing", "Yield settings, or remove the rule.")


def _described(rule: Rule) -> Iterator[Finding]:
    if not rule.reason:
        yield of_rule(
            rule, "no-reason", f"{rule.name} has no docstring", "Say in it how the settings help: the mechanism."
        )
    if not rule.expect:
        yield of_rule(
            rule, "no-expect", f"{rule.name} expects nothing", 'Say what: @rule(expect="throughput +5..30 %")'
        )
    if not rule.source:
        remedy = 'Name a paper, a page of documentation or a measurement: @rule(source="...")'
        yield of_rule(rule, "no-source", f"{rule.name} does not say where that is known from", remedy)


def _setting(rule: Rule, write: Write) -> Iterator[Finding]:
    if builder_of(write.knob) is None:
        near = difflib.get_close_matches(write.knob, all_knobs(), n=1, cutoff=0.5)
        remedy = f"Did you mean s.{near[0]}?" if near else "See `dna config knobs`."
        yield of_rule(rule, "unknown-setting", f"there is no setting s.{write.knob}", remedy, line=write.line)
        return
    accepted = knob_of(write.knob).accepts
    if write.on in _KINDS and not set(_KINDS[write.on]) & set(accepted):
        message = f"s.{write.knob} is not set on a {_KINDS[write.on][0]}"
        yield of_rule(rule, "wrong-subject", message, f"It takes: {', '.join(accepted)}.", line=write.line)
    if write.value is not None:
        try:
            canonical(write.knob, write.value)
        except SettingError as error:
            yield of_rule(rule, "bad-value", f"s.{write.knob}: {error}", error.remedy, line=write.line)


def canonical(knob: str, fixed: Fixed) -> Value:
    """Return a value as its knob holds it.

    Raises:
        SettingError: the knob does not take it.
    """
    value = fixed.value
    if value is None:
        return None
    if not isinstance(value, str | int | bool):
        raise SettingError(f"{value!r} is no value")
    return knob_of(knob).parse(value if isinstance(value, str) else show(value))


def _unused(rule: Rule, function: ast.FunctionDef) -> Iterator[Finding]:
    used = {node.id for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    for name in rule.parameters:
        if name not in used:
            yield of_rule(
                rule, "unused", f"{rule.name} takes {name} and does not use it", "Leave it out.", line=function.lineno
            )


def _says(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield | ast.YieldFrom) or (isinstance(node, ast.Return) and node.value is not None)
