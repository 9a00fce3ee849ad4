"""Machines larger and stranger than the one at hand, as their ``/sys`` and ``/proc``: in memory, or written to a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hal.fake import FakeHost
from hal.lists import format_cpu_list, parse_cpu_list

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"
PCI = "/sys/devices"


@dataclass
class Tree:
    """Files and links of one machine; links are absolute, and made relative when written."""

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def host(self) -> FakeHost:
        return FakeHost(self.files, links=self.links)

    def write(self, root: Path) -> Path:
        """Write it below a folder, which ``LinuxHost(root=...)`` and hwloc's HWLOC_FSROOT then read."""
        for name, text in self.files.items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, destination in self.links.items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(os.path.relpath(root / destination.lstrip("/"), path.parent))
        return root

    def cpus(
        self,
        cores: Sequence[Sequence[int]],
        *,
        packages: Sequence[Sequence[int]],
        caches: Sequence[tuple[int, str, Sequence[Sequence[int]]]],
        offline: Sequence[int] = (),
    ) -> None:
        """Describe CPUs; ``caches`` are (level, size as in "32K", the CPUs of each)."""
        everything = sorted(cpu for core in cores for cpu in core)
        online = [cpu for cpu in everything if cpu not in offline]
        self.files |= {
            f"{CPU}/possible": f"0-{everything[-1]}\n",
            f"{CPU}/present": _list(everything),
            f"{CPU}/online": _list(online),
            f"{CPU}/offline": _list(offline),
            "/proc/cpuinfo": "".join(f"processor\t: {cpu}\nmodel name\t: Imaginary CPU\n\n" for cpu in online),
        }
        for number, core in enumerate(cores):
            for cpu in core:
                base = f"{CPU}/cpu{cpu}"
                self.files[f"{base}/online"] = f"{int(cpu in online)}\n"
                if cpu in online:
                    package = next(index for index, cpus in enumerate(packages) if cpu in cpus)
                    self._cpu(base, number, package, [c for c in core if c in online])
                    self.files |= _map(f"{base}/topology/package_cpus", [c for c in packages[package] if c in online])
        for index, (level, size, groups) in enumerate(caches):
            for group in groups:
                self._cache(index, level, size, [cpu for cpu in group if cpu in online])

    def _cpu(self, base: str, core: int, package: int, siblings: Sequence[int]) -> None:
        self.files |= {
            f"{base}/topology/core_id": f"{core}\n",
            f"{base}/topology/physical_package_id": f"{package}\n",
            **_map(f"{base}/topology/core_cpus", siblings),
            **_map(f"{base}/topology/thread_siblings", siblings),
        }

    def _cache(self, index: int, level: int, size: str, cpus: Sequence[int]) -> None:
        for cpu in cpus:
            base = f"{CPU}/cpu{cpu}/cache/index{index}"
            self.files |= {
                f"{base}/level": f"{level}\n",
                f"{base}/type": "Data\n" if level == 1 else "Unified\n",
                f"{base}/size": f"{size}\n",
                **_map(f"{base}/shared_cpu", cpus, separator="_"),
            }

    def nodes(
        self, cpus: Mapping[int, Sequence[int]], *, distances: Sequence[Sequence[int]], memory_kb: int = 1 << 20
    ) -> None:
        """Describe NUMA nodes by their CPUs; a quarter of each one's memory is free, an eighth page cache."""
        with_cpus = [node for node, members in cpus.items() if members]
        self.files |= {
            f"{NODE}/online": _list(cpus),
            f"{NODE}/possible": _list(cpus),
            f"{NODE}/has_cpu": _list(with_cpus),
            f"{NODE}/has_memory": _list(cpus),
        }
        for place, (node, members) in enumerate(cpus.items()):
            base = f"{NODE}/node{node}"
            amounts = {
                "MemTotal": memory_kb,
                "MemFree": memory_kb // 4,
                "FilePages": memory_kb // 8,
                "Shmem": 0,
                "SReclaimable": 0,
            }
            self.files |= {
                f"{base}/distance": " ".join(map(str, distances[place])) + "\n",
                f"{base}/meminfo": "".join(f"Node {node} {name}: {kb} kB\n" for name, kb in amounts.items()),
                **_map(f"{base}/cpu", members, separator=""),
            }
        self.files["/proc/meminfo"] = (
            f"MemTotal: {memory_kb * len(cpus)} kB\nMemFree: {memory_kb * len(cpus) // 4} kB\n"
        )

    def pci(
        self,
        address: str,
        class_code: int,
        *,
        vendor: int = 0x8086,
        device: int = 0x1572,
        node: int = -1,
        below: str = "",
        link: tuple[str, int, str, int] | None = None,
        driver: str = "",
    ) -> str:
        """Add a PCI function and return its folder; ``link`` is speed and width, as they are and as they could be."""
        base = (
            f"{self.links[f'/sys/bus/pci/devices/{below}']}/{address}" if below else f"{PCI}/pci{address[:7]}/{address}"
        )
        self.links[f"/sys/bus/pci/devices/{address}"] = base
        self.files |= {
            f"{base}/class": f"0x{class_code:06x}\n",
            f"{base}/vendor": f"0x{vendor:04x}\n",
            f"{base}/device": f"0x{device:04x}\n",
            f"{base}/numa_node": f"{node}\n",
        }
        near = self.files.get(f"{NODE}/node{node}/cpulist", "").strip()
        self.files |= _map(f"{base}/local_cpu", parse_cpu_list(near), separator="")
        if link:
            names = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
            self.files |= {f"{base}/{name}": f"{value}\n" for name, value in zip(names, link, strict=True)}
        if driver:
            self.files[f"/sys/bus/pci/drivers/{driver}/uevent"] = ""
            self.links[f"{base}/driver"] = f"/sys/bus/pci/drivers/{driver}"
        return base

    def functions(self, physical: str, addresses: Sequence[str], *, total: int, names: Sequence[str] = ()) -> None:
        """Give a function SR-IOV with virtual functions at ``addresses``, the first of them with network interfaces."""
        base = self.links[f"/sys/bus/pci/devices/{physical}"]
        node = int(self.files[f"{base}/numa_node"])
        self.files |= {f"{base}/sriov_totalvfs": f"{total}\n", f"{base}/sriov_numvfs": f"{len(addresses)}\n"}
        for number, address in enumerate(addresses):
            made = self.pci(
                address, 0x020000, device=0x154C, node=node, link=("Unknown", 0, "Unknown", 0), driver="iavf"
            )
            self.links |= {f"{base}/virtfn{number}": made, f"{made}/physfn": base}
            if number < len(names):
                self.nic(names[number], made, queues=(4, 4))

    def nic(self, name: str, on: str, *, queues: tuple[int, int], speed: int = -1, state: str = "up") -> None:
        """Put a network interface on a device's folder; queues are (received, sent), speed in Mbit/s."""
        base = f"{on}/net/{name}"
        self.links |= {f"/sys/class/net/{name}": base, f"{base}/device": on}
        self.files |= {
            f"{base}/operstate": f"{state}\n",
            f"{base}/speed": f"{speed}\n",
            f"{base}/address": "02:00:00:00:00:01\n",
        }
        for kind, number in zip(("rx", "tx"), queues, strict=True):
            self.files |= {f"{base}/queues/{kind}-{index}/{kind}_timeout": "0\n" for index in range(number)}

    def disk(self, name: str, on: str, *, sectors: int, queues: int = 1, rotational: int = 0, inside: str = "") -> None:
        """Put a disk on a device's folder; ``inside`` is what lies between, as in "nvme/nvme0"."""
        device = f"{on}/{inside}" if inside else on
        base = f"{device}/{name}" if inside else f"{on}/block/{name}"
        self.links |= {f"/sys/block/{name}": base, f"{base}/device": device}
        self.files |= {
            f"{device}/uevent": "",
            f"{base}/size": f"{sectors}\n",
            f"{base}/queue/rotational": f"{rotational}\n",
        }
        self.files |= {f"{base}/mq/{index}/cpu_list": "0\n" for index in range(queues)}


def _list(numbers: Sequence[int] | Mapping[int, object]) -> str:
    return format_cpu_list(numbers) + "\n"


def _map(path: str, cpus: Sequence[int], *, separator: str = "_") -> dict[str, str]:
    """Return a list of CPUs in both forms that the kernel offers: ``..._list`` and the bit map."""
    bits = sum(1 << cpu for cpu in cpus)
    words = [f"{bits >> shift & 0xFFFFFFFF:08x}" for shift in range(224, -1, -32)]
    name = {"local_cpu": "s", "shared_cpu": "_map", "cpu": "map"}.get(path.rsplit("/", 1)[-1], "")
    return {f"{path}{name}": ",".join(words) + "\n", f"{path}{separator}list": format_cpu_list(cpus) + "\n"}


def apart(nodes: int, near: int = 12, far: int = 21, *, group: int = 4) -> list[list[int]]:
    """Return distances of nodes of which each ``group`` is in one package."""
    return [[10 if a == b else near if a // group == b // group else far for b in range(nodes)] for a in range(nodes)]


def without_numa() -> Tree:
    """Two cores under a kernel without NUMA: there is no folder for nodes."""
    tree = Tree()
    tree.cpus([(0,), (1,)], packages=[(0, 1)], caches=[(1, "32K", [(0,), (1,)]), (2, "1024K", [(0, 1)])])
    tree.files["/proc/meminfo"] = (
        "MemTotal: 2048000 kB\nMemFree: 1024000 kB\nBuffers: 1000 kB\nCached: 99000 kB\nShmem: 20000 kB\n"
    )
    return tree


def eight_nodes() -> Tree:
    """Two packages of four nodes of four cores with two threads, numbered n and n+32; a loaded set of devices."""
    tree = Tree()
    cores = [(core, core + 32) for core in range(32)]
    members = {node: [c for core in cores[node * 4 : node * 4 + 4] for c in core] for node in range(8)}
    tree.cpus(
        cores,
        packages=[[c for core in cores[:16] for c in core], [c for core in cores[16:] for c in core]],
        caches=[(1, "48K", cores), (2, "2048K", cores), (3, "16384K", list(members.values()))],
    )
    tree.nodes(members, distances=apart(8), memory_kb=64 << 20)
    tree.pci("0000:80:00.0", 0x060400, node=5, link=("16.0 GT/s PCIe", 8, "16.0 GT/s PCIe", 8))
    nic = tree.pci(
        "0000:81:00.0",
        0x020000,
        node=5,
        below="0000:80:00.0",
        link=("16.0 GT/s PCIe", 8, "32.0 GT/s PCIe", 16),
        driver="ice",
    )
    tree.nic("ens1", nic, queues=(16, 24), speed=100_000)
    tree.functions("0000:81:00.0", [f"0000:81:01.{n}" for n in range(6)], total=64, names=("ens1v0", "ens1v1"))
    gpu = tree.pci(
        "0000:41:00.0",
        0x030200,
        vendor=0x10DE,
        device=0x2330,
        node=2,
        link=("32.0 GT/s PCIe", 16, "32.0 GT/s PCIe", 16),
        driver="nvidia",
    )
    tree.files["/proc/driver/nvidia/gpus/0000:41:00.0/information"] = "Model: \t\t NVIDIA H100\nIRQ: 5\n"
    tree.files[f"{gpu}/drm/card0/dev"] = "226:0\n"
    tree.links |= {"/sys/class/drm/card0": f"{gpu}/drm/card0", f"{gpu}/drm/card0/device": gpu}
    nvme = tree.pci(
        "0000:c1:00.0", 0x010802, device=0x0A54, node=7, link=("8.0 GT/s PCIe", 4, "8.0 GT/s PCIe", 4), driver="nvme"
    )
    tree.disk("nvme0n1", nvme, sectors=3_750_748_848, queues=32, inside="nvme/nvme0")
    hba = tree.pci("0000:01:00.0", 0x010700, node=0, driver="mpt3sas")
    for letter in "abcdefgh":
        tree.disk(f"sd{letter}", hba, sectors=31_251_759_104, rotational=1)
    for number in range(9):
        tree.pci(f"0000:00:0{number}.0", 0x088000, node=0)
    return tree


def memory_only_nodes() -> Tree:
    """Two nodes with CPUs, two with memory alone, and none of them numbered 1."""
    tree = Tree()
    tree.cpus(
        [(core,) for core in range(8)],
        packages=[range(4), range(4, 8)],
        caches=[(3, "8192K", [range(4), range(4, 8)])],
    )
    rows = [[10, 21, 14, 24], [21, 10, 24, 14], [14, 24, 10, 26], [24, 14, 26, 10]]
    tree.nodes({0: range(4), 2: range(4, 8), 3: (), 4: ()}, distances=rows)
    return tree


def hybrid() -> Tree:
    """Four cores with two threads, and eight small ones in two clusters."""
    tree = Tree()
    large = [(2 * n, 2 * n + 1) for n in range(4)]
    small = [(n,) for n in range(8, 16)]
    tree.cpus(
        [*large, *small],
        packages=[range(16)],
        caches=[
            (1, "48K", large),
            (1, "32K", small),
            (2, "1280K", large),
            (2, "2048K", [range(8, 12), range(12, 16)]),
            (3, "24576K", [range(16)]),
        ],
    )
    tree.nodes({0: range(16)}, distances=[[10]])
    tree.files |= {"/sys/devices/cpu_core/cpus": "0-7\n", "/sys/devices/cpu_atom/cpus": "8-15\n"}
    return tree


def partly_offline() -> Tree:
    """Eight cores of two threads; the second threads of half are off, some CPUs are isolated and free of the tick."""
    tree = Tree()
    tree.cpus(
        [(2 * n, 2 * n + 1) for n in range(8)],
        packages=[range(16)],
        caches=[(3, "32768K", [range(16)])],
        offline=(1, 3, 5, 7),
    )
    tree.nodes({0: [0, 2, 4, 6], 1: range(8, 16)}, distances=apart(2, group=1))
    tree.files |= {f"{CPU}/isolated": "8-11\n", f"{CPU}/nohz_full": "10-11\n", f"{CPU}/possible": "0-255\n"}
    return tree


def in_a_container() -> Tree:
    """Two nodes, of which a v2 cpuset leaves CPUs 2-3 and the memory of node 0; the leaf group has no cpuset files."""
    tree = Tree()
    tree.cpus([(n,) for n in range(8)], packages=[range(8)], caches=[(3, "8192K", [range(8)])])
    tree.nodes({0: range(4), 1: range(4, 8)}, distances=apart(2, group=1))
    group = "/sys/fs/cgroup/kubepods/pod7"
    tree.files |= {
        "/proc/self/cgroup": "0::/kubepods/pod7/app\n",
        "/proc/self/cpuset": "/kubepods/pod7\n",
        "/proc/self/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n",
        "/proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n",
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
        "/sys/fs/cgroup/cpuset.cpus.isolated": "6-7\n",
        f"{group}/cpuset.cpus.effective": "2-3\n",
        f"{group}/cpuset.mems.effective": "0\n",
        f"{group}/app/cgroup.procs": "1\n",
    }
    return tree


MACHINES: dict[str, Callable[[], Tree]] = {
    "without NUMA": without_numa,
    "eight nodes": eight_nodes,
    "memory-only nodes": memory_only_nodes,
    "hybrid": hybrid,
    "partly offline": partly_offline,
    "in a container": in_a_container,
}
"""Each by name; the functions make a new one."""
