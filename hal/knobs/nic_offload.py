"""What a network card, or the kernel for it, does with packets in bulk: merging, cutting, checksums."""

from __future__ import annotations

from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.knob import Knob, on_or_off
from hal.knobs.nic import NicKnob, nic_of
from hal.netlink import Feature
from hal.settings import APPROXIMATE, EXACT, Change, Subject, Value


class OffloadKnob(NicKnob):
    """Whether an interface does one thing; the kernel's names of the features are those of ``ethtool -k``.

    Several features that are one thing (checksums of each protocol) are on or off together; where they differ the value is the
    list of those that are on.
    """

    values = "on, off"
    example = "on"
    absent = "no network interface here lets this be changed"
    features: ClassVar[tuple[str, ...]]
    level: ClassVar[int] = 0
    """How deep it stands in what needs what (net/core/dev.c, netdev_fix_features): what others need is on before them, and off
    after them."""

    def parse(self, text: str) -> Value:
        listed = [word.strip() for word in text.split(",")]
        if len(self.features) > 1 and set(listed) <= set(self.features):
            return self._canonical(set(listed), self.features)
        return on_or_off(self, text)

    def _canonical(self, on: set[str], there: tuple[str, ...]) -> Value:
        if on >= set(there) or not on:
            return bool(on)
        return ",".join(name for name in self.features if name in on)

    def own(self, host: Host, name: str) -> dict[str, Feature]:
        """Return its features of an interface: those that can be changed, or where there are none all."""
        found = {key: one for key, one in host.net().features(name).items() if key in self.features}
        return {key: one for key, one in found.items() if one.changeable} or found

    def read(self, host: Host, subject: Subject) -> Value:
        found = self.own(host, subject.name)
        return self._canonical({key for key, one in found.items() if one.on}, tuple(found))

    def has(self, host: Host, name: str) -> bool:
        return super().has(host, name) and any(one.changeable for one in self.own(host, name).values())

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic_of(self, host, subject.name)
        if not self.has(host, subject.name):
            state = "on" if self.read(host, subject) else "off"
            raise SettingError(
                f"{self.name}: {subject.name} has it {state} for good", remedy="Its driver does not let it be changed."
            )
        there, listed = self.own(host, subject.name), str(value).split(",") if isinstance(value, str) else []
        absent = [name for name in listed if name not in there]
        if absent or len(listed) == len(there):
            why = f"does not have {', '.join(absent)}" if absent else "has no others"
            raise SettingError(
                f"{self.name}: {subject.name} {why}", remedy=f"Say on, off, or some of {', '.join(there)}."
            )

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        listed = str(value).split(",") if isinstance(value, str) else list(self.features if value else ())
        # What is off although it was asked for (something that it needs is off) stays asked for.
        wanted = {key: key in listed for key, one in self.own(host, subject.name).items() if one.on != (key in listed)}
        if wanted:
            host.net().set_features(subject.name, wanted)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: something that it needs is off, or the driver will not" if wrong else ""

    def order(self, change: Change) -> tuple[int, ...]:
        return (self.level if change.new else -self.level,)


class Gro(OffloadKnob):
    """Merging of received packets by the kernel."""

    name = "nic.gro"
    title = "Whether received packets of one flow are merged (generic receive offload)"
    features = ("rx-gro",)


class GroHardware(OffloadKnob):
    """Merging of received packets by the device."""

    name = "nic.gro_hw"
    title = "Whether the device merges received packets so that they can be taken apart again"
    features = ("rx-gro-hw",)
    level = 1


class GroList(OffloadKnob):
    """Merging of forwarded packets."""

    name = "nic.gro_list"
    title = "Whether received packets that are forwarded are chained instead of merged"
    features = ("rx-gro-list",)


class GroUdp(OffloadKnob):
    """Merging of forwarded UDP packets."""

    name = "nic.gro_udp"
    title = "Whether received UDP packets that are forwarded are merged"
    features = ("rx-udp-gro-forwarding",)


class Lro(OffloadKnob):
    """Merging of received packets beyond recognition."""

    name = "nic.lro"
    title = "Whether the device merges received packets (large receive offload; not for routers and bridges)"
    features = ("rx-lro",)
    level = 1


class Gso(OffloadKnob):
    """Cutting of sent packets by the kernel."""

    name = "nic.gso"
    title = "Whether packets are cut to size only just before they are sent (generic segmentation offload)"
    features = ("tx-generic-segmentation",)
    level = 2


class Tso(OffloadKnob):
    """Cutting of sent TCP packets by the device."""

    name = "nic.tso"
    title = "Whether the device cuts TCP packets to size (TCP segmentation offload)"
    values = "on, off, or a list of those on"
    features = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation")
    level = 2


class UdpGso(OffloadKnob):
    """Cutting of sent UDP packets by the device."""

    name = "nic.gso_udp"
    title = "Whether the device cuts UDP packets to size"
    features = ("tx-udp-segmentation",)
    level = 2


class ScatterGather(OffloadKnob):
    """Sending of packets that lie in pieces."""

    name = "nic.scatter_gather"
    title = "Whether the device sends packets that lie in memory in pieces"
    values = "on, off, or a list of those on"
    features = ("tx-scatter-gather", "tx-scatter-gather-fraglist")
    level = 1


class TxChecksum(OffloadKnob):
    """Checksums of sent packets."""

    name = "nic.tx_checksum"
    title = "Whether the device computes the checksums of packets sent"
    values = "on, off, or a list of those on"
    features = (
        "tx-checksum-ipv4",
        "tx-checksum-ip-generic",
        "tx-checksum-ipv6",
        "tx-checksum-fcoe-crc",
        "tx-checksum-sctp",
    )


class RxChecksum(OffloadKnob):
    """Checksums of received packets."""

    name = "nic.rx_checksum"
    title = "Whether the device checks the checksums of packets received"
    features = ("rx-checksum",)


class RxHash(OffloadKnob):
    """Hashes of received packets."""

    name = "nic.rx_hash"
    title = "Whether the device hands over its hash of each flow, which RPS and RFS use"
    features = ("rx-hashing",)


class Ntuple(OffloadKnob):
    """Filters of received flows."""

    name = "nic.ntuple"
    title = "Whether the device directs flows to queues by filters (needed for accelerated RFS)"
    features = ("rx-ntuple-filter",)
    reversibility = APPROXIMATE
    reversal = "the filters that are lost when it is switched off"

    def reversible(self, old: Value, new: Value) -> str:
        return EXACT if new else APPROXIMATE

    def cost(self, old: Value, new: Value) -> str:
        return "" if new else "the filters that are set are lost"


class RxVlan(OffloadKnob):
    """VLAN tags of received packets."""

    name = "nic.rx_vlan"
    title = "Whether the device takes VLAN tags off packets received"
    features = ("rx-vlan-hw-parse",)


class TxVlan(OffloadKnob):
    """VLAN tags of sent packets."""

    name = "nic.tx_vlan"
    title = "Whether the device puts VLAN tags on packets sent"
    features = ("tx-vlan-hw-insert",)


class NoCacheCopy(OffloadKnob):
    """Copies that pass by the caches."""

    name = "nic.nocache_copy"
    title = "Whether what is sent is copied into the kernel past the caches"
    features = ("tx-nocache-copy",)


class TcOffload(OffloadKnob):
    """Filters in the device."""

    name = "nic.tc_offload"
    title = "Whether the device takes over filters of traffic control"
    features = ("hw-tc-offload",)


KNOBS: tuple[Knob, ...] = (
    Gro(),
    GroHardware(),
    GroList(),
    GroUdp(),
    Lro(),
    Gso(),
    Tso(),
    UdpGso(),
    ScatterGather(),
    TxChecksum(),
    RxChecksum(),
    RxHash(),
    Ntuple(),
    RxVlan(),
    TxVlan(),
    NoCacheCopy(),
    TcOffload(),
)
