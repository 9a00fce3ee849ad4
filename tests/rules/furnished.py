"""A machine in memory of which every fact that rules can ask for is known."""

from __future__ import annotations

from hal.fake import FakeHost
from tests.hal.machines import CPU, eight_nodes
from tests.hal.pci_space import EXPRESS, ROOT_PORT, config_space, express_capability

NIC, DISK = "ens1", "nvme0n1"
_PORT, _CARD = "0000:80:00.0", "0000:81:00.0"
_KIB = 1024


def furnished() -> FakeHost:
    """Return two packages of four nodes each, with a fast card, disks, EDAC, cpufreq and cpuidle; irqbalance is running."""
    host = eight_nodes().host()
    files = host.files
    files["/proc/cpuinfo"] = "processor\t: 0\nmodel name\t: Imaginary CPU\nflags\t\t: fpu sse2 avx2\n"
    files |= {
        "/proc/loadavg": "32.00 8.00 4.00 9/999 1234\n",
        "/proc/stat": "cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\n",
        "/proc/self/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
        "/sys/fs/cgroup/cgroup.procs": "1\n",
        "/proc/sys/kernel/numa_balancing": "1\n",
        "/proc/sys/vm/swappiness": "60\n",
        "/proc/sys/vm/zone_reclaim_mode": "0\n",
        "/proc/sys/vm/dirty_background_ratio": "10\n",
        "/proc/sys/vm/dirty_background_bytes": "0\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
        f"{CPU}/cpufreq/policy0/scaling_governor": "schedutil\n",
        f"{CPU}/cpufreq/policy0/energy_performance_preference": "balance_performance\n",
        f"{CPU}/cpu0/power/pm_qos_resume_latency_us": "0\n",
    }
    files["/proc/meminfo"] += f"MemAvailable: {16 << 20} kB\nSwapTotal: {8 << 20} kB\n"
    for index, (name, latency, disabled) in enumerate((("POLL", 0, 0), ("C1", 2, 0), ("C6", 133, 0), ("C10", 900, 1))):
        state = f"{CPU}/cpu0/cpuidle/state{index}"
        files |= {f"{state}/name": f"{name}\n", f"{state}/latency": f"{latency}\n", f"{state}/disable": f"{disabled}\n"}
    for controller in range(8):
        for module, place in enumerate(("channel 0 slot 0", "channel 0 slot 1", "channel 1 slot 0")):
            files[f"/sys/devices/system/edac/mc/mc{controller}/dimm{module}/dimm_location"] = f"{place} \n"
    _card(host)
    _disk(host)
    host.start(1, "init", parent=0)
    host.start(700, "irqbalance")
    return host


def busier(host: FakeHost, seconds: float) -> None:
    """Let time pass, in which a tenth of the CPU time is used, the card carries 10 MB/s and the disk is busy for half of it."""
    host.advance(seconds)
    ticks = round(64 * seconds * 100)
    user, idle = 1000 + ticks // 10, 8000 + ticks - ticks // 10
    host.files["/proc/stat"] = f"cpu  {user} 0 500 {idle} 500 0 0 0 0 0\n"
    base = f"/sys/class/net/{NIC}/statistics"
    _write(host, f"{base}/rx_bytes", f"{1000 + round(9e6 * seconds)}\n")
    _write(host, f"{base}/tx_bytes", f"{1000 + round(1e6 * seconds)}\n")
    _write(host, f"/sys/block/{DISK}/stat", f"1 0 8 1 1 0 8 1 0 {100 + round(500 * seconds)} 1\n")


def _write(host: FakeHost, path: str, text: str) -> None:
    link = next(link for link in host.links if path.startswith(f"{link}/"))
    host.files[host.links[link] + path.removeprefix(link)] = text


def _card(host: FakeHost) -> None:
    base = host.links[f"/sys/class/net/{NIC}"]
    host.files |= {f"{base}/queues/rx-{queue}/rps_cpus": "0\n" for queue in range(16)}
    host.files |= {f"{base}/statistics/rx_bytes": "1000\n", f"{base}/statistics/tx_bytes": "1000\n"}
    device = host.links[f"/sys/bus/pci/devices/{_CARD}"]
    port = host.links[f"/sys/bus/pci/devices/{_PORT}"]
    speeds = (1, 2, 3, 4)
    upper = express_capability(port=ROOT_PORT, speeds=speeds)
    host.binaries |= {
        f"{device}/config": bytearray(config_space([(EXPRESS, express_capability(speeds=(*speeds, 5)))])),
        f"{port}/config": bytearray(config_space([(EXPRESS, upper)], header=1)),
    }
    for number in (40, 41):
        host.files |= {
            f"{device}/msi_irqs/{number}": "msix\n",
            f"/proc/irq/{number}/smp_affinity_list": "0-63\n",
            f"/sys/kernel/irq/{number}/actions": f"ice-{NIC}-TxRx-{number}\n",
        }


def _disk(host: FakeHost) -> None:
    base = host.links[f"/sys/block/{DISK}"]
    host.files |= {
        f"{base}/queue/read_ahead_kb": "128\n",
        f"{base}/queue/scheduler": "[none] mq-deadline\n",
        f"{base}/queue/rq_affinity": "1\n",
        f"{base}/queue/nr_requests": "1023\n",
        f"{base}/stat": "1 0 8 1 1 0 8 1 0 100 1\n",
    }
