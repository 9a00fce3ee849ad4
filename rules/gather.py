"""Gathering what rules are evaluated on: the machine, live or described, and the workloads on it, running or recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from hal.described import described
from hal.host import Host, LinuxHost
from hal.machine import Machine as Hardware
from hal.machine import named
from rules.errors import RuleError
from rules.gather_machine import MachineReader
from rules.gather_workload import live_workload, workload_of
from rules.situation import Machine
from rules.tables import MACHINE

__all__ = [
    "MachineReader",
    "described_host",
    "described_machine",
    "live_workload",
    "read_machine",
    "with_facts",
    "workload_of",
]


def read_machine(host: Host) -> Machine:
    """Return the machine behind a host. Who reads again and again keeps a ``MachineReader``, which also knows the idle share.

    Raises:
        TopologyError: not even the CPUs can be told.
    """
    return MachineReader(host).read()


def described_machine(text: str, facts: Mapping[str, object] = {}) -> Machine:
    """Return a machine as ``--topology`` takes it: an hwloc XML file, a captured folder, or a synthetic description.

    It is as after a start, with nothing running and nothing set; what its description does not say is unknown.

    Args:
        facts: facts behind ``m.`` that are known otherwise, such as ``{"virtual": False}``.

    Raises:
        TopologyError: it is none of these.
        RuleError: there is no such fact.
    """
    return with_facts(MachineReader(*described_host(text)).read(), facts)


def described_host(text: str) -> tuple[Host, Hardware | None]:
    """Return a described machine as a host, and what it is where its files do not say.

    Raises:
        TopologyError: see ``described_machine``.
    """
    if os.path.isdir(os.path.join(text, "sys")):
        return LinuxHost(root=os.path.abspath(text)), None
    hardware = named(text)
    return described(hardware.topology), hardware


def with_facts(machine: Machine, facts: Mapping[str, object]) -> Machine:
    """Return a machine with some facts of ``m.`` set otherwise.

    Raises:
        RuleError: there is no such fact.
    """
    known = {fact.name for fact in MACHINE}
    for name in facts:
        if name not in known:
            from rules.words import unknown

            problem = unknown(f"m.{name}")
            raise RuleError(problem.message, remedy=problem.remedy)
    return replace(machine, values={**machine.values, **facts})
