"""How hypothesis works in all tests: a slow machine is no failure, and ``make quick`` looks at fewer examples. What runs by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
ALONE = ("real", "lab", "test_readme.py", "test_gains.py")
LOOPS = ("sculpt", "cli/test_sculpt", "cli/test_config.py")
"""Where tests marked as slow run the loop on the real machine, or change it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what acts on the machine or measures it."""
    for item in items:
        place = str(item.path.relative_to(HERE)) if item.path.is_relative_to(HERE) else ""
        if place.startswith(ALONE) or (place.startswith(LOOPS) and item.get_closest_marker("slow")):
            item.add_marker("alone")


for name in (
    "COLUMNS",
    "LINES",
):  # workers of pytest-xdist have them, and what is printed into a pipe would be cut there
    os.environ.pop(name, None)
settings.register_profile("default", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
