"""Profiles as tables, one row an interval: numpy, pandas, CSV and Parquet. What is unknown is NaN or empty, never 0."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dna.errors import ProfileFileError
from dna.export import dumps, head_to_json, plain
from dna.files import write_whole
from dna.vector import DIMENSIONS, Profile

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("json", "csv", "parquet")
"""What `dna export` writes; JSON is the whole profile, the others its numbers."""

_INSTALL = "Install it: pip install 'workload-dna[tables]'"


@dataclass(frozen=True, slots=True)
class Arrays:
    """A profile as arrays of n intervals; NaN is unknown."""

    t: NDArray[np.float64]
    """End of each interval, Unix time in seconds, shape (n,)."""
    feature_names: tuple[str, ...]
    features: NDArray[np.float64]
    """Shape (n, number of features)."""
    demand_names: tuple[str, ...]
    demand: NDArray[np.float64]
    """Shape (n, number of magnitudes)."""
    vectors: NDArray[np.float64]
    """Shape (n, 16)."""
    novelty: NDArray[np.float64]
    """Shape (n,)."""


def to_numpy(profile: Profile) -> Arrays:
    """Return a profile's numbers as arrays."""
    intervals = profile.intervals
    features = _names([interval.features for interval in intervals])
    demand = _names([interval.demand for interval in intervals])
    vectors = [np.full(DIMENSIONS, np.nan) if i.vector is None else i.vector for i in intervals]
    return Arrays(
        t=np.array([interval.t for interval in intervals], dtype=np.float64),
        feature_names=features,
        features=_matrix([interval.features for interval in intervals], features),
        demand_names=demand,
        demand=_matrix([interval.demand for interval in intervals], demand),
        vectors=np.array(vectors, dtype=np.float64).reshape(len(intervals), DIMENSIONS),
        novelty=np.array([np.nan if i.novelty is None else i.novelty for i in intervals], dtype=np.float64),
    )


def columns(profile: Profile) -> dict[str, list[Any]]:
    """Return the wide table: ``profile, name, t``, the features, ``demand.*``, ``dna.0`` to ``dna.15``, novelty and model."""
    arrays = to_numpy(profile)
    intervals = profile.intervals
    table: dict[str, list[Any]] = {
        "profile": [profile.id] * len(intervals),
        "name": [plain(profile.name)] * len(intervals),
        "t": [interval.t for interval in intervals],
    }
    table |= {name: _known(column) for name, column in zip(arrays.feature_names, arrays.features.T, strict=True)}
    table |= {f"demand.{n}": _known(column) for n, column in zip(arrays.demand_names, arrays.demand.T, strict=True)}
    table |= {f"dna.{i}": _known(column) for i, column in enumerate(arrays.vectors.T)}
    table["novelty"] = _known(arrays.novelty)
    table["model"] = [interval.dna.model if interval.dna else None for interval in intervals]
    return table


def to_pandas(profile: Profile) -> pd.DataFrame:
    """Return the wide table with a UTC time index; unknown is NaN.

    Raises:
        ProfileFileError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ProfileFileError("pandas is not installed", remedy=_INSTALL) from error
    table = columns(profile)
    # Seconds as float64 are exact to about 0.2 microseconds in this century; rounding there keeps equal times equal.
    times = pd.to_datetime(
        np.round(np.array(table.pop("t"), dtype=np.float64) * 1e6).astype("int64"), unit="us", utc=True
    )
    text = {name: table.pop(name) for name in ("profile", "name", "model")}
    numbers = {name: np.array(values, dtype=np.float64) for name, values in table.items()}
    return pd.DataFrame(
        {"profile": text["profile"], "name": text["name"], **numbers, "model": text["model"]},
        index=pd.DatetimeIndex(times, name="t"),
    )


def to_csv(profile: Profile) -> str:
    """Return the wide table as CSV with a header; unknown is empty."""
    table = columns(profile)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def write_csv(profile: Profile, path: str | Path) -> None:
    """Write the wide table as CSV, whole or not at all.

    Raises:
        ProfileFileError: it cannot be written.
    """
    content = to_csv(profile).encode()

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_whole(path, write)


def write_parquet(profile: Profile, path: str | Path) -> None:
    """Write the wide table as Parquet; machine, target and the rest of the head are in the file's metadata as ``dna``.

    Raises:
        ProfileFileError: pyarrow is not installed, or it cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        remedy = f"{_INSTALL}, or export as csv or json."
        raise ProfileFileError("Parquet needs pyarrow, which is not installed", remedy=remedy) from error
    table = columns(profile)
    types = {"profile": pa.string(), "name": pa.string(), "model": pa.string()}
    arrays = [pa.array(values, type=types.get(name, pa.float64())) for name, values in table.items()]
    head = dumps(head_to_json(profile))
    data = pa.Table.from_arrays(arrays, names=list(table)).replace_schema_metadata({"dna": head})
    write_whole(path, lambda stream: pq.write_table(data, stream))


def _names(rows: Sequence[Any]) -> tuple[str, ...]:
    return tuple({name: None for row in rows for name in row})


def _matrix(rows: Sequence[Any], names: tuple[str, ...]) -> NDArray[np.float64]:
    cells = [[np.nan if (value := row.get(name)) is None else value for name in names] for row in rows]
    return np.array(cells, dtype=np.float64).reshape(len(rows), len(names))


def _known(column: NDArray[np.float64]) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in column]
