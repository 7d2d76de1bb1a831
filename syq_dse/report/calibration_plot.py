"""How well prices fit synthesis as a figure: estimate against synthesis, one panel a unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syq_dse.errors import InputError
from syq_dse.rtl import runs as tables
from syq_dse.rtl.fit import BAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
"""Panels side by side."""


def scatter(samples: Path) -> Figure:
    """The figure of a FAMILY_samples.csv: LUTs as estimated against LUTs as synthesised, log-log.

    Raises:
        InputError: the file is no such table, or has no runs.
    """
    from matplotlib.figure import Figure

    runs = tables.read(samples)
    units = list(dict.fromkeys(run.unit for run in runs))
    if not units:
        raise InputError(f"{samples}: has no runs")
    columns = min(COLUMNS, len(units))
    rows = -(-len(units) // columns)
    size = (2.6 * columns + 0.4, 2.6 * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, unit in zip(grid, units, strict=False):
        _panel(axes, unit, [run for run in runs if run.unit == unit])
    for axes in grid[len(units) :]:
        axes.set_axis_off()
    figure.supxlabel("LUTs, synthesised", fontsize=9)
    figure.supylabel("LUTs, estimated", fontsize=9)
    return figure


def _panel(axes: Axes, unit: str, runs: list[tables.Run]) -> None:
    made = np.array([max(1, run.synthesised.lut) for run in runs])
    estimated = np.array([max(1, run.estimated_lut) for run in runs])
    both = np.log10(np.concatenate([made, estimated]))
    ends = 10.0 ** np.array([np.floor(both.min()), np.floor(both.max()) + 1])  # whole decades
    band = BAR["lut_worst"]
    axes.fill_between(ends, ends * (1 - band), ends * (1 + band), color="0.9", linewidth=0)
    axes.plot(ends, ends, color="0.45", linewidth=0.9)
    axes.scatter(made, estimated, s=12, facecolors="white", edgecolors="black", linewidths=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(ends[0], ends[1])
    axes.set_ylim(ends[0], ends[1])
    axes.set_aspect("equal")
    axes.set_title(f"{unit}, {len(runs)} runs, band {100 * band:g} %", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(True, which="major", color="0.88", linewidth=0.5)
    axes.set_axisbelow(True)
