"""The loop's live view: its frames by themselves, and on a real pseudo-terminal with keys."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.decision import EVENTS
from sculpt.control import About, Control
from sculpt.step import Record
from tests.sculpt.control_runs import record
from tests.ui.pseudo_terminal import Terminal
from ui.glyphs import ASCII, UNICODE, Glyphs
from ui.sculpt_frame import SculptView, sculpt_frame, spark_between
from ui.sculpt_status import effect


def view_of(*records: Record, **rest: bool) -> SculptView:
    control = Control(About("apply", 5.0))
    for one in records:
        control(one)
    return SculptView(control.about, "20270115-080000-1", control.states(), **rest)


def text_of(view: SculptView, width: int = 100, height: int = 30, glyphs: Glyphs = UNICODE) -> str:
    return "\n".join(row.plain for row in sculpt_frame(view, width, height, glyphs))


def test_before_the_first_interval_it_says_so() -> None:
    assert "no workload has been watched for an interval yet" in text_of(view_of())


def test_a_trial_and_what_is_kept_are_shown_with_their_gains() -> None:
    shown = text_of(
        view_of(
            record(0, state="trial", arm="pages", event="trial", candidate="pages"),
            record(1, arm="pages", event="promoted", candidate="pages", gain=0.1, interval=(0.05, 0.15)),
            record(2, arm="pages", state="trial", event="trial", candidate="pin"),
        )
    )
    assert "trying pin, block 1" in shown
    assert "pages: +10.5 % (+5.1 % to +16.2 %)" in shown
    assert "kept pages +10.5 %" in shown
    assert shown.index("trying pin:") < shown.index("kept pages +10.5 %")  # the newest on top


def test_what_is_held_and_alerts_are_shown() -> None:
    shown = text_of(view_of(record(0, alerts=("the disk is full",), reward=None)))
    assert "! the disk is full" in shown
    assert "not measured: the file is gone" in shown


def test_of_several_each_has_a_row_and_one_is_looked_at() -> None:
    records = [record(number, workload=f"w{number}") for number in range(40)]
    view = view_of(*records)
    assert "40 workloads" in text_of(view)
    assert "\n─ w0 ─" in text_of(view)
    turned = SculptView(view.about, view.run, view.states, looked_at=39)
    assert "\n─ w39 ─" in text_of(turned)
    assert "→ w39 " in text_of(turned)


def test_pause_end_and_help_are_seen() -> None:
    assert "paused: nothing new is begun" in text_of(view_of(record(), paused=True))
    assert "ending" in text_of(view_of(record(), stopping=True))
    assert "a running trial is ended" in text_of(view_of(record(), help=True))


def test_small_changes_are_seen_and_noise_is_not() -> None:
    assert spark_between([100.0, 110.0, None, 120.0], 10, UNICODE) == "▁▄ █"
    assert len(set(spark_between([100.0, 100.1, 99.9], 10, UNICODE))) == 1
    assert spark_between([], 10, UNICODE) == ""
    assert spark_between([None, 0.0], 10, UNICODE)[0] == " "


def test_effects_read_as_people_say_them() -> None:
    assert effect(0.05, (0.0, 0.1)) == "+5.1 % (+0.0 % to +10.5 %)"
    assert effect(0.05, [None, None]) == "+5.1 % (too few measurements for limits)"
    assert effect(0.05, (float("-inf"), float("inf"))) == effect(0.05, [None, None])
    assert effect(None) == "not known yet"


_TEXT = st.text(max_size=40)
_NUMBERS = st.none() | st.floats()
_RECORDS = st.builds(
    record,
    st.integers(0, 100),
    workload=_TEXT,
    arm=st.just("baseline") | _TEXT.filter(bool),
    state=st.sampled_from(["hold", "trial", "one-way", "blind", "another"]),
    event=st.sampled_from(["", *EVENTS]),
    candidate=_TEXT,
    gain=_NUMBERS,
    interval=st.none() | st.tuples(st.floats(), st.floats()),
    because=_TEXT,
    reward=st.none() | st.floats(min_value=1e-300, max_value=1e300),
    alerts=st.tuples(_TEXT),
    changes=st.booleans(),
)


@given(st.lists(_RECORDS, max_size=8), st.integers(1, 200), st.integers(1, 60), st.booleans(), st.booleans())
def test_every_frame_fits(records: list[Record], width: int, height: int, is_ascii: bool, helps: bool) -> None:
    rows = sculpt_frame(view_of(*records, help=helps), width, height, ASCII if is_ascii else UNICODE)
    assert len(rows) == height
    assert all(row.cell_len <= width for row in rows)
    assert all("\n" not in row.plain and "\x1b" not in row.plain for row in rows)
    if is_ascii:
        assert all(row.plain.isascii() for row in rows)


# --- on a terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal("-m", "tests.ui.follow_sculpt")
    yield found
    found.close()


@pytest.mark.long
def test_keys_reach_the_run(terminal: Terminal) -> None:
    terminal.until("memory.thp")
    terminal.press("p")
    terminal.until("paused: nothing new is begun")
    terminal.press("p")
    terminal.until("trying")
    terminal.press("\x1b[B")
    terminal.until("36mpostgres ")  # in the colour of a title
    terminal.press("?")
    terminal.until("a running trial is ended")
    terminal.press("\x1b")
    terminal.until("what happened")
    terminal.press(" ")
    terminal.until("paused")  # the clock says that the picture stands still
    terminal.resize(140, 40)
    terminal.until("\x1b[40;1H")
    terminal.press("q")
    terminal.until("ENDED 1")
    assert terminal.end() == 0
    terminal.check_restored()


@pytest.mark.long
def test_suspended_it_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.until("memory.thp")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.until("\x1b[?1049l")
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until("redis-server")
    terminal.press("q")
    terminal.until("ENDED 1")
    terminal.check_restored()
