"""The loop as a service: the systemd unit that is shipped, filled in for where this program is."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

DEFAULT_CONFIG = "/etc/workload-dna/sculpt.toml"


def this_program() -> tuple[str, ...]:
    """Return how this program is started, by absolute paths."""
    started = sys.argv[0]
    found = os.path.abspath(shutil.which(started) or started)
    return (sys.executable, found) if found.endswith(".py") else (found,)


def unit(program: Sequence[str], config: str = DEFAULT_CONFIG) -> str:
    """Return the unit for a program and the run's file."""
    text = _read("dna-sculpt.service")
    filled = {
        "@DNA@": " ".join(map(_quoted, program)),
        "@CONFIG@": _quoted(config),
        "@PATH@": config.replace("%", "%%"),
    }
    for name, value in filled.items():
        text = text.replace(name, value)
    return text


def example() -> str:
    """Return an example of the run's file, with everything that can be said in it."""
    return _read("sculpt.toml")


def _read(name: str) -> str:
    return resources.files("sculpt.service").joinpath(name).read_text(encoding="utf-8")


def _quoted(word: str) -> str:
    """Return a word as systemd takes it as one: its own signs doubled (systemd.service(5), command lines)."""
    doubled = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{doubled}"' if any(sign in doubled for sign in " \t'\"\\") else doubled


def writable_by_others(program: Sequence[str]) -> str:
    """Return the first path on the way to a program, or to this package, that others than root can write; "" for none.

    What root runs by itself must not be theirs.
    """
    for start in (*program, __file__):
        path = Path(start).resolve()
        for one in (path, *path.parents):
            found = one.stat()
            loose = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
            if found.st_uid != 0 or loose:
                return str(one)
    return ""
