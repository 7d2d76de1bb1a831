"""The line buffer, against a simulation of the pixels that it holds."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import HealthCheck, assume, given, settings

from syq_dse import network, scheme, target
from syq_dse.cost import fpga, timing
from syq_dse.cost.estimate import choose, estimate
from syq_dse.cost.estimate import geometries as geometries_of
from syq_dse.cost.folding import (
    Folding,
    Geometry,
    can_be_folded,
    foldings,
    geometry,
    words_a_pixel,
)
from syq_dse.cost.integers import ints
from syq_dse.cost.units.window import passes, repeats, shifted, window
from syq_dse.errors import InputError
from syq_dse.network import Node

from .shapes import conv, convs, geometries

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


def held_pixels(geo: Geometry, pe: int, simd: int) -> float:
    """Pixels in the unit's memory: in each copy of it the same, or in the chain of registers."""
    pair = ints(pe), ints(simd)
    (memory,) = window(geo, 1, *pair).memories
    if shifted(geo, *pair):  # and the one that comes next, at the input
        return (geo.k - 1) * int(memory.depth) + geo.k * geo.k + 1
    return int(memory.depth) / int(words_a_pixel(geo, *pair))


def every_folding(geo: Geometry) -> list[tuple[int, int]]:
    return [(int(pe), int(simd)) for pe, simd in zip(*foldings(geo, "pixel"), strict=True)]


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
    """(k + stride - 2) rows and k + stride pixels, and hardly more but up to a power of two."""
    geo = geometry(node, signed=False)
    least = least_pixels(node)
    assert least == (geo.k + geo.stride - 2) * geo.w_in + geo.k + geo.stride
    for pe, simd in every_folding(geo):
        held, words = held_pixels(geo, pe, simd), int(words_a_pixel(geo, ints(pe), ints(simd)))
        # tiles of 16 words of LUTRAM are filled, and the fastest engines wait for no pixel
        most = least + 16 / words + geo.k + geo.stride
        size = round(held * words)
        assert least <= held, (pe, simd)
        assert held <= most or (size & (size - 1) == 0 and held < 2 * most), (pe, simd)


@settings(FAST, suppress_health_check=[HealthCheck.filter_too_much])
@given(convs(channels=3, side=12, groups=2))
def test_the_buffer_never_stops_the_stream(node: Node) -> None:
    geo = geometry(node, signed=False)
    assume(buffered(node) and covers_exactly(node) and can_be_folded(geo))
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


# Copies


@FAST
@given(geometries(channels=3, side=8, groups=2))
def test_every_position_that_is_read_at_once_has_a_copy(geo: Geometry) -> None:
    """But for positions that are padding in every window."""
    for pe, simd in every_folding(geo):
        pair = ints(pe), ints(simd)
        (memory,) = window(geo, 1, *pair).memories
        if passes(geo, *pair) or repeats(geo, *pair) or shifted(geo, *pair):
            assert int(memory.banks) * int(memory.depth) == (
                geo.w_in - geo.k if shifted(geo, *pair) else 0
            )
            continue
        at_once = max(1, simd // geo.c_in)
        inside = {
            place % at_once
            for place in range(geo.k**2)
            for r in range(geo.h_out)
            for c in range(geo.w_out)
            if 0 <= r * geo.stride + place // geo.k - geo.pad[0] < geo.h_in
            and 0 <= c * geo.stride + place % geo.k - geo.pad[0] < geo.w_in
        }
        assert int(memory.banks) == len(inside)


# Vectors, masks, the pace of the input


def test_a_vector_is_buffered_where_it_is_read_again() -> None:
    """Twice: one is read while the next one comes. A word alone waits at the input."""
    geo = geometry(conv(12, 8, h=4), signed=False)
    for pe, simd in every_folding(geo):
        held = held_pixels(geo, pe, simd)
        assert held == 0 if pe == 8 or simd == 12 else held >= 2


def test_only_padding_needs_masks() -> None:
    pe, simd = ints([1]), ints([4])
    for pad, masked in (((0, 0), False), ((1, 1), True), ((0, 1), True)):
        geo = geometry(conv(4, 4, 3, h=6, pad=pad), signed=False)
        assert bool(window(geo, 4, pe, simd).lut["edges"].any()) == masked


FAST_STRIDES = [
    pytest.param("alexnet", "conv0", 96, 432, id="alexnet, conv0: 17 times"),
    pytest.param("resnet18", "conv1", 64, 147, id="resnet18, conv1: 4 times"),
    pytest.param("mobilenet-v1", "conv2.depthwise", 64, 9, id="mobilenet-v1: 4 times"),
    pytest.param("resnet8", "layer2.shortcut", 32, 1, id="resnet8, shortcut: 4 times"),
    pytest.param("cnv", "conv1", 64, 27, id="cnv, conv1: 1.14 times"),
]


@pytest.mark.parametrize(("name", "layer", "pe", "simd"), FAST_STRIDES)
def test_no_engine_is_faster_than_the_image_that_comes_in(
    name: str, layer: str, pe: int, simd: int
) -> None:
    net = network.load(name)
    wanted = scheme.parse_uniform(net, "ternary,4,layer")
    pricing = fpga.pricing(target.load("u250"))
    geo = geometries_of(net)[layer]
    least = timing.fastest_interval(geometries_of(net))
    assert least >= geo.h_in * geo.w_in
    with pytest.raises(InputError, match=rf"^folding\.{layer}: takes in an image"):
        choose(pricing, net, wanted, least, {layer: Folding(pe=pe, simd=simd)})
    cost = estimate(pricing, net, wanted, least, choose(pricing, net, wanted, least))
    assert cost.interval_cycles <= least


def test_a_wider_window_never_costs_reads() -> None:
    geo = geometry(conv(4, 4, 3, h=8, pad=(1, 1)), signed=False)
    pe, simd = foldings(geo, "pixel")
    reads = window(geo, 4, pe, simd).work["sram_bits"]
    assert (reads == geo.positions * (geo.c_out // pe) * geo.fan_in * 4).all()
