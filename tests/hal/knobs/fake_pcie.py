"""PCI Express of the machine in memory: a root port with a network card behind it, and a function of the root complex."""

from __future__ import annotations

from hal.fake import FakeHost, selector
from hal.settings import SYSTEM, Subject, Value
from tests.hal.pci_space import (
    EXPRESS,
    INTEGRATED,
    MSIX,
    POWER,
    ROOT_PORT,
    Function,
    add,
    config_space,
    express_capability,
)

POLICY = "/sys/module/pcie_aspm/parameters/policy"
PORT = Function(
    "0000:80:00.0",
    config_space([POWER, (EXPRESS, express_capability(port=ROOT_PORT, speeds=(1, 2, 3, 4), speed=3))], header=1),
)
CARD = Function(
    "0000:81:00.0",
    config_space([POWER, MSIX, (EXPRESS, express_capability(speeds=(1, 2, 3)))], header=0x80),
    parent=PORT.address,
    files={"link/l0s_aspm": "0\n", "link/l1_aspm": "0\n"},
)
SECOND = Function(
    "0000:81:00.1",
    config_space([POWER, MSIX, (EXPRESS, express_capability(speeds=(1, 2, 3)))], header=0x80),
    parent=PORT.address,
)
BUILT_IN = Function("0000:80:14.0", config_space([(EXPRESS, express_capability(port=INTEGRATED))]))


def furnish(host: FakeHost) -> None:
    """Add the functions, and the kernel's policy."""
    add(host, PORT, CARD, SECOND, BUILT_IN)
    host.files |= {POLICY: "[default] performance powersave powersupersave\n"}
    host.handlers[POLICY] = selector


CASES: dict[str, tuple[Subject, Value]] = {
    "pcie.max_read_request": (CARD.subject, 4096),
    "pcie.aspm": (CARD.subject, "l1"),
    "pcie.link_speed": (PORT.subject, "5"),
    "pcie.aspm_policy": (SYSTEM, "performance"),
}
