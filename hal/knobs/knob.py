"""What every knob is: one family of machine state whose read stands beside its write.

Deciding is not its business, nor is safety: ``hal.planning`` decides what to change, ``hal.apply`` journals, writes through the
knob, reads back and undoes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.settings import EXACT, Change, Subject, Value
from hal.subjects import accepted, resolve

RANKS = {
    "create": 10,  # groups, functions and interfaces come first: others are set on them
    "limit": 30,
    "enter": 40,  # processes enter groups whose limits stand
    "place": 50,  # threads before pages: pages that follow are then local
    "pages": 60,
    "tune": 70,
}
"""Where in a plan a knob's changes stand, low first; undoing goes the other way round."""


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a knob works on a machine."""

    works: bool
    reason: str = ""
    """Why not; where it works, a caveat."""
    remedy: str = ""


WORKS = Support(True)

type Progress = Callable[[int, int], None]
"""Told of the bytes dealt with so far, and of those there are."""


class Knob(ABC):
    """One knob. It holds no state: everything is in the machine behind ``host``."""

    name: ClassVar[str]
    """Family and knob, such as "cpu.affinity"."""
    title: ClassVar[str]
    """What it sets, in one line."""
    subject_kind: ClassVar[str]
    """The kind of subject that one change of it is on."""
    values: ClassVar[str]
    """What a value may be, for people."""
    example: ClassVar[str]
    """A value that parses."""
    rank: ClassVar[int] = RANKS["tune"]
    reversibility: ClassVar[str] = EXACT
    reversal: ClassVar[str] = ""
    """What undoing does not restore; empty where it is exact."""
    creates: ClassVar[bool] = False
    """True when it makes and removes its subject; its value is then None where there is none."""
    brings: ClassVar[tuple[str, ...]] = ()
    """Kinds of subject that come with what it makes, under names that are not known before; see also ``makes``."""
    presumes: ClassVar[tuple[str, ...]] = ()
    """Knobs that move what ``check`` holds a value against: where one of them is set in the same plan, it is not asked."""
    is_costly: ClassVar[bool] = False
    """True when reading it takes so long that it is not read of every process of a machine."""
    is_measured: ClassVar[bool] = False
    """True when the value is what is found by measuring, which moves by itself (where pages are): that it is otherwise later
    contradicts nothing."""
    is_action: ClassVar[bool] = False
    """True for something done rather than set (memory compacted, files warmed up): there is no old value, ``read`` returns
    None, and ``verify`` tells by itself whether it was done."""

    def __repr__(self) -> str:
        return self.name

    def support(self, host: Host) -> Support:
        """Say whether this machine has it, and whether this user may set it, without changing anything."""
        return WORKS

    def subjects(self, host: Host) -> Iterable[Subject]:
        """Return what the machine has of this knob's subjects; nothing for processes, which are named instead."""
        return ()

    @property
    def accepts(self) -> tuple[str, ...]:
        """Return the kinds of subject that may be named for it: its own, and those that ``members`` looks behind."""
        return accepted(self.subject_kind)

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        """Return its own subjects that are behind one named; () when that is gone.

        Raises:
            SettingError: a subject of that kind cannot be named for it.
        """
        return resolve(host, subject, self.subject_kind)

    @abstractmethod
    def parse(self, text: str) -> Value:
        """Return the canonical value of what a person wrote.

        Raises:
            SettingError: it is malformed; the message says what a value looks like.
        """

    def makes(self, subject: Subject, value: Value) -> tuple[Subject, ...]:
        """Return the subjects that are there once this is set, of knobs that make some whose names are known before."""
        return ()

    def rests_on(self, value: Value) -> tuple[Subject, ...]:
        """Return the subjects that must be there before this value can be: what an interface is put on."""
        return ()

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        """Hold a value against the machine, before anything is written.

        Raises:
            SettingError: this subject cannot take this value: a CPU that is not there, a group without that controller.
        """
        return

    def check_on(self, host: Host, subject: Subject, value: Value, below: Value) -> None:
        """Do what ``check`` does where the same plan makes what this rests on, as ``below``.

        Raises:
            SettingError: as ``check``.
        """
        self.check(host, subject, value)

    @abstractmethod
    def read(self, host: Host, subject: Subject) -> Value:
        """Return the present value in canonical form.

        Raises:
            HostError: it cannot be read; NotFoundError when the subject is gone.
        """

    @abstractmethod
    def write(self, host: Host, subject: Subject, value: Value) -> None:
        """Set it. The caller has journalled the old value, and reads back afterwards.

        Raises:
            HostError: the machine refused.
        """

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        """Return what is wrong after ``write``, "" when it took."""
        found = self.read(host, subject)
        return "" if self.same(value, found) else f"it is {show(found)} after {show(value)} was written"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        """Return what there is to tell after ``write`` that the value does not say: how much was moved, or is huge now."""
        return ""

    def same(self, wanted: Value, found: Value) -> bool:
        """Tell whether a value found is the one wanted; within noise for what is only measured."""
        return wanted == found

    def between(self, change: Change) -> tuple[Value, ...]:
        """Return the values that may be found when a kill interrupted ``write``, apart from the old and the new one."""
        return ()

    def merged(self, host: Host, earlier: Value, later: Value) -> Value:
        """Return the value of two settings of one subject: parts of both where values have parts, else the later one."""
        return later

    def replaced(self, old: Value, new: Value) -> Value:
        """Return the part of the value found that a new one replaces: what undoing puts back. All of it, as a rule."""
        return old

    def reversible(self, old: Value, new: Value) -> str:
        """Return how exactly one change can be undone: making an interface can, removing one loses what was set on it."""
        return self.reversibility

    def keep(self, host: Host, subject: Subject) -> str:
        """Return why a value of ours is not to be taken back since others rely on it by now, "" when it is."""
        return ""

    def restorable(self, host: Host, subject: Subject, old: Value) -> tuple[Value, str]:
        """Return what undoing can put back for an old value, and why it is not that itself, "" where it is."""
        return old, ""

    def pin(self, host: Host, subject: Subject, found: Value) -> str:
        """Return why the present value looks deliberate, so that only naming the subject itself changes it; else ""."""
        return ""

    def cost(self, old: Value, new: Value) -> str:
        """Return what the change costs the workload, in words."""
        return ""

    def order(self, change: Change) -> tuple[int, ...]:
        """Return where among this knob's rank a change stands (the kernel refuses some orders)."""
        return ()

    def malformed(self, text: str) -> SettingError:
        """Return the error for a value that makes no sense."""
        return SettingError(f"{self.name}: {text!r} is no value of it", remedy=f"It takes {self.values}.")


class SlowKnob(Knob):
    """A knob whose ``write`` may take long, and tells how far it is."""

    @abstractmethod
    def write(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _done, _of: None
    ) -> None:
        """Set it, as ``Knob.write`` does."""


def write_telling(knob: Knob, host: Host, subject: Subject, value: Value, progress: Progress) -> None:
    """Set a knob, and let it tell how far it is where that takes long.

    Raises:
        HostError: the machine refused.
    """
    if isinstance(knob, SlowKnob):
        knob.write(host, subject, value, progress=progress)
    else:
        knob.write(host, subject, value)


def show(value: Value) -> str:
    """Return a value as people read it."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if value != "" else '""'


def whole_number(knob: Knob, text: str, *, least: int, most: int) -> int:
    """Return a number within bounds.

    Raises:
        SettingError: it is none, or out of them.
    """
    digits = text.strip()
    # Not int() alone: that takes "1_000", "٣" and " 7".
    if not digits.removeprefix("-").isascii() or not digits.removeprefix("-").isdigit() or len(digits) > 20:
        raise knob.malformed(text)
    number = int(digits)
    if not least <= number <= most:
        raise knob.malformed(text)
    return number


def one_of(knob: Knob, text: str, choices: Iterable[str]) -> str:
    """Return the choice that a text is.

    Raises:
        SettingError: it is none of them.
    """
    word = text.strip().lower()
    if word not in choices:
        raise knob.malformed(text)
    return word


def on_or_off(knob: Knob, text: str) -> bool:
    """Return a switch's value.

    Raises:
        SettingError: it is neither.
    """
    word = one_of(knob, text, ("on", "off", "1", "0", "yes", "no", "true", "false"))
    return word in ("on", "1", "yes", "true")
