"""Weight memories drawn at random."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.folding import RamStyle
from syq_dse.cost.integers import ints
from syq_dse.cost.units.weights import weights
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import draw_engine
from syq_dse.rtl.weights import Weights, packed
from syq_dse.scheme import weight_bits, weight_max
from syq_dse.target import Family

LARGEST_BITS = {"distributed": 8_000, "block": 60_000, "ultra": 2_000_000}
"""What synthesises in seconds; larger memories are more of the same blocks."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One weight memory with random codes, and what the cost model counts for it."""
    styles: list[RamStyle] = ["distributed", "distributed", "block"]
    if family.uram:
        styles.append("ultra")
    style = styles[int(rng.integers(len(styles)))]
    while True:
        engine = draw_engine(rng, 1024)
        geo, fold, code = engine.geo, engine.fold, weight_bits(engine.layer.weights)
        width = fold.pe * fold.simd * code
        depth = geo.c_out * geo.fan_in // (fold.pe * fold.simd)
        if 1 < depth <= 1 << 16 and width * depth <= LARGEST_BITS[style]:
            break
    words = draw_words(rng, engine.layer.weights, depth, fold.pe * fold.simd)
    counts = weights(geo, code, ints([fold.pe]), ints([fold.simd]), style)
    return Sample(
        parameters={
            "weights": engine.layer.weights,
            "width": width,
            "depth": depth,
            "ram_style": style,
        },
        unit=Weights(words, width, style=style, family=family),
        counts=counts,
        styles=(style,),
    )


def draw_words(rng: np.random.Generator, weights: str, depth: int, codes: int) -> list[int]:
    """Words of codes, each as likely as every other."""
    code, most = weight_bits(weights), weight_max(weights)
    if weights == "binary":
        drawn = rng.integers(0, 2, size=(depth, codes))
    else:
        drawn = rng.integers(-most, most + 1, size=(depth, codes)) % (1 << code)
    return packed(drawn, code)
