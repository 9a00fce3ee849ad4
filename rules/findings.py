"""What a check of rules can find."""

from __future__ import annotations

from dataclasses import dataclass

from rules.errors import Place
from rules.language import Condition
from rules.rule import Rule

ERROR, WARNING = "error", "warning"
CODES: dict[str, tuple[str, str]] = {
    "untrusted": (ERROR, "others can write the file"),
    "load": (ERROR, "the file cannot be run"),
    "duplicate": (ERROR, "a rule of that pack and name is in another file"),
    "unknown-fact": (ERROR, "a condition names a fact that does not exist"),
    "amount": (ERROR, "a condition compares what cannot be compared: another unit, a malformed amount"),
    "never": (ERROR, "a condition that never holds, or several that never hold together"),
    "unknown-setting": (ERROR, "the body makes a setting that does not exist"),
    "bad-value": (ERROR, "the body gives a setting a value that it does not take"),
    "wrong-subject": (ERROR, "the body makes a setting on what it is not set on"),
    "always": (WARNING, "a condition that always holds"),
    "redundant": (WARNING, "a condition that follows from the others, and counts for specificity all the same"),
    "exact": (WARNING, "`==` or `!=` on a number that is measured"),
    "unreachable": (WARNING, "another rule wins whenever this one fires"),
    "unordered": (WARNING, "two rules of equal rank may want one setting otherwise"),
    "no-settings": (WARNING, "the body yields nothing"),
    "unused": (WARNING, "the body takes what it does not use"),
    "no-reason": (WARNING, "no docstring says why"),
    "no-expect": (WARNING, "no expected effect"),
    "no-source": (WARNING, "no source"),
    "no-test": (WARNING, "no test module beside the file, or one that cannot be read"),
    "untested": (WARNING, "the test module does not name the rule"),
    "prints": (WARNING, "the file prints while it is loaded"),
    "no-rules": (WARNING, "a file without rules"),
}
"""What is found, how bad it is, and what it means. An *error* makes a rule useless, and keeps a changed file from replacing the one
that is in use; a *warning* is something that its author should look at."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that a check found."""

    place: Place
    code: str
    message: str
    remedy: str = ""
    rule: str = ""
    """Identity of the rule that it is about; empty where it is about the file."""

    @property
    def severity(self) -> str:
        """ERROR or WARNING."""
        return CODES[self.code][0]


def of_rule(rule: Rule, code: str, message: str, remedy: str = "", *, line: int = 0) -> Finding:
    """Return a finding about a rule, by default at its first line."""
    place = Place(rule.place.file, line) if line else rule.place
    return Finding(place, code, message, remedy, rule.identity)


def of_condition(rule: Rule, condition: Condition, code: str, message: str, remedy: str = "") -> Finding:
    """Return a finding about a condition, where it stands in the rule's own file."""
    line = condition.place.line if condition.place.file == rule.place.file else 0
    return of_rule(rule, code, message, remedy, line=line)
