"""Load rule files: Python that makes ``Rule`` values, run once, with a time limit and its output captured.

A rule file is run as a module of its own that nothing else can import. It may import what is installed, but no file beside it: where
rules come from would otherwise depend on who is loaded first. What it does to ``sys.path`` is undone.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rules.errors import MistakesError, Place, RuleError
from rules.language import Condition, Problem, parts_of
from rules.rule import Rule
from rules.running import Runner
from rules.trust import Source, Stamp, read_trusted, stamp_of

LOAD_LIMIT_S = 10.0
"""What running a rule file may take."""
SHIPPED, SYSTEM, USER, ENVIRONMENT, GIVEN = "shipped", "system", "user", "environment", "given"
ORIGINS = (SHIPPED, SYSTEM, USER, ENVIRONMENT, GIVEN)
"""Where a rule file comes from; one of a later origin counts before one of an earlier."""
PACKS = Path(__file__).resolve().parent / "packs"
"""The shipped packs."""
_MODULES = "rule_files"
"""What stands before the name of a rule file's module while it runs."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A rule file that was loaded."""

    path: Path
    rules: tuple[Rule, ...]
    source: str
    origin: str = GIVEN
    stamp: Stamp | None = None
    """The state of the file that was loaded; None of a module that was imported."""
    printed: str = ""
    """What it printed while it was run."""

    @property
    def test(self) -> Path:
        """Where its tests are, if it has any."""
        return self.path.with_name(f"test_{self.path.name}")


def load(path: str | Path, *, origin: str = GIVEN, limit_s: float = LOAD_LIMIT_S) -> RuleFile:
    """Run a rule file and return its rules.

    Raises:
        UntrustedError: others could have written it.
        MistakesError: conditions in it make no sense; all of them are listed.
        RuleError: it cannot be read or compiled, raised, did not end in time, or has two rules of one name.
    """
    source = source_of(Path(path))
    tree = parsed(source)
    with Runner() as runner:
        ran = runner.call(lambda: run(source), limit_s=limit_s)
    if ran.error is not None:
        raise as_rule_error(ran.error, source.path) from ran.error
    assert ran.value is not None
    rules = rules_of(ran.value)
    _check_names(source.path, tree, rules)
    _check_conditions(source.path, rules)
    return RuleFile(source.path, rules, source.content.decode(), origin, source.stamp, ran.printed)


def of_module(module: ModuleType, *, origin: str = SHIPPED) -> RuleFile:
    """Return a module that was imported, such as a shipped pack, as a rule file."""
    path = Path(module.__file__ or module.__name__)
    rules = rules_of(module)
    _check_conditions(path, rules)
    return RuleFile(path, rules, path.read_text(), origin)


def rules_in(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a file; of one that is being checked, those that are being checked.

    Raises:
        RuleError: see ``load``.
    """
    place = path.resolve()
    if place in _standing:
        return _standing[place]
    if place.parent == PACKS:  # a part of this program, and trusted like it
        return rules_of(import_module(f"rules.packs.{place.stem}"))
    return load(path).rules


def rules_of(module: ModuleType) -> tuple[Rule, ...]:
    """Return the rules among a module's globals, in the order they were made; the pack is the module's last name.

    A rule belongs to the module that its body is written in: one that was imported from another module is not this one's.
    """
    own = {id(one): one for one in vars(module).values() if isinstance(one, Rule) and _is_of(one, module)}
    return tuple(replace(one, pack=module.__name__.rpartition(".")[2]) for one in own.values())


def _is_of(rule: Rule, module: ModuleType) -> bool:
    return rule.body.__module__ == module.__name__


# --- running files


def source_of(path: Path) -> Source:
    """Return a file that is to be run.

    Raises:
        UntrustedError, RuleError: see ``rules.trust.read_trusted``; not asked of the shipped packs, which are this program.
    """
    if path.resolve().parent == PACKS:
        return Source(path, path.read_bytes(), stamp_of(path.stat()))
    return read_trusted(path)


def parsed(source: Source) -> ast.Module:
    """Return the syntax tree of a file.

    Raises:
        RuleError: it is no Python.
    """
    try:
        return ast.parse(source.content, str(source.path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise as_rule_error(error, source.path) from error


def run(source: Source) -> ModuleType:
    """Run a file as a module of its own, and return that; whatever it raises goes through."""
    module = ModuleType(f"{_MODULES}.{source.path.stem}")
    module.__file__ = str(source.path)
    with _importable(module):
        exec(compile(source.content, str(source.path), "exec", dont_inherit=True), vars(module))
    return module


@contextmanager
def _importable(module: ModuleType) -> Iterator[None]:
    """Have a module known by its name, which dataclasses for one look up, and ``sys.path`` kept."""
    path = list(sys.path)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        sys.modules.pop(module.__name__, None)
        sys.path[:] = path


def as_rule_error(error: BaseException, path: Path) -> RuleError:
    """Return what a file raised as an error of the file, with its line."""
    if isinstance(error, RuleError):
        return error
    if isinstance(error, TimeoutError):
        return RuleError(str(error), place=Place(str(path), 1), remedy="A rule file defines rules; it does no work.")
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return RuleError(f"{error.msg}", place=Place(str(path), error.lineno or 1))
    return RuleError(f"{type(error).__name__}: {error}", place=line_in(path, error), remedy=_remedy(error, path))


def line_in(path: Path, error: BaseException) -> Place:
    """Return the innermost line of a file that an error came through."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return Place(str(path), line)


def _remedy(error: BaseException, path: Path) -> str:
    if isinstance(error, TypeError) and re.search(r"operand.*[&|]", str(error)):
        return "& and | bind tighter than comparisons: put each into brackets, (w.demand.cores > 1) & (m.nodes > 1)."
    if isinstance(error, ModuleNotFoundError) and error.name and path.with_name(f"{error.name}.py").exists():
        return "A rule file cannot import the file beside it: put both into one, or install what they share."
    return ""


# --- what makes a file unfit


def _check_names(path: Path, tree: ast.Module, rules: Iterable[Rule]) -> None:
    """Refuse two rules of one name: the second hides the first."""
    defined = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _is_rule(node))
    made = Counter(rule.name for rule in rules)
    for name, count in (defined | made).items():
        if count > 1:
            lines = [n.lineno for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
            place = Place(str(path), lines[-1] if lines else 1)
            raise RuleError(f"{count} rules are called {name}", place=place, remedy="Give each a name of its own.")


def _is_rule(node: ast.FunctionDef) -> bool:
    calls = (one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)
    return any(ast.unparse(call).rpartition(".")[2] == "rule" for call in calls)


def _check_conditions(path: Path, rules: Iterable[Rule]) -> None:
    found = [(place, problem.message, problem.remedy) for place, problem in mistakes(rules)]
    if found:
        raise MistakesError(str(path), found)


def mistakes(rules: Iterable[Rule]) -> Iterator[tuple[Place, Problem]]:
    """Yield what is wrong with conditions of rules, with the line of each."""
    for rule in rules:
        for condition in rule.conditions:
            for place, problem in _placed(condition):
                yield place if place.file else rule.place, problem


def _placed(condition: Condition) -> Iterator[tuple[Place, Problem]]:
    """Yield the problems of a condition, each where the part of it stands that has it."""
    seen = set()
    for part in parts_of(condition):
        for place, problem in _placed(part):
            seen.add(problem)
            yield place if place.file else condition.place, problem
    yield from ((condition.place, problem) for problem in dict.fromkeys(condition.problems) if problem not in seen)


# --- rules that are being checked


_standing: dict[Path, tuple[Rule, ...]] = {}


@contextmanager
def standing_in(rules: Mapping[Path, tuple[Rule, ...]]) -> Iterator[None]:
    """Have ``rules_in`` give these rules for a file, so that its tests are about what was loaded, not what lies there by now."""
    before = dict(_standing)
    _standing.update({path.resolve(): those for path, those in rules.items()})
    try:
        yield
    finally:
        _standing.clear()
        _standing.update(before)
