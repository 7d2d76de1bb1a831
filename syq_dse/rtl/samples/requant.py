"""Requant units drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse.cost.counts import Counts
from syq_dse.cost.engine import result_bits
from syq_dse.cost.integers import ints
from syq_dse.cost.units import requant as costs
from syq_dse.rtl.requant import Multiply, Thresholds
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import draw_engine, unrolled
from syq_dse.target import Family

Floats = npt.NDArray[np.float64]

UNROLLED = 0.35
"""Share of the units with constants for thresholds or gains: only one in four of them has products
in LUTs."""

FEW_WORDS = 64
"""Words of a table that is in LUTs however many bits it has: one LUT a bit."""

ROWS, CONSTANT_ROWS = 200, 30
"""How much a product in LUTs counts for a bit of the accumulator, by variable and constant gains:
what Yosys' time goes by."""

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
    aside = rng.spawn(1)[0]
    flat = aside.random() < UNROLLED
    if flat:
        engine = unrolled(aside)
    geo, fold, bits = engine.geo, engine.fold, engine.out_bits
    acc = result_bits(geo, engine.layer, engine.bits)
    pe, channels, period = fold.pe, geo.c_out, geo.fan_in // fold.simd
    style = "block" if rng.random() < 0.3 else "distributed"
    searches = rng.random() < 0.5
    dsp = fold.res_type == "dsp"
    table = channels * (acc * 2**bits if searches else 2 * acc + 32)
    products = 0 if searches or dsp else int(pe // costs.shared(ints(pe), ints(period)))
    rows = products * acc * (CONSTANT_ROWS if flat else ROWS)
    most = MOST_BITS // 4 if flat else MOST_BITS
    if table > most or rows > most or pe * acc > 2048:
        return None
    seeded: dict[str, Any] = {"pe": pe, "period": period, "family": family}
    unit: Thresholds | Multiply
    alike = costs.repeated(acc, geo.fan_in)
    centre, spread = _sums(rng, acc, geo.fan_in, channels)
    if searches:
        count = 2**bits - 1
        steps = np.arange(count) - (count - 1) / 2 + rng.uniform(-0.5, 0.5, (channels, count))
        places = np.rint(centre[:, None] + spread[:, None] * steps * (4 / (count + 1)))
        half = 1 << acc - 1
        drawn = np.sort(np.clip(places, 1 - half, half - 1), axis=1).astype(np.int64)
        counts = costs.thresholds(acc, bits, channels, ints([pe]), ints([period]), alike, drawn)
        unit = Thresholds(
            acc, bits, channels, thresholds=drawn.tolist(), style=_styles(counts, style), **seeded
        )
    else:
        port = family.multiplier[0]
        half = 1 << acc + costs.GAIN_BITS - 1
        most = (1 << costs.GAIN_BITS - 1) - 1
        factors = 2**bits / (4 * spread)
        shift = int(np.clip(np.floor(np.log2(most / factors.max())), 0, 40))
        gains = np.clip(np.rint(factors * 2.0**shift), 1, most)
        offsets = np.clip(np.rint(2.0 ** (bits - 1 + shift) - centre * gains), -half, half - 1)
        known = gains.astype(np.int64), offsets.astype(np.int64)
        counts = costs.multiply(
            acc, bits, channels, ints([pe]), ints([period]), dsp, port, alike, known
        )
        unit = Multiply(
            acc,
            bits,
            channels,
            gains=known[0].tolist(),
            offsets=known[1].tolist(),
            shift=shift,
            signed=bool(rng.random() < 0.2),
            dsp=dsp,
            style=_styles(counts, style),
            **seeded,
        )
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
        styles=tuple(_styles(counts, style)),
    )


def _styles(counts: Counts, style: str) -> list[str]:
    """Where each table is: small ones, and a pipeline's first, are in LUTs."""
    return [
        style if np.max(memory.depth) > FEW_WORDS and not memory.in_luts else "distributed"
        for memory in counts.memories
    ]


def _sums(rng: np.random.Generator, acc: int, fan_in: int, channels: int) -> tuple[Floats, Floats]:
    """Of each channel's accumulators, the value in the middle of the codes and the deviation.

    Activations are positive, so that the mean of a channel's sums is as far off as they spread.
    """
    spread = 2.0 ** (acc - 1) * rng.uniform(0.25, 0.55) / np.sqrt(fan_in)
    spread = np.maximum(spread * rng.uniform(0.85, 1.15, channels), 0.5)
    return spread * (rng.normal(0, 0.87, channels) + rng.uniform(-0.7, 0.7, channels)), spread
