"""The number in what somebody printed: the last one."""

from __future__ import annotations

import re

from rl.measured import Problem
from rl.sources.found import SourceError

# A number next to a letter or in the middle of something longer is none: "p99", "1.2.3", "1,234". A unit may follow: "3.2ms".
_NUMBER = re.compile(
    r"(?<![\w.,])[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?(?![.,]?[0-9]|x[0-9a-f])|(?:nan|inf|infinity)\b)",
    re.ASCII | re.IGNORECASE,
)
_SHOWN = 60


def last_number(text: str) -> float:
    """Return the last number in a text; NaN and infinity are numbers here.

    Raises:
        SourceError: there is none.
    """
    found = _NUMBER.findall(text)
    if not found:
        shown = " ".join(text.split())[-_SHOWN:]
        raise SourceError(Problem.NOT_A_NUMBER, f"no number in {shown!r}" if shown else "it is empty")
    return float(found[-1])
