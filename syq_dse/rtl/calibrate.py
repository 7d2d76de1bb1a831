"""Calibration: units of drawn parameters, synthesised, and the price file that follows."""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol, TypeVar

import numpy as np

from syq_dse import catalogue, records
from syq_dse.cost import fpga
from syq_dse.cost.counts import Memory
from syq_dse.cost.gates import PRICED
from syq_dse.cost.prices import UNITS, LutPrices, lut_text
from syq_dse.errors import InputError
from syq_dse.rtl import runs as tables
from syq_dse.rtl import yosys
from syq_dse.rtl.fit import UnitFit, estimates, fit
from syq_dse.rtl.runs import RESOURCES, Run
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.synthesis import COMMANDS, Synthesis, synthesise
from syq_dse.rtl.verilog import emit
from syq_dse.target import Family, load_family

Draw = Callable[[np.random.Generator, Family], Sample]

Made = TypeVar("Made")

Progress = Callable[[int, int, str], None]
"""Units done, units in all, what they are."""

BATCH = 8
"""Units that one run of Yosys synthesises: its start takes as long as several small units."""

MOST_DRAWS = 20
"""Draws for each run that is wanted, before small spaces of parameters count as exhausted."""

STYLES: Mapping[str, Callable[[Memory, Family], fpga.Resources]] = {
    "distributed": fpga.distributed,
    "block": fpga.block,
    "ultra": fpga.ultra,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A family's prices and the runs that they follow from."""

    prices: LutPrices
    runs: tuple[Run, ...]
    fits: tuple[UnitFit, ...]  # of the units that were fitted now


def calibrate(
    family: str,
    units: Sequence[str],
    *,
    out: Path,
    cache: Path,
    runs: int,
    seed: int,
    jobs: int = 1,
    timeout_s: float = yosys.TIMEOUT_S,
    progress: Progress = lambda done, total, what: None,
) -> Calibration:
    """Draw, synthesise and fit units of a family; write FAMILY_samples.csv and FAMILY.toml.

    Units that are not named keep the prices and runs that stand in `out`, or the shipped ones.

    Args:
        units: none for all.
        cache: folder of results of synthesis; what is there is not synthesised again.
        jobs: runs of Yosys at a time.
        timeout_s: for one run of Yosys.

    Raises:
        InputError: a unit fails or takes too long, named with its parameters; nothing is written.
    """
    named = list(units or UNITS)
    part, tool = load_family(family), _tool(family)
    kept_prices, kept_runs = _kept(family, named, tool, out)
    drawn = [d for unit in named for d in draws(unit, draw_of(unit), part, runs, seed)]
    made = measure(drawn, family, cache, jobs=jobs, timeout_s=timeout_s, progress=progress)
    measured = [d.run(part, result, tool) for d, result in zip(drawn, made, strict=True)]
    options = f"{_options(units)} --runs {runs} --seed {seed}"
    return _finish(family, tool, options, kept_prices, [*kept_runs, *measured], named, out)


def refit(family: str, units: Sequence[str], *, out: Path) -> Calibration:
    """Fit again from the samples in `out`, or the shipped ones, with the counts of now.

    It takes the hardware to be the one that was synthesised.

    Raises:
        InputError: no samples, or a unit is now drawn with other parameters.
    """
    table = find_table(out, f"{family}_samples.csv")
    if table is None:
        raise InputError(f"{out / f'{family}_samples.csv'}: no such file; run without --refit")
    part, named = load_family(family), list(units or UNITS)
    found = [run for run in tables.read(table) if run.unit in named]
    for unit in named:
        if not any(run.unit == unit for run in found):
            raise InputError(f"{table}: has no runs of {unit}; run without --refit")
    tool = found[0].tool
    kept_prices, kept_runs = _kept(family, named, tool, out)
    again = [_recount(run, part, table) for run in found]
    options = f"{_options(units)} --refit"
    return _finish(family, tool, options, kept_prices, [*kept_runs, *again], named, out)


def _recount(run: Run, family: Family, table: Path) -> Run:
    """A run with the features and counts of now."""
    sample = redrawn(run, family, str(table))
    drawn = Drawn(unit=run.unit, number=run.run, seed=run.seed, sample=sample)
    return drawn.run(family, run.synthesised, run.tool)


class Placed(Protocol):
    """Which draw of a unit a run is of."""

    @property
    def unit(self) -> str: ...
    @property
    def run(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def parameters(self) -> Mapping[str, int | str]: ...


def redrawn(run: Placed, family: Family, place: str) -> Sample:
    """The sample of a run, drawn again.

    Raises:
        InputError: it has other parameters now.
    """
    sample = draw_one(run.unit, draw_of(run.unit), family, run.seed, run.run)
    if shown(sample.parameters) != shown(run.parameters):
        raise InputError(
            f"{place}: run {run.run} of {run.unit} is now drawn as "
            f"{shown(sample.parameters)}, was {shown(run.parameters)}; run without --refit"
        )
    return sample


# Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One draw of a unit, before synthesis."""

    unit: str
    number: int
    seed: int
    sample: Sample

    @property
    def name(self) -> str:
        """Name of its module: the same in every calibration, so that the cache knows it."""
        return f"{self.unit}_{self.seed}_{self.number}"

    def run(self, family: Family, made: Synthesis, tool: str) -> Run:
        """Its counts beside what synthesis made of it."""
        counts, styles = self.sample.counts, self.sample.styles
        row = np.zeros(fpga.HALVES + 1, dtype=np.int64)
        for memory, style in zip(counts.memories, styles, strict=True):
            row += STYLES[style](memory, family).reshape(-1)
        memories = fpga.as_mapping(row[: fpga.HALVES])
        own = {"ff": _number(counts.ff), "dsp": _number(counts.dsp)}
        return Run(
            unit=self.unit,
            run=self.number,
            seed=self.seed,
            parameters={
                name: value if isinstance(value, str) else int(value)
                for name, value in self.sample.parameters.items()
            },
            features={name: _number(bits) for name, bits in counts.lut.items()},
            memory_lut=memories["lut"],
            memory_halves=int(row[fpga.HALVES]),
            counted={name: int(own.get(name, 0)) + memories[name] for name in RESOURCES},
            synthesised=made,
            tool=tool,
        )


def draw_of(unit: str) -> Draw:
    """The function that draws samples of a unit."""
    module = f"syq_dse.rtl.samples.{unit}"
    try:
        draw: Draw = importlib.import_module(module).draw
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f"{unit}: has no samples ({module})") from None
    return draw


def draws(
    unit: str,
    draw: Draw,
    family: Family,
    runs: int,
    seed: int,
    keep: Callable[[Sample], bool] = lambda sample: True,
) -> list[Drawn]:
    """`runs` samples with different parameters, or fewer where there are no more.

    Each has a generator of its own, so that more runs contain the fewer.

    Args:
        keep: which samples count.
    """
    found: dict[str, Drawn] = {}
    for number in range(MOST_DRAWS * runs):
        if len(found) == runs:
            break
        sample = draw_one(unit, draw, family, seed, number)
        if not keep(sample):
            continue
        found.setdefault(
            shown(sample.parameters),
            Drawn(unit=unit, number=number, seed=seed, sample=sample),
        )
    return list(found.values())


def draw_one(unit: str, draw: Draw, family: Family, seed: int, number: int) -> Sample:
    return draw(np.random.default_rng([seed, zlib.crc32(unit.encode()), number]), family)


def _number(value: Any) -> float:
    """A count of one folding; whole ones as int, which JSON shows as such."""
    number = float(np.asarray(value).item())
    return int(number) if number.is_integer() else number


def shown(parameters: Mapping[str, int | str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


# Synthesis


def measure(
    drawn: Sequence[Drawn],
    family: str,
    cache: Path,
    *,
    jobs: int = 1,
    timeout_s: float = yosys.TIMEOUT_S,
    progress: Progress = lambda done, total, what: None,
) -> list[Synthesis]:
    """Synthesise draws in batches, `jobs` at a time.

    Raises:
        InputError: one fails; those that run are waited for and stay in the cache.
    """
    made = in_batches(
        drawn,
        lambda modules: synthesise(modules, family, cache, timeout_s),
        jobs=jobs,
        progress=progress,
    )
    return [made[one.name] for one in drawn]


def in_batches(
    drawn: Sequence[Drawn],
    synthesised: Callable[[Mapping[str, str]], Mapping[str, Made]],
    *,
    jobs: int,
    progress: Progress,
) -> dict[str, Made]:
    """What synthesis makes of draws, by their names: in batches, `jobs` at a time.

    Raises:
        InputError: one fails, named with its parameters; those that run are waited for.
    """
    batches = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
    made: dict[str, Made] = {}
    stop = Event()
    pool = ThreadPoolExecutor(jobs)  # threads that wait for Yosys, a process of its own
    try:
        waiting = [pool.submit(_batch, batch, synthesised, stop) for batch in batches]
        for done in as_completed(waiting):
            made |= done.result()
            progress(len(made), len(drawn), "units synthesised")
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return made


def _batch(
    batch: Sequence[Drawn],
    synthesised: Callable[[Mapping[str, str]], Mapping[str, Made]],
    stop: Event,
) -> Mapping[str, Made]:
    """One batch in one run; where that fails, each by itself, to find which one it is."""
    try:
        return synthesised(emit({one.name: one.sample.unit for one in batch}))
    except InputError as error:
        if stop.is_set():
            raise
        if len(batch) == 1:
            raise InputError(
                f"{batch[0].unit} ({shown(batch[0].sample.parameters)}): {error}"
            ) from None
    made: dict[str, Made] = {}
    for one in batch:
        made |= _batch([one], synthesised, stop)
    return made


# Files


def cache_folder() -> Path:
    """Where results of synthesis stay between calibrations."""
    return catalogue.cache_folder("synthesis")


def _kept(
    family: str, named: Sequence[str], tool: str, out: Path
) -> tuple[LutPrices | None, list[Run]]:
    """Prices and runs of the units that are not calibrated now."""
    path, table = find_table(out, f"{family}.toml"), find_table(out, f"{family}_samples.csv")
    if set(named) >= set(UNITS) or path is None:
        return None, []
    prices = records.load(path, LutPrices)
    others = [unit for unit, of in prices.units.items() if of.runs and unit not in named]
    if others and prices.tool != tool:
        raise InputError(
            f"{path}: {others[0]} was synthesised by '{prices.tool}', not by '{tool}'; "
            "calibrate all units"
        )
    return prices, [run for run in tables.read(table) if run.unit in others] if table else []


def find_table(out: Path, name: str, subfolder: str = "calibration") -> Path | None:
    """A file in the user's folder, or else the shipped one."""
    places = (out / name, catalogue.folder("hwmodels") / subfolder / name)
    return next((path for path in places if path.is_file()), None)


def _finish(
    family: str,
    tool: str,
    options: str,
    kept: LutPrices | None,
    runs: Sequence[Run],
    named: Sequence[str],
    out: Path,
) -> Calibration:
    inputs = load_family(family).lut_inputs
    fits = [fit(unit, [run for run in runs if run.unit == unit], inputs) for unit in named]
    found = (kept.units if kept else {}) | {one.unit: one.prices for one in fits}
    units = {unit: found[unit] for unit in UNITS if unit in found}
    done = len(units) == len(UNITS) and all(of.runs for of in units.values())
    command = f"syq-dse calibrate --family {family}{options}"
    earlier = re.findall("`(.*?)`", kept.source) if kept else []
    commands = ", ".join(f"`{one}`" for one in needed([*earlier, command]))
    prices = LutPrices(
        family=family,
        status="calibrated" if done else "uncalibrated",
        source=(
            f"non-negative least squares on synthesised units of random parameters, by {commands}"
        ),
        tool=tool,
        units=units,
    )
    by_unit = {unit: [run for run in runs if run.unit == unit] for unit in UNITS}
    estimated = [
        replace(run, estimated_lut=lut)
        for unit, members in by_unit.items()
        for run, lut in zip(
            members, estimates(units[unit], members) if members else [], strict=True
        )
    ]
    records.make_folder(out)
    records.write_text(out / f"{family}_samples.csv", tables.text(estimated))
    records.write_text(out / f"{family}.toml", lut_text(prices))
    return Calibration(prices=prices, runs=tuple(estimated), fits=tuple(fits))


def needed(commands: Sequence[str]) -> list[str]:
    """Those of some commands that later ones have left something of: samples, or their fit.

    >>> runs = ["calibrate", "calibrate --unit mac --runs 9", "calibrate --unit mac --refit"]
    >>> needed([*runs, "calibrate --unit mac --runs 12"])
    ['calibrate', 'calibrate --unit mac --runs 12']
    """
    drawn: set[str] = set()
    fitted: set[str] = set()
    kept = []
    for command in reversed(commands):
        units = set(re.findall(r"--unit (\S+)", command)) or set(PRICED)
        refit = command.endswith("--refit")
        if units - (fitted if refit else drawn):
            kept.append(command)
        fitted |= units
        drawn |= set() if refit else units
    return kept[::-1]


def _tool(family: str) -> str:
    return f"{yosys.version()} {COMMANDS[family]}"


def _options(units: Sequence[str]) -> str:
    return "".join(f" --unit {unit}" for unit in units)
