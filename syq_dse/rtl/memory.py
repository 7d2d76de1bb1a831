"""Memories of one write and one read port, and tables, in tiles that map to one block each."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib.memory import Memory as HdlMemory
from amaranth.lib.wiring import Component, In, Out

from syq_dse.cost.fpga import block_shape
from syq_dse.cost.integers import cdiv
from syq_dse.rtl.stream import mux_lanes, register
from syq_dse.target import Family


class Memory(Component):
    """depth x width bits; `r_data` follows `r_addr` by one cycle and holds while `r_en` is low.

    A word that is written in the cycle in which it is read is undefined there.

    Args:
        style: "distributed", "block" or "ultra".
        init: makes it a table: never written, and in LUTs where `style` is distributed.
        clears: an input `r_clear` makes the word that is read 0, with the reset of its register.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        style: str,
        family: Family,
        init: Sequence[int] | None = None,
        clears: bool = False,
    ) -> None:
        assert depth >= 2
        assert not (init is not None and style == "ultra"), "UltraRAM has no initial contents"
        address = max(1, (depth - 1).bit_length())
        ports = {"r_en": In(1), "r_addr": In(address), "r_data": Out(width)}
        if init is None:
            ports |= {"w_en": In(1), "w_addr": In(address), "w_data": In(width)}
        if clears:
            ports |= {"r_clear": In(1)}
        super().__init__(ports)
        self.clears = clears
        self.width, self.depth, self.style, self.family, self.init = (
            width,
            depth,
            style,
            family,
            init,
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.init is not None and self.style != "block":
            word = table(m, "words", self.r_addr, self.init, self.width)
            held = register(self.width, "held")
            with m.If(self.r_en):
                m.d.sync += held.eq(word)
            m.d.comb += self.r_data.eq(held)
            return m
        tile_depth, tile_width = self.depth, self.width
        if self.style == "block":
            tile_depth, tile_width = block_shape(self.width, self.depth, self.family)
        elif self.style == "ultra":
            assert self.family.uram is not None
            tile_depth, tile_width = self.family.uram
        rows = int(cdiv(self.depth, tile_depth))
        select = Signal(range(rows), reset_less=True) if rows > 1 else None
        low = (tile_depth - 1).bit_length()
        if select is not None:
            with m.If(self.r_en):
                m.d.sync += select.eq(self.r_addr[low:])
        columns = []
        for first in range(0, self.width, tile_width):
            bits = min(tile_width, self.width - first)
            tiles: list[Value] = [
                self._tile(m, row, first, bits, tile_depth, low) for row in range(rows)
            ]
            columns.append(tiles[0] if select is None else mux_lanes(select, tiles))
        m.d.comb += self.r_data.eq(Cat(*columns))
        return m

    def _tile(self, m: Module, row: int, first: int, bits: int, tile_depth: int, low: int) -> Value:
        """The read word of one tile: `bits` bits from `first` on of the words of one row."""
        start = row * tile_depth
        depth = min(tile_depth, self.depth - start)
        words = self.init[start : start + depth] if self.init is not None else []
        mask = (1 << bits) - 1
        tile = HdlMemory(
            shape=bits,
            depth=depth,
            init=[word >> first & mask for word in words],
            # a word that is read while it is written is undefined: no logic makes it the old one
            attrs={"ram_style": self.style, "no_rw_check": 1},
        )
        m.submodules[f"tile_{row}_{first}"] = tile
        address = (depth - 1).bit_length()
        if self.init is None:
            chosen = 1 if self.depth <= tile_depth else self.w_addr[low:] == row
            write = tile.write_port()
            m.d.comb += [
                write.en.eq(self.w_en & chosen),
                write.addr.eq(self.w_addr[:address]),
                write.data.eq(self.w_data[first : first + bits]),
            ]
        if self.clears:
            word = tile.read_port(domain="comb")
            held = register(bits, f"held_{row}_{first}")
            m.d.comb += word.addr.eq(self.r_addr[:address])
            with m.If(self.r_en):
                m.d.sync += held.eq(Mux(self.r_clear, 0, word.data))
            return held
        read = tile.read_port()
        m.d.comb += [read.en.eq(self.r_en), read.addr.eq(self.r_addr[:address])]
        return read.data


GATES = "syq_gates"
"""Attribute of a table that is no memory: silicon mixes it with what is around it."""


class Table(Elaboratable):
    """words[address] in the same cycle, as a table in LUTs.

    A module of its own in the netlist: mapped together with deeper logic, Yosys spends up to three
    times as many LUTs on it.

    Args:
        counted: it is one of the unit's `Counts.memories`; else its gates are among the others.
    """

    def __init__(
        self, address: Value, words: Sequence[int], width: int, counted: bool = True
    ) -> None:
        self.counted = counted
        self.address = Signal(len(address))
        self.data = Signal(width)
        self.words = [word & ((1 << width) - 1) for word in words]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rom = m.submodules.rom = HdlMemory(
            shape=len(self.data),
            depth=len(self.words),
            init=self.words,
            attrs={"ram_style": "logic"} | ({} if self.counted else {GATES: 1}),
        )
        port = rom.read_port(domain="comb")
        m.d.comb += [port.addr.eq(self.address), self.data.eq(port.data)]
        return m


BLOCK_WORDS = 256
"""Words of a table that Yosys maps without loss; larger ones are several, and a multiplexer."""


def table(
    m: Module,
    name: str,
    address: Value,
    words: Sequence[int],
    width: int,
    *,
    counted: bool = True,
) -> Value:
    """words[address] in the same cycle, as a table in LUTs; one word is wiring."""
    blocks = [words[i : i + BLOCK_WORDS] for i in range(0, len(words), BLOCK_WORDS)]
    if len(blocks) > 1:
        low = (BLOCK_WORDS - 1).bit_length()
        read = [
            table(m, f"{name}_{i}", address[:low], block, width, counted=counted)
            for i, block in enumerate(blocks)
        ]
        return mux_lanes(address[low:], read)
    if len(words) == 1:
        return Const(words[0] & ((1 << width) - 1), width)
    unit = Table(address[: (len(words) - 1).bit_length()], words, width, counted)
    m.submodules[f"table_{name}"] = unit
    m.d.comb += unit.address.eq(address)
    return unit.data
