"""Take back what the journal says was done: in reverse, only what is still ours, and as far as it can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from hal import journal as log
from hal.errors import HalError, JournalError, NotFoundError, RefusedError
from hal.host import Host
from hal.journal import Journal, Step, Transaction, Writer
from hal.knobs import all_knobs, knob_of
from hal.knobs.knob import show, write_telling
from hal.planning import machine_id
from hal.retention import retain
from hal.settings import APPROXIMATE, EXACT, IRREVERSIBLE, OF_PROCESSES, Change, MachineId, Setting, Subject, Value
from hal.subjects import is_gone

type Watcher = Callable[[str, Step], None]
type Meter = Callable[[Change, int, int], None]
"""Told how far a change is that takes long: bytes dealt with so far, and bytes that there are."""


def untold(_change: Change, _done: int, _of: int) -> None:
    """Be told how far a change is, and do nothing with it."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What taking back one transaction did."""

    identity: str
    restored: tuple[Step, ...] = ()
    kept: tuple[Step, ...] = ()
    """Not as they were, with ``left`` saying why: somebody else's by now, or not to be restored."""
    gone: tuple[Step, ...] = ()
    failed: tuple[Step, ...] = ()
    """Could not be restored now; the transaction stays open, so that ``dna undo`` tries again."""
    restarted: bool = False
    """True when the machine was started since: nothing of the transaction was left."""
    unwritten: str = ""
    """Why the journal does not say all of this: it could not be written. It still says that something stands; ``dna undo`` sets that
    right once it can be. What it holds is enough to take everything back, so the machine does not wait for it."""


def undo(
    host: Host,
    journal: Journal,
    identity: str,
    *,
    watch: Watcher = lambda _what, _step: None,
    progress: Meter = untold,
) -> Undone:
    """Take back one transaction.

    Args:
        progress: told how far a change is whose taking back takes long.

    Raises:
        RefusedError: another dna is changing this machine, or a later transaction changed the same and stands.
        JournalError: there is no such transaction.
    """
    with journal.lock():
        transaction = journal.find(identity)
        later = _later(journal, transaction)
        if later:
            raise RefusedError(
                f"{transaction.identity} was changed again by {', '.join(later)}",
                remedy=f"take that back first: dna undo {later[-1]}, or dna undo --all",
            )
        undone = take_back(host, journal, transaction.identity, watch=watch, progress=progress)
        retain(journal)
        return undone


def take_back(
    host: Host,
    journal: Journal,
    identity: str,
    *,
    watch: Watcher = lambda _what, _step: None,
    progress: Meter = untold,
) -> Undone:
    """Do what ``undo`` does, under a lock that is held already."""
    transaction = journal.find(identity)
    here = machine_id(host)
    if transaction.merged is not None:
        return Undone(transaction.identity, restarted=transaction.machine.boot_id != here.boot_id)
    writer = _Tolerant(journal.writer(transaction.identity))
    if transaction.machine.boot_id != here.boot_id:
        writer.append(log.note("closed", why="the machine was started since"))
        return Undone(transaction.identity, restarted=True, unwritten=writer.trouble)
    return _Taking(host, writer, transaction, watch, progress).run()


def pending(journal: Journal) -> list[Transaction]:
    """Return the transactions that were not taken back, newest first."""
    return journal.unfinished()[::-1]


def interrupted(journal: Journal, machine: MachineId) -> list[Transaction]:
    """Return the transactions of this start of the machine that were killed in the middle, newest first."""
    return [
        t for t in pending(journal) if t.state == log.OPEN and t.standing() and t.machine.boot_id == machine.boot_id
    ]


def boot_ticks(host: Host) -> int:
    """Return the time since boot in clock ticks, the unit of start times (USER_HZ is 100 on every Linux)."""
    try:
        return int(float(host.read_text("/proc/uptime").split()[0]) * 100)
    except (HalError, ValueError, IndexError):
        return 0


def _later(journal: Journal, transaction: Transaction) -> list[str]:
    """Return which later transactions stand that changed something of this one again, oldest first."""
    own = {step.change.key for _, step in transaction.standing()}
    return [
        other.identity
        for other in reversed(pending(journal))
        if other.identity > transaction.identity
        and other.machine.boot_id == transaction.machine.boot_id
        and own & {step.change.key for _, step in other.standing()}
    ]


class _Tolerant:
    """Writes what can be written: to take back needs no more than what the journal holds already, and would only be done once more."""

    def __init__(self, inner: Writer) -> None:
        self.trouble = ""
        self._inner = inner

    def append(self, record: Mapping[str, object]) -> None:
        try:
            self._inner.append(record)
        except JournalError as error:
            self.trouble = str(error)


class _Taking:
    def __init__(
        self, host: Host, writer: _Tolerant, transaction: Transaction, watch: Watcher, progress: Meter
    ) -> None:
        self._host = host
        self._writer = writer
        self._transaction = transaction
        self._watch = watch
        self._progress = progress
        self._outcomes: dict[str, list[Step]] = {"restored": [], "kept": [], "gone": [], "failed": []}
        self._refused: list[tuple[int, Step, str]] = []

    def run(self) -> Undone:
        standing = self._transaction.standing()
        heirs = self._heirs([step for _, step in standing])
        for change in heirs:
            self._one(max(self._transaction.steps, default=0) + 1, Step(change), is_new=True)
        for number, step in reversed(standing):
            self._one(number, step)
        again, self._refused = self._refused, []
        for number, step, _ in again:  # some are only taken back once another one is: an offload that rests on it
            self._one(number, replace(step, done=False))  # it may be half taken back
        for _, step, why in self._refused:
            self._note("failed", replace(step, left=why))
        restored, kept, gone, failed = (tuple(self._outcomes[name]) for name in ("restored", "kept", "gone", "failed"))
        if not failed:
            self._writer.append(log.note("closed"))
        return Undone(self._transaction.identity, restored, kept, gone, failed, unwritten=self._writer.trouble)

    def _one(self, number: int, step: Step, *, is_new: bool = False) -> None:
        change = step.change
        if is_gone(self._host, change.subject):
            self._record(number, step, "gone", "it is gone")
            return
        try:
            why = self._why_kept(step)
            if why:
                self._record(number, step, "kept", why)
                return
            if is_new:
                self._writer.append(log.intent(number, change))
                self._transaction.steps[number] = step
            lost = self._restore(number, change)
        except HalError as error:
            if is_gone(self._host, change.subject):
                self._record(number, step, "gone", "it is gone")
                return
            self._refused.append((number, step, str(error)))
            return
        self._record(number, step, "kept" if lost else "restored", lost)

    def _restore(self, number: int, change: Change) -> str:
        """Put the old value back; return why it is another that was, "" when it is the old one."""
        knob = knob_of(change.knob)
        if change.old is None and not knob.creates:
            return ""  # it was not there before: it goes with what it is on, which the same plan made
        old, lost = knob.restorable(self._host, change.subject, change.old)
        self._writer.append(log.mark("undoing", number))
        if not knob.same(old, knob.read(self._host, change.subject)):
            write_telling(knob, self._host, change.subject, old, partial(self._progress, change))
        wrong = knob.verify(self._host, change.subject, old)
        if wrong and change.reversibility == EXACT:
            raise HalError(wrong)
        return lost

    def _why_kept(self, step: Step) -> str:
        """Return why a change is not taken back, "" when it is."""
        change = step.change
        knob = all_knobs().get(change.knob)
        if knob is None:
            return "this version has no such knob"
        if change.reversibility == IRREVERSIBLE:
            return f"cannot be undone: {knob.reversal or 'it stays done'}"
        try:
            found = knob.read(self._host, change.subject)
        except NotFoundError as error:
            return "" if change.old is None else f"it is not there any more: {error}"
        # An undo that was killed may have put back something else that could be had.
        olds = dict.fromkeys((change.old, knob.restorable(self._host, change.subject, change.old)[0]))
        ours = [change.new, *olds]
        ours += [] if step.done else [one for old in olds for one in knob.between(replace(change, old=old))]
        ours += [] if step.became is None else [step.became]
        if any(knob.same(value, found) for value in ours):
            return "" if knob.same(change.old, found) else knob.keep(self._host, change.subject)
        if change.reversibility == APPROXIMATE and not step.done:
            return ""  # killed while moving: what is found lies somewhere between the two
        return f"somebody set it to {show(found)} since: it is theirs"

    def _record(self, number: int, step: Step, outcome: str, left: str) -> None:
        if number in self._transaction.steps:
            self._writer.append(log.mark("undone", number, left=left))
        self._note(outcome, replace(step, left=left, undone=not left))

    def _note(self, outcome: str, step: Step) -> None:
        self._outcomes[outcome].append(step)
        self._watch(outcome, step)

    def _heirs(self, steps: list[Step]) -> list[Change]:
        """Return the changes that give back what threads and children inherited since: they have no record of their own."""
        recorded = {step.change.key for step in steps}
        heirs: dict[tuple[str, Subject], Change] = {}
        for setting in self._transaction.follow:
            own = [step.change for step in steps if step.change.knob == setting.knob]
            for root in _roots(setting, own):
                for change in self._inherited(setting, root, own):
                    if change.key not in recorded and change.subject.start >= self._transaction.began:
                        heirs.setdefault(change.key, change)
        return list(heirs.values())

    def _inherited(self, setting: Setting, root: Subject, own: list[Change]) -> list[Change]:
        knob = knob_of(setting.knob)
        found = []
        try:
            members = knob.members(self._host, root)
        except HalError:
            return []
        for subject in members:
            old = _old_of_kin(subject, root, own)
            try:
                inherited = knob.same(setting.value, knob.read(self._host, subject))
            except HalError:
                continue
            if inherited and old is not None and not knob.same(setting.value, old):
                found.append(Change(setting.knob, subject, old, setting.value, reason="inherited"))
        return found


def _roots(setting: Setting, own: list[Change]) -> list[Subject]:
    """Return where to look for heirs: what was named, and each process that was changed, should its parent have ended."""
    if setting.subject.kind not in OF_PROCESSES:
        return [setting.subject]
    trees = [Subject("tree", change.subject.name, change.subject.start) for change in own]
    return list(dict.fromkeys([setting.subject, *trees]))


def _old_of_kin(subject: Subject, root: Subject, own: list[Change]) -> Value:
    """Return what an heir would have had: what the process it descends from had, else any other that was changed."""
    nearest = next((change for change in own if change.subject.name == root.name), None)
    return nearest.old if nearest else (own[0].old if own else None)
