"""Check hardware counters where there surely are some: on an ARM machine with a PMU, emulated by QEMU.

Debian's arm64 kernel and Python are downloaded once into ``.lab/pmu`` (from this system's own Debian mirror, signatures
checked by apt, no foreign architecture added to the system) and packed with this checkout's ``hal`` and ``dna`` into an
initial RAM disk, whose init is ``tests/lab/pmu_guest.py``. It counts loops of known length and prints a line of JSON, which
is checked here. Exit status: 0 all checks pass, 1 some fail, 77 the machine lacks something (said, with the remedy).
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".lab" / "pmu"
RELEASE = "trixie"  # the Python of the project's range that Debian carries
PACKAGES = ("python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib")
LIBRARIES = ("libc6", "zlib1g", "libexpat1", "libffi8", "libgcc-s1")
KERNEL = "linux-image-cloud-arm64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
QEMU = "qemu-system-aarch64"
CANNOT_RUN = 77

# -icount makes QEMU's PMU count instructions; the model of CPU is one that is quick to emulate (no pointer authentication).
MACHINE = "-M virt -cpu cortex-a72,pmu=on -smp 1 -m 768M -icount shift=1 -nographic -no-reboot -nic none"
KERNEL_WORDS = "console=ttyAMA0 quiet panic=-1"
_UNUSED = re.compile(
    r"gconv|share/(doc|man|lintian)|/(test|idlelib|tkinter|ensurepip|pydoc_data|__pycache__|config-3[^/]*)(/|$)"
    r"|lib-dynload/_(codecs|test|ssl|hashlib|curses|sqlite)"
)


def cannot_run(reason: str, remedy: str) -> NoReturn:
    print(f"lab-pmu: {reason}", file=sys.stderr)
    print(f"lab-pmu:   {remedy}", file=sys.stderr)
    raise SystemExit(CANNOT_RUN)


def say(words: str) -> None:
    print(f"lab-pmu: {words}", file=sys.stderr, flush=True)


# --- what the machine needs


def need_qemu() -> None:
    """Install the emulator when it is missing and that is possible."""
    if shutil.which(QEMU):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        cannot_run(f"{QEMU} is not installed", "sudo apt install qemu-system-arm")
    say("installing qemu-system-arm")
    command = [
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=120",
        "qemu-system-arm",
    ]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (1, 2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if attempt == 1:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
    cannot_run("qemu-system-arm could not be installed", done.stderr.strip().splitlines()[-1] if done.stderr else "")


def mirror() -> str:
    """Return the Debian mirror that this system's apt uses."""
    if given := os.environ.get("DNA_LAB_MIRROR"):
        return given
    pick = "set DNA_LAB_MIRROR to the address of a Debian mirror (with the package debian-archive-keyring installed)"
    if not shutil.which("apt-get"):
        cannot_run("the arm64 packages come by apt, which is not here", pick)
    form = "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    # Before the first `apt-get update` origin and label are not known, and stand there unexpanded.
    for wanted in (["Debian", "Debian", "main"], ["$(ORIGIN)", "$(LABEL)", "main"]):
        for row in rows:
            if row[:3] == wanted and row[3].rstrip("/").endswith("/debian"):
                return row[3].rstrip("/")
    cannot_run("this system's apt sources name no Debian mirror", pick)


def apt_options() -> list[str]:
    """Return options that give apt a world of its own: its sources, lists, cache and architecture."""
    world = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "empty"):
        (world / folder).mkdir(parents=True, exist_ok=True)
    (world / "status").write_text("")
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (world / "sources.list").write_text(f"deb {signed}{mirror()} {RELEASE} main\n")
    settings = {
        "Dir::State": world,
        "Dir::State::status": world / "status",
        "Dir::State::lists": world / "lists",
        "Dir::Cache": world / "cache",
        "Dir::Etc::sourcelist": world / "sources.list",
        "Dir::Etc::sourceparts": world / "empty",
        "Dir::Etc::preferencesparts": world / "empty",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def apt(program: str, options: Sequence[str], *words: str) -> str:
    folder = CACHE / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([program, *options, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"{program} {words[0]} failed"]
        cannot_run(
            f"the arm64 packages of Debian {RELEASE} could not be had: {last[0]}",
            "check the network and the mirror, or set DNA_LAB_MIRROR to one that carries arm64",
        )
    return done.stdout


def download() -> list[Path]:
    """Return the packages, kernel first."""
    say(f"downloading an arm64 kernel and Python (Debian {RELEASE}, 40 MB) into {CACHE.relative_to(ROOT)}")
    shutil.rmtree(CACHE / "debs", ignore_errors=True)
    options = apt_options()
    apt("apt-get", options, "update", "-qq")
    found = re.search(r"Depends: (linux-image-\S+)", apt("apt-cache", options, "depends", KERNEL))
    if not found:
        cannot_run(f"{KERNEL} names no kernel", "report it with the output of `apt-cache depends`")
    names = (found[1], *PACKAGES, *LIBRARIES)
    apt("apt-get", options, "download", "-qq", *names)
    return [next((CACHE / "debs").glob(f"{name}_*.deb")) for name in names]


# --- the RAM disk


def cpio_entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """Return one member of a "newc" archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def cpio(entries: Iterator[tuple[str, int, bytes]]) -> bytes:
    return b"".join(cpio_entry(*entry) for entry in entries) + cpio_entry("TRAILER!!!", 0)


def members(package: Path) -> tarfile.TarFile:
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def system_entries(packages: Sequence[Path]) -> Iterator[tuple[str, int, bytes]]:
    """Yield what Python needs, as (name, mode, content); folders come before what is in them."""
    for folder in ("proc", "sys", "dev", "tmp", "usr", "usr/lib", "project"):
        yield folder, 0o040755, b""
    yield "lib", 0o120777, b"usr/lib"
    for package in packages:
        archive = members(package)
        for member in archive:
            name = member.name.removeprefix("./")
            if not name.startswith("usr/") or _UNUSED.search(name):
                continue
            if member.isdir():
                yield name, 0o040755, b""
            elif member.issym():
                yield name, 0o120777, member.linkname.encode()
            elif content := archive.extractfile(member):
                yield name, 0o100000 | member.mode, content.read()


def project_entries() -> Iterator[tuple[str, int, bytes]]:
    """Yield this checkout's hal and dna, and the test as init."""
    for package in ("hal", "dna"):
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT)
            for parent in reversed(relative.parents[:-1]):
                yield f"project/{parent}", 0o040755, b""
            yield f"project/{relative}", 0o100644, path.read_bytes()
    yield "init", 0o100755, b"#!/usr/bin/python3.13 -ISB\n" + (ROOT / "tests/lab/pmu_guest.py").read_bytes()


def build_system() -> None:
    """Download and pack what does not change; again only when it is not there. Two runs at once take turns."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel, base = CACHE / "vmlinuz", CACHE / "system.cpio"
        if not (kernel.exists() and base.exists()):
            pack_system(kernel, base)


def pack_system(kernel: Path, base: Path) -> None:
    image, *packages = download()
    archive = members(image)
    name = next(member for member in archive.getnames() if re.match(r"\./boot/vmlinuz-", member))
    content = archive.extractfile(name)
    assert content is not None
    write_whole(base, cpio(system_entries(packages)))
    write_whole(kernel, content.read())
    shutil.rmtree(CACHE / "debs")
    shutil.rmtree(CACHE / "apt")


def write_whole(path: Path, data: bytes) -> None:
    """Write so that an interrupted run leaves no half file that the next one would trust."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.rename(path)


# --- the run


def boot(*, limit_s: float) -> str:
    """Return what the machine printed."""
    disk = CACHE / f"initrd.{os.getpid()}.cpio"
    try:
        disk.write_bytes((CACHE / "system.cpio").read_bytes() + cpio(project_entries()))
        command = [
            QEMU,
            *MACHINE.split(),
            "-kernel",
            str(CACHE / "vmlinuz"),
            "-initrd",
            str(disk),
            "-append",
            KERNEL_WORDS,
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)
        return (done.stdout + done.stderr).decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode("utf-8", "replace") + f"\nlab-pmu: stopped after {limit_s:g} s\n"
    finally:
        disk.unlink(missing_ok=True)


def result_of(console: str) -> list[dict[str, object]] | None:
    """Return the checks that the machine printed, None when it did not get that far."""
    found = re.search(r"^LAB-PMU (\[.*\])\s*$", console, re.MULTILINE)
    if not found:
        return None
    checks = json.loads(found[1])
    return checks if isinstance(checks, list) else None


def report(checks: Sequence[dict[str, object]]) -> int:
    """Print the checks; return how many failed."""
    for check in checks:
        print(f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {check['found']}")
    failed = sum(not check["ok"] for check in checks)
    print(f"lab-pmu: {len(checks) - failed} of {len(checks)} checks pass")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Check hardware counters on an emulated ARM machine with a PMU.")
    parser.add_argument(
        "--limit", type=float, default=480.0, metavar="SECONDS", help="stop the machine after (default 480)"
    )
    parser.add_argument("--console", action="store_true", help="print everything that the machine prints")
    options = parser.parse_args()
    need_qemu()
    if not shutil.which("dpkg-deb"):
        cannot_run("dpkg-deb is not here, which opens Debian's packages", "install dpkg")
    build_system()
    began = time.monotonic()
    console = boot(limit_s=options.limit)
    checks = result_of(console)
    if options.console or not checks:
        print(console)
    if not checks:
        say("the machine gave no result")
        return 1
    failed = report(checks)
    say(f"{time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
