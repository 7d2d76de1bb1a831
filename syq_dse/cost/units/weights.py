"""`weights`: the weight memory, on chip or streamed from DRAM."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry, RamStyle
from syq_dse.cost.integers import Ints, clog2

DRAM_BURST_WORDS = 512
"""Depth of the buffer that hides the latency of DRAM: one BRAM18 deep at its widest."""


def weights(geo: Geometry, code_bits: int, pe: Ints, simd: Ints, ram_style: RamStyle) -> Counts:
    """Counts of a memory with one word a cycle: pe * simd codes.

    Weights that are used all at once are constants in the logic and need no memory.
    """
    width = pe * simd * code_bits
    depth = (geo.c_out // pe) * (geo.fan_in // simd)
    reads = geo.positions * depth * width
    if ram_style == "dram":
        pointer = int(clog2(DRAM_BURST_WORDS))
        buffer = Memory(width=width, depth=depth * 0 + DRAM_BURST_WORDS)
        return Counts(
            lut={"counter_bits": depth * 0 + 3 * pointer, "several": depth * 0 + 1},
            ff=depth * 0 + 3 * pointer + 3,
            memories=(buffer,),
            dram_bits=geo.c_out * geo.fan_in * code_bits + 0 * pe,
            work={"sram_bits": reads, "dram_bits": reads},
        )
    several = (depth > 1).astype(np.int64)
    address = clog2(depth)
    loads = several * int(ram_style == "ultra")
    wraps = several * (depth != 2**address)
    return Counts(
        lut={
            "counter_bits": address,
            "wrap_bits": address * wraps,
            "several": several,
            "load_bits": loads * address,
        },
        ff=address + several + loads,
        memories=(
            Memory(
                width=width,
                depth=depth,
                constant=ram_style != "ultra",
                rare=1 / 3 if code_bits == 2 else 1 / 2,  # of -1, 0 and 1, each as likely
            ),
        ),
        work={"sram_bits": reads * several},
    )
