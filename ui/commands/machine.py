"""The machine and what can be learnt of it: machine, doctor, features."""

from __future__ import annotations

import typer

from ui import options
from ui.commands.tool import tool_version

app = typer.Typer()


@app.command("machine")
def machine_command(topology: options.Topology = None, as_json: options.Json = False) -> None:
    """Show the machine: NUMA nodes with CPUs, caches, memory and devices, and the distances between them."""
    from dna.export import dumps
    from hal import machine
    from hal.host import LinuxHost
    from ui.machine import MachineView
    from ui.output import console

    found = machine.read(LinuxHost()) if topology is None else machine.named(topology)
    if as_json:
        typer.echo(dumps({"tool": f"dna {tool_version()}", **found.to_dict()}))
    else:
        console().print(MachineView(found))


@app.command("doctor")
def doctor_command(as_json: options.Json = False) -> None:
    """Say what this machine can measure and change, and how to get the rest."""
    from dna.export import dumps
    from hal.capabilities import examine
    from hal.host import LinuxHost
    from ui.doctor import DoctorView
    from ui.output import console

    report = examine(LinuxHost())
    if as_json:
        typer.echo(dumps({"tool": f"dna {tool_version()}", **report.to_dict()}))
    else:
        console().print(DoctorView(report))


@app.command("features")
def features_command(as_json: options.Json = False) -> None:
    """Print what is measured: every feature and magnitude with unit and meaning."""
    from dna.export import dumps
    from ui.features import features_json, features_table
    from ui.glyphs import glyphs_for
    from ui.output import console

    if as_json:
        typer.echo(dumps(features_json()))
    else:
        out = console()
        out.print(features_table(glyphs_for(out)))
