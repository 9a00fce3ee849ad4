"""Block devices: how their requests are ordered, merged, completed, and how far files are read ahead.

The files are those of Documentation/ABI/stable/sysfs-block; ``queue`` is there for whole disks only.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterable
from typing import ClassVar

from hal.errors import HostError, SettingError
from hal.host import Host
from hal.knobs.files import FileKnob, choices, names, readable, selected
from hal.knobs.knob import Knob, whole_number
from hal.settings import APPROXIMATE, Change, Subject, Value

_BLOCK = "/sys/block"
_PASSED_OVER = ("loop", "ram", "zram")
"""Not offered, but accepted when named: there are dozens, and they do nothing that a disk below does not."""
_PAGE_KIB = resource.getpagesize() // 1024


class BlockKnob(FileKnob):
    """A knob on one disk's request queue."""

    subject_kind = "block"
    absent = "no disk here has this"
    file: ClassVar[str]

    def path(self, subject: Subject) -> str:
        return f"{_BLOCK}/{subject.name}/queue/{self.file}"

    def subjects(self, host: Host) -> Iterable[Subject]:
        disks = (Subject("block", name) for name in names(host, _BLOCK) if not name.startswith(_PASSED_OVER))
        return (disk for disk in disks if readable(host, self.path(disk)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        name = subject.name
        if not name or "/" in name or not host.exists(f"{_BLOCK}/{name}"):
            is_partition = "/" not in name and host.exists(f"/sys/class/block/{name}/partition")
            raise SettingError(
                f"{self.name}: {name} is {'a partition' if is_partition else 'no block device here'}",
                remedy=f"Name a whole disk: {', '.join(names(host, _BLOCK)) or 'there is none'}.",
            )
        if not readable(host, self.path(subject)):
            raise SettingError(
                f"{self.name}: {name} has no {self.file}",
                remedy="Its driver takes requests without a queue of that kind.",
            )


class Scheduler(BlockKnob):
    """What orders a disk's requests."""

    name = "block.scheduler"
    title = "I/O scheduler of a disk"
    values = "a scheduler that the kernel has: none, mq-deadline, kyber or bfq"
    example = "none"
    file = "scheduler"
    reversibility = APPROXIMATE
    reversal = "what the change of scheduler resets: the queue's depth (nr_requests) and the scheduler's own parameters"

    def parse(self, text: str) -> str:
        word = text.strip()
        if not word.isascii() or not word.replace("-", "").replace("_", "").isalnum() or len(word) > 15:
            raise self.malformed(text)  # ELV_NAME_MAX is 16 with its end
        if not word[0].isalpha():
            raise self.malformed(text)
        return word.lower()

    def decode(self, text: str) -> str:
        return selected(text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        offered = choices(host.read_text(self.path(subject)))
        if value not in offered:
            raise SettingError(
                f"{self.name}: {subject.name} is not offered {value}",
                remedy=f"It is offered {', '.join(offered)}; others are modules: modprobe {value}, or {value}-iosched.",
            )

    def cost(self, old: Value, new: Value) -> str:
        return "requests wait until those in flight are done"


class ReadAhead(BlockKnob):
    """How far sequential reading of a file goes ahead."""

    name = "block.read_ahead"
    title = "How far reading goes ahead of a sequential reader, in KiB"
    values = "a number of KiB; 0 for none"
    example = "128"
    file = "read_ahead_kb"

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=0, most=1 << 22)

    def decode(self, text: str) -> int:
        return int(text)

    def same(self, wanted: Value, found: Value) -> bool:
        return _pages(wanted) == _pages(found)


class Number(BlockKnob):
    """A knob on a disk's queue that is a number."""

    least: ClassVar[int] = 0
    most: ClassVar[int] = 2

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=self.least, most=self.most)

    def decode(self, text: str) -> int:
        return int(text)


class RequestAffinity(Number):
    """On which CPU a request is completed."""

    name = "block.rq_affinity"
    title = "On which CPU a request is completed"
    values = "0 (where the interrupt comes), 1 (near the CPU that asked), 2 (on the very CPU that asked)"
    example = "1"
    file = "rq_affinity"


class Requests(Number):
    """How many requests may wait."""

    name = "block.nr_requests"
    title = "How many requests a queue of a disk holds"
    values = "a number from 4; the device or scheduler sets the most"
    example = "128"
    file = "nr_requests"
    least = 4  # BLKDEV_MIN_RQ, to which the kernel rounds up
    most = 1 << 20

    def order(self, change: Change) -> tuple[int, ...]:
        return (1,)  # after the scheduler, which resets it

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            super().write(host, subject, value)
        except HostError as error:
            if error.number == errno.EINVAL:
                remedy = "a smaller number; with a scheduler a queue holds more than the device alone"
                raise HostError(f"{error}: the queue holds fewer", number=error.number, remedy=remedy) from error
            raise


class NoMerges(Number):
    """Whether neighbouring requests are merged."""

    name = "block.nomerges"
    title = "How hard the kernel tries to merge neighbouring requests"
    values = "0 (always), 1 (only the simple ways), 2 (never)"
    example = "0"
    file = "nomerges"


class WritebackThrottling(Number):
    """How slow reads may become through writeback."""

    name = "block.wbt_lat_usec"
    title = "Latency of reads above which writeback is throttled, in µs"
    values = "a number of µs; 0 for never"
    example = "2000"
    file = "wbt_lat_usec"
    most = 1_000_000_000


def _pages(value: Value) -> int:
    """Return what the kernel keeps of a number of KiB: whole pages."""
    return int(value or 0) // _PAGE_KIB


KNOBS: tuple[Knob, ...] = (
    Scheduler(),
    ReadAhead(),
    RequestAffinity(),
    Requests(),
    NoMerges(),
    WritebackThrottling(),
)
