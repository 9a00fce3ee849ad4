"""Each thing that a check finds is found where it is, and nothing where it is not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from rules.findings import CODES, ERROR, WARNING, Finding
from rules.lint import lint, of_error
from rules.loader import RuleFile, load
from rules.new import write_new
from rules.sources import Sources, load_all

ROOT = Path(__file__).resolve().parents[2]
HEAD = '"""Rules."""\nfrom rules import all_of, any_of, choice, m, never, nic, none_of, o, Option, rule, s, w, when\n'
FULL = 'expect="throughput +5 %", source="here"'
BODY = '    """Because."""\n    yield s.memory.hugepages(workload)\n'
type Check = Callable[..., list[Finding]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check the text of a rule file, with a test beside it that names all its rules."""

    def checked(
        text: str, *, test: str | None = None, among: Iterable[RuleFile] = (), name: str = "mine"
    ) -> list[Finding]:
        path = tmp_path / f"{name}.py"
        path.write_text(HEAD + textwrap.dedent(text))
        beside = tmp_path / f"test_{name}.py"
        names = re.findall(r"def (\w+)", text)
        if test != "":
            beside.write_text(f"NAMES = {names!r}\n" if test is None else test)
        return lint([load(path)], among=among)

    return checked


def a_rule(conditions: str, *, name: str = "one", how: str = FULL, body: str = BODY, takes: str = "workload") -> str:
    when = f"@when({conditions})\n" if conditions else ""
    return f"@rule({how})\n{when}def {name}({takes}):\n{body}"


def codes(found: Iterable[Finding]) -> list[str]:
    return [one.code for one in found]


def the_one(found: list[Finding], code: str) -> Finding:
    assert codes(found) == [code], found
    assert found[0].remedy
    return found[0]


SOUND = a_rule('w.memory.random_share > 0.6, w.demand.resident > "1 GiB", m.hugepages.available')


def test_a_sound_file_gives_nothing(check: Check) -> None:
    assert check(SOUND) == []


def test_what_dna_writes_is_sound(tmp_path: Path) -> None:
    path, _ = write_new(tmp_path / "mine.py")
    assert lint([load(path)], among=load_all(Sources(system=None)).files) == []


def test_the_shipped_packs_are_sound() -> None:
    assert lint(load_all(Sources(system=None)).files) == []


def test_every_code_is_described_and_documented() -> None:
    page = (ROOT / "docs/rules-tools.md").read_text()
    for code, (severity, meaning) in CODES.items():
        assert severity in (ERROR, WARNING)
        assert re.search(rf"\| `{code}` \| {severity} \| {re.escape(meaning)}", page), code


def test_every_code_has_a_test() -> None:
    text = Path(__file__).read_text()
    assert [code for code in CODES if text.count(f'"{code}"') == 0] == []


# --- files


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = = 1\n", "load"),
        ("1 / 0\n", "load"),
        (a_rule("w.memory.random_shar > 0.6"), "unknown-fact"),
        (a_rule("w.memory.random_share > '1 GiB'"), "amount"),
        (a_rule("w.demand.resident > '512 XB'"), "amount"),
        (a_rule("w.demand.resident > w.demand.cores"), "amount"),
    ],
)
def test_what_cannot_be_loaded(check: Check, text: str, code: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        check(text)
    path = Path("mine.py")
    (finding,) = of_error(caught.value, path)  # type: ignore[arg-type]
    assert finding.code == code
    assert finding.severity == ERROR
    assert finding.place.line > 1
    assert str(finding.place) not in finding.message


def test_what_others_can_write(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + SOUND)
    path.chmod(0o666)
    with pytest.raises(Exception, match="others") as caught:
        load(path)
    (finding,) = of_error(caught.value, path)  # type: ignore[arg-type]
    assert (finding.code, finding.place.file) == ("untrusted", str(path))


def test_a_file_without_rules(check: Check) -> None:
    the_one(check("X = 1\n"), "no-rules")


def test_a_file_that_prints(check: Check) -> None:
    assert "hello" in the_one(check("print('hello')\n" + SOUND), "prints").message


def test_one_identity_twice(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(HEAD + SOUND)
        (tmp_path / folder / "test_mine.py").write_text('NAME = "one"')
        files.append(load(tmp_path / folder / "mine.py"))
    found = the_one(lint(files), "duplicate")
    assert str(tmp_path / "a" / "mine.py") in found.message


def test_tests_that_are_missing(check: Check) -> None:
    assert the_one(check(SOUND, test=""), "no-test").severity == WARNING
    the_one(check(SOUND, test="x = = 1\n"), "no-test")
    assert the_one(check(SOUND, test="NAME = 'other'\n"), "untested").rule == "mine.one"
    assert check(SOUND, test="NAME = 'mine.one'\n") == []


# --- conditions


@pytest.mark.parametrize(
    "conditions",
    [
        "w.memory.random_share > 1",
        "w.memory.random_share > 60",
        "w.memory.random_share > 0.6, w.memory.random_share < 0.5",
        "w.memory.random_share.between(0.6, 0.4)",
        "~(w.memory.random_share >= 0)",
        "m.governor == 'a', m.governor == 'b'",
        "(w.memory.random_share > 0.6).for_at_least(2), w.memory.random_share < 0.5",
        "m.virtual, ~m.virtual, w.demand.cores > 1",
        "any_of(w.memory.random_share > 2, w.memory.random_share < 0)",
    ],
)
def test_what_never_holds(check: Check, conditions: str) -> None:
    found = check(a_rule(conditions))
    assert set(codes(found)) == {"never"}
    assert all(one.severity == ERROR for one in found)


def test_a_contradiction_names_only_those_that_make_it(check: Check) -> None:
    text = a_rule("\n    w.memory.random_share > 0.6,\n    m.nodes > 1,\n    w.memory.random_share < 0.5,\n")
    found = the_one(check(text), "never")
    assert "m.nodes" not in found.message
    assert found.place.line == (HEAD + text).splitlines().index("    w.memory.random_share < 0.5,") + 1


def test_the_range_of_a_fact_is_said(check: Check) -> None:
    assert "from 0 to 1" in the_one(check(a_rule("w.memory.random_share > 60")), "never").message


@pytest.mark.parametrize(
    "condition",
    ["w.memory.random_share >= 0", "w.memory.random_share < 2", "any_of(m.nodes > 1, m.nodes <= 1)", "~(m.cpus < 0)"],
)
def test_what_always_holds(check: Check, condition: str) -> None:
    assert the_one(check(a_rule(f"w.demand.cores > 1, {condition}")), "always").severity == WARNING


def test_what_follows_from_the_others(check: Check) -> None:
    found = the_one(check(a_rule("w.memory.random_share > 0.6, m.nodes > 1, w.memory.random_share > 0.5")), "redundant")
    assert "> 0.5" in found.message
    assert codes(check(a_rule("w.memory.random_share > 0.6, w.memory.random_share > 0.6"))) == ["redundant"]
    assert check(a_rule("w.memory.random_share > 0.6, any_of(w.memory.random_share > 0.9, m.nodes > 1)")) == []


@pytest.mark.parametrize(
    "condition",
    [
        "w.memory.random_share == 0.5",
        "w.demand.cores == 1",
        "o.demand.resident != '1 GiB'",
        "m.load == 0.5",
        "w.demand.cores == o.demand.cores",
    ],
)
def test_measured_numbers_that_are_compared_exactly(check: Check, condition: str) -> None:
    assert "exact" in codes(check(a_rule(condition)))


@pytest.mark.parametrize(
    "condition",
    ["m.nodes == 2", "m.llc_size == '32 MiB'", "w.io.device_share == 0", "w.cpus.nodes != 1", "nic.rx_queues == 1"],
)
def test_counts_and_sizes_may_be_compared_exactly(check: Check, condition: str) -> None:
    assert check(a_rule(condition)) == []


# --- bodies


@pytest.mark.parametrize(
    ("body", "code", "hint"),
    [
        ("yield s.memory.hugepage(workload)", "unknown-setting", "s.memory.hugepages"),
        ("yield s.memry.hugepages(workload)", "unknown-setting", "s.memory.hugepages"),
        ("yield s.memory.hugepages(workload, 'sometimes')", "bad-value", ""),
        ("yield s.memory.swappiness(-1)\n    print(workload)", "bad-value", ""),
        ("yield s.nic.mtu(workload, 9000)", "wrong-subject", "nic"),
        ("yield s.cpu.affinity(nic, '0')\n    print(workload)", "wrong-subject", "process"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(check: Check, body: str, code: str, hint: str) -> None:
    takes = "workload, nic" if "nic," in body else "workload"
    text = a_rule("w.demand.cores > 1, nic.up", body=f'    """Because."""\n    {body}\n', takes=takes)
    found = the_one(check(text), code)
    assert hint in found.remedy
    assert found.place.line == (HEAD + text).splitlines().index(f"    {body}".splitlines()[0]) + 1


def test_settings_in_functions_that_the_body_calls(check: Check) -> None:
    text = "def help_with(of):\n    return s.memory.hugepages(of, 'sometimes')\n" + a_rule(
        "w.demand.cores > 1", body='    """Because."""\n    yield help_with(workload)\n'
    )
    the_one(check(text, test="NAME = 'one'"), "bad-value")


def test_a_body_that_says_nothing(check: Check) -> None:
    the_one(check(a_rule("w.demand.cores > 1", body='    """Because."""\n    print(workload)\n')), "no-settings")


def test_vetoes_and_choices_are_something_to_say(check: Check) -> None:
    assert (
        check(a_rule("w.demand.cores > 1", body='    """Because."""\n    yield never(workload, "cpu.*", "why")\n'))
        == []
    )
    options = "Option('a', (s.cpu.nice(workload, 1),)), Option('b', (s.cpu.nice(workload, 2),))"
    assert check(a_rule("w.demand.cores > 1", body=f'    """Because."""\n    yield choice("x", {options})\n')) == []


def test_what_the_body_does_not_use(check: Check) -> None:
    found = the_one(check(a_rule("w.demand.cores > 1", takes="workload, machine")), "unused")
    assert "machine" in found.message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (a_rule("w.demand.cores > 1", body="    yield s.memory.hugepages(workload)\n"), "no-reason"),
        (a_rule("w.demand.cores > 1", how='source="here"'), "no-expect"),
        (a_rule("w.demand.cores > 1", how='expect="throughput +5 %"'), "no-source"),
    ],
)
def test_what_is_not_said(check: Check, text: str, code: str) -> None:
    assert the_one(check(text), code).rule == "mine.one"


# --- rivals


def nice(value: object, on: str = "workload") -> str:
    return f'    """Because."""\n    yield s.cpu.nice({on}, {value!r})\n'


def test_two_rules_of_equal_rank_for_one_setting(check: Check) -> None:
    found = the_one(
        check(a_rule("w.demand.cores > 1", body=nice(5)) + a_rule("w.demand.threads > 8", name="two", body=nice(10))),
        "unordered",
    )
    assert found.rule == "mine.two"
    assert "mine.one" in found.message
    assert "cpu.nice" in found.message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (a_rule("w.demand.cores > 1", body=nice(5)), a_rule("w.demand.cores < 1", name="two", body=nice(10))),
        (a_rule("m.governor == 'a'", body=nice(5)), a_rule("m.governor == 'b'", name="two", body=nice(10))),
        (a_rule("w.demand.cores > 1", body=nice(5)), a_rule("w.demand.threads > 8", name="two", body=nice(5))),
        (
            a_rule("w.demand.cores > 1", body=nice(5)),
            a_rule("w.demand.threads > 8", name="two", how=f"priority=1, {FULL}", body=nice(6)),
        ),
        (
            a_rule("w.demand.cores > 1", body=nice(5)),
            a_rule("w.demand.threads > 8, m.nodes > 1", name="two", body=nice(6)),
        ),
        (a_rule("w.demand.cores > 1", body=nice(5)), a_rule("w.demand.threads > 8", name="two")),
    ],
    ids=["numbers exclude", "words exclude", "same value", "priority", "specificity", "another setting"],
)
def test_two_rules_that_do_not_quarrel(check: Check, first: str, second: str) -> None:
    assert check(first + second) == []


def test_a_setting_of_the_whole_machine_is_wanted_by_every_workload(check: Check) -> None:
    """What excludes two workloads' conditions does not exclude two workloads."""
    on, off = (
        '    """Because."""\n    print(workload)\n' + f"    yield s.memory.numa_balancing({value})\n"
        for value in (1, 0)
    )
    both = a_rule("w.demand.cores > 1", body=on) + a_rule("w.demand.cores < 1", name="two", body=off)
    the_one(check(both), "unordered")
    apart = a_rule("m.nodes > 1", body=on) + a_rule("m.nodes < 2", name="two", body=off)
    assert check(apart) == []


def test_rules_about_either_of_a_pair(check: Check) -> None:
    one = a_rule("w.demand.cores > 1", body=nice(5))
    other = a_rule("o.demand.threads > 8", name="two", takes="other", body=nice(10, "other"))
    the_one(check(one + other), "unordered")
    apart = a_rule("o.demand.cores < 1", name="two", takes="other", body=nice(10, "other"))
    assert check(one + apart) == []


def test_a_rule_that_may_fire_both_ways_for_a_pair(check: Check) -> None:
    body = '    """Because."""\n    yield s.cpu.nice(workload, 1)\n    yield s.cpu.nice(other, 2)\n'
    found = the_one(
        check(a_rule("w.demand.cores > 1, o.demand.threads > 8", takes="workload, other", body=body)), "unordered"
    )
    assert "both of a pair" in found.message
    told_apart = "w.demand.cores > 1, o.demand.cores < 1"
    assert check(a_rule(told_apart, takes="workload, other", body=body)) == []


def test_a_rule_that_never_gets_its_turn(check: Check) -> None:
    loser = a_rule("w.demand.cores > 2, m.nodes > 1", body=nice(5))
    winner = a_rule("w.demand.cores > 1", name="two", how=f"priority=5, {FULL}", body=nice(10))
    found = the_one(check(loser + winner), "unreachable")
    assert found.rule == "mine.one"
    assert "mine.two" in found.message


@pytest.mark.parametrize(
    "winner",
    [
        a_rule("w.demand.cores > 3", name="two", how=f"priority=5, {FULL}", body=nice(10)),
        a_rule("w.demand.cores > 1, m.virtual", name="two", how=f"priority=5, {FULL}", body=nice(10)),
        a_rule("w.demand.cores > 1, w.demand.threads >= 0", name="two", how=f"priority=5, {FULL}", body=nice(10)),
        a_rule("w.demand.cores > 1, nic.up", name="two", how=f"priority=5, {FULL}", body=nice(10)),
        a_rule("w.demand.cores > 1", name="two", how=f"priority=5, {FULL}", body=nice(5)),
        a_rule("w.demand.cores > 1", name="two", how=f"priority=-5, {FULL}", body=nice(10)),
        a_rule(
            "w.demand.cores > 1", name="two", how=f"priority=5, {FULL}",
            body='    """Because."""\n    if workload.home:\n        yield s.cpu.nice(workload, 10)\n',
        ),
        a_rule(
            "w.demand.cores > 1", name="two", how=f"priority=5, {FULL}",
            body='    """Because."""\n    if workload.home:\n        return\n    yield s.cpu.nice(workload, 10)\n',
        ),
    ],
    ids=["narrower", "another fact", "may be unknown", "needs a card", "same value", "lower rank", "sometimes", "leaves early"],
)  # fmt: skip
def test_a_rule_that_may_get_its_turn(check: Check, winner: str) -> None:
    loser = a_rule("w.demand.cores > 2, m.nodes > 1", body=nice(5))
    assert "unreachable" not in codes(check(loser + winner))


def test_rules_that_are_in_effect_beside_it_count_but_nothing_is_said_of_them(check: Check, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "theirs.py").write_text(HEAD + a_rule("w.demand.cores > 1", how="priority=5", body=nice(10)))
    found = check(a_rule("w.demand.cores > 2", body=nice(5)), among=[load(installed / "theirs.py")])
    assert "theirs.one" in the_one(found, "unreachable").message


def test_a_rule_that_is_replaced_is_no_rival(check: Check, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "mine.py").write_text(HEAD + a_rule("w.demand.cores > 1", how="priority=5", body=nice(10)))
    assert check(a_rule("w.demand.cores > 2", body=nice(5)), among=[load(installed / "mine.py")]) == []
