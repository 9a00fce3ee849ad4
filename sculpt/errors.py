"""What can go wrong in the control loop.

::

    HalError                 carries a remedy and an exit code for the command line
    └── SculptError          the loop cannot begin or go on
        ├── ConfigError      a run's file makes no sense (exit 2)
        │   └── GuardFileError   the guard's file, or its part of a run's, makes no sense
        ├── AlertSettingsError  it is not said, or not fit, where alerts go (exit 2)
        └── ControlError     a run cannot be asked
            └── NoRunError   there is no such run (exit 3)
"""

from __future__ import annotations

from hal.errors import EXIT_NO_TARGET, EXIT_USAGE, HalError


class SculptError(HalError):
    """The loop cannot begin or go on."""


class ConfigError(SculptError):
    """A run's file makes no sense."""

    exit_code = EXIT_USAGE


class GuardFileError(ConfigError):
    """The guard's file, or its part of a run's, makes no sense."""


class AlertSettingsError(SculptError):
    """Where alerts go, or metrics are answered, is not said in a way that makes sense, or is not fit."""

    exit_code = EXIT_USAGE


class ControlError(SculptError):
    """A run cannot be asked, or did not do what it was asked."""


class NoRunError(ControlError):
    """There is no such run."""

    exit_code = EXIT_NO_TARGET
