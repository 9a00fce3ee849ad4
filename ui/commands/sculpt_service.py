"""The loop as a service: its unit, and what is taken back after a run that was killed."""

from __future__ import annotations

from typing import Annotated

import typer

from ui import options
from ui.options import OptionError


def unit(
    config: Annotated[
        str, typer.Option("--config", metavar="FILE", help="The run's file, which the service is started with.")
    ] = "/etc/workload-dna/sculpt.toml",
    example: Annotated[bool, typer.Option("--example", help="Print an example of the run's file instead.")] = False,
) -> None:
    """Print a systemd unit that runs the loop as a service, for this installation."""
    from sculpt import service

    if example:
        typer.echo(service.example(), nl=False)
        return
    if not config.startswith("/"):
        raise OptionError(
            f"--config {config}: a service needs an absolute path", remedy="/etc/workload-dna/sculpt.toml"
        )
    program = service.this_program()
    typer.echo(service.unit(program, config), nl=False)
    if loose := service.writable_by_others(program):
        typer.echo(f"dna: others than root can write {loose}, and root would run what is there", err=True)
        typer.echo("     Install it where only root can write, such as a venv in /opt.", err=True)


def recover(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing where there is nothing to take back.")] = False,
    as_json: options.Json = False,
) -> None:
    """Take back what runs that were killed left in force; what a run declared to keep stays. The next run does it by itself."""
    import json

    from hal.host import LinuxHost
    from hal.journal import Journal
    from sculpt.records import default_folder
    from sculpt.session import recover as take_back

    count = take_back(LinuxHost(), Journal(), default_folder())
    if as_json:
        typer.echo(json.dumps({"taken_back": count}))
    elif count or not quiet:
        many = "1 transaction of a killed run was" if count == 1 else f"{count} transactions of killed runs were"
        typer.echo(f"{many} taken back" if count else "no killed run has left anything in force")
