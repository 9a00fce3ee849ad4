"""From the rules' advice to the arms that may be tried: each proposal one, each further way of a choice, and all of them together.

What is in force already is part of every candidate: they are layers on top of what is kept, so that a rule which proposed something
and, now that it is done, has no more reason to, does not take it away again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hal.errors import HalError
from hal.knobs.knob import show
from hal.settings import EXACT, IRREVERSIBLE, OF_PROCESSES, Plan, Setting
from rl.policy import BASELINE, Arm
from rules.advice import Advice, Proposal
from rules.rule import Option, effects

TRUST = 2.0
"""How many trials a rule's expectation is worth."""
LESS_TRUST = 0.25
"""The same of what is kept with one proposal left out: its expectation is made of those that were believed already."""
DISCOUNTED = 0.5
"""Of what rules expect so much is believed: what is written down is what was seen where it worked."""


TOGETHER = "everything that the rules propose"
"""Why the layer of all proposals is proposed."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings that are made, and taken back, together."""

    name: str
    settings: tuple[Setting, ...]
    one_way: bool = False
    """They cannot be flipped back exactly."""
    way_back: bool = False
    """They can be taken back all the same, if not exactly or at once."""
    because: str = ""
    expected: float = 0.0
    """What the rule expects, as a difference of logarithms."""
    of: tuple[Layer, ...] = ()
    """What it was put together from; nothing where it is one proposal's."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What makes it up, without whom it is on: what was learned of one process counts for the next of its kind."""
        return tuple(sorted({_part(setting) for setting in self.settings}))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration: layers, the lowest first; none for the baseline."""

    layers: tuple[Layer, ...] = ()
    trust: float = TRUST
    """How many trials its expectation is worth."""

    @property
    def name(self) -> str:
        """Name of its arm."""
        return " + ".join(layer.name for layer in self.layers) or BASELINE

    @property
    def one_way(self) -> bool:
        """Tell whether its uppermost layer cannot be flipped back."""
        return bool(self.layers) and self.layers[-1].one_way

    @property
    def way_back(self) -> bool:
        """Tell whether its uppermost layer cannot be flipped back, but can be taken back."""
        return self.one_way and self.layers[-1].way_back

    @property
    def arm(self) -> Arm:
        """Return it as what a policy chooses among."""
        parts = tuple(part for layer in self.layers for part in layer.parts)
        return Arm(self.name, parts, sum(layer.expected for layer in self.layers), self.trust if self.layers else 0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """What was proposed and is no candidate, and why."""

    name: str
    because: str


@dataclass(frozen=True, slots=True)
class Found:
    """What may be tried."""

    candidates: tuple[Candidate, ...]
    """The baseline first, then what is kept, then what could be."""
    held: tuple[Held, ...]


def find(
    advice: Advice,
    *,
    kept: Candidate,
    plan_of: Callable[[Iterable[Setting]], Plan],
    refusal: Callable[[Sequence[Setting]], str],
    kinds: Sequence[str],
) -> Found:
    """Return the candidates that advice yields.

    Args:
        plan_of: plans settings on the machine as it is now; raises HalError where that cannot be done.
        refusal: the guard's reason against settings, "" for none.
        kinds: what the objective is about, of ``rules.rule.EFFECTS``.
    """
    held = list(_not_taken(advice, kinds))
    layers: list[Layer] = []
    stands = {one.key: one.value for layer in kept.layers for one in layer.settings}
    for proposal in advice.proposals:
        for number, option in enumerate(proposal.options):
            layer = _layer(proposal, option, kinds)
            if all(one.key in stands and stands[one.key] == one.value for one in layer.settings):
                continue  # it is kept
            if why := refusal(layer.settings):
                held.append(Held(layer.name, why))
            elif (made := _planned(layer, plan_of, held)) is not None and (number == 0 or proposal.choice):
                layers.append(made)
    firsts = [layer for layer in layers if not layer.one_way]
    found = [Candidate((*_beside(kept, layer), layer)) for layer in layers]
    if len(firsts) > 1 and (together := _together(advice, firsts)) is not None:
        found.append(Candidate((*_beside(kept, together), together)))
    unique = {candidate.name: candidate for candidate in (Candidate(), kept, *found, *_with_less(kept))}
    return Found(tuple(unique.values()), tuple(held))


def _beside(kept: Candidate, layer: Layer) -> tuple[Layer, ...]:
    """Return what is kept without what a layer sets again whole: another way of the same takes its place, and its expectation does."""
    keys = {setting.key for setting in layer.settings}
    return tuple(one for one in kept.layers if one.one_way or not {setting.key for setting in one.settings} <= keys)


def _not_taken(advice: Advice, kinds: Sequence[str]) -> Iterator[Held]:
    """Yield what rules proposed and other rules stand against: by rank, in conflict, or with a veto."""
    for dropped in advice.dropped:
        yield Held(_layer(dropped.proposal, dropped.proposal.option, kinds).name, dropped.because)
    for veto in advice.partly_vetoed:
        yield Held(_layer(veto.proposal, veto.option, kinds).name, veto.because)


def _layer(proposal: Proposal, option: Option, kinds: Sequence[str]) -> Layer:
    rule = proposal.rule
    about = f" ({', '.join(proposal.about[1:])})" if proposal.about[1:] else ""
    way = f":{option.name}" if proposal.choice else ""
    reason = f"{rule.identity}: {rule.summary}"
    settings = tuple(Setting(wish.knob, wish.subject, wish.value, reason) for wish in option.wishes)
    return Layer(
        f"{rule.identity}{way}{about}",
        settings,
        because=rule.summary,
        expected=_expected(option.expect or rule.expect, kinds),
    )


def _expected(text: str, kinds: Sequence[str]) -> float:
    """Return the expected gain in logarithms: of latency and energy less is better."""
    gains = [
        math.log1p((effect.low + effect.high) / 2) * (1 if effect.kind == "throughput" else -1)
        for effect in effects(text)
        if effect.kind in kinds
    ]
    return DISCOUNTED * sum(gains)


def _planned(layer: Layer, plan_of: Callable[[Iterable[Setting]], Plan], held: list[Held]) -> Layer | None:
    """Return a layer that would change something here; note why another would not."""
    try:
        plan = plan_of(layer.settings)
    except HalError as error:
        held.append(Held(layer.name, str(error)))
        return None
    if not plan.changes:
        reasons = "; ".join(dict.fromkeys(one.reason for one in plan.left_out[:3]))
        held.append(Held(layer.name, reasons or "it is so already"))
        return None
    ways = {change.reversibility for change in plan.changes}
    return replace(layer, one_way=ways != {EXACT}, way_back=IRREVERSIBLE not in ways)


def _together(advice: Advice, layers: Sequence[Layer]) -> Layer | None:
    """Return what the rules propose as a whole, of that which can be flipped back; None where it would be one layer alone."""
    wanted = {setting.key: setting.value for setting in advice.config}
    fitting = [layer for layer in layers if all(wanted.get(one.key) == one.value for one in layer.settings)]
    if len(fitting) < 2:
        return None
    return _joined(fitting, TOGETHER)


def _joined(layers: Sequence[Layer], because: str) -> Layer:
    if len(layers) == 1:
        return layers[0]
    settings = tuple({one.key: one for layer in layers for one in layer.settings}.values())
    expected = sum(layer.expected for layer in layers)
    return Layer(
        " & ".join(layer.name for layer in layers), settings, because=because, expected=expected, of=tuple(layers)
    )


def _with_less(kept: Candidate) -> Iterator[Candidate]:
    """Yield what is kept without one proposal each: what was proven as a whole may be better without a part of it."""
    for number, layer in enumerate(kept.layers):
        below, above = kept.layers[:number], kept.layers[number + 1 :]
        if len(kept.layers) > 1 and not layer.one_way:
            yield Candidate((*below, *above), LESS_TRUST)
        for left_out in layer.of:
            rest = _joined([one for one in layer.of if one is not left_out], f"{layer.because}, but {left_out.name}")
            yield Candidate((*below, rest, *above), LESS_TRUST)


def _part(setting: Setting) -> str:
    on = "" if setting.subject.kind in (*OF_PROCESSES, "cgroup", "system") else f" {setting.subject.name}"
    return f"{setting.knob}{on}={show(setting.value)}"
