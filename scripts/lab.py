"""Boot the NUMA lab's machine over this system's own files, and run the project's lab tests or a command in it.

The machine (see scripts/lab_machine.py) is emulated, needs no hardware virtualisation and no root, and sees this system's
whole tree as it is. What it writes anywhere is gone when it ends. Exit status: 0 all tests pass, 1 some fail or the machine
came to grief, 77 it cannot run here (said, with the remedy); with a command the command's own, 124 when it took too long.
"""

from __future__ import annotations

import argparse
import ctypes
import os
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts import lab_machine
from scripts.debian_world import ROOT, Voice
from scripts.lab_parts import GUEST, Parts, get_parts
from scripts.ramdisk import FILE, FOLDER, PROGRAM, Entry, cpio

VOICE = Voice("lab")
TESTS = "python -m pytest -p no:cacheprovider -v tests/lab/guest"
CONSOLE_LINES = 30
TOOK_TOO_LONG = 124


@dataclass(slots=True)
class Outcome:
    """What came out of a run."""

    boot_s: float | None = None
    status: int | None = None
    out_of_time: bool = False
    console: deque[str] = field(default_factory=lambda: deque(maxlen=CONSOLE_LINES))


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
    """Make the RAM disk and an empty NVMe disk for one run."""
    with tempfile.TemporaryDirectory(prefix="run.", dir=parts.folder) as folder:
        ramdisk, disk = Path(folder, "ramdisk"), Path(folder, "disk")
        ramdisk.write_bytes(parts.ramdisk.read_bytes() + cpio(files))
        with open(disk, "wb") as file:
            file.truncate(lab_machine.DISK_MIB << 20)
        yield ramdisk, disk


# --- the run


def qemu_command(
    parts: Parts, ramdisk: Path, disk: Path, lines: Mapping[str, socket.socket], more: Sequence[str]
) -> list[str]:
    data = parts.programs / "usr/share"
    command = [*parts.command("qemu-system-x86_64"), "-L", str(data / "qemu"), "-L", str(data / "seabios")]
    command += [*lab_machine.board(), *lab_machine.nodes(), *lab_machine.devices(disk)]
    command += [*lab_machine.shared_folder("host", Path("/")), *lab_machine.shared_folder("layer", parts.layer)]
    command += ["-device", "virtio-serial-pci,bus=pcie.0"]
    for name, line in lines.items():
        if name == "console":
            command += ["-chardev", f"socket,id=console,fd={line.fileno()}", "-serial", "chardev:console"]
        else:
            command += lab_machine.channel(name, line.fileno())
    command += ["-kernel", str(parts.kernel), "-initrd", str(ramdisk), "-append", lab_machine.KERNEL_WORDS]
    return [*command, *more]


def end_with_parent() -> None:
    """In the child: die with this script, even when it is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


def boot(parts: Parts, command: str, *, shell: bool, limit_s: float | None, console: bool) -> Outcome:
    """Start the machine, show what the command in it prints as it comes, and wait for its end."""
    began = time.monotonic()
    environment = {"LAB_SHELL": "1", "TERM": os.environ.get("TERM", "vt100")} if shell else {}
    names = ("control", "console") if shell else ("control", "console", "out", "err")
    terminal = ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"] if shell else []
    pairs = {name: socket.socketpair() for name in names}
    outcome = Outcome()
    with disks(parts, lab_files(command, environment)) as (ramdisk, disk):
        theirs = {name: pair[1] for name, pair in pairs.items()}
        machine = subprocess.Popen(
            qemu_command(parts, ramdisk, disk, theirs, terminal),
            stdin=None if shell else subprocess.DEVNULL,
            pass_fds=[line.fileno() for line in theirs.values()],
            preexec_fn=end_with_parent,  # noqa: PLW1509 (there is one thread)
            env={**os.environ, "QEMU_MODULE_DIR": str(parts.programs / "usr/lib/x86_64-linux-gnu/qemu")},
        )
        for line in theirs.values():
            line.close()
        try:
            listen({name: pair[0] for name, pair in pairs.items()}, outcome, began, limit_s, console=console)
        finally:
            machine.kill()
            machine.wait()
    return outcome


def listen(
    lines: Mapping[str, socket.socket], outcome: Outcome, began: float, limit_s: float | None, *, console: bool
) -> None:
    """Read all lines from the machine until it has closed them, or the time is over."""
    with selectors.DefaultSelector() as selector:
        for name, line in lines.items():
            selector.register(line, selectors.EVENT_READ, name)
        while selector.get_map():
            left = None if limit_s is None else began + limit_s - time.monotonic()
            if left is not None and left <= 0:
                outcome.out_of_time = True
                return
            for key, _ in selector.select(left):
                data = os.read(key.fd, 1 << 16)
                if data:
                    take(key.data, data, outcome, began, console=console)
                else:
                    selector.unregister(key.fileobj)


def take(name: str, data: bytes, outcome: Outcome, began: float, *, console: bool) -> None:
    match name:
        case "out" | "err":
            stream = sys.stdout.buffer if name == "out" else sys.stderr.buffer
            stream.write(data)
            stream.flush()
        case "control":
            follow(data.decode().split(), outcome, began)
        case "console":
            keep(data.decode("utf-8", "replace"), outcome.console)
            if console:
                sys.stderr.buffer.write(data)
                sys.stderr.flush()


def follow(words: Sequence[str], outcome: Outcome, began: float) -> None:
    """Take in what the machine says of itself: "booted", "status N"."""
    if "booted" in words:
        outcome.boot_s = time.monotonic() - began
        VOICE.say(f"booted in {outcome.boot_s:.0f} s")
    if "status" in words:
        outcome.status = int(words[-1])


def keep(text: str, lines: deque[str]) -> None:
    """Add text, which may begin and end within a line."""
    first, *rest = text.replace("\r", "").split("\n")
    lines.append((lines.pop() if lines else "") + first)
    lines.extend(rest)


def report(outcome: Outcome, limit_s: float | None) -> int:
    """Say what went wrong with the machine itself, and return the exit status."""
    if outcome.status is not None:
        return outcome.status
    VOICE.say(f"ended after the limit of {limit_s:g} s" if outcome.out_of_time else "the machine died")
    VOICE.say("its console's last lines:")
    for line in outcome.console:
        print(f"    {line}", file=sys.stderr)
    return TOOK_TOO_LONG if outcome.out_of_time else 1


def interactive() -> str:
    size = shutil.get_terminal_size()
    print("Leave with Ctrl-D; all that was changed is then gone.", file=sys.stderr)
    return f"stty rows {size.lines} cols {size.columns}; exec bash -i"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Run the lab's tests, or a command, on an emulated machine with four NUMA nodes.",
        usage="scripts/lab [--limit SECONDS] [--console] [--shell | -- COMMAND...]",
    )
    parser.add_argument("--shell", action="store_true", help="a shell in the machine")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help="end the machine after (default 900; shell: never)"
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
    limit_s = options.limit or (None if options.shell else 900.0)
    if options.shell:
        command = interactive()
    else:
        command = options.command[0] if len(options.command) == 1 else shlex.join(options.command) or TESTS
    outcome = boot(parts, command, shell=options.shell, limit_s=limit_s, console=options.console)
    status = report(outcome, limit_s)
    return status if options.command or options.shell else min(status, 1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
