"""What ``dna`` makes of a program: by its rules alone, by the loop, and the candidates that the loop chooses among.

Rules and loop are run as a user runs them, by command. What they set is read from the journal, taken back, and made again in each round
through the same plan, journal and undo: as exact settings, on the same roles where the program was started anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gains.machine import members, threads
from benchmarks.gains.programs import Live, Program
from hal.apply import apply
from hal.errors import HalError
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs.knob import show
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, Subject
from hal.undo import undo

HOST = LinuxHost()
QUIET, LEAST = 12, 30
"""The loop has converged when nothing happened in so many intervals, after so many at least."""
OWN_LIMIT = "25%"
"""Of one core: intervals of a second cost more than those of five, for which 1 % is the limit; and see docs/gains.md."""
_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and the processes that they were found on."""

    name: str
    settings: tuple[Setting, ...] = ()
    roots: tuple[int, ...] = ()
    """Of the target and its neighbours, as they were then."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping of how it was found."""

    @property
    def key(self) -> tuple[tuple[str, str, str], ...]:
        """What it sets, without whose thread: equal ones are measured once."""
        found = {(one.knob, self._role(one.subject), show(one.value)) for one in self.settings}
        return tuple(sorted(found))

    def _role(self, subject: Subject) -> str:
        return role_of(subject, self.roots)

    def on(self, live: Live) -> tuple[Setting, ...]:
        """Return the settings on the processes that run now, in the roles of those they were found on."""
        if self.roots == live.roots:
            return self.settings
        return tuple(dict.fromkeys(replace(one, subject=self._moved(one.subject, live)) for one in self.settings))

    def _moved(self, subject: Subject, live: Live) -> Subject:
        if subject.kind not in ("process", "thread", "tree"):
            return subject
        role = role_of(subject, self.roots)
        root = live.roots[int(role.split()[-1])]
        return Subject("tree" if subject.kind == "thread" else subject.kind, str(root), start_of(HOST, root) or 0)


_ROLES: dict[tuple[str, int], int] = {}
"""Threads and processes by start time, and the number of the root that they came from."""


def remember(live: Live) -> None:
    """Take note of whose threads there are, so that it is known also when they have ended."""
    for number, root in enumerate(live.roots):
        for member in members(root):
            for one in (member, *threads(member)):
                _ROLES[str(one), start_of(HOST, one) or 0] = number


def role_of(subject: Subject, roots: Sequence[int]) -> str:
    """Return what a setting is on, in words that hold for the next start of the program too."""
    if subject.kind not in ("process", "thread", "tree"):
        return str(subject)
    number = _ROLES.get((subject.name, subject.start))
    if number is None:
        number = roots.index(int(subject.name)) if int(subject.name) in roots else 0
    return f"tree {number}"


@contextmanager
def made(configuration: Configuration, live: Live, journal: Journal) -> Iterator[float]:
    """Have a configuration in force for as long as the block lasts; yields the seconds that making it took."""
    began = time.monotonic()
    settings = configuration.on(live)
    if not settings:
        yield 0.0
        return
    applied = apply(make_plan(HOST, settings, title=f"benchmark: {configuration.name}"), HOST, journal)
    try:
        yield time.monotonic() - began
    finally:
        if applied.identity:
            left = undo(HOST, journal, applied.identity)
            if left.failed:
                raise HalError(f"{configuration.name} could not be taken back: {left.failed[0].left}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, grace_s in ((signal.SIGINT, 30), (signal.SIGKILL, 10)):
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)


@dataclass(frozen=True, slots=True)
class Tool:
    """``dna`` by command, with records of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the commands are given, so that nothing of the user's is touched."""
        return os.environ | {
            "DNA_JOURNAL": str(self.folder / "journal"),
            "DNA_SCULPT": str(self.folder / "runs"),
            "DNA_RUN": str(self.folder / "run"),
            "DNA_STORE": str(self.folder / "history.db"),
            "DNA_LEARNED": str(self.folder / "learned.db"),
        }

    @property
    def journal(self) -> Journal:
        """The journal of these commands."""
        return Journal(self.folder / "journal")

    def run(
        self, *words: str, timeout_s: float, is_done: Callable[[], bool] = lambda: False
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; when it is done, and after the time limit, it is asked to stop, as by Ctrl-C."""
        command = [sys.executable, str(_REPOSITORY / "cli.py"), *words]
        out, err = self.folder / "out", self.folder / "err"
        with out.open("wb") as to, err.open("wb") as wrong:
            # In a session of its own, as a service is: it then runs behind what it watches.
            process = subprocess.Popen(
                command, stdout=to, stderr=wrong, env=self.environment, cwd=self.folder, start_new_session=True
            )
            try:
                deadline = time.monotonic() + timeout_s
                while process.poll() is None and time.monotonic() < deadline and not is_done():
                    time.sleep(0.2)
            finally:
                _end(process)
        return subprocess.CompletedProcess(command, process.returncode, out.read_text(), err.read_text())

    def standing(self) -> list[tuple[str, tuple[Setting, ...]]]:
        """Return the transactions in force, the oldest first, and the settings of each."""
        found = sorted(self.journal.transactions(), key=lambda one: one.started)
        return [
            (one.identity, tuple(Setting(s.change.knob, s.change.subject, s.change.new) for _, s in one.standing()))
            for one in found
            if one.standing()
        ]

    def take_back(self) -> None:
        """Take back all that these commands have left in force."""
        for identity, _ in reversed(self.standing()):
            undo(HOST, self.journal, identity)


def _targets(live: Live) -> list[str]:
    return [word for root in live.roots for word in ("--pid", str(root))]


def by_rules(tool: Tool, live: Live, *, watch_s: float) -> Configuration:
    """Return what ``dna advise`` plans for the program and what runs beside it, and ``dna apply`` makes of it."""
    remember(live)
    plan = tool.folder / "plan.json"
    plan.unlink(missing_ok=True)
    words = ("advise", *_targets(live), "--interval", "1", "--duration", f"{watch_s:g}", "--out", str(plan), "--json")
    advised = tool.run(*words, timeout_s=watch_s + 60)
    about: dict[str, Any] = {"failed": advised.stderr.strip()[-500:]} if advised.returncode else {}
    if plan.exists():
        made = tool.run("apply", str(plan), "--yes", timeout_s=120)
        if made.returncode:
            about["failed"] = made.stderr.strip()[-500:]
    settings = tuple(setting for _, found in tool.standing() for setting in found)
    tool.take_back()
    return Configuration("rules", settings, live.roots, about)


def by_loop(tool: Tool, program: Program, live: Live, *, limit_s: float, seed: int) -> Configuration:
    """Return what ``dna sculpt --mode apply --on-exit keep`` has in force after it has converged, or at the time limit."""
    remember(live)
    began = time.monotonic()
    modes = () if live.neighbours else ("--mode", "apply", "--on-exit", "keep")
    words = (*_sculpt_targets(tool, program, live), *modes, "--own-limit", OWN_LIMIT, "--socket", "none", "--no-live")
    words = (*words, "--interval", f"{program.interval_s:g}", "--seed", str(seed), "--duration", f"{limit_s:g}")
    process = tool.run("sculpt", *words, timeout_s=limit_s + 60, is_done=lambda: has_converged(tool))
    remember(live)
    settings = tuple(setting for _, found in tool.standing() for setting in found)
    failed = process.stderr.strip()[-800:] if process.returncode else ""
    about = {"took_s": time.monotonic() - began, **told(tool), "failed": failed}
    tool.take_back()
    return Configuration("loop", settings, live.roots, about)


def _sculpt_targets(tool: Tool, program: Program, live: Live) -> list[str]:
    """Return the target with its metric; what runs beside it is watched, and named to the guard as one that yields."""
    if not live.neighbours:
        return ["--pid", str(live.target), "--metric", live.metric]
    config = tool.folder / "run.toml"
    watched = "".join(f'[[target]]\npid = {pid}\nmode = "observe"\n' for pid in live.neighbours.values())
    config.write_text(
        f'[[target]]\npid = {live.target}\nmode = "apply"\non_exit = "keep"\nmetrics = ["{live.metric}"]\n'
        f"{watched}[guard]\nneighbours = {json.dumps(list(live.neighbours))}\n"
    )
    return ["--config", str(config)]


def has_converged(tool: Tool) -> bool:
    """Tell whether nothing was tried, and nothing ended, in the latest intervals."""
    steps = _target_steps(_records(tool))
    quiet = steps[-QUIET:]
    return len(steps) >= LEAST and all(
        not line["decision"]["event"] and line["decision"]["state"] == "hold" and line["reward"] is not None
        for line in quiet
    )


def _target_steps(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of the target; what is only watched has no reward."""
    steps = [line for line in lines if "decision" in line]
    served = {line["joined"]["workload"] for line in lines if line.get("joined", {}).get("mode") == "apply"}
    return [line for line in steps if line.get("workload") in served] if served else steps


def _records(tool: Tool) -> list[dict[str, Any]]:
    runs = sorted((tool.folder / "runs").glob("*.jsonl"))
    found = []
    for line in runs[-1].read_text().splitlines() if runs else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def told(tool: Tool) -> dict[str, Any]:
    """Return what the records of the last run say: each trial and what became of it."""
    lines = _records(tool)
    steps = _target_steps(lines)
    events = [
        {
            "step": number,
            "workload": line.get("workload"),
            "event": line["decision"]["event"],
            "candidate": line["decision"]["candidate"],
            "gain": line["decision"]["gain"],
            "because": line["decision"]["because"],
        }
        for number, line in enumerate(steps)
        if line["decision"]["event"]
    ]
    candidates = {name: what for line in steps for name, what in line.get("candidates", {}).items()}
    proposed = sorted({name for line in steps for name in line.get("proposed", ())})
    held = {name: why for line in steps for name, why in line.get("held", {}).items()}
    alerts = sorted({text for line in steps for text in line.get("alerts", ())})
    own = [line.get("own_share") or 0.0 for line in steps]
    return {
        "intervals": len(steps),
        "events": events,
        "proposed": proposed,
        "candidates": candidates,
        "held": held,
        "alerts": alerts[:20],
        "own_share": sum(own) / len(own) if own else None,
        "end": next((line["end"] for line in reversed(lines) if "end" in line), None),
    }


def forget(tool: Tool) -> None:
    """Forget what was learned: each program is a first meeting."""
    (tool.folder / "learned.db").unlink(missing_ok=True)
    shutil.rmtree(tool.folder / "runs", ignore_errors=True)
