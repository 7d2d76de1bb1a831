"""Errors of the cost model against synthesis, a unit and a family, from the committed calibrations.

`python benchmarks/cost_accuracy.py DIR` also draws a scatter plot a family into a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from syq_dse import catalogue
from syq_dse.cost.prices import load_lut
from syq_dse.report.calibration_plot import scatter

FAMILIES = ("xcup", "xc7", "ecp5")
EXACT = ("dsp", "bram18", "uram", "lutram")


def main() -> None:
    print(
        "| family | unit | runs | LUT mean % | LUT worst % | FF mean % | FF worst % | others off |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for family in FAMILIES:
        for unit, found in load_lut(family).units.items():
            error = found.error
            off = [
                f"{name} {error[f'{name}_mismatches']:.0f}"
                for name in EXACT
                if error.get(f"{name}_mismatches")
            ]
            cells = [
                f"{100 * error[name]:.1f}" if name in error else "-"
                for name in ("lut_mean", "lut_worst", "ff_mean", "ff_worst")
            ]
            print(
                f"| {family} | {unit} | {found.runs} | {' | '.join(cells)} | "
                f"{', '.join(off) or 'none'} |"
            )
    if len(sys.argv) > 1:
        folder = catalogue.folder("hwmodels") / "calibration"
        for family in FAMILIES:
            figure = scatter(folder / f"{family}_samples.csv")
            figure.savefig(Path(sys.argv[1]) / f"calibration_{family}.png", dpi=80)


if __name__ == "__main__":
    main()
