"""Counting on CPUs: everything, or what a cgroup runs there."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress

from dna.probes.counting.plan import GroupPlan, Plan
from hal.errors import HostError
from hal.host import Host
from hal.limits import descriptor_room
from hal.perf import Counts, Group, zero
from hal.pmu import online_cpus

_AT_FDCWD = -100


class CpuCounters:
    """Counters on every CPU, for the host or (``cgroup``: its directory) for a cgroup and those below it.

    Raises:
        HostError: not permitted, or the cgroup cannot be counted.
    """

    def __init__(self, host: Host, plan: Plan, *, cgroup: str | None = None) -> None:
        self._host = host
        self._plan = plan
        self._directory = -1
        self._groups: list[list[Group]] = [[] for _ in plan.groups]
        self._last: list[list[Counts]] = [[] for _ in plan.groups]
        self._cpus = online_cpus(host)
        self._covered = 0
        self.refusals: tuple[str, ...] = ()
        try:
            if cgroup is not None:
                self._directory = _open_directory(host, cgroup)
            self._open()
        except HostError:
            self.close()
            raise

    @property
    def coverage(self) -> float:
        """The share of the CPUs that are counted."""
        return self._covered / len(self._cpus)

    def _open(self) -> None:
        need = len(self._cpus) * self._plan.descriptors
        room = descriptor_room(self._host, need)
        for cpu in self._cpus:
            if room < self._plan.descriptors:
                self.refusals = ("more CPUs than file descriptors; raise the limit: ulimit -Hn",)
                return
            try:
                self._open_on(cpu)
            except HostError as error:
                if error.number in (errno.ENODEV, errno.ENXIO) and len(self._cpus) > 1:
                    continue  # went offline
                raise
            room -= self._plan.descriptors
            self._covered += 1

    def _open_on(self, cpu: int) -> None:
        pid, cgroup = (self._directory, True) if self._directory >= 0 else (-1, False)
        for i, plan in enumerate(self._plan.groups):
            events = _variant_on(plan, cpu)
            if events >= 0:
                self._groups[i].append(Group(self._host, plan.variants[events], pid=pid, cpu=cpu, cgroup=cgroup))
                self._last[i].append(zero(len(plan.names)))

    def refresh(self) -> None:
        """Nothing to follow: the kernel asks at each switch who runs."""

    def read(self) -> list[Counts]:
        """Return what each group of the plan counted since the last read, summed over CPUs; never negative."""
        return [self._difference(i) for i in range(len(self._groups))]

    def _difference(self, i: int) -> Counts:
        total = zero(len(self._plan.groups[i].names))
        for j, group in enumerate(self._groups[i]):
            now = group.read()
            if now is not None:
                total = total.plus(now.since(self._last[i][j]))
                self._last[i][j] = now
        return total

    def close(self) -> None:
        """Close all counters."""
        for groups in self._groups:
            while groups:
                groups.pop().close()
        if self._directory >= 0:
            with suppress(HostError):
                self._host.syscall("close", self._directory)
            self._directory = -1


def _variant_on(plan: GroupPlan, cpu: int) -> int:
    """Return which variant of a group counts on a CPU, -1 for none."""
    return next((i for i, cpus in enumerate(plan.cpus) if cpus is None or cpu in cpus), -1)


def _open_directory(host: Host, path: str) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return host.syscall("openat", _AT_FDCWD, ctypes.addressof(name), flags)
