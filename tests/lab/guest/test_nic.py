"""A network card with virtual functions, on an emulated Intel 82576; ip, tc and ethtool are the witnesses.

What needs no card but kinds of interface that few small kernels have is tested again from ``tests/real``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hal.apply import apply
from hal.errors import SettingError
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Setting, Subject
from hal.undo import undo
from tests.real.namespaces import namespace, talk
from tests.real.test_knobs_nic import TestVirtualInterfaces as Virtual
from tests.real.test_knobs_nic import pair, place  # noqa: F401 (fixtures)

HOST = LinuxHost()
CARD = Subject("nic", "eth0")
NUMBER = "/sys/class/net/eth0/device/sriov_numvfs"
MACS = ("02:00:00:00:00:a0", "02:00:00:00:00:a1")


def output(line: str) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def shown(line: str) -> Any:
    return json.loads(output(line))


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def is_up(name: str = "eth0") -> bool:
    return bool(shown(f"ip -j link show {name}")[0]["operstate"] == "UP")


@pytest.fixture(autouse=True)
def card() -> Iterator[None]:
    """The card, up."""
    output("ip link set eth0 up")
    eventually(is_up, "the card does not come up")
    yield
    left = HOST.read_text(NUMBER)
    if left != "0\n":
        HOST.write_text(NUMBER, "0")
    assert left == "0\n", "a test left virtual functions"


def change(folder: Path, *settings: tuple[str, Subject, str]) -> str:
    wanted = [Setting(knob, subject, knob_of(knob).parse(text)) for knob, subject, text in settings]
    return apply(make_plan(HOST, wanted), HOST, Journal(folder)).identity


def take_back(folder: Path, identity: str) -> None:
    undone = undo(HOST, Journal(folder), identity)
    assert not undone.failed
    assert not undone.kept


def interfaces() -> list[str]:
    return [link["ifname"] for link in shown("ip -j link show")]


def made() -> list[str]:
    """Return the interfaces of the virtual functions."""
    base = Path("/sys/class/net/eth0/device")
    folders = sorted(base.glob("virtfn*/net"))
    return [name.name for folder in folders for name in folder.iterdir()]


def start_drivers_anew() -> None:
    """Let the functions' drivers see what was set since they started, as a virtual machine that starts later would."""
    for function in sorted(Path("/sys/class/net/eth0/device").glob("virtfn*")):
        driver = (function / "driver").resolve()
        for word in ("unbind", "bind"):
            (driver / word).write_text(function.resolve().name)


def test_functions_appear_carry_traffic_between_namespaces_and_go_again(tmp_path: Path) -> None:
    before = interfaces()
    functions = [(f"eth0/vf{n}", f"mac={mac}") for n, mac in enumerate(MACS)]
    done = change(
        tmp_path, ("nic.sriov", CARD, "2"), *(("nic.vf", Subject("vf", name), mac) for name, mac in functions)
    )
    assert interfaces() == [*before, *made()]
    eventually(is_up, "the card does not come up with its functions")
    start_drivers_anew()
    first, second = made()
    with namespace() as here, namespace() as there:
        for name, home, address in ((first, here, "10.78.0.1/24"), (second, there, "10.78.0.2/24")):
            output(f"ip link set {name} netns {home.thread}")
            home.address(name, address)
        assert "another network namespace" in knob_of("nic.sriov").keep(HOST, Subject("pci", "0000:21:00.0"))
        assert [home.ip(f"link show {n}")[0]["address"] for home, n in ((here, first), (there, second))] == list(MACS)
        for home, name in ((here, first), (there, second)):
            eventually(lambda home=home, name=name: home.ip(f"link show {name}")[0]["operstate"] == "UP", "no carrier")  # type: ignore[misc]
        assert talk(here, there, "10.78.0.2") > 0
        for home, name in ((here, first), (there, second)):
            home.command(f"ip link set {name} netns 1")
    take_back(tmp_path, done)
    assert interfaces() == before


def test_what_the_card_enforces_on_a_function(tmp_path: Path) -> None:
    done = change(tmp_path, ("nic.sriov", CARD, "1"))
    eventually(is_up, "the card does not come up with its function")
    before = shown("ip -j -d link show eth0")[0]["vfinfo_list"]
    text = "mac=02:00:00:00:00:0a vlan=7 qos=3 max-rate=100 spoofcheck=off trust=on"
    second = change(tmp_path, ("nic.vf", Subject("vf", "eth0/vf0"), text))
    (seen,) = shown("ip -j -d link show eth0")[0]["vfinfo_list"]
    assert (seen["address"], seen["vlan_list"][0]["vlan"], seen["vlan_list"][0]["qos"]) == ("02:00:00:00:00:0a", 7, 3)
    assert (seen["rate"]["max_tx"], seen["spoofchk"], seen["trust"]) == (100, False, True)
    take_back(tmp_path, second)
    assert shown("ip -j -d link show eth0")[0]["vfinfo_list"] == before
    take_back(tmp_path, done)


def test_a_function_with_an_address_is_left(tmp_path: Path) -> None:
    done = change(tmp_path, ("nic.sriov", CARD, "1"))
    (name,) = made()
    output(f"ip address add 10.78.1.1/24 dev {name}")
    with pytest.raises(SettingError, match=r"10\.78\.1\.1"):
        make_plan(HOST, [Setting("nic.sriov", CARD, 2)])
    assert "10.78.1.1" in undo(HOST, Journal(tmp_path), done).kept[0].left
    output(f"ip address del 10.78.1.1/24 dev {name}")
    assert change(tmp_path, ("nic.sriov", CARD, "2"))  # by way of none
    assert len(made()) == 2
    change(tmp_path, ("nic.sriov", CARD, "0"))


def ethtool(option: str) -> list[str]:
    if not shutil.which("ethtool"):
        pytest.skip("there is no ethtool to compare with: apt install ethtool")
    return ["".join(line.split()) for line in output(f"ethtool {option} eth0").splitlines()]


def test_queues_and_what_is_set_on_them(tmp_path: Path) -> None:
    done = change(tmp_path, ("nic.queues", CARD, "4"))
    assert [line for line in ethtool("-l") if line.startswith("Combined")] == ["Combined:8", "Combined:4"]
    second = change(tmp_path, ("nic.rps", CARD, "2-3"), ("nic.xps", Subject("queue", "eth0/tx-1"), "4,6"))
    queues = Path("/sys/class/net/eth0/queues")
    assert {int(one.read_text(), 16) for one in queues.glob("rx-*/rps_cpus")} == {0b1100}
    assert int((queues / "tx-1/xps_cpus").read_text(), 16) == 0b1010000
    take_back(tmp_path, second)
    assert {int(one.read_text(), 16) for one in queues.glob("rx-*/rps_cpus")} == {0}
    take_back(tmp_path, done)
    assert len(list(queues.glob("rx-*"))) == 8


def test_rings_and_coalescing(tmp_path: Path) -> None:
    before = ethtool("-g"), ethtool("-c")
    done = change(tmp_path, ("nic.rings", CARD, "rx=512"), ("nic.coalesce", CARD, "rx-usecs=50"))
    assert [line for line in ethtool("-g") if line.startswith(("RX:", "TX:"))] == [
        "RX:4096",
        "TX:4096",
        "RX:512",
        "TX:256",
    ]
    assert [line for line in ethtool("-c") if line.startswith("rx-usecs:")] == ["rx-usecs:50"]
    take_back(tmp_path, done)
    assert (ethtool("-g"), ethtool("-c")) == before


def test_a_value_that_the_driver_rounds_is_taken_back(tmp_path: Path) -> None:
    before = ethtool("-g")
    with pytest.raises(Exception, match="driver rounds"):
        change(tmp_path, ("nic.rings", CARD, "rx=500 tx=1001"))
    assert ethtool("-g") == before


@pytest.mark.parametrize("text", ["mq fq limit=5000 quantum=3000", "fq_codel target=5000 limit=3000", "pfifo limit=9"])
def test_qdiscs_and_the_default_again(tmp_path: Path, text: str) -> None:
    done = change(tmp_path, ("nic.qdisc", CARD, text))
    own = [one for one in shown("tc -j qdisc show dev eth0") if one["kind"] == text.replace("mq ", "").split()[0]]
    assert len(own) == (8 if text.startswith("mq") else 1)
    limit = next(word for word in text.split() if word.startswith("limit="))
    assert {one["options"]["limit"] for one in own} == {int(limit.removeprefix("limit="))}
    take_back(tmp_path, done)
    assert shown("tc -j qdisc show dev eth0")[0]["handle"] == "0:"


def test_a_qdisc_that_somebody_set_comes_back_to_the_microsecond(tmp_path: Path) -> None:
    output("tc qdisc replace dev eth0 root handle 1: fq_codel target 3ms interval 60ms limit 1234 noecn")
    try:
        before = output("tc qdisc show dev eth0")
        done = change(tmp_path, ("nic.qdisc", CARD, "fq"))
        assert "qdisc fq " in output("tc qdisc show dev eth0")
        take_back(tmp_path, done)
        assert output("tc qdisc show dev eth0") == before
    finally:
        output("tc qdisc del dev eth0 root")


def test_the_rest_of_a_real_card(tmp_path: Path) -> None:
    switches = ("nic.rx_hash", "nic.rx_vlan", "nic.gro", "nic.tso", "nic.threaded")
    before = {name: knob_of(name).read(HOST, CARD) for name in switches}
    values = [(name, CARD, "off" if before[name] else "on") for name in switches]
    done = change(tmp_path, *values, ("nic.mtu", CARD, "4000"))
    assert shown("ip -j link show eth0")[0]["mtu"] == 4000
    assert all(knob_of(name).read(HOST, CARD) != before[name] for name in switches)
    take_back(tmp_path, done)
    assert {name: knob_of(name).read(HOST, CARD) for name in switches} == before


@pytest.mark.parametrize(
    "test",
    [
        Virtual.test_an_ipvlan_carries_traffic_and_goes_again,
        Virtual.test_a_vlan_carries_traffic_and_goes_again,
        Virtual.test_a_macvlan_carries_traffic_and_goes_again,
        Virtual.test_a_veth_carries_traffic_between_namespaces_and_goes_again,
    ],
    ids=lambda test: test.__name__,
)
def test_virtual_interfaces(request: pytest.FixtureRequest, tmp_path: Path, test: Callable[..., None]) -> None:
    where = "place" if "veth" in test.__name__ else "pair"
    test(Virtual(), request.getfixturevalue(where), tmp_path)
