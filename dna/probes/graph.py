"""Communication graph: who wakes whom."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.syscalls import need_bpf
from dna.sample import CHANNELS, Edge, GraphReading

_INTERRUPT = len(CHANNELS)
"""Column of wake-ups out of an interrupt, which say nothing about who talks to whom."""
_MOST_EDGES = 64


@dataclass(slots=True)
class _Link:
    """Wake-ups between two nodes of the view."""

    source_name: str
    sink_name: str
    count: float = 0.0
    channels: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(CHANNELS)))


def wakeups_by_channel(values: NDArray[np.void]) -> NDArray[np.float64]:
    """Return wake-ups by channel of each edge, shape (edges, 4): those out of interrupts are left out.

    What a wake-up went through is found for the first and then every 64th of an edge, and scaled to its count.
    """
    sampled = values["channel"].astype(np.float64)
    total = sampled.sum(axis=1)
    total[total == 0] = 1.0
    shares = sampled / total[:, None]
    return shares[:, :_INTERRUPT] * values["count"].astype(np.float64)[:, None]


def text(raw: NDArray[np.uint8]) -> str:
    """Return a command name of the kernel: bytes up to the first zero."""
    return bytes(raw).split(b"\0", 1)[0].decode("utf-8", "replace")


def graph_of(keys: NDArray[np.void], values: NDArray[np.void], *, by_thread: bool) -> GraphReading:
    """Return the graph of one interval's edges; ``by_thread`` shows threads of a single process as its nodes."""
    channels = wakeups_by_channel(values)
    counts = channels.sum(axis=1)
    real = counts > 0
    keys, values, channels, counts = keys[real], values[real], channels[real], counts[real]
    inside = values["inside"].astype(bool)
    pairs = set(zip(keys["waker"][inside].tolist(), keys["wakee"][inside].tolist(), strict=True))
    nodes = {tid for pair in pairs for tid in pair}
    kept = counts / np.maximum(values["count"], 1)
    return GraphReading(
        edges=_edges(keys, values, channels, by_thread=by_thread),
        nodes=len(nodes),
        pairs=len(pairs),
        reciprocal_pairs=sum((sink, source) in pairs for source, sink in pairs),
        inside=round(float(counts[inside].sum())),
        outside=round(float(counts[~inside].sum())),
        by_channel=np.rint(channels.sum(axis=0)).astype(np.int64),
        cross_llc=round(float((values["cross_llc"] * kept).sum())),
        cross_numa=round(float((values["cross_node"] * kept).sum())),
    )


def _edges(
    keys: NDArray[np.void], values: NDArray[np.void], channels: NDArray[np.float64], *, by_thread: bool
) -> tuple[Edge, ...]:
    links: dict[tuple[int, int], _Link] = {}
    for key, value, through in zip(keys, values, channels, strict=True):
        threads = by_thread and bool(value["inside"])
        ends = (key["waker"], key["wakee"]) if threads else (value["waker_tgid"], value["wakee_tgid"])
        pair = (int(ends[0]), int(ends[1]))
        link = links.setdefault(pair, _Link(text(value["waker_comm"]), text(value["wakee_comm"])))
        link.count += float(through.sum())
        link.channels += through
    heaviest = sorted(links.items(), key=lambda item: -item[1].count)[:_MOST_EDGES]
    return tuple(
        Edge(
            source=source,
            sink=sink,
            source_name=link.source_name,
            sink_name=link.sink_name,
            count=round(link.count),
            channel=CHANNELS[int(link.channels.argmax())],
        )
        for (source, sink), link in heaviest
    )


class GraphProbe:
    """Counts wake-ups in the kernel by pair of threads."""

    name = "graph"
    field = "graph"

    def start(self, context: ProbeContext) -> None:
        self._programs = need_bpf(context)
        self._members = context.members
        self._programs.attach("on_waking")
        with suppress(
            ProbeUnavailableError
        ):  # without them a timer's wake-ups count as those of the thread it interrupts
            self._programs.attach("on_timer_end", "on_timer_begin")
        self._wakes = self._programs.meter(layouts.WAKE)
        self._programs.drain_edges()

    def read(self, interval_s: float) -> Reading[GraphReading]:
        keys, values = self._programs.drain_edges()
        graph = graph_of(keys, values, by_thread=len(self._members.pids()) == 1)
        return Reading(graph, lost=int(self._wakes.delta()["lost"]))

    def stop(self) -> None:
        """Detached with the programs."""
