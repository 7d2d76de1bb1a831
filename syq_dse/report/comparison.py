"""Two runs beside each other: in what they differ, and how far each front covers the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

from syq_dse.errors import InputError
from syq_dse.search import run
from syq_dse.search.points import NAMED, column_of
from syq_dse.search.problem import MAXIMISED
from syq_dse.search.study import differences

Floats = npt.NDArray[np.float64]

BEYOND = 0.1
"""By how much of the extent of both fronts the reference point is worse than the worst of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two finished runs; lists have the first's and the second's.

    Attributes:
        settings: in which the studies differ, as `name: first's, not second's`.
        objectives: that both have.
        points: on each front.
        hypervolume: of each front, from one reference point, as a share of that of both together.
        covered: share of the points of each that some point of the other dominates or equals.
        named: rows of front.csv of the points with a name, by name.
    """

    settings: Sequence[str]
    objectives: Sequence[str]
    points: tuple[int, int]
    hypervolume: tuple[float, float]
    covered: tuple[float, float]
    named: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]


def compare(first: Path, second: Path) -> Comparison:
    """Compare two runs by the objectives that both have.

    Accuracies of different networks or sources stand side by side as they are.

    Raises:
        InputError: one has not finished, or they have fewer than two objectives in common.
    """
    fronts = []
    for folder in (first, second):
        with run.unchanged(folder):
            fronts.append(run.read_front(folder))
    studies = [run.read_record(folder).study for folder in (first, second)]
    common = [name for name in fronts[0]["objectives"] if name in fronts[1]["objectives"]]
    if len(common) < 2:
        asked = "; ".join(
            f"{folder} has {', '.join(front['objectives'])}"
            for folder, front in zip((first, second), fronts, strict=True)
        )
        raise InputError(f"{second}: two objectives must be those of {first}; {asked}")
    values = [_values(front, common) for front in fronts]
    both = np.vstack(values)
    worst, best = both.max(axis=0), both.min(axis=0)
    extent = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1))
    together, *alone = (
        float(moocore.hypervolume((of - worst) / extent, ref=np.full(len(common), BEYOND)))
        for of in (both, *values)
    )
    return Comparison(
        settings=differences(*studies),
        objectives=common,
        points=(len(values[0]), len(values[1])),
        hypervolume=(alone[0] / together, alone[1] / together),
        covered=(_covered(values[0], values[1]), _covered(values[1], values[0])),
        named={name: (_named(fronts[0], name), _named(fronts[1], name)) for name in NAMED},
    )


def _values(front: Mapping[str, Any], objectives: Sequence[str]) -> Floats:
    """The points that none dominates, less being better, shape (points, objectives)."""
    rows = [row for row in front["points"] if not row.get("dominated")]
    return np.array(
        [
            [(-1 if name in MAXIMISED else 1) * float(row[column_of(name)]) for name in objectives]
            for row in rows
        ]
    )


def _covered(points: Floats, by: Floats) -> float:
    """Share of points that another front is nowhere worse than.

    >>> _covered(np.array([[1.0, 1.0], [0.0, 3.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [0.5, 2.0]]))
    0.3333333333333333
    """
    if points.shape[1] == 2:  # of tens of thousands of points each pair would take minutes
        ordered = by[np.argsort(by[:, 0], kind="stable")]
        least = np.minimum.accumulate(ordered[:, 1])
        place = np.searchsorted(ordered[:, 0], points[:, 0], side="right")
        return float(np.mean((place > 0) & (least[np.maximum(place - 1, 0)] <= points[:, 1])))
    return float(np.mean([(by <= point).all(axis=1).any() for point in points]))


def _named(front: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        row for row in front["points"] if row["point"] == front["named"][name]
    )
    return found
