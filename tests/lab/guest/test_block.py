"""The NVMe disk's queue is set while it works, and comes back."""

from __future__ import annotations

import os
from pathlib import Path

from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import all_knobs
from hal.planning import make_plan
from hal.settings import Setting, Subject, Value
from hal.undo import undo

HOST = LinuxHost()
DISK = Subject("block", "nvme0n1")
QUEUE = Path("/sys/block/nvme0n1/queue")
WANTED: dict[str, tuple[str, Value]] = {
    "block.scheduler": ("scheduler", "mq-deadline"),
    "block.nr_requests": ("nr_requests", 64),
    "block.read_ahead": ("read_ahead_kb", 512),
    "block.rq_affinity": ("rq_affinity", 2),
    "block.nomerges": ("nomerges", 2),
    "block.wbt_lat_usec": ("wbt_lat_usec", 0),
}


def read_some() -> None:
    """Read through the queue, and not from memory."""
    descriptor = os.open("/dev/nvme0n1", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert len(os.pread(descriptor, 1 << 20, 0)) == 1 << 20
    finally:
        os.close(descriptor)


def values() -> dict[str, str]:
    return {file: (QUEUE / file).read_text() for file, _ in WANTED.values()}


def test_a_disks_queue_is_set_whole_and_comes_back(tmp_path: Path) -> None:
    assert set(WANTED) == {name for name in all_knobs() if name.startswith("block.")}
    journal, before = Journal(tmp_path), values()
    done = apply(make_plan(HOST, [Setting(name, DISK, value) for name, (_, value) in WANTED.items()]), HOST, journal)
    try:
        assert len(done.done) == len(WANTED)
        for file, value in WANTED.values():
            assert (QUEUE / file).read_text().strip() in (str(value), f"none [{value}]")
        read_some()
    finally:
        undone = undo(HOST, journal, done.identity)
    assert not undone.failed
    assert values() == before
    read_some()
