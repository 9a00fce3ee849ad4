"""Where tables go."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_PIPED_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output (or error); in a pipe rows are not cut at 80 columns unless COLUMNS says so."""
    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty() and not os.environ.get("COLUMNS")
    return Console(width=_PIPED_WIDTH if piped else None, soft_wrap=False, highlight=False, stderr=stderr)
