"""The figure of a front: files that open, axes with units, sources told apart without colour."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tomli_w
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from syq_dse.cost.pricing import SHOWN
from syq_dse.errors import InputError
from syq_dse.report import front_plot
from syq_dse.report.front_plot import AXES, SOURCES, draw, draw_run
from syq_dse.search.points import AFTER, BEFORE

SVG = "{http://www.w3.org/2000/svg}"


def row(index: int, accuracy: float, fps: float, source: str) -> dict[str, Any]:
    return {
        "point": f"p{index:03d}",
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.02,
        "accuracy_high": min(1.0, accuracy + 0.01),
        "accuracy_source": source,
        "fps": fps,
        "latency_us": 2e6 / fps,
        "interval_cycles": round(1e8 / fps),
        "lut": round(10 * fps),
        "ff": round(12 * fps),
        "dsp": index,
        "bram18": 2 * index,
        "uram": 0,
        "utilization": 0.1 * index,
        "energy_uj": 3.0 + index,
    }


def front(
    *rows: dict[str, Any], objectives: tuple[str, ...] = ("accuracy", "fps")
) -> dict[str, Any]:
    ids = [r["point"] for r in rows]
    return {
        "network": "tiny",
        "target": "bench",
        "clock_mhz": 100.0,
        "limit": 0.8,
        "objectives": list(objectives),
        "accuracy_note": "made up, +-2 points",
        "provenance": {"lut": "uncalibrated: a napkin"},
        "summary": {
            "exact": True,
            "hypervolume_exact": 1.0,
            "reference_point": [0.0, 0.0],
            "sampler": "exact",
        },
        "named": {
            "knee": ids[len(ids) // 2],
            "most-accurate": ids[0],
            "fastest": ids[-1],
            "smallest": ids[-1],
        },
        "points": list(rows),
    }


ALL_SOURCES = front(
    row(1, 0.95, 100.0, "measured"),
    row(2, 0.90, 400.0, "predicted"),
    row(3, 0.80, 900.0, "prior"),
    row(4, 0.70, 3000.0, "prior"),
)

ONE_POINT = front(row(1, 0.9, 250.0, "prior"))

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Leaves a front as a finished run folder."""

    def write(found: dict[str, Any]) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        study = {"target": "zcu102", "objectives": found["objectives"]}
        record = {"format": 1, "syq_dse": "0", "python": "3", "study": study}
        (folder / "study.toml").write_text(tomli_w.dumps(record))
        (folder / "front.json").write_text(json.dumps(found))
        return folder

    return write


def axes_of(found: dict[str, Any], x: str = "fps", y: str = "accuracy") -> Axes:
    figure = draw(found, x, y)
    (axes,) = figure.axes
    return axes


def scatters(axes: Axes) -> dict[str, PathCollection]:
    """The drawn points by their label."""
    found = [c for c in axes.collections if isinstance(c, PathCollection)]
    return {str(c.get_label()): c for c in found}


# Files


@pytest.mark.parametrize("found", [ALL_SOURCES, ONE_POINT], ids=["sources", "one point"])
def test_both_files_open(written: Write, tmp_path: Path, found: dict[str, Any]) -> None:
    out = tmp_path / "new" / "plots"
    made = draw_run(written(found), out)
    assert made == [out / "front.png", out / "front.svg"]
    picture = matplotlib.image.imread(made[0])
    assert picture.shape == (round(4.6 * 150), round(7.0 * 150), 4)
    assert made[0].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert 0.02 < (picture[..., :3].min(axis=-1) < 0.99).mean() < 0.5  # something is drawn
    root = ElementTree.parse(made[1]).getroot()
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}path"))) > 20
    assert {path.name for path in out.iterdir()} == {"front.png", "front.svg"}


def test_the_picture_needs_no_colour(written: Write, tmp_path: Path) -> None:
    picture = matplotlib.image.imread(draw_run(written(ALL_SOURCES), tmp_path)[0])
    red, green, blue = (picture[..., i] for i in range(3))
    np.testing.assert_allclose(red, green, atol=0.01)
    np.testing.assert_allclose(green, blue, atol=0.01)


def test_drawing_again_writes_over(written: Write, tmp_path: Path) -> None:
    run = written(ONE_POINT)
    first = draw_run(run, run)[0].read_bytes()
    assert draw_run(run, run)[0].read_bytes() == first


# Axes


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("accuracy", "[%]"),
        ("fps", "[images/s]"),
        ("latency_us", "[us]"),
        ("interval_cycles", "[cycles]"),
        ("utilization", "[% of the part]"),
        ("energy_uj", "[uJ]"),
        ("lut", "LUTs"),
        ("ff", "flip-flops"),
        ("dsp", "DSPs"),
        ("bram18", "BRAM18s"),
        ("uram", "URAMs"),
    ],
)
def test_every_column_is_an_axis_with_its_unit(column: str, unit: str) -> None:
    other = "fps" if column != "fps" else "lut"
    axes = axes_of(ALL_SOURCES, x=column, y=other)
    assert unit in axes.get_xlabel()
    assert axes.get_ylabel() == AXES[other]
    low, high = axes.get_xlim()
    scale = 100 if column in ("accuracy", "utilization") else 1
    values = [scale * r[column] for r in ALL_SOURCES["points"]]
    assert low <= min(values) <= max(values) <= high


def test_every_column_of_the_table_with_a_number_is_an_axis() -> None:
    words = {"point", "accuracy_source", "accuracy_low", "accuracy_high", "dominated"}
    assert set(AXES) == {*BEFORE, *SHOWN, *AFTER} - words


@pytest.mark.parametrize(
    ("objectives", "labels"),
    [
        (("accuracy", "fps"), ("fps", "accuracy")),
        (("fps", "accuracy", "lut"), ("fps", "accuracy")),
        (("lut", "fps"), ("fps", "lut")),
        (("energy", "latency"), ("latency_us", "energy_uj")),
        (("bram", "accuracy"), ("bram18", "accuracy")),
        (("utilization", "energy", "dsp"), ("energy_uj", "utilization")),
    ],
)
def test_the_objectives_are_the_axes(
    written: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objectives: tuple[str, ...],
    labels: tuple[str, str],
) -> None:
    from syq_dse.report import front_plot

    drawn: list[tuple[str, str]] = []
    monkeypatch.setattr(
        front_plot, "draw", lambda found, x, y: drawn.append((x, y)) or draw(found, x, y)
    )
    draw_run(written(front(*ALL_SOURCES["points"], objectives=objectives)), tmp_path)
    assert drawn == [labels]


def test_message_of_an_unknown_axis(written: Write, tmp_path: Path) -> None:
    run = written(ONE_POINT)
    for chosen in ({"x_axis": "luts"}, {"y_axis": "luts"}):
        with pytest.raises(InputError) as caught:
            draw_run(run, tmp_path / "out", **chosen)
        silicon = ("area_um2", "gate_equivalents", "sram_bits", "sram_um2")
        known = ", ".join(axis for axis in AXES if axis not in silicon)
        assert str(caught.value) == f"unknown axis 'luts'; known: {known} (did you mean 'lut'?)"
    assert not (tmp_path / "out").exists()


# What is drawn


def test_sources_are_told_apart_by_marker_and_grey() -> None:
    axes = axes_of(ALL_SOURCES)
    drawn = scatters(axes)
    shapes, greys, places = {}, {}, {}
    for source, style in SOURCES.items():
        points = drawn[style["label"]]
        shapes[source] = points.get_paths()[0].vertices.round(6).tobytes()
        greys[source] = tuple(points.get_facecolor()[0])
        places[source] = np.asarray(points.get_offsets()).tolist()
    assert len(set(shapes.values())) == len(set(greys.values())) == 3
    for source, where in places.items():
        members = [r for r in ALL_SOURCES["points"] if r["accuracy_source"] == source]
        expected = [pytest.approx([r["fps"], 100 * r["accuracy"]]) for r in members]
        assert where == expected
    legend = axes.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert set(words) == {style["label"] for style in SOURCES.values()} | {"knee (p003)"}


def test_a_source_that_no_point_has_is_not_in_the_legend() -> None:
    legend = axes_of(ONE_POINT).get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [SOURCES["prior"]["label"], "knee (p001)"]


def test_intervals_reach_from_low_to_high() -> None:
    """One bar a point, as front.csv has it."""
    axes = axes_of(ALL_SOURCES)
    ends = set()
    for container in axes.containers:
        (bars,) = container.lines[2]
        ends |= {tuple(np.round(segment[:, 1], 6)) for segment in bars.get_segments()}
    expected = {
        (round(100 * r["accuracy_low"], 6), round(100 * r["accuracy_high"], 6))
        for r in ALL_SOURCES["points"]
    }
    assert ends == expected


def test_the_step_leaves_no_point_above_it() -> None:
    """Between two points the front is worth the slower one's fps and the faster one's accuracy."""
    (line,) = axes_of(ALL_SOURCES).get_lines()[:1]
    x, y = (np.asarray(values) for values in line.get_data())
    assert x.tolist() == [r["fps"] for r in ALL_SOURCES["points"]]
    assert y.tolist() == pytest.approx([100 * r["accuracy"] for r in ALL_SOURCES["points"]])
    assert line.get_drawstyle() == "steps-pre"


@pytest.mark.parametrize("x", ["fps", "lut"])
def test_the_step_of_a_run_with_three_objectives_passes_by_what_the_third_holds(x: str) -> None:
    """A point that is best by the objective that is not drawn lies off the line."""
    rng = np.random.default_rng(0)
    row = {**ALL_SOURCES["points"][0], "point": ALL_SOURCES["named"]["knee"]}
    points = [
        {**row, "accuracy": a, "fps": f, "lut": n}
        for a, f, n in zip(
            rng.random(40), 10 + rng.random(40), rng.integers(9, 99, 40), strict=True
        )
    ]
    axes = draw({**ALL_SOURCES, "points": points}, x, "accuracy").axes[0]
    (line,) = axes.get_lines()[:1]
    best = [
        p
        for p in points
        if not any(
            (q["fps"] >= p["fps"] if x == "fps" else q["lut"] <= p["lut"])
            and q["accuracy"] > p["accuracy"]
            for q in points
        )
    ]
    wanted = sorted((p[x], 100 * p["accuracy"]) for p in best)
    assert np.transpose(line.get_data()).tolist() == pytest.approx(np.array(wanted))


def test_the_title_and_the_note_say_what_and_whence() -> None:
    axes = axes_of(ALL_SOURCES)
    assert axes.get_title() == "tiny on bench, 100 MHz, filled to 80 % at most"
    figure = axes.figure
    assert figure._supxlabel.get_text() == (
        "accuracy: made up, +-2 points; LUT prices: uncalibrated"
    )


@pytest.mark.parametrize(
    "name",
    [
        "a_b^c",
        "net$1",
        "$a^$",
        "$\\nosuch$",
    ],
)
def test_names_are_drawn_as_they_stand(name: str, written: Write, tmp_path: Path) -> None:
    """Not as formulas: an unfinished one would not be drawn at all."""
    draw_run(written({**ONE_POINT, "network": name, "accuracy_note": name}), tmp_path)


def test_measured_points_show_what_was_expected() -> None:
    front = copy.deepcopy(ALL_SOURCES)
    measured = next(p for p in front["points"] if p["accuracy_source"] == "measured")
    before = {name: measured[name] for name in ("accuracy_low", "accuracy_high")}
    front["expected"] = {measured["point"]: {**before, "accuracy": 0.5, "accuracy_source": "prior"}}
    axes = axes_of(front)
    (line,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert np.asarray(line.get_ydata()).tolist() == [50.0, 100 * measured["accuracy"]]
    assert np.asarray(line.get_xdata()).tolist() == [measured["fps"]] * 2
    assert "expected before it was measured" in axes.get_legend_handles_labels()[1]


def test_of_many_points_some_are_drawn_and_all_that_matter(tmp_path: Path) -> None:
    base = {
        "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "accuracy_source": "prior",
        "fps": 10.0, "lut": 1, "utilization": 0.1,
    }  # fmt: skip
    points = [
        {**base, "point": f"p{i:05d}", "fps": 10.0 + i, "accuracy": 0.9 - 1e-5 * i}
        for i in range(50_000)
    ]
    points[4321]["accuracy_source"] = "measured"
    front = {
        "network": "n", "target": "t", "clock_mhz": 100.0, "limit": 0.8, "points": points,
        "named": {"knee": "p31234"}, "provenance": {"lut": "calibrated"}, "accuracy_note": "x",
        "objectives": ["accuracy", "fps"],
    }  # fmt: skip
    drawn = {point["point"] for point in front_plot._drawn(front)}
    assert len(drawn) <= front_plot.MOST_DRAWN + 2
    assert {"p00000", "p49999", "p31234", "p04321"} <= drawn
    figure = front_plot.draw(front, "fps", "accuracy")
    figure.savefig(tmp_path / "front.svg")
    assert (tmp_path / "front.svg").stat().st_size < 4e6
