"""Calibration of the clock: the longest paths of units of drawn parameters."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from syq_dse import records
from syq_dse.cost import clock
from syq_dse.cost.clock import Delays, UnitDelay
from syq_dse.cost.prices import UNITS
from syq_dse.errors import InputError
from syq_dse.rtl import delays, gates, yosys
from syq_dse.rtl.calibrate import Progress, draw_of, draws, in_batches
from syq_dse.rtl.energy_calibration import small
from syq_dse.rtl.fit import FOLDS, weighted_nnls
from syq_dse.rtl.liberty import Library
from syq_dse.rtl.runs import natural
from syq_dse.rtl.samples import Sample
from syq_dse.technology import FAMILY, Technology

Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Runs of a unit that a fit and its errors need."""

GAIN = 0.03
"""Share of the mean error that a size must take away to be one that a path goes by."""

LEAST_GAIN = 0.0005
"""The same of small errors, relative to a path."""

MOST_FLIP_FLOPS = 600
"""Of units that are timed, for the time that it takes."""


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
) -> Delays:
    """Time units of every kind; write TECHNOLOGY-clock.toml and its samples.

    Raises:
        InputError: a unit fails, or there are too few runs.
    """
    if runs < FEWEST:
        raise InputError(f"{runs} runs a unit are too few for a fit of paths; at least {FEWEST}")
    register = delays.register_ns(library)
    drawn = [
        one for unit in UNITS for one in draws(unit, draw_of(unit), FAMILY, runs, seed, _small)
    ]
    timed = partial(
        delays.measure, library=library, dont_use=technology.dont_use, timeout_s=timeout_s
    )
    paths = in_batches(drawn, timed, jobs=jobs, progress=progress)
    samples = [
        Timed(
            unit=one.unit,
            run=one.number,
            seed=one.seed,
            parameters={
                name: value if isinstance(value, str) else int(value)
                for name, value in one.sample.parameters.items()
            },
            path_ns=round(register + paths[one.name], 4),
        )
        for one in drawn
    ]
    found = Delays(
        technology=technology.name,
        status="calibrated",
        source=(
            "longest paths of synthesised units of random parameters, buffered and sized for it, "
            "and a flip-flop; no wires, no clock skew, typical corner, by `syq-dse calibrate "
            f"--technology {technology.name} --clock --runs {runs} --seed {seed}`"
        ),
        tool=f"{yosys.version()} {gates.COMMAND}; buffer; upsize; dnsize; stime",
        register_ns=_rounded(register),
        units=_units(samples),
    )
    records.make_folder(out)
    records.write_text(out / f"{technology.name}-clock.csv", _text(samples))
    records.write_text(out / f"{technology.name}-clock.toml", clock.text(found))
    return found


def refit(technology: Technology, out: Path) -> Delays:
    """Fit the samples in a folder again.

    Raises:
        InputError: a file is missing or broken.
    """
    path = out / f"{technology.name}-clock.toml"
    found = replace(
        records.load(path, Delays), units=_units(read(out / f"{technology.name}-clock.csv"))
    )
    records.write_text(path, clock.text(found))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One unit of drawn parameters, and its longest path."""

    unit: str
    run: int
    seed: int
    parameters: Mapping[str, int | str]
    path_ns: float


def _units(samples: Sequence[Timed]) -> dict[str, UnitDelay]:
    return {unit: fit(unit, [one for one in samples if one.unit == unit]) for unit in UNITS}


def _small(sample: Sample) -> bool:
    return small(sample, MOST_FLIP_FLOPS)


def fit(unit: str, samples: Sequence[Timed]) -> UnitDelay:
    """Non-negative least squares on relative errors, and those of runs that it had not seen.

    Sizes are taken one by one while they bring errors of unseen runs down by GAIN: what a path does
    not go by would else be fitted to chance. Paths shorter than the median weigh, and are off, as
    if they had its length: they limit nothing.
    """
    found = [clock.features(unit, one.parameters) for one in samples]
    made = np.array([one.path_ns for one in samples])
    chosen = list(dict.fromkeys(next(iter(row)) for row in found))  # the kinds
    sizes = sorted({name for row in found for name in row} - set(chosen))
    weight = 1 / np.maximum(made, np.median(made))

    def columns(names: Sequence[str]) -> Floats:
        return np.array([[row.get(name, 0.0) for name in names] for row in found])

    def off(names: Sequence[str]) -> Floats:
        rows, folds = columns(names), min(FOLDS, len(made))
        held = np.zeros(len(made))
        for fold in range(folds):
            test = np.arange(len(made)) % folds == fold
            held[test] = rows[test] @ weighted_nnls(rows[~test], made[~test], weight[~test])
        found_off: Floats = abs(held - made) * weight
        return found_off

    error = off(chosen)
    while sizes:
        tried = {name: off([*chosen, name]) for name in sizes}
        best = min(tried, key=lambda name: tried[name].mean())
        if error.mean() - tried[best].mean() < max(GAIN * error.mean(), LEAST_GAIN):
            break
        chosen, error = [*chosen, best], tried[best]
        sizes.remove(best)
    price = weighted_nnls(columns(chosen), made, weight)
    return UnitDelay(
        runs=len(made),
        ns={name: _rounded(value) for name, value in zip(chosen, price, strict=True)},
        least_ns=_rounded(made.min()),
        most_ns=_rounded(made.max()),
        error={"mean": _rounded(error.mean()), "worst": _rounded(error.max())},
    )


COLUMNS = ("unit", "run", "seed", "parameters", "path_ns")


def _text(samples: Sequence[Timed]) -> str:
    """What was timed, as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in samples:
        parameters = json.dumps(dict(one.parameters))
        writer.writerow((one.unit, one.run, one.seed, parameters, one.path_ns))
    return stream.getvalue()


def read(path: Path) -> list[Timed]:
    """The samples of a CSV file.

    Raises:
        InputError: it cannot be read, or a line is not as `_text` writes it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [
                Timed(
                    unit=row["unit"],
                    run=natural(row["run"]),
                    seed=natural(row["seed"]),
                    parameters=json.loads(row["parameters"]),
                    path_ns=float(row["path_ns"]),
                )
                for row in csv.DictReader(stream)
            ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no table of paths: {error}; calibrate anew") from None


def _rounded(value: float) -> float:
    return float(f"{float(value):.4g}")
