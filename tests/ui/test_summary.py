"""The summary says what was found, with its evidence, and what was not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from dna.library import Entry, Library
from dna.summary import summarise
from dna.vector import Profile
from tests.ui.recording import REMEDIES, START, bare_interval, interval_at, recording
from ui.summary import nothing_measured, summary


def _profile(count: int = 4) -> Profile:
    source = recording()
    intervals = tuple(interval_at(index) for index in range(count))
    return Profile("p1", "web", source.machine, source.target_info, START, 5.0, intervals)


def _shown(profile: Profile, width: int = 100, *, encoding: str = "utf-8", library: Library | None = None) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width)
    console.print(summary(profile, summarise(profile, library), console, REMEDIES))
    file.flush()
    return raw.getvalue().decode(encoding)


def _library(profile: Profile, *, away: float) -> Library:
    dna = profile.intervals[0].dna
    assert dna is not None
    entries = [Entry("redis-get", "r1", dna.vector + away), Entry("nginx", "r2", dna.vector + away + 1)]
    return Library("model-1", tuple(entries))


def test_key_facts() -> None:
    text = _shown(_profile(), library=_library(_profile(), away=0.1))
    for fact in (
        "redis-server",
        "4 intervals of 5 s",
        "db7",
        "Network program that waits for readiness",
        "syscall.poll_share 33 %",
        "over loopback",
        "cores 0.78",
        "Vector",
        "novelty 0.40",
        "Most like redis-get (0.40), nginx",
        "1 run",
        "own cost 0.4 % of a core",
        "lost graph 48",
        "pressure: this kernel has no pressure information",
    ):
        assert fact in text, fact


def test_each_reason_and_remedy_is_given_once() -> None:
    text = _shown(_profile())
    assert text.count("no performance monitoring unit") == 1
    assert text.count("Run on bare metal.") == 1
    assert "counters, energy: this machine has" in text


def test_unlike_anything_known() -> None:
    profile = _profile(1)
    dna = profile.intervals[0].dna
    assert dna is not None
    strange = replace(profile, intervals=(replace(profile.intervals[0], dna=replace(dna, novelty=3.2)),))
    text = _shown(strange, library=_library(profile, away=5))
    assert "Unlike anything known (novelty 3.2)" in text
    assert "redis-get, 20.00 away" in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_overflows(width: int, encoding: str) -> None:
    for line in _shown(_profile(), width, encoding=encoding, library=_library(_profile(), away=1)).splitlines():
        assert cell_len(line) <= width


def test_nothing_known_is_said() -> None:
    profile = replace(_profile(1), intervals=(bare_interval(),))
    text = _shown(profile)
    assert "Too little could be measured" in text
    assert "not seen: syscalls: no BPF" in text


def test_nothing_measured_says_why() -> None:
    message, remedy = nothing_measured(recording().target_info, 5.0)
    assert "redis-server" in message
    assert "--interval" in remedy
