"""Rule files are run once, within limits, and refused with their line and all their mistakes; where they are looked for."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import rules.packs.numa
from hal.errors import EXIT_USAGE
from rules.errors import MistakesError, RuleError, UntrustedError
from rules.loader import load, rules_in, rules_of, standing_in
from rules.sources import Sources, find, load_all, load_each, shipped, user_folder

HEAD = "from rules import all_of, m, rule, s, w, when\n"
ONE = HEAD + textwrap.dedent(
    """
    @rule(priority=3, expect="throughput +5 %", source="here")
    @when(w.memory.random_share > 0.6)
    def one(workload):
        '''Because.'''
        yield s.memory.hugepages(workload)
    """
)
type Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(0o644)
        return path

    return written


def refused(path: Path, **how: float) -> RuleError:
    with pytest.raises(RuleError) as caught:
        load(path, **how)  # type: ignore[arg-type]
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


# --- loading


def test_a_file_gives_its_rules_with_pack_and_line(write: Write) -> None:
    path = write(ONE)
    file = load(path)
    (rule,) = file.rules
    assert rule.identity == "mine.one"
    assert (rule.place.file, rule.place.line) == (
        str(path),
        ONE.splitlines().index('@rule(priority=3, expect="throughput +5 %", source="here")') + 1,
    )
    assert file.stamp is not None
    assert file.test == path.with_name("test_mine.py")


def test_nothing_of_a_file_stays_behind(write: Write) -> None:
    modules, path = set(sys.modules), list(sys.path)
    load(write("import sys\nsys.path.insert(0, '/nowhere')\n" + ONE))
    assert not {name for name in set(sys.modules) - modules if "mine" in name}
    assert sys.path == path


def test_a_file_may_have_dataclasses_and_helpers(write: Write) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from rules import rule, s, w, when

        @dataclass(frozen=True)
        class Limit:
            value: float = 0.6

        def make(name, limit):
            @rule()
            @when(w.memory.random_share > limit.value)
            def body(workload):
                yield s.memory.hugepages(workload)
            return body

        body = make("a", Limit())
        """
    assert [rule.name for rule in load(write(text)).rules] == ["body"]


def test_rules_of_another_module_are_not_taken_over(write: Write) -> None:
    path = write(ONE + "from rules.packs.numa import keep_on_one_node\n")
    assert [rule.identity for rule in load(path).rules] == ["mine.one"]


def test_what_a_file_prints_is_kept_from_the_terminal(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    file = load(write("print('hello')\n" + ONE))
    assert file.printed == "hello\n"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\nx = = 2\n", 2, "invalid syntax"),
        ("x = 1\n\nraise KeyError('k')\n", 3, "KeyError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError"),
        (HEAD + "@rule()\ndef f(warkload):\n    yield 1\n", 2, "warkload"),
        (HEAD + "@rule(expect='faster')\ndef f():\n    yield 1\n", 2, "faster"),
        (HEAD + "@rule()\n@when(w.demand.cores)\ndef f():\n    yield 1\n", 3, "no condition"),
        ("x = '\0'\n", 1, "null"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write: Write, text: str, line: int, words: str) -> None:
    path = write(text)
    error = refused(path)
    assert f"{path}:{line}: " in str(error)
    assert words in str(error)


@pytest.mark.slow
def test_a_file_that_does_not_end_is_given_up(write: Write) -> None:
    threads = threading.active_count()
    error = refused(write("while True:\n    pass\n"), limit_s=0.3)
    assert "did not end" in str(error)
    assert load(write(ONE, "other.py")).rules  # and the next is loaded
    for thread in threading.enumerate():
        if thread.name == "rules":
            thread.join(10)
    assert threading.active_count() <= threads


def test_all_mistakes_in_conditions_are_said_at_once_with_their_lines(write: Write) -> None:
    path = write(
        HEAD
        + textwrap.dedent(
            """
            @rule()
            @when(
                w.memory.random_shar > 0.6,
                w.demand.resident > "512 XB",
                ~m.hugepages.availabel,
                all_of(m.govrnor == "x", w.memry.random_share > 3),
                m.virtua,
                w.demand.cores > w.demand.resident,
            )
            def one(workload):
                yield s.memory.hugepages(workload)
            """
        )
    )
    error = refused(path)
    assert isinstance(error, MistakesError)
    lines = path.read_text().splitlines()
    wrong = {lines[place.line - 1].strip(): (message, remedy) for place, message, remedy in error.mistakes}
    assert len(error.mistakes) == 7
    assert "w.memory.random_share" in wrong["w.memory.random_shar > 0.6,"][1]
    assert "512 MiB" in wrong['w.demand.resident > "512 XB",'][0]
    assert "m.hugepages.available" in wrong["~m.hugepages.availabel,"][1]
    assert wrong["w.demand.cores > w.demand.resident,"]
    for _, message, _ in error.mistakes:
        assert message in str(error)


def test_comparisons_without_brackets_are_told_how(write: Write) -> None:
    error = refused(write(HEAD + "@rule()\n@when(w.demand.cores > 5 & m.virtual)\ndef f(): yield 1\n"))
    assert "brackets" in error.remedy


def test_two_rules_of_one_name_are_refused(write: Write) -> None:
    error = refused(write(ONE + ONE.replace(HEAD, "")))
    assert "2 rules are called one" in str(error)


def test_a_file_cannot_import_the_one_beside_it(write: Write) -> None:
    write("LIMIT = 1\n", "shared.py")
    error = refused(write("import shared\n" + ONE))
    assert "beside it" in error.remedy


def test_a_file_that_others_can_write_is_not_run(write: Write, tmp_path: Path) -> None:
    path = write(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ONE)
    path.chmod(0o666)
    with pytest.raises(UntrustedError):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_what_stands_in_for_a_file_is_what_its_tests_are_about(write: Write) -> None:
    path = write(ONE)
    file = load(path)
    write(ONE.replace("one", "two"))
    with standing_in({path: file.rules}):
        assert rules_in(path) == file.rules
    assert [rule.name for rule in rules_in(path)] == ["two"]


def test_rules_of_a_module_carry_its_last_name() -> None:
    assert {rule.pack for rule in rules_of(rules.packs.numa)} == {"numa"}
    assert rules_in(Path(str(rules.packs.numa.__file__)))


# --- where files are


def sources(tmp_path: Path, *given: Path, packs: tuple[str, ...] | None = ()) -> Sources:
    return Sources(given, packs, tmp_path / "user", tmp_path / "system")


def test_files_are_found_in_their_order_and_tests_are_none(write: Write, tmp_path: Path) -> None:
    for name in ("user/u.py", "user/test_u.py", "user/_x.py", "user/.y.py", "user/n.txt", "system/y.py", "folder/f.py"):
        write(ONE, name)
    write(ONE, "folder/deeper/d.py")
    named = write(ONE, "named.py")
    found = find(sources(tmp_path, named, tmp_path / "folder", named))
    assert [(one.path.name, one.origin) for one in found] == [
        ("named.py", "given"),
        ("f.py", "given"),
        ("u.py", "user"),
        ("y.py", "system"),
    ]


def test_folders_that_are_not_there_are_no_matter_but_what_is_named_is(tmp_path: Path) -> None:
    assert find(sources(tmp_path)) == ()
    with pytest.raises(RuleError, match="No such file"):
        load_all(sources(tmp_path, tmp_path / "none.py"))
    with pytest.raises(RuleError, match=r"test_x\.py"):
        find(sources(tmp_path, tmp_path / "test_x.py"))


def test_the_environment_names_files_and_folders(tmp_path: Path) -> None:
    environment = {"DNA_RULES": f"/a.py{os.pathsep}{os.pathsep}/b", "HOME": "/h"}
    found = Sources.of(["/c.py"], environment=environment, euid=1000)
    assert found.given == (Path("/c.py"),)
    assert found.environment == (Path("/a.py"), Path("/b"))
    assert found.user == Path("/h/.config/workload-dna/rules")
    assert user_folder({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, euid=1000) == Path("/x/workload-dna/rules")
    assert user_folder({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, euid=1000) == Path(
        "/h/.config/workload-dna/rules"
    )
    assert user_folder({}, euid=1000) is None


def test_root_looks_into_no_home(tmp_path: Path) -> None:
    assert user_folder({"HOME": "/h", "XDG_CONFIG_HOME": "/h/.config"}, euid=0) is None


def test_packs_are_chosen_by_name() -> None:
    everything = load_all(Sources(system=None))
    assert {rule.pack for rule in everything.rules} == set(shipped())
    assert {rule.pack for rule in load_all(Sources(packs=("numa",), system=None)).rules} == {"numa"}
    assert load_all(Sources(packs=(), system=None)).rules == ()
    with pytest.raises(RuleError, match="nume") as caught:
        Sources.of(packs=["nume"])
    assert "numa" in caught.value.remedy


def test_a_rule_nearer_to_the_user_takes_the_place_of_another_of_its_identity(write: Write, tmp_path: Path) -> None:
    write(ONE, "system/mine.py")
    write(ONE.replace("priority=3", "priority=5"), "user/mine.py")
    loaded = load_all(sources(tmp_path))
    assert [(rule.identity, rule.priority) for rule in loaded.rules] == [("mine.one", 5)]
    by, replaced = loaded.replaced["mine.one"]
    assert (by.priority, replaced.priority) == (5, 3)
    assert loaded.file_of(by).origin == "user"


def test_what_an_option_names_counts_before_what_the_environment_does(write: Write) -> None:
    option, variable = write(ONE, "a/mine.py"), write(ONE.replace("priority=3", "priority=5"), "b/mine.py")
    loaded = load_all(Sources((option,), (), None, None, (variable,)))
    assert [rule.priority for rule in loaded.rules] == [3]
    assert loaded.replaced["mine.one"][1].priority == 5


def test_a_shipped_rule_is_replaced_by_pack_and_name(write: Write, tmp_path: Path) -> None:
    write(ONE.replace("one", "keep_on_one_node"), "user/numa.py")
    loaded = load_all(sources(tmp_path, packs=None))
    (rule,) = [rule for rule in loaded.rules if rule.identity == "numa.keep_on_one_node"]
    assert rule.priority == 3
    assert len(loaded.rules) == len(load_all(Sources(system=None)).rules)


def test_two_rules_of_one_identity_from_one_place_are_a_mistake(write: Write, tmp_path: Path) -> None:
    one, other = write(ONE, "a/mine.py"), write(ONE, "b/mine.py")
    with pytest.raises(RuleError, match="there already") as caught:
        load_all(sources(tmp_path, one, other))
    assert str(one) in str(caught.value)


def test_what_can_be_loaded_is_without_what_cannot(write: Write, tmp_path: Path) -> None:
    write(ONE, "user/a.py")
    write("1 / 0\n", "user/b.py")
    files, errors = load_each(find(sources(tmp_path)))
    assert [file.path.name for file in files] == ["a.py"]
    assert [path.name for path, _ in errors] == ["b.py"]


def test_a_folder_of_rules_that_others_can_add_to_is_refused(write: Write, tmp_path: Path) -> None:
    write(ONE, "user/a.py")
    (tmp_path / "user").chmod(0o1777)
    with pytest.raises(UntrustedError):
        find(sources(tmp_path))
