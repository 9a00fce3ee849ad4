"""The lab's machine is what its description says; the other tests in here build on that."""

from __future__ import annotations

import os
from pathlib import Path

from scripts import lab_machine

NODES = Path("/sys/devices/system/node")
CGROUP = Path("/sys/fs/cgroup")
NIC = Path("/sys/class/net/eth0/device")
DISK = Path("/sys/class/nvme/nvme0/device")


def words(path: Path) -> list[str]:
    return path.read_text().split()


def test_nodes_and_their_distances() -> None:
    assert words(NODES / "online") == ["0-3"]
    found = tuple(tuple(map(int, words(NODES / f"node{node}/distance"))) for node in range(4))
    assert found == lab_machine.DISTANCES


def test_each_node_has_a_core_of_two_threads_and_memory() -> None:
    for node in range(4):
        cpus = f"{2 * node}-{2 * node + 1}"
        assert words(NODES / f"node{node}/cpulist") == [cpus]
        assert words(Path(f"/sys/devices/system/cpu/cpu{2 * node}/topology/thread_siblings_list")) == [cpus]
        assert words(Path(f"/sys/devices/system/cpu/cpu{2 * node}/cache/index3/shared_cpu_list")) == [cpus]
        kib = int(words(NODES / f"node{node}/meminfo")[3])
        assert kib > 0.8 * 1024 * lab_machine.NODE_MIB


def test_network_card_is_on_its_node_and_offers_virtual_functions() -> None:
    assert words(NIC / "numa_node") == [str(lab_machine.NIC_NODE)]
    assert words(NIC / "sriov_totalvfs") == ["7"]
    assert words(NIC / "local_cpulist") == ["2-3"]


def test_disk_is_on_its_node() -> None:
    assert words(DISK / "numa_node") == [str(lab_machine.DISK_NODE)]
    assert words(Path("/sys/block/nvme0n1/size")) == [str(lab_machine.DISK_MIB << 11)]


def test_devices_are_behind_root_ports() -> None:
    for device in (NIC, DISK):
        port = device.resolve().parent
        assert port.name.endswith("00.0")
        assert words(port / "class") == ["0x060400"]  # a bridge
        assert (port / "max_link_speed").exists()


def test_cgroup_controllers_can_be_handed_on() -> None:
    control = CGROUP / "cgroup.subtree_control"
    before = set(words(control))
    wanted = ("cpu", "cpuset", "io", "memory")
    control.write_text(" ".join(f"+{name}" for name in wanted))
    group = CGROUP / "lab-test"
    group.mkdir()
    try:
        assert set(words(group / "cgroup.controllers")) >= set(wanted)
        (group / "memory.max").write_text("64M")
        assert words(group / "memory.max") == [str(64 << 20)]
    finally:
        group.rmdir()
        control.write_text(" ".join(f"-{name}" for name in wanted if name not in before))
    assert set(words(control)) == before


def test_kernel_has_kprobes_types_and_its_own_headers() -> None:
    release = os.uname().release
    assert Path("/sys/kernel/tracing/kprobe_events").exists()
    assert Path("/sys/kernel/btf/vmlinux").exists()
    generated = Path(f"/lib/modules/{release}/build/include/generated/utsrelease.h")
    assert f'"{release}"' in generated.read_text()


def test_what_is_written_is_the_machines_own() -> None:
    root = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == "/"]
    assert [fields[2] for fields in root][-1] == "overlay"
    assert "upperdir=/cow" in root[-1][3]
