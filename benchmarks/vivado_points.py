"""The mac unit's LUTs against Vivado's of FINN's matrix-vector unit, and FINN's own formula.

The 21 published points (asadalam/FINN_MatrixVector_RTL, xczu3eg, 5 ns) are of another circuit, in
HLS and in RTL; one global factor a flow is fitted to them and stated. `python
benchmarks/vivado_points.py FILE` takes further points in the same columns.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from syq_dse import catalogue, target
from syq_dse.cost.engine import mac_unit
from syq_dse.cost.folding import Geometry
from syq_dse.cost.fpga import LUT, pricing, settled
from syq_dse.cost.integers import ints
from syq_dse.scheme import LayerScheme

FLOWS = ("rtl_lut", "hls_lut")


def estimates(rows: list[dict[str, str]]) -> np.ndarray:
    """LUTs of our mac unit at the sizes of each point."""
    prices = pricing(target.load("ultra96-v2"))
    found = []
    for row in rows:
        size = {name: int(value) for name, value in row.items()}
        weights = "binary" if size["weight_bits"] == 1 else f"int{size['weight_bits']}"
        h_out = size["h_in"] - size["k"] + 1
        geo = Geometry(
            c_in=size["c_in"], c_out=size["c_out"], groups=1, k=size["k"], stride=1, pad=(0, 0),
            h_in=size["h_in"], w_in=size["h_in"], h_out=h_out, w_out=h_out, signed=False,
        )  # fmt: skip
        unit = mac_unit(
            prices, geo, LayerScheme(weights=weights), size["input_bits"],
            ints([size["pe"]]), ints([size["simd"]]), "lut",
        )  # fmt: skip
        found.append(int(settled(unit)[0, LUT]))
    return np.array(found)


def factor(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The factor of least mean absolute error: of all ratios the one that does best."""
    tried = theirs / ours
    return float(min(tried, key=lambda f: np.mean(np.abs(f * ours / theirs - 1))))


def main() -> None:
    path = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else catalogue.folder("hwmodels") / ("calibration/vivado_mvu_ooc.csv")
    )
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ours = estimates(rows)
    finn = np.array([int(row["finn_estimate_lut"]) for row in rows])
    found = {flow: np.array([int(row[flow]) for row in rows]) for flow in FLOWS}
    factors = {flow: factor(ours, found[flow]) for flow in FLOWS}
    print("bits  PE SIMD   ours  RTL ours*f   off  FINN off   HLS ours*f   off  FINN off")
    for i, row in enumerate(rows):
        cells = [
            f"{row['weight_bits']}x{row['input_bits']}{row['pe']:>5}{row['simd']:>5}{ours[i]:7}"
        ]
        for flow in FLOWS:
            real, scaled = found[flow][i], factors[flow] * ours[i]
            cells.append(
                f"{real:7}{scaled:8.0f}{100 * (scaled / real - 1):+6.0f}%"
                f"{100 * (finn[i] / real - 1):+8.0f}%"
            )
        print("".join(cells))
    for flow in FLOWS:
        own = np.abs(factors[flow] * ours / found[flow] - 1)
        theirs = np.abs(finn / found[flow] - 1)
        print(
            f"{flow}: factor {factors[flow]:.2f}; mean {100 * own.mean():.0f} %, worst "
            f"{100 * own.max():.0f} %; FINN's formula: mean {100 * theirs.mean():.0f} %, worst "
            f"{100 * theirs.max():.0f} %"
        )


if __name__ == "__main__":
    main()
