"""Calibration of SRAM: figures of macros from their Liberty files, and the formula that follows."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from syq_dse import records
from syq_dse.cost import sram
from syq_dse.cost.sram import FIGURES, TERMS, SramPrices
from syq_dse.errors import InputError
from syq_dse.rtl.fit import weighted_nnls
from syq_dse.rtl.liberty import text_of, third_of

Floats = npt.NDArray[np.float64]

FEWEST = 6
"""Macros that a formula of five terms needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro:
    """One macro as its Liberty file has it, at its corner."""

    name: str
    depth: int
    width: int
    mux: int
    area_um2: float
    read_pj: float  # of the clock's edge that reads, the outputs' own load apart
    write_pj: float
    leakage_nw: float
    access_ns: float  # from the clock to an output, the slower edge
    sha256: str


def read(path: Path) -> Macro:
    """The macro in a Liberty file of IHP's naming: NAME_DEPTHxWIDTH_cMUX.

    Raises:
        InputError: it is cut, or has no such name, area, energy or leakage.
    """
    text = text_of(path)
    cell = re.search(r"\bcell\s*\(\s*\"?(\w*?_(\d+)x(\d+)_c(\d)\w*)", text)
    if cell is None:
        raise InputError(f"{path}: no cell is named DEPTHxWIDTH_cMUX")
    clock = re.split(r"\bpin\s*\(\s*A_CLK\s*\)", text, maxsplit=1)[-1]
    unit = re.search(r'leakage_power_unit\s*:\s*"1([pnu])W"', text)
    scale = {"p": 1e-3, "n": 1.0, "u": 1e3}[unit[1]] if unit else 1.0

    def number(what: str, pattern: str, inside: str) -> float:
        found = re.search(pattern, inside, re.MULTILINE)
        if found is None:
            raise InputError(f"{path}: cell {cell[1]}: has no {what}")
        return float(found[1])

    def access() -> float:
        timing = re.split(r"\bbus\s*\(\s*A_DOUT\s*\)", text, maxsplit=1)[-1]
        tables = re.findall(
            r"cell_(?:rise|fall)\s*\([^)]*\)\s*\{.*?values\s*\(\s*(.*?)\)", timing, re.DOTALL
        )
        found = [value for value in map(third_of, tables) if value is not None]
        if not found:
            raise InputError(f"{path}: cell {cell[1]}: has no access time")
        return max(found)

    def energy(what: str, condition: str) -> float:
        rise = r'\s*"\s*;\s*rise_power\s*\("scalar"\)\s*\{\s*values\s*\(\s*([\d.eE+-]+)'
        return number(what, rf'when\s*:\s*"\s*{condition}{rise}', clock)

    return Macro(
        name=cell[1],
        depth=int(cell[2]),
        width=int(cell[3]),
        mux=2 ** int(cell[4]),
        area_um2=number("area", r"^\s*area\s*:\s*([\d.eE+-]+)", text),
        read_pj=energy("energy of a read", r"A_MEN\s*&\s*!A_WEN\s*&\s*A_REN"),
        write_pj=energy("energy of a write", r"A_MEN\s*&\s*A_WEN\s*&\s*!A_REN"),
        access_ns=access(),
        leakage_nw=scale * number("leakage", r"^\s*cell_leakage_power\s*:\s*([\d.eE+-]+)", text),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def run_calibration(technology: str, paths: Sequence[Path], out: Path) -> SramPrices:
    """Fit all figures; write TECHNOLOGY-sram.toml and TECHNOLOGY-sram.csv.

    Raises:
        InputError: a file is broken, or there are too few.
    """
    found = sorted((read(path) for path in paths), key=lambda one: (one.depth, one.width))
    if len(found) < FEWEST:
        raise InputError(f"{len(found)} SRAM macros are too few: a fit needs {FEWEST}")
    depth, width, mux = (
        np.array([getattr(one, name) for one in found]) for name in ("depth", "width", "mux")
    )
    every = sram.terms(depth, width, mux)
    coefficients, error = {}, {}
    for figure in FIGURES:
        rows = np.stack([every[term] for term in TERMS[figure]], axis=1)
        made = np.array([getattr(one, figure) for one in found])
        price = _solve(rows, made)
        off = [
            abs(rows[i] @ _solve(np.delete(rows, i, 0), np.delete(made, i)) / made[i] - 1)
            for i in range(len(made))
        ]
        coefficients[figure] = {
            term: float(f"{value:.6g}") for term, value in zip(TERMS[figure], price, strict=True)
        }
        error[figure] = float(f"{np.mean(off):.3g}"), float(f"{np.max(off):.3g}")
    rows_of = depth // mux
    prices = SramPrices(
        technology=technology,
        source=(
            f"non-negative least squares on relative errors of {len(found)} macros "
            f"({technology}-sram.csv), by `syq-dse calibrate --technology {technology} --sram "
            "FILES`; errors of each macro by a fit to the others"
        ),
        macros=len(found),
        depth=(int(depth.min()), int(depth.max())),
        width=(int(width.min()), int(width.max())),
        rows=(int(rows_of.min()), int(rows_of.max())),
        coefficients=coefficients,
        error=error,
    )
    records.make_folder(out)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(Macro.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records.plain(found))
    records.write_text(out / f"{technology}-sram.csv", stream.getvalue())
    records.write_text(out / f"{technology}-sram.toml", sram.text(prices))
    return prices


def _solve(rows: Floats, made: Floats) -> Floats:
    return weighted_nnls(rows, made, 1 / made)
