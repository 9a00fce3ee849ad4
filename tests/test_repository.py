"""The tree itself: nothing in it names one machine or one download server, and what documents point to is there."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# Spelled in parts, so that this file is held to what it says too.
REGISTRIES = (
    ("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"), ("conda", "anaconda", "org"),
    ("deb", "debian", "org"), ("archive", "ubuntu", "com"), ("registry", "npmjs"),
)  # fmt: skip
PACKAGES = ("whl", "deb", "tgz", "tar.gz")
HOSTS = re.compile(
    "|".join(re.escape(".".join(parts)) for parts in REGISTRIES)
    + r"|https?:" + rf"//\S+\.(?:{'|'.join(re.escape(one) for one in PACKAGES)})\b"
    + "|index" + r"-url *[= ]\S"
)  # fmt: skip
HOMES = re.compile(r"(?<![\w.$}-])/(?:root|home/\w+|Users/\w+)/")


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout; clone the repository to check what it tracks")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_lines() -> list[tuple[str, str]]:
    """Return (place, line) for every line of every tracked text file but this one."""
    found = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        content = path.read_bytes()
        if b"\0" in content:
            continue
        lines = content.decode("utf-8").splitlines()
        found += [(f"{name}:{number}", line) for number, line in enumerate(lines, 1)]
    return found


def matching(pattern: re.Pattern[str]) -> list[str]:
    return [f"{place}: {line.strip()[:120]}" for place, line in text_lines() if pattern.search(line)]


def pins() -> dict[str, str]:
    """Return constraints.txt as canonical name to version."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    assert [str(r) for r in requirements if r.url or not re.fullmatch(r"==[\w.]+", str(r.specifier))] == []
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def test_no_download_server_is_named() -> None:
    assert matching(HOSTS) == []


def test_no_path_of_one_machine() -> None:
    own = re.compile(rf"(?<![\w.-]){re.escape(str(ROOT))}(?![\w-])")
    assert matching(HOMES) + matching(own) == []


def test_every_requirement_is_pinned_to_a_version_that_satisfies_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pinned = pins()
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_scripts_can_be_run() -> None:
    scripts = [path for path in tracked() if path.is_relative_to(ROOT / "scripts") or path.is_relative_to(ROOT / ".ci")]
    shell = [path for path in scripts if path.read_bytes().startswith(b"#!")]
    assert shell
    assert [str(path) for path in shell if not os.access(path, os.X_OK)] == []


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\S+)", printed, re.MULTILINE)) == set(phony[1].split())


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in (path for path in tracked() if path.suffix == ".md"):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" not in link and not (path.parent / link).exists():
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []


def test_bpf_sources_carry_both_licences() -> None:
    sources = [path for folder in ("dna/probes/bpf", "rl/sources") for path in (ROOT / folder).glob("*.[ch]")]
    expected = "SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only"
    assert [path.name for path in sources if expected not in path.read_text()[:300]] == []


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
