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
from syq_dse.cost.integers import Ints, cdiv, ints
from syq_dse.target import Board, Family, LutRam, load_family

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
        KeyError: the calibration has no price for a count; a test holds that it has.
    """
    per_bit = pricing.lut.lut_per_bit
    lut: Any = 0.0
    for name, bits in counts.lut.items():
        lut = lut + per_bit[name] * bits
    if counts.lut:  # what has no logic at all has no handshake either
        lut = np.ceil(lut + (pricing.lut.lut_per_unit[unit] - 1e-9) * (np.asarray(lut) > 0))
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
    if ram_style == "distributed":
        return distributed(memory, pricing.family)
    if ram_style == "block":
        return block(memory, pricing.family)
    if ram_style == "ultra":
        return ultra(memory, pricing.family)
    out, other = distributed(memory, pricing.family), block(memory, pricing.family)
    share = pricing.share_of(out)
    others = [other]
    if pricing.family.uram and not memory.constant:
        others.append(ultra(memory, pricing.family))
    for other in others:
        less = pricing.share_of(other) < share
        out = np.where(less[..., None], other, out)
        share = np.minimum(share, pricing.share_of(other))
    return out


def distributed(memory: Memory, family: Family) -> Resources:
    """A memory in LUTs: the part's LUTRAM, or a table of constants; multiplexers join the depth."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    ways = 4 if family.lut_inputs >= 6 else 2  # inputs of a multiplexer that is one LUT
    out = _empty(width, depth, banks)
    if memory.constant:
        tile = family.rom_depth_per_lut
        # the slice's own multiplexers join four LUTs
        cells = cdiv(depth, tile) * width + _multiplexers(width, depth, 4 * tile, ways)
    else:
        tried = [_lutram(width, depth, ram, ways) for ram in family.lutram]
        cells = np.minimum.reduce([rams + muxes for rams, muxes in tried])
        rams = np.minimum.reduce([np.where(r + m == cells, r, cells) for r, m in tried])
        out[..., LUTRAM] = np.where(word, 0, rams * banks)
    out[..., LUT] = np.where(word, 0, cells * banks)
    _registers(out, memory, word, width * depth * banks)
    return out


def _lutram(width: Ints, depth: Ints, ram: LutRam, ways: int) -> tuple[Ints, Ints]:
    """LUTs that store, and LUTs that join the depth, of a memory in one shape."""
    stores = cdiv(depth, ram.depth) * cdiv(width, ram.width) * ram.lut
    return stores, _multiplexers(width, depth, ram.depth, ways)


def _multiplexers(width: Ints, depth: Ints, tile: int, ways: int) -> Ints:
    """LUTs that select among tiles of a deep memory, each `ways` to one."""
    return width * cdiv(cdiv(depth, tile) - 1, ways - 1)


def block(memory: Memory, family: Family) -> Resources:
    """A memory in block RAM of 18 kbit: the shape that takes the fewest."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    fewest = np.min([cdiv(depth, d) * cdiv(width, w) for d, w in family.bram18], axis=0)
    out[..., BRAM18] = np.where(word, 0, fewest * banks)
    _registers(out, memory, word, width * depth * banks)
    return out


def ultra(memory: Memory, family: Family) -> Resources:
    """A memory in UltraRAM. It has no initial contents: constants are loaded at start-up."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    word = depth <= 1
    out = _empty(width, depth, banks)
    assert family.uram is not None
    rows, columns = family.uram
    out[..., URAM] = np.where(word, 0, cdiv(depth, rows) * cdiv(width, columns) * banks)
    _registers(out, memory, word, width * depth * banks)
    return out


def _registers(out: Resources, memory: Memory, word: npt.NDArray[np.bool_], bits: Ints) -> None:
    if not memory.constant:
        out[..., FF] = np.where(word, bits, 0)


def _empty(*sizes: Ints) -> Resources:
    shape = np.broadcast_shapes(*(s.shape for s in sizes))
    return np.zeros((*shape, len(COLUMNS)), dtype=np.int64)


def as_mapping(row: Ints) -> Mapping[str, int]:
    """One row of resources by column name."""
    return {name: int(value) for name, value in zip(COLUMNS, row, strict=True)}
