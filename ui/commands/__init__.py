"""The commands, one module a group; with ``cli.py``, which puts them together, the layer that may import everything.

A command parses, calls one library function and renders. Each module has a ``typer.Typer`` named ``app``; heavy imports
stand inside the commands, because all of these modules are loaded whichever command is called.
"""
