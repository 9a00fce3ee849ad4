"""Shows a run that goes by itself on the terminal that it is started on; a program for the tests, not one of them."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from sculpt.control import About, Control
from tests.sculpt.control_runs import record
from ui.sculpt_live import SculptLive


def main() -> None:
    stopped: list[bool] = []
    control = Control(About("apply", 0.2))
    with SculptLive(control, Console()) as view:
        control.begin("20270115-080000-1", lambda: stopped.append(True))
        for number in range(1000):
            # A flag and a sleep: an Event's lock must not be taken by a signal handler that interrupts its wait.
            for _ in range(10):
                time.sleep(0.02)
                if stopped:
                    break
            if stopped:
                break
            is_trying = number > 2 and not control.is_paused()
            one = record(
                number,
                state="trial" if is_trying else "hold",
                candidate="memory.thp" if is_trying else "",
                event="trial" if number == 3 else "",
                reward=1000.0 + number,
            )
            for step in (one, record(number, workload="postgres", changes=False)):
                control(step)
                view(step)
    print(f"ENDED {len(stopped)}")
    sys.exit(0)


if __name__ == "__main__":
    main()
