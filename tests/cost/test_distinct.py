"""Functions that differ, against truth tables and against products as they are built."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost import distinct
from syq_dse.cost.distinct import ONES, POINTS, Bits, Functions

FAST = settings(derandomize=True, max_examples=60, deadline=None)


def values(word: Bits, points: int = 64) -> list[int]:
    """What a word of two's complement is at the first points."""
    return [
        sum((bit >> point & 1) << place for place, bit in enumerate(word))
        - ((word[-1] >> point & 1) << len(word))
        for point in range(points)
    ]


@FAST
@given(st.integers(2, 9), st.integers(1, 127))
def test_the_product_with_a_constant_is_one(bits: int, factor: int) -> None:
    of = Functions()
    a = of.word(bits)
    product = distinct._times(of, a, factor, bits + 8)
    assert values(product) == [factor * value for value in values(a)]


@FAST
@given(st.integers(2, 9), st.lists(st.sampled_from([None, 0, 1]), min_size=2, max_size=8))
def test_rows_of_booth_are_a_product(bits: int, factor: list[int | None]) -> None:
    of = Functions()
    a = of.word(bits)
    factor += factor[-1:] * (len(factor) % 2)
    b = [of.word(1)[0] if bit is None else bit * ONES for bit in factor]
    coded = [0, *b]
    product = distinct._rows(of, a, [coded[i : i + 3] for i in range(0, len(b), 2)])
    assert values(product) == [x * y for x, y in zip(values(a), values(b), strict=True)]


def test_a_function_counts_once_and_its_inverse_not_at_all() -> None:
    of = Functions()
    (a,), (b,) = of.word(1), of.word(1)
    assert not of.is_new(a) and not of.is_new(a ^ ONES) and not of.is_new(0)
    assert of.is_new(a & b) and not of.is_new((a & b) ^ ONES)


@pytest.mark.parametrize("bits", [2, 3])
def test_no_more_functions_than_there_are(bits: int) -> None:
    """Of two operands' bits there are so many, one and its inverse being one."""
    most = 2 ** (2 ** (2 * bits) - 1)
    for factors in itertools.product((1, 3, 45, 127), repeat=2):
        assert distinct.scaled(bits, factors, bits + 8).adders < most
    assert (
        distinct.scaled(bits, (64, 32), bits + 8).adders
        < distinct.scaled(bits, (45, 77), bits + 8).adders
    )


def test_constant_bits_leave_less() -> None:
    free, half = (None,) * 8, (None, 0) * 4
    assert sum(distinct.booth(8, half)) < sum(distinct.booth(8, free))
    assert sum(distinct.booth(8, (0,) * 8)) == 0
    shares = [distinct.share(words, 16, True) for words in (2, 3, 8)]
    assert shares == sorted(shares) and 0.7 < shares[0] < shares[-1] < 1
    assert POINTS >= 1024  # functions that differ at one operand of 2**10 are told apart
