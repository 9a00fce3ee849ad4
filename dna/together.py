"""Several targets profiled over one stretch of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from dna.profiler import Encode, Profiler
from dna.target import Target
from dna.vector import Interval, Profile
from hal.host import Host

type Watching = Callable[[Target, Interval], None]
"""Told of each interval when it is over."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A profile just taken."""

    target: Target
    """What was profiled; of a launched command its process."""
    profile: Profile
    missing: dict[str, str]
    """Probe to the reason why it could not measure."""


def _unseen(_target: Target, _interval: Interval) -> None:
    pass


def profile_together(
    targets: Sequence[Target],
    *,
    interval_s: float,
    duration_s: float,
    host: Host | None = None,
    encoder: Encode | None = None,
    tool: str = "",
    watching: Watching = _unseen,
) -> tuple[Taken, ...]:
    """Return a profile of each target, all of the same time; one that ended early has the intervals until then.

    Raises:
        DnaError: see ``Profiler``; of any of the targets.
    """
    # A command is forked before there are threads: a fork copies only the thread that calls it.
    ordered = sorted(targets, key=lambda target: target.kind != "command")
    with ExitStack() as stack:
        profilers = [
            stack.enter_context(Profiler(target, interval=interval_s, duration=duration_s, host=host, encoder=encoder))
            for target in ordered
        ]
        pool = stack.enter_context(ThreadPoolExecutor(max(len(profilers), 1)))
        running = [pool.submit(_run, profiler, watching) for profiler in profilers]
        try:
            for future in running:
                future.result()
        finally:
            for profiler in profilers:  # Ctrl-C, or one of them failed: the others need not go on
                profiler.stop()
        taken = {id(profiler.target): _taken(profiler, tool) for profiler in profilers}
    return tuple(taken[id(target)] for target in targets)


def _run(profiler: Profiler, watching: Watching) -> None:
    for interval in profiler:
        watching(profiler.target, interval)


def _taken(profiler: Profiler, tool: str) -> Taken:
    target = Target.pid(profiler.launched) if profiler.launched else profiler.target
    return Taken(target, profiler.profile(tool=tool), dict(profiler.missing))
