"""Power: at which frequency CPUs run, how deep they sleep.

Frequency is set on a policy, which several CPUs may share: naming any of them sets it, and the change is on the one that gives the
policy its name (Documentation/admin-guide/pm/cpufreq.rst). A limit on idle latency for the whole machine is not among these:
/dev/cpu_dma_latency holds only as long as somebody keeps it open.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import ClassVar

from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.files import FileKnob, may_write, names, readable
from hal.knobs.knob import Knob, Support, on_or_off, whole_number
from hal.settings import APPROXIMATE, SYSTEM, Change, Subject, Value

_CPUS = "/sys/devices/system/cpu"
_POLICIES = f"{_CPUS}/cpufreq"
_PERFORMANCE = "performance"
_NO_FREQUENCY = "the kernel does not set this machine's frequency"
_NO_FREQUENCY_REMEDY = (
    "in a virtual machine that is the host's; otherwise a cpufreq driver is missing, or the firmware keeps it"
)

# Where among the power knobs of a plan a change stands.
_WIDEN, _BETWEEN, _NARROW = 0, 1, 2


class CpuKnob(FileKnob):
    """A knob on CPUs; the machine stands for all of them."""

    subject_kind = "cpu"

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("cpu", "system")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject.kind not in self.accepts:
            raise SettingError(
                f"{self.name}: it is set on CPUs, not on a {subject.kind}", remedy="Name a CPU, or the machine."
            )
        return tuple(self.subjects(host)) if subject.kind == "system" else (self.own(host, subject),)

    def own(self, host: Host, subject: Subject) -> Subject:
        """Return the CPU that the change is on for one that was named."""
        return subject

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if not readable(host, self.path(subject)):
            raise SettingError(
                f"{self.name}: there is no CPU {subject.name} that has it",
                remedy=f"There is {', '.join(s.name for s in self.subjects(host)) or 'none'}.",
            )


class PolicyKnob(CpuKnob):
    """A knob on a frequency policy."""

    absent = _NO_FREQUENCY
    absent_remedy = _NO_FREQUENCY_REMEDY
    file: ClassVar[str]

    def path(self, subject: Subject) -> str:
        return f"{_POLICIES}/policy{subject.name}/{self.file}"

    def subjects(self, host: Host) -> Iterable[Subject]:
        policies = sorted(int(name[6:]) for name in names(host, _POLICIES) if re.fullmatch(r"policy\d+", name))
        found = (Subject("cpu", str(number)) for number in policies)
        return (one for one in found if readable(host, self.path(one)))

    def own(self, host: Host, subject: Subject) -> Subject:
        for policy in self.subjects(host):
            if subject.name in host.read_text(f"{_POLICIES}/policy{policy.name}/related_cpus").split():
                return policy
        return subject


class Governor(PolicyKnob):
    """What chooses the frequency."""

    name = "power.governor"
    title = "What chooses the frequency of a CPU"
    values = "a governor that the kernel has: performance, powersave, schedutil, ..."
    example = "performance"
    file = "scaling_governor"

    def parse(self, text: str) -> str:
        if not re.fullmatch(r"[a-z][a-z_]{0,14}", text.strip()):  # CPUFREQ_NAME_LEN is 16 with its end
            raise self.malformed(text)
        return text.strip()

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        offered = host.read_text(f"{_POLICIES}/policy{subject.name}/scaling_available_governors").split()
        if value not in offered:
            raise SettingError(
                f"{self.name}: there is no governor {value} for CPU {subject.name}",
                remedy=f"There is {', '.join(offered)}; others may be modules: modprobe cpufreq_{value}.",
            )

    def order(self, change: Change) -> tuple[int, ...]:
        # Under the performance governor intel_pstate and amd_pstate let nobody set the energy preference.
        return (_NARROW if change.new == _PERFORMANCE else _WIDEN,)

    def cost(self, old: Value, new: Value) -> str:
        return "CPUs stay at their highest frequency and use more energy" if new == _PERFORMANCE else ""


class EnergyPreference(PolicyKnob):
    """Whether the processor is to favour speed or energy."""

    name = "power.energy_preference"
    title = "Whether a CPU favours speed or energy"
    values = "performance, balance_performance, balance_power, power, or a number from 0 (speed) to 255 (energy)"
    example = "balance_performance"
    file = "energy_performance_preference"
    absent = "this processor takes no hint on energy from the kernel"
    absent_remedy = "it takes intel_pstate or amd_pstate in active mode (see /sys/devices/system/cpu/*_pstate/status)"

    def parse(self, text: str) -> str:
        word = text.strip().lower()
        if word in (_PERFORMANCE, "balance_performance", "balance_power", "power"):
            return word
        return str(whole_number(self, text, least=0, most=255))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        offered = host.read_text(f"{_POLICIES}/policy{subject.name}/energy_performance_available_preferences").split()
        if value not in offered and not str(value).isdigit():
            raise SettingError(
                f"{self.name}: CPU {subject.name} does not have {value}", remedy=f"It has {', '.join(offered)}."
            )

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            super().write(host, subject, value)
        except HostError as error:
            if error.number == errno.EBUSY:
                reason = "the performance governor allows no other preference"
                remedy = "set power.governor to powersave with it"
                raise HostError(f"{error}: {reason}", number=error.number, remedy=remedy) from error
            raise

    def order(self, change: Change) -> tuple[int, ...]:
        return (_BETWEEN,)


class FrequencyLimit(PolicyKnob):
    """One of the two limits between which the frequency is chosen."""

    values = "a number of kHz, within what the processor has"

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=1, most=100_000_000)

    def decode(self, text: str) -> int:
        return int(text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        policy = f"{_POLICIES}/policy{subject.name}"
        lowest, highest = (int(host.read_text(f"{policy}/cpuinfo_{end}_freq")) for end in ("min", "max"))
        if not lowest <= int(value or 0) <= highest:
            raise SettingError(
                f"{self.name}: CPU {subject.name} does not run at {value} kHz",
                remedy=f"It runs at {lowest} to {highest}.",
            )
        steps = _text(host, f"{policy}/scaling_available_frequencies").split()
        if steps and str(value) not in steps:
            raise SettingError(
                f"{self.name}: CPU {subject.name} has no step of {value} kHz", remedy=f"It has {', '.join(steps)}."
            )


class LowestFrequency(FrequencyLimit):
    """The lowest frequency that may be chosen."""

    name = "power.min_freq"
    title = "Lowest frequency of a CPU, in kHz"
    example = "800000"
    file = "scaling_min_freq"

    def order(self, change: Change) -> tuple[int, ...]:
        return (_WIDEN if int(change.new or 0) < int(change.old or 0) else _NARROW,)


class HighestFrequency(FrequencyLimit):
    """The highest frequency that may be chosen."""

    name = "power.max_freq"
    title = "Highest frequency of a CPU, in kHz"
    example = "3000000"
    file = "scaling_max_freq"

    def order(self, change: Change) -> tuple[int, ...]:
        return (_WIDEN if int(change.new or 0) > int(change.old or 0) else _NARROW,)


class Boost(Knob):
    """Whether CPUs may run above their nominal frequency for a while."""

    name = "power.boost"
    title = "Whether CPUs may run above their nominal frequency (turbo)"
    subject_kind = "system"
    values = "on or off"
    example = "on"
    reversibility = APPROXIMATE
    reversal = "highest frequencies set by hand, where the driver resets them with boost (all but intel_pstate)"

    # From the file to what it holds where boost is on.
    _FILES: ClassVar[dict[str, str]] = {f"{_CPUS}/intel_pstate/no_turbo": "0", f"{_POLICIES}/boost": "1"}

    def _file(self, host: Host) -> tuple[str, str]:
        for path, on in self._FILES.items():
            if readable(host, path):
                return path, on
        raise NotFoundError("there is no switch for boost", subject=self.name)

    def support(self, host: Host) -> Support:
        if not self.subjects(host):
            return Support(False, "this machine has no switch for boost", _NO_FREQUENCY_REMEDY)
        return may_write(host, self._file(host)[0])

    def subjects(self, host: Host) -> tuple[Subject, ...]:
        return (SYSTEM,) if any(readable(host, path) for path in self._FILES) else ()

    def parse(self, text: str) -> bool:
        return on_or_off(self, text)

    def read(self, host: Host, subject: Subject) -> bool:
        path, on = self._file(host)
        return host.read_text(path).strip() == on

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        path, on = self._file(host)
        host.write_text(path, on if value else str(1 - int(on)))

    def order(self, change: Change) -> tuple[int, ...]:
        return (-1,)  # before limits of frequency: it moves what they may be


class IdleLatency(CpuKnob):
    """How long a CPU may take to wake up."""

    name = "power.idle_latency_us"
    title = "How long a CPU may take to wake up from idle, in µs"
    values = "a number of µs; 0 for no sleep that takes any, any for no limit"
    example = "any"
    absent = "the kernel takes no limit on the latency of idle CPUs"

    # The kernel has it the other way round: 0 is no limit, and "n/a" that no latency can be accepted
    # (Documentation/ABI/testing/sysfs-devices-power).
    _MEANINGS: ClassVar[dict[str, Value]] = {"0": "any", "n/a": 0}

    def path(self, subject: Subject) -> str:
        return f"{_CPUS}/cpu{subject.name}/power/pm_qos_resume_latency_us"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (cpu for cpu in _cpus(host) if readable(host, self.path(cpu)))

    def parse(self, text: str) -> Value:
        return "any" if text.strip().lower() == "any" else whole_number(self, text, least=0, most=(1 << 31) - 2)

    def decode(self, text: str) -> Value:
        found = text.strip()
        return self._MEANINGS[found] if found in self._MEANINGS else int(found)

    def encode(self, value: Value) -> str:
        return next((written for written, meaning in self._MEANINGS.items() if meaning == value), str(value))

    def cost(self, old: Value, new: Value) -> str:
        return "the CPU never sleeps and uses more energy" if new == 0 else ""


class IdleStates(CpuKnob):
    """The idle states that a CPU may enter."""

    name = "power.idle_states"
    title = "Idle states that a CPU may enter"
    values = "names of states such as C1,C1E,POLL (see /sys/devices/system/cpu/cpu0/cpuidle), or none"
    example = "C1,POLL"
    absent = "no CPU here has idle states that the kernel chooses from"
    absent_remedy = "in a virtual machine that is the host's"

    def path(self, subject: Subject) -> str:
        return f"{_CPUS}/cpu{subject.name}/cpuidle/state0/disable"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (cpu for cpu in _cpus(host) if readable(host, self.path(cpu)))

    def parse(self, text: str) -> str:
        states = [word.strip() for word in text.strip().split(",")]
        if states == ["none"]:
            return "none"
        if (
            any(not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ +-]{0,14}", state, re.ASCII) for state in states)
            or "none" in states
        ):
            raise self.malformed(text)  # CPUIDLE_NAME_LEN is 16 with its end
        return ",".join(sorted(set(states)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        files = self._files(host, subject)
        unknown = _set(value) - set(files)
        if unknown:
            raise SettingError(
                f"{self.name}: CPU {subject.name} has no state {', '.join(sorted(unknown))}",
                remedy=f"It has {', '.join(files)}.",
            )

    def read(self, host: Host, subject: Subject) -> str:
        files = self._files(host, subject)
        return _listed({name for name, path in files.items() if host.read_text(path).strip() == "0"})

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        files = self._files(host, subject)
        for name, allowed in _steps(self.read(host, subject), value):
            host.write_text(files[name], "0" if allowed else "1")

    def between(self, change: Change) -> tuple[Value, ...]:
        states, found = _set(change.old), []
        for name, allowed in _steps(change.old, change.new):
            states = states | {name} if allowed else states - {name}
            found.append(_listed(states))
        return tuple(found[:-1])

    def _files(self, host: Host, subject: Subject) -> dict[str, str]:
        """Return the switch of each state by name, in the order of their depth."""
        base = f"{_CPUS}/cpu{subject.name}/cpuidle"
        states = sorted(
            (name for name in names(host, base) if name.startswith("state")), key=lambda name: int(name[5:])
        )
        if not states:
            raise NotFoundError(f"CPU {subject.name} has no idle states", subject=subject.name)
        return {host.read_text(f"{base}/{name}/name").strip(): f"{base}/{name}/disable" for name in states}


def _set(value: Value) -> set[str]:
    return set() if value == "none" else set(str(value).split(","))


def _listed(states: set[str]) -> str:
    return ",".join(sorted(states)) or "none"


def _steps(old: Value, new: Value) -> list[tuple[str, bool]]:
    """Return which states are allowed (True) and forbidden on the way: first more are allowed, so that some always are."""
    was, wanted = _set(old), _set(new)
    return [*((name, True) for name in sorted(wanted - was)), *((name, False) for name in sorted(was - wanted))]


def _cpus(host: Host) -> tuple[Subject, ...]:
    numbers = sorted(int(name[3:]) for name in names(host, _CPUS) if re.fullmatch(r"cpu\d+", name))
    return tuple(Subject("cpu", str(number)) for number in numbers)


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""


KNOBS: tuple[Knob, ...] = (
    Governor(),
    EnergyPreference(),
    LowestFrequency(),
    HighestFrequency(),
    Boost(),
    IdleLatency(),
    IdleStates(),
)
