"""A machine in memory, for tests, dry runs and users: files, processes' pages and answers to commands."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hal.errors import translate
from hal.fake_net import FakeNet
from hal.host import CommandResult, Scheduling
from hal.lists import parse_cpu_list

_MOST_LINKS = 40
"""In one path, as in the kernel (MAXSYMLINKS)."""

type SyscallHandler = Callable[..., int]
type WriteHandler = Callable[[str, str], str]
"""From a file's content and what is written to what it holds then, as the kernel would have it."""
type AdviceHandler = Callable[[int, Sequence[tuple[int, int]], int], int]
"""From a process, ranges and advice to how many bytes the kernel took, with what that does to the machine's files."""
type BinaryHandler = Callable[[bytearray, int, bytes], None]
"""Write bytes into a binary file's content at an offset, as the device would have it."""


@dataclass(slots=True)
class FakeTask:
    """One thread of a machine in memory."""

    pid: int
    start: int
    affinity: tuple[int, ...]
    scheduling: Scheduling


_PAGE = 4096
_OWN_PAGE = 1 << 63 | 1 << 56
"""Entry of pagemap: present, and mapped by this process only."""


def selector(old: str, written: str) -> str:
    """Behave like a file of choices: ``always [madvise] never``.

    Raises:
        OSError: EINVAL for what is none of the choices.
    """
    words = old.replace("[", "").replace("]", "").split()
    if written.strip() not in words:
        raise OSError(errno.EINVAL, "not among the choices")
    return " ".join(f"[{word}]" if word == written.strip() else word for word in words) + "\n"


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content[offset : offset + len(data)] = data


class FakeHost:
    """Files are a mapping of absolute path to text; directories are implied by them.

    ``denied`` paths answer EACCES; ``commands`` maps the first word of a command to its result; ``syscalls`` maps a name
    to a function. ``handlers`` say what files make of what is written to them. ``writes`` records everything that changes
    the machine in order, so a test can show that nothing was written. The clock moves only by ``sleep`` and ``advance``.
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
        self.binaries: dict[str, bytearray] = {}
        self.modes: dict[str, int] = {}
        """Permission bits of files that do not have the usual 0644."""
        self.modified: dict[str, int] = {}
        """When files were last written, in nanoseconds, of those that say it."""
        self.handlers: dict[str, WriteHandler] = {}
        self.binary_handlers: dict[str, BinaryHandler] = {}
        self.tasks: dict[int, FakeTask] = {}
        self.dir_contents: dict[str, Mapping[str, str]] = {}
        """Files that appear in a directory made below a path: what cgroupfs does."""
        self.makers: dict[str, Callable[[str], None]] = {}
        """Called with each directory made below a path, where what appears depends on more than that: fills ``files``."""
        self.advised: list[tuple[int, tuple[tuple[int, int], ...], int]] = []
        self.on_advice: AdviceHandler | None = None
        self.page_cache: dict[str, set[int]] = {}
        """By file, the numbers of its pages that are cached."""
        self.network = FakeNet(self)
        self._uid = uid
        self._now_ns = 1_000_000_000

    def _check(self, path: str, action: str) -> None:
        if path in self.denied:
            raise translate(errno.EACCES, path, action)

    def _resolve(self, path: str) -> str:
        for _ in range(_MOST_LINKS):
            link = next((link for link in self.links if path == link or path.startswith(link + "/")), None)
            if link is None:
                break
            path = self._destination(link) + path[len(link) :]
        return path

    def _destination(self, link: str) -> str:
        """Return where a link points to, one relative to its folder as those of sysfs are too."""
        destination = self.links[link]
        return posixpath.normpath(posixpath.join(posixpath.dirname(link), destination))

    def read_bytes(self, path: str) -> bytes:
        if (place := self._resolve(path)) in self.binaries:
            self._check(path, "read")
            return bytes(self.binaries[place])
        return self.read_text(path).encode()

    def read_text(self, path: str) -> str:
        self._check(path, "read")
        if path == "/proc/uptime" and path not in self.files:
            return f"{self._now_ns / 1e9:.2f} 0.00\n"
        try:
            return self.files[self._resolve(path)]
        except KeyError:
            raise translate(errno.ENOENT, path, "read") from None

    def write_text(self, path: str, text: str) -> None:
        self._check(path, "write")
        path = self._resolve(path)
        if path not in self.files:
            raise translate(errno.ENOENT, path, "write")
        self.writes.append((path, text))
        handler = self.handlers.get(path)
        try:
            self.files[path] = handler(self.files[path], text) if handler else text
        except OSError as error:
            raise translate(error.errno or errno.EINVAL, path, "write") from error

    def write_bytes(self, path: str, data: bytes, *, offset: int = 0) -> None:
        self._check(path, "write")
        path = self._resolve(path)
        if path not in self.binaries:
            raise translate(errno.ENOENT, path, "write")
        self.writes.append((path, f"{offset}: {data.hex()}"))
        self.binary_handlers.get(path, _put)(self.binaries[path], offset, data)

    def make_dir(self, path: str) -> None:
        self._check(path, "make")
        if self.exists(path):
            raise translate(errno.EEXIST, path, "make")
        self.writes.append((path, "mkdir"))
        below = [place for place in self.dir_contents if path.startswith(place + "/")]
        fillers = [fill for place, fill in self.makers.items() if path.startswith(place + "/")]
        contents = self.dir_contents[max(below, key=len)] if below else {} if fillers else {"": ""}
        for name, text in contents.items():
            self.files[f"{path}/{name}"] = text
        for fill in fillers:
            fill(path)

    def remove_dir(self, path: str) -> None:
        self._check(path, "remove")
        if not self.exists(path):
            raise translate(errno.ENOENT, path, "remove")
        if self.files.get(f"{path}/cgroup.procs", "").strip() or self._groups_below(path):
            raise translate(errno.EBUSY, path, "remove")
        self.writes.append((path, "rmdir"))
        for name in [name for name in self.files if name.startswith(f"{path}/")]:
            del self.files[name]

    def _groups_below(self, path: str) -> bool:
        own = f"{path}/cgroup.procs"
        return any(n.startswith(f"{path}/") and n.endswith("/cgroup.procs") and n != own for n in self.files)

    def list_dir(self, path: str) -> list[str]:
        self._check(path, "list")
        base = self._resolve(path).rstrip("/") + "/"
        entries = [*self.files, *self.links, *self.binaries]
        names = {entry[len(base) :].split("/", 1)[0] for entry in entries if entry.startswith(base)}
        if base == "/proc/":  # threads are there under their own ids too, but not listed
            names -= {str(tid) for tid, task in self.tasks.items() if task.pid != tid}
        if not names:
            raise translate(errno.ENOENT, path, "list")
        return sorted(names)

    def exists(self, path: str) -> bool:
        path = self._resolve(path)
        base = path.rstrip("/") + "/"
        entries = [*self.files, *self.links, *self.binaries]
        return path in self.files or path in self.binaries or any(name.startswith(base) for name in entries)

    def read_link(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        try:
            return self.links[path] if path in self.links else self.links[f"{self._resolve(folder)}/{name}"]
        except KeyError:
            raise translate(errno.ENOENT, path, "read the link") from None

    def owner(self, path: str) -> int:
        return self.owners.get(path, 0)

    def mode(self, path: str) -> int:
        if not self.exists(path):
            raise translate(errno.ENOENT, path, "stat")
        return self.modes.get(self._resolve(path), 0o644)

    def modified_ns(self, path: str) -> int:
        if not self.exists(path):
            raise translate(errno.ENOENT, path, "stat")
        return self.modified.get(self._resolve(path), 0)

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

    def start(
        self, pid: int, comm: str, *, parent: int = 1, threads: Sequence[int] = (), start: int = 0, cgroup: str = "0::/"
    ) -> None:
        """Start a process with these further threads; they inherit from the parent as after fork(2)."""
        self._add(pid, pid, comm, parent, start, model=parent)
        self.files[f"/proc/{pid}/cgroup"] = cgroup + "\n"
        for tid in threads:
            self.start_thread(pid, tid)

    def start_thread(self, pid: int, tid: int, *, by: int = 0) -> None:
        """Start a thread of a process; it inherits from the thread ``by``, the first one unless given."""
        self._add(pid, tid, self.files[f"/proc/{pid}/comm"].strip(), 0, 0, model=by or pid)
        self.files[f"/proc/{tid}/cgroup"] = self.files[f"/proc/{pid}/cgroup"]

    def _add(self, pid: int, tid: int, comm: str, parent: int, start: int, *, model: int) -> None:
        self.advance(0.01)  # a clock tick: no two begin at the same one
        start = start or self._now_ns // 10_000_000
        stat = f"{tid} ({comm}) S {parent} {'0 ' * 15}1 0 {start} 0 0\n"
        self.files |= {
            f"/proc/{tid}/stat": stat,
            f"/proc/{tid}/comm": f"{comm}\n",
            f"/proc/{pid}/task/{tid}/stat": stat,
        }
        like = self.tasks.get(model)
        cpus = tuple(range(self._cpus()))
        self.tasks[tid] = FakeTask(
            pid, start, like.affinity if like else cpus, like.scheduling if like else Scheduling()
        )

    def end(self, pid: int) -> None:
        """End a process and its threads."""
        for tid in [tid for tid, task in self.tasks.items() if task.pid == pid or tid == pid]:
            del self.tasks[tid]
            for path in [path for path in self.files if path.startswith((f"/proc/{tid}/", f"/proc/{pid}/task/{tid}/"))]:
                del self.files[path]

    def _cpus(self) -> int:
        return 1 + max(parse_cpu_list(self.files.get("/sys/devices/system/cpu/online", "0")))

    def _task(self, tid: int, action: str) -> FakeTask:
        if tid not in self.tasks:
            raise translate(errno.ESRCH, f"thread {tid}", action)
        return self.tasks[tid]

    def affinity(self, tid: int) -> tuple[int, ...]:
        return self._task(tid, "read the affinity of").affinity

    def set_affinity(self, tid: int, cpus: Sequence[int]) -> None:
        task = self._task(tid, "set the affinity of")
        online = parse_cpu_list(self.files.get("/sys/devices/system/cpu/online", "0"))
        kept = tuple(sorted(set(cpus) & set(online)))
        if not kept:
            raise translate(errno.EINVAL, f"thread {tid}", "set the affinity of")
        self.writes.append((f"affinity {tid}", ",".join(map(str, kept))))
        task.affinity = kept

    def scheduling(self, tid: int) -> Scheduling:
        return self._task(tid, "read the scheduling of").scheduling

    def set_scheduling(self, tid: int, wanted: Scheduling) -> None:
        task = self._task(tid, "set the scheduling of")
        self.writes.append((f"scheduling {tid}", str(wanted)))
        task.scheduling = wanted

    def set_nice(self, tid: int, nice: int) -> None:
        task = self._task(tid, "set the nice value of")
        self.writes.append((f"nice {tid}", str(nice)))
        task.scheduling = replace(task.scheduling, nice=nice)

    def move_pages(self, pid: int, addresses: NDArray[np.uint64], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        found = self.page_nodes(pid, addresses)
        self.writes.append((f"pages {pid}", f"{len(addresses)} pages"))
        for address, node in zip(addresses[found >= 0], nodes[found >= 0], strict=True):
            self.pages[pid][int(address)] = int(node)
        return self.page_nodes(pid, addresses)

    def advise(self, pid: int, start: int, ranges: Sequence[tuple[int, int]], advice: int) -> int:
        if self._task(pid, "advise on").start != start:
            raise translate(errno.ESRCH, f"process {pid}", "advise on")
        self.writes.append((f"advice {pid}", f"{advice}: {list(ranges)}"))
        self.advised.append((pid, tuple(ranges), advice))
        return self.on_advice(pid, ranges, advice) if self.on_advice else sum(length for _, length in ranges)

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        if pid not in self.pages:
            raise translate(errno.ESRCH, f"process {pid}", "ask for pages of")
        known = self.pages[pid]
        return np.array([known.get(int(address), -errno.ENOENT) for address in addresses], dtype=np.int32)

    def page_map(self, pid: int, address: int, count: int) -> NDArray[np.uint64]:
        known = self.pages.get(pid, {})
        pages = range(address, address + count * _PAGE, _PAGE)
        return np.array([_OWN_PAGE if page in known else 0 for page in pages], dtype=np.uint64)

    def file_size(self, path: str) -> int:
        return len(self.read_text(path))

    def cached(self, path: str, offset: int, length: int) -> int:
        end = min(offset + length, self.file_size(path))
        pages = range(offset // _PAGE, -(-end // _PAGE))
        return min(len(self.page_cache.get(path, set()) & set(pages)) * _PAGE, max(end - offset, 0))

    def preload(self, path: str, offset: int, length: int) -> None:
        end = min(offset + length, self.file_size(path))
        self.writes.append((path, f"preload {offset}-{end}"))
        self.page_cache.setdefault(path, set()).update(range(offset // _PAGE, -(-end // _PAGE)))

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        try:
            return self.memory[pid][address][:size]
        except KeyError:
            raise translate(errno.EIO, f"/proc/{pid}/mem", "read") from None

    def syscall(self, name: str, *arguments: int) -> int:
        if name not in self.syscalls:
            raise translate(errno.ENOSYS, name, "call")
        return self.syscalls[name](*arguments)

    def net(self) -> FakeNet:
        return self.network
