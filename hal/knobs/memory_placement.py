"""On which NUMA nodes a process's memory is.

A value is the share of each node, "0=0.25,1=0.75", in thousandths that add up to one; after it may stand how fast pages may be
moved, "1=1@256M". What counts is the memory that can be moved: private, and mapped by no other process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from hal.errors import HostError, NotFoundError, SettingError, UnsupportedError
from hal.host import Host
from hal.knobs.advice import start_time
from hal.knobs.knob import RANKS, WORKS, Knob, Progress, SlowKnob, Support
from hal.lists import format_cpu_list, parse_cpu_list
from hal.mappings import huge_page_size
from hal.migration import BANDWIDTH, Moved, apart, move, nodes_of, shares
from hal.settings import APPROXIMATE, Subject, Value
from hal.sizes import format_size, parse_size, say_size

NODES = "/sys/devices/system/node"
TOLERANCE = 0.05
"""Shares this near are the same: a running process makes and gives back pages all the time."""
_THOUSAND = 1000
_MOST_NODES = 1024  # MAX_NUMNODES of every configuration that distributions build
_PART = re.compile(r"([0-9]{1,4})=([0-9]{1,6}(?:\.[0-9]{1,6})?)")
_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


class Placement(SlowKnob):
    """The share of each node in a process's memory."""

    name = "memory.placement"
    title = "NUMA nodes that a process's memory is on"
    subject_kind = "process"
    values = "nodes (1, or 0-3 for equal shares) or weights (0=1,1=3), and @LIMIT for bytes a second (1@256M)"
    example = "0=0.25,1=0.75"
    rank = RANKS["pages"]
    presumes = ("cgroup.member", "cgroup.mems")  # the cpuset says which nodes there may be pages on
    is_measured = True
    reversibility = APPROXIMATE
    reversal = "which page was on which node: only the nodes' shares come back, evenly over the memory"

    def support(self, host: Host) -> Support:
        nodes = nodes_with_memory(host)
        if not nodes:
            return Support(False, "a kernel without NUMA", "nothing to do: all memory is equally near")
        if len(nodes) == 1:
            return Support(False, "there is one NUMA node", "nothing to do: all memory is equally near")
        return WORKS

    def parse(self, text: str) -> str:
        weights, at, limit = text.strip().partition("@")
        try:
            speed = f"@{format_size(parse_size(limit))}" if at else ""
        except ValueError:
            raise self.malformed(text) from None
        found = _weights(weights)
        if not found:
            raise self.malformed(text)
        return format_shares(found) + speed

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nodes = shares_of(value)
        here = nodes_with_memory(host)
        absent = set(nodes) - set(here)
        if absent:
            raise SettingError(
                f"{self.name}: node {format_cpu_list(absent)} is not there, or has no memory",
                remedy=f"Nodes with memory are {format_cpu_list(here)}; see `dna machine`.",
            )
        pid = int(subject.name)
        try:
            barred = set(nodes) - set(_allowed(host, pid))
            lacking = _lacking_room(host, nodes_of(host, pid), nodes)
        except HostError:
            return  # gone, or another user's: reading says so
        if barred:
            raise SettingError(
                f"{self.name}: the cpuset of {subject} does not allow node {format_cpu_list(barred)}",
                remedy="allow it first: dna set cgroup.mems",
            )
        if lacking:
            raise SettingError(f"{self.name}: {subject} does not fit: {lacking}", remedy="Choose more nodes.")

    def read(self, host: Host, subject: Subject) -> str:
        here = nodes_with_memory(host)
        if len(here) == 1:  # without looking at the pages of each of a thousand processes
            start_time(host, subject)
            return f"{here[0]}=1"
        found = nodes_of(host, int(subject.name))
        if not found:
            raise UnsupportedError(f"{subject} has no memory of its own that could be moved", subject=str(subject))
        return format_shares(found)

    def write(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _moved, _of: None
    ) -> None:
        self.move(host, subject, value, progress=progress)

    def move(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _moved, _of: None
    ) -> Moved:
        """Do what ``write`` does, and return what was moved how fast."""
        limit = limit_of(value)
        pid = int(subject.name)
        done = move(host, pid, subject.start, shares_of(value), bandwidth=limit, progress=progress)
        if done.ended:
            raise NotFoundError(f"{subject} ended while its pages were moved", subject=str(subject))
        return done

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        found = nodes_of(host, int(subject.name))
        # A few huge pages cannot be shared out finer than one by one.
        grain = _unit(host) / max(sum(found.values()), 1)
        if apart(shares_of(value), shares(found)) <= max(TOLERANCE, grain):
            return ""
        return f"its memory is on nodes {format_shares(found)}: the rest is pinned for a device, or does not fit"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        found = nodes_of(host, int(subject.name))
        return (
            f"of {say_size(sum(found.values()))} that can be moved, nodes have {format_shares(found)}" if found else ""
        )

    def same(self, wanted: Value, found: Value) -> bool:
        return apart(shares_of(wanted), shares_of(found)) <= TOLERANCE + 1e-9

    def pin(self, host: Host, subject: Subject, found: Value) -> str:
        policies = re.findall(
            r"^[0-9a-f]+ ((?:bind|interleave|weighted interleave|prefer)\S*)", _maps(host, subject), re.M
        )
        return f"its memory policy is {policies[0]}" if policies else ""

    def cost(self, old: Value, new: Value) -> str:
        part = sum(max(share - shares_of(old).get(node, 0.0), 0.0) for node, share in shares_of(new).items())
        return f"{part:.0%} of its pages are moved, at most {say_size(limit_of(new))}/s; touching one meanwhile waits"


def shares_of(value: Value) -> dict[int, float]:
    """Return the share by node of a value in canonical form."""
    weights, _, _ = str(value).partition("@")
    pairs = (part.split("=") for part in weights.split(","))
    return {int(node): float(share) for node, share in pairs}


def limit_of(value: Value) -> int:
    """Return how many bytes a second a value lets be moved."""
    _, _, limit = str(value).partition("@")
    return parse_size(limit) if limit else BANDWIDTH


def format_shares(weights: Mapping[int, float]) -> str:
    """Return weights as shares in thousandths that add up to one: what is over is given to the largest remainders."""
    total = math.fsum(weights.values())
    exact = {node: weight * _THOUSAND / total for node, weight in sorted(weights.items())}
    parts = {node: int(share) for node, share in exact.items()}
    for node in sorted(exact, key=lambda n: parts[n] - exact[n])[: _THOUSAND - sum(parts.values())]:
        parts[node] += 1
    return ",".join(f"{node}={part / _THOUSAND:g}" for node, part in parts.items() if part)


def nodes_with_memory(host: Host) -> tuple[int, ...]:
    """Return the nodes that have memory; () where the kernel knows no NUMA."""
    try:
        return parse_cpu_list(host.read_text(f"{NODES}/has_memory"))
    except HostError:
        return ()


def _weights(text: str) -> dict[int, float]:
    """Return the weight of each node in what a person wrote; {} where it makes no sense."""
    found: dict[int, float] = {}
    for part in text.split(","):
        weighted, spanned = _PART.fullmatch(part.strip()), _RANGE.fullmatch(part.strip())
        if weighted:
            nodes, weight = range(int(weighted[1]), int(weighted[1]) + 1), float(weighted[2])
        elif spanned:
            nodes, weight = range(int(spanned[1]), int(spanned[2] or spanned[1]) + 1), 1.0
        else:
            return {}
        if not nodes or nodes[-1] >= _MOST_NODES or set(nodes) & set(found):
            return {}
        found |= dict.fromkeys(nodes, weight)
    return found if sum(found.values()) > 0 else {}


def _allowed(host: Host, pid: int) -> tuple[int, ...]:
    """Return the nodes that a process's cpuset allows."""
    found = re.search(r"^Mems_allowed_list:\s*(\S+)", host.read_text(f"/proc/{pid}/status"), re.M)
    return parse_cpu_list(found[1]) if found else nodes_with_memory(host)


def _lacking_room(host: Host, present: Mapping[int, int], wanted: Mapping[int, float]) -> str:
    """Return which node cannot take what would come to it, "" when all can."""
    total = sum(present.values())
    coming = {node: share * total - present.get(node, 0) for node, share in wanted.items()}
    rooms = {node: _room(host, node) for node in coming}
    full = [node for node in coming if coming[node] > rooms[node]]
    return ", ".join(f"{say_size(coming[n])} would come to node {n}, which has {say_size(rooms[n])}" for n in full)


def _room(host: Host, node: int) -> int:
    """Return the bytes that a node can give: free, and of files that can be read again."""
    fields = dict(re.findall(r"Node \d+ (\S+):\s+(\d+) kB", host.read_text(f"{NODES}/node{node}/meminfo")))
    names = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
    return sum(int(fields.get(name, 0)) for name in names) * 1024


def _unit(host: Host) -> int:
    try:
        return huge_page_size(host)
    except HostError:
        return 0


def _maps(host: Host, subject: Subject) -> str:
    try:
        return host.read_text(f"/proc/{subject.name}/numa_maps")
    except HostError:
        return ""


KNOBS: tuple[Knob, ...] = (Placement(),)
