"""Where rules come from: files that are named, the user's and the system's folder, and the packs that are shipped.

=============  =====================================================================================================
given          ``--rules PATH``: a file, or a folder of them
environment    those in ``DNA_RULES``, separated as in ``PATH``
user           ``$XDG_CONFIG_HOME/workload-dna/rules/*.py`` (``~/.config`` by default); not for root
system         ``/etc/workload-dna/rules/*.py``
shipped        the packs, all or those that are named
=============  =====================================================================================================

Root has no folder of its own beside the system's: what stands in a home directory may be somebody else's (``sudo`` can keep HOME).
Of two rules of one identity the one from further up this table counts, so that a shipped rule can be replaced by a better one
of the same pack and name; two from the same place are a mistake.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from rules.errors import RuleError
from rules.loader import ENVIRONMENT, GIVEN, ORIGINS, PACKS, SHIPPED, SYSTEM, USER, RuleFile, load, of_module
from rules.rule import Rule
from rules.trust import list_trusted

SYSTEM_FOLDER = Path("/etc/workload-dna/rules")
VARIABLE = "DNA_RULES"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look for rules."""

    given: tuple[Path, ...] = ()
    """Files and folders that were named."""
    packs: tuple[str, ...] | None = None
    """Shipped packs by name; None: all of them."""
    user: Path | None = None
    system: Path | None = SYSTEM_FOLDER
    environment: tuple[Path, ...] = ()
    """Files and folders that the environment names."""

    @classmethod
    def of(
        cls,
        given: Iterable[str | Path] = (),
        *,
        packs: Sequence[str] | None = None,
        environment: Mapping[str, str] = os.environ,
        euid: int | None = None,
    ) -> Sources:
        """Return where the user's rules are: what is named, and what the environment says.

        Raises:
            RuleError: a pack does not exist.
        """
        named = filter(None, environment.get(VARIABLE, "").split(os.pathsep))
        for pack in packs or ():
            if pack not in shipped():
                raise RuleError(f"there is no pack {pack!r}", remedy=f"There is: {', '.join(shipped())}.")
        return cls(
            tuple(Path(path).expanduser() for path in given),
            None if packs is None else tuple(packs),
            user_folder(environment, euid=euid),
            environment=tuple(Path(path).expanduser() for path in named),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A file of rules, and how it was found."""

    path: Path
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rules that are in effect."""

    files: tuple[RuleFile, ...]
    """All that were loaded, those that count first at the front."""
    rules: tuple[Rule, ...] = ()
    """Those that count."""
    replaced: Mapping[str, tuple[Rule, Rule]] = field(default_factory=dict)
    """By identity: the rule that counts, and the one that it takes the place of."""

    def file_of(self, rule: Rule) -> RuleFile:
        """Return the file that a rule is from."""
        return next(file for file in self.files if any(one is rule for one in file.rules))


def user_folder(environment: Mapping[str, str] = os.environ, *, euid: int | None = None) -> Path | None:
    """Return the folder of the user's own rules; None for root, and where there is no home."""
    if (os.geteuid() if euid is None else euid) == 0:
        return None
    config, home = environment.get("XDG_CONFIG_HOME", ""), environment.get("HOME", "")
    if os.path.isabs(config):
        return Path(config) / "workload-dna" / "rules"
    return Path(home) / ".config" / "workload-dna" / "rules" if os.path.isabs(home) else None


def shipped() -> tuple[str, ...]:
    """Return the names of the packs that are shipped."""
    names = (module.name for module in pkgutil.iter_modules([str(PACKS)]))
    return tuple(sorted(name for name in names if is_rule_file(f"{name}.py")))


def is_rule_file(name: str) -> bool:
    """Tell whether a file in a folder of rules is one: not a test module, nor one that is hidden or private."""
    return name.endswith(".py") and not name.startswith(("test_", "_", ".")) and name != "conftest.py"


def find(sources: Sources) -> tuple[Found, ...]:
    """Return the rule files of sources, each once, except the shipped packs; those that count first at the front.

    Raises:
        RuleError: something that was named is not there, or is no rule file.
        UntrustedError: a folder that others can write.
    """
    by_place: dict[str, Found] = {}
    for found in _find(sources):
        by_place.setdefault(os.path.realpath(found.path), found)
    return tuple(by_place.values())


def _find(sources: Sources) -> Iterator[Found]:
    named = [(path, GIVEN) for path in sources.given] + [(path, ENVIRONMENT) for path in sources.environment]
    for path, origin in named:
        if path.is_dir():
            yield from (Found(one, origin) for one in files_in(path))
        else:
            if not is_rule_file(path.name):
                what = "that is no rule file" if path.exists() else "there is no such file or folder"
                raise RuleError(f"{path}: {what}", remedy="Give a folder, or a Python file whose name is not test_*.")
            yield Found(path, origin)
    for folder, origin in ((sources.user, USER), (sources.system, SYSTEM)):
        if folder is not None and folder.is_dir():
            yield from (Found(one, origin) for one in files_in(folder))


def files_in(folder: Path) -> list[Path]:
    """Return the rule files in a folder; not those in folders below.

    Raises:
        UntrustedError: others can write it.
    """
    return [folder / name for name in list_trusted(folder) if is_rule_file(name)]


def load_all(sources: Sources) -> Loaded:
    """Return the rules of sources.

    Raises:
        RuleError: see ``find`` and ``rules.loader.load``; also two rules of one identity from one place.
    """
    own = [load(found.path, origin=found.origin) for found in find(sources)]
    return combined([*own, *packs_of(sources)])


def load_each(found: Iterable[Found]) -> tuple[list[RuleFile], list[tuple[Path, RuleError]]]:
    """Return the files that can be loaded, and why the others cannot."""
    files, errors = [], []
    for one in found:
        try:
            files.append(load(one.path, origin=one.origin))
        except RuleError as error:
            errors.append((one.path, error))
    return files, errors


def packs_of(sources: Sources) -> list[RuleFile]:
    """Return the shipped packs among sources."""
    names = shipped() if sources.packs is None else sources.packs
    return [of_module(import_module(f"rules.packs.{name}"), origin=SHIPPED) for name in names]


def combined(files: Iterable[RuleFile]) -> Loaded:
    """Return the rules of files that count.

    Raises:
        RuleError: two rules of one identity come from the same place.
    """
    ordered = sorted(files, key=lambda file: -ORIGINS.index(file.origin))
    counting: dict[str, tuple[Rule, str]] = {}
    replaced: dict[str, tuple[Rule, Rule]] = {}
    for file in ordered:
        for rule in file.rules:
            first, origin = counting.setdefault(rule.identity, (rule, file.origin))
            if first is rule:
                continue
            if origin == file.origin:
                raise RuleError(
                    f"{rule.identity} is there already, in {first.place}",
                    place=rule.place,
                    remedy="Rename one of the rules or files; none of them comes before the other.",
                )
            replaced.setdefault(rule.identity, (first, rule))
    return Loaded(tuple(ordered), tuple(rule for rule, _ in counting.values()), replaced)
