"""eBPF: one trial per kind of program, each loaded and attached to something harmless, then taken away again."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from hal.checks import trial
from hal.checks.capability import MEASURE, Area, Capability
from hal.checks.situation import TRACEFS, Situation, mounts, text_of
from hal.checks.trial import descriptor
from hal.errors import BpfError, HalError, HostError, NotFoundError, UnsupportedError
from hal.host import Host, LinuxHost

AREA = Area(MEASURE, "eBPF")
VMLINUX = "/sys/kernel/btf/vmlinux"
_NEEDS = ("BPF", "PERFMON")
_FUNCTION = "do_nanosleep"
_SPARE = "nothing to do: dna's own probes attach to raw tracepoints"


def check(host: Host, who: Situation) -> Iterator[Capability]:
    """Try maps and every kind of program that tracing knows."""
    yield _tried("bpf map", who, lambda: _map(host), absent="the kernel has no bpf(2)")
    raw = _tried("bpf raw tracepoint", who, lambda: _raw_tracepoint(host), absent="the kernel has no raw tracepoints")
    yield raw
    yield _tracepoint(host, who)
    yield _kprobe(host, who)
    yield _tracing(
        host, who, "bpf tp_btf", trial.TRACE_RAW_TP, "btf_trace_sched_switch", 8, permitted=bool(raw.available)
    )
    yield _tracing(host, who, "bpf fentry", trial.TRACE_FENTRY, _FUNCTION, 12, permitted=bool(raw.available))
    yield _tried("bpf perf event", who, lambda: _perf_event(host), absent="the kernel attaches no BPF to perf events")


def toolchain(host: Host, who: Situation) -> Iterator[Capability]:
    """Look for what compiling a program takes: BTF, headers, bcc."""
    from hal.bpf.compiler import find_bcc, find_headers

    if host.exists(VMLINUX):
        yield AREA.yes("btf", VMLINUX)
    else:
        yield AREA.no(
            "btf", f"no {VMLINUX}", "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (the distributions' are)"
        )
    bcc = find_bcc(host)
    install = _installer(host)
    if bcc:
        yield AREA.yes("bcc", bcc)
    else:
        yield AREA.no("bcc", "the distribution's bcc is not installed", f"install it: {install('bcc')}")
    trees = find_headers(host, who.release)
    if trees:
        foreign = not trees[0].startswith("/lib/modules/")
        caveat = "another kernel's; structure offsets come from BTF instead" if foreign else ""
        yield AREA.yes("kernel headers", " + ".join(trees), caveat=caveat)
        if bcc:
            yield from _compiles(host)
    else:
        yield AREA.no(
            "kernel headers", f"none for {who.release}, no other kernel's either", f"install any: {install('headers')}"
        )


def _compiles(host: Host) -> Iterator[Capability]:
    """Compile an empty program with the distribution's bcc, on the running machine."""
    from hal.bpf.compiler import Compiler

    if not (isinstance(host, LinuxHost) and host.is_live):
        return
    try:
        Compiler(host, cache=None).compile("int nothing(void *context) { return 0; }", ["nothing"])
    except BpfError as error:
        yield AREA.no("bpf compile", str(error), "reinstall bcc, or install the headers of another kernel")
    except OSError as error:  # the helper process could not be started
        yield AREA.no("bpf compile", f"the compiler cannot be started: {error}", "let this user run dna's Python")
    else:
        yield AREA.yes("bpf compile", "bcc")


def _tried(name: str, who: Situation, attempt: Callable[[], None], *, absent: str, remedy: str = "") -> Capability:
    error = trial.outcome(attempt)
    return AREA.yes(name) if error is None else _failed(name, who, error, absent=absent, remedy=remedy)


def _failed(name: str, who: Situation, error: HostError, *, absent: str, remedy: str = "") -> Capability:
    if isinstance(error, (UnsupportedError, NotFoundError)):
        return AREA.no(
            name, f"{absent} ({error})", remedy or "boot a kernel built with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS"
        )
    reason, who_can = who.refused(error, *_NEEDS)
    return AREA.no(name, reason, who_can)


def _map(host: Host) -> None:
    with descriptor(host, trial.create_map(host)):
        pass


def _raw_tracepoint(host: Host) -> None:
    with (
        descriptor(host, trial.load_program(host, trial.RAW_TRACEPOINT)) as program,
        descriptor(host, trial.open_raw_tracepoint(host, program, "sched_switch")),
    ):
        pass


def _perf_event(host: Host) -> None:
    with (
        descriptor(host, trial.load_program(host, trial.PERF_EVENT)) as program,
        # cpu-clock once a second, on this process only
        descriptor(host, trial.open_event(host, trial.TYPE_SOFTWARE, 0, period=10**9)) as event,
    ):
        trial.attach_to_event(host, event, program)


def _tracepoint(host: Host, who: Situation) -> Capability:
    name = "bpf tracepoint"
    base = next((path for path in TRACEFS if host.exists(f"{path}/events")), None)
    number = text_of(host, f"{base}/events/sched/sched_switch/id").strip() if base else ""
    if not number.isdigit():
        if any(kind == "tracefs" for _, kind, _, _ in mounts(host)):
            reason, remedy = who.lacking("DAC_READ_SEARCH")
            return AREA.no(name, f"tracefs is not readable: {reason}", remedy)
        mount = f"{'sudo ' if who.uid else ''}mount -t tracefs tracefs /sys/kernel/tracing"
        return AREA.no(name, "tracefs is not mounted, so tracepoints have no numbers", f"{mount}; or {_SPARE}")

    def attempt() -> None:
        with (
            descriptor(host, trial.load_program(host, trial.TRACEPOINT)) as program,
            descriptor(host, trial.open_event(host, trial.TYPE_TRACEPOINT, int(number))) as event,
        ):
            trial.attach_to_event(host, event, program)

    return _tried(name, who, attempt, absent="the kernel has no tracepoints for BPF")


def _kprobe(host: Host, who: Situation) -> Capability:
    name = "bpf kprobe"
    pmu = text_of(host, "/sys/bus/event_source/devices/kprobe/type").strip()
    if not pmu.isdigit():
        return AREA.no(
            name, "this kernel has no kprobes (built without CONFIG_KPROBE_EVENTS)", f"a kernel with them; or {_SPARE}"
        )

    def attempt() -> None:
        with (
            descriptor(host, trial.load_program(host, trial.KPROBE)) as program,
            descriptor(host, trial.open_event(host, int(pmu), 0, text=_FUNCTION, cpu=0)) as event,
        ):
            trial.attach_to_event(host, event, program)

    return _tried(name, who, attempt, absent=f"the kernel has no kprobe at {_FUNCTION}")


def _tracing(
    host: Host, who: Situation, name: str, attach: int, symbol: str, kind: int, *, permitted: bool
) -> Capability:
    """Try a program attached through BTF.

    A kernel without trampolines answers EPERM; where other programs are ``permitted``, that is not about permission.
    """
    try:
        target = _type_id(host, symbol, kind)
    except HalError as error:
        return AREA.no(
            name, f"no BTF to find {symbol} by: {error}", f"boot a kernel with CONFIG_DEBUG_INFO_BTF=y; or {_SPARE}"
        )
    if target is None:
        return AREA.no(name, f"the kernel's BTF has no {symbol}", f"a kernel with it; or {_SPARE}")

    def attempt() -> None:
        loaded = trial.load_program(host, trial.TRACING, attach_type=attach, attach_btf_id=target)
        with descriptor(host, loaded) as program, descriptor(host, trial.open_raw_tracepoint(host, program)):
            pass

    refusal = trial.outcome(attempt)
    if refusal is None:
        return AREA.yes(name)
    if permitted:
        return AREA.no(
            name,
            f"the kernel cannot attach it ({refusal})",
            f"a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; or {_SPARE}",
        )
    return _failed(name, who, refusal, absent="the kernel has no BPF trampolines")


def _type_id(host: Host, symbol: str, kind: int) -> int | None:
    """Return the BTF id of a named type of one kind; None when there is none. Format: Documentation/bpf/btf.rst."""
    blob = host.read_bytes(VMLINUX)
    if len(blob) < 24 or struct.unpack_from("<H", blob)[0] != 0xEB9F:
        raise UnsupportedError("the kernel's BTF has an unknown format", subject=VMLINUX)
    header, at, size, strings, string_size = struct.unpack_from("<IIIII", blob, 4)
    strings += header
    place = blob.find(b"\0" + symbol.encode() + b"\0", strings, strings + string_size)
    if place < 0:
        return None
    wanted = place + 1 - strings
    at, end, number = at + header, at + header + size, 1
    while at + 12 <= min(end, len(blob)):
        name, info = struct.unpack_from("<II", blob, at)
        if name == wanted and (info >> 24) & 0x1F == kind:
            return number
        at += 12 + _EXTRA.get((info >> 24) & 0x1F, 0) + _PER_MEMBER.get((info >> 24) & 0x1F, 0) * (info & 0xFFFF)
        number += 1
    return None


# What follows a type's 12 bytes: int, array, var, decl tag; struct, union, enum, function prototype, data section, enum64.
_EXTRA = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_MEMBER = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}

_PACKAGES = {
    "apt": {
        "bcc": "apt install python3-bpfcc",
        "headers": "apt install linux-headers-$(uname -r), or linux-headers-generic / linux-headers-amd64",
    },
    "dnf": {"bcc": "dnf install python3-bcc", "headers": "dnf install kernel-devel"},
    "zypper": {"bcc": "zypper install python3-bcc", "headers": "zypper install kernel-devel"},
    "pacman": {"bcc": "pacman -S python-bcc", "headers": "pacman -S linux-headers"},
    "apk": {"bcc": "apk add py3-bcc", "headers": "apk add linux-headers"},
}
_FAMILIES = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "suse": "zypper",
    "opensuse": "zypper",
    "arch": "pacman",
    "alpine": "apk",
}


def _installer(host: Host) -> Callable[[str], str]:
    """Return what names the distribution's command that installs a thing."""
    release = text_of(host, "/etc/os-release")
    words = re.findall(r"[a-z]+", " ".join(re.findall(r"^ID(?:_LIKE)?=(.*)$", release, flags=re.MULTILINE)))
    manager = next((_FAMILIES[word] for word in words if word in _FAMILIES), "apt")
    prefix = "" if host.euid() == 0 else "sudo "
    return lambda thing: prefix + _PACKAGES[manager][thing]
