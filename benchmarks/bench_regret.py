"""The loop's decisions on simulated machines of which the truth is known, against bandits as they come, rules alone and an oracle.

Everyone meets the same machines and the same noise (``rl.simulated``, ``rl.scenarios``), of 100 seeds for each scenario, 720 intervals
each: an hour at 5 s. MABWiser and Vowpal Wabbit are compared where they are installed (``pip install workload-dna[bench]``). All of it takes
half an hour on two idle cores; the loop alone (``--agent loop``) four minutes, one scenario with ``--scenario steady``. ``--quick``
takes ten seeds and fewer intervals.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from benchmarks.harness import Options, Report
from benchmarks.rivals import AGENTS, installed
from rl.learner import Learner
from rl.policy import BASELINE
from rl.safety import Limits
from rl.scenarios import SCENARIOS
from rl.simulated import Run, run

STEPS, QUICK_STEPS = 720, 240
SEEDS, QUICK_SEEDS = 100, 10
BELOW = 0.98
"""A performance below this share of the default's is what nobody should be sorry for."""
GAIN_SHARE = 0.9
ALPHA = 0.05
LOOP = next(iter(AGENTS))
HURTING = ("adverse", "unsafe")


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told of one run."""

    scenario: str
    agent: str
    seed: int
    gain: float
    """Mean performance over the default's, less 1."""
    regret: float
    """What the best static configuration had more than that, as a share of the default's performance; negative: it was beaten."""
    below: float
    """Share of time below BELOW."""
    longest: int
    """Most intervals on end of that."""
    reached: float
    """Intervals until GAIN_SHARE of the best gain was had; infinite where it never was."""
    changes: int
    """Of what is in force, until then."""
    trials: int
    """That were begun until then; only of who holds trials."""
    recovered: float
    """Intervals from the middle of the run until GAIN_SHARE of what is best then was had."""
    over_budget: float
    """Most that was lost beyond the loop's budget at any time, in seconds of the default's worth; negative: within."""
    proven: int
    """Promotions, ..."""
    tried: int
    """... and trials in all."""
    quarantined: float
    """Share of what was tried that ended in quarantine; only of who has one."""


def figures(scenario: str, name: str, seed: int, steps: int) -> Figures:
    """Let one agent decide on one machine."""
    machine = SCENARIOS[scenario](seed, steps=steps)
    agent = AGENTS[name](machine, seed)
    came = run(machine, agent, steps=steps, seed=seed)
    reached = came.steps_to(GAIN_SHARE)
    first = slice(0, steps if reached is None else reached)
    names = [arm.name for arm in machine.arms[:1]] + list(came.in_force)
    recovered = came.steps_to(GAIN_SHARE, since=steps // 2)
    return Figures(
        scenario,
        name,
        seed,
        came.worth - 1,
        came.best_static - came.worth,
        came.share_below(BELOW),
        came.longest_below(BELOW),
        math.inf if reached is None else reached,
        sum(one != other for one, other in pairwise(names[: first.stop + 1])),
        sum(decision.event == "trial" for decision in came.decisions[first]),
        math.inf if recovered is None else recovered,
        over_budget(came),
        came.count("promoted"),
        came.count("trial"),
        _quarantined(came, agent),
    )


def over_budget(came: Run) -> float:
    """Return the most that was lost beyond what the loop may lose by then, in seconds of the default's worth."""
    limits = Limits()
    interval_s, lost_s, most = came.machine.interval_s, 0.0, -math.inf
    for step, gain in enumerate(came.gains):
        lost_s += (1 - math.exp(gain)) * interval_s
        most = max(most, lost_s - limits.allowance_s - limits.budget * interval_s * (step + 1))
    return most


def _quarantined(came: Run, agent: object) -> float:
    if not isinstance(agent, Learner):
        return math.nan
    trials = [decision.candidate for decision in came.decisions if decision.event == "trial"]
    if agent.is_trying:  # the run ended before the trial did
        trials.pop()
    tried = set(trials) - {BASELINE}
    held = {name for _, name in agent.quarantine.sentences}
    return len(tried & held) / len(tried) if tried else math.nan


# --- many of them


def all_figures(scenarios: Sequence[str], agents: Sequence[str], seeds: Sequence[int], steps: int) -> list[Figures]:
    """Run everything, on all CPUs; in an order that does not depend on them."""
    # One thread each: matrices are small, and numpy's threads would fight for the CPUs.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    jobs = [(scenario, tuple(agents), seed, steps) for scenario in scenarios for seed in seeds]
    found: list[Figures] = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for number, some in enumerate(pool.imap(_of_one_machine, jobs, chunksize=2), start=1):
            found += some
            _progress(f"machine {number}/{len(jobs)}")
    _progress("")
    return found


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<24}\r", end="", file=sys.stderr, flush=True)


def _of_one_machine(job: tuple[str, tuple[str, ...], int, int]) -> list[Figures]:
    scenario, agents, seed, steps = job
    return [figures(scenario, name, seed, steps) for name in agents]


def median_within(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the median and the limits of its 95 % confidence interval by order statistics; without those that are no numbers."""
    ordered = sorted(value for value in values if not math.isnan(value))
    count = len(ordered)
    if not count:
        return math.nan, math.nan, math.nan
    reach = 0.98 * math.sqrt(count)  # 1.96 standard deviations of a fair coin's count of heads
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return statistics.median(ordered), ordered[max(low - 1, 0)], ordered[min(high, count - 1)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: what of each run, in which unit, and how it is written."""

    title: str
    of: str
    scale: float = 1.0
    form: str = "{:.1f}"

    def cell(self, runs: Sequence[Figures]) -> str:
        """Return the median over the runs with its interval."""
        values = median_within(self.scale * getattr(one, self.of) for one in runs)
        if math.isnan(values[0]):
            return "-"
        middle, low, high = ("never" if math.isinf(value) else self.form.format(value) for value in values)
        return middle if middle == low == high else f"{middle} [{low}..{high}]"


COLUMNS = (
    Column("gain %", "gain", 100),
    Column("regret %", "regret", 100),
    Column("below 0.98 %", "below", 100),
    Column("longest", "longest", form="{:.0f}"),
    Column("to 90 %", "reached", form="{:.0f}"),
    Column("trials", "trials", form="{:.0f}"),
    Column("changes", "changes", form="{:.0f}"),
)
RECOVERY = Column("recovery", "recovered", form="{:.0f}")


def table(runs: Sequence[Figures]) -> list[list[str]]:
    """Return the rows of one scenario, the head first: an agent each."""
    columns = (*COLUMNS, RECOVERY) if runs[0].scenario == "drift" else COLUMNS
    rows = [["", *(column.title for column in columns), "worst loss %"]]
    for name in dict.fromkeys(one.agent for one in runs):
        own = [one for one in runs if one.agent == name]
        worst = max(0.0, *(-100 * one.gain for one in own))
        rows.append([name, *(column.cell(own) for column in columns), f"{worst:.1f}"])
    return rows


def written(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, column under column."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


# --- what is to be judged by


def judge(report: Report, scenario: str, runs: Sequence[Figures]) -> None:
    """Add what the loop promises of a scenario, and whether it held on every seed."""
    ours = [one for one in runs if one.agent == LOOP]
    worst = max(one.over_budget for one in ours)
    report.judge(f"{scenario}: lost within the budget at every moment on every seed (worst {worst:+.1f} s)", worst <= 0)
    if "null" in scenario:
        tried, proven = sum(one.tried for one in ours), sum(one.proven for one in ours)
        most = ALPHA * tried + 3 * math.sqrt(ALPHA * (1 - ALPHA) * tried)
        report.judge(
            f"{scenario}: {proven} of {tried} trials promoted what does nothing (at most {most:.0f})", proven <= most
        )
    if scenario in HURTING:
        held = min((one.quarantined for one in ours if not math.isnan(one.quarantined)), default=1.0)
        report.judge(f"{scenario}: all that was tried ended in quarantine ({held:.0%} on the worst seed)", held == 1.0)
        report.judge(f"{scenario}: nothing was promoted", not any(one.proven for one in ours))
    else:
        below = statistics.mean(one.gain < BELOW - 1 for one in ours)
        report.judge(f"{scenario}: below {BELOW} of the default over all on no seed ({below:.0%})", below == 0)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_SEEDS} seeds, {QUICK_STEPS} intervals: to see that it works"
    )
    parser.add_argument("--rounds", type=int, help="seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--steps", type=int, help="intervals")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be repeated")
    parser.add_argument(
        "--agent", action="append", choices=list(AGENTS), help="only this one beside the loop; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    rounds = asked.rounds or (QUICK_SEEDS if asked.quick else SEEDS)
    steps = asked.steps or (QUICK_STEPS if asked.quick else STEPS)
    given = Options(asked.quick, rounds, asked.seed, asked.json)
    there, missing = installed()
    agents = [name for name in there if asked.agent is None or name in (LOOP, *asked.agent)]
    seeds = range(given.seed, given.seed + rounds)
    found = all_figures(asked.scenario or list(SCENARIOS), agents, seeds, steps)
    report = Report(
        "regret", f"decisions on simulated machines, {steps} intervals; medians with 95 % intervals over seeds"
    )
    for name in missing:
        report.note(name, "not installed: pip install 'workload-dna[bench]'")
    tell(report, found, as_json=given.json)
    return report.print(given)


def tell(report: Report, found: Sequence[Figures], *, as_json: bool) -> None:
    """Add each scenario's table and verdicts; every run's figures to the data."""
    for scenario in dict.fromkeys(one.scenario for one in found):
        runs = [one for one in found if one.scenario == scenario]
        report.data[scenario] = [asdict(one) for one in runs]
        judge(report, scenario, runs)
        if not as_json:
            print(f"{scenario}\n{written(table(runs))}\n")


if __name__ == "__main__":
    sys.exit(main())
