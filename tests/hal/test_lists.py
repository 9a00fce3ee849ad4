import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.lists import format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-3,8,10-11\n", (0, 1, 2, 3, 8, 10, 11)),
        ("", ()),
        ("\n", ()),
        ("5", (5,)),
        ("3,1,2,1", (1, 2, 3)),
        ("0-9:2/4", (0, 1, 4, 5, 8, 9)),
    ],
)
def test_reads_the_kernels_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == numbers


@pytest.mark.parametrize(
    "text", ["a", "1-", "0x3", "1-2-3", "0-9:1/0", "0-3:", "0-3:2", "0:1/2", "1_0", "٣", "9" * 400, "(null)"]
)
def test_refuses_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="is no list"):
        parse_cpu_list(text)


@given(st.sets(st.integers(0, 300)))
def test_writing_and_reading_is_the_identity(numbers: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(numbers)) == tuple(sorted(numbers))


def test_refuses_a_range_that_runs_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        parse_cpu_list("5-2")


def test_merges_ranges() -> None:
    assert format_cpu_list([3, 1, 2, 7, 9, 10]) == "1-3,7,9-10"


def test_refuses_a_damaged_list_before_filling_memory() -> None:
    with pytest.raises(ValueError, match="above"):
        parse_cpu_list("0-99999999999")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3\n", (0, 1)), ("0", ()), ("ff", tuple(range(8))), ("1,00000000\n", (32,)), ("00000000,80000001", (0, 31))],
)
def test_reads_the_kernels_masks(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_cpu_mask(text) == numbers


@pytest.mark.parametrize("text", ["", "0x3", "1,,2", "-1", "1_0", "٣", "123456789"])
def test_refuses_what_is_no_mask(text: str) -> None:
    with pytest.raises(ValueError, match="mask"):
        parse_cpu_mask(text)


@given(st.sets(st.integers(0, 300)))
def test_masks_written_and_read_are_the_same(numbers: set[int]) -> None:
    text = format_cpu_mask(numbers)
    assert parse_cpu_mask(text) == tuple(sorted(numbers))
    assert all(len(group) == 8 for group in text.split(",")[1:])
