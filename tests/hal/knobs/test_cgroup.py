"""Cgroups of both versions in memory: values, orders, what the kernel refuses, groups made and processes given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as patiently
from hypothesis import strategies as st

from hal import cgroups
from hal.apply import apply
from hal.errors import ChangeFailedError, HalError, NotFoundError, SettingError, UnsupportedError
from hal.fake import FakeHost
from hal.groups import group_for
from hal.journal import Journal
from hal.knobs import knob_of
from hal.knobs.cgroup import nested
from hal.knobs.cgroup_cpu import Bandwidth, bandwidth, shares_of, weight_of
from hal.knobs.cgroup_io import limits_of, written
from hal.knobs.cgroup_member import canonical, paths_of
from hal.knobs.cgroup_memory import size
from hal.knobs.knob import Knob
from hal.owners import group_notes
from hal.planning import make_plan
from hal.settings import Change, Plan, Setting, Subject, Value, cgroup, process, thread, tree
from hal.undo import pending, undo
from tests.hal.knobs.cgroups_v1 import ROOT, separate
from tests.hal.knobs.fake_cgroup import MOUNT, furnish
from tests.hal.knobs.machine import Faults, FaultyHost, FaultyJournal, Killed, snapshot

WEB = cgroup("/web")
NEW = cgroup("/dna/web")
FRESH = cgroup("/new")


def unified() -> FakeHost:
    host = FakeHost({"/proc/sys/kernel/hostname": "new\n", "/proc/sys/kernel/random/boot_id": "b00t\n"})
    furnish(host)
    return host


both = pytest.mark.parametrize("machine", [unified, separate], ids=["v2", "v1"])
type Machine = Callable[[], FakeHost]


def parsed(values: dict[str, str]) -> dict[str, Value]:
    return {name: knob_of(name).parse(text) for name, text in values.items()}


def server(host: FakeHost) -> Subject:
    return process(700, host.tasks[700].start)


def wanted(knob: str, subject: Subject, text: str) -> Setting:
    return Setting(knob, subject, knob_of(knob).parse(text))


def plan_for(host: FakeHost, *settings: Setting) -> Plan:
    return make_plan(host, settings)


def done(plan: Plan) -> list[tuple[str, str]]:
    return [(change.knob.removeprefix("cgroup."), change.subject.name) for change in plan.changes]


LIMITS = {
    "cgroup.cpu_quota": "20%",
    "cgroup.cpu_weight": "50",
    "cgroup.memory_max": "64M",
    "cgroup.cpus": "2-3",
    "cgroup.mems": "1",
    "cgroup.io_max": "254:0 wbps=1M",
    "cgroup.io_weight": "20",
    "cgroup.pids_max": "100",
}


# --- a group for a target


@both
def test_a_group_for_a_target_is_made_and_everything_given_back(machine: Machine, tmp_path: Path) -> None:
    host = machine()
    before = snapshot(host)
    limits = parsed(LIMITS)
    plan = make_plan(host, group_for("/dna/web", tree(700, host.tasks[700].start), limits))
    assert not plan.left_out
    journal = Journal(tmp_path)
    done = apply(plan, host, journal)
    for name, value in limits.items():
        assert knob_of(name).same(value, knob_of(name).read(host, NEW)), name
    assert set(cgroups.membership(host, 700).values()) - {"/"} == {"/dna/web"}
    assert cgroups.membership(host, 701) == cgroups.membership(host, 700), "a process moves with its threads"
    undone = undo(host, journal, done.identity)
    assert not undone.failed
    assert not undone.kept
    assert snapshot(host) == before


@both
def test_a_plan_made_twice_has_nothing_to_do(machine: Machine, tmp_path: Path) -> None:
    host = machine()
    settings = group_for("/dna/web", server(host), parsed(LIMITS))
    apply(make_plan(host, settings), host, Journal(tmp_path))
    again = make_plan(host, settings)
    assert again.changes == ()


def test_in_v1_a_process_leaves_its_group_only_where_a_limit_needs_it(tmp_path: Path) -> None:
    host = separate()
    settings = group_for("/dna/web", server(host), parsed({"cgroup.cpu_quota": "20%"}))
    apply(make_plan(host, settings), host, Journal(tmp_path))
    found = cgroups.membership(host, 700)
    assert (found["cpu"], found["memory"], found["cpuset"]) == ("/dna/web", "/web", "/")


def test_in_v2_controllers_are_handed_on_from_the_root(tmp_path: Path) -> None:
    host = unified()
    host.write_text(f"{MOUNT}/cgroup.subtree_control", "-cpu")
    before = snapshot(host)
    journal = Journal(tmp_path)
    plan = make_plan(host, group_for("/dna/web", server(host), parsed({"cgroup.cpu_quota": "20%"})))
    assert done(plan) == [
        ("controller_cpu", "/"),
        ("exists", "/dna"),
        ("controller_cpu", "/dna"),
        ("exists", "/dna/web"),
        ("cpu_quota", "/dna/web"),
        ("member", "700"),
    ]
    identity = apply(plan, host, journal).identity
    assert host.read_text(f"{MOUNT}/dna/web/cpu.max") == "20000 100000\n"
    undo(host, journal, identity)
    assert snapshot(host) == before


def test_a_controller_that_others_use_by_now_stays(tmp_path: Path) -> None:
    host = unified()
    host.write_text(f"{MOUNT}/cgroup.subtree_control", "-cpu")
    journal = Journal(tmp_path)
    identity = apply(plan_for(host, wanted("cgroup.controller_cpu", cgroup("/"), "on")), host, journal).identity
    host.write_text(f"{MOUNT}/batch/cpu.weight", "200")
    undone = undo(host, journal, identity)
    assert "/batch has cpu.weight 200 by now" in undone.kept[0].left
    assert host.read_text(f"{MOUNT}/batch/cpu.weight") == "200\n"


@both
def test_a_group_with_somebody_elses_process_is_not_removed(machine: Machine, tmp_path: Path) -> None:
    host = machine()
    journal = Journal(tmp_path)
    identity = apply(plan_for(host, wanted("cgroup.exists", cgroup("/fresh"), "on")), host, journal).identity
    place = next(iter(cgroups.directories(host, "/fresh").values()))
    host.start(900, "stranger", cgroup=host.files["/proc/700/cgroup"].strip())
    host.write_text(f"{place}/cgroup.procs", "900")
    undone = undo(host, journal, identity)
    assert "has processes 900" in undone.failed[0].left
    assert host.exists(place)
    host.end(900)
    host.files[f"{place}/cgroup.procs"] = ""
    assert not undo(host, journal, identity).failed
    assert not host.exists(place)


@both
def test_a_child_born_in_the_group_is_given_back_too(machine: Machine, tmp_path: Path) -> None:
    host = machine()
    home = cgroups.membership(host, 700)
    journal = Journal(tmp_path)
    settings = group_for("/dna/web", tree(700, host.tasks[700].start), parsed({"cgroup.memory_max": "64M"}))
    identity = apply(make_plan(host, settings), host, journal).identity
    host.start(800, "child", parent=700, start=10_000, cgroup=host.files["/proc/700/cgroup"].strip())
    for directory in set(cgroups.directories(host, "/dna/web").values()):
        procs = f"{directory}/cgroup.procs"
        if "700" in host.files[procs].split():
            host.files[procs] += "800\n"
    assert not undo(host, journal, identity).failed
    assert cgroups.membership(host, 800) == home


APP = cgroup("/home/app")


def moved_out(host: FakeHost, journal: Journal) -> str:
    """Put the server into a group, let a plan move it out and make it nicer, and remove the group meanwhile."""
    exists = knob_of("cgroup.exists")
    for group in (cgroup("/home"), APP):
        exists.write(host, group, True)
    knob_of("cgroup.member").write(host, server(host), APP.name)
    main = thread(700, host.tasks[700].start)
    settings = (wanted("cgroup.exists", FRESH, "on"), wanted("cgroup.member", server(host), "/new"))
    identity = apply(plan_for(host, *settings, wanted("cpu.nice", main, "5")), host, journal).identity
    exists.write(host, APP, None)
    return identity


@both
def test_a_process_whose_group_went_is_given_to_the_one_above_and_the_rest_taken_back(
    machine: Machine, tmp_path: Path
) -> None:
    host, journal = machine(), Journal(tmp_path)
    identity = moved_out(host, journal)
    undone = undo(host, journal, identity)
    assert [step.left for step in undone.kept] == ["its group /home/app is gone: it is in /home now"]
    assert not undone.failed
    assert set(cgroups.membership(host, 700).values()) <= {"/home", "/"}
    assert "/home" in cgroups.membership(host, 700).values()
    assert host.tasks[700].scheduling.nice == 0
    assert not cgroups.directories(host, "/new")
    assert pending(journal) == []


@pytest.mark.long
@both
@pytest.mark.parametrize("kind", ["kill", "kill-after"])
@pytest.mark.parametrize("of", ["write", "record"])
def test_giving_it_to_the_one_above_may_be_killed_too(machine: Machine, kind: str, of: str, tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        host, place = machine(), tmp_path / str(at)
        identity = moved_out(host, Journal(place))
        faults = Faults(kind, at, of)
        try:
            undo(FaultyHost(host, faults), FaultyJournal(place, faults), identity)
        except Killed:
            if pending(Journal(place)):
                assert not undo(host, Journal(place), identity).failed
            assert "/home" in cgroups.membership(host, 700).values(), at
            assert not cgroups.directories(host, "/new"), at
            continue
        break
    assert at > 3


def test_a_process_whose_group_went_stays_where_the_one_above_takes_none(tmp_path: Path) -> None:
    host, journal = unified(), Journal(tmp_path)
    identity = moved_out(host, journal)
    host.write_text(f"{MOUNT}/home/cgroup.subtree_control", "+cpu")
    undone = undo(host, journal, identity)
    assert [step.left for step in undone.kept] == ["its group /home/app is gone: it is in /new now"]
    assert host.tasks[700].scheduling.nice == 0
    assert [step.left for step in undone.failed] == ["the cgroup /new still has processes 700"]
    host.end(700)
    host.files[f"{MOUNT}/new/cgroup.procs"] = ""
    assert not undo(host, journal, identity).failed
    assert not cgroups.directories(host, "/new")


def test_what_was_in_some_v1_hierarchies_stays_in_those(tmp_path: Path) -> None:
    host = separate()
    host.make_dir(f"{ROOT}/memory/half")
    before = snapshot(host)
    journal = Journal(tmp_path)
    plan = plan_for(host, wanted("cgroup.exists", cgroup("/half"), "on"))
    assert plan.changes[0].old == "memory"
    identity = apply(plan, host, journal).identity
    assert host.exists(f"{ROOT}/cpuset/half/cgroup.procs")
    undo(host, journal, identity)
    assert snapshot(host) == before


def test_a_new_v1_cpuset_has_what_its_parent_has(tmp_path: Path) -> None:
    host = separate()
    apply(plan_for(host, wanted("cgroup.exists", cgroup("/fresh"), "on")), host, Journal(tmp_path))
    assert knob_of("cgroup.cpus").read(host, cgroup("/fresh")) == "0-7"
    assert knob_of("cgroup.mems").read(host, cgroup("/fresh")) == "0-1"


@pytest.mark.parametrize("path", ["", "/", "/a/../../etc", "/a//b", "/a\nb"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(SettingError) as caught:
        group_for(path, process(1, 1), {})
    assert caught.value.remedy


def test_only_limits_of_cgroups_are_limits() -> None:
    with pytest.raises(SettingError, match=r"cpu\.nice is no limit"):
        group_for("/a", process(1, 1), {"cpu.nice": 1})


# --- members


def test_a_group_whose_children_have_controllers_takes_no_process(tmp_path: Path) -> None:
    host = unified()
    host.write_text(f"{MOUNT}/batch/cgroup.subtree_control", "+cpu")
    before = snapshot(host)
    with pytest.raises(ChangeFailedError, match="takes no processes itself"):
        apply(plan_for(host, wanted("cgroup.member", server(host), "/batch")), host, Journal(tmp_path))
    assert snapshot(host) == before


def test_a_group_with_processes_hands_no_controllers_on(tmp_path: Path) -> None:
    host = unified()
    with pytest.raises(ChangeFailedError, match="a group with processes of its own"):
        apply(plan_for(host, wanted("cgroup.controller_cpu", WEB, "on")), host, Journal(tmp_path))


@both
def test_a_group_that_is_not_there_is_said_to_be_missing(machine: Machine, tmp_path: Path) -> None:
    host = machine()
    before = snapshot(host)
    with pytest.raises(ChangeFailedError, match="there is no cgroup /none") as caught:
        apply(plan_for(host, wanted("cgroup.member", server(host), "/none")), host, Journal(tmp_path))
    assert "cgroup.exists" in caught.value.remedy
    assert snapshot(host) == before
    left = plan_for(host, wanted("cgroup.pids_max", cgroup("/none"), "5")).left_out[0]
    assert left.reason == "there is no cgroup /none"
    assert "dna set cgroup.exists --cgroup /none on" in left.remedy


def test_a_limit_whose_controller_is_off_says_how_to_switch_it_on() -> None:
    host = unified()
    host.write_text(f"{MOUNT}/cgroup.subtree_control", "-pids")
    left = plan_for(host, wanted("cgroup.pids_max", WEB, "5")).left_out[0]
    assert left.remedy == "dna set cgroup.controller_pids --cgroup / on"
    together = plan_for(host, wanted("cgroup.pids_max", WEB, "5"), wanted("cgroup.controller_pids", cgroup("/"), "on"))
    assert done(together) == [("controller_pids", "/"), ("pids_max", "/web")]


def test_threads_in_groups_of_their_own_are_not_merged() -> None:
    host = separate()
    host.files["/proc/701/cgroup"] = host.files["/proc/701/cgroup"].replace("/web", "/other")
    member = knob_of("cgroup.member")
    assert "701" in member.pin(host, server(host), "/")
    with pytest.raises(SettingError, match="groups of their own"):
        plan_for(host, wanted("cgroup.member", server(host), "cpu=/"))


def test_leaving_a_group_with_limits_is_a_cost() -> None:
    member = knob_of("cgroup.member")
    assert "/pod (memory)" in member.cost("cpu=/ memory=/pod", "cpu=/a memory=/a")
    assert member.cost("cpu=/pod", "cpu=/pod/inside") == ""


def test_groups_have_owners() -> None:
    unit = "/system.slice/web.service"
    assert "systemd" in group_notes([Change("cgroup.cpu_quota", cgroup(unit), "max", "5%")])[0]
    assert "the kubelet" in group_notes([Change("cgroup.member", process(1, 1), "cpu=/kubepods/pod1", "cpu=/a")])[0]
    assert group_notes([Change("cgroup.cpu_quota", cgroup("/dna"), "max", "5%")]) == ()


names = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="/="), min_size=1, max_size=8
)
paths = st.lists(names.filter(lambda name: name not in (".", "..")), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
by_controller = st.dictionaries(st.sampled_from(sorted(cgroups.CONTROLLERS)), paths, min_size=1)


@patiently(deadline=None)
@given(by_controller | paths.map(lambda path: {"": path}))
def test_paths_survive_being_written_and_read(where: dict[str, str]) -> None:
    text = canonical(where)
    assert paths_of(text) == where
    assert knob_of("cgroup.member").parse(text) == text


@patiently(deadline=None)
@given(old=by_controller, new=by_controller)
def test_putting_back_restores_what_was_moved_and_only_that(old: dict[str, str], new: dict[str, str]) -> None:
    """Moving to ``new``, others moving the rest, and putting back what was replaced."""
    member = knob_of("cgroup.member")
    back = paths_of(str(member.replaced(canonical(old), canonical(new))))
    after = {**old, **{name: path for name, path in new.items() if name in old}}
    assert after | back == old or not set(old) & set(new)
    assert set(back) <= set(new)


# --- values


@patiently(deadline=None)
@given(st.integers(1, 10_000))
def test_a_weight_and_its_shares_are_one(weight: int) -> None:
    assert weight_of(shares_of(weight)) == weight


@patiently(deadline=None)
@given(st.integers(2, 1 << 18))
def test_shares_are_restored_as_they_were(shares: int) -> None:
    knob = knob_of("cgroup.cpu_weight")
    assert shares_of(weight_of(shares)) == shares
    assert knob.parse(str(weight_of(shares))) == weight_of(shares)


def test_the_usual_weight_is_the_usual_shares() -> None:
    assert (shares_of(100), weight_of(1024)) == (1024, 100)


quotas = st.none() | st.integers(1000, 10_000_000)
bandwidths = st.builds(Bandwidth, quotas, st.integers(1000, 1_000_000), st.integers(0, 1000))


@patiently(deadline=None)
@given(bandwidths)
def test_a_bandwidth_survives_being_written_and_read(one: Bandwidth) -> None:
    assert bandwidth(str(one)) == one


@pytest.mark.parametrize(
    ("text", "canonical_form"),
    [
        ("150%", "150000/100000"),
        ("12.5%", "12500/100000"),
        ("max", "max"),
        ("max/100000", "max"),
        ("2000/9000+5", "2000/9000+5"),
    ],
)
def test_ways_to_say_a_quota(text: str, canonical_form: str) -> None:
    assert knob_of("cgroup.cpu_quota").parse(text) == canonical_form


@pytest.mark.parametrize(
    "text", ["0%", "0.5%", "-5%", "%", "1/100000", "5000/999", "5000/2000000", "2000/9000+3000", "max 5"]
)
def test_quotas_that_the_kernel_would_refuse(text: str) -> None:
    with pytest.raises(SettingError):
        knob_of("cgroup.cpu_quota").parse(text)


@both
@patiently(deadline=None)
@given(first=bandwidths, second=bandwidths)
def test_any_quota_can_follow_any_other(machine: Machine, first: Bandwidth, second: Bandwidth) -> None:
    """The kernel holds quota and burst against each other at every single write."""
    host, knob = machine(), knob_of("cgroup.cpu_quota")
    for value in (first, second):
        knob.write(host, WEB, str(value))
        assert knob.read(host, WEB) == str(value)


@both
@patiently(deadline=None)
@given(before=bandwidths, after=bandwidths, at=st.integers(0, 4))
def test_a_kill_in_the_middle_of_a_quota_leaves_a_known_value(
    machine: Machine, before: Bandwidth, after: Bandwidth, at: int
) -> None:
    knob = knob_of("cgroup.cpu_quota")
    host = machine()
    knob.write(host, WEB, str(before))
    assert_left_is_known(host, knob, Change(knob.name, WEB, str(before), str(after)), at)


def assert_left_is_known(host: FakeHost, knob: Knob, change: Change, at: int) -> None:
    """Kill a write after so many single writes; what is found then must be among the values foreseen."""

    class Killed(Exception):
        pass

    left = at
    whole = host.write_text

    def until_killed(path: str, text: str) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        whole(path, text)

    host.write_text = until_killed  # type: ignore[method-assign]
    try:
        knob.write(host, change.subject, change.new)
    except Killed:
        found = knob.read(host, change.subject)
        assert any(knob.same(value, found) for value in (change.old, change.new, *knob.between(change))), found


devices = st.dictionaries(
    st.sampled_from(["254:0"]),
    st.dictionaries(st.sampled_from(["rbps", "wbps", "riops", "wiops"]), st.integers(1, 1 << 20)),
    min_size=1,
)


@both
@patiently(deadline=None)
@given(before=devices, after=devices, at=st.integers(0, 5))
def test_a_kill_in_the_middle_of_device_limits_leaves_a_known_value(
    machine: Machine, before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], at: int
) -> None:
    host, knob = machine(), knob_of("cgroup.io_max")
    knob.write(host, WEB, written(before))
    assert limits_of(str(knob.read(host, WEB))) == {device: kinds for device, kinds in before.items() if kinds}
    assert_left_is_known(host, knob, Change(knob.name, WEB, written(before), written(after)), at)


def test_limits_of_two_devices_are_one_setting() -> None:
    knob, host = knob_of("cgroup.io_max"), unified()
    assert knob.merged(host, "254:0 rbps=1000", "254:16 wbps=1000") == "254:0 rbps=1000, 254:16 wbps=1000"
    assert knob.merged(host, "254:0 rbps=1000", "254:0 wbps=1000") == "254:0 wbps=1000", (
        "a device's limits are one value"
    )


@pytest.mark.parametrize(
    ("machine", "first", "second", "both"),
    [
        (separate, "cpu=/a", "memory=/b", "cpu=/a memory=/b"),
        (separate, "cpu=/a memory=/a", "memory=/b", "cpu=/a memory=/b"),
        (separate, "cpu=/a", "/b", "/b"),
        (unified, "cpu=/a", "memory=/b", "memory=/b"),
    ],
)
def test_a_process_may_be_put_into_a_group_for_each_controller_where_those_are_apart(
    machine: Machine, first: str, second: str, both: str
) -> None:
    host = machine()
    assert knob_of("cgroup.member").merged(host, first, second) == both


def test_limits_of_other_devices_are_left_alone(tmp_path: Path) -> None:
    host, journal = unified(), Journal(tmp_path)
    host.write_text(f"{MOUNT}/web/io.max", "259:0 riops=7")
    identity = apply(plan_for(host, wanted("cgroup.io_max", WEB, "254:0 rbps=1M wiops=5")), host, journal).identity
    host.write_text(f"{MOUNT}/web/io.max", "259:0 riops=8")
    assert not undo(host, journal, identity).kept
    assert host.read_text(f"{MOUNT}/web/io.max") == "259:0 rbps=max wbps=max riops=8 wiops=max\n"


@pytest.mark.parametrize(
    "text",
    [
        "254:0",
        "254 rbps=1",
        "254:0 rbps=0",
        "254:0 rbps=-1",
        "254:0 rbps=1 rbps=2",
        "254:0 x=1",
        "254:0 rbps=1, 254:0 max",
    ],
)
def test_device_limits_that_make_no_sense(text: str) -> None:
    with pytest.raises(SettingError):
        knob_of("cgroup.io_max").parse(text)


@pytest.mark.parametrize(("device", "why"), [("9:9", "no block device"), ("254:1", "is a partition")])
def test_limits_are_on_disks_that_are_there(device: str, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        plan_for(unified(), wanted("cgroup.io_max", WEB, f"{device} rbps=1M"))


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("4096", 4096),
        ("1k", 1024),
        ("1.5G", 3 << 29),
        ("64MiB", 64 << 20),
        ("2TB", 2 << 40),
        ("1.5", None),
        ("G", None),
    ],
)
def test_sizes(text: str, bytes_: int | None) -> None:
    assert size(text) == bytes_


@patiently(deadline=None)
@given(st.integers(4096, 1 << 50))
def test_a_limit_in_pages_is_what_the_kernel_makes_of_it(number: int) -> None:
    knob = knob_of("cgroup.memory_max")
    value = knob.parse(str(number))
    for page in (4096, 16384, 65536):
        assert knob.same(value, number // page * page)


def test_memory_that_cannot_be_dropped_is_not_killed_for() -> None:
    host = unified()
    with pytest.raises(SettingError, match="8 MiB that cannot be dropped"):
        plan_for(host, wanted("cgroup.memory_max", WEB, "4M"))
    host.files["/proc/meminfo"] = "SwapFree: 1048576 kB\n"
    assert plan_for(host, wanted("cgroup.memory_max", WEB, "4M")).changes


def test_what_v1_does_not_have_it_does_not_pretend() -> None:
    host = separate()
    names = ["memory_high", "memory_low", "memory_min", "memory_swap_max", "cpuset_partition"]
    for name in names:
        support = knob_of(f"cgroup.{name}").support(host)
        assert not support.works
        assert "cgroup v1" in support.reason
        assert support.remedy
        assert list(knob_of(f"cgroup.{name}").subjects(host)) == []


@both
def test_the_groups_that_are_there_are_found(machine: Machine) -> None:
    host = machine()
    for name in ("cpu_weight", "cpu_quota", "memory_max", "cpus", "mems", "pids_max", "io_max", "io_weight", "exists"):
        assert WEB in list(knob_of(f"cgroup.{name}").subjects(host)), name


@both
def test_the_root_has_no_limits(machine: Machine) -> None:
    with pytest.raises(SettingError, match="the root"):
        plan_for(machine(), wanted("cgroup.pids_max", cgroup("/"), "5"))


def test_read_only_and_unprivileged_say_so() -> None:
    host = unified()
    host.files["/proc/self/mounts"] = host.files["/proc/self/mounts"].replace("rw,", "ro,")
    assert "read-only" in knob_of("cgroup.cpu_weight").support(host).reason
    plain = unified()
    plain._uid = 1000
    plain.files["/proc/self/cgroup"] = "0::/web\n"
    assert "root" in knob_of("cgroup.member").support(plain).reason
    plain.owners[f"{MOUNT}/web"] = 1000
    assert knob_of("cgroup.member").support(plain).works


# --- cpusets


def nested_group(host: FakeHost, folder: Path) -> Subject:
    """Make a group with a cpuset inside ``/web``, which has no processes of its own then."""
    inner = cgroup("/web/inner")
    for directory in set(cgroups.directories(host, "/web").values()):
        host.files[f"{directory}/cgroup.procs"] = ""
    settings = [wanted("cgroup.controller_cpuset", WEB, "on"), wanted("cgroup.exists", inner, "on")]
    apply(make_plan(host, settings), host, Journal(folder))
    return inner


@both
def test_nested_cpusets_shrink_from_below_and_grow_from_above(machine: Machine, tmp_path: Path) -> None:
    host, journal = machine(), Journal(tmp_path)
    inner = nested_group(host, tmp_path / "made")
    cpus = knob_of("cgroup.cpus")
    cpus.write(host, WEB, "0-7")
    cpus.write(host, inner, "0-7")
    for outer_cpus, inner_cpus in (("0-3", "0-1"), ("0-5", "4-5")):
        before = snapshot(host)
        settings = [wanted("cgroup.cpus", WEB, outer_cpus), wanted("cgroup.cpus", inner, inner_cpus)]
        identity = apply(make_plan(host, settings), host, journal).identity
        assert (cpus.read(host, WEB), cpus.read(host, inner)) == (outer_cpus, inner_cpus)
        undo(host, journal, identity)
        assert snapshot(host) == before
        apply(make_plan(host, settings), host, journal)


@patiently(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5))
def test_what_shrinks_comes_before_what_grows(low: int, high: int) -> None:
    shallow, deep = (Change("cgroup.cpus", cgroup("/a" * depth), "0", "0") for depth in sorted((low, high)))
    assert (
        nested(deep, grows=False)
        <= nested(shallow, grows=False)
        < nested(shallow, grows=True)
        <= nested(deep, grows=True)
    )


def test_v1_refusals_are_explained(tmp_path: Path) -> None:
    host = separate()
    apply(plan_for(host, wanted("cgroup.exists", cgroup("/web/inner"), "on")), host, Journal(tmp_path / "a"))
    host.write_text(f"{ROOT}/cpuset/web/cpuset.cpus", "0-3")
    host.write_text(f"{ROOT}/cpuset/web/inner/cpuset.cpus", "0-1")
    inner = cgroup("/web/inner")
    for setting, why in (
        (wanted("cgroup.cpus", inner, "5"), "only CPUs that its parent has"),
        (wanted("cgroup.cpus", WEB, "2-3"), "all that its children have"),
    ):
        with pytest.raises(ChangeFailedError, match=why):
            apply(plan_for(host, setting), host, Journal(tmp_path / "b"))
    knob_of("cgroup.cpu_quota").write(host, WEB, "50000/100000")
    with pytest.raises(ChangeFailedError, match="no more than its parent"):
        apply(plan_for(host, wanted("cgroup.cpu_quota", inner, "100%")), host, Journal(tmp_path / "c"))


def test_cpus_that_the_groups_above_do_not_allow_are_no_success(tmp_path: Path) -> None:
    host = unified()
    inner = nested_group(host, tmp_path)
    knob_of("cgroup.cpus").write(host, WEB, "0-3")
    with pytest.raises(ChangeFailedError, match="the groups above it allow none of 6"):
        apply(plan_for(host, wanted("cgroup.cpus", inner, "6")), host, Journal(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "why"), [("cpus", "99", "CPU 99 is not there"), ("mems", "5", "node 5 is not there")]
)
def test_cpus_and_nodes_are_held_against_the_machine(name: str, text: str, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        plan_for(unified(), wanted(f"cgroup.{name}", WEB, text))


def test_words_for_an_empty_cpuset_belong_to_their_version() -> None:
    assert plan_for(unified(), wanted("cgroup.cpus", WEB, "inherit")).changes == ()
    with pytest.raises(SettingError, match="v1"):
        plan_for(separate(), wanted("cgroup.cpus", WEB, "inherit"))
    with pytest.raises(SettingError, match="v2"):
        plan_for(unified(), wanted("cgroup.cpus", WEB, "none"))


def test_an_invalid_partition_says_why_and_is_taken_back(tmp_path: Path) -> None:
    host = unified()
    host.handlers[f"{MOUNT}/web/cpuset.cpus.partition"] = lambda _, text: (
        f"{text} invalid (Parent is not a partition root)\n" if text != "member" else "member\n"
    )
    with pytest.raises(ChangeFailedError, match="Parent is not a partition root"):
        apply(plan_for(host, wanted("cgroup.cpuset_partition", WEB, "isolated")), host, Journal(tmp_path))
    assert host.read_text(f"{MOUNT}/web/cpuset.cpus.partition") == "member\n"


def test_a_partition_that_became_invalid_is_still_ours(tmp_path: Path) -> None:
    host, journal = unified(), Journal(tmp_path)
    identity = apply(plan_for(host, wanted("cgroup.cpuset_partition", WEB, "root")), host, journal).identity
    host.files[f"{MOUNT}/web/cpuset.cpus.partition"] = "root invalid (Cpu list in cpuset.cpus not exclusive)\n"
    assert undo(host, journal, identity).restored
    assert host.read_text(f"{MOUNT}/web/cpuset.cpus.partition") == "member\n"


# --- weights for I/O


def test_io_weight_takes_what_the_kernel_has() -> None:
    host = unified()
    knob = knob_of("cgroup.io_weight")
    knob.write(host, WEB, 7)
    assert host.read_text(f"{MOUNT}/web/io.weight") == "default 7\n"
    for name in ("web", "batch", "other"):
        del host.files[f"{MOUNT}/{name}/io.weight"]
    assert not knob.support(host).works
    with pytest.raises(UnsupportedError):
        knob.read(host, WEB)
    host.files[f"{MOUNT}/web/io.bfq.weight"] = "default 100\n"
    assert knob.support(host).works
    with pytest.raises(SettingError, match="BFQ"):
        plan_for(host, Setting(knob.name, WEB, 5000))


def test_an_idle_group_has_no_weight() -> None:
    host = unified()
    host.files[f"{MOUNT}/web/cpu.idle"] = "1\n"
    with pytest.raises(SettingError, match="idle"):
        plan_for(host, wanted("cgroup.cpu_weight", WEB, "50"))


def test_shares_are_no_weight_of_v2() -> None:
    with pytest.raises(HalError, match="cgroup v1"):
        knob_of("cgroup.cpu_weight").write(unified(), WEB, "shares=300")


def test_a_group_that_went_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        knob_of("cgroup.cpu_quota").read(unified(), cgroup("/gone"))
