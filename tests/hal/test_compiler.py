"""Finding bcc and headers on different distributions, the cache, and what failures say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hal.bpf.compiler import Compiler, cache_dir, find_bcc, find_headers, merge_trees
from hal.bpf.object import BpfObject
from hal.errors import BpfError
from hal.fake import FakeHost
from hal.host import LinuxHost

RELEASE = "6.12.48+deb13-amd64"


def tree(*paths: str) -> FakeHost:
    return FakeHost(dict.fromkeys(paths, ""))


# --- places


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/usr/lib/python3/dist-packages/bcc/libbcc.py", "/usr/lib/python3/dist-packages/bcc"),
        ("/usr/lib/python3.13/site-packages/bcc/libbcc.py", "/usr/lib/python3.13/site-packages/bcc"),
        ("/usr/lib64/python3.9/site-packages/bcc/libbcc.py", "/usr/lib64/python3.9/site-packages/bcc"),
        # The package of that name in the Python index is something else.
        ("/usr/lib/python3/dist-packages/bcc/__init__.py", None),
        ("/usr/lib/node/bcc/libbcc.py", None),
    ],
)
def test_bcc_is_the_distributions(place: str, found: str | None) -> None:
    assert find_bcc(tree(place)) == found


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ((f"/lib/modules/{RELEASE}/build/include/linux/bpf.h", "/usr/src/linux-headers-9-x/include/linux/a"), "build"),
        (("/sys/kernel/kheaders.tar.xz",), "build"),
        ((), ()),
        (("/usr/src/README",), ()),
        (
            (
                "/usr/src/linux-headers-6.1.0-9-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.1.0-9-common/include/linux/b.h",
                "/usr/src/linux-headers-6.1.0-10-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.1.0-10-common/include/linux/b.h",
            ),
            ("/usr/src/linux-headers-6.1.0-10-amd64", "/usr/src/linux-headers-6.1.0-10-common"),
        ),
        (
            (
                "/usr/src/linux-headers-6.12.48+deb13-cloud-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.12.48+deb13-common/include/linux/b.h",
            ),
            ("/usr/src/linux-headers-6.12.48+deb13-cloud-amd64", "/usr/src/linux-headers-6.12.48+deb13-common"),
        ),
        (
            (
                "/usr/src/linux-headers-6.1.0-10-rt-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.1.0-10-common-rt/include/linux/b.h",
            ),
            ("/usr/src/linux-headers-6.1.0-10-rt-amd64", "/usr/src/linux-headers-6.1.0-10-common-rt"),
        ),
        (  # half of a pair, then a whole older one
            (
                "/usr/src/linux-headers-6.1.0-10-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.1.0-9-amd64/include/generated/a.h",
                "/usr/src/linux-headers-6.1.0-9-common/include/linux/b.h",
            ),
            ("/usr/src/linux-headers-6.1.0-9-amd64", "/usr/src/linux-headers-6.1.0-9-common"),
        ),
        (
            (
                "/usr/src/linux-headers-6.8.0-45/include/linux/b.h",
                "/usr/src/linux-headers-6.8.0-45-generic/include/generated/a.h",
                "/usr/src/linux-headers-6.8.0-45-generic/include/linux/b.h",
            ),
            ("/usr/src/linux-headers-6.8.0-45-generic",),
        ),
        (
            (
                "/usr/src/kernels/6.9.4-200.fc40.x86_64/include/generated/a.h",
                "/usr/src/kernels/6.9.4-200.fc40.x86_64/include/linux/b.h",
                "/usr/src/kernels/6.11.4-301.fc41.x86_64/include/generated/a.h",
                "/usr/src/kernels/6.11.4-301.fc41.x86_64/include/linux/b.h",
            ),
            ("/usr/src/kernels/6.11.4-301.fc41.x86_64",),
        ),
    ],
    ids=["own", "kheaders", "none", "nothing", "debian", "cloud", "rt", "half", "ubuntu", "fedora"],
)
def test_headers(paths: tuple[str, ...], found: tuple[str, ...] | str) -> None:
    expected = (f"/lib/modules/{RELEASE}/build",) if found == "build" else found
    assert find_headers(tree(*paths), RELEASE) == expected


def test_merged_trees_have_the_files_of_both(tmp_path: Path) -> None:
    for where, text in {
        "a/include/x/one": "1",
        "a/Makefile": "a",
        "b/include/x/two": "2",
        "b/include/y/z": "3",
    }.items():
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / where).write_text(text)
    (tmp_path / "b/Makefile").write_text("b")
    farm = tmp_path / "farm"
    farm.mkdir()
    merge_trees([str(tmp_path / "a"), str(tmp_path / "b")], farm)
    content = {str(path.relative_to(farm)): path.read_text() for path in farm.rglob("*") if path.is_file()}
    assert content["Makefile"] == "a"
    assert (content["include/x/one"], content["include/x/two"]) == ("1", "2")
    assert (farm / "include/y/z").read_text() == "3"


# --- the cache

COMPILED = '{"format": 1, "maps": [], "programs": [{"name": "p", "instructions": ""}]}'
SOUND = FakeHost(
    {"/usr/lib/python3/dist-packages/bcc/libbcc.py": "", f"/lib/modules/{os.uname().release}/build/include/a": ""},
    uid=os.geteuid(),
)


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """A compiler that leaves a mark each time it runs."""
    return write_worker(tmp_path, f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); print('''{COMPILED}''')")


def write_worker(folder: Path, code: str) -> Path:
    path = folder / "worker.py"
    path.write_text(code)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    return directory


def runs(worker: Path) -> int:
    mark = worker.parent / "runs"
    return len(mark.read_text()) if mark.exists() else 0


def compile_twice(
    cache: Path | None, worker: Path, between: Callable[[], object] = lambda: None, **second: object
) -> int:
    first = Compiler(SOUND, cache=cache, worker=worker).compile("source", ["p"])
    between()
    again = Compiler(SOUND, cache=cache, worker=worker).compile("source", ["p"], **second)  # type: ignore[arg-type]
    assert first == again == BpfObject.from_json(COMPILED)
    return runs(worker)


def only_file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_second_time_nothing_is_compiled(cache: Path, worker: Path) -> None:
    assert compile_twice(cache, worker) == 1
    assert only_file(cache).stat().st_mode & 0o077 == 0
    # It needs neither bcc nor headers any more.
    Compiler(FakeHost(uid=os.geteuid()), cache=cache, worker=worker).compile("source", ["p"])
    assert runs(worker) == 1


def test_without_a_cache_it_is_compiled_each_time(worker: Path) -> None:
    assert compile_twice(None, worker) == 2


def test_other_flags_are_another_object(cache: Path, worker: Path) -> None:
    assert compile_twice(cache, worker, flags=["-DX"]) == 2


def test_another_compiler_is_another_object(cache: Path, worker: Path) -> None:
    assert compile_twice(cache, worker, lambda: worker.write_text(worker.read_text() + "\n# newer")) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", COMPILED[:-9].encode()])
def test_a_damaged_entry_is_compiled_anew(cache: Path, worker: Path, damage: bytes) -> None:
    assert compile_twice(cache, worker, lambda: only_file(cache).write_bytes(damage)) == 2
    assert only_file(cache).read_text().strip() == COMPILED


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_is_not_trusted(cache: Path, worker: Path, mode: int) -> None:
    assert compile_twice(cache, worker, lambda: only_file(cache).chmod(mode)) == 2


def test_a_cache_that_others_can_write_is_not_trusted(cache: Path, worker: Path) -> None:
    assert compile_twice(cache, worker, lambda: cache.chmod(0o777)) == 2


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, which needs root: run `sudo make test`")
@pytest.mark.parametrize("what", ["entry", "folder"])
def test_what_somebody_else_owns_is_not_trusted(cache: Path, worker: Path, what: str) -> None:
    def give_away() -> None:
        os.chown(only_file(cache) if what == "entry" else cache, 12345, 12345)

    assert compile_twice(cache, worker, give_away) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(worker: Path, tmp_path: Path) -> None:
    assert compile_twice(tmp_path / "missing", worker) == 2


def test_remembered_answers(cache: Path) -> None:
    compiler = Compiler(SOUND, cache=cache)
    assert compiler.remember("how far?", lambda: {"a": 1}) == {"a": 1}
    assert compiler.remember("how far?", lambda: {"a": 2}) == {"a": 1}
    assert compiler.remember("how near?", lambda: {"a": 3}) == {"a": 3}


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"a": null}', b'{"a": "x"}', b"\xff"])
def test_damaged_answers_are_asked_again(cache: Path, damage: bytes) -> None:
    compiler = Compiler(SOUND, cache=cache)
    compiler.remember("how far?", lambda: {"a": 1})
    only_file(cache).write_bytes(damage)
    assert compiler.remember("how far?", lambda: {"a": 2}) == {"a": 2}


def test_the_cache_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = cache_dir()
    assert directory.is_relative_to(tmp_path)
    assert directory.stat().st_mode & 0o077 == 0


# --- failures


def test_no_bcc() -> None:
    with pytest.raises(BpfError, match="bcc is not installed") as failed:
        Compiler(FakeHost(), cache=None).compile("", [])
    assert "apt install python3-bpfcc" in failed.value.remedy


def test_no_headers() -> None:
    host = tree("/usr/lib/python3/dist-packages/bcc/libbcc.py")
    with pytest.raises(BpfError, match="no kernel headers") as failed:
        Compiler(host, cache=None).compile("", [])
    assert f"linux-headers-{os.uname().release}" in failed.value.remedy


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"bcc crashed \(SIGSEGV\)"),
        ("raise SystemExit('no libbcc.so.0')", "could not compile: no libbcc.so.0"),
        ("import sys; sys.stderr.write('x.c:1:1: error: what is this\\nmore\\n'); sys.exit(1)", "error: what is this"),
        ("import sys; sys.exit(3)", "no message"),
        ("print('gibberish')", "damaged compiled BPF object"),
    ],
    ids=["crash", "missing library", "broken source", "silence", "gibberish"],
)
def test_a_compiler_that_fails(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(BpfError, match=words):
        Compiler(SOUND, cache=None, worker=write_worker(tmp_path, code)).compile("", [])


def test_a_failure_is_not_kept(tmp_path: Path, cache: Path) -> None:
    broken = write_worker(tmp_path, "print('gibberish')")
    with pytest.raises(BpfError):
        Compiler(SOUND, cache=cache, worker=broken).compile("source", ["p"])
    assert not list(cache.iterdir())


@pytest.mark.long
@pytest.mark.root
@pytest.mark.bpf
@pytest.mark.skipif(
    os.geteuid() != 0 or find_bcc(LinuxHost()) is None,
    reason="compiles with bcc as root: `apt install python3-bpfcc linux-headers-amd64`, `sudo make test`",
)
def test_real_source_and_broken_source() -> None:
    compiler = Compiler(LinuxHost(), cache=None)
    compiled = compiler.compile("BPF_ARRAY(cells, u64, 4); int p(void *ctx) { return 0; }", ["p"])
    assert [(spec.name, spec.value_size, spec.max_entries) for spec in compiled.maps] == [("cells", 8, 4)]
    assert [program.name for program in compiled.programs] == ["p"]
    with pytest.raises(BpfError, match=r"error: .*undeclared"):
        compiler.compile("int p(void *ctx) { return nobody; }", ["p"])
    with pytest.raises(BpfError, match="Unknown program b'q'"):
        compiler.compile("int p(void *ctx) { return 0; }", ["q"])
