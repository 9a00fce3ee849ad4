"""Errors of the hardware abstraction layer.

::

    HalError                    base; carries a remedy and an exit code for the command line
    ├── HostError               an operation on the machine failed (an OSError, translated in one place)
    │   ├── NotFoundError       the file, process or device is not there (any more)
    │   ├── NotPermittedError   the kernel said EPERM or EACCES
    │   └── UnsupportedError    this kernel or machine does not have it (ENOSYS, EOPNOTSUPP, ENODEV, ...)
    ├── BpfError                eBPF could not be compiled, loaded or attached
    ├── TopologyError           a topology description could not be read
    └── PerfError               a performance event could not be opened or read
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
