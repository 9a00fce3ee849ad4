"""Frequencies and idle states of the machine in memory: intel_pstate, each policy over two CPUs (as firmware may tie them)."""

from __future__ import annotations

import errno

from hal.fake import FakeHost, WriteHandler
from hal.settings import SYSTEM, Subject, Value

CPUS = "/sys/devices/system/cpu"
LOWEST, HIGHEST = 800_000, 3_600_000
POLICIES = (0, 2, 4, 6)
STATES = ("POLL", "C1", "C1E", "C6")
CPU = Subject("cpu", "2")


def furnish(host: FakeHost) -> None:
    """Add the policies, idle states and limits on idle latency."""
    for number in POLICIES:
        add_policy(host, number)
    for cpu in range(8):
        limit = f"{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us"
        host.files[limit] = "0\n"
        host.handlers[limit] = lambda _old, written: f"{written}\n"
        for index, name in enumerate(STATES):
            base = f"{CPUS}/cpu{cpu}/cpuidle/state{index}"
            host.files |= {f"{base}/name": f"{name}\n", f"{base}/disable": "0\n"}
            host.handlers[f"{base}/disable"] = lambda _old, written: f"{int(written != '0')}\n"
    host.files |= {f"{CPUS}/intel_pstate/no_turbo": "0\n"}
    host.handlers[f"{CPUS}/intel_pstate/no_turbo"] = lambda _old, written: f"{int(written)}\n"


def add_policy(host: FakeHost, number: int) -> None:
    """Add one frequency policy that behaves like intel_pstate in active mode."""
    base = f"{CPUS}/cpufreq/policy{number}"
    host.files |= {
        f"{base}/related_cpus": f"{number} {number + 1}\n",
        f"{base}/scaling_governor": "powersave\n",
        f"{base}/scaling_available_governors": "performance powersave\n",
        f"{base}/energy_performance_preference": "balance_performance\n",
        f"{base}/energy_performance_available_preferences": "default performance balance_performance balance_power power \n",
        f"{base}/scaling_min_freq": f"{LOWEST}\n",
        f"{base}/scaling_max_freq": f"{HIGHEST}\n",
        f"{base}/cpuinfo_min_freq": f"{LOWEST}\n",
        f"{base}/cpuinfo_max_freq": f"{HIGHEST}\n",
    }
    saved = ["balance_performance\n"]

    def govern(old: str, written: str) -> str:
        if written not in ("performance", "powersave"):
            raise OSError(errno.EINVAL, "no such governor")
        preference = f"{base}/energy_performance_preference"
        if written == "performance" and old.strip() != "performance":
            saved[0], host.files[preference] = host.files[preference], "performance\n"
        elif written == "powersave" and old.strip() == "performance":
            host.files[preference] = saved[0]
        return f"{written}\n"

    def prefer(_old: str, written: str) -> str:
        if host.files[f"{base}/scaling_governor"].strip() == "performance" and written != "performance":
            raise OSError(errno.EBUSY, "the governor is performance")
        return f"{written}\n"

    host.handlers |= {
        f"{base}/scaling_governor": govern,
        f"{base}/energy_performance_preference": prefer,
        f"{base}/scaling_min_freq": _clamped(host, f"{base}/scaling_max_freq", lower=True),
        f"{base}/scaling_max_freq": _clamped(host, f"{base}/scaling_min_freq", lower=False),
    }


def _clamped(host: FakeHost, other: str, *, lower: bool) -> WriteHandler:
    """Behave like one limit: it never goes past the other."""

    def limit(_old: str, written: str) -> str:
        bound = int(host.files[other])
        return f"{min(int(written), bound) if lower else max(int(written), bound)}\n"

    return limit


CASES: dict[str, tuple[Subject, Value]] = {
    "power.governor": (Subject("cpu", "4"), "performance"),  # where the next one is set, it would override that
    "power.energy_preference": (CPU, "power"),
    "power.min_freq": (CPU, 2_000_000),
    "power.max_freq": (CPU, 2_400_000),
    "power.boost": (SYSTEM, False),
    "power.idle_latency_us": (CPU, 20),
    "power.idle_states": (CPU, "C1,POLL"),
}
