"""Core PMUs and the events that sysfs describes."""

from __future__ import annotations

from hal.fake import FakeHost
from hal.pmu import CorePmu, PmuEvent, core_pmus, online_cpus, pmu_cpumask, pmu_events

DEVICES = "/sys/bus/event_source/devices"
HYBRID = {
    f"{DEVICES}/cpu_core/type": "4\n",
    f"{DEVICES}/cpu_core/cpus": "0-3\n",
    f"{DEVICES}/cpu_atom/type": "10\n",
    f"{DEVICES}/cpu_atom/cpus": "4-7\n",
    f"{DEVICES}/software/type": "1\n",
    f"{DEVICES}/uncore_imc/type": "12\n",
    f"{DEVICES}/uncore_imc/cpumask": "0\n",
}
POWER = {
    f"{DEVICES}/power/type": "9\n",
    f"{DEVICES}/power/cpumask": "0,16\n",
    f"{DEVICES}/power/events/energy-pkg": "event=0x02\n",
    f"{DEVICES}/power/events/energy-pkg.scale": "2.3283064365386962890625e-10\n",
    f"{DEVICES}/power/events/energy-pkg.unit": "Joules\n",
    f"{DEVICES}/power/events/odd": "config=0x7\n",
}


def test_one_pmu_for_all_cores() -> None:
    assert core_pmus(FakeHost({f"{DEVICES}/cpu/type": "4\n", f"{DEVICES}/msr/type": "8\n"})) == (
        CorePmu("cpu", 4, None),
    )


def test_a_hybrid_cpu_has_one_for_each_kind_of_core() -> None:
    assert core_pmus(FakeHost(HYBRID)) == (CorePmu("cpu_atom", 10, (4, 5, 6, 7)), CorePmu("cpu_core", 4, (0, 1, 2, 3)))


def test_an_arm_pmu_is_known_by_its_file() -> None:
    files = {f"{DEVICES}/armv8_pmuv3_0/type": "8", f"{DEVICES}/armv8_pmuv3_0/cpus": "0"}
    assert core_pmus(FakeHost(files)) == (CorePmu("armv8_pmuv3_0", 8, (0,)),)


def test_none_where_there_is_none() -> None:
    assert core_pmus(FakeHost({f"{DEVICES}/software/type": "1\n"})) == ()
    assert core_pmus(FakeHost()) == ()


def test_a_damaged_pmu_is_left_out() -> None:
    assert core_pmus(FakeHost({f"{DEVICES}/cpu/type": "what\n"})) == ()


def test_described_events_come_with_scale_and_unit() -> None:
    assert pmu_events(FakeHost(POWER), "power") == (PmuEvent("energy-pkg", 9, 2, 2.0**-32, "Joules"),)
    assert pmu_events(FakeHost(), "power") == ()


def test_where_to_open() -> None:
    assert pmu_cpumask(FakeHost(POWER), "power") == (0, 16)
    assert online_cpus(FakeHost({"/sys/devices/system/cpu/online": "0-1\n"})) == (0, 1)
    assert online_cpus(FakeHost()) == (0,)
