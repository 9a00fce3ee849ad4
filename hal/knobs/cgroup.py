"""Cgroups: what the knobs of one share, v1 and v2 behind one interface, and the limit on processes.

A cgroup is named by its path inside the hierarchies, the same in each. Every controller has one home, a v1 hierarchy or the unified
one of v2; a knob's value means the same in both. Where v1 has nothing of the kind, the knob says so and pretends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from hal import cgroups
from hal.cgroups import Hierarchy
from hal.errors import HostError, KnobUnsupportedError, NotFoundError, SettingError, UnsupportedError
from hal.host import Host
from hal.knobs.knob import RANKS, WORKS, Knob, Support, whole_number
from hal.settings import Change, Subject, Value, cgroup

UNIFIED = "boot with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
_MOST_PROCESSES = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h


@dataclass(frozen=True, slots=True)
class Place:
    """A group's directory in the hierarchy that has a controller."""

    path: str
    """Inside the hierarchy; "/" is the root."""
    hierarchy: Hierarchy

    @property
    def version(self) -> int:
        """Return 1 or 2."""
        return self.hierarchy.version

    @property
    def directory(self) -> str:
        """Return the directory, without a slash at the end."""
        return (self.hierarchy.mount + self.path).rstrip("/")

    @property
    def parent(self) -> Place:
        """Return the group above; the root's is itself."""
        return Place(parent_of(self.path), self.hierarchy)

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.directory}/{name}"


class GroupKnob(Knob):
    """A knob on a cgroup that belongs to one controller."""

    subject_kind = "cgroup"
    rank = RANKS["limit"]
    controller: ClassVar[str]
    """As v2 names it."""
    file_v2: ClassVar[str]
    file_v1: ClassVar[str] = ""
    """"" where a v1 hierarchy has nothing of the kind; ``only_v2`` then says so."""
    only_v2: ClassVar[str] = ""

    def support(self, host: Host) -> Support:
        home = cgroups.homes(host).get(self.controller)
        if home is None:
            return no_controller(self.controller)
        if home.version == 1 and not self.file_v1:
            return Support(False, self.only_v2, UNIFIED)
        return may_write(host, (home,))

    def subjects(self, host: Host) -> Iterator[Subject]:
        home = cgroups.homes(host).get(self.controller)
        if home is None or not self._file_name(home):
            return
        for path in cgroups.groups(host, home):
            if path != "/" and host.exists(Place(path, home).file(self._file_name(home))):
                yield cgroup(path)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if subject.name == "/":
            raise SettingError(f"{self.name}: the root of the cgroups has no limits", remedy="Name a group below it.")

    def place(self, host: Host, subject: Subject) -> Place:
        """Return where a group is.

        Raises:
            NotFoundError: there is no such group.
            KnobUnsupportedError: no mounted hierarchy has the controller.
        """
        home = cgroups.homes(host).get(self.controller)
        if home is None:
            support = no_controller(self.controller)
            raise KnobUnsupportedError(f"{self.name}: {support.reason}", remedy=support.remedy)
        place = Place(plain_path(subject), home)
        if not host.exists(place.file("cgroup.procs")):
            raise no_group(place)
        return place

    def get(self, host: Host, place: Place, name: str) -> str:
        """Return the content of one of the group's files, without the space around it."""
        try:
            return host.read_text(place.file(name)).strip()
        except NotFoundError as error:
            raise self._absent(host, place, name) from error

    def put(self, host: Host, place: Place, name: str, text: str) -> None:
        """Write one of the group's files; where the kernel refuses, say what its errno means here."""
        try:
            host.write_text(place.file(name), text)
        except NotFoundError as error:
            raise self._absent(host, place, name) from error
        except HostError as error:
            why = self.refusal(host, place, error.number)
            if not why:
                raise
            raise HostError(f"{error}: {why}", number=error.number, subject=error.subject) from error

    def refusal(self, host: Host, place: Place, number: int) -> str:
        """Return what an errno means here, "" when the kernel's own word is enough."""
        return ""

    def _file_name(self, home: Hierarchy) -> str:
        return self.file_v1 if home.version == 1 else self.file_v2

    def _absent(self, host: Host, place: Place, name: str) -> HostError:
        """Return the error for a file that is not there: no such group, no such controller for it, or no such kernel."""
        if not host.exists(place.file("cgroup.procs")):
            return no_group(place)
        if place.version == 2 and place.path != "/" and self.controller not in enabled_in(host, place):
            remedy = f"dna set cgroup.controller_{self.controller} --cgroup {place.parent.path} on"
            return NotFoundError(
                f"the cgroup {place.path} has no {self.controller} controller: its parent gives it none",
                subject=place.path,
                remedy=remedy,
            )
        return UnsupportedError(f"this kernel's cgroups have no {name}", subject=place.path)


class GroupFile(GroupKnob):
    """A knob on a cgroup that is one file; ``decode`` and ``encode`` are the identity unless overridden."""

    def decode(self, text: str, version: int) -> Value:
        """Return the canonical value of the file's content."""
        return text

    def encode(self, value: Value, version: int) -> str:
        """Return what is written for a value."""
        return str(value)

    def read(self, host: Host, subject: Subject) -> Value:
        place = self.place(host, subject)
        return self.decode(self.get(host, place, self._file_name(place.hierarchy)), place.version)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        place = self.place(host, subject)
        self.put(host, place, self._file_name(place.hierarchy), self.encode(value, place.version))


class PidsMax(GroupFile):
    """How many processes and threads there may be in a group."""

    name = "cgroup.pids_max"
    title = "Most processes and threads of a cgroup"
    values = "max, or a number from 1"
    example = "500"
    controller = "pids"
    file_v2 = file_v1 = "pids.max"

    def parse(self, text: str) -> Value:
        return "max" if text.strip() == "max" else whole_number(self, text, least=1, most=_MOST_PROCESSES)

    def decode(self, text: str, version: int) -> Value:
        return "max" if text == "max" else int(text)

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == "max" else "fork and thread creation fail (EAGAIN) once there are as many"


def no_controller(controller: str) -> Support:
    """Return the verdict where no mounted hierarchy has a controller."""
    return Support(
        False,
        f"no mounted cgroup hierarchy has the {controller} controller",
        "mount cgroup2, or take cgroup_disable= off the kernel's command line",
    )


def may_write(host: Host, mounts: tuple[Hierarchy, ...]) -> Support:
    """Say whether this user may change groups in these hierarchies."""
    if any(hierarchy.read_only for hierarchy in mounts):
        return Support(
            False,
            "the cgroup file system is mounted read-only, as in most containers",
            "set it on the host, or start the container with it writable",
        )
    if host.euid() != 0 and not _is_delegated(host, mounts):
        return Support(
            False,
            "cgroups are changed by root, or by whom one is delegated to",
            "use sudo, or start from a delegated group: systemd-run --user --scope -p Delegate=yes ...",
        )
    return WORKS


def places(host: Host) -> tuple[Hierarchy, ...]:
    """Return the hierarchies in which a group is made: those of controllers with knobs, else what there is of v2."""
    homes = tuple(dict.fromkeys(cgroups.homes(host).values()))
    return homes or tuple(h for h in cgroups.hierarchies(host) if h.version == 2)


def _is_delegated(host: Host, mounts: tuple[Hierarchy, ...]) -> bool:
    """Tell whether this process is in a group that is this user's."""
    try:
        lines = host.read_text("/proc/self/cgroup").splitlines()
        paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
        return any(host.owner(h.mount + paths.get(",".join(h.controllers), "/")) == host.euid() for h in mounts)
    except (HostError, ValueError):
        return False


def no_group(place: Place) -> NotFoundError:
    """Return the error for a group that is not there."""
    return NotFoundError(
        f"there is no cgroup {place.path}",
        subject=place.path,
        remedy=f"make it, in the same plan or before: dna set cgroup.exists --cgroup {place.path} on",
    )


def plain_path(subject: Subject) -> str:
    """Return the path of a group, which leads nowhere else.

    Raises:
        SettingError: it is no such path.
    """
    parts = subject.name.strip("/").split("/")
    if subject.name != "/" and any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise SettingError(
            f"{subject.name!r} is no path of a cgroup", remedy="Name it as in /proc/PID/cgroup, such as /web."
        )
    return "/" + "/".join(parts)


def parent_of(path: str) -> str:
    """Return the path of the group above."""
    return path.rpartition("/")[0] or "/"


def depth(path: str) -> int:
    """Return how far below the root a group is."""
    return len([part for part in path.split("/") if part])


def nested(change: Change, *, grows: bool) -> tuple[int, ...]:
    """Return the order of changes to what a group can have no more of than its parent.

    What shrinks goes first, from below; what grows afterwards, from above.
    """
    level = depth(change.subject.name)
    return (1, level) if grows else (0, -level)


def enabled_in(host: Host, place: Place) -> tuple[str, ...]:
    """Return the controllers of a v2 group."""
    try:
        return tuple(host.read_text(place.file("cgroup.controllers")).split())
    except HostError:
        return ()


KNOBS: tuple[Knob, ...] = (PidsMax(),)
