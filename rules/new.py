"""Begin a rule file: one rule with a test module beside it, both sound as they are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rules.errors import RuleError
from rules.sources import is_rule_file

_RULES = '''"""{name}: say here what these rules are about.

What conditions and settings there are: docs/rules-reference.md. How to go on:

    dna rules check {file}
    dna rules test {file}
    dna advise --rules {file} PROFILE
"""

from __future__ import annotations

from collections.abc import Iterator

from rules import Wish, m, rule, s, w, when
from rules.situation import Workload


@rule(
    priority=10,
    expect="throughput +5..20 %",
    source="Say where this is known from: a paper, documentation, a measurement of your own.",
    limits="Say where it stops being true.",
)
@when(
    w.memory.random_share > 0.6,
    w.demand.resident > "1 GiB",
    m.hugepages.available,
)
def huge_pages_for_random_access(workload: Workload) -> Iterator[Wish]:
    """Random access over much memory misses the TLB; with huge pages each entry of it reaches 512 times as far."""
    yield s.memory.hugepages(workload)
'''

_TEST = '''"""Cases of {file}: what is given, and what the rules say of it; whatever is not given is unknown."""

from __future__ import annotations

from rules.testing import beside, given

RULES = beside(__file__)
RANDOM = {{"memory.random_share": 0.8, "demand.resident": "4 GiB"}}
POSSIBLE = {{"hugepages.available": True}}


def test_random_access_gets_huge_pages() -> None:
    said = given(RANDOM, facts=POSSIBLE).ask(RULES)
    assert said.settings("huge_pages_for_random_access") == {{"memory.hugepages": "collapse:0.5"}}


def test_little_memory_does_not() -> None:
    said = given({{**RANDOM, "demand.resident": "100 MiB"}}, facts=POSSIBLE).ask(RULES)
    assert not said.fired("huge_pages_for_random_access")


def test_what_is_not_known_is_not_guessed() -> None:
    said = given({{"demand.resident": "4 GiB"}}, facts=POSSIBLE).ask(RULES)
    assert said.truth("huge_pages_for_random_access") is None
'''


def write_new(path: Path) -> tuple[Path, Path]:
    """Write a rule file and its test module, and return both; folders that are missing are made.

    Raises:
        RuleError: one of them is there already, or cannot be written.
    """
    if not is_rule_file(path.name):
        raise RuleError(f"{path}: that is no name for a rule file", remedy="Name it NAME.py, not test_* or _*.")
    test = path.with_name(f"test_{path.name}")
    for one in (path, test):
        if os.path.lexists(one):
            raise RuleError(f"{one} is there already", remedy="Give another name: nothing is overwritten.")
    words = {"name": path.stem, "file": path.name}
    try:
        _make_folder(path.absolute().parent)
        _write(path, _RULES.format(**words))
        try:
            _write(test, _TEST.format(**words))
        except OSError:
            path.unlink()
            raise
    except OSError as error:
        raise RuleError(f"cannot write {error.filename}: {error.strerror}") from error
    return path, test


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, which nobody else can write, whatever the umask."""
    for one in reversed((folder, *folder.parents)):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=0o755)


def _write(path: Path, text: str) -> None:
    """Make a file that nobody else can write, whatever the umask: a rule file that others can is refused."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w") as file:
        file.write(text)
