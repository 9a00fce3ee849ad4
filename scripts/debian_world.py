"""Packages of a Debian release, downloaded and unpacked beside the system: what both lab machines are made of.

apt gets sources, lists, cache, status and architecture of its own in a folder. Of the system's it reads the address of the
mirror and Debian's keys, and changes nothing, so that this works without root and on any system with apt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
CANNOT_RUN = 77
RELEASE = "trixie"  # its QEMU, kernel and Python (3.13) are what the labs need
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Voice:
    """Speaks on standard error under a script's name."""

    name: str

    def say(self, words: str) -> None:
        print(f"{self.name}: {words}", file=sys.stderr, flush=True)

    def cannot_run(self, reason: str, remedy: str) -> NoReturn:
        """End with status 77, after the reason and what to do about it."""
        self.say(reason)
        self.say(f"  {remedy}")
        raise SystemExit(CANNOT_RUN)


@dataclass(frozen=True, slots=True)
class World:
    """An apt of its own in ``folder``, for one architecture, to which no package is installed."""

    folder: Path
    architecture: str
    voice: Voice

    def update(self) -> None:
        """Read the package lists; apt checks their signatures."""
        for folder in ("lists/partial", "cache/archives/partial", "empty", "debs"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("")
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (self.folder / "sources.list").write_text(f"deb {signed}{mirror(self.voice)} {RELEASE} main\n")
        self.apt("apt-get", "update", "-qq")

    def apt(self, program: str, *words: str) -> str:
        """Return what an apt program prints."""
        command = [program, *self._options(), *words]
        done = subprocess.run(command, cwd=self.folder / "debs", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or [f"{program} {words[0]} failed"]
            self.voice.cannot_run(
                f"the {self.architecture} packages of Debian {RELEASE} could not be had: {last[0]}",
                f"check the network and the mirror, or set DNA_LAB_MIRROR to one that carries {self.architecture}",
            )
        return done.stdout

    def depends(self, package: str) -> list[str]:
        """Return the packages that a package names as its dependencies."""
        lines = self.apt("apt-cache", "depends", package).splitlines()
        return [line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("Depends:")]

    def with_dependencies(self, names: Sequence[str]) -> list[str]:
        """Return the names of packages and of everything they need, down to the C library."""
        printed = self.apt("apt-get", "install", "-s", "-qq", "--no-install-recommends", *names)
        return [line.split()[1] for line in printed.splitlines() if line.startswith("Inst ")]

    def download(self, names: Sequence[str]) -> list[Path]:
        """Return the packages' files, in the order of their names."""
        self.apt("apt-get", "download", "-qq", *names)
        return [next((self.folder / "debs").glob(f"{name}_*.deb")) for name in names]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _options(self) -> list[str]:
        return list(self._settings())

    def _settings(self) -> Iterator[str]:
        settings = {
            "Dir::State": self.folder,
            "Dir::State::status": self.folder / "status",
            "Dir::State::lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "empty",
            "Dir::Etc::preferencesparts": self.folder / "empty",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        for name, value in settings.items():
            yield from ("-o", f"{name}={value}")


def mirror(voice: Voice) -> str:
    """Return the Debian mirror that this system's apt uses."""
    if given := os.environ.get("DNA_LAB_MIRROR"):
        return given
    pick = "set DNA_LAB_MIRROR to the address of a Debian mirror (with the package debian-archive-keyring installed)"
    if not shutil.which("apt-get"):
        voice.cannot_run("the machine's parts come by apt, which is not here", pick)
    form = "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _mirror_of([line.split() for line in done.stdout.splitlines()])
    return found or voice.cannot_run("this system's apt sources name no Debian mirror", pick)


def _mirror_of(rows: Sequence[list[str]]) -> str | None:
    # Before the first `apt-get update` origin and label are not known, and stand there unexpanded.
    for wanted in (["Debian", "Debian", "main"], ["$(ORIGIN)", "$(LABEL)", "main"]):
        for row in rows:
            if row[:3] == wanted and row[3].rstrip("/").endswith("/debian"):
                return row[3].rstrip("/")
    return None


def need_dpkg_deb(voice: Voice) -> None:
    if not shutil.which("dpkg-deb"):
        voice.cannot_run("dpkg-deb is not here, which opens Debian's packages", "install dpkg")


def write_whole(path: Path, data: bytes) -> None:
    """Write so that an interrupted run leaves no half file that the next one would trust."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.rename(path)
