"""Taking memory back before it is short: from a cgroup, from a process; and making free memory contiguous."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from hal import cgroups
from hal.errors import HostError, SettingError
from hal.host import Host
from hal.knobs.advice import MADV_COLD, MADV_PAGEOUT, advice_support, advise_all
from hal.knobs.amount import amount_of, meminfo, parse_amount
from hal.knobs.files import may_write, names
from hal.knobs.knob import RANKS, Knob, Support, one_of
from hal.mappings import PAGE, Mapping, read_mappings
from hal.settings import IRREVERSIBLE, SYSTEM, Subject, Value
from hal.sizes import say_size

NODES = "/sys/devices/system/node"
COMPACT_ALL = "/proc/sys/vm/compact_memory"
_ENOUGH = 0.9
"""Of what was asked for: the group goes on allocating meanwhile."""
_LEAST_STEP = 1 << 20
_HUGE_ORDER = 9
_ON_V2 = "boot with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1 on the kernel's command line"


class Reclaim(Knob):
    """Take memory back from a cgroup."""

    name = "memory.reclaim"
    title = "Reclaim memory from a cgroup now"
    subject_kind = "cgroup"
    values = "a size such as 64M, or all"
    example = "64M"
    reversibility = IRREVERSIBLE
    reversal = "what was dropped or swapped out: it comes back when it is used"
    is_action = True

    def support(self, host: Host) -> Support:
        home = cgroups.homes(host).get("memory")
        if home is None or home.version == 1:
            return Support(False, "cgroup v1 has no proactive reclaim" if home else "no memory controller", _ON_V2)
        groups = ("", *cgroups.children(host, home.mount))
        paths = (f"{home.mount}/{group}/memory.reclaim".replace("//", "/") for group in groups)
        found = next((path for path in paths if host.exists(path)), None)
        if found is None:
            return Support(False, "no group has memory.reclaim", "a kernel from Linux 5.19 on")
        return may_write(host, found)

    presumes = ("cgroup.controller_memory",)

    def parse(self, text: str) -> str:
        return parse_amount(self, text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if not host.exists(f"{_directory(host, subject)}/memory.reclaim"):
            raise SettingError(
                f"{self.name}: {subject} has no memory.reclaim",
                remedy="Name a group of the unified hierarchy whose parent enables the memory controller.",
            )

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        directory = _directory(host, subject)
        before = _current(host, directory)
        wanted = min(amount_of(value, before), before)
        try:
            host.write_text(f"{directory}/memory.reclaim", str(wanted))
        except HostError as error:
            if error.number != errno.EAGAIN:  # less than asked for
                raise
            gone = before - _current(host, directory)
            if value != "all" and gone < wanted * _ENOUGH:
                raise _too_little(gone, wanted) from error

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        return ""  # write() told: afterwards nobody can say what there was

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        return f"it has {say_size(_current(host, _directory(host, subject)))} now"

    def cost(self, old: Value, new: Value) -> str:
        return "what is used again is read back from disk or swap"


class ProcessKnob(Knob):
    """Something done to an amount of a process's memory, once for all."""

    subject_kind = "process"
    values = "a size such as 64M, or all"
    rank = RANKS["pages"]
    reversibility = IRREVERSIBLE
    is_action = True
    advice: ClassVar[int]

    def support(self, host: Host) -> Support:
        return advice_support(host, self.advice, "advice on other processes' memory needs Linux 5.10")

    def parse(self, text: str) -> str:
        return parse_amount(self, text)

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        return ""  # write() told: afterwards nobody can say what there was


class PageOut(ProcessKnob):
    """Take memory back from a process: what it used least goes first."""

    name = "memory.pageout"
    title = "Drop or swap out memory of a process now"
    example = "64M"
    reversal = "what was dropped or swapped out: it comes back when it is used"
    advice = MADV_PAGEOUT

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = amount_of(value, 1 << 62)
        gone = self._page_out(host, subject, wanted)
        if value != "all" and gone < wanted * _ENOUGH:
            raise _too_little(gone, wanted)

    def _page_out(self, host: Host, subject: Subject, wanted: int) -> int:
        """Return how many bytes less it has."""
        before = resident(host, subject)
        queue = list(pieces(read_mappings(host, int(subject.name)), has_swap=meminfo(host, "SwapFree") > 0))
        gone = 0
        while queue and gone < wanted:
            # Each look walks the page tables: a few large steps rather than many small ones.
            step, queue = cut(queue, max(wanted - gone, min(wanted, before) // 16, _LEAST_STEP))
            advise_all(host, subject, step, self.advice)
            gone = before - resident(host, subject)
        return gone

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        return f"it has {say_size(resident(host, subject))} now"

    def cost(self, old: Value, new: Value) -> str:
        return "what is used again is read back from disk or swap"


class Cold(ProcessKnob):
    """Mark memory of a process as the first to go when memory is short."""

    name = "memory.cold"
    title = "Mark memory of a process as unused, the first to be reclaimed when memory is short"
    example = "all"
    reversal = "which pages had been used lately: the kernel learns that again"
    advice = MADV_COLD

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        queue = list(pieces(read_mappings(host, int(subject.name)), has_swap=True))
        chosen, _ = cut(queue, amount_of(value, 1 << 62))
        if chosen and not advise_all(host, subject, chosen, self.advice):
            raise HostError("the kernel took the advice for none of its memory", subject=str(subject))


class Compact(Knob):
    """Make free memory contiguous, so that huge pages can be had."""

    name = "memory.compact"
    title = "Move pages together so that huge pages can be had"
    subject_kind = "node"
    values = "now"
    example = "now"
    rank = RANKS["limit"]  # before huge pages are made
    reversibility = IRREVERSIBLE
    reversal = "where pages were"
    is_action = True

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("node", "system")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject != SYSTEM:
            return super().members(host, subject)
        return tuple(_nodes(host)) or (SYSTEM,)

    def subjects(self, host: Host) -> Iterable[Subject]:
        return _nodes(host)

    def support(self, host: Host) -> Support:
        paths = [self._path(node) for node in _nodes(host)] + [COMPACT_ALL]
        found = next((path for path in paths if host.exists(path)), None)
        if found is None:
            return Support(False, "a kernel without CONFIG_COMPACTION", "nothing to do: it is left out")
        return may_write(host, found)

    def parse(self, text: str) -> str:
        return one_of(self, text, ("now",))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if not host.exists(self._path(subject)):
            raise SettingError(
                f"{self.name}: there is no {subject} that could be compacted", remedy="See `dna machine`."
            )

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        host.write_text(self._path(subject), "1")

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        return ""  # it was done; whether there was anything to win is another matter

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        return f"{say_size(free_in_huge(_text(host, '/proc/buddyinfo'), subject.name))} are free in blocks of 2 MiB or more"

    def cost(self, old: Value, new: Value) -> str:
        return "a CPU copies pages for some seconds; who touches one meanwhile waits"

    def _path(self, subject: Subject) -> str:
        return f"{NODES}/node{subject.name}/compact" if subject.kind == "node" else COMPACT_ALL


def resident(host: Host, subject: Subject) -> int:
    """Return the resident bytes of a process, exactly: what /proc/PID/status has lags behind by up to megabytes a CPU."""
    found = re.search(r"^Rss:\s+(\d+) kB", host.read_text(f"/proc/{subject.name}/smaps_rollup"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def pieces(mappings: Iterable[Mapping], *, has_swap: bool) -> Iterator[tuple[int, int, float]]:
    """Return what may be paged out as (address, length, resident share), what was used least first.

    Without swap, mappings with anonymous memory are left out: nothing of them can go, and trying splits huge pages.
    """
    able = [
        m for m in mappings if m.resident and not m.flags & {"lo", "ht", "pf", "io"} and (has_swap or not m.anonymous)
    ]
    for mapping in sorted(able, key=lambda m: (m.referenced / m.resident, m.start)):
        yield mapping.start, mapping.size, min(mapping.resident / mapping.size, 1.0)


def cut(queue: list[tuple[int, int, float]], wanted: int) -> tuple[list[tuple[int, int]], list[tuple[int, int, float]]]:
    """Return the first ranges of a queue that hold about so many resident bytes, and what is left of the queue."""
    taken: list[tuple[int, int]] = []
    for number, (start, length, share) in enumerate(queue):
        needed = -(-int(wanted / share) // PAGE) * PAGE
        if needed < length:
            rest = (start + needed, length - needed, share)
            return [*taken, (start, needed)], [rest, *queue[number + 1 :]]
        taken.append((start, length))
        wanted -= int(length * share)
        if wanted <= 0:
            return taken, queue[number + 1 :]
    return taken, []


def free_in_huge(buddyinfo: str, node: str) -> int:
    """Return the free bytes in blocks of a huge page or more, of a node or ("") of all."""
    total = 0
    for found in re.finditer(r"^Node (\d+), zone +\S+ +([\d ]+)$", buddyinfo, re.MULTILINE):
        if node in ("", found[1]):
            counts = [int(count) for count in found[2].split()]
            total += sum(count << order for order, count in enumerate(counts) if order >= _HUGE_ORDER)
    return total * PAGE


def _nodes(host: Host) -> list[Subject]:
    numbers = [name.removeprefix("node") for name in names(host, NODES) if re.fullmatch(r"node\d+", name)]
    return [Subject("node", n) for n in sorted(numbers, key=int) if host.exists(f"{NODES}/node{n}/compact")]


def _directory(host: Host, subject: Subject) -> str:
    """Return the directory of a cgroup in the hierarchy that has the memory controller."""
    home = cgroups.homes(host).get("memory")
    return f"{home.mount if home else cgroups.ROOT}{subject.name}".rstrip("/")


def _current(host: Host, directory: str) -> int:
    return int(host.read_text(f"{directory}/memory.current"))


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path)
    except HostError:
        return ""


def _too_little(gone: int, wanted: int) -> HostError:
    return HostError(
        f"{say_size(max(gone, 0))} of {say_size(wanted)} could be reclaimed",
        number=errno.EAGAIN,
        remedy="The rest is in use, locked, shared, or anonymous without swap to go to: ask for less.",
    )


KNOBS: tuple[Knob, ...] = (Reclaim(), PageOut(), Cold(), Compact())
