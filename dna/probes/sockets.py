"""TCP connections of processes, and who on this host is at the other end, from /proc."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dna.sample import TcpPeer
from hal.errors import HalError
from hal.host import Host

_ESTABLISHED, _LISTENING = "01", "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Connection:
    """One established TCP connection seen from one end; addresses are the kernel's hexadecimal ``ADDRESS:PORT``."""

    inode: int
    local: str
    remote: str

    @property
    def port(self) -> int:
        """The remote port."""
        return int(self.remote.rpartition(":")[2], 16)

    @property
    def local_port(self) -> int:
        """The local port."""
        return int(self.local.rpartition(":")[2], 16)


def socket_inodes(host: Host, pid: int, *, most: int = 4096) -> set[int]:
    """Return the inodes of the sockets that a process has open, of its first ``most`` descriptors."""
    found: set[int] = set()
    try:
        names = host.list_dir(f"/proc/{pid}/fd")[:most]
    except HalError:
        return found
    for name in names:
        try:
            match = _SOCKET.match(host.read_link(f"/proc/{pid}/fd/{name}"))
        except HalError:
            continue
        if match:
            found.add(int(match[1]))
    return found


def connections(host: Host, pid: int) -> tuple[list[Connection], set[int]]:
    """Return the established TCP connections of a process's network namespace, and the ports that are listened on there."""
    rows = list(_rows(host, pid))
    return [row for state, row in rows if state == _ESTABLISHED], {
        row.local_port for state, row in rows if state == _LISTENING
    }


def _rows(host: Host, pid: int) -> Iterator[tuple[str, Connection]]:
    for table in ("tcp", "tcp6"):
        try:
            lines = host.read_text(f"/proc/{pid}/net/{table}").splitlines()[1:]
        except HalError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] in (_ESTABLISHED, _LISTENING):
                yield fields[3], Connection(int(fields[9]), _plain(fields[1]), _plain(fields[2]))


def _plain(address: str) -> str:
    """Write an IPv4 address mapped into IPv6 (::ffff:a.b.c.d) as the IPv4 address it is."""
    host, _, port = address.rpartition(":")
    if len(host) == 32 and host.startswith("0000000000000000FFFF0000"):
        return f"{host[24:]}:{port}"
    return address


class Peers:
    """Finds the processes at the other end of a target's connections.

    Tables of sockets and descriptors may be long, so it keeps to ``SHARE`` of the time: where looking took longer than
    that part of an interval, the last answer stands for as many calls as make up for it.
    """

    MOST_PROCESSES = 64
    """Processes of the target whose descriptors are read in one call."""
    SHARE = 0.001

    def __init__(self, host: Host, *, interval_s: float) -> None:
        self._host = host
        self._interval_s = interval_s
        self._owner: dict[int, int] = {}
        self._unowned: set[int] = set()
        self._answer: tuple[int, tuple[TcpPeer, ...]] = (0, ())
        self._debt_s = 0.0

    def find(self, pids: Iterable[int]) -> tuple[int, tuple[TcpPeer, ...]]:
        """Return (established connections, peers on this host, most connected first)."""
        self._debt_s -= self.SHARE * self._interval_s
        if self._debt_s <= 0:
            began = time.thread_time()
            self._answer = self._find(sorted(pids)[: self.MOST_PROCESSES])
            self._debt_s = time.thread_time() - began
        return self._answer

    def _find(self, chosen: list[int]) -> tuple[int, tuple[TcpPeer, ...]]:
        own = {inode for pid in chosen for inode in socket_inodes(self._host, pid)}
        if not own:
            return 0, ()
        every, listening = connections(self._host, chosen[0])
        mine = [connection for connection in every if connection.inode in own]
        other_end = {(c.local, c.remote): c for c in every}
        far = [(c, end) for c in mine if (end := other_end.get((c.remote, c.local))) and end.inode not in own]
        self._find_owners({end.inode for _, end in far})
        return len(mine), self._peers(far, listening)

    def _find_owners(self, wanted: set[int]) -> None:
        """Scan the host for who holds these sockets; those that nobody visible holds are not looked for again."""
        unknown = wanted - self._owner.keys() - self._unowned
        if not unknown:
            return
        self._owner = {inode: pid for inode, pid in self._owner.items() if inode in wanted}
        for name in self._host.list_dir("/proc"):
            if not unknown:
                break
            if name.isdigit():
                held = socket_inodes(self._host, int(name)) & unknown
                self._owner.update(dict.fromkeys(held, int(name)))
                unknown -= held
        self._unowned = (self._unowned & wanted) | unknown

    def _peers(self, far: list[tuple[Connection, Connection]], listening: set[int]) -> tuple[TcpPeer, ...]:
        found: Counter[tuple[int, int]] = Counter()
        for near, end in far:
            if (pid := self._owner.get(end.inode)) is not None:
                # The service's port is the one that is listened on; when nobody does any more, the lower one.
                found[pid, min(near.port, near.local_port, key=lambda port: (port not in listening, port))] += 1
        return tuple(TcpPeer(pid, self._name(pid), count, port) for (pid, port), count in found.most_common(8))

    def _name(self, pid: int) -> str:
        try:
            return self._host.read_text(f"/proc/{pid}/comm").strip()
        except HalError:
            return "?"
