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

from scripts.debian_world import RELEASE, ROOT, Voice, World, need_dpkg_deb, write_whole
from scripts.ramdisk import FILE, FOLDER, LINK, PROGRAM, Entry, cpio

CACHE = ROOT / ".lab" / "pmu"
PACKAGES = ("python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib")
LIBRARIES = ("libc6", "zlib1g", "libexpat1", "libffi8", "libgcc-s1")
KERNEL = "linux-image-cloud-arm64"
QEMU = "qemu-system-aarch64"
VOICE = Voice("lab-pmu")
WORLD = World(CACHE / "apt", architecture="arm64", voice=VOICE)

# -icount makes QEMU's PMU count instructions; the model of CPU is one that is quick to emulate (no pointer authentication).
MACHINE = "-M virt -cpu cortex-a72,pmu=on -smp 1 -m 768M -icount shift=1 -nographic -no-reboot -nic none"
KERNEL_WORDS = "console=ttyAMA0 quiet panic=-1"
_UNUSED = re.compile(
    r"gconv|share/(doc|man|lintian)|/(test|idlelib|tkinter|ensurepip|pydoc_data|__pycache__|config-3[^/]*)(/|$)"
    r"|lib-dynload/_(codecs|test|ssl|hashlib|curses|sqlite)"
)


# --- what the machine needs


def need_qemu() -> None:
    """Install the emulator when it is missing and that is possible."""
    if shutil.which(QEMU):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        VOICE.cannot_run(f"{QEMU} is not installed", "sudo apt install qemu-system-arm")
    VOICE.say("installing qemu-system-arm")
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
    VOICE.cannot_run(
        "qemu-system-arm could not be installed", done.stderr.strip().splitlines()[-1] if done.stderr else ""
    )


def download() -> list[Path]:
    """Return the packages, kernel first."""
    VOICE.say(f"downloading an arm64 kernel and Python (Debian {RELEASE}, 40 MB) into {CACHE.relative_to(ROOT)}")
    WORLD.remove()
    WORLD.update()
    kernel = [name for name in WORLD.depends(KERNEL) if name.startswith("linux-image-")]
    if not kernel:
        VOICE.cannot_run(f"{KERNEL} names no kernel", "report it with the output of `apt-cache depends`")
    return WORLD.download((kernel[0], *PACKAGES, *LIBRARIES))


# --- the RAM disk


def members(package: Path) -> tarfile.TarFile:
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def system_entries(packages: Sequence[Path]) -> Iterator[Entry]:
    """Yield what Python needs, as (name, mode, content); folders come before what is in them."""
    for folder in ("proc", "sys", "dev", "tmp", "usr", "usr/lib", "project"):
        yield folder, FOLDER, b""
    yield "lib", LINK, b"usr/lib"
    for package in packages:
        archive = members(package)
        for member in archive:
            name = member.name.removeprefix("./")
            if not name.startswith("usr/") or _UNUSED.search(name):
                continue
            if member.isdir():
                yield name, FOLDER, b""
            elif member.issym():
                yield name, LINK, member.linkname.encode()
            elif content := archive.extractfile(member):
                yield name, 0o100000 | member.mode, content.read()


def project_entries() -> Iterator[Entry]:
    """Yield this checkout's hal and dna, and the test as init."""
    for package in ("hal", "dna"):
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT)
            for parent in reversed(relative.parents[:-1]):
                yield f"project/{parent}", FOLDER, b""
            yield f"project/{relative}", FILE, path.read_bytes()
    yield "init", PROGRAM, b"#!/usr/bin/python3.13 -ISB\n" + (ROOT / "tests/lab/pmu_guest.py").read_bytes()


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
    WORLD.remove()


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
    need_dpkg_deb(VOICE)
    build_system()
    began = time.monotonic()
    console = boot(limit_s=options.limit)
    checks = result_of(console)
    if options.console or not checks:
        print(console)
    if not checks:
        VOICE.say("the machine gave no result")
        return 1
    failed = report(checks)
    VOICE.say(f"{time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
