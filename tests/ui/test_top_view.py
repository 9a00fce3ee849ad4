"""The table of the busiest: fits any size, and its keys."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dna.top import Row
from ui.glyphs import ASCII, UNICODE, Glyphs
from ui.top import TopView, chosen_columns, pressed, top_frame, watch_plainly


def _row(key: str, name: str, **values: float) -> Row:
    given_ = {"cpu": 0.5, "time_s": 90.0, "faults": 1.0, "resident": 2e9, **values}
    return Row(
        key=key,
        name=name,
        where="nginx.service",
        cpu=given_["cpu"],
        time_s=given_["time_s"],
        runq_share=None,
        voluntary=123_456.0,
        involuntary=None,
        faults=given_["faults"],
        resident=given_["resident"],
        io=3e9,
        threads=12,
    )


ROWS = (_row("1", "nginx"), _row("22", "redis-server", cpu=0.9), _row("333", "\x1b[31m漢字" * 9))


class Scripted:
    """A source of the same rows."""

    by_cgroup = False
    counted = (3, 36)

    def look(self, *, sort: str = "cpu", rows: int = 50, search: str = "") -> list[Row]:
        return list(ROWS[:rows])


@given(st.integers(1, 240), st.integers(1, 60), st.sampled_from([UNICODE, ASCII]), st.booleans(), st.booleans())
def test_no_size_overflows(width: int, height: int, glyphs: Glyphs, help_: bool, by_cgroup: bool) -> None:
    view = TopView(ROWS, (3, 36), help=help_, by_cgroup=by_cgroup, ready=True)
    rows = top_frame(view, width, height, glyphs)
    assert len(rows) == height
    assert all(cell_len(row.plain) <= width and "\x1b" not in row.plain for row in rows)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_key_facts(width: int, height: int, glyphs: Glyphs) -> None:
    view = TopView(ROWS, (3, 36), sort="memory", ready=True)
    text = "\n".join(row.plain for row in top_frame(view, width, height, glyphs))
    for fact in ("3 processes, 36 threads", "by memory", "redis-server", "90.0", "1.86 GiB", "?", "123k", "q quit"):
        assert fact in text
    assert ("nginx.service" in text) == (width == 200)
    if glyphs is ASCII:
        assert text.isascii()


def test_the_busiest_is_on_top() -> None:
    rows = top_frame(TopView(ROWS, ready=True), 80, 24, UNICODE)
    assert "redis-server" in rows[2].plain


def test_columns_go_by_importance() -> None:
    wide = [column.title for column in chosen_columns(200, by_cgroup=False)]
    narrow = [column.title for column in chosen_columns(40, by_cgroup=False)]
    assert narrow == ["PID", "CPU", "RES"]
    assert set(narrow) < set(wide)
    assert "PROCS" in [column.title for column in chosen_columns(200, by_cgroup=True)]


def test_keys() -> None:
    view = TopView(ROWS)
    assert pressed(view, "q")[1]
    assert pressed(view, " ")[0].paused
    assert not pressed(pressed(view, " ")[0], " ")[0].paused
    assert pressed(view, "M")[0].sort == "memory"
    assert pressed(view, "t")[0].sort == "time"
    assert pressed(view, "c")[0].by_cgroup
    assert pressed(view, "?")[0].help
    assert pressed(view, "\x1b") == (view, False)
    assert pressed(view, "z") == (view, False)


def _typed(keys: str) -> TopView:
    view = TopView(ROWS, ready=True)
    for key in keys:
        view, quit_ = pressed(view, key)
        assert not quit_
    return view


def test_search() -> None:
    typing = _typed("/redisq")
    assert (typing.search, typing.typing) == ("redisq", True)
    kept = _typed("/redisq\x7f\r")
    assert (kept.search, kept.typing) == ("redis", False)
    text = "\n".join(row.plain for row in top_frame(kept, 80, 24, UNICODE))
    assert "redis-server" in text
    assert "nginx" not in text
    assert "only 'redis'" in "\n".join(row.plain for row in top_frame(kept, 200, 24, UNICODE))
    assert _typed("/redis\x1b").search == ""
    nothing = "\n".join(row.plain for row in top_frame(_typed("/zzz"), 80, 24, UNICODE))
    assert "nothing matches the search" in nothing


def test_plain_tables_as_many_as_asked() -> None:
    file = io.StringIO()
    slept: list[float] = []
    console = Console(file=file, width=100)
    watch_plainly(Scripted(), console, TopView(interval_s=3), count=2, limit=2, sleep=slept.append)
    assert slept == [3, 3]
    assert file.getvalue().count("dna top") == 2
    assert file.getvalue().count("redis-server") == 2
