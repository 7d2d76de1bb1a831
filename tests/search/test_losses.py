"""An additive loss in integers against the prior that it comes from."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from syq_dse import network, target
from syq_dse.accuracy import predictor, prior, sensitivity
from syq_dse.cost.fpga import pricing
from syq_dse.cost.table import Table
from syq_dse.search import space
from syq_dse.search.losses import LOSS_UNIT, from_predictor, from_prior
from syq_dse.search.problem import Goals, Problem
from syq_dse.search.space import Space

SHIPPED = ["fmnist-vgg", "resnet8", "mobilenet-v1"]


@cache
def built(name: str) -> Table:
    searched = Space(weights=("binary", "ternary", "int3", "int8"), bits=(1, 2, 5, 8), intervals=1)
    return space.build(searched, network.load(name), pricing(target.load("u250")))


@pytest.mark.parametrize("name", SHIPPED)
def test_losses_add_up_to_the_prior(name: str) -> None:
    """Of every design: what is lost there is `prior.accuracy` of its scheme."""
    priced = built(name)
    held = prior.load(priced.network)
    asked = Problem(priced, from_prior(held, priced), Goals(clock_mhz=100.0))
    draw = random.Random(5)
    designs = np.array([[draw.randrange(size) for size in priced.sizes] for _ in range(30)])
    for design, loss in zip(designs, asked.loss(designs), strict=True):
        scheme = priced.scheme_of(design)
        expected = prior.accuracy(held, priced.network, scheme)
        # Each term is rounded to LOSS_UNIT; there are a hundred terms at most.
        assert held.base - loss * LOSS_UNIT == pytest.approx(expected, abs=1e-10)


def test_equal_sums_are_equal_whatever_their_order() -> None:
    """Binary here and int8 there loses what int8 here and binary there does, to the unit."""
    priced = built("mobilenet-v1")
    lost = from_prior(prior.load(priced.network), priced)
    inner = [node.name for node in priced.network.engines[1:-1]]
    by_weights = [
        {c.scheme.weights: int(u) for c, u in zip(priced.choices[n], lost.engines[n], strict=True)}
        for n in inner
    ]
    assert len(by_weights) > 20
    assert all(units == by_weights[0] for units in by_weights)


def test_what_goes_with_the_losses() -> None:
    priced = built("resnet8")
    held = prior.load(priced.network)
    lost = from_prior(held, priced)
    assert (lost.base, lost.note) == (held.base, held.note)
    assert lost.source == "prior"
    assert set(lost.engines) == set(priced.choices)
    assert set(lost.tensors) == set(priced.bits)
    scheme = priced.scheme_of(np.zeros(len(priced.variables), np.int64))
    assert lost.half(scheme) == held.error


def test_losses_add_up_to_the_predictor() -> None:
    priced = built("fmnist-vgg")
    path = sensitivity.shipped(priced.network, "fashion-mnist")
    assert path is not None
    held = predictor.fit(sensitivity.load(path, priced.network))
    lost = from_predictor(held, priced)
    assert (lost.base, lost.source, lost.note) == (held.base, "predicted", held.note)
    asked = Problem(priced, lost, Goals(clock_mhz=100.0))
    rng = np.random.default_rng(0)
    for _ in range(50):
        row = np.array([rng.integers(size) for size in priced.sizes])
        chosen = priced.scheme_of(row)
        said = lost.base - int(asked.loss(row[None])[0]) * LOSS_UNIT
        assert (said, lost.half(chosen)) == pytest.approx(held.accuracy(chosen), abs=1e-10)
