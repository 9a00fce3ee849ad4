"""Which number stands in where none was named, and that nothing does where nothing can."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.features import BY_NAME, DEMAND
from dna.vector import Demand, Features
from rl.measured import LATENCY, LOWER, Problem
from rl.proxies import INSTRUCTIONS, MESSAGES, PROXIES, RUN_QUEUE, proxy_for

SERVER: Features = {
    "syscall.network_share": 0.6,
    "syscall.file_share": 0.0,
    "sched.voluntary_share": 0.95,
    "sched.runq_p99": 2e-4,
}
BUSY: Demand = {"syscalls": 60_000.0, "messages": 40_000.0, "switches": 9000.0, "io_calls": 3.0}
COMPUTATION: Features = {
    "syscall.network_share": 0.0,
    "syscall.file_share": 0.9,
    "sched.voluntary_share": 0.05,
    "sched.runq_p99": 4e-3,
}
names = st.sampled_from([*BY_NAME, *(row.name for row in DEMAND)])
numbers = st.none() | st.floats()


def chosen(features: Features, demand: Demand) -> str:
    proxy = proxy_for(features, demand)
    return proxy.metric.source if proxy else ""


def test_instructions_come_first() -> None:
    assert proxy_for(SERVER, {**BUSY, "instructions": 1e9}) is INSTRUCTIONS
    assert INSTRUCTIONS.measure({}, {"instructions": 1e9}, 3.0).value == 1e9


@pytest.mark.parametrize(
    ("features", "demand", "name"),
    [
        ({}, {}, "socket messages"),
        ({}, {"messages": None}, "network system calls"),
        ({"syscall.network_share": 0.1, "syscall.file_share": 0.7}, {"io_calls": 500.0}, "file reads and writes"),
        ({"syscall.network_share": 0.1, "syscall.file_share": 0.7}, {"io_calls": None}, "file system calls"),
        ({"syscall.network_share": 0.2, "syscall.file_share": 0.2}, {}, "run-queue latency"),
        ({"syscall.network_share": None}, {}, "run-queue latency"),
        ({}, {"syscalls": 40.0}, "run-queue latency"),
        ({}, {"syscalls": None}, "run-queue latency"),
    ],
)
def test_completed_work_then_run_queue_latency(features: Features, demand: Demand, name: str) -> None:
    assert name in chosen({**SERVER, **features}, {**BUSY, **demand})


def test_a_computation_without_counters_shows_nothing() -> None:
    assert proxy_for(COMPUTATION, {"syscalls": 3.0, "switches": 200.0, "instructions": None}) is None
    assert proxy_for({}, {}) is None


def test_run_queue_latency_is_better_when_lower() -> None:
    assert (RUN_QUEUE.metric.kind, RUN_QUEUE.metric.direction) == (LATENCY, LOWER)


def test_every_proxy_says_that_it_is_one_and_when_it_misleads() -> None:
    for proxy in PROXIES:
        assert proxy.metric.is_proxy
        assert "(proxy: " in str(proxy.metric)
        assert proxy.misleads


def test_what_was_not_measured_this_time_has_no_value() -> None:
    assert MESSAGES.measure({}, {"messages": None}, 1.0).problem is Problem.GONE
    assert MESSAGES.measure({}, {"messages": 0.0}, 1.0).problem is Problem.NOT_POSITIVE
    assert MESSAGES.measure({}, {"messages": math.nan}, 1.0).problem is Problem.NOT_A_NUMBER


@given(st.dictionaries(names, numbers), st.dictionaries(names, numbers))
def test_what_is_chosen_can_be_measured(features: Features, demand: Demand) -> None:
    if (proxy := proxy_for(features, demand)) is not None:
        value = proxy.measure(features, demand, 0.0).value
        assert value is not None
        assert value > 0
