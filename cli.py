"""The command line: parse, call one library function, render."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from dna.errors import DnaError
from hal.errors import EXIT_FAILED, HalError

app = typer.Typer(
    name="dna",
    help="Watch how a running workload behaves, and what it resembles.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]


def tool_version() -> str:
    """Return the installed version, or "0+unknown" when run from a bare checkout."""
    try:
        return version("workload-dna")
    except PackageNotFoundError:
        return "0+unknown"


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
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
