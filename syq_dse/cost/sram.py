"""SRAM macros: area, energy and leakage of any size, fitted to a technology's own.

A macro of `depth` words of `width` bits has rows of width * mux cells: area and energy go by its
cells, its rows, its columns and its sense amplifiers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse import catalogue, records
from syq_dse.cost.gates import FOLDER
from syq_dse.cost.integers import Ints, cdiv, ints
from syq_dse.errors import InputError, one_line

Floats = npt.NDArray[np.float64]

MUXES = (4, 8, 16)
"""Words of a row."""

FIGURES = ("area_um2", "read_pj", "write_pj", "leakage_nw", "access_ns")

TERMS: dict[str, tuple[str, ...]] = {
    "area_um2": ("unit", "bits", "rows", "columns", "width"),
    "read_pj": ("width", "bits", "columns_log_rows", "log_depth"),
    "write_pj": ("unit", "rows", "columns", "bits", "width_sqrt_rows"),
    "leakage_nw": ("unit", "bits", "rows", "columns", "width"),
    "access_ns": ("unit", "log_depth", "rows", "columns", "width"),
}
"""What each figure goes by. Of the sums of two to five plain terms, those that predict macros best
which the fit has not seen."""


def terms(depth: Any, width: Any, mux: Any) -> dict[str, Floats]:
    """All terms of macros, by name."""
    depth, width, mux = (np.asarray(value, dtype=np.float64) for value in (depth, width, mux))
    rows, columns = depth / mux, width * mux
    return {
        "unit": np.ones(np.broadcast_shapes(depth.shape, width.shape, mux.shape)),
        "bits": depth * width,
        "rows": rows + 0 * width,
        "columns": columns + 0 * depth,
        "width": width + 0 * depth,
        "columns_log_rows": columns * np.log2(np.maximum(rows, 1)),
        "log_depth": np.log2(np.maximum(depth, 1)) + 0 * width,
        "width_sqrt_rows": width * np.sqrt(rows),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SramPrices:
    """Coefficients of each of FIGURES, by term, and how far they are off on macros left out."""

    technology: str
    source: str
    macros: int  # that they were fitted to
    depth: tuple[int, int]  # least and most of the macros
    width: tuple[int, int]
    rows: tuple[int, int]
    coefficients: dict[str, dict[str, float]]
    error: dict[str, tuple[float, float]]  # mean and worst, relative

    def __post_init__(self) -> None:
        for figure in FIGURES:
            if sorted(self.coefficients.get(figure, ())) != sorted(TERMS[figure]):
                raise InputError(
                    f"coefficients.{figure} must have {', '.join(TERMS[figure])}, got "
                    f"{one_line(', '.join(self.coefficients.get(figure, ())))}"
                )
        for name in ("depth", "width", "rows"):
            least, most = getattr(self, name)
            if not 1 <= least <= most:
                raise InputError(f"{name} must be [least, most] from 1 on, got [{least}, {most}]")

    def figure(self, name: str, depth: Any, width: Any, mux: Any) -> Floats:
        """One of FIGURES of macros of some shapes."""
        found = terms(depth, width, mux)
        total: Floats = np.sum(
            [price * found[term] for term, price in self.coefficients[name].items()], axis=0
        )
        return total


@dataclass(frozen=True, slots=True)
class Macros:
    """What memories are made of: so many equal macros each, as arrays."""

    count: Ints
    depth: Ints
    width: Ints
    mux: Ints


def macros(prices: SramPrices, depth: Any, width: Any) -> Macros:
    """The macros of memories of any size: as few and as even as the fitted range allows.

    Words wider than the widest macro are split, deeper ones stacked; of the multiplexers the one of
    the least area.
    """
    depth, width = np.broadcast_arrays(ints(depth), ints(width))
    columns = np.maximum(1, cdiv(width, prices.width[1]))
    stacks = np.maximum(1, cdiv(depth, prices.depth[1]))
    wide = np.maximum(prices.width[0], cdiv(width, columns))
    deep = np.maximum(1, cdiv(depth, stacks))
    areas, depths = [], []
    least, most = prices.rows
    for mux in MUXES:
        rows = np.maximum(least, cdiv(deep, mux))
        area = prices.figure("area_um2", rows * mux, wide, mux)
        areas.append(np.where((rows <= most) & (rows * mux <= prices.depth[1]), area, np.inf))
        depths.append(rows * mux)
    best = np.argmin(np.stack(areas), axis=0)
    chosen = np.take_along_axis(np.stack(depths), best[None], axis=0)[0]
    return Macros(columns * stacks, chosen, wide, np.asarray(MUXES)[best])


@cache
def load(technology: str) -> SramPrices:
    """The SRAM prices of a technology."""
    name = f"{technology}-sram"
    path = catalogue.find("calibration", name, "hwmodels", (FOLDER,))
    return records.load(path, SramPrices)


def text(prices: SramPrices) -> str:
    """SRAM prices as the text of their TOML file."""
    lines = [f"{n} = {json.dumps(getattr(prices, n))}" for n in ("technology", "source", "macros")]
    lines += [f"{n} = {list(getattr(prices, n))}" for n in ("depth", "width", "rows")]
    for name, value in prices.coefficients.items():
        lines += ["", f"[coefficients.{name}]"]
        lines += [f"{term} = {price!r}" for term, price in value.items()]
    lines += ["", "[error]"]
    lines += [f"{name} = {list(value)}" for name, value in prices.error.items()]
    return "\n".join(lines) + "\n"
