"""Points of a front: their names, the knee, and the file that training reads."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import records
from syq_dse.accuracy import prior
from syq_dse.errors import InputError
from syq_dse.search.export import export_train
from syq_dse.search.front import exact_front
from syq_dse.search.points import AFTER, BEFORE, NAMED, knee, points_of, resolve
from syq_dse.search.run import explore
from syq_dse.search.space import Space
from syq_dse.search.study import Study

from .small import NETWORKS, board, problem, table, with_capacity

FRONTS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0.1, 1e6)), min_size=1, max_size=12, unique=True
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(FRONTS)
def test_the_knee_is_farthest_above_the_line_between_the_ends(
    points: list[tuple[float, float]],
) -> None:
    """Distances from a line, computed as such."""
    accuracy, fps = (np.array(column) for column in zip(*points, strict=True))
    x, y = np.log(fps), accuracy
    if np.ptp(x) < 1e-3 or np.ptp(y) < 1e-3:
        assert 0 <= knee(accuracy, x) < len(points)
        return
    at = knee(accuracy, x)
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    a, b = np.array([0.0, 1.0]), np.array([1.0, 0.0])  # most accurate, fastest
    normal = np.array([1.0, 1.0]) / np.sqrt(2)
    distance = (np.column_stack([x, y]) - a) @ normal
    assert (b - a) @ normal == pytest.approx(0)
    assert distance[at] == pytest.approx(distance.max(), abs=1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(FRONTS, st.integers(1, 1000))
def test_the_knee_does_not_depend_on_the_unit_of_speed(
    points: list[tuple[float, float]], factor: int
) -> None:
    accuracy, fps = (np.array(column) for column in zip(*points, strict=True))
    one, other = knee(accuracy, np.log(fps)), knee(accuracy, np.log(fps * factor))
    x = np.log(fps)
    extent = max(np.ptp(x), 1e-9), max(np.ptp(accuracy), 1e-9)
    value = accuracy / extent[1] + x / extent[0]
    assert value[one] == pytest.approx(value[other], abs=1e-6)


def test_the_knee_of_one_point_is_it() -> None:
    assert knee(np.array([0.7]), np.array([4.6])) == 0


@pytest.mark.parametrize("objectives", [("accuracy", "fps", "lut"), ("lut", "fps")])
def test_named_points_and_rows(objectives: tuple[str, ...]) -> None:
    asked = problem(table("deep"), objectives)
    made = points_of(asked, exact_front(asked))
    assert set(made.named) == set(NAMED)
    rows = {row["point"]: row for row in made.rows}
    assert list(rows) == list(made.documents)
    resources = ("lut", "ff", "dsp", "bram18", "uram")
    assert all(tuple(row) == (*BEFORE, *resources, *AFTER) for row in made.rows)
    named = {name: rows[point] for name, point in made.named.items()}
    for name, column, best in (
        ("most-accurate", "accuracy", max),
        ("fastest", "fps", max),
        ("smallest", "lut", min),
    ):
        assert named[name][column] == best(row[column] for row in made.rows)
    goals = {
        "accuracy": [row["accuracy"] for row in made.rows],
        "fps": [math.log(row["fps"]) for row in made.rows],
        "lut": [-math.log(1 + row["lut"]) for row in made.rows],
    }
    shares = [
        (np.array(goals[name]) - min(goals[name])) / max(np.ptp(goals[name]), 1e-12)
        for name in objectives
    ]
    assert named["knee"] is made.rows[int(np.argmax(sum(shares)))]
    half = prior.load(asked.table.network).error
    for row in made.rows:
        assert row["accuracy_low"] == max(0.0, row["accuracy"] - half)
        assert row["accuracy_high"] == min(1.0, row["accuracy"] + half)


def test_ids_grow_with_the_front() -> None:
    """All of one length, so that files sort as the front does."""
    asked = problem(table("residual"), ("accuracy", "fps", "lut"))
    ids = list(points_of(asked, exact_front(asked)).documents)
    assert ids == [f"p{i:03d}" for i in range(1, len(ids) + 1)]


def test_a_part_without_a_resource_has_a_utilization_of_the_rest() -> None:
    asked = problem(with_capacity(table("plain"), dsp=0), ("accuracy", "utilization"))
    made = points_of(asked, exact_front(asked))
    json.dumps(made.documents, allow_nan=False)  # no infinity in a file
    assert all(0 < row["utilization"] <= 0.8 for row in made.rows)


IDS = [f"p{i:03d}" for i in range(1, 13)]
NAMES = dict(zip(NAMED, ("p003", "p001", "p012", "p007"), strict=True))


@pytest.mark.parametrize(
    ("name", "point"),
    [
        *NAMES.items(),
        ("p004", "p004"),
        ("4", "p004"),
        ("004", "p004"),
        ("p4", "p004"),
        ("12", "p012"),
    ],
)
def test_a_point_by_its_names(name: str, point: str) -> None:
    assert resolve(name, IDS, NAMES) == point


@pytest.mark.parametrize(
    "name", ["", "p", "0", "13", "p000", "-1", "pp4", "four", "²", "4.0", "Knee"]
)
def test_message_of_an_unknown_point(name: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(name, IDS, NAMES)
    known = "known: p001 to p012, knee, most-accurate, fastest, smallest"
    assert str(caught.value) == f"unknown point '{name}'; {known}"


def test_message_of_a_point_of_an_empty_front() -> None:
    with pytest.raises(InputError, match=r"^unknown point '1'; known: none, knee, "):
        resolve("1", [], {})


# The file for training


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    for name, record in (("plain", NETWORKS["plain"].file), ("bench", board())):
        (place / f"{name}.toml").write_text(tomli_w.dumps(records.plain(record)))
    study = Study(
        network=str(place / "plain.toml"),
        target=str(place / "bench.toml"),
        objectives=("accuracy", "lut"),
        space=Space(weights=("binary", "int4"), bits=(1, 4), intervals=2),
    )
    explore(study, place / "run")
    return place / "run"


def test_the_exported_point_is_the_point(ran: Path, tmp_path: Path) -> None:
    for name in ("knee", "2", "smallest"):
        path = export_train(ran, name, tmp_path / "out")
        point = json.loads(path.read_text())["point"]
        assert path == tmp_path / "out" / f"plain-bench-{point}.json"
        assert path.read_bytes() == (ran / "points" / f"{point}.json").read_bytes()
        assert export_train(ran, name, tmp_path / "out") == path  # again: the same


def test_an_export_does_not_write_over_another_file(ran: Path, tmp_path: Path) -> None:
    path = export_train(ran, "1", tmp_path)
    path.write_text('{"mine": true}')
    with pytest.raises(InputError) as caught:
        export_train(ran, "1", tmp_path)
    assert str(caught.value) == f"{path}: exists with other contents; give another -o"
    assert json.loads(path.read_text()) == {"mine": True}
