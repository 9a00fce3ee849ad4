"""Read a file only where nobody else can have written it: rule files are code, and run with the rights of who runs dna.

Whoever can write a file, replace it in its folder, or turn a folder or link on the way to it elsewhere, decides what is run. So
the whole way is walked, from the root down, and each step is looked at through the descriptor by which it is then used: between
looking and using, nothing can be exchanged.

Trusted are root and the user that dna runs as, which for root is root alone. A folder with the sticky bit (``/tmp``) may be open to
all where its own owner is trusted: there nobody can replace what is not his. A user's private group is the user; root has none.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rules.errors import RuleError, UntrustedError

MOST_BYTES = 1 << 22
"""A rule file is no larger."""
_MOST_LINKS = 40
"""As in the kernel."""
_GIVE = "Give a Python file, or a folder of them."
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was read."""

    path: Path
    content: bytes
    stamp: Stamp


def read_trusted(path: str | Path, *, euid: int | None = None) -> Source:
    """Return a file that only trusted users can have written.

    Args:
        euid: the user to do it for, by default the one that this process runs as.

    Raises:
        UntrustedError: others can write it, or replace it; says what, and the commands that mend it.
        RuleError: it cannot be read, or is no regular file.
    """
    with _translated(path), _walked(path, euid) as (descriptor, way):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RuleError(f"{path}: it is no file", remedy=_GIVE)
        if status.st_size > MOST_BYTES:
            raise RuleError(f"{path}: {status.st_size} bytes are too many for a rule file", remedy=_GIVE)
        way.look(str(Path(path).absolute()), status, sticky_is_fine=False)
        way.finish(path)
        with open(descriptor, "rb", closefd=False) as file:
            return Source(Path(path), file.read(MOST_BYTES), stamp_of(status))


def list_trusted(path: str | Path, *, euid: int | None = None) -> tuple[str, ...]:
    """Return the names in a folder that only trusted users can have put anything into, sorted.

    Raises:
        UntrustedError, RuleError: as of ``read_trusted``; a sticky folder that is open to all does not do, since all can add to it.
    """
    with _translated(path), _walked(path, euid) as (descriptor, way):
        way.look(str(Path(path).absolute()), os.fstat(descriptor), sticky_is_fine=False)
        way.finish(path)
        return tuple(sorted(os.listdir(descriptor)))


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells this state of a file from another."""
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def _translated(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RuleError(f"{path}: {error.strerror}", remedy=_GIVE) from error


@contextmanager
def _walked(path: str | Path, euid: int | None) -> Iterator[tuple[int, _Way]]:
    """Walk to a path, looking at each step but the last; yield the last as a descriptor for reading, and what was seen."""
    way = _Way(os.geteuid() if euid is None else euid)
    todo = list(reversed(Path(path).absolute().parts))
    at, folder, links = "/", -1, 0
    try:
        while todo:
            name = todo.pop()
            if name == "/":
                at, folder = "/", _exchanged(folder, os.open("/", _READ | os.O_DIRECTORY))
                continue
            way.look(at, os.fstat(folder), sticky_is_fine=True)
            at = os.path.normpath(os.path.join(at, name))  # links are walked through, so that ".." is the parent
            target = way.link(at, name, folder)
            if target is None:
                flags = _LOOK | os.O_DIRECTORY if todo else _READ
                folder = _exchanged(folder, os.open(name, flags, dir_fd=folder))
                continue
            links += 1
            if links > _MOST_LINKS:
                raise RuleError(f"{path}: too many symbolic links")
            at = os.path.dirname(at)
            todo += reversed(target.parts)
        yield folder, way
    finally:
        if folder >= 0:
            os.close(folder)


def _exchanged(old: int, new: int) -> int:
    if old >= 0:
        os.close(old)
    return new


@dataclass(slots=True)
class _Way:
    """What was seen on a way through the file system."""

    euid: int
    faults: list[str] = field(default_factory=list)
    """What is wrong, in words."""
    remedies: list[str] = field(default_factory=list)

    def look(self, path: str, status: os.stat_result, *, sticky_is_fine: bool) -> None:
        """Note who else can write a file or folder."""
        self._look_at_owner(path, status)
        mode = status.st_mode
        if sticky_is_fine and mode & stat.S_ISVTX:
            return
        others = "everybody" * bool(mode & stat.S_IWOTH) or (
            f"its group {_group_name(status.st_gid)}"
            if mode & stat.S_IWGRP and not self._is_private(status.st_gid)
            else ""
        )
        if others and stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
            self._note(f"{others} can add files to {path}", "give a folder of your own")
        elif others:
            self._note(f"{others} can write {path}", f"chmod go-w {shlex.quote(path)}")

    def link(self, path: str, name: str, folder: int) -> Path | None:
        """Return where a symbolic link leads, None for what is none."""
        found = os.open(name, _LOOK, dir_fd=folder)
        try:
            status = os.fstat(found)
            if not stat.S_ISLNK(status.st_mode):
                return None
            self._look_at_owner(path, status)
            return Path(os.readlink("", dir_fd=found))
        finally:
            os.close(found)

    def finish(self, path: str | Path) -> None:
        """Raise if anything was wrong."""
        if self.faults:
            raise UntrustedError(
                f"{path} is not used, because others can change it: {'; '.join(self.faults)}",
                remedy=f"See that it does what you want, then: {'; '.join(self.remedies)}",
            )

    def _look_at_owner(self, path: str, status: os.stat_result) -> None:
        if status.st_uid in (0, self.euid):
            return
        quoted = shlex.quote(path)
        # Only root can give a file to somebody.
        remedy = f"chown -h root {quoted}" if self.euid == 0 else f"copy {quoted} to a folder of your own"
        self._note(f"{path} belongs to {_user_name(status.st_uid)}", remedy)

    def _note(self, fault: str, remedy: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
            self.remedies.append(remedy)

    def _is_private(self, gid: int) -> bool:
        """Tell whether a group is that of the user alone, which many systems make for each user; never for root."""
        if self.euid == 0:
            return False
        try:
            user, group = pwd.getpwuid(self.euid), grp.getgrgid(gid)
        except KeyError:
            return False
        return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
