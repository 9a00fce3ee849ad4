"""Huge pages of the whole system: who gets them, how hard they are tried for, and the reserve of hugetlbfs."""

from __future__ import annotations

import re
from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.amount import meminfo
from hal.knobs.files import choices, names, selected
from hal.knobs.knob import Knob, one_of, whole_number
from hal.knobs.memory import NumberKnob, SystemKnob
from hal.knobs.parts import PartsKnob, parts_of
from hal.settings import APPROXIMATE, Subject, Value
from hal.sizes import format_size, parse_size, say_size

THP = "/sys/kernel/mm/transparent_hugepage"
HUGETLB = "/sys/kernel/mm/hugepages"
_NO_THP = "a kernel without CONFIG_TRANSPARENT_HUGEPAGE"


class ModeKnob(SystemKnob):
    """A choice among words; which of them there are depends on the kernel."""

    words: ClassVar[tuple[str, ...]]
    absent = _NO_THP

    def parse(self, text: str) -> str:
        return one_of(self, text, self.words)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        offered = choices(host.read_text(self.file))
        if value not in offered:
            raise SettingError(
                f"{self.name}: this kernel has no {value!r}", remedy=f"It offers {', '.join(sorted(offered))}."
            )

    def decode(self, text: str) -> str:
        return selected(text)


class Thp(ModeKnob):
    """Which memory gets transparent huge pages."""

    name = "memory.thp"
    title = "Which memory gets transparent huge pages"
    values = "always, madvise (where a program asks for them) or never"
    example = "madvise"
    file = f"{THP}/enabled"
    words = ("always", "madvise", "never")

    def cost(self, old: Value, new: Value) -> str:
        return "programs that touch little of what they map use more memory" if new == "always" else ""


class ThpDefrag(ModeKnob):
    """Whether a fault waits for a huge page to be made free."""

    name = "memory.thp_defrag"
    title = "Whether a fault waits until a huge page is made free"
    values = "always, defer (leave it to the kernel's threads), defer+madvise, madvise or never"
    example = "madvise"
    file = f"{THP}/defrag"
    words = ("always", "defer", "defer+madvise", "madvise", "never")

    def cost(self, old: Value, new: Value) -> str:
        return "faults wait for reclaim and compaction" if new == "always" else ""


class ThpShmem(ModeKnob):
    """Which shared memory gets transparent huge pages."""

    name = "memory.thp_shmem"
    title = "Which shared memory gets transparent huge pages"
    values = "always, within_size, advise, never; and deny or force, for emergencies and testing"
    example = "advise"
    file = f"{THP}/shmem_enabled"
    words = ("always", "within_size", "advise", "never", "deny", "force")


class ThpSizes(PartsKnob):
    """Which memory gets large pages, size by size (Linux 6.8)."""

    name = "memory.thp_sizes"
    title = "Which memory gets large pages of each size (multi-size THP)"
    values = "sizes with always, inherit (from memory.thp), madvise or never: 64K=madvise,2M=inherit"
    example = "64K=madvise"
    absent = "large pages of several sizes need Linux 6.8"

    def files(self, host: Host) -> dict[str, str]:
        return _by_size(host, THP, "enabled")

    def part(self, text: str) -> str:
        return _size(self, text)

    def position(self, part: str) -> int:
        return parse_size(part)

    def setting(self, text: str) -> str:
        return one_of(self, text, ("always", "inherit", "madvise", "never"))

    def decode(self, text: str) -> str:
        return selected(text)


class KhugepagedScan(NumberKnob):
    """How many pages khugepaged looks at before it sleeps."""

    name = "memory.khugepaged_scan"
    title = "Pages that khugepaged looks at before it sleeps"
    values = "a number of pages from 1 to 4294967295"
    example = "8192"
    file = f"{THP}/khugepaged/pages_to_scan"
    least = 1
    most = (1 << 32) - 1
    absent = _NO_THP


class KhugepagedSleep(NumberKnob):
    """How long khugepaged sleeps between two rounds."""

    name = "memory.khugepaged_sleep"
    title = "Milliseconds that khugepaged sleeps between two rounds"
    values = "milliseconds from 0 to 4294967295"
    example = "1000"
    file = f"{THP}/khugepaged/scan_sleep_millisecs"
    most = (1 << 32) - 1
    absent = _NO_THP

    def cost(self, old: Value, new: Value) -> str:
        return "khugepaged keeps one CPU busy" if new == 0 else ""


class KhugepagedHoles(NumberKnob):
    """How many pages of a huge one may be missing for khugepaged to make it all the same."""

    name = "memory.khugepaged_holes"
    title = "Pages of a huge page that may be missing when khugepaged makes one"
    values = "a number from 0 (only what is all there) to 511 (one page is enough); more where pages are larger"
    example = "64"
    file = f"{THP}/khugepaged/max_ptes_none"
    most = 8191  # HPAGE_PMD_NR - 1 with pages of 64 KiB
    absent = _NO_THP

    def cost(self, old: Value, new: Value) -> str:
        return "memory that is touched here and there takes more" if int(new or 0) > int(old or 0) else ""


class HugetlbPages(PartsKnob):
    """The reserve of hugetlbfs, size by size."""

    name = "memory.hugetlb_pages"
    title = "Pages reserved for hugetlbfs, by size"
    values = "sizes with numbers of pages: 2M=512,1G=0"
    example = "2M=512"
    reversibility = APPROXIMATE
    reversal = "on which node each reserved page was: only their numbers come back, and only pages that nobody uses go"
    absent = "a kernel without CONFIG_HUGETLBFS"

    def files(self, host: Host) -> dict[str, str]:
        return _by_size(host, HUGETLB, "nr_hugepages")

    def part(self, text: str) -> str:
        return _size(self, text)

    def position(self, part: str) -> int:
        return parse_size(part)

    def setting(self, text: str) -> str:
        return str(whole_number(self, text, least=0, most=1 << 32))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        present = parts_of(self.read(host, subject))
        more = sum((int(number) - int(present[size])) * parse_size(size) for size, number in parts_of(value).items())
        available = meminfo(host, "MemAvailable")
        if more > available > 0:
            raise SettingError(
                f"{self.name}: that takes {say_size(more)}, and {say_size(available)} are available",
                remedy="Reserve less, or free memory first.",
            )

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: memory is too fragmented, or pages are in use; compacting may help" if wrong else ""

    def cost(self, old: Value, new: Value) -> str:
        return "reserved memory serves nothing else"


def _by_size(host: Host, folder: str, file: str) -> dict[str, str]:
    """Return one file of each folder ``hugepages-2048kB`` by size, smallest first."""
    found = {}
    for name in names(host, folder):
        size = re.fullmatch(r"hugepages-(\d+)kB", name)
        if size and host.exists(f"{folder}/{name}/{file}"):
            found[int(size[1]) * 1024] = f"{folder}/{name}/{file}"
    return {format_size(size): found[size] for size in sorted(found)}


def _size(knob: Knob, text: str) -> str:
    try:
        return format_size(parse_size(text))
    except ValueError:
        raise knob.malformed(text) from None


KNOBS: tuple[Knob, ...] = (
    Thp(),
    ThpDefrag(),
    ThpShmem(),
    ThpSizes(),
    KhugepagedScan(),
    KhugepagedSleep(),
    KhugepagedHoles(),
    HugetlbPages(),
)
