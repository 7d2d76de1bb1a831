"""From counts to resources of an FPGA: LUTs by price, memories by the part's own shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import comb
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from syq_dse.cost import prices
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry, RamStyle, ResType
from syq_dse.cost.integers import Ints, cdiv, clog2, ints
from syq_dse.cost.selects import selectors
from syq_dse.target import Board, Family, load_family

COLUMNS = ("lut", "ff", "dsp", "bram18", "uram", "lutram", "dram_bits", "energy_pj")
"""What a unit costs: the last axis of every array of resources."""

LUT, FF, DSP, BRAM18, URAM, LUTRAM, DRAM, ENERGY = range(len(COLUMNS))

HALVES = len(COLUMNS)
"""Halves of LUTs, a column behind COLUMNS until `settled`.

A LUT of six inputs holds two functions of few inputs, so that LUTs do not add up: two units may
share what each leaves free. What adds up are LUTs of three inputs and more (the column LUT until
then) and halves: two for five or six inputs, one for fewer. They take
max(LUTs, halves / 2), as Yosys estimates logic cells. Families of four-input LUTs have no halves.
"""

Floats = npt.NDArray[np.float64]

Resources = Ints
"""Counts with the last axis COLUMNS and HALVES, which add up; or, `settled`, COLUMNS."""


def settled(rows: Resources) -> Resources:
    """What rows of counts take: shape (..., COLUMNS and HALVES) to (..., COLUMNS).

    >>> row = np.zeros(HALVES + 1, dtype=np.int64)
    >>> row[[LUT, HALVES]] = 10, 27
    >>> int(settled(row)[LUT])
    14
    """
    out = rows[..., :HALVES].copy()
    out[..., LUT] = logic_cells(rows[..., LUT], rows[..., HALVES])
    return out


def logic_cells(luts: Any, halves: Any) -> Any:
    """LUTs that hold so many LUTs of three inputs and more, and so many halves; of any shape."""
    return np.maximum(luts, -(-halves // 2))


@dataclass(frozen=True)
class Pricing:
    """All that turns counts into resources of one board."""

    board: Board
    family: Family
    lut: prices.LutPrices
    energy: prices.EnergyPrices

    columns = COLUMNS
    limited = COLUMNS[:ENERGY]
    shown = ("lut", "ff", "dsp", "bram18", "uram")
    sums: ClassVar[Mapping[str, str]] = {
        "lut": "lut",
        "ff": "ff",
        "dsp": "dsp",
        "bram": "bram18",
        "uram": "uram",
        "energy": "energy_pj",
    }

    units: ClassVar[Mapping[str, tuple[int, str]]] = {}
    whole = "part"
    shown_as: ClassVar[Mapping[str, str]] = {}

    @property
    def target(self) -> Board:
        return self.board

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
        """The part of the board that settled rows of resources take [10^-9 of it].

        Reading DRAM counts as one whole part, so that weights leave the chip only when they do not
        fit on it. Shape: rows (..., COLUMNS), result (...).
        """
        shares: Ints = rows @ self.share + PART * (rows[..., DRAM] > 0)
        return shares

    def cheapest(self, options: Sequence[Resources]) -> tuple[Resources, Ints]:
        """Row by row the option of the smallest share of the part, and which one that is.

        Args:
            options: alternatives, not yet settled.
        """
        return least(options, lambda rows: self.share_of(settled(rows)))

    def settled(self, rows: Resources, cycles: Ints | int = 0) -> Resources:
        """What rows of counts take (`settled`); energy is of work, however many cycles it takes."""
        return settled(rows)

    def resources(self, unit: str, counts: Counts, ram_style: RamStyle | None = None) -> Resources:
        """Resources of one unit (`resources`)."""
        return resources(unit, counts, self, ram_style)

    def styles(self, memory: Memory) -> tuple[RamStyle, ...]:
        """The styles that a memory may have where none is asked for (`styles`)."""
        return styles(memory, self)

    def chosen_style(self, memory: Memory) -> RamStyle:
        """The style of one memory (`chosen_style`)."""
        return chosen_style(memory, self)

    def ram_styles(self, geo: Geometry) -> tuple[RamStyle, ...]:
        """Where this part can keep the weights of a layer.

        Layers without reuse of their weights can stream them from DRAM.
        """
        found: list[RamStyle] = ["distributed"]
        if self.board.capacity.bram18:
            found.append("block")
        if self.family.uram and self.board.capacity.uram:
            found.append("ultra")
        if self.board.dram.bandwidth_gb_s and geo.positions == 1:
            found.append("dram")
        return tuple(found)

    def res_types(self) -> tuple[ResType, ...]:
        """What can multiply on this part."""
        return ("lut", "dsp") if self.board.capacity.dsp else ("lut",)

    def capacity(self, interval: int, clock_mhz: float) -> dict[str, int]:
        """What the board offers in each column that has a limit, DRAM bits an image included."""
        offered = {name: int(getattr(self.board.capacity, name)) for name in COLUMNS[:DRAM]}
        bits_a_cycle = self.board.dram.bandwidth_gb_s * 8e3 / clock_mhz
        return offered | {"dram_bits": int(bits_a_cycle * interval)}

    def warnings(self, unit: str, parameters: Mapping[str, int | str]) -> list[str]:
        """One line for each parameter of a unit that lies outside of what was synthesised."""
        return prices.warnings(self.lut, unit, parameters)

    def totals(self, total: Mapping[str, int]) -> dict[str, int]:
        """What documents show of a row of COLUMNS, energy apart."""
        return {name: total[name] for name in (*self.shown, "lutram", "dram_bits")}

    def shown_capacity(self, offered: Mapping[str, int]) -> dict[str, int]:
        """What documents show of the capacity."""
        return dict(offered)

    def provenance(self) -> dict[str, str]:
        """Where each kind of price comes from, and whether it was fitted to synthesis."""
        exact = "exact count, mapped by the part's shapes"
        return {
            "lut": f"{self.lut.status}: {self.lut.source}{self._held_out()}",
            "ff": f"{exact}; {self.lut.status} against synthesis",
            "dsp": exact,
            "bram18": exact,
            "uram": exact,
            "energy": f"{self.energy.status}: {self.energy.source}",
        }

    def _held_out(self) -> str:
        """The error that a unit's LUTs had where prices were fitted without it."""
        fitted = {name: unit.error for name, unit in self.lut.units.items() if unit.runs}
        if not fitted:
            return ""
        each = ", ".join(
            f"{name} {100 * error.get('lut_mean', 0.0):.1f}" for name, error in fitted.items()
        )
        worst = max(error.get("lut_worst", 0.0) for error in fitted.values())
        return f"; mean error of a unit [%]: {each}; worst {100 * worst:.0f} %"


def least(
    options: Sequence[Resources], share_of: Callable[[Resources], Ints]
) -> tuple[Resources, Ints]:
    """Row by row the option of the smallest share, and which one that is."""
    stacked = np.stack(np.broadcast_arrays(*options))
    best = np.argmin(share_of(stacked), axis=0)
    return np.take_along_axis(stacked, best[None, ..., None], axis=0)[0], best


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
    """Resources of one unit, shape (foldings, COLUMNS and HALVES).

    LUTs and halves are rounded up a unit, energy to the nearest pJ. A memory is mapped as
    `ram_style` says; None takes the one of the smallest share of the part.

    Raises:
        InputError: the calibration has no price of the unit or of one of its counts.
    """
    price = pricing.lut.of(unit, counts.lut)
    logic: Any = False
    pair: Any = np.zeros(2)  # LUTs and halves
    for name, bits in counts.lut.items():
        bits = np.asarray(bits)
        pair = pair + bits[..., None] * np.array(price[name])
        logic = logic | (bits > 0)
    if counts.lut:  # what has no logic at all has no handshake either
        own = np.array(price[prices.CONSTANT]) - 1e-9
        pair = np.ceil(pair + own * np.asarray(logic)[..., None])
    energy: Any = 0.0
    for name, bits in counts.work.items():
        energy = energy + pricing.energy.pj_per_bit[name] * bits
    size = np.broadcast(pair[..., 0], counts.ff, counts.dsp, energy).shape
    out = np.zeros((*size, HALVES + 1), dtype=np.int64)
    out[..., LUT], out[..., HALVES] = pair[..., 0], pair[..., 1]
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
    return pricing.cheapest(
        [MAPS[style](memory, pricing.family) for style in styles(memory, pricing)]
    )[0]


def styles(memory: Memory, pricing: Pricing) -> tuple[RamStyle, ...]:
    """The styles that a memory may have where none is asked for."""
    if memory.in_luts:
        return ("distributed",)
    ultra_too = pricing.family.uram is not None and not memory.constant
    return ("distributed", "block", "ultra") if ultra_too else ("distributed", "block")


def chosen_style(memory: Memory, pricing: Pricing) -> RamStyle:
    """The style of one memory, of the smallest share of the part, as `map_memory` takes it."""
    options = styles(memory, pricing)
    rows = [MAPS[style](memory, pricing.family).reshape(-1) for style in options]
    return options[int(pricing.cheapest(rows)[1])]


def distributed(memory: Memory, family: Family) -> Resources:
    """A memory in LUTs: the part's LUTRAM, or a table of constants; multiplexers join the depth."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    if memory.constant:
        columns, rare = width - memory.alike, memory.rare
        if memory.different is not None:  # of all banks
            columns, rare, banks = memory.different + 0 * width, 0.0, 1 + 0 * banks
        taken = table_luts(columns, depth, family, rare)
    else:
        stores, (joins, halves) = _lutram(width, depth, family)
        out[..., LUTRAM] = np.where(word, 0, stores * banks)
        taken = stores + joins, 2 * stores * (family.lut_inputs >= 6) + halves
    for column, count in zip((LUT, HALVES), taken, strict=True):
        out[..., column] = np.where(word, 0, count * banks)
    _registers(out, memory, word, width * depth * banks)
    if memory.registered:
        out[..., FF] += np.where(word, 0, width * banks)
    return out


def table_luts(width: Ints, depth: Ints, family: Family, rare: float = 0.5) -> tuple[Ints, Ints]:
    """LUTs and halves of a table of constants that look random.

    Columns that are equal or inverse share their LUTs; with one address bit, or where it is an
    address bit, a column is a wire. Source of the figures past one LUT a column: Yosys 0.70,
    tables of 2 to 4096 words.

    Args:
        rare: share of the rarer bit of a column; 0 where all columns differ.
    """
    different = columns_of(width, depth, rare)
    if family.lut_inputs >= 6:  # blocks of 256 words are four LUTs a column; three take a fourth
        blocks, rest = depth // 256, cdiv(depth % 256, family.rom_depth_per_lut)
        column = 4 * blocks + rest + (rest == 3) + cdiv(blocks + (rest > 0) - 1, 3)
        luts, halves = np.where(depth <= 4, 0, column), np.where(depth <= 16, 1, 2 * column)
    else:
        tiles = cdiv(depth, family.rom_depth_per_lut)
        luts, halves = np.where(tiles <= 8, tiles, tiles * 1.4), depth * 0
    # rounded first: the last digit of a logarithm depends on how many are taken at once
    taken = [np.ceil(np.round(part * different, 6)).astype(np.int64) for part in (luts, halves)]
    return taken[0], taken[1]


Classes = Callable[[int, float], tuple[Floats, Floats]]
"""From words and share of rarer bits: classes of columns, how many each has, and the logarithm of
the share of random columns that are none of one of them."""


def columns_of(width: Ints, depth: Ints, rare: float = 0.5) -> Floats:
    """Columns of a table of random constants that neither repeat nor invert another, in the mean.

    Args:
        rare: as of `table_luts`.
    """
    return _different(width, depth, rare, _columns)


def functions_of(width: Ints, depth: Ints, rare: float = 0.5) -> Floats:
    """Columns of a table of random constants that neither repeat another nor are constant, in the
    mean; one and its inverse are two.

    Args:
        rare: as of `table_luts`.
    """
    return _different(width, depth, rare, _functions)


def _different(width: Ints, depth: Ints, rare: float, classes: Classes) -> Floats:
    """Columns of which no two are of one class, in the mean."""
    different = width + depth * 0.0
    for words in range(1, FEW_WORDS + 1):
        here = depth == words
        if here.any() and rare:
            count, none = classes(words, rare)
            drawn = (-np.expm1(np.multiply.outer(width, none))) @ count
            different = np.where(here, drawn, different)
    return different


FEW_WORDS = 16
"""A table of more words has too many functions for two of its columns to be equal."""


@cache
def _functions(words: int, rare: float) -> tuple[Floats, Floats]:
    """Columns that are not constant, by the number of rare bits in them."""
    ones = np.arange(1, words)
    count = np.array([comb(words, int(k)) for k in ones], dtype=np.float64)
    return count, np.log1p(-(rare**ones) * (1 - rare) ** (words - ones))


@cache
def _columns(words: int, rare: float) -> tuple[Floats, Floats]:
    """Columns of a table that need a LUT, a function and its inverse being one.

    By the number of rare bits in them: how many there are, and the logarithm of the share of
    random columns that are none of one of them.
    """
    ones = np.arange(1, words // 2 + 1)
    count = np.array([comb(words, int(k)) for k in ones], dtype=np.float64)
    count[2 * ones == words] /= 2
    share = rare**ones * (1 - rare) ** (words - ones) + rare ** (words - ones) * (1 - rare) ** ones
    address = (words - 1).bit_length()
    if words == 2**address:  # address bits themselves
        count[-1:] -= address
    elif words == 3:
        count -= address
    return count, np.log1p(-share)


def _lutram(width: Ints, depth: Ints, family: Family) -> tuple[Ints, tuple[Ints, Ints]]:
    """LUTs that store, and LUTs and halves that join the depth, of a memory.

    Yosys takes the shape of the least cost: the LUTs of it that are used, and a quarter of one for
    each bit of a word that rows join; of equal ones the deeper. Write enables of the rows are
    decoded and their outputs multiplexed. Source: Yosys 0.70, memory_libmap and its descriptions;
    120 memories of 2 to 300 words and 1 to 64 bits.
    """
    stores = rows = width * 0
    least = np.inf * np.ones(np.broadcast_shapes(width.shape, depth.shape))
    for ram in sorted(family.lutram, key=lambda ram: -ram.depth):
        tiles = cdiv(depth, ram.depth)
        cost = (
            tiles * ram.lut * width / ram.width + (tiles - 1) * width / 4 + tiles * (tiles > 1) / 4
        )
        less = cost < least
        least = np.where(less, cost, least)
        stores = np.where(less, tiles * cdiv(width, ram.width) * ram.lut, stores)
        rows = np.where(less, tiles, rows)
    return stores, _row_joins(width, rows, family, of_lutram=True)


def _row_joins(
    width: Ints, rows: Ints, family: Family, *, of_lutram: bool = False, of_blocks: bool = False
) -> tuple[Ints, Ints]:
    """LUTs and halves that join the rows of a deep memory: enables, and a multiplexer a bit.

    Six inputs hold a 4:1 multiplexer. Four hold a 2:1, the slices' own multiplexers join them; what
    Yosys 0.70 makes behind LUTRAM of that family takes more, as seen.

    Args:
        of_blocks: rows are blocks that are written; of more than four, an enable takes two halves.
    """
    if family.lut_inputs >= 6:
        wide, narrow = selectors(rows)
        enables = np.where(rows > 1, rows, 0)
        return (
            width * (wide + narrow) + enables * (rows > 2),
            width * (2 * wide + narrow) + enables * (1 + (of_blocks & (rows > 4))),
        )
    ways = cdiv(rows, 2)
    if of_lutram:
        ways = np.select([rows <= 3, rows == 4, rows <= 8], [rows - 1, 4, 6], rows * 4 // 3)
    return np.where(rows > 1, width * ways + rows, 0), rows * 0


def block_shape(width: int, depth: int, family: Family) -> tuple[int, int]:
    """The (depth, width) of one block RAM with which a memory takes the fewest."""
    return min(family.bram18, key=lambda s: int(cdiv(depth, s[0])) * int(cdiv(width, s[1])))


def block(memory: Memory, family: Family) -> Resources:
    """A memory in block RAM of 18 kbit: the shape that takes the fewest; multiplexers join rows."""
    width, depth = ints(memory.width), ints(memory.depth)
    each = np.stack(
        np.broadcast_arrays(*(cdiv(depth, d) * cdiv(width, w) for d, w in family.bram18))
    )
    rows = cdiv(depth, ints([d for d, _ in family.bram18])[np.argmin(each, axis=0)])
    return _in_blocks(memory, family, BRAM18, each.min(axis=0), rows)


def ultra(memory: Memory, family: Family) -> Resources:
    """A memory in UltraRAM. It has no initial contents: constants are loaded at start-up."""
    assert family.uram is not None
    tile, columns = family.uram
    rows = cdiv(ints(memory.depth), tile)
    return _in_blocks(memory, family, URAM, rows * cdiv(ints(memory.width), columns), rows)


def _in_blocks(memory: Memory, family: Family, column: int, blocks: Ints, rows: Ints) -> Resources:
    """A memory in so many blocks a bank, in rows that multiplexers join."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    luts, halves = _row_joins(width, rows, family, of_blocks=not memory.constant)
    for place, count in ((column, blocks), (LUT, luts), (HALVES, halves)):
        out[..., place] = np.where(word, 0, count * banks)
    _registers(out, memory, word, width * depth * banks)
    out[..., FF] += np.where(word, 0, clog2(rows) * banks)  # which row was read
    return out


MAPS = {"distributed": distributed, "block": block, "ultra": ultra}
"""How a memory of each style takes resources; a buffer of a DRAM stream is mapped as it is best."""


def _registers(out: Resources, memory: Memory, word: npt.NDArray[np.bool_], bits: Ints) -> None:
    if not memory.constant:
        out[..., FF] = np.where(word, bits, 0)


def _empty(*sizes: Ints) -> Resources:
    shape = np.broadcast_shapes(*(s.shape for s in sizes))
    return np.zeros((*shape, HALVES + 1), dtype=np.int64)


def as_mapping(row: Ints) -> Mapping[str, int]:
    """One settled row of resources by column name."""
    return {name: int(value) for name, value in zip(COLUMNS, row, strict=True)}
