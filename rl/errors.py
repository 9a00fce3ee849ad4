"""What can go wrong with what a workload is judged by, and with what was learned of it.

::

    HalError                         carries a remedy and an exit code for the command line
    ├── MetricError                  a metric is misnamed, or its source makes no sense (exit 2)
    │   ├── MetricUnavailableError   this machine does not have what it is read from (exit 1)
    │   └── MetricDeniedError        this user may not read it (exit 4)
    ├── LearnedError                 what was learned cannot be read or written
    │   ├── LearnedDamagedError      its file is damaged
    │   ├── LearnedDeniedError       this user may not (exit 4)
    │   └── LearnedFileError         a file to import is none of ours, or not whole (exit 2)
    └── ReplayError                  what was recorded does not tell how another policy would have fared

What goes wrong while a source is read is no error but a reason why there is no value: see ``rl.measured.Problem``.
"""

from __future__ import annotations

from hal.errors import EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_USAGE, HalError


class MetricError(HalError):
    """A metric is misnamed, or what it is read from cannot be what was given."""

    exit_code = EXIT_USAGE


class MetricUnavailableError(MetricError):
    """This machine does not have what the metric is read from."""

    exit_code = EXIT_FAILED


class MetricDeniedError(MetricError):
    """This user may not read what the metric is read from."""

    exit_code = EXIT_NOT_PERMITTED


class LearnedError(HalError):
    """What was learned cannot be read or written."""


class LearnedDamagedError(LearnedError):
    """The file of what was learned is damaged."""


class LearnedDeniedError(LearnedError):
    """This user may not read or write what was learned."""

    exit_code = EXIT_NOT_PERMITTED


class LearnedFileError(LearnedError):
    """A file to import is none, or not whole."""

    exit_code = EXIT_USAGE


class ReplayError(HalError):
    """What was recorded does not tell how another policy would have fared."""
