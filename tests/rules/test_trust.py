"""Whose files are run: nobody else may be able to write them, replace them, or turn the way to them elsewhere."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import EXIT_REFUSED
from rules.errors import RuleError, UntrustedError
from rules.trust import list_trusted, read_trusted

SOMEBODY = 65534
"""Neither root nor who runs the tests."""
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="gives files to another user, which needs root: run `sudo make test`"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only its owner can write, whatever the umask."""
    folder = tmp_path / "rules"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def a_file(folder: Path, name: str = "mine.py", mode: int = 0o644) -> Path:
    path = folder / name
    path.write_text("MINE = 1\n")
    path.chmod(mode)
    return path


def refusal(path: Path, *, euid: int | None = None) -> UntrustedError:
    with pytest.raises(UntrustedError) as caught:
        read_trusted(path, euid=euid)
    assert caught.value.exit_code == EXIT_REFUSED
    return caught.value


def test_a_file_of_one_s_own_is_read(folder: Path) -> None:
    source = read_trusted(a_file(folder))
    assert source.content == b"MINE = 1\n"
    assert source.path == folder / "mine.py"
    assert source.stamp.size == len(source.content)


def test_a_relative_path_and_links_lead_to_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_file(folder)
    (folder / "below").mkdir()
    (folder / "relative.py").symlink_to("below/../mine.py")
    (folder / "absolute.py").symlink_to(folder / "relative.py")
    monkeypatch.chdir(folder)
    for name in ("mine.py", "./below/../mine.py", "relative.py", "absolute.py"):
        assert read_trusted(name).content == b"MINE = 1\n", name


@pytest.mark.parametrize("mode", [0o664, 0o666, 0o646, 0o602, 0o620])
def test_a_file_that_others_can_write_is_refused_and_its_remedy_mends_it(folder: Path, mode: int) -> None:
    path = a_file(folder, mode=mode)
    # As root, who has no private group.
    error = refusal(path, euid=0) if os.geteuid() == 0 else refusal(path) if mode & 0o002 else None
    if error is None:
        pytest.skip("a user's private group is the user himself; run as root to see it refused for root")
    assert f"chmod go-w {shlex.quote(str(path))}" in error.remedy
    subprocess.run(["chmod", "go-w", str(path)], check=True)
    assert read_trusted(path).content == b"MINE = 1\n"


def test_a_folder_on_the_way_that_others_can_write_is_named(folder: Path) -> None:
    (folder / "inner").mkdir()
    path = a_file(folder / "inner")
    folder.chmod(0o777)
    error = refusal(path)
    assert f"everybody can write {folder}" in str(error)
    assert f"chmod go-w {shlex.quote(str(folder))}" in error.remedy


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    path = a_file(folder, mode=0o666)
    folder.chmod(0o777)
    error = refusal(path)
    assert str(folder) in error.remedy
    assert str(path) in error.remedy


def test_a_sticky_folder_open_to_all_will_do_on_the_way_but_not_for_a_folder_of_rules(folder: Path) -> None:
    path = a_file(folder)
    folder.chmod(0o1777)
    assert read_trusted(path).content == b"MINE = 1\n"
    with pytest.raises(UntrustedError, match="can add files"):
        list_trusted(folder)


def test_the_folder_of_a_link_s_target_counts_too(folder: Path, tmp_path: Path) -> None:
    open_ = tmp_path / "open"
    open_.mkdir()
    path = a_file(open_)
    open_.chmod(0o777)
    (folder / "link.py").symlink_to(path)
    assert str(open_) in str(refusal(folder / "link.py"))


@pytest.mark.root
@needs_root
def test_as_root_what_belongs_to_somebody_else_is_refused(folder: Path) -> None:
    path = a_file(folder)
    os.chown(path, SOMEBODY, -1)
    error = refusal(path)
    assert f"chown -h root {path}" in error.remedy
    os.chown(path, 0, -1)
    read_trusted(path)


@pytest.mark.root
@needs_root
def test_as_root_a_folder_of_somebody_else_is_refused_even_when_the_file_is_root_s(folder: Path) -> None:
    path = a_file(folder)
    os.chown(folder, SOMEBODY, -1)
    assert str(folder) in str(refusal(path))
    folder.chmod(0o1755)  # its owner can replace what is in it all the same
    assert str(folder) in str(refusal(path))


@pytest.mark.root
@needs_root
def test_a_link_of_somebody_else_in_a_sticky_folder_is_refused(folder: Path) -> None:
    a_file(folder)
    link = folder / "link.py"
    link.symlink_to("mine.py")
    os.chown(link, SOMEBODY, -1, follow_symlinks=False)
    folder.chmod(0o1777)
    assert str(link) in str(refusal(link))
    assert read_trusted(folder / "mine.py").content == b"MINE = 1\n"


@pytest.mark.root
@needs_root
def test_not_as_root_one_s_own_files_and_root_s_are_trusted_and_nobody_else_s(folder: Path) -> None:
    path = a_file(folder)
    assert read_trusted(path, euid=SOMEBODY).content
    os.chown(path, SOMEBODY, -1)
    assert read_trusted(path, euid=SOMEBODY).content
    os.chown(path, SOMEBODY - 1, -1)
    error = refusal(path, euid=SOMEBODY)
    assert "copy" in error.remedy
    assert "chown" not in error.remedy


def test_what_is_no_file_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe.py", 0o644)
    for path in (folder / "pipe.py", folder, folder / "none.py", folder / "a.py" / "b.py"):
        with pytest.raises(RuleError) as caught:
            read_trusted(path)
        assert str(path) in str(caught.value)


def test_links_in_a_circle_end(folder: Path) -> None:
    (folder / "a.py").symlink_to("b.py")
    (folder / "b.py").symlink_to("a.py")
    with pytest.raises(RuleError, match="too many symbolic links"):
        read_trusted(folder / "a.py")


def test_a_file_of_gigabytes_is_not_read(folder: Path) -> None:
    path = a_file(folder)
    os.truncate(path, 1 << 32)
    with pytest.raises(RuleError, match="too many"):
        read_trusted(path)


def test_a_stamp_tells_a_changed_file(folder: Path) -> None:
    path = a_file(folder)
    before = read_trusted(path).stamp
    assert read_trusted(path).stamp == before
    other = folder / "new"
    other.write_text("MINE = 2\n")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)  # of the same size and time
    assert read_trusted(path).stamp != before


def test_names_of_a_folder_are_sorted(folder: Path) -> None:
    for name in ("b.py", "a.py"):
        a_file(folder, name)
    assert list_trusted(folder) == ("a.py", "b.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file three folders deep."""
    top = tmp_path_factory.mktemp("deep")
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "f.py").write_text("")
    yield top
    (top / "a").chmod(0o755)


@given(st.lists(st.integers(0, 0o1777), min_size=3, max_size=3))
def test_nothing_that_everybody_can_replace_is_ever_read(tree: Path, modes: list[int]) -> None:
    """Whatever the modes on the way: where others may write a step, and no sticky bit keeps what is in it, it is refused."""
    steps = [tree / "a", tree / "a/b", tree / "a/b/f.py"]
    for step in reversed(steps):
        step.chmod(0o700)
    for step, mode in zip(reversed(steps), reversed(modes), strict=True):
        step.chmod(mode | 0o500)  # so that the way can be walked
    exposed = any(
        mode & 0o022 and not (mode & 0o1000 and step.is_dir()) for step, mode in zip(steps, modes, strict=True)
    )
    try:
        read_trusted(steps[-1], euid=0 if os.geteuid() == 0 else None)
        was_read = True
    except UntrustedError:
        was_read = False
    if os.geteuid() == 0:
        assert was_read is not exposed
    else:
        assert not (was_read and any(mode & 0o002 and not mode & 0o1000 for mode in modes))
