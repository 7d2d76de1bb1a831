"""`pool`: the maximum or the mean over pixels of a stream."""

from __future__ import annotations

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import cdiv, clog2
from syq_dse.cost.units.requant import GAIN_BITS
from syq_dse.network import Node


def max_pool(node: Node, bits: int, lanes: int) -> Counts:
    """Counts of a max pool on the codes, `lanes` channels a cycle.

    A running maximum of each window column that is open: ceil(k / stride) partial rows of outputs.
    """
    open_rows = int(cdiv(node.k, node.stride))
    depth = node.out_shape.w * cdiv(node.out_shape.c, lanes) * open_rows
    counter = clog2(node.in_shape.w) + clog2(node.in_shape.h) + clog2(cdiv(node.in_shape.c, lanes))
    compare = lanes * bits * 2 * open_rows
    return Counts(
        lut={"compare_bits": compare, "counter_bits": counter, "address_bits": clog2(depth)},
        ff=counter + 2 * lanes * bits + clog2(depth),
        memories=(Memory(width=lanes * bits, depth=depth),),
        work={"sram_bits": 2 * node.in_shape.size * bits, "adder_bits": node.in_shape.size * bits},
    )


def mean_pool(node: Node, bits: int, out_bits: int, lanes: int) -> Counts:
    """Counts of a mean over k * k (or all) pixels: accumulators, one gain, rounding.

    A running sum of each window column that is open: ceil(k / stride) partial rows of outputs.

    The gain is a constant of the layer, so it is shifts and adds: at most half of its bits.
    """
    pixels = node.k * node.k if node.k > 1 else node.in_shape.pixels
    acc = bits + int(clog2(pixels))
    open_rows = int(cdiv(node.k, node.stride))
    depth = cdiv(node.out_shape.w * node.out_shape.c, lanes) * open_rows
    counter = clog2(node.in_shape.w) + clog2(node.in_shape.h) + clog2(cdiv(node.in_shape.c, lanes))
    return Counts(
        lut={
            "adder_bits": lanes * acc * (open_rows + GAIN_BITS // 2),
            "clip_bits": lanes * out_bits,
            "counter_bits": counter,
            "address_bits": clog2(depth),
        },
        ff=counter + lanes * (acc + out_bits) + clog2(depth),
        memories=(Memory(width=lanes * acc, depth=depth),),
        work={"sram_bits": 2 * node.in_shape.size * acc, "adder_bits": node.in_shape.size * acc},
    )
