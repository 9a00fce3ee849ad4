"""The pack ``network``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.testing import beside, given

RULES = beside(__file__)
MACHINE = "pack:1 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:1"
TWO = "pack:2 numa:1(memory=64GB) l3:1(size=32MB) core:8 pu:1"
CARD: Mapping[str, Any] = {
    "name": "eth0",
    "up": True,
    "virtual": False,
    "rps": False,
    "node": 0,
    "rx_queues": 8,
    "speed": "1.25 GB/s",
    "traffic": "100 MB/s",
}
ONE_QUEUE: Mapping[str, Any] = {**CARD, "rx_queues": 1}
SERVICE: Mapping[str, Any] = {
    "net.loopback_share": 0.0,
    "net.unix_share": 0.0,
    "net.sent_size_p50": "200 B",
    "net.received_size_p50": "100 B",
    "demand.messages": "60 k/s",
    "demand.received": "6 MB/s",
    "demand.sent": "12 MB/s",
    "demand.connections": 100,
    "demand.cores": 1.5,
    "sched.slice_p50": "30 us",
    "sched.slice_p90": "200 us",
    "sched.busiest_thread_share": 0.2,
    "sched.migrations_per_switch": 0.01,
    "syscall.network_blocked_share": 0.1,
    "syscall.poll_blocked_share": 0.8,
}
LOOPBACK: Mapping[str, Any] = {"net.loopback_share": 1.0}
IDLE: Mapping[str, Any] = {"load": 0.1}


def fires(rule: str, workload: Mapping[str, Any], nic: Mapping[str, Any], machine: str = MACHINE, **facts: Any) -> bool:
    return given(workload, machine=machine, facts={**IDLE, **facts}, nics=[nic]).ask(RULES).fired(rule)


def settings(
    rule: str, workload: Mapping[str, Any], nic: Mapping[str, Any], machine: str = MACHINE, **facts: Any
) -> Mapping[str, Any]:
    return given(workload, machine=machine, facts={**IDLE, **facts}, nics=[nic]).ask(RULES).settings(rule)


# --- steering


def test_one_queue_is_steered_to_cpus_of_its_node() -> None:
    assert settings("rps_for_one_queue", SERVICE, ONE_QUEUE) == {"nic.rps": "0-7"}
    assert settings("rps_for_one_queue", SERVICE, ONE_QUEUE, TWO) == {"nic.rps": "0-7"}
    assert settings("rps_for_one_queue", SERVICE, {**ONE_QUEUE, "virtual": True, "node": None}) == {"nic.rps": "0-7"}


def test_several_queues_are_never_steered_once_more() -> None:
    for queues in (2, 4, 8, 64):
        assert not fires("rps_for_one_queue", SERVICE, {**CARD, "rx_queues": queues}), queues
    for change in (LOOPBACK, {"demand.messages": "100/s"}, {"demand.connections": 1}):
        assert not fires("rps_for_one_queue", {**SERVICE, **change}, ONE_QUEUE), change
    assert not fires("rps_for_one_queue", SERVICE, {**ONE_QUEUE, "rps": True})
    assert not fires("rps_for_one_queue", SERVICE, {**ONE_QUEUE, "traffic": 0.0})
    assert not fires("rps_for_one_queue", SERVICE, ONE_QUEUE, "core:2 pu:1")
    assert not fires("rps_for_one_queue", SERVICE, ONE_QUEUE, load=1.5)


def test_steering_goes_where_each_cpu_has_a_queue() -> None:
    steered = {**CARD, "rps": True}
    assert settings("no_rps_for_many_queues", SERVICE, steered) == {"nic.rps": "none"}
    assert not fires("no_rps_for_many_queues", SERVICE, {**steered, "rx_queues": 4})
    assert not fires("no_rps_for_many_queues", SERVICE, {**steered, "rx_queues": 1})
    assert not fires("no_rps_for_many_queues", SERVICE, CARD)
    assert not fires("no_rps_for_many_queues", SERVICE, steered, isolated_cpus=2)


def test_many_flows_go_to_their_readers() -> None:
    few = {**CARD, "rx_queues": 4}
    assert settings("rfs_for_many_flows", SERVICE, few) == {"nic.rfs_entries": 32768, "nic.rfs": 8192}
    assert settings("rfs_for_many_flows", SERVICE, {**CARD, "rx_queues": 3})["nic.rfs"] == 8192
    for change in (
        LOOPBACK,
        {"demand.connections": 4},
        {"demand.messages": "100/s"},
        {"sched.busiest_thread_share": 0.99},  # one reader
        {"sched.migrations_per_switch": 0.5},
    ):
        assert not fires("rfs_for_many_flows", {**SERVICE, **change}, few), change
    assert not fires("rfs_for_many_flows", SERVICE, CARD)  # a queue for each CPU


KEPT: Mapping[str, Any] = {**SERVICE, "cpus": range(8), "cpus.nodes": 1, "cpus.allowed": 8}


def test_interrupts_go_to_the_node_of_a_workload_that_is_kept_there() -> None:
    assert settings("interrupts_near_workload", KEPT, CARD, TWO, irqbalance=False) == {"irq.affinity": "0-7"}
    for change in (
        LOOPBACK,
        {"cpus.nodes": 2, "cpus": range(16)},
        {"demand.messages": "10/s"},
        {"cpus": ()},
        {"cpus": range(8, 16)},
    ):
        assert not fires("interrupts_near_workload", {**KEPT, **change}, CARD, TWO, irqbalance=False), change
    assert not fires("interrupts_near_workload", KEPT, CARD, TWO, irqbalance=True)
    assert not fires("interrupts_near_workload", KEPT, {**CARD, "virtual": True}, TWO, irqbalance=False)
    assert not fires("interrupts_near_workload", KEPT, CARD, MACHINE, irqbalance=False)


# --- moderation

BULK: Mapping[str, Any] = {
    "net.loopback_share": 0.0,
    "net.sent_size_p50": "64 KiB",
    "net.received_size_p50": "64 KiB",
    "demand.sent": "900 MB/s",
    "demand.received": "5 MB/s",
    "demand.messages": "15 k/s",
    "sched.slice_p50": "2 ms",
    "sched.slice_p90": "4 ms",
    "demand.wakeups": "3 k/s",
}


def test_small_requests_are_told_of_at_once() -> None:
    assert settings("interrupt_at_once", SERVICE, CARD) == {"nic.coalesce": "rx-usecs=8 adaptive-rx=off"}
    for change in (
        LOOPBACK,
        {"net.received_size_p50": "64 KiB"},
        {"sched.slice_p50": "4 ms"},
        {"demand.sent": "900 MB/s"},
    ):
        assert not fires("interrupt_at_once", {**SERVICE, **change}, CARD), change
    assert not fires("interrupt_at_once", SERVICE, CARD, load=0.9)  # no CPU to spare
    assert not fires("interrupt_at_once", SERVICE, {**CARD, "virtual": True})
    assert not fires("interrupt_at_once", SERVICE, {**CARD, "up": False})


def test_bulk_is_told_of_seldom() -> None:
    assert settings("interrupt_seldom", BULK, CARD) == {"nic.coalesce": "adaptive-rx=on"}
    for change in (
        LOOPBACK,
        {"demand.sent": "10 MB/s"},
        {"net.sent_size_p50": "100 B", "net.received_size_p50": "100 B"},
    ):
        assert not fires("interrupt_seldom", {**BULK, **change}, CARD), change
    assert not fires("interrupt_seldom", SERVICE, CARD)


def test_where_both_use_one_card_latency_counts_first() -> None:
    said = given(BULK, SERVICE, machine=MACHINE, facts=IDLE, nics=[CARD]).ask(RULES)
    assert [s.value for s in said.advice.config.settings if s.knob == "nic.coalesce"] == ["rx-usecs=8 adaptive-rx=off"]
    assert not said.advice.conflicts


def test_busy_polling_is_for_small_messages_and_idle_cpus() -> None:
    assert settings("busy_poll_small_messages", SERVICE, CARD) == {"nic.busy_poll": 50, "nic.busy_read": 50}
    for change in (
        LOOPBACK,
        {"demand.messages": "2 k/s"},
        {"net.received_size_p50": "64 KiB"},
        {"syscall.poll_blocked_share": 0.0, "syscall.network_blocked_share": 0.0},
        {"demand.cores": 6.0},
    ):
        assert not fires("busy_poll_small_messages", {**SERVICE, **change}, CARD), change
    assert not fires("busy_poll_small_messages", SERVICE, CARD, load=0.6)
    assert not fires("busy_poll_small_messages", SERVICE, {**CARD, "virtual": True})


def test_traffic_within_the_host_concerns_no_card() -> None:
    for nic in (CARD, ONE_QUEUE):
        assert not given({**SERVICE, **LOOPBACK}, machine=MACHINE, facts=IDLE, nics=[nic]).ask(RULES).advice.proposals
