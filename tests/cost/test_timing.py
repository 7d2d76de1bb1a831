"""Interval, latency and queues, against networks that run pixel by pixel (flow.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from syq_dse import network, scheme, target
from syq_dse.cost import fpga, timing
from syq_dse.cost.estimate import choose, estimate, geometries
from syq_dse.cost.folding import Folding, can_be_folded, cycles, foldings, geometry
from syq_dse.cost.integers import ints
from syq_dse.network import (
    Add,
    Conv,
    Dense,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Node,
    Recipe,
)

from . import flow
from .shapes import convs

SLOWEST, FASTEST = 0, 1


def build(c: int, side: int, layers: Sequence[Layer]) -> Network:
    end: list[Layer] = [GlobalAvgPool(name="gap"), Dense(name="fc", c_out=2, relu=False)]
    return network.build(
        NetworkFile(
            name="drawn",
            provenance="a test",
            classes=2,
            input=(c, side, side),
            recipe=Recipe(dataset="none"),
            layers=(*layers, *end),
        )
    )


def residual(c: int, side: int, k: int, depth: int, stride: int = 1, blocks: int = 1) -> Network:
    """Blocks of `depth` convolutions beside a bypass, which has a 1x1 convolution for a stride."""
    layers: list[Layer] = [Conv(name="stem", c_out=c, k=3, pad=1)]
    for block in range(blocks):
        before = layers[-1].name
        for i in range(depth):
            layers.append(
                Conv(
                    name=f"conv{block}.{i}",
                    c_out=c,
                    k=k,
                    pad=k // 2,
                    stride=stride if i == 0 else 1,
                    relu=i < depth - 1,
                )
            )
        main = layers[-1].name
        if stride > 1:
            layers.append(
                Conv(name=f"bypass{block}", input=before, c_out=c, k=1, stride=stride, relu=False)
            )
            before = layers[-1].name
        layers.append(Add(name=f"add{block}", inputs=(main, before)))
    return build(c, side, layers)


def plain(c: int, side: int, pooled: bool) -> Network:
    """Two convolutions, a pool between them or not."""
    pool: list[Layer] = [MaxPool(name="pool", k=2)] if pooled else []
    first = Conv(name="conv1", c_out=c, k=3, pad=1)
    return build(c, side, [first, *pool, Conv(name="conv2", c_out=c, k=3, pad=1)])


@cache
def legal(net: Network, name: str) -> list[tuple[int, int, int]]:
    """(cycles, pe, simd) of each folding of a layer, fastest first."""
    geo = geometries(net)[name]
    pe, simd = foldings(geo, "pixel")
    rows = zip(cycles(geo, pe, simd), pe, simd, strict=True)
    return sorted((int(t), int(p), int(s)) for t, p, s in rows)


def fold(net: Network, interval: int, picks: Sequence[float]) -> dict[str, Folding]:
    """For each engine one of the foldings that meet the interval: 0 the slowest, 1 the fastest."""
    found = {}
    for node, pick in zip(net.engines, picks, strict=True):
        meets = [row for row in legal(net, node.name) if row[0] <= interval]
        _, pe, simd = meets[round((1 - pick) * (len(meets) - 1))]
        found[node.name] = Folding(pe=pe, simd=simd)
    return found


def intervals(net: Network) -> list[int]:
    """Intervals that some engine takes in full: there is no slack to hide a stop in."""
    least = timing.fastest_interval(geometries(net))
    every = {t for node in net.engines for t, _, _ in legal(net, node.name)}
    return sorted(t for t in every if t >= least)


def ratio(net: Network, interval: int, chosen: dict[str, Folding], **changed: object) -> float:
    """The interval that a row of images really takes, by the interval asked for."""
    layers = flow.stages(net, interval, chosen, **changed)
    taken = flow.steady_interval(layers, net.input_shape.pixels, interval)
    return taken / interval


# Lags and streams


@settings(derandomize=True, max_examples=150, deadline=None)
@given(convs(channels=2, side=12, groups=1))
def test_lag_is_the_pixel_that_ends_the_first_window(node: Node) -> None:
    first = flow.corners(node)[1][0]
    assert timing.lag(node) >= first
    if node.k <= min(node.in_shape.h, node.in_shape.w):
        assert timing.lag(node) == first


@pytest.mark.parametrize("name", ["fmnist-vgg", "resnet8", "alexnet"])
def test_a_stream_takes_no_longer_than_the_interval(name: str) -> None:
    net = network.load(name)
    least = timing.fastest_interval(geometries(net))
    for interval in (least, 3 * least, 100 * least):
        assert timing.stream_cycles(net, interval) <= interval


@settings(derandomize=True, max_examples=60, deadline=None)
@given(convs(channels=6, side=5), st.integers(1, 9), st.sampled_from(["layer", "row", "pixel"]))
def test_most_busy_is_a_bound_of_every_folding(node: Node, slower: int, granularity: str) -> None:
    """Of those that meet the interval, and it is near: no bound is over three times the most."""
    geo = geometry(node, False)
    if not can_be_folded(geo):
        return
    granularity = granularity if node.k > 1 else "layer"  # all are the same there
    pe, simd = foldings(geo, granularity)
    taken = cycles(geo, pe, simd)
    interval = int(taken.min()) * slower
    meets = taken <= interval
    most = int(timing.busy(geo, granularity, pe[meets], simd[meets]).max())
    bound = timing.most_busy(node, interval)
    assert most <= bound
    if node.groups == 1 and node.k > 1 and granularity == "pixel":
        assert bound <= 3 * most + 9


def test_flattening_moves_no_words() -> None:
    net = network.load("fmnist-vgg")
    pooled = net.by_name["pool2"].out_shape
    assert timing.stream_shape(net, "flatten") == pooled
    queue = timing.queues(net, 784)["dense1", "flatten"]
    assert queue.lanes == timing.stream_lanes(net, "pool2", 784)


# Additions


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    c=st.sampled_from([4, 6, 9]),
    pixels=st.integers(2, 4),
    k=st.sampled_from([1, 3, 5]),
    depth=st.integers(1, 3),
    stride=st.integers(1, 3),
    data=st.data(),
)
def test_queues_of_a_residual_block_never_stop_it(
    c: int, pixels: int, k: int, depth: int, stride: int, data: st.DataObject
) -> None:
    """For every folding that meets the interval, the slowest of each layer among them."""
    assume(c >= stride * stride)  # else no engine of a 1x1 kernel is as slow as its input
    net = residual(c, pixels * stride + (4 // stride) * stride, k, depth, stride)
    interval = data.draw(st.sampled_from(intervals(net)))
    pick = st.sampled_from([SLOWEST, FASTEST]) | st.floats(0, 1)
    many = len(net.engines)
    picks = data.draw(st.lists(pick, min_size=many, max_size=many))
    assert ratio(net, interval, fold(net, interval, picks)) <= 1


@settings(derandomize=True, max_examples=8, deadline=None)
@given(pick=st.sampled_from([SLOWEST, FASTEST]), data=st.data())
def test_queues_of_resnet8_never_stop_it(pick: float, data: st.DataObject) -> None:
    net = network.load("resnet8")
    interval = data.draw(st.sampled_from(intervals(net)[:20]))
    picks = [data.draw(st.sampled_from([SLOWEST, FASTEST, pick])) for _ in net.engines]
    assert ratio(net, interval, fold(net, interval, picks)) <= 1


def test_half_a_queue_is_a_deadlock() -> None:
    net = residual(c=4, side=12, k=3, depth=2)
    interval = intervals(net)[-1]
    chosen = fold(net, interval, [SLOWEST] * len(net.engines))
    assert ratio(net, interval, chosen) <= 1
    with pytest.raises(flow.DeadlockError):
        ratio(net, interval, chosen, queues=lambda node, tensor, pixels: pixels // 2)


def test_queues_are_hardly_deeper_than_they_must_be() -> None:
    """Five pixels less, of 35 in the bypass of two 3x3 convolutions on 12x12, stop the stream."""
    net = residual(c=4, side=12, k=3, depth=2)
    interval = intervals(net)[-1]
    chosen = fold(net, interval, [SLOWEST] * len(net.engines))
    queue = timing.queues(net, interval)["add0", "stem"]
    assert queue.words * queue.lanes <= 4 * 35

    def short(node: Node, tensor: str, pixels: int) -> int:
        return pixels - 5 if tensor == "stem" else pixels

    with suppress(flow.DeadlockError):
        assert ratio(net, interval, chosen, queues=short) > 1


def test_equal_blocks_have_equal_queues() -> None:
    net = residual(c=4, side=8, k=3, depth=2, blocks=4)
    found = timing.queues(net, intervals(net)[-1])
    adds = [node for node in net.nodes if isinstance(node.layer, Add)]
    for place in (0, 1):
        assert len({found[node.name, node.inputs[place]] for node in adds}) == 1


@settings(derandomize=True, max_examples=10, deadline=None)
@given(data=st.data())
def test_queues_of_many_blocks_never_stop_them(data: st.DataObject) -> None:
    net = residual(c=4, side=6, k=3, depth=2, blocks=3)
    interval = data.draw(st.sampled_from(intervals(net)))
    picks = [data.draw(st.sampled_from([SLOWEST, FASTEST])) for _ in net.engines]
    assert ratio(net, interval, fold(net, interval, picks)) <= 1


def test_paths_part_where_no_way_leads_around() -> None:
    """w reads u and r, both made of x; but u waits for y2, which parts from x before, at z."""
    net = build(
        4,
        12,
        [
            Conv(name="z", c_out=4, k=3, pad=1),
            Conv(name="x", input="z", c_out=4, k=1),
            Conv(name="y0", input="z", c_out=4, k=5, pad=2),
            Conv(name="y1", c_out=4, k=5, pad=2),
            Conv(name="y2", c_out=4, k=5, pad=2, relu=False),
            Conv(name="p", input="x", c_out=4, k=1, relu=False),
            Add(name="u", inputs=("p", "y2"), relu=False),
            Conv(name="r", input="x", c_out=4, k=1, relu=False),
            Add(name="w", inputs=("u", "r")),
        ],
    )
    interval = intervals(net)[-1]
    assert ratio(net, interval, fold(net, interval, [SLOWEST] * len(net.engines))) <= 1


@pytest.mark.parametrize(("k", "pad"), [(2, 0), (3, 1)])
def test_a_pool_before_a_residual_block_does_not_slow_it_down(k: int, pad: int) -> None:
    """As in resnet18, which takes 1.4 times the interval with every engine busy."""
    net = build(
        4,
        16,
        [
            Conv(name="stem", c_out=4, k=3, pad=1),
            MaxPool(name="pool", k=k, stride=2, pad=pad),
            Conv(name="conv0", c_out=4, k=3, pad=1),
            Conv(name="conv1", c_out=4, k=3, pad=1, relu=False),
            Add(name="add", inputs=("conv1", "pool")),
        ],
    )
    interval = 16 * 16 * 36  # and 8 x 8 x 144
    assert ratio(net, interval, fold(net, interval, [SLOWEST] * len(net.engines))) <= 1


# The interval of whole networks


def test_convolutions_of_the_same_size_meet_their_interval() -> None:
    net = plain(c=4, side=16, pooled=False)
    for interval in intervals(net):
        assert ratio(net, interval, fold(net, interval, [SLOWEST] * 3)) <= 1


def test_a_pool_between_them_does_not_slow_them_down() -> None:
    net = plain(c=4, side=16, pooled=True)
    interval = 16 * 16 * 36  # and 8 x 8 x 144: both convolutions take it in full
    assert ratio(net, interval, fold(net, interval, [SLOWEST] * 3)) <= 1


def test_half_a_row_more_is_what_a_pool_needs() -> None:
    net = plain(c=4, side=16, pooled=True)

    def more(node: Node, pixels: int) -> int:
        return pixels + (node.in_shape.w // 2 if node.name == "conv2" else 0)

    for interval in intervals(net):
        assert ratio(net, interval, fold(net, interval, [SLOWEST] * 3), buffers=more) <= 1


STOPS = [  # network, cycles, why it takes longer
    pytest.param("fmnist-vgg", 784, id="fmnist-vgg: pools, 1.28"),
    pytest.param("lenet5", 24_000, id="lenet5: valid convolutions, 1.41"),
    pytest.param("cnv", 1800, id="cnv: valid convolutions, 1.65"),
]


@pytest.mark.parametrize(("name", "interval"), STOPS)
def test_a_network_takes_the_interval_that_it_is_given(name: str, interval: int) -> None:
    net = network.load(name)
    design = scheme.parse_uniform(net, "ternary,4,layer")
    chosen = choose(fpga.pricing(target.load("zcu102")), net, design, interval)
    assert ratio(net, interval, chosen) <= 1


def test_a_network_without_valid_convolutions_or_pools_takes_its_interval() -> None:
    net = network.load("resnet8")
    design = scheme.parse_uniform(net, "ternary,4,layer")
    pricing = fpga.pricing(target.load("zcu102"))
    for interval in (1536, 18_432, 442_368):
        chosen = choose(pricing, net, design, interval)
        cost = estimate(pricing, net, design, interval, chosen)
        assert cost.interval_cycles <= interval
        assert ratio(net, interval, chosen) <= 1


# Latency


def bound_and_measured(
    net: Network, interval: int, chosen: dict[str, Folding]
) -> tuple[int, float]:
    geos = geometries(net)
    work = {n: int(timing.work(geos[n], ints(f.pe), ints(f.simd))) for n, f in chosen.items()}
    layers = flow.stages(net, interval, chosen, endless=True, words=True)
    measured = flow.first_latency(layers, net.input_shape.pixels, interval)
    return timing.latency(net, interval, work), measured


@pytest.mark.parametrize("name", ["lenet5", "fmnist-vgg", "cnv", "resnet8"])
@pytest.mark.parametrize("slower", [1, 6, 300])
def test_latency_is_an_upper_bound(name: str, slower: int) -> None:
    net = network.load(name)
    interval = slower * timing.fastest_interval(geometries(net))
    for pick in (SLOWEST, FASTEST, 0.5):
        chosen = fold(net, interval, [pick] * len(net.engines))
        bound, measured = bound_and_measured(net, interval, chosen)
        assert measured <= bound <= 2.05 * measured  # fast engines outrun the pace of the interval

    design = scheme.parse_uniform(net, "ternary,4,layer")
    taken = choose(fpga.pricing(target.load("zcu102")), net, design, interval)
    bound, measured = bound_and_measured(net, interval, taken)
    assert measured <= bound <= 1.35 * measured  # the smallest foldings are near the pace


def test_latency_is_close_where_every_engine_takes_the_interval() -> None:
    """Apart from the words of a vector, of which all count and the last PEs' words remain, and from
    the turns that lanes take at requantisation."""
    net = network.load("resnet8")
    interval = timing.fastest_interval(geometries(net))
    chosen = fold(net, interval, [SLOWEST] * len(net.engines))
    bound, measured = bound_and_measured(net, interval, chosen)
    assert measured <= bound <= 1.04 * measured


@pytest.mark.parametrize(("name", "interval"), [("cybersec-mlp", 64), ("cnv", 1800)])
def test_latency_counts_the_words_of_a_pixel(name: str, interval: int) -> None:
    """All PEs are done at once, and their results leave in words of a few channels."""
    net = network.load(name)
    chosen = fold(net, interval, [FASTEST] * len(net.engines))
    bound, measured = bound_and_measured(net, interval, chosen)
    assert measured <= bound


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_achievable_is_the_slowest_engine_that_keeps_up(interval: int, seed: int) -> None:
    net = plain(c=4, side=8, pooled=False)
    counts = [ints([t for t, _, _ in legal(net, node.name)]) for node in net.engines]
    least = timing.fastest_interval(geometries(net))
    interval = max(interval % (4 * seed), least)
    reached = timing.achievable(counts, interval)
    assert reached <= interval
    assert reached == max(max(t for t in c.tolist() if t <= interval) for c in counts)
