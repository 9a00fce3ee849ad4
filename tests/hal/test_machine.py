"""Machines as values: strange ones, checked against hwloc's reading of the same files; this one; and descriptions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import devices, machine, topology, topology_sysfs
from hal.devices import Link, VirtualFunctions, kind_of
from hal.errors import HalError, TopologyError
from hal.fake import FakeHost
from hal.host import LinuxHost
from hal.machine import Machine
from hal.topology import UNKNOWN_NODE, Topology
from tests.hal.machines import CPU, MACHINES, Tree, eight_nodes, in_a_container, memory_only_nodes

ROOT = Path(__file__).parents[2]

_HWLOC = """
import json, sys
from dataclasses import asdict
from pyhwloc import Topology as Hwloc
from pyhwloc.topology import TopologyFlags, TypeFilter
from hal import topology
from hal.host import LinuxHost
with Hwloc.from_this_system().set_flags(TopologyFlags.INCLUDE_DISALLOWED).set_io_types_filter(TypeFilter.KEEP_ALL) as shape:
    shape.export_xml_file(sys.argv[1])
print(json.dumps(asdict(topology.live(LinuxHost()))))
"""


@pytest.fixture(scope="module")
def by_hwloc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Path]]:
    """What hwloc makes of the files of each machine, and the XML that it exports of it; hwloc reads them by itself."""
    found = {}
    for name, make in MACHINES.items():
        folder = tmp_path_factory.mktemp("machine")
        make().write(folder / "root")
        xml = folder / "machine.xml"
        environment = {**os.environ, "HWLOC_FSROOT": str(folder / "root"), "HWLOC_COMPONENTS": "linux,stop"}
        done = subprocess.run(
            [sys.executable, "-c", _HWLOC, str(xml)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found[name] = (json.loads(done.stdout), xml)
    return found


def plain(shape: Topology) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(asdict(shape)))
    return data


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_hwloc_reads_the_same_from_the_same_files(name: str, by_hwloc: dict[str, tuple[dict[str, Any], Path]]) -> None:
    ours, (theirs, _) = plain(topology.live(MACHINES[name]().host())), by_hwloc[name]
    for ordinary in ("packages", "caches", "llcs", "offline"):
        assert ours[ordinary] == theirs[ordinary], ordinary
    # Off the real machine hwloc does not look for kinds of core, nor for the distance from a node to itself.
    assert [c | {"kind": 0} for c in ours["cpus"]] == theirs["cpus"]
    assert theirs["distances"] == (ours["distances"] if len(ours["nodes"]) > 1 else [])
    # To a node without CPUs hwloc gives those that are near, and the kernel none.
    assert [n["cpus"] or near["cpus"] for n, near in zip(ours["nodes"], theirs["nodes"], strict=True)] == [
        n["cpus"] for n in theirs["nodes"]
    ]
    for field in ("os_index", "memory_bytes", "allowed"):
        assert [n[field] for n in ours["nodes"]] == [n[field] for n in theirs["nodes"]], field


def test_hwloc_sees_the_same_devices(by_hwloc: dict[str, tuple[dict[str, Any], Path]]) -> None:
    theirs = {d["address"]: d for d in by_hwloc["eight nodes"][0]["devices"] if d["address"]}
    ours = {d.address: d for d in devices.read(eight_nodes().host()).pci}
    assert len(theirs) >= 10  # hwloc leaves out what it holds for unimportant
    for address, device in theirs.items():
        mine = ours[address]
        assert (mine.node, mine.class_code, mine.vendor, mine.device) == (
            device["node"],
            *(device["pci"][field] for field in ("class_code", "vendor", "device")),
        )
        assert (mine.bytes_per_s or 0) == pytest.approx(device["pci"]["bytes_per_s"] or 0, rel=1e-6)


@pytest.mark.parametrize("name", MACHINES)
def test_an_exported_description_says_the_same(name: str, by_hwloc: dict[str, tuple[dict[str, Any], Path]]) -> None:
    found, xml = by_hwloc[name]
    again = plain(topology.from_xml(xml))
    different = {field for field, value in found.items() if value != again[field]}
    assert different <= {"source", "devices", "cpus"}
    # A description has no has_cpu file, and the devices that were left out of the live reading.
    assert [c["node"] for c in again["cpus"]] == [c["node"] for c in found["cpus"]]


@pytest.mark.parametrize("name", MACHINES)
def test_in_memory_and_in_a_folder(name: str, tmp_path: Path) -> None:
    tree = MACHINES[name]()
    assert machine.read(tree.host()) == machine.named(str(tree.write(tmp_path)))


@pytest.mark.parametrize("name", MACHINES)
def test_every_cpu_is_in_one_core_package_and_cache_domain(name: str) -> None:
    shape = machine.read(MACHINES[name]().host()).topology
    numbers = [cpu.os_index for cpu in shape.cpus]
    assert sorted(cpu for domain in shape.llcs for cpu in domain) == numbers
    assert len(set(numbers)) == len(numbers)
    assert {cpu.package for cpu in shape.cpus} == set(range(shape.packages))
    assert set(numbers).isdisjoint(shape.offline)


# --- what is special about each


def test_memory_that_is_free() -> None:
    found = machine.read(eight_nodes().host())
    assert [m.node for m in found.memory] == list(range(8))
    for memory, node in zip(found.memory, found.topology.nodes, strict=True):
        assert memory.free_bytes * 4 == memory.cached_bytes * 8 == node.memory_bytes


def test_memory_without_numa_is_the_machines() -> None:
    (memory,) = machine.read(MACHINES["without NUMA"]().host()).memory
    assert (memory.free_bytes, memory.cached_bytes) == (1_024_000 << 10, 80_000 << 10)


def test_kinds_of_core_and_their_caches() -> None:
    shape = machine.read(MACHINES["hybrid"]().host()).topology
    assert shape.cpu_kinds == ("IntelAtom", "IntelCore")
    assert [cpu.kind for cpu in shape.cpus] == [1] * 8 + [0] * 8
    assert shape.core_count == 12
    assert sorted({cache.size_bytes >> 10 for cache in shape.caches if cache.level == 2}) == [1280, 2048]


def test_states_of_cpus() -> None:
    found = machine.read(MACHINES["partly offline"]().host())
    assert found.topology.offline == (1, 3, 5, 7), "what is possible but not there is not offline"
    assert found.cpus.isolated == (8, 9, 10, 11)
    assert found.cpus.nohz_full == (10, 11)


@pytest.mark.parametrize("text", ["(null)\n", "\n", "x-y\n"])
def test_an_unset_list_is_empty(text: str) -> None:
    tree = MACHINES["partly offline"]()
    tree.files[f"{CPU}/nohz_full"] = text
    assert machine.read(tree.host()).cpus.nohz_full == ()


def test_a_cpuset_of_v2_and_isolated_partitions() -> None:
    found = machine.read(in_a_container().host())
    assert [cpu.os_index for cpu in found.topology.cpus if cpu.allowed] == [2, 3]
    assert [node.os_index for node in found.topology.nodes if node.allowed] == [0]
    assert found.cpus.isolated == (6, 7)


@pytest.mark.parametrize("mounted_for_itself", [True, False])
def test_a_cpuset_of_v1(mounted_for_itself: bool) -> None:
    """A container sees the groups' root, or only its own group under the path that the host knows."""
    tree = in_a_container()
    mount = "/sys/fs/cgroup/cpuset"
    group = mount if mounted_for_itself else f"{mount}/docker/abc"
    tree.files |= {
        "/proc/self/cgroup": "4:memory:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
        "/proc/self/mounts": f"cgroup {mount} cgroup rw,relatime,cpuset 0 0\n",
        f"{group}/cpuset.cpus": "0-7\n",
        f"{group}/cpuset.effective_cpus": "5\n",
        f"{group}/cpuset.effective_mems": "1\n",
    }
    shape = topology.live(tree.host())
    assert [cpu.os_index for cpu in shape.cpus if cpu.allowed] == [5]
    assert [node.os_index for node in shape.nodes if node.allowed] == [1]


def test_without_a_cpuset_everything_is_allowed() -> None:
    assert all(cpu.allowed for cpu in topology.live(eight_nodes().host()).cpus)


def test_devices_of_a_loaded_machine() -> None:
    found = machine.read(eight_nodes().host()).devices
    nic = found.at("0000:81:00.0")
    assert nic is not None
    assert (nic.kind, nic.node, nic.driver, nic.names, nic.parent) == ("net", 5, "ice", ("ens1",), "0000:80:00.0")
    assert nic.link == Link(16.0, 8, 32.0, 16)
    assert nic.link.is_reduced
    assert nic.virtual == VirtualFunctions(64, tuple(f"0000:81:01.{n}" for n in range(6)))
    made = found.at("0000:81:01.0")
    assert made is not None
    assert (made.physical, made.link, made.names, made.node) == ("0000:81:00.0", None, ("ens1v0",), 5)
    ens1 = next(one for one in found.nics if one.name == "ens1")
    assert (ens1.rx_queues, ens1.tx_queues, ens1.speed_bits_per_s, ens1.node) == (16, 24, 100e9, 5)
    assert [(gpu.model, gpu.names, gpu.node) for gpu in found.gpus] == [("NVIDIA H100", ("card0",), 2)]
    nvme = next(disk for disk in found.blocks if disk.name == "nvme0n1")
    assert (nvme.address, nvme.node, nvme.queues, nvme.rotational) == ("0000:c1:00.0", 7, 32, False)
    assert nvme.size_bytes == 3_750_748_848 * 512
    assert len([disk for disk in found.blocks if disk.address == "0000:01:00.0"]) == 8


def test_a_name_space_with_several_paths_is_behind_the_first() -> None:
    tree = Tree()
    tree.cpus([(0,)], packages=[(0,)], caches=[])
    controller = tree.pci("0000:c1:00.0", 0x010802, node=3)
    subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.files[f"{subsystem}/nvme0n1/size"] = "8\n"
    tree.files[f"{controller}/nvme/nvme0/state"] = "live\n"
    tree.links |= {
        "/sys/block/nvme0n1": f"{subsystem}/nvme0n1",
        f"{subsystem}/nvme0n1/device": subsystem,
        f"{subsystem}/nvme0": f"{controller}/nvme/nvme0",
    }
    (disk,) = devices.read(tree.host()).blocks
    assert (disk.address, disk.node, disk.size_bytes) == ("0000:c1:00.0", 3, 4096)


def test_a_gpu_on_no_bus_and_an_interface_on_no_device() -> None:
    host = FakeHost(
        {
            "/sys/devices/platform/soc/gpu/drm/card0/dev": "",
            "/sys/devices/virtual/net/lo/operstate": "unknown\n",
            "/sys/devices/virtual/block/loop0/size": "8\n",
        },
        links={
            "/sys/class/drm/card0": "/sys/devices/platform/soc/gpu/drm/card0",
            "/sys/class/net/lo": "/sys/devices/virtual/net/lo",
            "/sys/block/loop0": "/sys/devices/virtual/block/loop0",
        },
    )
    found = devices.read(host)
    assert [(other.name, other.kind, other.node) for other in found.others] == [("card0", "gpu", UNKNOWN_NODE)]
    assert (found.nics, found.blocks, found.pci) == ((), (), ())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x020000, "net"),
        (0x030200, "gpu"),
        (0x120000, "accelerator"),
        (0x0B4000, "accelerator"),
        (0x060400, "bridge"),
        (0x0C0600, "net"),
        (0x080100, "dma"),
        (0x088000, "pci"),
        (0xFFFF00, "pci"),
        (0, "pci"),
    ],
)
def test_kinds_of_device(code: int, kind: str) -> None:
    assert kind_of(code) == kind


@pytest.mark.parametrize(
    ("link", "gigabytes"),
    [(Link(2.5, 1, None, None), 0.25), (Link(8, 8, None, None), 7.877), (Link(64, 16, None, None), 128.0)],
)
def test_what_a_link_carries(link: Link, gigabytes: float) -> None:
    assert link.bytes_per_s == pytest.approx(gigabytes * 1e9, rel=1e-3)
    assert not link.is_reduced
    assert Link(None, 8, 8.0, 8).bytes_per_s is None


# --- any damage


@settings(deadline=None)
@given(data=st.data())
def test_any_file_may_be_missing_or_nonsense(data: st.DataObject) -> None:
    tree = in_a_container()
    function = tree.pci("0000:00:01.0", 0x020000, node=1, link=("8.0 GT/s PCIe", 4, "16.0 GT/s PCIe", 8))
    tree.nic("eth0", function, queues=(2, 2), speed=1000)
    tree.functions("0000:00:01.0", ["0000:00:02.0"], total=4)
    paths, links = sorted(tree.files), sorted(tree.links)
    gone = data.draw(st.sets(st.sampled_from([*paths, *links]), max_size=20))
    odd = data.draw(st.dictionaries(st.sampled_from(paths), st.text("0123456789-,: \n.xfK", max_size=8), max_size=20))
    astray = data.draw(st.dictionaries(st.sampled_from(links), st.sampled_from([*links, "/nowhere"]), max_size=5))
    host = FakeHost(
        {path: odd.get(path, text) for path, text in tree.files.items() if path not in gone},
        links={link: astray.get(link, to) for link, to in tree.links.items() if link not in gone},
    )
    try:
        found = machine.read(host)
    except TopologyError:
        return
    json.dumps(found.to_dict(), allow_nan=False)


# --- descriptions


_counts = st.integers(1, 3)


@settings(deadline=None)
@given(packages=_counts, nodes=st.integers(0, 3), caches=st.integers(0, 2), cores=_counts, threads=_counts)
def test_any_synthetic_machine(packages: int, nodes: int, caches: int, cores: int, threads: int) -> None:
    levels = [
        f"pack:{packages}",
        f"numa:{nodes}" if nodes else "",
        f"l3:{caches}" if caches else "",
        f"core:{cores} pu:{threads}",
    ]
    found = machine.named(" ".join(level for level in levels if level))
    shape = found.topology
    numbers = [cpu.os_index for cpu in shape.cpus]
    assert numbers == list(range(packages * max(1, nodes) * max(1, caches) * cores * threads))
    assert sorted(cpu for domain in shape.llcs for cpu in domain) == numbers
    for cpu in shape.cpus:
        assert cpu.os_index in shape.llcs[cpu.llc]
        assert len([other for other in shape.cpus if other.core == cpu.core]) == threads
        assert len({other.package for other in shape.cpus if other.core == cpu.core}) == 1
    assert shape.node_count == packages * max(1, nodes) or (nodes == 0 and shape.node_count == 1)
    assert [len(row) for row in shape.distances] in ([], [shape.node_count] * shape.node_count)
    assert found.memory == ()
    assert found.to_dict()["offline"] == []


def test_devices_of_a_description(by_hwloc: dict[str, tuple[dict[str, Any], Path]]) -> None:
    found = machine.named(str(by_hwloc["eight nodes"][1])).devices
    nic = found.at("0000:81:00.0")
    assert nic is not None
    assert (nic.kind, nic.names, nic.node, nic.link, nic.virtual) == ("net", ("ens1",), 5, None, None)
    assert nic.bytes_per_s == pytest.approx(15.75e9, rel=1e-3)
    assert {one.name for one in found.nics} == {"ens1", "ens1v0", "ens1v1"}
    assert [gpu.address for gpu in found.gpus] == ["0000:41:00.0"]


def test_kinds_of_core_in_a_description(tmp_path: Path) -> None:
    xml = tmp_path / "hybrid.xml"
    code = (
        "import sys; from pyhwloc import Topology; from pyhwloc.bitmap import Bitmap\n"
        "shape = Topology.from_synthetic('pack:1 core:4 pu:1', load=True)\n"
        "for rank, (name, cpus) in enumerate((('Small', {2, 3}), ('Large', {0, 1}))):\n"
        "    shape.get_cpukinds().register(Bitmap.from_sched_set(cpus), rank, {'CoreType': name})\n"
        "shape.export_xml_file(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(xml)], check=True)
    shape = machine.named(str(xml)).topology
    assert shape.cpu_kinds == ("Small", "Large")
    assert [cpu.kind for cpu in shape.cpus] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a synthetic topology"),
        ("pack:2 core", "not a synthetic topology"),
        ("nowhere.xml", "no such file"),
        ("/nowhere", "no such file"),
        ("./nowhere", "no such file"),
        ("/etc/passwd", "not a topology that hwloc can read"),
    ],
)
def test_what_is_no_machine(text: str, words: str) -> None:
    with pytest.raises(TopologyError, match=words) as caught:
        machine.named(text)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


# --- this machine


def test_this_machine_against_other_witnesses() -> None:
    found = machine.read(LinuxHost())
    free = psutil.virtual_memory().free
    assert sum(m.free_bytes for m in found.memory) == pytest.approx(free, rel=0.5, abs=512 << 20)
    assert found.kernel == os.uname().release
    assert {d.address for d in found.devices.pci} == (
        set(os.listdir("/sys/bus/pci/devices")) if os.path.isdir("/sys/bus/pci/devices") else set()
    )
    sizes = {name: int(kb) << 10 for _, _, kb, name in re.findall(r"(\d+)\s+(\d+)\s+(\d+)\s+(\S+)", _partitions())}
    for disk in found.devices.blocks:
        assert disk.size_bytes == sizes.get(disk.name, disk.size_bytes)
    json.dumps(found.to_dict(), allow_nan=False)


def _partitions() -> str:
    return Path("/proc/partitions").read_text()


def test_allowed_agrees_with_hwloc_here() -> None:
    ours, theirs = topology_sysfs.read(LinuxHost(), source="sysfs"), topology.live(LinuxHost())
    assert [cpu.allowed for cpu in ours.cpus] == [cpu.allowed for cpu in theirs.cpus]
    assert [node.allowed for node in ours.nodes] == [node.allowed for node in theirs.nodes]


@pytest.mark.root
def test_a_real_cpuset_is_seen(tmp_path: Path) -> None:
    parent = Path("/sys/fs/cgroup/cpuset")
    if os.geteuid() or not (parent / "cpuset.cpus").exists() or os.cpu_count() == 1:
        pytest.skip("needs root, two CPUs and a cpuset hierarchy of v1; the tests in memory cover v2")
    group = parent / f"dna-test-{os.getpid()}"
    group.mkdir()
    code = (
        "from hal import machine; from hal.host import LinuxHost; from hal import topology_sysfs\n"
        "for shape in (machine.read(LinuxHost()).topology, topology_sysfs.read(LinuxHost(), source='')):\n"
        "    print([cpu.os_index for cpu in shape.cpus if cpu.allowed], shape.cpu_count)"
    )
    try:
        (group / "cpuset.mems").write_text("0")
        (group / "cpuset.cpus").write_text("1")
        enter = f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'
        done = subprocess.run(
            ["sh", "-c", enter, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
    finally:
        group.rmdir()
    assert done.stdout.splitlines() == [f"[1] {os.sysconf('SC_NPROCESSORS_ONLN')}"] * 2


# --- JSON


def test_what_is_unknown_is_null() -> None:
    document: dict[str, Any] = machine.named("pack:1 core:2 pu:1").to_dict()
    assert (document["model"], document["kernel"], document["arch"]) == (None, None, None)
    assert document["nodes"][0]["free_bytes"] is None
    assert document["cpus"][0]["kind"] is None
    shape = topology.from_synthetic("pu:1")
    (lost,) = (replace(cpu, node=UNKNOWN_NODE) for cpu in shape.cpus)
    nowhere: dict[str, Any] = Machine(replace(shape, cpus=(lost,))).to_dict()
    assert nowhere["cpus"][0]["node"] is None


def test_nearest_cpus_of_memory_only_nodes() -> None:
    document: dict[str, Any] = machine.read(memory_only_nodes().host()).to_dict()
    assert [(node["node"], node["cpus"]) for node in document["nodes"]] == [
        (0, [0, 1, 2, 3]),
        (2, [4, 5, 6, 7]),
        (3, []),
        (4, []),
    ]


def test_errors_are_ours() -> None:
    with pytest.raises(HalError):
        machine.read(FakeHost())
