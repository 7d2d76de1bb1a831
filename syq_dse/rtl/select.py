"""Multiplexers of many words, four at a time."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Elaboratable, Module, Signal
from amaranth.hdl import Value

from syq_dse.cost.selects import WAYS
from syq_dse.rtl.stream import mux_lanes


class Select(Elaboratable):
    """words[select] of up to four words: one LUT a bit.

    A module of its own in the netlist, as are tables: mapped together, Yosys spends half as many
    LUTs more on a tree of them.
    """

    def __init__(self, words: int, width: int) -> None:
        self.words = [Signal(width, name=f"word_{i}") for i in range(words)]
        self.select = Signal(range(words))
        self.word = Signal(width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.word.eq(mux_lanes(self.select, self.words))
        return m


def select(m: Module, by: Value, words: Sequence[Value], name: str = "") -> Value:
    """words[by], four at a time.

    Args:
        name: unlike that of all other selections in `m`.
    """
    layer, level = list(words), 0
    while len(layer) > 1:
        joined = []
        for i in range(0, len(layer), WAYS):
            group = layer[i : i + WAYS]
            if len(group) > 1:
                unit = Select(len(group), len(group[0]))
                m.submodules[f"table_{name}{level}_{i}"] = unit
                m.d.comb += [a.eq(b) for a, b in zip(unit.words, group, strict=True)]
                m.d.comb += unit.select.eq(by[2 * level :])
                group = [unit.word]
            joined += group
        layer, level = joined, level + 1
    return layer[0]
