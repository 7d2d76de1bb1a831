"""From counts to resources of an FPGA: LUTs by price, memories by the part's own shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse.cost import prices
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import RamStyle
from syq_dse.cost.integers import Ints, cdiv, clog2, ints
from syq_dse.target import Board, Family, load_family

COLUMNS = ("lut", "ff", "dsp", "bram18", "uram", "lutram", "dram_bits", "energy_pj")
"""What a unit costs: the last axis of every array of resources."""

LUT, FF, DSP, BRAM18, URAM, LUTRAM, DRAM, ENERGY = range(len(COLUMNS))

Resources = Ints
"""Counts with the last axis COLUMNS."""


@dataclass(frozen=True)
class Pricing:
    """All that turns counts into resources of one board."""

    board: Board
    family: Family
    lut: prices.LutPrices
    energy: prices.EnergyPrices

    @cached_property
    def share(self) -> Ints:
        """The part of the board that one of each column takes [10^-9 of it], as integers.

        Its product with a row orders alternatives where no limit binds; integers, so that whoever
        adds them up in whatever order finds the same order. What the part has not costs a thousand
        parts.
        """
        share = np.zeros(len(COLUMNS))
        capacity = self.board.capacity
        for index, name in enumerate(COLUMNS[:LUTRAM]):
            size = getattr(capacity, name)
            share[index] = 1 / size if size else ABSENT
        share[LUTRAM] = 0.0 if capacity.lutram else ABSENT
        return np.rint(share * PART).astype(np.int64)

    def share_of(self, rows: Resources) -> Ints:
        """The part of the board that rows of resources take [10^-9 of it].

        Reading DRAM counts as one whole part, so that weights leave the chip only when they do not
        fit on it. Shape: rows (..., COLUMNS), result (...).
        """
        shares: Ints = rows @ self.share + PART * (rows[..., DRAM] > 0)
        return shares


PART = 10**9
"""The whole part, in the unit of Pricing.share."""

ABSENT = 1e3
"""Share of a resource that the part has not."""


def pricing(board: Board) -> Pricing:
    """The family and the prices of a board, read from their files."""
    return Pricing(
        board, load_family(board.family), prices.load_lut(board.family), prices.load_energy()
    )


def resources(
    unit: str, counts: Counts, pricing: Pricing, ram_style: RamStyle | None = None
) -> Resources:
    """Resources of one unit, shape (foldings, COLUMNS).

    LUTs are rounded up a unit, energy to the nearest pJ. A memory is mapped as `ram_style` says;
    None takes the one of the smallest share of the part.

    Raises:
        InputError: the calibration has no price of the unit or of one of its counts.
    """
    price = pricing.lut.of(unit, counts.lut)
    lut: Any = 0.0
    logic: Any = False
    for name, bits in counts.lut.items():
        lut = lut + price[name] * bits
        logic = logic | (np.asarray(bits) > 0)
    if counts.lut:  # what has no logic at all has no handshake either
        lut = np.ceil(lut + (price[prices.CONSTANT] - 1e-9) * logic)
    energy: Any = 0.0
    for name, bits in counts.work.items():
        energy = energy + pricing.energy.pj_per_bit[name] * bits
    size = np.broadcast(lut, counts.ff, counts.dsp, energy).shape
    out = np.zeros((*size, len(COLUMNS)), dtype=np.int64)
    out[..., LUT] = lut
    out[..., FF] = counts.ff
    out[..., DSP] = counts.dsp
    out[..., DRAM] = counts.dram_bits
    out[..., ENERGY] = np.rint(energy)
    for memory in counts.memories:
        out = out + map_memory(memory, pricing, ram_style)
    return out


def map_memory(memory: Memory, pricing: Pricing, ram_style: RamStyle | None = None) -> Resources:
    """Resources of one memory in one style, or in the one of the smallest share of the part.

    A memory of one word is a register (or, constant, wiring) in every style.
    """
    if not (ints(memory.depth) > 1).any():
        return MAPS["block"](memory, pricing.family)
    if ram_style in MAPS:
        return MAPS[ram_style](memory, pricing.family)
    options = [MAPS[style](memory, pricing.family) for style in styles(memory, pricing)]
    stacked = np.stack(options)
    best = np.argmin(pricing.share_of(stacked), axis=0)
    chosen: Resources = np.take_along_axis(stacked, best[None, ..., None], axis=0)[0]
    return chosen


def styles(memory: Memory, pricing: Pricing) -> tuple[RamStyle, ...]:
    """The styles that a memory may have where none is asked for."""
    if memory.in_luts:
        return ("distributed",)
    ultra_too = pricing.family.uram is not None and not memory.constant
    return ("distributed", "block", "ultra") if ultra_too else ("distributed", "block")


def chosen_style(memory: Memory, pricing: Pricing) -> RamStyle:
    """The style of one memory, of the smallest share of the part, as `map_memory` takes it."""
    options = styles(memory, pricing)
    rows = np.stack([MAPS[style](memory, pricing.family).reshape(-1) for style in options])
    return options[int(np.argmin(pricing.share_of(rows)))]


def distributed(memory: Memory, family: Family) -> Resources:
    """A memory in LUTs: the part's LUTRAM, or a table of constants; multiplexers join the depth."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    if memory.constant:
        out[..., LUT] = np.where(word, 0, table_luts(width, depth, family) * banks)
    else:
        stores, joins = _lutram(width, depth, family)
        out[..., LUTRAM] = np.where(word, 0, stores * banks)
        out[..., LUT] = np.where(word, 0, (stores + joins) * banks)
    _registers(out, memory, word, width * depth * banks)
    if memory.registered:
        out[..., FF] += np.where(word, 0, width * banks)
    return out


def table_luts(width: Ints, depth: Ints, family: Family) -> Ints:
    """LUTs of a table of constants that look random.

    Columns that are equal share their LUTs: of 2**depth functions, `width` drawn at random are so
    many different ones. With one address bit a column is a wire; with two, two columns share a LUT.
    Source of the figures past one LUT a column: Yosys 0.70, tables of 2 to 4096 words.
    """
    if family.lut_inputs >= 6:  # blocks of 256 words are four LUTs a column; three take a fourth
        blocks, rest = depth // 256, cdiv(depth % 256, family.rom_depth_per_lut)
        column = 4 * blocks + rest + (rest == 3) + cdiv(blocks + (rest > 0) - 1, 3)
        few = 0.31
    else:
        tiles = cdiv(depth, family.rom_depth_per_lut)
        column = np.where(tiles <= 8, tiles, tiles * 1.4)
        few = 0.62
    share = np.where(depth <= 2, 0.0, np.where(depth <= 4, few, column))
    different = width
    if (depth <= FEW_WORDS).any():
        functions = 2.0 ** np.minimum(depth, 2 * FEW_WORDS)
        drawn = functions * -np.expm1(width * np.log1p(-1 / functions))
        different = np.where(depth <= FEW_WORDS, np.minimum(drawn, width), width)
    # rounded first: the last digit of a logarithm depends on how many are taken at once
    luts: Ints = np.ceil(np.round(share * different, 6)).astype(np.int64)
    return luts


FEW_WORDS = 16
"""A table of more words has too many functions for two of its columns to be equal."""


def _lutram(width: Ints, depth: Ints, family: Family) -> tuple[Ints, Ints]:
    """LUTs that store, and LUTs that join the depth, of a memory.

    Yosys takes the shape that needs the fewest of both, of equal ones the deeper. Write enables of
    the tiles are decoded and their outputs multiplexed.
    """
    stores = joins = width * 0
    for index, ram in enumerate(sorted(family.lutram, key=lambda ram: -ram.depth)):
        rows = cdiv(depth, ram.depth)
        takes = rows * cdiv(width, ram.width) * ram.lut
        needs = _row_joins(width, rows, family)
        less = (takes + needs < stores + joins) if index else takes >= 0
        stores, joins = np.where(less, takes, stores), np.where(less, needs, joins)
    return stores, joins


def _row_joins(width: Ints, rows: Ints, family: Family) -> Ints:
    """LUTs that join the rows of a deep memory: their enables, and a multiplexer a bit.

    Six inputs hold a 4:1 multiplexer. With four the figures are those of Yosys 0.70.
    """
    if family.lut_inputs >= 6:
        ways = cdiv(rows - 1, 3)
    else:
        ways = np.select([rows <= 3, rows == 4, rows <= 8], [rows - 1, 4, 6], rows * 4 // 3)
    return np.where(rows > 1, width * ways + rows, 0)


def block_shape(width: int, depth: int, family: Family) -> tuple[int, int]:
    """The (depth, width) of one block RAM with which a memory takes the fewest."""
    return min(family.bram18, key=lambda s: int(cdiv(depth, s[0])) * int(cdiv(width, s[1])))


def block(memory: Memory, family: Family) -> Resources:
    """A memory in block RAM of 18 kbit: the shape that takes the fewest; multiplexers join rows."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    each = np.stack(
        np.broadcast_arrays(*(cdiv(depth, d) * cdiv(width, w) for d, w in family.bram18))
    )
    best = np.argmin(each, axis=0)
    rows = cdiv(depth, ints([d for d, _ in family.bram18])[best])
    out[..., BRAM18] = np.where(word, 0, each.min(axis=0) * banks)
    out[..., LUT] = np.where(word, 0, _row_joins(width, rows, family) * banks)
    _registers(out, memory, word, width * depth * banks)
    out[..., FF] += np.where(word, 0, clog2(rows) * banks)
    return out


def ultra(memory: Memory, family: Family) -> Resources:
    """A memory in UltraRAM. It has no initial contents: constants are loaded at start-up."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    assert family.uram is not None
    tile, columns = family.uram
    rows = cdiv(depth, tile)
    out[..., URAM] = np.where(word, 0, rows * cdiv(width, columns) * banks)
    out[..., LUT] = np.where(word, 0, _row_joins(width, rows, family) * banks)
    _registers(out, memory, word, width * depth * banks)
    out[..., FF] += np.where(word, 0, clog2(rows) * banks)
    return out


MAPS = {"distributed": distributed, "block": block, "ultra": ultra}
"""How a memory of each style takes resources; a buffer of a DRAM stream is mapped as it is best."""


def _registers(out: Resources, memory: Memory, word: npt.NDArray[np.bool_], bits: Ints) -> None:
    if not memory.constant:
        out[..., FF] = np.where(word, bits, 0)


def _empty(*sizes: Ints) -> Resources:
    shape = np.broadcast_shapes(*(s.shape for s in sizes))
    return np.zeros((*shape, len(COLUMNS)), dtype=np.int64)


def as_mapping(row: Ints) -> Mapping[str, int]:
    """One row of resources by column name."""
    return {name: int(value) for name, value in zip(COLUMNS, row, strict=True)}
