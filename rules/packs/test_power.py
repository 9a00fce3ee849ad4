"""The pack ``power``: when each rule speaks, what it sets, and whom it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hal.settings import SYSTEM, Subject
from rules.testing import Said, beside, given

RULES = beside(__file__)
MACHINE = "pack:1 numa:1(memory=64GB) core:8 pu:1"
SERVICE: Mapping[str, Any] = {
    "demand.messages": "5 k/s",
    "demand.wakeups": "10 k/s",
    "demand.cores": 0.5,
    "sched.slice_p50": "30 us",
    "sched.slice_p90": "200 us",
    "intervals": 6,
}
BATCH: Mapping[str, Any] = {
    "demand.messages": 0.0,
    "demand.wakeups": "50/s",
    "demand.cores": 0.2,
    "sched.slice_p50": "3 ms",
    "sched.slice_p90": "4 ms",
    "intervals": 6,
}
DYNAMIC: Mapping[str, Any] = {"virtual": False, "governor": "schedutil"}
CHOOSES_ITSELF: Mapping[str, Any] = {
    "virtual": False,
    "governor": "powersave",
    "energy_preference": "balance_performance",
}
PERFORMANCE: Mapping[str, Any] = {
    "virtual": False,
    "governor": "performance",
    "energy_preference": "performance",
    "idle_share": 0.99,
}


def ask(*workloads: Mapping[str, Any], **facts: Any) -> Said:
    return given(*workloads, machine=MACHINE, facts=facts).ask(RULES)


def test_short_bursts_are_fast_from_the_beginning() -> None:
    assert ask(SERVICE, **DYNAMIC).settings("performance_governor") == {"power.governor": "performance"}
    assert ask(SERVICE, **CHOOSES_ITSELF).settings("prefer_performance") == {"power.energy_preference": "performance"}
    for name, facts in (("performance_governor", DYNAMIC), ("prefer_performance", CHOOSES_ITSELF)):
        assert not ask(BATCH, **facts).fired(name)
        assert not ask(SERVICE, **PERFORMANCE).fired(name)
        assert not ask(SERVICE, **{**facts, "virtual": True}).fired(name)
        assert not ask(SERVICE, virtual=False).fired(name)  # a machine without these knobs
    assert not ask(SERVICE, **{**CHOOSES_ITSELF, "energy_preference": "performance"}).fired("prefer_performance")


def test_who_is_woken_often_does_not_wait_for_deep_sleep() -> None:
    deep = {"virtual": False, "deepest_idle": "130 us"}
    assert ask(SERVICE, **deep).settings("sleep_lightly", on=SYSTEM) == {"power.idle_latency_us": 10}
    for change in ({"sched.slice_p50": "3 ms"}, {"demand.wakeups": "100/s"}, {"demand.cores": 7.0}):
        assert not ask({**SERVICE, **change}, **deep).fired("sleep_lightly"), change
    for other in ({"deepest_idle": "2 us"}, {"virtual": True}, {"deepest_idle": None}):
        assert not ask(SERVICE, **{**deep, **other}).fired("sleep_lightly"), other


def test_only_the_cpus_of_who_is_kept_on_some_sleep_lightly() -> None:
    said = ask({**SERVICE, "cpus": {2, 3}}, virtual=False, deepest_idle="130 us")
    assert {setting.subject for setting in said.advice.config.settings} == {Subject("cpu", "2"), Subject("cpu", "3")}


def test_a_machine_with_nothing_to_do_saves_power() -> None:
    assert ask(BATCH, **PERFORMANCE).settings("save_power_when_idle") == {
        "power.governor": "powersave",
        "power.energy_preference": "balance_performance",
    }
    for change in ({"demand.cores": 4.0}, {"intervals": 1}):
        assert not ask({**BATCH, **change}, **PERFORMANCE).fired("save_power_when_idle"), change
    for other in ({"idle_share": 0.3}, {"governor": "schedutil"}, {"virtual": True}, {"energy_preference": None}):
        assert not ask(BATCH, **{**PERFORMANCE, **other}).fired("save_power_when_idle"), other


def test_not_beside_a_service_whose_latency_counts() -> None:
    said = ask(BATCH, SERVICE, **PERFORMANCE)
    assert said.fired("save_power_when_idle")
    assert said.fired("no_saving_beside_services")
    assert not said.advice.config.settings
    assert not ask(BATCH, **PERFORMANCE).fired("no_saving_beside_services")
    assert not ask(SERVICE, **DYNAMIC).fired("no_saving_beside_services")
