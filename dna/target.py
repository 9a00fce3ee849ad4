"""What is profiled, as the user names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dna.errors import TargetError

KINDS = ("pid", "cgroup", "unit", "container", "comm", "host", "command")


@dataclass(frozen=True, slots=True)
class Target:
    """A process tree, cgroup, systemd unit, container, command name, launched command, or the whole host.

    Build one with the class methods; ``kind`` is one of KINDS.
    """

    kind: str
    value: str = ""
    argv: tuple[str, ...] = ()

    @classmethod
    def pid(cls, pid: int) -> Target:
        """Return the target of a process, its threads and its present and future children."""
        if pid <= 0:
            raise TargetError(f"--pid {pid}: a process id is a positive number")
        return cls("pid", str(pid))

    @classmethod
    def cgroup(cls, path: str) -> Target:
        """Return the target of all processes in a cgroup and below it (v1 or v2)."""
        if not path.strip():
            raise TargetError("--cgroup: an empty path; give one below /sys/fs/cgroup")
        return cls("cgroup", path)

    @classmethod
    def unit(cls, name: str) -> Target:
        """Return the target of a systemd unit's processes."""
        if not name.strip():
            raise TargetError("--unit: an empty name; see `systemctl list-units`")
        return cls("unit", name if "." in name else f"{name}.service")

    @classmethod
    def container(cls, identity: str) -> Target:
        """Return the target of a container, by id or a prefix of at least 6 hexadecimal digits, or by name."""
        if not identity.strip():
            raise TargetError("--container: an empty id; see `docker ps`, `podman ps` or `crictl ps`")
        return cls("container", identity)

    @classmethod
    def comm(cls, pattern: str) -> Target:
        """Return the target of all processes whose command name matches a regular expression (searched)."""
        try:
            re.compile(pattern)
        except re.error as error:
            raise TargetError(f"--comm {pattern!r} is not a regular expression: {error}") from error
        if not pattern:
            raise TargetError("--comm: an empty pattern would match everything; use --host for that")
        return cls("comm", pattern)

    @classmethod
    def host(cls) -> Target:
        """Return the target of everything that runs on the machine."""
        return cls("host")

    @classmethod
    def command(cls, argv: Sequence[str]) -> Target:
        """Return the target of a command that the profiler itself will start."""
        if not argv:
            raise TargetError("no command after --")
        return cls("command", " ".join(argv), tuple(argv))

    def __str__(self) -> str:
        return self.kind if self.kind == "host" else f"{self.kind} {self.value}"
