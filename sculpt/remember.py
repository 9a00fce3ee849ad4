"""What a run's learners remember with: the memory opened whatever state it is in, and where it is that they learn."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hal.errors import HalError
from hal.host import Host
from rl.bandit import LinearBandit
from rl.errors import LearnedDamagedError, LearnedError
from rl.learned import MachineFacts, Origin
from rl.learner import Learner
from rl.memory import Memory
from rl.memory_file import is_damaged, set_aside
from rl.remembering import RememberingLearner, Session
from sculpt.judging import ByMetrics, ByProxy
from sculpt.step import Judge

_APPLICATION = b"workload-dna learned"
_IDENTITIES = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname")


def open_memory(place: Path, tell: Callable[[str], None]) -> Memory | None:
    """Open the memory; what is damaged is set aside, and what cannot be had is told. None where there is none to be had."""
    try:
        return _opened(place, tell)
    except HalError as error:
        tell(f"{error}; the run begins with nothing known, and keeps nothing")
        return None


def _opened(place: Path, tell: Callable[[str], None]) -> Memory:
    try:
        if is_damaged(place):
            raise LearnedDamagedError(f"{place} is damaged")
        memory = Memory.open(place)
    except LearnedDamagedError:
        aside = set_aside(place)
        if aside is not None:
            tell(f"what was learned is damaged: it is set aside as {aside}, and the run begins with nothing known")
        memory = Memory.open(place)
    if memory.is_writable:
        try:
            memory.prune()
        except LearnedError as error:
            tell(str(error))
    return memory


def machine_facts(host: Host, described: Mapping[str, object]) -> MachineFacts:
    """Return the facts of a machine as ``dna.machine.describe`` tells them, under a name that does not give away its identity.

    machine-id(5) asks programs to hash it with something of their own.
    """
    identity = next((found for path in _IDENTITIES if (found := _text(host, path))), "")
    return MachineFacts(
        hmac.new(_APPLICATION, identity.encode(), hashlib.sha256).hexdigest()[:32] if identity else "",
        str(described.get("model") or ""),
        str(described.get("kernel") or ""),
        _whole(described.get("numa_nodes")),
        _whole(described.get("cpus")),
    )


def objective_of(judge: Judge, kinds: Sequence[str]) -> str:
    """Return what gains are of, in words that are the same for what can be compared; "" while it is not known."""
    if isinstance(judge, ByProxy):
        return f"proxy {judge.proxy.metric}" if judge.proxy else ""
    if isinstance(judge, ByMetrics):
        pairs = zip(judge.objective.metrics, judge.objective.weights, strict=True)
        return " + ".join(
            sorted(f"{weight:.3g} {metric.kind}" if weight != 1 else metric.kind for metric, weight in pairs)
        )
    return " + ".join(sorted(kinds))


def boot_of(host: Host) -> str:
    """Return which start of the machine this is; "" where that cannot be told."""
    return _text(host, "/proc/sys/kernel/random/boot_id")


def learner(
    memory: Memory | None, *, run: str, boot: str, origin: Callable[[], Origin | None], seed: int
) -> RememberingLearner | Learner:
    """Return a learner that begins with what is known, and keeps what it learns, where there is a memory."""
    bandit = LinearBandit(seed=seed)
    if memory is None:
        return Learner(bandit, seed=seed)
    return RememberingLearner(Session(memory, run, boot, origin), bandit, seed=seed)


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HalError:
        return ""
