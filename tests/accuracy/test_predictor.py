"""The predictor against numpy by hand, and on networks whose truth is known because it is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from syq_dse import network, scheme
from syq_dse.accuracy import predictor, sensitivity
from syq_dse.accuracy.predictor import SCALES, Trained
from syq_dse.accuracy.sensitivity import Sensitivity
from syq_dse.errors import InputError
from syq_dse.scheme import LayerScheme, Scheme
from syq_dse.search import space

NET = network.load("fmnist-vgg")


@pytest.fixture(scope="module")
def profile() -> Sensitivity:
    path = sensitivity.shipped(NET, "fashion-mnist")
    assert path is not None
    return sensitivity.load(path, NET)


def drawn(rng: np.random.Generator) -> Scheme:
    own = space.Space()
    fixed = scheme.fixed_bits(NET)
    return Scheme(
        layers={
            node.name: of[rng.integers(len(of))]
            for node in NET.engines
            for of in [space.schemes(own, NET, node)]
        },
        bits={
            t.name: fixed.get(t.name, own.bits[rng.integers(len(own.bits))])
            for t in scheme.tensors(NET).values()
            if t.kind != "result"
        },
    )


def mean_divergence(profile: Sensitivity, layer: str, weights: str) -> float:
    return float(np.mean([d for c, d in profile.layers[layer].items() if c.weights == weights]))


LEVELS = {"binary": 2, "ternary": 3} | {f"int{bits}": 2**bits - 1 for bits in range(2, 9)}


def effects(profile: Sensitivity, of: Scheme) -> np.ndarray:
    """Of weights and tensors, written out."""
    each = []
    for node in NET.engines:
        weights = of.layers[node.name].weights
        divergence = mean_divergence(profile, node.name, weights)
        each.append(math.sqrt(divergence / (LEVELS[weights] - 1)))
    return np.array([*each, *(1 / (2 ** of.bits[name] - 1) for name in profile.tensors)])


def truth(profile: Sensitivity, of: Scheme, weights: np.ndarray, base: float) -> float:
    """The model itself."""
    return base - float(weights @ effects(profile, of))


def scales_of(profile: Sensitivity) -> np.ndarray:
    """In parts of the float network's error."""
    every = np.repeat(SCALES, [len(profile.layers), len(profile.tensors)])
    return every * (1 - profile.float_top1)


def true_weights(profile: Sensitivity, rng: np.random.Generator) -> np.ndarray:
    """A network that mends half as much as is expected, its layers a third apart."""
    scales = scales_of(profile)
    return scales * 0.5 * np.exp(rng.normal(0, 0.3, len(scales)))


def test_without_trained_points_the_profile_alone_speaks(profile: Sensitivity) -> None:
    found = predictor.fit(profile)
    scales = scales_of(profile)
    for seed in range(5):
        one = drawn(np.random.default_rng(seed))
        said, half = found.accuracy(one)
        assert said == pytest.approx(truth(profile, one, scales, profile.float_top1))
        assert half > 0.004
    assert found.quality.points == 0 and math.isnan(found.quality.error)
    assert "it has seen no trained point" in found.note


@pytest.mark.parametrize("seed", range(4))
def test_trained_points_teach_it(profile: Sensitivity, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, scatter = true_weights(profile, rng), 0.001
    schemes = [drawn(rng) for _ in range(90)]
    top1 = np.array([truth(profile, one, weights, 0.93) for one in schemes])
    top1 += rng.normal(0, scatter, len(top1))
    errors, correlations = [], []
    for count in (0, 12, 40):
        known = [Trained(scheme=s, top1=t) for s, t in zip(schemes[:count], top1, strict=False)]
        found = predictor.fit(profile, known)
        said, half = np.array([found.accuracy(one) for one in schemes[50:]]).T
        errors.append(np.abs(said - top1[50:]).mean())
        correlations.append(stats.spearmanr(said, top1[50:]).statistic)
        inside = (np.abs(said - top1[50:]) <= half).mean()
        assert inside >= 0.75
    assert errors[0] > errors[1] > errors[2] and errors[2] < 2 * scatter
    assert min(correlations) > 0.8 and correlations[2] > 0.95
    assert found.quality.points == 40 and found.quality.spearman > 0.9
    assert 0.8 <= found.quality.covered <= 1
    assert f"{found.quality.spearman:.2f}" in found.note


def test_left_out_means_fitted_without(profile: Sensitivity) -> None:
    """The errors in `quality` are those of predictors that never saw the point."""
    rng = np.random.default_rng(3)
    weights = true_weights(profile, rng)
    schemes = [drawn(rng) for _ in range(8)]
    known = [Trained(scheme=s, top1=truth(profile, s, weights, 0.92)) for s in schemes]
    whole = predictor.fit(profile, known)
    deviation = whole.deviation
    errors = []
    for out, left in enumerate(known):
        rest = [one for number, one in enumerate(known) if number != out]
        errors.append(
            abs(by_hand(profile, rest, left.scheme, deviation, whole.scatter) - left.top1)
        )
    assert whole.quality.error == pytest.approx(np.mean(errors), rel=1e-6)


def by_hand(
    profile: Sensitivity, known: list[Trained], new: Scheme, deviation: float, scatter: float
) -> float:
    """The conditional mean of a normal distribution over [accuracies known, new]."""
    count = len(profile.layers)
    scales = scales_of(profile)

    every = scales * np.array([effects(profile, of) for of in [*(k.scheme for k in known), new]])
    sums = np.stack([every[:, :count].sum(1), every[:, count:].sum(1)], 1)
    covariance = (
        predictor.BASE_SPREAD**2
        + predictor.NETWORK_SPREAD**2 * np.outer(every.sum(1), every.sum(1))
        + predictor.CLASS_SPREAD**2 * sums @ sums.T
        + deviation**2 * every @ every.T
    )
    mean = profile.float_top1 - every.sum(1)
    noise = covariance[:-1, :-1] + scatter**2 * np.eye(len(known))
    off = np.array([one.top1 for one in known]) - mean[:-1]
    return float(mean[-1] + covariance[-1, :-1] @ np.linalg.solve(noise, off))


def test_granularities_and_formats_of_one_codebook_are_alike(profile: Sensitivity) -> None:
    found = predictor.fit(profile)
    base = scheme.uniform(NET, LayerScheme(weights="ternary"), 4)
    for layer in (
        LayerScheme(weights="ternary", granularity="pixel"),
        LayerScheme(weights="ternary", granularity="row", scale="shift"),
    ):
        other = replace(base, layers={**base.layers, "conv2": layer})
        assert found.accuracy(other) == found.accuracy(base)


def test_nothing_gains_by_being_quantised(profile: Sensitivity) -> None:
    """Not even where trained points say so."""
    rng = np.random.default_rng(0)
    schemes = [drawn(rng) for _ in range(20)]
    known = [
        Trained(
            scheme=s,
            top1=2 * profile.float_top1
            - truth(profile, s, true_weights(profile, rng), profile.float_top1),
        )
        for s in schemes
    ]
    found = predictor.fit(profile, known)
    losses = [x for own in (*found.layers.values(), *found.tensors.values()) for x in own.values()]
    assert min(losses) >= 0


def test_seeds_count(profile: Sensitivity) -> None:
    """A mean over more seeds draws the prediction nearer."""
    one = drawn(np.random.default_rng(1))
    said, _ = predictor.fit(profile).accuracy(one)
    off = []
    for seeds in (1, 10):
        known = [Trained(scheme=one, top1=said - 0.02, seeds=seeds)]
        off.append(abs(predictor.fit(profile, known).accuracy(one)[0] - (said - 0.02)))
    assert off[1] < off[0]


def test_a_choice_that_the_profile_lacks(profile: Sensitivity) -> None:
    cut = replace(profile, tensors={**profile.tensors, "conv2": {8: 0.0}})
    found = predictor.fit(cut)
    message = "the profile of fmnist-vgg has no 4 of conv2; run `profile` again"
    with pytest.raises(InputError, match=message):
        found.accuracy(scheme.uniform(NET, LayerScheme(weights="ternary"), 4))


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("kind", ["chance", "one", "alike", "none", "all"])
def test_accuracies_of_any_kind_leave_numbers(profile: Sensitivity, count: int, kind: str) -> None:
    """Far below what the profile says, scattered, all the same, or without any noise."""
    rng = np.random.default_rng(count)
    points = [drawn(rng) for _ in range(count)]
    weights = true_weights(profile, rng)
    top1 = {
        "chance": rng.uniform(0.05, 0.6, count),
        "one": np.r_[0.1, np.full(count - 1, 0.93)],
        "alike": np.array([truth(profile, one, weights, 0.93) for one in points]),
        "none": np.zeros(count),
        "all": np.ones(count),
    }[kind]
    known = [
        Trained(scheme=one, top1=float(t), seeds=1) for one, t in zip(points, top1, strict=True)
    ]
    found = predictor.fit(profile, known)
    for one in points:
        accuracy, half = found.accuracy(one)
        assert math.isfinite(accuracy) and math.isfinite(half) and half >= 0
