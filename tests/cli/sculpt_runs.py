"""Runs of ``dna sculpt`` as users start them, on a real process; with folders of their own for all that they keep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sculpt.control_client import running

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
CPUS = sorted(os.sched_getaffinity(0))
BUSY = "import hashlib\nwhile True: hashlib.sha256(bytes(65536)).digest()"
PIN = f"""
from rules import rule, s, w, when

@rule(expect="throughput +20..40 %")
@when(w.demand.cores > 0.1)
def pin(workload):
    \"\"\"Why.\"\"\"
    yield s.cpu.affinity(workload, "{CPUS[0]}")
"""


def environment_of(folder: Path) -> dict[str, str]:
    """Return an environment in which all that is kept is below a folder."""
    own = {
        "DNA_RUN": str(folder / "run"),
        "DNA_SCULPT": str(folder / "runs"),
        "DNA_JOURNAL": str(folder / "journal"),
        "DNA_STORE": str(folder / "history.db"),
        "DNA_LEARNED": str(folder / "learned.db"),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DNA_", "NOTIFY_"))}
    return {**inherited, **own}


def until[T](look: Callable[[], T | None]) -> T:
    """Return what ``look`` returns as soon as that is true."""
    end = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)
    return found


class Runs:
    """A process to sculpt, runs on it, and commands about them.

    What the process is worth stands in ``folder/rate``: half as much again while it is pinned.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = environment_of(folder)
        self.busy = subprocess.Popen([sys.executable, "-c", BUSY])
        self.pid = self.busy.pid
        self.started: list[subprocess.Popen[str]] = []
        self._rate = folder / "rate"
        self._over = threading.Event()
        self._rater = threading.Thread(target=self._rates)
        self._write_rate()
        self._rater.start()
        (folder / "pin.py").write_text(PIN)
        # A loop of three lines is like no program; what is tried on it is not what these tests are about.
        (folder / "guard.toml").write_text(f'kill_switch = "{folder}/stop"\nmost_novelty = 1e9\n')

    def _rates(self) -> None:
        while not self._over.wait(0.05):
            self._write_rate()

    def _write_rate(self) -> None:
        try:
            worth = 150 if self.is_pinned else 100
        except ProcessLookupError:
            return
        fresh = self._rate.with_suffix(".new")
        fresh.write_text(f"{worth}\n")
        fresh.rename(self._rate)

    @property
    def is_pinned(self) -> bool:
        return os.sched_getaffinity(self.pid) == {CPUS[0]}

    def applying(self) -> list[str]:
        """Return the options of a run that finds and keeps the pin."""
        rules = ["--rules", str(self.folder / "pin.py"), "--no-packs", "--guard", str(self.folder / "guard.toml")]
        return ["--mode", "apply", "--metric", f"throughput=file:{self._rate}", "--interval", "0.3", *rules]

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start ``dna sculpt`` on the process; it hears SIGHUP, also where the tests themselves were started under nohup."""
        process = subprocess.Popen(
            ["env", "--default-signal=HUP", sys.executable, "-m", "cli", "sculpt", "--pid", str(self.pid), *arguments],
            cwd=ROOT, env={**self.environment, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def ask(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run ``dna sculpt ARGUMENTS`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cli", "sculpt", *arguments],
            cwd=ROOT, env={**self.environment, **more}, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def status(self) -> list[dict[str, Any]]:
        """Return how the runs stand; asked from here, since a command takes a second and more on a busy machine."""
        return [dict(one.status) for one in running([self.folder / "run"]) if one.status]

    def stands(self) -> str:
        """Return what the only run does with its workload."""
        found = self.status()
        workloads = found[0]["workloads"] if found else []
        return str(workloads[0]["activity"]) if workloads else ""

    def wait_for_step(self) -> dict[str, Any]:
        """Return the status of the only run once it has taken a step."""

        def stepped() -> dict[str, Any] | None:
            assert self.started[-1].poll() is None, self.started[-1].communicate()
            found = self.status()
            return found[0] if found and found[0]["workloads"] else None

        return until(stepped)

    def wait_for_kept(self) -> dict[str, Any]:
        """Return the workload of the only run once something is kept."""

        def kept() -> dict[str, Any] | None:
            assert self.started[-1].poll() is None, self.started[-1].communicate()
            found = self.status()
            workloads = found[0]["workloads"] if found else []
            return workloads[0] if workloads and workloads[0]["kept"] else None

        return until(kept)

    def close(self) -> None:
        self._over.set()
        self._rater.join()
        for process in self.started:
            process.kill()
            process.communicate()
        self.busy.kill()
        self.busy.wait()


@contextmanager
def runs_in(folder: Path) -> Iterator[Runs]:
    """Yield runs; all of them, and the process, are ended at the end."""
    folder.chmod(0o755)
    found = Runs(folder)
    try:
        yield found
    finally:
        found.close()
