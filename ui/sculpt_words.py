"""What is told of a run, in words: shared by the report on the terminal and the one on a page."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rl.policy import BASELINE
from sculpt.aftermath import Now, Standing
from sculpt.lenient import number, text
from sculpt.records import SCHEMA
from sculpt.story import Story
from sculpt.told import Gain, Told, Trial, Turn
from ui.units import seconds, size, three_digits

EVENTS = {
    "trial": "trying",
    "promoted": "kept",
    "made": "made for good",
    "rolled back": "taken back",
    "undecided": "no better",
    "recalled": "kept again",
    "confirmed": "still better",
    "phase": "another phase",
    "blind": "no measurement",
    "novel": "unlike anything known",
    "gone": "no longer proposed",
    "held": "held off",
    "failed": "the model failed",
    "unverified": "in force, never judged",
}
"""Events of a decision, for people."""
ENDS = {
    "failed": "it failed",
    "duration": "its time was over",
    "target": "the workload ended",
    "stopped": "it was told to stop",
}
"""Why a run ended."""
COVER = "limits that hold after every block at once, in 19 of 20 trials"


def per_cent(gain: float) -> str:
    """Return a difference of logarithms as people read it: +5.1 %."""
    if gain >= math.log(10):
        return f"{math.exp(min(gain, 700.0)):.3g} times"
    return f"{math.expm1(gain) * 100:+.1f} %"


def gain_words(gain: Gain | None) -> str:
    """Return a measured effect with its limits: +5.1 % (+3.0 % to +7.2 %)."""
    if gain is None:
        return "not measured"
    if gain.low is None or gain.high is None:
        return f"{per_cent(gain.mean)} (no limits known)"
    if not (math.isfinite(gain.low) and math.isfinite(gain.high)):
        return f"{per_cent(gain.mean)} (too few measurements for limits)"
    return f"{per_cent(gain.mean)} ({per_cent(gain.low)} to {per_cent(gain.high)})"


def worth(value: float | None) -> str:
    """Return a reward: it has no unit that is known here."""
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.6g}"


def day(t: float) -> str:
    """Return date and time of day."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t))


def hour(t: float) -> str:
    """Return the time of day."""
    return time.strftime("%H:%M:%S", time.localtime(t))


def span(span_s: float) -> str:
    """Return a time span: 42 s, 3.5 min, 2.1 h, 3.4 days."""
    for unit_s, name in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if abs(span_s) >= 1.5 * unit_s:
            return f"{three_digits(span_s / unit_s)} {name}"
    return f"{three_digits(span_s)} s" if abs(span_s) >= 1 or span_s == 0 else seconds(span_s)


def share(part: float, whole: float) -> str:
    """Return a part in per cent."""
    return f"{part / whole:.0%}" if whole > 0 else "-"


def count(number_of: int, one: str, many: str = "") -> str:
    """Return how many of something: 1 trial, 2 trials."""
    return f"{number_of} {one if number_of == 1 else many or one + 's'}"


# --- the run


def target_words(story: Story) -> str:
    """Return what the run was started on."""
    target = story.head.get("target")
    target = target if isinstance(target, dict) else {}
    name = text(target.get("comm")) or text(target.get("value"))
    return name or ", ".join(one.name for one in story.workloads) or "?"


def head_pairs(story: Story) -> Iterator[tuple[str, str]]:
    """Yield what is to be known of the run first: name and value."""
    head = story.head
    machine = head.get("machine") if isinstance(head.get("machine"), dict) else {}
    assert isinstance(machine, dict)
    yield "mode", text(head.get("mode")) or "?"
    if story.began is not None and story.last is not None:
        yield "from", day(story.began)
        yield (
            "to",
            f"{day(story.last)} ({time.strftime('%Z', time.localtime(story.last))}), {span(story.last - story.began)}",
        )
    yield "interval", f"{story.interval_s:g} s" if story.interval_s else "?"
    if command := text(head.get("command")):
        yield "command", command
    parts = [text(machine.get(name)) for name in ("hostname", "model")]
    if cpus := number(machine.get("cpus")):
        parts.append(count(int(cpus), "CPU"))
    if memory := number(machine.get("memory")):
        parts.append(size(memory))
    if kernel := text(machine.get("kernel")):
        parts.append(f"kernel {kernel}")
    yield "machine", ", ".join(part for part in parts if part) or "?"
    yield "records", f"{story.identity}, {SCHEMA}"


def ending_words(story: Story, now: Now) -> str:
    """Return how the run ended."""
    if story.end is None:
        if now.going:
            return "It still goes on: this is how far it has come."
        return "Its records have no end: it was killed, or could write no more."
    why = text(story.end.get("why"))
    words = ENDS.get(why, why or "it does not say why")
    kept = text(story.end.get("in_force")) or text(story.end.get("kept"))
    left = f" It left in force: {kept}." if kept else ""
    on_exit = text(story.end.get("on_exit"))
    return f"It ended: {words}.{left}" + (f" On exit: {on_exit}." if on_exit else "")


def broken_words(story: Story) -> str:
    """Return what could not be read; "" where all could."""
    if not story.broken:
        return ""
    return f"{count(story.broken, 'line')} of the records could not be read (cut off, or damaged), and {'is' if story.broken == 1 else 'are'} left out."


def now_words(now: Now) -> str:
    """Return what of the run is in force now, before the list of it."""
    if now.trouble:
        return f"What is in force now cannot be told: {now.trouble}"
    if not now.standing:
        return "Nothing of it is in force now: the journal has no change of this run that was not taken back."
    gone = sum(one.is_gone or not one.is_of_this_boot for one in now.standing)
    words = f"By the journal {count(len(now.standing), 'transaction')} of this run {'was' if len(now.standing) == 1 else 'were'} not taken back"
    return words + (f", {gone} of them on what has ended since." if gone else ".")


def settings_words(settings: Sequence[str], *, most: int = 6) -> str:
    """Return settings in a line; of very many, as of a program with a thousand threads, the first."""
    more = f" and {len(settings) - most} more" if len(settings) > most else ""
    return "; ".join(settings[:most]) + more


def undo_words(one: Standing) -> str:
    """Return what can be done about a transaction that stands."""
    if one.is_gone:
        return f"what it was on has ended; dna journal {one.identity}"
    if not one.is_of_this_boot:
        return f"made before the machine last started; dna journal {one.identity}"
    return f"dna undo {one.identity}" + ("" if one.is_exact else " (it cannot be taken back exactly)")


# --- a workload


def judged_words(told: Told) -> str:
    """Return what a workload was judged by, a proxy named as one."""
    if told.judged_by:
        return f"judged by {', '.join(told.judged_by)}"
    why = max(told.why_not, key=lambda one: told.why_not[one], default="")
    return f"not judged: {why}" if why and why != "?" else "the records do not say by what it was judged"


def verdict(told: Told) -> str:
    """Return what came of it, in one sentence."""
    if not told.for_good and not told.standing:
        if told.counts.get("trials"):
            return "Nothing that was tried is kept: the baseline was in force at the end."
        return "Nothing was tried."
    kept = [told.standing[-1].name] if told.standing else []
    made = list(dict.fromkeys(one.name for one in told.for_good))
    how_kept = EVENTS["unverified"] if any(one.event == "unverified" for one in told.standing) else "kept"
    names = "; ".join(
        f"{how} {', '.join(which)}" for how, which in ((how_kept, kept), ("made for good", made)) if which
    )
    gain = told.gain
    if gain is None:
        return f"At the end: {names}; its gain over what was found is not known."
    parts = len(told.for_good) + len(told.standing)
    added = f", added up of {parts} that were judged one by one" if parts > 1 else ""
    return f"At the end: {names}; gain over what was found {gain_words(gain)}{added}."


def totals(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the sums: name and value."""
    all_s, tried_s = told.seconds.get("all", 0.0), told.seconds.get("in trials", 0.0)
    c = told.counts
    if told.joined:
        yield "mode", text(told.joined.get("mode")) or "?"
    if told.left is not None:
        yield "ended", left_words(told.left)
    yield "intervals", f"{c.get('intervals', 0)}, {span(all_s)}; the longest {told.longest_s:g} s"
    outcomes = Counter(outcome_words(one) for one in told.trials)
    yield (
        "trials",
        f"{len(told.trials)}" + (f": {', '.join(f'{n} {words}' for words, n in outcomes.items())}" if outcomes else ""),
    )
    if c.get("trials"):
        yield "time in trials", f"{span(tried_s)}, {share(tried_s, all_s)}"
        yield "what trials cost", cost_words(told.trials)
    if c.get("changes"):
        yield "changes made and undone", f"{c['changes']}, which took {span(told.seconds.get('changing', 0.0))}"
    yield "in force", roles_words(told)
    yield (
        "without a measurement",
        f"{count(c.get('missing', 0), 'interval')}{why_not_words(told)}; blind {c.get('blind', 0)}; late {c.get('late', 0)}; "
        f"unlike anything known {c.get('novel', 0)}",
    )
    if c.get("not done") or c.get("lost"):
        yield (
            "troubles",
            f"changes that failed: {c.get('not done', 0)} intervals; set by somebody else: {c.get('lost', 0)}",
        )
    if c.get("gaps"):
        yield "without a record", f"{count(c['gaps'], 'gap')}, {span(told.seconds.get('gaps', 0.0))} in all"
    if c.get("clock went back"):
        yield "clock", f"went back {count(c['clock went back'], 'time')}"
    if told.own_mean is not None and told.own_peak is not None:
        yield "own cost", f"{told.own_mean:.2%} of a core on average, {told.own_peak:.2%} at most, by all of the run"
    if told.quarantined:
        yield "in quarantine at the end", ", ".join(told.quarantined)


def left_words(left: Mapping[str, object]) -> str:
    """Return how serving a workload ended."""
    why, kept, error = (text(left.get(name)) for name in ("why", "in_force", "error"))
    parts = [ENDS.get(why, why or "it does not say why"), f"left in force: {kept}" if kept else "", error]
    on_exit = text(left.get("on_exit"))
    return "; ".join(part for part in (*parts, f"on exit: {on_exit}" if on_exit else "") if part)


def cost_words(trials: Sequence[Trial]) -> str:
    """Return what trials cost and brought by what was measured in them."""
    known = [one.cost_s for one in trials if one.cost_s is not None]
    if not known:
        return "not measured"
    lost, won = sum(one for one in known if one > 0), -sum(one for one in known if one < 0)
    words = f"lost what {span(lost)} of what was kept are worth, won what {span(won)} are"
    missing = len(trials) - len(known)
    return words + (f" ({count(missing, 'trial')} not measured)" if missing else "")


def roles_words(told: Told) -> str:
    """Return what was in force for how long."""
    all_s = told.seconds.get("all", 0.0)
    return ", ".join(f"{role} {share(told.seconds.get(role, 0.0), all_s)}" for role in (BASELINE, "kept", "tried"))


def why_not_words(told: Told) -> str:
    """Return why intervals have no measurement."""
    reasons = sorted(told.why_not.items(), key=lambda one: -one[1])[:3]
    known = [f"{why}: {times}" for why, times in reasons if why != "?"]
    return f" ({'; '.join(known)})" if known else ""


# --- a trial


def outcome_words(trial: Trial) -> str:
    """Return what came of a trial."""
    return EVENTS.get(trial.outcome, trial.outcome) if trial.outcome else "not ended"


def tried_words(trial: Trial) -> str:
    """Return what was tried."""
    return f"{trial.against} against the baseline once more" if trial.is_check else trial.candidate


def trial_line(trial: Trial) -> str:
    """Return a trial in a line."""
    return f"{trial.number}. {hour(trial.began)} {tried_words(trial)}: {outcome_words(trial)}, {gain_words(trial.gain)}"


def trial_pairs(trial: Trial, told: Told) -> Iterator[tuple[str, str]]:
    """Yield a decision in full: what was seen, proposed, held, chosen, measured, and done."""
    yield "seen", seen_words(trial)
    yield "proposed", "; ".join(trial.proposed) or "nothing"
    if trial.held:
        yield "held", "; ".join(f"{name} ({why})" for name, why in trial.held.items())
    yield "chosen", trial.chosen or "?"
    what = told.known.get(trial.candidate)
    if what:
        yield "which is", candidate_words(what)
    if trial.expected is not None:
        mean, deviation = trial.expected
        yield (
            "expected",
            f"{per_cent(mean)} over the baseline, give or take {math.expm1(min(deviation, 50.0)) * 100:.1f} %",
        )
    blocks = trial.blocks[-1].count if trial.blocks else 0
    how = "before against after" if trial.one_way else count(blocks, "block") if blocks else "less than a block"
    yield "measured", f"{gain_words(trial.gain)}, {how}, {length_words(trial)}"
    yield "then", f"{outcome_words(trial)}: {trial.why or 'the records end before it does'}"


def seen_words(trial: Trial) -> str:
    """Return what was seen before a trial."""
    parts = [f"reward {worth(trial.before)} before it"]
    cores, resident = trial.demand.get("cores"), trial.demand.get("resident")
    if cores is not None:
        parts.append(f"{three_digits(cores)} cores")
    if resident is not None:
        parts.append(f"{size(resident)} resident")
    return ", ".join(parts) + f"; in force: {trial.against}"


def candidate_words(what: object) -> str:
    """Return what a candidate is made of."""
    if not isinstance(what, dict):
        return "?"
    settings = what.get("settings")
    listed = [text(one) for one in settings] if isinstance(settings, list) else []
    for_good = " It cannot be flipped back." if what.get("one_way") is True else ""
    return f"{text(what.get('because'))} [{settings_words(listed)}]{for_good}"


def length_words(trial: Trial) -> str:
    """Return how long a trial took."""
    if trial.ended is None:
        return f"{span(trial.in_force_s)} in force so far"
    return f"{span(trial.ended - trial.began)}, of which {span(trial.in_force_s)} in force"


def turns_apart(told: Told) -> list[Turn]:
    """Return the events that are no trial's beginning or end: those are told with it."""
    ends = {(trial.ended, trial.outcome) for trial in told.trials}
    return [turn for turn in told.turns if turn.event != "trial" and (turn.t, turn.event) not in ends]


def turn_words(turn: Turn) -> str:
    """Return an event in words."""
    name = f" {turn.name}" if turn.name else ""
    times = f" ({turn.times} times on end)" if turn.times > 1 else ""
    return f"{event_words(turn)}{name}: {turn.because}{times}"


def event_words(turn: Turn) -> str:
    """Return what kind of event it was."""
    return EVENTS.get(turn.event, turn.event)
