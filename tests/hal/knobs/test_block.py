"""Disks' queues: what the kernel rounds, resets or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import all_knobs, knob_of
from hal.knobs.knob import Knob
from hal.planning import make_plan
from hal.settings import Setting, Subject, Value
from tests.hal.knobs import fake_block
from tests.hal.knobs.fake_block import BARE, DISK, LOOP, QUEUE
from tests.hal.knobs.machine import snapshot

KNOBS = [knob for name, knob in all_knobs().items() if name.startswith("block.")]


def machine() -> FakeHost:
    host = FakeHost({"/proc/self/mounts": ""})
    fake_block.furnish(host)
    return host


def change(host: FakeHost, folder: Path, *settings: tuple[str, Subject, Value]) -> None:
    apply(make_plan(host, [Setting(*setting) for setting in settings]), host, Journal(folder))


@settings(deadline=None)
@given(st.integers(0, 1 << 22))
def test_read_ahead_is_taken_in_pages(kib: int) -> None:
    host, knob = machine(), knob_of("block.read_ahead")
    knob.write(host, DISK, kib)
    assert knob.verify(host, DISK, kib) == ""


def test_the_depth_is_set_after_the_scheduler_which_resets_it(tmp_path: Path) -> None:
    host = machine()
    change(host, tmp_path, ("block.nr_requests", DISK, 300), ("block.scheduler", DISK, "mq-deadline"))
    assert host.files[f"{QUEUE}/scheduler"] == "none [mq-deadline] kyber bfq\n"
    assert host.files[f"{QUEUE}/nr_requests"] == "300\n"


def test_more_requests_than_the_queue_holds_are_refused_with_the_reason(tmp_path: Path) -> None:
    host = machine()
    before = snapshot(host)
    with pytest.raises(ChangeFailedError, match="holds fewer") as caught:
        change(host, tmp_path, ("block.nomerges", DISK, 2), ("block.nr_requests", DISK, 1024))
    assert "scheduler" in caught.value.remedy
    assert snapshot(host) == before


def test_a_scheduler_that_is_not_offered_is_refused_and_those_that_are_named() -> None:
    with pytest.raises(SettingError) as caught:
        make_plan(machine(), [Setting("block.scheduler", DISK, "cfq")])
    assert "none, mq-deadline, kyber, bfq" in caught.value.remedy


@pytest.mark.parametrize("knob", KNOBS, ids=str)
def test_loop_devices_are_taken_when_named_but_not_offered(knob: Knob) -> None:
    host = machine()
    assert list(knob.subjects(host)) == [DISK]
    subject, value = LOOP, fake_block.CASES[knob.name][1]
    assert [c.subject for c in make_plan(host, [Setting(knob.name, subject, value)]).changes] == [LOOP]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvme9n1p1", "is a partition"),
        ("sdz", "no block device"),
        ("../nvme9n1", "no block device"),
        ("", "no block device"),
    ],
)
def test_what_is_no_disk_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        make_plan(machine(), [Setting("block.scheduler", Subject("block", name), "none")])
    assert "nvme9n1" in caught.value.remedy


def test_a_device_without_such_a_queue_says_so() -> None:
    with pytest.raises(SettingError, match="has no scheduler"):
        make_plan(machine(), [Setting("block.scheduler", BARE, "none")])
