"""`requant`: batch-norm, scale exponent and quantiser as one step function of the accumulator."""

from __future__ import annotations

from typing import Literal

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import Ints, cdiv, clog2, ints

Method = Literal["thresholds", "multiply"]

GAIN_BITS = 16
"""Bits of the factor in multiply-add-shift-clip."""


def thresholds(acc: int, bits: int, channels: int, pe: Ints, period: Ints) -> Counts:
    """Counts of a binary search over 2**bits - 1 thresholds a channel.

    Each search takes `bits` comparisons; pe results arrive every `period` cycles, and as few
    comparators as keep up serve them in turn. Each reads at an address of its own, so in a bank of
    its own.

    Args:
        acc: bits of the accumulator.
        channels: output channels, each with thresholds of its own.
    """
    comparators = cdiv(pe * bits, period)
    held = acc * pe * (period > 1)  # results wait here while the accumulators go on
    table = Memory(
        width=acc,
        depth=cdiv(channels * (2**bits - 1), comparators),
        banks=comparators,
        constant=True,
    )
    address = clog2(table.depth) * comparators
    return Counts(
        lut={"compare_bits": comparators * acc, "counter_bits": address, "serial_bits": held},
        ff=held + comparators * acc + address + pe * bits,
        memories=(table,),
    )


def multiply(
    acc: int, bits: int, channels: int, pe: Ints, period: Ints, dsp: bool, port: int
) -> Counts:
    """Counts of multiply, add, shift, clip with a gain and an offset a channel.

    Args:
        dsp: multiply in DSPs; else in LUTs.
        port: width of the DSP's wider operand [bits].
    """
    count = cdiv(pe, period)
    held = acc * pe * (period > 1)
    product = acc + GAIN_BITS
    table = Memory(width=count * product, depth=cdiv(channels, count), constant=True)
    address = clog2(table.depth)
    lut = {
        "adder_bits": count * product,
        "clip_bits": count * bits,
        "counter_bits": address,
        "serial_bits": held,
    }
    if not dsp:
        lut["product_bits"] = count * acc * GAIN_BITS
    return Counts(
        lut=lut,
        ff=held + count * product + address + pe * bits,
        dsp=count * cdiv(acc, port) if dsp else ints(0) * pe,
        memories=(table,),
    )
