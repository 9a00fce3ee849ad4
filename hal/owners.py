"""Who else sets the knobs of this machine: daemons that would take a change back, and the kernel itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hal.errors import HalError
from hal.host import Host
from hal.processes import all_pids
from hal.settings import Change


@dataclass(frozen=True, slots=True)
class Owner:
    """One that sets knobs by itself."""

    name: str
    pid: int
    """0 for the kernel."""
    knobs: tuple[str, ...]
    """Knobs, or families of them, that it sets."""
    remedy: str

    def sets(self, knob: str) -> bool:
        """Tell whether it sets a knob."""
        return any(knob == own or knob.startswith(f"{own}.") for own in self.knobs)

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else self.name


# By the command name of the daemon: what it sets, and how it is kept from that.
_DAEMONS: dict[str, tuple[tuple[str, ...], str]] = {
    "irqbalance": (("irq",), "stop it, or keep it off these interrupts: irqbalance --banirq=N"),
    "numad": (("cpu.affinity", "memory.placement", "cgroup"), "stop it, or keep it off this process: numad -x PID"),
    "tuned": (
        ("cpu", "memory", "power", "block", "nic", "irq"),
        "choose a profile that leaves these alone, or stop it",
    ),
    "kubelet": (
        ("cgroup", "cpu.affinity"),
        "set it in the pod's specification: kubelet restores its own",
    ),
    "ksmtuned": (("memory.ksm",), "stop it while this lasts"),
    "thermald": (("power",), "it reacts to temperature: stop it, or leave the power knobs to it"),
    "power-profiles-": (("power",), "choose a profile with powerprofilesctl, or stop power-profiles-daemon"),
    "auto-cpufreq": (("power",), "stop it while this lasts"),
    "tlp": (("power", "block", "pcie"), "change its configuration, or stop it"),
    "NetworkManager": (("nic",), "mark the interface unmanaged: nmcli device set NAME managed no"),
    "earlyoom": (("memory.reclaim",), "nothing to do, unless it ends the process"),
    "bpftune": (("nic",), "it steps back by itself from what an administrator sets"),
    "libvirtd": (("cgroup", "cpu.affinity"), "for virtual machines use virsh vcpupin, which it keeps"),
}
TUNERS = frozenset({"auto-cpufreq", "bpftune", "ksmtuned", "numad", "power-profiles-", "thermald", "tlp", "tuned"})
"""Those of them that tune by what they observe, and so undo what others tune; irqbalance not among them."""
# By the path of a cgroup: whose it is, and how that one is told. The first that fits counts: a pod's group is below a slice.
_GROUPS = (
    (re.compile(r"/kubepods"), "the kubelet", "set it in the pod's specification: the kubelet restores its own"),
    (re.compile(r"/docker[/-]"), "Docker", "set it with docker update"),
    (re.compile(r"/(machine\.slice/)?libpod"), "Podman", "set it with podman update"),
    (re.compile(r"/machine(\.slice/machine-qemu|/qemu)"), "libvirt", "set it with virsh schedinfo or virsh memtune"),
    (re.compile(r"/lxc[./]"), "LXC", "set it in the container's configuration"),
    (re.compile(r"\.(service|scope|slice)(/|$)"), "systemd", "set it with systemctl set-property"),
)
_AUTO_NUMA = "/proc/sys/kernel/numa_balancing"


def owners(host: Host) -> tuple[Owner, ...]:
    """Return the known owners that are active, sorted by name."""
    found = [Owner(name, pid, *_DAEMONS[name]) for name, pid in _running(host)]
    if _text(host, _AUTO_NUMA) not in ("", "0"):
        knobs, remedy = ("memory.placement",), "dna set memory.numa_balancing 0"
        found.append(Owner("the kernel's NUMA balancing", 0, knobs, remedy))
    return tuple(sorted(found, key=lambda owner: owner.name))


def notes(host: Host, knobs: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each owner that sets one of these knobs."""
    wanted = sorted(set(knobs))
    sentences = []
    for owner in owners(host):
        shared = [knob for knob in wanted if owner.sets(knob)]
        if shared:
            sentences.append(f"{owner} sets {', '.join(shared)} too and may take this back: {owner.remedy}")
    return tuple(sentences)


def group_notes(changes: Iterable[Change]) -> tuple[str, ...]:
    """Return a sentence for each one that the cgroups touched belong to: limits set on them, processes taken out of them."""
    touched: dict[str, set[str]] = {}
    for change in changes:
        if change.subject.kind == "cgroup":
            touched.setdefault(change.subject.name, set()).add("set")
        elif change.knob == "cgroup.member":
            for path in re.findall(r"(?:^|=)(/\S*)", str(change.old)):
                touched.setdefault(path, set()).add("left")
    sentences = []
    for path, ways in sorted(touched.items()):
        owner = next(((name, remedy) for pattern, name, remedy in _GROUPS if pattern.search(path)), None)
        if owner and "set" in ways:
            sentences.append(f"the cgroup {path} belongs to {owner[0]}, which may take this back: {owner[1]}")
        elif owner:
            sentences.append(
                f"the cgroup {path} belongs to {owner[0]}, which may take a group that was left for one that ended"
            )
    return tuple(sentences)


def _running(host: Host) -> Iterable[tuple[str, int]]:
    try:
        pids = all_pids(host)
    except HalError:
        return
    for pid in pids:
        name = _text(host, f"/proc/{pid}/comm")
        if name in _DAEMONS:
            yield name, pid


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HalError:
        return ""
