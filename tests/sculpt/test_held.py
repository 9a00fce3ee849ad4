"""What rules propose and other rules stand against is no candidate, and the record says which rule it was and why."""

from __future__ import annotations

from collections.abc import Iterator

from hal.fake import FakeHost
from hal.planning import make_plan
from hal.settings import tree
from rules import choice, m, never, rule, s, w, when
from rules.advice import Advisor
from rules.engine import Engine
from rules.rule import Option, Rule, Yielded
from rules.situation import Machine, Situation, Workload
from sculpt.candidates import Candidate, Found, find
from tests.hal.knobs.machine import furnished

SERVER = 100
NOTHING = Candidate()


@rule()
@when(m.cpus > 0)
def hands_off() -> Iterator[Yielded]:
    """Why."""
    yield never(None, "memory.thp", "the vendor of the database says so")


@rule()
@when(w.demand.cores > 0.5)
def pages(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield choice("pages", Option("all", (s.memory.thp("always"),)), Option("calm", (s.cpu.nice(workload, 3),)))


@rule()
@when(w.demand.cores > 0.5)
def forbidden(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.memory.thp("never")


@rule(priority=9)
@when(w.demand.cores > 0.5)
def outranks(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.memory.swappiness(1)


@rule()
@when(w.demand.cores > 0.5)
def outranked(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.memory.swappiness(90)


@rule()
@when(w.demand.cores > 0.5)
def either(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield choice("weight", Option("less", (s.cpu.nice(workload, 3),)), Option("least", (s.cpu.nice(workload, 9),)))


def found(host: FakeHost, *rules: Rule, kept: Candidate = NOTHING) -> Found:

    from hal.machine import read

    workload = Workload("server", tree(SERVER, host.tasks[SERVER].start), {"demand.cores": 1.0})
    advice = Advisor(Engine(rules)).advise(Situation(Machine(read(host), {"cpus": 8}), (workload,)))
    return find(
        advice,
        kept=kept,
        plan_of=lambda settings: make_plan(host, settings),
        refusal=lambda _: "",
        kinds=("throughput",),
    )


def test_vetoes_and_lost_ranks_are_held_with_the_rule_and_its_reason() -> None:
    result = found(furnished(), hands_off, pages, forbidden, outranks, outranked)
    held = {one.name: one.because for one in result.held}
    module = hands_off.identity.removesuffix("hands_off")
    veto = f"{module}hands_off forbids memory.thp: the vendor of the database says so"
    assert held[f"{module}pages:all"] == veto
    assert held[f"{module}forbidden"] == veto
    assert "outranks sets memory.swappiness otherwise" in held[f"{module}outranked"]
    tried = {layer.name for candidate in result.candidates for layer in candidate.layers}
    assert {f"{module}pages:calm", f"{module}outranks"} <= tried
    assert not tried & set(held)


def test_another_way_of_what_is_kept_takes_its_place() -> None:
    first = found(furnished(), either, pages)
    by_name = {candidate.name.rpartition(".")[2]: candidate for candidate in first.candidates}
    pages_all = by_name["pages:all"].layers
    kept = Candidate((*by_name["either:less"].layers, *pages_all))
    names = {candidate.name for candidate in found(furnished(), either, kept=kept).candidates}
    assert Candidate((*pages_all, *by_name["either:least"].layers)).name in names
    assert not any("either:less" in name and "either:least" in name for name in names)
