"""Interrupts: one by one, and all of a device; what the kernel keeps is left out."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.lists import format_cpu_list
from hal.planning import make_plan
from hal.settings import SYSTEM, Setting, Subject
from hal.undo import undo
from tests.hal.knobs import fake_cpu, fake_irq
from tests.hal.knobs.machine import snapshot
from tests.hal.pci_space import Function, add, config_space

KNOB = knob_of("irq.affinity")
NIC = Subject("nic", "ens80")
CARD = Function("0000:81:00.0", config_space([]), files={f"msi_irqs/{number}": "msix\n" for number in (120, 121, 122)})


def machine() -> FakeHost:
    host = FakeHost({"/proc/self/mounts": ""})
    fake_cpu.furnish(host)
    fake_irq.furnish(host)
    add(host, CARD)
    host.files[f"{CARD.folder}/net/ens80/mtu"] = "1500\n"
    host.links["/sys/class/net/ens80"] = f"{CARD.folder}/net/ens80"
    return host


def irq(number: int) -> Subject:
    return Subject("irq", str(number))


def affinity(host: FakeHost, number: int) -> str:
    return str(KNOB.read(host, irq(number)))


def test_a_device_stands_for_its_interrupts_and_they_return(tmp_path: Path) -> None:
    host, journal = machine(), Journal(tmp_path)
    before = snapshot(host)
    plan = make_plan(host, [Setting("irq.affinity", NIC, "2-3")])
    assert [change.subject for change in plan.changes] == [irq(120), irq(121)]
    assert [change.label for change in plan.changes] == ["ens80", "ens80-TxRx-0"]
    done = apply(plan, host, journal)
    assert [affinity(host, number) for number in (120, 121, 122)] == ["2-3", "2-3", "0-7"]
    undo(host, journal, done.identity)
    assert snapshot(host) == before


def test_what_the_kernel_keeps_of_a_device_is_left_out_and_said() -> None:
    plan = make_plan(machine(), [Setting("irq.affinity", NIC, "2-3")])
    assert [(left.setting.subject, left.remedy) for left in plan.left_out] == [(irq(122), "")]
    assert "kernel" in plan.left_out[0].reason


def test_the_interrupt_itself_counts_more_than_its_device() -> None:
    settings = [Setting("irq.affinity", irq(121), "5"), Setting("irq.affinity", NIC, "2-3")]
    plan = make_plan(machine(), settings)
    assert {change.subject.name: change.new for change in plan.changes} == {"120": "2-3", "121": "5"}


def test_naming_what_the_kernel_keeps_is_refused() -> None:
    with pytest.raises(SettingError, match="122: the kernel"):
        make_plan(machine(), [Setting("irq.affinity", irq(122), "2")])


def test_what_the_kernel_keeps_may_be_where_it_is_wanted() -> None:
    host = machine()
    host.files["/proc/irq/122/smp_affinity_list"] = "7\n"
    plan = make_plan(host, [Setting("irq.affinity", NIC, "7")])
    assert [change.subject for change in plan.changes] == [irq(120), irq(121)]
    assert plan.left_out == ()


@pytest.mark.parametrize(
    ("subject", "value", "message"),
    [
        (irq(9999), "0", "no interrupt 9999"),
        (irq(120), "8", "CPU 8 is not online"),
        (irq(120), "0-70", "CPU 8-70 is not online"),
        (Subject("irq", "../120"), "0", "no interrupt"),
        (Subject("nic", "lo"), "0", "has no interrupts"),
        (Subject("cpu", "0"), "0", "not on a cpu"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(subject: Subject, value: str, message: str) -> None:
    host = machine()
    with pytest.raises(SettingError, match=message) as caught:
        make_plan(host, [Setting("irq.affinity", subject, value)])
    assert caught.value.remedy
    assert host.writes == []


def test_a_mask_with_cpus_that_are_offline_now_comes_back(tmp_path: Path) -> None:
    host, journal = machine(), Journal(tmp_path)
    host.files["/sys/devices/system/cpu/online"] = "0-3\n"
    done = apply(make_plan(host, [Setting("irq.affinity", irq(120), "2-3")]), host, journal)
    undo(host, journal, done.identity)
    assert affinity(host, 120) == "0-7"
    make_plan(host, [Setting("irq.affinity", irq(120), "0-7")])  # what was read may be asked for


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM])
def test_a_refusal_found_only_by_writing_is_explained_and_nothing_is_left(number: int, tmp_path: Path) -> None:
    """As before Linux 6.12, which lets the write be tried."""
    host = machine()

    def refuse(_old: str, _written: str) -> str:
        raise OSError(number, "managed")

    host.handlers["/proc/irq/121/smp_affinity_list"] = refuse
    before = snapshot(host)
    plan = make_plan(host, [Setting("irq.affinity", NIC, "2-3")])
    with pytest.raises(ChangeFailedError, match="managed for a multi-queue device"):
        apply(plan, host, Journal(tmp_path))
    assert snapshot(host) == before


def test_what_it_came_to_is_where_the_interrupt_goes() -> None:
    host = machine()
    KNOB.write(host, irq(120), "6-7")
    assert KNOB.outcome(host, irq(120), "6-7") == "it goes to CPU 6"
    del host.files["/proc/irq/120/effective_affinity_list"]
    assert KNOB.outcome(host, irq(120), "6-7") == ""


def test_only_what_can_be_moved_is_offered() -> None:
    assert list(KNOB.subjects(machine())) == [irq(120), irq(121)]
    assert not KNOB.support(FakeHost({"/proc/self/mounts": ""})).works


@settings(deadline=None)
@given(st.sets(st.integers(0, 7), min_size=1))
def test_the_default_is_read_as_it_was_written(cpus: set[int]) -> None:
    host, knob = machine(), knob_of("irq.default_affinity")
    value = format_cpu_list(cpus)
    knob.write(host, SYSTEM, value)
    assert knob.read(host, SYSTEM) == value
    assert knob.verify(host, SYSTEM, value) == ""


def test_who_else_moves_interrupts_is_named() -> None:
    host = machine()
    host.start(300, "irqbalance")
    plan = make_plan(host, [Setting("irq.affinity", NIC, "2-3")])
    assert any("irqbalance (pid 300)" in note for note in plan.notes)
