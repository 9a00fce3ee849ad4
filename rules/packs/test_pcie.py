"""The pack ``pcie``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.testing import beside, given

RULES = beside(__file__)
CARD: Mapping[str, Any] = {
    "address": "0000:3b:00.0",
    "kind": "net",
    "width": 16,
    "max_width": 16,
    "speed": 16,
    "max_speed": 16,
    "reduced": False,
    "max_read_request": 512,
    "aspm": "off",
}
DISK: Mapping[str, Any] = {**CARD, "address": "0000:5e:00.0", "kind": "storage", "width": 8}
SENDER: Mapping[str, Any] = {"net.loopback_share": 0.0, "demand.sent": "3 GB/s", "demand.received": "10 MB/s"}
WRITER: Mapping[str, Any] = {"io.device_share": 0.9, "io.read_share": 0.1, "demand.device": "2 GB/s"}


def ask(workload: Mapping[str, Any], pci: Mapping[str, Any], **facts: Any) -> Any:
    return given(workload, facts={"virtual": False, **facts}, pcis=[pci]).ask(RULES)


def fires(rule: str, workload: Mapping[str, Any], pci: Mapping[str, Any], **facts: Any) -> bool:
    return bool(ask(workload, pci, **facts).fired(rule))


def test_devices_that_read_much_memory_ask_for_more_at_once() -> None:
    assert ask(SENDER, CARD).settings("larger_read_requests") == {"pcie.max_read_request": 4096}
    assert ask(WRITER, DISK).settings("larger_read_requests") == {"pcie.max_read_request": 4096}
    for change in ({"demand.sent": "10 MB/s"}, {"net.loopback_share": 1.0}):
        assert not fires("larger_read_requests", {**SENDER, **change}, CARD), change
    assert not fires("larger_read_requests", {**WRITER, "io.read_share": 0.99}, DISK)  # that writes to memory
    for other in ({"width": 4}, {"max_read_request": 4096}, {"kind": "gpu"}, {"kind": "storage"}):
        assert not fires("larger_read_requests", SENDER, {**CARD, **other}), other
    assert not fires("larger_read_requests", SENDER, CARD, virtual=True)


def test_a_busy_link_below_what_the_device_can_is_trained_again() -> None:
    slow = {**CARD, "speed": 8, "reduced": True}
    assert ask(SENDER, slow).settings("train_a_slow_link") == {"pcie.link_speed": "16"}
    assert ask(WRITER, {**DISK, "speed": 2.5, "max_speed": 5, "reduced": True}).settings("train_a_slow_link") == {
        "pcie.link_speed": "5"
    }
    assert not fires(
        "train_a_slow_link", {**SENDER, "demand.sent": 0.0, "demand.received": 0.0}, slow
    )  # asleep on purpose
    assert not fires("train_a_slow_link", SENDER, CARD)
    assert not fires("train_a_slow_link", SENDER, {**CARD, "width": 8, "reduced": True})  # lanes are the firmware's
    assert not fires("train_a_slow_link", SENDER, {**slow, "kind": "gpu"})
    assert not fires("train_a_slow_link", SENDER, {**slow, "max_speed": 17})  # no such speed
    assert not fires("train_a_slow_link", SENDER, slow, virtual=True)


SERVICE: Mapping[str, Any] = {
    "net.loopback_share": 0.0,
    "demand.messages": "5 k/s",
    "sched.slice_p50": "30 us",
    "sched.slice_p90": "200 us",
}


def test_links_of_services_stay_awake() -> None:
    resting = {**CARD, "aspm": "l1"}
    assert ask(SERVICE, resting).settings("links_stay_awake") == {"pcie.aspm": "off"}
    reader = {**SERVICE, "io.device_share": 0.9, "io.block_latency_p50": "90 us"}
    assert ask(reader, {**DISK, "aspm": "l0s+l1"}).settings("links_stay_awake") == {"pcie.aspm": "off"}
    assert not fires("links_stay_awake", SERVICE, CARD)
    assert not fires("links_stay_awake", {**SERVICE, "sched.slice_p50": "4 ms"}, resting)
    assert not fires("links_stay_awake", {**SERVICE, "net.loopback_share": 1.0}, resting)
    assert not fires("links_stay_awake", SERVICE, {**resting, "kind": "gpu"})
    assert not fires("links_stay_awake", SERVICE, {**resting, "aspm": None})
    assert not fires("links_stay_awake", SERVICE, resting, virtual=True)
