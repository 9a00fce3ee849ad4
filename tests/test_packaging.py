"""What the wheel carries, checked on a wheel built here."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dna", "rules", "hal", "rl", "sculpt", "ui")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel, built by the project's own back end without network."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(target.glob("*.whl")))


def names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def test_only_our_packages_are_at_the_top(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/", 1)[0] for name in names(wheel)}
    assert tops - {top for top in tops if top.endswith(".dist-info")} == {*PACKAGES, "cli.py"}


def test_every_module_is_in(wheel: zipfile.ZipFile) -> None:
    tracked = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert tracked - names(wheel) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_published(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in names(wheel)


def test_probe_sources_and_models_are_in(wheel: zipfile.ZipFile) -> None:
    sources = [*(ROOT / "dna/probes/bpf").glob("*.[ch]"), *(ROOT / "rl/sources").glob("*.[ch]")]
    data = [*sources, *(p for p in (ROOT / "dna/models").glob("*") if p.is_file())]
    wanted = {str(path.relative_to(ROOT)) for path in data if path.suffix != ".pyc"}
    assert any(name.endswith(".c") for name in wanted)
    assert "rl/sources/uprobe.c" in wanted
    assert any(name.endswith(".safetensors") for name in wanted)
    assert wanted - names(wheel) == set()


def test_the_services_files_are_in(wheel: zipfile.ZipFile) -> None:
    assert {"sculpt/service/dna-sculpt.service", "sculpt/service/sculpt.toml"} <= names(wheel)


def test_licences_are_in(wheel: zipfile.ZipFile) -> None:
    licences = {name.split("/licenses/", 1)[1] for name in names(wheel) if "/licenses/" in name}
    assert {"LICENSE", "LICENSES/Apache-2.0.txt", "LICENSES/GPL-2.0-only.txt"} <= licences


def test_metadata_matches_the_project(wheel: zipfile.ZipFile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = next(name for name in names(wheel) if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == project["name"]
    assert metadata["Version"] == project["version"]
    assert metadata["Requires-Python"] == project["requires-python"]
    plain = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert len(plain) == len(project["dependencies"])


def test_the_command_is_declared(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in names(wheel) if name.endswith(".dist-info/entry_points.txt"))
    assert "dna = cli:main" in wheel.read(name).decode()
