"""What a word on the command line means for a knob."""

from __future__ import annotations

import pytest

from hal import wanted
from hal.errors import NotFoundError, SettingError
from hal.knobs import all_knobs, knob_of
from hal.settings import SYSTEM, cgroup, thread, tree
from tests.hal.knobs.machine import cases, furnished


def test_processes_threads_and_groups() -> None:
    host = furnished()
    knob = knob_of("cpu.affinity")
    start = host.tasks[100].start
    assert wanted.of_process(host, knob, 100) == tree(100, start)
    assert wanted.of_process(host, knob, 100, children=False).kind == "process"
    assert wanted.of_thread(host, knob, 101) == thread(101, host.tasks[101].start)
    assert wanted.of_cgroup(knob, "system.slice/") == cgroup("/system.slice")


@pytest.mark.parametrize("pid", [0, -1, 99999, 2**31, 2**63])
def test_a_process_that_is_not_there(pid: int) -> None:
    with pytest.raises(NotFoundError) as caught:
        wanted.of_process(furnished(), knob_of("cpu.affinity"), pid)
    assert caught.value.exit_code == 3


def test_every_case_of_a_device_is_found_by_its_word() -> None:
    host = furnished()
    for name, (subject, _) in cases(host).items():
        knob = all_knobs()[name]
        if subject.kind in ("thread", "process", "tree"):
            continue
        found = wanted.system(knob) if subject == SYSTEM else wanted.of_word(host, knob, subject.name)
        assert found == subject, name


@pytest.mark.parametrize("name", ["cpu.affinity", "memory.placement"])
def test_a_knob_of_processes_takes_no_device(name: str) -> None:
    with pytest.raises(SettingError, match="names none"):
        wanted.of_word(furnished(), knob_of(name), "eth0")


def test_a_device_that_is_not_there_is_answered_with_those_that_are() -> None:
    host = furnished()
    knob = knob_of("block.scheduler")
    known = next(iter(knob.subjects(host))).name
    with pytest.raises(SettingError) as caught:
        wanted.of_word(host, knob, "nonesuch")
    assert known in caught.value.remedy


def test_without_a_subject_only_the_machine_s_own_can_be_set() -> None:
    assert wanted.system(knob_of("memory.thp")) == SYSTEM
    with pytest.raises(SettingError, match="on what"):
        wanted.system(knob_of("cpu.affinity"))
