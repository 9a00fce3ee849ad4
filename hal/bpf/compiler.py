"""Compile BPF C with the distribution's bcc in a short-lived process; cache the result.

The compiled object depends on the source, the flags (structure offsets among them) and bcc, not on the process, so the
second start needs neither bcc nor kernel headers.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from hal.bpf.object import BpfObject
from hal.errors import BpfError
from hal.host import Host

_WORKER = Path(__file__).with_name("bcc_worker.py")
_DIST_PACKAGES = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages")
_SITE_PACKAGES = re.compile(r"python3(\.\d+)?$")
_TIMEOUT_S = 600  # three seconds where nothing else runs, some minutes in an emulated machine


def find_bcc(host: Host) -> str | None:
    """Return the directory of the distribution's bcc package, or None.

    The package named ``bcc`` in the Python index is unrelated, so only the distribution's places are looked at.
    """
    places = list(_DIST_PACKAGES)
    for base in ("/usr/lib", "/usr/lib64"):  # Fedora, openSUSE, Arch: site-packages of the system's Python
        if host.exists(base):
            names = [name for name in host.list_dir(base) if _SITE_PACKAGES.match(name)]
            places += [f"{base}/{name}/site-packages" for name in names]
    return next((f"{place}/bcc" for place in places if host.exists(f"{place}/bcc/libbcc.py")), None)


def find_headers(host: Host, release: str) -> tuple[str, ...]:
    """Return the kernel header trees to compile with: one, or two to be merged (Debian splits them); () if none.

    Order: the running kernel's, then the newest of any installed kernel (offsets come from BTF, so any will do).
    """
    build = f"/lib/modules/{release}/build"
    if host.exists(f"{build}/include") or host.exists("/sys/kernel/kheaders.tar.xz"):
        return (build,)
    if not host.exists("/usr/src"):
        return ()
    names = [name for name in host.list_dir("/usr/src") if re.match(r"(linux-headers-|linux-\d)", name)]
    if host.exists("/usr/src/kernels"):  # Fedora, RHEL
        names += [f"kernels/{name}" for name in host.list_dir("/usr/src/kernels")]
    for name in sorted(names, key=_version_key, reverse=True):
        tree = f"/usr/src/{name}"
        if not host.exists(f"{tree}/include/generated"):
            continue
        if host.exists(f"{tree}/include/linux"):
            return (tree,)
        version = re.match(r"linux-headers-[\d.]+(?:-\d+|\+[^-]*)?", name)
        flavours = ("-common-rt", "-common") if "-rt-" in name else ("-common",)
        for common in [f"/usr/src/{version[0]}{flavour}" for flavour in flavours if version]:
            if host.exists(f"{common}/include"):
                return (tree, common)
    return ()


def _version_key(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


def cache_dir() -> Path:
    """Return where compiled objects are kept, made with mode 0700."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "workload-dna" / "bpf"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


class Compiler:
    """Compiles for one machine; ``cache`` None keeps nothing."""

    def __init__(self, host: Host, *, cache: Path | None, worker: Path = _WORKER) -> None:
        self._host = host
        self._cache = cache
        self._worker = worker

    def compile(self, source: str, programs: Sequence[str], *, flags: Iterable[str] = ()) -> BpfObject:
        """Return the object for ``source``; BpfError with a remedy when bcc, headers or clang fail."""
        flags = tuple(flags)
        key = self._key(source, programs, flags)
        if (cached := self._cached(key)) is not None:
            return cached
        text = self._run(source, programs, flags)
        compiled = BpfObject.from_json(text)
        self._keep(key, text)
        return compiled

    def remember(self, question: str, compute: Callable[[], dict[str, int]]) -> dict[str, int]:
        """Return what ``compute`` gives for the running kernel, from the cache when it was asked the same before."""
        build = "\0".join([question, platform.release(), platform.version(), platform.machine()])
        key = f"kernel-{hashlib.sha256(build.encode()).hexdigest()[:32]}"
        if (text := self._read(key)) is not None:
            with suppress(ValueError, TypeError, AttributeError):
                return {str(k): int(v) for k, v in json.loads(text).items()}
        found = compute()
        self._keep(key, json.dumps(found))
        return found

    def _key(self, source: str, programs: Sequence[str], flags: tuple[str, ...]) -> str:
        worker = self._worker.read_text()
        parts = json.dumps([source, list(programs), flags, worker, platform.machine(), platform.release()])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    def _cached(self, key: str) -> BpfObject | None:
        with suppress(BpfError):
            if (text := self._read(key)) is not None:
                return BpfObject.from_json(text)
        return None

    def _read(self, key: str) -> str | None:
        """Return a kept text, if it is there and ours: code for the kernel is taken from nobody else."""
        if self._cache is None:
            return None
        path = self._cache / f"{key}.json"
        with suppress(OSError, ValueError):
            both = (path.stat(), self._cache.stat())
            if all(s.st_uid == self._host.euid() and not s.st_mode & (stat.S_IWGRP | stat.S_IWOTH) for s in both):
                return path.read_text()
        return None

    def _keep(self, key: str, text: str) -> None:
        """Write the object to the cache; a cache that cannot be written only costs the next start."""
        if self._cache is None:
            return
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(dir=self._cache)
            with os.fdopen(descriptor, "w") as out:
                out.write(text)
            os.replace(name, self._cache / f"{key}.json")

    def _run(self, source: str, programs: Sequence[str], flags: tuple[str, ...]) -> str:
        bcc = find_bcc(self._host)
        if bcc is None:
            raise BpfError(
                "bcc is not installed",
                remedy="install the distribution's package: `apt install python3-bpfcc` (Debian, Ubuntu), "
                "`dnf install python3-bcc` (Fedora, RHEL), `pacman -S python-bcc` (Arch)",
            )
        release = platform.release()
        trees = find_headers(self._host, release)
        if not trees:
            raise BpfError(
                "no kernel headers were found",
                remedy=f"install `linux-headers-{release}`, or those of any kernel: `apt install linux-headers-amd64` "
                "(offsets come from the running kernel, so they need not match)",
            )
        job = json.dumps({"source": source, "cflags": list(flags), "programs": list(programs), "bcc": bcc})
        with tempfile.TemporaryDirectory(prefix="dna-headers-") as farm:
            environment = dict(os.environ)
            if not trees[0].startswith("/lib/modules/"):
                tree = trees[0] if len(trees) == 1 else merge_trees(trees, Path(farm))
                environment["BCC_KERNEL_SOURCE"] = tree
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-W", "ignore", str(self._worker)],
                    input=job,
                    capture_output=True,
                    text=True,
                    env=environment,
                    timeout=_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise BpfError(f"bcc did not finish compiling within {_TIMEOUT_S} s") from error
            except OSError as error:
                raise BpfError(f"cannot start {sys.executable} to compile: {error}") from error
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise BpfError(f"bcc crashed ({name}): {_last_error(done.stderr)}", remedy="see `dna doctor`")
        if done.returncode != 0:
            raise BpfError(f"bcc could not compile: {_last_error(done.stderr)}", remedy="see `dna doctor`")
        return done.stdout


def merge_trees(trees: Sequence[str], farm: Path) -> str:
    """Make one header tree out of several with symbolic links; the first that has a file wins."""
    # bcc also reads <tree>/source when it is there; a flat farm has none.
    _merge([Path(tree) for tree in trees], farm, depth=4)
    return str(farm)


def _merge(sources: Sequence[Path], into: Path, *, depth: int) -> None:
    names = sorted({entry.name for source in sources for entry in source.iterdir()})
    for name in names:
        holders = [source / name for source in sources if (source / name).exists()]
        folders = [holder for holder in holders if holder.is_dir()]
        if depth and len(folders) > 1:
            (into / name).mkdir()
            _merge(folders, into / name, depth=depth - 1)
        else:
            (into / name).symlink_to(holders[0])


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return (errors[:1] or lines[-1:] or ["no message"])[0][:300]
