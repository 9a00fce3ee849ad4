"""The sockets of runs: where they are, how one is made that nobody else can use, and which are left of runs that were killed.

``$DNA_RUN`` names the folder; else it is ``/run/dna`` for root, ``$XDG_RUNTIME_DIR/dna`` for others, and where there is no such, a
folder beside the journal. One socket a run, named after its process.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hal.errors import JournalError
from hal.journal import default_folder as journal_folder
from sculpt.errors import ControlError

SYSTEM = "/run/dna"
USERS = "/run/user"
PREFIX, SUFFIX = "sculpt-", ".sock"
LONGEST = 107
"""Bytes that the kernel takes for a socket's path (unix(7))."""
BACKLOG = 16


def default_folder(environment: Mapping[str, str] | None = None, *, euid: int | None = None) -> Path:
    """Return where this user's runs have their sockets.

    Raises:
        ControlError: there is no place for them.
    """
    env = os.environ if environment is None else environment
    user = os.geteuid() if euid is None else euid
    if env.get("DNA_RUN"):
        return Path(env["DNA_RUN"]).expanduser()
    if user == 0:
        return Path(SYSTEM)
    if os.path.isabs(env.get("XDG_RUNTIME_DIR", "")):
        return Path(env["XDG_RUNTIME_DIR"]) / "dna"
    if os.path.isdir(f"{USERS}/{user}"):  # as under su and cron, which do not name it
        return Path(f"{USERS}/{user}/dna")
    try:
        return journal_folder(env, euid=user).parent / "run"
    except JournalError as error:
        raise ControlError("no place for a socket: HOME is not set", remedy="Set DNA_RUN.") from error


def default_socket() -> Path:
    """Return the path of this process's socket.

    Raises:
        ControlError: there is no place for it.
    """
    return default_folder() / f"{PREFIX}{os.getpid()}{SUFFIX}"


def folders() -> tuple[Path, ...]:
    """Return where runs that this user may ask have their sockets: for root those of all users."""
    own = (default_folder(),)
    if os.geteuid() != 0 or os.environ.get("DNA_RUN"):
        return own
    with suppress(OSError):
        return (*own, *sorted(Path(USERS).glob("*/dna")))
    return own


def sockets(places: tuple[Path, ...]) -> Iterator[Path]:
    """Yield what are sockets of runs by their names, the ones that began first before the others."""
    for place in places:
        found = []
        with suppress(OSError):
            found = [(one.lstat().st_mtime, one) for one in place.glob(f"{PREFIX}*{SUFFIX}") if is_socket(one)]
        yield from (path for _, path in sorted(found))


def is_socket(path: Path) -> bool:
    """Tell whether it is a socket, itself and not by a link."""
    with suppress(OSError):
        return stat.S_ISSOCK(path.lstat().st_mode)
    return False


def peer_of(connected: socket.socket) -> tuple[int, int]:
    """Return the (pid, uid) of the other end, as it was when it connected or began to listen (SO_PEERCRED of unix(7))."""
    pid, user, _ = struct.unpack(
        "3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return pid, user


def make_folder(folder: Path) -> Path | None:
    """Make the folder, mode 0700, where it is missing; return it where it is ours: made here, or the usual one, made by a run before.

    Raises:
        OSError: it cannot be made.
        ControlError: others could put a socket of theirs in place of ours.
    """
    made = folder if _is_usual(folder) else None
    with suppress(FileExistsError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        made = folder
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"{folder} is no folder")
    if found.st_uid not in (os.geteuid(), 0) or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
        raise ControlError(f"others can write {folder}")
    return made


def _is_usual(folder: Path) -> bool:
    with suppress(ControlError):
        return not os.environ.get("DNA_RUN") and folder == default_folder()
    return False


def listening(place: Path) -> socket.socket:
    """Return a socket that listens at ``place``, which appears there only when it does.

    Raises:
        OSError: it cannot be made.
        ControlError: somebody listens there, or the path is too long.
    """
    if len(os.fsencode(place)) + len(".new") > LONGEST:
        raise ControlError(f"{place} is longer than the {LONGEST} bytes that a socket's path may have")
    if place.exists() and not is_socket(place):
        raise ControlError(f"{place} is there, and no socket")
    if is_listened(place):
        raise ControlError(f"another run listens at {place}")
    aside = place.with_name(f"{place.name}.new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the socket, less the umask (unix_bind in net/unix/af_unix.c): never is it open to others.
        os.fchmod(listener.fileno(), 0o600)
        aside.unlink(missing_ok=True)
        with _naming(aside):
            listener.bind(os.fspath(aside))
        aside.chmod(0o600)  # whatever the umask has taken away
        listener.listen(BACKLOG)
        listener.setblocking(False)
        aside.rename(place)
    except BaseException:
        listener.close()
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    return listener


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an error the path that it is about."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_listened(place: Path) -> bool:
    """Tell whether a process listens at a path: a socket whose process has ended refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(os.fspath(place))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # EAGAIN: so many wait already; EACCES: not ours to say
    return True


def remove_stale(folder: Path) -> list[Path]:
    """Remove the sockets of runs that were killed; return which."""
    removed = []
    for place in (*sockets((folder,)), *folder.glob(f"{PREFIX}*{SUFFIX}.new")):
        if is_socket(place) and not is_listened(place) and not _is_beginning(place):
            with suppress(OSError):
                place.unlink()
                removed.append(place)
    return removed


def _is_beginning(place: Path) -> bool:
    """Tell whether it is of a live process that does not listen yet."""
    if place.suffix != ".new":
        return False
    return os.path.exists(f"/proc/{pid_of(place)}")


def pid_of(place: Path) -> int | None:
    """Return the process that a socket is named after; None where its name is another."""
    pid = place.name.removeprefix(PREFIX).partition(".")[0]
    return int(pid) if pid.isascii() and pid.isdigit() else None
