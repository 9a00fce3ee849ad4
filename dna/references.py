"""From what a user types to values: a stored profile or a file, an age, and the workloads to compare with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dna.encoder import default_folder
from dna.errors import DnaError, ModelError
from dna.export import read_json
from dna.library import LIBRARY_FILE, Library
from dna.store import Store
from dna.vector import Profile

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def load(references: Sequence[str], store: str | Path | None = None) -> list[Profile]:
    """Return the profiles that references mean: see ``Store.find``, or the path of an exported JSON file.

    A reference that begins with ``/``, ``./`` or ``../`` or ends in ``.json`` is a path; the history is opened only when
    another kind is among them.

    Raises:
        NoSuchProfileError, StoreError, ProfileFileError: see there.
    """
    if all(is_path(reference) for reference in references):
        return [read_json(reference) for reference in references]
    with Store.open(store, create=False) as history:
        return [read_json(r) if is_path(r) else history.get(r) for r in references]


def is_path(reference: str) -> bool:
    """Tell whether a reference names a file rather than a stored profile, whose name may well have a slash in it."""
    return reference.startswith(("/", "./", "../")) or reference.endswith(".json")


def known_workloads(model: str, store: str | Path | None = None) -> Library:
    """Return the labelled workloads whose vectors are of ``model``: the library beside the model, and named profiles.

    Raises:
        ModelError, StoreError: see ``Library.load`` and ``Store.open``.
    """
    path = default_folder() / LIBRARY_FILE
    return _with_named_profiles(Library.load([path] if path.exists() else [], model=model), store)


def workloads_in_use(store: str | Path | None = None) -> Library | None:
    """Return the labelled workloads of the model in use, as far as they can be read; never raises.

    None where no library is beside the model, and without the user's own where the history cannot be read: a profile is
    worth having all the same.
    """
    try:
        library = Library.load([default_folder() / LIBRARY_FILE])
    except DnaError:
        return None
    try:
        return _with_named_profiles(library, store)
    except DnaError:
        return library


def _with_named_profiles(library: Library, store: str | Path | None) -> Library:
    with Store.open(store, create=False) as history:
        return library.with_entries(history.entries(library.model), library.model)


def known_workloads_of(profile: Profile, store: str | Path | None = None) -> Library | None:
    """Return ``known_workloads`` of the profile's model, or None for a profile without vectors."""
    model = next((interval.dna.model for interval in reversed(profile.intervals) if interval.dna), None)
    return None if model is None else known_workloads(model, store)


def comparable_workloads(profile: Profile, store: str | Path | None = None) -> Library:
    """Return the labelled workloads that a profile can be compared with.

    Raises:
        ModelError: the profile has no vector, or there are none of its model.
    """
    label = profile.name or profile.id or "this profile"
    library = known_workloads_of(profile, store)
    if library is None:
        raise ModelError(f"{label} has no vector", remedy="It was made without a model; profile the workload again.")
    if not library.without_run(profile.id).entries:
        message = f"no labelled workload has vectors of the model of {label} ({library.model})"
        raise ModelError(
            message, remedy="Set DNA_MODEL to that model's folder, or label runs with `dna profile --name`."
        )
    return library


def seconds_of(age: str) -> float:
    """Return the seconds of an age such as ``30d``, ``12h`` or ``90m``.

    Raises:
        ValueError: it is not one.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", age.strip())
    if found is None:
        raise ValueError(f"{age!r} is not an age; give a number with s, m, h, d or w, such as 30d")
    return float(found[1]) * _UNITS[found[2]]
