"""The tests in this folder run inside the machine that ``make lab`` boots, and are passed over elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IN_LAB = os.environ.get("DNA_LAB") == "numa"


@pytest.hookimpl(tryfirst=True)  # before `-m` picks by marker
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)
            if not IN_LAB:
                item.add_marker(pytest.mark.skip("runs inside the lab's machine: make lab"))
