"""Gate equivalents: what counts mean in silicon, and what each costs in a technology.

A gate equivalent is the area of the library's smallest NAND of two inputs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from syq_dse import catalogue, records
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.fpga import columns_of, functions_of
from syq_dse.cost.integers import cdiv, ints
from syq_dse.cost.prices import UNITS, Status, inline
from syq_dse.cost.search_tables import drawn
from syq_dse.errors import InputError, one_line

REGISTERS, TABLE = "registers", "table"
"""Memories of flip-flops and tables of constants: priced as units of their own."""

PRICED = (*UNITS, REGISTERS, TABLE)

FLIP_FLOPS, JOINS = "flip_flops", "table_joins"

CONSTANT = "unit"

WORDS = 256
"""Words of a table that is one; larger ones are several, joined by multiplexers (rtl/memory.py)."""

DEPTHS = (2, 4, 8, 16)
"""Words of the tables whose columns have prices; between them a price is interpolated."""

FOLDER = "calibration/silicon"
"""Of hwmodels: prices and samples of technologies."""

MOST = 1000.0
"""Gate equivalents of one bit of anything; what costs more is a slip of the pen."""

Features = dict[str, Any]


def logic(counts: Counts, styles: Sequence[str] = ()) -> Features:
    """What a unit's gates go by, its memories left out: names to counts, for many foldings.

    Args:
        styles: of each memory; none: all are "distributed". In other styles a table brings what
            joins its parts, and its register, along.
    """
    flip_flops, joins = counts.ff, 0
    for memory, style in zip(
        counts.memories, styles or ["distributed"] * len(counts.memories), strict=True
    ):
        width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
        if not memory.constant:
            flip_flops = flip_flops + np.where(depth <= 1, width * depth * banks, 0)
        elif style == "distributed":  # what joins several tables, and the register behind it
            parts = np.where(memory.in_luts, 1, cdiv(depth, WORDS))
            joins = joins + width * banks * (parts - 1)
            flip_flops = flip_flops + np.where(parts > 1, width * banks * memory.registered, 0)
    found = counts.lut if counts.gates is None else counts.gates()
    return {**found, FLIP_FLOPS: flip_flops, JOINS: joins}


def registers(memory: Memory) -> Features:
    """A memory of flip-flops: what stores, what selects a word that is read, its register."""
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    there = depth > 1
    return {
        "bits": width * depth * banks * there,
        "read_bits": width * (depth - 1) * banks * there,
        "words": depth * banks * there,
        FLIP_FLOPS: width * banks * there,
    }


def table(memory: Memory) -> Features:
    """A table of constants with what joins its parts and the register behind it.

    Columns of few words are priced by their number. Longer ones are made of octets, functions of
    three address bits of which there are OCTETS: those that occur are made once. Each column
    selects among its octets, one time less than it has octets; the first SELECTIONS of these need
    more gates than those behind. Tables of thresholds, which are sorted, have fewer of both
    (cost/search_tables.py).
    """
    width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
    columns, rare = width - memory.alike, memory.rare
    held = functions_of(columns, depth, rare) * banks * memory.registered * (depth > 1)
    if memory.different is not None:  # of all banks
        columns, rare, banks = memory.different + 0 * width, 0.0, 1 + 0 * banks
    found: Features = {}
    few = depth < DEPTHS[-1]
    short = np.where(few, columns_of(columns, np.where(few, depth, WORDS), rare), 0) * banks
    for words, share in _between(depth).items():
        found[f"columns_{words}"] = share * short
    octets = np.where(few, 0.0, columns * depth / 8)
    selections = np.where(few, 0.0, octets - columns)
    made = OCTETS * -np.expm1(-octets / OCTETS)
    if memory.search is not None:
        made, selections = (
            _searched(memory.search, columns, depth, few)
            if memory.parts is None
            else (np.where(few, 0.0, 1.0 * part) for part in memory.parts)
        )
    return found | {
        "octets_made": made * banks,
        "selections": selections * banks,
        "first_selections": SELECTIONS * -np.expm1(-selections / SELECTIONS) * banks,
        FLIP_FLOPS: held,
    }


def _searched(
    search: tuple[int, int | None], columns: Any, depth: Any, few: Any
) -> tuple[Any, Any]:
    """Octets and selections of a table of thresholds, which are sorted."""
    wide = np.maximum(1, np.rint(columns))
    shape = np.broadcast_shapes(np.shape(wide), np.shape(depth))
    found = [
        (0.0, 0.0) if small else drawn(*search, int(width), int(words))
        for width, words, small in zip(
            *(np.broadcast_to(of, shape).reshape(-1) for of in (wide, depth, few)), strict=True
        )
    ]
    both = np.reshape(found, (*shape, 2))
    return both[..., 0], both[..., 1]


OCTETS = 124
"""Functions of three bits but for constants and the bits themselves; one and its inverse count
once."""

SELECTIONS = 2000
"""From so many on one more takes about half the gates, since much of it is there: of 500 to 4,000
what fits tables of 16 to 65,536 bits in four libraries best."""


def _between(depth: Any) -> dict[int, Any]:
    """Shares of the neighbours in DEPTHS that a number of words lies between; none of one word, nor
    of the most and more."""
    shares: dict[int, Any] = dict.fromkeys(DEPTHS, 0.0)
    for low, high in itertools.pairwise(DEPTHS):
        inside = (depth >= low) & (depth < high)
        part = np.where(inside, (depth - low) / (high - low), 0.0)
        shares[low] = shares[low] + np.where(inside, 1 - part, 0.0)
        shares[high] = shares[high] + part
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitGates:
    """Gate equivalents of a unit by feature, and of its constant; from how many runs, how good."""

    runs: int
    gates: dict[str, float]  # of one of each feature, and CONSTANT
    valid: dict[str, tuple[int, int]] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)  # on runs that the fit had not seen

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise InputError(f"runs must be at least 1, got {self.runs}")
        if CONSTANT not in self.gates:
            raise InputError(f"gates: the key '{CONSTANT}' is missing")
        for table in ("gates", "error"):
            for name, value in getattr(self, table).items():
                if not value >= 0:  # NaN neither
                    raise InputError(f"{table}.{one_line(name)} must not be negative, got {value}")
        for name, value in self.gates.items():
            if value > MOST:
                raise InputError(f"gates.{one_line(name)} must be at most {MOST:g}, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePrices:
    """Gate equivalents of a technology's library, unit by unit."""

    technology: str
    status: Status
    source: str
    tool: str  # how the units were synthesised
    library: dict[str, str]  # the Liberty files, by name their SHA-256
    nand2: str  # the cell that is one gate equivalent
    nand2_um2: float
    units: dict[str, UnitGates]

    def __post_init__(self) -> None:
        if not self.nand2_um2 > 0:
            raise InputError(f"nand2_um2 must be positive, got {self.nand2_um2}")

    def of(self, unit: str, features: Mapping[str, Any]) -> Any:
        """Gate equivalents of a unit, for many foldings at once.

        Raises:
            InputError: there is no such unit, or it has no price for one of `features`.
        """
        place = f"{self.technology}.toml: units"
        remedy = f"remedy: syq-dse calibrate --technology {self.technology} --unit {unit}"
        if unit not in self.units:
            raise InputError(f"{place}: no prices of the unit '{unit}'; {remedy}")
        price = self.units[unit].gates
        total: Any = 0.0
        there: Any = False
        for name, count in features.items():
            if name not in price:
                raise InputError(
                    f"{place}.{unit}.gates: no price of '{name}'; known: {', '.join(price)}; "
                    f"{remedy}"
                )
            count = np.asarray(count)
            total = total + price[name] * count
            there = there | (count > 0)
        return total + price[CONSTANT] * np.asarray(there)


def price_file(name: str, folder: str | None, remedy: str) -> Path:
    """A file of prices: the shipped one, or that in a folder of the user.

    Raises:
        InputError: there is none; ends with the remedy.
    """
    if folder is None:
        try:
            return catalogue.find("calibration", name, "hwmodels", (FOLDER,))
        except InputError as error:
            raise InputError(f"{error}; {remedy}") from None
    path = Path(folder) / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    return path


@cache
def load(technology: str, folder: str | None = None) -> GatePrices:
    """The gate prices of a technology.

    Args:
        folder: that `syq-dse calibrate` has left; None: the shipped.
    """
    remedy = calibrating(technology, folder)
    try:
        path = price_file(technology, folder, remedy)
        found = records.load(path, GatePrices)
    except InputError as error:
        raise InputError(str(error) if remedy in str(error) else f"{error}; {remedy}") from None
    check_technology(path, found.technology, technology)
    return found


def calibrating(technology: str, folder: str | None, option: str = "") -> str:
    """The remedy where prices are missing: the command that makes them.

    A user's own technology, which names a folder, has a file.
    """
    name = f"{technology}.toml" if folder else technology
    place = folder or "FOLDER"
    return f"remedy: `syq-dse calibrate --technology {name}{option} --liberty FILE -o {place}`"


def check_technology(path: Path, found: str, technology: str) -> None:
    """Refuse prices of another technology.

    Raises:
        InputError: they are of another.
    """
    if found != technology:
        raise InputError(f"{path.name}: technology must be '{technology}', got {found!r}")


def text(prices: GatePrices) -> str:
    """Gate prices as the text of their TOML file, one table a unit."""
    names = ("technology", "status", "source", "tool", "nand2", "nand2_um2")
    lines = [f"{name} = {json.dumps(getattr(prices, name))}" for name in names]
    library = (f"{json.dumps(name)} = {json.dumps(sha)}" for name, sha in prices.library.items())
    lines += ["", "[library]", *library]
    for name, unit in prices.units.items():
        lines += [
            "",
            f"[units.{name}]",
            f"runs = {unit.runs}",
            f"gates = {inline({key: repr(value) for key, value in unit.gates.items()})}",
            f"valid = {inline({key: f'[{a}, {b}]' for key, (a, b) in unit.valid.items()})}",
            f"error = {inline({key: repr(value) for key, value in unit.error.items()})}",
        ]
    return "\n".join(lines) + "\n"
