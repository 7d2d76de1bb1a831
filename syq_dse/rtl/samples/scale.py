"""Scale units drawn at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syq_dse.cost.integers import ints
from syq_dse.cost.units.scale import MANTISSA_MAX, SHIFT_BITS, scale, scale_shape
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.samples.engines import draw_engine
from syq_dse.rtl.scale import Scale
from syq_dse.target import Family

MOST_BITS = 2500
"""Bits of the products, all together, of the largest sample: what Yosys does in seconds."""

AT_ONCE: tuple[Callable[[int, int], bool], ...] = (
    lambda at_once, entries: 1 < at_once < entries,
    lambda at_once, entries: at_once == entries,
)
"""Subgroups at once that a fifth of the samples have each: few layers allow them."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One scale unit and what the cost model counts for it."""
    wanted = int(rng.integers(5))
    while True:
        engine = draw_engine(rng)
        geo, layer, fold = engine.geo, engine.layer, engine.fold
        if not layer.multiplies_partial_sums:
            continue
        shape = scale_shape(geo, layer, engine.bits, ints([fold.simd]))
        at_once, period = int(shape.at_once[0]), int(shape.period[0])
        fits = fold.pe * at_once * (shape.partial + 8) <= MOST_BITS
        if fits and (wanted >= len(AT_ONCE) or AT_ONCE[wanted](at_once, shape.entries)):
            break
    mantissas = _mantissas(rng, layer.scale, shape.entries)
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
            mantissas=mantissas,
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
            mantissas,
        ),
        styles=("distributed",),
    )


def _mantissas(rng: np.random.Generator, scale: str, entries: int) -> list[int]:
    """Mantissas of a layer; shifts take the whole range that the total is wide enough for."""
    if scale == "fixed8":
        return [int(m) for m in rng.integers(1, MANTISSA_MAX + 1, size=entries)]
    most = (1 << SHIFT_BITS) - 1
    drawn = [0, most, *rng.integers(0, most + 1, size=entries)][:entries]
    return [int(e) for e in rng.permutation(drawn)]
