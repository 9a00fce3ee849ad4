"""Load rule files: Python that makes ``Rule`` values, run once, with a time limit and its output captured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from rules.errors import RuleError
from rules.rule import Rule


def rules_of(module: ModuleType) -> tuple[Rule, ...]:
    """Return the rules among a module's globals, in the order they were made; the pack is the module's last name.

    A rule belongs to the module that its body is written in: one that was imported from another module is not this one's.
    """
    return rules_among(vars(module), module.__name__)


def rules_among(names: dict[str, object], module: str) -> tuple[Rule, ...]:
    """Return the rules among the globals of a module of that name."""
    own = {id(one): one for one in names.values() if isinstance(one, Rule) and one.body.__module__ == module}
    return tuple(replace(one, pack=module.rpartition(".")[2]) for one in own.values())


def rules_in(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a file.

    Raises:
        RuleError: there is no such file, or it cannot be loaded.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RuleError(f"{path}: {error.strerror}") from error
    module = ModuleType(f"rule_files.{path.stem}")
    module.__file__ = str(path)
    exec(compile(source, path, "exec"), vars(module))
    return rules_of(module)
