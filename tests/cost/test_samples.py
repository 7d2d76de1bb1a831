"""What units are counted to hold against the synthesis that prices were fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from syq_dse import catalogue, target
from syq_dse.cost import gates
from syq_dse.cost.prices import UNITS, load_lut
from syq_dse.rtl import calibrate, gate_calibration, runs
from syq_dse.rtl.fit import SMALL_LUT, estimates
from syq_dse.rtl.runs import RESOURCES
from syq_dse.technology import FAMILY

FOLDER = catalogue.folder("hwmodels") / "calibration"


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", ["xcup", "xc7", "ecp5"])
def test_counts_are_what_was_synthesised(family: str, unit: str) -> None:
    """Each unit of the calibration, counted anew: DSPs and memories exactly, flip-flops as often as
    the prices say, LUTs within the error that prices have for units which they had not seen."""
    part, table = target.load_family(family), FOLDER / f"{family}_samples.csv"
    prices = load_lut(family).units[unit]
    before = [run for run in runs.read(table) if run.unit == unit]
    again = []
    for run in before:
        sample = calibrate.redrawn(run, part, table.name)
        drawn = calibrate.Drawn(unit=unit, number=run.run, seed=run.seed, sample=sample)
        again.append(drawn.run(part, run.synthesised, run.tool))
        assert again[-1].features == run.features
        assert again[-1].memory_halves == run.memory_halves
    for name in RESOURCES:
        wrong = [x.run for x in again if x.counted[name] != getattr(x.synthesised, name)]
        assert len(wrong) == prices.error[f"{name}_mismatches"], (name, wrong)
    luts = np.array(estimates(prices, again), dtype=float)
    assert luts.tolist() == [run.estimated_lut for run in before]
    made = np.array([run.synthesised.lut for run in before])
    large = made >= SMALL_LUT
    assert np.mean(abs(luts / np.maximum(made, 1) - 1)[large]) <= prices.error["lut_mean"] + 1e-4


@pytest.mark.parametrize("unit", gates.PRICED)
def test_gates_are_what_was_synthesised(unit: str) -> None:
    """The same in silicon, where registers and tables are units too: gate equivalents within the
    error that prices have for units which they had not seen."""
    found = gate_calibration.read(FOLDER / "silicon" / "sky130hd_samples.csv")
    prices = gates.load("sky130hd").units[unit]
    off = []
    for run in (x for x in found if x.unit == unit):
        sample = calibrate.redrawn(run, FAMILY, "sky130hd_samples.csv")
        features = gate_calibration._features(unit, sample)
        assert features == run.features
        constant = prices.gates[gates.CONSTANT] * any(features.values())
        made = constant + sum(prices.gates[name] * count for name, count in features.items())
        if run.gates >= gate_calibration.SMALL:
            off.append(made / run.gates - 1)
    assert np.mean(np.abs(off)) <= prices.error["mean"] + 1e-4
