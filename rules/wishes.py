"""A setting as a rule's body writes it, held against its knob at once."""

from __future__ import annotations

from hal.errors import SettingError
from hal.knobs import knob_of
from hal.knobs.knob import show
from hal.settings import Value
from rules.errors import RuleError
from rules.language import here
from rules.rule import Wish
from rules.subjects import On, subject_of


def wish(name: str, on: On, value: Value) -> Wish:
    """Return the wish for a knob, a subject and a value; text is parsed as on the command line.

    Raises:
        RuleError: the knob is not set on that, or does not take the value.
    """
    knob = knob_of(name)
    subject = subject_of(on)
    if subject.kind not in knob.accepts:
        raise RuleError(
            f"{name} is not set on a {subject.kind}", place=here(), remedy=f"It takes: {', '.join(knob.accepts)}."
        )
    if value is None:
        return Wish(name, subject, None)
    try:
        return Wish(name, subject, knob.parse(value if isinstance(value, str) else show(value)))
    except SettingError as error:
        raise RuleError(f"{name}: {error}", place=here(), remedy=error.remedy) from error
