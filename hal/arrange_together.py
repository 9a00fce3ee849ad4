"""Keeping threads that talk to each other in one cache: the graph of threads, cut into last-level cache domains."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hal.arrange_domains import by, distance, numbers_of, usable
from hal.topology_values import Cpu, Topology

_PASSES = 8
"""Rounds of improvement; each can only gain, and few gain anything after the third."""
_SLACK = 1.05
"""How much over its share of the demand a domain may be loaded, when there is more demand than CPUs."""

type Graph = dict[int, dict[int, float]]


def together(
    topology: Topology,
    edges: Mapping[tuple[int, int], float],
    *,
    threads: Iterable[int] = (),
    groups: Iterable[Collection[int]] = (),
    demand: Mapping[int, float] | None = None,
    avoid: Collection[int] = frozenset(),
) -> dict[int, tuple[int, ...]]:
    """Return the CPUs for each thread: all of one last-level cache domain, the same for threads that talk to each other much.

    A heuristic in three steps: pairs are merged, the busiest first, as long as a domain has room for them (as in Kernighan and
    Lin's contraction); the clusters are laid out largest first, each where it talks most or where most room is; single threads
    are then moved as long as that saves traffic between domains. Deterministic.

    Args:
        edges: how much two threads have to do with each other, such as wake-ups a second; both directions count together.
        threads: further ones, without edges.
        groups: threads that share memory, to be kept in one domain where one has room for them all.
        demand: CPUs that each thread keeps busy; 1 unless given.
        avoid: CPUs to leave out.

    Raises:
        SettingError: no CPU is left.
    """
    every = [tuple(sorted(set(group))) for group in groups]
    graph = _graph(edges, [*threads, *(demand or {}), *(tid for bundle in every for tid in bundle)])
    loads = {tid: _load(demand, tid) for tid in graph}
    layout = _Layout(topology, by("llc", usable(topology, avoid=avoid)), sum(loads.values()))
    room = max(layout.rooms.values())
    bundles = [bundle for bundle in every if sum(loads[tid] for tid in bundle) <= room]
    _place(layout, _clusters(graph, loads, bundles, room), graph, loads)
    bound = {tid for bundle in bundles for tid in bundle}
    _improve(layout, graph, loads, movable=[tid for tid in graph if tid not in bound])
    return {tid: numbers_of(layout.domains[layout.where[tid]]) for tid in graph}


def _load(demand: Mapping[int, float] | None, tid: int) -> float:
    load = 1.0 if demand is None else demand.get(tid, 1.0)
    return load if math.isfinite(load) and load > 0 else 0.0


def _graph(edges: Mapping[tuple[int, int], float], others: Iterable[int]) -> Graph:
    """Return the undirected graph, threads in order; what is no weight (negative, infinite) is no edge."""
    tids = sorted({*others, *(tid for pair in edges for tid in pair)})
    graph: Graph = {tid: {} for tid in tids}
    for (one, other), weight in sorted(edges.items()):
        if one != other and math.isfinite(weight) and weight > 0:
            graph[one][other] = graph[one].get(other, 0.0) + weight
            graph[other][one] = graph[other].get(one, 0.0) + weight
    return graph


@dataclass(slots=True)
class _Layout:
    """Which thread is in which domain, and how much room each domain has."""

    topology: Topology
    domains: dict[int, list[Cpu]]
    total: float
    where: dict[int, int] = field(default_factory=dict)
    rooms: dict[int, float] = field(init=False)
    _near: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cpus = sum(len(members) for members in self.domains.values())
        # More threads than CPUs is normal: then every domain holds its share of them, and a little more.
        factor = max(1.0, self.total / cpus * _SLACK)
        self.rooms = {number: len(members) * factor for number, members in self.domains.items()}

    def nearness(self, one: int, other: int) -> float:
        """Return 1 within a domain, less between two, least between far nodes."""
        if one == other:
            return 1.0
        key = (min(one, other), max(one, other))
        if key not in self._near:
            nodes = (self.domains[one][0].node, self.domains[other][0].node)
            self._near[key] = 0.5 * distance(self.topology, nodes[0], nodes[0]) / distance(self.topology, *nodes)
        return self._near[key]

    def put(self, tids: Sequence[int], domain: int, loads: Mapping[int, float]) -> None:
        for tid in tids:
            self.where[tid] = domain
            self.rooms[domain] -= loads[tid]

    def take(self, tid: int, loads: Mapping[int, float]) -> None:
        self.rooms[self.where.pop(tid)] += loads[tid]


def _clusters(
    graph: Graph, loads: Mapping[int, float], bundles: Iterable[Sequence[int]], room: float
) -> list[tuple[int, ...]]:
    """Return threads merged as far as one domain has room, busiest pairs first; the largest clusters first."""
    merging = _Merging(graph, loads, room)
    for bundle in bundles:
        for tid in bundle[1:]:
            merging.join(merging.root(bundle[0]), merging.root(tid))
    merging.run()
    found: dict[int, list[int]] = {}
    for tid in graph:
        found.setdefault(merging.root(tid), []).append(tid)
    clusters = [tuple(members) for members in found.values()]
    return sorted(clusters, key=lambda cluster: (-sum(loads[tid] for tid in cluster), cluster))


class _Merging:
    """Clusters that grow: the pair with most between them first, weights of merged clusters added up."""

    def __init__(self, graph: Graph, loads: Mapping[int, float], room: float) -> None:
        self._links = {tid: dict(links) for tid, links in graph.items()}
        self._loads = dict(loads)
        self._room = room
        self._parent = {tid: tid for tid in graph}
        self._heap = [(-weight, one, other) for one in graph for other, weight in graph[one].items() if one < other]
        heapq.heapify(self._heap)

    def root(self, tid: int) -> int:
        while self._parent[tid] != tid:
            self._parent[tid] = self._parent[self._parent[tid]]
            tid = self._parent[tid]
        return tid

    def run(self) -> None:
        while self._heap:
            weight, one, other = heapq.heappop(self._heap)
            current = self._links.get(one, {}).get(other)
            if current is None or current != -weight:
                continue  # one of them was merged since, or the weight grew: that has an entry of its own
            if self._loads[one] + self._loads[other] <= self._room:
                self.join(one, other)

    def join(self, one: int, other: int) -> None:
        """Merge two clusters, named by their roots; the smaller number stays."""
        if one == other:
            return
        kept, gone = min(one, other), max(one, other)
        self._parent[gone] = kept
        self._loads[kept] += self._loads.pop(gone)
        mine = self._links[kept]
        for neighbour, weight in self._links.pop(gone).items():
            theirs = self._links[neighbour]
            del theirs[gone]
            if neighbour == kept:
                continue
            mine[neighbour] = theirs[kept] = mine.get(neighbour, 0.0) + weight
            pair = (min(kept, neighbour), max(kept, neighbour))
            heapq.heappush(self._heap, (-mine[neighbour], *pair))


def _place(layout: _Layout, clusters: Iterable[Sequence[int]], graph: Graph, loads: Mapping[int, float]) -> None:
    """Put each cluster where it has most to do with those placed, of the domains with room; else where most room is."""
    for cluster in clusters:
        load = sum(loads[tid] for tid in cluster)
        roomy = [domain for domain in layout.domains if layout.rooms[domain] >= load]
        if not roomy:
            roomy = [max(layout.domains, key=lambda domain: (layout.rooms[domain], -domain))]
        best = max(roomy, key=lambda domain: (_traffic(layout, cluster, domain, graph), layout.rooms[domain], -domain))
        layout.put(cluster, best, loads)


def _traffic(layout: _Layout, tids: Iterable[int], domain: int, graph: Graph) -> float:
    """Return what threads have to do with all that are placed, counted by how near ``domain`` is to each."""
    return sum(
        weight * layout.nearness(domain, layout.where[other])
        for tid in tids
        for other, weight in graph[tid].items()
        if other in layout.where
    )


def _improve(layout: _Layout, graph: Graph, loads: Mapping[int, float], movable: Sequence[int]) -> None:
    """Move single threads as long as that brings them nearer to those they talk to."""
    for _ in range(_PASSES):
        moved = False
        for tid in movable:
            home = layout.where[tid]
            if not graph[tid]:
                continue
            layout.take(tid, loads)
            best, gain = home, _traffic(layout, (tid,), home, graph)
            for domain in sorted({layout.where[other] for other in graph[tid]}):
                found = _traffic(layout, (tid,), domain, graph)
                if found > gain * (1 + 1e-9) and layout.rooms[domain] >= loads[tid]:
                    best, gain = domain, found
            layout.put((tid,), best, loads)
            moved |= best != home
        if not moved:
            return
