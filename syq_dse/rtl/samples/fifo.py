"""Queues and converters drawn at random: what stands between two layers."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.units.fifo import converter, fifo
from syq_dse.rtl.fifo import Converter, Fifo
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family

LARGEST_WORD = 768
"""Bits of a word that are still quick to synthesise."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """A queue, of registers or with a memory, or a conversion between widths."""
    bits = int(rng.integers(1, 9))
    if rng.random() < 0.5:
        return _queue(rng, family, bits)
    ring = rng.random() < 0.3  # neither width divides the other
    while True:
        source, sink = (_lanes(rng) for _ in range(2))
        if ring:
            common = int(2 ** rng.integers(0, 5))
            source, sink = 3 * common, common * int(2 ** rng.integers(1, 6))
            if rng.random() < 0.5:
                source, sink = sink, source
        elif rng.random() < 0.7:
            source, sink = (source, source * sink) if rng.random() < 0.4 else (source * sink, sink)
        if source != sink and int(np.lcm(source, sink)) * bits <= LARGEST_WORD:
            return Sample(
                parameters={"bits": bits, "from_lanes": source, "to_lanes": sink},
                unit=Converter(bits, source, sink),
                counts=converter(bits, source, sink),
            )


def _queue(rng: np.random.Generator, family: Family, bits: int) -> Sample:
    width = bits * _lanes(rng)
    words = 2 if rng.random() < 0.3 else round(2 ** rng.uniform(1.6, 12))
    # Beyond this depth a memory in LUTs is no choice, and slow to synthesise.
    style = "distributed" if words <= 128 and rng.random() < 0.7 else "block"
    counts = fifo(words, width)
    return Sample(
        parameters={"width": width, "words": words, "style": style},
        unit=Fifo(width, words, style=style, family=family),
        counts=counts,
        styles=(style,) * len(counts.memories),
    )


def _lanes(rng: np.random.Generator) -> int:
    """Lanes as channels are divided: powers of two, and some of them times three."""
    return int(2 ** rng.integers(0, 7)) * int(rng.choice([1, 1, 1, 3]))
