"""`fifo`: the queue in front of a unit, and the conversion between widths of a stream."""

from __future__ import annotations

from typing import Any

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import Ints, clog2, ints

SKID_WORDS = 2
"""Words that registers hold between two units so that ready may be registered."""


def fifo(words: int, width: int) -> Counts:
    """Counts of a queue of `words` words of `width` bits; two are registers, more a memory."""
    if words <= SKID_WORDS:
        return Counts(lut={"skid_bits": ints(width)}, ff=ints(SKID_WORDS * width))
    pointer = clog2(words)
    return Counts(
        lut={"counter_bits": 3 * pointer, "skid_bits": ints(width)},
        ff=3 * pointer + width,
        memories=(Memory(width=ints(width), depth=ints(words)),),
        work={},
    )


def converter(bits: int, from_lanes: Any, to_lanes: Any) -> Counts:
    """Counts of the change from `from_lanes` to `to_lanes` codes a word: a shift register."""
    source, sink = ints(from_lanes), ints(to_lanes)
    wider: Ints = bits * ints(source * (source > sink) + sink * (sink >= source)) * (source != sink)
    return Counts(lut={"convert_bits": wider}, ff=wider + clog2(wider + 1))
