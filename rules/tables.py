"""The words of conditions: every fact that a rule can ask for, with its unit and meaning.

What a workload is described by comes from the tables of ``dna.features``; the rest stands here. ``rules/vocabulary.py`` and the
reference page are made from these tables, and ``rules.situation`` fills them in; a test holds the three together.
"""

from __future__ import annotations

from dataclasses import dataclass

from dna.features import DEMAND, FEATURES

FLAG, WORD = "flag", "word"
"""Units of facts that are no numbers."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One row: what it is called behind its word, and what it means."""

    name: str
    unit: str
    meaning: str
    low: float = 0.0
    """The least value possible."""
    high: float = float("inf")
    """The greatest value possible."""


def _share(name: str, meaning: str) -> Fact:
    return Fact(name, "share", meaning, 0.0, 1.0)


def _highest(unit: str) -> float:
    return 1.0 if unit == "share" else float("inf")


WORKLOAD: tuple[Fact, ...] = (
    *(Fact(f.name, f.unit, f.meaning, 0.0, _highest(f.unit)) for f in FEATURES),
    *(Fact(f"demand.{row.name}", row.unit, row.meaning) for row in DEMAND),
    Fact("name", WORD, "the label that the user gave it, else its command's name"),
    Fact("novelty", "ratio", "how unlike anything that the model knows: 1 at the edge of what it knows"),
    Fact("nearest.label", WORD, "label of the nearest known workload"),
    Fact("nearest.distance", "ratio", "distance to it, in units of the latent space"),
    Fact("intervals", "1", "intervals that were seen"),
    Fact("cpus.allowed", "1", "CPUs that its threads may run on"),
    Fact("cpus.nodes", "1", "NUMA nodes of these CPUs"),
    Fact("cpus.llcs", "1", "last-level caches of these CPUs"),
    _share("cpus.allowed_share", "CPUs that its threads may run on, of the machine's that are usable"),
    Fact("cpus.pinned", FLAG, "somebody has bound its threads to some of the CPUs"),
    Fact("placement.nodes", "1", "NUMA nodes that hold more than a tenth of its memory"),
    _share("placement.home_share", "its memory on the node that holds most of it"),
    _share("placement.home_free_share", "free and reclaimable memory of that node, of the node's"),
    _share("placement.here_share", "its memory on the nodes of the CPUs that it may run on"),
    Fact(
        "hugepages.eligible", "B", "its memory that may become huge pages: anonymous, and in stretches of 2 MiB or more"
    ),
    _share("hugepages.dense_share", "of that memory, the share that is resident"),
    Fact("loopback_peers", "1", "processes of this machine at the other end of its TCP connections"),
    Fact("nice", "1", "nice value of its main thread", -20.0, 19.0),
    Fact(
        "autogroup", "1", "number of its session as a scheduling group (sched_autogroup), where that is in force", 0.0
    ),
    Fact("realtime", FLAG, "its main thread is under a real-time or deadline policy"),
)
"""Of ``w`` and ``o``."""


PAIR: tuple[Fact, ...] = (
    Fact("connections", "1", "TCP connections between the two"),
    _share("shared_cpus", "CPUs that both may run on, of those that the one with fewer may"),
    Fact("same_cgroup", FLAG, "both are in one cgroup"),
)
"""Of ``pair``: of ``w`` and ``o`` together."""


MACHINE: tuple[Fact, ...] = (
    Fact("cpus", "1", "CPUs that may be used"),
    Fact("cores", "1", "cores that may be used"),
    Fact("packages", "1", "processor packages"),
    Fact("threads_per_core", "1", "CPUs a core (SMT)"),
    Fact("nodes", "1", "NUMA nodes with CPUs"),
    Fact("memory_nodes", "1", "NUMA nodes with memory only (CXL, HBM, persistent memory)"),
    Fact("llcs", "1", "last-level cache domains"),
    Fact("core_kinds", "1", "kinds of core: 1 where all are alike"),
    Fact("cpus_per_node", "1", "CPUs of the smallest node with CPUs"),
    Fact("cores_per_node", "1", "cores of the smallest node with CPUs"),
    Fact("cpus_per_llc", "1", "CPUs of the smallest last-level cache domain"),
    Fact("llc_size", "B", "size of the smallest last-level cache"),
    Fact("memory", "B", "memory of all nodes"),
    Fact("memory_per_node", "B", "memory of the smallest node with CPUs"),
    Fact("free", "B", "memory free or reclaimable now"),
    Fact("free_per_node", "B", "memory free or reclaimable now on the node with CPUs that has most of it"),
    Fact("farthest", "ratio", "distance of the nodes farthest apart, in units of the local one"),
    Fact("memory_channels", "1", "memory channels in use (EDAC)"),
    Fact("memory_channels_per_core", "ratio", "memory channels a core"),
    Fact("isolated_cpus", "1", "CPUs kept out of load balancing"),
    Fact("virtual", FLAG, "a virtual machine"),
    Fact("load", "ratio", "runnable tasks a CPU, over the last minute"),
    Fact("idle_share", "share", "CPU time that nobody used, since the situation was begun to be watched", 0.0, 1.0),
    Fact("swap", "B", "swap space"),
    Fact("cgroup_version", "1", "1 or 2"),
    Fact(
        "hugepages.available", FLAG, "the kernel can make huge pages of a running process's memory (memory.hugepages)"
    ),
    Fact("hugepages.mode", WORD, "transparent huge pages: always, madvise or never"),
    Fact("numa_balancing", FLAG, "the kernel moves pages to the nodes that use them (AutoNUMA)"),
    Fact("zone_reclaim", FLAG, "a full node's memory is reclaimed before a farther one's is used"),
    Fact("swappiness", "1", "cost of dropping files against that of swapping", 0.0, 200.0),
    Fact("dirty_background", "B", "memory waiting to be written back at which the kernel begins to"),
    Fact("irqbalance", FLAG, "irqbalance is running"),
    Fact("tuner", FLAG, "tuned, numad or another daemon that sets knobs is running"),
    Fact("governor", WORD, "frequency governor of the first CPU"),
    Fact("energy_preference", WORD, "energy performance preference of the first CPU"),
    Fact("deepest_idle", "s", "exit latency of the deepest idle state that is allowed"),
    Fact("nics", "1", "network cards that are up"),
    Fact("disks", "1", "disks"),
)
"""Of ``m``."""


NIC: tuple[Fact, ...] = (
    Fact("name", WORD, "interface"),
    Fact("up", FLAG, "it is up"),
    Fact("node", "1", "its NUMA node; unknown where the firmware does not say"),
    Fact("speed", "B/s", "link speed"),
    Fact("rx_queues", "1", "receive queues"),
    Fact("tx_queues", "1", "transmit queues"),
    Fact("rps", FLAG, "receive packet steering is on for a queue"),
    Fact("virtual", FLAG, "a virtual interface or a paravirtual card"),
    Fact("virtual_functions", "1", "virtual functions (SR-IOV) that there are"),
    Fact("virtual_functions_possible", "1", "virtual functions that it can have"),
    Fact("traffic", "B/s", "bytes received and sent, since the situation was begun to be watched"),
)
"""Of ``nic``: each network card."""


DISK: tuple[Fact, ...] = (
    Fact("name", WORD, "block device"),
    Fact("node", "1", "its NUMA node; unknown where the firmware does not say"),
    Fact("rotational", FLAG, "it turns"),
    Fact("size", "B", "size"),
    Fact("queues", "1", "hardware queues"),
    Fact("read_ahead", "B", "read-ahead"),
    Fact("scheduler", WORD, "I/O scheduler"),
    Fact("rq_affinity", "1", "where requests are completed: 0, 1 or 2"),
    Fact("requests", "1", "requests that its queue holds"),
    _share("busy_share", "time that it had requests under way, since the situation was begun to be watched"),
)
"""Of ``disk``: each disk."""


PCI: tuple[Fact, ...] = (
    Fact("address", WORD, "PCI address"),
    Fact("kind", WORD, "net, gpu, storage, accelerator, bridge, ..."),
    Fact("node", "1", "its NUMA node; unknown where the firmware does not say"),
    Fact("speed", "GT/s", "link speed now"),
    Fact("max_speed", "GT/s", "link speed that the device can"),
    Fact("width", "1", "lanes now"),
    Fact("max_width", "1", "lanes that the device has"),
    Fact("reduced", FLAG, "the link runs below what the device can"),
    Fact("max_read_request", "B", "largest read request"),
    Fact("aspm", WORD, "active state power management of the link: off, l0s, l1 or l0s,l1"),
)
"""Of ``pci``: each PCI device; bridges, virtual functions and parts of the processor are left out."""

TABLES: dict[str, tuple[Fact, ...]] = {
    "w": WORKLOAD,
    "o": WORKLOAD,
    "pair": PAIR,
    "m": MACHINE,
    "nic": NIC,
    "disk": DISK,
    "pci": PCI,
}
MEANING = {
    "w": "the workload",
    "o": "another workload on the same machine",
    "pair": "the two together",
    "m": "the machine",
    "nic": "each network card",
    "disk": "each disk",
    "pci": "each PCI device, bridges, virtual functions and parts of the processor left out",
}
FACTS: dict[str, Fact] = {f"{word}.{fact.name}": fact for word, table in TABLES.items() for fact in table}
"""Every fact by its whole name."""
NEIGHBOURS = "neighbours"
"""Behind ``w.`` and ``o.``: the nearest known workloads (``dna.vector.Match``), which ``like`` looks at."""
