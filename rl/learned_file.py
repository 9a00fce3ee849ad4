"""What was learned as a file to hand on: versioned JSON, read back with distrust.

A file may come from anywhere, so nothing in it is believed but what has the right shape and size. What is imported counts as learned on
another machine (see ``rl.carry``): it can make an arm be tried earlier or later, never kept untried, nor held back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from rl.decision import EVENTS
from rl.errors import LearnedFileError
from rl.learned import Learned, LearnedProof, LearnedSentence, LearnedTrial, MachineFacts, Numbers, Origin
from rl.policy import Arm

SCHEMA = "workload-dna/learned/1"
MOST_BYTES = 64 * 1024 * 1024
MOST_ITEMS = 50_000
MOST_TEXT = 1_000
MOST_PARTS = 200
MOST_OFFERED = 500
MOST_NUMBERS = 256
LARGEST_GAIN = 10.0
"""Of a gain's logarithm: more than 22,000 times as fast is no measurement."""
LARGEST_LIMIT = 1e6
LARGEST_WEIGHT = 1_000.0
LONGEST_S = 366 * 86_400.0
AHEAD_S = 86_400.0
"""By so much another machine's clock may be ahead."""


def learned_data(learned: Learned, *, tool: str = "", written: float) -> dict[str, object]:
    """Return the document of what was learned; origins once each, in a list that the rest refers to."""
    every: list[Any] = [*learned.trials, *learned.proofs, *learned.sentences]
    origins = list(dict.fromkeys(one.origin for one in every))
    number = {origin: index for index, origin in enumerate(origins)}

    def common(one: Any) -> dict[str, object]:
        return {"origin": number[one.origin], "at": one.at, "cluster": one.cluster, "vector": list(one.vector)}

    return {
        "schema": SCHEMA,
        "tool": tool,
        "written": written,
        "origins": [asdict(origin) for origin in origins],
        "trials": [common(one) | _trial_data(one) for one in learned.trials],
        "proofs": [common(one) | {"parts": list(one.parts), "gain": one.gain} for one in learned.proofs],
        "sentences": [
            common(one) | {"arm": one.arm, "until": one.until, "length_s": one.length_s} for one in learned.sentences
        ],
    }


def read_learned(path: Path, *, now: float) -> Learned:
    """Read such a document from a file, everything in it marked as imported.

    Raises:
        LearnedFileError: it cannot be read, or any of it is not as it must be; the message says what, in one line.
    """
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise LearnedFileError(f"{path}: it is larger than {MOST_BYTES >> 20} MiB", remedy=_REMEDY)
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_BYTES + 1)  # a pipe has no size
    except UnicodeDecodeError as error:
        raise LearnedFileError(f"{path}: it is not text", remedy=_REMEDY) from error
    except OSError as error:
        raise LearnedFileError(f"{path}: {error.strerror}", remedy=_REMEDY) from error
    if len(text) > MOST_BYTES:
        raise LearnedFileError(f"{path}: it is larger than {MOST_BYTES >> 20} MiB", remedy=_REMEDY)
    try:
        return learned_of(json.loads(text, parse_constant=_refuse), now=now)
    except (ValueError, RecursionError) as error:
        raise LearnedFileError(
            f"{path} is not what `dna learn export` writes: {_line(error)}", remedy=_REMEDY
        ) from error


def learned_of(document: object, *, now: float) -> Learned:
    """Return what a document holds.

    Raises:
        ValueError: any of it is not as it must be.
    """
    top = _mapping(document, "the top level")
    if top.get("schema") != SCHEMA:
        raise ValueError(f"schema {str(top.get('schema'))[:60]!r}; this version of dna reads {SCHEMA!r}")
    origins = [_origin(_Item(one, f"origins[{n}]", now)) for n, one in enumerate(_items(top, "origins"))]

    def each[T](name: str, make: Callable[[_Item, Origin], T]) -> tuple[T, ...]:
        items = (_Item(one, f"{name}[{n}]", now) for n, one in enumerate(_items(top, name)))
        return tuple(make(item, _pick(origins, item)) for item in items)

    return Learned(each("trials", _trial), each("proofs", _proof), each("sentences", _sentence))


def _trial_data(one: LearnedTrial) -> dict[str, object]:
    return {
        "run": one.run,
        "arm": asdict(one.arm),
        "gain": one.gain,
        "weight": one.weight,
        "outcome": one.outcome,
        "interval": list(one.interval) if one.interval else None,
        "offered": [asdict(arm) for arm in one.offered],
        "probability": one.probability,
        "share": one.share,
    }


@dataclass(frozen=True, slots=True)
class _Item:
    """One object of the document, and where it is, for errors."""

    data: object
    where: str
    now: float

    def __getitem__(self, name: str) -> Any:
        return _mapping(self.data, self.where).get(name)

    def wrong(self, name: str, what: str) -> NoReturn:
        raise ValueError(f"{self.where}.{name} is {what}")

    def number(self, name: str, low: float, high: float) -> float:
        found = self[name]
        if isinstance(found, bool) or not isinstance(found, int | float):
            self.wrong(name, "no number")
        if not low <= found <= high:
            self.wrong(name, f"not between {low:g} and {high:g}")
        return float(found)

    def whole(self, name: str, high: int) -> int:
        found = self[name]
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= high:
            self.wrong(name, f"no whole number between 0 and {high}")
        return int(found)

    def text(self, name: str) -> str:
        found = self[name]
        if not isinstance(found, str):
            self.wrong(name, "no text")
        if len(found) > MOST_TEXT or not found.isprintable():
            self.wrong(name, f"longer than {MOST_TEXT} characters, or not printable")
        return found

    def list(self, name: str, most: int) -> Sequence[object]:
        found = self[name]
        if not isinstance(found, list):
            self.wrong(name, "no list")
        if len(found) > most:
            self.wrong(name, f"longer than {most}")
        return list(found)

    def part(self, name: str, data: object) -> _Item:
        return _Item(data, f"{self.where}.{name}", self.now)

    def at(self) -> float:
        return self.number("at", 0.0, self.now + AHEAD_S)

    def vector(self) -> Numbers:
        found = self.list("vector", MOST_NUMBERS)
        numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
        if len(numbers) != len(found) or not all(abs(one) <= 1e6 for one in numbers):
            self.wrong("vector", "no list of numbers of a reasonable size")
        return tuple(float(one) for one in numbers)


def _origin(item: _Item) -> Origin:
    machine = item.part("machine", item["machine"])
    facts = MachineFacts(
        machine.text("identity"),
        machine.text("hardware"),
        machine.text("kernel"),
        machine.whole("nodes", 10_000),
        machine.whole("cpus", 1_000_000),
    )
    return Origin(facts, item.text("model"), item.text("objective"), item.text("workload"))


def _trial(item: _Item, origin: Origin) -> LearnedTrial:
    outcome = item.text("outcome")
    if outcome not in EVENTS:
        item.wrong("outcome", f"none of {', '.join(EVENTS)}")
    offered = item.list("offered", MOST_OFFERED)
    return LearnedTrial(
        origin=origin,
        run=item.text("run"),
        at=item.at(),
        cluster=item.text("cluster"),
        vector=item.vector(),
        arm=_arm(item.part("arm", item["arm"])),
        gain=item.number("gain", -LARGEST_GAIN, LARGEST_GAIN),
        weight=item.number("weight", 1e-9, LARGEST_WEIGHT),
        outcome=outcome,
        interval=_interval(item),
        offered=tuple(_arm(item.part(f"offered[{n}]", one)) for n, one in enumerate(offered)),
        probability=None if item["probability"] is None else item.number("probability", 0.0, 1.0),
        share=item.number("share", 0.0, 1.0),
        imported=True,
    )


def _interval(item: _Item) -> tuple[float, float] | None:
    if item["interval"] is None:
        return None
    limits = item.list("interval", 2)
    numbers = [float(one) for one in limits if isinstance(one, int | float) and abs(one) <= LARGEST_LIMIT]
    if len(numbers) != 2:
        item.wrong("interval", "no pair of numbers")
    low, high = numbers
    if low > high:
        item.wrong("interval", "the wrong way round")
    return low, high


def _proof(item: _Item, origin: Origin) -> LearnedProof:
    gain = item.number("gain", -LARGEST_GAIN, LARGEST_GAIN)
    return LearnedProof(origin, item.at(), item.text("cluster"), item.vector(), _parts(item), gain, imported=True)


def _sentence(item: _Item, origin: Origin) -> LearnedSentence:
    length_s = item.number("length_s", 0.0, LONGEST_S)
    until = item.number("until", 0.0, item.now + AHEAD_S + LONGEST_S)
    named = item.text("arm")
    return LearnedSentence(
        origin, item.at(), item.text("cluster"), item.vector(), named, until, length_s, imported=True
    )


def _arm(item: _Item) -> Arm:
    expected = item.number("expected", -LARGEST_GAIN, LARGEST_GAIN)
    return Arm(item.text("name"), _parts(item), expected, item.number("trust", 0.0, LARGEST_WEIGHT))


def _parts(item: _Item) -> tuple[str, ...]:
    found = item.list("parts", MOST_PARTS)
    texts = [one for one in found if isinstance(one, str) and len(one) <= MOST_TEXT and one.isprintable()]
    if len(texts) != len(found):
        item.wrong("parts", "no list of short texts")
    return tuple(texts)


def _pick(origins: Sequence[Origin], item: _Item) -> Origin:
    number = item.whole("origin", MOST_ITEMS)
    if number >= len(origins):
        item.wrong("origin", f"{number}, and there are {len(origins)}")
    return origins[number]


def _items(top: Mapping[str, object], name: str) -> Iterable[object]:
    found = top.get(name)
    if not isinstance(found, list):
        raise ValueError(f"{name} is no list")
    if len(found) > MOST_ITEMS:
        raise ValueError(f"{name} has more than {MOST_ITEMS} entries")
    return found


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no object")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}, which is no number")


def _line(error: BaseException) -> str:
    return "too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


_REMEDY = "Give a file as `dna learn export FILE` writes it."
