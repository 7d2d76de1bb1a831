"""Scale units drawn at random."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.integers import ints
from syq_dse.cost.units.scale import SHIFT_BITS, scale, scale_shape
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import draw_engine
from syq_dse.rtl.scale import Scale
from syq_dse.target import Family

MOST_BITS = 2500
"""Bits of the products, all together, of the largest sample: what Yosys does in seconds."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One scale unit and what the cost model counts for it."""
    while True:
        engine = draw_engine(rng)
        geo, layer, fold = engine.geo, engine.layer, engine.fold
        if not layer.multiplies_partial_sums:
            continue
        shape = scale_shape(geo, layer, engine.bits, ints([fold.simd]))
        at_once, period = int(shape.at_once[0]), int(shape.period[0])
        if fold.pe * at_once * (shape.partial + 8) <= MOST_BITS:
            break
    high = 1 << SHIFT_BITS if layer.scale == "shift" else 128
    low = 0 if layer.scale == "shift" else 1
    return Sample(
        parameters={
            "format": layer.scale,
            "partial": shape.partial,
            "total": shape.total,
            "entries": shape.entries,
            "at_once": at_once,
            "pe": fold.pe,
            "period": period,
            "res_type": fold.res_type,
        },
        unit=Scale(
            partial=shape.partial,
            total=shape.total,
            entries=shape.entries,
            at_once=at_once,
            pe=fold.pe,
            mantissas=rng.integers(low, high, size=shape.entries).tolist(),
            scale=layer.scale,
            dsp=fold.res_type == "dsp",
            period=period,
            style="distributed",
            family=family,
        ),
        counts=scale(
            geo,
            layer,
            engine.bits,
            ints([fold.pe]),
            ints([fold.simd]),
            fold.res_type,
            family.multiplier,
        ),
        styles=("distributed",),
    )
