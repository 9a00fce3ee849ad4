"""The value that every check returns."""

from __future__ import annotations

from dataclasses import dataclass

MEASURE = "measure"
CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that this machine allows, or does not."""

    name: str
    """Stable identifier, for instance ``"bpf raw tracepoint"``."""
    group: str
    """MEASURE or CHANGE."""
    area: str
    """Heading under which people look for it, for instance ``"eBPF"``."""
    available: bool | None
    """None when it could not be found out."""
    detail: str = ""
    """What was found, for instance ``"2 nodes"``."""
    reason: str = ""
    """Why it is not available; with ``available`` true, a caveat."""
    remedy: str = ""
    """What would change that here."""


@dataclass(frozen=True, slots=True)
class Area:
    """A group and heading, to build capabilities under."""

    group: str
    title: str

    def yes(self, name: str, detail: str = "", *, caveat: str = "", remedy: str = "") -> Capability:
        """Return an available capability."""
        return Capability(name, self.group, self.title, True, detail, caveat, remedy)

    def no(self, name: str, reason: str, remedy: str, *, detail: str = "") -> Capability:
        """Return a capability that is missing; reason and remedy are required."""
        return Capability(name, self.group, self.title, False, detail, reason, remedy)

    def unknown(self, name: str, reason: str, remedy: str) -> Capability:
        """Return a capability that could not be found out."""
        return Capability(name, self.group, self.title, None, "", reason, remedy)
