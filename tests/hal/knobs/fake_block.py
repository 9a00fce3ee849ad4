"""Disks of the machine in memory: an NVMe disk, one without a request queue, a loop device and a partition."""

from __future__ import annotations

import errno

from hal.fake import FakeHost, selector
from hal.settings import Subject, Value

DISK = Subject("block", "nvme9n1")
LOOP = Subject("block", "loop0")
BARE = Subject("block", "zram0")
QUEUE = f"/sys/block/{DISK.name}/queue"
DEPTH = 1023
SCHEDULED_DEPTH = 256


def furnish(host: FakeHost) -> None:
    """Add the disks."""
    for name in (DISK.name, LOOP.name):
        add_disk(host, name)
    host.files |= {
        f"/sys/block/{BARE.name}/queue/read_ahead_kb": "128\n",
        f"/sys/class/block/{DISK.name}/size": "524288\n",
        f"/sys/class/block/{DISK.name}p1/partition": "1\n",
    }


def add_disk(host: FakeHost, name: str) -> None:
    """Add one disk with a request queue that behaves like the kernel's."""
    queue = f"/sys/block/{name}/queue"
    host.files |= {
        f"{queue}/scheduler": "[none] mq-deadline kyber bfq\n",
        f"{queue}/read_ahead_kb": "128\n",
        f"{queue}/rq_affinity": "1\n",
        f"{queue}/nr_requests": f"{DEPTH}\n",
        f"{queue}/nomerges": "0\n",
        f"{queue}/wbt_lat_usec": "2000\n",
    }

    def schedule(old: str, written: str) -> str:
        text = selector(old, written)
        host.files[f"{queue}/nr_requests"] = f"{DEPTH if '[none]' in text else SCHEDULED_DEPTH}\n"
        return text

    def deepen(_old: str, written: str) -> str:
        most = DEPTH if "[none]" in host.files[f"{queue}/scheduler"] else 2048
        if int(written) > most:
            raise OSError(errno.EINVAL, "too many")
        return f"{max(4, int(written))}\n"

    host.handlers |= {
        f"{queue}/scheduler": schedule,
        f"{queue}/nr_requests": deepen,
        f"{queue}/read_ahead_kb": lambda _old, written: f"{int(written) // 4 * 4}\n",
        f"{queue}/rq_affinity": _up_to_two,
        f"{queue}/nomerges": _up_to_two,
        f"{queue}/wbt_lat_usec": lambda _old, written: f"{int(written)}\n",
    }


def _up_to_two(_old: str, written: str) -> str:
    if int(written) not in (0, 1, 2):
        raise OSError(errno.EINVAL, "0, 1 or 2")
    return f"{int(written)}\n"


CASES: dict[str, tuple[Subject, Value]] = {
    "block.scheduler": (DISK, "bfq"),
    "block.read_ahead": (DISK, 4096),
    "block.rq_affinity": (DISK, 2),
    "block.nr_requests": (DISK, 64),
    "block.nomerges": (DISK, 1),
    "block.wbt_lat_usec": (DISK, 0),
}
