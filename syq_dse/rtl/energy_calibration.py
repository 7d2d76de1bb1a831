"""Calibration of energy: units of drawn parameters, simulated gate by gate on random words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from syq_dse import records
from syq_dse.cost import cycle_energy
from syq_dse.cost.cycle_energy import CycleEnergy, UnitEnergy
from syq_dse.cost.gates import PRICED
from syq_dse.errors import InputError
from syq_dse.rtl import gates, toggles, yosys
from syq_dse.rtl.calibrate import Progress, draw_of, draws
from syq_dse.rtl.liberty import Library, cells
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.verilog import emit
from syq_dse.technology import FAMILY, Technology

FEWEST = 4
"""Runs of a unit that a range needs."""


def run_calibration(
    technology: Technology,
    library: Library,
    *,
    out: Path,
    runs: int,
    seed: int,
    timeout_s: float = yosys.TIMEOUT_S,
    progress: Progress = lambda done, total, what: None,
) -> CycleEnergy:
    """Simulate units of every kind; write TECHNOLOGY-energy.toml.

    Raises:
        InputError: a unit fails, or there are too few runs.
    """
    if runs < FEWEST:
        raise InputError(
            f"{runs} runs a unit are too few for a range of energies; at least {FEWEST}"
        )
    volts = technology.supply_v
    units = {}
    for done, unit in enumerate(PRICED):
        progress(done, len(PRICED), unit)
        drawn = draws(unit, draw_of(unit), FAMILY, runs, seed, small)
        modules = emit({one.name: one.sample.unit for one in drawn})
        area, found = toggles.measure(modules, library, volts, technology.dont_use, seed, timeout_s)
        each = np.array(
            [
                1000 * found[name].logic_pj / max(1.0, area[name].gate_equivalents(library))
                for name in modules
            ]
        )
        low, middle, high = np.quantile(each, (0.1, 0.5, 0.9))
        units[unit] = UnitEnergy(
            runs=len(each),
            fj=float(f"{middle:.4g}"),
            low=float(f"{low:.4g}"),
            high=float(f"{high:.4g}"),
            toggles=float(f"{np.mean([one.toggles for one in found.values()]):.3g}"),
        )
    cell = cells(library)[library.flip_flop]
    clock = 1000 * (cell.clock_pj + cell.inputs[cell.clock] * volts**2)
    energy = CycleEnergy(
        technology=technology.name,
        status="calibrated",
        source=(
            "toggles of synthesised units on random words, each code as likely, times internal and "
            "pins' energy of the cells; no wires, no glitches, by `syq-dse calibrate --technology "
            f"{technology.name} --energy --runs {runs} --seed {seed}`"
        ),
        tool=f"{yosys.version()} {gates.COMMAND}",
        volts=volts,
        flip_flop_fj=float(f"{clock:.4g}"),
        units=units,
    )
    records.make_folder(out)
    records.write_text(out / f"{technology.name}-energy.toml", cycle_energy.text(energy))
    return energy


MOST_FLIP_FLOPS = 1500
"""Of units that are simulated, for the time that it takes."""


def small(sample: Sample, most: int = MOST_FLIP_FLOPS) -> bool:
    """Whether a unit has at most so many flip-flops, its memories among them: others take long."""
    counts = sample.counts
    bits = sum(int(np.max(m.width) * np.max(m.depth) * np.max(m.banks)) for m in counts.memories)
    few = int(np.max(counts.ff)) <= most and bits <= 4 * most
    return few and not np.any(counts.dsp)
