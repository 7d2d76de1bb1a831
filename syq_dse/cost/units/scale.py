"""`scale`: partial sums of a kernel row or pixel times their scale, and the sum of those."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry, ResType
from syq_dse.cost.integers import Ints, cdiv, clog2
from syq_dse.cost.units.mac import sum_bits
from syq_dse.scheme import LayerScheme

MANTISSA_BITS = 8
"""Signed mantissa of a `fixed8` scale; one exponent a layer vanishes into the requantisation."""

MANTISSA_MAX = 127

SHIFT_BITS = 3
"""A `shift` scale is one of 2**3 powers of two below the largest of the layer."""


def scale_max(layer: LayerScheme) -> int:
    """Largest factor that a partial sum meets; 1 where the scale vanishes into the thresholds."""
    if not layer.multiplies_partial_sums:
        return 1
    return MANTISSA_MAX if layer.scale == "fixed8" else int(2 ** (2**SHIFT_BITS - 1))


def scale(
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res_type: ResType,
    multiplier: tuple[int, int],
) -> Counts:
    """Counts of the multipliers (or shifters) of row- and pixel-wise scaling; none for the rest.

    A PE needs one while SIMD stays within a subgroup (c_in for pixel, k * c_in for row), and one
    for each subgroup that it reads at once past that.
    """
    if not layer.multiplies_partial_sums:
        return Counts(lut={}, ff=pe * 0)
    terms = geo.c_in * (geo.k if layer.granularity == "row" else 1)
    at_once = np.maximum(simd // terms, 1)
    entries = geo.k if layer.granularity == "row" else geo.k * geo.k
    partial = sum_bits(terms, layer.weights, bits, geo.signed)
    total = sum_bits(geo.fan_in, layer.weights, bits, geo.signed, scale_max(layer))
    count = pe * at_once
    lut = {"accumulator_bits": count * total}
    dsp = pe * 0
    if layer.scale == "shift":
        lut["shift_bits"] = count * (partial + 2**SHIFT_BITS - 1) * SHIFT_BITS
        width = SHIFT_BITS
    else:
        width = MANTISSA_BITS
        if res_type == "dsp":
            dsp = count * cdiv(partial, multiplier[0])
        else:
            lut["product_bits"] = count * partial * MANTISSA_BITS
    table = Memory(width=width * at_once, depth=cdiv(entries, at_once), constant=True)
    uses = geo.positions * geo.c_out * entries
    return Counts(
        lut=lut | {"counter_bits": clog2(cdiv(entries, at_once))},
        ff=count * partial + pe * total + clog2(cdiv(entries, at_once)),
        dsp=dsp,
        memories=(table,),
        work={"product_bits": uses * partial * width, "adder_bits": uses * total},
    )
