"""Which cgroup a process is in: it enters a group, and is given back to where it was."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

from hal import cgroups
from hal.cgroups import CONTROLLERS, Hierarchy
from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.cgroup import Place, may_write, no_controller, no_group, places, plain_path
from hal.knobs.knob import RANKS, Knob, Support
from hal.processes import threads_of
from hal.settings import Change, Subject, Value, cgroup
from hal.subjects import hold_same


class Member(Knob):
    """The group that a process is in, by controller where they are in hierarchies of their own (v1)."""

    name = "cgroup.member"
    title = "The cgroup that a process is in"
    values = "a path such as /web, or one for each controller: cpu=/web memory=/web"
    example = "/web"
    subject_kind = "process"
    rank = RANKS["enter"]

    def support(self, host: Host) -> Support:
        mounts = places(host)
        return may_write(host, mounts) if mounts else no_controller("cpu")

    def parse(self, text: str) -> str:
        paths = paths_of(text)
        if not paths or any(name not in CONTROLLERS for name in paths if name):
            raise self.malformed(text)
        return canonical({name: self._plain(path, text) for name, path in paths.items()})

    def _plain(self, path: str, text: str) -> str:
        try:
            return plain_path(cgroup(path))
        except SettingError:
            raise self.malformed(text) from None

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        apart = _threads_elsewhere(host, int(subject.name))
        if apart:
            raise SettingError(
                f"{self.name}: {subject} {apart}, which could not be given back",
                remedy="Move its threads together first, or leave it where it is.",
            )

    def read(self, host: Host, subject: Subject) -> str:
        found = cgroups.membership(host, int(subject.name))
        unified = found.pop("", "/")
        homes = cgroups.homes(host)
        return canonical(found) if any(home.version == 1 for home in homes.values()) else unified

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        present = paths_of(self.read(host, subject))
        if any("/.." in path for path in present.values()):
            raise HostError(f"{subject} is in a cgroup outside of those seen from here: it could not be given back")
        for place, names in self._destinations(host, str(value)):
            if any(present.get(name, present.get("")) != place.path for name in names):
                hold_same(host, subject)
                self._enter(host, place, subject.name)

    def same(self, wanted: Value, found: Value) -> bool:
        """Tell whether a process is where it is wanted; what the wanted value does not name does not matter."""
        want, have = paths_of(str(wanted)), paths_of(str(found))
        if not want or not have:
            return wanted == found
        if "" in want:
            return all(path == want[""] for path in have.values())
        return all(have.get(name, have.get("")) == path for name, path in want.items())

    def merged(self, host: Host, earlier: Value, later: Value) -> Value:
        """Return the paths of both; in one hierarchy a process is in one group, and the later one counts."""
        first, second, homes = paths_of(str(earlier)), paths_of(str(later)), cgroups.homes(host)
        if "" in first or "" in second:
            return later
        taken = {homes.get(name) for name in second}
        return canonical({name: path for name, path in first.items() if homes.get(name) not in taken} | second)

    def replaced(self, old: Value, new: Value) -> Value:
        had, gets = paths_of(str(old)), paths_of(str(new))
        if "" in had or "" in gets:
            return old
        return canonical({name: path for name, path in had.items() if name in gets})

    def restorable(self, host: Host, subject: Subject, old: Value) -> tuple[Value, str]:
        """Return where a process can be given back to, should its group have gone while it was away.

        That is the nearest group above, whose limits it was under too (as cgdelete(1) has it), and where that takes no processes
        the group that it is in.
        """
        paths, present = paths_of(str(old)), paths_of(self.read(host, subject))
        goes: dict[str, str] = {}
        for place, names in self._destinations(host, str(old)):
            goes |= dict.fromkeys(names, _nearest(host, place) or present.get(names[0], present.get("", "/")))
        lost = {name: path for name, path in goes.items() if path != paths.get(name, paths.get(""))}
        if not lost:
            return old, ""
        why = f"its group {', '.join(sorted({paths.get(name, paths.get('', '')) for name in lost}))} is gone"
        back = canonical(goes if "" not in paths else {"": next(iter(lost.values()))})
        return back, f"{why}: it is in {', '.join(sorted(set(lost.values())))} now"

    def between(self, change: Change) -> tuple[Value, ...]:
        """Return the mixtures of old and new paths: one hierarchy after the other is written, either way."""
        old, new = paths_of(str(change.old)), paths_of(str(change.new))
        if "" in old:
            return ()
        full = {name: new.get(name, new.get("", "")) for name in old}
        steps = [set(list(old)[:count]) for count in range(1, len(old))]
        onward = [{name: full[name] if name in made else old[name] for name in old} for made in steps]
        back = [{name: old[name] if name in made else full[name] for name in old} for made in steps]
        return tuple(canonical(paths) for paths in (*onward, *back))

    def pin(self, host: Host, subject: Subject, found: Value) -> str:
        return _threads_elsewhere(host, int(subject.name))

    def cost(self, old: Value, new: Value) -> str:
        gets = paths_of(str(new))
        left = {
            f"{path}{f' ({name})' if name else ''}"
            for name, path in paths_of(str(old)).items()
            if path != "/" and not _is_within(gets.get(name, gets.get("", path)), path)
        }
        return f"the limits of {', '.join(sorted(left))} no longer hold for it" if left else ""

    def _destinations(self, host: Host, value: str) -> list[tuple[Place, tuple[str, ...]]]:
        """Return the groups to enter, one a hierarchy, each with the controllers that it is for."""
        paths, homes = paths_of(value), cgroups.homes(host)
        names = tuple(homes) or ("",) if "" in paths else tuple(paths)
        found: dict[Hierarchy, dict[str, str]] = {}
        for name in names:
            mount = homes.get(name) or next(iter(places(host)), None)
            if mount is None or (name and name not in homes):
                raise HostError(f"{self.name}: {no_controller(name or 'cpu').reason}")
            found.setdefault(mount, {})[name] = paths.get(name, paths.get("", "/"))
        for mount, by_name in found.items():
            if len(set(by_name.values())) > 1:
                raise HostError(f"{self.name}: {', '.join(by_name)} are one hierarchy here ({mount.mount}): one path")
        return [(Place(next(iter(by_name.values())), mount), tuple(by_name)) for mount, by_name in found.items()]

    def _enter(self, host: Host, place: Place, pid: str) -> None:
        if not host.exists(place.file("cgroup.procs")):
            missing = no_group(place)  # but not as one: only a process that is gone is normal
            raise HostError(f"{missing} in {place.hierarchy.mount}", remedy=missing.remedy, subject=place.path)
        if _hands_on_controllers(host, place):
            raise HostError(f"{self.name}: cannot enter {place.path}: {_ENTERING[errno.EBUSY]}", subject=place.path)
        try:
            host.write_text(place.file("cgroup.procs"), pid)
        except HostError as error:
            why = _ENTERING.get(error.number)
            if why is None:
                raise
            raise HostError(f"{error}: {why}", number=error.number, subject=error.subject) from error


_ENTERING = {
    errno.EBUSY: "in cgroup v2 a group whose children have controllers takes no processes itself",
    errno.EOPNOTSUPP: "the group is threaded, or its memory and I/O are not set up",
    errno.ENOSPC: "its cpuset has no CPUs or no memory nodes: set cgroup.cpus and cgroup.mems first",
    errno.EINVAL: "the kernel does not let this process go there (a real-time process needs a group with real-time bandwidth)",
}


def paths_of(value: str) -> dict[str, str]:
    """Return the paths in a value by controller; the key "" stands for all. {} when it is no such value."""
    if value.startswith("/"):
        return {"": value}
    parts = re.split(r" +(?=[a-z]+=/)", value.strip())
    found = [re.fullmatch(r"([a-z]+)=(/.*)", part) for part in parts]
    paths = {match[1]: match[2] for match in found if match}
    return paths if len(paths) == len(parts) else {}


def canonical(paths: Mapping[str, str]) -> str:
    """Return paths by controller as a value."""
    return paths[""] if "" in paths else " ".join(f"{name}={path}" for name, path in sorted(paths.items()))


def _nearest(host: Host, place: Place) -> str:
    """Return the path of a group or, where it is gone, of the nearest one above; "" where that takes no processes."""
    if host.exists(place.file("cgroup.procs")):
        return place.path
    while place.path != "/" and not host.exists(place.file("cgroup.procs")):
        place = place.parent
    return "" if _hands_on_controllers(host, place) else place.path


def _is_within(path: str, group: str) -> bool:
    return path == group or path.startswith(group.rstrip("/") + "/")


def _hands_on_controllers(host: Host, place: Place) -> bool:
    """Tell whether a v2 group is for groups, not for processes.

    The kernel refuses only where memory or I/O is handed on; with others (cpu, cpuset, pids) it takes the process, and the groups
    below become "domain invalid", which take none any more (cgroup-v2.rst, "Threads").
    """
    if place.version == 1 or place.path == "/":
        return False
    try:
        is_domain = host.read_text(place.file("cgroup.type")).strip() == "domain"
        return is_domain and bool(host.read_text(place.file("cgroup.subtree_control")).strip())
    except HostError:
        return False


def _threads_elsewhere(host: Host, pid: int) -> str:
    """Return that threads of a process are in other groups than its first one, "" when none is."""
    try:
        own = host.read_text(f"/proc/{pid}/cgroup")
        others = [tid for tid in threads_of(host, pid) if tid != pid]
        differ = [tid for tid in others if host.read_text(f"/proc/{tid}/cgroup") != own]
        apart = [tid for tid in differ if cgroups.membership(host, tid) != cgroups.membership(host, pid)]
    except NotFoundError:
        return ""
    return f"has threads in groups of their own ({', '.join(map(str, apart[:3]))})" if apart else ""


KNOBS: tuple[Knob, ...] = (Member(),)
