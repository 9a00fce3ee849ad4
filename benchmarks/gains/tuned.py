"""TuneD's profiles: which apply here, what each really sets, and one in force for a while, taken back by TuneD itself.

TuneD runs without D-Bus (``tuned --no-dbus --no-socket --profile NAME``), applies the profile as it starts, and rolls it back on SIGTERM.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gains.machine import difference, snapshot

INSTALL = "apt install tuned (and nothing need be started: the benchmark runs it by itself)"
GENERAL = "throughput-performance"
"""What many others are made from: of those with the same effect this one is measured."""
PLACES = (Path("/usr/lib/tuned"), Path("/usr/lib/tuned/profiles"))
_STATE = (Path("/etc/tuned/active_profile"), Path("/etc/tuned/profile_mode"), Path("/etc/tuned/post_loaded_profile"))
_NOT_HERE: tuple[tuple[str, str], ...] = (
    (r"realtime.*|cpu-partitioning.*|intel-sst", "works by the kernel's command line, and so by a restart"),
    (r".*powersave|spindown-disk|laptop-.*", "made to save power, not to be fast"),
    (r"openshift.*|atomic-.*|spectrumscale-ece|virtual-host", "made for another role: a host of containers, storage or guests"),
    (r"default|enterprise-storage", "an old name, kept for old installations"),
    (r"optimize-serial-console", "about what is printed on a serial console"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile, tried once."""

    name: str
    sets: Mapping[str, tuple[str, str]]
    """What was found changed while it was in force: path to old and new content."""
    same_as: str = ""
    """Another profile, before it by name, with the same effect here: measured in its stead."""
    why_not: str = ""
    """Why it does not apply; "" where it does."""
    errors: tuple[str, ...] = ()
    """What of it TuneD could not set here; the rest is in force."""

    @property
    def is_measured(self) -> bool:
        """Tell whether it is an arm of its own."""
        return not self.why_not and not self.same_as


def is_installed() -> bool:
    """Tell whether TuneD is there."""
    return shutil.which("tuned") is not None


def names() -> list[str]:
    """Return the names of the profiles that are installed."""
    found = {path.parent.name for place in PLACES for path in place.glob("*/tuned.conf")}
    return sorted(found, key=lambda name: (name != GENERAL, name))


def is_running() -> bool:
    """Tell whether a TuneD that is not ours is at work: then nothing here would be what it seems."""
    return (
        subprocess.run(["pgrep", "-f", "^[^ ]*python3[^ ]* .*/tuned"], capture_output=True, check=False).returncode == 0
    )


def survey() -> list[Profile]:
    """Put each profile in force once, look what that changes, and take it back; of equal ones the first stands for all."""
    found: list[Profile] = []
    first: dict[tuple[tuple[str, str], ...], str] = {}
    for name in names():
        if why := next((why for pattern, why in _NOT_HERE if re.fullmatch(pattern, name)), ""):
            found.append(Profile(name, {}, why_not=why))
            continue
        before = snapshot()
        try:
            with in_force(name) as errors:
                sets = difference(before, snapshot())
        except TunedError as error:
            found.append(Profile(name, {}, why_not=str(error)))
            continue
        key = tuple((path, new) for path, (_, new) in sets.items())
        if not sets:
            found.append(Profile(name, sets, why_not="changes nothing that there is on this machine", errors=errors))
        else:
            found.append(Profile(name, sets, first.get(key, ""), errors=errors))
            first.setdefault(key, name)
    return found


class TunedError(Exception):
    """A profile could not be put in force."""


@contextmanager
def in_force(name: str) -> Iterator[tuple[str, ...]]:
    """Have a profile in force for as long as the block lasts; yields what of it could not be set.

    Raises:
        TunedError: TuneD does not start, or does not know it.
    """
    kept = {path: path.read_bytes() for path in _STATE if path.exists()}
    with tempfile.TemporaryDirectory(prefix="dna-tuned-") as folder:
        log = Path(folder) / "log"
        command = ["tuned", "--no-dbus", "--no-socket", "--log", str(log), "--pid", f"{folder}/pid", "--profile", name]
        daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield _applied(daemon, log, name)
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            for path, content in kept.items():
                path.write_bytes(content)


def _applied(daemon: subprocess.Popen[bytes], log: Path, name: str, *, timeout_s: float = 20.0) -> tuple[str, ...]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace") if log.exists() else ""
        wrong = tuple(
            line.split(": ", 1)[-1] for line in text.splitlines() if " ERROR " in line and "Error writing" in line
        )
        if f"static tuning from profile '{name}' applied" in text:
            return wrong
        if daemon.poll() is not None:
            raise TunedError(f"TuneD refuses it: {_last(text)}")
        time.sleep(0.02)
    raise TunedError("TuneD did not apply it in time")


def _last(text: str) -> str:
    lines = [line.split(": ", 1)[-1] for line in text.splitlines() if " ERROR " in line]
    return lines[-1] if lines else "it ended"
