"""Prices from runs: what a bit of each feature of a unit costs, and how far that is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from syq_dse.cost.fpga import logic_cells
from syq_dse.cost.prices import CONSTANT, UnitPrices
from syq_dse.errors import InputError
from syq_dse.rtl.runs import RESOURCES, Run
from syq_dse.rtl.synthesis import lut_parts

Floats = npt.NDArray[np.float64]

SMALL_LUT = 50
"""Below so many LUTs a relative error says little: such units weigh as if they had so many."""

FOLDS = 5
"""Parts of the runs, each priced by a fit to the others."""

DIGITS = 4
"""Significant digits of a price."""

BAR = {"lut_mean": 0.03, "lut_worst": 0.12}
"""Errors, on units of SMALL_LUT and more, that prices should reach."""


class Drawn(Protocol):
    """A run of drawn parameters."""

    @property
    def parameters(self) -> Mapping[str, int | str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFit:
    """Prices of one unit, and where they are weakest."""

    unit: str
    prices: UnitPrices
    worst: Run | None  # the unit of SMALL_LUT and more with the largest held-out error
    worst_error: float  # its estimate / synthesis - 1
    suspect: str  # the feature with whose share of the LUTs the errors go
    unseen: tuple[str, ...]  # features that are zero in all runs: their price is 0, and unfounded

    @property
    def reached(self) -> bool:
        """Whether the errors stay within BAR."""
        return all(self.prices.error.get(name, 0.0) <= most for name, most in BAR.items())


def fit(unit: str, runs: Sequence[Run], lut_inputs: int) -> UnitFit:
    """Fit the LUT prices of one unit by non-negative least squares on relative errors.

    LUTs of three inputs and more, and halves of LUTs, are fitted each by itself, since both add up
    and the LUTs that they take do not (cost.fpga.HALVES). A fit that gives outliers less weight is
    taken where it predicts unseen runs better. Errors, all against synthesis: `lut_mean` and
    `lut_worst` of held-out units of SMALL_LUT and more, relative; `lut_small_worst` of smaller ones
    [LUTs]; `ff_mean` and `ff_worst` of all, relative to at least SMALL_LUT flip-flops;
    `RESOURCE_mismatches`, runs whose count is not exact.

    Args:
        lut_inputs: of a LUT of the family.

    Raises:
        InputError: fewer than two runs.
    """
    if len(runs) < 2:
        raise InputError(f"{unit}: {len(runs)} runs are too few to fit prices; raise --runs")
    names = list(dict.fromkeys(name for run in runs for name in run.features))
    made = np.array([run.synthesised.lut for run in runs], dtype=np.float64)
    parts = np.array([_logic(run, lut_inputs) for run in runs], dtype=np.float64)
    memory = _memories(runs)
    features = _features(runs, names)
    large = made >= SMALL_LUT

    held = {
        steps: _held_out(features, made, parts, memory, steps) / np.maximum(made, 1) - 1
        for steps in (0, ROBUST_STEPS)
    }
    steps = min(held, key=lambda s: _score(held[s][large] if large.any() else held[s]))
    error = held[steps]
    price = _solve(features, made, parts, steps)
    lut = {
        name: (float(f"{whole:.{DIGITS}g}"), float(f"{half:.{DIGITS}g}"))
        for name, (whole, half) in zip([CONSTANT, *names], price, strict=True)
    }
    worst = int(np.argmax(np.where(large, abs(error), -1))) if large.any() else None
    return UnitFit(
        unit=unit,
        prices=UnitPrices(
            runs=len(runs), lut=lut, valid=ranges(runs), error=_errors(runs, error, made)
        ),
        worst=None if worst is None else runs[worst],
        worst_error=0.0 if worst is None else float(error[worst]),
        suspect=_suspect(features, logic_cells(*price.T), made, error, [CONSTANT, *names]),
        unseen=tuple(n for n, column in zip(names, features.T[1:], strict=True) if not any(column)),
    )


def estimates(prices: UnitPrices, runs: Sequence[Run]) -> list[int]:
    """LUTs of runs by some prices, memories included, rounded as `cost.fpga.resources` does."""
    names = [name for name in prices.lut if name != CONSTANT]
    price = np.array([prices.lut[CONSTANT], *(prices.lut[name] for name in names)])
    return [int(lut) for lut in _estimate(_features(runs, names), price, _memories(runs))]


def _logic(run: Run, lut_inputs: int) -> tuple[int, int]:
    """LUTs and halves that synthesis made, less those of the memories."""
    luts, halves = lut_parts(run.synthesised.cells, lut_inputs)
    stores = run.counted["lutram"]
    beside = run.memory_lut - stores, run.memory_halves - 2 * stores * (lut_inputs >= 6)
    return max(0, luts - beside[0]), max(0, halves - beside[1])


def _memories(runs: Sequence[Run]) -> Floats:
    return np.array([[run.memory_lut, run.memory_halves] for run in runs], dtype=np.float64)


def _features(runs: Sequence[Run], names: Sequence[str]) -> Floats:
    """One row a run: 1 where it has any logic, then its features."""
    bits = np.array([[run.features.get(name, 0.0) for name in names] for run in runs])
    bits = bits.reshape(len(runs), len(names))
    logic = (bits > 0).any(axis=1, keepdims=True)
    return np.hstack([logic.astype(np.float64), bits])


def _estimate(features: Floats, price: Floats, memory: Floats) -> Floats:
    luts, halves = (np.ceil(features @ price - 1e-9) + memory).T
    estimate: Floats = logic_cells(luts, halves)
    return estimate


ROBUST_STEPS = 20


def _solve(features: Floats, made: Floats, parts: Floats, steps: int) -> Floats:
    """Prices of LUTs and of halves, shape (features, 2), the constant first.

    `steps` > 0 approaches the least absolute relative error.
    """
    weight = 1 / np.maximum(made, SMALL_LUT)
    found = []
    for logic in parts.T:
        price = weighted_nnls(features, logic, weight)
        for _ in range(steps):
            off = abs(features @ price - logic) * weight
            price = weighted_nnls(features, logic, weight / np.sqrt(np.maximum(off, 1e-3)))
        found.append(price)
    return np.stack(found, axis=1)


def weighted_nnls(features: Floats, target: Floats, weight: Floats) -> Floats:
    """Non-negative least squares of weighted rows."""
    rows = features * weight[:, None]
    scale = np.linalg.norm(rows, axis=0)  # so that wide and narrow features are alike
    scale[scale == 0] = 1
    price: Floats = nnls(rows / scale, target * weight)[0] / scale
    return price


def _held_out(features: Floats, made: Floats, parts: Floats, memory: Floats, steps: int) -> Floats:
    """The estimate of each run by prices that were fitted without it."""
    folds = min(FOLDS, len(made))
    out = np.zeros(len(made))
    for fold in range(folds):
        test = np.arange(len(made)) % folds == fold
        price = _solve(features[~test], made[~test], parts[~test], steps)
        out[test] = _estimate(features[test], price, memory[test])
    return out


def _score(error: Floats) -> float:
    """How far errors are from the bar: the mean and the worst weigh as the bar has them."""
    off = abs(error)
    return float(off.mean() / BAR["lut_mean"] + off.max() / BAR["lut_worst"])


def _errors(runs: Sequence[Run], error: Floats, made: Floats) -> dict[str, float]:
    off, large = abs(error), made >= SMALL_LUT
    counted = np.array([[run.counted[name] for name in RESOURCES] for run in runs])
    found = np.array([[getattr(run.synthesised, name) for name in RESOURCES] for run in runs])
    apart = abs(counted - found)
    ff = apart[:, RESOURCES.index("ff")]
    ff_off = ff / np.maximum(found[:, RESOURCES.index("ff")], SMALL_LUT)
    out = {"lut_runs": float(large.sum())}
    if large.any():
        out |= {"lut_mean": off[large].mean(), "lut_worst": off[large].max()}
    if not large.all():
        out["lut_small_worst"] = (off * made)[~large].max()
    out |= {"ff_mean": ff_off.mean(), "ff_worst": ff_off.max()}
    wrong = (apart > 0).sum(axis=0)
    out |= {f"{name}_mismatches": n for name, n in zip(RESOURCES, wrong, strict=True)}
    return {name: float(f"{value:.{DIGITS}g}") for name, value in out.items()}


def ranges(runs: Sequence[Drawn]) -> dict[str, tuple[int, int]]:
    """The least and the most of each parameter that is a number."""
    found: dict[str, list[int]] = {}
    for run in runs:
        for name, value in run.parameters.items():
            if not isinstance(value, str):
                found.setdefault(name, []).append(value)
    return {name: (min(values), max(values)) for name, values in found.items()}


def _suspect(
    features: Floats, price: Floats, made: Floats, error: Floats, names: Sequence[str]
) -> str:
    """The feature whose share of the LUTs goes most with the errors, up or down."""
    large = made >= SMALL_LUT
    if large.sum() < 3 or not error[large].std():
        return ""
    shares = (features * price / np.maximum(made, 1)[:, None])[large]
    centred = shares - shares.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    along = abs(centred.T @ (error[large] - error[large].mean()))
    return names[int(np.argmax(np.where(spread > 0, along / np.maximum(spread, 1e-12), 0)))]
