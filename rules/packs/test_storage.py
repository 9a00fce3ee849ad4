"""The pack ``storage``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.testing import beside, given

RULES = beside(__file__)
MACHINE = "pack:1 numa:1(memory=64GB) core:8 pu:2"
TURNING: Mapping[str, Any] = {
    "name": "sda",
    "rotational": True,
    "queues": 1,
    "read_ahead": "128 KiB",
    "scheduler": "mq-deadline",
    "rq_affinity": 1,
    "busy_share": 0.9,
}
FLASH: Mapping[str, Any] = {**TURNING, "name": "nvme0n1", "rotational": False, "queues": 16, "scheduler": "none"}
SATA_FLASH: Mapping[str, Any] = {**FLASH, "name": "sdb", "queues": 1, "scheduler": "mq-deadline"}
READER: Mapping[str, Any] = {
    "io.device_share": 0.9,
    "io.read_share": 0.98,
    "io.sequential_share": 0.95,
    "demand.device": "150 MB/s",
    "syscall.file_blocked_share": 0.8,
}


def ask(workload: Mapping[str, Any], disk: Mapping[str, Any], *others: Mapping[str, Any], **facts: Any) -> Any:
    return given(workload, *others, machine=MACHINE, facts={"disks": 2, **facts}, disks=[disk]).ask(RULES)


def fires(
    rule: str, workload: Mapping[str, Any], disk: Mapping[str, Any], *others: Mapping[str, Any], **facts: Any
) -> bool:
    return bool(ask(workload, disk, *others, **facts).fired(rule))


def test_what_the_page_cache_answers_concerns_no_disk() -> None:
    cached = {**READER, "io.device_share": 0.0, "demand.device": 0.0}
    for disk in (TURNING, FLASH, SATA_FLASH):
        assert not ask(cached, disk).advice.proposals


# --- read-ahead


def test_sequential_readers_that_wait_read_further_ahead() -> None:
    assert ask(READER, TURNING).settings("read_far_ahead") == {"block.read_ahead": 4096}
    assert ask(READER, FLASH).settings("read_far_ahead") == {"block.read_ahead": 1024}
    for change in (
        {"io.sequential_share": 0.1},
        {"io.read_share": 0.2},
        {"io.device_share": 0.01},
        {"demand.device": "2 MB/s"},
        {"syscall.file_blocked_share": 0.01, "pressure.io_some": 0.0},
        {"memory.major_fault_share": 0.9},
    ):
        assert not fires("read_far_ahead", {**READER, **change}, TURNING), change
    assert not fires("read_far_ahead", READER, {**TURNING, "read_ahead": "4 MiB"})


def test_only_the_disk_in_use_is_tuned() -> None:
    said = given(
        READER, machine=MACHINE, disks=[TURNING, {**TURNING, "name": "sdc", "busy_share": 0.0}], facts={"disks": 2}
    ).ask(RULES)
    assert {setting.subject.name for setting in said.advice.config.settings} == {"sda"}
    assert not fires("read_far_ahead", READER, {**TURNING, "busy_share": None})
    assert fires("read_far_ahead", READER, {**TURNING, "busy_share": None}, disks=1)


MAPPED: Mapping[str, Any] = {
    "demand.device": "40 MB/s",
    "memory.major_fault_share": 0.7,
    "memory.file_share": 0.9,
    "memory.fault_random_share": 0.9,
}


def test_faults_here_and_there_read_nothing_around_them() -> None:
    assert ask(MAPPED, FLASH).settings("read_no_further") == {"block.read_ahead": 16}
    for change in (
        {"memory.fault_random_share": 0.1},
        {"memory.major_fault_share": 0.0},  # all in memory
        {"memory.file_share": 0.01},
        {"memory.fault_random_share": None},  # nobody knows
        {"demand.device": 0.0},
    ):
        assert not fires("read_no_further", {**MAPPED, **change}, FLASH), change
    assert fires("read_no_further", {**MAPPED, "memory.fault_random_share": None, "io.sequential_share": 0.05}, FLASH)
    assert not fires("read_no_further", MAPPED, {**FLASH, "read_ahead": "4 KiB"})
    assert not fires("read_no_further", READER, FLASH)
    for before in ("16 KiB", "128 KiB", "1 MiB"):  # beside a sequential reader it is the same whatever there was
        said = ask(MAPPED, {**FLASH, "read_ahead": before}, READER)
        assert [setting.value for setting in said.advice.config.settings] == [16], before


# --- schedulers

FAST: Mapping[str, Any] = {
    "io.device_share": 0.9,
    "io.read_share": 0.7,
    "demand.device": "200 MB/s",
    "demand.io_calls": "60 k/s",
    "sched.busiest_thread_share": 0.1,
}


def test_no_scheduler_for_a_disk_with_many_queues() -> None:
    for scheduler in ("mq-deadline", "bfq", "kyber"):
        assert ask(FAST, {**FLASH, "scheduler": scheduler}).settings("no_scheduler_for_nvme") == {
            "block.scheduler": "none"
        }
    slow = {**FAST, "demand.io_calls": "100/s", "demand.device": "5 MB/s"}
    assert not fires("no_scheduler_for_nvme", slow, {**FLASH, "scheduler": "bfq"})
    assert not fires("no_scheduler_for_nvme", FAST, SATA_FLASH)
    assert not fires("no_scheduler_for_nvme", FAST, {**TURNING, "queues": 16})
    assert not fires("no_scheduler_for_nvme", FAST, FLASH)


MIXED: Mapping[str, Any] = {
    "io.device_share": 0.9,
    "io.read_share": 0.5,
    "demand.device": "20 MB/s",
    "io.block_latency_p99": "400 ms",
}


def test_a_disk_that_turns_gets_its_requests_in_order() -> None:
    bare = {**TURNING, "scheduler": "none"}
    assert ask(MIXED, bare, virtual=False).settings("deadline_for_rotating") == {"block.scheduler": "mq-deadline"}
    for change in ({"io.read_share": 1.0}, {"io.block_latency_p99": "5 ms"}, {"io.device_share": 0.0}):
        assert not fires("deadline_for_rotating", {**MIXED, **change}, bare, virtual=False), change
    assert not fires("deadline_for_rotating", MIXED, bare, virtual=True)  # virtio disks say that they turn
    assert not fires("deadline_for_rotating", MIXED, {**TURNING, "scheduler": "bfq"}, virtual=False)
    assert not fires("deadline_for_rotating", MIXED, FLASH, virtual=False)


# --- completion and write-back


def test_many_requests_complete_where_they_were_asked() -> None:
    assert ask(FAST, SATA_FLASH).settings("complete_where_asked") == {"block.rq_affinity": 2}
    for change in ({"demand.io_calls": "500/s"}, {"sched.busiest_thread_share": 1.0}, {"io.device_share": 0.1}):
        assert not fires("complete_where_asked", {**FAST, **change}, SATA_FLASH), change
    assert not fires("complete_where_asked", FAST, FLASH)  # a queue for each CPU
    assert not fires("complete_where_asked", FAST, {**SATA_FLASH, "rq_affinity": 2})
    assert not fires("complete_where_asked", FAST, TURNING)


WAITING: Mapping[str, Any] = {**FAST, "io.read_share": 0.95, "io.block_latency_p99": "30 ms"}
WRITER: Mapping[str, Any] = {"io.read_share": 0.05, "demand.written": "400 MB/s", "io.sync_per_write": 0.0}


def test_write_back_of_another_is_held_down_while_reads_wait() -> None:
    assert ask(WAITING, FLASH, WRITER).settings("throttle_write_back") == {"block.wbt_lat_usec": 2000}
    assert not fires("throttle_write_back", {**WAITING, "io.block_latency_p99": "300 us"}, FLASH, WRITER)
    for change in ({"demand.written": "1 MB/s"}, {"io.read_share": 0.9}, {"io.sync_per_write": 0.5}):
        assert not fires("throttle_write_back", WAITING, FLASH, {**WRITER, **change}), change
    assert not fires("throttle_write_back", WAITING, {**FLASH, "scheduler": "bfq"}, WRITER)
    assert not fires("throttle_write_back", WAITING, TURNING, WRITER)
    assert not fires("throttle_write_back", WAITING, FLASH)
