"""The service that is shipped: systemd takes its unit, its example is one, and under its limits the loop does its work.

No systemd runs these tests' machine: what a unit's lines do is tried with the same means (capabilities, no new privileges, mounts).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sculpt import service
from sculpt.config import config_of
from sculpt.step import APPLY, OBSERVE
from tests.cli.sculpt_runs import CPUS, LIMIT_S, ROOT, Runs, runs_in, until

pytestmark = pytest.mark.timeout(600)  # programs are started again and again, which takes its time on a busy machine
PROGRAM = ("/bin/true",)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)


def values(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


@needs_systemd
@pytest.mark.parametrize("program", [PROGRAM, ("/bin/true", "/a b/100%/it's $HOME.py")])
def test_systemd_takes_the_unit(tmp_path: Path, program: tuple[str, ...]) -> None:
    file = tmp_path / "dna-sculpt.service"
    file.write_text(service.unit(program, "/etc/a b/sculpt.toml"))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    about_it = [line for line in done.stderr.splitlines() if "dna-sculpt" in line]
    assert about_it == []


@needs_systemd
def test_a_unit_that_systemd_does_not_take_is_told_by_the_same_check(tmp_path: Path) -> None:
    file = tmp_path / "dna-sculpt.service"
    file.write_text(service.unit(("/nonexistent/dna",)).replace("WatchdogSec=5min", "WatchdogSec=soon"))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert "soon" in done.stderr
    assert "/nonexistent/dna" in done.stderr


def test_the_unit_is_filled_in() -> None:
    unit = service.unit(("/opt/dna/bin/dna",), "/etc/x.toml")
    assert "@" not in unit
    assert values(unit, "ExecStart") == ["/opt/dna/bin/dna sculpt --config /etc/x.toml --no-live"]
    assert values(unit, "ConditionPathExists") == ["/etc/x.toml"]


@pytest.mark.long
def test_its_commands_are_commands_of_ours() -> None:
    """What the unit starts is taken by this version: options and commands are there."""
    unit = service.unit((sys.executable, str(ROOT / "cli.py")))
    for line in (*values(unit, "ExecStart"), *values(unit, "ExecStopPost")):
        words = shlex.split(line.lstrip("-"))
        helped = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False, timeout=LIMIT_S)
        assert helped.returncode == 0, helped.stderr
        assert "Usage" in helped.stdout


def test_the_example_only_watches() -> None:
    config = config_of(tomllib.loads(service.example()))
    assert {asked.mode for asked in config.targets} == {OBSERVE}
    assert all(asked.wait for asked in config.targets)


def test_what_is_commented_out_in_the_example_can_be_said_too() -> None:
    whole = re.sub(r"^#(?=[\[\w\"])", "", service.example(), flags=re.MULTILINE)
    config = config_of(tomllib.loads(whole))
    assert {asked.mode for asked in config.targets} == {OBSERVE, APPLY}
    assert config.guard is not None
    assert config.guard.cooldown_s == {"memory.placement": 300.0}
    assert config.alerts["prometheus"]


@pytest.mark.long
def test_the_command_prints_both(tmp_path: Path) -> None:
    def printed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "cli.py"), "sculpt", "unit", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)

    assert f"ExecStart={sys.executable} {ROOT}/cli.py sculpt" in printed().stdout
    assert printed("--example").stdout == service.example()
    assert printed("--config", "relative.toml").returncode == 2


def test_a_program_that_others_can_write_is_named(tmp_path: Path) -> None:
    program = tmp_path / "dna"
    program.write_text("")
    program.chmod(0o777)
    assert service.writable_by_others((str(program),)) == str(program)


# --- under its limits


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with runs_in(tmp_path) as found:
        yield found


def confined(folder: Path, command: list[str]) -> list[str]:
    """Return a command under the unit's capabilities and mounts: all read-only but /proc, /sys, /dev and ``folder``."""
    unit = service.unit(PROGRAM)
    (kept,) = values(unit, "CapabilityBoundingSet")
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in kept.split())
    limits = f"setpriv --bounding-set=-all,{names} --inh-caps=-all --no-new-privs"
    mounts = f"mount --make-rprivate / && mount --bind {folder} {folder} && mount -o remount,bind,ro /"
    return ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {limits} {shlex.join(command)}"]


def environment_of_the_unit(runs: Runs) -> dict[str, str]:
    """Return an environment with the variables that the unit sets, their folders below that of the runs."""
    (line,) = values(service.unit(PROGRAM), "Environment")
    names = [one.partition("=")[0] for one in line.split()]
    assert names == ["XDG_CACHE_HOME", "TMPDIR"]
    return {**runs.environment, **dict.fromkeys(names, str(runs.folder))}


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take capabilities and mounts away")
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("unshare", "setpriv", "mount"))), reason="needs unshare, setpriv and mount: util-linux"
)


@pytest.mark.slow
@pytest.mark.root
@needs_root
@needs_tools
@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
def test_under_the_units_limits_it_measures_changes_and_takes_back(runs: Runs) -> None:
    folder = runs.folder
    arguments = ["sculpt", "--pid", str(runs.pid), *runs.applying(), "--no-live"]
    process = subprocess.Popen(
        confined(folder, [sys.executable, "-m", "cli", *arguments]),
        cwd=ROOT, env=environment_of_the_unit(runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    runs.started.append(process)
    kept = runs.wait_for_kept()
    assert kept["in_force"] != "baseline"
    assert runs.is_pinned
    (status,) = runs.status()
    bounding = re.search(r"^CapBnd:\t(\w+)$", Path(f"/proc/{status['pid']}/status").read_text(), re.MULTILINE)
    assert bounding is not None
    named = values(service.unit(PROGRAM), "CapabilityBoundingSet")[0].split()
    assert int(bounding[1], 16).bit_count() <= len(named)  # fewer where this machine lacks some of them
    assert runs.ask("stop").returncode == 0
    assert process.wait(LIMIT_S) == 0
    until(lambda: not runs.is_pinned)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.bpf
@needs_root
@needs_tools
def test_under_the_units_limits_it_measures_what_it_measures_without(runs: Runs) -> None:
    def missing(command: list[str]) -> set[str]:
        done = subprocess.run(
            command, cwd=ROOT, env=environment_of_the_unit(runs),
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout)["intervals"][-1]["quality"]["missing"])

    profile = [sys.executable, "-m", "cli", "profile", "--pid", str(runs.pid), "--interval", "1", "--duration", "2"]
    profile += ["--json", "-", "--no-store", "--no-live"]
    assert missing(confined(runs.folder, profile)) == missing(profile)
