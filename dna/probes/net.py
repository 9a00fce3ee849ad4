"""Messages through sockets: bytes and sizes each way, how much stays on this host, connections."""

from __future__ import annotations

import numpy as np

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.sockets import Peers
from dna.probes.syscalls import need_bpf
from dna.sample import NetReading
from dna.syscalls import READS, WRITES, table

_SOCKET = 1  # KIND_SOCKET of the BPF sources
_LOOPBACK, _UNIX = 1, 2  # SCOPE_* of the BPF sources
_SENT, _RECEIVED = 0, 1


class _Shared:
    """What both probes count of system calls: connections made."""

    def start_calls(self, context: ProbeContext) -> None:
        self._programs = need_bpf(context)
        self._members = context.members
        self._programs.attach("on_syscall_enter")
        self._calls = self._programs.meter(layouts.SYSCALLS)
        self._peers = Peers(context.host, interval_s=context.interval_s)
        names = table().names
        self._accept = [number for number, name in enumerate(names) if name in ("accept", "accept4")]
        self._connect = names.index("connect")
        self._reads = [number for number, name in enumerate(names) if name in READS]
        self._writes = [number for number, name in enumerate(names) if name in WRITES]

    def stop(self) -> None:
        """Detached with the programs."""


class NetProbe(_Shared):
    """At the socket layer: every message of every family, exactly (kernels from 6.3)."""

    name = "net"
    field = "net"

    def start(self, context: ProbeContext) -> None:
        self.start_calls(context)
        self._programs.attach("on_sent", "on_received")
        self._messages = self._programs.meter(layouts.NET)

    def read(self, interval_s: float) -> Reading[NetReading]:
        step, calls = self._messages.delta(), self._calls.delta()["calls"]
        messages, sent_received = step["messages"], step["bytes"]
        connections, peers = self._peers.find(self._members.pids())
        reading = NetReading(
            sent_bytes=float(sent_received[_SENT].sum()),
            received_bytes=float(sent_received[_RECEIVED].sum()),
            sent=float(messages[_SENT].sum()),
            received=float(messages[_RECEIVED].sum()),
            sent_sizes=step["sizes"][_SENT],
            received_sizes=step["sizes"][_RECEIVED],
            loopback_bytes=float(sent_received[:, _LOOPBACK].sum()),
            unix_bytes=float(sent_received[:, _UNIX].sum()),
            connections=connections,
            accepts=int(calls[self._accept].sum()),
            connects=int(calls[self._connect]),
            peers=peers,
        )
        return Reading(reading)


class SampledNetProbe(_Shared):
    """From sampled system calls on sockets, for kernels without the socket layer's tracepoints: no loopback share."""

    name = "net (sampled)"
    field = "net"

    def start(self, context: ProbeContext) -> None:
        self.start_calls(context)
        self._programs.attach("on_syscall_exit")

    def read(self, interval_s: float) -> Reading[NetReading]:
        step = self._calls.delta()
        calls = step["calls"]
        moved: list[tuple[float, float] | None] = []
        for direction, numbers in ((0, self._reads), (1, self._writes)):
            sampled, made = int(step["io_sampled"][direction].sum()), int(calls[numbers].sum())
            if made and not sampled:
                moved.append(None)
                continue
            scale = made / sampled if sampled else 0.0
            of_kind = (step["io_bytes"][direction, _SOCKET], step["io_calls"][direction, _SOCKET])
            moved.append((float(of_kind[0]) * scale, float(of_kind[1]) * scale))
        received, sent = moved
        connections, peers = self._peers.find(self._members.pids())
        sizes = np.asarray(step["io_sizes"])
        reading = NetReading(
            sent_bytes=sent[0] if sent else None,
            received_bytes=received[0] if received else None,
            sent=sent[1] if sent else None,
            received=received[1] if received else None,
            sent_sizes=sizes[1, _SOCKET],
            received_sizes=sizes[0, _SOCKET],
            loopback_bytes=None,
            unix_bytes=None,
            connections=connections,
            accepts=int(calls[self._accept].sum()),
            connects=int(calls[self._connect]),
            peers=peers,
        )
        return Reading(reading, missing=(("loopback share", "this kernel has no socket tracepoints (6.3 has)"),))


class ProcNetProbe:
    """Without BPF: only how many connections there are."""

    name = "net (from /proc)"
    field = "net"

    def start(self, context: ProbeContext) -> None:
        self._peers = Peers(context.host, interval_s=context.interval_s)
        self._members = context.members
        if not any(context.host.exists(f"/proc/{pid}/fd/0") for pid in list(self._members.pids())[:16]):
            raise ProbeUnavailableError("the target's descriptors may not be read", remedy="run as root")

    def read(self, interval_s: float) -> Reading[NetReading]:
        connections, peers = self._peers.find(self._members.pids())
        unknown = None
        return Reading(
            NetReading(
                sent_bytes=unknown,
                received_bytes=unknown,
                sent=unknown,
                received=unknown,
                sent_sizes=unknown,
                received_sizes=unknown,
                loopback_bytes=unknown,
                unix_bytes=unknown,
                connections=connections,
                accepts=unknown,
                connects=unknown,
                peers=peers,
            )
        )

    def stop(self) -> None:
        """Nothing is held."""
