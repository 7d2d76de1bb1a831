"""`requant`: batch-norm, scale exponent and quantiser as one step function of the accumulator."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import Ints, cdiv, clog2, divisors, ints
from syq_dse.cost.selects import selectors

Method = Literal["thresholds", "multiply"]

GAIN_BITS = 16
"""Bits of the factor in multiply-add-shift-clip."""


def shared(pe: Ints, most: Ints) -> Ints:
    """Lanes of a word that take turns at one piece of hardware: the largest divisor up to `most`.

    >>> shared(ints([12, 12, 7]), ints([5, 100, 3])).tolist()
    [4, 12, 1]
    """
    pe, most = np.broadcast_arrays(ints(pe), np.maximum(ints(most), 1))
    out = np.ones(pe.shape, dtype=np.int64)
    for value in np.unique(pe):
        of = ints(divisors(int(value)))
        where = pe == value
        out[where] = of[np.searchsorted(of, most[where], side="right") - 1]
    return out


def turn_bits(places: Ints, g: Ints) -> Ints:
    """Bits that count the turns of g lanes at each of `places` folds, and the lane where it isn't
    the low bits of that."""
    apart = (g & (g - 1) != 0) & (places > 1)
    bits: Ints = clog2(places * g) + np.where(apart, clog2(g), 0)
    return bits


def repeated(acc: int, fan_in: int) -> int:
    """High bits of thresholds that all equal the sign: sums rarely get near what they might be.

    A sum of fan_in products with random signs has a standard deviation of about half its range by
    the root of fan_in, and its thresholds lie within four of them.

    >>> repeated(20, 576), repeated(6, 25)
    (4, 2)
    """
    return max(0, min(acc - 2, math.floor(math.log2(fan_in) / 2 - 0.25)))


GAIN_ALIKE = 2
"""High bits of gains that are equal: their sign, and the highest, as they fill their width."""

CONSTANT_PRODUCT_BITS = 2
"""Bits less of a product with a constant gain: it is positive, and one in two is even, one in four
a multiple of 4, and so on."""


def thresholds(
    acc: int, bits: int, channels: int, pe: Ints, period: Ints, alike: int = 0
) -> Counts:
    """Counts of a binary search over 2**bits - 1 thresholds a channel.

    A search takes `bits` comparisons. A comparator serves as many of the pe lanes, in turn, as keep
    up with a word every `period` cycles; each has a table of its own, by {channel, node of the
    tree}. Where not even one keeps up, a lane is a pipeline of comparators, each with the table of
    its level. Registers hold the codes until the word is whole.

    Args:
        acc: bits of the accumulator.
        channels: output channels, each with thresholds of its own.
        alike: high bits of thresholds that are equal (`repeated`).
    """
    pe, period = np.broadcast_arrays(ints(pe), ints(period))
    folds = channels // pe
    serial = period >= bits
    g = shared(pe, period // bits)
    banks = pe // g
    turns = turn_bits(folds, g)
    wide, narrow = selectors(g)
    nodes = banks * (bits - 1) + (bits > 1)
    words = folds * g * (2**bits if bits > 1 else 1)
    tables = [(np.where(serial, words, 1), banks)]
    tables += [(np.where(serial, 1, folds * 2**level), pe) for level in range(bits)]
    passed = pe * (acc * (bits - 1) + bits * (bits - 1) // 2) + bits - 1 + (bits - 1) * clog2(folds)
    return Counts(
        lut={
            # a single threshold is a constant: carries alone compare with it
            "compare_bits": np.where(serial, banks * (words > 1), pe * (bits - (folds == 1))) * acc,
            "select_4_bits": np.where(serial, banks * acc * wide, 0),
            "select_2_bits": np.where(serial, banks * acc * narrow, 0),
            "counter_bits": np.where(serial, turns, clog2(folds)),
            "code_bits": np.where(serial & (words > 1), banks * bits, 0),
            "searches": 1 * serial,
        },
        ff=np.where(serial, nodes + turns + (pe - banks) * bits, passed + clog2(folds))
        + pe * bits
        + 1,
        memories=tuple(
            Memory(
                width=acc,
                depth=depth,
                banks=of,
                constant=True,
                alike=alike,
                registered=False,
                in_luts=index == 1,  # of a pipeline's first level
            )
            for index, (depth, of) in enumerate(tables)
        ),
    )


def multiply(
    acc: int,
    bits: int,
    channels: int,
    pe: Ints,
    period: Ints,
    dsp: bool,
    port: int,
    alike: int = 0,
) -> Counts:
    """Counts of multiply, add, shift, clip with a gain and an offset a channel.

    A multiplier serves as many of the pe lanes, in turn, as there are cycles from word to word. An
    accumulator wider than the DSP's port takes several, whose products adders join.

    Args:
        dsp: multiply in DSPs; else in LUTs.
        port: width of the DSP's wider operand [bits].
        alike: high bits of thresholds, and so of offsets, that are equal (`repeated`).
    """
    pe, period = np.broadcast_arrays(ints(pe), ints(period))
    folds = channels // pe
    g = shared(pe, period)
    count = pe // g
    turns = turn_bits(folds, g)
    place = clog2(folds * g)
    product = acc + GAIN_BITS
    tables = tuple(
        Memory(width=count * width, depth=folds * g, constant=True, alike=count * same)
        for width, same in ((GAIN_BITS, GAIN_ALIKE), (product, alike))
    )
    dsps = ints(parts(acc, port) if dsp else 0)
    variable = folds * g > 1
    wide, narrow = selectors(g)
    lut = {
        "adder_bits": count * product,
        "clip_bits": count * bits,
        "select_4_bits": count * acc * wide,
        "select_2_bits": count * acc * narrow,
        "counter_bits": turns,
    }
    if dsp:
        lut["adder_bits"] = lut["adder_bits"] + count * join_bits(acc, GAIN_BITS, port)
    else:
        rows, joins = booth_bits(acc, GAIN_BITS)
        lut["row_bits"] = np.where(variable, count * rows, 0)
        lut["adder_bits"] = lut["adder_bits"] + np.where(variable, count * joins, 0)
        # a digit in three of a constant is not 0, and takes an adder; all but the first
        lut["constant_bits"] = np.where(
            variable, 0, count * acc * (GAIN_BITS - GAIN_ALIKE - 3) // 3
        )
    spare = 0 if dsp else np.where(variable, 0, CONSTANT_PRODUCT_BITS)
    flags = 3 + 2 * (g > 1) - (g == 2)  # of two lanes the place's lowest bit is the first flag
    return Counts(
        lut=lut,
        ff=flags + turns + place + count * (acc + product - spare) + (2 * pe - count) * bits,
        dsp=count * dsps,
        memories=tables,
    )


def parts(bits: int, port: int) -> int:
    """DSPs for an operand of `bits` bits at a port of `port`; all but the last hold one less.

    >>> [parts(bits, 27) for bits in (8, 27, 28, 53, 54)]
    [1, 1, 2, 2, 3]
    """
    return max(1, int(cdiv(bits - 1, port - 1)))


def join_bits(a: int, b: int, port: int) -> int:
    """Adder bits that join the products of the DSPs of one product of `a` times `b` bits."""
    return sum(a + b - part * (port - 1) for part in range(1, parts(a, port)))


def booth_bits(a: int, b: int) -> tuple[int, int]:
    """Bits of a product in LUTs: of its rows, and of the adder behind them.

    A row is for two bits of b; past four rows they are two halves, which an adder joins. The
    highest bit of a row's a + 2 is the one below again.
    """
    rows = (b + 1) // 2
    join = a + b - 2 * ((rows + 1) // 2) if rows > 4 else 0
    return rows * (a + 1), join
