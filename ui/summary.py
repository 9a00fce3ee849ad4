"""A profile's summary in words: what it is, what says so, what it resembles, its vector, and what could not be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dna.describe import Description, Evidence, Gap, describe
from dna.features import DEMAND
from dna.summary import Summary
from dna.vector import Profile
from ui import glyphs as g
from ui.frame import machine_line, target_line
from ui.glyphs import Glyphs, diverging, glyphs_for
from ui.panels import row
from ui.units import clock, percent, si, value_with_unit
from ui.view import number, numbers, numbers_or_text


def description_of(profile: Profile, summary: Summary, remedies: Mapping[str, str] | None = None) -> Description:
    """Return the words for a profile."""
    return describe(
        summary.features,
        summary.demand,
        nearest=summary.nearest,
        novelty=summary.dna.novelty if summary.dna else None,
        missing=missing_of(profile),
        remedies=remedies,
    )


def missing_of(profile: Profile) -> dict[str, str]:
    """Return what was missing in any interval, with the last reason given."""
    found: dict[str, str] = {}
    for interval in profile.intervals:
        found.update({part: str(text) for part, text in numbers_or_text(interval.quality, "missing").items()})
    return found


def summary(
    profile: Profile, totals: Summary, console: Console, remedies: Mapping[str, str] | None = None
) -> RenderableType:
    """Return the summary of a profile that has at least one interval; ``remedies`` as in ``Source``."""
    glyphs = glyphs_for(console)
    description = description_of(profile, totals, remedies)
    blocks = [
        _head(profile, totals, glyphs),
        _words(description, console, glyphs),
        _demand(totals, glyphs),
        _vector(totals, glyphs),
        _nearest(description, glyphs),
        _quality(profile, description.gaps, console, glyphs),
    ]
    return Group(*_separated([block for block in blocks if block is not None]))


def _separated(blocks: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for index, block in enumerate(blocks):
        if index:
            yield Text("")
        yield block


def _line(glyphs: Glyphs, *parts: tuple[str, str] | str) -> Text:
    """Return a line that may wrap."""
    text = row(*[glyphs.text(p) if isinstance(p, str) else (glyphs.text(p[0]), p[1]) for p in parts])
    text.no_wrap = False
    return text


def _head(profile: Profile, totals: Summary, glyphs: Glyphs) -> RenderableType:
    spans = f"{totals.intervals} interval{'s' if totals.intervals != 1 else ''} of {profile.interval_s:g} s"
    return Group(
        _line(glyphs, (target_line(profile.target), g.STRONG), f" · {clock(totals.duration_s)} · {spans}"),
        _line(glyphs, (machine_line(profile.machine), g.DIM)),
    )


def _words(description: Description, console: Console, glyphs: Glyphs) -> RenderableType:
    headline = description.headline[:1].upper() + description.headline[1:] + "."
    lines: list[RenderableType] = [_line(glyphs, (headline, g.ACCENT))]
    for finding in description.findings:
        because = ", ".join(_evidence(evidence) for evidence in finding.because)
        lines += _indented(_line(glyphs, f"{finding.words}  ", (because, g.DIM)), console)
    return Group(*lines)


def _indented(text: Text, console: Console, first: int = 2, rest: int = 6) -> list[Text]:
    """Return a text as lines that fit the console, those after the first further in; without blanks at their ends."""
    lines = text.wrap(console, max(console.width - rest, 1))
    for index, line in enumerate(lines):
        line.rstrip()
        line.pad_left(rest if index else first)
    return list(lines)


def _evidence(evidence: Evidence) -> str:
    return f"{evidence.name} {value_with_unit(evidence.value, evidence.unit)}"


def _demand(totals: Summary, glyphs: Glyphs) -> RenderableType | None:
    known = [
        f"{m.name} {value_with_unit(value, m.unit)}" for m in DEMAND if (value := totals.demand.get(m.name)) is not None
    ]
    return _line(glyphs, ("Demand  ", g.TITLE), " · ".join(known)) if known else None


def _vector(totals: Summary, glyphs: Glyphs) -> RenderableType | None:
    if totals.dna is None:
        return None
    largest = max(float(max(abs(x) for x in totals.dna.vector)), 1e-9)
    text = _line(glyphs, ("Vector  ", g.TITLE))
    for value in totals.dna.vector:
        text.append(f"{value:+.2f} ", diverging(float(value) / largest))
    text.append(glyphs.text(f" (novelty {totals.dna.novelty:.2f}, model {totals.dna.model})"), g.DIM)
    return text


def _nearest(description: Description, glyphs: Glyphs) -> RenderableType | None:
    if not description.resembles:
        return None
    lines: list[RenderableType] = [_line(glyphs, (description.resembles, g.STRONG))]
    if len(description.nearest) > 1:
        table = Table.grid(padding=(0, 2))
        for match in description.nearest:
            runs = f"{match.runs} run{'s' if match.runs != 1 else ''}"
            table.add_row("  " + glyphs.text(match.label), f"{match.distance:.2f}", runs)
        lines.append(table)
    return Group(*lines)


def _quality(profile: Profile, gaps: Sequence[Gap], console: Console, glyphs: Glyphs) -> RenderableType:
    lines: list[RenderableType] = [_line(glyphs, ("Quality  ", g.TITLE), _cost(profile), " · ", _lost(profile))]
    for gap in gaps:
        lines += _indented(_line(glyphs, f"not seen: {', '.join(gap.parts)}: {gap.reason}"), console)
        if gap.remedy:
            lines += _indented(_line(glyphs, (gap.remedy, g.DIM)), console, first=6)
    return Group(*lines)


def _cost(profile: Profile) -> str:
    """Return the profiler's own mean cost over the intervals."""
    seconds = profile.intervals[-1].t - profile.started
    own = [number(interval.quality, "own_cpu_s") for interval in profile.intervals]
    kernel = [number(interval.quality, "bpf_cpu_s") for interval in profile.intervals]
    known = [value for value in own if value is not None]
    if not known or seconds <= 0:
        return "own cost unknown"
    text = f"own cost {percent(sum(known) / seconds)} of a core"
    in_kernel = [value for value in kernel if value is not None]
    return f"{text} + {percent(sum(in_kernel) / seconds)} in the kernel" if in_kernel else text


def _lost(profile: Profile) -> str:
    total: dict[str, float] = {}
    for interval in profile.intervals:
        for probe, count in numbers(interval.quality, "lost").items():
            total[probe] = total.get(probe, 0.0) + count
    lost = [f"{probe} {si(count)}" for probe, count in sorted(total.items()) if count > 0]
    return "lost " + ", ".join(lost) if lost else "no events lost"


def nothing_measured(target: Mapping[str, object], interval_s: float) -> tuple[str, str]:
    """Return (message, remedy) for a profile without a single interval."""
    message = (
        f"nothing was measured of {target_line(target)}: it was over before the first interval ({interval_s:g} s) was"
    )
    return message, "Give a shorter --interval, or a target that lives longer."
