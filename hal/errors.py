"""Errors of the hardware abstraction layer.

::

    HalError                    base; carries a remedy and an exit code for the command line
    ├── HostError               an operation on the machine failed (an OSError, translated in one place)
    │   ├── NotFoundError       the file, process or device is not there (any more)
    │   ├── NotPermittedError   the kernel said EPERM or EACCES
    │   └── UnsupportedError    this kernel or machine does not have it (ENOSYS, EOPNOTSUPP, ENODEV, ...)
    ├── BpfError                eBPF could not be compiled, loaded or attached
    ├── TopologyError           a topology description could not be read
    ├── PerfError               a performance event could not be opened or read
    ├── SettingError            a knob, subject or value makes no sense (exit 2)
    ├── KnobUnsupportedError    this machine does not have what a knob sets
    ├── PlanError               a plan's file cannot be read, or is not for this machine (exit 2)
    ├── RefusedError            a guard says no: the machine moved, another applier, somebody else's value (exit 5)
    ├── ChangeFailedError       a change did not take; what was made before it was undone
    └── JournalError            the journal cannot be read or written
"""

from __future__ import annotations

import errno
import os

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_TARGET = 3
EXIT_NOT_PERMITTED = 4
EXIT_REFUSED = 5


class HalError(Exception):
    """Base of this package's errors.

    ``remedy`` says in one sentence what the user can do, or is empty; ``exit_code`` is the command line's.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class HostError(HalError):
    """An operation on the machine failed; ``number`` is the errno, ``subject`` the path or thing."""

    def __init__(self, message: str, *, number: int = 0, subject: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.number = number
        self.subject = subject


class NotFoundError(HostError):
    """The file, process or device is not there, or went away."""


class NotPermittedError(HostError):
    """The kernel refused for lack of privilege."""

    exit_code = EXIT_NOT_PERMITTED


class UnsupportedError(HostError):
    """This kernel or this machine does not have it."""


class BpfError(HalError):
    """eBPF could not be compiled, loaded or attached."""


class TopologyError(HalError):
    """A topology description could not be read or is inconsistent."""

    exit_code = EXIT_USAGE


class PerfError(HalError):
    """A performance event could not be opened or read."""


class SettingError(HalError):
    """A knob, subject or value makes no sense: nothing was written."""

    exit_code = EXIT_USAGE


class KnobUnsupportedError(HalError):
    """This machine does not have what a knob sets."""


class PlanError(HalError):
    """A plan's file cannot be read, or is for another machine."""

    exit_code = EXIT_USAGE


class RefusedError(HalError):
    """A guard says no: the machine moved since the plan was made, another applier works, or the value is somebody else's."""

    exit_code = EXIT_REFUSED


class ChangeFailedError(HalError):
    """A change did not take."""


class JournalError(HalError):
    """The journal cannot be read or written."""


_NOT_FOUND = {errno.ENOENT, errno.ESRCH, errno.ENOTDIR, errno.ECHILD}
_NOT_PERMITTED = {errno.EPERM, errno.EACCES}
_UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV, errno.ENXIO, errno.ENOTTY}


def translate(number: int, subject: str, action: str) -> HostError:
    """Return the HostError for an errno; ``action`` is a verb such as ``"read"``."""
    message = f"cannot {action} {subject}: {os.strerror(number)}"
    kind: type[HostError] = HostError
    if number in _NOT_FOUND:
        kind = NotFoundError
    elif number in _NOT_PERMITTED:
        kind = NotPermittedError
    elif number in _UNSUPPORTED:
        kind = UnsupportedError
    return kind(message, number=number, subject=subject)
