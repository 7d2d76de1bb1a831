"""`mac`: codes times activations, adder tree, accumulator."""

from __future__ import annotations

from syq_dse.cost.counts import Counts, tree_bits
from syq_dse.cost.folding import Geometry, ResType
from syq_dse.cost.integers import Ints, bit_length, cdiv, ints
from syq_dse.scheme import weight_bits, weight_max


def activation_max(bits: int, signed: bool) -> int:
    """Largest magnitude of an activation code."""
    return int(2 ** (bits - 1)) if signed else int(2**bits) - 1


def sum_bits(terms: int, weights: str, bits: int, signed: bool, scale_max: int = 1) -> int:
    """Signed bits that hold any sum of `terms` products, each times a scale up to `scale_max`.

    >>> sum_bits(9, "binary", 1, False)  # -9 to 9
    5
    """
    largest = terms * weight_max(weights) * activation_max(bits, signed) * scale_max
    return int(bit_length(largest)) + 1


def lanes_per_dsp(multiplier: tuple[int, int], weights: str, bits: int) -> int:
    """Products of one activation with several weights that share a DSP.

    Symmetric (narrow) codes need no guard bit: 1 + floor((A - W) / (W + B - 1)) for a port of A
    bits, codes of W and activations of B bits. Source: FINN's DSP packing, int8 in Xilinx WP486.

    >>> [lanes_per_dsp((27, 18), w, b) for w, b in (("int8", 8), ("int4", 8), ("int4", 4))]
    [2, 3, 4]
    """
    width = weight_bits(weights)
    return int(1 + max(0, multiplier[0] - width) // (width + bits - 1))


def uses_dsp(weights: str, res_type: ResType) -> bool:
    """One and two bit codes are selections, not products: they stay in LUTs."""
    return res_type == "dsp" and weight_bits(weights) > 2


def mac(
    geo: Geometry,
    weights: str,
    bits: int,
    pe: Ints,
    simd: Ints,
    res_type: ResType,
    multiplier: tuple[int, int],
) -> Counts:
    """Counts of pe adder trees over simd products, and of their accumulators.

    Binary: sum(+-a) = 2 * sum(a where w = +1) - sum(a), the second sum shared by the PEs of a
    group, so that a product is an AND in front of the adder. Ternary: a selection of a, 0 or -a.
    Integers: LUT multipliers or packed DSPs.
    """
    groups = geo.groups_at_once(pe)
    acc = sum_bits(geo.fan_in, weights, bits, geo.signed)
    code = weight_bits(weights)
    lut: dict[str, Ints]
    dsp = pe * 0
    if weights == "binary":
        tree, width = tree_bits(simd, ints(bits) + 0 * simd)
        lut = {
            "and_bits": pe * simd * bits,
            "adder_bits": pe * tree + groups * tree,
            "accumulator_bits": pe * acc,
        }
        registers = (pe + groups) * width
    else:
        operand = bits + 1 if weights == "ternary" else bits + code
        tree, width = tree_bits(simd, ints(operand) + 0 * simd)
        lut = {"adder_bits": pe * tree, "accumulator_bits": pe * acc}
        if weights == "ternary":
            lut["select_bits"] = pe * simd * bits
        elif uses_dsp(weights, res_type):
            lanes = lanes_per_dsp(multiplier, weights, bits)
            dsp = cdiv(pe // groups, lanes) * simd * groups
        else:
            lut["product_bits"] = pe * simd * bits * code
        registers = pe * width
    operations = geo.c_out * geo.fan_in * geo.positions
    return Counts(
        lut=lut,
        ff=registers + pe * acc,
        dsp=dsp,
        work={"product_bits": operations * bits * code, "adder_bits": operations * acc},
    )
