"""Frequencies, boost and idle: orders that the kernel wants, meanings that it turns round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import SYSTEM, Change, Setting, Subject, Value
from hal.undo import pending, undo
from tests.hal.knobs import fake_cpu, fake_power
from tests.hal.knobs.fake_power import CPUS, HIGHEST, LOWEST, POLICIES, STATES
from tests.hal.knobs.machine import snapshot

FREQUENCIES = st.integers(LOWEST // 100_000, HIGHEST // 100_000).map(lambda step: step * 100_000)
SOME_STATES = st.sets(st.sampled_from(STATES)).map(lambda states: ",".join(sorted(states)) or "none")


def machine() -> FakeHost:
    host = FakeHost({"/proc/self/mounts": ""})
    fake_cpu.furnish(host)
    fake_power.furnish(host)
    return host


def cpu(number: int) -> Subject:
    return Subject("cpu", str(number))


def test_any_cpu_of_a_policy_stands_for_it() -> None:
    for number, policy in ((2, 2), (3, 2), (7, 6)):
        plan = make_plan(machine(), [Setting("power.governor", cpu(number), "performance")])
        assert [change.subject for change in plan.changes] == [cpu(policy)]


def test_the_machine_stands_for_all_of_them() -> None:
    plan = make_plan(
        machine(), [Setting("power.governor", SYSTEM, "performance"), Setting("power.governor", cpu(5), "powersave")]
    )
    assert [change.subject for change in plan.changes] == [cpu(number) for number in POLICIES if number != 4]


def test_two_cpus_of_one_policy_are_one_change() -> None:
    plan = make_plan(machine(), [Setting("power.max_freq", cpu(n), LOWEST) for n in (2, 3)])
    assert len(plan.changes) == 1


@settings(deadline=None)
@given(before=st.tuples(FREQUENCIES, FREQUENCIES), after=st.tuples(FREQUENCIES, FREQUENCIES))
def test_both_limits_are_reached_from_anywhere_and_undone(before: tuple[int, int], after: tuple[int, int]) -> None:
    host = machine()
    policy = f"{CPUS}/cpufreq/policy2"
    low, high = sorted(before)
    host.files |= {f"{policy}/scaling_min_freq": f"{low}\n", f"{policy}/scaling_max_freq": f"{high}\n"}
    was = snapshot(host)
    wanted = sorted(after)
    settings = [Setting(f"power.{end}_freq", cpu(2), value) for end, value in zip(("min", "max"), wanted, strict=True)]
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        done = apply(make_plan(host, settings), host, journal)
        assert [int(host.files[f"{policy}/scaling_{end}_freq"]) for end in ("min", "max")] == wanted
        if done.done:
            undo(host, journal, done.identity)
    assert snapshot(host) == was


def test_energy_preference_is_set_once_the_governor_lets_it(tmp_path: Path) -> None:
    host, journal = machine(), Journal(tmp_path)
    knob_of("power.governor").write(host, cpu(2), "performance")
    was = snapshot(host)
    settings = [Setting("power.energy_preference", cpu(2), "power"), Setting("power.governor", cpu(2), "powersave")]
    done = apply(make_plan(host, settings), host, journal)
    assert len(done.done) == 2
    undo(host, journal, done.identity)
    assert snapshot(host) == was


@pytest.mark.parametrize("remembers", [True, False], ids=["intel_pstate", "a driver that forgets"])
def test_a_governor_that_overrides_a_preference_of_the_same_plan_is_said_and_taken_back(
    remembers: bool, tmp_path: Path
) -> None:
    host = machine()
    if not remembers:
        policy = f"{CPUS}/cpufreq/policy2"

        def govern(_old: str, written: str) -> str:
            if written == "performance":
                host.files[f"{policy}/energy_performance_preference"] = "performance\n"
            return f"{written}\n"

        host.handlers[f"{policy}/scaling_governor"] = govern
    was = snapshot(host)
    settings = [Setting("power.governor", cpu(2), "performance"), Setting("power.energy_preference", cpu(2), "power")]
    with pytest.raises(ChangeFailedError) as caught:
        apply(make_plan(host, settings), host, Journal(tmp_path))
    assert "power.energy_preference of cpu 2 did not last: it is performance after power was written" in str(
        caught.value
    )
    assert "came after it power.governor of cpu 2 (performance)" in str(caught.value)
    assert str(caught.value).endswith("what was made before it was taken back")
    assert snapshot(host) == was
    assert pending(Journal(tmp_path)) == []


def test_a_preference_that_the_governor_forbids_says_what_to_do(tmp_path: Path) -> None:
    host = machine()
    knob_of("power.governor").write(host, cpu(2), "performance")
    plan = make_plan(host, [Setting("power.energy_preference", cpu(2), "power")])
    with pytest.raises(ChangeFailedError, match="performance governor") as caught:
        apply(plan, host, Journal(tmp_path))
    assert "power.governor" in caught.value.remedy


@pytest.mark.parametrize(
    ("knob", "subject", "value", "message"),
    [
        ("power.governor", cpu(2), "schedutil", "no governor schedutil"),
        ("power.governor", cpu(64), "powersave", "no CPU 64"),
        ("power.max_freq", cpu(2), 1, "does not run at 1 kHz"),
        ("power.min_freq", cpu(2), HIGHEST + 1, "does not run at"),
        ("power.idle_latency_us", cpu(8), 5, "no CPU 8"),
        ("power.idle_states", cpu(1), "C1,C9", "no state C9"),
        ("power.idle_states", Subject("node", "0"), "C1", "not on a node"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(knob: str, subject: Subject, value: int | str, message: str) -> None:
    host = machine()
    with pytest.raises(SettingError, match=message) as caught:
        make_plan(host, [Setting(knob, subject, value)])
    assert caught.value.remedy
    assert host.writes == []


def test_a_processor_with_steps_takes_those_only() -> None:
    host = machine()
    host.files[f"{CPUS}/cpufreq/policy2/scaling_available_frequencies"] = "3600000 2400000 800000 \n"
    assert make_plan(host, [Setting("power.max_freq", cpu(2), 2_400_000)]).changes
    with pytest.raises(SettingError, match="no step of 2500000"):
        make_plan(host, [Setting("power.max_freq", cpu(2), 2_500_000)])


@pytest.mark.parametrize(("value", "written"), [("any", "0"), (0, "n/a"), (1, "1"), (200, "200")])
def test_no_latency_and_any_latency_are_not_confused(value: int | str, written: str) -> None:
    host, knob = machine(), knob_of("power.idle_latency_us")
    knob.write(host, cpu(1), value)
    assert host.writes[-1][1] == written
    assert knob.read(host, cpu(1)) == value
    assert knob.verify(host, cpu(1), value) == ""


@settings(deadline=None)
@given(old=SOME_STATES, new=SOME_STATES)
def test_a_kill_between_idle_states_is_recognised(old: str, new: str) -> None:
    host, knob = machine(), knob_of("power.idle_states")
    knob.write(host, cpu(1), old)
    seen: set[Value] = set()
    watched = Watched(host.files, lambda now: seen.add(knob.read(now, cpu(1))))
    watched.handlers = host.handlers
    knob.write(watched, cpu(1), new)
    assert knob.read(watched, cpu(1)) == new
    assert seen <= {old, new, *knob.between(Change("power.idle_states", cpu(1), old, new))}


class Watched(FakeHost):
    """A machine at which somebody looks before each write."""

    def __init__(self, files: Mapping[str, str], look: Callable[[FakeHost], object]) -> None:
        super().__init__(files)
        self._look = look

    def write_text(self, path: str, text: str) -> None:
        self._look(self)
        super().write_text(path, text)


@pytest.mark.parametrize(("path", "on"), [("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")])
def test_boost_is_found_wherever_the_driver_has_it(path: str, on: str) -> None:
    host, knob = machine(), knob_of("power.boost")
    del host.files[f"{CPUS}/intel_pstate/no_turbo"]
    assert not knob.support(host).works
    host.files[f"{CPUS}/{path}"] = f"{on}\n"
    assert knob.support(host).works
    assert knob.read(host, SYSTEM) is True
    knob.write(host, SYSTEM, False)
    assert host.files[f"{CPUS}/{path}"].strip() == str(1 - int(on))
    assert knob.read(host, SYSTEM) is False
