"""`scale`: partial sums of a kernel row or pixel times their scale, and the sum of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from syq_dse.cost import distinct
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry, ResType
from syq_dse.cost.integers import Ints, clog2, ints
from syq_dse.cost.selects import selectors
from syq_dse.cost.units.mac import sum_bits
from syq_dse.cost.units.requant import booth_bits, join_bits, parts, shared
from syq_dse.scheme import LayerScheme

MANTISSA_BITS = 8
"""Signed mantissa of a `fixed8` scale; one exponent a layer vanishes into the requantisation."""

MANTISSA_MAX = 127

SHIFT_BITS = 3
"""A `shift` scale is one of 2**3 powers of two below the largest of the layer."""

NEAR = 3
"""Most by which a shifter shifts before its register."""

FAR = 4
"""By how much the LUTs that add shift."""


def scale_max(layer: LayerScheme) -> int:
    """Largest factor that a partial sum meets; 1 where the scale vanishes into the thresholds."""
    if not layer.multiplies_partial_sums:
        return 1
    return MANTISSA_MAX if layer.scale == "fixed8" else int(2 ** (2**SHIFT_BITS - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleShape:
    """Sizes of the unit of one layer, for many foldings."""

    partial: int  # bits of a partial sum
    total: int  # bits of the sum of scaled ones
    entries: int  # subgroups, each with a scale
    at_once: Ints  # subgroups that a PE works on at once
    period: Ints  # cycles from word to word


def scale_shape(geo: Geometry, layer: LayerScheme, bits: int, simd: Ints) -> ScaleShape:
    """The sizes of row- or pixel-wise scaling."""
    terms = geo.c_in * (geo.k if layer.granularity == "row" else 1)
    return ScaleShape(
        partial=sum_bits(terms, layer.weights, bits, geo.signed),
        total=sum_bits(geo.fan_in, layer.weights, bits, geo.signed, scale_max(layer)),
        entries=geo.k if layer.granularity == "row" else geo.k * geo.k,
        at_once=np.maximum(simd // terms, 1),
        period=np.maximum(terms // simd, 1),
    )


def scale(
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res_type: ResType,
    multiplier: tuple[int, int],
    mantissas: Sequence[int] | None = None,
) -> Counts:
    """Counts of the multipliers (or shifters) of row- and pixel-wise scaling; none for the rest.

    While SIMD stays within a subgroup (c_in for pixel, k * c_in for row), a PE has a partial sum
    every subgroup / SIMD cycles, and that many PEs share a multiplier. Past that each PE has one
    for each subgroup that it reads at once.

    Args:
        mantissas: of one folding whose results are known, one for each subgroup; exponents of a
            `shift` scale. Where all of those are at work at once bits that no result has need no
            register; of others synthesis to silicon leaves what differs.
    """
    if not layer.multiplies_partial_sums:
        return Counts(lut={}, ff=pe * 0)
    shape = scale_shape(geo, layer, bits, simd)
    width = SHIFT_BITS if layer.scale == "shift" else MANTISSA_BITS
    uses = geo.positions * geo.c_out * shape.entries
    logic = _shifters if layer.scale == "shift" else _multipliers
    lut, ff, dsp, table = logic(shape, pe, res_type == "dsp", multiplier[0])
    constant = mantissas is not None and int(shape.at_once.max()) == len(mantissas)
    if mantissas is not None and layer.scale == "shift" and constant:
        g = shared(pe, shape.period)
        tree, width = _known_tree(shape.partial, shape.total, sorted(mantissas))
        lut["adder_bits"] = pe // g * tree
        ff = ff - (2 * pe - pe // g) * (shape.total - width)
    return Counts(
        lut=lut,
        ff=ff,
        dsp=dsp,
        gates=None if layer.scale == "shift" else lambda: _gates(shape, pe, lut, mantissas),
        active=shared(pe, shape.period) / shape.period,
        memories=(table,),
        work={"product_bits": uses * shape.partial * width, "adder_bits": uses * shape.total},
    )


def _multipliers(
    shape: ScaleShape, pe: Ints, dsp: bool, port: int
) -> tuple[dict[str, Any], Ints, Ints, Memory]:
    g, words, count = _sizes(shape, pe)
    product = min(shape.partial + MANTISSA_BITS, shape.total)
    lut, ff, table = _around(shape, pe, MANTISSA_BITS)
    several = words > 1
    held = several | dsp  # products by constants, in LUTs, have no register
    ff = ff + np.where(held, count * product + 1 + (words * g > 1), 0)
    lut["adder_bits"] = lut["adder_bits"] + pe // g * _tree_bits(shape, product)
    dsps = parts(shape.partial, port) if dsp else 0
    if dsp:
        lut["adder_bits"] = lut["adder_bits"] + count * join_bits(
            shape.partial, MANTISSA_BITS, port
        )
    else:
        rows, joins = booth_bits(shape.partial, MANTISSA_BITS)
        booth = np.where(several, count, 0)
        lut["row_bits"] = booth * rows
        lut["adder_bits"] = lut["adder_bits"] + booth * joins
        lut["constant_bits"] = np.where(several, 0, count * shape.partial)
    return lut, ff, count * dsps, table


def _gates(
    shape: ScaleShape, pe: Ints, lut: Mapping[str, Any], mantissas: Sequence[int] | None
) -> dict[str, Any]:
    """Multipliers in silicon, without what constant bits of mantissas leave out."""
    g, words, _ = _sizes(shape, pe)
    several = words > 1
    product = min(shape.partial + MANTISSA_BITS, shape.total)
    tree = pe // g * (_tree_bits(shape, product) + shape.total)
    parts = np.vectorize(partial(_parts, shape.partial, shape.total, mantissas), otypes=[float] * 2)
    terms, adders = (of * (pe // g) for of in parts(shape.at_once, words))
    kept = {name: lut[name] for name in ("select_4_bits", "select_2_bits", "counter_bits", "rings")}
    return {"term_bits": terms, "adder_bits": adders + np.where(several, tree, 0), **kept}


def _parts(
    bits: int, most: int, mantissas: Sequence[int] | None, at_once: int, words: int
) -> tuple[float, float]:
    """Bits of the products of a PE that choose and that add; with constants also of their sum."""
    if words == 1:
        if mantissas is None:
            return 0.0, distinct.mean_scaled(bits, int(at_once), most, MANTISSA_MAX)
        return distinct.scaled(bits, tuple(mantissas), most)
    if mantissas is None:
        part = distinct.share(min(int(words), distinct.FEW), MANTISSA_BITS, sign=True)
        each = distinct.booth(bits, (None,) * MANTISSA_BITS)
        return at_once * part * each.terms, at_once * part * each.adders
    found = [
        distinct.booth(bits, distinct.columns_of(mantissas[i::at_once], MANTISSA_BITS))
        for i in range(at_once)
    ]
    return sum(of.terms for of in found), sum(of.adders for of in found)


def _shifters(
    shape: ScaleShape, pe: Ints, dsp: bool, port: int
) -> tuple[dict[str, Any], Ints, Ints, Memory]:
    g, words, count = _sizes(shape, pe)
    near = shape.partial + NEAR
    lut, ff, table = _around(shape, pe, SHIFT_BITS)
    several = words > 1
    ff = ff + np.where(several, count * near + shape.at_once + 1 + (words * g > 1), 0)
    shifters = np.where(several, count, 0)
    pairs = np.where(several, pe // g * (shape.at_once // 2), 0)
    tree = np.where(several, _tree_bits(shape, near + FAR), _shifted_tree_bits(shape))
    # the LUTs of three outer bits of a shifter have four inputs, as those that add a far term
    edges = 3 * shifters
    lut["shift_bits"] = shifters * (shape.partial - 1)
    lut["far_bits"] = (shifters - 2 * pairs) * (near + FAR - 1) + edges
    # where both terms are near or far, one is chosen before the LUT that adds
    lut["far_pair_bits"] = pairs * near
    lut["adder_bits"] = lut["adder_bits"] + pe // g * tree + edges
    return lut, ff, count * 0, table


def _tree_bits(shape: ScaleShape, product: int) -> Ints:
    """Adder bits of the tree over the products of one PE; bits past the total are not used."""
    operands, width = shape.at_once.copy(), product
    bits = operands * 0
    while (operands > 1).any():
        bits = bits + operands // 2 * min(width, shape.total)
        operands, width = (operands + 1) // 2, width + 1
    return bits


def _shifted_tree_bits(shape: ScaleShape) -> Ints:
    """Adder bits of the tree over the partial sums of one PE, shifted by constants."""
    unique, index = np.unique(shape.at_once, return_inverse=True)
    found = [_shifted_tree(int(n), shape.partial, shape.total) for n in unique]
    return ints(found)[index.reshape(shape.at_once.shape)]


@cache
def _shifted_tree(operands: int, partial: int, total: int) -> int:
    """Adder bits of a tree over operands shifted by constants, in order, evenly spread.

    Below the lowest bit of the higher operand a sum needs no adder.
    """
    step = (2**SHIFT_BITS - 1) / max(operands - 1, 1)
    row = [1] * operands  # of each sum the number of operands
    bits, width = 0.0, partial
    while len(row) > 1:
        pairs = [row[i : i + 2] for i in range(0, len(row) - 1, 2)]
        bits += sum(min(width + step * (higher - 1), total) for _, higher in pairs)
        row = [sum(pair) for pair in pairs] + row[2 * len(pairs) :]
        width += 1
    return round(bits)


def _known_tree(partial: int, total: int, shifts: Sequence[int]) -> tuple[int, int]:
    """Adder bits of a tree over partial sums shifted by constants, and bits of its result.

    A sum of two is as wide as they are, without the lowest bits of the one that the shift of the
    other leaves alone; the last carry is its last bit. Of the result the lowest bits, that all
    shifts leave 0, have no register, and those that repeat its sign have none beyond the width of
    the tree, whose levels are as wide as their widest sum.
    """
    row = [(partial + shift, shift) for shift in shifts]  # widths, and zeros below
    width, bits = max(row)[0], 0
    while len(row) > 1:
        joined = []
        for (a, low), (b, high) in zip(row[::2], row[1::2], strict=False):
            bits += min(max(a, b), total) - max(low, high)
            joined.append((max(a, b) + 1, min(low, high)))
        row = joined + row[2 * len(joined) :]
        width += 1
    return bits, min(width, total) - min(shifts)


def _sizes(shape: ScaleShape, pe: Ints) -> tuple[Ints, Ints, Ints]:
    """PEs that share, words of an output, multipliers."""
    g = shared(pe, shape.period)
    return g, shape.entries // shape.at_once, pe // g * shape.at_once


def _around(shape: ScaleShape, pe: Ints, mantissa: int) -> tuple[dict[str, Any], Ints, Memory]:
    """LUTs, registers and table of all but the products: choice, totals, counters."""
    g, words, count = _sizes(shape, pe)
    several, turns = words > 1, g > 1
    table = Memory(
        width=mantissa * shape.at_once,
        depth=words,
        constant=True,
        registered=False,
        in_luts=True,
    )
    ring = np.where(several, pe, pe - pe // g) * shape.total
    chosen = count * shape.partial + np.where(several, shape.at_once * mantissa, 0) + 2
    wide, narrow = selectors(g)
    counters = clog2(words) + clog2(g)
    lut = {
        "select_4_bits": count * shape.partial * wide,
        "select_2_bits": count * shape.partial * narrow,
        "adder_bits": np.where(several, pe // g * shape.total, 0),
        "counter_bits": counters,
        "rings": 1 * several,
    }
    ff = pe * shape.total + 1 + ring + counters + np.where(turns, chosen, 0)
    return lut, ff, table
