"""What trees over random selections of the same operands have in common (rtl/shared.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Ints, Range, range_bits
from syq_dse.cost.units.carries import carry_pairs, short_bits
from syq_dse.scheme import weight_bits, weight_max

Floats = npt.NDArray[np.float64]

FEW = 64
"""Operands of a sum, up to which trees may have it in common and its width varies."""

NO_CARRY = 2
"""Bits of the largest sums that are logic, not adders. Synthesis merges the enable of a register
into logic of so few inputs in front of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selections:
    """Trees over the same operands, each of which selects some of them at random.

    The trees of all PEs of a group: where the codes are constants, a tree has only the operands
    that its codes select, and a sum that several trees need is there once.
    """

    trees: int
    share: float  # of the operands that a tree selects
    whole: bool = False  # one more tree selects all


class Expected(NamedTuple):
    """What all that several trees need takes, in the mean; the names are features of mac."""

    logic_bits: float  # of two and three inputs: counters of ones, small sums, lowest bits
    adder_bits: float
    carry_pairs: float
    short_bits: float
    ff: float


NOTHING = Expected(0.0, 0.0, 0.0, 0.0, 0.0)


def _sum(parts: Sequence[tuple[int, Expected]]) -> Expected:
    """So many times each."""
    total = sum((times * np.array(part) for times, part in parts), np.array(NOTHING))
    return Expected(*total.tolist())


def constant_sums(
    n: Ints, codebook: str, activation: Range, ones: bool, pes: Ints, where: Ints
) -> dict[str, Floats]:
    """What sums of n products with constant codes take, by the names of Expected; 0 elsewhere.

    All sums of the PEs of a group together, and the mean over codes each of which is as likely.

    Args:
        activation: range of one.
        ones: the activations are bits, three of which are counted first.
        pes: PEs of a group.
        where: whether codes are constants.
    """
    n, pes, where = np.broadcast_arrays(n, pes, where)
    out = np.zeros((*n.shape, len(NOTHING)))
    for index in np.ndindex(n.shape):
        if where[index]:
            out[index] = _constant_sums(int(n[index]), codebook, activation, ones, int(pes[index]))
    return dict(zip(Expected._fields, np.moveaxis(out, -1, 0), strict=True))


@cache
def _constant_sums(n: int, codebook: str, activation: Range, ones: bool, pes: int) -> Expected:
    if codebook == "binary":
        of = Selections(trees=pes, share=0.5, whole=True)
        last = differences(n, activation, pes)
    elif weight_max(codebook) == 1:
        of = Selections(trees=2 * pes, share=1 / 3)
        last = ternary_differences(n, activation, pes)
    else:
        code = weight_bits(codebook)
        of = Selections(trees=code * pes, share=0.5)
        last = joins(n, activation, code, pes)
    return _sum([(1, expected(n, activation, ones, of)), (1, last)])


@cache
def expected(n: int, operand: Range, ones: bool, of: Selections) -> Expected:
    """Counts of trees over n operands, a register behind each level.

    Args:
        operand: range of one.
        ones: the operands are bits, three of which are counted first.

    >>> one = Selections(trees=1, share=1.0)
    >>> expected(4, (0, 15), False, one)  # two adders of 4 bits, one of 5; registers of 5 and 6
    Expected(logic_bits=0.0, adder_bits=13.0, carry_pairs=9.0, short_bits=0.0, ff=16.0)
    """
    parts = []
    row = [1] * n
    if ones:
        row = [min(3, n - i) for i in range(0, n, 3)]
        for size, times in Counter(row).items():
            k = np.arange(size + 1)
            bits = distinct(k, size - k, of) * _bits(operand, k)
            parts.append((times, NOTHING._replace(logic_bits=bits[2:].sum(), ff=bits.sum())))
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        pairs = [(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        for (left, right), times in Counter(pairs).items():
            parts.append((times, _adders(left, right, operand, of)))
        row = odd + [left + right for left, right in pairs]
        for size, times in Counter(row).items():
            parts.append((times, NOTHING._replace(ff=_registers(size, operand, of))))
    return _sum(parts)


def distinct(selected: Any, left: Any, of: Selections) -> Floats:
    """Sums of so many selected operands, and so many that are left out, that some tree needs.

    A sum that all operands are left out of is none.
    """
    selected, left = np.asarray(selected), np.asarray(left)
    one = np.zeros(np.broadcast(selected, left).shape)
    for count, share in ((selected, of.share), (left, 1 - of.share)):
        with np.errstate(divide="ignore", invalid="ignore"):
            one = one + np.where(count > 0, count * np.log(share), 0.0)
    chance = np.exp(one)
    with np.errstate(divide="ignore"):
        present = -np.expm1(of.trees * np.log1p(-chance))
    found = np.where(selected > 0, _choose(selected + left, selected) * present, 0.0)
    return np.where((left == 0) & of.whole, 1.0, found)


def _adders(left: int, right: int, operand: Range, of: Selections) -> Expected:
    """The sums of two neighbours, without registers."""
    if left + right > FEW:  # all differ
        likely = max(1, round(of.share * left)), max(1, round(of.share * right))
        a, b = np.array([likely, (left, right)]).T
        there = np.array([of.trees, int(of.whole)], dtype=np.float64)
    else:
        a, b = np.meshgrid(np.arange(1, left + 1), np.arange(1, right + 1), indexing="ij")
        # of the sums of so many operands, those with so many on either side
        ways = _choose(left, a) * _choose(right, b) / _choose(left + right, a + b)
        there = ways * distinct(a + b, left + right - a - b, of)
    bits = _bits(operand, a + b)
    small = bits <= NO_CARRY
    return Expected(
        logic_bits=NO_CARRY * (there * small).sum(),
        adder_bits=(there * _adder_bits(operand, a, b) * ~small).sum(),
        carry_pairs=(there * carry_pairs(bits)).sum(),
        short_bits=(there * short_bits(bits) * ~small).sum(),
        ff=0.0,
    )


def _registers(size: int, operand: Range, of: Selections) -> float:
    if size > FEW:
        of_one = _bits(operand, np.array(round(of.share * size)))
        return float(of.trees * of_one + of.whole * _bits(operand, np.array(size)))
    k = np.arange(size + 1)
    return float(distinct(k, size - k, of) @ _bits(operand, k))


def _bits(operand: Range, count: Any) -> Floats:
    """Bits of a sum of so many operands."""
    found = [range_bits(operand[0] * int(k), operand[1] * int(k)) for k in np.ravel(count)]
    return np.array(found, dtype=np.float64).reshape(np.shape(count))


def _adder_bits(operand: Range, a: Any, b: Any) -> Floats:
    """Bits of an adder of sums of a and b operands: where only one has a bit, there is no LUT."""
    of = np.maximum if operand[0] < 0 else np.minimum
    found: Floats = of(_bits(operand, a), _bits(operand, b))
    return found


FACTORIALS = np.cumprod([1.0, *range(1, FEW + 1)])


def _choose(n: Any, k: Any) -> Floats:
    found: Floats = FACTORIALS[n] / FACTORIALS[k] / FACTORIALS[np.asarray(n) - k]
    return found


def differences(n: int, operand: Range, trees: int) -> Expected:
    """2 * sum(a where w = +1) - sum(a), w = -1 and +1 as likely.

    The lowest bit is that of the sum of all, and a negation takes carries alone.
    """
    low, high = operand
    k = np.arange(n + 1) if n <= FEW else np.array([n // 2])
    there = np.array([float(trees)])
    if n <= FEW:
        there = distinct(k, n - k, Selections(trees=trees, share=0.5))
        there[0] = 0.0 if (n, operand) == (1, (0, 1)) else present(0.5**n, trees)
    bits = np.array(
        [range_bits(i * low - (n - i) * high, i * high - (n - i) * low) for i in k.tolist()]
    )
    adders, small = there * ((k < n) & (k > 0)), bits <= NO_CARRY
    # one operand is even; where neither has a sign, carries alone make that of the result
    luts = bits - 1 if low < 0 else np.minimum(_bits(operand, k), _bits(operand, n) - 1)
    return Expected(
        adder_bits=float((adders * luts * ~small).sum()),
        carry_pairs=float((there * (k < n) * carry_pairs(bits - (k > 0))).sum()),
        short_bits=float((there * (k < n) * short_bits(bits - 1) * ~small).sum()),
        logic_bits=float((adders * luts * small).sum()),
        ff=float((there * bits).sum()),
    )


def ternary_differences(n: int, operand: Range, trees: int) -> Expected:
    """sum(a where w = +1) - sum(a where w = -1), each w as likely.

    A difference and its opposite have the same LUTs.
    """
    low, high = operand
    if n > FEW:
        plus = minus = np.array([round(n / 3)])
        there = pairs = np.array([float(trees)])
    else:
        plus, minus = (k.ravel() for k in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
        plus, minus = plus[plus + minus <= n], minus[plus + minus <= n]
        sums = _choose(n, plus) * _choose(n - plus, minus) * (plus + minus > 0)
        one_bit = (n, operand) == (1, (0, 1))  # its negative is the same bit
        there = sums * present(3.0**-n, trees) * ~((minus > 0) & one_bit)
        pairs = sums / 2 * present(2 * 3.0**-n, trees) * (plus > 0) * (minus > 0)
    bits = np.array(
        [
            range_bits(p * low - q * high, p * high - q * low)
            for p, q in zip(plus.tolist(), minus.tolist(), strict=True)
        ]
    )
    small = bits <= NO_CARRY
    luts = bits if low < 0 else np.minimum(_bits(operand, plus), _bits(operand, minus))
    return Expected(
        adder_bits=float((pairs * (luts - 1) * ~small).sum()),
        carry_pairs=float((there * (minus > 0) * carry_pairs(bits - (plus > 0))).sum()),
        short_bits=float((there * (minus > 0) * short_bits(bits - 1) * ~small).sum()),
        logic_bits=float((pairs * np.where(small, bits, 1)).sum()),
        ff=float((there * bits).sum()),
    )


def joins(n: int, operand: Range, code_bits: int, trees: int) -> Expected:
    """The sums of a code's bits, each times its power of two, the last negative.

    Two that differ by a power of two alone are one.
    """
    parts = []
    likely, n = (n + 1) // 2, min(n, FEW // 2)  # more differ in any case
    most, signed = likely * max(operand[1], -operand[0]), operand[0] < 0
    row, negative = [1] * code_bits, True  # planes of each
    while len(row) > 1:
        pairs = [tuple(row[i : i + 2]) for i in range(0, len(row), 2)]
        last = [negative and i == len(pairs) - 1 for i in range(len(pairs))]
        for (pair, is_last), times in Counter(zip(pairs, last, strict=True)).items():
            parts += [
                (1, _join(pair, length, n, most, signed, is_last, trees * times))
                for length in range(1, sum(pair) + 1)
            ]
        negative = negative and len(row) % 2 == 1
        row = [sum(pair) for pair in pairs]
    return _sum(parts)


def _join(
    pair: tuple[int, ...], length: int, n: int, most: int, signed: bool, last: bool, trees: int
) -> Expected:
    """Sums of a pair of planes of which `length` are between the ends, both of them not 0."""
    planes, low = sum(pair), pair[0]
    ends = 2.0**n - 1
    sums = ends if length == 1 else ends**2 * 2.0 ** (n * (length - 2))
    each = 2.0 ** (-n * planes)
    places = planes - length + 1
    bits = (most * (2**length - 1)).bit_length() + (signed or last)
    found = NOTHING._replace(ff=sums * present(places * each, trees) * bits)
    # of its places, those where the pair meets within it
    meets = [low - at for at in range(places) if at < low < at + length]
    if not meets or len(pair) < 2:
        return found
    made, below = sums * present(len(meets) * each, trees), meets[0]
    parts = (
        (most * (2**below - 1) >> below).bit_length(),
        (most * (2 ** (length - below) - 1)).bit_length(),
    )
    return found._replace(
        logic_bits=made * last,
        adder_bits=made * ((max(parts) + 1 if signed else min(parts)) - last),
        carry_pairs=made * int(carry_pairs(bits - below)),
        short_bits=made * int(short_bits(bits - below)),
    )


def present(chance: float, trees: int) -> float:
    """Chance that one of some trees has what one has by this chance."""
    return 1.0 if chance >= 1 else -float(np.expm1(trees * np.log1p(-chance)))
