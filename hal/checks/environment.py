"""The Python environment that dna is installed in: its top-level import names must be its own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from hal.checks.capability import MEASURE, Area, Capability

AREA = Area(MEASURE, "installation")
IMPORT_NAMES = ("dna", "hal", "rules", "rl", "sculpt", "ui", "cli")
OWN_DISTRIBUTION = "workload-dna"


def check() -> Iterator[Capability]:
    """Compare who owns our import names, and where Python would find them."""
    yield import_names(_owners(), _origins())
    yield pyhwloc()


def import_names(owners: Mapping[str, Sequence[str]], origins: Mapping[str, str]) -> Capability:
    """Return whether the import names are ours alone.

    Args:
        owners: distributions that own each top-level name.
        origins: directory that each name is imported from, as far as it is found.
    """
    others = {name: sorted(set(owners.get(name, ())) - {OWN_DISTRIBUTION}) for name in IMPORT_NAMES}
    shared = [f"{name} ({', '.join(found)})" for name, found in others.items() if found]
    home = origins.get("hal", "")
    strays = [f"{name} ({origin})" for name, origin in origins.items() if origin != home]
    if not shared and not strays:
        return AREA.yes("import names", home)
    reason = "; ".join(
        part
        for part in (
            f"owned by another distribution as well: {', '.join(shared)}" if shared else "",
            f"imported from elsewhere: {', '.join(strays)}" if strays else "",
        )
        if part
    )
    return AREA.no(
        "import names",
        reason,
        "install dna into an environment of its own: pipx install workload-dna, or uv tool install workload-dna",
    )


def pyhwloc() -> Capability:
    """Return whether hwloc's binding can be found, without importing it."""
    if importlib.util.find_spec("pyhwloc") is not None:
        return AREA.yes("pyhwloc")
    return AREA.no(
        "pyhwloc", "not installed: the topology comes from /sys", "pip install 'pyhwloc>=3' into dna's environment"
    )


@cache
def _owners() -> dict[str, list[str]]:
    """Return the distributions that installed something under our names.

    ``importlib.metadata.packages_distributions`` would parse every list of files: a second in a large environment.
    """
    ours = re.compile(rf"^({'|'.join(IMPORT_NAMES)})(?:/|\.py,)", flags=re.MULTILINE)
    owners: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        files = distribution.read_text("RECORD") or ""
        for name in set(ours.findall(files)):
            owners.setdefault(name, []).append(distribution.name)
    return owners


def _origins() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in IMPORT_NAMES:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec is None or not spec.origin:
            continue
        path = Path(spec.origin)
        found[name] = str(path.parent.parent if path.name == "__init__.py" else path.parent)
    return found
