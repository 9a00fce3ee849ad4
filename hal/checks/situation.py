"""Who asks, and from where: root or not, in which container, with which capabilities. Remedies depend on it."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hal.errors import HostError, NotPermittedError
from hal.host import Host

# include/uapi/linux/capability.h; those that matter here.
CAPABILITY_BITS = {
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "NET_ADMIN": 12,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYSLOG": 34,
    "PERFMON": 38,
    "BPF": 39,
}
_CHECKOUT = Path(__file__).parents[2]
# include/linux/proc_ns.h: inode numbers of the initial namespaces.
_INITIAL = {"cgroup": 0xEFFFFFFB, "pid": 0xEFFFFFFC, "user": 0xEFFFFFFD, "uts": 0xEFFFFFFE, "ipc": 0xEFFFFFFF}
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_RUNTIMES = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("/lxc", "lxc"))


@dataclass(frozen=True, slots=True)
class Situation:
    """What the remedies need to know."""

    uid: int
    capabilities: frozenset[str] | None
    """Effective capabilities without "CAP_"; None when the kernel does not tell."""
    container: str
    """"docker", "podman", "kubernetes", "lxc", "container", or empty on a plain host."""
    initial_pid_namespace: bool | None
    initial_user_namespace: bool | None
    lockdown: str
    """"integrity" or "confidentiality" when the kernel is locked down, else empty."""
    release: str
    command: str
    """The command line to repeat with sudo."""

    def has(self, *capabilities: str) -> bool:
        """Tell whether this process has these capabilities over the machine, not only in a user namespace of its own.

        CAP_SYS_ADMIN covers CAP_BPF and CAP_PERFMON, as the kernel has it.
        """
        held = self.capabilities
        if self.initial_user_namespace is False:
            return False
        if held is None:
            return self.uid == 0
        return all(one in held or (one in ("BPF", "PERFMON") and "SYS_ADMIN" in held) for one in capabilities)

    def sudo(self) -> str:
        """Return the command that runs the same thing as root."""
        return f"sudo {self.command}"

    def lacking(self, *capabilities: str) -> tuple[str, str]:
        """Return (reason, remedy) for capabilities that this process does not have."""
        names = [f"CAP_{name}" for name in capabilities if not self.has(name)] or [f"CAP_{n}" for n in capabilities]
        named = " and ".join(names)
        if self.initial_user_namespace is False:
            return (
                "this process is in a user namespace of its own, whose root has no rights over the machine",
                "run it outside the rootless container, or in one that real root starts",
            )
        if self.uid != 0:
            return f"needs root, or {named}", f"run it as root: {self.sudo()}"
        if self.container:
            flags = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in names)
            return (
                f"root in a container without {named}",
                f"start the container with {flags} (Kubernetes: securityContext.capabilities.add)",
            )
        return f"root without {named}", f"start it with {named} (systemd: CapabilityBoundingSet=, AmbientCapabilities=)"

    def refused(self, error: HostError, *capabilities: str) -> tuple[str, str]:
        """Return (reason, remedy) for an operation that failed and needs ``capabilities``.

        Permission is blamed only where the kernel said so: first what this process lacks, then the container's filters,
        then the kernel's lockdown, else the kernel's own words.
        """
        if not isinstance(error, NotPermittedError):
            return str(error), "this kernel or machine refuses it; see `dmesg`"
        if not self.has(*capabilities):
            return self.lacking(*capabilities)
        if self.container:
            return (
                f"{error}, though the capabilities are there: the container's seccomp or security profile",
                "start the container with --security-opt seccomp=unconfined (and apparmor=unconfined), or --privileged",
            )
        if self.lockdown:
            return (
                f"{error}: the kernel is locked down ({self.lockdown})",
                "boot with lockdown=none, or without Secure Boot",
            )
        return (
            f"{error}, to root with every capability it takes",
            "the kernel was built without it, or a security module forbids it: see `dmesg`",
        )


def situation(host: Host, command: str = "") -> Situation:
    """Return the situation of this process on a host; what cannot be read is None or empty."""
    return Situation(
        uid=host.euid(),
        capabilities=effective_capabilities(text_of(host, "/proc/self/status")),
        container=_container(host),
        initial_pid_namespace=_is_initial(host, "pid"),
        initial_user_namespace=_is_initial(host, "user"),
        lockdown=_lockdown(host),
        release=text_of(host, "/proc/sys/kernel/osrelease").strip() or platform.release(),
        command=command or this_command(sys.argv),
    )


def text_of(host: Host, path: str, default: str = "") -> str:
    """Return the content of a file, or ``default`` when it cannot be read."""
    try:
        return host.read_text(path)
    except HostError:
        return default


def names_in(host: Host, path: str) -> list[str]:
    """Return the names in a directory, none when it cannot be read."""
    try:
        return host.list_dir(path)
    except HostError:
        return []


def mounts(host: Host) -> list[tuple[str, str, str, bool]]:
    """Return (mount point, file system, super options, read-only) of each mount of this process."""
    found = []
    for line in text_of(host, "/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if len(before) >= 6 and len(after) >= 3:
            read_only = "ro" in before[5].split(",") or "ro" in after[2].split(",")
            found.append((before[4], after[0], after[2], read_only))
    return found


def effective_capabilities(status: str) -> frozenset[str] | None:
    """Return the names of the effective capabilities in a ``/proc/PID/status``, or None when it has none."""
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)\s*$", status, flags=re.MULTILINE)
    if not found:
        return None
    mask = int(found[1], 16)
    return frozenset(name for name, bit in CAPABILITY_BITS.items() if mask >> bit & 1)


def this_command(argv: Sequence[str]) -> str:
    """Return the present command line with absolute paths: sudo's secure path knows no virtual environment."""
    program = Path(argv[0]) if argv else Path()
    arguments = list(argv[1:]) if program.name in ("dna", "cli.py") else ["doctor"]
    script = _script(program)
    if script is not None:
        return shlex.join([str(script), *arguments])
    return shlex.join([sys.executable, str(_CHECKOUT / "cli.py"), *arguments])


def _script(program: Path) -> Path | None:
    """Return the installed ``dna``: the one that was called, else the one beside this Python."""
    called = shutil.which(str(program)) if program.name == "dna" else None
    places = [Path(called).absolute()] if called else []
    return next((path for path in [*places, Path(sys.executable).with_name("dna")] if path.is_file()), None)


def _is_initial(host: Host, namespace: str) -> bool | None:
    try:
        return host.read_link(f"/proc/self/ns/{namespace}") == f"{namespace}:[{_INITIAL[namespace]}]"
    except HostError:
        return None


def _container(host: Host) -> str:
    """Name the container runtime. Virtual machines made from container images carry its marks too, but no namespaces."""
    apart = [_is_initial(host, namespace) for namespace in ("pid", "ipc", "uts", "cgroup")]
    if all(apart):
        return ""
    return _marked_container(host) or ("container" if apart[0] is False else "")


def _marked_container(host: Host) -> str:
    if host.exists("/run/.containerenv"):
        return "podman"
    groups = text_of(host, "/proc/1/cgroup")
    if "kubepods" in groups or host.exists("/var/run/secrets/kubernetes.io"):
        return "kubernetes"
    if host.exists("/.dockerenv"):
        return "docker"
    named = text_of(host, "/run/systemd/container").strip()
    if named and named != "wsl":
        return named if named in ("docker", "podman", "lxc") else "container"
    return next((runtime for mark, runtime in _RUNTIMES if mark in groups), "")


def _lockdown(host: Host) -> str:
    chosen = re.search(r"\[(\w+)\]", text_of(host, "/sys/kernel/security/lockdown"))
    return chosen[1] if chosen and chosen[1] != "none" else ""
