"""Strictly read TOML: a file that decides what root does, and keys that make sense or are refused with the nearest that would."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sculpt.errors import ConfigError


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return a file's content.

    Raises:
        ConfigError: it cannot be read, is no TOML, or, for root, others can write it.
    """
    try:
        with open(path, "rb") as file:
            _hold_ours(Path(path), os.fstat(file.fileno()))
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", remedy="Give a TOML file: see docs/sculpt.md."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _hold_ours(path: Path, found: os.stat_result) -> None:
    if os.geteuid() == 0 and (found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise ConfigError(
            f"others can write {path}, which decides what root changes", remedy=f"chown root {path}; chmod go-w {path}"
        )


def refuse_unknown(where: str, data: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keys that are not known.

    Args:
        where: the table, for the message; "" for the top.

    Raises:
        ConfigError: the first of them, with the nearest that is known.
    """
    names = list(known)
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            raise ConfigError(
                f"{where + ': ' if where else ''}there is no {key!r}{f' (did you mean {near[0]}?)' if near else ''}",
                remedy=f"It takes: {', '.join(names)}.",
            )


def table_of(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table, empty where it is not there; ConfigError where it is something else."""
    value = data.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a table", remedy=f"[{name}]")
    return value


def words_of(data: Mapping[str, Any], name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return a list of words; ConfigError where it is something else."""
    value = data.get(name, default)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{name} must be a list of words", remedy=f'{name} = ["...", "..."]')
    return tuple(value)


def text_of(data: Mapping[str, Any], name: str, default: str = "") -> str:
    """Return a word; ConfigError where it is something else, or empty."""
    value = data.get(name, default)
    if not isinstance(value, str) or (name in data and not value):
        raise ConfigError(f"{name} must be a word", remedy=f'{name} = "..."')
    return value


def whole_of(data: Mapping[str, Any], name: str, default: int, *, least: int = 0) -> int:
    """Return a whole number; ConfigError where it is something else."""
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number from {least}")
    return value


def number_of(data: Mapping[str, Any], name: str, default: float, *, least: float, most: float) -> float:
    """Return a number between two limits; ConfigError where it is something else."""
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)


def flag_of(data: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return true or false; ConfigError where it is something else."""
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false")
    return value


def choice_of(data: Mapping[str, Any], name: str, default: str, choices: Iterable[str]) -> str:
    """Return one of some words; ConfigError for others, with the nearest that would do."""
    value, known = text_of(data, name, default), list(choices)
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        raise ConfigError(
            f"{name}: there is no {value!r}{f' (did you mean {near[0]}?)' if near else ''}",
            remedy=f"Of: {', '.join(known)}.",
        )
    return value
