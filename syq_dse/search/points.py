"""The points of a front: what each one is, as rows of front.csv and as documents of points/."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse import records, scheme
from syq_dse.cost.document import document
from syq_dse.cost.estimate import estimate
from syq_dse.cost.integers import Ints
from syq_dse.cost.parameters import reach, warnings
from syq_dse.cost.pricing import SHOWN
from syq_dse.cost.table import price
from syq_dse.errors import InputError
from syq_dse.search.front import Front
from syq_dse.search.losses import LOSS_UNIT
from syq_dse.search.problem import MAXIMISED, Problem

BEFORE = (
    *("point", "accuracy", "accuracy_low", "accuracy_high", "accuracy_source"),
    *("fps", "latency_us", "interval_cycles"),
)
AFTER = ("utilization", "energy_uj", "dominated")
"""Columns of front.csv before and behind what the target has of resources; dominated is a point
that was measured and fell out of the front."""

_COLUMNS = {"area": "area_um2", "bram": "bram18", "energy": "energy_uj", "latency": "latency_us"}

COUNTED = ("lut", "ff", "dsp", "bram", "uram")
"""Objectives that may be 0."""

NAMED = ("knee", "most-accurate", "fastest", "smallest")
"""Points that have a name besides their id."""


@dataclass(frozen=True, slots=True)
class Points:
    """A front as a person and a file see it.

    Attributes:
        rows: one a point, by BEFORE, the target's resources, AFTER.
        named: the id of each of NAMED.
        documents: the content of points/ID.json, by id.
    """

    rows: tuple[dict[str, Any], ...]
    named: dict[str, str]
    documents: dict[str, dict[str, Any]]


def column_of(objective: str) -> str:
    """The column of front.csv that has an objective.

    >>> column_of("energy"), column_of("lut")
    ('energy_uj', 'lut')
    """
    return _COLUMNS.get(objective, objective)


def points_of(problem: Problem, front: Front) -> Points:
    """Every point of a front, priced once more layer by layer."""
    rows, documents = [], {}
    width = max(3, len(str(len(front.designs))))
    for index, design in enumerate(front.designs):
        name = f"p{index + 1:0{width}d}"
        documents[name] = document_of(problem, design, name)
        rows.append(row_of(documents[name]))
    named = dict(zip(NAMED, named_of(rows, problem.goals.objectives), strict=True))
    return Points(tuple(rows), named, documents)


def document_of(problem: Problem, design: Ints, name: str) -> dict[str, Any]:
    """The content of points/ID.json of a design, a row of the problem's table."""
    table, goals = problem.table, problem.goals
    row: list[int] = design.tolist()
    chosen, folding = table.scheme_of(row), table.foldings_of(row)
    interval = table.intervals[int(design[0])]
    cost = estimate(table.pricing, table.network, chosen, interval, folding)
    if list(cost.total.values()) != price(table, design[None]).total[0].tolist():
        raise AssertionError(f"{name}: estimate and table disagree")
    expected = problem.losses.base - int(problem.loss(design[None])[0]) * LOSS_UNIT
    error = problem.losses.half(chosen)
    outside = warnings(table.pricing, table.network, chosen, interval, folding)
    fastest = reach(table.pricing, table.network, chosen, interval, folding)
    priced = document(
        *(table.pricing, table.network.name, cost, interval, goals.clock_mhz, goals.limit),
        *(outside, fastest),
    )
    return {
        "point": name,
        "network": table.network.name,
        "target": table.pricing.target.name,
        "clock_mhz": goals.clock_mhz,
        "interval_cycles": interval,
        "design": row,
        "accuracy": {
            "top1": expected,
            "low": max(0.0, expected - error),
            "high": min(1.0, expected + error),
            "source": problem.losses.source,
            "note": problem.losses.note,
        },
        "scheme": records.plain(scheme.file_of(table.network, chosen)),
        "folding": records.plain(folding),
        "cost": priced,
    }


def row_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The row of front.csv of a point's document."""
    cost, accuracy = found["cost"], found["accuracy"]
    used = [value for value in cost["utilization"].values() if value is not None]
    return {
        "point": found["point"],
        "accuracy": accuracy["top1"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "accuracy_source": accuracy["source"],
        "fps": cost["fps"],
        "latency_us": cost["latency_us"],
        "interval_cycles": cost["interval_cycles"],
        **{name: value for name, value in cost["total"].items() if name in SHOWN},
        "utilization": max(used),
        "energy_uj": cost["total"]["energy_uj"],
        "dominated": False,
    }


def named_of(rows: list[dict[str, Any]], objectives: Sequence[str]) -> list[str]:
    """The ids of NAMED; the knee is that of the objectives.

    The smallest has the least of the first resource among them, else the least filled part.
    """
    accuracy = [row["accuracy"] for row in rows]
    fps = [row["fps"] for row in rows]
    size = next((name for name in objectives if name in (*COUNTED, "area")), "utilization")
    used = [row[column_of(size)] for row in rows]
    picks = (
        knee(*(_goal(rows, name) for name in objectives)),
        max(range(len(rows)), key=lambda i: (accuracy[i], fps[i], -used[i])),
        max(range(len(rows)), key=lambda i: (fps[i], accuracy[i], -used[i])),
        min(range(len(rows)), key=lambda i: (used[i], -accuracy[i])),
    )
    return [str(rows[i]["point"]) for i in picks]


def _goal(rows: list[dict[str, Any]], name: str) -> npt.NDArray[np.float64]:
    """An objective of points as a knee takes it: more is better, and ratios count, or points."""
    values = np.asarray([row[column_of(name)] for row in rows], dtype=np.float64)
    if name == "accuracy":
        return values
    if name in MAXIMISED:
        return np.log(values)
    return -np.log(1 + values if name in COUNTED else values)


def knee(*goals: npt.NDArray[np.float64]) -> int:
    """Index of the point farthest above the line, or plane, through the best of each goal.

    Each goal, of which more is better, runs from 0 to 1 over the front: with accuracy and the
    logarithm of fps, the point where more speed begins to cost much accuracy. Source: Das, On
    characterizing the "knee" of the Pareto curve (1999).

    >>> knee(np.array([0.9, 0.89, 0.5]), np.log([10.0, 100.0, 200.0]))
    1
    """
    return int(np.argmax(np.sum([_unit(goal) for goal in goals], axis=0)))


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    extent = float(values.max() - values.min())
    if not math.isfinite(extent) or extent == 0:
        return np.zeros(len(values))
    return np.asarray((values - values.min()) / extent)


def point_of(front: Mapping[str, Any], name: str) -> str:
    """The id of a point of a front.json, named as `resolve` has it.

    Raises:
        InputError: no such point.
    """
    return resolve(name, [str(row["point"]) for row in front["points"]], front["named"])


def resolve(name: str, ids: list[str], named: dict[str, str]) -> str:
    """The id of a point by its id, its number, or one of NAMED.

    Raises:
        InputError: no such point.
    """
    if name in named:
        return named[name]
    wanted = name.removeprefix("p").lstrip("0")
    for point in ids:
        if wanted and point.removeprefix("p").lstrip("0") == wanted:
            return point
    known = f"{ids[0]} to {ids[-1]}" if ids else "none"
    raise InputError(f"unknown point '{name}'; known: {known}, {', '.join(NAMED)}")
