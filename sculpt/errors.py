"""What can go wrong in the control loop.

::

    HalError                 carries a remedy and an exit code for the command line
    └── SculptError          the loop cannot begin or go on
        └── GuardFileError   the guard's file makes no sense (exit 2)
"""

from __future__ import annotations

from hal.errors import EXIT_USAGE, HalError


class SculptError(HalError):
    """The loop cannot begin or go on."""


class GuardFileError(SculptError):
    """The guard's file makes no sense."""

    exit_code = EXIT_USAGE
