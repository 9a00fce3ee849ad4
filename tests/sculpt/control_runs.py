"""Records as a loop makes them, and a run that only waits for its end; for the tests of control, status and live view."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from rl.decision import HOLD, Decision
from rl.policy import BASELINE, Arm
from sculpt.actuator import Done
from sculpt.candidates import Candidate, Layer
from sculpt.control import RESTORE, About, Control
from sculpt.control_server import ControlServer
from sculpt.step import Judged, Record

START = 1_800_000_000.0


def record(
    number: int = 0,
    *,
    workload: str = "redis-server",
    arm: str = BASELINE,
    state: str = HOLD,
    event: str = "",
    candidate: str = "",
    gain: float | None = None,
    interval: tuple[float, float] | None = None,
    because: str = "because",
    reward: float | None = 100.0,
    alerts: tuple[str, ...] = (),
    changes: bool = True,
) -> Record:
    """Return the record of a step; ``changes`` False for one of a mode that changes nothing."""
    decision = Decision(Arm(arm), state, because, event, candidate, gain, interval)
    in_force = Candidate((Layer(arm, ()),)) if arm != BASELINE else Candidate()
    return Record(
        START + 5.0 * number,
        workload,
        BASELINE,
        Judged(reward, "" if reward else "the file is gone", (("throughput=file:/rate", reward),)),
        decision,
        Done(in_force) if changes else None,
        proposed=("pages", "pin"),
        alerts=alerts,
        own_share=0.004,
    )


def main(folder: Path) -> None:
    """Serve a run named "stub" until somebody stops it; what was asked stands on standard output."""
    ended = threading.Event()
    control = Control(About("apply", 5.0))
    place = folder / f"sculpt-{sys.argv[2]}.sock" if len(sys.argv) > 2 else None
    from sculpt.sockets import default_socket

    with ControlServer(control, place or default_socket(), lambda text: print("warned", text, flush=True)):
        control.begin("20270115-080000-stub", ended.set)
        control(record(0))
        control(record(1, state="trial", event="trial", candidate="pages"))
        print("ready", flush=True)
        while not ended.is_set():
            time.sleep(0.02)
        control.end("stopped", "pages" if control.on_exit_of(RESTORE) == "keep" else BASELINE)
        print("ended", control.on_exit_of(RESTORE), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
