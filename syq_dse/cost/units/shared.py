"""What trees over selections of the same operands have in common (rtl/shared.py).

The selections are those of constant codes, which are known, or random ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

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


Place = int
"""The operands that a sum might be of, as the bits of a number."""


class Selected(Protocol):
    """Trees over the same operands, each of which selects some of them.

    A sum that several trees need is there once.
    """

    def sums(self, places: Sequence[Place]) -> Iterator[tuple[Floats, Floats]]:
        """Of sums at some places, how many operands each has, and how many such sums there are."""

    def pairs(self, places: Sequence[tuple[Place, Place]]) -> Iterator[tuple[Floats, ...]]:
        """Of sums of two neighbours, both of them not 0, how many operands each neighbour has, and
        how many such sums there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selections:
    """Trees of which each selects operands at random: how many sums there are in the mean."""

    trees: int
    share: float  # of the operands that a tree selects
    whole: bool = False  # one more tree selects all

    def sums(self, places: Sequence[Place]) -> Iterator[tuple[Floats, Floats]]:
        for size, times in Counter(place.bit_count() for place in places).items():
            if size > FEW:  # all differ
                k = np.array([round(self.share * size), size])
                there = np.array([self.trees, int(self.whole)], dtype=np.float64)
            else:
                k = np.arange(size + 1)
                there = distinct(k, size - k, self)
            yield k, times * there

    def pairs(self, places: Sequence[tuple[Place, Place]]) -> Iterator[tuple[Floats, ...]]:
        sizes = Counter((left.bit_count(), right.bit_count()) for left, right in places)
        for (left, right), times in sizes.items():
            if left + right > FEW:
                likely = max(1, round(self.share * left)), max(1, round(self.share * right))
                a, b = np.array([likely, (left, right)]).T
                there = np.array([self.trees, int(self.whole)], dtype=np.float64)
            else:
                a, b = np.meshgrid(np.arange(1, left + 1), np.arange(1, right + 1), indexing="ij")
                # of the sums of so many operands, those with so many on either side
                ways = _choose(left, a) * _choose(right, b) / _choose(left + right, a + b)
                there = ways * distinct(a + b, left + right - a - b, self)
            yield a, b, times * there


@dataclass(frozen=True, slots=True)
class Masks:
    """Trees whose selections are known: bit i of a mask says whether it selects operand i."""

    of: frozenset[int]

    def sums(self, places: Sequence[Place]) -> Iterator[tuple[Floats, Floats]]:
        found = ({mask & place for mask in self.of} - {0} for place in places)
        counted = Counter(mask.bit_count() for masks in found for mask in masks)
        yield _arrays(counted.keys(), 1), np.array(list(counted.values()), dtype=np.float64)

    def pairs(self, places: Sequence[tuple[Place, Place]]) -> Iterator[tuple[Floats, ...]]:
        counted: Counter[tuple[int, int]] = Counter()
        for left, right in places:
            for a, b in {(mask & left, mask & right) for mask in self.of}:
                if a and b:
                    counted[a.bit_count(), b.bit_count()] += 1
        sizes = _arrays(counted.keys(), 2)
        yield sizes[0], sizes[1], np.array(list(counted.values()), dtype=np.float64)


def _arrays(keys: Iterable[Any], columns: int) -> Any:
    """Keys of a counter as arrays of whole numbers, one a column."""
    found = np.array(list(keys), dtype=np.int64)
    return found if columns == 1 else found.reshape(-1, columns).T


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
        last = differences(n, activation, *random_differences(n, activation, pes))
    elif weight_max(codebook) == 1:
        of = Selections(trees=2 * pes, share=1 / 3)
        last = ternary_differences(activation, *random_ternary_differences(n, activation, pes))
    else:
        code = weight_bits(codebook)
        of = Selections(trees=code * pes, share=0.5)
        last = joins(n, activation, code, pes)
    return _sum([(1, expected(n, activation, ones, of)), (1, last)])


def known_sums(
    codes: npt.NDArray[np.int64], codebook: str, activation: Range, ones: bool
) -> Expected:
    """What the sums of products with these codes take, as `constant_sums`.

    Args:
        codes: shape (PEs of a group, products of a sum).

    >>> codes = np.array([[1, -1], [-1, 1]])  # a - b and b - a: each has a register, both one adder
    >>> known_sums(codes, "ternary", (0, 15), False)
    Expected(logic_bits=1.0, adder_bits=3.0, carry_pairs=0.0, short_bits=8.0, ff=18.0)
    """
    n = codes.shape[1]
    if codebook == "binary":
        plus = _masks(codes > 0)
        trees = {*plus, (1 << n) - 1}
        k, there = next(Masks(frozenset(plus)).sums([(1 << n) - 1]))
        if 0 in plus and (n, activation) != (1, (0, 1)):
            k, there = np.append(k, 0), np.append(there, 1.0)
        last = differences(n, activation, k, there)
    elif weight_max(codebook) == 1:
        sums = set(zip(_masks(codes > 0), _masks(codes < 0), strict=True)) - {(0, 0)}
        trees = {mask for pair in sums for mask in pair}
        if (n, activation) == (1, (0, 1)):
            sums.discard((0, 1))  # the negative is the same bit
        both = {frozenset(pair) for pair in sums if all(pair)}
        made = Counter((p.bit_count(), m.bit_count()) for p, m in sums)
        pairs: Counter[tuple[int, int]] = Counter()
        for few, many in (sorted(mask.bit_count() for mask in pair) for pair in both):
            pairs[few, many] += 1
        sizes = sorted({*made, *pairs})
        positive, negative = _arrays(sizes, 2)
        there, opposite = (
            np.array([of[size] for size in sizes], dtype=np.float64) for of in (made, pairs)
        )
        last = ternary_differences(activation, positive, negative, there, opposite)
    else:
        code = weight_bits(codebook)
        planes = [_masks(codes >> bit & 1) for bit in range(code)]
        trees = {mask for plane in planes for mask in plane}
        last = known_joins(activation, [tuple(row) for row in zip(*planes, strict=True)])
    return _sum([(1, expected(n, activation, ones, Masks(frozenset(trees)))), (1, last)])


def _masks(selected: npt.NDArray[Any]) -> list[int]:
    """The operands that each row selects, as the bits of a number."""
    return [int("".join("01"[bool(x)] for x in row[::-1]), 2) for row in selected]


@cache
def expected(n: int, operand: Range, ones: bool, of: Selected) -> Expected:
    """Counts of trees over n operands, a register behind each level.

    Args:
        operand: range of one.
        ones: the operands are bits, three of which are counted first.

    >>> one = Selections(trees=1, share=1.0)
    >>> expected(4, (0, 15), False, one)  # two adders of 4 bits, one of 5; registers of 5 and 6
    Expected(logic_bits=0.0, adder_bits=13.0, carry_pairs=9.0, short_bits=0.0, ff=16.0)
    >>> expected(4, (0, 15), False, Masks(frozenset([0b0011, 0b0111]))).adder_bits  # a + b is once
    8.0
    """
    parts = []
    row = [1 << i for i in range(n)]
    if ones:
        row = [sum(row[i : i + 3]) for i in range(0, n, 3)]
        for k, there in of.sums(row):
            bits = there * _bits(operand, k)
            parts.append(NOTHING._replace(logic_bits=float(bits[k > 1].sum()), ff=bits.sum()))
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        pairs = [(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        parts += [_adders(operand, *found) for found in of.pairs(pairs)]
        row = odd + [left | right for left, right in pairs]
        for k, there in of.sums(row):
            parts.append(NOTHING._replace(ff=float(there @ _bits(operand, k))))
    return _sum([(1, part) for part in parts])


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


def _adders(operand: Range, a: Floats, b: Floats, there: Floats) -> Expected:
    """So many sums of a and b operands, without registers."""
    bits = _bits(operand, a + b)
    small = bits <= NO_CARRY
    return Expected(
        logic_bits=float(NO_CARRY * (there * small).sum()),
        adder_bits=float((there * _adder_bits(operand, a, b) * ~small).sum()),
        carry_pairs=float((there * carry_pairs(bits)).sum()),
        short_bits=float((there * short_bits(bits) * ~small).sum()),
        ff=0.0,
    )


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


def random_differences(n: int, operand: Range, trees: int) -> tuple[Any, Floats]:
    """How many of n weights are +1, each as likely as not, in the differences that there are."""
    if n > FEW:
        return np.array([n // 2]), np.array([float(trees)])
    k = np.arange(n + 1)
    there = distinct(k, n - k, Selections(trees=trees, share=0.5))
    there[0] = 0.0 if (n, operand) == (1, (0, 1)) else present(0.5**n, trees)
    return k, there


def differences(n: int, operand: Range, k: Floats, there: Floats) -> Expected:
    """2 * sum(a where w = +1) - sum(a), so many times with k weights that are +1.

    The lowest bit is that of the sum of all, and a negation takes carries alone.
    """
    low, high = operand
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


def random_ternary_differences(n: int, operand: Range, trees: int) -> tuple[Any, ...]:
    """How many of n weights are +1 and -1, each as likely as 0, in the differences that there are;
    how many of these there are, and how many are not the opposite of another one."""
    if n > FEW:
        third, there = np.array([round(n / 3)]), np.array([float(trees)])
        return third, third, there, there
    plus, minus = (k.ravel() for k in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    plus, minus = plus[plus + minus <= n], minus[plus + minus <= n]
    sums = _choose(n, plus) * _choose(n - plus, minus) * (plus + minus > 0)
    one_bit = (n, operand) == (1, (0, 1))  # its negative is the same bit
    there = sums * present(3.0**-n, trees) * ~((minus > 0) & one_bit)
    pairs = sums / 2 * present(2 * 3.0**-n, trees) * (plus > 0) * (minus > 0)
    return plus, minus, there, pairs


def ternary_differences(
    operand: Range, plus: Floats, minus: Floats, there: Floats, pairs: Floats
) -> Expected:
    """sum(a where w = +1) - sum(a where w = -1), so many times with so many weights +1 and -1.

    A difference and its opposite have the same LUTs: `pairs` are there without opposites.
    """
    low, high = operand
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


def known_joins(operand: Range, rows: Sequence[tuple[int, ...]]) -> Expected:
    """The sums of a code's bits, as `joins`, of known codes.

    Args:
        rows: of each sum, the operands that each bit selects, as masks.
    """
    parts: list[Expected] = []
    width, negative = len(rows[0]), True
    cuts = list(range(width + 1))  # between the planes that are joined already
    while len(cuts) > 2:
        held, made = set(), set()
        for first in range(0, len(cuts) - 1, 2):
            low, middle, high = cuts[first], cuts[first + 1], cuts[min(first + 2, len(cuts) - 1)]
            last = negative and first >= len(cuts) - 3
            for row in rows:
                planes = row[low:high]
                if not any(planes):
                    continue
                skipped = next(i for i, mask in enumerate(planes) if mask)
                kept = planes[skipped : max(i for i, mask in enumerate(planes) if mask) + 1]
                signed = high == width and bool(row[-1])
                held.add((kept, signed))
                below = middle - low - skipped
                if high > middle and any(row[middle:high]) and (below > 0 or last):
                    made.add((kept, signed, max(0, below), last))
        parts += [NOTHING._replace(ff=float(range_bits(*_joined(operand, *of)))) for of in held]
        parts += [_known_join(operand, *of) for of in made]
        negative = negative and len(cuts) % 2 == 0
        cuts = [*cuts[:-1:2], width]
    return _sum([(1, part) for part in parts])


def _joined(operand: Range, planes: Sequence[int], signed: bool) -> Range:
    """Range of the sum of planes times powers of two; the last is negative where it is signed."""
    low = high = 0
    for index, mask in enumerate(planes):
        count = mask.bit_count() << index
        ends = count * operand[0], count * operand[1]
        if signed and index == len(planes) - 1:
            ends = -ends[1], -ends[0]
        low, high = low + ends[0], high + ends[1]
    return low, high


def _known_join(
    operand: Range, planes: Sequence[int], signed: bool, below: int, negative: bool
) -> Expected:
    """The sum of the planes `below` and of the others, or their difference."""
    bits = range_bits(*_joined(operand, planes, signed)) - below
    low, high = _joined(operand, planes[:below], False)
    parts = (
        range_bits(low >> below, high >> below),
        range_bits(*_joined(operand, planes[below:], signed and not negative)),
    )
    luts = (max if low < 0 else min)(parts) if below else 0  # carries alone negate
    return NOTHING._replace(
        logic_bits=float(negative and luts > 0),
        adder_bits=float(max(0, luts - negative)),
        carry_pairs=float(carry_pairs(bits)),
        short_bits=float(short_bits(bits)),
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
