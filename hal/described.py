"""A machine of which only the topology is known, as a host: what the kernel would show of it after a start with no settings made.

So that ``dna config show`` and everything that plans can be tried for a machine one does not have. Where the kernel's default
depends on the distribution or the driver there is no file, and the knob says that it cannot be read.
"""

from __future__ import annotations

from hal.fake import FakeHost, selector
from hal.lists import format_cpu_list
from hal.topology import Topology

_CPU = "/sys/devices/system/cpu"
_NODE = "/sys/devices/system/node"


def described(shape: Topology) -> FakeHost:
    """Return the machine; writing to it changes nothing but itself."""
    cpus = format_cpu_list(cpu.os_index for cpu in shape.cpus)
    host = FakeHost(
        {
            "/proc/self/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
            "/proc/sys/kernel/hostname": "described\n",
            "/proc/sys/kernel/random/boot_id": f"described: {shape.source}\n",
            "/proc/sys/kernel/numa_balancing": "1\n" if shape.node_count > 1 else "0\n",
            f"{_CPU}/online": f"{cpus}\n",
            f"{_CPU}/possible": f"0-{shape.cpu_slots - 1}\n",
            f"{_CPU}/isolated": "\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            "/sys/kernel/mm/transparent_hugepage/defrag": "always defer defer+madvise [madvise] never\n",
            "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
            "/sys/kernel/mm/ksm/run": "0\n",
            "/proc/sys/vm/swappiness": "60\n",
            "/proc/sys/vm/zone_reclaim_mode": "0\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
            "/sys/fs/cgroup/cgroup.subtree_control": "\n",
            "/sys/fs/cgroup/cgroup.procs": "1\n",
            "/sys/fs/cgroup/cpuset.cpus.effective": f"{cpus}\n",
            "/sys/fs/cgroup/cpuset.mems.effective": f"{format_cpu_list(n.os_index for n in shape.nodes)}\n",
            f"{_NODE}/has_memory": f"{format_cpu_list(n.os_index for n in shape.nodes)}\n",
            f"{_NODE}/has_cpu": f"{format_cpu_list(n.os_index for n in shape.nodes if n.cpus)}\n",
            f"{_NODE}/online": f"{format_cpu_list(n.os_index for n in shape.nodes)}\n",
        }
    )
    for node in shape.nodes:
        host.files[f"{_NODE}/node{node.os_index}/cpulist"] = f"{format_cpu_list(node.cpus)}\n"
        if node.memory_bytes:
            total = f"{node.memory_bytes // 1024} kB"
            host.files[f"{_NODE}/node{node.os_index}/meminfo"] = (
                f"Node {node.os_index} MemTotal: {total}\nNode {node.os_index} MemFree: {total}\n"
            )
    for path in ("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/transparent_hugepage/defrag"):
        host.handlers[path] = selector
    host.start(1, "init", parent=0)
    return host
