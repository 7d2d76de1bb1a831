"""Calibration of energy: units of drawn parameters, simulated gate by gate on random words."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from syq_dse import records
from syq_dse.cost import cycle_energy
from syq_dse.cost.cycle_energy import CycleEnergy, UnitEnergy
from syq_dse.cost.gates import PRICED
from syq_dse.errors import InputError
from syq_dse.rtl import gates, toggles, yosys
from syq_dse.rtl.calibrate import Drawn, Progress, draw_of, draws
from syq_dse.rtl.liberty import Library, cells
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.toggles import Energy
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
    jobs: int = 1,
    timeout_s: float = yosys.TIMEOUT_S,
    progress: Progress = lambda done, total, what: None,
) -> CycleEnergy:
    """Simulate units of every kind; write TECHNOLOGY-energy.toml.

    Args:
        jobs: processes that simulate.

    Raises:
        InputError: a unit fails, or there are too few runs.
    """
    if runs < FEWEST:
        raise InputError(
            f"{runs} runs a unit are too few for a range of energies; at least {FEWEST}"
        )
    volts = technology.supply_v
    drawn = [
        one for unit in PRICED for one in draws(unit, draw_of(unit), FAMILY, runs, seed, _simulated)
    ]
    each: dict[str, list[tuple[float, Energy]]] = {unit: [] for unit in PRICED}
    with ProcessPoolExecutor(jobs) as pool:
        measured = partial(_measured, library=library, technology=technology, timeout_s=timeout_s)
        batches = [drawn[first : first + BATCH] for first in range(0, len(drawn), BATCH)]
        waiting = [
            pool.submit(measured, {one.name: _verilog(one) for one in batch}, seed)
            for batch in batches
        ]
        try:
            for number, (batch, done) in enumerate(zip(batches, waiting, strict=True)):
                progress(number * BATCH, len(drawn), "units simulated")
                found = done.result()
                for one in batch:
                    each[one.unit].append(found[one.name])
        finally:
            pool.shutdown(cancel_futures=True)
    units = {unit: _unit(found) for unit, found in each.items()}
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


BATCH = 6
"""Units that one process synthesises and simulates at a time."""

SMALL = 200
"""Gate equivalents of the least unit whose energy counts, where there are such."""


def _verilog(one: Drawn) -> str:
    return emit({one.name: one.sample.unit})[one.name]


def _measured(
    modules: dict[str, str],
    seed: int,
    library: Library,
    technology: Technology,
    timeout_s: float,
) -> dict[str, tuple[float, Energy]]:
    """Gate equivalents and energy of modules."""
    area, found = toggles.measure(
        modules, library, technology.supply_v, technology.dont_use, seed, timeout_s
    )
    return {name: (area[name].gate_equivalents(library), found[name]) for name in modules}


def _unit(found: Sequence[tuple[float, Energy]]) -> UnitEnergy:
    """The middle of units that are large enough, and their range."""
    large = [one for one in found if one[0] >= SMALL] or list(found)
    each = np.array([1000 * energy.logic_pj / max(1.0, gates) for gates, energy in large])
    low, middle, high = np.quantile(each, (0.1, 0.5, 0.9))
    return UnitEnergy(
        runs=len(found),
        fj=float(f"{middle:.4g}"),
        low=float(f"{low:.4g}"),
        high=float(f"{high:.4g}"),
        toggles=float(f"{np.mean([energy.toggles for _, energy in large]):.3g}"),
    )


MOST_FLIP_FLOPS = 1500
"""Of units that are simulated, for the time that it takes."""


def small(sample: Sample, most: int = MOST_FLIP_FLOPS) -> bool:
    """Whether a unit has at most so many flip-flops, its memories among them: others take long."""
    counts = sample.counts
    bits = sum(int(np.max(m.width) * np.max(m.depth) * np.max(m.banks)) for m in counts.memories)
    few = int(np.max(counts.ff)) <= most and bits <= 4 * most
    return few and not np.any(counts.dsp)


def _simulated(sample: Sample) -> bool:
    """Tables of any size, since a few cycles are all that they need."""
    counts = sample.counts
    alone = not counts.lut and bool(counts.memories) and counts.memories[0].constant
    return alone or small(sample)
