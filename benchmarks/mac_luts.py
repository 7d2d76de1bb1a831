"""LUTs of the low-bit mac unit, 32 PEs of 32 lanes, against FINN's in the same tool and a limit.

The limit is that of the architecture, an adder tree a PE behind masks, in Yosys' measure (estimated
LCs: one LUT of three inputs or more, or two of two inputs): a first adder's bit is one LC, a later
one's half. The bound of any circuit: 32 activations of a few bits and 32 codes enter each PE
through LUTs of six inputs, so that (inputs - 1) / 5 of them are needed at the least.
"""

from __future__ import annotations

from syq_dse.cost.units.mac import MacShape, operand_range, sum_bits
from syq_dse.cost.units.trees import tree
from syq_dse.rtl.mac import Mac
from syq_dse.rtl.synthesis import synthesise
from syq_dse.rtl.verilog import emit
from syq_dse.scheme import weight_bits
from syq_dse.target import load_family

PE, SIMD, STEPS = 32, 32, 18  # a 3x3 convolution of 64 channels
FINN = {("binary", 4): 12_526, ("binary", 1): 2_274}
"""FINN's RTL in Yosys 0.70, xcup; see docs/accuracy-of-costs.md."""


def shape(codebook: str, bits: int) -> MacShape:
    return MacShape(
        codebook=codebook,
        bits=bits,
        signed=False,
        groups=1,
        pe=PE,
        simd=SIMD,
        sums=1,
        steps=STEPS,
        out_bits=sum_bits(SIMD * STEPS, codebook, bits, False),
        dsp_lanes=0,
    )


def limit(of: MacShape) -> float:
    """LCs of binary codes' masks, trees, subtraction and accumulators; the shared sum left out."""
    kind = "ones" if of.counts_ones else "plain"
    trees = 1 if of.shares_sum else of.code_bits
    found = tree(SIMD, operand_range(of.bits, False, of.factor), kind)
    first, counted, adder = found[0], found[2], found[3]
    first_lcs = counted if of.counts_ones else first
    return PE * (trees * (first_lcs + adder / 2) + of.word_bits / 2 + of.out_bits / 2)


def main() -> None:
    family = load_family("xcup")
    cases = [("binary", 4), ("ternary", 4), ("binary", 1), ("ternary", 1)]
    units = {f"{c}_{b}": Mac(shape(c, b), family) for c, b in cases}
    made = synthesise(emit(units), "xcup")
    print("weights bits    LCs  LCs/MAC  FINN RTL  ratio  limit of the tree  bound of any circuit")
    for codebook, bits in cases:
        lut = made[f"{codebook}_{bits}"].lut
        finn = FINN.get((codebook, bits))
        bound = PE * (SIMD * (bits + weight_bits(codebook)) - 1) / 5
        tree_limit = f"{limit(shape(codebook, bits)):.0f}" if codebook == "binary" else "-"
        print(
            f"{codebook:8}{bits:4}{lut:7}{lut / PE / SIMD:9.2f}{finn or '-':>10}"
            f"{f'{lut / finn:.2f}' if finn else '-':>7}{tree_limit:>19}{bound:22.0f}"
        )


if __name__ == "__main__":
    main()
