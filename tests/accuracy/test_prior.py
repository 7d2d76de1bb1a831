"""The prior against a few lines of numpy, and the laws that any accuracy must keep."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from syq_dse import catalogue, network, scheme, target
from syq_dse.accuracy import prior
from syq_dse.cost import fpga
from syq_dse.search import losses, space
from syq_dse.search.losses import LOSS_UNIT
from syq_dse.search.problem import Goals, Problem

NETWORKS = catalogue.names("models")


def test_noise_falls_by_the_square_of_the_levels() -> None:
    found = [prior.weight_noise(w) for w in ("binary", "ternary", "int2", "int4", "int8")]
    assert found == [1.0, 1 / 4, 1 / 4, 1 / 14**2, 1 / 254**2]
    assert [prior.activation_noise(b) for b in (1, 2, 4, 32)] == [1.0, 1 / 9, 1 / 225, 0.0]


def test_pooled_losses_are_the_least_squares_of_the_table() -> None:
    rows = prior.published()
    left, right = [], []
    for row in rows:
        base = [r.top1 for r in rows if r.network == row.network and r.is_float]
        if base and not row.is_float:
            w, a = row.weight_bits, row.activation_bits
            q = {1: 1.0, 32: 0.0}.get(w) if w in (1, 32) else 1 / (2**w - 2) ** 2
            left.append([q, 0.0 if a == 32 else 1 / (2**a - 1) ** 2])
            right.append(max(0.0, 1 - row.top1 / float(np.median(base))))
    assert prior.pooled(rows) == pytest.approx(optimize.nnls(left, right)[0], rel=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_published_rows_lie_within_the_stated_error(name: str) -> None:
    found = prior.load(network.load(name))
    assert 0 < found.error < 0.1
    for row in prior.published():
        if row.network == name and not row.is_float and not found.relative:
            q, r = row.noise
            assert abs(found.base - found.weights * q - found.activations * r - row.top1) <= (
                found.error
            )


@pytest.mark.parametrize("name", NETWORKS)
def test_fewer_bits_are_never_more_accurate(name: str) -> None:
    net = network.load(name)
    found = prior.load(net)
    by_weights = [
        prior.accuracy(found, net, scheme.parse_uniform(net, f"{w},4,layer"))
        for w in ("binary", "ternary", "int3", "int4", "int8")
    ]
    by_bits = [
        prior.accuracy(found, net, scheme.parse_uniform(net, f"ternary,{b},layer"))
        for b in range(1, 9)
    ]
    assert by_weights == sorted(by_weights)
    assert by_bits == sorted(by_bits)
    assert found.weights > 0 and found.activations > 0


def test_granularity_and_scale_format_change_nothing() -> None:
    net = network.load("cnv")
    found = prior.load(net)
    texts = ("ternary,2,layer", "ternary,2,row", "ternary,2,pixel,shift", "ternary,2,channel")
    assert len({prior.accuracy(found, net, scheme.parse_uniform(net, t)) for t in texts}) == 1


def test_a_network_that_nobody_published_is_relative_to_float() -> None:
    found = prior.fit("of-my-own", prior.published())
    assert found.relative and found.base == 1.0 and found.rows == 0
    assert "relative to the float network" in found.note
    assert not prior.load(network.load("resnet18")).relative


def test_a_table_adds_up_what_the_prior_says() -> None:
    net = network.load("resnet8")
    few = space.Space(intervals=2, weights=("binary", "ternary", "int4"), bits=(1, 2, 8))
    made = space.build(few, net, fpga.pricing(target.load("zcu102")))
    found = prior.load(net)
    problem = Problem(made, losses.from_prior(found, made), Goals(clock_mhz=200.0))
    generator = np.random.default_rng(0)
    designs = generator.integers(0, made.sizes, (50, len(made.sizes)))
    for design, loss in zip(designs, problem.loss(designs), strict=True):
        expected = prior.accuracy(found, net, made.scheme_of(design))
        assert found.base - int(loss) * LOSS_UNIT == pytest.approx(expected, abs=1e-9)
