"""Figures beside the front: what they show, that their texts keep apart, what a run must have."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from syq_dse.cli.plot import command
from syq_dse.errors import InputError
from syq_dse.report import figures, layers_plot, measured_plot, resources_plot

from .test_front_plot import SVG, front, row

HOSTILE = ["$x$", "<b>", "$\\nosuch$", "a_b^c", "&amp;", "W" * 80, "two\nlines", "-->"]

GRANULARITIES = ("layer", "channel", "row", "pixel")

WEIGHTS = ("binary", "ternary", "int4", "int8")

Make = Callable[..., Path]


def point_file(point: str, names: list[str], index: int) -> dict[str, Any]:
    """points/ID.json, as far as figures read it; a pool stands between the layers."""
    layers: list[dict[str, Any]] = [
        {
            "name": name,
            "weights": WEIGHTS[(i + index) % 4],
            "granularity": GRANULARITIES[(i // 2 + index) % 4],
            "input_bits": 1 + (i + 2 * index) % 8,
            "output_bits": 8,
        }
        for i, name in enumerate(names)
    ]
    layers.insert(1, {"name": "pool", "weights": None, "granularity": None, "input_bits": 8})
    used = {"lut": 1000 * (index + 1), "ff": 20, "bram18": 0, "uram": 0, "dram_bits": 64}
    capacity = {"lut": 50_000, "ff": 4000, "bram18": 8, "uram": 0, "dram_bits": 6400 * (index + 1)}
    shares = {key: used[key] / most if most else None for key, most in capacity.items()}
    total = {**used, "energy_uj": 1.5}
    cost = {"layers": layers, "total": total, "capacity": capacity, "utilization": shares}
    return {"point": point, "cost": cost}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Leaves a finished run of so many points and layers of the given names."""

    def made(count: int = 4, names: tuple[str, ...] | list[str] = ("conv", "dense"), **more: Any):
        rows = [row(i + 1, 0.9 - 0.001 * i, 100.0 + i, "predicted") for i in range(count)]
        found = front(*rows) | more
        folder = tmp_path / "run"
        (folder / "points").mkdir(parents=True)
        study = {"target": "zcu102", "objectives": found["objectives"]}
        record = {"format": 1, "syq_dse": "0", "python": "3", "study": study}
        (folder / "study.toml").write_text(tomli_w.dumps(record))
        (folder / "front.json").write_text(json.dumps(found))
        for i, one in enumerate(rows):
            text = json.dumps(point_file(one["point"], list(names), i))
            (folder / "points" / f"{one['point']}.json").write_text(text)
        return folder

    return made


def measured(count: int = 2, source: str = "predicted") -> dict[str, Any]:
    """Rows that were measured, and what had been expected of them, as front.json has it."""
    rows = [row(i + 1, 0.9 - 0.01 * i, 100.0 + i, "measured") for i in range(count)]
    expected = {
        one["point"]: {
            "accuracy": one["accuracy"] - 0.03,
            "accuracy_low": one["accuracy"] - 0.05,
            "accuracy_high": one["accuracy"] + 0.01,
            "accuracy_source": source,
        }
        for one in rows
    }
    return {"points": rows, "expected": expected}


def plot(folder: Path, *arguments: str) -> list[Path]:
    done = CliRunner().invoke(command, [str(folder), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [Path(line) for line in done.output.splitlines()]


def boxes(figure: Figure) -> tuple[dict[str, list[Bbox]], Bbox]:
    """Where texts stand: all the texts, and tick labels by their axis; and the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()

    beyond: set[Text] = set()  # labels of ticks outside the axis, which are not drawn
    ticks: dict[str, list[Text]] = {}
    for i, axes in enumerate(figure.axes):
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            drawn = axis.get_major_ticks() + axis.get_minor_ticks()
            ticks[f"{i}{name}"] = [label for t in drawn for label in (t.label1, t.label2)]
            outside = (t for t in drawn if not low <= t.get_loc() <= high)
            beyond |= {label for t in outside for label in (t.label1, t.label2)}

    def of(texts: Iterable[Text]) -> list[Bbox]:
        shown = [t for t in texts if t.get_visible() and t.get_text() and t not in beyond]
        return [t.get_window_extent(renderer) for t in shown]

    found = {"all": of(figure.findobj(Text)), **{name: of(own) for name, own in ticks.items()}}
    return found, Bbox.from_bounds(0, 0, *canvas.get_width_height())


def check_texts(figure: Figure) -> None:
    """No two texts lie on each other, and all are inside the figure."""
    found, whole = boxes(figure)
    assert len(found["all"]) > 4
    for name, own in found.items():
        for one, other in itertools.combinations(own, 2):
            assert not one.overlaps(other), (name, one, other)
        for box in own:
            assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, (name, box, whole)
            assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, (name, box, whole)


def drawn_layers(points: int, names: list[str]) -> Figure:
    layers = {}
    for i in range(points):
        layers[f"p{i:06d}"] = {
            name: (1 + (i + j) % 8, 1 + (i * j) % 4, 1 + (i + 2 * j) % 8)
            for j, name in enumerate(names)
        }
    return layers_plot.draw("net on part", layers)


# Files


def test_all_figures_open(make: Make, tmp_path: Path) -> None:
    folder = make(2, **measured())
    header = "sampler,seeded,seed,designs,seconds,share\n"
    lines = [f"nsga2,False,{seed},{10 * i},{i},{0.1 * i}\n" for seed in (0, 1) for i in (1, 2, 3)]
    (folder / "samplers.csv").write_text(header + "".join(lines))
    before = set(folder.iterdir())
    made = plot(folder, "--figure", "all", "-o", str(tmp_path / "new" / "out"))
    names = ("front", "layers", "resources", "measured", "history")
    assert [path.name for path in made] == [f"{n}.{k}" for n in names for k in ("png", "svg")]
    for picture, vector in zip(made[::2], made[1::2], strict=True):
        shades = matplotlib.image.imread(picture)[..., :3]
        assert 0.01 < (shades.min(axis=-1) < 0.99).mean() < 0.95, picture
        assert ElementTree.parse(vector).getroot().tag == f"{SVG}svg"
    assert set(folder.iterdir()) == before


def test_the_front_alone_is_the_default(make: Make) -> None:
    folder = make()
    assert plot(folder) == [folder / "front.png", folder / "front.svg"]


def test_figures_are_drawn_as_asked_and_once(make: Make) -> None:
    made = plot(make(), *("--figure", "resources", "--figure", "layers", "--figure", "resources"))
    assert [path.stem for path in made[::2]] == ["resources", "layers"]


def test_pictures_but_the_heat_map_need_no_colour(make: Make) -> None:
    made = plot(make(2, **measured()), "--figure", "resources", "--figure", "measured")
    for path in made[::2]:
        red, green, blue = (matplotlib.image.imread(path)[..., i] for i in range(3))
        np.testing.assert_allclose(red, green, atol=0.01)
        np.testing.assert_allclose(green, blue, atol=0.01)


# What a run lacks


def test_all_leaves_out_what_the_run_has_no_data_of(make: Make) -> None:
    made = plot(make(), "--figure", "all")
    assert [path.stem for path in made[::2]] == ["front", "layers", "resources"]


@pytest.mark.parametrize(
    ("figure", "why"),
    [
        ("measured", "no point was measured since; `syq-dse validate` trains points"),
        ("history", "it has no samplers.csv; `syq-dse explore --sampler all` leaves one"),
        ("layers", "no layer has weights"),
    ],
)
def test_message_of_a_figure_without_data(make: Make, figure: str, why: str) -> None:
    folder = make(names=())
    with pytest.raises(InputError) as caught:
        plot(folder, "--figure", figure)
    assert str(caught.value) == f"{folder}: no figure '{figure}': {why}"
    assert not list(folder.glob("*.png"))


def test_a_target_without_capacities_has_no_resources(make: Make) -> None:
    folder = make(1)
    path = folder / "points" / "p001.json"
    point = json.loads(path.read_text())
    point["cost"] |= {"capacity": {}, "utilization": {}}
    path.write_text(json.dumps(point))
    assert resources_plot.draw_run(folder, folder) == []


@pytest.mark.parametrize("name", ["layers", "resources"])
@pytest.mark.parametrize("cost", [None, {}, [], {"layers": [{"weights": "int"}], "total": 1}])
def test_message_of_a_broken_point(make: Make, name: str, cost: Any) -> None:
    folder = make(1)
    path = folder / "points" / "p001.json"
    path.write_text(json.dumps({"point": "p001", "cost": cost} if cost is not None else {}))
    with pytest.raises(InputError) as caught:
        plot(folder, "--figure", name)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "sampler,seeded\n", "\x00\xff"])
def test_message_of_a_broken_table_of_samplers(make: Make, text: str) -> None:
    folder = make(1)
    (folder / "samplers.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        plot(folder, "--figure", "history")
    assert str(caught.value) == f"{folder / 'samplers.csv'}: is not what explore writes"


def test_axes_are_of_the_front_only(make: Make) -> None:
    folder = str(make())
    done = CliRunner().invoke(command, [folder, "--figure", "layers", "--x", "lut"])
    assert done.exit_code == 2
    assert "--x and --y are axes of the front: add --figure front" in done.output
    assert plot(Path(folder), "--figure", "all", "--x", "lut")


# Layers


@pytest.mark.parametrize("points", [1, 18, 40])
@pytest.mark.parametrize("count", [1, 12, 54, 400])
def test_names_of_layers_keep_apart(count: int, points: int) -> None:
    if count == 400 and points != 40:
        pytest.skip("slow, and no other case")
    check_texts(
        drawn_layers(points, [f"layer{i}.{i % 7}.downsample.conv{i}" for i in range(count)])
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(make: Make, tmp_path: Path, name: str) -> None:
    kept = name if name.isprintable() else "net"
    folder = make(2, [name, "conv"], network=kept, target=kept[:40].strip(), **measured())
    for path in plot(folder, *("--figure=layers", "--figure=resources", "--figure=measured")):
        if path.suffix == ".svg":
            tags = {element.tag for element in ElementTree.parse(path).getroot().iter()}
            assert tags and not {tag for tag in tags if tag.endswith("}b")}
    heading = figures.title({"network": kept, "target": kept, "clock_mhz": 200.0})
    check_texts(layers_plot.draw(heading, {"p001": {name: (1, 1, 1), "conv": (8, 4, 8)}}))
    check_texts(measured_plot.draw(heading, measured_pairs(2)))
    check_texts(resources_plot.draw(heading, dict(uses("knee (p1)", "smallest (p2)")), 0.8))
    (label, *_) = drawn_layers(3, [name, "conv"]).axes[0].get_yticklabels()
    assert label.get_text() == figures.cut(name)
    assert label.get_parse_math() is False


@pytest.mark.parametrize("length", [1, 23, 24, 25, 80])
def test_long_names_keep_both_ends(length: int) -> None:
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    shown = figures.cut(name)
    assert len(shown) == min(length, figures.LONGEST)
    start, _, end = shown.partition("…")
    assert name.startswith(start) and name.endswith(end)


def test_the_heat_map_shows_what_the_points_have(make: Make) -> None:
    folder = make(3, ["one", "two", "three"])
    layers = {name: layers_plot.layers_of(folder, name) for name in ("p001", "p002", "p003")}
    assert layers["p001"] == {"one": (1, 1, 1), "two": (2, 1, 2), "three": (4, 2, 3)}
    figure = layers_plot.draw("x", layers)
    panels = figure.axes[:3]
    for i, axes in enumerate(panels):
        (image,) = axes.get_images()
        wanted = [[point[name][i] for point in layers.values()] for name in layers["p001"]]
        assert np.asarray(image.get_array()).tolist() == wanted
        lightness = image.cmap(np.arange(image.cmap.N))[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(lightness) > 0.04).all()  # told apart in grey
        assert len(lightness) == len(np.unique(wanted))
        assert len(set(image.norm(np.unique(wanted)).tolist())) == len(lightness)
    texts = [axes.get_xlabel() for axes in figure.axes[3:]]
    assert texts == list(layers_plot.PANELS)
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["one", "two", "three"]


def test_a_layer_that_a_point_lacks_stays_white() -> None:
    figure = layers_plot.draw("x", {"p001": {"a": (8, 1, 8)}, "p002": {"b": (8, 1, 8)}})
    for axes in figure.axes[:3]:
        (image,) = axes.get_images()
        assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, True], [True, False]]
    check_texts(figure)


def test_of_a_long_front_points_lie_evenly(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[list[str]] = []
    plain = layers_plot.draw
    monkeypatch.setattr(
        layers_plot, "draw", lambda of, layers: drawn.append(list(layers)) or plain(of, layers)
    )
    layers_plot.draw_run(make(121), tmp_path)
    (ids,) = drawn
    places = [int(name.removeprefix("p")) for name in ids]
    assert len(places) == layers_plot.MOST_POINTS
    assert (places[0], places[-1]) == (1, 121)
    assert set(np.diff(places)) <= {3, 4}


def test_dominated_points_are_not_along_the_front(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make(4)
    found = json.loads((folder / "front.json").read_text())
    found["points"][1]["dominated"] = True
    (folder / "front.json").write_text(json.dumps(found))
    (folder / "points" / "p002.json").unlink()  # is not read
    assert layers_plot.draw_run(folder, tmp_path)


# Resources


def uses(*names: str) -> Iterator[tuple[str, list[resources_plot.Use]]]:
    for i, name in enumerate(names):
        yield (
            name,
            [
                resources_plot.Use(resource=key, used=most * (i + 1) / 5, capacity=most)
                for key, most in (*FIXED, ("dram_bits", 10.0**9 * (i + 1)))
            ],
        )


FIXED = (("lut", 274080.0), ("ff", 548160.0), ("dsp", 2520.0), ("bram18", 1824.0), ("uram", 960.0))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_resources_show_shares_of_the_capacity(count: int) -> None:
    names = ["knee (p2)", "most-accurate (p1)", "fastest (p7)", "smallest (p9)"][:count]
    figure = resources_plot.draw("net on part", dict(uses(*names)), 0.75)
    check_texts(figure)
    (axes,) = figure.axes
    assert len(axes.containers) == count
    for i, bars in enumerate(axes.containers):
        assert [bar.get_width() for bar in bars] == pytest.approx([20 * (i + 1)] * 6)
    (line,) = axes.get_lines()
    assert set(line.get_xdata()) == {75.0}
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[:2] == ["LUTs\nof 274,080", "flip-flops\nof 548,160"]
    own = "\nof 1,000,000,000" if count == 1 else ""  # differs from point to point
    assert labels[-1] == f"DRAM [bits an image]{own}"
    words = [text.get_text() for text in axes.texts[:6]]
    assert words[0] == "54,816 = 20 %"
    assert words[-1] == f"200,000,000{'' if own else ' of 1,000,000,000'} = 20 %"
    assert axes.get_xlabel() == "filled [% of the capacity]"
    (legend,) = figure.legends
    assert {t.get_text() for t in legend.get_texts()} == {*names, "limit (75 %)"}
    looks = {(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in axes.containers}
    assert len(looks) == count


def test_more_than_the_capacity_is_in_the_figure() -> None:
    use = resources_plot.Use(resource="lut", used=300, capacity=100)
    figure = resources_plot.draw("x", {"knee (p001)": [use], "smallest (p002)": []}, 0.8)
    assert figure.axes[0].get_xlim() == (0, 300)
    check_texts(figure)


def test_one_point_of_several_names_is_drawn_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[dict[str, Any]] = []
    plain = resources_plot.draw
    monkeypatch.setattr(
        resources_plot, "draw", lambda of, held, limit: drawn.append(held) or plain(of, held, limit)
    )
    resources_plot.draw_run(make(4), tmp_path)
    (held,) = drawn
    assert list(held) == ["knee (p003)", "most-accurate (p001)", "fastest, smallest (p004)"]
    assert [use.resource for use in held["knee (p003)"]] == ["lut", "ff", "bram18", "dram_bits"]
    assert (held["knee (p003)"][0].used, held["knee (p003)"][0].capacity) == (3000, 50_000)


# Measured


def measured_pairs(count: int, source: str = "predicted") -> list[measured_plot.Pair]:
    found = measured(count, source)
    return [(found["expected"][one["point"]], one) for one in found["points"]]


def test_measured_shows_both_accuracies_and_their_intervals() -> None:
    pairs = [*measured_pairs(2), *measured_pairs(1, "prior")]
    figure = measured_plot.draw("net on part", pairs)
    check_texts(figure)
    (axes,) = figure.axes
    first, second = axes.containers
    x, y = first.lines[0].get_data()
    assert np.asarray(x).tolist() == pytest.approx([87.0, 86.0])
    assert np.asarray(y).tolist() == pytest.approx([90.0, 89.0])
    across, along = ([s.tolist() for s in bars.get_segments()] for bars in first.lines[2])
    assert across[0] == [pytest.approx([85.0, 90.0]), pytest.approx([91.0, 90.0])]
    assert along[0] == [pytest.approx([87.0, 88.0]), pytest.approx([87.0, 91.0])]
    assert first.lines[0].get_marker() != second.lines[0].get_marker()
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "expected top-1 accuracy [%]"
    assert axes.get_ylabel() == "measured top-1 accuracy [%]"
    (legend,) = figure.legends
    words = {text.get_text() for text in legend.get_texts()}
    assert words == {"both agree", *(style[2] for style in measured_plot.STYLES.values())}


def test_equal_accuracies_without_intervals_can_be_drawn() -> None:
    one = dict.fromkeys(measured_plot.BOUNDS, 0.5) | {"accuracy_source": "prior"}
    check_texts(measured_plot.draw("x", [(one, one)]))


def test_a_point_of_which_nothing_was_expected_is_not_drawn(make: Make, tmp_path: Path) -> None:
    found = measured()
    found["expected"] = {"p999": found["expected"]["p001"]}
    assert measured_plot.draw_run(make(2, **found), tmp_path) == []
