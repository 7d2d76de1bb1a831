"""Calibration of a technology: units of drawn parameters as gates, and the prices that follow."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse import records
from syq_dse.cost import gates as prices
from syq_dse.cost.gates import CONSTANT, PRICED, GatePrices, UnitGates
from syq_dse.errors import InputError
from syq_dse.rtl import calibrate, gates, yosys
from syq_dse.rtl.calibrate import Drawn, Progress, draw_of, draws
from syq_dse.rtl.fit import DIGITS, FOLDS, ROBUST_STEPS, ranges, weighted_nnls
from syq_dse.rtl.liberty import Library
from syq_dse.rtl.runs import natural
from syq_dse.rtl.samples import Sample
from syq_dse.technology import FAMILY, Technology

Floats = npt.NDArray[np.float64]

SMALL = 200
"""Below so many gate equivalents a relative error says little: such units weigh as if they had so
many."""

BAR = {"mean": 0.04, "worst": 0.15}
"""Errors, on units of SMALL gate equivalents and more, that prices should reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One unit of drawn parameters as gates."""

    unit: str
    run: int  # which draw of the unit, with `seed`
    seed: int
    parameters: Mapping[str, int | str]
    features: Mapping[str, float]
    area_um2: float
    flip_flop_um2: float  # part of it
    gates: float  # gate equivalents
    held_out: float = 0.0  # gate equivalents, by prices that were fitted without it


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFit:
    """Prices of one unit, and where they are weakest."""

    unit: str
    prices: UnitGates
    worst: Run | None
    unseen: tuple[str, ...]  # features that are zero in all runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    prices: GatePrices
    runs: tuple[Run, ...]
    fits: tuple[UnitFit, ...]


def run_calibration(
    technology: Technology,
    library: Library,
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
    """Draw, synthesise and fit units; write TECHNOLOGY_samples.csv and TECHNOLOGY.toml.

    Units that are not named keep the prices and runs that stand in `out`, or the shipped ones.

    Args:
        units: none for all.
        cache: folder of results of synthesis; what is there is not synthesised again.
        jobs: runs of Yosys at a time.

    Raises:
        InputError: a unit fails or takes too long; nothing is written.
    """
    named = list(units or PRICED)
    drawn = [
        one for unit in named for one in draws(unit, draw_of(unit), FAMILY, runs, seed, _no_dsp)
    ]
    made = _measure(drawn, technology, library, cache, jobs, timeout_s, progress)
    measured = [_run(one, made[one.name], library, technology) for one in drawn]
    kept = _kept(technology.name, out, [unit for unit in PRICED if unit not in named])
    options = "".join(f" --unit {unit}" for unit in units) + f" --runs {runs} --seed {seed}"
    return _finish(technology, library, [*kept, *measured], named, out, options)


def refit(technology: Technology, library: Library, units: Sequence[str], out: Path) -> Calibration:
    """Fit again from the samples in `out`, or the shipped ones, with the counts of now.

    It takes the hardware to be the one that was synthesised.
    """
    named = list(units or PRICED)
    found = _kept(technology.name, out, PRICED)
    again = []
    for run in found:
        if run.unit not in named:
            again.append(run)
            continue
        sample = calibrate.redrawn(run, FAMILY, f"{technology.name}_samples.csv")
        again.append(replace(run, features=_features(run.unit, sample)))
    options = "".join(f" --unit {unit}" for unit in units) + " --refit"
    return _finish(technology, library, again, named, out, options)


def _no_dsp(sample: Sample) -> bool:
    return not np.any(sample.counts.dsp)


def _features(unit: str, sample: Sample) -> dict[str, float]:
    if unit in (prices.REGISTERS, prices.TABLE):
        (memory,) = sample.counts.memories
        found = prices.registers(memory) if unit == prices.REGISTERS else prices.table(memory)
    else:
        found = prices.logic(sample.counts, sample.styles)
    return {name: _number(count) for name, count in found.items()}


def _number(value: Any) -> float:
    number = round(float(np.asarray(value).reshape(-1)[0]), 3)
    return int(number) if number.is_integer() else number


def _run(one: Drawn, made: gates.Mapped, library: Library, technology: Technology) -> Run:
    return Run(
        unit=one.unit,
        run=one.number,
        seed=one.seed,
        parameters={
            name: value if isinstance(value, str) else int(value)
            for name, value in one.sample.parameters.items()
        },
        features=_features(one.unit, one.sample),
        area_um2=round(made.area * technology.area_scale, 4),
        flip_flop_um2=round(made.flip_flop_area * technology.area_scale, 4),
        gates=round(made.gate_equivalents(library), 2),
    )


# Synthesis


def _measure(
    drawn: Sequence[Drawn],
    technology: Technology,
    library: Library,
    cache: Path,
    jobs: int,
    timeout_s: float,
    progress: Progress,
) -> dict[str, gates.Mapped]:
    """Synthesise draws: memories as gates where they are the unit, else as black boxes."""
    memories = [one for one in drawn if one.unit in (prices.REGISTERS, prices.TABLE)]
    rest = [one for one in drawn if one.unit not in (prices.REGISTERS, prices.TABLE)]
    made: dict[str, gates.Mapped] = {}
    for part, boxes in ((rest, "all"), (memories, "sram")):
        synthesised = partial(
            gates.synthesise,
            library=library,
            boxes=boxes,
            dont_use=technology.dont_use,
            cache=cache,
            timeout_s=timeout_s,
        )
        shift = partial(_shifted, progress, len(made), len(drawn))
        made |= calibrate.in_batches(part, synthesised, jobs=jobs, progress=shift)
    return made


def _shifted(progress: Progress, before: int, total: int, done: int, _: int, what: str) -> None:
    """Progress of a part of a work, behind others."""
    progress(before + done, total, what)


# Fit


def fit(unit: str, runs: Sequence[Run]) -> tuple[UnitFit, list[Run]]:
    """Prices by non-negative least squares on relative errors, and the runs with what prices that
    had not seen them say.

    A fit that gives outliers less weight is taken where it predicts unseen runs better.

    Raises:
        InputError: fewer than two runs.
    """
    if len(runs) < 2:
        raise InputError(f"{unit}: {len(runs)} runs are too few to fit prices; raise --runs")
    names = list(dict.fromkeys(name for run in runs for name in run.features))
    rows = np.array([[run.features.get(name, 0.0) for name in names] for run in runs])
    rows = np.hstack([(rows > 0).any(axis=1, keepdims=True), rows]).astype(np.float64)
    made = np.array([run.gates for run in runs])
    held = {steps: _held_out(rows, made, steps) for steps in (0, ROBUST_STEPS)}
    steps = min(held, key=lambda s: _score(held[s], made))
    solved = _solve(rows, made, steps)
    error = held[steps] / np.maximum(made, 1) - 1
    large = made >= SMALL
    errors = {"large_runs": float(large.sum())}
    if large.any():
        errors |= {"mean": abs(error[large]).mean(), "worst": abs(error[large]).max()}
    if not large.all():
        errors |= {"small_worst_gates": abs(held[steps] - made)[~large].max()}
    worst = int(np.argmax(np.where(large, abs(error), -1))) if large.any() else None
    again = [
        replace(run, held_out=round(float(value), 2))
        for run, value in zip(runs, held[steps], strict=True)
    ]
    found = UnitFit(
        unit=unit,
        prices=UnitGates(
            runs=len(runs),
            gates={
                name: _rounded(value)
                for name, value in zip([CONSTANT, *names], solved, strict=True)
            },
            valid=ranges(runs),
            error={name: _rounded(value) for name, value in errors.items()},
        ),
        worst=None if worst is None else again[worst],
        unseen=tuple(n for n, column in zip(names, rows.T[1:], strict=True) if not column.any()),
    )
    return found, again


def _rounded(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def _solve(rows: Floats, made: Floats, steps: int) -> Floats:
    weight = 1 / np.maximum(made, SMALL)
    price = weighted_nnls(rows, made, weight)
    for _ in range(steps):
        off = abs(rows @ price - made) * weight
        price = weighted_nnls(rows, made, weight / np.sqrt(np.maximum(off, 1e-3)))
    return price


def _held_out(rows: Floats, made: Floats, steps: int) -> Floats:
    folds = min(FOLDS, len(made))
    out = np.zeros(len(made))
    for fold in range(folds):
        test = np.arange(len(made)) % folds == fold
        out[test] = rows[test] @ _solve(rows[~test], made[~test], steps)
    return out


def _score(held: Floats, made: Floats) -> float:
    """How far errors are from the bar: the mean and the worst weigh as the bar has them."""
    large = made >= SMALL if (made >= SMALL).any() else made >= 0
    off = abs(held[large] / np.maximum(made[large], 1) - 1)
    return float(off.mean() / BAR["mean"] + off.max() / BAR["worst"])


# Files


def _finish(
    technology: Technology,
    library: Library,
    runs: Sequence[Run],
    named: Sequence[str],
    out: Path,
    options: str,
) -> Calibration:
    fits, every = [], []
    for unit in PRICED:
        own = [run for run in runs if run.unit == unit]
        if own:
            found, again = fit(unit, own)
            every += again
            fits.append(found)
    held = calibrate.find_table(out, f"{technology.name}.toml", prices.FOLDER)
    earlier = re.findall("`(.*?)`", records.load(held, GatePrices).source) if held else []
    command = f"syq-dse calibrate --technology {technology.name}{options}"
    commands = ", ".join(f"`{one}`" for one in calibrate.needed([*earlier, command]))
    found_prices = GatePrices(
        technology=technology.name,
        status="calibrated" if len(fits) == len(PRICED) else "uncalibrated",
        source=(
            f"non-negative least squares on synthesised units of random parameters, by {commands}"
        ),
        tool=f"{yosys.version()} {gates.COMMAND}",
        library={file.name: file.sha256 for file in library.files},
        nand2=library.nand2,
        nand2_um2=_rounded(library.nand2_area * technology.area_scale),
        units={one.unit: one.prices for one in fits},
    )
    records.make_folder(out)
    records.write_text(out / f"{technology.name}_samples.csv", _text(every))
    records.write_text(out / f"{technology.name}.toml", prices.text(found_prices))
    return Calibration(
        prices=found_prices,
        runs=tuple(every),
        fits=tuple(one for one in fits if one.unit in named),
    )


COLUMNS = (
    *("unit", "run", "seed", "parameters", "features"),
    *("area_um2", "flip_flop_um2", "gates", "held_out"),
)


def _text(runs: Sequence[Run]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        texts = json.dumps(dict(run.parameters)), json.dumps(dict(run.features))
        numbers = run.area_um2, run.flip_flop_um2, run.gates, run.held_out
        writer.writerow([run.unit, run.run, run.seed, *texts, *numbers])
    return stream.getvalue()


def _kept(technology: str, out: Path, units: Sequence[str]) -> list[Run]:
    """Runs of units in the user's folder, or the shipped ones; none where there is neither."""
    path = calibrate.find_table(out, f"{technology}_samples.csv", prices.FOLDER)
    if path is None:
        return []
    return [run for run in read(path) if run.unit in units]


def read(path: Path) -> list[Run]:
    """The runs of a CSV file.

    Raises:
        InputError: it cannot be read, or a line is not as `_text` writes it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [
            Run(
                unit=row["unit"],
                run=natural(row["run"]),
                seed=natural(row["seed"]),
                parameters=json.loads(row["parameters"]),
                features=json.loads(row["features"]),
                **{name: float(row[name]) for name in COLUMNS[5:]},
            )
            for row in rows
        ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no table of runs: {error}; calibrate anew") from None
