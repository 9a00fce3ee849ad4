"""One workload of a run, from its first interval to its last: its profiler, its loop, and what becomes of both at the end.

Each is measured in a thread of its own; steps are taken one after the other, under the run's lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from dna.errors import DnaError
from dna.export import plain
from dna.library import Library
from dna.profiler import Profiler
from dna.target import Target
from dna.vector import Interval
from hal.errors import HalError
from hal.host import Host
from hal.journal import Journal
from hal.settings import Setting
from rl.learned import Origin
from rl.learner import Learner
from rl.memory import Memory
from rl.remembering import RememberingLearner
from rules.advice import Advisor
from rules.engine import Engine
from rules.gather_machine import MachineReader
from rules.gather_running import running
from rules.gather_workload import live_workload
from rules.reload import Rules
from rules.rule import Rule
from rules.situation import Machine, Workload
from sculpt.actuator import Actuator, Done
from sculpt.alerts import Alarms, with_alerts
from sculpt.cost import OWN_LIMIT, OwnCost, Verdict
from sculpt.guard import Guard
from sculpt.loop import Loop, recent
from sculpt.records import Log
from sculpt.remember import boot_of, learner, machine_facts, objective_of
from sculpt.sharing import Other, foreign, shared
from sculpt.step import APPLY, Judge, Record
from sculpt.targets import KEEP, Asked, members_of, program_of
from sculpt.turns import Turn, Turns
from sculpt.watchers import Watchers

TITLE = "sculpt"
"""How the titles of a run's transactions begin in the journal."""
KEPT = 12
"""Intervals of a workload that are remembered."""
ASKING = 0.25
"""Of what a run may cost, what asking the rules may."""


@dataclass(slots=True)
class Common:
    """What all workloads of a run have in common."""

    host: Host
    journal: Journal
    library: Library | None
    guard: Guard
    rules: tuple[Rule, ...]
    follow: Rules | None
    seed: int
    command: str
    interval_s: float
    count: int
    """How many workloads are served, or waited for."""
    watchers: Watchers
    is_paused: Callable[[], bool]
    on_exit: Callable[[str], str]
    """From what a workload was asked to do at the end to what it does."""
    log: Log
    memory: Memory | None = None
    """What was learned before, and where it is kept; None to begin with nothing and keep nothing."""
    alarms: Alarms = field(default_factory=Alarms)
    turns: Turns = field(default_factory=Turns)
    lock: threading.RLock = field(default_factory=threading.RLock)
    members: dict[str, frozenset[int]] = field(default_factory=dict)
    """The processes of each workload, by its name."""
    served: dict[str, Serving] = field(default_factory=dict)
    """Each workload, by its name."""
    own_limit: float = OWN_LIMIT
    machine: SharedMachine = field(init=False)
    cost: OwnCost = field(init=False)

    def __post_init__(self) -> None:
        self.machine = SharedMachine(self.host, for_s=self.interval_s / 2)
        self.cost = OwnCost(self.own_limit, self.interval_s)

    def others(self, name: str) -> Collection[int]:
        """Return the processes of all workloads but one."""
        return frozenset(pid for other, pids in self.members.items() if other != name for pid in pids)


class SharedMachine:
    """The machine's facts, read at most once in so many seconds, however many ask: what moves is told over the time since the reading before."""

    def __init__(self, host: Host, *, for_s: float) -> None:
        self._reader = MachineReader(host)
        self._for_s = for_s
        self._last: Machine | None = None
        self._at = 0.0

    def read(self) -> Machine:
        """Return the machine as it is, or was a moment ago."""
        now = time.monotonic()
        if self._last is None or now - self._at >= self._for_s:
            self._last, self._at = self._reader.read(), now
        return self._last


@dataclass(frozen=True, slots=True)
class Left:
    """How the serving of one workload ended."""

    workload: str
    why: str
    """"duration", "target" (it ended), "stopped", or "failed"."""
    done: Done | None
    """What was put in force at the end; None in modes that change nothing."""
    counts: Mapping[str, int]
    on_exit: str
    error: BaseException | None = None
    """What ended it where that was a fault of ours."""


class Serving:
    """One workload that is served. Its profiler is entered already, and left by ``serve``."""

    def __init__(
        self, asked: Asked, target: Target, profiler: Profiler, judge: Judge, common: Common, name: str
    ) -> None:
        self.asked, self.name = asked, name
        self.target = Target.pid(profiler.launched) if profiler.launched else target
        self._profiler, self._judge, self._common = profiler, judge, common
        self._facts = machine_facts(common.host, profiler.machine)
        self._loop = self._made()
        self._stopping = threading.Lock()
        self._is_over = self._is_stopped = False
        self._since = time.monotonic()
        self._known: Mapping[str, object] = {}
        """Facts of when there were BPF programs, since it goes on without."""
        common.members[name] = members_of(common.host, self.target)
        common.served[name] = self

    def stop(self) -> None:
        """Let it end between two steps; from any thread."""
        with self._stopping:
            self._is_stopped = True
            if not self._is_over:
                self._profiler.stop()

    def data(self) -> dict[str, object]:
        """Return what it is, for the records."""
        return {
            "workload": self.name,
            "mode": self.asked.mode,
            "on_exit": self.asked.on_exit,
            "kinds": list(self.asked.kinds),
            "target": plain(self._profiler.target_info),
        }

    def serve(self) -> Left:
        """Take its steps until it ends, and leave the machine as declared; what goes wrong is told, never raised."""
        error: BaseException | None = None
        try:
            self._judge(
                Interval(time.time(), {}, {}, {}, None, {}), 0.0
            )  # what is counted is known from the second look on
            while self._is_measured():
                self._lighten()
        except BaseException as failed:
            error = failed
        left = self._end(error)
        with self._stopping:
            self._is_over = True
        self._profiler.__exit__(None, None, None)
        close(self._judge)
        return left

    def _is_measured(self) -> bool:
        """Take steps until the end, or until it is to go on without BPF programs; tell whether it is that."""
        for _ in self._profiler:
            if self._step().lighten:
                return not self._profiler.ended
        return False

    def _lighten(self) -> None:
        """Measure on without BPF programs."""
        before = self._profiler
        left_s = None if before.duration is None else max(before.duration - (time.monotonic() - self._since), 0.01)
        profiler = Profiler(
            self.target, interval=before.interval, duration=left_s, host=self._common.host, keep=KEPT, use_bpf=False
        )
        try:
            profiler.__enter__()
        except (DnaError, HalError) as error:  # it is about to end, as a rule; else the cost stays, and is told again
            self._common.watchers.note(f"{self.name} cannot be measured without BPF programs: {error}")
            return
        self._since = time.monotonic()
        with self._common.lock:
            self._known = self._facts_of(before)
            self._loop.measured_otherwise()
        with self._stopping:
            self._profiler = profiler
            is_stopped = self._is_stopped
        before.__exit__(None, None, None)
        if is_stopped:
            profiler.stop()

    def _step(self) -> Verdict:
        ended = time.monotonic()
        common, profile = self._common, recent(self._profiler.profile())
        judged = self._loop.judged(profile.intervals[-1])
        with common.lock:
            common.members[self.name] = self._profiler.pids
            record = self._loop.step(profile, judged, ended=ended)
            if record.decision.event == "phase":
                self._known = {}  # it behaves otherwise than then
            cost = self._cost(profile.intervals[-1])
            failures = common.watchers.failures()
            told = (cost.told,) if cost.told else ()
            record = replace(
                record,
                alerts=(*record.alerts, *told, *failures),
                trouble=(*record.trouble, *failures),
                own_share=cost.share,
                interval_s=cost.interval_s,
            )
            record = self._with_alerts(record)
            common.log.add(record)
            common.watchers.tell(record)
            if common.log.trouble:
                common.watchers.note(common.log.trouble)
        self._profiler.pace(cost.interval_s)
        return cost

    def _cost(self, interval: Interval) -> Verdict:
        """Return what all of the run costs, and what follows for this workload."""
        bpf_s = interval.quality.get("bpf_cpu_s")
        self._common.cost.foreign(self.name, self._profiler.launched_cpu_s)
        return self._common.cost.take(
            self.name,
            float(bpf_s) if isinstance(bpf_s, int | float) else None,
            self._profiler.interval,
            dispensable=bool(self.asked.metrics) and not self._profiler.launched,
        )

    def _with_alerts(self, record: Record) -> Record:
        try:
            return with_alerts(record, self._common.alarms.take(record))
        except Exception as error:  # who looks on must not end what is looked at
            self._common.watchers.note(f"alerts cannot be raised: {type(error).__name__}: {error}")
            return record

    def _end(self, error: BaseException | None) -> Left:
        common, asked = self._common, self.asked
        on_exit = common.on_exit(asked.on_exit)
        done: Done | None = None
        with common.lock:
            if asked.mode == APPLY:
                try:
                    done = self._loop.end(keep=on_exit == KEEP)
                except BaseException as failed:
                    error = error or failed
            if isinstance(self._loop.learner, RememberingLearner):
                self._loop.learner.notebook.close()
            common.turns.note(self.name, trying=False)
            common.members.pop(self.name, None)
            common.served.pop(self.name, None)
            common.cost.left(self.name)
            why = "failed" if error else self._profiler.ended
            left = Left(self.name, why, done, self._counts(), on_exit, error)
            common.log.left(left_data(left))
        return left

    def _counts(self) -> dict[str, int]:
        """Return what was counted: decisions by event, what went wrong, measurements that were missing by why."""
        missing = {f"no value: {problem}": count for problem, count in getattr(self._judge, "problems", {}).items()}
        return {**self._loop.learner.counts, **+self._loop.counts, **missing}

    def _made(self) -> Loop:
        common, asked = self._common, self.asked
        rules = common.follow.rules if common.follow else common.rules
        return Loop(
            self.name,
            asked.mode,
            common.host,
            common.machine.read,
            self._look,
            self._judge,
            Advisor(Engine(rules)),
            self._learner(),
            Actuator(common.host, common.journal, f"{TITLE} {common.log.identity} {self.name}", common.command),
            common.guard,
            asked.kinds,
            program=self.program,
            turn=Turn(self.name, common.turns),
            is_paused=common.is_paused,
            held=self._held,
            beside=self._beside,
            follow=common.follow,
            unverified=asked.unverified,
            own_limit=common.cost.limit * ASKING / common.count,
        )

    def _learner(self) -> Learner:
        common = self._common
        boot = boot_of(common.host)
        memory = common.memory if self.asked.mode == APPLY else None
        run = f"{common.log.identity}/{self.name}"
        return learner(memory, run=run, boot=boot, origin=self._origin, seed=common.seed)

    def _origin(self) -> Origin | None:
        """Return where it learns; None until DNA and objective are known."""
        intervals = self._profiler.profile().intervals
        model = next((one.dna.model for one in reversed(intervals) if one.dna is not None), "")
        objective = objective_of(self._judge, self.asked.kinds)
        if not model or not objective:
            return None
        return Origin(self._facts, model, objective, program_of(self._profiler.target_info))

    def _held(self, settings: Sequence[Setting]) -> str:
        common = self._common
        others = {
            name: Other(one.program, common.members.get(name, frozenset()), one.asked.mode == APPLY)
            for name, one in common.served.items()
            if name != self.name
        }
        return shared(common.host, settings, common.others(self.name), common.count) or foreign(
            settings, others, common.guard
        )

    def _beside(self, machine: Machine) -> tuple[Workload, ...]:
        """Return the other workloads of the run as they are now; one that cannot be seen is left out."""
        found = []
        for name, other in tuple(self._common.served.items()):
            with suppress(HalError):
                if name != self.name and (one := other.seen(machine)) is not None:
                    found.append(one)
        return tuple(found)

    @property
    def program(self) -> str:
        """What the guard knows it by."""
        return program_of(self._profiler.target_info)

    def seen(self, machine: Machine) -> Workload | None:
        """Return the workload by its latest intervals; None before there are any, and when it has ended."""
        profile = recent(self._profiler.profile())
        return self._look(profile.intervals, machine) if profile.intervals else None

    def _look(self, intervals: Sequence[Interval], machine: Machine) -> Workload | None:
        found = self._looked(self._profiler, len(intervals), machine)
        if found is None or not self._known:
            return found
        seen = {name: value for name, value in found.values.items() if value is not None}
        return replace(found, values={**found.values, **self._known, **seen})

    def _facts_of(self, profiler: Profiler) -> Mapping[str, object]:
        """Return what a profiler's latest intervals tell; nothing where that cannot be told."""
        with suppress(HalError):
            found = self._looked(profiler, KEPT, self._common.machine.read())
            return {name: value for name, value in found.values.items() if value is not None} if found else {}
        return {}

    def _looked(self, profiler: Profiler, count: int, machine: Machine) -> Workload | None:
        common = self._common
        found = running(common.host, self.target)
        if found is None:
            return None
        profile = recent(profiler.profile(), count)
        return live_workload(common.host, profile, found, machine, common.library, ours=common.journal.standing())


def left_data(left: Left) -> dict[str, object]:
    """Return how it ended as JSON data."""
    return {
        "workload": left.workload,
        "why": left.why,
        "in_force": left.done.in_force.name if left.done else "",
        "on_exit": left.on_exit,
        "counts": dict(left.counts),
        "error": str(left.error or (left.done.error if left.done else "")),
    }


def close(judge: Judge) -> None:
    """Release what a judge holds open, where it holds anything."""
    with suppress(HalError, OSError):
        getattr(judge, "close", lambda: None)()
