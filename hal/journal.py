"""The durable record of what was changed: written and synced before each write, enough to take it back after a crash.

One file a transaction, one JSON record a line, appended and synced:

    begin    what is about to happen: the plan, the machine, who
    intent   change N with the old value as found; synced before the write
    done     change N was written and read back; what it came to, where there is more to tell than the value
    became   change N did not take, or did not last: what the machine or a later change made of it
    gone     change N's process had ended: nothing was written
    failed   why the transaction stopped
    end      "applied": all changes stand
    undoing  change N is about to be taken back
    undone   change N was taken back, or why not
    closed   nothing of it stands any more, or nothing more can be done: what was left is in it

Transactions that were taken back long ago are merged into one file, a line each (``hal.retention``).

A line that is cut off is the mark of a crash in the middle of writing it; what it would have announced has not been done.
Where the journal is: ``$DNA_JOURNAL``, else for root ``/var/lib/workload-dna/journal``, else below ``$XDG_STATE_HOME``.
"""

from __future__ import annotations

import calendar
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hal.errors import JournalError, NotPermittedError, RefusedError
from hal.plan_json import change_from_dict, change_to_dict, plan_to_dict, setting_from_dict, value_of
from hal.settings import Change, MachineId, Plan, Setting, Subject, Value

SCHEMA = "workload-dna/journal/1"
_SYSTEM = "/var/lib/workload-dna/journal"

OPEN = "interrupted"
"""Begun, and neither applied nor taken back: the applier was killed, or undoing failed in part."""
APPLIED = "applied"
CLOSED = "undone"
MERGED = "taken-back"
"""File of the transactions that were merged: one JSON record a line."""
_TAIL = 512
"""Bytes at the end of a file that its last record is looked for in; the one that closes it is shorter."""


@dataclass(slots=True)
class Step:
    """One change of a transaction and how far it came."""

    change: Change
    done: bool = False
    gone: bool = False
    undone: bool = False
    became: Value = None
    """What the machine, or a later change of the same plan, made of the write where that was neither the old nor the new value;
    None where it was not told."""
    left: str = ""
    """Why it was not taken back: the value is somebody else's, or cannot be restored."""
    outcome: str = ""
    """What it came to, in words, where the value does not tell: how much is in huge pages."""


@dataclass(slots=True)
class Transaction:
    """What the journal says of one application of a plan."""

    identity: str
    title: str
    machine: MachineId
    started: float
    pid: int
    command: str
    began: int = 0
    """When in clock ticks after boot: what was started before that and has no step was not touched."""
    follow: tuple[Setting, ...] = ()
    steps: dict[int, Step] = field(default_factory=dict)
    state: str = OPEN
    failure: str = ""
    ended: float = 0.0
    merged: int | None = None
    """How many steps it had, where it was taken back long ago and the journal keeps but a line of it; ``steps`` is then empty."""

    def standing(self) -> list[tuple[int, Step]]:
        """Return the steps that may have been written and were not taken back, in order."""
        return [(n, s) for n, s in sorted(self.steps.items()) if not s.gone and not s.undone and not s.left]


def default_folder(environment: Mapping[str, str] | None = None, *, euid: int | None = None) -> Path:
    """Return where the journal is when nothing says otherwise.

    Raises:
        JournalError: there is no place for it.
    """
    env = os.environ if environment is None else environment
    if env.get("DNA_JOURNAL"):
        return Path(env["DNA_JOURNAL"]).expanduser()
    if (os.geteuid() if euid is None else euid) == 0:
        return Path(_SYSTEM)
    state, home = env.get("XDG_STATE_HOME", ""), env.get("HOME", "")
    if os.path.isabs(state):
        return Path(state) / "workload-dna" / "journal"
    if not os.path.isabs(home):
        raise JournalError("no place for the journal: HOME is not set", remedy="set DNA_JOURNAL")
    return Path(home) / ".local" / "state" / "workload-dna" / "journal"


class Writer:
    """Appends records to one transaction's file; each is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: Mapping[str, object]) -> None:
        """Write a record and sync it.

        Raises:
            JournalError: it could not be; nothing that depends on it must then be done.
        """
        line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                line = mend(descriptor) + line
                if os.write(descriptor, line) != len(line):
                    raise JournalError(f"{self._path}: no room for the journal", remedy="make room on that file system")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise JournalError(
                f"cannot write {self._path}: {error.strerror}", remedy="make room, or mend it"
            ) from error


def mend(descriptor: int) -> bytes:
    """Return what ends a line that a crash cut off, so that the next one stands by itself."""
    size = os.fstat(descriptor).st_size
    return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


class Journal:
    """The journal in a folder; it is made when something is first written."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self._closed: dict[str, int] = {}
        """Files that were found closed, and their sizes then."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who changes the machine.

        Raises:
            RefusedError: somebody else is.
        """
        self._make()
        path = self.folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise RefusedError(
                    f"another dna is changing this machine (pid {holder})",
                    remedy="wait until it is done, then try again",
                ) from None
            with suppress(OSError):  # no room: it is only to tell who it is, and a lock all the same
                os.pwrite(descriptor, f"{os.getpid():<32}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def begin(self, plan: Plan, *, ticks: int = 0, command: str = "") -> tuple[str, Writer]:
        """Open a transaction's file; return its id and what appends to it. ``ticks`` is the time since boot."""
        self._make()
        identity = new_id(self._after_the_newest(time.time()))
        path = self.folder / f"{identity}.jsonl"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(self.folder)
        except OSError as error:
            raise JournalError(f"cannot make {path}: {error.strerror}") from error
        writer = self.writer(identity)
        head = {
            "is": "begin",
            "schema": SCHEMA,
            "at": time.time(),
            "pid": os.getpid(),
            "command": command,
            "ticks": ticks,
        }
        try:
            writer.append({**head, "plan": plan_to_dict(plan)})
        except JournalError:
            path.unlink(missing_ok=True)  # nothing was done; a full disk is not to be littered at each try
            raise
        return identity, writer

    def _after_the_newest(self, now: float) -> float:
        """Return now, or what comes just after the newest transaction where the clock was set back: ids tell what was later."""
        newest = max((entry.name for entry in self._entries()), default="")
        return max(now, _time_of(newest) + 0.002)

    def writer(self, identity: str) -> Writer:
        """Return what appends to a transaction's file."""
        return Writer(self.folder / f"{identity}.jsonl")

    def transactions(self) -> list[Transaction]:
        """Return all transactions, oldest first; a file in which not even the beginning can be read is no transaction.

        Raises:
            JournalError, NotPermittedError: the folder or a file cannot be read.
        """
        with self._reading():
            return list(_existing(self.paths()))

    def unfinished(self) -> list[Transaction]:
        """Return the transactions that were not taken back, oldest first: what a long history costs is one look at each file's end.

        Raises:
            JournalError, NotPermittedError: the folder or a file cannot be read.
        """
        with self._reading():
            return [t for t in _existing(self._not_closed()) if t.state != CLOSED]

    def earlier(self) -> list[Transaction]:
        """Return the transactions that were taken back long ago and merged, oldest first; they have no steps any more.

        Raises:
            JournalError, NotPermittedError: the file cannot be read.
        """
        with self._reading():
            path = self.folder / MERGED
            found = {t.identity: t for record in _lines(path) if (t := from_line(record)) is not None}
            # Merged, and killed before its own file was removed: that file has more to tell.
            return [t for identity, t in sorted(found.items()) if not (self.folder / f"{identity}.jsonl").exists()]

    def paths(self) -> list[Path]:
        """Return the transactions' files, oldest first."""
        return [self.folder / entry.name for entry in self._entries()]

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                return sorted((one for one in entries if one.name.endswith(".jsonl")), key=lambda one: one.name)
        except FileNotFoundError:
            return []  # nothing was written yet

    def _not_closed(self) -> Iterator[Path]:
        """Yield the files that may have something standing; one that was found closed is looked at again only when it has grown."""
        closed, self._closed = self._closed, {}
        for entry in self._entries():
            with suppress(FileNotFoundError):
                size = entry.stat(follow_symlinks=False).st_size
                if closed.get(entry.name) == size or is_closed(self.folder / entry.name):
                    self._closed[entry.name] = size
                else:
                    yield self.folder / entry.name

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NotPermittedError(
                f"cannot read the journal {self.folder}", remedy="read it as root, or set DNA_JOURNAL to your own"
            ) from error
        except OSError as error:
            raise JournalError(f"cannot read the journal {self.folder}: {error.strerror}") from error

    def find(self, reference: str) -> Transaction:
        """Return the transaction whose id is, or begins with, ``reference``.

        Raises:
            JournalError: there is none, or there are several.
        """
        found = self._beginning_with(reference) if reference else []
        exact = [t for t in found if t.identity == reference]
        if len(exact or found) != 1:
            many = f"{len(found)} transactions begin with {reference!r}" if found else f"no transaction {reference!r}"
            raise JournalError(many, remedy="see `dna journal` for those there are")
        return (exact or found)[0]

    def _beginning_with(self, reference: str) -> list[Transaction]:
        with self._reading():
            found = list(_existing(path for path in self.paths() if path.stem.startswith(reference)))
        if any(t.identity == reference for t in found):
            return found
        return [*(t for t in self.earlier() if t.identity.startswith(reference)), *found]

    def standing(self) -> dict[tuple[str, Subject], Value]:
        """Return the values that dna set and that were not taken back, by knob and subject."""
        values: dict[tuple[str, Subject], Value] = {}
        for transaction in self.unfinished():
            values |= {step.change.key: step.change.new for _, step in transaction.standing()}
        return values

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except PermissionError as error:
            raise NotPermittedError(
                f"cannot make the journal {self.folder}",
                remedy="run it as root, or set DNA_JOURNAL to a folder of yours",
            ) from error
        except OSError as error:
            raise JournalError(f"cannot make the journal {self.folder}: {error.strerror}") from error
        owner = self.folder.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            # Whoever owns it decides what root "restores".
            raise RefusedError(
                f"the journal {self.folder} belongs to uid {owner}", remedy="set DNA_JOURNAL to root's own"
            )


def new_id(now: float) -> str:
    """Return an id that sorts by time, to the millisecond."""
    seconds, thousandths = divmod(int(now * 1000), 1000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{thousandths:03d}{secrets.token_hex(1)}"


def _time_of(identity: str) -> float:
    """Return the time that an id was made of, 0 where it is none of ours."""
    try:
        seconds = calendar.timegm(time.strptime(identity[:15], "%Y%m%d-%H%M%S"))
        return seconds + int(identity[16:19]) / 1000
    except ValueError:
        return 0.0


def intent(number: int, change: Change) -> dict[str, object]:
    """Return the record that goes before a write."""
    return {"is": "intent", "n": number, "change": change_to_dict(change)}


def done(number: int, outcome: str = "") -> dict[str, object]:
    """Return the record that a change was made, and what it came to in words."""
    return mark("done", number, **({"outcome": outcome} if outcome else {}))


def mark(kind: str, number: int, **more: object) -> dict[str, object]:
    """Return the record of what became of a change."""
    return {"is": kind, "n": number, "at": time.time(), **more}


def note(kind: str, **more: object) -> dict[str, object]:
    """Return a record about the transaction as a whole."""
    return {"is": kind, "at": time.time(), **more}


def sync_folder(folder: Path) -> None:
    """Have on disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_closed(path: Path) -> bool:
    """Tell by the end of a transaction's file whether it was taken back; False where that end does not tell."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        return bool(json.loads(last)["is"] == "closed")
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def to_line(transaction: Transaction) -> dict[str, object]:
    """Return what is kept of a transaction that was taken back, as JSON data."""
    return {
        "id": transaction.identity,
        "title": transaction.title,
        "machine": {"hostname": transaction.machine.hostname, "boot_id": transaction.machine.boot_id},
        "started": transaction.started,
        "ended": transaction.ended,
        "pid": transaction.pid,
        "command": transaction.command,
        "failure": transaction.failure,
        "steps": len(transaction.steps),
    }


def from_line(record: Mapping[str, Any]) -> Transaction | None:
    """Return the transaction of such data; None where that is damaged."""
    try:
        machine = MachineId(str(record["machine"]["hostname"]), str(record["machine"]["boot_id"]))
        return Transaction(
            identity=str(record["id"]),
            title=str(record["title"]),
            machine=machine,
            started=float(record["started"]),
            pid=int(record["pid"]),
            command=str(record["command"]),
            state=CLOSED,
            failure=str(record["failure"]),
            ended=float(record["ended"]),
            merged=int(record["steps"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _existing(paths: Iterable[Path]) -> Iterator[Transaction]:
    """Yield the transactions of files; one that goes meanwhile was merged, and is told among the earlier ones."""
    for path in paths:
        with suppress(FileNotFoundError):
            if (transaction := transaction_of(path)) is not None:
                yield transaction


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole records; one that is cut off or damaged was never acted on, since acting waits for the sync."""
    yield from _parsed(path.read_bytes())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file that need not be there."""
    with suppress(FileNotFoundError):
        yield from _parsed(path.read_bytes())


def _parsed(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def transaction_of(path: Path) -> Transaction | None:
    """Return what a transaction's file says; None where not even its beginning is whole.

    Raises:
        JournalError: it is damaged.
        OSError: it cannot be read.
    """
    records = _records(path)
    try:
        head = next(records)
        plan = head["plan"]
        transaction = Transaction(
            identity=path.stem,
            title=str(plan["title"]),
            machine=MachineId(str(plan["machine"]["hostname"]), str(plan["machine"]["boot_id"])),
            started=float(head["at"]),
            pid=int(head["pid"]),
            command=str(head["command"]),
            began=int(head.get("ticks", 0)),
            follow=tuple(setting_from_dict(item) for item in plan["follow"]),
        )
        for record in records:
            _take(transaction, record)
    except StopIteration:
        return None  # killed before the beginning was on disk: nothing was done
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{path} is damaged: {type(error).__name__}: {error}", remedy="move it away") from error
    return transaction


def _take(transaction: Transaction, record: dict[str, Any]) -> None:
    """Let one record change what is known of a transaction."""
    kind = record["is"]
    if kind == "intent":
        transaction.state = (
            OPEN if transaction.state == CLOSED else transaction.state
        )  # more was begun to be taken back
        transaction.steps[int(record["n"])] = Step(change_from_dict(record["change"]))
    elif kind in ("done", "gone"):
        step = transaction.steps[int(record["n"])]
        step.done, step.gone = kind == "done", kind == "gone"
        step.outcome = str(record.get("outcome", ""))
    elif kind == "became":
        transaction.steps[int(record["n"])].became = value_of(record["value"])
    elif kind == "undoing":
        transaction.steps[int(record["n"])].done = False  # not surely whole any more, should this be killed as well
    elif kind == "undone":
        step = transaction.steps[int(record["n"])]
        step.left = str(record.get("left", ""))
        step.undone = not step.left
    elif kind == "failed":
        transaction.failure = str(record["why"])
    elif kind in ("end", "closed"):
        transaction.state = APPLIED if kind == "end" else CLOSED
        transaction.ended = float(record["at"])
