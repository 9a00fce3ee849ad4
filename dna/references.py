"""From what a user types to a profile: a stored one, or a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dna.export import read_json
from dna.store import Store
from dna.vector import Profile


def load(references: Sequence[str], store: str | Path | None = None) -> list[Profile]:
    """Return the profiles that references mean: see ``Store.find``, or the path of an exported JSON file.

    A reference with a slash or ending in ``.json`` is a path; the history is opened only when another kind is among them.

    Raises:
        NoSuchProfileError, StoreError, ProfileFileError: see there.
    """
    if all(is_path(reference) for reference in references):
        return [read_json(reference) for reference in references]
    with Store.open(store, create=False) as history:
        return [read_json(r) if is_path(r) else history.get(r) for r in references]


def is_path(reference: str) -> bool:
    """Tell whether a reference names a file rather than a stored profile."""
    return os.sep in reference or reference.endswith(".json")
