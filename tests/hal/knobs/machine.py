"""A machine in memory that has something of every knob family, and what goes wrong with machines.

Each family furnishes its part in ``fake_FAMILY.py``: ``furnish(host)``, and ``CASES`` or ``cases(host)``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hal.errors import HostError, JournalError
from hal.fake import FakeHost
from hal.journal import Journal, Writer
from hal.settings import Subject, Value

MUTATING = {
    *("write_text", "write_bytes", "make_dir", "remove_dir"),
    *("set_affinity", "set_scheduling", "set_nice"),
    *("move_pages", "advise", "preload"),
}
"""Methods of ``Host`` that change the machine. Those of its network begin with one of NET_VERBS."""
NET_VERBS = ("set_", "add_", "delete_", "remove_", "replace_")


@cache
def families() -> tuple[ModuleType, ...]:
    """Return the modules that furnish the machine."""
    modules = []
    for path in sorted(Path(__file__).parent.glob("fake_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    return tuple(modules)


def furnished() -> FakeHost:
    """Return the machine."""
    host = FakeHost(
        {"/proc/sys/kernel/hostname": "fake\n", "/proc/sys/kernel/random/boot_id": "b00t\n", "/proc/self/mounts": ""}
    )
    for family in families():
        family.furnish(host)
    return host


def cases(host: FakeHost) -> dict[str, tuple[Subject, Value]]:
    """Return for each knob a subject on the machine and a value other than the present one."""
    found: dict[str, tuple[Subject, Value]] = {}
    for family in families():
        found |= family.cases(host) if hasattr(family, "cases") else family.CASES
    return found


def snapshot(host: FakeHost) -> dict[str, Any]:
    """Return all there is to see of the machine; the clock is not part of it."""
    net = host.net().state() if hasattr(host, "net") and hasattr(host.net(), "state") else None
    return {
        "files": dict(host.files),
        "links": dict(host.links),
        "binaries": {path: bytes(data) for path, data in host.binaries.items()},
        "tasks": {tid: (task.affinity, task.scheduling) for tid, task in host.tasks.items()},
        "net": net,
    }


class Killed(BaseException):
    """The applier is gone at this point, as after kill -9: nothing of it runs any more, no handler either."""


@dataclass
class Faults:
    """At which of the points that are counted something goes wrong, and what.

    Points are numbered from 1 over writes to the machine ("write") and records of the journal ("record"). Kinds: "fail" (a
    write is refused), "kill" before a write or record, "kill-after", "torn" (killed with half a record on disk), "full" (no
    record can be written from there on).
    """

    kind: str = ""
    at: int = 0
    of: str = "write"
    counts: dict[str, int] = field(default_factory=lambda: {"write": 0, "record": 0})

    def met(self, of: str) -> str:
        """Count a point; return what goes wrong at it."""
        self.counts[of] += 1
        here = self.counts[of] >= self.at if self.kind == "full" else self.counts[of] == self.at
        return self.kind if of == self.of and here else ""


class FaultyHost:
    """A machine on which a chosen write fails, or before or after which the applier is killed."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "net":
            return lambda: FaultyHost(value(), self._faults)
        if name in MUTATING or name.startswith(NET_VERBS):
            return self._guarded(value, name)
        return value

    def _guarded(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            wrong = self._faults.met("write")
            if wrong == "fail":
                raise HostError(f"cannot {name}: injected", number=5)
            if wrong == "kill":
                raise Killed
            result = call(*arguments, **options)
            if wrong == "kill-after":
                raise Killed
            return result

        return guarded


class FaultyWriter(Writer):
    """Appends to a journal that a kill may interrupt."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self._faults = faults

    def append(self, record: Mapping[str, object]) -> None:
        wrong = self._faults.met("record")
        if wrong == "kill":
            raise Killed
        if wrong == "full":
            raise JournalError("no room: injected")
        before = self._path.read_bytes()
        super().append(record)
        if wrong == "torn":
            added = self._path.read_bytes()[len(before) :]
            self._path.write_bytes(before + added[: len(added) // 2])
            raise Killed
        if wrong == "kill-after":
            raise Killed


class FaultyJournal(Journal):
    """A journal whose records are counted as points at which a kill may come."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__(folder)
        self._faults = faults

    def writer(self, identity: str) -> Writer:
        return FaultyWriter(self.folder / f"{identity}.jsonl", self._faults)
