"""The busiest processes: arithmetic on a machine in memory, and against the real /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.top import (
    MOST_THREADS,
    SORTS,
    Row,
    Snapshot,
    Watch,
    cgroup_of,
    cgroup_rows,
    ordered,
    parse_stat,
    place_name,
    process_rows,
    wanted,
)
from hal.fake import FakeHost
from hal.host import LinuxHost

_ID = "3f" * 32


def _stat(
    pid: int,
    comm: str,
    *,
    ticks: int = 0,
    faults: int = 0,
    threads: int = 1,
    start: int = 5,
    pages: int = 10,
    flags: int = 0,
) -> str:
    fields = f"S 1 1 1 0 -1 {flags} {faults} 0 0 0 {ticks} 0 0 0 20 0 {threads} 0 {start} 4096 {pages}"
    return f"{pid} ({comm}) {fields} 18446744073709551615\n"


def _process(pid: int, comm: str, *, runq_ms: int = 0, voluntary: int = 0, io: int = 0, **stat: int) -> dict[str, str]:
    oncpu_ns = stat.get("ticks", 0) * 10_000_000
    return {
        f"/proc/{pid}/stat": _stat(pid, comm, **stat),
        f"/proc/{pid}/schedstat": f"{oncpu_ns} {runq_ms * 1_000_000} 7\n",
        f"/proc/{pid}/status": f"Name:\t{comm}\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t2\n",
        f"/proc/{pid}/io": f"rchar: {io}\nwchar: 0\nsyscr: 0\n",
        f"/proc/{pid}/cgroup": f"0::/system.slice/docker-{_ID}.scope\n",
    }


@pytest.fixture
def host() -> FakeHost:
    return FakeHost({**_process(10, "db"), **_process(11, "idle"), "/proc/uptime": "1 1\n"})


def _look(host: FakeHost, changes: dict[str, str], *, by_cgroup: bool = False, sort: str = "cpu") -> list[Row]:
    watch = Watch(host, by_cgroup=by_cgroup)
    assert watch.look() == []
    host.advance(2.0)
    host.files.update(changes)
    return watch.look(sort=sort)


def test_rates_and_shares(host: FakeHost) -> None:
    ticks = round(1.5 * os.sysconf("SC_CLK_TCK"))
    rows = _look(
        host, _process(10, "db", ticks=ticks, runq_ms=ticks * 10, voluntary=500, io=4096, faults=60, pages=100)
    )
    busiest = rows[0]
    assert (busiest.key, busiest.name, busiest.where) == ("10", "db", _ID[:12])
    assert busiest.cpu == pytest.approx(0.75)
    assert busiest.time_s == pytest.approx(1.5)
    assert busiest.runq_share == pytest.approx(0.5)
    assert busiest.voluntary == pytest.approx(250)
    assert busiest.involuntary == 0
    assert busiest.faults == pytest.approx(30)
    assert busiest.io == pytest.approx(2048)
    assert busiest.resident == 100 * os.sysconf("SC_PAGE_SIZE")


def test_what_cannot_be_read_is_unknown(host: FakeHost) -> None:
    host.denied |= {"/proc/10/io", "/proc/10/schedstat", "/proc/10/status"}
    busiest = _look(host, {"/proc/10/stat": _stat(10, "db", ticks=100)})[0]
    assert busiest.cpu > 0
    assert (busiest.io, busiest.runq_share, busiest.voluntary, busiest.involuntary) == (None, None, None, None)


def test_details_are_summed_over_threads(host: FakeHost) -> None:
    def thread(tid: int, ns: int) -> dict[str, str]:
        return {
            f"/proc/10/task/{tid}/schedstat": f"{ns} {ns} 1\n",
            f"/proc/10/task/{tid}/status": f"x\nvoluntary_ctxt_switches:\t{ns}\nnonvoluntary_ctxt_switches:\t0\n",
        }

    host.files.update({"/proc/10/stat": _stat(10, "db", threads=2), **thread(10, 0), **thread(12, 0)})
    changes = {"/proc/10/stat": _stat(10, "db", threads=2, ticks=9), **thread(10, 100), **thread(12, 300)}
    busiest = _look(host, changes)[0]
    assert busiest.runq_share == pytest.approx(0.5)
    assert busiest.voluntary == pytest.approx(200)


def test_too_many_threads_are_not_read_one_by_one(host: FakeHost) -> None:
    busiest = _look(host, {"/proc/10/stat": _stat(10, "db", threads=MOST_THREADS + 1, ticks=9)})[0]
    assert busiest.threads == MOST_THREADS + 1
    assert busiest.runq_share is None


def test_a_reused_pid_is_another_process(host: FakeHost) -> None:
    host.files.update(_process(10, "old", ticks=10_000))
    changes = _process(10, "new", ticks=4, start=99)
    rows = {row.name: row for row in _look(host, changes)}
    assert rows["new"].cpu == pytest.approx(4 / os.sysconf("SC_CLK_TCK") / 2)


def test_processes_come_and_go(host: FakeHost) -> None:
    watch = Watch(host)
    watch.look()
    host.advance(1.0)
    for path in [path for path in host.files if path.startswith("/proc/11/")]:
        del host.files[path]
    host.files.update(_process(12, "young", ticks=50))
    assert {row.name for row in watch.look()} == {"db", "young"}
    assert watch.counted == (2, 2)


def test_by_cgroup_sums(host: FakeHost) -> None:
    host.files["/proc/11/cgroup"] = "0::/user.slice/session-2.scope\n"
    host.files.update(_process(12, "helper"))
    changes = {**_process(10, "db", ticks=100, faults=10), **_process(12, "helper", ticks=50, faults=10)}
    rows = {row.name: row for row in _look(host, changes, by_cgroup=True)}
    container, session = rows[_ID[:12]], rows["session-2.scope"]
    assert container.processes == 2
    assert container.where == "db"
    assert container.faults == pytest.approx(10)
    assert container.cpu == pytest.approx(150 / os.sysconf("SC_CLK_TCK") / 2)
    assert session.cpu == 0


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_orders_largest_first(host: FakeHost, sort: str) -> None:
    changes = _process(10, "db", ticks=100, runq_ms=900, voluntary=50, io=9, faults=9, pages=99, threads=1)
    rows = _look(host, changes, sort=sort)
    values = [SORTS[sort](row) for row in rows]
    assert values == sorted(values, reverse=True)
    if sort not in ("threads", "processes", "involuntary"):
        assert rows[0].name == "db"


def test_search_finds_name_place_and_pid(host: FakeHost) -> None:
    rows = _look(host, {"/proc/10/stat": _stat(10, "db", ticks=9)})
    assert [row.name for row in ordered(rows, sort="cpu", search="DB")] == ["db"]
    assert [row.name for row in ordered(rows, sort="cpu", search="11")] == ["idle"]
    assert len(ordered(rows, sort="cpu", search=_ID[:6])) == 2
    assert ordered(rows, sort="cpu", search="nothing like it") == []


def test_few_rows_are_read_in_detail() -> None:
    processes = {pid: parse_stat(_stat(pid, "p", ticks=pid).encode()) for pid in range(1, 101)}
    still = {pid: parse_stat(_stat(pid, "p").encode()) for pid in range(1, 101)}
    before = Snapshot(0, still)
    assert set(wanted(before, sort="cpu", rows=5)(processes)) == {96, 97, 98, 99, 100}
    assert len(wanted(before, sort="memory", rows=5)(processes)) == 5
    assert len(wanted(None, sort="cpu", rows=5)(processes)) == 100
    assert wanted(Snapshot(0, processes), sort="io", rows=5)(processes) == []


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=15), st.integers(1, 1 << 22))
def test_any_command_name_is_parsed(comm: str, pid: int) -> None:
    process = parse_stat(_stat(pid, comm, ticks=3, threads=7, pages=12, flags=0x200000).encode())
    assert (process.pid, process.comm, process.cpu_ticks, process.threads) == (pid, comm, 3, 7)
    assert (process.kernel, process.resident_pages, process.start) == (True, 12, 5)


@pytest.mark.parametrize(
    ("text", "cgroup"),
    [
        ("0::/system.slice/nginx.service\n", "/system.slice/nginx.service"),
        ("4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n", "/docker/abc"),
        ("12:pids:/a/b/c\n1:cpu:/a\n", "/a/b/c"),
        ("0::/\n", "/"),
        ("", ""),
    ],
)
def test_cgroup_of_v1_and_v2(text: str, cgroup: str) -> None:
    assert cgroup_of(text) == cgroup


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        (f"/system.slice/docker-{_ID}.scope", _ID[:12]),
        (f"/docker/{_ID}", _ID[:12]),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{_ID}.scope", _ID[:12]),
        (f"/machine.slice/libpod-{_ID}.scope/container", _ID[:12]),
        ("/lxc/web.payload", "web.payload"),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/user.slice/user-0.slice/session-2.scope", "session-2.scope"),
        ("/plain/group", "group"),
        ("/", ""),
    ],
)
def test_place_names(cgroup: str, name: str) -> None:
    assert place_name(cgroup) == name


def test_rows_are_plain_values(host: FakeHost) -> None:
    row = _look(host, _process(10, "db", ticks=9))[0].to_json()
    assert row["name"] == "db"
    assert all(value is None or isinstance(value, str | int | float) for value in row.values())


def test_sums_know_the_unknown() -> None:
    def row(key: str, io: float | None) -> Row:
        return Row(key, key, "", 0.5, 1, None, None, None, 0, 1, io, 1)

    merged = cgroup_rows([row("1", None), row("2", 5.0)], {1: "/a", 2: "/a"})
    assert [(group.key, group.io, group.runq_share) for group in merged] == [("/a", 5.0, None)]
    assert cgroup_rows([], {}) == []


@pytest.fixture
def spinner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes, in 64 MiB of its own."""
    program = "data = bytearray(64 << 20)\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_busy_process_of_this_machine(spinner: subprocess.Popen[bytes]) -> None:
    host = LinuxHost()
    watch = Watch(host)
    watch.look()
    row = None
    for _ in range(50):  # on a busy machine it may not get a tick in one interval
        host.sleep(0.2)
        row = next((row for row in watch.look(rows=10_000) if row.key == str(spinner.pid)), None)
        assert row is not None
        if row.cpu > 0:
            break
    assert row is not None
    assert 0 < row.cpu <= 1.5
    assert row.resident > 64 << 20
    assert row.threads == 1
    assert row.runq_share is None or 0 <= row.runq_share <= 1
    assert row.io is not None


def test_the_same_as_two_readings_by_hand() -> None:
    host = LinuxHost()
    me = os.getpid()
    own = parse_stat(host.read_bytes(f"/proc/{me}/stat"))
    assert own.pid == me
    before, after = Snapshot(0, {me: own}), Snapshot(10**9, {me: own})
    row = process_rows(before, after, tick_hz=100, page_size=4096)[0]
    assert (row.cpu, row.faults) == (0, 0)
    assert row.time_s == own.cpu_ticks / 100
