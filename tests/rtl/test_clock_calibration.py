"""What a path goes by is found, what it does not is left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from syq_dse import catalogue
from syq_dse.cost import clock, gates
from syq_dse.errors import InputError
from syq_dse.rtl import clock_calibration
from syq_dse.rtl.clock_calibration import Timed

SHIPPED = catalogue.folder("hwmodels") / gates.FOLDER


def samples(count: int) -> list[Timed]:
    """Units whose path is 1 ns and half of the logarithm of `simd`, whatever else they have."""
    rng = np.random.default_rng(0)
    found = []
    for run in range(count):
        sizes = {name: int(2 ** rng.uniform(0, 8)) for name in ("pe", "simd", "bits", "steps")}
        path = 1 + 0.5 * math.log2(1 + sizes["simd"])
        found.append(Timed(unit="mac", run=run, seed=0, parameters=sizes, path_ns=path))
    return found


def test_a_path_goes_by_what_it_goes_by() -> None:
    timed = samples(40)
    found = clock_calibration.fit("mac", timed)
    assert set(found.ns) == {"unit", "unit.simd"}
    assert found.ns["unit"] == pytest.approx(1.0, rel=1e-3)
    assert found.ns["unit.simd"] == pytest.approx(0.5, rel=1e-3)
    assert found.error["worst"] < 1e-6
    paths = [one.path_ns for one in timed]
    assert (found.least_ns, found.most_ns) == pytest.approx((min(paths), max(paths)), rel=1e-3)


def test_message_of_a_table_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(InputError, match=r"x\.csv: cannot be read: No such file"):
        clock_calibration.read(path)
    path.write_text("unit,run,seed,parameters,path_ns\nmac,0,0,{,1.0\n")
    with pytest.raises(InputError, match=r"is no table of paths: .*; calibrate anew"):
        clock_calibration.read(path)


@pytest.mark.parametrize("name", catalogue.names("hwmodels", "asic"))
def test_shipped_delays_are_of_their_samples(name: str) -> None:
    delays = clock.load(name)
    timed = clock_calibration.read(SHIPPED / f"{name}-clock.csv")
    assert delays.units == clock_calibration._units(timed)
