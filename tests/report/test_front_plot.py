"""The figure of a front: files that parse, axes with units, sources told apart."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from syq_dse.errors import InputError
from syq_dse.report import front_plot
from syq_dse.search import run
from syq_dse.search.space import Space
from syq_dse.search.study import Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    found = tmp_path_factory.mktemp("runs") / "lenet5"
    few = Space(weights=("binary", "int4"), granularity=("layer",), bits=(1, 4), intervals=6)
    run.explore(Study(network="lenet5", target="pynq-z1", space=few), found)
    return found


def test_png_and_svg(folder: Path, tmp_path: Path) -> None:
    png, svg = front_plot.draw_run(folder, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize(("x", "y"), [(None, None), ("lut", "accuracy"), ("energy_uj", "fps")])
def test_axes_have_units(folder: Path, x: str | None, y: str | None) -> None:
    front = run.read_front(folder)
    axes = front_plot.draw(front, x or "fps", y or "accuracy").axes[0]
    assert axes.get_xlabel() == front_plot.AXES[x or "fps"]
    assert axes.get_ylabel() == front_plot.AXES[y or "accuracy"]
    assert front_plot.AXES["fps"] == "throughput [images/s]"


def test_sources_differ_in_marker_and_grey(folder: Path) -> None:
    front: dict[str, Any] = run.read_front(folder)
    one = front["points"][0]
    sources = ("measured", "predicted", "prior")
    front["points"] = [
        one | {"point": f"p00{i}", "accuracy_source": s, "fps": 10.0**i, "accuracy": 0.9 - i / 50}
        for i, s in enumerate(sources)
    ]
    front["named"] = dict.fromkeys(front["named"], "p001")
    axes = front_plot.draw(front, "fps", "accuracy").axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    for source in (*sources, "knee"):
        assert sum(label.startswith(source) for label in labels) == 1
    styles = {(s["marker"], s["facecolor"]) for s in front_plot.SOURCES.values()}
    assert len(styles) == 3
    assert len({marker for marker, _ in styles}) == len({grey for _, grey in styles}) == 3


def test_a_single_point_is_drawn(folder: Path) -> None:
    front = run.read_front(folder)
    front["points"] = front["points"][:1]
    front["named"] = dict.fromkeys(front["named"], front["points"][0]["point"])
    assert front_plot.draw(front, "fps", "accuracy").axes[0].get_title()


def test_message_for_an_axis_that_is_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown axis 'watts'; known: accuracy, fps"):
        front_plot.draw_run(folder, tmp_path, "watts")
