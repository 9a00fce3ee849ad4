"""Boot the NUMA lab's machine over this system's own files, and run the project's lab tests or a command in it.

The machine (see scripts/lab_machine.py) is emulated, needs no hardware virtualisation and no root, and sees this system's
whole tree as it is. What it writes anywhere is gone when it ends. Exit status: 0 all tests pass, 1 some fail or the machine
came to grief, 77 it cannot run here (said, with the remedy); with a command the command's own.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import math
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import psutil

from scripts import lab_link, lab_machine
from scripts.debian_world import ROOT, Voice
from scripts.lab_parts import GUEST, LIBRARIES, Parts, get_parts
from scripts.ramdisk import FILE, FOLDER, PROGRAM, Entry, cpio

VOICE = Voice("lab")
TESTS = "python -m pytest -p no:cacheprovider -v --timeout 300 tests/lab/guest"
CONSOLE_LINES = 100
LIMIT_S = 2400.0  # the whole of the tests takes a quarter of an hour on two quiet cores
LOOK_EVERY_S = 5.0
STILL_S = 30.0
"""A machine that does nothing for so long before it has booted is given up, and one at tests after IDLE_S."""
IDLE_S = 150.0
IDLE_SHARE = 0.1
"""Of a CPU; one that only keeps its clocks takes half of that."""
# Of forty starts of this emulator about one stands still before the kernel has said a word; one was seen to end by a failed assertion
# of its own (iotlb_to_section), as did another in its last test, and two to stop in the middle with every CPU halted and a kernel thread
# that nobody woke. None of that says anything of what is tested, so tests that had not passed by then are run again, and that is said.
STARTS = 4
PASSED = re.compile(r"^(tests/\S+?::.+?) PASSED", re.MULTILINE)
"""In what pytest says of each test."""
NOTHING_LEFT = 5
"""Pytest's exit status where no test is left to be run."""
POWER_OFF_S = 20.0


@dataclass(slots=True)
class Outcome:
    """What came out of a run."""

    booted: bool = False
    status: int | None = None
    failure: str = ""
    worth_another: bool = False
    """It came to grief before it had done anything, by no fault of what it was to do."""
    console: deque[str] = field(default_factory=lambda: deque(maxlen=CONSOLE_LINES))
    said: str = ""
    """What the command in it printed."""


# --- the machine's disks


def lab_files(command: str, environment: Mapping[str, str]) -> Iterator[Entry]:
    """Yield what is the machine's own: its start-up, and what it is to do."""
    yield "init", PROGRAM, (GUEST / "init").read_bytes()
    yield "lab", FOLDER, b""
    yield "lab/bin", FOLDER, b""
    yield "lab/start", FILE, (GUEST / "start").read_bytes()
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    path = f"PATH={shlex.quote(str(ROOT / '.venv/bin'))}:$PATH\n"
    yield "lab/environment", FILE, (exports + path + f"cd {shlex.quote(str(ROOT))}\n").encode()
    yield "lab/command", FILE, command.encode() + b"\n"


@contextmanager
def disks(parts: Parts, files: Iterator[Entry]) -> Iterator[tuple[Path, Path]]:
    """Make the RAM disk, an empty NVMe disk and, beside that, the table of the link that is memory, for one run."""
    with tempfile.TemporaryDirectory(prefix="run.", dir=parts.folder) as folder:
        ramdisk, disk = Path(folder, "ramdisk"), Path(folder, "disk")
        ramdisk.write_bytes(parts.ramdisk.read_bytes() + cpio(files))
        with open(disk, "wb") as file:
            file.truncate(lab_machine.DISK_MIB << 20)
        disk.with_name("link").write_bytes(lab_link.table())
        yield ramdisk, disk


# --- the run


def qemu_command(
    parts: Parts, ramdisk: Path, disk: Path, lines: Mapping[str, socket.socket], more: Sequence[str]
) -> list[str]:
    data = parts.programs / "usr/share"
    command = [*parts.command("qemu-system-x86_64"), "-L", str(data / "qemu"), "-L", str(data / "seabios")]
    command += [*lab_machine.board(), *lab_machine.nodes(), *lab_machine.devices(disk)]
    command += lab_link.device(disk.with_name("link"))
    command += [*lab_machine.shared_folder("host", Path("/")), *lab_machine.shared_folder("layer", parts.layer)]
    command += ["-device", "virtio-serial-pci,bus=pcie.0"]
    for name, line in lines.items():
        if name == "console":
            command += ["-chardev", f"socket,id=console,fd={line.fileno()}", "-serial", "chardev:console"]
        else:
            command += lab_machine.channel(name, line.fileno())
    words = f"{lab_machine.KERNEL_WORDS} {lab_link.KERNEL_WORDS}"
    command += ["-kernel", str(parts.kernel), "-initrd", str(ramdisk), "-append", words]
    return [*command, *more]


def end_with_parent() -> None:
    """In the child: die with this script, even when it is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


def boot(parts: Parts, command: str, *, shell: bool, limit_s: float, console: bool, tests: bool) -> Outcome:
    """Start the machine, show what the command in it prints as it comes, and wait for its end."""
    environment = {"LAB_SHELL": "1", "TERM": os.environ.get("TERM", "vt100")} if shell else {}
    names = ("control", "console") if shell else ("control", "console", "out", "err")
    terminal = ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"] if shell else []
    pairs = {name: socket.socketpair() for name in names}
    with disks(parts, lab_files(command, environment)) as (ramdisk, disk):
        theirs = {name: pair[1] for name, pair in pairs.items()}
        machine = psutil.Popen(
            qemu_command(parts, ramdisk, disk, theirs, terminal),
            stdin=None if shell else subprocess.DEVNULL,
            pass_fds=[line.fileno() for line in theirs.values()],
            preexec_fn=end_with_parent,
            env={**os.environ, "QEMU_MODULE_DIR": str(parts.programs / LIBRARIES / "qemu")},
        )
        for line in theirs.values():
            line.close()
        try:
            return Run(machine, limit_s, console=console, tests=tests).follow(
                {name: pair[0] for name, pair in pairs.items()}
            )
        finally:
            with suppress(psutil.NoSuchProcess):  # it died by itself
                machine.kill()
            machine.wait()


class Run:
    """Follows one machine to its end."""

    def __init__(self, machine: psutil.Popen, limit_s: float, *, console: bool, tests: bool) -> None:
        self._machine = machine
        self._limit_s = limit_s
        self._console = console
        self._tests = tests
        self._began = self._moved_at = time.monotonic()
        self._used_s = 0.0
        self._end = self._began + limit_s
        self._outcome = Outcome()

    def follow(self, lines: Mapping[str, socket.socket]) -> Outcome:
        """Read all lines from the machine until it has closed them, stands still, or the time is over."""
        with selectors.DefaultSelector() as selector:
            for name, line in lines.items():
                selector.register(line, selectors.EVENT_READ, name)
            while selector.get_map() and not self._is_over():
                for key, _ in selector.select(min(self._end - time.monotonic(), LOOK_EVERY_S)):
                    if data := os.read(key.fd, 1 << 16):
                        self._take(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
        if self._outcome.status is None and not self._outcome.failure:
            self._outcome.failure = "the emulator died" if self._outcome.booted else "the emulator died while it booted"
            self._outcome.worth_another = self._tests or not self._outcome.booted
        return self._outcome

    def _is_over(self) -> bool:
        now = time.monotonic()
        if now >= self._end:
            self._outcome.failure = f"ended after the limit of {self._limit_s:g} s"
        elif not self._outcome.booted and self._stands_still(now, STILL_S, 0.02):
            self._outcome.failure = f"the machine stood still for {STILL_S:g} s before it had booted"
            self._outcome.worth_another = True
        elif self._tests and self._outcome.status is None and self._stands_still(now, IDLE_S, IDLE_SHARE):
            self._outcome.failure = f"the machine stood still for {IDLE_S:g} s in the middle of a test"
            self._outcome.worth_another = True
        return bool(self._outcome.failure)

    def _stands_still(self, now: float, for_s: float, share: float) -> bool:
        """Tell whether the emulator has done next to nothing for long; one that waits for its CPU still gets some."""
        times = self._machine.cpu_times() if self._machine.poll() is None else None
        used = times.user + times.system if times else 0.0
        if not times or used - self._used_s > share * for_s:
            self._used_s, self._moved_at = used, now
        return now - self._moved_at > for_s

    def _take(self, name: str, data: bytes) -> None:
        match name:
            case "out" | "err":
                show(data, sys.stdout if name == "out" else sys.stderr)
                if name == "out":
                    self._outcome.said += data.decode("utf-8", "replace")
            case "control":
                self._hear(data.decode().split())
            case "console":
                keep(data.decode("utf-8", "replace"), self._outcome.console)
                if self._console:
                    show(data, sys.stderr)

    def _hear(self, words: Sequence[str]) -> None:
        """Take in what the machine says of itself: "booted", "status N"."""
        if "booted" in words:
            self._outcome.booted = True
            VOICE.say(f"booted in {time.monotonic() - self._began:.0f} s")
        if "status" in words:
            self._outcome.status = int(words[-1])
            self._end = min(self._end, time.monotonic() + POWER_OFF_S)


def show(data: bytes, stream: TextIO) -> None:
    stream.buffer.write(data)
    stream.flush()


def keep(text: str, lines: deque[str]) -> None:
    """Add text, which may begin and end within a line."""
    first, *rest = text.replace("\r", "").split("\n")
    lines.append((lines.pop() if lines else "") + first)
    lines.extend(rest)


def report(outcome: Outcome) -> int:
    """Say what went wrong with the machine itself, and return the exit status."""
    if outcome.status is not None:
        return outcome.status
    VOICE.say(outcome.failure)
    VOICE.say("its console's last lines:")
    for line in outcome.console:
        print(f"    {line}", file=sys.stderr)
    return 1


@contextmanager
def turn(folder: Path, *, wait: bool) -> Iterator[None]:
    """Run one machine at a time: two at once take longer than one after the other, and their tests' patience ends."""
    with open(folder / "turn", "w") as lock:
        if wait:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                VOICE.say("another machine is running; waiting for its end (--now does not wait)")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def without(command: str, passed: Sequence[str]) -> str:
    """Return pytest's command line without tests that need not be run again."""
    return shlex.join([*shlex.split(command), *(f"--deselect={name}" for name in passed)]) if passed else command


def interactive() -> str:
    size = shutil.get_terminal_size()
    print("Leave with Ctrl-D; all that was changed is then gone.", file=sys.stderr)
    return f"stty rows {size.lines} cols {size.columns}; exec bash -i"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Run the lab's tests, or a command, on an emulated machine with four NUMA nodes.",
        usage="scripts/lab [--limit SECONDS] [--now] [--console] [--shell | -- COMMAND...]",
    )
    parser.add_argument("--shell", action="store_true", help="a shell in the machine")
    parser.add_argument("--now", action="store_true", help="do not wait for another lab machine to end")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help=f"end the machine after (default {LIMIT_S:g}; shell: never)"
    )
    parser.add_argument("--console", action="store_true", help="show the kernel's messages")
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="run this instead of the tests; one word is a shell's line"
    )
    options = parser.parse_args()
    if options.shell and options.command:
        parser.error("--shell and a command exclude each other")
    if options.shell and not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("--shell needs a terminal; use: scripts/lab -- COMMAND")
    if options.limit is not None and not options.limit > 0:
        parser.error("--limit must be above 0")
    return options


def main() -> int:
    options = arguments()
    parts = get_parts(VOICE)
    limit_s = options.limit or (math.inf if options.shell else LIMIT_S)
    if options.shell:
        command = interactive()
    else:
        command = options.command[0] if len(options.command) == 1 else shlex.join(options.command) or TESTS
    with turn(parts.folder, wait=not (options.now or options.shell)):
        end = time.monotonic() + limit_s
        passed: list[str] = []
        for _ in range(STARTS):
            outcome = boot(
                parts,
                without(command, passed),
                shell=options.shell,
                limit_s=end - time.monotonic(),
                console=options.console,
                tests=not (options.shell or options.command),
            )
            if not outcome.worth_another:
                break
            VOICE.say(outcome.failure)
            if not options.command:
                passed += PASSED.findall(outcome.said)
                VOICE.say(f"starting again, without the {len(passed)} tests that have passed")
    status = report(outcome)
    if passed and status == NOTHING_LEFT:
        status = 0
    return status if options.command or options.shell else min(status, 1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read this has gone
        os._exit(141)
