"""A run of the loop on one target, from beginning to end: what it needs is opened, and left as declared whatever happens.

SIGINT and SIGTERM end it between two steps. After ``kill -9`` the next run, or ``dna undo``, takes back what this one had in force.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dna.export import plain
from dna.library import Library
from dna.profiler import Profiler
from dna.target import Target
from dna.vector import Interval, Profile
from hal.errors import HalError, RefusedError
from hal.host import Host, LinuxHost
from hal.journal import Journal, Transaction
from hal.planning import machine_id
from hal.undo import undo
from rl.bandit import LinearBandit
from rl.learner import Learner
from rules.advice import Advisor
from rules.engine import Engine
from rules.gather_machine import MachineReader
from rules.gather_running import Found, running, single_targets
from rules.gather_workload import live_workload
from rules.reload import Rules
from rules.rule import Rule
from rules.situation import Workload
from sculpt.actuator import Actuator, Done
from sculpt.errors import SculptError
from sculpt.guard import Guard
from sculpt.loop import APPLY, Judge, Loop, Record, recent
from sculpt.records import Log, default_folder, read_run

TITLE = "sculpt"
"""How the titles of its transactions begin in the journal."""
RESTORE, KEEP = "restore", "keep"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is asked to do."""

    target: Target
    mode: str
    interval_s: float = 5.0
    duration_s: float | None = None
    on_exit: str = RESTORE
    guard: Guard = field(default_factory=Guard)
    rules: tuple[Rule, ...] = ()
    follow: Rules | None = None
    """Rules that follow their files, instead of ``rules``."""
    kinds: tuple[str, ...] = ("throughput",)
    seed: int = 1
    command: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    why: str
    """"duration", "target" (it ended) or "stopped"."""
    done: Done | None
    """What was put in force at the end; None in modes that change nothing."""
    counts: Mapping[str, int]
    records: Path
    trouble: str = ""
    """Why records are not complete; "" where they are."""


def run(
    wanted: Wanted,
    judge: Judge,
    *,
    watch: Callable[[Record], None],
    host: Host | None = None,
    journal: Journal | None = None,
    library: Library | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run the loop until the duration is over, the target ends, or a signal says so.

    Args:
        watch: told of each step.
        folder: where records are kept; ``sculpt.records.default_folder`` unless given.

    Raises:
        DnaError: the target cannot be profiled.
        SculptError: it is more than one workload, or another run has changes in force on this machine.
    """
    here, transactions = host or LinuxHost(), journal or Journal()
    target, folder = _single(here, wanted.target), folder or default_folder()
    if wanted.mode == APPLY:
        recover(here, transactions, folder)
    with ExitStack() as stack:
        profiler = stack.enter_context(
            Profiler(target, interval=wanted.interval_s, duration=wanted.duration_s, host=here)
        )
        stack.enter_context(_stopped_by_signals(profiler))
        log = Log(folder, _head(wanted, profiler))
        loop = _loop(wanted, here, transactions, _actual(target, profiler), judge, library, profiler, log.identity)
        done: Done | None = None
        judge(Interval(time.time(), {}, {}, {}, None, {}), 0.0)  # what is counted is known from the second look on
        try:
            for _ in profiler:
                record = loop.step(recent(profiler.profile()))
                log.add(record)
                watch(record)
        finally:
            if wanted.mode == APPLY:
                done = loop.end(keep=wanted.on_exit == KEEP)
            log.close(
                {"why": profiler.ended, "in_force": done.in_force.name if done else "", "on_exit": wanted.on_exit}
            )
        return Ended(profiler.ended, done, dict(loop.learner.counts), log.path, log.trouble)


def _head(wanted: Wanted, profiler: Profiler) -> dict[str, object]:
    return {
        "mode": wanted.mode,
        "interval_s": wanted.interval_s,
        "command": wanted.command,
        "target": plain(profiler.target_info),
        "machine": plain(profiler.machine),
        "kinds": list(wanted.kinds),
    }


def _actual(target: Target, profiler: Profiler) -> Target:
    return Target.pid(profiler.launched) if profiler.launched else target


def _single(host: Host, target: Target) -> Target:
    if target.kind == "command":
        return target
    found = single_targets(host, target)
    if len(found) != 1:
        raise SculptError(f"{target} is {len(found)} workloads", remedy="Name one of them: --pid N, or their cgroup.")
    return found[0]


def recover(host: Host, journal: Journal, folder: Path) -> int:
    """Take back what a run that was killed left in force; return how many transactions that were.

    What a run that ended has declared to be kept stays.

    Raises:
        SculptError: such a run is still alive, or something could not be taken back.
    """
    here = machine_id(host)
    ours = [one for one in journal.transactions() if one.title.startswith(f"{TITLE} ") and one.machine == here]
    left = [one for one in ours if one.standing() and not _has_ended(one, folder)]
    for transaction in sorted(left, key=lambda one: one.started, reverse=True):
        if _is_alive(host, transaction.pid):
            raise SculptError(
                f"another run (pid {transaction.pid}) has changes in force on this machine",
                remedy="Let it end, or run this one with --mode advise.",
            )
        try:
            result = undo(host, journal, transaction.identity)
        except RefusedError as error:
            raise SculptError(f"what a killed run left could not be taken back: {error}", remedy="dna undo") from error
        if result.failed:
            raise SculptError("what a killed run left could not all be taken back", remedy="dna undo")
    return len(left)


def _has_ended(transaction: Transaction, folder: Path) -> bool:
    """Tell whether the run that a transaction is of came to its end: its records then say so."""
    identity = transaction.title.split(" ", 2)[1]
    with suppress(SculptError):
        return read_run(folder / f"{identity}.jsonl").end is not None
    return False


def _is_alive(host: Host, pid: int) -> bool:
    with suppress(HalError):
        return "sculpt" in host.read_text(f"/proc/{pid}/cmdline")
    return False


def _loop(
    wanted: Wanted,
    host: Host,
    journal: Journal,
    target: Target,
    judge: Judge,
    library: Library | None,
    profiler: Profiler,
    identity: str,
) -> Loop:
    reader = MachineReader(host)
    name = str(profiler.target_info.get("comm") or target.value)

    def look(intervals: Sequence[Interval]) -> Workload | None:
        found: Found | None = running(host, target)
        if found is None:
            return None
        profile: Profile = recent(profiler.profile(), len(intervals))
        return live_workload(host, profile, found, reader.read(), library, ours=journal.standing())

    return Loop(
        name,
        wanted.mode,
        host,
        reader.read,
        look,
        judge,
        Advisor(Engine(wanted.follow.rules if wanted.follow else wanted.rules)),
        Learner(LinearBandit(seed=wanted.seed), seed=wanted.seed),
        Actuator(host, journal, f"{TITLE} {identity} {name}", wanted.command),
        wanted.guard,
        wanted.kinds,
        wanted.follow,
    )


@contextmanager
def _stopped_by_signals(profiler: Profiler) -> Iterator[None]:
    """End the run between two steps on SIGINT and SIGTERM, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        profiler.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
