"""Counting on arrays, against Python's own integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import bit_length, cdiv, clog2, divisors, ints

FAST = settings(derandomize=True, max_examples=200, deadline=None)
COUNTS = st.integers(0, 2**53 - 1)  # above, a float no longer tells neighbours apart


@FAST
@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(1, 2**40)), min_size=1))
def test_cdiv_rounds_the_fraction_up(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    assert cdiv(ints(a), ints(b)).tolist() == [math.ceil(Fraction(x, y)) for x, y in pairs]
    assert int(cdiv(a[0], b[0])) == math.ceil(Fraction(*pairs[0]))


@FAST
@given(st.lists(COUNTS, min_size=1))
def test_bit_length_is_pythons(values: list[int]) -> None:
    assert bit_length(values).tolist() == [value.bit_length() for value in values]


def test_bit_length_at_every_power_of_two() -> None:
    edges = [2**n + d for n in range(53) for d in (-1, 0, 1) if 0 <= 2**n + d < 2**53]
    assert bit_length(edges).tolist() == [edge.bit_length() for edge in edges]


@FAST
@given(st.integers(1, 2**40))
def test_clog2_is_the_least_width_that_counts_so_far(states: int) -> None:
    bits = int(clog2(states))
    assert 2**bits >= states
    assert bits == 0 or 2 ** (bits - 1) < states


def test_divisors_against_trial_division() -> None:
    for value in range(1, 400):
        assert divisors(value) == [d for d in range(1, value + 1) if value % d == 0]
    assert divisors(2**20) == [2**n for n in range(21)]


def test_counts_are_64_bits_wide() -> None:
    assert ints([2**40]).dtype == np.int64
    assert cdiv(ints(2**40), 3).dtype == np.int64
