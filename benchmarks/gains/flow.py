"""One program from its start to its figures: find what each arm is, measure all, compare."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gains import search
from benchmarks.gains.machine import snapshot
from benchmarks.gains.ours import Configuration, Tool, by_loop, by_rules, forget, remember
from benchmarks.gains.programs import Live, Program
from benchmarks.gains.rounds import (
    CONTROL,
    DEFAULT,
    SAME,
    Arm,
    Bench,
    Effect,
    as_found,
    effect,
    effects,
    in_rounds,
    nothing,
    told,
)
from benchmarks.gains.tuned import Profile
from benchmarks.running import Session

RULES, LOOP, STATIC, TUNED = "rules", "loop", "static", "tuned"
ARMS = (TUNED, RULES, LOOP, STATIC)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    arms: Sequence[str] = ARMS
    seconds: float = 1.5
    rounds: int = 8
    screen_seconds: float = 1.0
    screen_rounds: int = 2
    loop_s: float = 100.0
    watch_s: float = 8.0
    warm_up_s: float = 2.0
    seed: int = 1


@dataclass(slots=True)
class Found:
    """The arms of one program, and how they were found."""

    configurations: dict[str, Configuration] = field(default_factory=dict)
    candidates: list[Configuration] = field(default_factory=list)
    screened: dict[str, Effect] = field(default_factory=dict)
    profile: str = ""
    """The best of TuneD's in the screening."""


@contextmanager
def started(program: Program, folder: Path) -> Iterator[Live]:
    """Have a program run under its load for as long as the block lasts."""
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{program.name}-", dir=folder) as own:
        os.chmod(own, 0o755)
        session = Session(Path(own), shared)
        try:
            yield program.start(session)
        finally:
            session.close()


def run_program(program: Program, profiles: Sequence[Profile], plan: Plan, folder: Path) -> dict[str, Any]:
    """Measure one program under all arms; returns what the table and whoever checks it need.

    A program that can be measured with everything taken back runs all the time; another is started anew for each measurement.
    """
    began = time.time()
    tool = Tool(folder)
    forget(tool)
    machine = snapshot()
    with ExitStack() as stack:
        stack.callback(tool.take_back)
        live = None if program.restart else stack.enter_context(_warm(program, folder, plan))
        as_it_was = machine if live is None else as_found(live)
        found = Found()
        for name in (RULES, LOOP):
            if name in plan.arms:
                with _warm(program, folder, plan) if live is None else nothing(live) as one:
                    _find(name, program, one, tool, plan, found)
        bench = Bench(program, lambda: started(program, folder), live, tool.journal, as_it_was)
        bench.check("finding the arms")
        screened = _screen(bench, found, profiles, plan)
        results = _final(bench, found, plan)
        return _data(program, found, screened, results, bench.counts, time.time() - began)


@contextmanager
def _warm(program: Program, folder: Path, plan: Plan) -> Iterator[Live]:
    with started(program, folder) as live:
        time.sleep(plan.warm_up_s)
        yield live


def _find(name: str, program: Program, live: Live, tool: Tool, plan: Plan, found: Found) -> None:
    """Find what an arm is, and with the last one what the search has to choose among."""
    told(f"  {program.name}: {name}")
    if name == RULES:
        found.configurations[name] = by_rules(tool, live, watch_s=plan.watch_s)
    else:
        limit_s = plan.loop_s * max(program.interval_s, 1.0)
        found.configurations[name] = by_loop(tool, program, live, limit_s=limit_s, seed=plan.seed)
    known = [*search.proposed(found.configurations[name].about, live), *search.by_hand(live, os.cpu_count() or 1)]
    found.candidates = search.reversible(known, restart=program.restart)
    remember(live)


def _screen(bench: Bench, found: Found, profiles: Sequence[Profile], plan: Plan) -> dict[str, list[float]]:
    """Measure every profile and candidate a few times; the best of each go on, and are measured again on fresh rounds."""
    arms = [Arm(DEFAULT)]
    if TUNED in plan.arms:
        arms += [Arm(f"tuned: {one.name}", profile=one.name) for one in profiles if one.is_measured]
    candidates = found.candidates if STATIC in plan.arms else []
    arms += [Arm(one.name, configuration=one) for one in candidates]
    how: dict[str, Any] = {"rounds": plan.screen_rounds, "seconds": plan.screen_seconds}
    results = in_rounds(bench, arms, seed=plan.seed, what="screening", **how)
    found.screened = effects(bench.program, results)
    tried, more = search.second(bench, candidates, found.screened, seed=plan.seed + 1, **how)
    static = {one.name: one for one in (*candidates, *tried)}
    if STATIC in plan.arms:
        best = [name for name in search.ranked({**found.screened, **more}) if name in static]
        scores = {**found.screened, **more}
        chosen = static[best[0]] if best and scores[best[0]].median > 1.0 else Configuration(DEFAULT)
        found.configurations[STATIC] = chosen
    of_tuned = [name for name in search.ranked(found.screened) if name.startswith("tuned: ")]
    found.profile = of_tuned[0].removeprefix("tuned: ") if of_tuned else ""
    found.screened |= {name: one for name, one in more.items() if name not in found.screened}
    return results


def _final(bench: Bench, found: Found, plan: Plan) -> dict[str, list[float]]:
    """Measure default, the best profile, rules, loop and best static on fresh rounds; equal configurations once."""
    arms = [Arm(DEFAULT), Arm(CONTROL)]
    if found.profile:
        arms.append(Arm(TUNED, profile=found.profile))
    arms += [Arm(name, configuration=found.configurations[name]) for name in _measured(found)]
    return in_rounds(bench, arms, rounds=plan.rounds, seconds=plan.seconds, seed=plan.seed + 2, what="measuring")


def _measured(found: Found) -> list[str]:
    """Return the arms of ours that are a configuration of their own."""
    return [name for name in found.configurations if _stands_for(found, name) == name]


def _stands_for(found: Found, name: str) -> str:
    """Return the arm that is measured for one: the first with the same settings; the default where there are none."""
    key = found.configurations[name].key
    if not key:
        return DEFAULT
    return next(other for other, one in found.configurations.items() if one.key == key)


def _effect_of(program: Program, found: Found, results: Mapping[str, Sequence[float]], name: str, base: str) -> Effect:
    first = _stands_for(found, name) if name in found.configurations else name
    second = _stands_for(found, base) if base in found.configurations else base
    return SAME if first == second else effect(program, results[first], results[second])


def _data(
    program: Program,
    found: Found,
    screened: Mapping[str, Sequence[float]],
    results: Mapping[str, Sequence[float]],
    counts: Mapping[str, int],
    took_s: float,
) -> dict[str, Any]:
    ours = [name for name in (RULES, LOOP, STATIC) if name in found.configurations]
    arms = [*([TUNED] if TUNED in results else []), *ours]
    against = {name: _effect_of(program, found, results, name, DEFAULT).as_data() for name in arms}
    if LOOP in ours:
        others = [name for name in (TUNED, STATIC) if name in arms]
        against |= {f"loop / {name}": _effect_of(program, found, results, LOOP, name).as_data() for name in others}
    return {
        "name": program.name,
        "about": program.about,
        "unit": program.unit,
        "kind": program.kind,
        "restarted": program.restart,
        "effects": against | {CONTROL: effect(program, results[CONTROL], results[DEFAULT]).as_data()},
        "best_profile": found.profile,
        "configurations": {
            name: {
                "same_as": _stands_for(found, name) if _stands_for(found, name) != name else "",
                "settings": [list(row) for row in one.key],
                **one.about,
            }
            for name, one in found.configurations.items()
        },
        "chosen_static": found.configurations[STATIC].name if STATIC in ours else "",
        "screening": {name: one.as_data() for name, one in found.screened.items()},
        "screening_values": {name: list(values) for name, values in screened.items()},
        "values": {name: list(values) for name, values in results.items()},
        "measurements": dict(counts),
        "took_s": round(took_s, 1),
    }
