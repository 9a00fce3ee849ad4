"""An alert: something that somebody should be told of. The value; ``sculpt.alerts`` raises them."""

from __future__ import annotations

import time
from dataclasses import dataclass

SCHEMA = "workload-dna/alert/1"

JUMP, COLLAPSE, LOST, ROLLBACK, BLIND, TROUBLE = "jump", "collapse", "lost", "rollback", "blind", "trouble"
KINDS = {
    JUMP: "the workload behaves otherwise than before, or unlike anything known",
    COLLAPSE: "its reward has fallen below a share of what is usual, or is itself again",
    LOST: "somebody else has set what the loop had set",
    ROLLBACK: "something that was tried or kept was worse and was taken back",
    BLIND: "there is no measurement",
    TROUBLE: "a change or its taking back failed, rules could not be asked, records end",
}
NOTICE, WARNING, CRITICAL = "notice", "warning", "critical"
SEVERITIES = (NOTICE, WARNING, CRITICAL)
"""The lightest first."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should be told of."""

    t: float
    """Seconds since the epoch: the end of the interval that showed it."""
    workload: str
    kind: str
    """Of ``KINDS``."""
    severity: str
    """Of ``SEVERITIES``."""
    text: str
    """What was seen, and what the loop did about it."""
    held: int = 0
    """Of the same kind and severity, how many were held back since the one before."""


def alert_data(alert: Alert, host: str = "") -> dict[str, object]:
    """Return an alert as JSON data; its ``time`` is ``t`` in ISO 8601, UTC."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(alert.t))
    named = {"host": host} if host else {}
    return {
        "schema": SCHEMA,
        "t": alert.t,
        "time": at,
        **named,
        "workload": alert.workload,
        "kind": alert.kind,
        "severity": alert.severity,
        "text": alert.text,
        "held": alert.held,
    }
