"""Having data in memory before it is asked for: files in the page cache, mapped files in a process's page tables."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from hal.errors import HostError, NotFoundError, SettingError, UnsupportedError
from hal.host import Host
from hal.knobs.advice import MADV_WILLNEED, advise_all, start_time
from hal.knobs.amount import amount_of, meminfo, parse_amount
from hal.knobs.knob import RANKS, Knob, Progress, SlowKnob
from hal.mappings import Mapping, read_mappings
from hal.settings import IRREVERSIBLE, Subject, Value
from hal.sizes import say_size

_AT_ONCE = 8 << 20
_READ_AT_ONCE = 1 << 20
_WARM = 0.99
_FAULTED = 0.9
_NOT_THERE = (errno.EIO, errno.EFAULT)  # past the end of the file, or unmapped meanwhile


class Warm(SlowKnob):
    """Read a file into the page cache."""

    name = "memory.warm"
    title = "Read a file into the page cache"
    subject_kind = "file"
    values = "all, or a size such as 64M from the file's beginning"
    example = "all"
    rank = RANKS["pages"]
    reversibility = IRREVERSIBLE
    reversal = "what the page cache held before"
    is_action = True

    def parse(self, text: str) -> str:
        return parse_amount(self, text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            size = _wanted(host, subject, value)
        except (NotFoundError, UnsupportedError) as error:
            raise SettingError(f"{self.name}: {error}", remedy="Name a regular file by its whole path.") from error
        _check_room(self, host, size - host.cached(subject.name, 0, size))

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def write(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _done, _of: None
    ) -> None:
        size = _wanted(host, subject, value)
        for at in range(0, size, _AT_ONCE):
            length = min(_AT_ONCE, size - at)
            if host.cached(subject.name, at, length) < length:
                host.preload(subject.name, at, length)
            progress(at + length, size)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        size = _wanted(host, subject, value)
        cached = host.cached(subject.name, 0, size)
        return "" if cached >= size * _WARM else f"only {cached / size:.0%} of it is cached: memory is short"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        size = _wanted(host, subject, value)
        return f"{say_size(host.cached(subject.name, 0, size))} of {say_size(size)} are cached"

    def cost(self, old: Value, new: Value) -> str:
        return "reads the file, and takes its size from what else is cached"


class Prefault(SlowKnob):
    """Have the files that a process maps in its page tables, and what was swapped out in memory.

    The kernel lets nobody populate another's page tables by advice (MADV_POPULATE_READ is refused), but reading its memory
    through /proc/PID/mem faults pages in as if it had read them itself. Anonymous memory that it never touched stays as it is.
    """

    name = "memory.prefault"
    title = "Fault in the files that a process maps, and what it has in swap"
    subject_kind = "process"
    values = "all, or a size such as 64M: no more than that of its mapped files"
    example = "all"
    rank = RANKS["pages"]
    reversibility = IRREVERSIBLE
    reversal = "memory as it was: what was faulted in stays until it is reclaimed"
    is_action = True

    def parse(self, text: str) -> str:
        return parse_amount(self, text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            found = read_mappings(host, int(subject.name))
        except HostError:
            return  # gone, or another user's: writing says so
        missing = sum(m.size - m.resident for m in mapped_files(found)) + sum(m.swapped for m in found)
        _check_room(self, host, min(missing, amount_of(value, missing)))

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def write(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _done, _of: None
    ) -> None:
        found = read_mappings(host, int(subject.name))
        swapped = [(m.start, m.size) for m in found if m.swapped]
        if swapped:
            advise_all(host, subject, swapped, MADV_WILLNEED)
        files = [m for m in mapped_files(found) if m.resident < m.size]
        total = sum(m.size for m in files)
        left = amount_of(value, total)
        done = 0
        for mapping in files:
            start_time(host, subject)
            for size in _fault_in(host, int(subject.name), mapping, left - done):
                done += size
                progress(done, min(left, total))

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        files = list(mapped_files(read_mappings(host, int(subject.name))))
        there, size = sum(m.resident for m in files), sum(m.size for m in files)
        if value != "all" or there >= size * _FAULTED:
            return ""
        return f"only {there / size:.0%} of its mapped files is there: memory is short, or they end before their mappings do"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        files = list(mapped_files(read_mappings(host, int(subject.name))))
        return f"{say_size(sum(m.resident for m in files))} of {say_size(sum(m.size for m in files))} in mapped files are there"

    def cost(self, old: Value, new: Value) -> str:
        return "reads the files, and makes the process larger by what of them was not there"


def mapped_files(mappings: Iterable[Mapping]) -> Iterator[Mapping]:
    """Return mappings of regular files that may be read; none that a program handles the faults of."""
    for mapping in mappings:
        if (
            mapping.is_file
            and "rd" in mapping.flags
            and not mapping.is_device
            and not mapping.flags & {"um", "uw", "ui"}
        ):
            yield mapping


def _fault_in(host: Host, pid: int, mapping: Mapping, most: int) -> Iterator[int]:
    """Read a mapping of a process piece by piece; return the size of each that was there."""
    end = min(mapping.end, mapping.start + most)
    for at in range(mapping.start, end, _READ_AT_ONCE):
        try:
            size = len(host.read_memory(pid, at, min(_READ_AT_ONCE, end - at)))
        except HostError as error:
            if error.number not in _NOT_THERE:
                raise
            return
        yield size
        if size < min(_READ_AT_ONCE, end - at):
            return


def _wanted(host: Host, subject: Subject, value: Value) -> int:
    size = host.file_size(subject.name)
    return min(size, amount_of(value, size))


def _check_room(knob: Knob, host: Host, size: int) -> None:
    available = meminfo(host, "MemAvailable")
    if size > available > 0:
        raise SettingError(
            f"{knob.name}: {say_size(size)} are to come, and {say_size(available)} of memory are available",
            remedy="Name an amount that fits.",
        )


KNOBS: tuple[Knob, ...] = (Warm(), Prefault())
