"""The figures as a table in Markdown, and what was wanted of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEAST_OF_DEFAULT = 0.98
LEAST_OF_STATIC = 0.95


def table(report: Mapping[str, Any]) -> str:
    """Return the report of a run as Markdown: effects over the default, what each arm set, what was wanted and whether it held."""
    plan = report["plan"]
    lines = [
        f"{report['machine']}; {report['date']}; {plan['rounds']} rounds of {plan['seconds']:g} s; seed {plan['seed']}.",
        "",
        "| program | best TuneD profile | rules | loop | best static | default again |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(one) for one in report["programs"]),
        "",
        "| program | what the loop kept | the best static configuration |",
        "| --- | --- | --- |",
        *(_settings_row(one) for one in report["programs"]),
        "",
        *(f"- {'holds' if one['holds'] else 'MISSED'}: {one['text']}" for one in verdicts(report)),
        *_failures(report),
        *(f"- not measured: {name}: {why}" for name, why in report["missing"].items()),
        *(_disturbed(one) for one in report["programs"] if one.get("measurements", {}).get("disturbed")),
        "",
        *_tuned_lines(report),
        _numad_line(report),
    ]
    return "\n".join(lines)


def verdicts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was wanted of a run, and whether it held."""
    found = []
    programs = [one for one in report["programs"] if "loop" in one["effects"]]
    over = [one for one in programs if "loop / tuned" in one["effects"]]
    if over:
        won = [one["name"] for one in over if one["effects"]["loop / tuned"]["low"] > 1]
        lost = [one["name"] for one in over if one["effects"]["loop / tuned"]["high"] < 1]
        alike = [one["name"] for one in over if one["name"] not in (*won, *lost)]
        text = (
            f"the loop beats the best TuneD profile on most: better on {len(won)} of {len(over)} ({_names(won)}), worse on"
            f" {len(lost)} ({_names(lost)}), no difference shown on {len(alike)} ({_names(alike)})"
        )
        found.append({"text": text, "holds": 2 * len(won) > len(over)})
    for name, base, least in (
        ("loop / static", "the best static", LEAST_OF_STATIC),
        ("loop", "default", LEAST_OF_DEFAULT),
    ):
        there = [(one["name"], one["effects"][name]["median"]) for one in programs if name in one["effects"]]
        below = [f"{program} {value:.3f}" for program, value in there if value < least]
        if there:
            text = f"the loop is at {least:g} of {base} or above on all: {', '.join(below) or 'none below'}"
            found.append({"text": text, "holds": not below})
    return found


def _disturbed(program: Mapping[str, Any]) -> str:
    counts = program["measurements"]
    return f"- disturbed by others all the same: {counts['disturbed']} of {counts['made']} measurements of {program['name']}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _failures(report: Mapping[str, Any]) -> list[str]:
    return [
        f"- FAILED: {arm} on {program['name']}: {what['failed']}"
        for program in report["programs"]
        for arm, what in program["configurations"].items()
        if what.get("failed")
    ]


def _row(program: Mapping[str, Any]) -> str:
    effects = program["effects"]
    best = f"{_cell(effects.get('tuned'))} ({program['best_profile']})" if program["best_profile"] else "–"
    cells = [best, *(_cell(effects.get(name)) for name in ("rules", "loop", "static", "default again"))]
    return f"| {program['name']} | {' | '.join(cells)} |"


def _cell(effect: Mapping[str, float] | None) -> str:
    if effect is None:
        return "–"
    if not effect["rounds"]:
        return "as default"
    return f"{effect['median']:.2f} [{effect['low']:.2f}, {effect['high']:.2f}]"


def _settings_row(program: Mapping[str, Any]) -> str:
    kept = program["configurations"].get("loop", {}).get("settings", [])
    static = program["configurations"].get("static", {}).get("settings", [])
    return f"| {program['name']} | {_words(kept)} | {_words(static)} |"


def _words(settings: Sequence[Sequence[str]]) -> str:
    return "; ".join(f"`{knob}` of {role} = {value}" for knob, role, value in settings) or "nothing"


def _tuned_lines(report: Mapping[str, Any]) -> list[str]:
    if report["tuned_note"]:
        return [f"TuneD: {report['tuned_note']}."]
    measured = [one["name"] for one in report["tuned"] if not one["why_not"] and not one["same_as"]]
    same = [f"{one['name']} ({one['same_as']})" for one in report["tuned"] if one["same_as"] and not one["why_not"]]
    reasons: dict[str, list[str]] = {}
    for one in report["tuned"]:
        if one["why_not"]:
            reasons.setdefault(one["why_not"], []).append(one["name"])
    return [
        f"TuneD's profiles measured: {', '.join(measured)}.",
        *([f"With the same effect here as another: {', '.join(same)}."] if same else []),
        *(f"Not applicable: {', '.join(names)}: {why}." for why, names in reasons.items()),
    ]


def _numad_line(report: Mapping[str, Any]) -> str:
    if report["nodes"] < 2:
        return "numad: does not apply: this machine has one NUMA node, and numad moves processes between nodes."
    return "numad: not measured by this program: run it with numad started and stopped around the default."
