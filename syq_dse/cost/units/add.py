"""`add`: the sum of a residual branch and its bypass, clipped to the output's codes."""

from __future__ import annotations

from syq_dse.cost.counts import Counts
from syq_dse.cost.integers import ints
from syq_dse.network import Node


def add(node: Node, bits: tuple[int, int], out_bits: int, lanes: int) -> Counts:
    """Counts of `lanes` adders; a shift by constants, which is wiring, aligns the two operands."""
    width = max(bits) + 1
    return Counts(
        lut={"adder_bits": ints(lanes * width), "clip_bits": ints(lanes * out_bits)},
        ff=ints(lanes * (width + out_bits)),
        work={"adder_bits": ints(node.out_shape.size * width)},
    )
