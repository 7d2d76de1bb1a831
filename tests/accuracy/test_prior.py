"""The prior against a second calculation from the published rows, and laws that any prior keeps."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import catalogue, network
from syq_dse.accuracy import prior
from syq_dse.accuracy.prior import Prior, Published
from syq_dse.network import Network
from syq_dse.scheme import WEIGHTS, LayerScheme, Scheme, fixed_bits, tensors, uniform

SHIPPED = catalogue.names("models")

Row = tuple[str, float, float, float]  # network, noise of weights, of activations, top-1


@cache
def net_of(name: str) -> Network:
    return network.load(name)


@cache
def prior_of(name: str) -> Prior:
    return prior.load(net_of(name))


@cache
def table() -> tuple[dict[str, float], tuple[Row, ...]]:
    """Float accuracies and quantised rows, read without the product."""
    path = catalogue.folder("models") / "published_accuracy.csv"
    with path.open(newline="") as stream:
        every = list(csv.DictReader(stream))
    floats: dict[str, list[float]] = {}
    rows = []
    for row in every:
        w, a, top1 = int(row["weight_bits"]), int(row["activation_bits"]), float(row["top1"]) / 100
        if (w, a) == (32, 32):
            floats.setdefault(row["network"], []).append(top1)
            continue
        steps = {1: 1, 32: np.inf}.get(w, 2**w - 2)  # levels less one; 2 bits are -1, 0, 1
        rows.append((row["network"], steps**-2.0, 0.0 if a == 32 else (2**a - 1) ** -2.0, top1))
    return {name: float(np.median(values)) for name, values in floats.items()}, tuple(rows)


def by_hand(name: str, rows: tuple[Row, ...]) -> tuple[float | None, float, float]:
    """Base, loss of all weights, loss of all activations: the docstring's formula, in numpy."""
    base = table()[0]
    known = [r for r in rows if r[0] in base]
    noise = np.array([r[1:3] for r in known])
    loss = np.array([max(0.0, 1 - r[3] / base[r[0]]) for r in known])
    both = np.linalg.lstsq(noise, loss, rcond=None)[0]
    alone = [max(0.0, float(x @ loss / (x @ x))) for x in noise.T]
    tries = [tuple(map(float, both))] if (both >= 0).all() else [(alone[0], 0.0), (0.0, alone[1])]
    u, v = min(tries, key=lambda t: float(((noise @ t - loss) ** 2).sum()))
    own = [r for r in rows if r[0] == name]
    shape = np.array([u * r[1] + v * r[2] for r in own])
    top1 = np.array([r[3] for r in own])
    if name in base:
        anchor = np.mean([(u * r[1] + v * r[2]) ** 2 for r in rows])
        scale = (shape @ (1 - top1 / base[name]) + anchor) / (shape @ shape + anchor) if own else 1
        return base[name], base[name] * max(0.0, scale) * u, base[name] * max(0.0, scale) * v
    if len({r[1:3] for r in own}) < 2:
        return None, u, v
    dx, dy = shape - shape.mean(), top1 - top1.mean()
    slope = float(dx @ dy / (dx @ dx))
    return float(top1.mean() - slope * shape.mean()), max(0.0, -slope) * u, max(0.0, -slope) * v


def test_noise_falls_by_the_square_of_the_levels() -> None:
    found = [prior.weight_noise(w) for w in ("binary", "ternary", "int2", "int4", "int8")]
    assert found == [1.0, 1 / 4, 1 / 4, 1 / 14**2, 1 / 254**2]
    assert [prior.activation_noise(b) for b in (1, 2, 4, 32)] == [1.0, 1 / 9, 1 / 225, 0.0]


@pytest.mark.parametrize("name", SHIPPED)
def test_prior_is_that_of_a_second_calculation(name: str) -> None:
    base, weights, activations = by_hand(name, table()[1])
    found = prior_of(name)
    assert found.relative == (base is None)
    assert found.base == pytest.approx(1.0 if base is None else base, abs=1e-9)
    assert found.weights == pytest.approx(weights, abs=1e-9)
    assert found.activations == pytest.approx(activations, abs=1e-9)
    listed = [r for r in csv_rows() if r["network"] == name]
    assert found.rows == len(listed)


def csv_rows() -> list[dict[str, str]]:
    path = catalogue.folder("models") / "published_accuracy.csv"
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", SHIPPED)
def test_error_is_the_worst_row_when_left_out(name: str) -> None:
    rows = table()[1]
    own = [r for r in rows if r[0] == name]
    errors = []
    for row in own if len(own) >= 4 else rows:
        base, weights, activations = by_hand(row[0], tuple(r for r in rows if r is not row))
        if base is not None:
            errors.append(abs(base - weights * row[1] - activations * row[2] - row[3]))
    assert prior_of(name).error == pytest.approx(max(errors), abs=1e-9)


@pytest.mark.parametrize("name", SHIPPED)
def test_published_rows_lie_within_the_error(name: str) -> None:
    held = prior_of(name)
    for row in table()[1]:
        if row[0] == name and not held.relative:
            expected = held.base - held.weights * row[1] - held.activations * row[2]
            assert abs(expected - row[3]) <= held.error + 1e-12


@pytest.mark.parametrize("name", SHIPPED)
def test_uniform_schemes_follow_the_formula(name: str) -> None:
    """A network whose every layer and tensor has one choice loses what the formula says."""
    net = net_of(name)
    held = prior_of(name)
    inner = net.engines[1:-1]
    for weights, noise in (("binary", 1), ("ternary", 1 / 4), ("int4", 1 / 14**2)):
        for bits in (1, 2, 4):
            scheme = uniform(net, LayerScheme(weights=weights), bits)
            varied = set(scheme.bits) - set(fixed_bits(net))
            edges = 2 / max(1, len(inner)) / 254**2 if inner else 0  # first and last are int8
            fixed = sum(255.0**-2 for n in scheme.bits if n not in varied) / max(1, len(varied))
            loss = held.weights * ((noise if inner else 2 / 254**2) + edges)
            loss += held.activations * ((1 / (2**bits - 1) ** 2 if varied else 0) + fixed)
            assert prior.accuracy(held, net, scheme) == pytest.approx(held.base - loss, abs=1e-9)


def some_scheme(net: Network, draw: random.Random) -> Scheme:
    names = {t.name for t in tensors(net).values() if t.kind != "result"}
    return Scheme(
        layers={node.name: LayerScheme(weights=draw.choice(WEIGHTS)) for node in net.engines},
        bits={name: draw.randint(1, 8) for name in sorted(names)},
    )


FINER = ["binary", "ternary", "int3", "int4", "int5", "int6", "int7", "int8"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(SHIPPED), st.integers(0, 2**20))
def test_fewer_bits_are_never_more_accurate(name: str, seed: int) -> None:
    net, draw = net_of(name), random.Random(seed)
    held = prior_of(name)
    scheme = some_scheme(net, draw)
    before = prior.accuracy(held, net, scheme)
    layer = draw.choice(sorted(scheme.layers))
    codebook = scheme.layers[layer].weights.replace("int2", "ternary")
    coarser = FINER[max(0, FINER.index(codebook) - 1)]
    fewer = {**scheme.layers, layer: LayerScheme(weights=coarser)}
    assert prior.accuracy(held, net, replace(scheme, layers=fewer)) <= before
    tensor = draw.choice(sorted(scheme.bits))
    bits = {**scheme.bits, tensor: max(1, scheme.bits[tensor] - 1)}
    assert prior.accuracy(held, net, replace(scheme, bits=bits)) <= before


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(SHIPPED), st.integers(0, 2**20))
def test_granularity_and_scale_change_nothing(name: str, seed: int) -> None:
    net, draw = net_of(name), random.Random(seed)
    held, scheme = prior_of(name), some_scheme(net, draw)
    other = {
        layer: replace(
            held_layer,
            granularity=draw.choice(["layer", "row", "pixel", "channel"]),
            scale=draw.choice(["fixed8", "shift"]),
        )
        for layer, held_layer in scheme.layers.items()
    }
    again = prior.accuracy(held, net, replace(scheme, layers=other))
    assert again == prior.accuracy(held, net, scheme)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_default_space_stays_between_0_and_1(name: str) -> None:
    net = net_of(name)
    held = prior_of(name)
    least = prior.accuracy(held, net, uniform(net, LayerScheme(weights="binary"), 1))
    most = prior.accuracy(held, net, uniform(net, LayerScheme(), 8))
    assert 0 < least < most <= held.base <= 1
    assert 0 < held.error < 0.25


@pytest.mark.parametrize("name", SHIPPED)
def test_int8_loses_next_to_nothing(name: str) -> None:
    net = net_of(name)
    held = prior_of(name)
    most = prior.accuracy(held, net, uniform(net, LayerScheme(), 8))
    assert held.base - most < 1e-3


def test_a_network_without_published_float_is_relative() -> None:
    said = {name: prior_of(name) for name in SHIPPED}
    floats = set(table()[0])
    for name, held in said.items():
        own = {r[1:3] for r in table()[1] if r[0] == name}
        assert held.relative == (name not in floats and len(own) < 2)
        if held.relative:
            assert held.base == 1.0
            assert held.note.startswith("prior, relative to the float network (no published ")
        else:
            assert held.note.startswith(f"prior: interpolated from {held.rows} published figures")
        assert held.note.count(f"+-{100 * held.error:.1f} points") == 1
    assert {name for name, held in said.items() if held.relative} == {"fmnist-vgg", "cybersec-mlp"}


def rows_of(name: str, *figures: tuple[int, int, float]) -> tuple[Published, ...]:
    return tuple(Published(name, w, a, top1, "made up") for w, a, top1 in figures)


OTHERS = rows_of("other", (32, 32, 0.8), (1, 1, 0.4), (2, 2, 0.7), (1, 2, 0.6), (2, 32, 0.75))


def test_rows_of_the_formula_are_found_again() -> None:
    """Where rows are 0.8 - 0.3 q - 0.1 r, so is the prior, and no row is missed."""
    figures = [
        (w, a, 0.8 - 0.3 * q - 0.1 * r)
        for w, q in ((1, 1.0), (2, 1 / 4), (4, 1 / 14**2))
        for a, r in ((1, 1.0), (2, 1 / 9), (32, 0.0))
    ]
    made = prior.fit("made", rows_of("made", (32, 32, 0.8), *figures))
    assert (made.base, made.relative, made.rows) == (0.8, False, 10)
    assert (made.weights, made.activations) == pytest.approx((0.3, 0.1))
    assert made.error < 1e-9


def test_a_network_nobody_published_gets_the_pooled_loss() -> None:
    made = prior.fit("unheard", OTHERS)
    assert (made.base, made.relative, made.rows) == (1.0, True, 0)
    assert (made.weights, made.activations) == pytest.approx(prior.pooled(OTHERS))
    assert made.error > 0


def test_better_than_float_is_no_loss() -> None:
    """Published gains over the float network never make fewer bits better."""
    made = prior.fit(
        "better", (*OTHERS, *rows_of("better", (32, 32, 0.7), (1, 1, 0.9), (2, 2, 0.9)))
    )
    assert min(made.weights, made.activations) >= 0
