"""Arithmetic with constants in silicon: how many different functions of its operands it is made of.

Synthesis makes a function once, and none that is constant, an operand, or one of these inverted. So
a bit of a sum or of a product's row counts where no other bit is the same function. Functions are
told apart by their values at random operands.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from syq_dse.cost.integers import signed_digits

POINTS = 2048
"""Random operands at which functions are compared."""

ONES = (1 << POINTS) - 1

Bits = list[int]
"""A word, lowest bit first; each bit by its values at all points."""

Columns = tuple[int | None, ...]
"""Bits of a table's words, lowest first: 0 or 1 where all words have it, None where they differ."""


class Parts(NamedTuple):
    """Bits of products and sums."""

    terms: int  # that choose a multiple of the operand
    adders: int  # that add two bits and a carry


class Functions:
    """The functions met so far."""

    def __init__(self) -> None:
        self.rng = random.Random(0)
        self.known = {0}
        self.terms = self.adders = 0

    def word(self, bits: int) -> Bits:
        found = [self.rng.getrandbits(POINTS) for _ in range(bits)]
        self.known.update(map(_either, found))
        return found

    def is_new(self, values: int) -> bool:
        """Whether a function is met for the first time, it and its inverse."""
        before = len(self.known)
        self.known.add(_either(values))
        return len(self.known) > before

    def choose(self, one: int, two: int, minus: int, a: int, below: int) -> int:
        """A bit of 0, of a or of twice a, or of what these are inverted."""
        found = (one & a | two & below) ^ minus
        self.terms += self.is_new(found)
        return found

    def add(self, a: Bits, b: Bits, width: int, carry: int = 0) -> Bits:
        """The sum of two's complement; a bit without two bits and a carry to add counts nothing."""
        out = []
        for x, y in zip(extended(a, width), extended(b, width), strict=True):
            total = x ^ y ^ carry
            several = len({_either(x), _either(y), _either(carry)} - {0}) == 3
            self.adders += self.is_new(total) and several
            out.append(total)
            carry = x & y | carry & (x | y)
        return out

    @property
    def parts(self) -> Parts:
        return Parts(self.terms, self.adders)


def _either(values: int) -> int:
    return min(values, values ^ ONES)


def extended(a: Bits, width: int) -> Bits:
    """The word with its sign repeated, or what of it fits."""
    return (a + a[-1:] * (width - len(a)))[:width]


def columns_of(words: Iterable[int], width: int) -> Columns:
    """What the columns of a table are, before it is one.

    >>> columns_of([0b001, 0b101], 3)
    (1, 0, None)
    """
    held = list(words)
    found = [{word >> place & 1 for word in held} for place in range(width)]
    return tuple(of.pop() if len(of) == 1 else None for of in found)


@cache
def booth(bits: int, factor: Columns) -> Parts:
    """Of rtl/dsp.Booth: an operand times a factor, of which some bits are constant.

    >>> booth(8, (None,) * 8), booth(8, (None,) * 4 + (0,) * 4)
    (Parts(terms=36, adders=27), Parts(terms=26, adders=16))
    """
    of = Functions()
    a = of.word(bits)
    b = [of.word(1)[0] if bit is None else bit * ONES for bit in factor]
    coded = [0, *b, *(b[-1:] if len(b) % 2 else [])]
    triples = [coded[place : place + 3] for place in range(0, len(coded) - 2, 2)]
    half = len(triples) if len(triples) <= 4 else (len(triples) + 1) // 2
    low = _rows(of, a, triples[:half])
    if half < len(triples):
        of.add(_rows(of, a, triples[half:]), low[2 * half :], bits + len(factor) - 2 * half)
    return of.parts


def _rows(of: Functions, a: Bits, triples: Sequence[Sequence[int]]) -> Bits:
    width = len(a) + 2
    low: Bits = []
    total = [0] * width
    for row, (below, middle, minus) in enumerate(triples):
        one = below ^ middle
        two = (one ^ ONES) & (middle ^ minus)
        once, twice = extended(a, width), [0, *extended(a, width - 1)]
        term = [of.choose(one, two, minus, x, y) for x, y in zip(once, twice, strict=True)]
        if row:
            low, total = low + total[:2], total[2:]
        total = of.add(term, total, width, minus)
    return low + total


@cache
def scaled(bits: int, factors: tuple[int, ...], most: int) -> Parts:
    """Of a sum of operands times constants, as rtl/scale.py makes it where mantissas are constants.

    Args:
        bits: of each operand.
        most: bits of the sum.

    >>> scaled(8, (64, 32), 16), scaled(8, (64, 45), 16)
    (Parts(terms=0, adders=8), Parts(terms=0, adders=33))
    """
    of = Functions()
    width = bits + max(factor.bit_length() for factor in factors) + 1
    level = [_times(of, of.word(bits), factor, min(width, most)) for factor in factors]
    while len(level) > 1:
        width = min(max(map(len, level)) + 1, most)
        joined = [of.add(a, b, width) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = joined + level[2 * len(joined) :]
    return of.parts


def _times(of: Functions, a: Bits, factor: int, width: int) -> Bits:
    """By Horner's rule over signed digits, as rtl/dsp.multiply_luts with a constant."""
    digits = dict(signed_digits(factor))
    total = [0] * width
    for place in reversed(range(max(digits, default=-1) + 1)):
        total = [0, *total][:width]
        if digits.get(place, 0) > 0:
            total = of.add(total, a, width)
        elif digits.get(place, 0) < 0:
            total = of.add(total, [bit ^ ONES for bit in a], width, ONES)
    return total


FEW = 8
"""Words of a table from which on hardly a column is constant."""

DRAWS = 9
"""Factors, at least, over which a mean is taken."""

REFERENCE = 12
"""Bits of the operand by which a share of variable bits is found: it hardly depends on them."""


@cache
def share(words: int, width: int, sign: bool) -> float:
    """Bits of a product by a factor out of `words` random ones, as a share of those by any factor.

    Args:
        width: bits of a factor.
        sign: whether its sign, and so the highest bit, is always 0.
    """
    rng = random.Random(0)
    top = 1 << width - sign
    drawn = [
        booth(REFERENCE, columns_of([rng.randrange(top) for _ in range(words)], width))
        for _ in range(DRAWS)
    ]
    return sum(map(sum, drawn)) / DRAWS / sum(booth(REFERENCE, (None,) * width))


@cache
def mean_scaled(bits: int, count: int, most: int, largest: int) -> float:
    """Adders of `scaled` in the mean over factors from 1 to `largest`."""
    rng = random.Random(0)
    draws = -(-DRAWS // count)
    drawn = [
        scaled(bits, tuple(rng.randint(1, largest) for _ in range(count)), most)
        for _ in range(draws)
    ]
    return sum(of.adders for of in drawn) / draws
