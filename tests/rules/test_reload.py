"""A changed rule file takes effect when it is fit, whole, and the old one stays where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.errors import RuleError
from rules.new import write_new
from rules.reload import Rules
from rules.sources import Sources

RULE = """
from rules import rule, s, w, when

@rule(priority={priority}, expect="throughput +5 %", source="here")
@when(w.demand.cores > {limit})
def {name}(workload):
    '''Because.'''
    yield s.memory.hugepages(workload)
"""
TEST = """
from rules.testing import beside, given
RULES = beside(__file__)

def test_one():
    assert given({{"demand.cores": {cores}}}).ask(RULES).fired("{name}")
"""


def text(*, priority: int = 0, limit: object = 1, name: str = "one") -> str:
    return RULE.format(priority=priority, limit=limit, name=name)


def write(path: Path, content: str) -> Path:
    """Write as editors do: another file that takes the place of the old."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(content)
    new.chmod(0o644)
    new.replace(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "mine.py", text())
    write(tmp_path / "test_mine.py", TEST.format(cores=2, name="one"))
    return tmp_path


def watched(folder: Path) -> Rules:
    return Rules(Sources((), (), folder, None))


def seen(rules: Rules) -> list[tuple[str, int]]:
    return [(rule.identity, rule.priority) for rule in rules.rules]


def test_nothing_changes_while_no_file_does(folder: Path) -> None:
    rules = watched(folder)
    loaded = rules.loaded
    assert rules.look() == ()
    assert rules.loaded is loaded


def test_a_changed_file_takes_effect(folder: Path) -> None:
    rules = watched(folder)
    write(folder / "mine.py", text(priority=7))
    (news,) = rules.look()
    assert (news.path, news.taken) == (folder / "mine.py", True)
    assert seen(rules) == [("mine.one", 7)]
    assert rules.look() == ()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("x = = 1", "invalid syntax"),
        ("1 / 0", "ZeroDivisionError"),
        (text(limit="'many'"), "no amount"),
        (text(limit=-1) + text(limit=2, name="one"), "called one"),
        (text().replace("w.demand.cores > 1", "w.memory.random_share > 2"), "never holds"),
        (text().replace("hugepages", "hugepage"), "there is no setting"),
        (text(limit=5), "test_one"),
    ],
)
def test_a_broken_file_is_told_once_and_the_old_stays(folder: Path, broken: str, words: str) -> None:
    rules = watched(folder)
    loaded = rules.loaded
    write(folder / "mine.py", broken)
    (news,) = rules.look()
    assert not news.taken
    assert words in " ".join(news.messages)
    assert "mine.py" in " ".join(news.messages)
    assert rules.loaded is loaded
    assert rules.look() == ()
    write(folder / "mine.py", text(priority=3))
    (news,) = rules.look()
    assert news.taken
    assert seen(rules) == [("mine.one", 3)]


def test_warnings_keep_no_file_away(folder: Path) -> None:
    rules = watched(folder)
    write(folder / "mine.py", text(priority=4).replace("    '''Because.'''\n", ""))
    assert [news.taken for news in rules.look()] == [True]


def test_a_test_that_is_mended_lets_the_file_in(folder: Path) -> None:
    rules = watched(folder)
    write(folder / "mine.py", text(limit=5))
    assert [news.taken for news in rules.look()] == [False]
    write(folder / "test_mine.py", TEST.format(cores=6, name="one"))
    assert [news.taken for news in rules.look()] == [True]


def test_files_come_and_go(folder: Path) -> None:
    rules = watched(folder)
    write(folder / "other.py", text(name="two"))
    assert [news.taken for news in rules.look()] == [True]
    assert {rule.identity for rule in rules.rules} == {"mine.one", "other.two"}
    (folder / "mine.py").unlink()
    assert rules.look() == ()  # it may be being written
    assert len(rules.rules) == 2
    (news,) = rules.look()
    assert "gone" in news.messages[0]
    assert seen(rules) == [("other.two", 0)]


def test_a_file_that_is_written_anew_in_two_steps_is_never_missed(folder: Path) -> None:
    rules = watched(folder)
    (folder / "mine.py").unlink()
    rules.look()
    write(folder / "mine.py", text(priority=2))
    assert [news.taken for news in rules.look()] == [True]
    assert rules.look() == ()
    assert seen(rules) == [("mine.one", 2)]


def test_a_rule_that_another_file_has_is_refused(folder: Path) -> None:
    (folder / "a").mkdir(mode=0o755)
    rules = Rules(Sources((folder / "mine.py", folder / "a"), (), None, None))
    write(folder / "a" / "mine.py", text(priority=9))
    (news,) = rules.look()
    assert not news.taken
    assert "there already" in news.messages[0]
    assert seen(rules) == [("mine.one", 0)]


def test_a_file_that_others_can_write_by_now_is_not_taken(folder: Path) -> None:
    rules = watched(folder)
    write(folder / "mine.py", text(priority=5)).chmod(0o666)
    (news,) = rules.look()
    assert "everybody can write" in news.messages[0]
    assert seen(rules) == [("mine.one", 0)]


def test_a_folder_that_others_can_write_by_now_is_told_once(folder: Path) -> None:
    rules = watched(folder)
    folder.chmod(0o777)
    (news,) = rules.look()
    assert not news.taken
    assert rules.look() == ()
    assert seen(rules) == [("mine.one", 0)]
    folder.chmod(0o755)
    assert rules.look() == ()


def test_what_is_broken_to_begin_with_is_an_error(folder: Path) -> None:
    write(folder / "mine.py", "1 / 0")
    with pytest.raises(RuleError, match="ZeroDivisionError"):
        watched(folder)


def test_what_dna_writes_can_be_taken_in(folder: Path) -> None:
    rules = watched(folder)
    write_new(folder / "fresh.py")
    assert [news.taken for news in rules.look()] == [True]


STEPS = st.sampled_from(["good", "broken", "fails", "gone", "mode", "nothing"])


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_whatever_is_done_to_a_file_the_rules_are_those_of_its_last_sound_state(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    path = write(folder / "mine.py", text())
    rules = watched(folder)
    expected: list[tuple[str, int]] = seen(rules)
    for number, step in enumerate(steps, 1):
        match step:
            case "good":
                write(path, text(priority=number))
                expected = [("mine.one", number)]
            case "broken":
                write(path, f"{number} / 0\n")
            case "fails":
                write(path, text(priority=number).replace("> 1", "< 0"))
            case "gone":
                path.unlink(missing_ok=True)
                rules.look()
                expected = []
            case "mode" if path.exists():
                os.chmod(path, 0o666)
        rules.look()
        assert seen(rules) == expected
