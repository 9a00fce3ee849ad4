"""``dna rules`` as a user runs it: a file is begun, checked, tried, listed and explained. Nothing is changed on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dna.export import to_json
from dna.store import Store
from dna.vector import Interval, Profile
from hal.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE
from rules.sources import Sources, load_all

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place of one's own: home, history and rules, which only its owner can write."""
    tmp_path.chmod(0o755)
    return tmp_path


def dna(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "DNA_STORE": str(folder / "history.db"),
        "DNA_JOURNAL": str(folder / "journal"),
    }
    inherited = {name: value for name, value in os.environ.items() if name != "DNA_RULES"}
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, words)],
        env={**inherited, **own, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    path.chmod(0o644)
    return path


RULE = """
    from rules import rule, s, w, when

    @rule(priority=90, expect="throughput +5 %", source="here")
    @when({conditions})
    def one(workload):
        '''Because.'''
        yield s.cpu.nice(workload, {nice})
    """


def a_rule(path: Path, conditions: str = "w.demand.cores > 1", nice: int = 3) -> Path:
    return write(path, RULE.format(conditions=conditions, nice=nice))


def stored(folder: Path, cores: float = 2.0) -> Profile:
    intervals = tuple(Interval(float(t), {}, {"cores": cores, "resident": 2e9}, {}, None, {}) for t in (5, 10, 15))
    profile = Profile("", "busy", {}, {"kind": "pid", "value": "7"}, 1e9, 5.0, intervals)
    with Store.open(folder / "history.db") as history:
        history.save(profile)
    return profile


# --- beginning


def test_what_is_begun_passes_check_and_test_as_it_is_and_advises(folder: Path) -> None:
    done = dna(folder, "rules", "new", "deep/mine.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (folder / "deep").iterdir()} == {"mine.py", "test_mine.py"}
    checked = dna(folder, "rules", "check", "deep/mine.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "nothing found" in checked.stdout
    tried = dna(folder, "rules", "test", "deep/mine.py")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "3 cases" in tried.stdout
    listed = dna(folder, "rules", "list", "--rules", "deep", "--no-packs", "--json")
    assert [one["rule"] for one in json.loads(listed.stdout)] == ["mine.huge_pages_for_random_access"]


def test_nothing_is_overwritten(folder: Path) -> None:
    write(folder / "test_mine.py", "mine")
    done = dna(folder, "rules", "new", "mine.py")
    assert done.returncode == EXIT_USAGE
    assert "there already" in done.stderr
    assert not (folder / "mine.py").exists()
    assert (folder / "test_mine.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["test_mine.py", "mine", "_mine.py", ".mine.py", "mine.txt"])
def test_names_that_are_none_for_a_rule_file(folder: Path, name: str) -> None:
    assert dna(folder, "rules", "new", name).returncode == EXIT_USAGE
    assert not (folder / name).exists()


# --- checking


def test_findings_have_file_line_severity_and_remedy(folder: Path) -> None:
    path = a_rule(folder / "mine.py", "w.demand.core > 1")
    done = dna(folder, "rules", "check", path)
    assert done.returncode == EXIT_FAILED
    assert f"{path}:5: error: there is no fact w.demand.core [unknown-fact]" in done.stdout
    assert "w.demand.cores" in done.stdout
    (found,) = json.loads(dna(folder, "rules", "check", path, "--json").stdout)
    assert (found["file"], found["line"], found["severity"], found["code"]) == (str(path), 5, "error", "unknown-fact")


def test_a_long_line_is_not_broken(folder: Path) -> None:
    path = a_rule(
        folder / "mine.py", "w.memory.random_share.between(0.6, 0.5), " + ", ".join(f"m.nodes > {n}" for n in range(9))
    )
    done = dna(folder, "rules", "check", path, COLUMNS="40")
    assert any(line.startswith(f"{path}:") and line.endswith("]") for line in done.stdout.splitlines())


def test_all_that_is_shipped_and_installed_is_checked_by_default(folder: Path) -> None:
    done = dna(folder, "rules", "check")
    count = len(load_all(Sources(system=None)).rules)
    assert done.returncode == 0, done.stdout
    assert f"{count} rules" in done.stdout


def test_a_folder_is_checked_file_by_file(folder: Path) -> None:
    (folder / "rules").mkdir(mode=0o755)
    a_rule(folder / "rules" / "a.py")
    write(folder / "rules" / "b.py", "1 / 0\n")
    found = json.loads(dna(folder, "rules", "check", folder / "rules", "--json").stdout)
    assert {(Path(one["file"]).name, one["code"]) for one in found} == {("a.py", "no-test"), ("b.py", "load")}


def test_a_file_that_is_not_there_is_usage(folder: Path) -> None:
    for words in (("check", "none.py"), ("test", "none.py"), ("list", "--rules", "none.py")):
        done = dna(folder, "rules", *words)
        assert done.returncode == EXIT_USAGE, words
        assert "none.py" in done.stderr


def test_a_folder_without_rule_files_says_so(folder: Path) -> None:
    (folder / "empty").mkdir(mode=0o755)
    done = dna(folder, "rules", "check", "empty")
    assert done.returncode == EXIT_USAGE
    assert "no rule file is in empty" in done.stderr


def test_a_file_that_others_can_write_is_refused_with_the_command_that_mends_it(folder: Path) -> None:
    path = a_rule(folder / "mine.py")
    path.chmod(0o666)
    done = dna(folder, "rules", "list", "--rules", path)
    assert done.returncode == EXIT_REFUSED
    assert f"chmod go-w {path}" in done.stderr
    (found,) = json.loads(dna(folder, "rules", "check", path, "--json").stdout)
    assert found["code"] == "untrusted"


# --- listing


def test_rules_come_from_options_and_the_environment(folder: Path) -> None:
    given, environment = a_rule(folder / "given.py"), a_rule(folder / "other.py")
    done = dna(folder, "rules", "list", "--rules", given, "--no-packs", "--json", DNA_RULES=str(environment))
    assert [(one["rule"], one["from"]) for one in json.loads(done.stdout)] == [
        ("given.one", "given"),
        ("other.one", "environment"),
    ]
    done = dna(folder, "rules", "list", "--packs", "numa, cpu", "--json")
    assert {one["rule"].partition(".")[0] for one in json.loads(done.stdout)} == {"numa", "cpu"}
    table = dna(folder, "rules", "list")
    assert all(rule.identity in table.stdout for rule in load_all(Sources(system=None)).rules)


def test_a_shipped_rule_that_is_replaced_is_said(folder: Path) -> None:
    path = write(
        folder / "numa.py",
        RULE.format(conditions="w.demand.cores > 1", nice=3).replace("def one", "def keep_on_one_node"),
    )
    listed = json.loads(dna(folder, "rules", "list", "--rules", path, "--json").stdout)
    (found,) = [one for one in listed if one["rule"] == "numa.keep_on_one_node"]
    assert found["replaces"].endswith("packs/numa.py")
    assert "takes the place" in dna(folder, "rules", "list", "--rules", path).stdout


def test_contradicting_options_are_usage(folder: Path) -> None:
    assert dna(folder, "rules", "list", "--packs", "numa", "--no-packs").returncode == EXIT_USAGE
    done = dna(folder, "rules", "list", "--packs", "nume")
    assert done.returncode == EXIT_USAGE
    assert "numa" in done.stderr


# --- trying


def test_a_failing_case_fails(folder: Path) -> None:
    path = a_rule(folder / "mine.py")
    test = write(
        folder / "test_mine.py",
        """
        from rules.testing import beside, given
        RULES = beside(__file__)

        def test_fires():
            assert given({"demand.cores": 0.5}).ask(RULES).fired("one")
        """,
    )
    done = dna(folder, "rules", "test", path)
    assert done.returncode == EXIT_FAILED
    assert f"{test}:6: test_fires fails: assert given(" in done.stdout
    found = json.loads(dna(folder, "rules", "test", path, "--json").stdout)["files"]
    assert found[0]["never_fired"] == ["mine.one"]
    assert [case["passed"] for case in found[0]["cases"]] == [False]


def test_stored_profiles_are_replayed_against_what_is_installed(folder: Path) -> None:
    stored(folder)
    path = a_rule(folder / "mine.py")
    done = dna(folder, "rules", "test", path)
    assert done.returncode == 0, done.stderr
    assert "1 would be advised otherwise" in done.stdout
    assert "new      mine.one: cpu.nice=3" in done.stdout
    (found,) = json.loads(dna(folder, "rules", "test", path, "--json", "--topology", "numa:2 core:4 pu:1").stdout)[
        "replay"
    ]
    assert [one["rule"] for one in found["new"]] == ["mine.one"]
    assert "Replayed" not in dna(folder, "rules", "test", path, "--replay", "0").stdout


def test_what_is_compared_with_is_the_installed_file_of_that_name(folder: Path) -> None:
    stored(folder)
    (folder / "installed").mkdir(mode=0o755)
    installed, changed = a_rule(folder / "installed" / "mine.py"), a_rule(folder / "mine.py", nice=5)
    by = {"DNA_RULES": str(installed)}
    (found,) = json.loads(dna(folder, "rules", "test", installed, "--json", **by).stdout)["replay"]
    assert [found[kind] for kind in ("new", "gone", "changed")] == [[], [], []]
    (found,) = json.loads(dna(folder, "rules", "test", changed, "--json", **by).stdout)["replay"]
    assert [(one["before"][0]["value"], one["settings"][0]["value"]) for one in found["changed"]] == [(3, 5)]
    assert [found[kind] for kind in ("new", "gone")] == [[], []]


def test_a_broken_installed_file_is_left_out_and_said(folder: Path) -> None:
    write(folder / "broken.py", "1 / 0\n")
    done = dna(folder, "rules", "test", a_rule(folder / "mine.py"), DNA_RULES=str(folder / "broken.py"))
    assert done.returncode == 0
    assert "broken.py" in done.stderr


# --- explaining


def exported(folder: Path, cores: float = 2.0) -> Path:
    path = folder / "busy.json"
    path.write_text(json.dumps(to_json(stored(folder, cores))))
    return path


def test_every_condition_is_explained_with_value_threshold_and_margin(folder: Path) -> None:
    path = a_rule(folder / "mine.py", "w.demand.cores > 1, w.memory.random_share > 0.5")
    words = ("rules", "explain", exported(folder), "--rules", path, "--no-packs", "--json")
    (found,) = json.loads(dna(folder, *words).stdout)
    assert (found["rule"], found["outcome"]) == ("mine.one", "cannot tell")
    cores, share = found["conditions"]
    assert (cores["actual"], cores["threshold"], cores["margin"], cores["holds"]) == ("2", "> 1", 1.0, True)
    assert (share["actual"], share["holds"]) == ("unknown", None)


def test_why_rules_fire_or_not_on_a_described_machine(folder: Path) -> None:
    path = a_rule(folder / "mine.py")
    stored(folder)
    done = dna(folder, "rules", "explain", "last", "--rules", path, "--topology", "pack:2 numa:1 core:8 pu:2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine.one for busy  proposed")
    assert "cpu.nice=3" in done.stdout
    assert "does not hold" in done.stdout


def test_one_rule_is_explained_in_full_and_a_wrong_name_is_usage(folder: Path) -> None:
    path = exported(folder)
    done = dna(folder, "rules", "explain", path, "--rule", "numa.keep_on_one_node")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("keep_on_one_node") == 1
    assert "m.nodes >= 2" in done.stdout
    wrong = dna(folder, "rules", "explain", path, "--rule", "keep_on_one_nod")
    assert wrong.returncode == EXIT_USAGE
    assert "keep_on_one_node" in wrong.stderr


def test_without_anything_named_it_says_what_to_give(folder: Path) -> None:
    done = dna(folder, "rules", "explain")
    assert done.returncode == EXIT_USAGE
    assert "--pid" in done.stderr


def test_a_running_program_is_explained(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            done = dna(
                folder, "rules", "explain", "--pid", busy.pid, "--interval", "0.5", "--duration", "1.5",
                "--rules", a_rule(folder / "mine.py"), "--rule", "one", "--json",
            )  # fmt: skip
        finally:
            busy.kill()
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["rule"] == "mine.one"
    assert found["conditions"][0]["actual"] not in ("", "unknown")
