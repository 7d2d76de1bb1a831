"""Published silicon beside the cost model: what the same work takes by it.

    python benchmarks/published_points.py [ihp-sg13g2]

Areas are scaled to the node of the publication (`--node`), gate equivalents are as they are.
"""

from __future__ import annotations

import sys

from syq_dse.cost import asic, gates, pricing
from syq_dse.cost.folding import Geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.units.mac import mac
from syq_dse.scheme import LayerScheme

BITFUSION = {2: 124.9, 4: 282.2, 8: 687.6, 16: 2203.0}
"""um2 of a processing element by its bits, 45 nm, 500 MHz: H. Sharma et al., Bit Fusion, ISCA
2018. It multiplies two numbers and accumulates."""

NANGATE_45 = 0.798
"""um2 of NAND2_X1 of the Nangate 45 nm open cell library."""

YODANN = {"kge": 1330, "macs": 32 * 49, "bits": 12}
"""Core of YodaNN, 65 nm: 32 channels of 7 x 7 binary weights on 12-bit activations a cycle, with
the memories of images and filters: R. Andri et al., TCAD 37 (2018) 48-60."""


def gates_of(prices: asic.Pricing, weights: str, bits: int, k: int, pe: int, simd: int) -> float:
    """Gate equivalents of a mac unit: products, adder tree, accumulators."""
    geo = Geometry(
        c_in=32, c_out=pe, groups=1, k=k, stride=1, pad=(0, 0), h_in=32, w_in=32,
        h_out=32 - k + 1, w_out=32 - k + 1, signed=True,
    )  # fmt: skip
    counts = mac(geo, LayerScheme(weights=weights), bits, ints([pe]), ints([simd]), "lut", (18, 18))
    return float(prices.gates.of("mac", gates.logic(counts))[0])


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "ihp-sg13g2"
    scaled, own = pricing.load(name, None, 45), pricing.load(name)
    assert isinstance(scaled, asic.Pricing)
    assert isinstance(own, asic.Pricing)
    print(f"Bit Fusion's processing elements, 45 nm, and one of ours by {name}, scaled:\n")
    print("| bits | um2 published | um2 by the model | gate equivalents |")
    print("| --- | --- | --- | --- |")
    for bits, um2 in BITFUSION.items():
        if bits > 8:
            print(f"| {bits} x {bits} | {um2} | beyond its 8 bits | |")
            continue
        made = gates_of(own, f"int{bits}", bits, 1, 1, 1)
        print(f"| {bits} x {bits} | {um2} | {made * scaled.gates.nand2_um2:.1f} | {made:.0f} |")
    print(
        f"\nA NAND2 of {own.gates.nand2_um2:g} um2 becomes {scaled.gates.nand2_um2:.3g} at 45 nm; "
        f"that of the Nangate open cell library has {NANGATE_45}."
    )
    made = gates_of(own, "binary", YODANN["bits"], 7, 32, 49)
    macs = YODANN["macs"]
    print(
        f"\nYodaNN: {YODANN['kge']} kGE for {macs} binary products a cycle, "
        f"{1000 * YODANN['kge'] / macs:.0f} a product, with its memories; by the model products, "
        f"trees and accumulators of as many are {made / 1000:.0f} kGE, {made / macs:.0f} a product."
    )


if __name__ == "__main__":
    main()
