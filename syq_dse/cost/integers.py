"""Exact integer arithmetic on arrays: what every count is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
"""Counts of many foldings at once, one element a folding."""


def ints(value: Any) -> Ints:
    """Any integer or list of integers as an array of counts."""
    return np.asarray(value, dtype=np.int64)


def cdiv(a: Any, b: Any) -> Ints:
    """a / b, rounded up.

    >>> int(cdiv(7, 2))
    4
    """
    rounded: Ints = np.negative(np.negative(a) // b)
    return rounded


def bit_length(value: Any) -> Ints:
    """Bits of a non-negative integer below 2**53; 0 for 0.

    >>> bit_length([0, 1, 7, 8]).tolist()
    [0, 1, 3, 4]
    """
    return np.frexp(ints(value).astype(np.float64))[1].astype(np.int64)


def clog2(value: Any) -> Ints:
    """Bits that count from 0 to value - 1: the logarithm to base 2, rounded up.

    >>> clog2([1, 2, 5, 8]).tolist()
    [0, 1, 3, 3]
    """
    return bit_length(ints(value) - 1)


def divisors(value: int) -> list[int]:
    """All divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [d for d in range(1, int(value**0.5) + 1) if value % d == 0]
    return sorted({*small, *(value // d for d in small)})


Range = tuple[int, int]
"""Lowest and highest value of a number."""


def range_bits(low: int, high: int) -> int:
    """Bits that hold every value of a range, two's complement where it has negative ones.

    >>> range_bits(0, 15), range_bits(-16, 15)
    (4, 5)
    """
    return high.bit_length() if low >= 0 else max(high, ~low).bit_length() + 1


def code_range(bits: int, signed: bool) -> Range:
    """Least and largest code of a precision.

    >>> code_range(4, False), code_range(4, True)
    ((0, 15), (-8, 7))
    """
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def signed_digits(factor: int) -> list[tuple[int, int]]:
    """Places and digits, -1 or 1, of which a number in base 2 needs the fewest; the lowest first.

    >>> signed_digits(7), signed_digits(-5)
    ([(0, -1), (3, 1)], [(0, -1), (2, -1)])
    """
    digits: list[tuple[int, int]] = []
    place = 0
    while factor:
        if factor % 2:
            digits.append((place, 2 - factor % 4))
            factor -= digits[-1][1]
        factor, place = factor // 2, place + 1
    return digits
