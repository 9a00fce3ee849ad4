"""What is held against the machine before anything is written, and in which order a plan makes what rests on what."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Setting, Subject, cgroup, process, thread
from hal.undo import undo
from tests.hal.knobs.fake_memory import PID
from tests.hal.knobs.machine import furnished, snapshot


def nic(name: str) -> Subject:
    return Subject("nic", name)


def virtual(name: str, text: str) -> Setting:
    return Setting("nic.virtual", nic(name), knob_of("nic.virtual").parse(text))


MACVLAN = virtual("mv9", "macvlan link=ens1f0")
GROUP = Setting("cgroup.exists", cgroup("/new"), True)


def database(host: FakeHost) -> Subject:
    return process(PID, host.tasks[PID].start)


# --- what rests on what


STACK = [
    virtual("a2", "macvlan link=b1 up=on"),  # by name it would come before what it is on
    virtual("b1", "vlan link=c0 id=7 mtu=1400"),
    virtual("c0", "veth peer=d0 up=on peer-up=on"),
    virtual("a1", "vlan link=d0 id=9"),  # on the other end, which no setting names
]


@pytest.mark.parametrize("settings", list(permutations(STACK)))
def test_a_stack_is_made_from_below_and_taken_back_from_above(settings: tuple[Setting, ...], tmp_path: Path) -> None:
    host = furnished()
    before = snapshot(host)
    plan = make_plan(host, [Setting("nic.txqueuelen", nic("a2"), 77), *settings])
    order = [change.subject.name for change in plan.changes]
    assert order.index("c0") < order.index("b1") < order.index("a2")
    assert order.index("c0") < order.index("a1")
    assert plan.changes[-1].knob == "nic.txqueuelen"
    done = apply(plan, host, Journal(tmp_path))
    assert host.net().link("a2").parent == "b1"
    undone = undo(host, Journal(tmp_path), done.identity)
    assert not undone.failed
    assert not undone.kept
    assert snapshot(host) == before


def test_when_the_top_of_a_stack_cannot_be_the_rest_goes_again(tmp_path: Path) -> None:
    host = furnished()
    before = snapshot(host)
    twice = [virtual("a1", "vlan link=b0 id=7"), virtual("b0", "veth peer=b1"), virtual("b1", "macvlan link=ens1f0")]
    with pytest.raises(ChangeFailedError, match="taken back"):  # b1 is the other end of b0 by then
        apply(make_plan(host, twice), host, Journal(tmp_path))
    assert snapshot(host) == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((virtual("x0", "vlan link=x1 id=1"), virtual("x1", "vlan link=x0 id=1")), "rest on each other"),
        ((virtual("x0", "vlan link=x0 id=1"),), "rest on each other"),
        ((virtual("x0", "macvlan link=x1"), virtual("x1", "macvlan link=ens1f0")), "put on ens1f0 by the kernel"),
        ((virtual("x0", "macvlan link=x2"), virtual("x1", "macvlan link=ens1f0")), "no network interface x2"),
        ((virtual("x:0", "vlan link=x1 id=1"), virtual("x1", "macvlan link=ens1f0")), "cannot be the name"),
        ((virtual("ens2f0.7", "vlan link=x1 id=7"), virtual("x1", "macvlan link=ens1f0")), "already"),
    ],
)
def test_stacks_that_cannot_be_are_refused_before(settings: tuple[Setting, ...], words: str) -> None:
    host = furnished()
    with pytest.raises(SettingError, match=words) as caught:
        make_plan(host, settings)
    assert caught.value.remedy
    assert host.writes == []


# --- what is there is held against the machine, whatever else the plan makes


@pytest.mark.parametrize("making", [MACVLAN, GROUP], ids=lambda one: one.knob)
@pytest.mark.parametrize(
    ("knob", "subject", "value", "words"),
    [
        ("cpu.affinity", None, "0-99", "not online"),
        ("nic.rings", nic("ens1f0"), "rx=100000", "cannot have rx=100000"),
        ("nic.mtu", nic("ens1f0"), 100_000, "takes no 100000"),
        ("irq.affinity", Subject("irq", "9999"), "0", "no interrupt 9999"),
        ("power.governor", Subject("cpu", "2"), "schedutil", "no governor schedutil"),
        ("cgroup.cpus", cgroup("/batch"), "0-99", "CPU .* is not there"),
        ("memory.thp", Subject("system"), "sometimes", "no 'sometimes'"),
    ],
)
def test_what_exists_is_checked_although_the_plan_makes_something_else(
    making: Setting, knob: str, subject: Subject | None, value: str | int, words: str
) -> None:
    host = furnished()
    on = subject or thread(200, host.tasks[200].start)
    with pytest.raises(SettingError, match=words):
        make_plan(host, [making, Setting(knob, on, value)])


def test_what_the_plan_makes_is_not_held_against_what_is_not_there_yet(tmp_path: Path) -> None:
    host = furnished()
    before = snapshot(host)
    settings = [
        MACVLAN,
        Setting("nic.mtu", nic("mv9"), 1400),
        Setting("nic.txqueuelen", nic("mv9"), 55),
        virtual("v9", "veth peer=w9"),
        Setting("nic.gro", nic("w9"), False),
        GROUP,
        Setting("cgroup.cpus", cgroup("/new"), "0-1"),
        Setting("cgroup.controller_cpuset", cgroup("/"), True),
    ]
    plan = make_plan(host, settings)
    assert plan.left_out == ()
    done = apply(plan, host, Journal(tmp_path))
    assert host.net().link("mv9").mtu == 1400
    undo(host, Journal(tmp_path), done.identity)
    assert snapshot(host) == before


def test_interfaces_of_functions_to_come_have_names_that_only_the_driver_knows(tmp_path: Path) -> None:
    host = furnished()
    functions = Setting("nic.sriov", Subject("pci", "0000:5e:00.0"), 1)
    lower = Setting("nic.mtu", nic("ens1f0v0"), 1400)
    with pytest.raises(SettingError, match="no network interface ens1f0v0"):
        make_plan(host, [lower, MACVLAN])
    apply(make_plan(host, [lower, functions]), host, Journal(tmp_path))
    assert host.net().link("ens1f0v0").mtu == 1400


def test_a_value_that_another_setting_of_the_plan_makes_possible_is_not_refused() -> None:
    host = furnished()
    host.files[f"/proc/{PID}/status"] = "Name: database\nMems_allowed_list:\t0\n"
    placed = Setting("memory.placement", database(host), "1=1")
    with pytest.raises(SettingError, match="does not allow node 1"):
        make_plan(host, [placed])
    allowed = Setting("cgroup.mems", cgroup("/batch"), "0-1")
    assert "memory.placement" in {change.knob for change in make_plan(host, [placed, allowed]).changes}


def test_a_group_to_come_allows_nothing_to_who_does_not_enter_it() -> None:
    host = furnished()
    host.files[f"/proc/{PID}/status"] = "Name: database\nMems_allowed_list:\t0\n"
    placed = Setting("memory.placement", database(host), "1=1")
    making = [GROUP, Setting("cgroup.mems", cgroup("/new"), "0-1")]
    with pytest.raises(SettingError, match="does not allow node 1"):
        make_plan(host, [placed, *making])
    entering = Setting("cgroup.member", database(host), "/new")
    assert "memory.placement" in {change.knob for change in make_plan(host, [placed, *making, entering]).changes}


def test_only_an_interface_that_is_there_could_be_left_with_a_lower_mtu() -> None:
    host = furnished()
    lower = Setting("nic.mtu", nic("ens2f0"), 1400)
    with pytest.raises(SettingError, match=r"ens2f0\.7 sits on ens2f0"):
        make_plan(host, [lower, MACVLAN])
    with_it = virtual("ens2f0.7", "vlan link=ens2f0 id=7 mtu=1400")
    assert [change.knob for change in make_plan(host, [lower, with_it]).changes] == ["nic.virtual", "nic.mtu"]
