"""The line buffer, against a simulation of the pixels that it holds."""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings

from syq_dse import network, scheme, target
from syq_dse.cost import fpga, timing
from syq_dse.cost.estimate import choose, estimate, geometries
from syq_dse.cost.folding import Folding, Geometry, cycles, foldings, geometry, pes, simds
from syq_dse.cost.integers import ints
from syq_dse.cost.units.window import window
from syq_dse.network import Node

from .shapes import conv, convs

FAST = settings(derandomize=True, max_examples=150, deadline=None)
IMAGES = 4  # the buffer has its largest content where one image follows another


def least_pixels(node: Node) -> int:
    """Pixels of the least buffer with which a constant stream never stops.

    The engine is the slowest that meets the interval: with h_out * w_out windows in the time of
    h_in * w_in pixels it is always busy. A pixel takes its place when it begins to arrive, and
    leaves it when no window that is still to come needs it, in the order of its coming.
    """
    h, w, stride, before = node.in_shape.h, node.in_shape.w, node.stride, node.pad[0]
    rows, columns = node.out_shape.h, node.out_shape.w
    period, work = rows * columns, h * w  # of a pixel, of a window; an image takes their product

    def inside(y: int, x: int) -> int:
        return min(max(y, 0), h - 1) * w + min(max(x, 0), w - 1)

    corners = [
        (r * stride - before, c * stride - before) for r in range(rows) for c in range(columns)
    ]
    oldest = [n * h * w + inside(y, x) for n in range(IMAGES) for y, x in corners]
    reach = node.k - 1
    newest = [n * h * w + inside(y + reach, x + reach) for n in range(IMAGES) for y, x in corners]
    for later in range(len(oldest) - 1, 0, -1):
        oldest[later - 1] = min(oldest[later - 1], oldest[later])

    free: deque[tuple[int, int]] = deque()  # (time, pixels that may go by then)
    now = 0
    for last, following in zip(newest, [*oldest[1:], IMAGES * h * w], strict=True):
        now = max(now, (last + 1) * period) + work
        free.append((now, following))
    most = gone = 0
    for pixel in range(IMAGES * h * w):
        while free and free[0][0] <= pixel * period:
            gone = free.popleft()[1]
        most = max(most, pixel + 1 - gone)
    return most


def held_pixels(geo: Geometry, pe: int, simd: int) -> int:
    """Pixels in the unit's memory; of whole windows, in their shift registers too."""
    (memory,) = window(geo, 1, ints(pe), ints(simd)).memories
    held = int(memory.width * memory.depth * memory.banks) // (geo.c_in * geo.groups)
    shifts = simd == geo.fan_in and geo.groups_at_once(ints(pe)) == geo.groups
    return held + (geo.k + geo.stride if shifts else 0)


def every_folding(geo: Geometry) -> list[tuple[int, int]]:
    return [(pe, simd) for pe in pes(geo) for simd in simds(geo, "pixel")]


def buffered(node: Node) -> bool:
    return node.k > 1 or node.stride > 1


def covers_exactly(node: Node) -> bool:
    """Whether the output has exactly the input's rows and columns divided by the stride."""
    across, down = node.out_shape.w * node.stride, node.out_shape.h * node.stride
    return (down, across) == (node.in_shape.h, node.in_shape.w)


EXACT = [  # same padding as the shipped networks have it
    pytest.param(conv(4, 8, k, h=h, w=w, stride=s, pad=pad), id=f"{k}x{k} stride {s} on {h}x{w}")
    for k, h, w, s, pad in [
        (3, 32, 32, 1, (1, 1)),
        (3, 32, 32, 2, (0, 1)),
        (3, 32, 32, 2, (1, 1)),
        (3, 7, 7, 1, (1, 1)),
        (3, 8, 12, 2, (1, 1)),
        (5, 28, 28, 1, (2, 2)),
        (7, 56, 56, 2, (3, 3)),
        (1, 28, 28, 2, (0, 0)),
        (2, 8, 8, 2, (0, 0)),
    ]
]


@pytest.mark.parametrize("node", EXACT)
def test_the_buffer_is_the_least_that_never_stops_the_stream(node: Node) -> None:
    """(k + stride - 2) rows and k + stride pixels: not one too many where one word is read."""
    geo = geometry(node, signed=False)
    least = least_pixels(node)
    assert least == (geo.k + geo.stride - 2) * geo.w_in + geo.k + geo.stride
    assert held_pixels(geo, 1, 1) == least
    for pe, simd in every_folding(geo):
        held = held_pixels(geo, pe, simd)
        spare = geo.k + (geo.k + geo.stride) * simd // geo.c_in  # words of banks that are not full
        assert least <= held <= least + spare + geo.w_in


@FAST
@given(convs(channels=3, side=12, groups=2))
def test_the_buffer_never_stops_the_stream(node: Node) -> None:
    assume(buffered(node) and covers_exactly(node))
    geo = geometry(node, signed=False)
    least = least_pixels(node)
    for pe, simd in every_folding(geo):
        assert held_pixels(geo, pe, simd) >= least


OTHER = [
    pytest.param(conv(64, 64, 3, h=30), id="cnv, conv2: 30 to 28"),
    pytest.param(conv(256, 256, 3, h=3), id="cnv, conv6: 3 to 1"),
    pytest.param(conv(6, 16, 5, h=14), id="lenet5, conv2: 14 to 10"),
    pytest.param(conv(3, 96, 12, h=224, stride=4), id="alexnet, conv0: 224 to 54"),
    pytest.param(conv(8, 8, 3, h=33, stride=2, pad=(1, 1)), id="33 to 17"),
]


@pytest.mark.parametrize("node", OTHER)
def test_the_buffer_never_stops_the_stream_on_other_sizes(node: Node) -> None:
    assert held_pixels(geometry(node, signed=False), 1, 1) >= least_pixels(node)


@FAST
@given(convs(channels=1, side=12, groups=1))
def test_what_any_size_needs(node: Node) -> None:
    """The bound that the model should have: equal where whole rows are skipped, else above."""
    assume(buffered(node))
    h, w, k, stride = node.in_shape.h, node.in_shape.w, node.k, node.stride
    rows = k + stride - 2 + abs(h - stride * node.out_shape.h)
    pixels = k + stride + abs(w - stride * node.out_shape.w)
    assert least_pixels(node) <= rows * w + pixels
    if covers_exactly(node) and h > k and w > k:
        assert least_pixels(node) == rows * w + pixels


# Banks


def bank(x: int, y: int, k: int, banks: int) -> int:
    return (x + k * y) % banks


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 7, 12])
def test_positions_read_at_once_never_meet_in_a_bank(k: int) -> None:
    for banks in [n for n in range(1, k * k + 1) if k * k % n == 0]:
        for x0, y0 in np.ndindex(banks, 2):
            order = [bank(x0 + i % k, y0 + i // k, k, banks) for i in range(k * k)]
            for step in range(0, k * k, banks):
                assert len(set(order[step : step + banks])) == banks
            # a rotation puts them in order
            assert all(two == (one + 1) % banks for one, two in pairwise(order))


def fullest_bank(w: int, k: int, banks: int, pixels: int) -> int:
    """Most of any `pixels` consecutive pixels of a map that lie in one bank."""
    stream = [bank(x, y, k, banks) for y in range(4 * k * banks) for x in range(w)]
    inside = Counter(stream[:pixels])
    most = max(inside.values())
    for gone, come in zip(stream, stream[pixels:], strict=False):
        inside[come] += 1
        inside[gone] -= 1
        most = max(most, inside[come])
    return most


@pytest.mark.parametrize(
    ("w", "k", "stride", "banks"), [(32, 3, 1, 3), (56, 3, 2, 3), (30, 4, 1, 8), (28, 5, 1, 5)]
)
def test_a_bank_holds_its_share_of_the_buffer(w: int, k: int, stride: int, banks: int) -> None:
    geo = geometry(conv(2, 2, k, h=w, stride=stride, pad=(1, 1)), signed=False)
    (memory,) = window(geo, 1, ints(1), ints(2 * banks)).memories
    assert int(memory.banks) == banks
    pixels = (k + stride - 2) * w + k + stride
    assert int(memory.depth) >= fullest_bank(w, k, banks, pixels)


@pytest.mark.parametrize(
    ("w", "k", "stride", "banks"),
    [(32, 3, 1, 3), (28, 3, 1, 3), (56, 3, 2, 3), (8, 4, 2, 8), (6, 4, 2, 8)],
)
def test_a_bank_is_hardly_deeper_than_its_share(w: int, k: int, stride: int, banks: int) -> None:
    """A gap of (k - w) modulo banks pixels behind each row makes bank and address one count."""
    pad = (k - 1) // 2, k // 2
    geo = geometry(conv(2, 2, k, h=w, stride=stride, pad=pad), signed=False)
    (memory,) = window(geo, 1, ints(1), ints(2 * banks)).memories
    fullest = fullest_bank(w, k, banks, (k + stride - 2) * w + k + stride)
    assert fullest <= int(memory.depth) <= fullest + 4


# Vectors, masks, the pace of the input


def test_a_vector_is_buffered_twice_where_it_is_read_again() -> None:
    geo = geometry(conv(12, 8, h=4), signed=False)
    for pe, simd in every_folding(geo):
        held = held_pixels(geo, pe, simd) - (geo.k + geo.stride) * (simd == geo.fan_in)
        assert held == (2 if pe < 8 else 0)


def test_only_padding_needs_masks() -> None:
    pe, simd = ints([1]), ints([4])
    for pad, masked in (((0, 0), False), ((1, 1), True), ((0, 1), True)):
        geo = geometry(conv(4, 4, 3, h=6, pad=pad), signed=False)
        assert bool(window(geo, 4, pe, simd).lut["mask_bits"].any()) == masked


def writes(geo: Geometry, pe: int, simd: int) -> int:
    """Words of one image that the unit takes, one a cycle."""
    (memory,) = window(geo, 1, ints(pe), ints(simd)).memories
    return geo.h_in * geo.w_in * geo.c_in * geo.groups // int(memory.width)


@FAST
@given(convs(strides=1))
def test_an_image_comes_in_while_the_engine_works(node: Node) -> None:
    """The converter before the window gives it one word a cycle: min(SIMD, C_in) channels."""
    assume(node.out_shape.pixels >= node.in_shape.pixels)
    geo = geometry(node, signed=False)
    for pe, simd in every_folding(geo):
        assert writes(geo, pe, simd) <= int(cycles(geo, ints(pe), ints(simd)))


FAST_STRIDES = [
    pytest.param("alexnet", "conv0", 96, 432, id="alexnet, conv0: 17 times"),
    pytest.param("resnet18", "conv1", 64, 147, id="resnet18, conv1: 4 times"),
    pytest.param("mobilenet-v1", "conv2.depthwise", 64, 9, id="mobilenet-v1: 4 times"),
    pytest.param("resnet8", "layer2.shortcut", 32, 1, id="resnet8, shortcut: 4 times"),
    pytest.param("cnv", "conv1", 64, 27, id="cnv, conv1: 1.14 times"),
]


@pytest.mark.parametrize(("name", "layer", "pe", "simd"), FAST_STRIDES)
def test_no_interval_is_shorter_than_the_image_that_comes_in(
    name: str, layer: str, pe: int, simd: int
) -> None:
    net = network.load(name)
    wanted = scheme.parse_uniform(net, "ternary,4,layer")
    pricing = fpga.pricing(target.load("u250"))
    geos = geometries(net)
    interval = timing.fastest_interval(geos)
    chosen = choose(pricing, net, wanted, interval, {layer: Folding(pe=pe, simd=simd)})
    cost = estimate(pricing, net, wanted, interval, chosen)
    assert cost.interval_cycles >= writes(geos[layer], pe, simd)


def test_a_wider_window_never_costs_reads() -> None:
    geo = geometry(conv(4, 4, 3, h=8, pad=(1, 1)), signed=False)
    pe, simd = foldings(geo, "pixel")
    reads = window(geo, 4, pe, simd).work["sram_bits"]
    assert (reads == geo.positions * (geo.c_out // pe) * geo.fan_in * 4).all()
