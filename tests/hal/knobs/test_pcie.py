"""PCI Express: both ends of a link in the right order, speeds that were really reached, devices that do not let themselves be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import pci
from hal.apply import apply
from hal.errors import ChangeFailedError, SettingError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Setting, Subject, Value
from hal.undo import undo
from tests.hal.knobs.fake_pcie import BUILT_IN, CARD, POLICY, PORT, SECOND, furnish
from tests.hal.knobs.machine import snapshot
from tests.hal.pci_space import EXPRESS, POWER, ROOT_PORT, Function, add, config_space, express_capability

ENDS = [PORT.address, CARD.address, SECOND.address]


def machine(**options: Any) -> FakeHost:
    host = FakeHost({"/proc/self/mounts": ""}, **options)
    furnish(host)
    return host


def wanted(knob: str, subject: Subject, value: Value) -> list[Setting]:
    return [Setting(knob, subject, value)]


def written(host: FakeHost) -> list[str]:
    """Return the functions whose configuration space was written, in order, from now on no more remembered."""
    found = [path.split("/")[-2] for path, _ in host.writes if path.endswith("/config")]
    host.writes.clear()
    return found


class TestMaxReadRequest:
    @settings(deadline=None)
    @given(st.sampled_from([128, 256, 512, 1024, 2048, 4096]))
    def test_every_size_is_read_as_it_was_written(self, size: int) -> None:
        host, knob = machine(), knob_of("pcie.max_read_request")
        knob.write(host, CARD.subject, size)
        assert knob.verify(host, CARD.subject, size) == ""
        assert CARD.word(host, 0x08) & ~0x7000 == 0x010F

    @pytest.mark.parametrize("text", ["0", "64", "100", "384", "8192", "512.0", "512B"])
    def test_sizes_that_there_are_not_are_refused(self, text: str) -> None:
        with pytest.raises(SettingError):
            knob_of("pcie.max_read_request").parse(text)

    def test_a_device_that_does_not_let_it_be_set_is_found_out(self, tmp_path: Path) -> None:
        host = machine()
        fixed = Function("0000:82:00.0", CARD.space, keeps={})
        add(host, fixed)
        before = snapshot(host)
        plan = make_plan(host, wanted("pcie.max_read_request", fixed.subject, 128))
        with pytest.raises(ChangeFailedError, match="does not let it be set"):
            apply(plan, host, Journal(tmp_path))
        assert snapshot(host) == before

    def test_a_virtual_function_has_none_of_its_own(self) -> None:
        host = machine()
        virtual = Function("0000:81:10.0", CARD.space, parent=PORT.address, files={"physfn/vendor": "0x8086"})
        add(host, virtual)
        assert virtual.subject not in list(knob_of("pcie.max_read_request").subjects(host))
        with pytest.raises(SettingError, match="virtual function"):
            make_plan(host, wanted("pcie.max_read_request", virtual.subject, 128))

    @pytest.mark.parametrize("name", ["0000:99:00.0", "nonsense", ""])
    def test_what_is_not_there_is_refused(self, name: str) -> None:
        with pytest.raises(SettingError, match="no PCI function"):
            make_plan(machine(), wanted("pcie.max_read_request", Subject("pci", name), 128))

    def test_what_is_no_express_function_is_refused(self) -> None:
        host = machine()
        old = Function("0000:82:00.0", config_space([POWER]))
        add(host, old)
        with pytest.raises(SettingError, match="no PCI Express capability"):
            make_plan(host, wanted("pcie.max_read_request", old.subject, 128))


class TestAspm:
    def test_any_function_stands_for_both_ends_of_its_link(self) -> None:
        for one in (PORT, CARD, SECOND):
            plan = make_plan(machine(), wanted("pcie.aspm", one.subject, "l1"))
            assert [change.subject.name for change in plan.changes] == ENDS

    def test_l1_is_allowed_from_above_and_forbidden_from_below(self, tmp_path: Path) -> None:
        host, journal = machine(), Journal(tmp_path)
        before = snapshot(host)
        first = apply(make_plan(host, wanted("pcie.aspm", CARD.subject, "l0s+l1")), host, journal)
        assert written(host) == ENDS
        second = apply(make_plan(host, wanted("pcie.aspm", PORT.subject, "off")), host, journal)
        assert written(host) == ENDS[::-1]
        undo(host, journal, second.identity)
        assert written(host) == ENDS
        undo(host, journal, first.identity)
        assert written(host) == ENDS[::-1]
        assert snapshot(host) == before

    def test_each_end_comes_back_to_its_own(self, tmp_path: Path) -> None:
        host, journal = machine(), Journal(tmp_path)
        pci.set_field(host, PORT.address, pci.ASPM, pci.L0S)
        before = snapshot(host)
        done = apply(make_plan(host, wanted("pcie.aspm", CARD.subject, "l1")), host, journal)
        undo(host, journal, done.identity)
        assert snapshot(host) == before

    def test_what_one_end_does_not_support_is_refused(self) -> None:
        host = machine()
        plain = Function(CARD.address, config_space([(EXPRESS, express_capability(aspm=1))]), CARD.parent, CARD.files)
        add(host, PORT, plain)
        for state in ("l1", "l0s+l1"):
            with pytest.raises(SettingError, match=r"0000:81:00\.0 does not support") as caught:
                make_plan(host, wanted("pcie.aspm", PORT.subject, state))
            assert "l0s" in caught.value.remedy
        assert make_plan(host, wanted("pcie.aspm", PORT.subject, "l0s")).changes

    def test_what_the_kernel_withholds_is_refused_but_off_is_not(self) -> None:
        host = machine()
        del host.files[f"{CARD.folder}/link/l1_aspm"]
        with pytest.raises(SettingError, match="kernel does not offer l1 "):
            make_plan(host, wanted("pcie.aspm", CARD.subject, "l0s+l1"))
        pci.set_field(host, CARD.address, pci.ASPM, pci.L1)
        assert make_plan(host, wanted("pcie.aspm", CARD.subject, "off")).changes
        del host.files[POLICY]  # a kernel that does nothing about it has held nothing against anything
        assert make_plan(host, wanted("pcie.aspm", CARD.subject, "l0s+l1")).changes

    def test_what_has_no_link_is_refused(self) -> None:
        host = machine()
        empty = Function("0000:80:01.0", PORT.space)
        add(host, empty)
        for one, message in ((BUILT_IN, "at no PCI Express link"), (empty, "nothing is on the link")):
            with pytest.raises(SettingError, match=message):
                make_plan(host, wanted("pcie.aspm", one.subject, "off"))


class TestLinkSpeed:
    def test_the_link_is_trained_and_trained_back(self, tmp_path: Path) -> None:
        host, journal = machine(), Journal(tmp_path)
        before = snapshot(host)
        plan = make_plan(host, wanted("pcie.link_speed", CARD.subject, "5"))
        assert [(change.subject.name, change.old, change.new) for change in plan.changes] == [(PORT.address, "16", "5")]
        done = apply(plan, host, journal)
        assert [one.word(host, 0x12) & 0xF for one in (PORT, CARD)] == [2, 2]
        assert knob_of("pcie.link_speed").outcome(host, PORT.subject, "5") == "the link runs at 5 GT/s"
        undo(host, journal, done.identity)
        assert snapshot(host) == before

    def test_a_speed_that_one_end_lacks_is_refused(self) -> None:
        host = machine()
        with pytest.raises(SettingError, match=r"0000:80:00\.0 does not support 64") as caught:
            make_plan(host, wanted("pcie.link_speed", PORT.subject, "64"))
        assert "2.5, 5, 8" in caught.value.remedy
        pci.set_field(host, PORT.address, pci.TARGET_SPEED, 3)
        with pytest.raises(SettingError, match=r"0000:81:00\.0 does not support 16"):
            make_plan(host, wanted("pcie.link_speed", PORT.subject, "16"))

    def test_what_it_is_already_may_be_asked_for(self) -> None:
        assert make_plan(machine(), wanted("pcie.link_speed", PORT.subject, "16")).changes == ()

    def test_a_link_that_does_not_follow_is_taken_back(self, tmp_path: Path) -> None:
        """As under QEMU 10, whose links do not train."""
        host = machine()
        stiff = Function(PORT.address, PORT.space)
        add(host, stiff)
        host.links[f"{pci.DEVICES}/{CARD.address}"] = CARD.folder
        before = snapshot(host)
        plan = make_plan(host, wanted("pcie.link_speed", PORT.subject, "2.5"))
        with pytest.raises(ChangeFailedError, match=r"runs at 8 GT/s after it was trained for 2\.5"):
            apply(plan, host, Journal(tmp_path))
        assert snapshot(host) == before

    def test_a_target_that_cannot_be_set_is_found_out_and_nothing_is_trained(self, tmp_path: Path) -> None:
        host = machine()
        add(host, Function(PORT.address, PORT.space, keeps={0x10: 0xFFFF}), CARD, SECOND)
        plan = make_plan(host, wanted("pcie.link_speed", PORT.subject, "2.5"))
        with pytest.raises(ChangeFailedError, match="port does not let it be set"):
            apply(plan, host, Journal(tmp_path))
        assert len(written(host)) == 1

    def test_a_device_that_aims_lower_itself_is_no_failure(self, tmp_path: Path) -> None:
        """As a graphics card that saves power."""
        host = machine()
        pci.set_field(host, CARD.address, pci.TARGET_SPEED, 1)
        knob = knob_of("pcie.link_speed")
        knob.write(host, PORT.subject, "2.5")
        content = host.binaries[PORT.config]
        pci.set_field(host, PORT.address, pci.TARGET_SPEED, 3)
        assert content[PORT.express + 0x12] & 0xF == 1
        assert knob.verify(host, PORT.subject, "8") == ""

    def test_an_empty_slot_is_set_and_not_trained(self, tmp_path: Path) -> None:
        body = express_capability(port=ROOT_PORT, speeds=(1, 2, 3))
        host = machine()
        empty = Function("0000:80:01.0", config_space([(EXPRESS, body)], header=1))
        add(host, empty)
        apply(make_plan(host, wanted("pcie.link_speed", empty.subject, "5")), host, Journal(tmp_path))
        assert empty.word(host, 0x30) & 0xF == 2
        assert len(written(host)) == 1


class TestSupport:
    def test_without_root_it_says_what_is_missing(self) -> None:
        for name in ("pcie.max_read_request", "pcie.aspm", "pcie.link_speed"):
            support = knob_of(name).support(machine(uid=1000))
            assert not support.works
            assert "root" in support.remedy

    def test_under_lockdown_it_says_so(self) -> None:
        host = machine()
        host.files["/sys/kernel/security/lockdown"] = "none [integrity] confidentiality\n"
        support = knob_of("pcie.aspm").support(host)
        assert not support.works
        assert "locked down (integrity)" in support.reason

    def test_a_virtual_machine_without_links_says_so(self) -> None:
        host = FakeHost({"/proc/self/mounts": ""})
        add(host, Function("0000:00:01.0", config_space([POWER])))
        for name in ("pcie.max_read_request", "pcie.aspm", "pcie.link_speed"):
            support = knob_of(name).support(host)
            assert not support.works
            assert support.reason
            assert support.remedy

    def test_what_each_offers_is_what_has_it(self) -> None:
        host = machine()
        offered = {
            name: [s.name for s in knob_of(f"pcie.{name}").subjects(host)]
            for name in ("max_read_request", "aspm", "link_speed")
        }
        assert offered == {
            "max_read_request": [PORT.address, BUILT_IN.address, CARD.address, SECOND.address],
            "aspm": ENDS,
            "link_speed": [PORT.address],
        }
