"""PCI Express: requests large enough, links as fast as they can be, and awake where latency counts.

Lanes are the firmware's and the slot's: a link that is narrower than the device is shown by ``dna machine``, and nothing here can mend it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Wish, all_of, any_of, m, pci, rule, s, w, when
from rules.situation import Thing
from rules.traits import latency_critical, serves_the_network

_SPEEDS = (2.5, 5.0, 8.0, 16.0, 32.0, 64.0)
_BULK_SENDER = all_of(pci.kind == "net", serves_the_network(w), w.demand.sent > "500 MB/s")
_BULK_WRITER = all_of(
    pci.kind == "storage", w.io.device_share > 0.2, w.io.read_share < 0.7, w.demand.device > "500 MB/s"
)
_USES_CARD = all_of(pci.kind == "net", serves_the_network(w))
_USES_DISK = all_of(pci.kind == "storage", w.io.device_share > 0.2)


@rule(
    priority=10,
    expect="throughput +0..10 %",
    source="Mellanox (NVIDIA), Understanding PCIe Configuration for Maximum Performance; Neugebauer et al., "
    "Understanding PCIe Performance for End Host Networking, SIGCOMM 2018",
    limits="Only for what a device reads from memory: packets sent, blocks written. Other devices behind the same port "
    "wait longer. Some host bridges bear no more than what the firmware chose.",
)
@when(
    any_of(_BULK_SENDER, _BULK_WRITER),
    # A device that wide is meant for it; below, the link is full at any request size.
    pci.width >= 8,
    pci.max_read_request < "1 KiB",
    ~m.virtual,
)
def larger_read_requests(pci: Thing) -> Iterator[Wish]:
    """A device that reads hundreds of megabytes a second from memory asks for more at once.

    Each request takes a header and one of a limited number of tags until it is answered: with 512 bytes the tags run out first.
    """
    yield s.pcie.max_read_request(pci, 4096)


@rule(
    priority=10,
    expect="throughput +0..100 %",
    source="PCI Express Base Specification, 7.5.3.19 and 7.5.3.20 (Link Control 2, Link Status 2); "
    "drivers/pci/pcie/bwctrl.c",
    limits="A link that came up slower may do so for a reason (a bad riser or slot): training says, and the change is "
    "taken back if it stays slow. Transfers wait for milliseconds. Lanes that are missing stay missing.",
)
@when(
    pci.reduced,
    pci.speed < pci.max_speed,
    ~m.virtual,
    # In use: idle devices lower their speed on purpose.
    any_of(
        all_of(_USES_CARD, (w.demand.sent + w.demand.received) > "100 MB/s"),
        all_of(_USES_DISK, w.demand.device > "200 MB/s"),
    ),
)
def train_a_slow_link(pci: Thing) -> Iterator[Wish]:
    """A busy device's link runs slower than the device can: aim at its full speed, and train the link again."""
    speed = pci.number("max_speed")
    if speed in _SPEEDS:
        yield s.pcie.link_speed(pci, f"{speed:g}")


@rule(
    priority=8,
    expect="latency-p99 -15..0 %; energy +0..2 %",
    source="Red Hat Enterprise Linux, Power Management Guide, Active-State Power Management; PCI Express Base "
    "Specification, 5.4.1",
    limits="Some watts a device. A link that is busy never rests: it is requests after a pause that gain.",
)
@when(
    pci.aspm != "off",
    ~m.virtual,
    latency_critical(w),
    any_of(
        all_of(_USES_CARD, w.demand.messages > "1000/s"),
        all_of(_USES_DISK, w.io.block_latency_p50 < "200 us"),
    ),
)
def links_stay_awake(pci: Thing) -> Iterator[Wish]:
    """A service that answers in microseconds does not wait for its card's or disk's link to wake: some microseconds from L1."""
    yield s.pcie.aspm(pci, "off")
