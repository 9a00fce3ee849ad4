"""What ``dna sculpt`` is asked to do, by its options and by a file; what an option says counts before what the file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui import options
from ui.commands.tool import tool_line

if TYPE_CHECKING:
    from dna.target import Target
    from sculpt.config import Config
    from sculpt.session import Wanted
    from sculpt.targets import Asked

_HOW = "Give one or several of --pid N, --cgroup PATH, --unit NAME, --container ID, --comm REGEX, -- COMMAND..., or --config FILE.toml."


@dataclass(frozen=True, slots=True)
class Options:
    """The options as given; None for those that were not."""

    targets: Sequence[Target] = ()
    metrics: Sequence[str] = ()
    config: Path | None = None
    mode: str | None = None
    on_exit: str | None = None
    wait: bool = False
    unverified: bool = False
    interval: float | None = None
    duration: float | None = None
    own_limit: str | None = None
    guard: Path | None = None
    rules: Sequence[Path] = ()
    packs: str | None = None
    no_packs: bool = False
    seed: int | None = None
    no_memory: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done."""

    wanted: Wanted
    mode: str
    """Of all targets; of several with different modes the one that may do most."""
    alerts: Mapping[str, Any] = field(default_factory=dict)
    """The file's table."""


def order(given: Options) -> Order:
    """Return what options and file come to.

    Raises:
        OptionError, HalError: something makes no sense; DnaError: a target is misnamed.
    """
    from rules.reload import Rules
    from sculpt.config import Config, own_limit_of, read_config
    from sculpt.guard import Guard, read_guard
    from sculpt.session import Wanted
    from sculpt.step import MODES

    _check(given)
    file: Config = read_config(given.config) if given.config else Config(())
    targets = _asked(given, file)
    rules = [*(given.rules or ()), *file.rules]
    packs = given.packs if given.packs is not None or file.packs is None else ",".join(file.packs)
    wanted = Wanted(
        targets,
        file.interval_s if given.interval is None else given.interval,
        file.duration_s if given.duration is None else given.duration or None,
        read_guard(given.guard) if given.guard else file.guard or Guard(),
        follow=Rules(options.rule_sources(rules, packs, no_packs=given.no_packs)),
        seed=file.seed if given.seed is None else given.seed,
        command=tool_line(),
        own_limit=file.own_limit if given.own_limit is None else own_limit_of(given.own_limit),
        remembers=not given.no_memory,
    )
    return Order(wanted, max((one.mode for one in targets), key=MODES.index), file.alerts)


def _check(given: Options) -> None:
    from sculpt.step import MODES

    if given.mode is not None:
        options.choice_of("--mode", given.mode, MODES)
    if given.on_exit is not None:
        options.choice_of("--on-exit", given.on_exit, ("restore", "keep"))
    if given.interval is not None:
        options.interval_of(given.interval)
    if given.duration is not None:
        options.duration_of(given.duration, default=None)
    if given.config and (given.targets or given.metrics or given.wait):
        raise options.OptionError(
            "--config names the targets, and so does the command line",
            remedy="Put all of them, with their metrics, into the file, or leave --config away.",
        )


def _asked(given: Options, file: Config) -> tuple[Asked, ...]:
    if file.targets:
        changed = {"mode": given.mode, "on_exit": given.on_exit, "unverified": given.unverified or None}
        changes: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
        return tuple(replace(one, **changes) for one in file.targets)
    return _of_options(given)


def _of_options(given: Options) -> tuple[Asked, ...]:
    from rl.reward import parse_metrics
    from sculpt.targets import Asked

    if not given.targets:
        raise options.OptionError("no target", remedy=_HOW)
    metrics = parse_metrics(given.metrics)
    if metrics and len(given.targets) > 1:
        raise options.OptionError(
            f"--metric, and {len(given.targets)} targets: of which of them is it?",
            remedy="Name one target, or give each its own metrics in a file: --config FILE.toml, see docs/sculpt.md.",
        )
    if given.wait and (never := next((one for one in given.targets if one.kind in ("pid", "command")), None)):
        raise options.OptionError(
            f"--wait, and {never}: that does not come again", remedy="Name it by --comm, --unit or --cgroup."
        )
    return tuple(
        Asked(target, given.mode or "observe", metrics, given.on_exit or "restore", given.wait, given.unverified)
        for target in given.targets
    )
