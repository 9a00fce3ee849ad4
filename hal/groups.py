"""Settings that make a cgroup of its own for a target, with limits, and put its processes in it."""

from __future__ import annotations

from collections.abc import Mapping

from hal.errors import SettingError
from hal.knobs import knob_of
from hal.knobs.cgroup import GroupKnob, parent_of, plain_path
from hal.settings import Setting, Subject, Value, cgroup


def group_for(path: str, members: Subject, limits: Mapping[str, Value], *, reason: str = "") -> list[Setting]:
    """Return the settings that put the processes behind ``members`` into a group at ``path`` with these limits.

    The same settings serve v1 and v2. With v1 a process leaves its group only in the hierarchies of the controllers that the
    limits need, and stays under whatever limits others have set in the rest. Undoing gives the processes back and removes the
    group.

    Args:
        path: the group's path inside the hierarchies; groups above it are made where they are missing.
        members: a process, a tree or a cgroup.
        limits: canonical values by name of a knob on cgroups (``Knob.parse`` makes them).

    Raises:
        SettingError: the path is none, or a limit is none of a cgroup.
    """
    group = cgroup(plain_path(cgroup(path)))
    if group.name == "/":
        raise SettingError(
            "the root of the cgroups is not a group of its own", remedy="Name one below it, such as /dna/web."
        )
    controllers = sorted({_controller(name) for name in limits})
    line = _line(group.name)
    enabled = [
        Setting(f"cgroup.controller_{controller}", cgroup(parent_of(one)), True, reason)
        for one in line
        for controller in controllers
    ]
    made = [Setting("cgroup.exists", cgroup(one), True, reason) for one in line]
    limited = [Setting(name, group, value, reason) for name, value in limits.items()]
    destination = " ".join(f"{controller}={group.name}" for controller in controllers) or group.name
    return [*enabled, *made, *limited, Setting("cgroup.member", members, destination, reason)]


def _line(path: str) -> list[str]:
    """Return a group and those above it, topmost first, without the root."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def _controller(name: str) -> str:
    knob = knob_of(name)
    if not isinstance(knob, GroupKnob) or knob.creates:
        raise SettingError(
            f"{name} is no limit of a cgroup", remedy="Limits are cgroup.cpu_quota, cgroup.memory_max, ..."
        )
    return knob.controller
