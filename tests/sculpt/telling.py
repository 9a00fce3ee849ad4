"""Records of runs that never were, for what tells them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sculpt.records import SCHEMA
from sculpt.story import Story, tell

START = 1_790_000_000.0
HEAD = {
    "schema": SCHEMA, "run": "20260922-101500-4242", "mode": "apply", "interval_s": 2.0, "command": "dna sculpt --pid 77",
    "target": {"kind": "pid", "value": "77", "comm": "walker"},
    "machine": {"hostname": "here", "cpus": 2, "memory": 8 << 30, "kernel": "6.1", "model": "A CPU"}, "kinds": ["throughput"],
}  # fmt: skip
END = {"end": {"why": "duration", "in_force": "baseline", "on_exit": "restore"}}


def step(number: int, *, in_force: str = "baseline", reward: float | None = 100.0, **more: Any) -> dict[str, Any]:
    """Return the record of a step; what is not a field of the record itself belongs to its decision."""
    decision: dict[str, Any] = {
        "arm": "baseline", "state": "hold", "event": "", "because": "", "candidate": "", "gain": None, "interval": None,
        "blocks": 0, "estimates": {},
    }  # fmt: skip
    decision |= {name: more.pop(name) for name in list(more) if name in decision}
    return {
        "t": START + 2.0 * number, "workload": "walker", "in_force": in_force, "reward": reward, "why_not": "",
        "metrics": {"throughput=file:/rate": reward}, "demand": {"cores": 1.5, "resident": 2.0 * (1 << 30)}, "proposed": [],
        "held": {}, "decision": decision, "done": None, "alerts": [], "own_share": 0.01, "room_s": 10.0, **more,
    }  # fmt: skip


def trial(
    at: int, name: str, *, against: str = "baseline", blocks: int = 3, outcome: str = "promoted", gain: float = 0.2
) -> list[dict[str, Any]]:
    """Return the steps of a trial in paired blocks, which ends as said and whose limits narrow from block to block."""
    check = name == "baseline"
    begun: dict[str, Any] = {
        "state": "trial",
        "event": "trial",
        "candidate": name,
        "because": f"{name} might pay",
        "arm": against,
    }
    found = [
        step(
            at,
            in_force=against,
            **begun,
            estimates={name: [0.1, 0.05]},
            proposed=[name, "other"],
            held={"third": "the guard"},
        )
    ]
    for block in range(1, blocks + 1):
        for side in (against, name, name, against):
            at += 1
            reach = 0.6 / block
            limits = [None, None] if block == 1 else [gain - reach, gain + reach]
            told: dict[str, Any] = {
                "gain": -gain if check else gain,
                "blocks": block - 1,
                "interval": limits if block > 1 else None,
            }
            if check and block > 1:
                told["interval"] = [-gain - reach, -gain + reach]
            found.append(
                step(at, in_force=side, state="trial", candidate=name, arm=against, **(told if block > 1 else {}))
            )
    kept = {"promoted": name, "confirmed": against}.get(outcome, "baseline" if check else against)
    reach = 0.6 / blocks
    found[-1] = step(
        at, in_force=against, state="hold", event=outcome, candidate=against if check else name, arm=kept,
        because=f"{name} was judged", gain=gain, blocks=blocks, interval=[gain - reach, gain + reach],
    )  # fmt: skip
    return found


def lines(*records: Mapping[str, Any], head: Mapping[str, Any] = HEAD) -> list[str]:
    """Return records as the lines of a file, the head first."""
    return [json.dumps(one) + "\n" for one in (head, *records)]


def story(*records: Mapping[str, Any] | Iterable[Mapping[str, Any]], head: Mapping[str, Any] = HEAD) -> Story:
    """Return the story of records; a list of them may stand for one."""
    flat = [one for part in records for one in ([part] if isinstance(part, Mapping) else part)]
    return tell(lines(*flat, head=head))
