"""Topologies of machines we have, machines we do not have, and machines that hide most of themselves."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import topology, topology_sysfs
from hal.errors import EXIT_USAGE, TopologyError
from hal.fake import FakeHost
from hal.host import LinuxHost
from hal.topology import UNKNOWN_NODE, Topology

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "topologies"
DESCRIPTIONS = sorted(SHARED.glob("*.xml"))

needs_descriptions = pytest.mark.skipif(
    not DESCRIPTIONS,
    reason="no machine descriptions beside the checkout; put hwloc's tests/hwloc/xml in ../shared/topologies",
)


def assert_consistent(shape: Topology) -> None:
    """What every topology promises, wherever it was read."""
    indices = [cpu.os_index for cpu in shape.cpus]
    assert indices == sorted(set(indices))
    assert [node.os_index for node in shape.nodes] == sorted({node.os_index for node in shape.nodes})
    online = set(indices)
    known = {node.os_index for node in shape.nodes}
    assert sorted(cpu for domain in shape.llcs for cpu in domain) == indices, "every CPU is in one last-level domain"
    for cpu in shape.cpus:
        assert cpu.os_index in shape.llcs[cpu.llc]
        assert cpu.node in known or cpu.node == UNKNOWN_NODE
        if cpu.node != UNKNOWN_NODE:
            (node,) = (node for node in shape.nodes if node.os_index == cpu.node)
            assert cpu.os_index in node.cpus
    assert all(set(cache.cpus) <= online and cache.level >= 1 for cache in shape.caches)
    assert {cpu.kind for cpu in shape.cpus} <= set(range(max(1, len(shape.cpu_kinds))))
    assert shape.packages >= 1
    if shape.distances:
        assert [len(row) for row in shape.distances] == [shape.node_count] * shape.node_count
    for array in (shape.node_of_cpu(), shape.llc_of_cpu(), shape.core_of_cpu()):
        assert array.shape == (max(indices) + 1,)
        assert array.dtype == np.int64
        absent = [cpu for cpu in range(max(indices)) if cpu not in online]
        assert (array[absent] == -1).all()


def test_live_agrees_with_the_kernel() -> None:
    shape = topology.live(LinuxHost())
    assert shape.source == "hwloc"
    assert_consistent(shape)
    affinity = os.sched_getaffinity(0)
    assert {cpu.os_index for cpu in shape.cpus if cpu.allowed} >= affinity
    assert shape.cpu_count == os.sysconf("SC_NPROCESSORS_ONLN")


def test_hwloc_and_sysfs_tell_the_same() -> None:
    ours, theirs = topology_sysfs.read(LinuxHost(), source="sysfs"), topology.live(LinuxHost())
    assert [(cpu.os_index, cpu.core, cpu.node, cpu.llc) for cpu in ours.cpus] == [
        (cpu.os_index, cpu.core, cpu.node, cpu.llc) for cpu in theirs.cpus
    ]
    assert ours.caches == theirs.caches
    assert [node.cpus for node in ours.nodes] == [node.cpus for node in theirs.nodes]


def test_a_cpuset_hides_no_cpu() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from hal import topology; from hal.host import LinuxHost;"
        "print(topology.live(LinuxHost()).cpu_count)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_without_pyhwloc_the_kernels_files_do(tmp_path: Path) -> None:
    broken = tmp_path / "pyhwloc"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libhwloc.so: cannot open shared object file')")
    code = (
        "from hal import topology; from hal.host import LinuxHost; from hal.errors import TopologyError\n"
        "shape = topology.live(LinuxHost()); print(shape.cpu_count, shape.source)\n"
        "try:\n    topology.from_synthetic('pu:2')\nexcept TopologyError as error:\n    print(error, '|', error.remedy)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    live, synthetic = done.stdout.splitlines()
    assert live.startswith(f"{os.sysconf('SC_NPROCESSORS_ONLN')} sysfs (pyhwloc cannot be used: libhwloc.so")
    assert "pyhwloc cannot be used" in synthetic
    assert "pip install" in synthetic


def test_importing_topology_does_not_import_pyhwloc() -> None:
    code = "import sys, hal.topology; print('pyhwloc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_synthetic_machine() -> None:
    shape = topology.from_synthetic("pack:2 numa:2 l3:1 core:8 pu:2")
    assert_consistent(shape)
    assert (shape.cpu_count, shape.core_count, shape.node_count, shape.packages, shape.llc_count) == (64, 32, 4, 2, 4)
    assert shape.node_of_cpu()[[0, 15, 16, 63]].tolist() == [0, 0, 1, 3]
    assert shape.llc_of_cpu()[[0, 16, 32, 48]].tolist() == [0, 1, 2, 3]
    assert shape.core_of_cpu()[[0, 1, 2]].tolist() == [0, 0, 1]


def test_without_caches_a_package_is_one_domain() -> None:
    assert topology.from_synthetic("pack:2 core:2 pu:1").llcs == ((0, 1), (2, 3))


@settings(deadline=None)
@given(
    packages=st.integers(1, 3),
    nodes=st.integers(1, 3),
    caches=st.integers(1, 2),
    cores=st.integers(1, 4),
    threads=st.integers(1, 2),
)
def test_any_synthetic_machine_is_consistent(packages: int, nodes: int, caches: int, cores: int, threads: int) -> None:
    shape = topology.from_synthetic(f"pack:{packages} numa:{nodes} l3:{caches} core:{cores} pu:{threads}")
    assert_consistent(shape)
    assert shape.cpu_count == packages * nodes * caches * cores * threads
    assert shape.node_count == packages * nodes
    assert shape.llc_count == packages * nodes * caches


@pytest.mark.parametrize("text", ["", "bogus:2", "pack:2 core", "pu:0", "pu:-1"])
def test_wrong_synthetic_description(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TopologyError, match="not a synthetic topology") as caught:
        topology.from_synthetic(text)
    assert caught.value.remedy
    assert caught.value.exit_code == EXIT_USAGE


@needs_descriptions
@pytest.mark.parametrize("path", DESCRIPTIONS, ids=lambda path: path.stem)
def test_every_described_machine_is_consistent(path: Path) -> None:
    shape = topology.from_xml(path)
    assert_consistent(shape)
    assert shape.source == f"hwloc XML {path}"


def described(name: str) -> Topology:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not there; put hwloc's tests/hwloc/xml in ../shared/topologies")
    return topology.from_xml(path)


def test_memory_without_cpus_and_cpus_without_memory() -> None:
    shape = described("16amd64-8n2c-cpusets.xml")
    empty = [node.os_index for node in shape.nodes if not node.cpus]
    assert empty == [4, 5]
    assert shape.node_of_cpu()[2] == 1
    assert shape.node_of_cpu()[0] == UNKNOWN_NODE, "its node is outside the description"
    assert shape.distance(1, 4) == 20.0
    assert shape.distance(4, 4) == 10.0
    assert shape.distance(0, 1) is None


def test_offline_cpus_are_left_out() -> None:
    shape = described("16em64t-4s2c2t-offlines.xml")
    assert [cpu.os_index for cpu in shape.cpus] == [0, 1, 3, 4, 6, 12, 15]


def test_kinds_of_core() -> None:
    shape = described("fakecpukinds.xml")
    assert shape.cpu_kinds == ("MySmallCore", "YouBigcore", "IntelCore")
    assert [cpu.kind for cpu in shape.cpus] == [0, 0, 1, 2]


def test_devices_have_their_node() -> None:
    shape = described("96em64t-4n4d3ca2co-pci.xml")
    cards = {device.name: device for device in shape.devices}
    assert cards["eth2"].kind == "net"
    assert cards["eth2"].address == "0000:32:00.0"
    assert cards["eth2"].node == 1
    assert shape.llc_count == 16


@pytest.mark.parametrize("text", ["", "hello", "<topology>", "<?xml version='1.0'?><topology version='3.0'/>"])
def test_wrong_xml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machine.xml"
    path.write_text(text)
    with pytest.raises(TopologyError, match="not a topology that hwloc can read") as caught:
        topology.from_xml(path)
    assert "lstopo" in caught.value.remedy


def test_a_wrong_file_leaves_no_noise_behind(tmp_path: Path) -> None:
    path = tmp_path / "machine.xml"
    path.write_text("hello")
    code = f"from hal import topology\ntry:\n    topology.from_xml({str(path)!r})\nexcept topology.TopologyError:\n    pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_missing_xml(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="no such file"):
        topology.from_xml(tmp_path / "none.xml")


CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"


def machine() -> dict[str, str]:
    """Two packages of two SMT cores, a node each and one without CPUs; CPU 7 is offline."""
    files = {f"{CPU}/online": "0-6\n", f"{NODE}/node2/cpulist": "\n", f"{NODE}/node2/distance": "17 28 10\n"}
    for cpu in range(7):
        package, sibling = cpu // 4, cpu ^ 1
        base = f"{CPU}/cpu{cpu}"
        files |= {
            f"{base}/topology/physical_package_id": f"{package * 5}\n",
            f"{base}/topology/thread_siblings_list": f"{min(cpu, sibling)}-{max(cpu, sibling)}\n",
            f"{base}/cache/index0/level": "1\n",
            f"{base}/cache/index0/type": "Data\n",
            f"{base}/cache/index0/size": "32K\n",
            f"{base}/cache/index0/shared_cpu_list": f"{min(cpu, sibling)}-{max(cpu, sibling)}\n",
            f"{base}/cache/index1/level": "1\n",
            f"{base}/cache/index1/type": "Instruction\n",
            f"{base}/cache/index3/level": "3\n",
            f"{base}/cache/index3/type": "Unified\n",
            f"{base}/cache/index3/size": "16M\n",
            f"{base}/cache/index3/shared_cpu_list": "0-3\n" if package == 0 else "4-7\n",
        }
    for node, cpus in ((0, "0-3"), (1, "4-7")):
        files[f"{NODE}/node{node}/cpulist"] = cpus
        files[f"{NODE}/node{node}/meminfo"] = f"Node {node} MemTotal:  1024 kB\nNode {node} MemFree: 1 kB\n"
        files[f"{NODE}/node{node}/distance"] = ("10 21 17\n", "21 10 28\n")[node]
    return files


def test_a_machine_in_memory() -> None:
    shape = topology.live(FakeHost(machine()))
    assert_consistent(shape)
    assert shape.source == "sysfs"
    assert (shape.cpu_count, shape.core_count, shape.packages, shape.node_count) == (7, 4, 2, 3)
    assert shape.llcs == ((0, 1, 2, 3), (4, 5, 6))
    assert shape.node_of_cpu().tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert shape.nodes[0].memory_bytes == 1 << 20
    assert shape.nodes[2].cpus == ()
    assert shape.distance(1, 2) == 28.0
    assert [cache.size_bytes for cache in shape.caches if cache.level == 3] == [16 << 20, 16 << 20]


def test_a_kernel_without_numa() -> None:
    files = {path: text for path, text in machine().items() if not path.startswith(NODE)}
    shape = topology.live(FakeHost(files | {"/proc/meminfo": "MemTotal:    2048 kB\n"}))
    assert_consistent(shape)
    assert [(node.os_index, node.cpus, node.memory_bytes) for node in shape.nodes] == [(0, tuple(range(7)), 2 << 20)]


@pytest.mark.parametrize(
    "files",
    [
        {"/proc/stat": "cpu  1 2\ncpu0 1 2\ncpu3 1 2\nintr 5\n"},
        {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: X\n\nprocessor\t: 3\n"},
    ],
)
def test_only_proc_tells_the_cpus(files: dict[str, str]) -> None:
    shape = topology.live(FakeHost(files))
    assert_consistent(shape)
    assert [cpu.os_index for cpu in shape.cpus] == [0, 3]


def test_nothing_tells_the_cpus() -> None:
    with pytest.raises(TopologyError, match="names a CPU") as caught:
        topology.live(FakeHost())
    assert caught.value.remedy


@settings(deadline=None)
@given(st.data())
def test_any_part_of_sysfs_may_be_missing_or_nonsense(data: st.DataObject) -> None:
    files = machine()
    paths = sorted(files)
    gone = data.draw(st.sets(st.sampled_from(paths)))
    odd = data.draw(st.dictionaries(st.sampled_from(paths), st.text("0123456789-,: \nKMx", max_size=8), max_size=20))
    left = {path: odd.get(path, text) for path, text in files.items() if path not in gone}
    try:
        shape = topology.live(FakeHost(left | {"/proc/stat": "cpu0 1\n"}))
    except TopologyError:
        return
    assert_consistent(shape)
