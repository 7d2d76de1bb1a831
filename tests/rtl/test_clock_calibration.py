"""What a path goes by is found, what it does not is left out."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from syq_dse import catalogue
from syq_dse.cost import clock, gates
from syq_dse.rtl import clock_calibration

SHIPPED = catalogue.folder("hwmodels") / gates.FOLDER


def drawn(count: int) -> tuple[list[SimpleNamespace], np.ndarray]:
    """Units whose path is 1 ns and half of the logarithm of `simd`, whatever else they have."""
    rng = np.random.default_rng(0)
    found, paths = [], []
    for _ in range(count):
        sizes = {name: int(2 ** rng.uniform(0, 8)) for name in ("pe", "simd", "bits", "steps")}
        found.append(SimpleNamespace(sample=SimpleNamespace(parameters=sizes)))
        paths.append(1 + 0.5 * np.log2(1 + sizes["simd"]))
    return found, np.array(paths)


def test_a_path_goes_by_what_it_goes_by() -> None:
    units, paths = drawn(40)
    found = clock_calibration._fit("mac", units, paths)
    assert set(found.ns) == {"unit", "unit.simd"}
    assert found.ns["unit"] == pytest.approx(1.0, rel=1e-3)
    assert found.ns["unit.simd"] == pytest.approx(0.5, rel=1e-3)
    assert found.error["worst"] < 1e-6
    assert (found.least_ns, found.most_ns) == pytest.approx((paths.min(), paths.max()), rel=1e-3)


@pytest.mark.parametrize("name", catalogue.names("hwmodels", "asic"))
def test_shipped_delays_are_of_their_samples(name: str) -> None:
    delays = clock.load(name)
    with (SHIPPED / f"{name}-clock.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for unit, found in delays.units.items():
        own = [row for row in rows if row["unit"] == unit]
        paths = np.array([float(row["path_ns"]) for row in own])
        assert found.runs == len(own)
        assert found.least_ns == pytest.approx(paths.min(), abs=1e-3)
        assert found.most_ns == pytest.approx(paths.max(), rel=1e-3)
        again = [delays.path_ns(unit, json.loads(row["parameters"])) for row in own]
        off = abs(np.array(again) - paths) / np.maximum(paths, np.median(paths))
        assert off.mean() <= 1.1 * found.error["mean"] + 0.01  # held out is worse
