"""Apply a plan: record, write, read back, next; on any failure undo in reverse and leave the machine as it was found.

When all is made, every change is looked at once more (``hal.confirming``): a later one may have overridden it. Undoing is in ``hal.undo``; both keep to the same order, journal first, so that a kill between any two steps can be recovered from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hal import journal as log
from hal.confirming import contradictions, told
from hal.errors import ChangeFailedError, HalError, JournalError, NotFoundError, PlanError, RefusedError
from hal.host import Host
from hal.journal import Journal, Writer
from hal.knobs import knob_of
from hal.knobs.knob import show, write_telling
from hal.planning import change_of, left_alone, machine_id, position
from hal.retention import retain
from hal.settings import Change, Plan, Setting, Subject, Value
from hal.subjects import is_gone, label
from hal.undo import Meter, Undone, boot_ticks, interrupted, take_back, untold

_ROUNDS = 50
"""How often newly started threads and children are looked for. Each round that finds some sets them, and what they start
from then on inherits, so a few are enough unless they are started by something outside."""

type Watcher = Callable[[str, Change], None]
"""Told of each step: what became of it ("done", "gone", "kept"), and the change."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a plan did."""

    identity: str
    """The transaction's, for ``dna undo``; empty where nothing had to be done."""
    done: tuple[Change, ...]
    gone: tuple[Change, ...]
    """Changes of processes that ended meanwhile."""
    already: tuple[Change, ...]
    """Changes that were found made."""
    outcomes: tuple[tuple[Change, str], ...] = ()
    """What some of those done came to, in words: how much is in huge pages now."""


def apply(
    plan: Plan,
    host: Host,
    journal: Journal,
    *,
    command: str = "",
    watch: Watcher = lambda _what, _change: None,
    progress: Meter = untold,
) -> Applied:
    """Apply a plan whole, or leave the machine as it was found.

    Args:
        progress: told how far a change is that takes long, and its taking back.

    Raises:
        PlanError: the plan is for another machine or another boot of it.
        RefusedError: the machine moved since in what the plan touches, or another applier is at work; nothing was written.
        ChangeFailedError: a change did not take; everything before it was undone, or the message says what could not be.
        JournalError: the journal cannot be written; likewise.
    """
    _refuse_foreign(plan, host)
    with journal.lock():
        open_ = [t.identity for t in interrupted(journal, plan.machine)]
        if open_:
            raise RefusedError(
                f"a plan was interrupted in the middle: {', '.join(open_)}", remedy="take it back first: dna undo"
            )
        already = _refuse_moved(plan, host)
        changes = tuple(change for change in plan.changes if change.key not in {c.key for c in already})
        ours = journal.standing()
        record = _Record(journal, plan, ticks=boot_ticks(host), command=command)
        work = _Work(host, record, watch, progress)
        try:
            work.make(changes)
            work.follow(plan.follow, ours)
            work.confirm()
            record.end()
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            _give_up(error, host, journal, record, progress)
        retain(journal)
    return Applied(record.identity, tuple(work.done), tuple(work.gone), already, tuple(work.outcomes))


def _refuse_foreign(plan: Plan, host: Host) -> None:
    here = machine_id(host)
    if plan.machine == here:
        return
    if plan.machine.hostname == here.hostname and plan.machine.boot_id:
        raise PlanError(
            f"the plan is from before {here.hostname} was last started: its processes are gone", remedy="make it again"
        )
    raise PlanError(
        f"the plan is for {plan.machine.hostname}, and this is {here.hostname}",
        remedy="make one here, or apply it there",
    )


def _refuse_moved(plan: Plan, host: Host) -> tuple[Change, ...]:
    """Return the changes that are made already.

    Raises:
        RefusedError: something that the plan touches is no longer as it was when the plan was made.
    """
    already = []
    moved = []
    for change in plan.changes:
        knob = knob_of(change.knob)
        if knob.is_action or is_gone(host, change.subject):
            continue
        try:
            found = knob.read(host, change.subject)
        except NotFoundError as error:
            if change.old is not None and not is_gone(host, change.subject):
                moved.append(f"{change.knob} of {change.subject}: {error}")
            continue
        if knob.same(change.old, found):
            continue
        if knob.same(change.new, found):
            already.append(change)
        else:
            moved.append(f"{change.knob} of {change.subject} is {show(found)}, and was {show(change.old)}")
    if moved:
        more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
        raise RefusedError(
            f"the machine moved since the plan was made: {'; '.join(moved[:5])}{more}", remedy="make the plan again"
        )
    return tuple(already)


class _Record:
    """The transaction in the journal, begun with the first change: a plan that changes nothing leaves none."""

    def __init__(self, journal: Journal, plan: Plan, *, ticks: int, command: str) -> None:
        self.identity = ""
        self._journal = journal
        self._plan = plan
        self._ticks = ticks
        self._command = command
        self._writer: Writer | None = None

    def append(self, record: Mapping[str, object]) -> None:
        if self._writer is None:
            self.identity, self._writer = self._journal.begin(self._plan, ticks=self._ticks, command=self._command)
        self._writer.append(record)

    def end(self) -> None:
        if self._writer is not None:
            self._writer.append(log.note("end"))


class _Work:
    """One application in progress."""

    def __init__(self, host: Host, record: _Record, watch: Watcher, progress: Meter) -> None:
        self.host = host
        self.done: list[Change] = []
        self.gone: list[Change] = []
        self.outcomes: list[tuple[Change, str]] = []
        self._record = record
        self._watch = watch
        self._progress = progress
        self._count = 0
        self._numbers: list[int] = []
        """Under which each of ``done`` is in the journal."""
        self._seen: set[tuple[str, Subject]] = set()

    def make(self, changes: tuple[Change, ...]) -> None:
        """Make these changes in their order."""
        for change in changes:
            self._make_one(change)

    def follow(self, settings: tuple[Setting, ...], ours: Mapping[tuple[str, Subject], Value]) -> None:
        """Make the settings on what started since the plan was made, until nothing new does."""
        for setting in settings:
            for _ in range(_ROUNDS):
                fresh = self._newcomers(setting, ours)
                if not fresh:
                    break
                self.make(fresh)

    def confirm(self) -> None:
        """Look once more at everything that was made.

        Raises:
            ChangeFailedError: something of it does not hold any more.
        """
        found = contradictions(self.host, self.done)
        for one in found:
            if one.later and one.found is not None:  # what the plan itself made of it is ours to take back
                self._record.append(log.mark("became", self._numbers[one.index], value=one.found))
        if found:
            raise ChangeFailedError(told(found))

    def _newcomers(self, setting: Setting, ours: Mapping[tuple[str, Subject], Value]) -> tuple[Change, ...]:
        knob = knob_of(setting.knob)
        found = []
        for subject in knob.members(self.host, setting.subject):
            one = replace(setting, subject=subject)
            if one.key in self._seen:
                continue
            self._seen.add(one.key)
            if left_alone(self.host, one, ours):
                continue
            try:
                old = knob.read(self.host, subject)
            except NotFoundError:
                continue
            if not knob.same(setting.value, old):
                found.append(replace(change_of(one, old), label=label(self.host, subject)))
        return tuple(sorted(found, key=position))

    def _make_one(self, change: Change) -> None:
        self._seen.add(change.key)
        self._count += 1
        number = self._count
        knob = knob_of(change.knob)
        if is_gone(self.host, change.subject):
            self._is_gone(number, change)
            return
        self._record.append(log.intent(number, change))
        try:
            write_telling(knob, self.host, change.subject, change.new, partial(self._progress, change))
            wrong = knob.verify(self.host, change.subject, change.new)
        except HalError as error:
            if is_gone(self.host, change.subject):
                self._is_gone(number, change, intended=True)
                return
            raise _failure(f"{change.knob} of {change.subject}: {error}", error) from error
        if is_gone(self.host, change.subject):
            # It may be that the id was taken over between look and write: then this is no longer ours to judge by.
            self._is_gone(number, change, intended=True)
            return
        if wrong:
            self._record.append(log.mark("became", number, value=self._found(change)))
            raise ChangeFailedError(f"{change.knob} of {change.subject}: {wrong}")
        outcome = self._outcome(change)
        self._record.append(log.done(number, outcome))
        self.done.append(change)
        self._numbers.append(number)
        if outcome:
            self.outcomes.append((change, outcome))
        self._watch("done", change)

    def _outcome(self, change: Change) -> str:
        try:
            return knob_of(change.knob).outcome(self.host, change.subject, change.new)
        except HalError:  # it was done; that it ended now is no failure
            return ""

    def _found(self, change: Change) -> Value:
        """Return what the machine made of a write: so that it is known as ours when it is taken back."""
        try:
            return knob_of(change.knob).read(self.host, change.subject)
        except HalError:
            return change.new

    def _is_gone(self, number: int, change: Change, *, intended: bool = False) -> None:
        if intended:
            self._record.append(log.mark("gone", number))
        self.gone.append(change)
        self._watch("gone", change)


def _give_up(error: BaseException, host: Host, journal: Journal, record: _Record, progress: Meter) -> Any:
    """Take back what was made, and raise what happened with what became of it."""
    why = str(error) or type(error).__name__
    if not record.identity:
        raise error
    with contextlib.suppress(
        JournalError
    ):  # it may be the journal's disk that is full: all the more must be taken back
        record.append(log.note("failed", why=why))
    try:
        undone = take_back(host, journal, record.identity, progress=progress)
    except HalError as second:
        raise ChangeFailedError(
            f"{why}; and what was made before it could not all be taken back: {second}", remedy="dna undo"
        ) from error
    if isinstance(error, HalError):
        raise _told(error, undone) from error
    raise error


def _told(error: HalError, undone: Undone) -> ChangeFailedError:
    if undone.failed:
        rest = "; ".join(f"{step.change.knob} of {step.change.subject}: {step.left}" for step in undone.failed)
        return ChangeFailedError(f"{error}; taking back what was made before it failed too: {rest}", remedy="dna undo")
    kept = [f"{step.change.knob} of {step.change.subject}: {step.left}" for step in undone.kept if step.left]
    if not (undone.restored or kept):
        return _failure(f"{error}; nothing was changed", error)
    return _failure(
        f"{error}; what was made before it was taken back{', but not ' * bool(kept)}{'; '.join(kept)}", error
    )


def _failure(message: str, cause: HalError) -> ChangeFailedError:
    """Return the failure with the exit status and remedy of its cause: what lacked a privilege says so."""
    failure = ChangeFailedError(message, remedy=cause.remedy)
    failure.exit_code = cause.exit_code
    return failure
