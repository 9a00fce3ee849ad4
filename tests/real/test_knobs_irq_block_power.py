"""Interrupts, disks and idle CPUs of this very machine: set through plans, seen from elsewhere, and put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hal import pci
from hal.apply import apply
from hal.errors import SettingError, UnsupportedError
from hal.host import LinuxHost
from hal.interrupts import Interrupt, interrupts, of_device
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import SYSTEM, Setting, Subject, Value
from hal.undo import undo
from tests.real.watching import wait_for

HOST = LinuxHost()
LAST_CPU = max(os.sched_getaffinity(0))

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sets interrupts and disks, which is root's: run `sudo make test`"),
]


@contextmanager
def applied(folder: Path, *settings: Setting) -> Iterator[None]:
    """Apply settings for a while."""
    journal = Journal(folder)
    done = apply(make_plan(HOST, settings), HOST, journal)
    try:
        assert len(done.done) >= len(settings), "each setting changes something"
        yield
    finally:
        undone = undo(HOST, journal, done.identity)
    assert not undone.failed
    assert not undone.kept


def needs(name: str, *, on: Subject | None = None) -> None:
    knob = knob_of(name)
    support = knob.support(HOST)
    if not support.works:
        pytest.skip(f"{support.reason}: {support.remedy}")
    if on is not None:
        try:
            knob.check(HOST, on, knob.read(HOST, on))
        except SettingError as error:
            pytest.skip(f"{error}: {error.remedy}")


def text(path: str | Path) -> str:
    return Path(path).read_text().strip()


class TestInterrupts:
    def test_the_list_agrees_with_proc(self) -> None:
        found = {one.number: one for one in interrupts(HOST)}
        assert found
        lines = Path("/proc/interrupts").read_text().splitlines()
        for line in lines[1:]:
            number, _, rest = line.strip().partition(":")
            if number.isdigit() and int(number) in found:
                one = found[int(number)]
                words = rest.split()
                assert all(handler.split()[-1] in rest for handler in one.handlers)
                assert all(int(word) >= count for word, count in zip(words, one.counts.values(), strict=False))

    def test_one_moves_with_its_handler_and_comes_back(self, tmp_path: Path) -> None:
        needs("irq.affinity")
        one = random_source()
        before = one.affinity
        number = one.number
        cpus = sorted(set(os.sched_getaffinity(0)) & set(before))
        if len(cpus) < 2:
            pytest.skip("moving takes two CPUs that this interrupt may go to: give the machine another")
        for cpu in (cpus[0], cpus[-1]):
            with applied(tmp_path / str(cpu), Setting("irq.affinity", Subject("irq", str(number)), str(cpu))):
                assert text(f"/proc/irq/{number}/smp_affinity_list") == str(cpu)
                ask(number, 1)  # the move is made when it comes the next time
                assert set(ask(number, 5)) == {cpu}
                assert text(f"/proc/irq/{number}/effective_affinity_list") == str(cpu)
        assert next(i for i in interrupts(HOST) if i.number == number).affinity == before

    def test_what_the_kernel_manages_is_known_before_writing(self) -> None:
        kept = [one for one in interrupts(HOST) if not one.is_movable]
        if not kept:
            pytest.skip("no interrupt here is managed by the kernel, or it does not say so (before Linux 6.12)")
        for one in kept:
            with pytest.raises(SettingError, match="kernel"):
                make_plan(HOST, [Setting("irq.affinity", Subject("irq", str(one.number)), str(LAST_CPU))])
            with pytest.raises(OSError, match=r"not permitted|Input/output"):
                Path(f"/proc/irq/{one.number}/smp_affinity_list").write_text(str(LAST_CPU))

    def test_a_device_has_the_interrupts_that_bear_its_name(self) -> None:
        found = [(one.device, of_device(HOST, Subject("pci", one.device))) for one in interrupts(HOST) if one.device]
        if not found:
            pytest.skip("no interrupt of a PCI device here")
        lines = Path("/proc/interrupts").read_text().splitlines()
        for address, numbers in found:
            named = [line for line in lines if f"-{address} " in line]
            assert not named or {int(line.partition(":")[0]) for line in named} == set(numbers)

    def test_the_default_is_set_and_comes_back(self, tmp_path: Path) -> None:
        needs("irq.default_affinity")
        before = text("/proc/irq/default_smp_affinity")
        if str(knob_of("irq.default_affinity").read(HOST, SYSTEM)) == str(LAST_CPU):
            pytest.skip("the default is the last CPU already")
        with applied(tmp_path, Setting("irq.default_affinity", SYSTEM, str(LAST_CPU))):
            assert int(text("/proc/irq/default_smp_affinity").replace(",", ""), 16) == 1 << LAST_CPU
        assert text("/proc/irq/default_smp_affinity") == before


def random_source() -> Interrupt:
    """Return the interrupt of the random number generator: it comes when asked for, and nobody minds where."""
    device = next(
        (path.parent.name for path in Path("/sys/bus/virtio/devices").glob("*/device") if text(path) == "0x0004"), ""
    )
    current = Path("/sys/class/misc/hw_random/rng_current")
    found = [one for one in interrupts(HOST) if one.handlers[0] == f"{device}-input" and one.is_movable]
    if not (found and Path("/dev/hwrng").exists() and text(current).startswith("virtio_rng")):
        pytest.skip("needs an interrupt that comes when asked for: give the virtual machine a virtio-rng device")
    return found[0]


def ask(number: int, times: int) -> dict[int, int]:
    """Ask for random numbers until the interrupt has come so often; return how often on which CPU."""
    start = counts(number)

    def grown() -> dict[int, int]:
        return {cpu: now - start[cpu] for cpu, now in counts(number).items() if now > start[cpu]}

    def asked() -> bool:
        with open("/dev/hwrng", "rb", buffering=0) as device:
            device.read(64)
        return sum(grown().values()) >= times

    wait_for(asked, "the generator's interrupt comes")
    return grown()


def counts(number: int) -> dict[int, int]:
    head, *lines = Path("/proc/interrupts").read_text().splitlines()
    cpus = [int(word[3:]) for word in head.split()]
    row = next(line for line in lines if line.strip().startswith(f"{number}:"))
    return dict(zip(cpus, map(int, row.partition(":")[2].split()[: len(cpus)]), strict=True))


class TestDisks:
    """On a loop device with nothing behind it, which has a queue like any disk's."""

    @pytest.mark.parametrize(
        ("name", "file", "value", "shown"),
        [
            ("block.read_ahead", "read_ahead_kb", 516, "516"),
            ("block.rq_affinity", "rq_affinity", 2, "2"),
            ("block.nomerges", "nomerges", 2, "2"),
            ("block.nr_requests", "nr_requests", 32, "32"),
            ("block.wbt_lat_usec", "wbt_lat_usec", 1234, "1234"),
        ],
    )
    def test_a_queue_is_set_and_comes_back(
        self, name: str, file: str, value: Value, shown: str, tmp_path: Path
    ) -> None:
        disk = spare_disk()
        needs(name, on=disk)
        path = f"/sys/block/{disk.name}/queue/{file}"
        before = text(path)
        with applied(tmp_path, Setting(name, disk, value)):
            assert text(path) == shown
        assert text(path) == before

    def test_every_scheduler_that_is_offered_is_taken_and_the_first_comes_back(self, tmp_path: Path) -> None:
        disk = spare_disk()
        needs("block.scheduler", on=disk)
        path = f"/sys/block/{disk.name}/queue/scheduler"
        before = text(path)
        for word in before.split():
            if not word.startswith("["):
                with applied(tmp_path / word, Setting("block.scheduler", disk, word)):
                    assert f"[{word}]" in text(path)
                assert text(path) == before

    def test_a_depth_goes_with_its_scheduler(self, tmp_path: Path) -> None:
        disk = spare_disk()
        needs("block.scheduler", on=disk)
        queue = f"/sys/block/{disk.name}/queue"
        if "[none]" not in text(f"{queue}/scheduler") or "mq-deadline" not in text(f"{queue}/scheduler"):
            pytest.skip("needs mq-deadline beside none: modprobe mq-deadline")
        with applied(
            tmp_path, Setting("block.nr_requests", disk, 200), Setting("block.scheduler", disk, "mq-deadline")
        ):
            assert text(f"{queue}/nr_requests") == "200"

    def test_read_ahead_is_rounded_as_the_kernel_does(self, tmp_path: Path) -> None:
        disk = spare_disk()
        page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
        with applied(tmp_path, Setting("block.read_ahead", disk, 10 * page_kib + 1)):
            assert text(f"/sys/block/{disk.name}/queue/read_ahead_kb") == str(10 * page_kib)

    def test_those_of_the_system_are_offered_and_read(self) -> None:
        for name in ("scheduler", "read_ahead", "nomerges"):
            for disk in knob_of(f"block.{name}").subjects(HOST):
                assert not disk.name.startswith(("loop", "ram", "zram"))
                knob_of(f"block.{name}").read(HOST, disk)


def spare_disk() -> Subject:
    """Return a loop device that nothing is behind."""
    free = [
        name for name in os.listdir("/sys/block") if name.startswith("loop") and text(f"/sys/block/{name}/size") == "0"
    ]
    if not free:
        pytest.skip("needs a loop device that is free: modprobe loop")
    return Subject("block", max(free, key=lambda name: int(name[4:])))


class TestIdle:
    @pytest.mark.parametrize(("value", "shown"), [(0, "n/a"), (35, "35"), ((1 << 31) - 2, str((1 << 31) - 2))])
    def test_a_cpus_latency_is_limited_and_comes_back(self, value: int, shown: str, tmp_path: Path) -> None:
        needs("power.idle_latency_us")
        path = f"/sys/devices/system/cpu/cpu{LAST_CPU}/power/pm_qos_resume_latency_us"
        before = text(path)
        with applied(tmp_path, Setting("power.idle_latency_us", Subject("cpu", str(LAST_CPU)), value)):
            assert text(path) == shown
        assert text(path) == before

    def test_the_kernel_takes_any_for_no_limit(self) -> None:
        needs("power.idle_latency_us")
        knob, cpu = knob_of("power.idle_latency_us"), Subject("cpu", str(LAST_CPU))
        assert (knob.read(HOST, cpu) == "any") == (
            text(f"/sys/devices/system/cpu/cpu{LAST_CPU}/power/pm_qos_resume_latency_us") == "0"
        )

    @pytest.mark.parametrize("name", ["power.governor", "power.energy_preference", "power.boost", "power.idle_states"])
    def test_what_this_machine_lacks_it_says(self, name: str) -> None:
        support = knob_of(name).support(HOST)
        assert support.works or (support.reason and support.remedy)


class TestConfigurationSpace:
    def test_capabilities_of_every_function_are_walked(self) -> None:
        addresses = os.listdir(pci.DEVICES) if os.path.isdir(pci.DEVICES) else []
        if not addresses:
            pytest.skip("no PCI devices here")
        for address in addresses:
            config = HOST.read_bytes(f"{pci.DEVICES}/{address}/config")
            found = pci.capabilities(config)
            assert bool(found) == bool(config[0x06] & 0x10)
            if 0x11 in found and os.path.isdir(
                f"{pci.DEVICES}/{address}/msi_irqs"
            ):  # MSI-X: as many as the kernel made at most
                table = int.from_bytes(config[found[0x11] + 2 : found[0x11] + 4], "little") & 0x7FF
                assert len(os.listdir(f"{pci.DEVICES}/{address}/msi_irqs")) <= table + 1
            try:
                assert 128 << pci.express(HOST, address).get(pci.MAX_READ_REQUEST) >= 128
            except UnsupportedError:
                assert 0x10 not in found

    @pytest.mark.parametrize("name", ["pcie.max_read_request", "pcie.aspm", "pcie.link_speed", "pcie.aspm_policy"])
    def test_what_this_machine_lacks_it_says(self, name: str) -> None:
        support = knob_of(name).support(HOST)
        assert support.works or (support.reason and support.remedy)
