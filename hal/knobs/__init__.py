"""The knobs, one family a module; every module here that has ``KNOBS`` is found by itself."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from hal.errors import SettingError
from hal.knobs.knob import Knob


@cache
def all_knobs() -> dict[str, Knob]:
    """Return every knob by name, sorted."""
    found: dict[str, Knob] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for knob in getattr(importlib.import_module(module.name), "KNOBS", ()):
            found[knob.name] = knob
    return dict(sorted(found.items()))


def knob_of(name: str) -> Knob:
    """Return a knob by its name.

    Raises:
        SettingError: there is none; the message names the nearest.
    """
    knobs = all_knobs()
    if name not in knobs:
        near = difflib.get_close_matches(name, knobs, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SettingError(f"there is no knob {name!r}", remedy=f"{hint}See `dna config knobs`.")
    return knobs[name]
