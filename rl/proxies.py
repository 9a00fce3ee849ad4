"""What stands in for the objective where none was given: numbers of a profile that usually go with useful work.

A proxy is never what matters itself, and is named as proxy wherever it is shown. Which one is used is chosen once, and then
kept: rewards by different proxies cannot be compared. Where a workload shows none that means anything, there is none, and
nothing can be judged: a computation without system calls on a machine without a PMU looks the same at any speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dna.vector import Demand, Features
from rl.measured import HIGHER, LATENCY, LOWER, PROXY, THROUGHPUT, Measured, Metric, Problem

type Amount = Callable[[Features, Demand], float | None]

MOSTLY = 0.5
"""Share of a workload's system calls from which on it is about them."""
LEAST_PER_S = 50.0
"""Fewer events a second than this are mostly noise: 250 in five seconds scatter by 6 %."""

NO_PROXY = "nothing that was seen of this workload goes with its speed: it can be advised, not judged; name what matters with --metric"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One number of a profile that stands for the objective."""

    metric: Metric
    misleads: str
    """When it does."""
    amount: Amount

    def measure(self, features: Features, demand: Demand, t: float) -> Measured:
        """Return what it was in the interval that ended at ``t``, or why that is not known."""
        value = self.amount(features, demand)
        if value is None:
            return Measured(None, t, Problem.GONE, f"{self.metric} was not measured in this interval")
        if not math.isfinite(value):
            return Measured(None, t, Problem.NOT_A_NUMBER, f"{self.metric} came to {value}")
        if value <= 0:
            return Measured(None, t, Problem.NOT_POSITIVE, f"{self.metric} came to {value:g}")
        return Measured(value, t)


def proxy_for(features: Features, demand: Demand) -> Proxy | None:
    """Return the proxy for a workload of which one interval showed this, or None where there is no meaningful one.

    Instructions a second where a PMU counts them, else completed work seen in system calls where the workload's are mostly
    those, else run-queue latency of threads that wait for something most of the time.
    """
    if _known(demand, "instructions"):
        return INSTRUCTIONS
    calls = _calls(features, demand)
    if calls is not None and calls.measure(features, demand, 0.0).value is not None:
        return calls
    waits = (features.get("sched.voluntary_share") or 0.0) >= MOSTLY and (demand.get("switches") or 0.0) >= LEAST_PER_S
    return RUN_QUEUE if waits and _known(features, "sched.runq_p99") else None


def _calls(features: Features, demand: Demand) -> Proxy | None:
    """Return what counts the work of the larger class of system calls, if these two classes are most of them."""
    network, file = (features.get(f"syscall.{name}_share") or 0.0 for name in ("network", "file"))
    if network + file < MOSTLY or (demand.get("syscalls") or 0.0) * (network + file) < LEAST_PER_S:
        return None
    if network >= file:
        return MESSAGES if _known(demand, "messages") else NETWORK_CALLS
    return FILE_IO if _known(demand, "io_calls") else FILE_CALLS


def _known(values: Features, name: str) -> bool:
    value = values.get(name)
    return value is not None and math.isfinite(value) and value > 0


def _of_demand(name: str) -> Amount:
    return lambda _, demand: demand.get(name)


def _of_class(name: str) -> Amount:
    def amount(features: Features, demand: Demand) -> float | None:
        calls, share = demand.get("syscalls"), features.get(f"syscall.{name}_share")
        return None if calls is None or share is None else calls * share

    return amount


def _proxy(kind: str, name: str, unit: str, direction: int, amount: Amount, *, misleads: str) -> Proxy:
    return Proxy(Metric(kind, f"{PROXY}:{name}", unit=unit, direction=direction), misleads, amount)


INSTRUCTIONS = _proxy(
    THROUGHPUT,
    "instructions a second",
    "1/s",
    HIGHER,
    _of_demand("instructions"),
    misleads="threads that spin (on locks, in polling loops) execute most when they get least done; a setting that spares instructions,"
    " in the kernel above all, looks worse; under a load given from outside, the rate is that of the load",
)
MESSAGES = _proxy(
    THROUGHPUT,
    "socket messages a second",
    "1/s",
    HIGHER,
    _of_demand("messages"),
    misleads="under a load given from outside, the rate is that of the load; batches of more requests to a message look like less work",
)
NETWORK_CALLS = _proxy(
    THROUGHPUT,
    "network system calls a second",
    "1/s",
    HIGHER,
    _of_class("network"),
    misleads="calls that find nothing to do count as well, so that one that is woken in vain seems to work; else as with messages",
)
FILE_IO = _proxy(
    THROUGHPUT,
    "file reads and writes a second",
    "1/s",
    HIGHER,
    _of_demand("io_calls"),
    misleads="larger reads look like less work; what maps its files, or uses io_uring, makes no calls; logging is no work",
)
FILE_CALLS = _proxy(
    THROUGHPUT,
    "file system calls a second",
    "1/s",
    HIGHER,
    _of_class("file"),
    misleads="looking for files that are not there counts as well; else as with reads and writes",
)
RUN_QUEUE = _proxy(
    LATENCY,
    "run-queue latency",
    "s",
    LOWER,
    lambda features, _: features.get("sched.runq_p99"),
    misleads="it is only the part of the latency that waiting for a CPU is: memory, locks and devices do not show; it falls when less"
    " is asked of the workload, or when it asks for less",
)
PROXIES = (INSTRUCTIONS, MESSAGES, NETWORK_CALLS, FILE_IO, FILE_CALLS, RUN_QUEUE)
