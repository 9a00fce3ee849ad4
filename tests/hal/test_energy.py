"""RAPL meters: wrap-around, domains, permissions."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.energy import domain_of, open_energy_meter, wrapped_difference
from hal.fake import FakeHost
from tests.hal.perf_kernel import PerfKernel
from tests.hal.test_pmu import POWER

CAP = "/sys/class/powercap"


def zone(name: str, label: str, energy: int, limit: int = 1000) -> dict[str, str]:
    return {
        f"{CAP}/{name}/name": f"{label}\n",
        f"{CAP}/{name}/energy_uj": f"{energy}\n",
        f"{CAP}/{name}/max_energy_range_uj": f"{limit}\n",
    }


TWO_PACKAGES = {
    **zone("intel-rapl:0", "package-0", 100),
    **zone("intel-rapl:1", "package-1", 900),
    **zone("intel-rapl:0:0", "core", 50),
    **zone("intel-rapl:0:1", "dram", 10),
    **zone("intel-rapl-mmio:0", "package-0", 100),
    f"{CAP}/intel-rapl/enabled": "1",
}


@given(st.integers(1, 1 << 48), st.data())
def test_a_wrapped_counter_moves_forward(modulus: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, modulus - 1))
    moved = data.draw(st.integers(0, modulus - 1))
    assert wrapped_difference((before + moved) % modulus, before, modulus=modulus) == moved


def test_packages_are_summed_and_the_same_one_is_not_counted_twice() -> None:
    host = FakeHost(TWO_PACKAGES)
    meter, reason = open_energy_meter(host)
    assert meter is not None
    assert reason == ""
    host.files[f"{CAP}/intel-rapl:0/energy_uj"] = "300\n"
    host.files[f"{CAP}/intel-rapl-mmio:0/energy_uj"] = "300\n"
    host.files[f"{CAP}/intel-rapl:1/energy_uj"] = "99\n"  # began again after 1000
    host.files[f"{CAP}/intel-rapl:0:1/energy_uj"] = "15\n"
    assert meter.read() == pytest.approx({"pkg": 400e-6, "ram": 5e-6})
    assert meter.read() == {}  # stands still: unknown, not 0


def test_domains_have_the_names_of_the_samples() -> None:
    names = ["package-0", "package-1", "core", "uncore", "dram", "psys", "other"]
    assert [domain_of(name) for name in names] == ["pkg", "pkg", "cores", "gpu", "ram", "psys", "other"]


def test_a_meter_that_only_root_may_read_says_so() -> None:
    host = FakeHost(TWO_PACKAGES, denied=[name for name in TWO_PACKAGES if name.endswith("energy_uj")], uid=1000)
    meter, reason = open_energy_meter(host)
    assert meter is None
    assert "root" in reason


def test_no_meter_is_said() -> None:
    meter, reason = open_energy_meter(FakeHost())
    assert meter is None
    assert "RAPL" in reason


def test_the_power_pmu_serves_where_powercap_does_not() -> None:
    kernel = PerfKernel()
    host = FakeHost(POWER, syscalls=kernel.syscalls)
    meter, _ = open_energy_meter(host)
    assert meter is not None
    assert sorted(one.cpu for one in kernel.open.values()) == [0, 16]
    for one in kernel.open.values():
        one.value = 3 << 32
    assert meter.read() == pytest.approx({"pkg": 6.0})
    assert meter.read() == {}
    meter.close()
    meter.close()
    assert kernel.open == {}


def test_a_power_pmu_that_is_refused_leaves_nothing_open() -> None:
    kernel = PerfKernel()
    kernel.refuse = lambda opened: errno.EACCES if opened.cpu == 16 else 0
    meter, reason = open_energy_meter(FakeHost(POWER, syscalls=kernel.syscalls))
    assert meter is None
    assert reason
    assert kernel.open == {}
