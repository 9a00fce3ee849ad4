"""Interrupts really move: counted by the kernel on the new CPU under traffic, and back; the disk's stay the kernel's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.apply import apply
from hal.errors import SettingError
from hal.host import LinuxHost
from hal.interrupts import effective, handlers, interrupts, of_device
from hal.journal import Journal
from hal.planning import make_plan
from hal.settings import Setting, Subject
from hal.undo import undo
from tests.real.watching import wait_for

HOST = LinuxHost()
CARD, DISK = Subject("nic", "eth0"), Subject("block", "nvme0n1")
GATEWAY, ADDRESS = "10.0.2.2", "10.0.2.15/24"  # as QEMU's own network has them
FAR_CPU = 7
"""On another node than the card's."""
FAR_CPUS = "6-7"


@pytest.fixture
def card() -> Iterator[tuple[int, ...]]:
    """The numbers of the card's interrupts, while it is up and can reach QEMU."""
    ip("addr", "add", ADDRESS, "dev", "eth0")
    ip("link", "set", "eth0", "up")
    try:
        wait_for(lambda: Path("/sys/class/net/eth0/carrier").read_text() == "1\n", "eth0 has a link")
        yield of_device(HOST, CARD)
    finally:
        ip("link", "set", "eth0", "down")
        ip("addr", "flush", "dev", "eth0")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def ping() -> None:
    subprocess.run(["ping", "-c", "5", "-i", "0.2", GATEWAY], check=True, stdout=subprocess.DEVNULL)


def counts(numbers: tuple[int, ...]) -> dict[int, int]:
    """Return how often these came, by CPU, as /proc/interrupts has it."""
    head, *lines = Path("/proc/interrupts").read_text().splitlines()
    cpus = [int(word[3:]) for word in head.split()]
    total = dict.fromkeys(cpus, 0)
    for line in lines:
        number, _, rest = line.strip().partition(":")
        if number.isdigit() and int(number) in numbers:
            for cpu, word in zip(cpus, rest.split(), strict=False):
                total[cpu] += int(word)
    return total


def grown(numbers: tuple[int, ...]) -> set[int]:
    """Return the CPUs on which these came while something was sent and received."""
    before = counts(numbers)
    ping()
    return {cpu for cpu, count in counts(numbers).items() if count > before[cpu]}


def lists(numbers: tuple[int, ...]) -> dict[int, str]:
    return {number: Path(f"/proc/irq/{number}/smp_affinity_list").read_text().strip() for number in numbers}


def test_a_cards_interrupts_move_under_traffic_and_return(card: tuple[int, ...], tmp_path: Path) -> None:
    journal, before = Journal(tmp_path), lists(card)
    assert len(card) >= 2
    assert FAR_CPU not in grown(card)
    plan = make_plan(HOST, [Setting("irq.affinity", CARD, str(FAR_CPU))])
    assert not plan.left_out
    done = apply(plan, HOST, journal)
    try:
        assert set(lists(card).values()) == {str(FAR_CPU)}
        # Each moves when it comes the next time; the card's watchdog sees to it that all come every two seconds.
        coming = [number for number in card if "TxRx" in handlers(HOST, number)[0]]  # not that of changes of the link
        wait_for(lambda: all(effective(HOST, number) == (FAR_CPU,) for number in coming), "all have moved")
        assert grown(card) == {FAR_CPU}
    finally:
        undo(HOST, journal, done.identity)
    assert lists(card) == before
    wait_for(lambda: all(effective(HOST, number) != (FAR_CPU,) for number in coming), "all are back")
    assert FAR_CPU not in grown(card)


def test_the_disks_queues_are_the_kernels_and_the_rest_is_moved(tmp_path: Path) -> None:
    numbers = of_device(HOST, DISK)
    found = {one.number: one for one in interrupts(HOST) if one.number in numbers}
    kept = {number for number, one in found.items() if not one.is_movable}
    assert {name for number in kept for name in found[number].handlers} == {f"nvme0q{queue}" for queue in range(1, 9)}
    plan = make_plan(HOST, [Setting("irq.affinity", DISK, FAR_CPUS)])
    assert {int(left.setting.subject.name) for left in plan.left_out} == kept
    assert [change.label for change in plan.changes] == ["nvme0q0"]
    journal, before = Journal(tmp_path), lists(tuple(found))
    done = apply(plan, HOST, journal)
    undo(HOST, journal, done.identity)
    assert lists(tuple(found)) == before
    with pytest.raises(SettingError, match="kernel"):
        make_plan(HOST, [Setting("irq.affinity", Subject("irq", str(min(kept))), FAR_CPUS)])


def test_interrupts_know_their_device_and_node(card: tuple[int, ...]) -> None:
    found = {one.number: one for one in interrupts(HOST)}
    for number in card:
        assert found[number].device == Path("/sys/class/net/eth0/device").resolve().name
        assert found[number].node == int(Path("/sys/class/net/eth0/device/numa_node").read_text())
        assert found[number].handlers[0].startswith("eth0")
