"""Workloads that are one command, or a shell's line for ever, on inputs that are made for them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.inputs import expand
from benchmarks.running import Session, Workload


def shell_workload(program: str, load: str, about: str, script: str, *needs: str, core: bool = True) -> Workload:
    """Return the workload of a shell command repeated for ever; see ``benchmarks.inputs`` for ``{text}`` and the like."""

    def begin(session: Session) -> subprocess.Popen[bytes]:
        return session.shell(f"while :; do {expand(script, session)}; done")

    return Workload(program, load, about, needs or (program,), begin, core)


def command_workload(
    program: str, load: str, about: str, command: Sequence[str], *, needs: str = "", ready: str = "", core: bool = True
) -> Workload:
    """Return the workload of one long-running command; ``ready`` is what it prints once it is up."""

    def begin(session: Session) -> subprocess.Popen[bytes]:
        process = session.spawn(*(expand(word, session) for word in command))
        if ready:
            session.wait_for_output(ready)
        return process

    return Workload(program, load, about, (needs or command[0],), begin, core)
