"""Knobs whose value is several files of one kind, each by its name: ``64kB=always,2048kB=never``.

Only the parts that a value names are set and compared; reading returns all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.files import may_write
from hal.knobs.knob import Knob, Support
from hal.settings import SYSTEM, Change, Subject, Value


class PartsKnob(Knob):
    """A knob of the whole system with a file for each part."""

    subject_kind = "system"
    absent = "this kernel or machine does not have it"
    absent_remedy = "nothing to do: what needs it is left out"

    @abstractmethod
    def files(self, host: Host) -> dict[str, str]:
        """Return the file of each part that is there, in order."""

    @abstractmethod
    def part(self, text: str) -> str:
        """Return the canonical name of a part; raises SettingError."""

    @abstractmethod
    def position(self, part: str) -> int:
        """Return where in order a part stands; ``files`` keeps to it."""

    @abstractmethod
    def setting(self, text: str) -> str:
        """Return the canonical value of one part, as it is written to its file; raises SettingError."""

    def decode(self, text: str) -> str:
        """Return the value of one part from the content of its file."""
        return text.strip()

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if self.files(host) else ()

    def support(self, host: Host) -> Support:
        path = next(iter(self.files(host).values()), None)
        return may_write(host, path) if path else Support(False, self.absent, self.absent_remedy)

    def parse(self, text: str) -> str:
        found: dict[str, str] = {}
        for item in text.split(","):
            name, equals, value = item.partition("=")
            if not equals or self.part(name) in found:
                raise self.malformed(text)
            found[self.part(name)] = self.setting(value)
        return join({name: found[name] for name in sorted(found, key=self.position)})

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        there = self.files(host)
        absent = [name for name in parts_of(value) if name not in there]
        if absent:
            raise SettingError(
                f"{self.name}: there is no {', '.join(absent)} here", remedy=f"There are {', '.join(there)}."
            )

    def read(self, host: Host, subject: Subject) -> str:
        return join({name: self.decode(host.read_text(path)) for name, path in self.files(host).items()})

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        paths = self.files(host)
        for name, wanted in parts_of(value).items():
            if self.decode(host.read_text(paths[name])) != wanted:
                host.write_text(paths[name], wanted)

    def same(self, wanted: Value, found: Value) -> bool:
        present = parts_of(found)
        return all(present.get(name) == one for name, one in parts_of(wanted).items())

    def merged(self, host: Host, earlier: Value, later: Value) -> Value:
        """Return the parts of both; a word that stands for all of them (auto) has none, and the later one counts."""
        both = parts_of(earlier) | parts_of(later)
        has_parts = bool(parts_of(earlier) and parts_of(later))
        return join({name: both[name] for name in sorted(both, key=self.position)}) if has_parts else later

    def between(self, change: Change) -> tuple[Value, ...]:
        """Return what a kill leaves while some parts are written already, when making the change and when taking it back."""
        old, new = parts_of(change.old), parts_of(change.new)
        names = list(new)
        cuts = range(1, len(names))
        halfway = [*(names[:at] for at in cuts), *(names[at:] for at in cuts)]
        return tuple(join(old | {name: new[name] for name in done}) for done in halfway)


def join(parts: Mapping[str, str]) -> str:
    """Return parts as a value."""
    return ",".join(f"{name}={value}" for name, value in parts.items())


def parts_of(value: Value) -> dict[str, str]:
    """Return the parts of a value in canonical form; {} of one that has none."""
    items = (item.partition("=") for item in str(value or "").split(",") if "=" in item)
    return {name: one for name, _, one in items}
