"""What trees over random selections of the same operands have in common (rtl/shared.py)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import lgamma
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Range, range_bits
from syq_dse.cost.units.add import SHORT

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What all trees of some Selections take together, in the mean."""

    logic: float  # bits of logic of two and three inputs: counters of ones, and sums of two bits
    adder: float  # bits of adders
    pairs: float  # of bits of their carry chains
    short: float  # bits of sums that are too short for one
    ff: float


@cache
def expected(n: int, operand: Range, ones: bool, of: Selections) -> Expected:
    """Counts of trees over n operands, a register behind each level.

    Args:
        operand: range of one.
        ones: the operands are bits, three of which are counted first.

    >>> one = Selections(trees=1, share=1.0)
    >>> expected(4, (0, 15), False, one)  # two adders of 4 bits, one of 5; registers of 5 and 6
    Expected(logic=0.0, adder=13.0, pairs=9.0, short=0.0, ff=16.0)
    """
    logic = adder = chains = short = ff = 0.0
    row = [1] * n
    if ones:
        row = [min(3, n - i) for i in range(0, n, 3)]
        for size, times in Counter(row).items():
            k = np.arange(size + 1)
            there = distinct(k, size - k, of)
            logic += times * float(there[2:] @ _bits(operand, k[2:]))
            ff += times * float(there @ _bits(operand, k))
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        pairs = [(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        for (left, right), times in Counter(pairs).items():
            found = times * _adders(left, right, operand, of)
            logic, adder, chains, short = np.array([logic, adder, chains, short]) + found
        row = odd + [left + right for left, right in pairs]
        for size, times in Counter(row).items():
            ff += times * _registers(size, operand, of)
    return Expected(
        logic=float(logic), adder=float(adder), pairs=float(chains), short=float(short), ff=ff
    )


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
    sums = np.exp(_log_factorial(selected + left) - _log_factorial(selected) - _log_factorial(left))
    found = np.where(selected > 0, sums * present, 0.0)
    return np.where((left == 0) & of.whole, 1.0, found)


def _adders(left: int, right: int, operand: Range, of: Selections) -> Floats:
    """Of the sums of two neighbours: bits of those in logic, of adders; pairs of carries, and bits
    of sums that are too short for them."""
    if left + right > FEW:
        sizes = max(1, round(of.share * left)), max(1, round(of.share * right))
        found = np.zeros(4)
        for times, (a_size, b_size) in ((of.trees, sizes), (int(of.whole), (left, right))):
            one, other = np.array(a_size), np.array(b_size)
            found[1] += times * float(_adder_bits(operand, one, other))
            found[2] += times * float(_pairs(_bits(operand, one + other)))
            found[3] += times * float(_short(_bits(operand, one + other)))
        return found
    a, b = np.meshgrid(np.arange(1, left + 1), np.arange(1, right + 1), indexing="ij")
    # of the sums of so many operands, those with so many on either side
    both = np.exp(
        sum(_log_choose(size, k) for size, k in ((left, a), (right, b)))
        - _log_choose(left + right, a + b)
    )
    there = both * distinct(a + b, left + right - a - b, of)
    bits = _bits(operand, a + b)
    small = bits <= NO_CARRY
    return np.array(
        [
            NO_CARRY * (there * small).sum(),
            (there * _adder_bits(operand, a, b) * ~small).sum(),
            (there * _pairs(bits)).sum(),
            (there * _short(bits) * ~small).sum(),
        ]
    )


def _pairs(bits: Floats) -> Floats:
    """add.carry_pairs of many chains."""
    found: Floats = np.where(bits > SHORT, np.ceil(bits / 2), 0.0)
    return found


def _short(bits: Floats) -> Floats:
    """Bits of sums that are no carry chains where cells hold two bits of one."""
    return np.where(bits > SHORT, 0.0, bits)


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


def _log_factorial(n: Any) -> Floats:
    return np.array([lgamma(int(k) + 1) for k in np.ravel(n)]).reshape(np.shape(n))


def _log_choose(n: Any, k: Any) -> Floats:
    found: Floats = _log_factorial(n) - _log_factorial(k) - _log_factorial(np.asarray(n) - k)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What brings the sums of several trees together, for all PEs, in the mean."""

    adder: float  # bits of adders
    pairs: float  # of bits of their carry chains
    short: float  # bits of sums that are too short for one
    logic: float  # lowest bits of differences: no carry reaches them
    ff: float


def differences(n: int, operand: Range, trees: int) -> Joined:
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
    return Joined(
        adder=float((adders * luts * ~small).sum()),
        pairs=float((there * (k < n) * _pairs(bits - (k > 0))).sum()),
        short=float((there * (k < n) * _short(bits - 1) * ~small).sum()),
        logic=float((adders * luts * small).sum()),
        ff=float((there * bits).sum()),
    )


def ternary_differences(n: int, operand: Range, trees: int) -> Joined:
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
        sums = np.exp(_log_choose(n, plus) + _log_choose(n - plus, minus)) * (plus + minus > 0)
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
    return Joined(
        adder=float((pairs * (luts - 1) * ~small).sum()),
        pairs=float((there * (minus > 0) * _pairs(bits - (plus > 0))).sum()),
        short=float((there * (minus > 0) * _short(bits - 1) * ~small).sum()),
        logic=float((pairs * np.where(small, bits, 1)).sum()),
        ff=float((there * bits).sum()),
    )


def joins(n: int, operand: Range, code_bits: int, trees: int) -> Joined:
    """The sums of a code's bits, each times its power of two, the last negative.

    Two that differ by a power of two alone are one.
    """
    adder = chains = short = logic = ff = 0.0
    likely, n = (n + 1) // 2, min(n, FEW // 2)  # more differ in any case
    most, signed = likely * max(operand[1], -operand[0]), operand[0] < 0
    row, negative = [1] * code_bits, True  # planes of each
    while len(row) > 1:
        pairs = [row[i : i + 2] for i in range(0, len(row), 2)]
        last = [negative and i == len(pairs) - 1 for i in range(len(pairs))]
        for (pair, is_last), times in Counter(zip(map(tuple, pairs), last, strict=True)).items():
            planes, low = sum(pair), pair[0]
            for length in range(
                1, planes + 1
            ):  # from the lowest plane that is not 0 to the highest
                ends = 2.0**n - 1
                sums = ends if length == 1 else ends**2 * 2.0 ** (n * (length - 2))
                places = planes - length + 1
                bits = (most * (2**length - 1)).bit_length() + (signed or is_last)
                made = sums * present(places * 2.0 ** (-n * planes), trees * times)
                ff += made * bits
                # of its places, those where the pair meets within it
                meets = [low - at for at in range(places) if at < low < at + length]
                if meets and len(pair) == 2:
                    made = sums * present(len(meets) * 2.0 ** (-n * planes), trees * times)
                    below = meets[0]  # planes
                    parts = (
                        (most * (2**below - 1) >> below).bit_length(),
                        (most * (2 ** (length - below) - 1)).bit_length(),
                    )
                    adder += made * ((max(parts) + 1 if signed else min(parts)) - is_last)
                    chains += made * float(_pairs(np.array(bits - below)))
                    short += made * float(_short(np.array(bits - below)))
                    logic += made * is_last
        negative = negative and len(row) % 2 == 1
        row = [sum(pair) for pair in pairs]
    return Joined(adder=adder, pairs=chains, short=short, logic=logic, ff=ff)


def present(chance: float, trees: int) -> float:
    """Chance that one of some trees has what one has by this chance."""
    return 1.0 if chance >= 1 else -float(np.expm1(trees * np.log1p(-chance)))
