"""`requant`: batch-norm, scale exponent and quantiser as one step function of the accumulator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from syq_dse.cost import distinct
from syq_dse.cost.counts import Counts, Memory, different_columns
from syq_dse.cost.integers import Ints, cdiv, clog2, divisors, ints, signed_digits
from syq_dse.cost.search_tables import parts as parts_of
from syq_dse.cost.search_tables import tree_nodes
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


def threshold_words(acc: int, of: Ints) -> Ints:
    """What stands in a table for thresholds of any size: accumulator + word overflows at them."""
    highest = (1 << acc - 1) - 1
    return highest - np.clip(of - 1, -highest - 1, highest)


class _Known(NamedTuple):
    """What tables of known thresholds hold, in all their banks."""

    columns: int  # that differ
    parts: tuple[int, int]  # octets and selections, as cost/search_tables.py has them


def _known(acc: int, bits: int, of: Ints, pe: int, g: int, serial: bool) -> list[_Known]:
    """Of the tables that `thresholds` counts."""
    words = threshold_words(acc, of)[:, tree_nodes(bits)]
    folds = words.reshape(-1, pe, words.shape[1])
    if not serial:
        levels = [slice(2**level - 1, 2 ** (level + 1) - 1) for level in range(bits)]
        return [_Known(0, (0, 0))] + [
            _content([folds[:, p, level].reshape(-1) for p in range(pe)], acc) for level in levels
        ]
    if bits > 1:  # of the node that there is not
        folds = np.concatenate([~folds[:, :, :1] & (1 << acc) - 1, folds], axis=2)
    banks = folds.reshape(len(folds), pe // g, -1)
    found = _content([banks[:, i].reshape(-1) for i in range(pe // g)], acc)
    return [found] + [_Known(0, (0, 0))] * bits


def _content(banks: Sequence[Ints], acc: int) -> _Known:
    found = [parts_of(words, acc) for words in banks]
    return _Known(
        sum(different_columns(words[:, None], acc) for words in banks),
        (sum(octets for octets, _ in found), sum(selections for _, selections in found)),
    )


def thresholds(
    acc: int,
    bits: int,
    channels: int,
    pe: Ints,
    period: Ints,
    alike: int = 0,
    known: Ints | None = None,
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
        known: the thresholds of the one folding, shape (channels, 2**bits - 1), ascending.
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
    held: list[_Known | None] = [None] * len(tables)
    if known is not None:
        held = [*_known(acc, bits, known, int(pe[0]), int(g[0]), bool(serial[0]))]
    passed = pe * (acc * (bits - 1) + bits * (bits - 1) // 2) + bits - 1 + (bits - 1) * clog2(folds)
    return Counts(
        lut={
            # a single threshold is a constant: carries alone compare with it
            "compare_bits": np.where(serial, banks * (words > 1), pe * (bits - (folds == 1))) * acc,
            "carry_bits": np.where(serial, banks * (words <= 1), pe * (folds == 1)) * acc,
            "select_4_bits": np.where(serial, banks * acc * wide, 0),
            "select_2_bits": np.where(serial, banks * acc * narrow, 0),
            "counter_bits": np.where(serial, turns, clog2(folds)),
            "code_bits": np.where(serial & (words > 1), banks * bits, 0),
            "searches": 1 * serial,
        },
        ff=np.where(serial, nodes + turns + (pe - banks) * bits, passed + clog2(folds))
        + pe * bits
        + 1,
        active=np.where(serial, g * bits, 1) / period,
        memories=tuple(
            Memory(
                width=acc,
                depth=depth,
                banks=of,
                constant=True,
                alike=alike,
                different=None if of_known is None else of_known.columns,
                parts=None if of_known is None else of_known.parts,
                registered=False,
                search=(bits, index - 1 if index else None),
                in_luts=index == 1,  # of a pipeline's first level
            )
            for index, ((depth, of), of_known) in enumerate(zip(tables, held, strict=True))
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
    known: tuple[Ints, Ints] | None = None,
) -> Counts:
    """Counts of multiply, add, shift, clip with a gain and an offset a channel.

    A multiplier serves as many of the pe lanes, in turn, as there are cycles from word to word. An
    accumulator wider than the DSP's port takes several, whose products adders join.

    Args:
        dsp: multiply in DSPs; else in LUTs.
        port: width of the DSP's wider operand [bits].
        alike: high bits of thresholds, and so of offsets, that are equal (`repeated`).
        known: gains and offsets of the one folding, shape (channels,).
    """
    pe, period = np.broadcast_arrays(ints(pe), ints(period))
    folds = channels // pe
    g = shared(pe, period)
    count = pe // g
    turns = turn_bits(folds, g)
    place = clog2(folds * g)
    product = acc + GAIN_BITS
    by_constants, carries, held = (
        np.rint(count * of).astype(np.int64) for of in mean_constant(acc)
    )
    different: list[int | None] = [None, None]
    gains: Ints | None = None
    if known is not None:
        words = [of.reshape(-1, int(count[0]), int(g[0])).transpose(0, 2, 1) for of in known]
        different = [
            different_columns(of.reshape(-1, int(count[0])), width)
            for of, width in zip(words, (GAIN_BITS, product), strict=True)
        ]
        gains = words[0].reshape(-1, int(count[0]))
        products = [
            constant_product(acc, int(gain), int(offset))
            for gain, offset in zip(*known, strict=True)
        ]
        by_constants, carries, held = (ints([sum(of)]) for of in zip(*products, strict=True))
    tables = tuple(
        Memory(
            width=count * width,
            depth=folds * g,
            constant=True,
            alike=count * same,
            different=columns,
        )
        for width, same, columns in zip(
            (GAIN_BITS, product), (GAIN_ALIKE, alike), different, strict=True
        )
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
        lut["constant_bits"] = np.where(variable, 0, by_constants)
        lut["carry_bits"] = np.where(variable, 0, carries)
        # an offset that is constant is added by carries alone
        lut["adder_bits"] = np.where(variable, lut["adder_bits"], 0)
    held = np.where(variable | dsp, count * product, held)
    flags = 3 + 2 * (g > 1) - (g == 2)  # of two lanes the place's lowest bit is the first flag
    return Counts(
        lut=lut,
        ff=flags + turns + place + count * acc + held + (2 * pe - count) * bits,
        dsp=count * dsps,
        gates=None if dsp else lambda: _product_gates(acc, count, folds * g, gains, lut),
        active=g / period,
        memories=tables,
    )


def _product_gates(
    acc: int, count: Ints, words: Ints, gains: Ints | None, lut: Mapping[str, Any]
) -> dict[str, Any]:
    """What products take in silicon, without what constant bits of gains leave out.

    Args:
        words: of the table of gains.
        gains: that table, where it is known: shape (words, multipliers).
    """
    rows = np.vectorize(partial(_row_bits, acc, gains), otypes=[float])(words)
    sums = np.where(words > 1, count * (acc + GAIN_BITS), 0)
    return {**lut, "row_bits": count * rows, "adder_bits": sums}


def _row_bits(acc: int, gains: Ints | None, words: int) -> float:
    """Bits of a product that choose or add, in the mean over the multipliers."""
    if words == 1:
        return 0.0
    if gains is None:
        share = distinct.share(min(int(words), distinct.FEW), GAIN_BITS, sign=True)
        return share * sum(distinct.booth(acc, (None,) * GAIN_BITS))
    of = [distinct.booth(acc, distinct.columns_of(own.tolist(), GAIN_BITS)) for own in gains.T]
    return float(np.mean([sum(parts) for parts in of]))


def constant_apart(acc: int, factor: int) -> int:
    """What is missing of a * factor in the sum that `constant_product` counts.

    An accumulator a of `acc` bits goes in as a + 2**(acc - 1), or as 2**acc - 1 less that where the
    digit is -1: neither is negative.

    >>> a, acc, factor = -3, 4, 5  # 4 + 1
    >>> (a + 8) * 4 + (a + 8) + constant_apart(acc, factor)
    -15
    """
    negative = sum(1 << place for place, digit in signed_digits(factor) if digit < 0)
    return -(factor << acc - 1) - ((1 << acc) - 1) * negative


class Product(NamedTuple):
    """What a product with a constant is made of, to which another constant is added."""

    luts: int  # bits that add two numbers
    carries: int  # bits that add one number and a carry
    registers: int


def constant_product(acc: int, factor: int, offset: int | None = None) -> Product:
    """Counts of a product with a constant, as rtl/dsp.by_constant makes it.

    Above the `acc` bits of an operand carries alone go on; below them the sum so far, shifted by
    the gap between two digits, is 0 and the operand passes. Bits below the lowest of the other
    constant decide nothing.

    Args:
        offset: the other constant, before `constant_apart` is added to it.

    >>> tuple(constant_product(8, 4)), tuple(constant_product(8, 5)), tuple(constant_product(8, 45))
    ((0, 22, 8), (6, 27, 11), (18, 39, 15))
    """
    places = [place for place, _ in signed_digits(factor)]
    if not places:
        return Product(0, 0, 0)
    low = places[0]
    if offset is not None:
        low = max(low, trailing(offset + constant_apart(acc, factor)))
    luts = holes = 0
    carries = acc + GAIN_BITS - low
    largest = (1 << acc) - 1
    for above, place in zip(reversed(places[1:]), reversed(places[:-1]), strict=True):
        gap = above - place
        largest = (largest << gap) + (1 << acc) - 1
        if gap < acc:
            luts += acc - gap
            carries += largest.bit_length() - acc
        elif above > low:
            holes += gap - acc
    return Product(luts, carries, max(0, largest.bit_length() + places[0] - low - holes))


LOWER_BITS = 1 / 3
"""Bits of a product below the lowest of a random constant, in the mean over both."""


@cache
def mean_constant(acc: int) -> tuple[float, float, float]:
    """`constant_product` in the mean over the gains of a layer, which fill their bits."""
    first = 1 << GAIN_BITS - GAIN_ALIKE
    found = [constant_product(acc, gain) for gain in range(first, 2 * first, 7)]
    luts, carries, registers = np.mean(found, axis=0)
    return float(luts), float(carries), float(registers) - LOWER_BITS


def trailing(number: int) -> int:
    """Zeros at the end of a number in base 2; none of 0."""
    return max(0, (number & -number).bit_length() - 1)


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
