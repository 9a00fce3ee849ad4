"""Rules in Python files: from how a workload behaves and what the machine is to a proposed configuration, with reasons.

What a rule file imports is here: ``rule``, ``when``, the words of conditions (``w``, ``o``, ``m``, ``nic``, ``disk``, ``pci``), what
combines them, and ``s``, which makes settings.
"""

from rules.language import all_of, any_of, none_of
from rules.rule import Choice, Never, Option, Rule, Wish, choice, never, rule, when
from rules.settings import s
from rules.vocabulary import disk, m, nic, o, pair, pci, w

__all__ = [
    "Choice",
    "Never",
    "Option",
    "Rule",
    "Wish",
    "all_of",
    "any_of",
    "choice",
    "disk",
    "m",
    "never",
    "nic",
    "none_of",
    "o",
    "pair",
    "pci",
    "rule",
    "s",
    "w",
    "when",
]
