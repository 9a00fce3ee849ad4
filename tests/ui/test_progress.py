"""How far a change is: on a terminal one line that goes again, elsewhere nothing."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from hal.settings import Change, Subject
from ui.progress import meter

MOVE = Change("memory.placement", Subject("process", "42", 7), "0=1", "1=1", label="redis\x1b[31m-server")
WARM = Change("memory.warm", Subject("file", "/srv/[bold]data"), None, "all")


def shown(tell: Callable[[Callable[[Change, int, int], None]], None], *, terminal: bool, quiet: bool = False) -> str:
    """Return what is written while ``tell`` tells; wide enough that nothing is cut."""
    out = io.StringIO()
    with meter(Console(file=out, force_terminal=terminal, width=160, _environ={}), quiet=quiet) as progress:
        tell(progress)
    return out.getvalue()


def half(progress: Callable[[Change, int, int], None]) -> None:
    progress(MOVE, 1 << 29, 1 << 30)


def test_a_terminal_shows_what_is_done_and_how_far() -> None:
    written = shown(half, terminal=True)
    assert "memory.placement of process 42 (redis.[31m-server)" in written
    assert "0.5/1.0 GiB" in written


def test_the_line_is_gone_at_the_end() -> None:
    written = shown(half, terminal=True)
    assert written.endswith("\x1b[2K"), "the line is erased last"
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1, "the cursor is back"


def test_the_line_is_gone_after_a_failure_too() -> None:
    out = io.StringIO()

    def fail() -> None:
        with meter(Console(file=out, force_terminal=True, width=160, _environ={})) as progress:
            half(progress)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert out.getvalue().count("\x1b[?25h") == 1


def test_the_next_change_takes_the_lines_place() -> None:
    def tell(progress: Callable[[Change, int, int], None]) -> None:
        half(progress)
        progress(WARM, 0, 1 << 20)

    assert "memory.warm of file /srv/[bold]data" in shown(tell, terminal=True)


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_nothing_is_written_without_a_terminal_or_when_it_is_to_be_quiet(*, terminal: bool, quiet: bool) -> None:
    assert shown(half, terminal=terminal, quiet=quiet) == ""


def test_nothing_is_written_while_there_is_nothing_to_tell() -> None:
    assert shown(lambda _progress: None, terminal=True) == ""
