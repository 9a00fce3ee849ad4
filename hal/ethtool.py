"""What ethtool sets: queues, rings, interrupt coalescing and features; through generic netlink, or ioctl where a kernel lacks that.

Netlink came with 5.6 to 5.7 and tells more: which coalescing a driver has at all, and in words why a value was refused.
Numbers of commands and attributes: include/uapi/linux/ethtool_netlink.h. Failures are ``OSError``; ``hal.netlink_linux`` names them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from pyroute2.ethtool import ioctl
from pyroute2.netlink import CTRL_CMD_GETFAMILY, GENL_ID_CTRL, ctrlmsg, genlmsg
from pyroute2.netlink.generic.ethtool import ethtoolbitset, ethtoolheader

from hal import netlink_socket as line
from hal.netlink import CHANNELS, COALESCING, RINGS, SWITCHES, Amounts, Feature

_FEATURES_GET, _FEATURES_SET, _RINGS_GET, _RINGS_SET = 11, 12, 15, 16
_CHANNELS_GET, _CHANNELS_SET, _COALESCE_GET, _COALESCE_SET = 17, 18, 19, 20
_OMIT_REPLY = 1 << 1

# From ethtool's names to those of struct ethtool_coalesce in pyroute2, which knows what is older than netlink.
_OLD_COALESCE = {
    "rx-usecs": "rx_coalesce_usecs",
    "rx-frames": "rx_max_coalesced_frames",
    "rx-usecs-irq": "rx_coalesce_usecs_irq",
    "rx-frames-irq": "rx_max_coalesced_frames_irq",
    "tx-usecs": "tx_coalesce_usecs",
    "tx-frames": "tx_max_coalesced_frames",
    "tx-usecs-irq": "tx_coalesce_usecs_irq",
    "tx-frames-irq": "tx_max_coalesced_frames_irq",
    "stats-block-usecs": "stats_block_coalesce_usecs",
    "adaptive-rx": "use_adaptive_rx_coalesce",
    "adaptive-tx": "use_adaptive_tx_coalesce",
    "pkt-rate-low": "pkt_rate_low",
    "rx-usecs-low": "rx_coalesce_usecs_low",
    "rx-frames-low": "rx_max_coalesced_frames_low",
    "tx-usecs-low": "tx_coalesce_usecs_low",
    "tx-frames-low": "tx_max_coalesced_frames_low",
    "pkt-rate-high": "pkt_rate_high",
    "rx-usecs-high": "rx_coalesce_usecs_high",
    "rx-frames-high": "rx_max_coalesced_frames_high",
    "tx-usecs-high": "tx_coalesce_usecs_high",
    "tx-frames-high": "tx_max_coalesced_frames_high",
    "sample-interval": "rate_sample_interval",
}


class _Message(genlmsg):  # type: ignore[misc]
    ethtoolheader = ethtoolheader
    ethtoolbitset = ethtoolbitset


class _Channels(_Message):
    nla_map = (
        ("unspecified", "none"),
        ("header", "ethtoolheader"),
        *((f"{name}-max", "uint32") for name in CHANNELS),
        *((name, "uint32") for name in CHANNELS),
    )


class _Rings(_Message):
    nla_map = (
        ("unspecified", "none"),
        ("header", "ethtoolheader"),
        *((f"{name}-max", "uint32") for name in RINGS),
        *((name, "uint32") for name in RINGS),
    )


class _Coalescing(_Message):
    nla_map = (
        ("unspecified", "none"),
        ("header", "ethtoolheader"),
        *((name, "uint8" if name in SWITCHES else "uint32") for name in COALESCING),
    )


class _Features(_Message):
    nla_map = (
        ("unspecified", "none"),
        ("header", "ethtoolheader"),
        *((name, "ethtoolbitset") for name in ("hardware", "wanted", "active", "fixed")),
    )


class Ethtool:
    """Reads and sets; ``netlink`` False makes it use ioctl alone, as on a kernel without the rest."""

    def __init__(self, *, netlink: bool = True) -> None:
        self._family = None if netlink else 0

    def channels(self, name: str) -> Amounts:
        """Return numbers of queues."""
        return self._either(
            lambda: _amounts(self._ask(_Channels, _CHANNELS_GET, name), CHANNELS), lambda: _old_channels(name)
        )

    def set_channels(self, name: str, counts: Mapping[str, int]) -> None:
        """Set numbers of queues."""
        self._either(
            lambda: self._change(_Channels, _CHANNELS_SET, name, counts),
            lambda: _set_old(name, "channels", {f"{key}_count": value for key, value in counts.items()}),
        )

    def rings(self, name: str) -> Amounts:
        """Return numbers of descriptors."""
        return self._either(lambda: _amounts(self._ask(_Rings, _RINGS_GET, name), RINGS), lambda: _old_rings(name))

    def set_rings(self, name: str, sizes: Mapping[str, int]) -> None:
        """Set numbers of descriptors."""
        self._either(
            lambda: self._change(_Rings, _RINGS_SET, name, sizes),
            lambda: _set_old(name, "rings", {key.replace("-", "_"): value for key, value in sizes.items()}),
        )

    def coalescing(self, name: str) -> dict[str, int]:
        """Return coalescing parameters."""

        def asked() -> dict[str, int]:
            found = self._ask(_Coalescing, _COALESCE_GET, name)
            return {key: int(value) for key in COALESCING if (value := found.get_attr(key)) is not None}

        return self._either(asked, lambda: _old_coalescing(name))

    def set_coalescing(self, name: str, values: Mapping[str, int]) -> None:
        """Set coalescing parameters."""
        self._either(
            lambda: self._change(_Coalescing, _COALESCE_SET, name, values),
            lambda: _set_old(name, "coalesce", {_OLD_COALESCE[key]: value for key, value in values.items()}),
        )

    def features(self, name: str) -> dict[str, Feature]:
        """Return features."""
        return self._either(lambda: _features(self._ask(_Features, _FEATURES_GET, name)), lambda: _old_features(name))

    def set_features(self, name: str, wanted: Mapping[str, bool]) -> None:
        """Ask for features."""

        def bit(feature: str, on: bool) -> Any:
            flags = [("ETHTOOL_A_BITSET_BIT_VALUE", True)] if on else []
            return "ETHTOOL_A_BITSET_BITS_BIT", {"attrs": [("ETHTOOL_A_BITSET_BIT_NAME", feature), *flags]}

        bits = {"attrs": [bit(feature, on) for feature, on in wanted.items()]}
        self._either(
            lambda: self._change(
                _Features, _FEATURES_SET, name, {"wanted": {"attrs": [("ETHTOOL_A_BITSET_BITS", bits)]}}
            ),
            lambda: _set_old_features(name, wanted),
        )

    def _either[T](self, by_netlink: Callable[[], T], by_ioctl: Callable[[], T]) -> T:
        """Use netlink, or ioctl where this kernel has no netlink for it; a driver that lacks it says so to both."""
        if self._family != 0:
            try:
                return by_netlink()
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
        return _by_ioctl(by_ioctl)

    def _ask(self, kind: Any, command: int, name: str) -> Any:
        return line.ask(line.GENERIC, _message(kind, command, name, {}), self._number())[0]

    def _change(self, kind: Any, command: int, name: str, values: Mapping[str, Any]) -> None:
        line.change(line.GENERIC, _message(kind, command, name, values), self._number())

    def _number(self) -> int:
        """Return the number by which this kernel knows the family "ethtool".

        Raises:
            OSError: EOPNOTSUPP when it has none.
        """
        if self._family is None:
            question = ctrlmsg()
            question["cmd"] = CTRL_CMD_GETFAMILY
            question["version"] = 1
            question["attrs"].append(("CTRL_ATTR_FAMILY_NAME", "ethtool"))
            try:
                answer = line.ask(line.GENERIC, question, GENL_ID_CTRL)[0]
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise OSError(errno.EOPNOTSUPP, "no ethtool netlink") from error
                raise
            self._family = int(answer.get_attr("CTRL_ATTR_FAMILY_ID"))
        return self._family


def _message(kind: Any, command: int, name: str, values: Mapping[str, Any]) -> Any:
    message = kind()
    message["cmd"] = command
    message["version"] = 1
    header = [("ETHTOOL_A_HEADER_DEV_NAME", name), ("ETHTOOL_A_HEADER_FLAGS", _OMIT_REPLY)]
    message["attrs"] = [("header", {"attrs": header}), *values.items()]
    return message


def _amounts(found: Any, names: tuple[str, ...]) -> Amounts:
    most = {name: int(found.get_attr(f"{name}-max") or 0) for name in names}
    return Amounts({name: int(found.get_attr(name) or 0) for name in names}, most)


def _features(found: Any) -> dict[str, Feature]:
    hardware, wanted, active, fixed = (
        _bits(found.get_attr(name)) for name in ("hardware", "wanted", "active", "fixed")
    )
    changeable = {name for name, on in hardware.items() if on} - set(fixed)
    return {name: Feature(name in active, name in wanted, name in changeable) for name in hardware if name}


def _bits(bitset: Any) -> dict[str, bool]:
    """Return the bits of a set by name; with a mask all of them and whether each is on, else those that are on."""
    bits = bitset.get_attr("ETHTOOL_A_BITSET_BITS") if bitset is not None else None
    listed = bits.get_attrs("ETHTOOL_A_BITSET_BITS_BIT") if bits is not None else []
    return {b.get_attr("ETHTOOL_A_BITSET_BIT_NAME"): bool(b.get_attr("ETHTOOL_A_BITSET_BIT_VALUE")) for b in listed}


# --- the older way


def _by_ioctl[T](work: Callable[[], T]) -> T:
    try:
        return work()
    except ioctl.NotSupportedError as error:
        raise OSError(errno.EOPNOTSUPP, "its driver does not have it") from error
    except ioctl.NoSuchDevice as error:
        raise OSError(errno.ENODEV, "no such interface") from error


def _open(name: str) -> Any:
    return ioctl.IoctlEthtool(name)


def _old(name: str, what: str) -> Any:
    tool = _open(name)
    try:
        return getattr(tool, f"get_{what}")()
    finally:
        tool.close()


def _set_old(name: str, what: str, values: Mapping[str, int]) -> None:
    tool = _open(name)
    try:
        found = getattr(tool, f"get_{what}")()
        for key, value in values.items():
            found[key] = value
        getattr(tool, f"set_{what}")(found)
    finally:
        tool.close()


def _old_channels(name: str) -> Amounts:
    found = _old(name, "channels")
    return Amounts({key: found[f"{key}_count"] for key in CHANNELS}, {key: found[f"max_{key}"] for key in CHANNELS})


def _old_rings(name: str) -> Amounts:
    found = _old(name, "rings")
    fields = {key: key.replace("-", "_") for key in RINGS}
    return Amounts(
        {key: found[field] for key, field in fields.items()},
        {key: found[f"{field}_max"] for key, field in fields.items()},
    )


def _old_coalescing(name: str) -> dict[str, int]:
    """Return what is not 0: ioctl does not tell apart what a driver does not have."""
    found = _old(name, "coalesce")
    return {
        key: int(found[field])
        for key, field in _OLD_COALESCE.items()
        if found[field] or key in ("rx-usecs", "tx-usecs")
    }


def _old_features(name: str) -> dict[str, Feature]:
    found = _old(name, "features")
    return {
        key: Feature(
            found.is_active(key), found.is_requested(key), found.is_available(key) and not found.is_never_changed(key)
        )
        for key in found.keys()  # noqa: SIM118 (iterating it yields more than the names)
        if key
    }


def _set_old_features(name: str, wanted: Mapping[str, bool]) -> None:
    tool = _open(name)
    try:
        found = tool.get_features()
        for key, on in wanted.items():
            if key in found:
                found[key] = on
        tool.set_features(found)
    finally:
        tool.close()
