"""Alerts and metrics of ``dna sculpt``: its options for them, and the watcher that they ask for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui import options

if TYPE_CHECKING:
    from sculpt.alerting import Alerting

AlertLog = Annotated[
    str | None,
    typer.Option(
        "--alert-log",
        metavar="FILE",
        help="Alerts as lines of JSON; also stderr, or syslog.",
    ),
]
AlertCommand = Annotated[
    str | None,
    typer.Option(
        "--alert-command",
        metavar="COMMAND",
        help="Run for each alert, which it reads as JSON; no shell.",
    ),
]
AlertWebhook = Annotated[
    str | None,
    typer.Option("--alert-webhook", metavar="URL", help="Each alert is posted there as JSON."),
]
Prometheus = Annotated[
    str | None,
    typer.Option(
        "--prometheus",
        metavar="[HOST:]PORT",
        help="Answer with metrics; this machine alone without HOST.",
    ),
]


@contextmanager
def alerting_for(
    table: Mapping[str, Any],
    *,
    log: str | None,
    command: str | None,
    webhook: str | None,
    prometheus: str | None,
    mode: str,
) -> Iterator[Alerting]:
    """Yield the watcher that a configuration's table and the options ask for; what it could not deliver is told at the end.

    Raises:
        OptionError, AlertSettingsError: one of them makes no sense.
    """
    from sculpt.alert_settings import settings_of, with_options
    from sculpt.alerting import open_alerting
    from ui.commands.tool import tool_version

    settings = with_options(
        settings_of(table),
        log=log,
        command=_words(command),
        webhook=webhook,
        prometheus=prometheus,
    )
    about = {"version": tool_version(), "mode": mode}
    alerting = open_alerting(settings, about=about)
    if alerting.address:
        typer.echo(f"metrics: {alerting.address}", err=True)
    try:
        yield alerting
    finally:
        for words in alerting.close():
            typer.echo(f"dna: {words}", err=True)


def _words(command: str | None) -> list[str] | None:
    if command is None:
        return None
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise options.OptionError(f"--alert-command: {str(error).lower()}", remedy="Close the quotes.") from error
    if not words:
        raise options.OptionError("--alert-command: it is empty", remedy="Name a program; there is no shell.")
    return words
