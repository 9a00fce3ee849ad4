"""Rules under work beside those that are installed: which are checked or tried, and against what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rules.errors import RuleError
from rules.findings import Finding
from rules.lint import lint, of_error
from rules.loader import RuleFile
from rules.rule import Rule
from rules.sources import Loaded, Sources, combined, find, load_each, packs_of


@dataclass(frozen=True, slots=True)
class Work:
    """Files under work, and those that are installed."""

    files: tuple[RuleFile, ...]
    """Those under work: named, or all that are installed where none is."""
    broken: tuple[tuple[Path, RuleError], ...]
    """Those of them that cannot be loaded."""
    installed: tuple[RuleFile, ...]
    """All that are found without naming any, as far as they can be loaded."""
    left_out: tuple[tuple[Path, RuleError], ...] = ()
    """Installed ones that cannot be loaded."""

    def findings(self) -> list[Finding]:
        """Return what is found in the files under work."""
        own = {file.path.resolve() for file in self.files}
        among = [file for file in self.installed if file.path.resolve() not in own]
        found = [finding for path, error in self.broken for finding in of_error(error, path)]
        return sorted([*found, *lint(self.files, among=among)])

    def before(self) -> tuple[Rule, ...]:
        """Return the rules that are installed."""
        return combined(self.installed).rules

    def after(self) -> tuple[Rule, ...]:
        """Return the rules as they would be with the files under work.

        Raises:
            RuleError: two rules have one identity.
        """
        return self._with_work().rules

    def _with_work(self) -> Loaded:
        own = {file.path.resolve() for file in self.files}
        return combined([*self.files, *(file for file in self.installed if file.path.resolve() not in own)])


def work_on(paths: Sequence[Path], sources: Sources) -> Work:
    """Return the rule files under these paths beside those of sources; those of sources themselves where no path is given.

    Raises:
        RuleError: a path is not there, is a folder that others can write, or has no rule files.
    """
    installed, left_out = load_each(find(sources))
    everything = [*installed, *packs_of(sources)]
    if not paths:
        return Work(tuple(everything), tuple(left_out), tuple(everything))
    for path in paths:
        if not path.exists():
            raise RuleError(f"{path}: there is no such file", remedy="Give a rule file, or a folder of them.")
    files, broken = load_each(find(Sources(tuple(paths), system=None)))
    if not files and not broken:
        where = ", ".join(map(str, paths))
        raise RuleError(
            f"no rule file is in {where}", remedy="Rule files are *.py, not test_* nor _*: see `dna rules new`."
        )
    return Work(tuple(files), tuple(broken), tuple(everything), tuple(left_out))
