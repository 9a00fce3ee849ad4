"""What the knobs of network interfaces decide, on a machine in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.apply import apply
from hal.errors import SettingError
from hal.fake import FakeHost
from hal.fake_net import FakeInterface, card
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.knobs.attributes import numbers_of
from hal.knobs.nic_qdisc import described
from hal.knobs.nic_virtual import is_name
from hal.netlink import ELSEWHERE, ROOT, Amounts, Feature, Link, NewLink, Qdisc
from hal.planning import make_plan
from hal.settings import APPROXIMATE, EXACT, Change, Setting, Subject, Value
from hal.undo import undo
from tests.hal.knobs.fake_nic import CARD, DEVICE, FUNCTION, OTHER
from tests.hal.knobs.machine import furnished, snapshot

COALESCE, QDISC, SRIOV, VF, VIRTUAL = (
    knob_of(f"nic.{name}") for name in ("coalesce", "qdisc", "sriov", "vf", "virtual")
)


def nic(name: str) -> Subject:
    return Subject("nic", name)


def set_(host: FakeHost, knob: str, subject: Subject, text: str, folder: Path) -> str:
    return apply(make_plan(host, [Setting(knob, subject, knob_of(knob).parse(text))]), host, Journal(folder)).identity


class TestValues:
    @pytest.mark.parametrize(
        ("knob", "text", "canonical"),
        [
            ("nic.queues", "8", "combined=8"),
            ("nic.queues", "tx=2,rx=04", "rx=4 tx=2"),
            ("nic.rings", "tx=512 rx=256", "rx=256 tx=512"),
            ("nic.coalesce", "adaptive-rx=no,rx-usecs=50", "rx-usecs=50 adaptive-rx=off"),
            ("nic.tso", "tx-tcp6-segmentation,tx-tcp-segmentation", "tx-tcp-segmentation,tx-tcp6-segmentation"),
            ("nic.tso", "off", False),
            ("nic.rps", "3,0-1", "0-1,3"),
            ("nic.rps", "NONE", "none"),
            ("nic.rfs", "1000", 1024),
            ("nic.rfs", "0", 0),
            ("nic.rfs_entries", "32768", 32768),
            ("nic.qdisc", "fq_codel target=05000 limit=10", "fq_codel target=5000 limit=10"),
            ("nic.qdisc", "MQ fq handle=1 limit=7", "mq fq handle=1 limit=7"),
            ("nic.qdisc", "mq handle=1", "mq handle=1"),
            ("nic.qdisc", "default", "default"),
            ("nic.vf", "trust=on mac=02:AB:00:00:00:01", "mac=02:ab:00:00:00:01 trust=on"),
            ("nic.virtual", "macvlan link=eth0", "macvlan link=eth0 mode=bridge"),
            ("nic.virtual", "vlan link=eth0 id=007", "vlan link=eth0 id=7 protocol=802.1q"),
            ("nic.virtual", "veth peer=v1 up=yes", "veth peer=v1 up=on"),
            ("nic.virtual", "absent", None),
        ],
    )
    def test_a_value_has_one_form(self, knob: str, text: str, canonical: Value) -> None:
        assert knob_of(knob).parse(text) == canonical
        assert knob_of(knob).parse(str(canonical)) == canonical

    @pytest.mark.parametrize(
        ("knob", "text"),
        [
            ("nic.queues", "other=1"),
            ("nic.queues", "rx=1 rx=2"),
            ("nic.queues", "rx=-1"),
            ("nic.queues", "rx="),
            ("nic.queues", "rx=4294967296"),
            ("nic.coalesce", "adaptive-rx=2"),
            ("nic.coalesce", "rx-usecs"),
            ("nic.tso", "tx-checksum-sctp"),
            ("nic.mtu", "67"),
            ("nic.qdisc", "htb"),
            ("nic.qdisc", "fq fq_codel"),
            ("nic.qdisc", "mq mq"),
            ("nic.qdisc", "mq noqueue"),
            ("nic.qdisc", "fq limit=1 limit=1"),
            ("nic.qdisc", "fq target=5"),
            ("nic.qdisc", "limit=5 fq"),
            ("nic.qdisc", "fq handle="),
            ("nic.qdisc", "fq handle=8001"),
            ("nic.qdisc", "fq handle=0"),
            ("nic.vf", "mac=03:00:00:00:00:01"),
            ("nic.vf", "mac=02:00:00:00:00"),
            ("nic.vf", "vlan=4095"),
            ("nic.vf", "state=up"),
            ("nic.virtual", "macvlan"),
            ("nic.virtual", "macvlan link=eth0 mode=l2"),
            ("nic.virtual", "macvlan link=eth0 id=7"),
            ("nic.virtual", "vlan link=eth0"),
            ("nic.virtual", "vlan link=eth0 id=4095"),
            ("nic.virtual", "veth peer=sixteen-letters-"),
            ("nic.virtual", "veth peer=a/b"),
            ("nic.virtual", f"veth peer={ELSEWHERE}"),
            ("nic.virtual", "veth peer=v1 mac=00:00:00:00:00:00"),
            ("nic.virtual", "bridge"),
        ],
    )
    def test_nonsense_is_refused(self, knob: str, text: str) -> None:
        with pytest.raises(SettingError) as caught:
            knob_of(knob).parse(text)
        assert caught.value.remedy

    @settings(deadline=None)
    @given(st.text(max_size=20))
    def test_a_name_that_is_taken_survives_the_text_of_a_value(self, name: str) -> None:
        if is_name(name):
            value = VIRTUAL.parse(f"veth peer={name}")
            assert value == f"veth peer={name}"

    @settings(deadline=None)
    @given(st.text(alphabet="abcdefxyz =,.:-0123456789", max_size=40))
    def test_what_parses_is_canonical(self, text: str) -> None:
        for knob in (QDISC, COALESCE, VF, VIRTUAL, knob_of("nic.queues")):
            for prefix in ("", "fq ", "mq fq ", "veth peer=a ", "rx=1 ", "mac=02:00:00:00:00:01 "):
                try:
                    value = knob.parse(prefix + text)
                except SettingError:
                    continue
                assert knob.parse(str(value)) == value
                assert knob.same(value, value)


class TestParts:
    def test_parts_left_out_stay_and_all_come_back(self, tmp_path: Path) -> None:
        host = furnished()
        before = snapshot(host)
        done = set_(host, "nic.coalesce", CARD, "rx-usecs=20", tmp_path)
        assert COALESCE.read(host, CARD) == "rx-usecs=20 rx-frames=0 tx-usecs=50 adaptive-rx=off adaptive-tx=off"
        undo(host, Journal(tmp_path), done)
        assert snapshot(host) == before

    def test_numbers_say_nothing_where_the_device_adapts(self) -> None:
        found = "rx-usecs=77 tx-usecs=50 adaptive-rx=on adaptive-tx=off"
        assert COALESCE.same("rx-usecs=3 adaptive-rx=on", found)
        assert not COALESCE.same("rx-usecs=3 tx-usecs=3 adaptive-rx=on", found)
        assert not COALESCE.same("rx-usecs=3", found)

    @pytest.mark.parametrize(
        ("knob", "value", "words"),
        [
            ("nic.queues", "combined=9", "8 at most"),
            ("nic.queues", "rx=1", "It has combined"),
            ("nic.queues", "combined=0", "Leave it one"),
            ("nic.rings", "rx=8192", "4096 at most"),
            ("nic.rings", "rx-mini=1", "It has rx, tx"),
            ("nic.rings", "tx=0", "some"),
            ("nic.coalesce", "tx-frames=1", "rx-usecs"),
            ("nic.mtu", 9217, "68 to 9216"),
        ],
    )
    def test_what_a_device_does_not_have_is_refused(self, knob: str, value: Value, words: str) -> None:
        host = furnished()
        with pytest.raises(SettingError) as caught:
            knob_of(knob).check(host, CARD, value)
        assert words in caught.value.remedy

    def test_a_driver_that_rounds_is_told_of(self) -> None:
        host = furnished()
        host.net().set_rings(CARD.name, {"rx": 1024})
        assert "driver rounds" in knob_of("nic.rings").verify(host, CARD, "rx=1000")

    def test_an_interface_without_any_is_not_listed(self) -> None:
        host = furnished()
        for knob in ("nic.queues", "nic.rings", "nic.coalesce"):
            assert {subject.name for subject in knob_of(knob).subjects(host)} == {"ens1f0", "ens2f0"}
            with pytest.raises(SettingError, match="does not have it"):
                knob_of(knob).check(host, nic("ens2f0.7"), knob_of(knob).parse(knob_of(knob).example))

    @given(
        first=st.dictionaries(st.sampled_from(["rx", "tx", "rx-mini"]), st.integers(1, 9), min_size=1),
        second=st.dictionaries(st.sampled_from(["rx", "tx", "rx-mini"]), st.integers(1, 9), min_size=1),
    )
    def test_of_two_settings_all_parts_count_and_of_one_part_the_later(
        self, first: dict[str, int], second: dict[str, int]
    ) -> None:
        knob = knob_of("nic.rings")
        one, other = (knob.parse(",".join(f"{name}={n}" for name, n in parts.items())) for parts in (first, second))
        assert numbers_of(knob.merged(FakeHost(), one, other)) == first | second

    def test_two_rules_set_a_part_each(self, tmp_path: Path) -> None:
        host = furnished()
        before = snapshot(host)
        wanted = [
            Setting("nic.rings", CARD, "rx=1024", "bursts are lost"),
            Setting("nic.rings", CARD, "tx=2048", "senders wait"),
            Setting("nic.coalesce", CARD, "rx-usecs=20 tx-usecs=20"),
            Setting("nic.coalesce", CARD, "tx-usecs=10"),
        ]
        plan = make_plan(host, wanted)
        assert {change.knob: change.new for change in plan.changes} == {
            "nic.rings": "rx=1024 tx=2048",
            "nic.coalesce": "rx-usecs=20 tx-usecs=10",
        }
        assert {change.reason for change in plan.changes} == {"bursts are lost; senders wait", ""}
        done = apply(plan, host, Journal(tmp_path))
        assert host.net().rings(CARD.name).now["rx"] == 1024
        assert host.net().rings(CARD.name).now["tx"] == 2048
        undo(host, Journal(tmp_path), done.identity)
        assert snapshot(host) == before

    def test_parts_are_held_against_the_machine_together(self) -> None:
        host = furnished()
        one = host.network.interfaces[CARD.name]
        one.channels = Amounts(
            {"rx": 2, "tx": 2, "other": 0, "combined": 0}, {"rx": 4, "tx": 4, "other": 0, "combined": 4}
        )
        parts = ["rx=0", "combined=2"]
        with pytest.raises(SettingError, match="no queue to receive"):
            make_plan(host, [Setting("nic.queues", CARD, parts[0])])
        (change,) = make_plan(host, [Setting("nic.queues", CARD, part) for part in parts]).changes
        assert change.new == "rx=0 combined=2"


class TestOffloads:
    def test_what_needs_something_goes_first_and_comes_last(self) -> None:
        host = furnished()
        names = ("nic.tso", "nic.scatter_gather", "nic.tx_checksum")
        down = make_plan(host, [Setting(name, CARD, False) for name in names])
        assert [change.knob for change in down.changes] == list(names)
        for name in names:
            knob_of(name).write(host, CARD, False)
        up = make_plan(host, [Setting(name, CARD, True) for name in names])
        assert [change.knob for change in up.changes] == list(reversed(names))

    def test_what_is_off_with_another_stays_asked_for(self) -> None:
        host = furnished()
        tso = knob_of("nic.tso")
        knob_of("nic.scatter_gather").write(host, CARD, False)
        assert tso.read(host, CARD) is False
        tso.write(host, CARD, False)
        knob_of("nic.scatter_gather").write(host, CARD, True)
        assert tso.read(host, CARD) is True

    def test_what_cannot_come_on_says_why(self) -> None:
        host = furnished()
        knob_of("nic.scatter_gather").write(host, CARD, False)
        assert "something that it needs" in knob_of("nic.tso").verify(host, CARD, True)

    def test_what_is_fixed_is_refused_and_not_listed(self) -> None:
        host = furnished()
        host.network.interfaces["ens1f0"].features["rx-lro"] = Feature(on=False, wanted=False, changeable=False)
        lro = knob_of("nic.lro")
        assert CARD not in list(lro.subjects(host))
        with pytest.raises(SettingError, match="off for good"):
            lro.check(host, CARD, True)

    def test_of_a_group_only_what_can_change_counts(self) -> None:
        host = furnished()
        features = host.network.interfaces["ens1f0"].features
        features["tx-checksum-ipv4"] = Feature(on=False, wanted=False, changeable=False)
        assert knob_of("nic.tx_checksum").read(host, CARD) is True
        knob_of("nic.tx_checksum").check(host, CARD, "tx-checksum-sctp")
        for wrong in ("tx-checksum-ipv6", "tx-checksum-ip-generic,tx-checksum-sctp"):
            with pytest.raises(SettingError):
                knob_of("nic.tx_checksum").check(host, CARD, wrong)

    def test_filters_that_are_lost_are_said_to_be(self) -> None:
        ntuple = knob_of("nic.ntuple")
        assert (ntuple.reversible(False, True), ntuple.reversible(True, False)) == (EXACT, APPROXIMATE)


class TestSteering:
    def test_an_interface_stands_for_its_queues_in_order(self) -> None:
        host = furnished()
        host.net().set_channels("ens2f0", {"combined": 8})
        host.network.interfaces["ens2f0"].channels = replace(
            host.net().channels("ens2f0"), most={"combined": 16, "rx": 0, "tx": 0, "other": 0}
        )
        host.net().set_channels("ens2f0", {"combined": 11})
        members = knob_of("nic.rps").members(host, OTHER)
        assert [one.name for one in members] == [f"ens2f0/rx-{n}" for n in range(11)]
        assert [one.name for one in knob_of("nic.xps").members(host, OTHER)][-1] == "ens2f0/tx-10"

    @pytest.mark.parametrize("value", ["8", "0-9"])
    def test_cpus_that_are_not_there_are_refused(self, value: str) -> None:
        with pytest.raises(SettingError, match="not online"):
            knob_of("nic.rps").check(furnished(), Subject("queue", "ens1f0/rx-0"), value)

    def test_cpus_that_a_queue_has_already_are_not(self) -> None:
        host = furnished()
        host.files["/sys/class/net/ens1f0/queues/rx-0/rps_cpus"] = "00000300\n"
        knob_of("nic.rps").check(host, Subject("queue", "ens1f0/rx-0"), "0,8-9")

    def test_queues_that_went_are_named_with_those_there_are(self) -> None:
        with pytest.raises(SettingError, match="rx-7") as caught:
            knob_of("nic.rfs").check(furnished(), Subject("queue", "ens1f0/rx-7"), 64)
        assert "ens1f0/rx-3" in caught.value.remedy

    @settings(deadline=None)
    @given(st.sets(st.integers(0, 200)))
    def test_masks_are_read_as_they_are_written(self, cpus: set[int]) -> None:
        rps = knob_of("nic.rps")
        value = rps.parse(",".join(map(str, cpus)) or "none")
        assert rps.decode(rps.encode(value)) == value  # type: ignore[attr-defined]


class TestQdisc:
    def test_each_queue_gets_its_own_and_the_default_comes_back(self, tmp_path: Path) -> None:
        host = furnished()
        done = set_(host, "nic.qdisc", CARD, "mq fq limit=500", tmp_path)
        assert [qdisc.kind for qdisc in host.net().qdiscs("ens1f0")] == ["mq", "fq", "fq", "fq", "fq"]
        undo(host, Journal(tmp_path), done)
        assert [qdisc.handle for qdisc in host.net().qdiscs("ens1f0")] == [0] * 5

    def test_what_cannot_be_put_back_is_not_replaced(self) -> None:
        host = furnished()
        for opaque in (Qdisc("htb", 1 << 16, ROOT, {}), Qdisc("fq", 1 << 16, ROOT, {}, has_filters=True)):
            host.network.interfaces["ens1f0"].qdiscs = [opaque]
            with pytest.raises(SettingError, match="could not put back"):
                QDISC.check(host, CARD, "fq")

    def test_one_with_a_handle_is_replaced_by_one_with_the_same(self, tmp_path: Path) -> None:
        host = furnished()
        host.net().add_qdisc("ens1f0", Qdisc("fq", 1 << 16, ROOT, {"limit": "7", "quantum": "3"}))
        done = set_(host, "nic.qdisc", CARD, "fq handle=1 limit=8", tmp_path)
        assert QDISC.read(host, CARD) == "fq handle=1 limit=8"
        undo(host, Journal(tmp_path), done)
        assert QDISC.read(host, CARD) == "fq handle=1 limit=7 quantum=3"

    def test_an_mq_whose_queues_differ_is_opaque(self) -> None:
        root = Qdisc("mq", 1 << 16, ROOT, {})
        own = [Qdisc("fq", 0x80010000 + (n << 16), 1 << 16 | n, {"limit": str(n)}) for n in (1, 2)]
        assert described([root, *own]) == "mq (opaque)"
        assert described([root, own[0]]) == "mq fq handle=1 limit=1"
        assert described([root, own[0], Qdisc("pfifo_fast", 0, 1 << 16 | 2, {})]) == "mq (opaque)"
        assert described([]) == "default"

    def test_options_left_out_stay_the_kernels(self) -> None:
        assert QDISC.same("fq limit=5", "fq limit=5 quantum=3")
        assert not QDISC.same("fq limit=5", "mq fq limit=5")
        assert not QDISC.same("default", "fq")
        assert not QDISC.same("fq", "default")


class TestFunctions:
    def test_from_one_number_to_another_by_way_of_none(self, tmp_path: Path) -> None:
        host = furnished()
        other = Subject("pci", "0000:5f:00.0")
        done = set_(host, "nic.sriov", other, "3", tmp_path)
        path = "/sys/bus/pci/devices/0000:5f:00.0/sriov_numvfs"
        assert [text for name, text in host.writes if name == path] == ["0", "3"]
        assert set(host.network.interfaces) >= {"ens2f0v0", "ens2f0v1", "ens2f0v2"}
        undo(host, Journal(tmp_path), done)
        assert len(host.net().link("ens2f0").functions) == 2

    def test_the_first_ones_go_without_a_trace(self, tmp_path: Path) -> None:
        host = furnished()
        before = snapshot(host)
        done = set_(host, "nic.sriov", DEVICE, "2", tmp_path)
        undo(host, Journal(tmp_path), done)
        assert snapshot(host) == before

    def test_an_interface_stands_for_its_card(self) -> None:
        host = furnished()
        assert SRIOV.members(host, CARD) == (DEVICE,)
        with pytest.raises(SettingError, match="sits on no device"):
            SRIOV.members(host, nic("ens2f0.7"))

    def test_more_than_there_can_be_are_refused(self) -> None:
        with pytest.raises(SettingError) as caught:
            SRIOV.check(furnished(), DEVICE, 8)
        assert "7" in caught.value.remedy

    def test_functions_in_use_are_neither_taken_away_nor_undone(self, tmp_path: Path) -> None:
        def vfio(host: FakeHost) -> None:
            host.links["/sys/bus/pci/devices/0000:5e:00.2/driver"] = "/sys/bus/pci/drivers/vfio-pci"

        def moved(host: FakeHost) -> None:
            del host.files["/sys/bus/pci/devices/0000:5e:00.1/net/ens1f0v0/ifindex"]

        def addressed(host: FakeHost) -> None:
            host.network.interfaces["ens1f0v0"].addresses.append("10.0.0.1/24")

        def bridged(host: FakeHost) -> None:
            one = host.network.interfaces["ens1f0v0"]
            one.link = replace(one.link, master="br0")

        def below(host: FakeHost) -> None:
            host.net().add_link(NewLink("mv", "macvlan", parent="ens1f0v1", mode="bridge"))

        for number, (use, words) in enumerate(
            [
                (vfio, "vfio-pci"),
                (moved, "another network namespace"),
                (addressed, "10.0.0.1"),
                (bridged, "br0"),
                (below, "mv"),
            ]
        ):
            host = furnished()
            done = set_(host, "nic.sriov", DEVICE, "2", tmp_path / str(number))
            use(host)
            with pytest.raises(SettingError, match=words):
                SRIOV.check(host, DEVICE, 0)
            kept = undo(host, Journal(tmp_path / str(number)), done).kept
            assert words in kept[0].left
            assert host.files["/sys/bus/pci/devices/0000:5e:00.0/sriov_numvfs"] == "2\n"

    def test_one_plan_makes_functions_and_sets_them(self, tmp_path: Path) -> None:
        host = furnished()
        before = snapshot(host)
        value = VF.parse("mac=02:00:00:00:00:0a vlan=7")
        settings = [Setting("nic.vf", Subject("vf", "ens1f0/vf1"), value), Setting("nic.sriov", CARD, 2)]
        plan = make_plan(host, settings)
        assert [change.knob for change in plan.changes] == ["nic.sriov", "nic.vf"]
        done = apply(plan, host, Journal(tmp_path)).identity
        function = host.net().link("ens1f0").functions[1]
        assert (function.mac, function.vlan) == ("02:00:00:00:00:0a", 7)
        assert not undo(host, Journal(tmp_path), done).failed
        assert snapshot(host) == before

    def test_what_a_driver_does_not_have_is_refused(self) -> None:
        with pytest.raises(SettingError, match="state"):
            VF.check(furnished(), FUNCTION, "state=auto")
        for name in ("ens2f0/vf9", "ens2f0/0", "ens2f0"):
            with pytest.raises(SettingError):
                VF.check(furnished(), Subject("vf", name), "vlan=1")

    def test_only_what_is_named_is_set(self, tmp_path: Path) -> None:
        host = furnished()
        done = set_(host, "nic.vf", FUNCTION, "vlan=7 qos=3", tmp_path)
        assert VF.read(host, FUNCTION) == (
            "mac=00:00:00:00:00:00 vlan=7 qos=3 min-rate=0 max-rate=0 spoofcheck=on trust=off"
        )
        undo(host, Journal(tmp_path), done)
        assert "vlan=0 qos=0" in str(VF.read(host, FUNCTION))


class TestVirtual:
    def test_made_and_taken_back_without_a_trace(self, tmp_path: Path) -> None:
        for number, text in enumerate(
            ("veth peer=v1 mtu=1400 peer-mtu=1300 up=on", "vlan link=ens1f0 id=8", "ipvlan link=ens1f0")
        ):
            host = furnished()
            before = snapshot(host)
            plan = make_plan(host, [Setting("nic.virtual", nic("v0"), VIRTUAL.parse(text))])
            assert plan.changes[0].reversibility == EXACT
            done = apply(plan, host, Journal(tmp_path / str(number))).identity
            assert VIRTUAL.same(VIRTUAL.parse(text), VIRTUAL.read(host, nic("v0")))
            undo(host, Journal(tmp_path / str(number)), done)
            assert snapshot(host) == before

    def test_removed_and_made_again(self, tmp_path: Path) -> None:
        host = furnished()
        set_(host, "nic.virtual", nic("v0"), "veth peer=v1 mac=02:00:00:00:00:77 mtu=1400 up=on", tmp_path)
        before = VIRTUAL.read(host, nic("v0"))
        plan = make_plan(host, [Setting("nic.virtual", nic("v0"), None)])
        assert plan.changes[0].reversibility == APPROXIMATE
        assert any("addresses" in note for note in plan.notes)
        done = apply(plan, host, Journal(tmp_path)).identity
        assert "v1" not in host.network.interfaces
        undo(host, Journal(tmp_path), done)
        assert VIRTUAL.read(host, nic("v0")) == before

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("ens1f0", None, "driver made"),
            ("ens1f0", "macvlan link=ens2f0 mode=bridge", "already"),
            ("ens2f0.7", "vlan link=ens2f0 id=8 protocol=802.1q", "already"),
            ("other", "vlan link=ens2f0 id=7 protocol=802.1q", "already"),
            ("new", "veth peer=ens1f0", "already"),
            ("new", "veth peer=new", "already"),
            ("new", "macvlan link=lo mode=bridge", "no network interface lo"),
            ("a" * 16, "macvlan link=ens1f0 mode=bridge", "cannot be the name"),
            ("a%d", "macvlan link=ens1f0 mode=bridge", "cannot be the name"),
            ("..", "macvlan link=ens1f0 mode=bridge", "cannot be the name"),
        ],
    )
    def test_refusals(self, name: str, text: str | None, words: str) -> None:
        with pytest.raises(SettingError, match=words) as caught:
            VIRTUAL.check(furnished(), nic(name), text)
        assert caught.value.remedy

    def test_what_cannot_be_beside_each_other(self) -> None:
        host = furnished()
        host.net().add_link(NewLink("iv", "ipvlan", parent="ens1f0", mode="l2"))
        for text in ("macvlan link=ens1f0 mode=bridge", "ipvlan link=ens1f0 mode=l3", "ipvlan link=iv mode=l2"):
            with pytest.raises(SettingError):
                VIRTUAL.check(host, nic("new"), text)
        VIRTUAL.check(host, nic("new"), "ipvlan link=ens1f0 mode=l2")

    def test_an_end_that_moved_to_another_namespace_is_still_ours(self, tmp_path: Path) -> None:
        host = furnished()
        done = set_(host, "nic.virtual", nic("v0"), "veth peer=v1 peer-up=on", tmp_path)
        one = host.network.interfaces["v0"]
        one.link = replace(one.link, parent=ELSEWHERE)
        del host.network.interfaces["v1"]
        with pytest.raises(SettingError, match="another network namespace"):
            VIRTUAL.check(host, nic("v0"), None)
        assert undo(host, Journal(tmp_path), done).restored
        assert "v0" not in host.network.interfaces

    def test_what_a_kill_may_leave_is_known(self) -> None:
        full = "veth peer=v1 mac=02:00:00:00:00:01 up=on peer-up=on"
        made = Change("nic.virtual", nic("v0"), None, full)
        halfway = (
            "veth peer=v1 mac=02:00:00:00:00:01 mtu=1500 up=off peer-mac=02:00:00:00:00:02 peer-mtu=1500 peer-up=off"
        )
        assert any(VIRTUAL.same(value, halfway) for value in VIRTUAL.between(made))
        assert not any(VIRTUAL.same(value, halfway.replace("peer=v1", "peer=v2")) for value in VIRTUAL.between(made))


class TestMtu:
    def test_what_would_not_come_back_is_refused(self) -> None:
        host = furnished()
        with pytest.raises(SettingError, match=r"ens2f0\.7 sits on ens2f0"):
            knob_of("nic.mtu").check(host, OTHER, 1400)
        host.network.interfaces["ens1f0"].addresses.append("fd00::1/64")
        with pytest.raises(SettingError, match="IPv6"):
            knob_of("nic.mtu").check(host, CARD, 1279)
        knob_of("nic.mtu").check(host, CARD, 1280)


class TestWhere:
    def test_the_loopback_interface_and_files_are_no_cards(self) -> None:
        host = furnished()
        host.network.plug(FakeInterface(Link("lo", mtu=65536, is_up=True)))
        host.files["/sys/class/net/bonding_masters"] = "\n"
        for knob in ("nic.mtu", "nic.rps", "nic.qdisc", "nic.txqueuelen"):
            found = {subject.name.partition("/")[0] for subject in knob_of(knob).subjects(host)}
            assert "ens1f0" in found
            assert not found & {"lo", "bonding_masters"}
            named = nic("lo") if knob_of(knob).subject_kind == "nic" else Subject("queue", "lo/rx-0")
            with pytest.raises(SettingError, match="no network interface lo"):
                knob_of(knob).check(host, named, 1500)

    def test_without_the_privilege_it_says_which(self) -> None:
        host = FakeHost({"/proc/self/mounts": "", "/proc/self/status": "CapEff:\t0000000000000000\n"}, uid=1000)
        host.network.plug(card("ens1f0"))
        for knob in ("nic.mtu", "nic.qdisc", "nic.gro", "nic.virtual", "nic.vf"):
            support = knob_of(knob).support(host)
            assert not support.works
            assert "CAP_NET_ADMIN" in support.reason
            assert "sudo" in support.remedy

    def test_a_captured_machine_has_none(self, tmp_path: Path) -> None:
        queue = tmp_path / "sys/class/net/eth0/queues/rx-0"
        queue.mkdir(parents=True)
        (queue / "rps_cpus").write_text("f\n")
        (tmp_path / "sys/class/net/eth0/ifindex").write_text("2\n")
        host = LinuxHost(tmp_path)
        assert knob_of("nic.rps").read(host, Subject("queue", "eth0/rx-0")) == "0-3"
        assert list(knob_of("nic.queues").subjects(host)) == []
