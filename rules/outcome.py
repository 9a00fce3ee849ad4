"""What advice comes to on a machine: the plan, and of each setting whether it changes anything there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from hal.errors import HalError, SettingError
from hal.host import Host
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Change, LeftOut, Plan, ServerConfig, Setting, Subject, Value
from rules.advice import Advice, Proposal

type Key = tuple[str, Subject]

CHANGES, ALREADY, LEFT_OUT = "changes", "already", "left out"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one setting."""

    setting: Setting
    state: str
    """CHANGES, ALREADY (it is so now) or LEFT_OUT."""
    changes: tuple[Change, ...] = ()
    because: str = ""
    """Why it is left out, or a part of it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A proposal that this machine cannot take."""

    proposal: Proposal
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What advice comes to."""

    plan: Plan
    proposals: tuple[tuple[Proposal, tuple[Fate, ...]], ...]
    """Those that can be made, with what becomes of their settings."""
    refused: tuple[Refused, ...] = ()

    @property
    def makes_no_difference(self) -> bool:
        """Tell whether there is nothing to change."""
        return not self.plan.changes and not self.plan.follow


def outcome(
    host: Host, advice: Advice, *, title: str = "", ours: Mapping[Key, Value] | None = None, notes: Iterable[str] = ()
) -> Outcome:
    """Return what advice comes to on the machine behind a host; nothing is changed.

    A proposal that the machine cannot take is left out whole, with the reason; the others stand.

    Args:
        ours: see ``hal.planning.make_plan``.
        notes: what the plan should say besides.
    """

    def plan_of(settings: Iterable[Setting]) -> Plan:
        return make_plan(host, settings, title=title, ours=ours)

    proposals, refused = _possible(advice.proposals, plan_of)
    # Of equal settings the weightiest gives the reason, as in the advice itself.
    config = ServerConfig.of(setting for proposal in reversed(proposals) for setting in reversed(proposal.settings()))
    plan = plan_of(config)
    plan = replace(plan, notes=(*plan.notes, *notes))
    return Outcome(plan, tuple((one, _fates(host, one, plan)) for one in proposals), tuple(refused))


def _possible(
    proposals: Iterable[Proposal], plan_of: Callable[[Iterable[Setting]], Plan]
) -> tuple[list[Proposal], list[Refused]]:
    """Return the proposals that a plan can be made for, and the others: one wrong setting must not cost the rest."""
    possible: list[Proposal] = []
    refused: list[Refused] = []
    for proposal in proposals:
        try:
            plan_of(proposal.settings())
        except SettingError as error:
            refused.append(Refused(proposal, str(error), error.remedy))
        else:
            possible.append(proposal)
    return possible, refused


def _fates(host: Host, proposal: Proposal, plan: Plan) -> tuple[Fate, ...]:
    return tuple(_fate(host, setting, plan) for setting in proposal.settings())


def _fate(host: Host, setting: Setting, plan: Plan) -> Fate:
    members = {setting.subject, *_members(host, setting)}
    changes = tuple(change for change in plan.changes if change.knob == setting.knob and change.subject in members)
    left = [one for one in plan.left_out if one.setting.knob == setting.knob and one.setting.subject in members]
    because = _because(left)
    state = CHANGES if changes else LEFT_OUT if left else ALREADY
    return Fate(setting, state, changes, because)


def _because(left: list[LeftOut]) -> str:
    return "; ".join(dict.fromkeys(f"{one.reason} ({one.remedy})" if one.remedy else one.reason for one in left[:3]))


def _members(host: Host, setting: Setting) -> tuple[Subject, ...]:
    try:
        return knob_of(setting.knob).members(host, setting.subject)
    except HalError:
        return ()
