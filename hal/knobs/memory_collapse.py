"""Huge pages for a process that runs already."""

from __future__ import annotations

import errno
import re

from hal.collapse import MADV_COLLAPSE, Collapsed, collapse, huge_share, is_switched_off
from hal.errors import HostError
from hal.host import Host
from hal.knobs.advice import advice_support, start_time
from hal.knobs.knob import RANKS, Knob, Progress, SlowKnob, Support
from hal.mappings import HUGE_SIZE_FILE
from hal.settings import IRREVERSIBLE, Subject, Value
from hal.sizes import say_size

_LEAST = "0.5"
_WHY = {
    errno.ENOMEM: "no huge page could be made free: memory is too fragmented (dna set memory.compact now)",
    errno.EBUSY: "the memory limit of its cgroup leaves no room",
    errno.EAGAIN: "its pages were in use all the time",
    errno.EINVAL: "the kernel makes no huge pages of this memory",
}


class HugePages(SlowKnob):
    """Make huge pages of what a process has in small ones."""

    name = "memory.hugepages"
    title = "Make huge pages of a running process's memory"
    subject_kind = "process"
    values = "collapse, or collapse:SHARE with the least share of each 2 MiB that must be in use (0.5 unless given)"
    example = "collapse:0.5"
    rank = RANKS["pages"]
    reversibility = IRREVERSIBLE
    reversal = "small pages: what is huge stays so until the kernel splits it, and what was missing in it is there now"
    is_action = True

    def support(self, host: Host) -> Support:
        if not host.exists(HUGE_SIZE_FILE):
            return Support(False, "a kernel without CONFIG_TRANSPARENT_HUGEPAGE", "another kernel")
        return advice_support(host, MADV_COLLAPSE, "MADV_COLLAPSE needs Linux 6.1")

    def parse(self, text: str) -> str:
        word, _, share = text.strip().lower().partition(":")
        if word != "collapse" or not re.fullmatch(r"|0?\.[0-9]{1,3}|1(\.0{1,3})?", share) or text.strip().endswith(":"):
            raise self.malformed(text)
        least = float(share or _LEAST)
        if not least:
            raise self.malformed(text)
        return f"collapse:{least:g}"

    def read(self, host: Host, subject: Subject) -> Value:
        return None

    def write(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _done, _of: None
    ) -> None:
        done = self.collapse(host, subject, value, progress=progress)
        if not done.bytes and done.failed:
            raise HostError(f"no huge page was made: {_WHY.get(done.reason, 'unknown')}", number=done.reason)

    def collapse(
        self, host: Host, subject: Subject, value: Value, *, progress: Progress = lambda _done, _of: None
    ) -> Collapsed:
        """Do what ``write`` does, and return what became of it."""
        pid = int(subject.name)
        return collapse(host, pid, start_time(host, subject), least=_least(value), progress=progress)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        share = huge_share(host, int(subject.name), least=_least(value))
        return "" if share.huge or not share.possible else "it has no huge pages"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        if is_switched_off(host, int(subject.name)):
            return "it has switched huge pages off for itself (PR_SET_THP_DISABLE)"
        share = huge_share(host, int(subject.name), least=_least(value))
        if not share.possible:
            return f"it has no 2 MiB that are used to {_least(value):.0%}"
        return f"{say_size(share.huge)} of {say_size(max(share.possible, share.huge))} are in huge pages"

    def cost(self, old: Value, new: Value) -> str:
        return f"about 3 ms a huge page, while which it waits; up to {1 / _least(new):.3g} times the memory where it is sparse"


def _least(value: Value) -> float:
    return float(str(value).partition(":")[2] or _LEAST)


KNOBS: tuple[Knob, ...] = (HugePages(),)
