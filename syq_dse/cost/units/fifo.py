"""`fifo`: the queue in front of a unit, and the conversion between widths of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import clog2, ints
from syq_dse.cost.selects import selects

SKID_WORDS = 2
"""Words that registers hold between two units so that ready may be registered."""


def fifo(words: int, width: int) -> Counts:
    """Counts of a queue of `words` words of `width` bits.

    Two are registers, more a memory, whose read register is one of them.
    """
    if words <= SKID_WORDS:
        return Counts(lut={"skid_bits": ints(width)}, ff=ints(SKID_WORDS * width + 2))
    depth = words - 1
    pointer = clog2(depth)
    return Counts(
        lut={
            "queues": ints(1),
            "pointer_bits": ints(pointer),
            "wrap_bits": ints(pointer * (depth & depth - 1 > 0)),
        },
        ff=ints(2 * pointer + 2),
        memories=(Memory(width=ints(width), depth=ints(depth)),),
    )


def converter(bits: int, from_lanes: Any, to_lanes: Any) -> Counts:
    """Counts of the change from `from_lanes` to `to_lanes` codes a word.

    To a multiple: registers for all parts but the last. To a part: a multiplexer. Otherwise a ring
    of registers of as many codes as both divide, and a multiplexer behind it. Nothing where they
    are the same.
    """
    source, sink = np.broadcast_arrays(ints(from_lanes), ints(to_lanes))
    ring = np.lcm(source, sink)
    written, read = ring // source, ring // sink  # parts
    collects = read == 1
    rings = (written > 1) & (read > 1)
    units = written * read  # of the ring, each as many codes as divide both words
    level = clog2(units + 1)
    counter = clog2(written) + clog2(read)
    held = np.where(rings, ring, np.where(collects, ring - source, 0))
    return Counts(
        lut={
            **{name: bits * sink * count for name, count in selects(read).items()},
            "counter_bits": counter,
            "level_bits": level * rings,
            "parts": written * rings,
            "rings": rings.astype(np.int64),
        },
        ff=bits * held + counter + level * rings,
    )
