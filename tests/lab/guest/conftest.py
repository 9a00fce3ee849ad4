"""The tests in this folder run inside the machine that ``make lab`` boots, and are passed over elsewhere.

What takes long in an emulated machine and changes nothing in it, compiling above all, runs ahead beside the other tests: see
``doctor_report`` and ``compiled``. The tests that use these come last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
IN_LAB = os.environ.get("DNA_LAB") == "numa"
DNA = (sys.executable, str(ROOT / "cli.py"))
COMPILE = "from dna.probes.bpf.programs import compile_programs; from hal.host import LinuxHost; compile_programs(LinuxHost())"
AHEAD = {"doctor_report": (*DNA, "doctor", "--json"), "compiled": (sys.executable, "-c", COMPILE)}

_begun: dict[str, subprocess.Popen[str]] = {}


def wanted(item: pytest.Item) -> set[str]:
    """Return what of AHEAD a test uses."""
    return set(AHEAD) & set(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)  # before `-m` picks by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)
            if not IN_LAB:
                item.add_marker(pytest.mark.skip("runs inside the lab's machine: make lab"))
    if IN_LAB:
        items.sort(key=lambda item: bool(wanted(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    if not IN_LAB or session.config.option.collectonly:
        return
    for name in {name for item in session.items for name in wanted(item)}:
        _begun[name] = subprocess.Popen(
            AHEAD[name], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )


def pytest_sessionfinish() -> None:
    for process in _begun.values():
        process.kill()
        process.wait()


def end_of(name: str) -> str:
    """Wait for what was begun; return what it printed."""
    printed, errors = _begun[name].communicate()
    assert _begun[name].returncode == 0, errors
    return printed


@pytest.fixture(scope="session")
def doctor_report() -> dict[str, Any]:
    """Return what ``dna doctor --json`` says."""
    return json.loads(end_of("doctor_report"))  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def compiled() -> None:
    """Return when the BPF programs of ``dna profile`` are compiled and kept."""
    end_of("compiled")
