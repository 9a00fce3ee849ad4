"""The view of a machine, on terminals of all kinds and for machines of all kinds."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hal import machine
from hal.machine import Machine
from hal.topology import UNKNOWN_NODE
from tests.hal.machines import MACHINES, apart, eight_nodes
from ui.cpu_words import siblings
from ui.machine import MachineView


def shown(one: Machine, *, width: int = 80, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(
        file=stream, width=width, force_terminal=color, color_system="truecolor" if color else None, highlight=False
    )
    console.print(MachineView(one))
    stream.flush()
    return raw.getvalue().decode(encoding)


def words(name: str) -> str:
    return " ".join(shown(machine.read(MACHINES[name]().host())).split())


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_fits_everywhere_without_blanks_at_the_end(name: str, width: int, encoding: str) -> None:
    lines = shown(machine.read(MACHINES[name]().host()), width=width, encoding=encoding).splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line != line.rstrip() and line.startswith("  ")] == []


@pytest.mark.parametrize("name", MACHINES)
def test_colour_adds_nothing_but_colour(name: str) -> None:
    one = machine.read(MACHINES[name]().host())
    plain, colored = shown(one), shown(one, color=True)
    assert "\x1b" not in plain
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain


def test_a_node_says_what_is_near_it() -> None:
    blocks = {
        block.split(" ·", 1)[0]: " ".join(block.split())
        for block in shown(machine.read(eight_nodes().host())).split("\n\n")
    }
    fifth = blocks["Node 5"]
    for part in (
        "package 1",
        "64.0 GiB · 16.0 GiB free · 8.00 GiB cached",
        "62 % used",
        "20-23, 52-55 · 4 cores · 2 threads each · siblings n, n+32",
        "L3 16.0 MiB · shared by all",
        "L2 2.00 MiB a core · L1d 48.0 KiB a core",
        "ens1 · up 100 Gbit/s · queues 16 rx 24 tx",
        "PCIe 16 GT/s x8 (device could 32 GT/s x16; its slot 16 GT/s x8)",
        "6 of 64 virtual functions: 0000:81:01.0 ens1v0, 0000:81:01.1 ens1v1,",
        "and 2 more",
    ):
        assert part in fifth
    assert "NVIDIA H100 · PCIe 32 GT/s x16" in blocks["Node 2"]
    assert "nvme0n1 1.75 TiB SSD 32 queues" in blocks["Node 7"]
    assert "sda, sdb, sdc, sdd and 4 more 14.6 TiB HDD 1 queue each" in blocks["Node 0"]
    assert "ens1" not in blocks["Node 0"]


def test_the_matrix_of_distances() -> None:
    lines = shown(machine.read(eight_nodes().host())).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Distances"))
    assert [int(text) for text in lines[start + 1].split()] == list(range(8))
    rows = [[int(text) for text in line.split()] for line in lines[start + 2 : start + 10]]
    assert rows == [[node, *row] for node, row in enumerate(apart(8))]


def test_a_wide_matrix_is_cut_into_parts() -> None:
    one = machine.read(eight_nodes().host())
    lines = shown(one, width=25).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Distances"))
    heads = [line.split() for line in lines[start + 1 :: 9]]
    assert [name for head in heads for name in head] == [str(node) for node in range(8)]
    assert len(heads) > 1


def test_what_is_out_of_the_ordinary_is_said_once_at_the_top() -> None:
    offline = words("partly offline")
    assert "offline 1, 3, 5, 7 isolated 8-11 nohz_full 10-11" in offline
    assert "siblings 8+9 to 14+15" in offline
    container = words("in a container")
    assert "allowed CPUs 2-3 · memory of node 0 (cpuset)" in container
    assert "Node 1 · package 0 · memory not allowed here" in container
    assert "allowed" not in words("eight nodes")


def test_nodes_without_cpus_and_kinds_of_core() -> None:
    assert words("memory-only nodes").count("CPUs none") == 2
    hybrid = words("hybrid")
    assert "0-7 · IntelCore · 4 cores · 2 threads each" in hybrid
    assert "8-15 · IntelAtom · 8 cores" in hybrid
    assert "L2 2.00 MiB · 2 domains: 8-11 | 12-15" in hybrid
    assert "L2 1.25 MiB a core (0-7)" in hybrid


def test_cpus_and_devices_of_no_node_have_a_place() -> None:
    one = machine.read(eight_nodes().host())
    shape = one.topology
    lost = replace(shape, cpus=tuple(replace(cpu, node=UNKNOWN_NODE) for cpu in shape.cpus))
    away = replace(one.devices, pci=tuple(replace(pci, node=UNKNOWN_NODE) for pci in one.devices.pci))
    text = shown(replace(one, topology=lost, devices=away))
    last = text[text.index("On no node in particular") :]
    assert "0-63" in last
    assert "ens1" in last


@pytest.mark.parametrize(
    ("cores", "said"),
    [
        ([(0, 1), (2, 3)], "siblings 0+1 to 2+3"),
        ([(0, 2), (1, 3)], "siblings n, n+2"),
        ([(0, 1, 2, 3), (4, 5, 6, 7)], "siblings 0-3 to 4-7"),
        ([(0, 5), (1, 7)], "siblings 0+5, 1+7"),
        ([(4, 9)], ""),
    ],
)
def test_siblings_by_a_rule_where_there_is_one(cores: list[tuple[int, ...]], said: str) -> None:
    assert siblings(cores) == said


def test_control_characters_of_a_description_are_not_printed() -> None:
    tree = MACHINES["without NUMA"]()
    tree.files["/proc/cpuinfo"] = "model name\t: evil\x1b[2J\n"
    assert "\x1b" not in shown(machine.read(tree.host()))


_counts = st.integers(1, 3)


@settings(deadline=None)
@given(
    levels=st.lists(st.sampled_from(["numa", "l3", "l2", "die", "group"]), unique=True, max_size=4),
    counts=st.lists(_counts, min_size=7, max_size=7),
    width=st.integers(1, 120),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
def test_any_synthetic_machine_can_be_shown(levels: list[str], counts: list[int], width: int, encoding: str) -> None:
    order = [level for level in ("numa", "die", "group", "l3", "l2") if level in levels]
    text = " ".join(f"{level}:{count}" for level, count in zip(["pack", *order, "core", "pu"], counts, strict=False))
    one = machine.named(text)
    lines = shown(one, width=width, encoding=encoding).splitlines()
    if width > len("Node "):
        assert sum(line.startswith("Node ") for line in lines) == one.topology.node_count
