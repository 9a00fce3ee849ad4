"""What a setting in a rule is on: whatever has a subject of its own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from hal.settings import Subject
from rules.errors import RuleError
from rules.language import here


@runtime_checkable
class HasSubject(Protocol):
    """A workload, NIC, disk or PCI device, as a rule's body gets it."""

    @property
    def subject(self) -> Subject: ...


type On = Subject | HasSubject


def subject_of(on: object) -> Subject:
    """Return the subject that something stands for.

    Raises:
        RuleError: it has none.
    """
    if isinstance(on, Subject):
        return on
    if isinstance(on, HasSubject):
        return on.subject
    raise RuleError(
        f"{on!r} is nothing to set something on",
        place=here(),
        remedy="Give the workload, nic, disk or pci that the rule's body got, or a Subject.",
    )
