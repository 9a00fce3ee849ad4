"""The signs and colours of the views: one set for UTF-8 terminals, one for those that only have ASCII.

Meaning is never carried by colour alone, and no two colours that mean different things are red and green.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs by purpose; each is one terminal cell wide."""

    ramp: str
    """From nothing to everything, for sparklines and the vector strip."""
    full: str
    partial: str
    """Parts of a full cell, from least to most."""
    rule: str
    arrow: str
    up: str
    down: str
    dot: str
    ellipsis: str
    micro: str

    def text(self, value: str) -> str:
        """Return ``value`` with the field's own signs replaced where they cannot be shown."""
        if self.micro == "µ":
            return value
        return value.translate(_TO_ASCII).encode("ascii", "replace").decode()


_TO_ASCII = str.maketrans({"µ": "u", "…": "~", "→": ">", "–": "-", "×": "x", "·": "-", "≥": ">", "≤": "<"})

UNICODE = Glyphs(" ▁▂▃▄▅▆▇█", "█", "▏▎▍▌▋▊▉", "─", "→", "▲", "▼", "·", "…", "µ")
ASCII = Glyphs(" .:-=+*#@", "#", ":", "-", ">", "^", "v", "-", "~", "u")

TITLE = "bold cyan"
DIM = "bright_black"
BAR = "cyan"
ACCENT = "bold yellow"
STRONG = "bold"

# Blue through grey to orange: apart for all common forms of colour blindness (ColorBrewer's PuOr, ends exchanged for
# blue). Rich takes the nearest of 16 colours where the terminal has no more.
_DIVERGING = ("#2166ac", "#4393c3", "#92c5de", "#bdbdbd", "#fdb863", "#e08214", "#b35806")


def glyphs_for(console: Console) -> Glyphs:
    """Return the signs that a console can show."""
    return UNICODE if console.encoding.lower().startswith("utf") and not console.options.ascii_only else ASCII


def level(position: float, glyphs: Glyphs) -> str:
    """Return the sign of the ramp for a position in [0, 1]; a position above 0 never looks like nothing."""
    last = len(glyphs.ramp) - 1
    if position <= 0:
        return glyphs.ramp[0]
    return glyphs.ramp[min(max(round(position * last), 1), last)]


def spark(values: Sequence[float | None], width: int, glyphs: Glyphs, *, top: float | None = None) -> str:
    """Return the last ``width`` values as a line of ramp signs, scaled to ``top`` or the largest; unknown is blank."""
    shown = list(values)[-width:] if width > 0 else []
    largest = top if top is not None else max((v for v in shown if v is not None), default=0.0)
    return "".join(glyphs.ramp[0] if v is None or largest <= 0 else level(v / largest, glyphs) for v in shown)


def bar(share: float, width: int, glyphs: Glyphs) -> str:
    """Return a bar as long as ``share`` of ``width`` cells, padded to it; any share above 0 shows at least a trace."""
    parts = len(glyphs.partial) + 1
    clipped = min(max(share, 0.0), 1.0)
    filled = max(round(clipped * width * parts), 1 if clipped > 0 and width > 0 else 0)
    cells, rest = divmod(filled, parts)
    return (glyphs.full * cells + (glyphs.partial[rest - 1] if rest else "")).ljust(width)


def diverging(position: float) -> str:
    """Return the colour for a position in [-1, 1]."""
    index = round((min(max(position, -1.0), 1.0) + 1.0) / 2.0 * (len(_DIVERGING) - 1))
    return _DIVERGING[index]
