"""Around a run: how it is seen (lines, data or a live view), and who may ask, pause and end it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from sculpt.control import About, Control
    from sculpt.session import Wanted
    from sculpt.watchers import Watcher

NONE = "none"


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is given."""

    control: Control
    watchers: tuple[Watcher, ...]


@contextmanager
def around(wanted: Wanted, lines: Watcher, *, live: bool, socket: str) -> Iterator[Around]:
    """Yield what a run is steered and watched by; after a live view, what it came to is told.

    Args:
        lines: tells a step where there is no live view.
        live: show one, if this is a terminal.
        socket: where the control socket is to be; "" for the usual place, "none" for no socket.
    """
    from rich.console import Console

    from sculpt.control import Control
    from sculpt.control_server import ControlServer
    from sculpt.notify import Notifier
    from ui.sculpt_live import SculptLive
    from ui.terminal import diverted, shows_live

    control = Control(_about(wanted))
    console = Console(highlight=False)
    is_live = live and shows_live(console)
    with ExitStack() as stack:
        stack.enter_context(ControlServer(control, _place(socket), _warn))
        notifier = stack.enter_context(Notifier(control))
        if is_live:
            screen = stack.enter_context(diverted(console))  # what a command says, and warnings, are shown afterwards
            lines = stack.enter_context(SculptLive(control, screen, duration_s=wanted.duration_s))
        yield Around(control, (control, lines, notifier))
    if is_live:
        _tell(control, console)


def _about(wanted: Wanted) -> About:
    from sculpt.control import About

    modes = list(dict.fromkeys(asked.mode for asked in wanted.targets))
    ways = list(dict.fromkeys(asked.on_exit for asked in wanted.targets))
    return About(", ".join(modes), wanted.interval_s, "/".join(ways), wanted.command)


def _place(socket: str) -> Path | None:
    from sculpt.errors import ControlError
    from sculpt.sockets import default_socket

    if socket:
        return None if socket == NONE else Path(socket).expanduser().absolute()
    try:
        return default_socket()
    except ControlError as error:
        _warn(f"no control socket: {error}")
        return None


def _warn(text: str) -> None:
    typer.echo(f"dna: {text}", err=True)


def _tell(control: Control, console: Console) -> None:
    from ui.glyphs import glyphs_for
    from ui.sculpt_status import ending

    console.print(ending(control.status(), glyphs_for(console)))
