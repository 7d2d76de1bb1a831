"""Samplers against the exact front: hypervolume over designs and over time, readable in grey."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from syq_dse.errors import InputError
from syq_dse.report.figures import save
from syq_dse.search import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "nsga2": ("black", "-"),
    "nsga3": ("black", "--"),
    "tpe": ("0.4", "-"),
    "gp": ("0.4", "--"),
    "random": ("0.6", ":"),
}


def draw(folder: Path, out: Path | None = None, name: str = "samplers") -> list[Path]:
    """NAME.png and NAME.svg of a run that has compared samplers.

    Args:
        out: their folder; None: that of the run.

    Raises:
        InputError: samplers.csv is broken, or a file cannot be written.
    """
    path = folder / run.SAMPLERS_CSV
    try:
        return save(_figure(pd.read_csv(path)), out or folder, name)
    except (ValueError, KeyError, IndexError, TypeError, OSError):
        raise InputError(f"{path}: is not what explore writes") from None


def _figure(rows: pd.DataFrame) -> Figure:
    from matplotlib.figure import Figure

    if not set(rows["sampler"]) <= set(STYLES):
        raise ValueError
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, column, label in zip(
        panels, ("designs", "seconds"), ("designs", "time [s]"), strict=True
    ):
        for name, (colour, line) in STYLES.items():
            own = rows[rows["sampler"] == name]
            runs = [one for _, one in own.groupby("seed")]
            steps = range(min(map(len, runs), default=0))
            at = [np.median([one[column].iloc[i] for one in runs]) for i in steps]
            shares = np.array([[one["share"].iloc[i] for one in runs] for i in steps])
            if not len(shares):
                continue
            panel.plot(at, np.median(shares, axis=1), line, color=colour, label=name)
            panel.fill_between(
                at, shares.min(axis=1), shares.max(axis=1), color=colour, alpha=0.15, lw=0
            )
        panel.axhline(1, color="black", lw=0.8)
        panel.set_xscale("log")
        panel.set_xlabel(label)
    panels[0].set_ylabel("hypervolume / exact front's")
    start = "from the exact front" if bool(rows["seeded"].iloc[0]) else "from nothing"
    panels[0].set_title(f"samplers {start}; line: exact front", fontsize="medium")
    panels[1].legend(loc="lower right")
    panels[1].set_title("median and range over seeds", fontsize="medium")
    return figure
