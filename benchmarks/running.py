"""Starting real programs for a while: on loopback, on free ports, in temporary folders, ended by pid.

A ``Session`` starts the processes of one workload and ends them all, whatever happens: each is a process group of its own,
and dies with the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "ab": "apache2-utils",
    "cat": "coreutils",
    "initdb": "postgresql",
    "node": "nodejs",
    "nginx": "nginx-light",
    "pgbench": "postgresql-contrib",
    "postgres": "postgresql",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "xz": "xz-utils",
}
"""Debian package of a command, where it is not called the same."""

_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class MissingProgramError(Exception):
    """A program of the catalogue is not installed; the message names the package."""


class StartError(Exception):
    """A program did not come up; the message has what it printed."""


def find_program(name: str) -> str:
    """Return the path of a command, looking also where Debian hides PostgreSQL's and administrators' programs."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/sbin"), Path("/sbin")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingProgramError(f"{name} is not installed: apt install {PACKAGES.get(name, name)}")
    return found


def free_port() -> int:
    """Return a TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Session:
    """What one run of a workload may use; ``run`` numbers the repetitions, which differ a little (see ``pick``)."""

    folder: Path
    """Fresh, for this run."""
    shared: Path
    """Kept between runs: generated inputs."""
    run: int = 0
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _folders: list[str] = field(default_factory=list)

    def pick[T](self, *choices: T) -> T:
        """Return one of ``choices`` by the number of the run, so that runs of a workload are not copies of one another."""
        return choices[self.run % len(choices)]

    def spawn(
        self,
        *argv: str | Path,
        user: str | None = None,
        stdin: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in the run's folder; its output goes to ``log`` there."""
        command = [*_DIE_WITH_PARENT, find_program(str(argv[0])), *map(str, argv[1:])]
        source = stdin.open("rb") if stdin else None
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=source or subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                env=os.environ | {"LC_ALL": "C"} | (environment or {}),
            )
        if source:
            source.close()
        self._started.append(process)
        return process

    def shell(self, script: str) -> subprocess.Popen[bytes]:
        """Start a shell script; the shell and its children are the workload."""
        return self.spawn("sh", "-c", script)

    def python(self, code: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the Python that runs this on ``code``."""
        return self.spawn(sys.executable, "-c", code, *arguments, environment=environment)

    def finish(self, *argv: str | Path, user: str | None = None, timeout_s: float = 120.0) -> None:
        """Run a program to its end; raises StartError when it fails."""
        process = self.spawn(*argv, user=user)
        if process.wait(timeout=timeout_s):
            raise StartError(f"{argv[0]} failed: {self._log_end()}")

    def wait_for_port(self, port: int, *, timeout_s: float = 20.0) -> None:
        """Return once something accepts on a loopback port; raises StartError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if (code := self._started[-1].poll()) is not None:
                raise StartError(f"the server ended with {code}: {self._log_end()}")
            time.sleep(0.02)
        raise StartError(f"nothing listens on port {port} after {timeout_s:g} s: {self._log_end()}")

    def wait_for_output(self, word: str, *, timeout_s: float = 60.0) -> None:
        """Return once the log of this run has ``word``; raises StartError."""
        deadline = time.monotonic() + timeout_s
        while word not in (self.folder / "log").read_text(errors="replace"):
            if time.monotonic() > deadline or self._started[-1].poll() is not None:
                raise StartError(f"{word!r} did not come: {self._log_end()}")
            time.sleep(0.05)

    def private_folder(self, user: str | None) -> Path:
        """Return a temporary folder that ``user`` owns and can reach, removed at the end."""
        folder = tempfile.mkdtemp(prefix="dna-bench-")
        self._folders.append(folder)
        if user:
            shutil.chown(folder, user)
        return Path(folder)

    @property
    def newest(self) -> int:
        """Process id of what was started last: of a server's workload what makes its load."""
        return self._started[-1].pid

    def close(self) -> None:
        """End everything that was started, last first, and wait for it; folders of other users are removed."""
        for process in reversed(self._started):
            _end_group(process)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-500:].strip()


def _end_group(process: subprocess.Popen[bytes], grace_s: float = 3.0) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        except PermissionError:
            process.send_signal(number)
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@dataclass(frozen=True, slots=True)
class Running:
    """A workload that runs."""

    pid: int
    """Root of the process tree to profile; those that only make load are not in it."""
    session: Session

    def stop(self) -> None:
        """End it."""
        self.session.close()


@dataclass(frozen=True, slots=True)
class Workload:
    """One program under one load."""

    program: str
    load: str
    about: str
    needs: tuple[str, ...]
    """Commands."""
    begin: Callable[[Session], subprocess.Popen[bytes]]
    """Starts it and returns the process to profile, once it is up."""
    core: bool = True
    """Part of the set that is recorded by default."""

    @property
    def label(self) -> str:
        """``program/load``."""
        return f"{self.program}/{self.load}"

    def missing(self) -> str | None:
        """Return what is not installed and how to get it, or None."""
        for command in self.needs:
            try:
                find_program(command)
            except MissingProgramError as error:
                return str(error)
        return None

    @contextmanager
    def start(self, folder: Path, *, run: int = 0, shared: Path | None = None) -> Iterator[Running]:
        """Run it for as long as the block lasts. Raises MissingProgramError, StartError."""
        for command in self.needs:
            find_program(command)
        shared = shared or folder / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix=f"{self.program}-", dir=folder))
        session = Session(own, shared, run)
        try:
            process = self.begin(session)
            if (code := process.poll()) is not None:
                raise StartError(f"{self.label} ended with {code}: {session._log_end()}")
            yield Running(process.pid, session)
        finally:
            session.close()
            shutil.rmtree(own, ignore_errors=True)


def workload(
    program: str, load: str, about: str, *needs: str, core: bool = True
) -> Callable[[Callable[[Session], subprocess.Popen[bytes]]], Workload]:
    """Make a Workload of the function below the decorator."""

    def made(begin: Callable[[Session], subprocess.Popen[bytes]]) -> Workload:
        return Workload(program, load, about, needs or (program,), begin, core)

    return made
