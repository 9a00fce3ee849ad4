"""Plans and settings as JSON: what is saved today is applied unchanged later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hal.errors import PlanError, SettingError
from hal.knobs import all_knobs
from hal.settings import REVERSIBILITY, Change, LeftOut, MachineId, Plan, ServerConfig, Setting, Subject, Value

PLAN_SCHEMA = "workload-dna/plan/1"
CONFIG_SCHEMA = "workload-dna/config/1"


def plan_to_dict(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON data; docs/plan-json.md describes it."""
    return {
        "schema": PLAN_SCHEMA,
        "title": plan.title,
        "created": plan.created,
        "machine": {"hostname": plan.machine.hostname, "boot_id": plan.machine.boot_id},
        "changes": [change_to_dict(change) for change in plan.changes],
        "follow": [setting_to_dict(setting) for setting in plan.follow],
        "left_out": [
            {**setting_to_dict(left.setting), "why": left.reason, "remedy": left.remedy} for left in plan.left_out
        ],
        "notes": list(plan.notes),
    }


def plan_from_text(text: str, name: str = "the plan") -> Plan:
    """Return the plan in a JSON text.

    Raises:
        PlanError: it is no plan, of a newer version, or damaged; ``name`` says which file in the message.
    """
    data = _parse(text, name, PLAN_SCHEMA, "write one with `dna set ... --out FILE` or `dna advise --out FILE`")
    try:
        plan = Plan(
            changes=tuple(change_from_dict(item) for item in data["changes"]),
            machine=MachineId(str(data["machine"]["hostname"]), str(data["machine"]["boot_id"])),
            created=float(data["created"]),
            title=str(data.get("title", "")),
            follow=tuple(setting_from_dict(item) for item in data.get("follow", [])),
            left_out=tuple(
                LeftOut(setting_from_dict(item), str(item["why"]), str(item.get("remedy", "")))
                for item in data.get("left_out", [])
            ),
            notes=tuple(str(note) for note in data.get("notes", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{name} is damaged: {type(error).__name__}: {error}", remedy="make it again") from error
    for change in plan.changes:
        _refuse_malformed(change, name)
    return plan


def config_to_dict(config: ServerConfig, machine: MachineId) -> dict[str, object]:
    """Return a configuration as JSON data."""
    return {
        "schema": CONFIG_SCHEMA,
        "machine": {"hostname": machine.hostname, "boot_id": machine.boot_id},
        "settings": [setting_to_dict(setting) for setting in config],
    }


def config_from_text(text: str, name: str = "the configuration") -> tuple[ServerConfig, MachineId]:
    """Return the configuration in a JSON text, and of which machine it is.

    Raises:
        PlanError: it is none, of a newer version, or damaged.
    """
    data = _parse(text, name, CONFIG_SCHEMA, "write one with `dna config show --json`")
    try:
        settings = [setting_from_dict(item) for item in data["settings"]]
        machine = MachineId(str(data["machine"]["hostname"]), str(data["machine"]["boot_id"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{name} is damaged: {type(error).__name__}: {error}", remedy="make it again") from error
    return ServerConfig.of(settings), machine


def subject_to_dict(subject: Subject) -> dict[str, object]:
    """Return a subject as JSON data; the start time only where there is one."""
    data: dict[str, object] = {"kind": subject.kind, "name": subject.name}
    return {**data, "start": subject.start} if subject.start else data


def subject_from_dict(data: Mapping[str, Any]) -> Subject:
    """Return the subject in JSON data."""
    return Subject(str(data["kind"]), str(data["name"]), int(data.get("start", 0)))


def setting_to_dict(setting: Setting) -> dict[str, object]:
    """Return a setting as JSON data."""
    return {
        "knob": setting.knob,
        "subject": subject_to_dict(setting.subject),
        "value": setting.value,
        "reason": setting.reason,
    }


def setting_from_dict(data: Mapping[str, Any]) -> Setting:
    """Return the setting in JSON data."""
    subject = subject_from_dict(data["subject"])
    return Setting(str(data["knob"]), subject, value_of(data["value"]), str(data.get("reason", "")))


def change_to_dict(change: Change) -> dict[str, object]:
    """Return a change as JSON data."""
    return {
        "knob": change.knob,
        "subject": subject_to_dict(change.subject),
        "label": change.label,
        "old": change.old,
        "new": change.new,
        "reason": change.reason,
        "reversibility": change.reversibility,
        "cost": change.cost,
    }


def change_from_dict(data: Mapping[str, Any]) -> Change:
    """Return the change in JSON data."""
    if data["reversibility"] not in REVERSIBILITY:
        raise ValueError(f"reversibility {data['reversibility']!r}")
    return Change(
        str(data["knob"]),
        subject_from_dict(data["subject"]),
        value_of(data["old"]),
        value_of(data["new"]),
        reason=str(data.get("reason", "")),
        reversibility=str(data["reversibility"]),
        cost=str(data.get("cost", "")),
        label=str(data.get("label", "")),
    )


def value_of(data: object) -> Value:
    """Return a value from JSON data.

    Raises:
        TypeError: it is a number with a fraction, a list or an object.
    """
    if data is None or isinstance(data, str | int):
        return data
    raise TypeError(f"{data!r} is no value")


def _parse(text: str, name: str, schema: str, remedy: str) -> Any:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise PlanError(f"{name} is not JSON: {error}", remedy=remedy) from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found == schema:
        return data
    if isinstance(found, str) and found.rpartition("/")[0] == schema.rpartition("/")[0]:
        raise PlanError(f"{name} was written by another version ({found})", remedy=f"this one reads {schema}")
    raise PlanError(f"{name} is not a {schema.split('/')[1]} ({schema})", remedy=remedy)


def _refuse_malformed(change: Change, name: str) -> None:
    """A plan may have been edited by hand: hold it to what its knobs take."""
    knob = all_knobs().get(change.knob)
    if knob is None:
        raise PlanError(f"{name}: there is no knob {change.knob!r}", remedy="see `dna config knobs`")
    if change.subject.kind != knob.subject_kind:
        raise PlanError(f"{name}: {change.knob} is set on a {knob.subject_kind}, not on a {change.subject.kind}")
    if change.new is None or isinstance(change.new, bool):
        return
    try:
        parsed = knob.parse(str(change.new))
    except SettingError as error:
        raise PlanError(f"{name}: {error}", remedy=error.remedy) from error
    if parsed != change.new:
        raise PlanError(f"{name}: {change.knob}: {change.new!r} is not in canonical form, which is {parsed!r}")
