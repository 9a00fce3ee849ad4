"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dna.errors import ProfileFileError

STANDARD_OUTPUT = ("-", "/dev/stdout")
"""Named by its path too, because what that path leads to may be a file to append to."""


def write_whole(path: str | Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, make it durable, and rename it into place.

    What was at ``path`` stays untouched until then, and nothing half-written is left behind. Standard output (``-``), a
    pipe or a device is written directly. A new file gets the permissions that the umask gives; an existing one keeps its.

    Raises:
        ProfileFileError: no space, no permission, no such directory, ...
    """
    target = Path(os.path.realpath(path))
    try:
        if str(path) in STANDARD_OUTPUT:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        elif target.exists() and not target.is_file():
            with open(target, "wb") as stream:
                write(stream)
        else:
            _replace(target, write)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ProfileFileError(
            f"cannot write {path}: {error.strerror or error}", remedy=_remedy(error, target)
        ) from error


def _replace(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    # Read from /proc where it is there: os.umask can only be read by setting it, which other threads would see.
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:"))
        return int(line.split()[1], 8)
    except (OSError, StopIteration, ValueError):
        return 0o077


def _failed(path: str | Path, target: Path, error: OSError) -> ProfileFileError:
    reason = error.strerror or str(error)
    if str(path) in STANDARD_OUTPUT:
        return ProfileFileError(f"cannot write standard output: {reason}", remedy="Choose a file with --out.")
    return ProfileFileError(f"cannot write {path}: {reason}", remedy=_remedy(error, target))


def _remedy(error: OSError, target: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"Make the directory first: mkdir -p {target.parent}"
    if isinstance(error, PermissionError):
        return "Choose another place with --out."
    return f"Nothing was left behind; make room on the file system of {target.parent}, or choose another with --out."
