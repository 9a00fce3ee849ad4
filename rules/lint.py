"""Check rules without running their bodies; ``rules.findings.CODES`` is the list of what is found."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from rules import lint_bodies, lint_conditions, lint_rivals
from rules.errors import MistakesError, Place, RuleError, UntrustedError
from rules.findings import Finding, of_rule
from rules.lint_rivals import Side
from rules.loader import RuleFile
from rules.rule import Rule
from rules.words import NO_SUCH_FACT
from rules.writes import writes_of


def lint(files: Iterable[RuleFile], *, among: Iterable[RuleFile] = ()) -> list[Finding]:
    """Return what is found in rule files, sorted by place.

    Args:
        among: other files whose rules are in effect beside them; nothing is said of those.
    """
    checked = list(files)
    found = [finding for file in checked for finding in _of_file(file)]
    found += _duplicates(checked)
    own = [side for file in checked for side in _sides(file)]
    names = {side.rule.identity for side in own}
    others = [side for file in among for side in _sides(file) if side.rule.identity not in names]
    found += lint_rivals.check(own, others)
    return sorted(set(found))


def of_error(error: RuleError, path: Path) -> list[Finding]:
    """Return what kept a file from being loaded as findings."""
    if isinstance(error, MistakesError):
        return [
            Finding(place, "unknown-fact" if message.startswith(NO_SUCH_FACT) else "amount", message, remedy)
            for place, message, remedy in error.mistakes
        ]
    place = error.place if error.place.file else Place(str(path), 1)
    code = "untrusted" if isinstance(error, UntrustedError) else "load"
    return [Finding(place, code, str(error).removeprefix(f"{place}: "), error.remedy)]


def _sides(file: RuleFile) -> list[Side]:
    tree = ast.parse(file.source)
    return [Side.of(rule, writes_of(rule, tree)) for rule in file.rules]


def _duplicates(files: Iterable[RuleFile]) -> Iterator[Finding]:
    first: dict[tuple[str, str], Rule] = {}
    for file in files:
        for rule in file.rules:
            other = first.setdefault((file.origin, rule.identity), rule)
            if other is not rule:
                message = f"{rule.identity} is there already, in {other.place}"
                yield of_rule(rule, "duplicate", message, "Rename one of the rules or files.")


def _of_file(file: RuleFile) -> Iterator[Finding]:
    if file.printed.strip():
        first = file.printed.strip().splitlines()[0][:200]
        yield Finding(Place(str(file.path), 1), "prints", f"it prints while it is loaded: {first}", "Remove that.")
    if not file.rules:
        yield Finding(Place(str(file.path), 1), "no-rules", "no rule is in it", "Write one: see `dna rules new`.")
        return
    tree = ast.parse(file.source)
    for rule in file.rules:
        yield from lint_conditions.check(rule)
        yield from lint_bodies.check(rule, writes_of(rule, tree), tree)
    yield from _tests(file)


def _tests(file: RuleFile) -> Iterator[Finding]:
    try:
        named = _words(ast.parse(file.test.read_bytes()))
    except (OSError, SyntaxError, ValueError) as error:
        there = file.test.exists()
        message = f"{file.test}: {error}" if there else f"there is no {file.test.name} beside it"
        remedy = "Mend it." if there else "Write cases with rules.testing; `dna rules new` shows how."
        yield Finding(Place(str(file.path), 1), "no-test", message, remedy)
        return
    for rule in file.rules:
        if not {rule.name, rule.identity} & named:
            remedy = f'Add a case in which it fires and one in which it does not: said.fired("{rule.name}")'
            yield of_rule(rule, "untested", f"{file.test.name} does not name {rule.name}", remedy)


def _words(tree: ast.Module) -> set[str]:
    """Return the words that stand in a module's source as text."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
