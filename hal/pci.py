"""PCI configuration space: the PCI Express capability, its fields, and the two ends of a link.

Everything is held against what the capability says before it is believed, and a write changes the bits of one field only.
Reading beyond the first 64 bytes takes CAP_SYS_ADMIN (drivers/pci/pci-sysfs.c). Offsets and fields are those of the PCI Express
Base Specification 6.0, section 7.5.3, as in include/uapi/linux/pci_regs.h.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from hal.errors import HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host
from hal.settings import Subject

DEVICES = "/sys/bus/pci/devices"
ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
"""A function's address as the kernel writes it: domain, bus, device, function."""

SPEEDS = {1: "2.5", 2: "5", 3: "8", 4: "16", 5: "32", 6: "64"}
"""From the code of a link speed to gigatransfers a second."""
L0S, L1 = 1, 2
"""Bits of the ASPM fields of link capabilities and link control."""

_EXPRESS = 0x10
_HEADER = 64
_MOST_CAPABILITIES = 48  # as many as fit: PCI_FIND_CAP_TTL of the kernel
_SIZE = 0x3C
_SHORTEST = 0x14  # of version 1, which may lie at the end: what follows it is not its own
_ROOT_PORT, _UPSTREAM_PORT, _DOWNSTREAM_PORT, _TO_PCI, _FROM_PCI = 4, 5, 6, 7, 8
_ABOVE_A_LINK = (_ROOT_PORT, _DOWNSTREAM_PORT, _FROM_PCI)
_BELOW_A_LINK = (0, 1, _UPSTREAM_PORT, _TO_PCI)
_POLL_S = 0.01
_TRAINING_LIMIT_S = 1.0  # PCIE_LINK_RETRAIN_TIMEOUT_MS of the kernel


@dataclass(frozen=True, slots=True)
class Field:
    """Some bits of a 16-bit control register of the PCI Express capability."""

    register: int
    """Offset from the capability's start."""
    mask: int

    @property
    def shift(self) -> int:
        """How far its lowest bit is up."""
        return (self.mask & -self.mask).bit_length() - 1

    def of(self, word: int) -> int:
        """Return its value in a register."""
        return (word & self.mask) >> self.shift

    def put(self, word: int, value: int) -> int:
        """Return a register with it set.

        Raises:
            ValueError: the value has more bits than the field.
        """
        if value << self.shift & ~self.mask or value < 0:
            raise ValueError(f"{value} does not fit into {self}")
        return word & ~self.mask & 0xFFFF | value << self.shift


MAX_PAYLOAD = Field(0x08, 0x00E0)
MAX_READ_REQUEST = Field(0x08, 0x7000)
ASPM = Field(0x10, 0x0003)
RETRAIN = Field(0x10, 0x0020)
TARGET_SPEED = Field(0x30, 0x000F)

# Bits that act when written as 1, and never read so: not to be written back by chance. Device control of endpoints: reset.
_ACTS = {0x08: 0x8000, 0x10: 0x0020}


@dataclass(frozen=True, slots=True)
class Express:
    """The PCI Express capability of one function, as it was read."""

    address: str
    offset: int
    """Where it lies in configuration space."""
    registers: bytes
    """The 0x3C bytes from there, zeros where version 1 ends before."""

    def word(self, register: int) -> int:
        """Return a 16-bit register."""
        return int(struct.unpack_from("<H", self.registers, register)[0])

    def double(self, register: int) -> int:
        """Return a 32-bit register."""
        return int(struct.unpack_from("<I", self.registers, register)[0])

    def get(self, field: Field) -> int:
        """Return a field's value."""
        return field.of(self.word(field.register))

    @property
    def version(self) -> int:
        """Version of the capability's layout: 1 or 2."""
        return self.word(0x02) & 0xF

    @property
    def port_type(self) -> int:
        """Device/port type: 0 endpoint, 4 root port, 5 and 6 ports of a switch, ..."""
        return self.word(0x02) >> 4 & 0xF

    @property
    def is_above(self) -> bool:
        """Tell whether it is the upper end of a link."""
        return self.port_type in _ABOVE_A_LINK

    @property
    def is_below(self) -> bool:
        """Tell whether it is the lower end of a link; what is integrated into the root complex has none."""
        return self.port_type in _BELOW_A_LINK

    def has(self, field: Field) -> bool:
        """Tell whether it has the register of a field: link control 2 came with version 2."""
        has_link = self.is_above or self.is_below
        return {0x08: True, 0x10: has_link, 0x30: has_link and self.version >= 2}[field.register]

    @property
    def has_target_speed(self) -> bool:
        """Tell whether it has a target link speed, and says something in it."""
        return self.has(TARGET_SPEED) and self.get(TARGET_SPEED) in SPEEDS

    @property
    def speeds(self) -> tuple[int, ...]:
        """Codes of the link speeds that it supports."""
        highest = self.double(0x0C) & 0xF
        vector = self.double(0x2C) >> 1 & 0x7F if self.version >= 2 else 0
        if not vector:  # before 3.0 there was no vector: 2.5, and 5 where link capabilities say so
            return tuple(code for code in SPEEDS if code <= min(highest, 2))
        return tuple(code for code in SPEEDS if vector >> code - 1 & 1 and code <= highest)

    @property
    def aspm(self) -> int:
        """Which of L0S and L1 it supports."""
        return self.double(0x0C) >> 10 & (L0S | L1)

    @property
    def link_speed(self) -> int:
        """Code of the present speed."""
        return self.word(0x12) & 0xF

    @property
    def is_training(self) -> bool:
        """Tell whether the link is being trained, or, where the port can tell, is not up yet."""
        state = self.word(0x12)
        reports_up = self.double(0x0C) >> 20 & 1
        return bool(state & 0x0800) or bool(reports_up and not state & 0x2000)


def addresses_in(path: str) -> tuple[str, ...]:
    """Return the PCI addresses in a path of sysfs, from the root port down."""
    return tuple(re.findall(rf"(?<=/){ADDRESS}(?![^/])", path))


def address_of(host: Host, subject: Subject) -> str:
    """Return the address of the PCI function that a subject ("pci", "nic", "block") is or sits on; "" where there is none."""
    if subject.kind == "pci":
        address = subject.name.lower()
        address = address if re.fullmatch(ADDRESS, address) else f"0000:{address}"
        return address if re.fullmatch(ADDRESS, address) and host.exists(f"{DEVICES}/{address}") else ""
    folder = {"nic": "/sys/class/net", "block": "/sys/block"}[subject.kind]
    # A name space of NVMe with several paths sits on none of them; its controllers are behind it.
    places = [f"{folder}/{subject.name}", f"{folder}/{subject.name}/device"]
    places += [f"{places[1]}/{name}" for name in _names(host, places[1]) if re.fullmatch(r"nvme\d+", name)]
    return next((found[-1] for place in places if (found := addresses_in(_target(host, place)))), "")


def capabilities(config: bytes) -> dict[int, int]:
    """Return the offset of the first capability of each id; of a damaged list what comes before the damage."""
    found: dict[int, int] = {}
    if len(config) <= _HEADER or config[:2] == b"\xff\xff" or not config[0x06] & 0x10:
        return found
    at = config[0x14 if config[0x0E] & 0x7F == 2 else 0x34]
    for _ in range(_MOST_CAPABILITIES):
        at &= 0xFC
        if not _HEADER <= at <= min(len(config), 256) - 2 or config[at] == 0xFF:
            break
        found.setdefault(config[at], at)
        at = config[at + 1]
    return found


def parse_express(address: str, config: bytes) -> Express | None:
    """Return the PCI Express capability in a configuration space; None where there is none, or not whole."""
    offset = capabilities(config).get(_EXPRESS)
    if offset is None:
        return None
    registers = config[offset : min(offset + _SIZE, 256)]
    if len(registers) < _SHORTEST:
        return None
    found = Express(address, offset, registers.ljust(_SIZE, b"\0"))
    return found if len(registers) == _SIZE or found.version < 2 else None


def express(host: Host, address: str) -> Express:
    """Return the PCI Express capability of a function as it is now.

    Raises:
        NotFoundError: there is no such function.
        NotPermittedError: the kernel shows this user only the first 64 bytes.
        UnsupportedError: it has no such capability, or does not answer.
    """
    config = host.read_bytes(f"{DEVICES}/{address}/config")
    if config[:2] == b"\xff\xff":
        raise UnsupportedError(f"{address} does not answer: asleep, or gone", subject=address)
    if len(config) <= _HEADER:
        raise NotPermittedError(
            f"the kernel shows 64 bytes of the configuration space of {address}",
            subject=address,
            remedy="run it as root",
        )
    found = parse_express(address, config)
    if found is None:
        raise UnsupportedError(f"{address} has no PCI Express capability", subject=address)
    return found


def set_field(host: Host, address: str, field: Field, value: int) -> None:
    """Set one field, the rest of its register as it is read at this moment.

    Raises:
        HostError: see ``express``; it has no such field; the kernel's refusal: NotPermittedError under lockdown.
    """
    found = express(host, address)
    if not found.has(field):
        raise UnsupportedError(f"{address} has no register {field.register:#x} in its capability", subject=address)
    word = found.word(field.register)
    acts = 0 if found.port_type == _TO_PCI else _ACTS.get(field.register, 0)  # there it is another bit, which stays
    wanted = field.put(word & ~acts, value)
    offset = found.offset + field.register
    host.write_bytes(f"{DEVICES}/{address}/config", struct.pack("<H", wanted), offset=offset)


@dataclass(frozen=True, slots=True)
class Link:
    """The functions at the two ends of a link."""

    upper: Express
    lower: tuple[Express, ...]
    """Those of one device, function 0 first; none for an empty slot."""

    @property
    def speeds(self) -> tuple[int, ...]:
        """Codes of the speeds that both ends support."""
        return tuple(code for code in self.upper.speeds if all(code in end.speeds for end in self.lower[:1]))

    @property
    def ends(self) -> tuple[Express, ...]:
        """Both ends, the upper one first."""
        return (self.upper, *self.lower)


def link_of(host: Host, address: str) -> Link:
    """Return the link that a function is an end of.

    Raises:
        HostError: see ``express``; UnsupportedError: it is an end of none.
    """
    own = express(host, address)
    port = address if own.is_above else parent_of(host, address) if own.is_below else ""
    upper = own if own.is_above else express(host, port) if port else None
    if upper is None or not upper.is_above:
        raise UnsupportedError(f"{address} is at no PCI Express link of its own", subject=address)
    lower = [found for name in children_of(host, port) if (found := _express_or_none(host, name)) and found.is_below]
    return Link(upper, tuple(lower))


def parent_of(host: Host, address: str) -> str:
    """Return the address of the bridge or port that a function is behind; "" at the root."""
    return "".join(addresses_in(_target(host, f"{DEVICES}/{address}"))[-2:-1])


def children_of(host: Host, address: str) -> tuple[str, ...]:
    """Return the functions right behind a bridge or port, virtual functions left out."""
    names = (name for name in _names(host, f"{DEVICES}/{address}") if re.fullmatch(ADDRESS, name))
    return tuple(name for name in names if not is_virtual(host, name))


def is_virtual(host: Host, address: str) -> bool:
    """Tell whether a function is an SR-IOV virtual one: it has the physical one's link and limits."""
    return host.exists(f"{DEVICES}/{address}/physfn")


def retrain(host: Host, port: str) -> None:
    """Train the link below a port again, so that its ends agree on a speed; transfers wait for milliseconds.

    Raises:
        HostError: the link is not up after a second.
    """
    _await_trained(host, port)
    set_field(host, port, RETRAIN, 1)
    _await_trained(host, port)


def _await_trained(host: Host, port: str) -> None:
    for _ in range(round(_TRAINING_LIMIT_S / _POLL_S)):
        if not express(host, port).is_training:
            return
        host.sleep(_POLL_S)
    if express(host, port).is_training:
        raise HostError(f"the link below {port} is not up after {_TRAINING_LIMIT_S:g} s of training", subject=port)


def _express_or_none(host: Host, address: str) -> Express | None:
    try:
        return express(host, address)
    except UnsupportedError:
        return None


def _target(host: Host, path: str) -> str:
    try:
        return host.read_link(path)
    except HostError:
        return ""


def _names(host: Host, path: str) -> list[str]:
    try:
        return host.list_dir(path)
    except NotFoundError:
        return []
