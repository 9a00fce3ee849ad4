"""The benchmark of gains: its arithmetic, what counts as the same arm, and that its programs measure what they say."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gains import search
from benchmarks.gains.flow import started
from benchmarks.gains.ours import Configuration, Tool, has_converged, made
from benchmarks.gains.programs import PROGRAMS, percentile
from benchmarks.gains.quiet import used
from benchmarks.gains.rounds import effect
from benchmarks.gains.table import table, verdicts
from hal.journal import Journal
from hal.settings import SYSTEM, Setting, tree

BY_NAME = {program.name: program for program in PROGRAMS}
REDIS, LATENCY = BY_NAME["redis"], BY_NAME["beside-batch"]


def test_above_one_is_better_whatever_is_measured() -> None:
    assert effect(REDIS, [110, 110, 110], [100, 100, 100]).median == pytest.approx(1.1)
    assert effect(LATENCY, [50, 50, 50], [100, 100, 100]).median == pytest.approx(2.0)


def test_the_limits_are_those_of_students_t() -> None:
    logs = [0.01, 0.03, 0.05, 0.03]
    found = effect(REDIS, [math.exp(one) for one in logs], [1.0] * 4)
    reach = 3.182 * (math.sqrt(0.0008 / 3)) / 2
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((0.03 - reach, 0.03 + reach))
    assert found.rounds == 4


def test_of_one_round_nothing_is_known() -> None:
    found = effect(REDIS, [2.0], [1.0])
    assert (found.low, found.high, found.rounds) == (0.0, math.inf, 1)


def test_a_percentile_of_what_the_load_generator_counts() -> None:
    counts = [0] * 4096
    counts[16 * 5] = 980  # 32 us
    counts[16 * 10] = 20  # 1024 us
    assert percentile(counts, 0.5) == pytest.approx(32, rel=0.05)
    assert percentile(counts, 0.99) == pytest.approx(1024, rel=0.05)


@pytest.mark.long
def test_what_others_take_of_the_machine_is_told_from_what_the_benchmark_itself_does() -> None:
    spin = "import time\nwhile time.process_time() < 1: pass"
    before = used()
    subprocess.run(["sh", "-c", f"setsid python3 -c '{spin}' & sleep 1.5"], check=True)
    after = used()
    assert after.by_all - before.by_all >= 0.9
    assert after.lost_since(before) >= 0.5  # its parent has ended, so it is nobody's of ours
    before = used()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as own:
        time.sleep(1.0)
        after = used()
        own.kill()
    assert after.by_own - before.by_own >= 0.3
    assert after.lost_since(before) <= after.by_all - before.by_all - 0.3 + after.stolen - before.stolen


PIN, BATCH = Setting("cpu.affinity", tree(5, 1), "0"), Setting("cpu.policy", tree(5, 1), "batch")


def test_equal_settings_are_one_configuration() -> None:
    before, after = (
        Configuration("rules", (PIN,), (5,)),
        Configuration("loop", (Setting("cpu.affinity", tree(9, 7), "0"),), (9,)),
    )
    assert before.key == after.key == (("cpu.affinity", "tree 0", "0"),)
    assert Configuration("swap", (Setting("memory.swappiness", SYSTEM, 10),), (5,)).key != before.key


def test_configurations_are_put_together_where_they_set_different_things() -> None:
    one, other = Configuration("pin", (PIN,), (5,)), Configuration("batch", (BATCH,), (5,))
    both = search.together(one, other)
    assert both is not None
    assert both.settings == (PIN, BATCH)
    assert search.together(both, one) is None


def _program(name: str, loop: float, tuned: float, static: float) -> dict[str, Any]:
    def data(value: float) -> dict[str, float]:
        return {"median": value, "low": value - 0.02, "high": value + 0.02, "rounds": 8}

    return {
        "name": name,
        "best_profile": "balanced",
        "effects": {
            "loop": data(loop),
            "tuned": data(tuned),
            "static": data(static),
            "default again": data(1.0),
            "loop / tuned": data(loop / tuned),
            "loop / static": data(loop / static),
        },
        "configurations": {"loop": {"settings": [["cpu.policy", "tree 0", "batch"]]}},
    }


def _report(*programs: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": "a machine",
        "date": "2026-11-22",
        "plan": {"rounds": 8, "seconds": 2.0, "seed": 1} | {"seed": 1},
        "programs": list(programs),
        "missing": {"redis": "redis-server is not installed"},
        "tuned": [{"name": "desktop", "why_not": "changes nothing", "same_as": ""}],
        "tuned_note": "",
        "nodes": 1,
    }


def test_what_was_wanted_is_told_with_who_missed_it() -> None:
    good, bad = _program("pair", 1.3, 1.0, 1.31), _program("nginx", 0.9, 1.0, 1.1)
    assert [one["holds"] for one in verdicts(_report(good))] == [True, True, True]
    found = verdicts(_report(good, bad))
    assert [one["holds"] for one in found] == [False, False, False]
    assert "better on 1 of 2 (pair), worse on 1 (nginx), no difference shown on 0 (none)" in found[0]["text"]
    assert "nginx 0.818" in found[1]["text"]
    assert "nginx 0.900" in found[2]["text"]


def test_the_table_tells_figures_settings_and_what_was_not_measured() -> None:
    text = table(_report(_program("pair", 1.3, 1.0, 1.31)))
    assert "| pair | 1.00 [0.98, 1.02] (balanced) | – | 1.30 [1.28, 1.32] |" in text
    assert "`cpu.policy` of tree 0 = batch" in text
    assert "not measured: redis: redis-server is not installed" in text
    assert "numad: does not apply" in text


def test_the_loop_has_converged_once_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    tool = Tool(tmp_path)
    quiet = {"workload": "redis", "reward": 1.0, "decision": {"event": "", "state": "hold"}}
    trial = {"workload": "redis", "reward": 1.0, "decision": {"event": "promoted", "state": "hold"}}

    def converged(*steps: dict[str, Any]) -> bool:
        (tmp_path / "runs" / "a.jsonl").write_text("\n".join(map(json.dumps, steps)))
        return has_converged(tool)

    assert not converged(*[quiet] * 5)
    assert not converged(*[quiet] * 30, trial, *[quiet] * 3)
    assert converged(trial, *[quiet] * 35)


@pytest.mark.long
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="setting a scheduling policy back takes root: run as root")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed: apt install gcc")
def test_a_program_is_started_set_measured_and_left_as_found(tmp_path: Path) -> None:
    program = BY_NAME["pair"]
    with started(program, tmp_path) as live:
        wanted = Configuration(
            "batch", (Setting("cpu.policy", tree(live.target, _start(live.target)), "batch"),), live.roots
        )
        with made(wanted, live, Journal(tmp_path / "journal")):
            assert os.sched_getscheduler(live.target) == os.SCHED_BATCH
            before = live.read()
            time.sleep(0.3)
            assert live.value(before, live.read()) > 0
        assert os.sched_getscheduler(live.target) == os.SCHED_OTHER
    assert not os.path.exists(f"/proc/{live.target}")


def _start(pid: int) -> int:
    from hal.host import LinuxHost
    from hal.processes import start_of

    return start_of(LinuxHost(), pid) or 0
