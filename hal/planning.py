"""From what is wanted to a plan: resolve subjects, observe what is touched, and take the difference."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hal import owners
from hal.errors import HalError, HostError, NotFoundError, SettingError
from hal.glimpse import glimpse
from hal.host import Host
from hal.knobs import all_knobs, knob_of
from hal.knobs.knob import Support
from hal.processes import threads_of
from hal.settings import (
    EXACT,
    OF_PROCESSES,
    Change,
    LeftOut,
    MachineId,
    Plan,
    ServerConfig,
    Setting,
    Subject,
    Value,
)
from hal.subjects import is_gone, label, untouchable

type Key = tuple[str, Subject]

_SPECIFIC = ("cgroup", "tree", "process", "thread")
"""Of two settings of one thread, the one on the narrower subject counts; likewise of one interrupt, the one not on its device."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is wanted, on subjects that the kernel knows."""

    config: ServerConfig
    follow: tuple[Setting, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read, and of what could not be the reason."""

    config: ServerConfig
    unread: Mapping[Key, str]
    remedies: Mapping[Key, str] = field(default_factory=dict)


def machine_id(host: Host) -> MachineId:
    """Return which machine this is, and since which start."""
    return MachineId(
        _text(host, "/proc/sys/kernel/hostname") or "unknown", _text(host, "/proc/sys/kernel/random/boot_id")
    )


def make_plan(
    host: Host,
    wanted: Iterable[Setting],
    *,
    title: str = "",
    ours: Mapping[Key, Value] | None = None,
) -> Plan:
    """Return what it takes to get from the present configuration to the one wanted; nothing is written.

    Args:
        ours: values that dna itself set before (``Journal.standing``): they are no pins of somebody else's.

    Raises:
        SettingError: a knob, subject or value makes no sense.
    """
    host = glimpse(host)
    found = resolve_all(host, wanted, ours or {})
    observed = observe(host, (setting.key for setting in found.config), coming=_creates(found.config))
    plan = diff(observed.config, found.config, machine=machine_id(host), created=time.time(), title=title)
    unread = [
        LeftOut(s, observed.unread[s.key], observed.remedies.get(s.key, ""))
        for s in found.config
        if s.key in observed.unread
    ]
    changes = tuple(replace(change, label=label(host, change.subject)) for change in plan.changes)
    return replace(
        plan,
        changes=changes,
        follow=found.follow,
        left_out=(*found.left_out, *unread),
        notes=(
            *owners.notes(host, {change.knob for change in changes}),
            *owners.group_notes(changes),
            *_irreversible(changes),
        ),
    )


def resolve_all(host: Host, wanted: Iterable[Setting], ours: Mapping[Key, Value]) -> Resolved:
    """Resolve settings on trees, processes and cgroups into those on each member.

    Left alone unless named themselves: kernel threads, pid 1, dna, and threads that somebody pinned.

    Raises:
        SettingError: see ``make_plan``.
    """
    settings = sorted(wanted, key=_specificity)
    named = {(s.knob, name) for s in settings for name in _names(host, s.subject)}
    supports: dict[str, Support] = {}
    made: dict[Key, Setting] = {}
    left: list[LeftOut] = []
    follow: dict[Key, Setting] = {}
    for setting in settings:
        knob = knob_of(setting.knob)
        if setting.knob not in supports:
            supports[setting.knob] = knob.support(host)
        support = supports[setting.knob]
        if not support.works:
            left.append(LeftOut(setting, support.reason, support.remedy))
            continue
        members = knob.members(host, setting.subject)
        if not members:
            left.append(LeftOut(setting, "it is gone"))
        if members != (setting.subject,):
            follow[setting.key] = _merged(host, follow.get(setting.key), setting)
        for subject in members:
            one = replace(setting, subject=subject)
            why = "" if _is_named(setting, subject, named) else left_alone(host, one, ours)
            if why:
                left.append(LeftOut(one, why, _name_it(subject)))
                continue
            made[one.key] = _merged(host, made.get(one.key), one)
    _check(host, tuple(made.values()))
    return Resolved(ServerConfig.of(made.values()), tuple(follow.values()), tuple(left))


def _merged(host: Host, earlier: Setting | None, later: Setting) -> Setting:
    """Return one setting for two of the same knob and subject, each of which may be on parts of the value."""
    if earlier is None:
        return later
    value = knob_of(later.knob).merged(host, earlier.value, later.value)
    reasons = [later.reason] if value == later.value else [earlier.reason, later.reason]
    return replace(later, value=value, reason="; ".join(dict.fromkeys(filter(None, reasons))))


def _check(host: Host, settings: Sequence[Setting]) -> None:
    """Hold settings against the machine; those on what the plan itself makes, or moves, cannot be yet.

    Raises:
        SettingError: one makes no sense here.
    """
    coming = _coming(host, settings)
    brought = {kind for setting in settings if setting.value is not None for kind in knob_of(setting.knob).brings}
    moved = {setting.knob for setting in settings if setting.subject not in coming}
    for setting in settings:
        knob = knob_of(setting.knob)
        is_to_come = setting.subject in coming or (setting.subject.kind in brought and _is_absent(host, setting))
        below = next((coming[one] for one in knob.rests_on(setting.value) if one in coming), None)
        if below is not None:
            knob.check_on(host, setting.subject, setting.value, below.value)
        elif knob.creates or not (is_to_come or moved & set(knob.presumes)):
            knob.check(host, setting.subject, setting.value)


def _coming(host: Host, settings: Iterable[Setting]) -> dict[Subject, Setting]:
    """Return the subjects that the plan makes and that are not there now, each with the setting that makes it."""
    making = ((setting, knob_of(setting.knob).makes(setting.subject, setting.value)) for setting in settings)
    return {subject: setting for setting, made in making if made and _is_absent(host, setting) for subject in made}


def _is_absent(host: Host, setting: Setting) -> bool:
    """Tell whether what a setting is on is not there, or the setting itself; processes are, or have ended."""
    if setting.subject.kind in OF_PROCESSES:
        return False
    try:
        found = knob_of(setting.knob).read(host, setting.subject)
    except NotFoundError:
        return True
    except HalError:
        return False
    return found is None and knob_of(setting.knob).creates


def left_alone(host: Host, setting: Setting, ours: Mapping[Key, Value]) -> str:
    """Return why a member that was not named itself is left alone, "" when it is not."""
    reason = untouchable(host, setting.subject)
    if reason:
        return reason
    knob = knob_of(setting.knob)
    try:
        found = knob.read(host, setting.subject)
    except HostError:
        return ""
    if knob.same(setting.value, found) or (setting.key in ours and knob.same(ours[setting.key], found)):
        return ""
    return knob.pin(host, setting.subject, found)


def observe(host: Host, keys: Iterable[Key], *, coming: bool = False) -> Observed:
    """Read the present values of these settings.

    Args:
        coming: what is not there (other than a process) counts as absent, since the plan itself will make it.
    """
    knobs = all_knobs()
    found: list[Setting] = []
    unread: dict[Key, str] = {}
    remedies: dict[Key, str] = {}
    for name, subject in keys:
        try:
            found.append(Setting(name, subject, knobs[name].read(host, subject)))
        except NotFoundError as error:
            gone = is_gone(host, subject)
            if coming and not gone:
                found.append(Setting(name, subject, None))
            else:
                unread[name, subject] = "it is gone" if gone else str(error)
                remedies[name, subject] = "" if gone else error.remedy
        except HalError as error:
            unread[name, subject] = str(error)
            remedies[name, subject] = error.remedy
    return Observed(ServerConfig.of(found), unread, remedies)


def diff(
    observed: ServerConfig, desired: ServerConfig, *, machine: MachineId, created: float = 0.0, title: str = ""
) -> Plan:
    """Return the ordered changes from one configuration to another; pure.

    A setting that was not observed cannot be planned for, since what is not known cannot be put back; it is left out.

    Raises:
        SettingError: two changes would make what the other rests on.
    """
    present = observed.values()
    changes = [
        change_of(setting, present[setting.key])
        for setting in desired
        if setting.key in present and _differs(setting, present[setting.key])
    ]
    return Plan(_ordered(changes), machine, created, title)


def _ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return changes by position, save that what one rests on comes before it."""
    waiting = sorted(changes, key=position)
    makers = {made: one for one in waiting for made in knob_of(one.knob).makes(one.subject, one.new)}
    placed: dict[Key, Change] = {}

    def place(change: Change, above: tuple[Change, ...] = ()) -> None:
        if change in above:
            names = " and ".join(str(one.subject) for one in above)
            raise SettingError(f"{change.knob}: {names} would rest on each other", remedy="Put one on something else.")
        for below in knob_of(change.knob).rests_on(change.new):
            if below in makers:
                place(makers[below], (*above, change))
        placed.setdefault(change.key, change)

    for change in waiting:
        place(change)
    return tuple(placed.values())


def change_of(setting: Setting, old: Value) -> Change:
    """Return the change that makes a setting where there was ``old``."""
    knob = knob_of(setting.knob)
    old = knob.replaced(old, setting.value)
    return Change(
        setting.knob,
        setting.subject,
        old,
        setting.value,
        reason=setting.reason,
        reversibility=knob.reversible(old, setting.value),
        cost=knob.cost(old, setting.value),
    )


def position(change: Change) -> tuple[object, ...]:
    """Return where in a plan a change stands: by the knob's rank, then by what the kernel wants first."""
    knob = knob_of(change.knob)
    number = int(change.subject.name) if change.subject.name.isdigit() else 0
    return (knob.rank, knob.order(change), change.knob, change.subject.kind, number, change.subject.name)


def _differs(setting: Setting, found: Value) -> bool:
    knob = knob_of(setting.knob)
    return knob.is_action or not knob.same(setting.value, found)


def _creates(settings: Iterable[Setting]) -> bool:
    return any(setting.value is not None and knob_of(setting.knob).creates for setting in settings)


def _specificity(setting: Setting) -> tuple[int, bool]:
    kind = setting.subject.kind
    return (_SPECIFIC.index(kind) if kind in _SPECIFIC else 9, kind == knob_of(setting.knob).subject_kind)


def _names(host: Host, subject: Subject) -> tuple[str, ...]:
    """Return the ids that naming a subject names: a process's threads, but not its children."""
    if subject.kind in ("process", "tree"):
        return (subject.name, *map(str, threads_of(host, int(subject.name))))
    return (subject.name,) if subject.kind == "thread" else ()


def _is_named(setting: Setting, member: Subject, named: set[tuple[str, str]]) -> bool:
    if member.kind in OF_PROCESSES:
        return (setting.knob, member.name) in named
    return member == setting.subject  # a device does not name an interrupt of its that the kernel keeps


def _name_it(subject: Subject) -> str:
    if subject.kind not in OF_PROCESSES:
        return ""
    option = "--tid" if subject.kind == "thread" else "--pid"
    return f"to change it all the same, name it: {option} {subject.name}"


def _irreversible(changes: Iterable[Change]) -> list[str]:
    names = sorted({change.knob for change in changes if change.reversibility != EXACT})
    return [f"{name}: undoing does not restore {knob_of(name).reversal}" for name in names]


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""
