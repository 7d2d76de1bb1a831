"""Tables of random constants."""

from __future__ import annotations

import numpy as np
from amaranth import Module
from amaranth.lib.wiring import Component, In, Out

from syq_dse.cost import search_tables
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.gates import WORDS
from syq_dse.rtl import memory
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family

LARGEST_BITS = 65536

LARGEST_WORD = 40
"""Bits of a threshold."""


class Lookup(Component):
    """A table that is read in the cycle of its address."""

    def __init__(self, width: int, words: list[int]) -> None:
        super().__init__({"address": In(max(1, (len(words) - 1).bit_length())), "data": Out(width)})
        self.width, self.words = width, words

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.data.eq(memory.table(m, "words", self.address, self.words, self.width))
        return m


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """One table, every other one of more words than are not split, and every other one without a
    register behind it, of which half hold thresholds."""
    width, depth = round(2 ** rng.uniform(1, 7)), round(2 ** rng.uniform(1, np.log2(WORDS)))
    if rng.random() < 0.5:
        depth = round(WORDS * 2 ** rng.uniform(0, 5))
    width = max(1, min(width, LARGEST_BITS // depth))
    registered = bool(rng.random() < 1 / 2)
    bits = 0 if registered or rng.random() < 0.5 else int(rng.integers(1, 9))
    words = [int.from_bytes(rng.bytes(-(-width // 8))) & (1 << width) - 1 for _ in range(depth)]
    parts = None
    if bits:
        width = min(width, LARGEST_WORD)
        thresholds = search_tables.words(bits, None, width, depth, rng)
        words, parts = thresholds.tolist(), search_tables.parts(thresholds, width)
    table = Memory(
        width=width,
        depth=depth,
        constant=True,
        registered=registered,
        search=(bits, None) if bits else None,
        parts=parts,
    )
    return Sample(
        parameters={"width": width, "depth": depth, "registered": int(registered), "search": bits},
        unit=(
            memory.Memory(width, depth, "distributed", family, words)
            if registered
            else Lookup(width, words)
        ),
        counts=Counts(lut={}, ff=0, memories=(table,)),
        styles=("distributed",),
    )
