"""Plans applied and taken back, with failures and kills at every point: the machine ends as it was, or one undo makes it so."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hal.apply import apply
from hal.cgroups import hierarchies
from hal.errors import ChangeFailedError, JournalError, PlanError, RefusedError
from hal.fake import FakeHost
from hal.journal import APPLIED, CLOSED, Journal, Writer
from hal.knobs import all_knobs
from hal.plan_json import plan_from_text, plan_to_dict
from hal.planning import machine_id, make_plan
from hal.settings import EXACT, Change, Setting, Subject, Value, cgroup, process, thread, tree
from hal.undo import interrupted, pending, undo
from tests.hal.knobs.machine import Faults, FaultyHost, FaultyJournal, Killed, cases, furnished, snapshot

SERVER = 100
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where journals are kept here: thousands of syncs to a disk would take minutes, and prove nothing more."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


FAMILIES = sorted({name.partition(".")[0] for name in all_knobs()})


CONTRARY = {"nic.scatter_gather", "nic.tx_checksum", "nic.rx_checksum", "nic.gso"}
"""Switched off, they switch off others that the same plan would switch on."""


def exact_settings(host: FakeHost, family: str = "") -> list[Setting]:
    """Return one setting of each knob (of a family) whose undoing is exact; those of the CPU are on several threads."""
    knobs = all_knobs()
    single = [
        Setting(name, subject, value)
        for name, (subject, value) in sorted(cases(host).items())
        if knobs[name].reversibility == EXACT and name.startswith(family) and not name.startswith("cpu.")
        if name not in CONTRARY
    ]
    root = tree(SERVER, host.tasks[SERVER].start)
    return [*single, Setting("cpu.affinity", root, "2-3")]


def run(host: FakeHost, folder: Path, wanted: list[Setting], faults: Faults) -> str:
    """Plan and apply; return "applied", "failed" or "killed"."""
    journal = FaultyJournal(folder, faults)
    plan = make_plan(host, wanted)
    try:
        apply(plan, FaultyHost(host, faults), journal)
    except (ChangeFailedError, JournalError):
        return "failed"
    except Killed:
        return "killed"
    return "applied"


def recover(host: FakeHost, folder: Path, faults: Faults | None = None) -> None:
    """Do what `dna undo` does after a kill; ``faults`` may kill it as well."""
    faults = faults or Faults()
    journal = FaultyJournal(folder, faults)
    for transaction in interrupted(journal, machine_id(host)):
        undone = undo(FaultyHost(host, faults), journal, transaction.identity)
        assert not undone.failed


def points(folder: Path, family: str) -> dict[str, int]:
    """Return how many writes and records it takes to apply everything of a family."""
    faults = Faults()
    host = furnished()
    assert run(host, folder, exact_settings(host, family), faults) == "applied"
    return faults.counts


KINDS = [
    ("write", "fail"),
    ("write", "kill"),
    ("write", "kill-after"),
    ("record", "kill"),
    ("record", "torn"),
    ("record", "kill-after"),
    ("record", "full"),
]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_at_every_point_a_failure_or_kill_leaves_the_machine_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    counts = points(folder / "count", family)
    tried = 0
    for of, kind in KINDS:
        for at in range(1, counts[of] + 1):
            host = furnished()
            before, place = snapshot(host), folder / f"{of}-{kind}-{at}"
            outcome = run(host, place, exact_settings(host, family), Faults(kind, at, of))
            tried += 1
            where = f"{kind} at {of} {at}"
            if kind in ("fail", "full"):
                assert outcome == "failed", where
                assert snapshot(host) == before, where
                assert kind == "full" or pending(Journal(place)) == [], where
                recover(host, place)
                assert snapshot(host) == before, where
                continue
            assert outcome == "killed", where
            recover(host, place)
            if pending(Journal(place)) and pending(Journal(place))[0].state == APPLIED:
                assert (of, at) == ("record", counts["record"]), where  # killed when all was done and recorded
                undo(host, Journal(place), pending(Journal(place))[0].identity)
            assert snapshot(host) == before, where
            assert interrupted(Journal(place), machine_id(host)) == []
    with capsys.disabled():
        print(f" [{family}: {tried} fault points, {counts['write']} writes, {counts['record']} records]", end="")
    assert tried == 3 * counts["write"] + 4 * counts["record"] > 40


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_at_every_point_undoing_may_be_killed_too(
    folder: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    counts = points(folder / "count", family)
    middle = counts["record"] // 2
    tried = 0
    for of, kind in KINDS[1:-1]:
        at = 0
        while True:
            at += 1
            host = furnished()
            before, place = snapshot(host), folder / f"{of}-{kind}-{at}"
            assert run(host, place, exact_settings(host, family), Faults("kill", middle, "record")) == "killed"
            try:
                recover(host, place, Faults(kind, at, of))
            except Killed:
                tried += 1
                recover(host, place)
                assert snapshot(host) == before, f"{kind} at {of} {at} of undoing"
                continue
            assert snapshot(host) == before
            break
    with capsys.disabled():
        print(f" [{family}: {tried} fault points while undoing]", end="")
    assert tried > 10


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[int], Faults]]:
    """Return several plans, each of some settings by number, with what goes wrong in each."""
    fault = st.sampled_from([("", ""), *[(kind, of) for of, kind in KINDS]])
    one = st.tuples(st.lists(st.integers(0, 200), min_size=1, max_size=8), fault, st.integers(1, 30))
    return [
        (numbers, Faults(kind, at, of or "write"))
        for numbers, (kind, of), at in draw(st.lists(one, min_size=1, max_size=4))
    ]


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=histories())
def test_any_history_can_be_taken_back(history: list[tuple[list[int], Faults]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        take_back_all(history, Path(name))


def take_back_all(history: list[tuple[list[int], Faults]], folder: Path) -> None:
    host = furnished()
    initial = snapshot(host)
    offered = exact_settings(host)
    for numbers, faults in history:
        before = snapshot(host)
        wanted = list({s.key: s for s in (offered[n % len(offered)] for n in numbers)}.values())
        outcome = run(host, folder, wanted, faults)
        if outcome == "failed":
            assert snapshot(host) == before
        recover(host, folder)
    for transaction in pending(Journal(folder)):
        assert not undo(host, Journal(folder), transaction.identity).failed
    assert snapshot(host) == initial


# --- processes


def server(host: FakeHost) -> Subject:
    return tree(SERVER, host.tasks[SERVER].start)


def affinities(host: FakeHost) -> dict[int, str]:
    return {tid: "".join(map(str, task.affinity)) for tid, task in host.tasks.items()}


def test_a_tree_is_set_whole_and_others_are_not(tmp_path: Path) -> None:
    host = furnished()
    apply(make_plan(host, [Setting("cpu.affinity", server(host), "0-1")]), host, Journal(tmp_path))
    found = affinities(host)
    assert {tid for tid, cpus in found.items() if cpus == "01"} == {100, 101, 102, 110}


def test_threads_that_start_meanwhile_are_set_too(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [Setting("cpu.affinity", server(host), "0-1")])
    host.start_thread(SERVER, 103)
    host.start(120, "late", parent=110)
    before = snapshot(host)
    journal = Journal(tmp_path)
    done = apply(plan, host, journal)
    assert affinities(host)[103] == affinities(host)[120] == "01"
    undo(host, journal, done.identity)
    assert snapshot(host) == before


def test_those_started_later_are_given_back_what_their_parents_had(tmp_path: Path) -> None:
    host = furnished()
    journal = Journal(tmp_path)
    done = apply(make_plan(host, [Setting("cpu.affinity", server(host), "0-1")]), host, journal)
    host.start_thread(SERVER, 104)
    host.start(130, "heir", parent=110)
    assert affinities(host)[104] == affinities(host)[130] == "01"
    undo(host, journal, done.identity)
    assert affinities(host)[104] == affinities(host)[130] == "01234567"


def test_one_that_had_the_value_before_keeps_it(tmp_path: Path) -> None:
    host = furnished()
    host.set_affinity(110, (0, 1))
    journal = Journal(tmp_path)
    done = apply(make_plan(host, [Setting("cpu.affinity", server(host), "0-1")]), host, journal)
    undo(host, journal, done.identity)
    assert affinities(host)[110] == "01"
    assert affinities(host)[100] == "01234567"


def test_pins_kernel_threads_and_init_are_left_alone_unless_named() -> None:
    host = furnished()
    host.set_affinity(110, (5,))
    everything = [Setting("cpu.affinity", tree(1, host.tasks[1].start), "0-1")]
    plan = make_plan(host, everything)
    assert "thread 110" in {str(left.setting.subject) for left in plan.left_out}
    assert "110" not in {change.subject.name for change in plan.changes}
    named = make_plan(host, [*everything, Setting("cpu.affinity", process(110, host.tasks[110].start), "0-1")])
    assert "110" in {change.subject.name for change in named.changes}


def test_kernel_threads_and_init_in_a_cgroup_are_left_alone() -> None:
    host = furnished()
    root = next(iter(hierarchy.mount for hierarchy in hierarchies(host)))
    host.files[f"{root}/cgroup.procs"] = "1\n2\n200\n"
    plan = make_plan(host, [Setting("cpu.nice", cgroup("/"), 7)])
    assert {change.subject.name for change in plan.changes} & {"1", "2"} == set()
    assert {"thread 1", "thread 2"} <= {str(left.setting.subject) for left in plan.left_out}


def test_what_ended_is_normal(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [Setting("cpu.affinity", server(host), "0-1")])
    host.end(110)
    journal = Journal(tmp_path)
    done = apply(plan, host, journal)
    assert [change.subject.name for change in done.gone] == ["110"]
    host.end(SERVER)
    undone = undo(host, journal, done.identity)
    assert not undone.failed
    assert len(undone.gone) == 3
    assert pending(journal) == []


def test_a_reused_id_is_another_process(tmp_path: Path) -> None:
    host = furnished()
    journal = Journal(tmp_path)
    done = apply(make_plan(host, [Setting("cpu.affinity", thread(200, host.tasks[200].start), "0-1")]), host, journal)
    host.end(200)
    host.start(200, "stranger")
    host.set_affinity(200, (0, 1))
    undo(host, journal, done.identity)
    assert affinities(host)[200] == "01"


# --- guards


def one(host: FakeHost, value: Value = "0-1") -> Setting:
    return Setting("cpu.affinity", thread(200, host.tasks[200].start), value)


def test_a_machine_that_moved_is_refused_and_nothing_written(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [one(host), Setting("cpu.nice", one(host).subject, 4)])
    host.set_affinity(200, (6,))
    host.writes.clear()
    with pytest.raises(RefusedError, match=r"cpu\.affinity of thread 200 is 6, and was 0-7"):
        apply(plan, host, Journal(tmp_path))
    assert host.writes == []


def test_what_is_done_already_is_not_done_again_nor_taken_back(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [one(host)])
    host.set_affinity(200, (0, 1))
    done = apply(plan, host, Journal(tmp_path))
    assert (len(done.already), done.done) == (1, ())
    assert pending(Journal(tmp_path)) == []
    assert affinities(host)[200] == "01"


def test_somebody_elses_value_is_theirs(tmp_path: Path) -> None:
    host = furnished()
    journal = Journal(tmp_path)
    done = apply(make_plan(host, [one(host)]), host, journal)
    host.set_affinity(200, (3,))
    undone = undo(host, journal, done.identity)
    assert affinities(host)[200] == "3"
    assert "theirs" in undone.kept[0].left
    assert pending(journal) == []


def test_the_older_of_two_is_not_taken_back_under_the_newer(tmp_path: Path) -> None:
    host = furnished()
    journal = Journal(tmp_path)
    first = apply(make_plan(host, [one(host)]), host, journal)
    second = apply(make_plan(host, [one(host, "2")]), host, journal)
    with pytest.raises(RefusedError, match=second.identity):
        undo(host, journal, first.identity)
    for transaction in pending(journal):
        undo(host, journal, transaction.identity)
    assert affinities(host)[200] == "01234567"


def test_an_interrupted_plan_comes_first(tmp_path: Path) -> None:
    host = furnished()
    faults = Faults("kill-after", 1, "write")
    assert run(host, tmp_path, [one(host)], faults) == "killed"
    with pytest.raises(RefusedError, match="interrupted"):
        apply(make_plan(host, [one(host, "2")]), host, Journal(tmp_path))
    recover(host, tmp_path)
    apply(make_plan(host, [one(host, "2")]), host, Journal(tmp_path))


def test_two_appliers_exclude_each_other(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [one(host)])
    with Journal(tmp_path).lock(), pytest.raises(RefusedError, match="another dna"):
        apply(plan, host, Journal(tmp_path))


def test_after_a_restart_nothing_is_left_to_undo(tmp_path: Path) -> None:
    host = furnished()
    journal = Journal(tmp_path)
    done = apply(make_plan(host, [one(host)]), host, journal)
    host.files["/proc/sys/kernel/random/boot_id"] = "another\n"
    host.writes.clear()
    assert undo(host, journal, done.identity).restarted
    assert host.writes == []
    assert journal.find(done.identity).state == CLOSED


@pytest.mark.parametrize("field", ["hostname", "boot_id"])
def test_a_plan_for_elsewhere_is_refused(tmp_path: Path, field: str) -> None:
    host = furnished()
    plan = make_plan(host, [one(host)])
    plan = replace(plan, machine=replace(plan.machine, **{field: "other"}))
    with pytest.raises(PlanError):
        apply(plan, host, Journal(tmp_path))


def test_a_setting_that_does_not_take_is_undone_and_said(tmp_path: Path) -> None:
    host = furnished()
    path = "/proc/sys/kernel/numa_balancing"
    host.files[path] = "0\n"
    host.handlers[path] = lambda old, _new: old
    before = snapshot(host)
    wanted = [
        one(host),
        Setting("memory.numa_balancing", Subject("system"), all_knobs()["memory.numa_balancing"].parse("1")),
    ]
    with pytest.raises(ChangeFailedError, match=r"memory\.numa_balancing.*was taken back"):
        apply(make_plan(host, wanted), host, Journal(tmp_path))
    assert snapshot(host) == before


def test_a_setting_that_another_one_of_the_plan_undoes_is_taken_back_with_it(tmp_path: Path) -> None:
    """The device switches segmentation off again, since it cannot gather: what it made of our write is ours to undo."""
    host = furnished()
    before = snapshot(host)
    subject = cases(host)["nic.tso"][0]
    wanted = [Setting("nic.scatter_gather", subject, False), Setting("nic.tso", subject, "tx-tcp-segmentation")]
    with pytest.raises(ChangeFailedError, match=r"nic\.tso.*was taken back$"):
        apply(make_plan(host, wanted), host, Journal(tmp_path))
    assert snapshot(host) == before
    assert pending(Journal(tmp_path)) == []


@pytest.mark.slow
def test_at_every_point_a_plan_that_contradicts_itself_leaves_the_machine_as_it_was(folder: Path) -> None:
    cpu = Subject("cpu", "2")
    wanted = [Setting("power.energy_preference", cpu, "power"), Setting("power.governor", cpu, "performance")]
    faults = Faults()
    assert run(furnished(), folder / "count", wanted, faults) == "failed"
    assert faults.counts["record"] > 8, "begin, two changes, what became of one, failed, two taken back, closed"
    for of, kind in KINDS:
        for at in range(1, faults.counts[of] + 1):
            host = furnished()
            before, place = snapshot(host), folder / f"{of}-{kind}-{at}"
            outcome = run(host, place, wanted, Faults(kind, at, of))
            assert outcome in ("failed", "killed"), "it is never applied"
            if outcome == "failed" and kind != "fail":
                assert snapshot(host) == before
            recover(host, place)
            if kind == "fail":  # it was the undoing that failed, and it is done by now
                for transaction in pending(Journal(place)):
                    undo(host, Journal(place), transaction.identity)
            assert snapshot(host) == before, f"{kind} at {of} {at}"


LAST = Setting("memory.swappiness", Subject("system"), 10)
"""It stands after settings of threads and pages in a plan."""


def meanwhile(host: FakeHost, happens: Callable[[], object]) -> None:
    """Let something happen while the last setting is made."""

    def write(_old: str, written: str) -> str:
        happens()
        return f"{written}\n"

    host.handlers["/proc/sys/vm/swappiness"] = write


def test_what_a_program_sets_itself_meanwhile_is_its_own(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [Setting("cpu.affinity", server(host), "0-1"), LAST])
    meanwhile(host, lambda: host.set_affinity(100, (5,)))
    with pytest.raises(ChangeFailedError, match=r"thread 100 did not last: it is 5.*somebody else.*it is theirs"):
        apply(plan, host, Journal(tmp_path))
    found = affinities(host)
    assert found[100] == "5"
    assert {found[tid] for tid in (101, 102, 110)} == {"01234567"}


def test_what_ends_before_the_last_look_is_normal(tmp_path: Path) -> None:
    host = furnished()
    plan = make_plan(host, [Setting("cpu.affinity", server(host), "0-1"), LAST])
    meanwhile(host, lambda: host.end(110))
    assert len(apply(plan, host, Journal(tmp_path)).done) == 5


def test_pages_that_move_by_themselves_contradict_nothing(tmp_path: Path) -> None:
    host = furnished()
    subject, value = cases(host)["memory.placement"]
    pid, knob = int(subject.name), all_knobs()["memory.placement"]
    plan = make_plan(host, [Setting("memory.placement", subject, value), LAST])
    meanwhile(host, lambda: host.pages.update({pid: dict.fromkeys(host.pages[pid], 3)}))
    assert len(apply(plan, host, Journal(tmp_path)).done) == 2
    assert not knob.same(value, knob.read(host, subject))


class Counting(FakeHost):
    """A machine that notes whose affinity is read."""

    def __init__(self, inner: FakeHost) -> None:
        self.__dict__ = inner.__dict__
        self.read: list[int] = []

    def affinity(self, tid: int) -> tuple[int, ...]:
        self.read.append(tid)
        return super().affinity(tid)


def test_the_last_look_reads_each_change_once(tmp_path: Path) -> None:
    host = Counting(furnished())
    plan = make_plan(host, [one(host)])
    host.read.clear()
    apply(plan, host, Journal(tmp_path))
    assert host.read == [200, 200, 200], "whether the machine moved, what was written, and the last look"


def test_how_far_moving_pages_is_is_told_there_and_back(tmp_path: Path) -> None:
    host, journal = furnished(), Journal(tmp_path)
    subject, value = cases(host)["memory.placement"]
    told: list[tuple[str, int, int]] = []

    def tell(change: Change, done: int, of: int) -> None:
        told.append((change.knob, done, of))

    plan = make_plan(host, [Setting("memory.placement", subject, value), LAST])
    identity = apply(plan, host, journal, progress=tell).identity
    there, moved = list(told), 3 << 20
    told.clear()
    undo(host, journal, identity, progress=tell)
    for way in (there, told):
        assert {knob for knob, _, _ in way} == {"memory.placement"}
        amounts = [done for _, done, _ in way]
        assert amounts == sorted(amounts)
        assert way[-1][1] == pytest.approx(moved, rel=0.01), "three quarters of 4 MiB"
        assert all(done <= of for _, done, of in way)


def test_the_journal_holds_what_changes_came_to_and_older_ones_are_read(tmp_path: Path) -> None:
    host = furnished()
    subject, value = cases(host)["memory.placement"]
    done = apply(make_plan(host, [Setting("memory.placement", subject, value), LAST]), host, Journal(tmp_path))
    moved, other = (step.outcome for _, step in sorted(Journal(tmp_path).find(done.identity).steps.items()))
    assert [moved] == [text for _, text in done.outcomes]
    assert moved.startswith("of 4 MiB that can be moved")
    assert other == ""
    path = tmp_path / f"{done.identity}.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{key: value for key, value in record.items() if key != "outcome"} for record in records]
    assert older != records
    path.write_text("".join(json.dumps(record) + "\n" for record in older))
    assert [step.outcome for _, step in Journal(tmp_path).find(done.identity).standing()] == ["", ""]


# --- plans as data


def test_a_plan_survives_its_file() -> None:
    host = furnished()
    plan = make_plan(host, exact_settings(host), title="all at once")
    assert plan.changes
    assert plan_from_text(json.dumps(plan_to_dict(plan))) == plan


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: [],
        lambda plan: {**plan, "schema": "workload-dna/plan/99"},
        lambda plan: {**plan, "changes": [{**plan["changes"][0], "knob": "cpu.nothing"}]},
        lambda plan: {**plan, "changes": [{**plan["changes"][0], "new": "7-0-7"}]},
        lambda plan: {**plan, "changes": [{**plan["changes"][0], "new": ["0"]}]},
        lambda plan: {**plan, "changes": [{**plan["changes"][0], "subject": {"kind": "nic", "name": "x"}}]},
        lambda plan: {**plan, "changes": [{}]},
        lambda plan: {key: value for key, value in plan.items() if key != "machine"},
    ],
)
def test_a_spoiled_plan_is_refused(spoil: Callable[[Any], Any]) -> None:
    host = furnished()
    data = plan_to_dict(make_plan(host, [one(host)]))
    with pytest.raises(PlanError):
        plan_from_text(json.dumps(spoil(data)))


@given(
    text=st.one_of(
        st.text(max_size=40),
        st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)).map(
            repr
        ),
    )
)
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(PlanError):
        plan_from_text(text)


def test_undo_without_room_in_the_journal_takes_back_all_the_same(folder: Path) -> None:
    host = furnished()
    before = snapshot(host)
    journal = Journal(folder)
    done = apply(make_plan(host, exact_settings(host, "cpu")), host, journal)
    undone = undo(host, FaultyJournal(folder, Faults("full", 1, "record")), done.identity)
    assert undone.restored
    assert not undone.failed
    assert "no room" in undone.unwritten
    assert snapshot(host) == before
    assert [one.identity for one in pending(journal)] == [done.identity]  # it could not be told
    again = undo(host, journal, done.identity)
    assert len(again.restored) == len(undone.restored)
    assert again.unwritten == ""
    assert pending(journal) == []
    assert snapshot(host) == before


def test_a_plan_that_cannot_be_recorded_leaves_no_file(folder: Path) -> None:
    host = furnished()
    with pytest.raises(JournalError):
        apply(make_plan(host, exact_settings(host, "cpu")), host, FaultyJournal(folder, Faults("full", 1, "record")))
    assert list(folder.glob("*.jsonl")) == []


def somebody_else(host: FakeHost) -> None:
    """End the server, and have another program under its id, set in its own way."""
    host.end(SERVER)
    host.start(SERVER, "somebody else")
    host.set_affinity(SERVER, [5])
    host.set_scheduling(SERVER, replace(host.scheduling(SERVER), policy=5, nice=4))


class ReusedWhileWriting(Journal):
    """A journal whose syncing takes so long that the process ends meanwhile, and another one gets its id."""

    def __init__(self, folder: Path, host: FakeHost, at: int) -> None:
        super().__init__(folder)
        self._host = host
        self._left = at

    def writer(self, identity: str) -> Writer:
        inner, outer = super().writer(identity), self

        class Slow(Writer):
            def append(self, record: Mapping[str, object]) -> None:
                inner.append(record)
                outer._left -= 1
                if outer._left == 0:
                    somebody_else(outer._host)

        return Slow(self.folder / f"{identity}.jsonl")


@pytest.mark.parametrize(("knob", "value"), [("cpu.affinity", "2-3"), ("cpu.nice", 7), ("cpu.policy", "batch")])
def test_who_gets_a_process_id_while_the_journal_syncs_is_not_touched(folder: Path, knob: str, value: Value) -> None:
    for doing in ("apply", "undo"):
        host = furnished()
        one = thread(SERVER, host.tasks[SERVER].start)
        plan = make_plan(host, [Setting(knob, one, value)])
        at = 2 if doing == "apply" else 1  # what follows the intent; what follows the mark that it is being undone
        slow = ReusedWhileWriting(folder / doing, host, at)
        if doing == "apply":
            apply(plan, host, slow)
        else:
            done = apply(plan, host, Journal(folder / doing))
            assert undo(host, slow, done.identity).gone
        fresh = furnished()
        somebody_else(fresh)
        assert host.tasks[SERVER].start != one.start
        assert host.tasks[SERVER].affinity == fresh.tasks[SERVER].affinity
        assert host.tasks[SERVER].scheduling == fresh.tasks[SERVER].scheduling
