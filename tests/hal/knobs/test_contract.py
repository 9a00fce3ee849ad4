"""What every knob keeps to; the knobs find themselves."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import hal.knobs
from hal.apply import apply
from hal.errors import SettingError
from hal.host import Host
from hal.journal import Journal
from hal.knobs import all_knobs, knob_of
from hal.knobs.files import FileKnob
from hal.knobs.knob import Knob
from hal.planning import make_plan
from hal.settings import APPROXIMATE, EXACT, IRREVERSIBLE, Setting
from hal.undo import undo
from tests.hal.knobs.machine import cases, furnished, snapshot

DOCS = Path(__file__).parents[3] / "docs" / "knobs"
KNOBS = all_knobs()
MALFORMED = [
    "",
    " ",
    "-1",
    "-9223372036854775808",
    str(2**63),
    str(2**64),
    "nan",
    "1e3",
    "0x10",
    "a b",
    ",",
    "-",
    "0--1",
    "٣",
    "\x00",
    "1\n2",
    "9" * 400,
    "0-9:1/0",
    "1_0",
    "5-2",
]


def subclasses(kind: Any) -> set[Any]:
    found = {kind}
    for child in kind.__subclasses__():
        found |= subclasses(child)
    return found


def test_every_knob_that_is_written_is_offered() -> None:
    for module in pkgutil.iter_modules(hal.knobs.__path__, "hal.knobs."):
        importlib.import_module(module.name)
    concrete = {kind for kind in subclasses(Knob) if kind.__module__.startswith("hal.") and "name" in vars(kind)}
    assert {kind.name for kind in concrete} <= set(KNOBS)
    assert {knob.name.split(".")[0] for knob in KNOBS.values()} >= {
        "cpu",
        "memory",
        "irq",
        "nic",
        "pcie",
        "cgroup",
        "block",
        "power",
    }


@pytest.mark.parametrize("knob", KNOBS.values(), ids=str)
class TestEveryKnob:
    def test_it_is_described(self, knob: Knob) -> None:
        assert knob.title
        assert knob.values
        assert knob.reversibility in (EXACT, APPROXIMATE, IRREVERSIBLE)
        assert bool(knob.reversal) == (knob.reversibility != EXACT), "what undoing does not restore must be said"

    def test_it_is_documented(self, knob: Knob) -> None:
        family = knob.name.split(".")[0]
        assert f"## {knob.name}\n" in (DOCS / f"{family}.md").read_text()

    def test_its_example_is_canonical(self, knob: Knob) -> None:
        value = knob.parse(knob.example)
        assert knob.same(value, value)
        if not isinstance(value, bool):
            assert knob.parse(str(value)) == value

    def test_malformed_values_are_refused_or_canonical(self, knob: Knob) -> None:
        """Nothing but a SettingError; what does parse must mean something: written out, it parses to itself."""
        for text in MALFORMED:
            with contextlib.suppress(SettingError):
                value = knob.parse(text)
                again = knob.parse(str(int(value)) if isinstance(value, bool) else str(value))
                assert again == value, ascii(text)

    @pytest.mark.parametrize("text", ["", str(2**63), "\x00", "9" * 400])
    def test_nonsense_is_refused(self, knob: Knob, text: str) -> None:
        with pytest.raises(SettingError) as caught:
            knob.parse(text)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)

    def test_it_says_whether_it_works(self, knob: Knob) -> None:
        support = knob.support(furnished())
        assert support.works, f"the machine in memory lacks {knob.name}: {support.reason}"

    def test_two_settings_are_one_in_which_the_later_holds(self, knob: Knob) -> None:
        host = furnished()
        earlier, later = cases(host)[knob.name][1], knob.parse(knob.example)
        assert knob.merged(host, later, later) == later
        both = knob.merged(host, earlier, later)
        assert knob.same(later, both)
        if not isinstance(both, bool):
            assert knob.parse(str(both)) == both

    def test_where_nothing_is_it_says_so(self, knob: Knob) -> None:
        from hal.fake import FakeHost

        support = knob.support(FakeHost({"/proc/self/mounts": ""}))
        assert support.works or (support.reason and support.remedy)

    def test_read_write_read_undo(self, knob: Knob, tmp_path: Path) -> None:
        host = furnished()
        subject, value = cases(host)[knob.name]
        before, old = snapshot(host), knob.read(host, subject)
        assert knob.is_action or not knob.same(value, old), "the case must change something"
        journal = Journal(tmp_path)
        plan = make_plan(host, [Setting(knob.name, subject, value)])
        # What belongs together is changed together: both ends of a link.
        assert (knob.name, subject) in [change.key for change in plan.changes], plan.left_out
        assert {change.knob for change in plan.changes} == {knob.name}
        done = apply(plan, host, journal)
        assert done.done == plan.changes
        assert knob.is_action or knob.same(value, knob.read(host, subject))
        undone = undo(host, journal, done.identity)
        assert not undone.failed
        if knob.reversibility == EXACT:
            assert snapshot(host) == before
            assert not undone.kept
        elif knob.reversibility == APPROXIMATE:
            assert knob.same(old, knob.read(host, subject))
        else:
            assert undone.kept[0].left

    def test_planning_and_looking_write_nothing(self, knob: Knob) -> None:
        host = furnished()
        subject, value = cases(host)[knob.name]
        make_plan(host, [Setting(knob.name, subject, value)])
        list(knob.subjects(host))
        knob.support(host)
        assert host.writes == []

    def test_a_second_time_there_is_nothing_to_do(self, knob: Knob, tmp_path: Path) -> None:
        if knob.is_action:
            pytest.skip("an action is done each time")
        host = furnished()
        subject, value = cases(host)[knob.name]
        apply(make_plan(host, [Setting(knob.name, subject, value)]), host, Journal(tmp_path))
        assert make_plan(host, [Setting(knob.name, subject, value)]).changes == ()


def test_an_unknown_knob_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingError) as caught:
        knob_of("cpu.afinity")
    assert "cpu.affinity" in caught.value.remedy


def test_files_are_read_as_they_are_written() -> None:
    """A file knob's decode of its encode is the value, for the values of all cases."""
    host: Host = furnished()
    for name, (_, value) in cases(host).items():  # type: ignore[arg-type]
        knob = KNOBS[name]
        if isinstance(knob, FileKnob) and type(knob).write is FileKnob.write:
            assert knob.same(value, knob.decode(knob.encode(value)))
