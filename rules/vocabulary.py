"""The words of conditions, typed: ``w`` is the workload, ``m`` the machine; see docs/rules-reference.md."""

# Made by scripts/write_vocabulary.py; change the tables, not this file.

from __future__ import annotations

from rules.language import Flag, Like, Number, Term, Word, here
from rules.words import Words


class Share: ...


class Ratio: ...


class Bits: ...


class PerKilo: ...


class Count: ...


class Seconds: ...


class Bytes: ...


class BytesPerSecond: ...


class PerSecond: ...


class Watts: ...


class Transfers: ...


class _WorkloadComm(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.wakeups_per_cpu_second: Number[PerSecond] = Term(f"{prefix}.wakeups_per_cpu_second", "1/s")
        """Wake-ups given and received per second of CPU time [1/s]."""
        self.outside_share: Number[Share] = Term(f"{prefix}.outside_share", "share")
        """Wake-ups to or from other workloads [share]."""
        self.density: Number[Share] = Term(f"{prefix}.density", "share")
        """Pairs of threads that wake one another, of all pairs [share]."""
        self.reciprocity: Number[Share] = Term(f"{prefix}.reciprocity", "share")
        """Wake-up pairs that go both ways [share]."""
        self.concentration: Number[Share] = Term(f"{prefix}.concentration", "share")
        """Wake-ups on the heaviest edge [share]."""
        self.futex_share: Number[Share] = Term(f"{prefix}.futex_share", "share")
        """Wake-ups through futex [share]."""
        self.pipe_share: Number[Share] = Term(f"{prefix}.pipe_share", "share")
        """Wake-ups through pipe [share]."""
        self.socket_share: Number[Share] = Term(f"{prefix}.socket_share", "share")
        """Wake-ups through socket [share]."""
        self.other_share: Number[Share] = Term(f"{prefix}.other_share", "share")
        """Wake-ups through anything else [share]."""
        self.cross_cache_share: Number[Share] = Term(f"{prefix}.cross_cache_share", "share")
        """Wake-ups that cross last-level caches [share]."""
        self.cross_node_share: Number[Share] = Term(f"{prefix}.cross_node_share", "share")
        """Wake-ups that cross NUMA nodes [share]."""


class _WorkloadCpu(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.ipc: Number[Ratio] = Term(f"{prefix}.ipc", "ratio")
        """Instructions per cycle [ratio]."""
        self.kernel_instruction_share: Number[Share] = Term(f"{prefix}.kernel_instruction_share", "share")
        """Instructions executed in the kernel [share]."""
        self.llc_miss_ratio: Number[Ratio] = Term(f"{prefix}.llc_miss_ratio", "ratio")
        """Last-level cache misses per reference [ratio]."""
        self.llc_mpki: Number[PerKilo] = Term(f"{prefix}.llc_mpki", "1/kinstr")
        """Last-level cache misses per 1000 instructions [1/kinstr]."""
        self.l1d_mpki: Number[PerKilo] = Term(f"{prefix}.l1d_mpki", "1/kinstr")
        """L1 data cache load misses per 1000 instructions [1/kinstr]."""
        self.dtlb_mpki: Number[PerKilo] = Term(f"{prefix}.dtlb_mpki", "1/kinstr")
        """Data TLB load misses per 1000 instructions [1/kinstr]."""
        self.itlb_mpki: Number[PerKilo] = Term(f"{prefix}.itlb_mpki", "1/kinstr")
        """Instruction TLB misses per 1000 instructions [1/kinstr]."""
        self.branch_mpki: Number[PerKilo] = Term(f"{prefix}.branch_mpki", "1/kinstr")
        """Mispredicted branches per 1000 instructions [1/kinstr]."""
        self.branch_miss_ratio: Number[Ratio] = Term(f"{prefix}.branch_miss_ratio", "ratio")
        """Mispredicted branches per branch [ratio]."""
        self.frontend_stall_share: Number[Share] = Term(f"{prefix}.frontend_stall_share", "share")
        """Cycles stalled for instructions [share]."""
        self.backend_stall_share: Number[Share] = Term(f"{prefix}.backend_stall_share", "share")
        """Cycles stalled for data or execution units [share]."""


class _WorkloadCpus(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.allowed: Number[Count] = Term(f"{prefix}.allowed", "1")
        """CPUs that its threads may run on [1]."""
        self.nodes: Number[Count] = Term(f"{prefix}.nodes", "1")
        """NUMA nodes of these CPUs [1]."""
        self.llcs: Number[Count] = Term(f"{prefix}.llcs", "1")
        """Last-level caches of these CPUs [1]."""
        self.allowed_share: Number[Share] = Term(f"{prefix}.allowed_share", "share")
        """CPUs that its threads may run on, of the machine's that are usable [share]."""
        self.pinned = Flag(f"{prefix}.pinned")
        """Somebody has bound its threads to some of the CPUs."""


class _WorkloadDemand(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.cores: Number[Count] = Term(f"{prefix}.cores", "1")
        """CPU time per second: cores kept busy [1]."""
        self.processes: Number[Count] = Term(f"{prefix}.processes", "1")
        """Processes at the interval's end [1]."""
        self.threads: Number[Count] = Term(f"{prefix}.threads", "1")
        """Threads at the interval's end [1]."""
        self.resident: Number[Bytes] = Term(f"{prefix}.resident", "B")
        """Resident memory (summed over processes, shared pages counted in each) [B]."""
        self.working_set: Number[Bytes] = Term(f"{prefix}.working_set", "B")
        """Estimated bytes touched in the interval [B]."""
        self.syscalls: Number[PerSecond] = Term(f"{prefix}.syscalls", "1/s")
        """System calls [1/s]."""
        self.switches: Number[PerSecond] = Term(f"{prefix}.switches", "1/s")
        """Context switches [1/s]."""
        self.faults: Number[PerSecond] = Term(f"{prefix}.faults", "1/s")
        """Page faults [1/s]."""
        self.instructions: Number[PerSecond] = Term(f"{prefix}.instructions", "1/s")
        """Instructions [1/s]."""
        self.read: Number[BytesPerSecond] = Term(f"{prefix}.read", "B/s")
        """Bytes read from files [B/s]."""
        self.written: Number[BytesPerSecond] = Term(f"{prefix}.written", "B/s")
        """Bytes written to files [B/s]."""
        self.io_calls: Number[PerSecond] = Term(f"{prefix}.io_calls", "1/s")
        """File reads and writes [1/s]."""
        self.device: Number[BytesPerSecond] = Term(f"{prefix}.device", "B/s")
        """Bytes to and from block devices [B/s]."""
        self.sent: Number[BytesPerSecond] = Term(f"{prefix}.sent", "B/s")
        """Bytes sent through sockets [B/s]."""
        self.received: Number[BytesPerSecond] = Term(f"{prefix}.received", "B/s")
        """Bytes received through sockets [B/s]."""
        self.messages: Number[PerSecond] = Term(f"{prefix}.messages", "1/s")
        """Socket messages both ways [1/s]."""
        self.connections: Number[Count] = Term(f"{prefix}.connections", "1")
        """Established TCP connections [1]."""
        self.wakeups: Number[PerSecond] = Term(f"{prefix}.wakeups", "1/s")
        """Wake-ups given and received [1/s]."""
        self.power: Number[Watts] = Term(f"{prefix}.power", "W")
        """Whole-machine power (RAPL packages) [W]."""


class _WorkloadHugepages(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.eligible: Number[Bytes] = Term(f"{prefix}.eligible", "B")
        """Its memory that may become huge pages: anonymous, and in stretches of 2 MiB or more [B]."""
        self.dense_share: Number[Share] = Term(f"{prefix}.dense_share", "share")
        """Of that memory, the share that is resident [share]."""


class _WorkloadInsn(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.load_share: Number[Share] = Term(f"{prefix}.load_share", "share")
        """Sampled instructions that read memory into a register [share]."""
        self.store_share: Number[Share] = Term(f"{prefix}.store_share", "share")
        """Sampled instructions that write memory [share]."""
        self.branch_share: Number[Share] = Term(f"{prefix}.branch_share", "share")
        """Sampled instructions that jump, call or return [share]."""
        self.integer_share: Number[Share] = Term(f"{prefix}.integer_share", "share")
        """Sampled instructions: integer and logic on registers [share]."""
        self.scalar_fp_share: Number[Share] = Term(f"{prefix}.scalar_fp_share", "share")
        """Sampled instructions: scalar floating point [share]."""
        self.vector_share: Number[Share] = Term(f"{prefix}.vector_share", "share")
        """Sampled instructions: vector (SIMD), integer or floating point [share]."""
        self.other_share: Number[Share] = Term(f"{prefix}.other_share", "share")
        """Sampled instructions: anything else [share]."""
        self.kernel_share: Number[Share] = Term(f"{prefix}.kernel_share", "share")
        """Samples of running threads that fell into the kernel [share]."""
        self.hot_line_share: Number[Share] = Term(f"{prefix}.hot_line_share", "share")
        """User samples in the ten hottest 64-byte lines of code [share]."""


class _WorkloadIo(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.read_share: Number[Share] = Term(f"{prefix}.read_share", "share")
        """File bytes that are read [share]."""
        self.read_size_p50: Number[Bytes] = Term(f"{prefix}.read_size_p50", "B")
        """Median bytes a file read [B]."""
        self.write_size_p50: Number[Bytes] = Term(f"{prefix}.write_size_p50", "B")
        """Median bytes a file write [B]."""
        self.sequential_share: Number[Share] = Term(f"{prefix}.sequential_share", "share")
        """File reads and writes that go on where the last ended [share]."""
        self.sync_per_write: Number[Ratio] = Term(f"{prefix}.sync_per_write", "ratio")
        """Fsync-like calls per write [ratio]."""
        self.device_share: Number[Share] = Term(f"{prefix}.device_share", "share")
        """File bytes that reached a device rather than the page cache [share]."""
        self.block_latency_p50: Number[Seconds] = Term(f"{prefix}.block_latency_p50", "s")
        """Median block request latency [s]."""
        self.block_latency_p99: Number[Seconds] = Term(f"{prefix}.block_latency_p99", "s")
        """99th percentile block request latency [s]."""
        self.bytes_per_cpu_second: Number[BytesPerSecond] = Term(f"{prefix}.bytes_per_cpu_second", "B/s")
        """File bytes per second of CPU time [B/s]."""


class _WorkloadMemory(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.random_share: Number[Share] = Term(f"{prefix}.random_share", "share")
        """Sampled data accesses that go to ever new pages in no direction [share]."""
        self.new_page_share: Number[Share] = Term(f"{prefix}.new_page_share", "share")
        """Sampled data accesses to pages touched once among the samples: a wide footprint [share]."""
        self.direction: Number[Share] = Term(f"{prefix}.direction", "share")
        """How far successive sampled addresses of an instruction run one way: 0 random, 1 streaming [share]."""
        self.faults_per_cpu_second: Number[PerSecond] = Term(f"{prefix}.faults_per_cpu_second", "1/s")
        """Page faults per second of CPU time [1/s]."""
        self.major_fault_share: Number[Share] = Term(f"{prefix}.major_fault_share", "share")
        """Page faults that waited for I/O [share]."""
        self.fault_sequential_share: Number[Share] = Term(f"{prefix}.fault_sequential_share", "share")
        """Page faults next to the thread's previous one [share]."""
        self.fault_random_share: Number[Share] = Term(f"{prefix}.fault_random_share", "share")
        """Page faults over 2 MiB from the thread's previous one [share]."""
        self.anonymous_share: Number[Share] = Term(f"{prefix}.anonymous_share", "share")
        """Resident memory that is anonymous (heap, stack) [share]."""
        self.file_share: Number[Share] = Term(f"{prefix}.file_share", "share")
        """Resident memory that is mapped files [share]."""
        self.shared_share: Number[Share] = Term(f"{prefix}.shared_share", "share")
        """Resident memory that is shared memory [share]."""
        self.swap_share: Number[Share] = Term(f"{prefix}.swap_share", "share")
        """Memory swapped out, of resident and swapped [share]."""
        self.hugepage_share: Number[Share] = Term(f"{prefix}.hugepage_share", "share")
        """Resident memory backed by huge pages [share]."""
        self.working_set_share: Number[Share] = Term(f"{prefix}.working_set_share", "share")
        """Estimated working set of resident memory [share]."""
        self.numa_locality: Number[Share] = Term(f"{prefix}.numa_locality", "share")
        """Chance that an accessed page is on the node of the running thread [share]."""
        self.numa_spread: Number[Share] = Term(f"{prefix}.numa_spread", "share")
        """Evenness of pages over nodes: 0 one node, 1 all alike [share]."""


class _WorkloadNearest(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.label = Word(f"{prefix}.label")
        """Label of the nearest known workload."""
        self.distance: Number[Ratio] = Term(f"{prefix}.distance", "ratio")
        """Distance to it, in units of the latent space [ratio]."""


class _WorkloadNet(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.sent_share: Number[Share] = Term(f"{prefix}.sent_share", "share")
        """Socket bytes that are sent [share]."""
        self.sent_size_p50: Number[Bytes] = Term(f"{prefix}.sent_size_p50", "B")
        """Median bytes a message sent [B]."""
        self.received_size_p50: Number[Bytes] = Term(f"{prefix}.received_size_p50", "B")
        """Median bytes a message received [B]."""
        self.loopback_share: Number[Share] = Term(f"{prefix}.loopback_share", "share")
        """Socket bytes exchanged with this host over IP [share]."""
        self.unix_share: Number[Share] = Term(f"{prefix}.unix_share", "share")
        """Socket bytes through Unix sockets [share]."""
        self.bytes_per_cpu_second: Number[BytesPerSecond] = Term(f"{prefix}.bytes_per_cpu_second", "B/s")
        """Socket bytes per second of CPU time [B/s]."""


class _WorkloadPlacement(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.nodes: Number[Count] = Term(f"{prefix}.nodes", "1")
        """NUMA nodes that hold more than a tenth of its memory [1]."""
        self.home_share: Number[Share] = Term(f"{prefix}.home_share", "share")
        """Its memory on the node that holds most of it [share]."""
        self.home_free_share: Number[Share] = Term(f"{prefix}.home_free_share", "share")
        """Free and reclaimable memory of that node, of the node's [share]."""
        self.here_share: Number[Share] = Term(f"{prefix}.here_share", "share")
        """Its memory on the nodes of the CPUs that it may run on [share]."""


class _WorkloadPressure(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.cpu_some: Number[Share] = Term(f"{prefix}.cpu_some", "share")
        """Time some task waited for a CPU [share]."""
        self.memory_some: Number[Share] = Term(f"{prefix}.memory_some", "share")
        """Time some task waited for memory [share]."""
        self.memory_full: Number[Share] = Term(f"{prefix}.memory_full", "share")
        """Time all tasks waited for memory [share]."""
        self.io_some: Number[Share] = Term(f"{prefix}.io_some", "share")
        """Time some task waited for I/O [share]."""
        self.io_full: Number[Share] = Term(f"{prefix}.io_full", "share")
        """Time all tasks waited for I/O [share]."""


class _WorkloadSched(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.oncpu_share: Number[Share] = Term(f"{prefix}.oncpu_share", "share")
        """Thread time spent running [share]."""
        self.runq_share: Number[Share] = Term(f"{prefix}.runq_share", "share")
        """Thread time spent runnable but waiting for a CPU [share]."""
        self.offcpu_share: Number[Share] = Term(f"{prefix}.offcpu_share", "share")
        """Thread time spent blocked [share]."""
        self.runq_p50: Number[Seconds] = Term(f"{prefix}.runq_p50", "s")
        """Median run-queue latency [s]."""
        self.runq_p99: Number[Seconds] = Term(f"{prefix}.runq_p99", "s")
        """99th percentile run-queue latency [s]."""
        self.slice_p50: Number[Seconds] = Term(f"{prefix}.slice_p50", "s")
        """Median uninterrupted time on a CPU [s]."""
        self.slice_p90: Number[Seconds] = Term(f"{prefix}.slice_p90", "s")
        """90th percentile uninterrupted time on a CPU [s]."""
        self.voluntary_share: Number[Share] = Term(f"{prefix}.voluntary_share", "share")
        """Context switches because the thread blocked [share]."""
        self.switches_per_cpu_second: Number[PerSecond] = Term(f"{prefix}.switches_per_cpu_second", "1/s")
        """Context switches per second of CPU time [1/s]."""
        self.migrations_per_switch: Number[Ratio] = Term(f"{prefix}.migrations_per_switch", "ratio")
        """Moves to another CPU per context switch [ratio]."""
        self.core_spread: Number[Share] = Term(f"{prefix}.core_spread", "share")
        """CPUs used evenly: 0 one CPU, 1 all of the machine's [share]."""
        self.busiest_thread_share: Number[Share] = Term(f"{prefix}.busiest_thread_share", "share")
        """CPU time of the busiest thread [share]."""
        self.system_share: Number[Share] = Term(f"{prefix}.system_share", "share")
        """CPU time spent in the kernel [share]."""


class _WorkloadSyscall(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.file_share: Number[Share] = Term(f"{prefix}.file_share", "share")
        """System calls about files and directories [share]."""
        self.network_share: Number[Share] = Term(f"{prefix}.network_share", "share")
        """System calls about sockets [share]."""
        self.poll_share: Number[Share] = Term(f"{prefix}.poll_share", "share")
        """System calls about waiting for readiness (epoll, poll, select) [share]."""
        self.memory_share: Number[Share] = Term(f"{prefix}.memory_share", "share")
        """System calls about mapping memory [share]."""
        self.sync_share: Number[Share] = Term(f"{prefix}.sync_share", "share")
        """System calls about futexes and other synchronisation [share]."""
        self.process_share: Number[Share] = Term(f"{prefix}.process_share", "share")
        """System calls about processes, threads and signals [share]."""
        self.time_share: Number[Share] = Term(f"{prefix}.time_share", "share")
        """System calls about clocks, timers and sleeping [share]."""
        self.other_share: Number[Share] = Term(f"{prefix}.other_share", "share")
        """System calls about anything else [share]."""
        self.entropy: Number[Bits] = Term(f"{prefix}.entropy", "bit")
        """Entropy of the mix of system calls [bit]."""
        self.error_share: Number[Share] = Term(f"{prefix}.error_share", "share")
        """System calls that return an error [share]."""
        self.per_cpu_second: Number[PerSecond] = Term(f"{prefix}.per_cpu_second", "1/s")
        """System calls per second of CPU time [1/s]."""
        self.file_blocked_share: Number[Share] = Term(f"{prefix}.file_blocked_share", "share")
        """Blocked time spent in calls about files and directories [share]."""
        self.network_blocked_share: Number[Share] = Term(f"{prefix}.network_blocked_share", "share")
        """Blocked time spent in calls about sockets [share]."""
        self.poll_blocked_share: Number[Share] = Term(f"{prefix}.poll_blocked_share", "share")
        """Blocked time spent in calls about waiting for readiness (epoll, poll, select) [share]."""
        self.sync_blocked_share: Number[Share] = Term(f"{prefix}.sync_blocked_share", "share")
        """Blocked time spent in calls about futexes and other synchronisation [share]."""
        self.time_blocked_share: Number[Share] = Term(f"{prefix}.time_blocked_share", "share")
        """Blocked time spent in calls about clocks, timers and sleeping [share]."""
        self.other_blocked_share: Number[Share] = Term(f"{prefix}.other_blocked_share", "share")
        """Blocked time spent in calls about anything else [share]."""
        self.file_latency_p50: Number[Seconds] = Term(f"{prefix}.file_latency_p50", "s")
        """Median latency of file calls [s]."""
        self.file_latency_p99: Number[Seconds] = Term(f"{prefix}.file_latency_p99", "s")
        """99th percentile latency of file calls [s]."""
        self.network_latency_p50: Number[Seconds] = Term(f"{prefix}.network_latency_p50", "s")
        """Median latency of socket calls [s]."""
        self.network_latency_p99: Number[Seconds] = Term(f"{prefix}.network_latency_p99", "s")
        """99th percentile latency of socket calls [s]."""


class Workload(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.name = Word(f"{prefix}.name")
        """The label that the user gave it, else its command's name."""
        self.novelty: Number[Ratio] = Term(f"{prefix}.novelty", "ratio")
        """How unlike anything that the model knows: 1 at the edge of what it knows [ratio]."""
        self.intervals: Number[Count] = Term(f"{prefix}.intervals", "1")
        """Intervals that were seen [1]."""
        self.loopback_peers: Number[Count] = Term(f"{prefix}.loopback_peers", "1")
        """Processes of this machine at the other end of its TCP connections [1]."""
        self.nice: Number[Count] = Term(f"{prefix}.nice", "1")
        """Nice value of its main thread [1]."""
        self.autogroup: Number[Count] = Term(f"{prefix}.autogroup", "1")
        """Number of its session as a scheduling group (sched_autogroup), where that is in force [1]."""
        self.realtime = Flag(f"{prefix}.realtime")
        """Its main thread is under a real-time or deadline policy."""
        self.comm = _WorkloadComm(f"{prefix}.comm")
        self.cpu = _WorkloadCpu(f"{prefix}.cpu")
        self.cpus = _WorkloadCpus(f"{prefix}.cpus")
        self.demand = _WorkloadDemand(f"{prefix}.demand")
        self.hugepages = _WorkloadHugepages(f"{prefix}.hugepages")
        self.insn = _WorkloadInsn(f"{prefix}.insn")
        self.io = _WorkloadIo(f"{prefix}.io")
        self.memory = _WorkloadMemory(f"{prefix}.memory")
        self.nearest = _WorkloadNearest(f"{prefix}.nearest")
        self.net = _WorkloadNet(f"{prefix}.net")
        self.placement = _WorkloadPlacement(f"{prefix}.placement")
        self.pressure = _WorkloadPressure(f"{prefix}.pressure")
        self.sched = _WorkloadSched(f"{prefix}.sched")
        self.syscall = _WorkloadSyscall(f"{prefix}.syscall")

    def like(self, label: str, *, within: float) -> Like:
        """The condition that a known workload whose label fits a pattern is within a distance."""
        return Like(f"{self._prefix}.neighbours", label, within, here())


class Pair(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.connections: Number[Count] = Term(f"{prefix}.connections", "1")
        """TCP connections between the two [1]."""
        self.shared_cpus: Number[Share] = Term(f"{prefix}.shared_cpus", "share")
        """CPUs that both may run on, of those that the one with fewer may [share]."""
        self.same_cgroup = Flag(f"{prefix}.same_cgroup")
        """Both are in one cgroup."""


class _MachineHugepages(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.available = Flag(f"{prefix}.available")
        """The kernel can make huge pages of a running process's memory (memory.hugepages)."""
        self.mode = Word(f"{prefix}.mode")
        """Transparent huge pages: always, madvise or never."""


class Machine(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.cpus: Number[Count] = Term(f"{prefix}.cpus", "1")
        """CPUs that may be used [1]."""
        self.cores: Number[Count] = Term(f"{prefix}.cores", "1")
        """Cores that may be used [1]."""
        self.packages: Number[Count] = Term(f"{prefix}.packages", "1")
        """Processor packages [1]."""
        self.threads_per_core: Number[Count] = Term(f"{prefix}.threads_per_core", "1")
        """CPUs a core (SMT) [1]."""
        self.nodes: Number[Count] = Term(f"{prefix}.nodes", "1")
        """NUMA nodes with CPUs [1]."""
        self.memory_nodes: Number[Count] = Term(f"{prefix}.memory_nodes", "1")
        """NUMA nodes with memory only (CXL, HBM, persistent memory) [1]."""
        self.llcs: Number[Count] = Term(f"{prefix}.llcs", "1")
        """Last-level cache domains [1]."""
        self.core_kinds: Number[Count] = Term(f"{prefix}.core_kinds", "1")
        """Kinds of core: 1 where all are alike [1]."""
        self.cpus_per_node: Number[Count] = Term(f"{prefix}.cpus_per_node", "1")
        """CPUs of the smallest node with CPUs [1]."""
        self.cores_per_node: Number[Count] = Term(f"{prefix}.cores_per_node", "1")
        """Cores of the smallest node with CPUs [1]."""
        self.cpus_per_llc: Number[Count] = Term(f"{prefix}.cpus_per_llc", "1")
        """CPUs of the smallest last-level cache domain [1]."""
        self.llc_size: Number[Bytes] = Term(f"{prefix}.llc_size", "B")
        """Size of the smallest last-level cache [B]."""
        self.memory: Number[Bytes] = Term(f"{prefix}.memory", "B")
        """Memory of all nodes [B]."""
        self.memory_per_node: Number[Bytes] = Term(f"{prefix}.memory_per_node", "B")
        """Memory of the smallest node with CPUs [B]."""
        self.free: Number[Bytes] = Term(f"{prefix}.free", "B")
        """Memory free or reclaimable now [B]."""
        self.free_per_node: Number[Bytes] = Term(f"{prefix}.free_per_node", "B")
        """Memory free or reclaimable now on the node with CPUs that has most of it [B]."""
        self.farthest: Number[Ratio] = Term(f"{prefix}.farthest", "ratio")
        """Distance of the nodes farthest apart, in units of the local one [ratio]."""
        self.memory_channels: Number[Count] = Term(f"{prefix}.memory_channels", "1")
        """Memory channels in use (EDAC) [1]."""
        self.memory_channels_per_core: Number[Ratio] = Term(f"{prefix}.memory_channels_per_core", "ratio")
        """Memory channels a core [ratio]."""
        self.isolated_cpus: Number[Count] = Term(f"{prefix}.isolated_cpus", "1")
        """CPUs kept out of load balancing [1]."""
        self.virtual = Flag(f"{prefix}.virtual")
        """A virtual machine."""
        self.load: Number[Ratio] = Term(f"{prefix}.load", "ratio")
        """Runnable tasks a CPU, over the last minute [ratio]."""
        self.idle_share: Number[Share] = Term(f"{prefix}.idle_share", "share")
        """CPU time that nobody used, since the situation was begun to be watched [share]."""
        self.swap: Number[Bytes] = Term(f"{prefix}.swap", "B")
        """Swap space [B]."""
        self.cgroup_version: Number[Count] = Term(f"{prefix}.cgroup_version", "1")
        """1 or 2 [1]."""
        self.numa_balancing = Flag(f"{prefix}.numa_balancing")
        """The kernel moves pages to the nodes that use them (AutoNUMA)."""
        self.zone_reclaim = Flag(f"{prefix}.zone_reclaim")
        """A full node's memory is reclaimed before a farther one's is used."""
        self.swappiness: Number[Count] = Term(f"{prefix}.swappiness", "1")
        """Cost of dropping files against that of swapping [1]."""
        self.dirty_background: Number[Bytes] = Term(f"{prefix}.dirty_background", "B")
        """Memory waiting to be written back at which the kernel begins to [B]."""
        self.irqbalance = Flag(f"{prefix}.irqbalance")
        """Irqbalance is running."""
        self.tuner = Flag(f"{prefix}.tuner")
        """Tuned, numad or another daemon that sets knobs is running."""
        self.governor = Word(f"{prefix}.governor")
        """Frequency governor of the first CPU."""
        self.energy_preference = Word(f"{prefix}.energy_preference")
        """Energy performance preference of the first CPU."""
        self.deepest_idle: Number[Seconds] = Term(f"{prefix}.deepest_idle", "s")
        """Exit latency of the deepest idle state that is allowed [s]."""
        self.nics: Number[Count] = Term(f"{prefix}.nics", "1")
        """Network cards that are up [1]."""
        self.disks: Number[Count] = Term(f"{prefix}.disks", "1")
        """Disks [1]."""
        self.hugepages = _MachineHugepages(f"{prefix}.hugepages")


class Nic(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.name = Word(f"{prefix}.name")
        """Interface."""
        self.up = Flag(f"{prefix}.up")
        """It is up."""
        self.node: Number[Count] = Term(f"{prefix}.node", "1")
        """Its NUMA node; unknown where the firmware does not say [1]."""
        self.speed: Number[BytesPerSecond] = Term(f"{prefix}.speed", "B/s")
        """Link speed [B/s]."""
        self.rx_queues: Number[Count] = Term(f"{prefix}.rx_queues", "1")
        """Receive queues [1]."""
        self.tx_queues: Number[Count] = Term(f"{prefix}.tx_queues", "1")
        """Transmit queues [1]."""
        self.rps = Flag(f"{prefix}.rps")
        """Receive packet steering is on for a queue."""
        self.virtual = Flag(f"{prefix}.virtual")
        """A virtual interface or a paravirtual card."""
        self.virtual_functions: Number[Count] = Term(f"{prefix}.virtual_functions", "1")
        """Virtual functions (SR-IOV) that there are [1]."""
        self.virtual_functions_possible: Number[Count] = Term(f"{prefix}.virtual_functions_possible", "1")
        """Virtual functions that it can have [1]."""
        self.traffic: Number[BytesPerSecond] = Term(f"{prefix}.traffic", "B/s")
        """Bytes received and sent, since the situation was begun to be watched [B/s]."""


class Disk(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.name = Word(f"{prefix}.name")
        """Block device."""
        self.node: Number[Count] = Term(f"{prefix}.node", "1")
        """Its NUMA node; unknown where the firmware does not say [1]."""
        self.rotational = Flag(f"{prefix}.rotational")
        """It turns."""
        self.size: Number[Bytes] = Term(f"{prefix}.size", "B")
        """Size [B]."""
        self.queues: Number[Count] = Term(f"{prefix}.queues", "1")
        """Hardware queues [1]."""
        self.read_ahead: Number[Bytes] = Term(f"{prefix}.read_ahead", "B")
        """Read-ahead [B]."""
        self.scheduler = Word(f"{prefix}.scheduler")
        """I/O scheduler."""
        self.rq_affinity: Number[Count] = Term(f"{prefix}.rq_affinity", "1")
        """Where requests are completed: 0, 1 or 2 [1]."""
        self.requests: Number[Count] = Term(f"{prefix}.requests", "1")
        """Requests that its queue holds [1]."""
        self.busy_share: Number[Share] = Term(f"{prefix}.busy_share", "share")
        """Time that it had requests under way, since the situation was begun to be watched [share]."""


class Pci(Words):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.address = Word(f"{prefix}.address")
        """PCI address."""
        self.kind = Word(f"{prefix}.kind")
        """Net, gpu, storage, accelerator, bridge, ...."""
        self.node: Number[Count] = Term(f"{prefix}.node", "1")
        """Its NUMA node; unknown where the firmware does not say [1]."""
        self.speed: Number[Transfers] = Term(f"{prefix}.speed", "GT/s")
        """Link speed now [GT/s]."""
        self.max_speed: Number[Transfers] = Term(f"{prefix}.max_speed", "GT/s")
        """Link speed that the device can [GT/s]."""
        self.width: Number[Count] = Term(f"{prefix}.width", "1")
        """Lanes now [1]."""
        self.max_width: Number[Count] = Term(f"{prefix}.max_width", "1")
        """Lanes that the device has [1]."""
        self.reduced = Flag(f"{prefix}.reduced")
        """The link runs below what the device can."""
        self.max_read_request: Number[Bytes] = Term(f"{prefix}.max_read_request", "B")
        """Largest read request [B]."""
        self.aspm = Word(f"{prefix}.aspm")
        """Active state power management of the link: off, l0s, l1 or l0s,l1."""


w = Workload("w")
"""The workload."""
o = Workload("o")
"""Another workload on the same machine."""
pair = Pair("pair")
"""The two together."""
m = Machine("m")
"""The machine."""
nic = Nic("nic")
"""Each network card."""
disk = Disk("disk")
"""Each disk."""
pci = Pci("pci")
"""Each pci device, bridges, virtual functions and parts of the processor left out."""
