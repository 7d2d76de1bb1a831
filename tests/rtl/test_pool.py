"""Pools against maxima and means of numpy, over geometries, gains and back-pressure."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import code_range, divisors, signed_digits
from syq_dse.cost.units import pool as counts
from syq_dse.cost.units.pool import Gain, mean_gain, multiples
from syq_dse.network import AvgPool, GlobalAvgPool, MaxPool, Node, Shape
from syq_dse.rtl import pool
from syq_dse.rtl.stream import Unit
from syq_dse.target import load_family

from .streams import pack, run, unpack

FAMILY = load_family("xcup")
RATES = st.sampled_from([(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.6, 0.6)])


def node(
    c: int, h: int, w: int, k: int, stride: int, pad: tuple[int, int] = (0, 0), mean: bool = False
) -> Node:
    out = Shape(c, *((n + sum(pad) - k) // stride + 1 for n in (h, w)))
    layer = (
        AvgPool(name="pool", k=k, stride=stride)
        if mean
        else MaxPool(name="pool", k=k, stride=stride, pad=pad[0], pad_after=pad[1])
    )
    return Node(layer, ("input",), Shape(c, h, w), out)


def whole(c: int, h: int, w: int) -> Node:
    return Node(GlobalAvgPool(name="pool"), ("input",), Shape(c, h, w), Shape(c, 1, 1))


def windows(node: Node, image: np.ndarray) -> list[np.ndarray]:
    """The pixels (n, c) of each window of an image (h, w, c)."""
    if isinstance(node.layer, GlobalAvgPool):
        return [image.reshape(-1, image.shape[2])]
    found = []
    for r in range(node.out_shape.h):
        for q in range(node.out_shape.w):
            y, x = (i * node.stride - node.pad[0] for i in (r, q))
            part = image[max(0, y) : y + node.k, max(0, x) : x + node.k]
            found.append(part.reshape(-1, image.shape[2]))
    return found


def check(
    unit: Unit,
    node: Node,
    bits: int,
    out_bits: int,
    signed: bool,
    lanes: int,
    rates: tuple[float, float],
    seed: int,
    gain: Gain | None,
    images: int = 3,
) -> int:
    """Compare with numpy; returns the cycles of all images."""
    rng = np.random.default_rng(seed)
    low, high = code_range(bits, signed)
    shape = node.in_shape
    data = rng.integers(low, high + 1, (images, shape.h, shape.w, shape.c))
    data = np.where(rng.random(data.shape) < 0.2, rng.choice([low, high], data.shape), data)
    words = [pack(word, bits) for word in data.reshape(-1, lanes).tolist()]
    expected = []
    for image in data:
        for pixels in windows(node, image):
            if gain is None:
                expected += pixels.max(axis=0).tolist()
            else:
                half = (1 << gain.shift) >> 1
                y = pixels.sum(axis=0) * gain.factor + half >> gain.shift
                expected += np.clip(y, *code_range(out_bits, signed)).tolist()
    out, cycles = run(unit, words, len(expected) // lanes, seed, *rates, quiet=4)
    assert [c for word in out for c in unpack(word, out_bits, lanes, signed)] == expected
    return cycles


@st.composite
def geometries(draw: st.DrawFn, mean: bool) -> Node:
    k, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        stride = k
    pad = (0, 0) if mean else tuple(draw(st.integers(0, k - 1)) for _ in range(2))
    least = max(1, k - sum(pad))
    h, w = (draw(st.integers(least, 9)) for _ in range(2))
    c = draw(st.sampled_from([1, 2, 3, 4, 6]))
    return node(c, h, w, k, stride, pad, mean)


@settings(max_examples=60, deadline=None)
@given(geometries(mean=False), st.integers(1, 8), st.booleans(), RATES, st.data())
def test_maxima(
    node: Node, bits: int, signed: bool, rates: tuple[float, float], data: st.DataObject
) -> None:
    lanes = data.draw(st.sampled_from(divisors(node.in_shape.c)))
    unit = pool.MaxPool(
        node, bits=bits, signed=signed, lanes=lanes, style="distributed", family=FAMILY
    )
    check(unit, node, bits, bits, signed, lanes, rates, data.draw(st.integers(0, 99)), None)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        geometries(mean=True),
        st.builds(whole, st.sampled_from([1, 2, 6]), st.integers(1, 6), st.integers(1, 6)),
    ),
    st.integers(1, 8),
    st.integers(1, 8),
    st.booleans(),
    RATES,
    st.data(),
)
def test_means(
    node: Node,
    bits: int,
    out_bits: int,
    signed: bool,
    rates: tuple[float, float],
    data: st.DataObject,
) -> None:
    lanes = data.draw(st.sampled_from(divisors(node.in_shape.c)))
    pixels = node.in_shape.pixels if isinstance(node.layer, GlobalAvgPool) else node.k**2
    gain = data.draw(
        st.one_of(st.none(), st.builds(Gain, st.integers(1, (1 << 16) - 1), st.integers(0, 24)))
    )
    unit = pool.MeanPool(
        node,
        bits=bits,
        signed=signed,
        out_bits=out_bits,
        lanes=lanes,
        style="distributed",
        family=FAMILY,
        gain=gain,
    )
    gain = gain or mean_gain(pixels, bits, out_bits)
    seed = data.draw(st.integers(0, 99))
    check(unit, node, bits, out_bits, signed, lanes, rates, seed, gain)


@pytest.mark.parametrize("factor", [9, 17, 33])
@pytest.mark.parametrize("signed", [False, True])
def test_a_gain_whose_digits_lie_further_apart_than_a_sum_is_wide(
    factor: int, signed: bool
) -> None:
    node = Node(AvgPool(name="pool", k=1, stride=1), ("input",), Shape(1, 2, 2), Shape(1, 2, 2))
    gain = Gain(factor, 1)
    unit = pool.MeanPool(
        node,
        bits=1,
        signed=signed,
        out_bits=6,
        lanes=1,
        style="distributed",
        family=FAMILY,
        gain=gain,
    )
    check(unit, node, 1, 6, signed, 1, (1.0, 1.0), 0, gain)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize(
    "node",
    [
        node(4, 8, 8, 2, 2),
        node(4, 9, 9, 2, 2),
        node(4, 8, 8, 3, 2, (1, 1)),  # resnet18's
        node(4, 9, 9, 3, 2),  # alexnet's
        node(4, 8, 8, 3, 2, (0, 1)),
        node(4, 9, 9, 3, 2, (1, 1)),
        node(4, 9, 9, 3, 3),
        node(4, 6, 6, 3, 1),
    ],
)
def test_a_pool_takes_a_word_a_cycle(node: Node, lanes: int) -> None:
    unit = pool.MaxPool(node, bits=4, signed=False, lanes=lanes, style="block", family=FAMILY)
    cycles = check(unit, node, 4, 4, False, lanes, (1.0, 1.0), 1, None, images=4)
    assert cycles <= 4 * node.in_shape.size // lanes + 2


@settings(max_examples=40, deadline=None)
@given(geometries(mean=False), st.data())
def test_the_cycles_of_an_image_are_those_that_are_counted(node: Node, data: st.DataObject) -> None:
    """Windows that end in the padding behind a row or the image take its time."""
    lanes = data.draw(st.sampled_from(divisors(node.in_shape.c)))
    counted = counts.cycles(node, lanes)
    taken = []
    for images in (3, 6):
        unit = pool.MaxPool(
            node, bits=2, signed=False, lanes=lanes, style="distributed", family=FAMILY
        )
        taken.append(check(unit, node, 2, 2, False, lanes, (1.0, 1.0), 0, None, images))
    assert taken[1] - taken[0] == 3 * counted


@given(st.integers(1, (1 << 16) - 1))
def test_the_digits_and_adders_of_a_factor(factor: int) -> None:
    found = signed_digits(factor)
    assert sum(sign << position for position, sign in found) == factor
    positions = [position for position, _ in found]
    assert all(b - a > 1 for a, b in pairwise(positions))
    adders = multiples(factor)
    assert len(adders) == len(found) - 1
    assert (adders[-1].result if adders else 1 << positions[0]) == factor


@given(st.integers(1, 400), st.integers(1, 8), st.integers(1, 8))
def test_the_gain_rounds_as_the_mean_does(pixels: int, bits: int, out_bits: int) -> None:
    """Within one code of the exact mean, and the largest codes give the largest code."""
    gain = mean_gain(pixels, bits, out_bits)
    largest = pixels * ((1 << bits) - 1)
    for total in {0, 1, largest // 3, largest // 2, largest}:
        exact = total * ((1 << out_bits) - 1) / largest
        y = total * gain.factor + ((1 << gain.shift) >> 1) >> gain.shift
        assert abs(y - exact) <= 0.5 + 2 ** (out_bits - 15)
