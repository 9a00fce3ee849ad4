"""What is done where nothing can be judged and that was asked for: what the rules alone suggest, as far as it can be undone exactly.

Whatever comes of it is named as unverified wherever it is shown: its layers are called so, in records, in the journal, in metrics.
"""

from __future__ import annotations

from dataclasses import replace

from sculpt.candidates import TOGETHER, Candidate, Found

PREFIX = "unverified "


def suggested(found: Found, standing: Candidate) -> Candidate | None:
    """Return what the rules suggest on top of what stands, all that goes together of it; None where that is nothing.

    What cannot be undone exactly is no part of it: nobody could tell whether it did harm.
    """
    fresh = [one for one in found.candidates if one.layers[:-1] == standing.layers and one.layers and not one.one_way]
    fresh = [one for one in fresh if one != standing]
    if not fresh:
        return None
    chosen = next((one for one in fresh if one.layers[-1].because == TOGETHER), fresh[0])
    layer = chosen.layers[-1]
    return Candidate((*standing.layers, replace(layer, name=f"{PREFIX}{layer.name}")))


def is_unverified(candidate: Candidate) -> bool:
    """Tell whether anything of it was never judged."""
    return any(layer.name.startswith(PREFIX) for layer in candidate.layers)
