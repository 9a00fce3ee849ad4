"""The command line: puts the commands of ``ui.commands`` together, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from dna.errors import DnaError
from hal.errors import EXIT_FAILED, HalError
from ui.commands import advise, changing, config, history, learn, machine, model, rules, sculpt, watch
from ui.commands.tool import tool_version

app = typer.Typer(
    name="dna",
    help="Watch how a running workload behaves, what it resembles, and set the machine for it.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (watch, model, history, machine, config, advise, rules, sculpt, learn, changing):
    app.add_typer(group.app)  # without a name: its commands become the root's own, in this order


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dna {tool_version()}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _abandon_output() -> None:
    """Let nothing more be written to a standard output that is gone or full, not even when Python flushes it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; every error of ours becomes one line with its remedy and the exit code of DESIGN."""
    try:
        app()
    except (DnaError, HalError) as error:
        typer.echo(f"dna: {error}", err=True)
        if error.remedy:
            typer.echo(f"     {error.remedy}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _abandon_output()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        _abandon_output()
        typer.echo(f"dna: {error}", err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
