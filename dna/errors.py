"""Errors of sensing and encoding.

::

    DnaError                    base; carries a remedy and an exit code for the command line
    ├── TargetError             a target is misnamed (exit 2)
    │   └── TargetGoneError     it does not exist, or ended (exit 3)
    ├── PermissionNeededError   what was asked for needs a privilege (exit 4)
    ├── ProbeUnavailableError   a probe cannot work here; costs its features, not the run
    ├── StoreError              the history cannot be read or written
    │   ├── StoreTooNewError    written by a newer version
    │   └── StoreDeniedError    this user may not read or write it (exit 4)
    ├── NoSuchProfileError      no stored profile of that name
    ├── ProfileFileError        an exported profile cannot be read or written
    ├── ModelError              a model file is missing, damaged or does not fit the features
    └── DatasetError            training data cannot be read, or is too little
"""

from __future__ import annotations

from hal.errors import EXIT_FAILED, EXIT_NO_TARGET, EXIT_NOT_PERMITTED, EXIT_USAGE


class DnaError(Exception):
    """Base of this package's errors; see ``hal.errors.HalError`` for the attributes."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class TargetError(DnaError):
    """A target is misnamed."""

    exit_code = EXIT_USAGE


class TargetGoneError(TargetError):
    """The target does not exist, or ended."""

    exit_code = EXIT_NO_TARGET


class PermissionNeededError(DnaError):
    """What was asked for needs a privilege that this process lacks."""

    exit_code = EXIT_NOT_PERMITTED


class ProbeUnavailableError(DnaError):
    """A probe cannot work here: ``str(error)`` is the reason, ``remedy`` what would change it."""


class StoreError(DnaError):
    """The history cannot be read or written."""


class StoreTooNewError(StoreError):
    """The history was written by a newer version."""


class StoreDeniedError(StoreError):
    """This user may not read or write the history."""

    exit_code = EXIT_NOT_PERMITTED


class NoSuchProfileError(DnaError):
    """No stored profile answers to that name."""


class ProfileFileError(DnaError):
    """A file is not an exported profile, or an export could not be written."""


class ModelError(DnaError):
    """A model file is missing, damaged, or was trained on other features."""


class DatasetError(DnaError):
    """Training data cannot be read, or is too little."""
