"""Profiles as JSON: the versioned document of DESIGN.md, written whole and read back with care."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from dna.errors import ProfileFileError
from dna.files import write_whole
from dna.library import Library
from dna.summary import Summary, summarise
from dna.vector import DIMENSIONS, Dna, Interval, Profile

type Json = dict[str, object]


def to_json(profile: Profile, library: Library | None = None) -> Json:
    """Return the document of a profile: plain, finite values, with its summary (nearest only with a library)."""
    return head_to_json(profile) | {
        "intervals": [interval_to_json(interval) for interval in profile.intervals],
        "summary": summary_to_json(summarise(profile, library)),
    }


def head_to_json(profile: Profile) -> Json:
    """Return the document without intervals and summary: who, where, when."""
    return {
        "schema": Profile.SCHEMA,
        "id": profile.id,
        "name": plain(profile.name),
        "tool": plain(profile.tool),
        "machine": plain(profile.machine),
        "target": plain(profile.target),
        "started": profile.started,
        "interval_s": profile.interval_s,
    }


def interval_to_json(interval: Interval) -> Json:
    """Return the document of one interval."""
    return {
        "t": interval.t,
        "features": plain(interval.features),
        "demand": plain(interval.demand),
        "quality": plain(interval.quality),
        "dna": dna_to_json(interval.dna),
        "detail": plain(interval.detail),
    }


def dna_to_json(dna: Dna | None) -> Json | None:
    """Return ``{vector, novelty, model}``, or None."""
    if dna is None:
        return None
    return {"vector": [float(x) for x in dna.vector], "novelty": float(dna.novelty), "model": dna.model}


def summary_to_json(summary: Summary) -> Json:
    """Return the document of a summary."""
    return {
        "intervals": summary.intervals,
        "duration_s": summary.duration_s,
        "features": plain(summary.features),
        "demand": plain(summary.demand),
        "dna": dna_to_json(summary.dna),
        "nearest": [{"label": m.label, "distance": m.distance, "runs": m.runs} for m in summary.nearest],
    }


def plain(value: object) -> object:
    """Return ``value`` as JSON values: numpy scalars and arrays become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    # A command line or file name that is not UTF-8 arrives with lone surrogates, which no JSON file can hold.
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def dumps(document: object, *, indent: int | None = None) -> str:
    """Return strict JSON: NaN and infinity are refused rather than written."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=indent)


def write_json(profile: Profile, path: str | Path, library: Library | None = None) -> None:
    """Write a profile's document to a file, whole or not at all.

    Raises:
        ProfileFileError: it cannot be written.
    """
    content = (dumps(to_json(profile, library), indent=1) + "\n").encode()

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_whole(path, write)


def read_json(path: str | Path) -> Profile:
    """Read a profile's document.

    Raises:
        ProfileFileError: the file cannot be read, or is not a profile; the message says where.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _not_a_profile(path, "it is not text") from error
    except OSError as error:
        remedy = "Give a file written by `dna export` or `dna profile --json`, or the id or name of a stored profile."
        raise ProfileFileError(f"cannot read {path}: {error.strerror}", remedy=remedy) from error
    try:
        return from_json(json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise _not_a_profile(path, str(error)) from error


def from_json(document: object) -> Profile:
    """Return the profile of a document; its summary is not read, being made of the rest.

    Raises:
        ValueError: it is not a profile's document; the message names the field.
    """
    top = _mapping(document, "the top level")
    _check_schema(top.get("schema"))
    intervals = _sequence(top.get("intervals"), "intervals")
    return Profile(
        id=_text(top.get("id", ""), "id"),
        name=_text(top.get("name", ""), "name"),
        machine=_mapping(top.get("machine", {}), "machine"),
        target=_mapping(top.get("target", {}), "target"),
        started=_number(top.get("started"), "started"),
        interval_s=_number(top.get("interval_s"), "interval_s"),
        intervals=tuple(interval_from_json(item, f"intervals[{i}]") for i, item in enumerate(intervals)),
        tool=_text(top.get("tool", ""), "tool"),
    )


def interval_from_json(document: object, where: str = "interval") -> Interval:
    """Return the interval of a document.

    Raises:
        ValueError: it is not one; ``where`` begins the name of the field in the message.
    """
    item = _mapping(document, where)
    return Interval(
        t=_number(item.get("t"), f"{where}.t"),
        features=_numbers(item.get("features"), f"{where}.features"),
        demand=_numbers(item.get("demand", {}), f"{where}.demand"),
        quality=_mapping(item.get("quality", {}), f"{where}.quality"),
        dna=_dna(item.get("dna"), f"{where}.dna"),
        detail=_mapping(item.get("detail", {}), f"{where}.detail"),
    )


def _dna(document: object, where: str) -> Dna | None:
    if document is None:
        return None
    item = _mapping(document, where)
    numbers = _sequence(item.get("vector"), f"{where}.vector")
    if len(numbers) != DIMENSIONS:
        raise ValueError(f"{where}.vector has {len(numbers)} numbers, not {DIMENSIONS}")
    vector = np.array([_number(x, f"{where}.vector") for x in numbers], dtype=np.float64)
    return Dna(vector, _number(item.get("novelty"), f"{where}.novelty"), _text(item.get("model"), f"{where}.model"))


def _check_schema(schema: object) -> None:
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise ValueError("it has no schema number")
    if schema != Profile.SCHEMA:
        raise ValueError(f"schema {schema}; this version of dna reads {Profile.SCHEMA}")


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return value


def _sequence(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is not a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a text")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} is not a number")
    number = float(value) if abs(value) < 1e308 else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where} is not a finite number")
    return number


def _numbers(value: object, where: str) -> dict[str, float | None]:
    items = _mapping(value, where).items()
    return {name: None if item is None else _number(item, f"{where}.{name}") for name, item in items}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not JSON")


def _not_a_profile(path: str | Path, reason: str) -> ProfileFileError:
    remedy = "Give a file written by `dna export` or `dna profile --json` of this version or an older one."
    return ProfileFileError(f"{path} is not a profile: {reason}", remedy=remedy)
