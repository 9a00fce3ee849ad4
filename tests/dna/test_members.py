"""Who belongs to a target: trees, names, cgroups of every set-up, units, containers, other users' processes."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.errors import PermissionNeededError, TargetError, TargetGoneError
from dna.members import Members, resolve, tree
from dna.target import Target
from hal import cgroups
from hal.fake import FakeHost
from hal.host import CommandResult
from hal.processes import read_process


def stat(pid: int, comm: str, parent: int, start: int, *, state: str = "S", threads: int = 1) -> str:
    fields = [state, str(parent), *["0"] * 15, str(threads), "0", str(start), "0", "0"]
    return f"{pid} ({comm}) {' '.join(fields)}\n"


class Machine(FakeHost):
    """A machine of processes: ``spawn`` and ``end`` change it."""

    def __init__(self, **options: object) -> None:
        super().__init__({"/proc/self/status": "CapEff:\t0000000000000000\n"}, **options)  # type: ignore[arg-type]
        self.spawn(1, parent=0)

    def spawn(
        self, pid: int, *, parent: int = 1, comm: str = "job", start: int = 0, tids: tuple[int, ...] = (), uid: int = 0
    ) -> None:
        threads = tids or (pid,)
        self.files[f"/proc/{pid}/stat"] = stat(pid, comm, parent, start or pid, threads=len(threads))
        self.files[f"/proc/{pid}/comm"] = f"{comm}\n"
        for tid in threads:
            self.files[f"/proc/{pid}/task/{tid}/stat"] = ""
        self.owners[f"/proc/{pid}"] = uid

    def end(self, pid: int) -> None:
        for path in [path for path in self.files if path.startswith(f"/proc/{pid}/")]:
            del self.files[path]

    def reparent(self, pid: int, parent: int) -> None:
        process = read_process(self, pid)
        assert process
        self.files[f"/proc/{pid}/stat"] = stat(pid, process.comm, parent, process.start)


# --- processes


def test_names_may_hold_anything() -> None:
    host = FakeHost({"/proc/7/stat": stat(7, "a) R 1 (b", 3, 99)})
    process = read_process(host, 7)
    assert process is not None
    assert (process.comm, process.parent, process.start) == ("a) R 1 (b", 3, 99)


@pytest.mark.parametrize(
    ("state", "threads", "there"),
    [("R", 1, True), ("D", 1, True), ("T", 1, True), ("Z", 1, False), ("Z", 0, False), ("X", 1, False), ("Z", 3, True)],
)
def test_zombies_are_gone_unless_other_threads_go_on(state: str, threads: int, there: bool) -> None:
    host = FakeHost({"/proc/7/stat": stat(7, "job", 1, 99, state=state, threads=threads)})
    assert (read_process(host, 7) is not None) == there


def test_an_ended_first_thread_is_not_a_member() -> None:
    host = Machine()
    host.spawn(7, tids=(7, 8, 9))
    host.files["/proc/7/stat"] = stat(7, "job", 1, 7, state="Z", threads=3)
    assert resolve(host, Target.pid(7)).tids() == {8, 9}


# --- trees


def test_a_tree_is_the_process_and_its_descendants() -> None:
    host = Machine()
    host.spawn(10, tids=(10, 11))
    host.spawn(20, parent=10)
    host.spawn(30, parent=20, tids=(30, 31, 32))
    host.spawn(40)
    members = resolve(host, Target.pid(10))
    assert members.kind == "processes"
    assert members.pids() == {10, 20, 30}
    assert members.threads() == {10: {10, 11}, 20: {20}, 30: {30, 31, 32}}
    assert members.tids() == {10, 11, 20, 30, 31, 32}
    assert members.cgroup_dir("cpu") is None


def test_new_threads_and_children_are_what_refresh_returns() -> None:
    host = Machine()
    host.spawn(10)
    members = resolve(host, Target.pid(10))
    host.spawn(10, tids=(10, 12))
    host.spawn(20, parent=10)
    assert members.refresh() == {12, 20}
    assert members.refresh() == frozenset()


def test_orphans_stay_when_the_root_ends() -> None:
    host = Machine()
    host.spawn(10)
    host.spawn(20, parent=10)
    members = resolve(host, Target.pid(10))
    host.end(10)
    host.reparent(20, 1)
    host.spawn(30, parent=20)
    members.refresh()
    assert members.pids() == {20, 30}
    host.end(20)
    host.end(30)
    members.refresh()
    assert not members.alive


def test_a_reused_pid_is_somebody_else() -> None:
    host = Machine()
    host.spawn(10, start=100)
    host.spawn(20, parent=10, start=101)
    members = resolve(host, Target.pid(10))
    host.end(20)
    host.spawn(20, parent=1, start=500)
    members.refresh()
    assert members.pids() == {10}
    host.end(10)
    host.spawn(10, parent=1, start=501)
    members.refresh()
    assert not members.alive


def test_no_such_process() -> None:
    with pytest.raises(TargetGoneError, match="no process 999") as gone:
        resolve(Machine(), Target.pid(999))
    assert gone.value.exit_code == 3
    assert gone.value.remedy


def test_a_process_that_vanishes_while_looked_at_is_left_out() -> None:
    host = Machine()
    host.spawn(10)
    host.spawn(20, parent=10)
    members = resolve(host, Target.pid(10))
    for path in [path for path in host.files if path.startswith("/proc/20/task")]:
        del host.files[path]
    members.refresh()
    assert members.pids() == {10}


def closure(parents: dict[int, int], root: int) -> set[int]:
    """Return the descendants by walking up from each process, the slow way."""

    def belongs(pid: int) -> bool:
        seen = set()
        while pid not in seen:
            if pid == root:
                return True
            seen.add(pid)
            if pid not in parents:
                return False
            pid = parents[pid]
        return False

    return {pid for pid in parents if belongs(pid)}


@given(st.dictionaries(st.integers(2, 40), st.integers(1, 40), min_size=1), st.data())
def test_the_tree_is_the_closure_of_any_parent_map(parents: dict[int, int], data: st.DataObject) -> None:
    host = Machine()
    parents = {pid: parent for pid, parent in parents.items() if pid != parent}
    root = data.draw(st.sampled_from(sorted(parents))) if parents else 1
    parents[1] = 0
    for pid, parent in parents.items():
        host.spawn(pid, parent=parent)
    members = tree(host, root)
    members.refresh()
    assert members.pids() == closure(parents, root)


@given(st.dictionaries(st.integers(2, 30), st.integers(1, 30), min_size=1), st.data())
def test_a_tree_only_loses_what_ended(parents: dict[int, int], data: st.DataObject) -> None:
    """Processes end in any order and orphans go to pid 1: all that is left of the tree stays in it."""
    host = Machine()
    parents = {pid: parent for pid, parent in parents.items() if parent < pid}
    if not parents:
        return
    root = data.draw(st.sampled_from(sorted(parents)))
    for pid, parent in parents.items():
        host.spawn(pid, parent=parent)
    members = tree(host, root)
    members.refresh()
    left = set(members.pids())
    for pid in data.draw(st.permutations(sorted(left))):
        host.end(pid)
        for child, parent in parents.items():
            if parent == pid and f"/proc/{child}/stat" in host.files:
                host.reparent(child, 1)
        left.discard(pid)
        members.refresh()
        assert members.pids() == left


# --- names and the host


def test_names_match_by_search() -> None:
    host = Machine()
    host.spawn(10, comm="redis-server")
    host.spawn(11, comm="redis-benchmark")
    host.spawn(12, comm="nginx")
    assert resolve(host, Target.comm("redis")).pids() == {10, 11}
    assert resolve(host, Target.comm("^nginx$|server$")).pids() == {10, 12}
    with pytest.raises(TargetGoneError, match="matches '\\^server'") as gone:
        resolve(host, Target.comm("^server"))
    assert gone.value.exit_code == 3


def test_the_profiler_itself_has_no_name() -> None:
    host = Machine()
    host.spawn(os.getpid(), comm="python")
    with pytest.raises(TargetGoneError):
        resolve(host, Target.comm("python"))


def test_processes_of_a_name_come_and_go() -> None:
    host = Machine()
    host.spawn(10, comm="job")
    members = resolve(host, Target.comm("^job$"))
    assert members.pids() == {1, 10}
    host.spawn(11, comm="job")
    host.end(10)
    assert members.refresh() == {11}
    assert members.pids() == {1, 11}


def test_the_host_is_everybody() -> None:
    host = Machine(uid=1000)
    host.spawn(10)
    members = resolve(host, Target.host())
    assert members.kind == "host"
    assert members.pids() == {1, 10}


def test_what_the_kernel_followed_is_taken_over() -> None:
    host = Machine()
    host.spawn(10)
    members = resolve(host, Target.pid(10))
    members.adopt({10: frozenset({10, 77})})
    assert members.tids() == {10, 77}
    members.adopt({})
    assert not members.alive


# --- cgroups

MOUNTS = {
    "v2": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n",
    "v1": "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    "cgroup /sys/fs/cgroup/net_cls,net_prio cgroup rw,net_cls,net_prio 0 0\n"
    "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,release_agent=/lib/agent,name=systemd 0 0\n",
    "hybrid": "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
    "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    "cgroup /sys/fs/cgroup/perf_event cgroup rw,perf_event 0 0\n",
}


def machine(setup: str, groups: dict[str, list[int]], **options: object) -> Machine:
    """Return a machine whose cgroups (directory to pids) are mounted as one of MOUNTS."""
    host = Machine(**options)
    host.files["/proc/self/mounts"] = MOUNTS[setup]
    for line in MOUNTS[setup].splitlines():
        if "tmpfs" not in line:
            host.files[f"{line.split()[1]}/cgroup.procs"] = ""
    for directory, pids in groups.items():
        host.files[f"{directory}/cgroup.procs"] = "".join(f"{pid}\n" for pid in pids)
        host.files[f"{directory}/tasks"] = ""
        host.files[f"{directory}/cpu.stat"] = ""
        for pid in pids:
            if pid:
                host.spawn(pid)
        while (directory := directory.rpartition("/")[0]) != "/sys/fs/cgroup":
            host.files.setdefault(f"{directory}/cgroup.procs", "")
    return host


def test_hierarchies_of_every_set_up() -> None:
    def seen(setup: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(h.mount.rsplit("/", 1)[-1], h.controllers) for h in cgroups.hierarchies(machine(setup, {}))]

    assert seen("v2") == [("cgroup", ())]
    assert seen("v1") == [
        ("cpu,cpuacct", ("cpu", "cpuacct")),
        ("memory", ("memory",)),
        ("net_cls,net_prio", ("net_cls", "net_prio")),
        ("systemd", ("name=systemd",)),
    ]
    assert seen("hybrid") == [("unified", ()), ("cpu", ("cpu",)), ("perf_event", ("perf_event",))]


@pytest.mark.parametrize("path", ["/sys/fs/cgroup/web", "/web", "web", "/sys/fs/cgroup/web/", "/web/"], ids=str)
def test_a_cgroup_of_v2_by_any_of_its_names(path: str) -> None:
    host = machine("v2", {"/sys/fs/cgroup/web": [10], "/sys/fs/cgroup/web/a/b": [11], "/sys/fs/cgroup/webs": [12]})
    members = resolve(host, Target.cgroup(path))
    assert members.kind == "cgroup"
    assert members.pids() == {10, 11}
    assert members.cgroup_dir("cpu") == members.cgroup_dir("") == "/sys/fs/cgroup/web"


def test_a_cgroup_of_v1_has_a_directory_for_each_controller() -> None:
    groups = {"/sys/fs/cgroup/cpu,cpuacct/web": [10], "/sys/fs/cgroup/memory/web": [10, 11]}
    host = machine("v1", groups)
    by_path = resolve(host, Target.cgroup("/web"))
    assert by_path.cgroup_dir("cpuacct") == "/sys/fs/cgroup/cpu,cpuacct/web"
    assert by_path.cgroup_dir("memory") == "/sys/fs/cgroup/memory/web"
    assert by_path.cgroup_dir("perf_event") is None
    # Hierarchies may differ in who is in them: the one that was named counts.
    assert by_path.pids() == {10}
    assert resolve(host, Target.cgroup("/sys/fs/cgroup/memory/web")).pids() == {10, 11}


def test_the_link_of_one_controller_of_a_joint_hierarchy() -> None:
    host = machine("v1", {"/sys/fs/cgroup/cpu,cpuacct/web": [10]})
    host.links["/sys/fs/cgroup/cpu"] = "cpu,cpuacct"
    assert resolve(host, Target.cgroup("/sys/fs/cgroup/cpu/web")).pids() == {10}


def test_a_cgroup_of_a_mixed_set_up() -> None:
    groups = {"/sys/fs/cgroup/unified/web": [10], "/sys/fs/cgroup/perf_event/web": [10], "/sys/fs/cgroup/cpu/own": [11]}
    host = machine("hybrid", groups)
    web = resolve(host, Target.cgroup("/web"))
    assert web.cgroup_dir("perf_event") == "/sys/fs/cgroup/perf_event/web"
    assert web.cgroup_dir("") == "/sys/fs/cgroup/unified/web"
    own = resolve(host, Target.cgroup("/own"))
    assert own.pids() == {11}
    assert own.cgroup_dir("") is None


def test_cgroups_that_are_not_there_or_empty() -> None:
    host = machine("v2", {"/sys/fs/cgroup/empty": [], "/sys/fs/cgroup/foreign": [0]})
    for path, words in (("/none", "no cgroup /none"), ("/empty", "no process is in"), ("/foreign", "no process is in")):
        with pytest.raises(TargetGoneError, match=words) as gone:
            resolve(host, Target.cgroup(path))
        assert gone.value.exit_code == 3
        assert gone.value.remedy


def test_who_is_in_a_cgroup_is_asked_again() -> None:
    host = machine("v2", {"/sys/fs/cgroup/web": [10, 11]})
    members = resolve(host, Target.cgroup("/web"))
    host.files["/sys/fs/cgroup/web/cgroup.procs"] = "11\n12\n"
    host.spawn(12)
    assert members.refresh() == {12}
    assert members.pids() == {11, 12}
    # A pid that is used again by another process of the cgroup is a member like any.
    host.end(12)
    host.spawn(12, start=999)
    members.refresh()
    assert members.pids() == {11, 12}
    del host.files["/sys/fs/cgroup/web/cgroup.procs"]
    members.refresh()
    assert not members.alive


# --- units

SERVICE = {"/sys/fs/cgroup/system.slice/nginx.service": [10], "/sys/fs/cgroup/system.slice/cron.service": [11]}


def test_a_unit_as_systemd_says() -> None:
    said = {"systemctl": CommandResult(0, "/system.slice/cron.service\n", "")}
    assert resolve(machine("v2", SERVICE, commands=said), Target.unit("anything")).pids() == {11}


@pytest.mark.parametrize("answer", [None, CommandResult(0, "\n", ""), CommandResult(1, "", "no bus")])
@pytest.mark.parametrize("name", ["nginx", "nginx.service"])
def test_a_unit_found_among_the_cgroups(answer: CommandResult | None, name: str) -> None:
    host = machine("v2", SERVICE, commands={"systemctl": answer} if answer else {})
    assert resolve(host, Target.unit(name)).pids() == {10}


def test_a_unit_that_does_not_run() -> None:
    with pytest.raises(TargetGoneError, match=r"no running systemd unit redis\.service") as gone:
        resolve(machine("v2", SERVICE), Target.unit("redis"))
    assert "systemctl" in gone.value.remedy


# --- containers

A, B = "ab12cd" + "0" * 58, "ab12ce" + "1" * 58


@pytest.mark.parametrize(
    ("directory", "setup"),
    [
        (f"/sys/fs/cgroup/system.slice/docker-{A}.scope", "v2"),
        (f"/sys/fs/cgroup/memory/docker/{A}", "v1"),
        (f"/sys/fs/cgroup/cpu,cpuacct/kubepods/burstable/pod1/{A}", "v1"),
        (f"/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-{A}.scope", "v2"),
        (f"/sys/fs/cgroup/machine.slice/libpod-{A}.scope", "v2"),
        (f"/sys/fs/cgroup/unified/kubepods.slice/crio-{A}.scope", "hybrid"),
        (f"/sys/fs/cgroup/system.slice/nerdctl-{A}.scope", "v2"),
    ],
)
@pytest.mark.parametrize("identity", [A, A[:12], A[:6]])
def test_a_container_by_its_id(directory: str, setup: str, identity: str) -> None:
    host = machine(setup, {directory: [10], f"{directory}/inner": [11]})
    assert resolve(host, Target.container(identity)).pids() == {10, 11}


def test_the_monitor_of_a_container_is_not_the_container() -> None:
    groups = {
        f"/sys/fs/cgroup/machine.slice/libpod-conmon-{A}.scope": [9],
        f"/sys/fs/cgroup/machine.slice/libpod-{A}.scope": [10],
    }
    assert resolve(machine("v2", groups), Target.container(A[:12])).pids() == {10}


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_by_name(engine: str) -> None:
    groups = {
        f"/sys/fs/cgroup/system.slice/docker-{A}.scope": [10],
        f"/sys/fs/cgroup/system.slice/docker-{B}.scope": [11],
    }
    host = machine("v2", groups, commands={engine: CommandResult(0, f"{B}\n", "")})
    assert resolve(host, Target.container("web")).pids() == {11}


def test_a_container_of_lxc_by_name() -> None:
    host = machine("v2", {"/sys/fs/cgroup/lxc.payload.web": [10], "/sys/fs/cgroup/lxc.monitor.web": [11]})
    assert resolve(host, Target.container("web")).pids() == {10}


def test_a_prefix_that_means_two_containers() -> None:
    groups = {f"/sys/fs/cgroup/docker/{A}": [10], f"/sys/fs/cgroup/docker/{A[:6]}{'2' * 58}": [11]}
    with pytest.raises(TargetError, match="means 2 containers") as unclear:
        resolve(machine("v2", groups), Target.container(A[:6]))
    assert unclear.value.exit_code == 2
    assert resolve(machine("v2", groups), Target.container(A[:7])).pids() == {10}


@pytest.mark.parametrize("identity", ["ab12", "web", "f" * 64])
def test_no_such_container(identity: str) -> None:
    host = machine(
        "v2", {f"/sys/fs/cgroup/docker/{A}": [10]}, commands={"docker": CommandResult(1, "", "no such object")}
    )
    with pytest.raises(TargetGoneError, match="no running container") as gone:
        resolve(host, Target.container(identity))
    assert gone.value.exit_code == 3


# --- other users


def foreign() -> Machine:
    host = Machine(uid=1000)
    host.spawn(10, comm="a b", uid=0)
    host.spawn(20, uid=1000)
    return host


def test_a_foreign_process_needs_root_and_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/dna", "profile"])
    with pytest.raises(PermissionNeededError, match="pid 10 belongs to another user") as refused:
        resolve(foreign(), Target.pid(10))
    assert refused.value.exit_code == 4
    assert refused.value.remedy.endswith("sudo /opt/venv/bin/dna profile --pid 10")
    with pytest.raises(PermissionNeededError) as refused:
        resolve(foreign(), Target.comm("a b"))
    assert refused.value.remedy.endswith("dna profile --comm 'a b'")


def test_what_one_may_watch() -> None:
    assert resolve(foreign(), Target.pid(20)).pids() == {20}
    mixed = foreign()
    mixed.spawn(30, comm="a b", uid=1000)
    assert resolve(mixed, Target.comm("a b")).pids() == {10, 30}
    capable = foreign()
    capable.files["/proc/self/status"] = f"Name:\tx\nCapEff:\t{1 << 19:016x}\n"
    assert resolve(capable, Target.pid(10)).pids() == {10}


def test_members_of_a_command_are_its_tree() -> None:
    host = Machine(uid=1000)
    host.spawn(10, uid=1000)
    host.spawn(11, parent=10, uid=1000)
    members: Members = resolve(host, Target.command(["make"]), started=10)
    assert members.pids() == {10, 11}
