"""A run of the loop, from beginning to end: its workloads are served side by side, and all is left as declared whatever happens.

One that ends does not end the others, and one that is waited for is served when it comes. SIGINT and SIGTERM end all of them between two
steps. After ``kill -9`` the next run, or ``dna undo``, takes back what this one had in force.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dna.errors import DnaError
from dna.export import plain
from dna.library import Library
from dna.profiler import Profiler
from dna.target import Target
from hal.errors import HalError
from hal.host import Host, LinuxHost
from hal.journal import Journal
from rl.memory import Memory, default_path
from rules.reload import Rules
from rules.rule import Rule
from sculpt.alerts import Alarms
from sculpt.bell import Bell
from sculpt.cost import OWN_LIMIT
from sculpt.guard import Guard
from sculpt.judging import open_judge
from sculpt.records import Log, default_folder
from sculpt.recovery import recover
from sculpt.remember import open_memory
from sculpt.serving import KEPT, TITLE, Common, Left, Serving, close, left_data
from sculpt.step import APPLY, Judge
from sculpt.targets import KEEP, RESTORE, Asked, hold_apart, members_of, named, program_of, single
from sculpt.watchers import Watcher, Watchers

__all__ = ["KEEP", "RESTORE", "TITLE", "Asked", "Ended", "Left", "Steering", "Wanted", "recover", "run"]

TROUBLES = (
    *("no value", "missing", "judging failed", "stolen", "implausible"),
    *("rules", "model failed", "decided late", "unjudged"),
)
"""How the names of counts begin that say what went wrong."""
LOOK_EVERY_S = 2.0
"""How often is looked for what is waited for, or once an interval where that is longer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is asked to do."""

    targets: tuple[Asked, ...]
    interval_s: float = 5.0
    duration_s: float | None = None
    guard: Guard = field(default_factory=Guard)
    rules: tuple[Rule, ...] = ()
    follow: Rules | None = None
    """Rules that follow their files, instead of ``rules``."""
    seed: int = 1
    command: str = ""
    own_limit: float = OWN_LIMIT
    """Share of one core that the run may cost, over all its workloads."""
    remembers: bool = True
    """It begins with what was learned before, and what it learns is kept."""

    @property
    def changes(self) -> bool:
        """Tell whether anything may be changed."""
        return any(asked.mode == APPLY for asked in self.targets)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    why: str
    """"duration", "target" (all of them ended), "stopped" or "failed"."""
    workloads: tuple[Left, ...]
    """How each ended, in that order."""
    records: Path
    trouble: str = ""
    """Why records are not complete; "" where they are."""

    @property
    def errors(self) -> tuple[str, ...]:
        """What was not left as declared, by workload, and why."""
        return tuple(f"{left.workload}: {left.done.error}" for left in self.workloads if left.done and left.done.error)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What went wrong on the way, counted, a line a workload."""
        return tuple(
            f"{left.workload}: {', '.join(f'{name} {count}' for name, count in found.items())}"
            for left in self.workloads
            if (found := {name: n for name, n in left.counts.items() if n and name.startswith(TROUBLES)})
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """What ended where it should have gone on, by workload, and why."""
        return tuple(f"{left.workload}: {_words(left.error)}" for left in self.workloads if left.error)

    @property
    def in_force(self) -> str:
        """What is in force since, in words; "" for nothing of ours."""
        standing = [left for left in self.workloads if left.done and left.done.in_force.layers]
        names = [left.done.in_force.name for left in standing if left.done]
        return (
            names[0]
            if len(self.workloads) == 1 and names
            else "; ".join(f"{left.workload}: {name}" for left, name in zip(standing, names, strict=True))
        )


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, HalError | DnaError) else f"{type(error).__name__}: {error}"


class Steering(Protocol):
    """Who may pause and end a run while it goes on; ``sculpt.control.Control`` is one. Called from several threads."""

    def begin(self, run: str, stop: Callable[[], None]) -> None:
        """Know that the run of this name has begun, and what ends it."""

    def beat(self) -> None:
        """Know that the run is alive, although there may be no step to tell of."""

    def is_paused(self) -> bool:
        """Tell whether nothing new may be begun."""

    def on_exit_of(self, declared: str) -> str:
        """Return what becomes at the end of what is in force, of a workload for which this was declared."""

    def end(self, why: str, in_force: str, trouble: str = "") -> None:
        """Know that the run is over, what it left in force, and what was not left as declared."""


class _Unsteered:
    def begin(self, run: str, stop: Callable[[], None]) -> None:
        pass

    def beat(self) -> None:
        pass

    def is_paused(self) -> bool:
        return False

    def on_exit_of(self, declared: str) -> str:
        return declared

    def end(self, why: str, in_force: str, trouble: str = "") -> None:
        pass


def run(
    wanted: Wanted,
    *,
    watchers: Sequence[Watcher] = (),
    alarms: Alarms | None = None,
    control: Steering | None = None,
    judge_of: Callable[[Asked, Host], Judge] | None = None,
    host: Host | None = None,
    journal: Journal | None = None,
    library: Library | None = None,
    folder: Path | None = None,
) -> Ended:
    """Serve the workloads until the duration is over, all of them have ended, or a signal says so.

    Args:
        watchers: told of each step of each workload, one at a time; what befalls one of them is told once and ends nothing.
        alarms: what raises alerts, where the settings are not the usual.
        control: pauses and ends the run.
        judge_of: opens what a workload is judged by; its metrics, or a proxy, unless given.
        folder: where records are kept; ``sculpt.records.default_folder`` unless given.

    Raises:
        DnaError: a target cannot be profiled.
        SculptError: two targets have a process in common, or another run has changes in force on this machine.
    """
    here, transactions, folder = host or LinuxHost(), journal or Journal(), folder or default_folder()
    with ExitStack() as stack:
        bell = stack.enter_context(Bell())
        stack.enter_context(_stopped_by_signals(bell))
        if wanted.changes:
            recover(here, transactions, folder)
        opened = _Opened(here, wanted, judge_of or _by_metrics)
        stack.callback(opened.close)
        first = opened.all()
        log = Log(folder, _head(wanted, first))
        steering = control or _Unsteered()
        watching = Watchers(watchers)
        common = Common(
            here, transactions, library, wanted.guard, wanted.rules, wanted.follow, wanted.seed, wanted.command,
            wanted.interval_s, max(len(first), len(wanted.targets)), watching, steering.is_paused,
            steering.on_exit_of, log, _memory(stack, wanted, transactions, watching), alarms or Alarms(),
            own_limit=wanted.own_limit,
        )  # fmt: skip
        return _Run(wanted, common, opened, bell, steering).go(first)


def _memory(stack: ExitStack, wanted: Wanted, journal: Journal, watchers: Watchers) -> Memory | None:
    """Open what was learned before, where anything may be learned; what is wrong with it is told with the first step."""
    if not wanted.remembers or not wanted.changes:
        return None
    memory = open_memory(default_path(journal=journal.folder), watchers.note)
    return memory if memory is None else stack.enter_context(memory)


def _by_metrics(asked: Asked, host: Host) -> Judge:
    return open_judge(asked.metrics, host)


@dataclass(slots=True)
class _One:
    """A workload that is about to be served: what is opened for it."""

    asked: Asked
    target: Target
    profiler: Profiler
    judge: Judge


class _Opened:
    """What is opened for workloads that are not served yet: theirs from then on, closed here until then."""

    def __init__(self, host: Host, wanted: Wanted, judge_of: Callable[[Asked, Host], Judge]) -> None:
        self._host, self._wanted, self._judge_of = host, wanted, judge_of
        self._deadline = None if wanted.duration_s is None else time.monotonic() + wanted.duration_s
        self._mine: list[_One] = []

    def all(self) -> list[_One]:
        """Open all that are there. A command is forked before there are threads: a fork copies only the thread that calls it."""
        pairs = [(asked, target) for asked in self._wanted.targets for target in single(self._host, asked)]
        pairs = list({target: (asked, target) for asked, target in reversed(pairs)}.values())[::-1]
        hold_apart(self._host, [target for _, target in pairs])
        for asked, target in sorted(pairs, key=lambda pair: pair[1].kind != "command"):
            self.one(asked, target)
        order = [target for _, target in pairs]
        return sorted(self._mine, key=lambda one: order.index(one.target))

    def one(self, asked: Asked, target: Target) -> _One:
        """Open what one takes.

        Raises:
            DnaError, HalError: it cannot be had.
        """
        judge = self._judge_of(asked, self._host)
        try:
            left_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.01)
            profiler = Profiler(target, interval=self._wanted.interval_s, duration=left_s, host=self._host, keep=KEPT)
            profiler.__enter__()
        except BaseException:
            close(judge)
            raise
        self._mine.append(one := _One(asked, target, profiler, judge))
        return one

    def hand_over(self, one: _One) -> None:
        """Let whoever serves it close it."""
        self._mine.remove(one)

    def close(self) -> None:
        """Close what nobody serves."""
        for one in self._mine:
            one.profiler.__exit__(None, None, None)
            close(one.judge)


class _Run:
    """The workloads being served, and those that are waited for."""

    def __init__(self, wanted: Wanted, common: Common, opened: _Opened, bell: Bell, steering: Steering) -> None:
        self._wanted, self._common, self._opened, self._bell, self._steering = wanted, common, opened, bell, steering
        self._served: dict[threading.Thread, Serving] = {}
        self._left: list[Left] = []
        self._over: list[threading.Thread] = []
        self._stopping = False
        self._told: set[str] = set()

    def go(self, first: Sequence[_One]) -> Ended:
        """Serve until the end, and return how that was."""
        try:
            for one in first:
                self._start(self._serving(one))
            self._steering.begin(self._common.log.identity, self._bell.stop)
            self._wait()
        except BaseException:
            self._stop()
            raise
        finally:
            for thread in list(self._served):
                thread.join()
            ended = self._ended()
            self._common.log.close(_end(ended))
            self._steering.end(ended.why, ended.in_force, "; ".join(ended.errors))
        return ended

    def _wait(self) -> None:
        waits = any(asked.wait for asked in self._wanted.targets)
        until = None if self._wanted.duration_s is None else time.monotonic() + self._wanted.duration_s
        look_s = max(LOOK_EVERY_S, self._wanted.interval_s)
        while self._served or (waits and not self._stopping and (until is None or time.monotonic() < until)):
            if self._bell.wait(look_s if waits else None) and not self._stopping:
                self._stop()
            while self._over:
                thread = self._over.pop()
                thread.join()
                del self._served[thread]
            if waits and not self._stopping:
                self._steering.beat()
                self._look()

    def _stop(self) -> None:
        self._stopping = True
        for serving in self._served.values():
            serving.stop()

    def _serving(self, one: _One) -> Serving:
        taken = self._common.members
        name = named(program_of(one.profiler.target_info), taken)
        serving = Serving(one.asked, one.target, one.profiler, one.judge, self._common, name)
        self._opened.hand_over(one)
        return serving

    def _start(self, serving: Serving) -> None:
        self._common.log.joined(serving.data())

        def serve() -> None:
            try:
                self._left.append(serving.serve())
            finally:
                self._over.append(threading.current_thread())
                self._bell.ring()

        thread = threading.Thread(target=serve, name=f"sculpt {serving.name}")
        self._served[thread] = serving
        thread.start()

    def _look(self) -> None:
        """Serve what was waited for and has come."""
        for asked in self._wanted.targets:
            if not asked.wait:
                continue
            try:
                found = [target for target in single(self._common.host, asked) if not self._is_served(target)]
                for target in found:
                    self._start(self._serving(self._opened.one(asked, target)))
            except (DnaError, HalError) as error:
                self._tell(f"{asked.target} cannot be served: {error}")

    def _is_served(self, target: Target) -> bool:
        """Tell whether a target, or a process of it, is served already."""
        if any(serving.target == target for serving in self._served.values()):
            return True
        own = members_of(self._common.host, target)
        with self._common.lock:
            return any(own & pids for pids in self._common.members.values())

    def _tell(self, trouble: str) -> None:
        if trouble not in self._told:
            self._told.add(trouble)
            with self._common.lock:
                self._common.watchers.note(trouble)

    def _ended(self) -> Ended:
        whys = [left.why for left in self._left]
        why = "stopped" if self._stopping else next((one for one in ("failed", "duration") if one in whys), "target")
        if not self._left and not self._stopping:
            why = "duration"
        return Ended(why, tuple(self._left), self._common.log.path, self._common.log.trouble)


def _head(wanted: Wanted, first: Sequence[_One]) -> dict[str, object]:
    """Return the head of the records; target, mode and kinds are those of the first workload, for readers that know of one only."""
    asked = first[0].asked if first else wanted.targets[0]
    return {
        "mode": asked.mode,
        "interval_s": wanted.interval_s,
        "command": wanted.command,
        "target": plain(first[0].profiler.target_info)
        if first
        else {"kind": asked.target.kind, "value": asked.target.value},
        "machine": plain(first[0].profiler.machine) if first else {},
        "kinds": list(asked.kinds),
        "targets": [{"target": str(one.target), "mode": one.mode, "wait": one.wait} for one in wanted.targets],
    }


def _end(ended: Ended) -> Mapping[str, object]:
    on_exit = list(dict.fromkeys(left.on_exit for left in ended.workloads))
    return {
        "why": ended.why,
        "in_force": ended.in_force or ("baseline" if any(left.done for left in ended.workloads) else ""),
        "on_exit": on_exit[0] if len(on_exit) == 1 else "",
        "workloads": [left_data(left) for left in ended.workloads],
    }


@contextmanager
def _stopped_by_signals(bell: Bell) -> Iterator[None]:
    """End the run between two steps on SIGINT, SIGTERM and, unless ``nohup`` says otherwise, SIGHUP, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        bell.stop()

    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, *hangup)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
