"""What a run is to do, out of one TOML file: its targets, its guard, where its alerts go.

::

    [run]                             # for all targets; options of the command line count before it
    mode = "apply"                    # observe unless given
    interval = 5                      # seconds
    own_limit = "1%"                  # of one core, that all of it may cost

    [[target]]
    unit = "postgresql"               # or pid, cgroup, container, comm
    metrics = ["throughput=postgresql:"]
    on_exit = "keep"
    wait = true                       # it may come later, and come again

    [guard]                           # as the guard's own file (sculpt.guard)
    [alerts]                          # see sculpt.alert_settings

Nothing that is not understood is passed over: a key that is unknown, or a value that makes no sense, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dna.errors import DnaError
from dna.profiler import LONGEST_S, SHORTEST_S
from dna.target import Target
from hal.errors import HalError
from rl.reward import parse_metrics
from sculpt.cost import OWN_LIMIT
from sculpt.errors import ConfigError
from sculpt.guard import Guard, guard_of
from sculpt.step import MODES, OBSERVE
from sculpt.targets import KEEP, RESTORE, Asked
from sculpt.toml_file import (
    choice_of,
    flag_of,
    number_of,
    read_toml,
    refuse_unknown,
    table_of,
    text_of,
    whole_of,
    words_of,
)

_TABLES = ("run", "target", "guard", "alerts")
_RUN = (
    "mode", "interval", "duration", "on_exit", "own_limit", "unverified", "seed", "rules", "packs",
)  # fmt: skip
_MAKERS: dict[str, Callable[[Any], Target]] = {
    "pid": Target.pid,
    "cgroup": Target.cgroup,
    "unit": Target.unit,
    "container": Target.container,
    "comm": Target.comm,
}
_TARGET = (*_MAKERS, "metrics", "mode", "on_exit", "wait", "unverified")


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says."""

    targets: tuple[Asked, ...]
    interval_s: float = 5.0
    duration_s: float | None = None
    own_limit: float = OWN_LIMIT
    seed: int = 1
    rules: tuple[Path, ...] = ()
    packs: tuple[str, ...] | None = None
    """Of the rules that are shipped only these; None for all."""
    guard: Guard | None = None
    alerts: Mapping[str, Any] = field(default_factory=dict)
    """As it stands in the file: who sends alerts reads it."""


def read_config(path: str | Path) -> Config:
    """Read a run's file.

    Raises:
        ConfigError: it cannot be read, others can write it, or it makes no sense; the message says where.
    """
    data = read_toml(path)
    try:
        return config_of(data)
    except HalError as error:
        raise ConfigError(f"{path}: {error}", remedy=error.remedy) from error


def config_of(data: Mapping[str, Any]) -> Config:
    """Return what a file's content says.

    Raises:
        HalError: a name or value makes no sense.
    """
    refuse_unknown("", data, _TABLES)
    run = table_of(data, "run")
    refuse_unknown("[run]", run, _RUN)
    tables = data.get("target", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ConfigError("target must be a list of tables", remedy='[[target]]\ncomm = "redis-server"')
    if not tables:
        raise ConfigError("there is no target", remedy='[[target]]\ncomm = "redis-server"')
    return Config(
        tuple(_target(number, one, run) for number, one in enumerate(tables, 1)),
        number_of(run, "interval", 5.0, least=SHORTEST_S, most=LONGEST_S),
        number_of(run, "duration", 0.0, least=0.0, most=1e9) or None,
        own_limit_of(run["own_limit"]) if "own_limit" in run else OWN_LIMIT,
        whole_of(run, "seed", 1),
        tuple(_absolute(word) for word in words_of(run, "rules")),
        words_of(run, "packs") if "packs" in run else None,
        guard_of(table_of(data, "guard")) if "guard" in data else None,
        table_of(data, "alerts"),
    )


def _target(number: int, data: Mapping[str, Any], run: Mapping[str, Any]) -> Asked:
    try:
        return _asked(data, run)
    except (HalError, DnaError) as error:
        raise ConfigError(f"[[target]] {number}: {error}", remedy=error.remedy) from error


def _asked(data: Mapping[str, Any], run: Mapping[str, Any]) -> Asked:
    refuse_unknown("", data, _TARGET)
    target = _named(data)
    wait = flag_of(data, "wait")
    if wait and target.kind == "pid":
        raise ConfigError(
            "a process that has ended does not come again under its pid", remedy="Name it by comm, unit or cgroup."
        )
    return Asked(
        target,
        choice_of(data, "mode", choice_of(run, "mode", OBSERVE, MODES), MODES),
        parse_metrics(words_of(data, "metrics")),
        choice_of(data, "on_exit", choice_of(run, "on_exit", RESTORE, (RESTORE, KEEP)), (RESTORE, KEEP)),
        wait,
        flag_of(data, "unverified", default=flag_of(run, "unverified")),
    )


def _named(data: Mapping[str, Any]) -> Target:
    given = [name for name in _MAKERS if name in data]
    if len(given) != 1:
        raise ConfigError(
            f"it has {' and '.join(given) if given else 'no name'}", remedy=f"Give one of {', '.join(_MAKERS)}."
        )
    name = given[0]
    return _MAKERS[name](whole_of(data, name, 0, least=1) if name == "pid" else text_of(data, name))


def _absolute(word: str) -> Path:
    """Return a path that does not depend on where a service is started."""
    path = Path(word)
    if not path.is_absolute():
        raise ConfigError(f"rules: {word!r} is no absolute path")
    return path


def own_limit_of(value: object) -> float:
    """Return a share of one core, written as per cent: "1%", "0.5 %".

    Raises:
        ConfigError: it is not that.
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") and text.isascii() else -1.0
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(
            f"own limit: {value!r} is no share of a core", remedy='Write it as "1%", or up to "100%": no limit.'
        )
    return share
