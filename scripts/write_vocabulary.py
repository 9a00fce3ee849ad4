"""Write the modules of rules/ that are made from tables: vocabulary.py from rules/tables.py, settings.py from the knobs.

They are source rather than made at run time so that editors complete them and type checkers know them.

.venv/bin/python scripts/write_vocabulary.py            write them
.venv/bin/python scripts/write_vocabulary.py --check    say which are out of date, and exit 1 if any is
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hal.knobs import all_knobs  # noqa: E402
from hal.knobs.knob import Knob  # noqa: E402


def _load_tables() -> Any:
    """Load rules/tables.py without the package, which needs what is written here."""
    spec = importlib.util.spec_from_file_location("_tables", ROOT / "rules/tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["_tables"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_tables = _load_tables()
FLAG, WORD, TABLES, MEANING = _tables.FLAG, _tables.WORD, _tables.TABLES, _tables.MEANING

MADE = "# Made by scripts/write_vocabulary.py; change the tables, not this file.\n"
TYPES = {
    "share": "Share",
    "ratio": "Ratio",
    "bit": "Bits",
    "1/kinstr": "PerKilo",
    "1": "Count",
    "s": "Seconds",
    "B": "Bytes",
    "B/s": "BytesPerSecond",
    "1/s": "PerSecond",
    "W": "Watts",
    "GT/s": "Transfers",
}
CLASS = {"w": "Workload", "pair": "Pair", "m": "Machine", "nic": "Nic", "disk": "Disk", "pci": "Pci"}


def vocabulary() -> str:
    """Return rules/vocabulary.py."""
    lines = [
        '"""The words of conditions, typed: ``w`` is the workload, ``m`` the machine; see docs/rules-reference.md."""',
        "",
        MADE,
        "from __future__ import annotations",
        "",
        "from rules.language import Flag, Like, Number, Term, Word, here",
        "from rules.words import Words",
        "",
        *(f"class {name}: ...\n\n" for name in TYPES.values()),
    ]
    for word, name in CLASS.items():
        lines += _word(word, name)
    for word in TABLES:
        lines += [f'{word} = {CLASS.get(word, "Workload")}("{word}")', f'"""{MEANING[word].capitalize()}."""']
    return "\n".join(lines) + "\n"


def _word(word: str, name: str) -> list[str]:
    facts = TABLES[word]
    groups = {key: list(members) for key, members in groupby(sorted(facts, key=_group), key=_group) if key}
    lines = [line for group, members in groups.items() for line in _class(f"_{name}{group.capitalize()}", members, {})]
    own = [fact for fact in facts if not _group(fact)]
    lines += _class(name, own, {group: f"_{name}{group.capitalize()}" for group in groups})
    if word == "w":
        lines += [
            "    def like(self, label: str, *, within: float) -> Like:",
            '        """The condition that a known workload whose label fits a pattern is within a distance."""',
            '        return Like(f"{self._prefix}.neighbours", label, within, here())',
            "",
            "",
        ]
    return lines


def _class(name: str, facts: Iterable[Any], groups: dict[str, str]) -> list[str]:
    lines = [
        f"class {name}(Words):",
        "    def __init__(self, prefix: str) -> None:",
        "        super().__init__(prefix)",
    ]
    for fact in facts:
        short = fact.name.rpartition(".")[2]
        lines += [f"        self.{short}{_annotated(fact)}", f'        """{_meaning(fact)}"""']
    for group, type_name in groups.items():
        lines += [f'        self.{group} = {type_name}(f"{{prefix}}.{group}")']
    return [*lines, "", ""]


def _annotated(fact: Any) -> str:
    short = fact.name.rpartition(".")[2]
    if fact.unit == FLAG:
        return f' = Flag(f"{{prefix}}.{short}")'
    if fact.unit == WORD:
        return f' = Word(f"{{prefix}}.{short}")'
    return f': Number[{TYPES[fact.unit]}] = Term(f"{{prefix}}.{short}", "{fact.unit}")'


def _meaning(fact: Any) -> str:
    unit = "" if fact.unit in (FLAG, WORD) else f" [{fact.unit}]"
    text = fact.meaning[0].upper() + fact.meaning[1:]
    return f"{text}{unit}."


def _group(fact: Any) -> str:
    return fact.name.partition(".")[0] if "." in fact.name else ""


def settings() -> str:
    """Return rules/settings.py."""
    lines = [
        '"""Settings for a rule to yield, typed: ``s.memory.hugepages(workload)``; see docs/knobs/ for each."""',
        "",
        MADE,
        "from __future__ import annotations",
        "",
        "from hal.settings import SYSTEM, Value",
        "from rules.rule import Wish",
        "from rules.subjects import On",
        "from rules.wishes import wish",
        "",
        "",
    ]
    families = {
        name: list(knobs) for name, knobs in groupby(all_knobs().values(), key=lambda knob: knob.name.split(".")[0])
    }
    for family, knobs in families.items():
        lines += [f"class _{family.capitalize()}:"]
        for knob in knobs:
            lines += _builder(knob)
        lines += [""]
    lines += ["", "class _Settings:"]
    for family in families:
        lines += [f"    {family} = _{family.capitalize()}()"]
    lines += ["", "", "s = _Settings()"]
    return "\n".join(lines) + "\n"


def _builder(knob: Knob) -> list[str]:
    short = knob.name.split(".", 1)[1]
    on, subject = ("", "SYSTEM") if knob.subject_kind == "system" else (", on: On", "on")
    default = f' = "{knob.example}"' if knob.name == "memory.hugepages" else ""
    return [
        f"    def {short}(self{on}, value: Value{default}) -> Wish:",
        f'        """{_sentence(knob.title)} Takes {" ".join(knob.values.split())}."""',
        f'        return wish("{knob.name}", {subject}, value)',
        "",
    ]


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


PAGES = {"rules/vocabulary.py": vocabulary, "rules/settings.py": settings}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path, make in PAGES.items():
        made = subprocess.run(
            [sys.executable, "-m", "ruff", "format", "-q", "--stdin-filename", path, "-"],
            input=make(),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        if not (ROOT / path).exists() or (ROOT / path).read_text() != made:
            stale.append(path)
            if not check:
                (ROOT / path).write_text(made)
    for path in stale:
        print(f"{path}: {'out of date' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
