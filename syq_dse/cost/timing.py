"""When data arrive: the latency of an image, and the depth of the queues where paths meet again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from syq_dse.cost.folding import Geometry, lanes, least_cycles, words_a_pixel
from syq_dse.cost.integers import Ints, cdiv, clog2, ints
from syq_dse.cost.units import pool as pools
from syq_dse.network import (
    INPUT,
    Add,
    AvgPool,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Network,
    Node,
    Shape,
)

POOLS = (MaxPool, AvgPool, GlobalAvgPool)

QUEUE_STAGES = 2
"""Registers that a word passes in a queue, at most."""

PLAIN_STAGES = 3
"""Registers of a pool or an addition: two steps of windows and a gain, at most."""

ENGINE_STAGES = 2 + 4
"""Registers of an engine besides its adder tree: of the window, and before and behind the tree for
counts of ones or products, for codes of several bits, and for the accumulator."""

SCALE_STAGES = 2
"""Registers of `scale`, the result's apart, which counts as the last of the turns."""

REQUANT_STAGES = 2
"""Registers of a gain, the result's apart, which counts as the last of the turns."""

MOST_BITS = 8
"""Comparisons of a search of thresholds, at most."""


def pixel_period(pixels: int, interval: int) -> int:
    """Cycles between two pixels of a stream that fills the interval."""
    return int(cdiv(interval, pixels))


def lag(node: Node) -> int:
    """Pixels that a layer must have read, past the first, before its first output pixel."""
    pixels = node.in_shape.pixels
    if isinstance(node.layer, (GlobalAvgPool, Flatten)):
        return pixels - 1
    rows = max(0, node.k - 1 - node.pad[0])
    return min(pixels - 1, rows * node.in_shape.w + rows)


def stages(node: Node) -> int:
    """Pipeline registers between what a layer reads and what it writes, at most.

    Those of scaling and requantisation count in `busy`.
    """
    if isinstance(node.layer, Flatten):
        return 0
    if not node.has_weights:
        return QUEUE_STAGES + PLAIN_STAGES
    return QUEUE_STAGES + ENGINE_STAGES + int(clog2(node.fan_in))


def delay(network: Network, node: Node, interval: int) -> int:
    """Cycles from the first input pixel to the first output pixel, an engine's own work apart.

    The results of an engine's last PEs leave in words of as many channels as the stream has.
    """
    words = 0
    if node.has_weights:
        words = int(cdiv(node.out_shape.c, stream_lanes(network, node.name, interval))) - 1
    return lag(node) * pixel_period(node.in_shape.pixels, interval) + stages(node) + words


def work(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Cycles that an engine works on one output pixel."""
    return (geo.c_out // ints(pe)) * (geo.fan_in // ints(simd))


def busy(geo: Geometry, granularity: str, pe: Ints, simd: Ints) -> Ints:
    """Cycles from an engine's last input pixel of a window to its last result, at most.

    The pixel comes in word by word, the engine works, and the lanes of its last result take turns
    at what scales and requantises them.
    """
    pe, simd = ints(pe), ints(simd)
    period = geo.fan_in // simd
    comes = words_a_pixel(geo, pe, simd) - 1
    turns = np.maximum(np.minimum(pe * MOST_BITS, period) + REQUANT_STAGES, MOST_BITS)
    if granularity in ("row", "pixel"):
        terms = geo.c_in * (geo.k if granularity == "row" else 1)
        turns = turns + np.minimum(pe, np.maximum(terms // simd, 1)) + SCALE_STAGES
    found: Ints = comes + work(geo, pe, simd) + turns
    return found


def most_busy(node: Node, interval: int) -> int:
    """The most of `busy` of any folding that meets the interval."""
    most, c_out = pixel_period(node.out_shape.pixels, interval), node.out_shape.c
    comes = most if node.groups > 1 else most // (node.k * node.k)
    turns = max(min(MOST_BITS * c_out, most) + REQUANT_STAGES, MOST_BITS)
    if node.k > 1:
        turns += min(c_out, most) + SCALE_STAGES
    return comes + most + turns


def latency(network: Network, interval: int, engine_work: Mapping[str, int]) -> int:
    """Cycles from the first word of an image to the last of its result, no engine waiting.

    An upper bound: streams are paced by the interval.

    Args:
        engine_work: cycles on a pixel of each conv and dense layer (`busy`).
    """
    arrival = {INPUT: pixel_period(network.input_shape.pixels, interval)}
    for node in network.nodes:
        start = max(arrival[name] for name in node.inputs)
        arrival[node.name] = start + delay(network, node, interval) + engine_work.get(node.name, 0)
    return arrival[network.nodes[-1].name] + tail(network, interval)


def tail(network: Network, interval: int) -> int:
    """Cycles from the first to the last pixel of the result."""
    pixels = network.nodes[-1].out_shape.pixels
    return (pixels - 1) * pixel_period(pixels, interval)


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue in front of one input of a layer."""

    words: int
    lanes: int  # channels a word


def queues(network: Network, interval: int) -> dict[tuple[str, str], Queue]:
    """The queue of every (layer, tensor that it reads), deep enough that no path waits.

    Three things make a stream wait. A pool writes nothing in the first rows of an image, and what
    it writes then comes faster than on average: its readers' queues hold the pixels that come
    early. A pool whose windows end in the padding behind the image reads nothing in that time. And
    where two paths meet, the shorter one's queue holds the pixels that pass while the longer one
    fills its line buffers: the true difference of their lags from where they part, and for each
    engine on the longer path the pixel in work. It holds for every folding that meets the interval.
    """
    found = {}
    passed = _passed(network)
    for node in network.nodes:
        spans = _spans(network, node, passed, interval) if isinstance(node.layer, Add) else {}
        for name in node.inputs:
            shape = stream_shape(network, name)
            width = stream_lanes(network, name, interval)
            paced = not isinstance(node.layer, (*POOLS, Flatten))
            pause = pools.pause(node, width) if isinstance(node.layer, MaxPool) else 0
            early = burst(network, name) if paced or pause else 0
            words = 2 + int(cdiv(early * shape.c, width))
            if pause:  # the pixel in work, too
                words += int(cdiv(pause * shape.size, width * interval) + cdiv(shape.c, width))
            if spans:
                last = max(latest for _, latest in spans.values())
                waiting = int(cdiv((last - spans[name][0]) * shape.pixels, interval)) + 1 + early
                words = max(2, int(cdiv(waiting * shape.c, width)))
            found[node.name, name] = Queue(words, width)
    return found


def burst(network: Network, tensor: str) -> int:
    """Pixels of a tensor that come earlier than an even pace: what pools before it leave.

    An engine paces what it writes, and an addition waits for the later of its operands.
    """
    if tensor == INPUT:
        return 0
    node = network.by_name[tensor]
    if isinstance(node.layer, (MaxPool, AvgPool)):
        return pools.early(node) + burst(network, node.inputs[0]) // node.stride
    if isinstance(node.layer, (Flatten, Add)):
        return min(burst(network, name) for name in node.inputs)
    return 0


def _spans(
    network: Network, join: Node, passed: Mapping[str, set[str]], interval: int
) -> dict[str, tuple[int, int]]:
    """Earliest and latest arrival of each input of an addition, from where its paths part."""
    shared = set.intersection(*(passed[name] for name in join.inputs))
    fork = max(shared, key=list(passed).index)
    found = {fork: (0, 0)}
    for node in network.nodes:
        known = [found[name] for name in node.inputs if name in found]
        if node.name in found or not known:
            continue
        wait = lag(node) * pixel_period(node.in_shape.pixels, interval)
        own = most_busy(node, interval) if node.has_weights else 0
        earliest = max(e for e, _ in known) + wait
        latest = max(late for _, late in known) + wait + own + stages(node)
        found[node.name] = (earliest, latest)
    return {name: found[name] for name in join.inputs}


def _passed(network: Network) -> dict[str, set[str]]:
    """By tensor, in the order of the flow: the tensors that every path to it passes, and itself."""
    found = {INPUT: {INPUT}}
    for node in network.nodes:
        found[node.name] = set.intersection(*(found[n] for n in node.inputs)) | {node.name}
    return found


def stream_shape(network: Network, tensor: str) -> Shape:
    """The shape in which a tensor travels: flattening renames its words and moves none."""
    if tensor != INPUT:
        node = network.by_name[tensor]
        if isinstance(node.layer, Flatten):
            return stream_shape(network, node.inputs[0])
    return network.shape_of(tensor)


def stream_lanes(network: Network, tensor: str, interval: int) -> int:
    """Channels a word of a tensor's stream: pools and flattening keep the words that they read."""
    if tensor != INPUT:
        node = network.by_name[tensor]
        if isinstance(node.layer, (*POOLS, Flatten)):
            return stream_lanes(network, node.inputs[0], interval)
    slow = [node for node in _pools_behind(network, tensor) if node.pad != (0, 0)]
    return lanes(
        network.shape_of(tensor),
        interval,
        lambda n: all(pools.cycles(node, n) <= interval for node in slow),
    )


def _pools_behind(network: Network, tensor: str) -> list[Node]:
    """The pools that read a tensor's words, or those of another pool behind it."""
    found = []
    for node in network.nodes:
        if tensor in node.inputs and isinstance(node.layer, (*POOLS, Flatten)):
            if not isinstance(node.layer, Flatten):
                found.append(node)
            found.extend(_pools_behind(network, node.name))
    return found


def pool_cycles(network: Network, interval: int) -> dict[str, int]:
    """Cycles of an image in each pool."""
    return {
        node.name: pools.cycles(node, stream_lanes(network, node.name, interval))
        for node in network.nodes
        if isinstance(node.layer, POOLS)
    }


def stream_cycles(network: Network, interval: int) -> int:
    """Cycles that the slowest stream between two layers, or pool, takes for one image."""
    read = {name for node in network.nodes for name in node.inputs}
    streams = (
        stream_shape(network, name).size // stream_lanes(network, name, interval) for name in read
    )
    return max(*streams, *pool_cycles(network, interval).values(), 0)


def least_pool_cycles(network: Network) -> dict[str, int]:
    """The least cycles of an image in each pool: a pixel a word, and the padding's time."""
    return {
        node.name: pools.cycles(node, node.in_shape.c)
        for node in network.nodes
        if isinstance(node.layer, POOLS) and node.pad != (0, 0)
    }


def fastest_interval(geometries: Mapping[str, Geometry]) -> int:
    """The least interval that any folding reaches."""
    return max(least_cycles(geo) for geo in geometries.values())


def slowest_interval(geometries: Mapping[str, Geometry]) -> int:
    """The interval of one PE and one SIMD lane everywhere; a longer one saves nothing."""
    return max(geo.positions * geo.c_out * geo.fan_in for geo in geometries.values())


def achievable(cycle_counts: list[Ints], interval: int) -> int:
    """The interval that engines really reach when each takes at most `interval` cycles.

    Each can take the slowest of its foldings that keeps up; the slowest engine then decides.
    """
    return max(int(np.max(c[c <= interval])) for c in cycle_counts)
