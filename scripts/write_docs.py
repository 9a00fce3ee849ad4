"""Write the pages of docs/ that are made from the program: features.md, commands.md, rules-reference.md and rules-packs.md.

.venv/bin/python scripts/write_docs.py            write them
.venv/bin/python scripts/write_docs.py --check    say which are out of date, and exit 1 if any is
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import typer.main  # noqa: E402

import cli  # noqa: E402
from dna.features import BY_NAME, DEMAND, FEATURES, MIN_EVENTS, Feature  # noqa: E402
from hal.knobs import all_knobs  # noqa: E402
from hal.knobs.knob import Knob  # noqa: E402
from rules.loader import rules_of  # noqa: E402
from rules.rule import Rule  # noqa: E402
from rules.sources import shipped  # noqa: E402
from rules.tables import MEANING, TABLES  # noqa: E402
from rules.units import UNITS, Unit  # noqa: E402
from rules.writes import writes_of  # noqa: E402

MADE = "<!-- Made by scripts/write_docs.py; change the program, not this page. -->\n"


def features_page() -> str:
    """Return docs/features.md."""
    parts = [
        "# Features\n",
        MADE,
        f"{len(FEATURES)} features describe *how* a workload behaves. Each is independent of how much there is of it. One whose",
        f"inputs this machine cannot measure, or that would rest on fewer than {MIN_EVENTS} events, is unknown (`null`), never 0.",
        "`dna features` prints the same table. The range is what the encoder distinguishes; values beyond it count as its end.",
    ]
    for group, members in groupby(FEATURES, key=lambda feature: feature.group):
        rows = [(f"`{f.name}`", f.unit, _range(f), f.meaning) for f in members]
        parts += [f"\n## {group}\n", *_table(("feature", "unit", "range", "meaning"), rows)]
    magnitudes = [(f"`{row.name}`", row.unit, row.meaning) for row in DEMAND]
    parts += ["\n## Demand\n", "How much, beside how. Not part of the vector.\n"]
    parts += _table(("name", "unit", "meaning"), magnitudes)
    return "\n".join(parts) + "\n"


def commands_page() -> str:
    """Return docs/commands.md."""
    parts = ["# Commands\n", MADE, "`dna COMMAND --help` prints the same.\n"]
    for name, command in _commands("dna", typer.main.get_command(cli.app)):
        parts += [f"## {name}\n", f"{_paragraphs(command.help)}\n"]
        rows = [_option(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts += [*_table(("option", "meaning", "default"), rows), ""]
    return "\n".join(parts).rstrip() + "\n"


def rules_page() -> str:
    """Return docs/rules-reference.md."""
    parts = [
        "# What rules can say\n",
        MADE,
        "Written in a rule file after `from rules import any_of, disk, m, nic, none_of, o, pair, pci, rule, s, w, when`; [the",
        "tutorial](rules.md) tells how. A fact that is not known makes a condition unknown, and a rule with an unknown condition does not",
        "fire unless the rest of that condition decides.\n",
        "## Conditions\n",
        *_table(("written", "holds"), [(f"`{form}`", meaning) for form, meaning in FORMS]),
        "\n## Amounts\n",
        *_table(("unit", "such as", "suffixes"), [(u.name, f"`{u.example}`", _suffixes(u)) for u in UNITS.values()]),
    ]
    for word, facts in TABLES.items():
        if word == "o":
            continue
        parts += [f"\n## `{word}`: {MEANING[word]}\n"]
        if word == "w":
            parts += [
                f"`o` has the same. The {len(FEATURES)} features are on [a page of their own](features.md), as `w.GROUP.NAME`.\n"
            ]
        rows = [(f"`{word}.{fact.name}`", fact.unit, fact.meaning) for fact in facts if fact.name not in BY_NAME]
        parts += _table(("fact", "unit", "meaning"), rows)
    parts += [
        "\n## Settings\n",
        "A setting is on the workload, `nic`, `disk` or `pci` that the rule's body got, or on the whole machine.\n",
    ]
    knobs = [(_call(knob), knob.title, knob.values, knob.reversibility) for knob in all_knobs().values()]
    parts += _table(("written", "sets", "values", "undo"), knobs)
    return "\n".join(parts) + "\n"


def packs_page() -> str:
    """Return docs/rules-packs.md."""
    modules = {name: import_module(f"rules.packs.{name}") for name in shipped()}
    rules = {name: rules_of(module) for name, module in modules.items()}
    parts = [
        "# The rules that are shipped\n",
        MADE,
        f"{sum(map(len, rules.values()))} rules in {len(rules)} packs, chosen with `--packs` and left out with `--no-packs`. Each says why it works, when it",
        "speaks, what it sets, what that is expected to bring, where that is known from, and where it stops being true. A condition over",
        "something unknown never holds; where a missing fact does no harm the condition itself says so, by `is_known`.\n",
        "Numbers in conditions are round, and argued for where they stand: in `rules/traits.py` what several rules mean by the same words",
        "(streams, latency-critical, fits one node), in `rules/placing.py` where a workload fits. Of two rules that want one thing set",
        "otherwise the one with the higher priority counts.",
    ]
    for name, module in modules.items():
        parts += [f"\n## {name}\n", _paragraphs(module.__doc__)]
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for rule in rules[name]:
            parts += ["", *_rule(rule, tree)]
    return "\n".join(parts) + "\n"


def _rule(rule: Rule, tree: ast.Module) -> Iterator[str]:
    settings = dict.fromkeys(f"`{write.knob}`" for write in writes_of(rule, tree))
    yield f"### {rule.name}\n"
    yield f"{rule.reason}\n"
    yield "- **When**"
    yield from (f"  - `{condition.text}`" for condition in rule.conditions)
    yield f"- **Sets** {', '.join(settings) or 'nothing: it forbids'} (priority {rule.priority})"
    yield f"- **Expected** {rule.expect}"
    yield f"- **Source** {rule.source}"
    yield f"- **Limits** {rule.limits}"


FORMS = (
    ('w.demand.resident > "512 MiB"', "a comparison: <, <=, >, >=, == and !=, with an amount or another expression"),
    (
        "w.demand.resident < 0.8 * m.free_per_node",
        "expressions may be added, subtracted, divided, and multiplied by a number",
    ),
    ("w.memory.random_share.between(0.2, 0.6)", "it is within two limits, both included"),
    ('w.demand.resident.trend > "10 MB/s"', "how fast it grows: a slope a second, over the intervals known"),
    ("w.memory.numa_locality.is_known", "it was measured at all"),
    ('m.governor == "powersave"', 'a word is this one; is_in(...) one of several, fits("power*") by a pattern'),
    ("m.virtual", "a flag is set"),
    ('w.like("redis*", within=0.5)', "a known workload of such a label is within that distance of its DNA"),
    ("w.nearest.distance > 2", "nothing known is nearer than that"),
    ("a & b, a | b, ~a", "and, or, not; each comparison in brackets"),
    ("any_of(a, b), none_of(a, b), all_of(a, b)", "any, none or all of several"),
    ("(w.sched.runq_share > 0.1).for_at_least(3)", "it held in the last three intervals, the present one included"),
)


def _suffixes(unit: Unit) -> str:
    return ", ".join(f"`{suffix}`" for suffix in unit.suffixes) + ("" if unit.bare else "; one of them is needed")


def _call(knob: Knob) -> str:
    on = {"system": "", "thread": "workload, ", "process": "workload, ", "block": "disk, "}.get(
        knob.subject_kind, f"{knob.subject_kind}, "
    )
    return f'`s.{knob.name}({on}"{knob.example}")`'


PAGES = {
    "docs/features.md": features_page,
    "docs/commands.md": commands_page,
    "docs/rules-reference.md": rules_page,
    "docs/rules-packs.md": packs_page,
}


def _range(feature: Feature) -> str:
    low, high = feature.scale.low, feature.scale.high
    return f"{low:g} to {high:g}{', log' if feature.scale.log else ''}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_cell(text) for text in line)} |" for line in lines]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _paragraphs(text: str | None) -> str:
    # \b and \f are click's marks for "do not wrap" and "end of help".
    return (text or "").split("\f")[0].replace("\b\n", "").strip()


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command that can be called, with what one types to call it, in the order of `--help`."""
    if getattr(command, "hidden", False):
        return
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", child)


def _option(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
        name += f" {parameter.metavar}" if parameter.metavar else ""
    default = parameter.default
    shown = "" if default in (None, False, ()) or callable(default) else str(default)
    return f"`{name}`", getattr(parameter, "help", None) or "", shown


def main(arguments: list[str]) -> int:
    stale = [path for path, page in PAGES.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != page()]
    if "--check" in arguments:
        print("\n".join(f"{path} is out of date: run scripts/write_docs.py" for path in stale))
        return 1 if stale else 0
    for path in stale:
        (ROOT / path).write_text(PAGES[path]())
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
