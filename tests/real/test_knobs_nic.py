"""Network interfaces of the running kernel, in namespaces of the tests' own; ip, tc and ethtool are the witnesses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.apply import apply
from hal.errors import ChangeFailedError, HostError, NotFoundError, SettingError
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.netlink import ROOT, Link, NewLink, Qdisc
from hal.netlink_linux import LinuxNet
from hal.planning import make_plan
from hal.settings import SYSTEM, Plan, Setting, Subject, Value
from hal.undo import undo
from tests.real.namespaces import Namespace, namespace, talk

pytestmark = pytest.mark.root
HOST = LinuxHost()
NET = HOST.net()


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as one:
        yield one


@pytest.fixture
def pair(place: Namespace) -> Namespace:
    """A namespace with a veth of two queues each way, both ends up."""
    place.command("ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 numrxqueues 2 numtxqueues 2")
    place.command("ip link set v0 up")
    place.command("ip link set v1 up")
    return place


def nic(name: str) -> Subject:
    return Subject("nic", name)


def planned(place: Namespace, knob: str, subject: Subject, text: str) -> Plan:
    return place.run(make_plan, HOST, [Setting(knob, subject, knob_of(knob).parse(text))])


def change(place: Namespace, folder: Path, knob: str, subject: Subject, text: str) -> str:
    """Apply one setting; return the transaction."""
    return place.run(apply, planned(place, knob, subject, text), HOST, Journal(folder)).identity


def take_back(place: Namespace, folder: Path, identity: str) -> None:
    undone = place.run(undo, HOST, Journal(folder), identity)
    assert not undone.failed
    assert not undone.kept


def names(place: Namespace) -> set[str]:
    return {link["ifname"] for link in place.ip("link show")}


def make(place: Namespace, folder: Path, name: str, text: str) -> str:
    """Make a virtual interface; skip where this kernel has not the kind."""
    try:
        return change(place, folder, "nic.virtual", nic(name), text)
    except ChangeFailedError as error:
        if "Unknown device type" in str(error):
            kind = text.partition(" ")[0]
            pytest.skip(
                f"this kernel has no {kind}: one with CONFIG_{'VLAN_8021Q' if kind == 'vlan' else kind.upper()}"
            )
        raise


class TestVirtualInterfaces:
    def test_a_veth_carries_traffic_between_namespaces_and_goes_again(self, place: Namespace, tmp_path: Path) -> None:
        done = make(place, tmp_path, "v0", "veth peer=v1 mac=02:00:00:00:00:11 mtu=1400 up=on")
        seen = {link["ifname"]: link for link in place.ip("link show")}
        assert seen["v0"]["address"] == "02:00:00:00:00:11"
        assert seen["v0"]["mtu"] == seen["v1"]["mtu"] == 1400
        assert "UP" in seen["v0"]["flags"]
        assert "UP" not in seen["v1"]["flags"]
        with namespace() as other:
            other.take("v1", place)
            place.address("v0", "10.77.0.1/24")
            other.address("v1", "10.77.0.2/24")
            assert talk(place, other, "10.77.0.2") > 0
            take_back(place, tmp_path, done)
            assert names(place) == {"lo"}
            assert names(other) == {"lo"}

    def test_a_macvlan_carries_traffic_and_goes_again(self, pair: Namespace, tmp_path: Path) -> None:
        before = names(pair)
        done = make(pair, tmp_path, "m0", "macvlan link=v0 mode=bridge up=on")
        seen = pair.ip("link show m0")[0]
        assert (seen["link"], seen["linkinfo"]["info_data"]["mode"]) == ("v0", "bridge")
        assert "UP" in seen["flags"]
        with namespace() as other:
            other.take("v1", pair)
            pair.address("m0", "10.77.1.1/24")
            other.address("v1", "10.77.1.2/24")
            assert talk(pair, other, "10.77.1.2") > 0
            pair.take("v1", other)
            pair.command("ip link set v1 up")
        take_back(pair, tmp_path, done)
        assert names(pair) == before

    def test_a_macvlan_changes_its_mode_and_back(self, pair: Namespace, tmp_path: Path) -> None:
        make(pair, tmp_path, "m0", "macvlan link=v0 mode=bridge mac=02:00:00:00:00:21")
        done = change(
            pair, tmp_path, "nic.virtual", nic("m0"), "macvlan link=v0 mode=private mac=02:00:00:00:00:22 up=on"
        )
        link = pair.run(NET.link, "m0")
        assert (link.mode, link.mac, link.is_up) == ("private", "02:00:00:00:00:22", True)
        assert pair.ip("link show m0")[0]["linkinfo"]["info_data"]["mode"] == "private"
        take_back(pair, tmp_path, done)
        link = pair.run(NET.link, "m0")
        assert (link.mode, link.mac, link.is_up) == ("bridge", "02:00:00:00:00:21", False)

    def test_an_ipvlan_carries_traffic_and_goes_again(self, pair: Namespace, tmp_path: Path) -> None:
        done = make(pair, tmp_path, "i0", "ipvlan link=v0 mode=l2 up=on")
        assert pair.ip("link show i0")[0]["linkinfo"]["info_data"]["mode"] == "l2"
        for text in ("macvlan link=v0", "ipvlan link=v0 mode=l3"):
            with pytest.raises(SettingError, match="i0"):
                planned(pair, "nic.virtual", nic("x0"), text)
        with namespace() as other:
            other.take("v1", pair)
            pair.address("i0", "10.77.3.1/24")
            other.address("v1", "10.77.3.2/24")
            assert talk(pair, other, "10.77.3.2") > 0
            take_back(pair, tmp_path, done)
        assert "i0" not in names(pair)

    def test_a_vlan_carries_traffic_and_goes_again(self, pair: Namespace, tmp_path: Path) -> None:
        done = make(pair, tmp_path, "v0.7", "vlan link=v0 id=7 up=on")
        assert pair.ip("link show v0.7")[0]["linkinfo"]["info_data"]["id"] == 7
        with pytest.raises(SettingError, match=r"v0\.7 is VLAN 7"):
            planned(pair, "nic.virtual", nic("other"), "vlan link=v0 id=7")
        with namespace() as other:
            other.take("v1", pair)
            other.command("ip link set v1 up")
            other.command("ip link add link v1 name w7 type vlan id 7")
            pair.address("v0.7", "10.77.2.1/24")
            other.address("w7", "10.77.2.2/24")
            assert talk(pair, other, "10.77.2.2") > 0
            take_back(pair, tmp_path, done)
        assert "v0.7" not in names(pair)

    def test_one_that_was_removed_comes_back_as_it_was(self, place: Namespace, tmp_path: Path) -> None:
        make(place, tmp_path, "v0", "veth peer=v1 mac=02:00:00:00:00:31 mtu=1300 peer-mtu=1200 up=on peer-up=on")
        before = place.run(lambda: [as_set(link) for link in NET.links()])
        done = change(place, tmp_path, "nic.virtual", nic("v0"), "absent")
        assert names(place) == {"lo"}
        take_back(place, tmp_path, done)
        assert sorted(place.run(lambda: [as_set(link) for link in NET.links()])) == sorted(before)

    def test_what_others_rely_on_is_left(self, place: Namespace, tmp_path: Path) -> None:
        done = make(place, tmp_path, "v0", "veth peer=v1")
        make(place, tmp_path, "m0", "macvlan link=v1")
        with pytest.raises(SettingError, match="m0 sits on v1"):
            planned(place, "nic.virtual", nic("v0"), "absent")
        kept = place.run(undo, HOST, Journal(tmp_path), done).kept
        assert [step.left for step in kept] == ["m0 sits on v1"]
        assert names(place) == {"lo", "v0", "v1", "m0"}

    def test_macvlans_do_not_stack(self, pair: Namespace, tmp_path: Path) -> None:
        make(pair, tmp_path, "m0", "macvlan link=v0")
        with pytest.raises(SettingError, match="put on v0") as caught:
            planned(pair, "nic.virtual", nic("m1"), "macvlan link=m0")
        assert "link=v0" in caught.value.remedy

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("v0", "veth peer=other", "already"),
            ("x0", "veth peer=v1", "already"),
            ("x0", "macvlan link=nowhere", "no network interface nowhere"),
            ("sixteen-letters-", "macvlan link=v0", "cannot be the name"),
            ("a/b", "macvlan link=v0", "cannot be the name"),
            ("lo", "absent", "a driver made"),
        ],
    )
    def test_nonsense_is_refused_before_anything_is_written(
        self, pair: Namespace, name: str, text: str, words: str
    ) -> None:
        before = pair.run(lambda: [as_set(link) for link in NET.links()])
        with pytest.raises(SettingError, match=words) as caught:
            planned(pair, "nic.virtual", nic(name), text)
        assert caught.value.remedy
        assert pair.run(lambda: [as_set(link) for link in NET.links()]) == before

    def test_a_bridge_is_not_ours_to_remove(self, pair: Namespace) -> None:
        pair.command("ip link add br0 type bridge")
        pair.command("ip link set v0 master br0")
        for name in ("br0", "v0"):
            with pytest.raises(SettingError):
                planned(pair, "nic.virtual", nic(name), "absent")

    def test_an_end_elsewhere_cannot_be_made_again(self, pair: Namespace) -> None:
        with namespace() as other:
            other.take("v1", pair)
            with pytest.raises(SettingError, match="another network namespace"):
                planned(pair, "nic.virtual", nic("v0"), "absent")


def as_set(link: Link) -> tuple[str, str, str, int, bool, str]:
    return link.name, link.kind, link.mac, link.mtu, link.is_up, link.parent


CHANGES: list[tuple[str, Subject, str]] = [
    ("nic.mtu", nic("v0"), "1400"),
    ("nic.txqueuelen", nic("v0"), "500"),
    ("nic.gro_flush_timeout", nic("v0"), "20000"),
    ("nic.napi_defer_hard_irqs", nic("v0"), "2"),
    ("nic.queues", nic("v0"), "rx=2 tx=1"),
    ("nic.gro", nic("v0"), "on"),
    ("nic.gro_list", nic("v0"), "on"),
    ("nic.gro_udp", nic("v0"), "on"),
    ("nic.gso", nic("v0"), "off"),
    ("nic.tso", nic("v0"), "off"),
    ("nic.tso", nic("v0"), "tx-tcp-segmentation"),
    ("nic.gso_udp", nic("v0"), "off"),
    ("nic.scatter_gather", nic("v0"), "off"),
    ("nic.tx_checksum", nic("v0"), "off"),
    ("nic.rx_checksum", nic("v0"), "off"),
    ("nic.rx_vlan", nic("v0"), "off"),
    ("nic.tx_vlan", nic("v0"), "off"),
    ("nic.nocache_copy", nic("v0"), "on"),
    ("nic.qdisc", nic("v0"), "pfifo limit=77"),
    ("nic.qdisc", nic("v0"), "pfifo_fast handle=1"),
    ("nic.rps", Subject("queue", "v0/rx-1"), "0"),
    ("nic.xps", Subject("queue", "v0/tx-1"), "0"),
    ("nic.rfs", Subject("queue", "v0/rx-0"), "100"),
]


@pytest.mark.parametrize(("knob", "subject", "text"), CHANGES, ids=str)
def test_read_write_read_undo(pair: Namespace, tmp_path: Path, knob: str, subject: Subject, text: str) -> None:
    one = knob_of(knob)
    old = pair.run(one.read, HOST, subject)
    assert subject in pair.run(lambda: list(one.subjects(HOST)))
    done = change(pair, tmp_path, knob, subject, text)
    assert one.same(one.parse(text), pair.run(one.read, HOST, subject))
    take_back(pair, tmp_path, done)
    assert pair.run(one.read, HOST, subject) == old


def parsed(text: str) -> list[tuple[str, str]]:
    """Return the lines "name: value" of what ethtool prints."""
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]


@pytest.mark.skipif(not shutil.which("ethtool"), reason="there is no ethtool to compare with: apt install ethtool")
class TestAsEthtoolSaysIt:
    def test_features(self, pair: Namespace, tmp_path: Path) -> None:
        change(pair, tmp_path, "nic.tso", nic("v0"), "tx-tcp-segmentation")
        change(pair, tmp_path, "nic.rx_checksum", nic("v0"), "off")
        theirs = dict(parsed(pair.command("ethtool -k v0")))
        ours = pair.run(NET.features, "v0")
        named = {name: feature for name, feature in ours.items() if name in theirs}
        assert len(named) > 20
        for name, feature in named.items():
            assert theirs[name].startswith("on" if feature.on else "off"), name
            assert ("[fixed]" in theirs[name]) == (not feature.changeable), name
        assert theirs["tx-tcp6-segmentation"].startswith("off")

    def test_queues(self, pair: Namespace, tmp_path: Path) -> None:
        change(pair, tmp_path, "nic.queues", nic("v0"), "rx=1 tx=2")
        theirs = parsed(pair.command("ethtool -l v0"))
        assert [value for name, value in theirs if name in ("RX", "TX")] == ["2", "2", "1", "2"]

    def test_the_older_way_tells_the_same(self, pair: Namespace) -> None:
        newer, older = LinuxNet(), LinuxNet(netlink=False)
        assert pair.run(older.channels, "v0") == pair.run(newer.channels, "v0")
        assert pair.run(older.features, "v0") == pair.run(newer.features, "v0")
        pair.run(older.set_channels, "v0", {"rx": 1})
        pair.run(older.set_features, "v0", {"rx-gro": True, "tx-tcp-segmentation": False})
        found = pair.run(newer.features, "v0")
        assert pair.run(newer.channels, "v0").now["rx"] == 1
        assert (found["rx-gro"].on, found["tx-tcp-segmentation"].on) == (True, False)
        with pytest.raises(NotFoundError):
            pair.run(older.channels, "nowhere")


class TestQueueingDisciplines:
    def test_as_tc_says_it(self, pair: Namespace, tmp_path: Path) -> None:
        change(pair, tmp_path, "nic.qdisc", nic("v0"), "pfifo handle=1f limit=77")
        (root,) = json.loads(pair.command("tc -j qdisc show dev v0"))
        assert (root["kind"], root["handle"], root["options"]["limit"]) == ("pfifo", "1f:", 77)

    def test_one_that_somebody_set_comes_back_with_its_options_and_handle(
        self, pair: Namespace, tmp_path: Path
    ) -> None:
        pair.command("tc qdisc replace dev v0 root handle 5: pfifo limit 33")
        before = pair.command("tc qdisc show dev v0")
        done = change(pair, tmp_path, "nic.qdisc", nic("v0"), "pfifo handle=5 limit=44")
        assert "limit 44p" in pair.command("tc qdisc show dev v0")
        take_back(pair, tmp_path, done)
        assert pair.command("tc qdisc show dev v0") == before

    def test_each_sending_queue_gets_its_own(self, pair: Namespace, tmp_path: Path) -> None:
        done = change(pair, tmp_path, "nic.qdisc", nic("v0"), "mq pfifo limit=9")
        found = json.loads(pair.command("tc -j qdisc show dev v0"))
        assert [one["kind"] for one in found if one.get("root")] == ["mq"]
        assert [one["options"]["limit"] for one in found if one["kind"] == "pfifo"] == [9, 9]
        take_back(pair, tmp_path, done)
        assert pair.run(NET.qdiscs, "v0")[0].handle == 0

    def test_what_could_not_be_put_back_is_left(self, pair: Namespace) -> None:
        pair.command("tc qdisc replace dev v0 root handle 1: htb")
        with pytest.raises(SettingError, match="could not put back"):
            planned(pair, "nic.qdisc", nic("v0"), "pfifo")

    def test_a_kind_that_the_kernel_lacks_is_said_and_nothing_changed(self, pair: Namespace, tmp_path: Path) -> None:
        for kind in ("fq", "fq_codel"):
            try:
                done = change(pair, tmp_path, "nic.qdisc", nic("v0"), f"{kind} limit=5000")
            except ChangeFailedError as error:
                assert "qdisc kind is unknown" in str(error)  # noqa: PT017
                assert pair.run(knob_of("nic.qdisc").read, HOST, nic("v0")) == "default"
                continue
            assert f"qdisc {kind} " in pair.command("tc qdisc show dev v0")
            take_back(pair, tmp_path, done)

    def test_a_default_cannot_be_taken_away(self, pair: Namespace) -> None:
        with pytest.raises(NotFoundError):
            pair.run(NET.delete_qdisc, "v0")
        pair.run(knob_of("nic.qdisc").write, HOST, nic("v0"), "default")


class TestTogether:
    def test_features_that_need_each_other_go_and_come_back(self, pair: Namespace, tmp_path: Path) -> None:
        values: dict[str, Value] = {
            "nic.scatter_gather": False,
            "nic.tx_checksum": False,
            "nic.tso": False,
            "nic.gso": False,
        }
        before = pair.run(NET.features, "v0")
        settings = [Setting(knob, nic("v0"), value) for knob, value in values.items()]
        done = pair.run(lambda: apply(make_plan(HOST, settings), HOST, Journal(tmp_path)))
        found = pair.run(NET.features, "v0")
        assert not found["tx-scatter-gather"].on
        assert not found["tx-tcp-segmentation"].wanted
        take_back(pair, tmp_path, done.identity)
        assert pair.run(NET.features, "v0") == before

    def test_what_goes_with_something_that_it_needs_stays_asked_for(self, pair: Namespace, tmp_path: Path) -> None:
        before = pair.run(NET.features, "v0")
        done = change(pair, tmp_path, "nic.scatter_gather", nic("v0"), "off")
        found = pair.run(NET.features, "v0")["tx-tcp-segmentation"]
        assert (found.on, found.wanted) == (False, True)
        take_back(pair, tmp_path, done)
        assert pair.run(NET.features, "v0") == before

    def test_an_interface_stands_for_its_queues(self, pair: Namespace, tmp_path: Path) -> None:
        done = change(pair, tmp_path, "nic.rps", nic("v0"), "0")
        masks = {n: pair.run(HOST.read_text, f"/sys/class/net/v0/queues/rx-{n}/rps_cpus").strip() for n in (0, 1)}
        assert {int(mask.replace(",", ""), 16) for mask in masks.values()} == {1}
        take_back(pair, tmp_path, done)

    def test_a_plan_makes_an_interface_and_sets_it(self, pair: Namespace, tmp_path: Path) -> None:
        virtual = Setting("nic.virtual", nic("m0"), knob_of("nic.virtual").parse("macvlan link=v0 up=on"))
        settings = [Setting("nic.txqueuelen", nic("m0"), 55), Setting("nic.gro", nic("m0"), False), virtual]
        done = pair.run(lambda: apply(make_plan(HOST, settings), HOST, Journal(tmp_path)))
        assert pair.ip("link show m0")[0]["txqlen"] == 55
        take_back(pair, tmp_path, done.identity)
        assert "m0" not in names(pair)

    def test_a_plan_stacks_interfaces_that_it_makes(self, place: Namespace, tmp_path: Path) -> None:
        texts = {"a0": "macvlan link=b0 up=on", "b0": "veth peer=c0 up=on"}
        settings = [
            Setting("nic.virtual", nic(name), knob_of("nic.virtual").parse(text)) for name, text in texts.items()
        ]
        try:
            done = place.run(lambda: apply(make_plan(HOST, settings), HOST, Journal(tmp_path)))
        except ChangeFailedError as error:
            if "Unknown device type" in str(error):
                pytest.skip("this kernel has no macvlan: one with CONFIG_MACVLAN")
            raise
        assert place.ip("link show a0")[0]["link"] == "b0"
        take_back(place, tmp_path, done.identity)
        assert names(place) == {"lo"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("knob", "subject", "text"),
        [
            ("nic.queues", nic("v0"), "rx=9999"),
            ("nic.queues", nic("v0"), "combined=1"),
            ("nic.queues", nic("nowhere"), "1"),
            ("nic.rings", nic("v0"), "rx=64"),
            ("nic.coalesce", nic("v0"), "rx-usecs=3"),
            ("nic.lro", nic("v0"), "on"),
            ("nic.mtu", nic("v0"), "100000"),
            ("nic.rps", Subject("queue", "v0/rx-9"), "0"),
            ("nic.rps", nic("v0"), "60000"),
            ("nic.sriov", nic("v0"), "1"),
        ],
        ids=str,
    )
    def test_before_anything_is_written(self, pair: Namespace, knob: str, subject: Subject, text: str) -> None:
        try:
            plan = planned(pair, knob, subject, text)
        except SettingError as error:
            assert error.remedy  # noqa: PT017
        else:
            assert plan.changes == ()
            assert plan.left_out[0].reason

    def test_an_mtu_that_would_cost_addresses_or_go_down_with_it(self, pair: Namespace, tmp_path: Path) -> None:
        make(pair, tmp_path, "m0", "macvlan link=v0")
        with pytest.raises(SettingError, match="m0 sits on v0"):
            planned(pair, "nic.mtu", nic("v0"), "1300")
        pair.command("ip address add fd00:77::1/64 dev v1 nodad")
        with pytest.raises(SettingError, match="IPv6"):
            planned(pair, "nic.mtu", nic("v1"), "1000")

    def test_the_kernel_is_quoted_with_the_interface(self, pair: Namespace) -> None:
        with pytest.raises(HostError, match=r"cannot set the queues of v0: .*\(.*count") as caught:
            pair.run(NET.set_channels, "v0", {"rx": 4000})
        assert caught.value.number == 22
        with pytest.raises(NotFoundError, match="nowhere"):
            pair.run(NET.link, "nowhere")
        with pytest.raises(NotFoundError, match="no network interface m9"):
            pair.run(NET.add_link, NewLink("m0", "macvlan", parent="m9", mode="bridge"))
        with pytest.raises(HostError, match="v0"):
            pair.run(NET.add_qdisc, "v0", Qdisc("nonesuch", 0, ROOT, {}))


@pytest.mark.parametrize("knob", ["nic.busy_poll", "nic.busy_read", "nic.backlog", "nic.budget", "nic.rfs_entries"])
def test_the_whole_machines_networking(tmp_path: Path, knob: str) -> None:
    one = knob_of(knob)
    support = one.support(HOST)
    if not support.works:
        pytest.skip(f"{support.reason}: {support.remedy}")
    old = one.read(HOST, SYSTEM)
    journal = Journal(tmp_path)
    done = apply(
        make_plan(HOST, [Setting(knob, SYSTEM, int(old or 0) + 64 if knob != "nic.rfs_entries" else 256)]),
        HOST,
        journal,
    )
    try:
        assert one.read(HOST, SYSTEM) != old
    finally:
        undo(HOST, journal, done.identity)
    assert one.read(HOST, SYSTEM) == old
