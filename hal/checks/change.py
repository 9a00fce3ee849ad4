"""What could be changed here, found out without changing anything: at most this process's own pages are touched."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from itertools import groupby

from hal.checks.capability import CHANGE, Area, Capability
from hal.checks.situation import Situation, mounts, text_of
from hal.checks.system import own_pid
from hal.checks.trial import descriptor
from hal.errors import HostError, NotPermittedError, UnsupportedError
from hal.host import Host
from hal.observing import KnobReport, knobs_here

AREA = Area(CHANGE, "change")
_MADV_COLLAPSE = 25
_HUGE = 2 << 20
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_CPU_SET_BYTES = 1024
_MPOL_MF_MOVE = 1 << 1


def check(host: Host, who: Situation) -> Iterator[Capability]:
    """Look at each family of things that dna can set."""
    yield _affinity(host, who)
    yield _migration(host, who)
    yield _collapse(host)
    yield _cgroup(host, who)
    yield from _families(host)
    yield _resctrl(host, who)


def _affinity(host: Host, who: Situation) -> Capability:
    """Set this thread's affinity to what it is; moving others of the same user is allowed as well, of others not."""
    name = "cpu affinity"
    mask = ctypes.create_string_buffer(_CPU_SET_BYTES)
    try:
        size = host.syscall("sched_getaffinity", 0, _CPU_SET_BYTES, ctypes.addressof(mask))
        host.syscall("sched_setaffinity", 0, min(max(size, 0), _CPU_SET_BYTES), ctypes.addressof(mask))
    except HostError as error:
        reason, remedy = who.refused(error, "SYS_NICE")
        return AREA.no(name, reason, remedy)
    return _own_or_all(name, who)


def _own_or_all(name: str, who: Situation) -> Capability:
    if who.has("SYS_NICE"):
        return AREA.yes(name, "any process")
    reason, remedy = who.lacking("SYS_NICE")
    return AREA.yes(name, "this user's processes", caveat=f"others: {reason}", remedy=remedy)


def _migration(host: Host, who: Situation) -> Capability:
    """Move a page of this process to the node where it lies already."""
    name = "page migration"
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=_PRIVATE)
    anchor = ctypes.c_char.from_buffer(page)
    try:
        anchor.value = b"x"
        address = struct.pack("<Q", ctypes.addressof(anchor))
        pages, status = ctypes.create_string_buffer(address, 8), ctypes.create_string_buffer(4)
        host.syscall("move_pages", 0, 1, ctypes.addressof(pages), 0, ctypes.addressof(status), 0)
        nodes = ctypes.create_string_buffer(status.raw, 4)
        host.syscall(
            "move_pages",
            0,
            1,
            ctypes.addressof(pages),
            ctypes.addressof(nodes),
            ctypes.addressof(status),
            _MPOL_MF_MOVE,
        )
    except HostError as error:
        if isinstance(error, NotPermittedError):
            reason, remedy = who.refused(error, "SYS_NICE")
            return AREA.no(name, reason, remedy)
        return AREA.no(name, str(error), "a kernel with CONFIG_MIGRATION=y")
    finally:
        del anchor
        page.close()
    return _own_or_all(name, who)


def _collapse(host: Host) -> Capability:
    """Ask for a huge page under 2 MiB of this process's own memory, through the call that works on others too."""
    name = "huge page collapse"
    region = mmap.mmap(-1, 2 * _HUGE, flags=_PRIVATE)
    anchor = ctypes.c_char.from_buffer(region)
    try:
        start = (ctypes.addressof(anchor) + _HUGE - 1) // _HUGE * _HUGE
        ctypes.memset(start, 1, _HUGE)
        vector = ctypes.create_string_buffer(struct.pack("<QQ", start, _HUGE), 16)
        with descriptor(host, host.syscall("pidfd_open", own_pid(host), 0)) as process:
            host.syscall("process_madvise", process, ctypes.addressof(vector), 1, _MADV_COLLAPSE, 0)
    except UnsupportedError as error:
        return AREA.no(name, str(error), "Linux 6.1 or newer has it")
    except HostError as error:
        return _collapse_refused(name, error)
    finally:
        del anchor
        region.close()
    return AREA.yes(name, "process_madvise(MADV_COLLAPSE)")


def _collapse_refused(name: str, error: HostError) -> Capability:
    if error.number in _TRANSIENT:
        return AREA.yes(name, "process_madvise(MADV_COLLAPSE)", caveat=f"not at this moment: {error}")
    return AREA.no(name, str(error), "Linux 6.1 or newer, with transparent huge pages built in")


# EAGAIN, ENOMEM, EBUSY: understood, but no huge page was free.
_TRANSIENT = (11, 12, 16)


def _cgroup(host: Host, who: Situation) -> Capability:
    for point, kind, _, read_only in mounts(host):
        if kind not in ("cgroup2", "cgroup"):
            continue
        version = "v2" if kind == "cgroup2" else "v1"
        if version == "v1" and not point.endswith(("cpuset", "cpu", "cpu,cpuacct")):
            continue
        if version == "v2" and not text_of(host, f"{point}/cgroup.controllers").split():
            continue  # a hybrid set-up: the controllers are with v1
        return _by_mode(
            host, who, "cgroup settings", f"{point}/cgroup.procs", read_only, detail=f"{version} at {point}"
        )
    return AREA.no(
        "cgroup settings", "no cgroup hierarchy with controllers is mounted", "boot with cgroup v2 (systemd's default)"
    )


def _file(host: Host, who: Situation, name: str, path: str | None, absent: str) -> Capability:
    if path is None or not host.exists(path):
        return AREA.no(name, absent, "nothing to do on this machine; what needs it is left out")
    return _by_mode(host, who, name, path, _read_only(host, path), detail=path)


def _by_mode(host: Host, who: Situation, name: str, path: str, read_only: bool, *, detail: str) -> Capability:
    """Judge by mount and owner: opening for writing would already be too much for some files."""
    if read_only:
        remedy = "start the container with --privileged, or run on the host" if who.container else "mount it read-write"
        return AREA.no(name, f"{detail} is on a file system mounted read-only", remedy)
    try:
        owned = host.owner(path) == who.uid
    except HostError as error:
        return AREA.unknown(name, str(error), "see its permissions")
    if owned or who.has("DAC_OVERRIDE"):
        return AREA.yes(name, detail)
    reason, remedy = who.lacking("DAC_OVERRIDE")
    return AREA.no(name, f"{path} is root's: {reason}" if who.uid else reason, remedy)


def _read_only(host: Host, path: str) -> bool:
    """Tell whether the mount that holds a path is read-only."""
    best, verdict = -1, False
    for point, _, _, read_only in mounts(host):
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, verdict = len(point), read_only
    return verdict


def _families(host: Host) -> Iterator[Capability]:
    """Say of each family of knobs which of them work here."""
    for family, reports in groupby(knobs_here(host), key=lambda report: report.knob.name.partition(".")[0]):
        yield _family(f"{family} knobs", list(reports))


def _family(name: str, reports: list[KnobReport]) -> Capability:
    working = [_short(report) for report in reports if report.works]
    missing: dict[str, list[KnobReport]] = {}
    for report in reports:
        if not report.works:
            missing.setdefault(report.reason, []).append(report)
    reasons = "; ".join(f"{', '.join(map(_short, group))}: {reason}" for reason, group in missing.items())
    remedy = next((group[0].remedy for group in missing.values()), "")
    if not working:
        return AREA.no(name, reasons if len(missing) > 1 else next(iter(missing)), remedy)
    detail = f"{len(working)} of {len(reports)}: {', '.join(working)}"
    return AREA.yes(name, detail, caveat=f"not {reasons}" if reasons else "", remedy=remedy)


def _short(report: KnobReport) -> str:
    return report.knob.name.partition(".")[2]


def _resctrl(host: Host, who: Situation) -> Capability:
    name = "cache and bandwidth allocation"
    if any(kind == "resctrl" for _, kind, _, _ in mounts(host)):
        return _file(host, who, name, "/sys/fs/resctrl/schemata", "resctrl is mounted elsewhere")
    if "resctrl" not in text_of(host, "/proc/filesystems"):
        return AREA.no(
            name, "no resctrl file system", "needs Intel RDT or AMD QoS, and a kernel with CONFIG_X86_CPU_RESCTRL=y"
        )
    prefix = "" if who.uid == 0 else "sudo "
    return AREA.no(name, "resctrl is not mounted", f"{prefix}mount -t resctrl resctrl /sys/fs/resctrl")
