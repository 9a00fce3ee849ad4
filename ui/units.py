"""Numbers as people read them: three significant digits, SI or binary prefixes, ``?`` for what is unknown."""

from __future__ import annotations

from rich.cells import cell_len

UNKNOWN = "?"

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def three_digits(value: float) -> str:
    """Return ``value`` with three significant digits, two below 0.1, and never with an exponent."""
    magnitude = abs(value)
    if magnitude >= 99.95:
        return f"{value:.0f}"
    if magnitude >= 9.995:
        return f"{value:.1f}"
    if 0 < magnitude < 0.0995:
        return f"{value:.2g}" if magnitude >= 0.001 else "<0.001"
    return f"{value:.2f}"


def si(value: float) -> str:
    """Return ``value`` with an SI prefix, such as ``12.3k``."""
    for size, prefix in _SI:
        if abs(value) >= size * 0.9995:
            return three_digits(value / size) + prefix
    return f"{value:.0f}" if value == round(value) else three_digits(value)


def size(value: float) -> str:
    """Return bytes with a binary prefix, such as ``1.50 MiB``."""
    for unit, prefix in _BINARY:
        if abs(value) >= unit:
            return f"{three_digits(value / unit)} {prefix}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """Return a time span such as ``12.3 µs``."""
    if value == 0:
        return "0 s"
    for unit, name in _SECONDS:
        if abs(value) >= unit * 0.9995:
            return f"{three_digits(value / unit)} {name}"
    return f"{value * 1e9:.2f} ns"


def percent(share: float) -> str:
    """Return a share as per cent, with a decimal only where it matters."""
    value = 100.0 * share
    if 0 < abs(value) < 0.05:
        return "<0.1 %"
    if value and abs(value) < 0.95:
        return f"{value:.1f} %"
    return f"{value:.0f} %"


def clock(span_s: float) -> str:
    """Return a time span as ``m:ss`` or ``h:mm:ss``."""
    whole = max(round(span_s), 0)
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"


def value_with_unit(value: float | None, unit: str) -> str:
    """Return a feature's or demand's value in its unit (those of ``dna.features``); ``?`` where it is unknown."""
    if value is None:
        return UNKNOWN
    if unit == "share":
        return percent(value)
    if unit == "s":
        return seconds(value)
    if unit == "B":
        return size(value)
    if unit == "B/s":
        return f"{size(value)}/s"
    if unit == "1/s":
        return f"{si(value)}/s"
    if unit == "1":
        return si(value)
    if unit == "ratio":
        return three_digits(value) if value < 1000 else si(value)
    if unit == "1/kinstr":
        return f"{si(value)} /kinstr"
    return f"{si(value)} {unit}"


def plain(text: str) -> str:
    """Return ``text`` without control characters, which a process is free to put into its name."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "." for character in text)


def fit(text: str, width: int, *, ellipsis: str = "…") -> str:
    """Return ``text`` cut to ``width`` terminal cells, its end replaced by ``ellipsis`` where it is too long."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room < 0:
        return ellipsis[:width]
    kept = ""
    used = 0
    for character in text:
        used += cell_len(character)
        if used > room:
            break
        kept += character
    return kept + ellipsis
