"""``dna doctor`` and ``dna profile`` on a machine with nodes, kprobes and headers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLACED = Path(__file__).with_name("placed.py")
DNA = (sys.executable, str(ROOT / "cli.py"))

HOW = ("bind", "interleave")

type Document = dict[str, Any]


@pytest.fixture(scope="module")
def capabilities(doctor_report: Document) -> dict[str, Document]:
    return {row["name"]: row for row in doctor_report["capabilities"]}


def test_doctor_sees_the_nodes(doctor_report: Document, capabilities: dict[str, Document]) -> None:
    seen = doctor_report["machine"]["topology"]
    assert (seen["cpus"], seen["cores"], seen["packages"], seen["llc_domains"]) == (8, 4, 4, 4)
    assert [node["cpus"] for node in seen["nodes"]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert {device["name"]: device["node"] for device in seen["devices"]}.items() >= {"eth0": 1, "nvme0n1": 2}.items()
    assert capabilities["numa"]["detail"] == "4 nodes"


@pytest.mark.parametrize("kind", ["kprobe", "fentry", "tp_btf", "raw tracepoint"])
def test_doctor_attaches_every_kind_of_program(capabilities: dict[str, Document], kind: str) -> None:
    row = capabilities[f"bpf {kind}"]
    assert row["available"], row["reason"]


def test_doctor_compiles_with_the_running_kernels_headers(capabilities: dict[str, Document]) -> None:
    assert capabilities["kernel headers"]["detail"] == f"/lib/modules/{os.uname().release}/build"
    assert capabilities["kernel headers"]["reason"] == ""
    assert capabilities["bpf compile"]["available"], capabilities["bpf compile"]["reason"]


def test_doctor_says_which_cgroups(capabilities: dict[str, Document]) -> None:
    said = capabilities["cgroups"]["detail"]
    assert said.startswith("v2 at /sys/fs/cgroup;")
    assert "v1" not in said
    assert {"cpu", "cpuset", "io", "memory"} <= set(said.split("controllers: ")[1].split())


@pytest.fixture(scope="module")
def profiles(compiled: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    """Return the features of two processes, one with near memory and one with memory everywhere, watched at once."""
    folder = tmp_path_factory.mktemp("profiles")
    targets = {how: subprocess.Popen([sys.executable, PLACED, how], stdout=subprocess.PIPE) for how in HOW}
    try:
        for target in targets.values():
            assert target.stdout
            assert target.stdout.readline() == b"ready\n"
        watchers = {how: watch(target.pid, folder / how) for how, target in targets.items()}
        printed = {how: watcher.communicate() for how, watcher in watchers.items()}
        assert [watcher.returncode for watcher in watchers.values()] == [0, 0], printed
    finally:
        for target in targets.values():
            target.kill()
            target.communicate()
    return {how: json.loads((folder / how).read_text())["summary"]["features"] for how in HOW}


def watch(pid: int, file: Path) -> subprocess.Popen[str]:
    words = ("--pid", str(pid), "--interval", "3", "--duration", "3", "--no-live", "--no-store", "--json", str(file))
    return subprocess.Popen([*DNA, "profile", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_memory_bound_to_the_threads_node_is_local(profiles: dict[str, Document]) -> None:
    assert profiles["bind"]["memory.numa_locality"] > 0.9
    assert profiles["bind"]["memory.numa_spread"] < 0.3


def test_interleaved_memory_is_local_by_chance(profiles: dict[str, Document]) -> None:
    assert 0.15 < profiles["interleave"]["memory.numa_locality"] < 0.35
    assert profiles["interleave"]["memory.numa_spread"] > 0.95
