"""What the NUMA lab's machine is made of: Debian's QEMU, kernel, kernel headers and a busybox, kept in ``.lab/numa``.

QEMU comes with all its libraries down to the C library and is started by its own dynamic linker. So nothing is installed,
the same QEMU and kernel run on every system, and whatever this system has or lacks does not matter.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.debian_world import RELEASE, ROOT, Voice, World, need_dpkg_deb, write_whole
from scripts.ramdisk import FILE, FOLDER, PROGRAM, Entry, cpio

CACHE = ROOT / ".lab" / "numa"
GUEST = Path(__file__).resolve().parent / "lab_guest"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PROGRAMS = ("qemu-system-x86", "busybox-static", "kmod")
FIRST_MODULES = ("9pnet_virtio", "9p", "overlay")  # what reaching the root file system takes
FORMAT = "1"  # counted up when what is kept below changes


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts lie."""

    folder: Path

    @property
    def programs(self) -> Path:
        """A tree with QEMU, busybox and kmod, and their libraries."""
        return self.folder / "programs"

    @property
    def layer(self) -> Path:
        """A tree with kernel, modules and headers, which the machine sees laid over this system's root."""
        return self.folder / "layer"

    @property
    def kernel(self) -> Path:
        return next((self.layer / "boot").glob("vmlinuz-*"))

    @property
    def release(self) -> str:
        """The kernel's version, as ``uname -r`` gives it."""
        return self.kernel.name.removeprefix("vmlinuz-")

    @property
    def modules(self) -> Path:
        return self.layer / "usr/lib/modules" / self.release

    @property
    def ramdisk(self) -> Path:
        return self.folder / "base.cpio"

    @property
    def is_complete(self) -> bool:
        made = self.folder / "made"
        return made.exists() and made.read_text() == FORMAT

    def command(self, program: str, called: str | None = None) -> list[str]:
        """Return the start of a command line that runs one of the programs with its own libraries."""
        libraries = self.programs / LIBRARIES
        linker = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        return [*linker, *(("--argv0", called) if called else ()), str(self.programs / "usr/bin" / program)]


def get_parts(voice: Voice) -> Parts:
    """Return the parts; download what is not there. Two runs at once take turns."""
    parts = Parts(CACHE)
    if platform.machine() != "x86_64":
        voice.cannot_run(
            f"the machine needs an x86-64 system below it, this is {platform.machine()}", "run it on another"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not parts.is_complete:
            _make(parts, voice)
    return parts


def _make(parts: Parts, voice: Voice) -> None:
    need_dpkg_deb(voice)
    voice.say(f"downloading QEMU, a kernel and its headers (Debian {RELEASE}, 160 MB) into {CACHE.relative_to(ROOT)}")
    world = World(CACHE / "apt", architecture="amd64", voice=voice)
    world.remove()
    world.update()
    for tree, packages in (
        (parts.programs, world.with_dependencies(PROGRAMS)),
        (parts.layer, _kernel_packages(world)),
    ):
        _unpack(world.download(packages), tree)
    world.remove()
    voice.say("indexing the kernel's modules")
    subprocess.run(
        [*parts.command("kmod", "depmod"), "-b", parts.layer, "-m", "/usr/lib/modules", parts.release], check=True
    )
    write_whole(parts.ramdisk, cpio(_first_system(parts)))
    write_whole(CACHE / "made", FORMAT.encode())


def _kernel_packages(world: World) -> list[str]:
    image = next(name for name in world.depends("linux-image-amd64") if name.startswith("linux-image-"))
    headers = image.replace("linux-image-", "linux-headers-")
    needed = [name for name in world.depends(headers) if re.match(r"linux-(headers|kbuild)-", name)]
    return [image, headers, *needed]


def _unpack(packages: Sequence[Path], tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, tree], check=True)


def _first_system(parts: Parts) -> Iterator[Entry]:
    """Yield what the machine starts from until it has reached this system's files."""
    yield "bin", FOLDER, b""
    yield "modules", FOLDER, b""
    yield "bin/busybox", PROGRAM, (parts.programs / "usr/bin/busybox").read_bytes()
    order = list(_in_order(parts.modules, FIRST_MODULES))
    for module in order:
        yield f"modules/{module.stem}", FILE, lzma.decompress(module.read_bytes())
    yield "modules/order", FILE, "".join(f"{module.stem}\n" for module in order).encode()


def _in_order(modules: Path, wanted: Sequence[str]) -> Iterator[Path]:
    """Yield the files of modules, each after those that it needs."""
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    paths = {re.sub(r"\.ko.*", "", os.path.basename(path)): path for path in needs}
    seen: set[str] = set()
    for name in wanted:
        for path in (*reversed(needs[paths[name]].split()), paths[name]):
            if path not in seen:
                seen.add(path)
                yield modules / path
