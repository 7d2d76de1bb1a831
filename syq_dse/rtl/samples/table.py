"""Tables of random constants."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.gates import WORDS
from syq_dse.rtl import memory
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family

LARGEST_BITS = 16384


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One table with a register behind it; every other one of more words than are not split."""
    width, depth = round(2 ** rng.uniform(1, 7)), round(2 ** rng.uniform(1, np.log2(WORDS)))
    if rng.random() < 0.5:
        depth = round(WORDS * 2 ** rng.uniform(0, 5))
    width = max(1, min(width, LARGEST_BITS // depth))
    words = [int.from_bytes(rng.bytes(-(-width // 8))) & (1 << width) - 1 for _ in range(depth)]
    return Sample(
        parameters={"width": width, "depth": depth},
        unit=memory.Memory(width, depth, "distributed", family, words),
        counts=Counts(lut={}, ff=0, memories=(Memory(width=width, depth=depth, constant=True),)),
        styles=("distributed",),
    )
