"""Put a candidate in force, layer by layer, each a transaction of its own in the journal; and know whether it still is.

Only what differs is touched: layers that the next candidate has too stay. What cannot be flipped back is made once and stands. Whatever
fails leaves the layers below it in force and is told; nothing here decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hal.apply import apply
from hal.errors import HalError, NotFoundError
from hal.host import Host
from hal.journal import Journal
from hal.knobs import knob_of
from hal.knobs.knob import show
from hal.planning import make_plan
from hal.settings import Change, Plan, Setting, Subject
from hal.undo import undo
from sculpt.candidates import Candidate, Layer

type Key = tuple[str, Subject]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of putting a candidate in force."""

    in_force: Candidate
    """What is now."""
    changed: int = 0
    """Changes made and taken back."""
    took_s: float = 0.0
    error: str = ""
    """Why it is not what was wanted; "" where it is."""

    def then(self, later: Done) -> Done:
        """Return what came of this and of what was done after it, as one."""
        error = "; ".join(one for one in (self.error, later.error) if one)
        return Done(later.in_force, self.changed + later.changed, self.took_s + later.took_s, error)


@dataclass(slots=True)
class _Standing:
    """A layer in force."""

    layer: Layer
    transaction: str
    """Empty where nothing had to be done."""


@dataclass(slots=True)
class Actuator:
    """Makes and takes back layers for one workload.

    Args:
        check: asked about each plan before it is applied; returns why not, "" for go on.
    """

    host: Host
    journal: Journal
    title: str
    command: str = ""
    check: Callable[[Plan], str] = lambda _plan: ""
    last_set: dict[Key, float] = field(default_factory=dict)
    """When each setting was last made, by ``time.monotonic``."""
    _standing: list[_Standing] = field(default_factory=list)
    _made: list[_Standing] = field(default_factory=list)
    """What could not be flipped back and is no longer told of: part of the machine, and still in the journal."""

    @property
    def in_force(self) -> Candidate:
        """What is in force."""
        return Candidate(tuple(one.layer for one in self._standing))

    def plan(self, settings: Iterable[Setting], title: str = "") -> Plan:
        """Return the plan for settings on the machine as it is now.

        Raises:
            HalError: they cannot be planned.
        """
        return make_plan(self.host, settings, title=title or self.title, ours=self.journal.standing())

    def put(self, wanted: Candidate) -> Done:
        """Put a candidate in force: take back what it does not have, the uppermost first, and make what is missing."""
        began = time.monotonic()
        changed = 0
        try:
            while self._standing and not self._is_prefix(wanted):
                changed += self._take_back()
            for layer in wanted.layers[len(self._standing) :]:
                changed += self._make(layer)
        except HalError as error:
            return Done(self.in_force, changed, time.monotonic() - began, str(error))
        return Done(self.in_force, changed, time.monotonic() - began)

    def restore(self) -> Done:
        """Take back all that can be; what cannot be now stays in the journal, for ``dna undo``."""
        done = self.put(Candidate())
        return done.then(self.unmake())

    def unmake(self, name: str = "") -> Done:
        """Take back what was made though it cannot be flipped back, as far as that goes: the layer of a name, or all."""
        began = time.monotonic()
        changed, errors = 0, []
        for one in self._made[::-1]:
            if name in ("", one.layer.name):
                try:
                    changed += self._undo(one)
                except HalError as error:
                    errors.append(str(error))
                else:
                    self._made.remove(one)
        return Done(self.in_force, changed, time.monotonic() - began, "; ".join(errors))

    def lost(self) -> tuple[str, ...]:
        """Return what somebody else has set since: knob, subject and the value found."""
        found = []
        above: set[Key] = set()
        for standing in reversed(self._standing):
            changes = self._changes(standing.transaction)
            for change in changes:
                knob = knob_of(change.knob)
                if knob.is_action or knob.is_measured or change.key in above:
                    continue  # what a layer above has set again is that one's to hold
                try:
                    value = knob.read(self.host, change.subject)
                except NotFoundError:
                    continue  # it ended, which is normal
                except HalError as error:
                    found.append(f"{change.knob} of {change.subject} cannot be read: {error}")
                    continue
                if not knob.same(change.new, value):
                    found.append(f"{change.knob} of {change.subject} is {show(value)}, and we set {show(change.new)}")
            above |= {change.key for change in changes}
        return tuple(found)

    def _changes(self, transaction: str) -> list[Change]:
        if not transaction:
            return []
        return [step.change for _, step in self.journal.find(transaction).standing()]

    def _is_prefix(self, wanted: Candidate) -> bool:
        layers = tuple(one.layer for one in self._standing)
        return layers == wanted.layers[: len(layers)]

    def _make(self, layer: Layer) -> int:
        plan = self.plan(layer.settings, f"{self.title}: {layer.name}")
        if reason := self.check(plan):
            raise HalError(reason)
        applied = apply(plan, self.host, self.journal, command=self.command)
        now = time.monotonic()
        self.last_set.update((setting.key, now) for setting in layer.settings)
        self._standing.append(_Standing(layer, applied.identity))
        return len(applied.done)

    def _take_back(self) -> int:
        standing = self._standing[-1]
        changed = 0
        if standing.transaction and standing.layer.one_way:
            self._made.append(standing)
        elif standing.transaction:
            changed = self._undo(standing)
        self._standing.pop()
        return changed

    def _undo(self, standing: _Standing) -> int:
        result = undo(self.host, self.journal, standing.transaction)
        now = time.monotonic()
        self.last_set.update((setting.key, now) for setting in standing.layer.settings)
        if result.failed:
            step = result.failed[0]
            raise HalError(f"{step.change.knob} of {step.change.subject} could not be taken back: {step.left}")
        return len(result.restored)
