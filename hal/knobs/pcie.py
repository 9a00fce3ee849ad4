"""PCI Express: the size of read requests, power saving of links, their speed; through configuration space.

Each is held against what the function's capability says. The number of lanes, and how a slot's lanes are divided (bifurcation), are
the firmware's: ``hal.devices`` reports them, nothing here sets them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hal import pci
from hal.errors import HalError, HostError, NotPermittedError, SettingError, UnsupportedError
from hal.host import Host
from hal.knobs.files import FileKnob, may_write, names, selected
from hal.knobs.knob import Knob, Support, one_of, whole_number
from hal.pci import L0S, L1, SPEEDS, Express, Link
from hal.settings import APPROXIMATE, SYSTEM, Change, Subject, Value

_POLICY = "/sys/module/pcie_aspm/parameters/policy"
_LOCKDOWN = "/sys/kernel/security/lockdown"
_STATES = {"off": 0, "l0s": L0S, "l1": L1, "l0s+l1": L0S | L1}
_STATE_NAMES = {bits: name for name, bits in _STATES.items()}
_CODES = {speed: code for code, speed in SPEEDS.items()}


class PcieKnob(Knob):
    """A knob on a PCI Express function; an interface or disk stands for the function that it sits on."""

    subject_kind = "pci"
    lacks: str
    """What is said where no function has it."""

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("pci", "nic", "block")

    def support(self, host: Host) -> Support:
        if not names(host, pci.DEVICES):
            return Support(False, "there are no PCI devices here", "nothing to do: what needs them is left out")
        if host.euid() != 0:
            reason = "the kernel shows configuration space beyond 64 bytes to root only"
            return Support(False, reason, "run it as root (CAP_SYS_ADMIN), with sudo")
        lockdown = selected(_text(host, _LOCKDOWN))
        if lockdown not in ("", "none"):
            reason = f"the kernel is locked down ({lockdown}): nobody may write configuration space"
            return Support(False, reason, "start it with lockdown=none, or with Secure Boot off")
        first = next(iter(self.subjects(host)), None)
        if first is None:
            return Support(False, self.lacks, "nothing to do: in a virtual machine links are the host's")
        return may_write(host, f"{pci.DEVICES}/{first.name}/config")

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (Subject("pci", address) for address in names(host, pci.DEVICES) if self._reads(host, address))

    def _reads(self, host: Host, address: str) -> bool:
        try:
            self.read(host, Subject("pci", address))
        except HalError:
            return False
        return True

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject.kind not in self.accepts:
            raise SettingError(
                f"{self.name}: it is set on PCI functions, not on a {subject.kind}",
                remedy="Name a PCI address such as 0000:3b:00.0, a network interface or a block device.",
            )
        address = pci.address_of(host, subject)
        if not address:
            what = "there is no PCI function" if subject.kind == "pci" else f"no PCI function is behind {subject.kind}"
            raise SettingError(f"{self.name}: {what} {subject.name}", remedy="See `dna machine`.")
        try:
            return tuple(Subject("pci", name) for name in self.functions(host, address))
        except NotPermittedError:
            raise
        except HostError as error:
            raise SettingError(
                f"{self.name}: {error}", remedy="See `dna machine` for the devices that have it."
            ) from error

    def functions(self, host: Host, address: str) -> tuple[str, ...]:
        """Return the functions that it is set on when this one is named.

        Raises:
            HostError: there are none.
        """
        return (address,)


class MaxReadRequest(PcieKnob):
    """How much a function may ask of memory in one read."""

    name = "pcie.max_read_request"
    title = "Largest read request that a PCI Express function makes, in bytes"
    values = "128, 256, 512, 1024, 2048 or 4096"
    example = "512"
    lacks = "no PCI Express function here shows its capability"

    def parse(self, text: str) -> int:
        size = whole_number(self, text, least=128, most=4096)
        if size & (size - 1):
            raise self.malformed(text)
        return size

    def read(self, host: Host, subject: Subject) -> int:
        if pci.is_virtual(host, subject.name):
            raise UnsupportedError(f"{subject.name} is a virtual function: its physical function's size counts for it")
        return 128 << pci.express(host, subject.name).get(pci.MAX_READ_REQUEST)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            self.read(host, subject)
        except UnsupportedError as error:
            raise SettingError(f"{self.name}: {error}", remedy="Name another function; see `dna machine`.") from error

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        pci.set_field(host, subject.name, pci.MAX_READ_REQUEST, (int(value or 0) // 128).bit_length() - 1)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: the device does not let it be set" if wrong else ""


class Aspm(PcieKnob):
    """In which states a link may rest; set at both of its ends."""

    name = "pcie.aspm"
    title = "States in which a PCI Express link rests (active state power management)"
    values = "off, l0s, l1 or l0s+l1"
    example = "off"
    lacks = "no PCI Express link here shows both of its ends"

    def parse(self, text: str) -> str:
        word = one_of(self, text, (*_STATES, "l1+l0s"))
        return "l0s+l1" if word == "l1+l0s" else word

    def functions(self, host: Host, address: str) -> tuple[str, ...]:
        return tuple(end.address for end in _whole(pci.link_of(host, address)).ends)

    def read(self, host: Host, subject: Subject) -> str:
        link = _whole(pci.link_of(host, subject.name))
        own = next(end for end in link.ends if end.address == subject.name)
        return _STATE_NAMES[own.get(pci.ASPM)]

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = _STATES[str(value)]
        link = pci.link_of(host, subject.name)
        for end in link.ends:
            if wanted & ~end.aspm:
                has = _STATE_NAMES[end.aspm]
                raise SettingError(
                    f"{self.name}: {end.address} does not support {value}",
                    remedy="It supports none." if has == "off" else f"It supports {has}.",
                )
        withheld = [name for name in ("l0s", "l1") if wanted & _STATES[name] and not _offered(host, link, name)]
        if withheld:
            raise SettingError(
                f"{self.name}: the kernel does not offer {' and '.join(withheld)} on the link of {subject.name}",
                remedy="Waking it takes longer than the device bears, or the firmware keeps ASPM to itself: leave it off.",
            )

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        pci.set_field(host, subject.name, pci.ASPM, _STATES[str(value)])

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: the device does not let it be set" if wrong else ""

    def order(self, change: Change) -> tuple[int, ...]:
        # L1 is to be allowed at the upper end first, and forbidden at the lower one (5.4.1.3.1 of the specification). The
        # upper end is on the bus with the lower number.
        place = tuple(int(part, 16) for part in change.subject.name.replace(".", ":").split(":"))
        forbids = _STATES[str(change.old)] & ~_STATES[str(change.new)] & L1
        return tuple(-part for part in place) if forbids else place

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == "off" else "a link at rest takes microseconds to wake: latency of the device"


class LinkSpeed(PcieKnob):
    """The speed that the upper end of a link aims at; the link is trained again."""

    name = "pcie.link_speed"
    title = "Target speed of a PCI Express link, in GT/s"
    values = f"{', '.join(_CODES)} (GT/s and lane), where both ends support it"
    example = "8"
    lacks = "no PCI Express port here has a target link speed"

    def parse(self, text: str) -> str:
        return one_of(self, text, _CODES)

    def functions(self, host: Host, address: str) -> tuple[str, ...]:
        return (_aiming(pci.link_of(host, address)).address,)

    def read(self, host: Host, subject: Subject) -> str:
        own = pci.express(host, subject.name)
        if not own.is_above:
            raise UnsupportedError(f"{subject.name} is not the upper end of a link", subject=subject.name)
        return SPEEDS[_aiming(Link(own, ())).get(pci.TARGET_SPEED)]

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        code, link = _CODES[str(value)], pci.link_of(host, subject.name)
        if code in link.speeds or self.same(value, self.read(host, subject)):
            return
        slower = next((end for end in link.ends if code not in end.speeds), link.upper)
        raise SettingError(
            f"{self.name}: {slower.address} does not support {value} GT/s",
            remedy=f"Both ends of the link support {', '.join(SPEEDS[code] for code in link.speeds) or 'none'}.",
        )

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        code = _CODES[str(value)]
        pci.set_field(host, subject.name, pci.TARGET_SPEED, code)
        link = pci.link_of(host, subject.name)
        if (
            link.lower and link.upper.get(pci.TARGET_SPEED) == code
        ):  # nothing to train where nothing is, or nothing changed
            pci.retrain(host, subject.name)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        if wrong:
            return f"{wrong}: the port does not let it be set"
        link = pci.link_of(host, subject.name)
        expected = _expected(link, _CODES[str(value)])
        if not link.lower or link.upper.link_speed == expected:
            return ""
        found, wanted = (SPEEDS.get(code, "an unknown number of") for code in (link.upper.link_speed, expected))
        return f"the link runs at {found} GT/s after it was trained for {wanted}"

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        found = pci.express(host, subject.name)
        return f"the link runs at {SPEEDS.get(found.link_speed, '?')} GT/s"

    def cost(self, old: Value, new: Value) -> str:
        return "the link is trained again: the device waits for milliseconds"


class AspmPolicy(FileKnob):
    """What the kernel sets ASPM to on all links."""

    name = "pcie.aspm_policy"
    title = "What the kernel sets power management to on all PCI Express links"
    subject_kind = "system"
    values = "default (the firmware's), performance (off), powersave or powersupersave"
    example = "default"
    absent = "this kernel has no ASPM (CONFIG_PCIEASPM)"
    reversibility = APPROXIMATE
    reversal = "what had been set on single links past the kernel, as with setpci"

    def path(self, subject: Subject) -> str:
        return _POLICY

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if host.exists(_POLICY) else ()

    def parse(self, text: str) -> str:
        return one_of(self, text, ("default", "performance", "powersave", "powersupersave"))

    def decode(self, text: str) -> str:
        return selected(text)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            super().write(host, subject, value)
        except NotPermittedError as error:
            if host.euid() != 0:
                raise
            reason = "the kernel leaves ASPM to the firmware here"
            remedy = "nothing to do, or start it with pcie_aspm=force where you know the devices"
            raise HostError(f"{error}: {reason}", number=error.number, remedy=remedy) from error


def _whole(link: Link) -> Link:
    if not link.lower:
        raise UnsupportedError(f"nothing is on the link below {link.upper.address}", subject=link.upper.address)
    return link


def _aiming(link: Link) -> Express:
    if not link.upper.has_target_speed:
        raise UnsupportedError(f"{link.upper.address} has no target link speed", subject=link.upper.address)
    return link.upper


def _expected(link: Link, target: int) -> int:
    """Return the code of the speed that the ends agree on: the highest common one that neither's target is below."""
    targets = [target, *(end.get(pci.TARGET_SPEED) for end in link.lower[:1] if end.has_target_speed)]
    return max((code for code in link.speeds if code <= min(targets)), default=link.upper.link_speed)


def _offered(host: Host, link: Link, state: str) -> bool:
    """Tell whether the kernel would allow a state: it has held latencies against what the device bears (since 5.5)."""
    switches = [f"{pci.DEVICES}/{end.address}/link/{state}_aspm" for end in link.lower]
    return not host.exists(_POLICY) or any(host.exists(switch) for switch in switches)


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path)
    except HostError:
        return ""


KNOBS: tuple[Knob, ...] = (MaxReadRequest(), Aspm(), LinkSpeed(), AspmPolicy())
