"""This program as its reports name it."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, version


def tool_version() -> str:
    """Return the installed version, or "0+unknown" when run from a bare checkout."""
    try:
        return version("workload-dna")
    except PackageNotFoundError:
        return "0+unknown"


def tool_line() -> str:
    """Return version and command line, which stand in every stored profile."""
    return f"dna {tool_version()}: {shlex.join(['dna', *sys.argv[1:]])}"
