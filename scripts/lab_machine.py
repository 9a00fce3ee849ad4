"""The NUMA lab's machine, as arguments for QEMU.

Four packages, each a NUMA node with a core of two threads and 1 GiB. Nodes 0 and 1 are near each other, as are 2 and 3; the two
pairs are far apart. On node 1 behind a PCIe root port a network card (Intel 82576) with seven virtual functions, on node 2 an
NVMe disk of 256 MiB behind another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

NODES = 4
THREADS = 2
NODE_MIB = 1024
DISTANCES = ((10, 12, 21, 21), (12, 10, 21, 21), (21, 21, 10, 12), (21, 21, 12, 10))
NIC_NODE = 1
DISK_NODE = 2
DISK_MIB = 256

# The vendor decides how Linux reads caches and threads: of AMD's family 6 it would believe in no second thread. Instructions that
# repeat are emulated turn by turn: clearing and copying memory without them is five times as fast (so is clearcpuid below).
CPU = "max,vendor=GenuineIntel,l3-cache=on,la57=off,erms=off,fsrm=off"
# Mitigations cost emulated time, as does waiting for all CPUs to have passed through the scheduler. Nothing is left of a crash
# but its console. The clock is the host's, and is right; watching it finds faults only in how late the host runs us.
KERNEL_WORDS = (
    "console=ttyS0 quiet panic=-1 mitigations=off audit=0 clearcpuid=rep_good rcupdate.rcu_expedited=1 "
    "rcupdate.rcu_cpu_stall_suppress=1 tsc=reliable"
)


def escaped(path: Path | str) -> str:
    """Return a path as QEMU's option lists want it."""
    return str(path).replace(",", ",,")


def board() -> Iterator[str]:
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
    yield from ("-M", "q35,sata=off,smbus=off,usb=off", "-accel", "tcg,thread=multi", "-cpu", CPU)
    yield from ("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng,bus=pcie.0")


def nodes() -> Iterator[str]:
    yield from ("-m", f"{NODES * NODE_MIB}M", "-smp", f"{NODES * THREADS},sockets={NODES},cores=1,threads={THREADS}")
    for node in range(NODES):
        cpus = f"{node * THREADS}-{node * THREADS + THREADS - 1}"
        yield from ("-object", f"memory-backend-ram,id=memory{node},size={NODE_MIB}M")
        yield from ("-numa", f"node,nodeid={node},memdev=memory{node},cpus={cpus}")
    for node in range(NODES):
        for other in range(node + 1, NODES):
            yield from ("-numa", f"dist,src={node},dst={other},val={DISTANCES[node][other]}")


def root_port(number: int, node: int) -> Iterator[str]:
    """Yield a host bridge on a node with a root port below it, on which devices go as ``bus=port<number>``."""
    yield from ("-device", f"pxb-pcie,id=bridge{number},bus_nr={32 * number},numa_node={node},bus=pcie.0")
    yield from ("-device", f"pcie-root-port,id=port{number},bus=bridge{number},chassis={number},slot={number}")


def devices(disk: Path) -> Iterator[str]:
    yield from root_port(1, NIC_NODE)
    yield from ("-netdev", "user,id=net,restrict=on", "-device", "igb,bus=port1,netdev=net")
    yield from root_port(2, DISK_NODE)
    yield from ("-drive", f"if=none,id=disk,file={escaped(disk)},format=raw,cache=unsafe")
    yield from ("-device", "nvme,serial=lab,drive=disk,bus=port2")


def shared_folder(tag: str, folder: Path) -> Iterator[str]:
    """Yield a folder of this system that the machine can mount, and only read."""
    options = "security_model=none,readonly=on,multidevs=remap"
    yield from ("-fsdev", f"local,id={tag},path={escaped(folder)},{options}")
    yield from ("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0")


def channel(name: str, descriptor: int) -> Iterator[str]:
    """Yield a line out of the machine, in which it is a port with a name, into a connected socket."""
    yield from (
        "-chardev",
        f"socket,id={name},fd={descriptor}",
        "-device",
        f"virtserialport,chardev={name},name={name}",
    )
