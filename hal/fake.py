"""A machine in memory, for tests, dry runs and users: files, processes' pages and answers to commands."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hal.errors import translate
from hal.host import CommandResult

type SyscallHandler = Callable[..., int]


class FakeHost:
    """Files are a mapping of absolute path to text; directories are implied by them.

    ``denied`` paths answer EACCES; ``commands`` maps the first word of a command to its result; ``syscalls`` maps a name
    to a function. ``writes`` records every write in order, so a test can show that nothing was written. The clock moves
    only by ``sleep`` and ``advance``.
    """

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        links: Mapping[str, str] | None = None,
        commands: Mapping[str, CommandResult] | None = None,
        syscalls: Mapping[str, SyscallHandler] | None = None,
        denied: Sequence[str] = (),
        uid: int = 0,
        owners: Mapping[str, int] | None = None,
    ) -> None:
        self.files: dict[str, str] = dict(files or {})
        self.links: dict[str, str] = dict(links or {})
        self.commands = dict(commands or {})
        self.syscalls = dict(syscalls or {})
        self.denied = set(denied)
        self.owners = dict(owners or {})
        self.pages: dict[int, dict[int, int]] = {}
        self.memory: dict[int, dict[int, bytes]] = {}
        self.writes: list[tuple[str, str]] = []
        self._uid = uid
        self._now_ns = 1_000_000_000

    def _check(self, path: str, action: str) -> None:
        if path in self.denied:
            raise translate(errno.EACCES, path, action)

    def _resolve(self, path: str) -> str:
        for link, destination in self.links.items():
            if path == link or path.startswith(link + "/"):
                return destination + path[len(link) :]
        return path

    def read_bytes(self, path: str) -> bytes:
        return self.read_text(path).encode()

    def read_text(self, path: str) -> str:
        self._check(path, "read")
        try:
            return self.files[self._resolve(path)]
        except KeyError:
            raise translate(errno.ENOENT, path, "read") from None

    def write_text(self, path: str, text: str) -> None:
        self._check(path, "write")
        if path not in self.files:
            raise translate(errno.ENOENT, path, "write")
        self.writes.append((path, text))
        self.files[path] = text

    def list_dir(self, path: str) -> list[str]:
        self._check(path, "list")
        base = self._resolve(path).rstrip("/") + "/"
        entries = [*self.files, *self.links]
        names = {entry[len(base) :].split("/", 1)[0] for entry in entries if entry.startswith(base)}
        if not names:
            raise translate(errno.ENOENT, path, "list")
        return sorted(names)

    def exists(self, path: str) -> bool:
        path = self._resolve(path)
        base = path.rstrip("/") + "/"
        return path in self.files or any(name.startswith(base) for name in [*self.files, *self.links])

    def read_link(self, path: str) -> str:
        try:
            return self.links[path]
        except KeyError:
            raise translate(errno.ENOENT, path, "read the link") from None

    def owner(self, path: str) -> int:
        return self.owners.get(path, 0)

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        try:
            return self.commands[argv[0]]
        except KeyError:
            raise translate(errno.ENOENT, argv[0], "run") from None

    def euid(self) -> int:
        return self._uid

    def monotonic_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._now_ns += round(seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        if pid not in self.pages:
            raise translate(errno.ESRCH, f"process {pid}", "ask for pages of")
        known = self.pages[pid]
        return np.array([known.get(int(address), -errno.ENOENT) for address in addresses], dtype=np.int32)

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        try:
            return self.memory[pid][address][:size]
        except KeyError:
            raise translate(errno.EIO, f"/proc/{pid}/mem", "read") from None

    def syscall(self, name: str, *arguments: int) -> int:
        if name not in self.syscalls:
            raise translate(errno.ENOSYS, name, "call")
        return self.syscalls[name](*arguments)
