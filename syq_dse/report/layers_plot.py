"""Precision and granularity of each layer along the front as a figure, readable in grey."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from syq_dse.errors import InputError
from syq_dse.report.figures import GRANULARITIES, cut, evenly, save, title
from syq_dse.scheme import weight_bits
from syq_dse.search import run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 40
"""Columns of the figure; of a longer front, so many points evenly along it."""

MOST_ROWS = 150
"""Layers up to which the figure grows; of more, not each has its name beside it."""

MOST_TICKS = 14
"""Points of a panel that have their id below it."""

ROW_INCHES = 0.17

PANELS = ("weights [bits]", "granularity of scales", "input activations [bits]")


def draw_run(folder: Path, out: Path) -> list[Path]:
    """Draw layers.png and layers.svg of a run; nothing where no layer has weights.

    Raises:
        InputError: no finished run, a point's file is broken, `out` cannot be written.
    """
    with run.unchanged(folder):
        front = run.read_front(folder)
        rows = [row["point"] for row in front["points"] if not row.get("dominated")]
        ids = rows or [front["named"]["knee"]]
        layers = {name: layers_of(folder, name) for name in evenly(ids, MOST_POINTS)}
    return save(draw(title(front), layers), out, "layers") if any(layers.values()) else []


def layers_of(folder: Path, name: str) -> dict[str, tuple[int, int, int]]:
    """Weight bits, granularity and input bits of a point's layers with weights, by their names.

    Raises:
        InputError: the point's file is missing or broken.
    """
    point = run.read_point(folder, name)
    try:
        return {
            str(layer["name"]): (
                weight_bits(layer["weights"]),
                GRANULARITIES[layer["granularity"]],
                int(layer["input_bits"]),
            )
            for layer in point["cost"]["layers"]
            if layer.get("weights") is not None
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        place = folder / run.POINTS / f"{name}.json"
        raise InputError(f"{place}: cost.layers is not what explore writes") from None


def draw(heading: str, layers: Mapping[str, Mapping[str, tuple[int, int, int]]]) -> Figure:
    """Three heat maps side by side: layers from top to bottom, points from left to right.

    Args:
        layers: of each point, by its id, what `layers_of` returns.
    """
    from matplotlib.figure import Figure

    ids = list(layers)
    names = list(dict.fromkeys(name for point in layers.values() for name in point))
    blank = (0, 0, 0)
    values = np.array([[point.get(name, blank) for point in layers.values()] for name in names])
    height = 2.5 + ROW_INCHES * min(len(names), MOST_ROWS)
    figure = Figure(figsize=(11.0, height), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, squeeze=False)[0]
    for i, (axes, label) in enumerate(zip(panels, PANELS, strict=True)):
        _heat(axes, values[:, :, i], label)
        step = -(-len(ids) // MOST_TICKS)
        ticks = range(0, len(ids), step)
        axes.set_xticks(ticks, [ids[x] for x in ticks], rotation=90, fontsize=6.5)
    step = -(-len(names) // MOST_ROWS)
    rows = range(0, len(names), step)
    panels[0].set_yticks(rows, [cut(names[y]) for y in rows], fontsize=7, parse_math=False)
    panels[0].set_ylabel("layer, the first on top", fontsize=8)
    figure.suptitle(heading, fontsize=9, parse_math=False)
    figure.supxlabel("point, in the order of front.csv", fontsize=8)
    return figure


def _heat(axes: Axes, values: npt.NDArray[np.int_], label: str) -> None:
    """A panel and its key: a shade for every value there is, the least darkest; 0 stays white."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap

    found = sorted({int(value) for value in values.flat} - {0})
    shades = colormaps["cividis"](np.linspace(0, 1, len(found)) if len(found) > 1 else [0.5])
    ends = [found[0] - 0.5, *map(_middle, itertools.pairwise(found)), found[-1] + 0.5]
    norm = BoundaryNorm(ends, len(found))
    shown = np.ma.masked_equal(values, 0)
    axes.set_facecolor("white")
    image = axes.imshow(
        shown, cmap=ListedColormap(shades), norm=norm, aspect="auto", interpolation="nearest"
    )
    words = {number: name for name, number in GRANULARITIES.items()}
    texts = [words[value] if label == PANELS[1] else str(value) for value in found]
    bar = axes.figure.colorbar(
        image, ax=axes, location="top", spacing="uniform", aspect=24, fraction=0.08, pad=0.02
    )
    bar.set_ticks([_middle(pair) for pair in itertools.pairwise(ends)], labels=texts, fontsize=7)
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=8)
    axes.tick_params(length=2)
    axes.set_yticks(np.arange(-0.5, len(values)), minor=True)
    axes.grid(True, which="minor", axis="y", color="white", linewidth=0.4)
    axes.tick_params(which="minor", length=0)


def _middle(pair: tuple[float, float]) -> float:
    return (pair[0] + pair[1]) / 2
