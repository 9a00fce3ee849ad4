"""Settings for a rule to yield, typed: ``s.memory.hugepages(workload)``; see docs/knobs/ for each."""

# Made by scripts/write_vocabulary.py; change the tables, not this file.

from __future__ import annotations

from hal.settings import SYSTEM, Value
from rules.rule import Wish
from rules.subjects import On
from rules.wishes import wish


class _Block:
    def nomerges(self, on: On, value: Value) -> Wish:
        """How hard the kernel tries to merge neighbouring requests. Takes 0 (always), 1 (only the simple ways), 2 (never)."""
        return wish("block.nomerges", on, value)

    def nr_requests(self, on: On, value: Value) -> Wish:
        """How many requests a queue of a disk holds. Takes a number from 4; the device or scheduler sets the most."""
        return wish("block.nr_requests", on, value)

    def read_ahead(self, on: On, value: Value) -> Wish:
        """How far reading goes ahead of a sequential reader, in KiB. Takes a number of KiB; 0 for none."""
        return wish("block.read_ahead", on, value)

    def rq_affinity(self, on: On, value: Value) -> Wish:
        """On which CPU a request is completed. Takes 0 (where the interrupt comes), 1 (near the CPU that asked), 2 (on the very CPU that asked)."""
        return wish("block.rq_affinity", on, value)

    def scheduler(self, on: On, value: Value) -> Wish:
        """I/O scheduler of a disk. Takes a scheduler that the kernel has: none, mq-deadline, kyber or bfq."""
        return wish("block.scheduler", on, value)

    def wbt_lat_usec(self, on: On, value: Value) -> Wish:
        """Latency of reads above which writeback is throttled, in µs. Takes a number of µs; 0 for never."""
        return wish("block.wbt_lat_usec", on, value)


class _Cgroup:
    def controller_cpu(self, on: On, value: Value) -> Wish:
        """Whether a cgroup's children have the cpu controller. Takes on, off."""
        return wish("cgroup.controller_cpu", on, value)

    def controller_cpuset(self, on: On, value: Value) -> Wish:
        """Whether a cgroup's children have the cpuset controller. Takes on, off."""
        return wish("cgroup.controller_cpuset", on, value)

    def controller_io(self, on: On, value: Value) -> Wish:
        """Whether a cgroup's children have the io controller. Takes on, off."""
        return wish("cgroup.controller_io", on, value)

    def controller_memory(self, on: On, value: Value) -> Wish:
        """Whether a cgroup's children have the memory controller. Takes on, off."""
        return wish("cgroup.controller_memory", on, value)

    def controller_pids(self, on: On, value: Value) -> Wish:
        """Whether a cgroup's children have the pids controller. Takes on, off."""
        return wish("cgroup.controller_pids", on, value)

    def cpu_quota(self, on: On, value: Value) -> Wish:
        """Most CPU time of a cgroup. Takes max, a percentage of one CPU such as 150%, or QUOTA/PERIOD in microseconds such as 20000/100000, with +BURST behind it where wanted."""
        return wish("cgroup.cpu_quota", on, value)

    def cpu_weight(self, on: On, value: Value) -> Wish:
        """Weight of a cgroup in CPU time, among its siblings. Takes a number from 1 to 10000 (100 is everybody's); of cgroup v1 also shares=2 to shares=262144."""
        return wish("cgroup.cpu_weight", on, value)

    def cpus(self, on: On, value: Value) -> Wish:
        """CPUs of a cgroup. Takes a list such as 0-3,8; of cgroup v2 also inherit."""
        return wish("cgroup.cpus", on, value)

    def cpuset_partition(self, on: On, value: Value) -> Wish:
        """Whether a cgroup has its CPUs for itself (root), and out of load balancing as well (isolated). Takes member, root or isolated."""
        return wish("cgroup.cpuset_partition", on, value)

    def exists(self, on: On, value: Value) -> Wish:
        """Whether there is a cgroup. Takes on."""
        return wish("cgroup.exists", on, value)

    def io_max(self, on: On, value: Value) -> Wish:
        """Most bytes and operations a second of a cgroup on a block device. Takes MAJOR:MINOR and one or more of rbps=, wbps= (bytes/s, with units) and riops=, wiops= (operations/s), or max; further devices behind a comma."""
        return wish("cgroup.io_max", on, value)

    def io_weight(self, on: On, value: Value) -> Wish:
        """Weight of a cgroup in block I/O, among its siblings. Takes a number from 1 to 10000 (100 is everybody's); to 1000 where the BFQ scheduler is what heeds it."""
        return wish("cgroup.io_weight", on, value)

    def member(self, on: On, value: Value) -> Wish:
        """The cgroup that a process is in. Takes a path such as /web, or one for each controller: cpu=/web memory=/web."""
        return wish("cgroup.member", on, value)

    def memory_high(self, on: On, value: Value) -> Wish:
        """Memory of a cgroup beyond which it is slowed down and reclaimed from. Takes max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)."""
        return wish("cgroup.memory_high", on, value)

    def memory_low(self, on: On, value: Value) -> Wish:
        """Memory of a cgroup that is spared while others have some to give. Takes max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)."""
        return wish("cgroup.memory_low", on, value)

    def memory_max(self, on: On, value: Value) -> Wish:
        """Most memory of a cgroup; beyond it the kernel kills. Takes max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)."""
        return wish("cgroup.memory_max", on, value)

    def memory_min(self, on: On, value: Value) -> Wish:
        """Memory of a cgroup that is never reclaimed. Takes max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)."""
        return wish("cgroup.memory_min", on, value)

    def memory_swap_max(self, on: On, value: Value) -> Wish:
        """Most swap of a cgroup. Takes max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)."""
        return wish("cgroup.memory_swap_max", on, value)

    def mems(self, on: On, value: Value) -> Wish:
        """Memory nodes of a cgroup. Takes a list such as 0-3,8; of cgroup v2 also inherit."""
        return wish("cgroup.mems", on, value)

    def pids_max(self, on: On, value: Value) -> Wish:
        """Most processes and threads of a cgroup. Takes max, or a number from 1."""
        return wish("cgroup.pids_max", on, value)


class _Cpu:
    def affinity(self, on: On, value: Value) -> Wish:
        """CPUs that a thread may run on. Takes a list of CPUs such as 0-3,8."""
        return wish("cpu.affinity", on, value)

    def autogroup_nice(self, on: On, value: Value) -> Wish:
        """Nice value of a whole session (autogroup) against other sessions. Takes a number from -20 to 19."""
        return wish("cpu.autogroup_nice", on, value)

    def nice(self, on: On, value: Value) -> Wish:
        """Nice value of a thread (-20 runs most, 19 least). Takes a number from -20 to 19."""
        return wish("cpu.nice", on, value)

    def policy(self, on: On, value: Value) -> Wish:
        """Scheduling policy of a thread. Takes other, batch, idle, fifo:PRIORITY or rr:PRIORITY (1 to 99)."""
        return wish("cpu.policy", on, value)


class _Irq:
    def affinity(self, on: On, value: Value) -> Wish:
        """CPUs that an interrupt, or all of a device, may go to. Takes a list of CPUs such as 0-3,8."""
        return wish("irq.affinity", on, value)

    def default_affinity(self, value: Value) -> Wish:
        """CPUs that an interrupt may go to when a driver asks for it. Takes a list of CPUs such as 0-3,8."""
        return wish("irq.default_affinity", SYSTEM, value)


class _Memory:
    def cold(self, on: On, value: Value) -> Wish:
        """Mark memory of a process as unused, the first to be reclaimed when memory is short. Takes a size such as 64M, or all."""
        return wish("memory.cold", on, value)

    def compact(self, on: On, value: Value) -> Wish:
        """Move pages together so that huge pages can be had. Takes now."""
        return wish("memory.compact", on, value)

    def compaction_proactiveness(self, value: Value) -> Wish:
        """How eagerly memory is compacted in the background. Takes 0 (only when asked for) to 100."""
        return wish("memory.compaction_proactiveness", SYSTEM, value)

    def demotion(self, value: Value) -> Wish:
        """Cold pages go to a slower tier of memory before they are swapped out. Takes on or off."""
        return wish("memory.demotion", SYSTEM, value)

    def dirty(self, value: Value) -> Wish:
        """Memory waiting to be written back at which writers have to wait. Takes a share of available memory such as 20%, or a size such as 512M, from 8K on."""
        return wish("memory.dirty", SYSTEM, value)

    def dirty_background(self, value: Value) -> Wish:
        """Memory waiting to be written back at which the kernel begins to. Takes a share of available memory such as 20%, or a size such as 512M, from 8K on."""
        return wish("memory.dirty_background", SYSTEM, value)

    def hugepages(self, on: On, value: Value = "collapse:0.5") -> Wish:
        """Make huge pages of a running process's memory. Takes collapse, or collapse:SHARE with the least share of each 2 MiB that must be in use (0.5 unless given)."""
        return wish("memory.hugepages", on, value)

    def hugetlb_pages(self, value: Value) -> Wish:
        """Pages reserved for hugetlbfs, by size. Takes sizes with numbers of pages: 2M=512,1G=0."""
        return wish("memory.hugetlb_pages", SYSTEM, value)

    def interleave_weights(self, value: Value) -> Wish:
        """Pages that each node gets in a round of weighted interleaving. Takes auto (by the nodes' bandwidth, Linux 6.16), or pages from 1 to 255 by node such as 0=3,1=1."""
        return wish("memory.interleave_weights", SYSTEM, value)

    def khugepaged_holes(self, value: Value) -> Wish:
        """Pages of a huge page that may be missing when khugepaged makes one. Takes a number from 0 (only what is all there) to 511 (one page is enough); more where pages are larger."""
        return wish("memory.khugepaged_holes", SYSTEM, value)

    def khugepaged_scan(self, value: Value) -> Wish:
        """Pages that khugepaged looks at before it sleeps. Takes a number of pages from 1 to 4294967295."""
        return wish("memory.khugepaged_scan", SYSTEM, value)

    def khugepaged_sleep(self, value: Value) -> Wish:
        """Milliseconds that khugepaged sleeps between two rounds. Takes milliseconds from 0 to 4294967295."""
        return wish("memory.khugepaged_sleep", SYSTEM, value)

    def ksm(self, value: Value) -> Wish:
        """Merge equal pages of processes that allow it (KSM). Takes off (what is merged stays so), on, or unmerge (stop, and give everybody pages of their own again)."""
        return wish("memory.ksm", SYSTEM, value)

    def ksm_scan(self, value: Value) -> Wish:
        """Pages that KSM compares before it sleeps. Takes a number of pages from 1 to 1000000."""
        return wish("memory.ksm_scan", SYSTEM, value)

    def ksm_sleep(self, value: Value) -> Wish:
        """Milliseconds that KSM sleeps between two rounds. Takes milliseconds from 0 to 3600000."""
        return wish("memory.ksm_sleep", SYSTEM, value)

    def numa_balancing(self, value: Value) -> Wish:
        """The kernel moves pages to the nodes that use them (AutoNUMA). Takes 0 (off), or a sum of 1 (between nodes) and 2 (between tiers of memory, Linux 5.18)."""
        return wish("memory.numa_balancing", SYSTEM, value)

    def pageout(self, on: On, value: Value) -> Wish:
        """Drop or swap out memory of a process now. Takes a size such as 64M, or all."""
        return wish("memory.pageout", on, value)

    def placement(self, on: On, value: Value) -> Wish:
        """NUMA nodes that a process's memory is on. Takes nodes (1, or 0-3 for equal shares) or weights (0=1,1=3), and @LIMIT for bytes a second (1@256M)."""
        return wish("memory.placement", on, value)

    def prefault(self, on: On, value: Value) -> Wish:
        """Fault in the files that a process maps, and what it has in swap. Takes all, or a size such as 64M: no more than that of its mapped files."""
        return wish("memory.prefault", on, value)

    def reclaim(self, on: On, value: Value) -> Wish:
        """Reclaim memory from a cgroup now. Takes a size such as 64M, or all."""
        return wish("memory.reclaim", on, value)

    def swappiness(self, value: Value) -> Wish:
        """Cost of dropping files against that of swapping, to reclaim. Takes 0 (swap last) to 200 (swap first); 100 holds both for equally dear, above it needs Linux 5.8."""
        return wish("memory.swappiness", SYSTEM, value)

    def thp(self, value: Value) -> Wish:
        """Which memory gets transparent huge pages. Takes always, madvise (where a program asks for them) or never."""
        return wish("memory.thp", SYSTEM, value)

    def thp_defrag(self, value: Value) -> Wish:
        """Whether a fault waits until a huge page is made free. Takes always, defer (leave it to the kernel's threads), defer+madvise, madvise or never."""
        return wish("memory.thp_defrag", SYSTEM, value)

    def thp_shmem(self, value: Value) -> Wish:
        """Which shared memory gets transparent huge pages. Takes always, within_size, advise, never; and deny or force, for emergencies and testing."""
        return wish("memory.thp_shmem", SYSTEM, value)

    def thp_sizes(self, value: Value) -> Wish:
        """Which memory gets large pages of each size (multi-size THP). Takes sizes with always, inherit (from memory.thp), madvise or never: 64K=madvise,2M=inherit."""
        return wish("memory.thp_sizes", SYSTEM, value)

    def warm(self, on: On, value: Value) -> Wish:
        """Read a file into the page cache. Takes all, or a size such as 64M from the file's beginning."""
        return wish("memory.warm", on, value)

    def zone_reclaim(self, value: Value) -> Wish:
        """Reclaim a full node's memory before using a farther node's. Takes 0 (off), or a sum of 1 (reclaim), 2 (write dirty pages for it) and 4 (swap for it)."""
        return wish("memory.zone_reclaim", SYSTEM, value)


class _Nic:
    def backlog(self, value: Value) -> Wish:
        """How many received packets may wait for each CPU (RPS and devices without polling). Takes a number of packets."""
        return wish("nic.backlog", SYSTEM, value)

    def budget(self, value: Value) -> Wish:
        """How many packets one round of polling takes from all devices of a CPU. Takes a number of packets."""
        return wish("nic.budget", SYSTEM, value)

    def budget_usecs(self, value: Value) -> Wish:
        """How long one round of polling may take, in µs. Takes a number of µs."""
        return wish("nic.budget_usecs", SYSTEM, value)

    def busy_poll(self, value: Value) -> Wish:
        """How long poll(2) and select(2) ask the device for packets before they sleep, in µs. Takes a number of µs; 0 for not at all."""
        return wish("nic.busy_poll", SYSTEM, value)

    def busy_read(self, value: Value) -> Wish:
        """How long reading from a socket asks the device for packets before it sleeps, in µs. Takes a number of µs; 0 for not at all; sockets that exist keep what they began with."""
        return wish("nic.busy_read", SYSTEM, value)

    def coalesce(self, on: On, value: Value) -> Wish:
        """How long a device holds back interrupts to tell of several packets at once. Takes ethtool's names: rx-usecs=N tx-usecs=N rx-frames=N adaptive-rx=on, ...."""
        return wish("nic.coalesce", on, value)

    def gro(self, on: On, value: Value) -> Wish:
        """Whether received packets of one flow are merged (generic receive offload). Takes on, off."""
        return wish("nic.gro", on, value)

    def gro_flush_timeout(self, on: On, value: Value) -> Wish:
        """How long received packets may wait to be merged with others (GRO), in ns. Takes a number of ns; 0: only as long as one round of polling."""
        return wish("nic.gro_flush_timeout", on, value)

    def gro_hw(self, on: On, value: Value) -> Wish:
        """Whether the device merges received packets so that they can be taken apart again. Takes on, off."""
        return wish("nic.gro_hw", on, value)

    def gro_list(self, on: On, value: Value) -> Wish:
        """Whether received packets that are forwarded are chained instead of merged. Takes on, off."""
        return wish("nic.gro_list", on, value)

    def gro_udp(self, on: On, value: Value) -> Wish:
        """Whether received UDP packets that are forwarded are merged. Takes on, off."""
        return wish("nic.gro_udp", on, value)

    def gso(self, on: On, value: Value) -> Wish:
        """Whether packets are cut to size only just before they are sent (generic segmentation offload). Takes on, off."""
        return wish("nic.gso", on, value)

    def gso_udp(self, on: On, value: Value) -> Wish:
        """Whether the device cuts UDP packets to size. Takes on, off."""
        return wish("nic.gso_udp", on, value)

    def lro(self, on: On, value: Value) -> Wish:
        """Whether the device merges received packets (large receive offload; not for routers and bridges). Takes on, off."""
        return wish("nic.lro", on, value)

    def mtu(self, on: On, value: Value) -> Wish:
        """Largest packet of an interface, in bytes (MTU). Takes a number of bytes, within what the device takes."""
        return wish("nic.mtu", on, value)

    def napi_defer_hard_irqs(self, on: On, value: Value) -> Wish:
        """How often an idle device is polled again before its interrupt is switched on. Takes a number of rounds; works together with nic.gro_flush_timeout."""
        return wish("nic.napi_defer_hard_irqs", on, value)

    def nocache_copy(self, on: On, value: Value) -> Wish:
        """Whether what is sent is copied into the kernel past the caches. Takes on, off."""
        return wish("nic.nocache_copy", on, value)

    def ntuple(self, on: On, value: Value) -> Wish:
        """Whether the device directs flows to queues by filters (needed for accelerated RFS). Takes on, off."""
        return wish("nic.ntuple", on, value)

    def qdisc(self, on: On, value: Value) -> Wish:
        """Queueing discipline of an interface's sending side. Takes default (the kernel's own), or one of fq, fq_codel, pfifo, bfifo, pfifo_head_drop, pfifo_fast, noqueue with options such as limit=N, or mq followed by one of them, which each sending queue then has."""
        return wish("nic.qdisc", on, value)

    def queues(self, on: On, value: Value) -> Wish:
        """How many queues an interface has, each with an interrupt of its own as a rule. Takes combined=N, or rx=N tx=N, as the device has it; N alone means combined."""
        return wish("nic.queues", on, value)

    def rfs(self, on: On, value: Value) -> Wish:
        """How many flows of a receiving queue are brought to the CPUs that read them (RFS). Takes a number, rounded up to a power of 2; 0 for none; nic.rfs_entries must be there too."""
        return wish("nic.rfs", on, value)

    def rfs_entries(self, value: Value) -> Wish:
        """How many flows the kernel remembers the reading CPU of (RFS). Takes a number, rounded up to a power of 2; 0 switches RFS off."""
        return wish("nic.rfs_entries", SYSTEM, value)

    def rings(self, on: On, value: Value) -> Wish:
        """How many packets the rings of an interface hold. Takes rx=N tx=N, or one of them."""
        return wish("nic.rings", on, value)

    def rps(self, on: On, value: Value) -> Wish:
        """CPUs that handle the packets of a receiving queue (RPS); none: the one that is interrupted. Takes a list of CPUs such as 0-3,8, or none."""
        return wish("nic.rps", on, value)

    def rx_checksum(self, on: On, value: Value) -> Wish:
        """Whether the device checks the checksums of packets received. Takes on, off."""
        return wish("nic.rx_checksum", on, value)

    def rx_hash(self, on: On, value: Value) -> Wish:
        """Whether the device hands over its hash of each flow, which RPS and RFS use. Takes on, off."""
        return wish("nic.rx_hash", on, value)

    def rx_vlan(self, on: On, value: Value) -> Wish:
        """Whether the device takes VLAN tags off packets received. Takes on, off."""
        return wish("nic.rx_vlan", on, value)

    def scatter_gather(self, on: On, value: Value) -> Wish:
        """Whether the device sends packets that lie in memory in pieces. Takes on, off, or a list of those on."""
        return wish("nic.scatter_gather", on, value)

    def sriov(self, on: On, value: Value) -> Wish:
        """How many virtual functions a card has (SR-IOV). Takes a number, 0 for none; the card says how many it can have."""
        return wish("nic.sriov", on, value)

    def tc_offload(self, on: On, value: Value) -> Wish:
        """Whether the device takes over filters of traffic control. Takes on, off."""
        return wish("nic.tc_offload", on, value)

    def threaded(self, on: On, value: Value) -> Wish:
        """Whether received packets are handled by threads, which can be scheduled and pinned, instead of soft interrupts. Takes on, off."""
        return wish("nic.threaded", on, value)

    def tso(self, on: On, value: Value) -> Wish:
        """Whether the device cuts TCP packets to size (TCP segmentation offload). Takes on, off, or a list of those on."""
        return wish("nic.tso", on, value)

    def tx_checksum(self, on: On, value: Value) -> Wish:
        """Whether the device computes the checksums of packets sent. Takes on, off, or a list of those on."""
        return wish("nic.tx_checksum", on, value)

    def tx_vlan(self, on: On, value: Value) -> Wish:
        """Whether the device puts VLAN tags on packets sent. Takes on, off."""
        return wish("nic.tx_vlan", on, value)

    def txqueuelen(self, on: On, value: Value) -> Wish:
        """How many packets may wait in a sending queue of pfifo_fast or pfifo. Takes a number of packets."""
        return wish("nic.txqueuelen", on, value)

    def vf(self, on: On, value: Value) -> Wish:
        """What a card enforces on one of its virtual functions: MAC address, VLAN, rate, and what it may do. Takes mac=ADDRESS vlan=0..4094 qos=0..7 min-rate=MBIT max-rate=MBIT spoofcheck=on|off trust=on|off state=auto|enable|disable, or some of them; a rate or VLAN of 0 is none, and so is mac=00:00:00:00:00:00."""
        return wish("nic.vf", on, value)

    def virtual(self, on: On, value: Value) -> Wish:
        """A virtual interface: macvlan, ipvlan, VLAN or veth. Takes macvlan link=NIC mode=bridge|private|vepa|passthru|source, ipvlan link=NIC mode=l2|l3|l3s, vlan link=NIC id=N protocol=802.1q|802.1ad, or veth peer=NAME; each with mac=, mtu=, up=on|off; veth also peer-mac=, peer-mtu=, peer-up=; or absent."""
        return wish("nic.virtual", on, value)

    def xps(self, on: On, value: Value) -> Wish:
        """CPUs that send through a queue (XPS). Takes a list of CPUs such as 0-3,8, or none."""
        return wish("nic.xps", on, value)


class _Pcie:
    def aspm(self, on: On, value: Value) -> Wish:
        """States in which a PCI Express link rests (active state power management). Takes off, l0s, l1 or l0s+l1."""
        return wish("pcie.aspm", on, value)

    def aspm_policy(self, value: Value) -> Wish:
        """What the kernel sets power management to on all PCI Express links. Takes default (the firmware's), performance (off), powersave or powersupersave."""
        return wish("pcie.aspm_policy", SYSTEM, value)

    def link_speed(self, on: On, value: Value) -> Wish:
        """Target speed of a PCI Express link, in GT/s. Takes 2.5, 5, 8, 16, 32, 64 (GT/s and lane), where both ends support it."""
        return wish("pcie.link_speed", on, value)

    def max_read_request(self, on: On, value: Value) -> Wish:
        """Largest read request that a PCI Express function makes, in bytes. Takes 128, 256, 512, 1024, 2048 or 4096."""
        return wish("pcie.max_read_request", on, value)


class _Power:
    def boost(self, value: Value) -> Wish:
        """Whether CPUs may run above their nominal frequency (turbo). Takes on or off."""
        return wish("power.boost", SYSTEM, value)

    def energy_preference(self, on: On, value: Value) -> Wish:
        """Whether a CPU favours speed or energy. Takes performance, balance_performance, balance_power, power, or a number from 0 (speed) to 255 (energy)."""
        return wish("power.energy_preference", on, value)

    def governor(self, on: On, value: Value) -> Wish:
        """What chooses the frequency of a CPU. Takes a governor that the kernel has: performance, powersave, schedutil, ...."""
        return wish("power.governor", on, value)

    def idle_latency_us(self, on: On, value: Value) -> Wish:
        """How long a CPU may take to wake up from idle, in µs. Takes a number of µs; 0 for no sleep that takes any, any for no limit."""
        return wish("power.idle_latency_us", on, value)

    def idle_states(self, on: On, value: Value) -> Wish:
        """Idle states that a CPU may enter. Takes names of states such as C1,C1E,POLL (see /sys/devices/system/cpu/cpu0/cpuidle), or none."""
        return wish("power.idle_states", on, value)

    def max_freq(self, on: On, value: Value) -> Wish:
        """Highest frequency of a CPU, in kHz. Takes a number of kHz, within what the processor has."""
        return wish("power.max_freq", on, value)

    def min_freq(self, on: On, value: Value) -> Wish:
        """Lowest frequency of a CPU, in kHz. Takes a number of kHz, within what the processor has."""
        return wish("power.min_freq", on, value)


class _Settings:
    block = _Block()
    cgroup = _Cgroup()
    cpu = _Cpu()
    irq = _Irq()
    memory = _Memory()
    nic = _Nic()
    pcie = _Pcie()
    power = _Power()


s = _Settings()
