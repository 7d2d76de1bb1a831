"""Mac units drawn at random."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.integers import ints
from syq_dse.cost.units.mac import mac, mac_shape
from syq_dse.rtl.mac import Mac
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import UNROLLED, draw_engine, unrolled
from syq_dse.rtl.samples.weights import draw_words
from syq_dse.rtl.weights import unpacked
from syq_dse.scheme import weight_bits
from syq_dse.target import Family


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One mac unit and what the cost model counts for it."""
    engine = draw_engine(rng)
    if rng.random() < UNROLLED:
        engine = unrolled(rng)
    geo, fold = engine.geo, engine.fold
    shape = mac_shape(geo, engine.layer, engine.bits, fold, family.multiplier)
    word = codes = None
    if shape.constant:
        (word,) = draw_words(rng, shape.codebook, 1, fold.pe * fold.simd)
        codes = unpacked(word, shape.codebook, fold.pe * fold.simd).reshape(fold.pe, fold.simd)
    counts = mac(
        geo,
        engine.layer,
        engine.bits,
        ints([fold.pe]),
        ints([fold.simd]),
        fold.res_type,
        family.multiplier,
        codes,
    )
    return Sample(
        parameters={
            "weights": shape.codebook,
            "weight_bits": weight_bits(shape.codebook),
            "bits": shape.bits,
            "pe": shape.pe,
            "simd": shape.simd,
            "groups": shape.groups,
            "sums": shape.sums,
            "steps": shape.steps,
            "constant": int(shape.constant),
            "res_type": fold.res_type,
        },
        unit=Mac(shape, family, word),
        counts=counts,
    )
