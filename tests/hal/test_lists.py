import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.lists import format_cpu_list, parse_cpu_list


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


@pytest.mark.parametrize("text", ["a", "1-", "0x3", "1-2-3"])
def test_refuses_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cpu_list(text)


@given(st.sets(st.integers(0, 300)))
def test_writing_and_reading_is_the_identity(numbers: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(numbers)) == tuple(sorted(numbers))


def test_merges_ranges() -> None:
    assert format_cpu_list([3, 1, 2, 7, 9, 10]) == "1-3,7,9-10"


def test_refuses_a_damaged_list_before_filling_memory() -> None:
    with pytest.raises(ValueError, match="above"):
        parse_cpu_list("0-99999999999")
