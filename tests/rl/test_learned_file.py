"""What was learned, handed on as a file: it comes back the same, and a hostile file gets one clear line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.errors import LearnedFileError
from rl.learned import Learned
from rl.learned_file import MOST_ITEMS, learned_data, learned_of, read_learned
from rl.memory import Memory
from tests.rl.lessons import NOW, proof, sentence, trial

WHOLE = Learned((trial(), trial(at=NOW - 5, interval=None, probability=None)), (proof(),), (sentence(),))


def imported(learned: Learned) -> Learned:
    return Learned(
        tuple(replace(one, imported=True) for one in learned.trials),
        tuple(replace(one, imported=True) for one in learned.proofs),
        tuple(replace(one, imported=True) for one in learned.sentences),
    )


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(learned_data(WHOLE, tool="dna", written=NOW), allow_nan=False))
    return found


def test_what_is_written_comes_back_as_imported(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    path.write_text(json.dumps(document()))
    assert read_learned(path, now=NOW) == imported(WHOLE)


def test_what_is_there_already_is_not_there_twice(tmp_path: Path) -> None:
    """Also what was learned here, exported, and comes back: it stays one's own."""
    with Memory.open(tmp_path / "learned.db") as memory:
        memory.add(WHOLE)
        assert memory.add(learned_of(document(), now=NOW)) == 0
        assert memory.read().trials[0].imported is False
    with Memory.open(tmp_path / "other.db") as memory:
        assert [memory.add(learned_of(document(), now=NOW)) for _ in range(2)] == [4, 0]
        assert memory.read() == imported(WHOLE)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = copy.deepcopy(document())
    change(found)
    return found


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "schema": lambda d: d.update(schema="workload-dna/learned/2"),
    "origins is no list": lambda d: d.update(origins={}),
    "entries": lambda d: d.update(trials=[0] * (MOST_ITEMS + 1)),
    "trials[0] is no object": lambda d: d.update(trials=["x"]),
    "trials[0].origin": lambda d: d["trials"][0].update(origin=7),
    "trials[0].origin is": lambda d: d["trials"][0].update(origin=-1),
    "trials[0].gain is not between": lambda d: d["trials"][0].update(gain=1e300),
    "trials[0].gain is no number": lambda d: d["trials"][0].update(gain=True),
    "trials[0].weight is not": lambda d: d["trials"][0].update(weight=-1),
    "trials[0].at is not": lambda d: d["trials"][0].update(at=NOW * 2),
    "trials[0].outcome is none of": lambda d: d["trials"][0].update(outcome="won"),
    "trials[0].vector is longer": lambda d: d["trials"][0].update(vector=[0] * 10_000),
    "trials[0].vector is no list of numbers": lambda d: d["trials"][0].update(vector=[0, "1"]),
    "trials[0].interval is the wrong way": lambda d: d["trials"][0].update(interval=[1, 0]),
    "trials[0].interval is no pair": lambda d: d["trials"][0].update(interval=[1]),
    "trials[0].interval is no pair of": lambda d: d["trials"][0].update(interval=[-(10**400), 10**400]),
    "trials[0].probability is not": lambda d: d["trials"][0].update(probability=2),
    "trials[0].arm.name is longer": lambda d: d["trials"][0]["arm"].update(name="x" * 5000),
    "trials[0].arm.name is": lambda d: d["trials"][0]["arm"].update(name="\x1b[31mred"),
    "trials[0].arm.parts is": lambda d: d["trials"][0]["arm"].update(parts=[["deep"]]),
    "trials[0].offered is longer": lambda d: d["trials"][0].update(offered=[{}] * 1000),
    "trials[0].offered[0] is no object": lambda d: d["trials"][0].update(offered=[1]),
    "sentences[0].until is not": lambda d: d["sentences"][0].update(until=1e18),
    "sentences[0].length_s is not": lambda d: d["sentences"][0].update(length_s=-5),
    "proofs[0].gain is no number": lambda d: d["proofs"][0].update(gain=None),
    "origins[0].machine is no object": lambda d: d["origins"][0].update(machine=None),
    "origins[0].machine.cpus is no whole number": lambda d: d["origins"][0]["machine"].update(cpus=1.5),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_what_is_not_as_it_must_be_is_said_in_one_line(tmp_path: Path, words: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(changed(HOSTILE[words])))
    with pytest.raises(LearnedFileError) as caught:
        read_learned(path, now=NOW)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not what"),
        (b"{", "not what"),
        (b"[" * 100_000, "too deep"),
        (b"\xff\xfe", "not text"),
        (b'{"schema": NaN}', "NaN"),
        (b"null", "no object"),
    ],
)
def test_what_is_no_document_is_said_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    with pytest.raises(LearnedFileError, match=words) as caught:
        read_learned(path, now=NOW)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_none_are_refused_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    for constant in ("NaN", "Infinity", "-Infinity", "1e999"):
        path.write_text(json.dumps(document()).replace('"gain": 0.1', f'"gain": {constant}', 1))
        with pytest.raises(LearnedFileError):
            read_learned(path, now=NOW)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it has no blocks
    with pytest.raises(LearnedFileError, match="larger than"):
        read_learned(path, now=NOW)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LearnedFileError, match="No such file"):
        read_learned(tmp_path / "none.json", now=NOW)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@pytest.mark.long
@given(value=VALUES, where=st.sampled_from(["origins", "trials", "proofs", "sentences"]), data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_put_in_place_of_a_field_it_is_taken_or_refused(
    value: object, where: str, data: st.DataObject
) -> None:
    found = document()
    name = data.draw(st.sampled_from(sorted(found[where][0])))
    found[where][0][name] = value
    try:
        learned = learned_of(found, now=NOW)
    except ValueError:
        return
    assert len(learned.trials) == 2
