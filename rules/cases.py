"""Run the cases in a rule file's test module, and tell which rules they try.

A case is a function ``test_*`` without parameters that asserts something; pytest runs the same modules. Each case is run by
itself, within a time limit and with its output captured.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rules.errors import Place, RuleError
from rules.loader import LOAD_LIMIT_S, RuleFile, as_rule_error, line_in, parsed, run, source_of, standing_in
from rules.running import Runner
from rules.testing import listening

CASE_LIMIT_S = 10.0
"""What one case may take."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case that was run."""

    name: str
    place: Place
    message: str = ""
    """Why it failed, empty where it did not."""
    remedy: str = ""
    printed: str = ""

    @property
    def passed(self) -> bool:
        """True when it did not fail."""
        return not self.message


@dataclass(frozen=True, slots=True)
class Tried:
    """What the cases of one rule file came to."""

    file: RuleFile
    cases: tuple[Case, ...] = ()
    never_fired: tuple[str, ...] = ()
    """Identities of rules that no case makes fire."""
    never_held: tuple[str, ...] = ()
    """Identities of rules of which no case asks without their firing."""
    error: RuleError | None = None
    """Why the test module could not be run at all."""

    @property
    def failures(self) -> tuple[Case, ...]:
        """The cases that failed."""
        return tuple(case for case in self.cases if not case.passed)

    @property
    def passed(self) -> bool:
        """True when the module could be run and no case failed."""
        return self.error is None and not self.failures


def try_cases(file: RuleFile) -> Tried:
    """Run the cases beside a rule file against its rules as they were loaded; without a test module there are none."""
    identities = tuple(rule.identity for rule in file.rules)
    if not file.test.exists():
        return Tried(file, (), identities, identities)
    with standing_in({file.path: file.rules}), listening() as heard:
        try:
            cases = tuple(_run_cases(file.test))
        except RuleError as error:
            return Tried(file, (), identities, identities, error)
    fired = {answer.rule for answer in heard if answer.fired}
    held = {answer.rule for answer in heard if not answer.fired}
    return Tried(
        file,
        cases,
        tuple(one for one in identities if one not in fired),
        tuple(one for one in identities if one not in held),
    )


def _run_cases(test: Path) -> Iterator[Case]:
    """Run a test module.

    Raises:
        RuleError: it cannot be read, or raises when it is run.
    """
    source = source_of(test)
    parsed(source)
    with Runner() as runner:
        ran = runner.call(lambda: run(source), limit_s=LOAD_LIMIT_S)
        if ran.error is not None:
            raise as_rule_error(ran.error, test) from ran.error
        assert ran.value is not None
        for function in _functions(ran.value):
            yield _case(function, test, runner)


def _functions(module: ModuleType) -> Iterator[Callable[..., object]]:
    for name, value in vars(module).items():
        if name.startswith("test_") and callable(value):
            yield value


def _case(function: Callable[..., object], test: Path, runner: Runner) -> Case:
    name, place = function.__name__, Place(str(test), inspect.unwrap(function).__code__.co_firstlineno)
    parameters = inspect.signature(function).parameters
    if parameters:
        remedy = "Here a case takes no parameters; pytest can run it."
        return Case(name, place, f"it takes {', '.join(parameters)}", remedy)
    ran = runner.call(function, limit_s=CASE_LIMIT_S)
    if ran.error is None:
        return Case(name, place, printed=ran.printed)
    where = line_in(test, ran.error)
    return Case(name, where, _message(ran.error, where), getattr(ran.error, "remedy", ""), ran.printed)


def _message(error: BaseException, where: Place) -> str:
    """Return why a case failed: of a bare assertion the line, since there is nothing else to tell."""
    if isinstance(error, AssertionError):
        linecache.checkcache(where.file)
        return str(error) or linecache.getline(where.file, where.line).strip() or "an assertion does not hold"
    if isinstance(error, RuleError | TimeoutError):
        return str(error)
    return f"{type(error).__name__}: {error}"
