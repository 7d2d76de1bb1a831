"""`mac`: codes times activations, adder tree, accumulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from syq_dse.cost.counts import Counts
from syq_dse.cost.folding import Folding, Geometry, ResType, all_at_once
from syq_dse.cost.integers import (
    Ints,
    Range,
    bit_length,
    cdiv,
    clog2,
    code_range,
    ints,
    range_bits,
)
from syq_dse.cost.units.carries import carry_pairs, short_bits
from syq_dse.cost.units.shared import Expected, constant_sums, known_sums
from syq_dse.cost.units.trees import adder_bits, trees_of
from syq_dse.scheme import LayerScheme, weight_bits, weight_max


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MacShape:
    """The sizes that one mac unit's hardware depends on."""

    codebook: str
    bits: int  # of an activation
    signed: bool  # activations
    groups: int  # worked on at once
    pe: int
    simd: int
    sums: int  # subgroups that a PE sums up at once, each by itself
    steps: int  # input words an output word
    out_bits: int  # signed
    dsp_lanes: int  # codes that share a DSP; 0 where LUTs multiply
    constant: bool = False  # the codes: all that the engine has are used at once

    @property
    def terms(self) -> int:
        """Products of one sum in one word."""
        return self.simd // self.sums

    @property
    def code_bits(self) -> int:
        return weight_bits(self.codebook)

    @property
    def word_bits(self) -> int:
        """Signed bits of a sum of one word's products."""
        return sum_bits(self.terms, self.codebook, self.bits, self.signed)

    @property
    def counts_ones(self) -> bool:
        """Whether products are single bits, so that the first level counts three of them."""
        return _counts_ones(self.bits, self.signed)

    @property
    def shares_sum(self) -> bool:
        """Whether the plain sum of the activations is subtracted from each PE's."""
        return _shares_sum(self.codebook, self.bits, self.signed)

    @property
    def factor(self) -> int:
        """The largest multiple of an activation in a tree."""
        return 2 if self.shares_sum and self.codebook != "binary" else 1

    @property
    def planes(self) -> int:
        """Trees of one sum of one PE."""
        return 1 if self.shares_sum else self.code_bits


def _counts_ones(bits: int, signed: bool) -> bool:
    return bits == 1 and not signed


def _shares_sum(codebook: str, bits: int, signed: bool) -> bool:
    if codebook == "binary":
        return True
    return weight_max(codebook) == 1 and not _counts_ones(bits, signed)


def mac_shape(
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    fold: Folding,
    multiplier: tuple[int, int],
) -> MacShape:
    """The mac unit of one folded engine."""
    sums, steps, terms = subgroups(geo, layer, ints(fold.simd))
    dsp = uses_dsp(layer.weights, fold.res_type)
    return MacShape(
        codebook=layer.weights,
        bits=bits,
        signed=geo.signed,
        groups=int(geo.groups_at_once(ints(fold.pe))),
        pe=fold.pe,
        simd=fold.simd,
        sums=int(sums),
        steps=int(steps),
        out_bits=sum_bits(terms, layer.weights, bits, geo.signed),
        dsp_lanes=lanes_per_dsp(multiplier, layer.weights, bits) if dsp else 0,
        constant=bool(all_at_once(geo, ints(fold.pe), ints(fold.simd))),
    )


def subgroups(geo: Geometry, layer: LayerScheme, simd: Ints) -> tuple[Ints, Ints, int]:
    """Sums that a PE forms at once, input words a sum, and terms of a whole sum.

    A sum is all that shares a scale: a kernel row, a kernel pixel, or the whole fan-in.
    """
    terms = geo.fan_in
    if layer.multiplies_partial_sums:
        terms = geo.c_in * (geo.k if layer.granularity == "row" else 1)
    sums = np.maximum(simd // terms, 1)
    return sums, np.maximum(terms // simd, 1), terms


def mac(
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res_type: ResType,
    multiplier: tuple[int, int],
    codes: Ints | None = None,
) -> Counts:
    """Counts of pe adder trees over simd products, and of their accumulators.

    The hardware is rtl/mac.py: a register after every level of a tree.

    Args:
        codes: where they are constants and known, shape (pe, simd) of the one folding; else counts
            of constants are the mean over all codes.
    """
    weights, code = layer.weights, weight_bits(layer.weights)
    groups = geo.groups_at_once(pe)
    sums, steps, terms = subgroups(geo, layer, simd)
    n = simd // sums
    out = sum_bits(terms, weights, bits, geo.signed)
    word = sum_bits_of(n, weights, bits, geo.signed)
    trees, shared = pe * sums, groups * sums
    several = steps > 1
    dsp = pe * 0
    activation = operand_range(bits, geo.signed)
    ones = _counts_ones(bits, geo.signed)
    masked = selected = counted = shared_counted = plain = join = pe * 0
    alone = alone_selected = lone = pe * 0  # single products
    chains = trees * several * carry_pairs(out)
    short = trees * several * short_bits(out)
    masked_short = pe * 0
    if uses_dsp(weights, res_type):
        lanes = lanes_per_dsp(multiplier, weights, bits)
        packs = cdiv(pe // groups, lanes) * groups
        dsp = packs * simd
        upper = pe - packs  # lanes above another
        field = field_range(code, bits)
        low, high = trees_of(n, field, "fields"), trees_of(n, field, "borrows")
        stages = np.where(upper > 0, high.levels, low.levels)
        counted = upper * (simd + sums * high.counted)
        plain = upper * simd + sums * (packs * low.adder + upper * high.adder)
        chains = chains + upper * simd * carry_pairs(code)
        chains = chains + sums * (packs * low.pairs + upper * high.pairs)
        short = short + upper * simd * short_bits(code)
        short = short + sums * (packs * low.short + upper * high.short)
        # the sum's bits past a word's range are not used
        spare = np.maximum(low.width - word, 0), np.maximum(high.width - word, 0)
        wait = stages - low.levels
        low_ff = low.ff + wait * low.width - (1 + wait) * spare[0]
        # a borrow that is counted alone is the sign of the lane below, too
        high_ff = high.ff - spare[1] - (n % 3 == 1)
        registers = sums * (packs * low_ff + upper * high_ff)
    elif _shares_sum(weights, bits, geo.signed):
        factor = 1 if weights == "binary" else 2
        kind = "ones" if ones else "plain"
        own = trees_of(n, operand_range(bits, geo.signed, factor), kind)
        total = trees_of(n, activation, kind)
        single = (n == 1) & (not ones)  # the product merges into the subtraction
        several_terms = trees * (1 - single)
        if factor == 1:
            masked = several_terms * own.first
            plain = several_terms * own.alone
        else:
            selected = several_terms * own.first
            plain = several_terms * own.alone
        counted, shared_counted = trees * own.counted, shared * total.counted
        if factor == 1:
            alone = trees * single * (2 * word - 1)
        else:
            alone_selected, lone = trees * single * word, trees * single
        plain = plain + trees * own.adder + shared * (total.first + total.adder)
        # the lowest bit of 2 * sum(a where w = +1) - sum(a) is that of the shared sum
        join = trees * (1 - single) * (word - (factor == 1))
        chains = chains + trees * (own.pairs + carry_pairs(word - (factor == 1)))
        chains = chains + shared * total.pairs
        short = short + trees * (own.short + short_bits(word - (factor == 1)))
        short = short + shared * (total.first_short + total.short)
        masked_short = trees * own.first_short
        if ones:  # of each three, one is masked in a LUT of its own
            plain = plain + trees * (n // 3)
        registers = trees * (own.ff + word) + shared * total.ff
        registers = registers - (trees - shared) * ((n == 1) & ones)
        stages = own.levels + 1
    else:
        own = trees_of(n, activation, "ones" if ones else "plain")
        joins = _joins(n, activation, code)
        first_join, join_bits, join_ff, join_levels, join_pairs, join_short = joins
        counted = trees * code * own.counted
        chains = chains + trees * (code * own.pairs + join_pairs)
        short = short + trees * (code * own.short + join_short)
        masked_short = trees * code * own.first_short
        if ones:  # a single bit masks the code
            masked = 0 * trees
            plain = trees * np.where(n == 1, 2 * code, code * (own.alone + own.adder + n // 3))
            join = trees * np.where(n == 1, 0, join_bits)
        else:  # a single product merges into the first joining
            masked = trees * np.where(n == 1, first_join, code * own.first)
            # of a pair of planes the lowest bit passes, and the highest meets none
            passed = code // 2 * 2 + code % 2 * range_bits(*activation)
            plain = trees * np.where(n == 1, passed, code * (own.alone + own.adder))
            join = trees * np.where(n == 1, join_bits - first_join, join_bits)
        registers = trees * (code * own.ff + join_ff)
        stages = own.levels + join_levels
    lut = {
        "masked_bits": masked,
        "select_bits": selected,
        "count_bits": counted,
        "shared_count_bits": shared_counted,
        "single_bits": alone,
        "single_select_bits": alone_selected,
        "single_selects": lone,
        "adder_bits": plain,
        "join_bits": join,
        "carry_pairs": chains,
        "short_bits": short,
        "masked_short_bits": masked_short,
        "accumulator_bits": trees * out * several,
        "counter_bits": clog2(steps),
        "valid_bits": stages,
    }
    constant = all_at_once(geo, pe, simd) & (dsp == 0)
    lut |= {"logic_bits": pe * 0, "codes": 1 * ~constant}
    if constant.any():
        if codes is None:
            found = constant_sums(n, weights, activation, ones, pe // groups, constant)
            found = {name: groups * sums * of for name, of in found.items()}
        else:
            of_group = codes.reshape(int(groups[0]), -1, int(sums[0]), int(n[0]))
            parts = of_group.transpose(0, 2, 1, 3).reshape(-1, of_group.shape[1], int(n[0]))
            found = _all_known(parts, weights, activation, ones)
        kept = {name: np.rint(of).astype(np.int64) for name, of in found.items()}
        registers = np.where(constant, kept.pop("ff"), registers)
        kept["valid_bits"] = stages
        lut = {name: np.where(constant, kept.get(name, 0), bits) for name, bits in lut.items()}
    registers = registers + stages + several * (trees * 2 * out + clog2(steps) + 1)
    operations = geo.c_out * geo.fan_in * geo.positions
    return Counts(
        lut=lut,
        ff=registers,
        dsp=dsp,
        work={"product_bits": operations * bits * code, "adder_bits": operations * out},
    )


def _all_known(
    parts: Ints, codebook: str, activation: Range, ones: bool
) -> dict[str, npt.NDArray[np.float64]]:
    """`known_sums` of all groups and sums, shape (sums, PEs of a group, products)."""
    found = [known_sums(codes, codebook, activation, ones) for codes in parts]
    totals = np.sum(found, axis=0)
    return {name: totals[i : i + 1] for i, name in enumerate(Expected._fields)}


def operand_range(bits: int, signed: bool, factor: int = 1) -> Range:
    """Range of `factor` activations of a precision, or of one that may be masked."""
    low, high = code_range(bits, signed)
    return factor * low, factor * high


def field_range(code_bits: int, bits: int) -> Range:
    """Range of what is read back of a product in a shared DSP."""
    span = code_bits + bits - 1
    return -(2**span), 2**span - 1


def _joins(n: Ints, activation: Range, code_bits: int) -> Ints:
    """`join` for many numbers of terms; the first axis is its six counts."""
    unique, index = np.unique(n, return_inverse=True)
    planes = [(int(size) * activation[0], int(size) * activation[1]) for size in unique]
    found = ints([join(plane, code_bits) for plane in planes])[index.reshape(n.shape)]
    return np.moveaxis(found, -1, 0)


@cache
def join(plane: Range, code_bits: int) -> tuple[int, int, int, int, int, int]:
    """Where the sums of a code's bits meet: bits of first adders and of all, FF, registers, pairs
    of bits of carry chains, bits of sums too short for one."""
    first = adder = ff = levels = chains = short = 0
    row, span = [plane] * code_bits, 1
    negative = True
    while len(row) > 1:
        pairs = [row[i : i + 2] for i in range(0, len(row), 2)]
        for pair in pairs:
            if len(pair) == 2:
                low, high = pair[0]
                adder += adder_bits((low >> span, high >> span), pair[1])
        row = [joined(pair, span, negative and i == len(pairs) - 1) for i, pair in enumerate(pairs)]
        sums = [
            range_bits(*of) - span for of, pair in zip(row, pairs, strict=True) if len(pair) == 2
        ]
        chains += int(carry_pairs(sums).sum())
        short += int(short_bits(sums).sum())
        negative = negative and len(pairs[-1]) == 1
        first = first or adder
        span, levels = 2 * span, levels + 1
        ff += sum(range_bits(*r) for r in row)
    return first, adder, ff, levels, chains, short


def joined(pair: Sequence[Range], span: int, negative: bool) -> Range:
    """Range of the first, and where there is a second, of it times 2**span added or subtracted."""
    low, high = pair[0]
    for other_low, other_high in pair[1:]:
        if negative:
            return low - (other_high << span), high - (other_low << span)
        return low + (other_low << span), high + (other_high << span)
    return low, high


def sum_bits_of(n: Ints, weights: str, bits: int, signed: bool) -> Ints:
    """sum_bits for many numbers of terms."""
    return bit_length(n * (weight_max(weights) * activation_max(bits, signed))) + 1
