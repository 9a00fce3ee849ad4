"""What a machine allows: on this kernel, on machines made up, and on machines that break in every way."""

import ctypes
import errno
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import capabilities
from hal.capabilities import CHANGE, MEASURE, Capability, Report, examine
from hal.checks import environment, perf
from hal.checks.situation import CAPABILITY_BITS, effective_capabilities, situation, this_command
from hal.checks.system import machine_line
from hal.errors import HalError, translate
from hal.fake import FakeHost
from hal.host import CommandResult, LinuxHost

ROOT = Path(__file__).parents[2]
ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"
INITIAL = {
    "/proc/self/ns/pid": "pid:[4026531836]",
    "/proc/self/ns/user": "user:[4026531837]",
    "/proc/self/ns/uts": "uts:[4026531838]",
    "/proc/self/ns/ipc": "ipc:[4026531839]",
    "/proc/self/ns/cgroup": "cgroup:[4026531835]",
}
CONTAINED = {link: text.replace("40265318", "40265399") for link, text in INITIAL.items() if "user" not in link} | {
    "/proc/self/ns/user": INITIAL["/proc/self/ns/user"]
}


@dataclass(frozen=True)
class State:
    """What an examination must leave as it was."""

    descriptors: tuple[str, ...]
    affinity: frozenset[int]
    settings: tuple[str, ...]


SETTINGS = (
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/numa_balancing",
    "/proc/self/mountinfo",
)


def state() -> State:
    return State(
        tuple(sorted(os.listdir("/proc/self/fd"))),
        frozenset(os.sched_getaffinity(0)),
        tuple(Path(path).read_text() for path in SETTINGS if Path(path).exists()),
    )


@dataclass(frozen=True)
class Examined:
    report: Report
    before: State
    after: State


@pytest.fixture(scope="module")
def examined() -> Examined:
    before = state()
    return Examined(examine(LinuxHost()), before, state())


@pytest.fixture
def here(examined: Examined) -> Report:
    return examined.report


def found(report: Report, name: str) -> Capability:
    one = report.get(name)
    assert one is not None, name
    return one


def assert_complete(report: Report) -> None:
    names = [one.name for one in report.capabilities]
    assert len(set(names)) == len(names)
    for one in report.capabilities:
        assert one.group in (MEASURE, CHANGE)
        assert one.name
        assert one.area
        if one.available is not True:
            assert one.reason, one
            assert one.remedy, one
    assert report.verdict()
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.long
def test_here_everything_missing_has_reason_and_remedy(here: Report) -> None:
    assert_complete(here)
    assert not [one for one in here.capabilities if "the check failed" in one.reason]
    assert {one.group for one in here.capabilities} == {MEASURE, CHANGE}


def test_bpf_here_is_what_the_kernel_says(here: Report) -> None:
    """The witness makes a map by itself."""
    attribute = ctypes.create_string_buffer(struct.pack("<IIII", 2, 4, 8, 1), 72)
    try:
        descriptor = LinuxHost().syscall("bpf", 0, ctypes.addressof(attribute), 72)
    except HalError:
        assert found(here, "bpf map").available is False
    else:
        os.close(descriptor)
        assert found(here, "bpf map").available is True


def test_software_events_here(here: Report) -> None:
    if "denied" in found(here, "perf task-clock").reason:
        pytest.skip("perf events are refused; run as root or lower kernel.perf_event_paranoid")
    assert all(found(here, f"perf {name}").available for name in ("task-clock", "page-faults", "context-switches"))


def test_nothing_stays_open_attached_or_changed(examined: Examined) -> None:
    assert examined.after == examined.before


@pytest.mark.long
@pytest.mark.root
def test_as_another_user_on_this_kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user; run the tests with sudo")
    code = (
        "import os, json, importlib.metadata, csv\n"
        "from hal import capabilities, topology_hwloc\nfrom hal.bpf import compiler\nfrom hal.host import LinuxHost\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "print(json.dumps(capabilities.examine(LinuxHost(), command='/venv/bin/dna doctor').to_dict()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    by_name = {one["name"]: one for one in json.loads(done.stdout)["capabilities"]}
    assert by_name["privileges"]["available"] is False
    assert by_name["privileges"]["remedy"] == "run it as root: sudo /venv/bin/dna doctor"
    assert by_name["cgroup settings"]["available"] in (False, True)
    assert "this user's" in by_name["cpu affinity"]["detail"]
    for one in by_name.values():
        assert one["available"] is True or (one["reason"] and one["remedy"])


def raising(number: int) -> Callable[..., int]:
    def refuse(*_arguments: int) -> int:
        raise translate(number, "bpf", "call")

    return refuse


def fake(
    files: dict[str, str] | None = None, *, links: dict[str, str] | None = None, uid: int = 0, number: int = errno.EPERM
) -> FakeHost:
    refuse = raising(number)
    return FakeHost(
        {"/proc/stat": "cpu0 1\n", "/proc/self/status": ALL_CAPABILITIES, **(files or {})},
        links=INITIAL if links is None else links,
        uid=uid,
        syscalls=dict.fromkeys(("bpf", "perf_event_open", "sched_getaffinity", "move_pages"), refuse),
    )


def test_a_user_is_given_the_command_with_sudo() -> None:
    host = fake({"/proc/self/status": "CapEff:\t0000000000000000\n"}, uid=1000)
    report = examine(host, command="/srv/tools/.venv/bin/dna profile --pid 7")
    assert_complete(report)
    one = found(report, "bpf raw tracepoint")
    assert one.reason == "needs root, or CAP_BPF and CAP_PERFMON"
    assert one.remedy == "run it as root: sudo /srv/tools/.venv/bin/dna profile --pid 7"


def test_root_in_a_container_is_given_the_missing_capability() -> None:
    host = fake({"/proc/self/status": "CapEff:\t00000000a80425fb\n", "/.dockerenv": ""}, links=CONTAINED)
    report = examine(host)
    one = found(report, "bpf raw tracepoint")
    assert one.reason == "root in a container without CAP_BPF and CAP_PERFMON"
    assert "--cap-add=BPF --cap-add=PERFMON" in one.remedy
    assert "--pid=host" in found(report, "host process ids").remedy
    assert report.situation.container == "docker"


def test_root_in_a_container_with_every_capability_hears_of_the_filter() -> None:
    one = found(examine(fake({"/.dockerenv": ""}, links=CONTAINED)), "bpf map")
    assert "seccomp" in one.reason
    assert "seccomp=unconfined" in one.remedy


def test_root_of_a_user_namespace_is_told_so() -> None:
    links = INITIAL | {"/proc/self/ns/user": "user:[4026532000]"}
    report = examine(fake(links=links))
    assert found(report, "privileges").available is False
    assert "user namespace" in found(report, "bpf map").reason
    assert not report.situation.has("SYS_NICE")


def test_a_virtual_machine_made_of_an_image_is_no_container() -> None:
    assert situation(fake({"/.dockerenv": ""})).container == ""


def test_root_with_everything_hears_the_kernels_words() -> None:
    one = found(examine(fake(number=errno.EPERM)), "bpf map")
    assert "Operation not permitted" in one.reason
    assert "sudo" not in one.remedy


def test_lockdown_is_named() -> None:
    one = found(examine(fake({"/sys/kernel/security/lockdown": "none integrity [confidentiality]\n"})), "bpf map")
    assert "locked down (confidentiality)" in one.reason


def test_other_errors_are_not_called_permission() -> None:
    one = found(examine(fake(number=errno.EMFILE)), "bpf map")
    assert "Too many open files" in one.reason
    assert "sudo" not in one.remedy
    assert "root" not in one.remedy


def test_a_missing_pmu_is_not_called_permission() -> None:
    """Without privilege the kernel first answers EACCES; without kernel mode it tells the real reason."""
    exclude_kernel = 1 << 5

    def refuse(attribute: int, *_rest: int) -> int:
        flags = ctypes.c_uint64.from_address(attribute + 40).value
        raise translate(errno.ENOENT if flags & exclude_kernel else errno.EACCES, "perf_event_open", "call")

    host = fake({"/proc/self/status": "CapEff:\t0\n"}, uid=1000)
    host.syscalls["perf_event_open"] = refuse
    one = found(examine(host), "perf cycles")
    assert one.reason == "no performance monitoring unit is visible"
    assert "hypervisor" in one.remedy


def test_an_event_that_this_pmu_lacks() -> None:
    host = fake({"/sys/bus/event_source/devices/cpu/type": "4\n"}, number=errno.ENOENT)
    assert "(cpu) does not count it" in found(examine(host), "perf stalled-cycles-backend").reason


def test_user_mode_only_is_available_with_a_caveat() -> None:
    def refuse_kernel(attribute: int, *_rest: int) -> int:
        if ctypes.c_uint64.from_address(attribute + 40).value & 1 << 5:
            return 1000
        raise translate(errno.EACCES, "perf_event_open", "call")

    host = fake({"/proc/self/status": "CapEff:\t0\n"}, uid=1000)
    host.syscalls |= {"perf_event_open": refuse_kernel, "ioctl": lambda *_: 0, "close": lambda _: 0}
    one = found(examine(host), "perf cycles")
    assert one.available is True
    assert one.detail == "user mode only"
    assert "sudo" in one.remedy


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "apt install python3-bpfcc"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt install python3-bpfcc"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install python3-bcc"),
        ("ID=arch\n", "pacman -S python-bcc"),
    ],
)
def test_bcc_is_installed_as_the_distribution_does(release: str, command: str) -> None:
    assert command in found(examine(fake({"/etc/os-release": release})), "bcc").remedy


def test_hybrid_cpus_are_asked_kind_by_kind() -> None:
    """The upper half of the configuration names the PMU; here only the big cores count stalls."""
    base = "/sys/bus/event_source/devices"
    files = {f"{base}/cpu_core/type": "4\n", f"{base}/cpu_core/cpus": "0-3\n"}
    files |= {f"{base}/cpu_atom/type": "10\n", f"{base}/cpu_atom/cpus": "4-7\n"}

    def only_big_cores(attribute: int, *_rest: int) -> int:
        kind, _size, config = struct.unpack("<IIQ", ctypes.string_at(attribute, 16))
        if kind == 0 and config >> 32 == 10 and config & 0xFF == 8:
            raise translate(errno.ENOENT, "perf_event_open", "call")
        return 1000

    host = fake(files)
    host.syscalls |= {"perf_event_open": only_big_cores, "ioctl": lambda *_: 0, "close": lambda _: 0}
    report = examine(host)
    assert found(report, "perf cycles").detail == "cpu_atom, cpu_core"
    assert found(report, "perf stalled-cycles-backend").detail == "cpu_core"


def test_cgroups_and_pressure() -> None:
    mounted = (
        "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
        "31 1 0:27 / /sys/kernel/tracing rw - tracefs tracefs rw\n"
    )
    files = {
        "/proc/self/mountinfo": mounted,
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
        "/sys/fs/cgroup/cgroup.procs": "",
        "/sys/fs/cgroup/user.slice/cpu.pressure": "some avg10=0\n",
        "/proc/self/cgroup": "0::/user.slice\n",
        "/proc/pressure/cpu": "some avg10=0\n",
    }
    report = examine(fake(files))
    assert found(report, "cgroups").detail == "v2 at /sys/fs/cgroup; controllers: cpuset cpu memory"
    assert found(report, "psi").available is True
    assert found(report, "psi per cgroup").detail == "/sys/fs/cgroup/user.slice/cpu.pressure"
    assert found(report, "cgroup settings").available is True
    read_only = files | {"/proc/self/mountinfo": mounted.replace(" rw,nosuid", " ro,nosuid")}
    assert "read-only" in found(examine(fake(read_only)), "cgroup settings").reason


def test_energy_meters_that_only_root_may_read() -> None:
    zone = "/sys/class/powercap/intel-rapl:0/energy_uj"
    host = fake({zone: "1\n", "/proc/self/status": "CapEff:\t0\n"}, uid=1000)
    host.denied.add(zone)
    assert found(examine(host, command="dna doctor"), "rapl powercap").remedy == "run it as root: sudo dna doctor"
    assert found(examine(fake({zone: "1\n"})), "rapl powercap").detail == "intel-rapl:0"


def test_examining_writes_nothing() -> None:
    host = fake({"/proc/sys/kernel/numa_balancing": "1\n"})
    examine(host)
    assert host.writes == []


class Strange(FakeHost):
    """A machine on which any operation may fail in any way, or answer nonsense."""

    def __init__(self, seed: int, share: float) -> None:
        known = [
            f"/proc/{name}" for name in ("stat", "mounts", "self/status", "self/mountinfo", "self/cgroup", "1/maps")
        ]
        known += [
            "/sys/devices/system/cpu/online",
            "/sys/kernel/btf/vmlinux",
            "/proc/kallsyms",
            "/proc/sys/kernel/perf_event_paranoid",
        ]
        known += ["/sys/bus/event_source/devices/kprobe/type", "/sys/kernel/tracing/events/sched/sched_switch/id"]
        known += ["/sys/bus/event_source/devices/power/type", "/sys/bus/event_source/devices/power/events/energy-pkg"]
        self._random = random.Random(seed)
        self._share = share
        super().__init__(dict.fromkeys(known, ""), links=INITIAL, uid=self._random.choice([0, 1000]))

    def _maybe_fail(self) -> None:
        if self._random.random() < self._share:
            raise translate(self._random.choice([*errno.errorcode, 0, 4095]), "something", "do something with")

    def _text(self) -> str:
        pieces = [
            "0",
            "1-",
            "7",
            "\n",
            " - ",
            "cgroup2",
            "[always]",
            ":",
            "ffff",
            "rw",
            "a b c d e f g",
            "\0",
            "é",
            "0::/x",
        ]
        return "".join(self._random.choices(pieces, k=self._random.randrange(12)))

    def read_text(self, path: str) -> str:
        self._maybe_fail()
        return self._text()

    def read_bytes(self, path: str) -> bytes:
        self._maybe_fail()
        return self._random.choice([b"\x9f\xeb", b""]) + self._random.randbytes(self._random.randrange(64))

    def list_dir(self, path: str) -> list[str]:
        self._maybe_fail()
        return self._random.choices(["node0", "cpu", "1", "energy-pkg", "x\ny", "", "hugepages-9kB", "index0"], k=3)

    def exists(self, path: str) -> bool:
        return self._random.random() > self._share

    def read_link(self, path: str) -> str:
        self._maybe_fail()
        return self._text()

    def owner(self, path: str) -> int:
        self._maybe_fail()
        return self._random.randrange(3)

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        self._maybe_fail()
        return CommandResult(self._random.randrange(3), self._text(), self._text())

    def syscall(self, name: str, *arguments: int) -> int:
        self._maybe_fail()
        return self._random.randrange(-1, 1 << 20)


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_no_machine_is_too_strange(seed: int, share: float) -> None:
    assert_complete(examine(Strange(seed, share)))


@given(st.text())
def test_any_status_can_be_read(text: str) -> None:
    held = effective_capabilities(text)
    assert held is None or held <= set(CAPABILITY_BITS)


def test_capabilities_are_parsed() -> None:
    assert effective_capabilities("Name:\tx\nCapEff:\t0000008000000000\n") == frozenset({"BPF"})
    assert effective_capabilities("CapEff:\t0000000000200000\n") == frozenset({"SYS_ADMIN"})
    assert effective_capabilities("Name:\tx\n") is None


def test_sys_admin_stands_for_bpf_and_perfmon() -> None:
    who = situation(fake({"/proc/self/status": "CapEff:\t0000000000200000\n"}))
    assert who.has("BPF", "PERFMON")
    assert not who.has("SYS_NICE")


def test_the_command_to_repeat_is_absolute(tmp_path: Path) -> None:
    script = tmp_path / "bin dir" / "dna"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert this_command([str(script), "profile", "--comm", "a b"]) == f"'{script}' profile --comm 'a b'"


def test_the_command_to_repeat_works_from_a_checkout() -> None:
    """Whatever it is that runs now, the command says it so that another working directory does not matter."""
    command = this_command(["cli.py", "doctor", "--json"])
    assert command.startswith("/")
    assert command.endswith("doctor --json")


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast 9000 @ 2.5GHz\n", "Fast 9000 @ 2.5GHz"),
        ("processor\t: 0\nCPU part\t: 0xd08\n\nModel\t\t: Single Board 4\n", "Single Board 4"),
        (
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\nCPU part\t: 0xd0c\n",
            "CPU part 0xd0c",
        ),
        ("", ""),
    ],
)
def test_processors_have_names(cpuinfo: str, model: str) -> None:
    assert machine_line(fake({"/proc/cpuinfo": cpuinfo})) == model


def test_import_names_of_our_own() -> None:
    origins = dict.fromkeys(environment.IMPORT_NAMES, "/site")
    owners = {name: ["workload-dna"] for name in environment.IMPORT_NAMES}
    assert environment.import_names(owners, origins).available is True


def test_an_import_name_that_somebody_else_owns_too() -> None:
    origins = dict.fromkeys(environment.IMPORT_NAMES, "/site")
    one = environment.import_names({"ui": ["workload-dna", "django-ui"], "numpy": ["numpy"]}, origins)
    assert one.available is False
    assert "ui (django-ui)" in one.reason
    assert "pipx" in one.remedy


def test_an_import_name_that_comes_from_elsewhere() -> None:
    origins = dict.fromkeys(environment.IMPORT_NAMES, "/site") | {"rules": "/opt/own"}
    assert "rules (/opt/own)" in environment.import_names({}, origins).reason


def test_verdict_without_anything() -> None:
    first, second = examine(fake({"/proc/self/status": "CapEff:\t0\n"}, uid=1000, number=errno.EACCES)).verdict()[:2]
    assert first.startswith("no eBPF (bpf map: needs root")
    assert second.startswith("no hardware counters")


def test_every_event_of_the_table_is_tried() -> None:
    names = {one.name for one in examine(fake()).capabilities}
    assert {f"perf {name}" for name in (*perf.HARDWARE, *perf.SOFTWARE)} <= names


def test_probe_finds_what_examine_finds() -> None:
    assert capabilities.probe(fake()) == examine(fake()).capabilities
