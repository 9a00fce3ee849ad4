"""Who else sets knobs is noticed and named, with what keeps them from it."""

from __future__ import annotations

import pytest

from hal.fake import FakeHost
from hal.owners import notes, owners
from hal.planning import make_plan
from hal.settings import Setting, thread


def machine() -> FakeHost:
    host = FakeHost({"/sys/devices/system/cpu/online": "0-3\n", "/proc/self/mounts": ""})
    host.start(1, "systemd", parent=0)
    host.start(200, "job")
    return host


def test_nobody() -> None:
    assert owners(machine()) == ()
    assert notes(machine(), ["irq.affinity", "cpu.affinity"]) == ()


@pytest.mark.parametrize(
    ("daemon", "knob", "other"),
    [
        ("irqbalance", "irq.affinity", "cpu.affinity"),
        ("numad", "cpu.affinity", "irq.affinity"),
        ("tuned", "power.governor", "cgroup.cpu_quota"),
        ("kubelet", "cgroup.cpu_quota", "nic.mtu"),
    ],
)
def test_a_daemon_is_named_for_what_it_sets_and_for_nothing_else(daemon: str, knob: str, other: str) -> None:
    host = machine()
    host.start(77, daemon)
    (sentence,) = notes(host, [knob, other])
    assert daemon in sentence
    assert "77" in sentence
    assert knob in sentence
    assert other not in sentence
    assert notes(host, [other]) == ()


def test_the_kernel_itself() -> None:
    host = machine()
    host.files["/proc/sys/kernel/numa_balancing"] = "1\n"
    (sentence,) = notes(host, ["memory.placement"])
    assert "NUMA balancing" in sentence
    assert "dna set memory.numa_balancing 0" in sentence


def test_a_plan_carries_the_note() -> None:
    host = machine()
    host.start(77, "numad")
    plan = make_plan(host, [Setting("cpu.affinity", thread(200, host.tasks[200].start), "1")])
    assert any("numad (pid 77)" in note for note in plan.notes)
