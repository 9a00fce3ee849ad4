"""Whether the machine is a virtual one."""

from __future__ import annotations

import re

from hal.errors import HostError
from hal.host import Host

# Where the firmware or the hypervisor names itself, and what those of hypervisors say (systemd-detect-virt knows the same).
_NAMES = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
_HYPERVISORS = re.compile(
    r"QEMU|KVM|VMware|VirtualBox|innotek|Xen|Bochs|Parallels|BHYVE|Hyper-V|Google Compute Engine|Amazon EC2|OpenStack|Firecracker|Virtual Machine",
    re.IGNORECASE,
)
_METAL = re.compile(r"\.metal|metal-", re.IGNORECASE)  # a cloud's whole machines carry the same vendor


def is_virtual(host: Host) -> bool | None:
    """Tell whether this is a virtual machine; None where nothing tells.

    On x86 the processor says so itself (CPUID bit "hypervisor"); elsewhere the firmware's words are all there is.
    """
    processor = _text(host, "/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", processor, re.MULTILINE)
    if flags:
        return "hypervisor" in flags[1].split() and not _is_dom0(host)
    if _text(host, "/sys/hypervisor/type"):
        return not _is_dom0(host)
    words = [_text(host, f"/sys/class/dmi/id/{name}") for name in _NAMES]
    if not any(words):
        return None
    return any(_HYPERVISORS.search(word) for word in words) and not any(_METAL.search(word) for word in words)


def _is_dom0(host: Host) -> bool:
    """Tell whether it is the virtual machine that owns the hardware under Xen."""
    return "control_d" in _text(host, "/proc/xen/capabilities")


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""
