"""Memory management of the whole system: reclaim, write-back, KSM, NUMA balancing and interleaving."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hal.errors import HostError, SettingError, UnsupportedError
from hal.host import Host
from hal.knobs.files import FileKnob, may_write, names
from hal.knobs.knob import Knob, Support, on_or_off, one_of, whole_number
from hal.knobs.parts import PartsKnob, parts_of
from hal.settings import APPROXIMATE, SYSTEM, Change, Subject, Value
from hal.sizes import format_size, parse_size

VM = "/proc/sys/vm"
KSM = "/sys/kernel/mm/ksm"
INTERLEAVE = "/sys/kernel/mm/mempolicy/weighted_interleave"


class SystemKnob(FileKnob):
    """A knob of the whole system that is one file."""

    subject_kind = "system"
    file: ClassVar[str]

    def path(self, subject: Subject = SYSTEM) -> str:
        return self.file

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if host.exists(self.file) else ()


class NumberKnob(SystemKnob):
    """A number in a file."""

    least: ClassVar[int] = 0
    most: ClassVar[int]

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=self.least, most=self.most)

    def decode(self, text: str) -> int:
        return int(text)


class Swappiness(NumberKnob):
    """How willingly anonymous memory is swapped out rather than files dropped."""

    name = "memory.swappiness"
    title = "Cost of dropping files against that of swapping, to reclaim"
    values = "0 (swap last) to 200 (swap first); 100 holds both for equally dear, above it needs Linux 5.8"
    example = "10"
    file = f"{VM}/swappiness"
    most = 200


class ZoneReclaim(NumberKnob):
    """Whether a node that is full reclaims its own memory before it takes a farther node's."""

    name = "memory.zone_reclaim"
    title = "Reclaim a full node's memory before using a farther node's"
    values = "0 (off), or a sum of 1 (reclaim), 2 (write dirty pages for it) and 4 (swap for it)"
    example = "1"
    file = f"{VM}/zone_reclaim_mode"
    most = 7
    absent = "a kernel without NUMA"

    def cost(self, old: Value, new: Value) -> str:
        return "allocations wait for reclaim while other nodes have room: worse for most file servers" if new else ""


class NumaBalancing(NumberKnob):
    """Whether the kernel itself moves pages to the nodes that use them."""

    name = "memory.numa_balancing"
    title = "The kernel moves pages to the nodes that use them (AutoNUMA)"
    values = "0 (off), or a sum of 1 (between nodes) and 2 (between tiers of memory, Linux 5.18)"
    example = "0"
    file = "/proc/sys/kernel/numa_balancing"
    most = 3
    absent = "a kernel without CONFIG_NUMA_BALANCING"

    def cost(self, old: Value, new: Value) -> str:
        return "pages are unmapped now and then to see who touches them" if new else ""


class CompactionProactiveness(NumberKnob):
    """How much memory is compacted before somebody asks for it."""

    name = "memory.compaction_proactiveness"
    title = "How eagerly memory is compacted in the background"
    values = "0 (only when asked for) to 100"
    example = "0"
    file = f"{VM}/compaction_proactiveness"
    most = 100


class KsmScan(NumberKnob):
    """How many pages KSM looks at before it sleeps."""

    name = "memory.ksm_scan"
    title = "Pages that KSM compares before it sleeps"
    values = "a number of pages from 1 to 1000000"
    example = "1000"
    file = f"{KSM}/pages_to_scan"
    least = 1
    most = 1_000_000
    absent = "a kernel without CONFIG_KSM"

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        # scan-time: the advisor (Linux 6.8, 4e5fa4f5eff6) sets it, and the kernel refuses others
        if "[scan-time]" in _text(host, f"{KSM}/advisor_mode"):
            raise SettingError(
                f"{self.name}: the kernel's advisor sets it", remedy=f"First: echo none > {KSM}/advisor_mode"
            )


class KsmSleep(NumberKnob):
    """How long KSM sleeps between two rounds."""

    name = "memory.ksm_sleep"
    title = "Milliseconds that KSM sleeps between two rounds"
    values = "milliseconds from 0 to 3600000"
    example = "100"
    file = f"{KSM}/sleep_millisecs"
    most = 3_600_000
    absent = "a kernel without CONFIG_KSM"


class Ksm(SystemKnob):
    """Whether equal pages of processes that ask for it are merged."""

    name = "memory.ksm"
    title = "Merge equal pages of processes that allow it (KSM)"
    values = "off (what is merged stays so), on, or unmerge (stop, and give everybody pages of their own again)"
    example = "on"
    file = f"{KSM}/run"
    absent = "a kernel without CONFIG_KSM"
    reversibility = APPROXIMATE
    reversal = "what was merged meanwhile, which `unmerge` splits; nor, after unmerge, what had been merged before"
    _words = ("off", "on", "unmerge")

    def parse(self, text: str) -> str:
        word = one_of(self, text, (*self._words, "0", "1", "2"))
        return self._words[int(word)] if word.isdigit() else word

    def decode(self, text: str) -> str:
        return self._words[int(text)]

    def encode(self, value: Value) -> str:
        return str(self._words.index(str(value)))

    def cost(self, old: Value, new: Value) -> str:
        if new == "unmerge":
            return "what is merged needs memory of its own again"
        return "one CPU compares pages; the first write to a merged page copies it" if new == "on" else ""


class Demotion(SystemKnob):
    """Whether reclaim moves cold pages to slower memory instead of dropping or swapping them."""

    name = "memory.demotion"
    title = "Cold pages go to a slower tier of memory before they are swapped out"
    values = "on or off"
    example = "off"
    file = "/sys/kernel/mm/numa/demotion_enabled"

    def parse(self, text: str) -> bool:
        return on_or_off(self, text)

    def decode(self, text: str) -> bool:
        return text.strip() in ("true", "1")


class DirtyKnob(Knob):
    """A limit on memory that waits to be written back, as a share or in bytes: the kernel keeps one and clears the other."""

    subject_kind = "system"
    values = "a share of available memory such as 20%, or a size such as 512M, from 8K on"
    file: ClassVar[str]
    _least = 8192  # dirty_bytes_min, mm/page-writeback.c: two pages

    def support(self, host: Host) -> Support:
        if not host.exists(f"{self.file}_ratio"):
            return Support(False, "/proc/sys is not this kernel's own, or not there", "mount procfs")
        return may_write(host, f"{self.file}_ratio")

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if host.exists(f"{self.file}_ratio") else ()

    def parse(self, text: str) -> str:
        share = text.strip().removesuffix("%")
        if share != text.strip():
            return f"{whole_number(self, share, least=0, most=100)}%"
        try:
            size = parse_size(text)
        except ValueError:
            raise self.malformed(text) from None
        if size < self._least:
            raise self.malformed(text)
        return format_size(size)

    def read(self, host: Host, subject: Subject) -> str:
        size = int(host.read_text(f"{self.file}_bytes"))
        return format_size(size) if size else f"{int(host.read_text(f'{self.file}_ratio'))}%"

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        text = str(value)
        if not text.endswith("%"):
            host.write_text(f"{self.file}_bytes", str(parse_size(text)))
            return
        if text == "0%" and int(host.read_text(f"{self.file}_bytes")):
            # The ratio that bytes cleared is 0 too, and only one that differs clears the bytes.
            host.write_text(f"{self.file}_ratio", "1")
        host.write_text(f"{self.file}_ratio", text.removesuffix("%"))

    def between(self, change: Change) -> tuple[Value, ...]:
        return ("1%",) if "0%" in (change.old, change.new) else ()


class Dirty(DirtyKnob):
    """Where writers are made to wait."""

    name = "memory.dirty"
    title = "Memory waiting to be written back at which writers have to wait"
    example = "20%"
    file = f"{VM}/dirty"


class DirtyBackground(DirtyKnob):
    """Where the kernel begins to write."""

    name = "memory.dirty_background"
    title = "Memory waiting to be written back at which the kernel begins to"
    example = "64M"
    file = f"{VM}/dirty_background"


class InterleaveWeights(PartsKnob):
    """How many pages each node gets in a round of weighted interleaving."""

    name = "memory.interleave_weights"
    title = "Pages that each node gets in a round of weighted interleaving"
    values = "auto (by the nodes' bandwidth, Linux 6.16), or pages from 1 to 255 by node such as 0=3,1=1"
    example = "0=3,1=1"
    absent = "weighted interleaving needs Linux 6.9 with NUMA"
    reversibility = APPROXIMATE
    reversal = "auto, where the kernel knows no bandwidths: all weights are then set to 1, which is what it chose"

    def files(self, host: Host) -> dict[str, str]:
        nodes = (name.removeprefix("node") for name in names(host, INTERLEAVE) if name.startswith("node"))
        return {node: f"{INTERLEAVE}/node{node}" for node in sorted(nodes, key=int)}

    def part(self, text: str) -> str:
        return str(whole_number(self, text, least=0, most=1023))

    def position(self, part: str) -> int:
        return int(part)

    def setting(self, text: str) -> str:
        return str(whole_number(self, text, least=1, most=255))

    def parse(self, text: str) -> str:
        return "auto" if text.strip() == "auto" else super().parse(text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        if value == "auto" and not _auto_file(host):
            raise SettingError(f"{self.name}: this kernel does not choose weights itself", remedy="Give them by node.")

    def read(self, host: Host, subject: Subject) -> str:
        auto = _auto_file(host)
        return "auto" if auto and host.read_text(auto).strip() in _TRUE else super().read(host, subject)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        if value == "auto":
            self._let_the_kernel_choose(host)
            return
        paths = self.files(host)
        # Every one that is named, whatever it is: the first write ends the kernel's own choice, which keeps the others.
        for node, weight in parts_of(value).items():
            host.write_text(paths[node], weight)

    def _let_the_kernel_choose(self, host: Host) -> None:
        try:
            host.write_text(_auto_file(host), "1")
        except UnsupportedError:  # it has no bandwidths to choose by (ENODEV), and so chose 1 for all
            for path in self.files(host).values():
                host.write_text(path, "1")

    def same(self, wanted: Value, found: Value) -> bool:
        return wanted == found if "auto" in (wanted, found) else super().same(wanted, found)


_TRUE = ("1", "true", "Y", "y")


def _auto_file(host: Host) -> str:
    """Return the switch of weights that the kernel chooses, "" where there is none; Linux 6.16 to 6.18 spell it otherwise."""
    others = [name for name in names(host, INTERLEAVE) if not name.startswith("node")]
    return f"{INTERLEAVE}/{others[0]}" if others else ""


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path)
    except HostError:
        return ""


KNOBS: tuple[Knob, ...] = (
    Swappiness(),
    ZoneReclaim(),
    NumaBalancing(),
    CompactionProactiveness(),
    Ksm(),
    KsmScan(),
    KsmSleep(),
    Demotion(),
    Dirty(),
    DirtyBackground(),
    InterleaveWeights(),
)
