"""The doctor's report on terminals of all kinds."""

import io
import re

import pytest
from rich.console import Console

from hal.capabilities import CHANGE, MEASURE, Capability, Report
from hal.checks.situation import Situation
from hal.topology import Topology
from hal.topology_hwloc import read_synthetic
from ui.doctor import DoctorView

EVENTS = ("cycles", "instructions", "cache-misses")


def report(*, topology: Topology | None = None, container: str = "") -> Report:
    who = Situation(
        uid=1000,
        capabilities=frozenset(),
        container=container,
        initial_pid_namespace=True,
        initial_user_namespace=True,
        lockdown="",
        release="6.18.0",
        command="dna doctor",
    )
    capabilities = (
        Capability("bpf map", MEASURE, "eBPF", False, "", "needs root, or CAP_BPF", "run it as root: sudo dna doctor"),
        Capability("kernel headers", MEASURE, "eBPF", True, "/usr/src/linux-headers-6.1", "another kernel's"),
        *(
            Capability(f"perf {name}", MEASURE, "perf events", False, "", "no PMU", "pass it through")
            for name in EVENTS
        ),
        Capability("psi", MEASURE, "system", None, "", "could not tell", "see `dmesg`"),
        Capability("cpu affinity", CHANGE, "change", True, "any process"),
    )
    return Report(who, "Some CPU @ 2 GHz", "x86_64", topology, "nothing names a CPU", capabilities)


def shown(one: Report, *, width: int = 80, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(
        file=stream, width=width, force_terminal=color, color_system="truecolor" if color else None, highlight=False
    )
    console.print(DoctorView(one))
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_fits_and_says_everything(width: int, encoding: str) -> None:
    text = shown(report(), width=width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for part in ("Some CPU", "needs root", "sudo dna", "any process", "nothing names a CPU", "no PMU"):
        assert part in words


def test_marks_do_without_colour() -> None:
    lines = [line.split() for line in shown(report()).splitlines()]
    assert ["✗", "bpf", "map"] in [line[:3] for line in lines]
    assert ["✓", "kernel", "headers"] in [line[:3] for line in lines]
    assert ["?", "psi"] in [line[:2] for line in lines]


def test_marks_in_ascii() -> None:
    lines = [line.split() for line in shown(report(), encoding="ascii").splitlines()]
    assert ["--", "bpf", "map"] in [line[:3] for line in lines]
    assert ["ok", "kernel", "headers"] in [line[:3] for line in lines]
    assert ["??", "psi"] in [line[:2] for line in lines]


def test_alike_share_their_reason_once() -> None:
    text = shown(report())
    assert text.count("pass it through") == 1
    assert "3 perf events" in text
    assert "cycles, instructions, cache-misses" in text


def test_counts_stand_in_the_headings() -> None:
    text = shown(report())
    assert "What can be measured (1 of 6)" in text
    assert "What could be changed (1 of 1)" in text


def test_topology_and_container() -> None:
    text = shown(report(topology=read_synthetic("pack:2 core:4 pu:2"), container="docker"), width=200)
    assert "in a container (docker)" in text
    assert "16 CPUs · 8 cores · 2 packages" in text


def test_colour_changes_no_word() -> None:
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", shown(report(), color=True))
    assert coloured == shown(report())


def test_control_characters_of_a_machine_stay_out() -> None:
    hostile = Capability("numa", MEASURE, "memory", True, "\x1b[31mred\x07")
    one = report()
    text = shown(Report(one.situation, one.model, one.architecture, None, "", (hostile,)))
    assert "\x1b" not in text
    assert "\x07" not in text
