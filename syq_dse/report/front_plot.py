"""The Pareto front of a run as a figure, readable in grey."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moocore

from syq_dse.errors import InputError, unknown
from syq_dse.records import make_folder, write_bytes, write_text
from syq_dse.report.figures import evenly, logarithmic, plain
from syq_dse.search import run
from syq_dse.search.points import column_of
from syq_dse.search.problem import MAXIMISED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCES = {
    "measured": {"marker": "o", "facecolor": "black", "label": "measured (trained and tested)"},
    "predicted": {"marker": "s", "facecolor": "0.65", "label": "predicted (sensitivity profile)"},
    "prior": {"marker": "^", "facecolor": "white", "label": "prior (published figures only)"},
}
"""How points are told apart: by marker and by grey, so that colour is never needed."""

AXES = {
    "accuracy": "top-1 accuracy [%]",
    "fps": "throughput [images/s]",
    "latency_us": "latency [us]",
    "interval_cycles": "initiation interval [cycles]",
    "lut": "LUTs",
    "ff": "flip-flops",
    "dsp": "DSPs",
    "bram18": "BRAM18s",
    "uram": "URAMs",
    "area_um2": "area [um2]",
    "gate_equivalents": "gate equivalents",
    "sram_bits": "SRAM [bits]",
    "sram_um2": "area of SRAM [um2]",
    "utilization": "fullest resource [% of the part]",
    "energy_uj": "energy an image [uJ]",
}
"""Columns of front.csv that can be axes, with their units."""

LOG = ("fps", "latency_us", "interval_cycles", "energy_uj")

PERCENT = ("accuracy", "utilization")


MOST_DRAWN = 5000
"""Points of a figure; of more, so many evenly along the front."""

MOST_AROUND_LEGEND = 1000

NOTE_WIDTH = 130
"""Characters of a line below the plot."""


def draw_run(
    folder: Path, out: Path, x_axis: str | None = None, y_axis: str | None = None
) -> list[Path]:
    """Draw front.png and front.svg of a run.

    Raises:
        InputError: no finished run, an unknown axis, a folder that cannot be written.
    """
    with run.unchanged(folder):
        front = run.read_front(folder)
    columns = [column_of(name) for name in front["objectives"]]
    y = y_axis or next((c for c in columns if c == "accuracy"), [*columns, "accuracy"][0])
    x = x_axis or next(c for c in [*columns, "fps", "utilization"] if c != y)
    for name in (x, y):
        known = [axis for axis in AXES if axis in front["points"][0]]
        if name not in known:
            raise InputError(unknown("axis", name, known))
    figure = draw(front, x, y)
    make_folder(out)
    picture, vector = io.BytesIO(), io.StringIO()
    figure.savefig(picture, format="png", dpi=150)
    figure.savefig(vector, format="svg")
    write_bytes(out / "front.png", picture.getvalue())
    write_text(out / "front.svg", vector.getvalue())
    return [out / "front.png", out / "front.svg"]


def draw(front: dict[str, Any], x: str, y: str) -> Figure:
    """The figure of a front: points by source of their accuracy, intervals, the knee marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    points = _drawn(front)
    _steps(axes, [p for p in points if not p.get("dominated")], x, y)
    for source, style in SOURCES.items():
        members = [p for p in points if p["accuracy_source"] == source]
        if members:
            _scatter(axes, members, x, y, style)
    if "accuracy" in (x, y):
        _expected(axes, points, front.get("expected") or {}, x, y)
    knee = next(p for p in points if p["point"] == front["named"]["knee"])
    axes.scatter(
        [_value(knee, x)],
        [_value(knee, y)],
        s=190,
        facecolors="none",
        edgecolors="black",
        linewidths=1.4,
        zorder=4,
        label=f"knee ({knee['point']})",
    )
    axes.set_xlabel(AXES[x])
    axes.set_ylabel(AXES[y])
    for name, scale, axis in (
        (x, axes.set_xscale, axes.xaxis),
        (y, axes.set_yscale, axes.yaxis),
    ):
        positive = [_value(point, name) for point in points if _value(point, name) > 0]
        if name in LOG and positive:
            scale("log")
            logarithmic(axis, min(positive), max(positive))
        else:
            axis.set_major_formatter(plain())
    share = 100 * front["limit"]
    axes.set_title(
        f"{front['network']} on {front['target']}, {front['clock_mhz']:g} MHz, "
        f"filled to {share:g} % at most",
        fontsize=10,
        parse_math=False,  # a name is no formula
    )
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    # Where it hides least is looked for among few points only: it takes seconds among many.
    few = len(points) <= MOST_AROUND_LEGEND
    axes.legend(fontsize=8, framealpha=1.0, loc="best" if few else "lower left")
    note = textwrap.fill(_note(front), NOTE_WIDTH)
    figure.supxlabel(note, fontsize=6.5, color="0.3", parse_math=False)
    return figure


def _drawn(front: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All points, or of many those evenly along the front, the measured and those with a name."""
    points = list(front["points"])
    kept = {row["point"] for row in evenly(points, MOST_DRAWN)} | set(front["named"].values())
    return [p for p in points if p["point"] in kept or p["accuracy_source"] == "measured"]


def _scatter(
    axes: Axes, points: Sequence[dict[str, Any]], x: str, y: str, style: dict[str, str]
) -> None:
    axes.scatter(
        [_value(p, x) for p in points],
        [_value(p, y) for p in points],
        s=34,
        marker=style["marker"],
        facecolors=style["facecolor"],
        edgecolors="black",
        linewidths=0.9,
        zorder=3,
        label=style["label"],
    )
    if y == "accuracy":
        low = [100 * max(0.0, p["accuracy"] - p["accuracy_low"]) for p in points]
        high = [100 * max(0.0, p["accuracy_high"] - p["accuracy"]) for p in points]
        axes.errorbar(
            [_value(p, x) for p in points],
            [_value(p, y) for p in points],
            yerr=[low, high],
            fmt="none",
            ecolor="0.7",
            elinewidth=0.8,
            zorder=1,
        )


def _expected(
    axes: Axes,
    points: Sequence[dict[str, Any]],
    expected: dict[str, dict[str, Any]],
    x: str,
    y: str,
) -> None:
    """What measured points had been expected to reach, and a line from there to the measurement."""
    label: str | None = "expected before it was measured"
    for point in points:
        if point["point"] not in expected:
            continue
        before = {**point, **expected[point["point"]]}
        places = [_value(p, x) for p in (before, point)], [_value(p, y) for p in (before, point)]
        axes.plot(*places, color="0.5", linewidth=0.9, linestyle=":", zorder=2)
        axes.scatter(
            places[0][:1],
            places[1][:1],
            s=30,
            marker="x",
            color="0.4",
            linewidths=1.0,
            zorder=3,
            label=label,
        )
        label = None


def _steps(axes: Axes, points: Sequence[dict[str, Any]], x: str, y: str) -> None:
    """The staircase through the points that are best by these two axes alone."""
    signs = [-1 if name in MAXIMISED else 1 for name in (x, y)]
    costs = [[s * _value(p, name) for s, name in zip(signs, (x, y), strict=True)] for p in points]
    best = moocore.is_nondominated(costs) if len(costs) else []
    kept = sorted((p for p, good in zip(points, best, strict=True) if good), key=lambda p: p[x])
    axes.step(
        [_value(p, x) for p in kept],
        [_value(p, y) for p in kept],
        where="pre" if x == "fps" else "post",
        color="0.45",
        linewidth=0.9,
        zorder=2,
    )


def _value(point: dict[str, Any], column: str) -> float:
    return float(point[column]) * (100 if column in PERCENT else 1)


def _note(front: dict[str, Any]) -> str:
    what = "lut" if "lut" in front["provenance"] else "area"
    status = str(front["provenance"][what]).split(":")[0]
    names = {"lut": "LUT", "area": "area"}
    return f"accuracy: {front['accuracy_note']}; {names[what]} prices: {status}"
