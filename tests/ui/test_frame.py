"""Frames: nothing overflows, the key facts are there at every size, with and without colour and UTF-8."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dna.vector import Match
from tests.ui.recording import MACHINE, REMEDIES, TARGET, bare_interval, interval_at
from ui.frame import clock_text, frame, place
from ui.glyphs import ASCII, UNICODE, Glyphs, bar, glyphs_for, level, spark
from ui.panels import PANELS
from ui.terminal import rendered
from ui.view import View

SIZES = [(80, 24), (200, 60)]


@pytest.fixture(scope="module")
def view() -> View:
    found = View(MACHINE, TARGET, 5.0, 60.0, remedies=REMEDIES)
    for index in range(12):
        found = found.with_interval(interval_at(index), nearest=lambda _: [Match("redis-get", 0.21, 3)])
    return found


def _text(view: View, width: int, height: int, glyphs: Glyphs = UNICODE) -> str:
    return "\n".join(row.plain for row in frame(view, width, height, glyphs))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_key_facts_at_both_sizes(view: View, width: int, height: int, glyphs: Glyphs) -> None:
    text = _text(view, width, height, glyphs)
    for fact in (
        "pid 4242",
        "redis-server",
        "db7",
        "8 CPUs",
        "network program that waits for readiness",
        "Vector",
        "novelty 0.40",
        "net.loopback_share",
        "epoll_wait",
        "poll",
        "cores",
        "0.78",
        "run queue",
        "p99",
        "outside",
        "own cost 0.6 % of a core",
        "lost graph 12",
        "counters",
        "redis-get (0.21)",
        "q quit",
    ):
        assert fact in text, fact


def test_the_large_view_shows_more(view: View) -> None:
    text = _text(view, 200, 60)
    for fact in ("bio_close_file", "redis-benchmark", "port 6379", "vector", "Run on bare metal.", "50 conn"):
        assert fact in text, fact


def test_every_panel_has_a_place_at_80x24() -> None:
    placed = {panel.title for column in place(PANELS, 2, 19) for panel in column.panels}
    assert placed == {panel.title for panel in PANELS}


def test_the_least_important_panels_go_first() -> None:
    for height in range(3, 30):
        titles = [panel.title for panel in place(PANELS, 1, height)[0].panels]
        assert titles[0] == PANELS[0].title
        assert len(titles) == len(set(titles))


@settings(deadline=None)
@given(st.integers(1, 260), st.integers(1, 80), st.sampled_from([UNICODE, ASCII]), st.booleans(), st.integers(0, 12))
def test_no_size_overflows(width: int, height: int, glyphs: Glyphs, help_: bool, count: int) -> None:
    view = View(MACHINE, TARGET, 5.0, help=help_)
    for index in range(count):
        view = view.with_interval(interval_at(index))
    rows = frame(view, width, height, glyphs)
    assert len(rows) == height
    assert all(cell_len(row.plain) <= width for row in rows)


def test_ascii_frames_are_ascii(view: View) -> None:
    for paused in (False, True):
        for help_ in (False, True):
            for width, height in SIZES:
                assert _text(replace(view, paused=paused, help=help_), width, height, ASCII).isascii()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_colour_adds_nothing_to_the_text(view: View, width: int, height: int) -> None:
    def lines(*, no_color: bool) -> list[str]:
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="256", no_color=no_color
        )
        return rendered(console, frame(view, width, height, UNICODE))

    plain, coloured = lines(no_color=True), lines(no_color=False)
    assert len(plain) == len(coloured) == height
    assert "\x1b[38;5;" in "".join(coloured)
    assert "\x1b[38;" not in "".join(plain)
    for row, line in zip(frame(view, width, height, UNICODE), plain, strict=True):
        assert row.plain.rstrip() in _without_styles(line)


def _without_styles(line: str) -> str:
    while "\x1b[" in line:
        before, _, rest = line.partition("\x1b[")
        line = before + rest.partition("m")[2]
    return line


def test_no_colour_is_red_or_green(view: View) -> None:
    styles = {str(span.style) for row in frame(view, 200, 60, UNICODE) for span in row.spans}
    assert styles
    assert not [style for style in styles if "red" in style or "green" in style]


def test_before_the_first_interval() -> None:
    text = _text(View(MACHINE, TARGET, 5.0), 80, 24)
    assert "measuring the first 5 s" in text
    assert "nothing measured yet" in text


def test_an_interval_without_anything_measured() -> None:
    text = _text(View(MACHINE, TARGET, 5.0).with_interval(bare_interval()), 80, 24)
    assert "too little could be measured" in text
    assert "no BPF" in text


def test_names_cannot_steer_the_terminal() -> None:
    interval = interval_at(0)
    edges = [{"source": 1, "sink": 2, "source_name": "\x1b]0;x\x07", "sink_name": "漢字漢字漢字", "per_s": 2.0}]
    hostile = replace(interval, detail={**interval.detail, "edges": edges})
    for width, height in SIZES:
        rows = frame(View(MACHINE, {**TARGET, "comm": "\x1b[2J"}, 5.0).with_interval(hostile), width, height, UNICODE)
        assert all("\x1b" not in row.plain and "\x07" not in row.plain for row in rows)
        assert all(cell_len(row.plain) <= width for row in rows)


def test_help_names_the_keys(view: View) -> None:
    text = _text(replace(view, help=True), 80, 24)
    for words in ("Space", "Ctrl-C", "measuring goes on"):
        assert words in text


def test_a_changed_behaviour_changes_the_strip(view: View) -> None:
    lines = [row.plain for row in frame(view, 200, 60, UNICODE)]
    now = next(line for line in lines if line.startswith("now"))[:60].removeprefix("now  ")
    other = next(line for line in lines if line.startswith("-0:40"))[:60].removeprefix("-0:40")
    assert now != other


def test_clock() -> None:
    text = clock_text(elapsed_s=15.2, next_s=3.4, duration_s=60, paused=False)
    assert text.split() == ["0:15/1:00", "next", "3", "s"]
    assert "paused" in clock_text(elapsed_s=15.2, next_s=3.4, duration_s=None, paused=True)
    assert len(clock_text(elapsed_s=1e6, next_s=3600, duration_s=1e7, paused=False)) == len(text)


@given(st.floats(0, 1), st.integers(0, 60), st.sampled_from([UNICODE, ASCII]))
def test_bars_are_as_wide_as_asked(share: float, width: int, glyphs: Glyphs) -> None:
    text = bar(share, width, glyphs)
    assert len(text) == width
    assert (text.strip() == "") == (share == 0 or width == 0)


def test_sparks() -> None:
    assert spark([0, None, 1, 4], 3, UNICODE) == " ▂█"
    assert spark([], 5, UNICODE) == ""
    assert spark([0, 0], 5, UNICODE) == "  "
    assert level(1e-9, UNICODE) == "▁"


def test_ascii_is_chosen_by_the_encoding() -> None:
    assert glyphs_for(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))) is ASCII
    assert glyphs_for(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))) is UNICODE
