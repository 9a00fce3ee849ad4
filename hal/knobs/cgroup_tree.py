"""Cgroups themselves: that there is one, and which controllers its children have."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

from hal import cgroups
from hal.cgroups import CONTROLLERS
from hal.errors import HostError, NotFoundError
from hal.host import Host
from hal.knobs.cgroup import (
    GroupKnob,
    Place,
    depth,
    enabled_in,
    may_write,
    no_controller,
    no_group,
    places,
    plain_path,
)
from hal.knobs.knob import RANKS, Knob, Support, on_or_off, one_of
from hal.settings import Change, Subject, Value, cgroup

_RETRIES = 10
_PAUSE_S = 0.02


class Exists(Knob):
    """Whether there is a group, in every hierarchy of a controller that has knobs."""

    name = "cgroup.exists"
    title = "Whether there is a cgroup"
    values = "on"
    example = "on"
    subject_kind = "cgroup"
    rank = RANKS["create"]
    creates = True

    def support(self, host: Host) -> Support:
        mounts = places(host)
        return may_write(host, mounts) if mounts else no_controller("cpu")

    def subjects(self, host: Host) -> Iterator[Subject]:
        found = {path for mount in places(host) for path in cgroups.groups(host, mount)}
        return (cgroup(path) for path in sorted(found - {"/"}))

    def parse(self, text: str) -> bool:
        # There is no "off": dna removes what it made, when it takes it back.
        one_of(self, text, ("on", "1", "yes", "true"))
        return True

    def makes(self, subject: Subject, value: Value) -> tuple[Subject, ...]:
        return (subject,)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        plain_path(subject)

    def read(self, host: Host, subject: Subject) -> Value:
        """Return True, None, or the controllers in whose v1 hierarchies it is when it is not in all of them."""
        path = plain_path(subject)
        homes = cgroups.homes(host)
        there = {mount for mount in places(host) if host.exists(Place(path, mount).file("cgroup.procs"))}
        if not there:
            return None
        return True if there == set(places(host)) else ",".join(c for c in homes if homes[c] in there)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        path = plain_path(subject)
        if value is True:
            for mount in places(host):
                self._make(host, Place(path, mount))
            return
        kept = set(str(value or "").split(","))
        homes = cgroups.homes(host)
        for mount in reversed(places(host)):
            if not any(homes.get(name) == mount for name in kept):
                self._remove(host, Place(path, mount))

    def between(self, change: Change) -> tuple[Value, ...]:
        sizes = range(1, len(CONTROLLERS))
        return tuple(",".join(some) for size in sizes for some in itertools.combinations(CONTROLLERS, size))

    def order(self, change: Change) -> tuple[int, ...]:
        return (depth(change.subject.name), 0)

    def _make(self, host: Host, place: Place) -> None:
        if not host.exists(place.file("cgroup.procs")):
            try:
                host.make_dir(place.directory)
            except NotFoundError as error:
                raise no_group(place.parent) from error
        if "cpuset" in place.hierarchy.controllers:
            for name in ("cpuset.cpus", "cpuset.mems"):
                _inherit(host, place, name)

    def _remove(self, host: Host, place: Place) -> None:
        if not host.exists(place.file("cgroup.procs")):
            return
        for attempt in range(_RETRIES):
            inside = cgroups.pids_in(host, place.directory)
            below = cgroups.children(host, place.directory)
            if inside or below:
                what = f"processes {', '.join(map(str, sorted(inside)))}" if inside else f"groups {', '.join(below)}"
                raise HostError(f"the cgroup {place.path} still has {what}", subject=place.path)
            try:
                host.remove_dir(place.directory)
            except HostError as error:
                # The last process is counted until it is quite gone: a moment.
                if error.number != errno.EBUSY or attempt == _RETRIES - 1:
                    raise
                host.sleep(_PAUSE_S)
            else:
                return


def _inherit(host: Host, place: Place, name: str) -> None:
    """Give an empty v1 cpuset what its parent has: no process can enter it otherwise (cpuset(7))."""
    if host.read_text(place.file(name)).strip():
        return
    try:
        host.write_text(place.file(name), host.read_text(place.parent.file(name)).strip())
    except HostError as error:
        # Beside an exclusive one there may be nothing left for it. It serves its other controllers all the same.
        if error.number != errno.EINVAL:
            raise


class Controller(GroupKnob):
    """Whether a group's children have a controller: a matter of v2, where it is switched on level by level.

    In v1 every group of a hierarchy has its controllers, so that there it is always on.
    """

    values = "on, off"
    example = "on"
    rank = RANKS["create"]
    creates = True  # of the controller's files in the children
    brings = ("cgroup",)
    file_v1 = file_v2 = "cgroup.subtree_control"
    untouched: ClassVar[Mapping[str, str]]
    """What the controller's files hold in a group that nobody set anything on."""

    def subjects(self, host: Host) -> Iterator[Subject]:
        home = cgroups.homes(host).get(self.controller)
        if home is not None and home.version == 2:
            for path in cgroups.groups(host, home):
                if self.controller in enabled_in(host, Place(path, home)):
                    yield cgroup(path)

    def parse(self, text: str) -> Value:
        return True if on_or_off(self, text) else None

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        plain_path(subject)

    def read(self, host: Host, subject: Subject) -> Value:
        home = cgroups.homes(host).get(self.controller)
        if home is not None and home.version == 1:
            return True
        place = self.place(host, subject)
        return True if self.controller in self.get(host, place, self.file_v2).split() else None

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        if self.read(host, subject) != value:
            self.put(host, self.place(host, subject), self.file_v2, f"{'+' if value else '-'}{self.controller}")

    def keep(self, host: Host, subject: Subject) -> str:
        place = self.place(host, subject)
        if place.version == 1:
            return ""
        for name in cgroups.children(host, place.directory):
            for file, untouched in self.untouched.items():
                try:
                    found = host.read_text(f"{place.directory}/{name}/{file}").strip()
                except HostError:
                    continue
                if found != untouched:
                    return f"{place.path.rstrip('/')}/{name} has {file} {found} by now, which would be lost"
        return ""

    def order(self, change: Change) -> tuple[int, ...]:
        return (depth(change.subject.name), 1)

    def refusal(self, host: Host, place: Place, number: int) -> str:
        return {
            errno.EBUSY: "in cgroup v2 a group with processes of its own has no controllers for children"
            " (or, switching off, one of them hands it on)",
            errno.EOPNOTSUPP: "it is part of a threaded subtree",
            errno.ENOENT: f"its own parent gives it no {self.controller} controller",
        }.get(number, "")


class ControllerCpu(Controller):
    """CPU time."""

    name = "cgroup.controller_cpu"
    title = "Whether a cgroup's children have the cpu controller"
    controller = "cpu"
    untouched: ClassVar[Mapping[str, str]] = {"cpu.weight": "100", "cpu.max": "max 100000", "cpu.idle": "0"}


class ControllerCpuset(Controller):
    """CPUs and memory nodes."""

    name = "cgroup.controller_cpuset"
    title = "Whether a cgroup's children have the cpuset controller"
    controller = "cpuset"
    untouched: ClassVar[Mapping[str, str]] = {"cpuset.cpus": "", "cpuset.mems": "", "cpuset.cpus.partition": "member"}


class ControllerIo(Controller):
    """Input and output on block devices."""

    name = "cgroup.controller_io"
    title = "Whether a cgroup's children have the io controller"
    controller = "io"
    untouched: ClassVar[Mapping[str, str]] = {
        "io.max": "",
        "io.latency": "",
        "io.weight": "default 100",
        "io.bfq.weight": "default 100",
    }


class ControllerMemory(Controller):
    """Memory."""

    name = "cgroup.controller_memory"
    title = "Whether a cgroup's children have the memory controller"
    controller = "memory"
    untouched: ClassVar[Mapping[str, str]] = {
        "memory.max": "max",
        "memory.high": "max",
        "memory.low": "0",
        "memory.min": "0",
        "memory.swap.max": "max",
    }


class ControllerPids(Controller):
    """Numbers of processes."""

    name = "cgroup.controller_pids"
    title = "Whether a cgroup's children have the pids controller"
    controller = "pids"
    untouched: ClassVar[Mapping[str, str]] = {"pids.max": "max"}


KNOBS: tuple[Knob, ...] = (
    Exists(),
    ControllerCpu(),
    ControllerCpuset(),
    ControllerIo(),
    ControllerMemory(),
    ControllerPids(),
)
