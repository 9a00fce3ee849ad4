"""The nic family's part of the machine in memory: two cards with SR-IOV, one of which has functions, and a VLAN on it."""

from __future__ import annotations

from hal.fake import FakeHost
from hal.fake_net import card, number, power_of_2
from hal.netlink import NewLink
from hal.settings import SYSTEM, Subject, Value

CARD = Subject("nic", "ens1f0")
OTHER = Subject("nic", "ens2f0")
DEVICE = Subject("pci", "0000:5e:00.0")
FUNCTION = Subject("vf", "ens2f0/vf0")
RECEIVING = Subject("queue", "ens1f0/rx-0")
SENDING = Subject("queue", "ens1f0/tx-1")


def furnish(host: FakeHost) -> None:
    """Add the cards and the knobs of the whole machine's networking."""
    before = len(host.writes)
    host.files.setdefault("/sys/devices/system/cpu/online", "0-7\n")
    host.files.setdefault("/sys/devices/system/cpu/possible", "0-7\n")
    core = {
        "busy_poll": 0,
        "busy_read": 0,
        "netdev_max_backlog": 1000,
        "netdev_budget": 300,
        "netdev_budget_usecs": 2000,
        "rps_sock_flow_entries": 0,
    }
    host.files |= {f"/proc/sys/net/core/{name}": f"{value}\n" for name, value in core.items()}
    host.handlers |= {f"/proc/sys/net/core/{name}": number for name in core}
    host.handlers["/proc/sys/net/core/rps_sock_flow_entries"] = power_of_2
    net = host.net()
    net.plug(card("ens1f0", device=DEVICE.name), functions=7)
    net.plug(card("ens2f0", device="0000:5f:00.0"), functions=7)
    host.write_text("/sys/bus/pci/devices/0000:5f:00.0/sriov_numvfs", "2")
    net.add_link(NewLink("ens2f0.7", "vlan", parent="ens2f0", vlan=7))
    del host.writes[before:]


CASES: dict[str, tuple[Subject, Value]] = {
    "nic.mtu": (CARD, 9000),
    "nic.txqueuelen": (CARD, 5000),
    "nic.gro_flush_timeout": (CARD, 20000),
    "nic.napi_defer_hard_irqs": (CARD, 2),
    "nic.threaded": (CARD, True),
    "nic.busy_poll": (SYSTEM, 50),
    "nic.busy_read": (SYSTEM, 50),
    "nic.backlog": (SYSTEM, 4096),
    "nic.budget": (SYSTEM, 600),
    "nic.budget_usecs": (SYSTEM, 4000),
    "nic.queues": (CARD, "combined=2"),
    "nic.rings": (CARD, "rx=1024 tx=2048"),
    "nic.coalesce": (CARD, "rx-usecs=20 adaptive-tx=on"),
    "nic.gro": (CARD, False),
    "nic.gro_hw": (CARD, True),
    "nic.gro_list": (CARD, True),
    "nic.gro_udp": (CARD, True),
    "nic.lro": (CARD, True),
    "nic.gso": (CARD, False),
    "nic.tso": (CARD, "tx-tcp-segmentation"),
    "nic.gso_udp": (CARD, False),
    "nic.scatter_gather": (CARD, False),
    "nic.tx_checksum": (CARD, False),
    "nic.rx_checksum": (CARD, False),
    "nic.rx_hash": (CARD, False),
    "nic.ntuple": (CARD, True),
    "nic.rx_vlan": (CARD, False),
    "nic.tx_vlan": (CARD, False),
    "nic.nocache_copy": (CARD, True),
    "nic.tc_offload": (CARD, True),
    "nic.qdisc": (CARD, "mq fq limit=20000"),
    "nic.rps": (RECEIVING, "0-3"),
    "nic.xps": (SENDING, "1"),
    "nic.rfs": (RECEIVING, 4096),
    "nic.rfs_entries": (SYSTEM, 32768),
    "nic.sriov": (DEVICE, 2),
    "nic.vf": (FUNCTION, "mac=02:00:00:00:00:0a vlan=7 max-rate=100 trust=on"),
    "nic.virtual": (Subject("nic", "mv0"), "macvlan link=ens1f0 mode=bridge up=on"),
}
