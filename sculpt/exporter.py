"""The loop's own metrics, for Prometheus: what it is worth, what is in force, what was tried, what is left of the budget, what it costs.

Their own registry, a bounded number of workloads, no pids in labels. Answered on one address; on this machine alone unless another
is asked for.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from itertools import product
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from sculpt.alert import KINDS, SEVERITIES, Alert
from sculpt.errors import SculptError
from sculpt.outlets import Counts
from sculpt.step import Record

MOST_WORKLOADS = 64
"""In the labels; the one that was not heard of for the longest time makes room."""
MOST_NAME = 120
"""Characters of a label's value."""
AT_ONCE = 8
"""Requests; what comes above is turned away."""
ANSWERED_S = 10.0
STALE_S, STALE_STEPS = 60.0, 5.0
"""What a workload showed last is no longer told after so long, and so many times its interval, without a step."""
STEP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_PREFIX = "dna_sculpt_"


@dataclass(slots=True)
class _Seen:
    """What was seen of one workload."""

    record: Record
    at: float
    every_s: float = 0.0
    gain: float | None = None
    limits: tuple[float, float] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)
    steps: list[int] = field(default_factory=lambda: [0] * (len(STEP_BUCKETS_S) + 1))
    steps_s: float = 0.0

    def take(self, record: Record, now: float) -> None:
        self.every_s, self.at, self.record = now - self.at, now, record
        decision, done = record.decision, record.done
        self.counts["intervals"] += 1
        self.counts["missing"] += record.judged.reward is None
        self.counts["changes"] += done.changed if done is not None else 0
        self.counts["failed"] += bool(done is not None and done.error)
        self.counts[decision.event] += 1
        if decision.gain is not None:
            self.gain, self.limits = decision.gain, decision.interval
        elif decision.event == "trial":
            self.gain = self.limits = None
        self.steps[sum(record.took_s > limit for limit in STEP_BUCKETS_S)] += 1
        self.steps_s += record.took_s

    def is_fresh(self, now: float) -> bool:
        return now - self.at <= max(STALE_S, STALE_STEPS * self.every_s)


type OfOne = Callable[[_Seen], float | None]

_NOW: Mapping[str, tuple[str, OfOne]] = {
    "reward": ("What the last interval was worth; greater is better. Without a value while it cannot be measured.", lambda s: s.record.judged.reward),
    "gain_ratio": ("Worth of what is tried, or was tried last, as a multiple of what it is held against.", lambda s: _ratio(s.gain)),
    "gain_lower_ratio": ("Lower limit of that, where it is known.", lambda s: _ratio(s.limits[0] if s.limits else None)),
    "gain_upper_ratio": ("Upper limit of that, where it is known.", lambda s: _ratio(s.limits[1] if s.limits else None)),
    "budget_left_seconds": ("What may still be lost, in seconds of the baseline's worth.", lambda s: s.record.room_s),
    "quarantined_arms": ("Configurations that may not be tried for the time being.", lambda s: len(s.record.quarantined)),
    "lost_settings": ("Settings that somebody else has taken over.", lambda s: len(s.record.lost)),
    "own_cpu_ratio": ("CPU time of dna in the last interval, as a share of one core.", lambda s: s.record.own_share),
    "last_step_timestamp_seconds": ("End of the last interval.", lambda s: s.record.t),
}  # fmt: skip
"""Gauges: name to what it is and where it is read."""

_EVER: Mapping[str, tuple[str, str]] = {
    "intervals": ("Intervals that were looked at.", "intervals"),
    "missing_measurements": ("Intervals that could not be measured.", "missing"),
    "trials": ("Trials begun.", "trial"),
    "promotions": ("Trials that ended with a proven gain.", "promoted"),
    "rollbacks": ("Configurations taken back since they were worse, or paid no longer.", "rolled back"),
    "undecided_trials": ("Trials in which no gain could be shown.", "undecided"),
    "phases": ("Times that the workload behaved otherwise than before.", "phase"),
    "changes": ("Settings made and taken back.", "changes"),
    "failed_changes": ("Steps in which something could not be made or taken back.", "failed"),
}
"""Counters: name to what it is and how it is counted."""


def _ratio(gain: float | None) -> float | None:
    return None if gain is None else math.exp(min(gain, 700.0))


def _label(text: str) -> str:
    return text if len(text) <= MOST_NAME else text[: MOST_NAME - 1] + "…"


class Metrics(Collector):
    """What is told; takes in the steps of all workloads.

    Args:
        about: of the run, such as its mode; becomes ``dna_sculpt_info``.
        outlets: the counts of where alerts go, by name.
    """

    def __init__(self, about: Mapping[str, str], outlets: Callable[[], Mapping[str, Counts]] = dict) -> None:
        self._about = dict(about)
        self._outlets = outlets
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def take(self, record: Record, alerts: Sequence[Alert]) -> None:
        """Take in a step, and the alerts that it raised."""
        with self._lock:
            now = time.monotonic()
            seen = self._seen.pop(record.workload, None) or _Seen(record, now)
            self._seen[record.workload] = seen  # the latest last
            seen.take(record, now)
            for alert in alerts:
                seen.alerts[alert.kind, alert.severity] += 1
                seen.counts["held"] += alert.held
            while len(self._seen) > MOST_WORKLOADS:
                self._seen.popitem(last=False)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the workloads."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        with self._lock:
            found = [*self._gauges(), *self._counters(), self._steps()]
        yield InfoMetricFamily(_PREFIX + "run", "The run.", self._about)
        yield from found
        yield from self._deliveries()

    def _gauges(self) -> Iterator[Metric]:
        now = time.monotonic()
        fresh = [(name, seen) for name, seen in self._seen.items() if seen.is_fresh(now)]
        in_force = GaugeMetricFamily(
            _PREFIX + "arm_info", "1 for the configuration that was in force in the last interval.", labels=["workload", "arm", "state"]
        )  # fmt: skip
        for name, seen in fresh:
            in_force.add_metric([_label(name), _label(seen.record.in_force), seen.record.decision.state], 1.0)
        yield in_force
        for metric, (words, of_one) in _NOW.items():
            family = GaugeMetricFamily(_PREFIX + metric, words, labels=["workload"])
            for name, seen in fresh:
                if (value := of_one(seen)) is not None:
                    family.add_metric([_label(name)], value)
            yield family

    def _counters(self) -> Iterator[Metric]:
        for metric, (words, counted) in _EVER.items():
            family = CounterMetricFamily(_PREFIX + metric, words, labels=["workload"])
            for name, seen in self._seen.items():
                family.add_metric([_label(name)], seen.counts[counted])
            yield family
        alerts = CounterMetricFamily(_PREFIX + "alerts", "Alerts raised.", labels=["workload", "kind", "severity"])
        held = CounterMetricFamily(_PREFIX + "alerts_held", "Alerts not told one by one.", labels=["workload"])
        for name, seen in self._seen.items():
            held.add_metric([_label(name)], seen.counts["held"])
            for kind, severity in product(KINDS, SEVERITIES):  # 0 too: a rate is of what was there before
                alerts.add_metric([_label(name), kind, severity], seen.alerts[kind, severity])
        yield from (alerts, held)

    def _steps(self) -> Metric:
        family = HistogramMetricFamily(_PREFIX + "step_duration_seconds", "How long steps took.", labels=["workload"])
        for name, seen in self._seen.items():
            total, buckets = 0, []
            for limit, count in zip((*STEP_BUCKETS_S, math.inf), seen.steps, strict=True):
                total += count
                buckets.append((f"{limit:g}" if math.isfinite(limit) else "+Inf", float(total)))
            family.add_metric([_label(name)], buckets, seen.steps_s)
        return family

    def _deliveries(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            _PREFIX + "alert_deliveries", "Alerts by what became of them.", labels=["sink", "outcome"]
        )
        for sink, counts in self._outlets().items():
            for outcome in ("delivered", "failed", "dropped"):
                family.add_metric([sink, outcome], float(getattr(counts, outcome)))
        yield family


# --- answering


class _Server(ThreadingHTTPServer):
    """Answers a bounded number of requests at once, each in a thread that ends with the process."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, registry: CollectorRegistry) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(AT_ONCE)
        handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": ANSWERED_S})
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking name servers what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, where there is one to be had."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and be free for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let who asked and went away go without a word."""


class Exporter:
    """Answers with metrics on an address from ``start`` on until it is closed; who asks before waits.

    Raises:
        SculptError: it cannot be listened on.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        ProcessCollector(
            registry=registry
        )  # also tells when this process began, by which a reader sees that counters began anew
        self._server = _listen(host, port, registry)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where metrics are answered."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}/metrics" if ":" in str(host) else f"http://{host!s}:{port}/metrics"

    def start(self) -> None:
        """Answer from now on, in a thread of its own. Again: nothing."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.2,), name="prometheus-metrics", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Answer no longer."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _listen(host: str, port: int, registry: CollectorRegistry) -> _Server:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return _Server((str(address[0]), port), family, registry)
    except OSError as error:
        remedy = (
            f"Give another port, such as --prometheus {port + 1 if port < 65535 else 9464}, or end what listens there."
        )
        raise SculptError(f"metrics cannot be answered on {shown}: {error.strerror}", remedy=remedy) from error
