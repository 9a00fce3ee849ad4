"""``dna advise`` as a user types it: on examples for machines that are only described, and on processes of this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dna.export import read_json
from dna.store import Store
from hal.errors import EXIT_NO_TARGET, EXIT_REFUSED, EXIT_USAGE
from hal.plan_json import plan_from_text

pytestmark = pytest.mark.slow  # each runs the command, which takes a second and more

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "profiles"
RANDOM = str(EXAMPLES / "random-access-1gib.json")
COPY = str(EXAMPLES / "streaming-copy.json")
TWO_NODES = "pack:2 numa:1(memory=128GB) l3:2(size=32MB) core:8 pu:2"
QUICK = ("--interval", "0.3", "--duration", "0.6")

RULES = '''"""Rules of a test."""

from collections.abc import Iterator

from rules import m, rule, s, w, when
from rules.rule import Yielded
from rules.situation import Workload


@rule(priority=10, expect="throughput +1..2 %", source="a book", limits="On Sundays only.")
@when(w.demand.threads >= 1, m.cpus >= 1)
def nicer(workload: Workload) -> Iterator[Yielded]:
    """Others come first."""
    yield s.cpu.nice(workload, 5)


@rule(priority=5)
@when(w.demand.threads >= 1)
def less_nice(workload: Workload) -> Iterator[Yielded]:
    """Others do not come first."""
    yield s.cpu.nice(workload, 4)


@rule(priority=1)
@when(w.demand.threads >= 1)
def one(workload: Workload) -> Iterator[Yielded]:
    """One."""
    yield s.cpu.policy(workload, "batch")


@rule(priority=1)
@when(w.demand.threads >= 1)
def another(workload: Workload) -> Iterator[Yielded]:
    """Another."""
    yield s.cpu.policy(workload, "idle")


@rule()
@when(w.demand.threads >= 1, m.memory_channels_per_core > 1000)
def out_of_reach(workload: Workload) -> Iterator[Yielded]:
    """Never mind."""
    yield s.cpu.policy(workload, "idle")


@rule()
@when(w.demand.threads >= 1)
def broken(workload: Workload) -> Iterator[Yielded]:
    """Raises."""
    raise ValueError("no such luck")
    yield s.cpu.policy(workload, "idle")


@rule()
@when(w.demand.threads >= 1)
def beyond_this_machine(workload: Workload) -> Iterator[Yielded]:
    """Wants what is not there."""
    yield s.cpu.affinity(workload, "8000")
'''
RAISES = RULES[: RULES.index("raise")].count("\n") + 1


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A file with rules of all sorts."""
    path = tmp_path / "mine.py"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(0.01)"])
    yield started
    started.kill()
    started.wait()


def dna(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = {"DNA_JOURNAL": str(folder / "journal"), "DNA_STORE": str(folder / "history.db")} if folder else {}
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, "DNA_RULES": "", "XDG_CONFIG_HOME": "/nonexistent", **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def advice(*words: str, folder: Path | None = None) -> dict[str, Any]:
    done = dna("advise", *words, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- on machines that are only described


def test_an_example_on_two_nodes_with_reasons_and_values(tmp_path: Path) -> None:
    done = dna("advise", RANDOM, "--topology", TWO_NODES, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "3 changes proposed for random-access-1gib on the machine described" in text
    assert "Nothing was changed." in text
    for word in ("memory.huge_pages_for_random_access", "collapse:0.5", "expected: throughput", "source:", "limits:"):
        assert word in text
    assert any("w.memory.random_share >" in line and "0.98" in line for line in text.splitlines())
    assert any("cpu.affinity" in line and "0-63" in line and "0-31" in line for line in text.splitlines())
    assert "stands for it" in text


def test_where_nothing_is_due_it_says_so(tmp_path: Path) -> None:
    done = dna("advise", COPY, "--topology", TWO_NODES, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Nothing is due for streaming-copy on the machine described: none of" in done.stdout


def test_a_plan_for_another_machine_is_written_and_refused_here(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    done = dna("advise", RANDOM, "--topology", TWO_NODES, "--out", str(plan), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"dna apply {plan}" in done.stdout
    found = plan_from_text(plan.read_text())
    assert {change.knob for change in found.changes} == {"memory.hugepages", "cpu.affinity", "memory.placement"}
    assert found.title == "advice for random-access-1gib"
    applied = dna("apply", str(plan), "--yes", folder=tmp_path)
    assert applied.returncode != 0
    assert "the plan is for described" in applied.stderr


def test_everything_is_in_the_json(mine: str, tmp_path: Path) -> None:
    found = advice(RANDOM, "--topology", TWO_NODES, "--rules", mine, "--no-packs", folder=tmp_path)
    assert found["schema"] == "workload-dna/advice/1"
    assert (found["here"], found["rules"], found["workloads"][0]["runs"]) == (False, 7, False)
    (proposal,) = found["proposals"]
    assert (proposal["rule"], proposal["expect"], proposal["priority"]) == ("mine.nicer", "throughput +1..2 %", 10)
    assert [condition["holds"] for condition in proposal["conditions"]] == [True, True]
    assert [setting["state"] for setting in proposal["settings"]] == ["changes"]
    assert [one["rule"] for one in found["refused"]] == ["mine.beyond_this_machine"]
    assert found["conflicts"][0]["rules"] == ["mine.one", "mine.another"]
    assert {one["rule"] for one in found["dropped"]} == {"mine.less_nice", "mine.one", "mine.another"}
    assert [(one["rule"], one["message"]) for one in found["failures"]] == [("mine.broken", "ValueError: no such luck")]
    assert found["failures"][0]["place"].endswith(f"mine.py:{RAISES}")
    assert found["cannot_tell"][0]["unknown"] == ["m.memory_channels_per_core"]
    assert {change["knob"] for change in found["plan"]["changes"]} == {"cpu.nice"}


def test_every_field_of_the_json_is_described(mine: str, tmp_path: Path) -> None:
    found = advice(RANDOM, "--topology", TWO_NODES, "--rules", mine, "--no-packs", folder=tmp_path)
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/advise.md").read_text()))
    rows = [found["proposals"], found["conflicts"], found["dropped"], found["refused"], found["failures"]]
    names = {name for group in (*rows, found["cannot_tell"], found["workloads"]) for row in group for name in row}
    assert {*found, *names} - described - {"remedy"} == set()


def test_everything_is_told(mine: str, tmp_path: Path) -> None:
    text = dna("advise", RANDOM, "--topology", TWO_NODES, "--rules", mine, "--no-packs", folder=tmp_path).stdout
    for line in (
        "Conflicts: rules of one rank",
        "mine.one wants batch, mine.another wants idle",
        "mine.less_nice for random-access-1gib: mine.nicer sets cpu.nice otherwise, with higher priority",
        "Not possible on this machine",
        f"mine.py:{RAISES}: mine.broken",
        "Cannot tell, for want of facts",
        "mine.out_of_reach for random-access-1gib: m.memory_channels_per_core",
    ):
        assert line in text, line


def test_stored_profiles_by_name_and_several_at_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "history.db") as history:
        for name in ("redis-server", "redis-benchmark"):
            history.save(read_json(EXAMPLES / f"{name}.json"))
    found = advice("redis-server", "redis-benchmark", "--topology", TWO_NODES, folder=tmp_path)
    assert [workload["name"] for workload in found["workloads"]] == ["redis-server", "redis-benchmark"]
    assert [proposal["rule"] for proposal in found["proposals"]] == ["cpu.pair_together"]


# --- on this machine


def test_a_process_is_watched_and_its_plan_applied(mine: str, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    pid = str(process.pid)
    first = advice("--pid", pid, *QUICK, "--rules", mine, "--no-packs", "--out", str(plan), folder=tmp_path)
    assert first["here"] is True
    assert first["workloads"][0]["subject"]["name"] == pid
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    (change,) = first["plan"]["changes"]
    assert (change["knob"], change["subject"]["name"], change["new"]) == ("cpu.nice", pid, 5)
    assert dna("apply", str(plan), "--yes", folder=tmp_path).returncode == 0
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 5
    again = dna("advise", "--pid", pid, *QUICK, "--rules", mine, "--no-packs", folder=tmp_path)
    assert "Nothing to change" in again.stdout
    assert f"cpu.nice of tree {pid}: 5 already" in again.stdout


def test_two_targets_are_watched_at_once(mine: str, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        targets = ("--pid", str(process.pid), "--pid", str(other.pid))
        found = advice(*targets, *QUICK, "--rules", mine, "--no-packs", folder=tmp_path)
    finally:
        other.kill()
        other.wait()
    assert [one["subject"]["name"] for one in found["workloads"]] == [str(process.pid), str(other.pid)]
    assert {one["subject"]["name"] for one in found["plan"]["changes"]} == {str(process.pid), str(other.pid)}


def test_a_command_keeps_standard_output_to_itself_and_goes_on(mine: str, tmp_path: Path) -> None:
    script = "echo hello; echo $$ > pid; exec sleep 600 >&- 2>&-"
    done = dna(
        *("advise", *QUICK, "--rules", mine, "--no-packs", "--", "sh", "-c", f"cd {tmp_path} && {script}"),
        folder=tmp_path,
    )
    pid = int((tmp_path / "pid").read_text())
    try:
        assert done.returncode == 0, done.stderr
        assert done.stdout == "hello\n"
        assert "mine.nicer" in done.stderr
        assert f"goes on, as process {pid}" in done.stderr
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.kill(pid, 9)
        time.sleep(0.1)


def test_one_that_ended_is_shown_on_a_stand_in(mine: str, tmp_path: Path) -> None:
    done = dna("advise", RANDOM, "--rules", mine, "--no-packs", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "on this machine" in done.stdout
    assert "random-access-1gib does not run any more: process" in done.stdout


# --- mistakes


@pytest.mark.parametrize(
    ("words", "status", "message", "remedy"),
    [
        ((), EXIT_USAGE, "nothing is named", "--pid N"),
        (("--pid", "999999999"), EXIT_NO_TARGET, "there is no process", "dna top"),
        (("4242",), 1, "no stored profile", "--pid 4242"),
        (("redis",), 1, "no stored profile", "--comm redis"),
        (("./none.json",), 1, "cannot read", "dna export"),
        ((COPY, "--packs", "nmua"), EXIT_USAGE, "there is no pack", "numa"),
        ((COPY, "--topology", "pack:zwei"), None, "not a synthetic topology", "pack:2"),
        (("--pid", "1", "--duration", "0"), EXIT_USAGE, "advice needs an end", "Ten seconds"),
        (("--pid", "1", "--interval", "0.01"), EXIT_USAGE, "--interval", "Two to five"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    words: tuple[str, ...], status: int | None, message: str, remedy: str, tmp_path: Path
) -> None:
    done = dna("advise", *words, folder=tmp_path)
    assert done.returncode == status if status is not None else done.returncode != 0
    assert message in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.root
def test_rules_that_others_can_write_are_refused(mine: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root refuses such files: run the tests as root")
    Path(mine).chmod(0o666)
    done = dna("advise", COPY, "--rules", mine, folder=tmp_path)
    assert done.returncode == EXIT_REFUSED
    assert "mine.py" in done.stderr
