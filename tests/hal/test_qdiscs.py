"""Options of queueing disciplines between bytes and text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hal import qdiscs


def codel_in_kernel(microseconds: int) -> int:
    """What fq_codel says after a time was written: include/net/codel.h and net/sched/sch_fq_codel.c."""
    kept = (microseconds * 1000) >> 10
    return (kept << 10) // 1000


def options_of(kind: str) -> st.SearchStrategy[dict[str, str]]:
    values = {
        "u32": st.integers(0, 2**32 - 1).map(str),
        "u8": st.integers(0, 255).map(str),
        "codel": st.integers(0, 2**31).map(str),
        "bytes": st.binary(min_size=1, max_size=20).map(bytes.hex),
    }
    by_name = {name: values[how] for name, (_, how) in qdiscs.KINDS[kind].items() if how != "codel"}
    return st.fixed_dictionaries({}, optional=by_name)


@settings(deadline=None)
@given(st.sampled_from(sorted(qdiscs.KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), options_of(kind))))
def test_what_is_encoded_is_decoded(case: tuple[str, dict[str, str]]) -> None:
    kind, options = case
    assert qdiscs.decode(kind, qdiscs.encode(kind, options)) == options


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_a_time_that_the_kernel_shows_is_written_so_that_it_shows_it_again(written: int) -> None:
    """Writing back the number itself would lose a microsecond each time: the kernel rounds down twice."""
    shown = codel_in_kernel(written)
    again = qdiscs.decode("fq_codel", qdiscs.encode("fq_codel", {"target": str(shown)}))["target"]
    assert codel_in_kernel(int(again)) == shown


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_damage_is_no_disaster(data: bytes) -> None:
    for kind in (*qdiscs.KINDS, "htb"):
        assert set(qdiscs.decode(kind, data)) <= set(qdiscs.KINDS.get(kind, {}))


def test_values_are_checked() -> None:
    assert qdiscs.is_value("fq", "limit", "4294967295")
    assert qdiscs.is_value("fq", "weights", "00ff")
    for text in ("4294967296", "-1", "", "1e3", "٣", "0x10", "1_0"):
        assert not qdiscs.is_value("fq", "limit", text)
    assert not qdiscs.is_value("fq", "weights", "0g")
    assert not qdiscs.is_value("fq", "depth", "1")
    assert not qdiscs.is_value("htb", "limit", "1")
