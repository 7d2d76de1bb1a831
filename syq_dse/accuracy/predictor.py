"""Accuracy of a trained scheme, with an interval, from a sensitivity profile and trained points.

Each layer and each tensor i adds its effect e_i to the loss of accuracy,

    accuracy = base - sum over i of w_i * e_i
    e = sqrt(d / (levels - 1)) of weights, e = 1 / (2**bits - 1) of a tensor,

d the divergence of the classes that the profile has of a layer's codebook: the mean over
granularities and formats of scales, which trained networks do not tell apart (docs/granularity.md),
so that nobody pays a multiplier for the profile's noise. Of powers of d and of the quantiser's step
these went best with schemes that were trained (benchmarks/predictor_accuracy.py). What the profile
has of tensors went worse than their bits alone: training mends the range of a tensor.

Training mends most of all this, by how much differs from network to network and from layer to
layer: w_i = scale of its class (weights, tensors) * float error * (t + u + v_i), t of the network,
u of the class, v_i of the layer. All are normal, base around the float network's accuracy, t around
1, u and v around 0, so that without a trained point the profile alone speaks and with many each
layer has its own weight (Bayesian linear regression; Bishop, Pattern Recognition and Machine
Learning, 2006, 3.3). How far layers are apart, and how far trainings scatter about the sum, are
those of the largest marginal likelihood. Intervals are widened by what leaving each trained point
out shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from syq_dse.accuracy.prior import activation_noise, weight_noise
from syq_dse.accuracy.sensitivity import Sensitivity
from syq_dse.errors import InputError
from syq_dse.scheme import Scheme

Floats = npt.NDArray[np.float64]

SCALES = 0.226, 0.21
"""Loss of accuracy at an effect of 1 of a layer's weights, and of a tensor, in parts of the float
network's error: what is hard loses more.

Source: least squares on 40 trainings of lenet5, 2 epochs, docs/predictor.csv.
"""

BASE_SPREAD = 0.015
"""Standard deviation of the accuracy of the reference, trained, about the float network's."""

NETWORK_SPREAD, CLASS_SPREAD = 0.5, 0.15
"""Of t and u. These, BASE_SPREAD and DEVIATION were tried on the same schemes, and 14 of
fmnist-vgg."""

DEVIATION = 0.2, 0.5
"""Of the v of layers: median, and deviation of its logarithm."""

SCATTER = 0.004, 0.5
"""Of trainings about the sum, likewise, in accuracy."""

CONFIDENCE = 0.9

OWN_ERRORS = 8
"""Trained points to which the model's own idea of its error counts as much as errors seen."""

BEST_PART = 0.2
"""Share of the trained points that counts as the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What was measured of a scheme."""

    scheme: Scheme
    top1: float  # mean over seeds, 0 to 1
    seeds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good predictions of trained points are that each was made without.

    Attributes:
        points: trained points.
        spearman, kendall: rank correlation, over all; NaN for fewer than three points.
        best_spearman, best_kendall: of the best fifth, likewise.
        error: mean absolute error [accuracy].
        covered: share of the points within their interval.
    """

    points: int
    spearman: float
    kendall: float
    best_spearman: float
    best_kendall: float
    error: float
    covered: float


@dataclass(frozen=True, slots=True)
class Effects:
    """Of each layer's codebooks and each tensor's bits: e of the module's formula."""

    network: str
    layers: Mapping[str, Mapping[str, float]]
    tensors: Mapping[str, Mapping[int, float]]

    def of(self, scheme: Scheme) -> Floats:
        """Of the layers, then of the tensors.

        Raises:
            InputError: a choice that the profile lacks.
        """
        wanted: list[tuple[str, Mapping[Any, float], object]] = [
            (name, own, scheme.layers[name].weights) for name, own in self.layers.items()
        ]
        wanted += [(name, own, scheme.bits[name]) for name, own in self.tensors.items()]
        for name, own, choice in wanted:
            if choice not in own:
                raise InputError(
                    f"the profile of {self.network} has no {choice} of {name}; run `profile` again"
                )
        return np.array([own[choice] for _, own, choice in wanted])


def effects(sensitivity: Sensitivity) -> Effects:
    """The effects of all choices that a profile has."""
    layers: dict[str, dict[str, float]] = {}
    for name, choices in sensitivity.layers.items():
        each: dict[str, list[float]] = {}
        for choice, divergence in choices.items():
            each.setdefault(choice.weights, []).append(divergence)
        layers[name] = {
            weights: math.sqrt(float(np.mean(own)) * math.sqrt(weight_noise(weights)))
            for weights, own in each.items()
        }
    tensors = {
        name: {bits: math.sqrt(activation_noise(bits)) for bits in own}
        for name, own in sensitivity.tensors.items()
    }
    return Effects(sensitivity.network, layers, tensors)


@dataclass(frozen=True)
class Predictor:
    """A fitted predictor.

    Attributes:
        base: accuracy where nothing is lost.
        layers, tensors: loss of each codebook, and of each number of bits.
        note: one sentence on what it rests on and how good it is.
    """

    base: float
    layers: Mapping[str, Mapping[str, float]]
    tensors: Mapping[str, Mapping[int, float]]
    quality: Quality
    note: str
    effects: Effects
    scales: Floats  # of layers and tensors
    covariance: Floats  # of base, t, the two u and all v
    deviation: float
    scatter: float
    widening: float

    def accuracy(self, scheme: Scheme) -> tuple[float, float]:
        """Top-1 of a scheme as it is trained once, and half the width of its 90 % interval."""
        row = _row(self.effects.of(scheme), self.scales, len(self.layers))
        lost = sum(self.layers[name][layer.weights] for name, layer in scheme.layers.items())
        lost += sum(self.tensors[name][bits] for name, bits in scheme.bits.items())
        own = max(0.0, float(row @ self.covariance @ row))  # rounding: what is known leaves none
        spread = math.sqrt(own + self.scatter**2)
        return self.base - lost, normal_half() * self.widening * spread


def normal_half() -> float:
    """Half the width of the interval of a normal distribution, in standard deviations."""
    return float(stats.norm.ppf((1 + CONFIDENCE) / 2))


def fit(sensitivity: Sensitivity, trained: Sequence[Trained] = ()) -> Predictor:
    """The predictor of the profile's network.

    Raises:
        InputError: a trained scheme has a choice that the profile lacks.
    """
    known = effects(sensitivity)
    count = len(known.layers)
    width = FIRST + count + len(known.tensors)
    error = 1 - sensitivity.float_top1
    scales: Floats = error * np.repeat(SCALES, [count, len(known.tensors)])
    rows = np.array([_row(known.of(one.scheme), scales, count) for one in trained])
    rows = rows.reshape(len(trained), width)
    top1 = np.array([t.top1 for t in trained], np.float64)
    seeds = np.array([t.seeds for t in trained], np.float64)
    centre = np.zeros(width)
    centre[:2] = sensitivity.float_top1, 1
    off = top1 - rows @ centre
    deviation, scatter = _likeliest(rows, off, seeds)
    spread = _spread(width, deviation)
    kernel = (rows * spread) @ rows.T + np.diag(scatter**2 / seeds)
    gain = (rows * spread).T @ np.linalg.inv(kernel) if len(rows) else np.zeros((width, 0))
    found = centre + gain @ off
    covariance = np.diag(spread) - gain @ (rows * spread)
    quality, widening = _tested(kernel, off, top1, scatter, seeds)
    weights = _weights(found, scales, count)
    return Predictor(
        base=float(found[0]),
        layers=_losses(known.layers, weights[:count]),
        tensors=_losses(known.tensors, weights[count:]),
        quality=quality,
        note=_note(sensitivity, quality),
        effects=known,
        scales=scales,
        covariance=covariance,
        deviation=deviation,
        scatter=scatter,
        widening=widening,
    )


T = TypeVar("T")


def _losses(items: Mapping[str, Mapping[T, float]], weights: Floats) -> dict[str, dict[T, float]]:
    return {
        name: {choice: float(weight * effect) for choice, effect in own.items()}
        for (name, own), weight in zip(items.items(), weights, strict=True)
    }


FIRST = 4
"""Of what is fitted: base, t, and u of weights and of tensors; all v follow."""


def _row(effect: Floats, scales: Floats, layers: int) -> Floats:
    """What all that is fitted is multiplied by, in that order."""
    lost = effect * scales
    return np.concatenate([[1.0, -lost.sum(), -lost[:layers].sum(), -lost[layers:].sum()], -lost])


def _spread(width: int, deviation: float) -> Floats:
    """Variances before anything is trained."""
    found = np.full(width, deviation)
    found[:FIRST] = BASE_SPREAD, NETWORK_SPREAD, CLASS_SPREAD, CLASS_SPREAD
    return found**2


def _weights(found: Floats, scales: Floats, layers: int) -> Floats:
    """Loss of each item at an effect of 1; nothing gains by being quantised."""
    of_class = np.repeat(found[2:FIRST], [layers, len(scales) - layers])
    own: Floats = np.maximum(0.0, found[1] + of_class + found[FIRST:])
    return own * scales


LEAST = (1e-6, 1e-4)
"""Of the deviation and the scatter: far below what images can tell, and above rounding."""

MOST = 100.0
"""Of both: no accuracy is so far from any other."""


def _likeliest(rows: Floats, off: Floats, seeds: Floats) -> tuple[float, float]:
    """The deviation and the scatter of the largest marginal likelihood."""
    centre = np.log([DEVIATION[0], SCATTER[0]])
    if not len(rows):
        return DEVIATION[0], SCATTER[0]

    def unlikely(logs: Floats) -> float:
        deviation, scatter = np.exp(logs)
        kernel = (rows * _spread(rows.shape[1], deviation)) @ rows.T
        factor = np.linalg.cholesky(kernel + np.diag(scatter**2 / seeds))
        whitened = np.linalg.solve(factor, off)
        known = np.square((logs - centre) / (DEVIATION[1], SCATTER[1])).sum()
        return float(whitened @ whitened / 2 + np.log(np.diag(factor)).sum() + known / 2)

    bounds = [(math.log(least), math.log(MOST)) for least in LEAST]
    found = optimize.minimize(unlikely, centre, method="L-BFGS-B", bounds=bounds)
    deviation, scatter = np.exp(found.x)
    return float(deviation), float(scatter)


def _tested(
    kernel: Floats, off: Floats, top1: Floats, scatter: float, seeds: Floats
) -> tuple[Quality, float]:
    """How good the predictor is, each trained point left out in turn, and how much too narrow its
    intervals are."""
    count = len(off)
    if not count:
        nothing = math.nan
        return Quality(
            points=0, spearman=nothing, kendall=nothing, best_spearman=nothing,
            best_kendall=nothing, error=nothing, covered=nothing,
        ), 1.0  # fmt: skip
    inverse = np.linalg.inv(kernel)
    error = inverse @ off / np.diag(inverse)
    # of one training, which scatters more than the mean over seeds
    spread = np.sqrt(1 / np.diag(inverse) + scatter**2 * (1 - 1 / seeds))
    seen = float(np.quantile(np.abs(error) / spread, CONFIDENCE)) / normal_half()
    widening = (count * max(seen, 1e-3) + OWN_ERRORS) / (count + OWN_ERRORS)
    said = top1 - error
    best = np.argsort(-top1, kind="stable")[: max(1, round(BEST_PART * count))]
    return Quality(
        points=count,
        spearman=_rank(stats.spearmanr, said, top1),
        kendall=_rank(stats.kendalltau, said, top1),
        best_spearman=_rank(stats.spearmanr, said[best], top1[best]),
        best_kendall=_rank(stats.kendalltau, said[best], top1[best]),
        error=float(np.abs(error).mean()),
        covered=float((np.abs(error) <= normal_half() * widening * spread).mean()),
    ), widening


def _rank(correlation: Callable[..., Any], said: Floats, top1: Floats) -> float:
    if len(said) < 3 or np.ptp(said) == 0 or np.ptp(top1) == 0:
        return math.nan
    return float(correlation(said, top1).statistic)


def _note(sensitivity: Sensitivity, quality: Quality) -> str:
    start = f"predicted from the profile of {sensitivity.network} on {sensitivity.dataset}"
    if not quality.points:
        return f"{start} alone: it has seen no trained point, its 90 % interval is untested"
    many = "point" if quality.points == 1 else "points"
    text = (
        f"{start} and {quality.points} trained {many}; each left out in turn, the mean error is "
        f"{100 * quality.error:.2f} points and {100 * quality.covered:.0f} % are in their interval"
    )
    if math.isnan(quality.spearman):
        return text
    best = "too few to tell"
    if not math.isnan(quality.best_spearman):
        best = f"{quality.best_spearman:.2f} and {quality.best_kendall:.2f}"
    return (
        f"{text}; rank correlation (Spearman, Kendall) {quality.spearman:.2f} and "
        f"{quality.kendall:.2f}, among the best fifth {best}"
    )
