"""Privileges, namespaces, cgroups, pressure, NUMA, huge pages and other processes' memory."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator

import numpy as np

from hal.checks.capability import MEASURE, Area, Capability
from hal.checks.situation import TRACEFS, Situation, mounts, names_in, text_of
from hal.errors import HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host
from hal.lists import parse_cpu_list

PRIVILEGES = Area(MEASURE, "privileges")
SYSTEM = Area(MEASURE, "system")
MEMORY = Area(MEASURE, "memory")


def privileges(host: Host, who: Situation) -> Iterator[Capability]:
    """Say who asks and whether that is enough, and whether process ids are the kernel's own."""
    held = (
        "unknown capabilities" if who.capabilities is None else " ".join(f"CAP_{c}" for c in sorted(who.capabilities))
    )
    name = "root" if who.uid == 0 else f"uid {who.uid}"
    detail = f"{name}{f' in a container ({who.container})' if who.container else ''}; {held or 'no capabilities'}"
    if who.has("BPF", "PERFMON"):
        yield PRIVILEGES.yes("privileges", detail)
    else:
        reason, remedy = who.lacking("BPF", "PERFMON")
        yield PRIVILEGES.no("privileges", reason, remedy, detail=detail)
    yield _host_pids(who)


def _host_pids(who: Situation) -> Capability:
    name = "host process ids"
    if who.initial_pid_namespace is None:
        return PRIVILEGES.unknown(name, "/proc/self/ns/pid cannot be read", "mount /proc")
    if who.initial_pid_namespace:
        return PRIVILEGES.yes(name, "the initial PID namespace")
    return PRIVILEGES.no(
        name,
        "a PID namespace of its own: eBPF reports the host's process ids, and /proc here shows others",
        "run on the host, or start the container with --pid=host",
    )


def system(host: Host, who: Situation) -> Iterator[Capability]:
    """Look at tracefs, cgroups and pressure."""
    yield _tracefs(host, who)
    yield from _cgroups(host)
    yield _pressure(host)
    yield _cgroup_pressure(host)


def _tracefs(host: Host, who: Situation) -> Capability:
    for path in TRACEFS:
        if host.exists(f"{path}/events"):
            return SYSTEM.yes("tracefs", path)
    if mounted_tracefs(host):
        reason, remedy = who.lacking("DAC_READ_SEARCH")
        return SYSTEM.no("tracefs", f"mounted, but not readable: {reason}", remedy)
    prefix = "" if who.uid == 0 else "sudo "
    if host.exists("/proc/filesystems") and "tracefs" not in text_of(host, "/proc/filesystems"):
        return SYSTEM.no("tracefs", "this kernel has none", "a kernel with CONFIG_FTRACE; raw tracepoints do without")
    return SYSTEM.no(
        "tracefs",
        "not mounted",
        f"{prefix}mount -t tracefs tracefs /sys/kernel/tracing (only plain tracepoints need it)",
    )


def mounted_tracefs(host: Host) -> bool:
    """Tell whether a tracefs is mounted where it belongs, readable or not."""
    return any(kind == "tracefs" and point in TRACEFS for point, kind, _, _ in mounts(host))


def _cgroups(host: Host) -> Iterator[Capability]:
    mounted = mounts(host)
    unified = [point for point, kind, _, _ in mounted if kind == "cgroup2"]
    legacy = [point.rsplit("/", 1)[-1] for point, kind, _, _ in mounted if kind == "cgroup"]
    if not unified and not legacy:
        yield SYSTEM.no("cgroups", "no cgroup hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
        return
    parts = [f"v2 at {unified[0]}"] if unified else []
    if unified:
        controllers = text_of(host, f"{unified[0]}/cgroup.controllers").split()
        parts.append(f"controllers: {' '.join(controllers) or 'none'}")
    if legacy:
        parts.append(f"v1: {' '.join(sorted(legacy))}")
    yield SYSTEM.yes("cgroups", "; ".join(parts))


def _pressure(host: Host) -> Capability:
    try:
        host.read_text("/proc/pressure/cpu")
    except (NotFoundError, UnsupportedError):
        return SYSTEM.no("psi", "the kernel measures no pressure", "boot with psi=1 (kernel built with CONFIG_PSI=y)")
    except HostError as error:
        return SYSTEM.no("psi", str(error), "boot with psi=1")
    return SYSTEM.yes("psi", " ".join(names_in(host, "/proc/pressure")))


def _cgroup_pressure(host: Host) -> Capability:
    name = "psi per cgroup"
    point = next((point for point, kind, _, _ in mounts(host) if kind == "cgroup2"), None)
    if point is None:
        return SYSTEM.no(name, "only cgroup v2 has it", "boot with systemd.unified_cgroup_hierarchy=1")
    own = re.search(r"^0::(/.*)$", text_of(host, "/proc/self/cgroup"), flags=re.MULTILINE)
    path = f"{point}{own[1].rstrip('/') if own else ''}"
    if host.exists(f"{path}/cpu.pressure"):
        return SYSTEM.yes(name, f"{path}/cpu.pressure")
    return SYSTEM.no(name, f"no cpu.pressure in {path}", "boot with psi=1; or write 1 to cgroup.pressure there")


def memory(host: Host, who: Situation) -> Iterator[Capability]:
    """Look at NUMA nodes, huge pages, and what can be learned about pages and memory of processes."""
    yield _numa(host)
    yield _thp(host)
    yield _hugetlb(host)
    yield _page_nodes(host)
    yield _other_memory(host, who)


def _numa(host: Host) -> Capability:
    base = "/sys/devices/system/node"
    try:
        nodes = parse_cpu_list(host.read_text(f"{base}/online"))
    except (HostError, ValueError) as error:
        return MEMORY.no(
            "numa", f"the kernel shows no NUMA nodes ({error})", "a kernel with CONFIG_NUMA=y, if there are several"
        )
    if len(nodes) <= 1:
        return MEMORY.yes("numa", "1 node", caveat="all memory is local: locality tells nothing here")
    return MEMORY.yes("numa", f"{len(nodes)} nodes")


def _thp(host: Host) -> Capability:
    base = "/sys/kernel/mm/transparent_hugepage"
    modes = {name: re.search(r"\[(\w+)\]", text_of(host, f"{base}/{name}")) for name in ("enabled", "defrag")}
    chosen = modes["enabled"]
    if not chosen:
        return MEMORY.no("transparent huge pages", "the kernel has none", "a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y")
    defrag = modes["defrag"]
    return MEMORY.yes("transparent huge pages", f"{chosen[1]}, defrag {defrag[1] if defrag else '?'}")


def _hugetlb(host: Host) -> Capability:
    base = "/sys/kernel/mm/hugepages"
    found = []
    for name in names_in(host, base):
        size = re.fullmatch(r"hugepages-(\d+)kB", name)
        count = text_of(host, f"{base}/{name}/nr_hugepages").strip()
        if size and count.isdigit():
            found.append((int(size[1]), int(count)))
    if not found:
        return MEMORY.no("reserved huge pages", "the kernel has none", "a kernel with CONFIG_HUGETLBFS=y")
    return MEMORY.yes("reserved huge pages", ", ".join(f"{count} of {_kib(size)}" for size, count in sorted(found)))


def _kib(size: int) -> str:
    return f"{size >> 20} GiB" if size >= 1 << 20 else f"{size >> 10} MiB" if size >= 1 << 10 else f"{size} KiB"


def _page_nodes(host: Host) -> Capability:
    """Ask where a page of this very process lies."""
    name = "page placement"
    page = ctypes.create_string_buffer(1)
    page[0] = b"x"
    try:
        nodes = host.page_nodes(0, np.array([ctypes.addressof(page) & ~0xFFF], dtype=np.uint64))
    except HostError as error:
        return MEMORY.no(
            name, f"move_pages: {error}", "a kernel with CONFIG_MIGRATION=y, and no seccomp filter over move_pages"
        )
    if len(nodes) != 1 or nodes[0] < 0:
        return MEMORY.unknown(name, f"move_pages answered {nodes.tolist()} for a page in use", "see `dmesg`")
    return MEMORY.yes(name, "move_pages")


def _other_memory(host: Host, who: Situation) -> Capability:
    """Read a few bytes of another process: decoding instructions needs that of any target."""
    name = "other processes' memory"
    scope = text_of(host, "/proc/sys/kernel/yama/ptrace_scope").strip()
    detail = f"ptrace_scope {scope}" if scope else ""
    refusal: HostError | None = None
    for pid in _strangers(host, who):
        try:
            first = re.match(r"([0-9a-f]+)-", host.read_text(f"/proc/{pid}/maps"))
            if first is None:  # a kernel thread
                continue
            host.read_memory(pid, int(first[1], 16), 4)
            return MEMORY.yes(name, detail)
        except NotPermittedError as error:
            refusal = error
        except HostError:  # it ended, or what it maps first cannot be read
            continue
    if refusal is None:
        return MEMORY.unknown(name, "no other process here to try it on", "nothing to do: it is tried on each target")
    reason, remedy = who.refused(refusal, "SYS_PTRACE")
    if who.uid != 0 and scope in ("", "0"):
        return MEMORY.yes(name, detail, caveat=f"only this user's processes: {reason}", remedy=remedy)
    return MEMORY.no(name, reason, remedy, detail=detail)


def _strangers(host: Host, who: Situation) -> list[int]:
    """Return a few processes to try: for a user those of others, as one's own are the easy case."""
    pids = sorted(int(name) for name in names_in(host, "/proc") if name.isdigit())
    own = own_pid(host)
    others = [pid for pid in pids if pid != own and (who.uid == 0 or _owner(host, pid) != who.uid)]
    return others[:1] + others[-_TRIES:]


_TRIES = 8


def _owner(host: Host, pid: int) -> int | None:
    try:
        return host.owner(f"/proc/{pid}")
    except HostError:
        return None


def own_pid(host: Host) -> int:
    """Return the process id of this process as /proc has it, or 0."""
    try:
        return int(host.read_link("/proc/self"))
    except (HostError, ValueError):
        return 0


def machine_line(host: Host) -> str:
    """Return the CPU's model name; of an ARM server, which has none, the number of its core's kind; or empty."""
    text = text_of(host, "/proc/cpuinfo")
    found = re.search(r"^(?:model name|Model|cpu model|uarch)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    part = re.search(r"^CPU part\s*:\s*(\S+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else f"CPU part {part[1]}" if part else ""
