"""The best static configuration: a greedy search over the loop's candidates and what an engineer would try by hand.

Its own measurements choose it; what is reported of it is measured again on fresh rounds, so that luck in the search does not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.gains.ours import HOST, Configuration
from benchmarks.gains.programs import Live
from benchmarks.gains.rounds import DEFAULT, Arm, Bench, Effect, effects, in_rounds
from hal.errors import HalError
from hal.knobs import knob_of
from hal.knobs.cpu import autogroup
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, Subject, tree

_LINE = re.compile(r"(\S+) of (\w+) (\S+) = (.*)")
MOST = 10
COMBINED = 2
"""So many of the best are tried together with the best."""


def proposed(records: Mapping[str, Any], live: Live) -> list[Configuration]:
    """Return the loop's candidates, as its records tell of them."""
    found = []
    for name, data in records.get("candidates", {}).items():
        settings = [_setting(line) for line in data.get("settings", ())]
        if settings and all(settings):
            found.append(Configuration(f"loop's: {name}", tuple(one for one in settings if one), live.roots))
    return found


def _setting(line: str) -> Setting | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    knob, kind, name, value = match.groups()
    start = start_of(HOST, int(name)) or 0 if kind in ("tree", "process", "thread") else 0
    try:
        return Setting(knob, Subject(kind, name, start), knob_of(knob).parse(value))
    except HalError:
        return None


def by_hand(live: Live, cpus: int) -> list[Configuration]:
    """Return what somebody who knows the machine would try on any program."""

    def of(name: str, root: int, **values: str) -> Configuration:
        subject = tree(root, start_of(HOST, root) or 0)
        knobs = {f"cpu.{key}": value for key, value in values.items()}
        settings = tuple(Setting(knob, subject, knob_of(knob).parse(value)) for knob, value in knobs.items())
        return Configuration(f"by hand: {name}", settings, live.roots)

    found = [
        of("batch", live.target, policy="batch"),
        of("one CPU", live.target, affinity="0"),
    ]
    for name, root in live.neighbours.items():
        found.append(of(f"{name} idle", root, policy="idle"))
        found.append(of(f"{name} batch and nice", root, policy="batch", nice="10"))
        if cpus > 1:
            found.append(of(f"{name} on the last CPU", root, affinity=str(cpus - 1)))
        if autogroup(HOST, root):
            found.append(of(f"{name}'s session nice", root, autogroup_nice="19"))
    huge = Setting(
        "memory.hugepages", Subject("process", str(live.target), start_of(HOST, live.target) or 0), "collapse"
    )
    try:
        if make_plan(HOST, [huge]).changes:
            found.append(Configuration("by hand: huge pages", (huge,), live.roots))
    except HalError:
        pass
    return found


def reversible(candidates: list[Configuration], *, restart: bool) -> list[Configuration]:
    """Return those that can be measured: what cannot be taken back needs a program that is started anew each time."""
    found: dict[tuple[tuple[str, str, str], ...], Configuration] = {}
    for one in candidates:
        if not restart and any(knob_of(setting.knob).is_action for setting in one.settings):
            continue
        found.setdefault(one.key, one)
    return list(found.values())[:MOST]


def together(best: Configuration, other: Configuration) -> Configuration | None:
    """Return two configurations as one; None where they set the same thing, or one is part of the other."""
    keys = {setting.key for setting in best.settings}
    if any(setting.key in keys for setting in other.settings):
        return None
    return Configuration(f"{best.name} + {other.name}", (*best.settings, *other.settings), best.roots)


def ranked(found: Mapping[str, Effect]) -> list[str]:
    """Return names by effect, the best first."""
    return sorted(found, key=lambda name: -found[name].median)


def second(
    bench: Bench, candidates: list[Configuration], first: Mapping[str, Effect], **how: Any
) -> tuple[list[Configuration], dict[str, Effect]]:
    """Try the best together with the next ones; return what was tried and its effects."""
    by_name = {one.name: one for one in candidates}
    order = [name for name in ranked(first) if name in by_name]
    if len(order) < 2 or first[order[0]].median < 1.01:
        return [], {}
    best = by_name[order[0]]
    pairs = [together(best, by_name[name]) for name in order[1 : 1 + COMBINED] if first[name].median > 1.0]
    tried = [best, *(pair for pair in pairs if pair is not None)]
    if len(tried) < 2:
        return [], {}
    arms = [Arm(DEFAULT), *(Arm(one.name, configuration=one) for one in tried)]
    results = in_rounds(bench, arms, what="together", **how)
    return tried, effects(bench.program, results)
