"""Memories of flip-flops drawn at random."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.rtl import memory
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family

LARGEST_BITS = 4096


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One memory of few words."""
    width, depth = (round(2 ** rng.uniform(1, most)) for most in (7, 7))
    depth = max(2, min(depth, LARGEST_BITS // width))
    return Sample(
        parameters={"width": width, "depth": depth},
        unit=memory.Memory(width, depth, "distributed", family),
        counts=Counts(lut={}, ff=0, memories=(Memory(width=width, depth=depth),)),
        styles=("distributed",),
    )
