"""Requant units drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from syq_dse.cost.engine import result_bits
from syq_dse.cost.integers import ints
from syq_dse.cost.units import requant as costs
from syq_dse.rtl.requant import Multiply, Thresholds
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import draw_engine
from syq_dse.target import Family

MOST_BITS = 60_000
"""Bits of the tables of the largest sample, or of its products: what Yosys does in seconds."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One requant unit of either kind, and what the cost model counts for it."""
    while True:
        sample = _draw(rng, family)
        if sample is not None:
            return sample


def _draw(rng: np.random.Generator, family: Family) -> Sample | None:
    engine = draw_engine(rng)
    geo, fold, bits = engine.geo, engine.fold, engine.out_bits
    acc = result_bits(geo, engine.layer, engine.bits)
    pe, channels, period = fold.pe, geo.c_out, geo.fan_in // fold.simd
    style = "block" if rng.random() < 0.3 else "distributed"
    searches = rng.random() < 0.5
    dsp = fold.res_type == "dsp"
    table = channels * (acc * 2**bits if searches else 2 * acc + 32)
    rows = 0 if searches or dsp else 200 * acc * int(pe // costs.shared(ints(pe), ints(period)))
    if table > MOST_BITS or rows > MOST_BITS or pe * acc > 2048:
        return None
    seeded: dict[str, Any] = {"pe": pe, "period": period, "family": family}
    unit: Thresholds | Multiply
    if searches:
        counts = costs.thresholds(acc, bits, channels, ints([pe]), ints([period]))
        half = 1 << acc - 1
        drawn = rng.integers(-half, half, size=(channels, 2**bits - 1))
        unit = Thresholds(
            acc, bits, channels, thresholds=np.sort(drawn).tolist(), style=style, **seeded
        )
    else:
        port = family.multiplier[0]
        counts = costs.multiply(acc, bits, channels, ints([pe]), ints([period]), dsp, port)
        half = 1 << acc + costs.GAIN_BITS - 1
        shift = max(0, acc + costs.GAIN_BITS - 2 - bits - int(rng.integers(4)))
        unit = Multiply(
            acc,
            bits,
            channels,
            gains=rng.integers(1, 1 << costs.GAIN_BITS - 1, size=channels).tolist(),
            offsets=rng.integers(-half, half, size=channels).tolist(),
            shift=shift,
            signed=bool(rng.random() < 0.2),
            dsp=dsp,
            style=style,
            **seeded,
        )
    # tables that the unit keeps in LUTs: too small for a block, or a pipeline's first
    styles = [style if np.max(memory.depth) > 1 else "distributed" for memory in counts.memories]
    if searches:
        styles[1] = "distributed"
    return Sample(
        parameters={
            "method": "thresholds" if searches else "multiply",
            "acc": acc,
            "bits": bits,
            "channels": channels,
            "pe": pe,
            "period": period,
            "res_type": fold.res_type,
            "style": style,
        },
        unit=unit,
        counts=counts,
        styles=tuple(styles),
    )
