"""The plots of a run's page, by Bokeh: the front, layers along it, expected and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Whisker,
)
from bokeh.palettes import Cividis
from bokeh.plotting import figure

from syq_dse.report.figures import GRANULARITIES, cut, evenly, measured_pairs
from syq_dse.scheme import weight_bits

MOST_COLUMNS = 60
"""Points of a heat map."""

MOST_LABELS = 60
"""Layers of a heat map that have their name beside it."""

LONGEST = 22
"""Characters of a layer's name beside a heat map."""

SOURCES = ("measured", "predicted", "prior", "dominated")

MARKERS = {"measured": "circle", "predicted": "square", "prior": "triangle", "dominated": "x"}

COLOURS = {
    "measured": "#0072b2",
    "predicted": "#d55e00",
    "prior": "#009e73",
    "dominated": "#8b949e",
}
"""Of Okabe and Ito, which the colour-blind tell apart."""


def front_plot(front: Mapping[str, Any]) -> figure:
    """The front, empty: the page's script fills it by the axes that are chosen."""

    plot = figure(
        name="front",
        x_range=(0, 1),
        y_range=(0, 1),
        height=420,
        sizing_mode="stretch_width",
        tools="tap,box_select,wheel_zoom,pan,reset",
        active_drag="box_select",
        toolbar_location=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        x_axis_label="x",
        y_axis_label="y",
    )
    plot.toolbar.active_scroll = None
    plot.xaxis.ticker, plot.yaxis.ticker = FixedTicker(ticks=[]), FixedTicker(ticks=[])
    renderers = []
    points = front["points"]
    kinds = {"dominated" if p.get("dominated") else p["accuracy_source"] for p in points}
    for kind in SOURCES:
        empty: dict[str, list[Any]] = {
            name: [] for name in ("x", "y", "low", "high", "point", "tip")
        }
        source = ColumnDataSource(empty, name=f"source-{kind}")
        label = {"legend_label": kind} if kind in kinds else {}
        plot.add_layout(
            Whisker(
                base="x", lower="low", upper="high", source=source, line_color=COLOURS[kind],
                line_alpha=0.4, upper_head=None, lower_head=None,
            )
        )  # fmt: skip
        renderers.append(
            plot.scatter(
                "x", "y", source=source, marker=MARKERS[kind], size=9, color=COLOURS[kind],
                fill_alpha=0.8, nonselection_fill_alpha=0.25, nonselection_line_alpha=0.35, **label,
            )
        )  # fmt: skip
    around = ColumnDataSource({"x": [], "y": []}, name="source-selected")
    ring = plot.scatter("x", "y", source=around, size=18, fill_alpha=0, line_width=2)
    ring.glyph.name = "glyph-around"
    plot.add_tools(HoverTool(renderers=renderers, tooltips=[("point", "@point"), ("", "@tip")]))
    if plot.legend:
        plot.legend.location = "bottom_left"
        plot.legend.background_fill_alpha = 0.85
    return plot


HEAT_MAPS = (
    ("heat-weights", "Weights", "Bits of a layer's weights, from binary (1) and ternary (2) up."),
    ("heat-scales", "Granularity", "1 a scale a layer, 2 a channel, 3 a kernel row, 4 a pixel."),
    ("heat-activations", "Activations", "Bits of the tensor that a layer writes."),
)


def heat_maps(
    rows: Sequence[Mapping[str, Any]], details: Mapping[str, Mapping[str, Any]]
) -> dict[str, figure]:
    """Precision and granularity of each layer along the front."""
    ids = [str(row["point"]) for row in rows if str(row["point"]) in details]
    if not ids:
        return {}
    ids = evenly(ids, MOST_COLUMNS)
    shown = "" if len(ids) == len(rows) else f"{len(ids)} of {len(rows):,} "
    layers = [layer for layer in details[ids[0]]["layers"] if layer[1] is not None]
    names = [str(layer[0]) for layer in layers]
    held = {point: {str(layer[0]): layer for layer in details[point]["layers"]} for point in ids}

    def grid(value: Any) -> list[list[float]]:
        return [[value(held[point][name]) for point in ids] for name in names]

    return {
        name: _heat(name, ids, names, grid(value), top, f"{shown}points along the front")
        for name, value, top in (
            ("heat-weights", lambda of: weight_bits(of[1]), 8),
            ("heat-scales", lambda of: GRANULARITIES.get(of[2], 1), 4),
            ("heat-activations", lambda of: of[5] if of[5] else math.nan, 8),
        )
    }


def _heat(
    name: str,
    ids: Sequence[str],
    layers: Sequence[str],
    values: Sequence[Sequence[float]],
    top: int,
    label: str,
) -> figure:

    count, points = len(layers), len(ids)
    plot = figure(
        name=name,
        height=min(900, 130 + 16 * min(count, MOST_LABELS)),
        sizing_mode="stretch_width",
        x_range=(0, points),
        y_range=(count, 0),
        toolbar_location=None,
        tools="",
        background_fill_alpha=0,
        border_fill_alpha=0,
        x_axis_label=label,
    )
    colours = LinearColorMapper(palette=Cividis[top], low=0.5, high=top + 0.5)
    cells = ColumnDataSource(
        {
            "x": [x + 0.5 for _ in layers for x in range(points)],
            "y": [y + 0.5 for y in range(count) for _ in ids],
            "value": [value for row in values for value in row],
            "layer": [layer for layer in layers for _ in ids],
            "point": [point for _ in layers for point in ids],
        }
    )
    drawn = plot.rect(
        "x", "y", 1, 1, source=cells, line_color=None,
        fill_color={"field": "value", "transform": colours},
    )  # fmt: skip
    plot.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=[("point", "@point"), ("layer", "@layer"), ("value", "@value")],
        )
    )
    step = max(1, points // 12)
    plot.xaxis.ticker = [x + 0.5 for x in range(0, points, step)]
    plot.xaxis.major_label_overrides = {x + 0.5: ids[x] for x in range(0, points, step)}
    plot.xaxis.major_label_orientation = 0.9
    if count <= MOST_LABELS:
        plot.yaxis.ticker = [y + 0.5 for y in range(count)]
        plot.yaxis.major_label_overrides = {y + 0.5: cut(layers[y], LONGEST) for y in range(count)}
    else:
        plot.yaxis.axis_label = "layers, the first on top"
    plot.grid.visible = False
    bar = ColorBar(
        color_mapper=colours,
        ticker=BasicTicker(desired_num_ticks=top, min_interval=1),
        width=10,
        background_fill_alpha=0,
    )
    plot.add_layout(bar, "right")
    return plot


def measured_plot(front: Mapping[str, Any]) -> figure | None:
    """What was expected of points that were measured since, against what was measured."""
    pairs = measured_pairs(front)
    if not pairs:
        return None
    source = ColumnDataSource(
        {
            "point": [row["point"] for _, row in pairs],
            "x": [100 * of["accuracy"] for of, _ in pairs],
            "x_low": [100 * of["accuracy_low"] for of, _ in pairs],
            "x_high": [100 * of["accuracy_high"] for of, _ in pairs],
            "y": [100 * row["accuracy"] for _, row in pairs],
            "y_low": [100 * row["accuracy_low"] for _, row in pairs],
            "y_high": [100 * row["accuracy_high"] for _, row in pairs],
        }
    )
    plot = figure(
        name="measured",
        height=360,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_alpha=0,
        border_fill_alpha=0,
        x_axis_label="expected top-1 accuracy [%]",
        y_axis_label="measured top-1 accuracy [%]",
    )
    colour = COLOURS["measured"]
    for base, lower, upper, dimension in (
        ("x", "y_low", "y_high", "height"),
        ("y", "x_low", "x_high", "width"),
    ):
        plot.add_layout(
            Whisker(
                base=base, lower=lower, upper=upper, source=source, dimension=dimension,
                line_color=colour, line_alpha=0.5, upper_head=None, lower_head=None,
            )
        )  # fmt: skip
    drawn = plot.scatter("x", "y", source=source, size=9, color=colour)
    for of, names in ((plot.x_range, ("x_low", "x_high")), (plot.y_range, ("y_low", "y_high"))):
        ends = [value for name in names for value in source.data[name]]
        pad = 0.05 * (max(ends) - min(ends)) or 0.5
        of.start, of.end = min(ends) - pad, max(ends) + pad
    values = np.array([[of["accuracy"], row["accuracy"]] for of, row in pairs]) * 100
    ends = [float(values.min()), float(values.max())]
    plot.line(ends, ends, line_dash="dashed", color=COLOURS["dominated"])
    plot.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=[("point", "@point"), ("expected", "@x{0.00} %"), ("measured", "@y{0.00} %")],
        )
    )
    return plot
