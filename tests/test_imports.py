"""Who may import whom: this file is the map, and the check."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "hal": set(),
    "dna": {"hal"},
    "rules": {"dna", "hal"},
    "rl": {"dna", "hal"},
    "sculpt": {"dna", "hal", "rules", "rl"},
    "ui": {"dna", "hal", "rules", "rl", "sculpt"},
    "cli": {"dna", "hal", "rules", "rl", "sculpt", "ui"},
}

COMMANDS = "ui/commands/"
"""Of the layer ``cli`` although it lies in ``ui``: the top level has one file for the command line, which all commands do
not fit into. They join the acting packages with the views; no view and nothing else imports them."""

UI_VALUES_ONLY = (
    "hal.host",
    "hal.host_protocol",
    "hal.fake",
    "hal.bpf",
    "dna.probes",
    "dna.profiler",
    "dna.members",
    "dna.store",
    "dna.train",
)
"""``ui`` shows values: these modules act, and are not for it."""

HOMES = {"torch": ("dna/train.py",), "sqlite3": ("dna/database", "dna/store", "dna/schema", "rl/memory")}
"""Modules with one home in the runtime tree: how its files' names begin."""

LAZY = {"pandas", "pyarrow", "torch"}
"""Of the extras: imported where they are used, so that the tool starts without them."""

MODULES_OF = {"durable-rules": "durable_rules_engine"}
"""Distributions whose module is called otherwise."""


@dataclass(frozen=True)
class Import:
    """One import statement: where, of what, and whether it runs when the file is imported."""

    file: str
    line: int
    module: str
    at_top: bool

    @property
    def package(self) -> str:
        return self.module.split(".", 1)[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def layer_of(file: str) -> str:
    return "cli" if file.startswith(COMMANDS) else file.split("/", 1)[0].removesuffix(".py")


def sources() -> list[Path]:
    files = [path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")]
    return [ROOT / "cli.py", *files]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[Import]:
    name = str(path.relative_to(ROOT))
    for node, at_top in statements(ast.parse(path.read_text(), str(path)), at_top=True):
        if isinstance(node, ast.Import):
            yield from (Import(name, node.lineno, alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are absolute"
            # `from dna import store` names a module as much as `import dna.store` does.
            yield Import(name, node.lineno, node.module or "", at_top)
            yield from (Import(name, node.lineno, f"{node.module}.{alias.name}", at_top) for alias in node.names)


def statements(node: ast.AST, *, at_top: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Return the statements below, and of each whether it runs when the file is imported; no expression holds an import."""
    at_top = at_top and not _is_deferred(node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child, at_top
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from statements(child, at_top=at_top)


def _is_deferred(node: ast.AST) -> bool:
    is_checked_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return is_checked_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


@functools.cache
def every_import() -> tuple[Import, ...]:
    return tuple(statement for path in sources() for statement in imports_of(path))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_the_map_allows(package: str) -> None:
    others = set(MAY_IMPORT) - {package} - MAY_IMPORT[package]
    own = [i for i in every_import() if layer_of(i.file) == package]
    assert [str(i) for i in own if i.package in others] == []


def test_views_use_values_only() -> None:
    acting = [
        i
        for i in every_import()
        if layer_of(i.file) == "ui" and (i.module + ".").startswith(tuple(f"{m}." for m in UI_VALUES_ONLY))
    ]
    assert [str(i) for i in acting] == []


def test_only_the_command_line_imports_commands() -> None:
    strays = [
        i for i in every_import() if i.module.startswith(COMMANDS.replace("/", ".")[:-1]) and layer_of(i.file) != "cli"
    ]
    assert [str(i) for i in strays] == []


def test_modules_do_not_import_each_other() -> None:
    names = {name_of(path): path for path in sources()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for statement in every_import():
        importer = name_of(ROOT / statement.file)
        if statement.module in names and statement.module != importer:
            graph[importer].add(statement.module)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", HOMES)
def test_some_modules_have_one_home(module: str) -> None:
    strays = [i for i in every_import() if i.package == module and not i.file.startswith(HOMES[module])]
    assert [str(i) for i in strays] == []


def test_extras_are_imported_where_they_are_used() -> None:
    early = [i for i in every_import() if i.package in LAZY and i.at_top and not i.file.startswith(HOMES["torch"])]
    trainer = [i for i in every_import() if i.module.startswith("dna.train") and i.at_top]
    assert [str(i) for i in early + trainer] == []


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {r.split(">")[0].split("=")[0].split("[")[0].strip() for r in required}
    declared = {MODULES_OF.get(name, name.replace("-", "_")) for name in names}
    # bcc comes from the distribution and is loaded by path (see DESIGN); it is never a requirement of ours.
    known = declared | set(sys.stdlib_module_names) | set(MAY_IMPORT) | {"bcc"}
    assert sorted({str(i) for i in every_import() if i.package not in known}) == []


def test_starting_the_command_loads_nothing_heavy() -> None:
    heavy = sorted(LAZY | {"bcc", "capstone", "sqlite3", "pyroute2", "safetensors"})
    code = f"import cli, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
