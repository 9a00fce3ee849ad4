"""Values made of named parts, ``rx=1024 tx=512``: what of a device is set together, or comes as one thing.

Reading returns every part that there is. A value that is wanted may leave parts out: they stay as they are. What undoing puts back
is everything as it was read, since a driver that is told one part may move another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.knob import Knob, whole_number
from hal.settings import Value


class AttributesKnob(Knob):
    """A knob whose value is such parts."""

    parts: ClassVar[tuple[str, ...]]
    """Their names, in canonical order."""

    def part(self, name: str, text: str) -> str:
        """Return a part's value in canonical form.

        Raises:
            SettingError: it is no such value; see ``malformed``.
        """
        return str(whole_number(self, text, least=0, most=(1 << 32) - 1))

    def parse(self, text: str) -> Value:
        try:
            given = split_parts(text, self.parts)
        except ValueError:
            raise self.malformed(text) from None
        return join(self.parts, {name: self.part(name, value) for name, value in given.items()})

    def same(self, wanted: Value, found: Value) -> bool:
        if wanted is None or found is None:
            return wanted is found
        present = parts_of(found)
        return all(present.get(name) == value for name, value in parts_of(wanted).items())

    def merged(self, host: Host, earlier: Value, later: Value) -> Value:
        return later if later is None else join(self.parts, parts_of(earlier) | parts_of(later))

    def unknown(self, subject: str, names: Iterable[str], present: Iterable[str]) -> SettingError:
        """Return the error for parts that a device does not have."""
        has = ", ".join(present)
        return SettingError(
            f"{self.name}: {subject} has no {', '.join(names)}", remedy=f"It has {has or 'none of these'}: name those."
        )


def split_parts(text: str, known: Iterable[str]) -> dict[str, str]:
    """Return the parts that a person wrote, separated by spaces or commas.

    Raises:
        ValueError: one is unknown, twice there or no pair; or there is none.
    """
    allowed = tuple(known)
    found: dict[str, str] = {}
    for word in re.split(r"[ ,]+", text.strip(" ")):
        name, equals, value = word.partition("=")
        if not equals or not value or name not in allowed or name in found:
            raise ValueError(f"{word!r} is none of {', '.join(allowed)}")
        found[name] = value
    return found


def join(order: Iterable[str], parts: Mapping[str, str]) -> str:
    """Return parts as a value, in this order."""
    return " ".join(f"{name}={parts[name]}" for name in order if name in parts)


def parts_of(value: Value) -> dict[str, str]:
    """Return the parts of a value in canonical form; words without "=" are left out."""
    return {name: text for name, equals, text in (word.partition("=") for word in str(value or "").split()) if equals}


def numbers_of(value: Value) -> dict[str, int]:
    """Return the parts of a value whose parts are numbers or switches ("on" is 1)."""
    words = {"on": 1, "off": 0}
    return {name: words[text] if text in words else int(text) for name, text in parts_of(value).items()}


def changes(wanted: Mapping[str, int], present: Mapping[str, int]) -> dict[str, int]:
    """Return what of one is otherwise in the other."""
    return {name: value for name, value in wanted.items() if present.get(name) != value}
