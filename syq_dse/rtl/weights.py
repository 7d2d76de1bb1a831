"""`weights`: the weight memory, a source of one word of codes a cycle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from amaranth import Module, Signal

from syq_dse.rtl.memory import Memory
from syq_dse.rtl.stream import Unit
from syq_dse.scheme import weight_bits
from syq_dse.target import Family


class Weights(Unit):
    """The words of codes of an engine, over and over; one word alone is constant in the mac unit.

    In LUTs or block RAM they are there from the start. UltraRAM has no initial contents: the first
    `depth` words that come on `s` fill it. Weights in DRAM come on `s` for every image and pass a
    queue instead (rtl/engine.py).

    Args:
        words: by neuron fold and synapse fold; PE-major, lane 0 in the low bits.
        style: "distributed", "block" or "ultra".
    """

    def __init__(self, words: Sequence[int], width: int, *, style: str, family: Family) -> None:
        self.words, self.width, self.style, self.family = list(words), width, style, family
        assert len(self.words) > 1
        self.loads = style == "ultra"
        super().__init__(width if self.loads else 0, width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = len(self.words)
        init = None if self.loads else self.words
        memory = m.submodules.memory = Memory(self.width, depth, self.style, self.family, init)
        address = Signal(range(depth))
        valid = Signal()
        read = Signal()
        step = Signal()
        m.d.comb += [
            step.eq(read),
            memory.r_en.eq(read),
            memory.r_addr.eq(address),
            self.m_valid.eq(valid),
            self.m_data.eq(memory.r_data),
        ]
        if self.loads:
            loaded = Signal()
            m.d.comb += [
                self.s_ready.eq(~loaded),
                memory.w_en.eq(self.s_valid & ~loaded),
                memory.w_addr.eq(address),
                memory.w_data.eq(self.s_data),
                read.eq(loaded & (~valid | self.m_ready)),
                step.eq(read | memory.w_en),
            ]
            with m.If(memory.w_en & (address == depth - 1)):
                m.d.sync += loaded.eq(1)
        else:
            m.d.comb += read.eq(~valid | self.m_ready)
        with m.If(read):
            m.d.sync += valid.eq(1)
        with m.If(step):
            if depth == 1 << len(address):
                m.d.sync += address.eq(address + 1)
            else:
                with m.If(address == depth - 1):
                    m.d.sync += address.eq(0)
                with m.Else():
                    m.d.sync += address.eq(address + 1)
        return m


def packed(codes: npt.NDArray[np.int64], bits: int) -> list[int]:
    """Words of unsigned codes, shape (words, codes a word), lane 0 in the low bits."""
    planes = codes[:, :, None] >> np.arange(bits) & 1
    rows = planes.reshape(len(codes), -1).astype(np.uint8)
    found = np.packbits(rows, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in found]


def unpacked(word: int, codebook: str, count: int) -> npt.NDArray[np.int64]:
    """The values of the codes in a word.

    >>> unpacked(0b11_01_00, "ternary", 3).tolist()
    [0, 1, -1]
    """
    bits = weight_bits(codebook)
    fields = np.array([word >> bits * i & (1 << bits) - 1 for i in range(count)], dtype=np.int64)
    if codebook == "binary":
        return 2 * fields - 1
    return np.where(fields >> bits - 1, fields - (1 << bits), fields)
