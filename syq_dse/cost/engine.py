"""The units of each layer and their resources: what estimate() and the table both add up."""

from __future__ import annotations

from collections.abc import Sequence

from syq_dse.cost.counts import Counts
from syq_dse.cost.folding import Folding, Geometry, RamStyle, ResType, word_channels
from syq_dse.cost.fpga import Resources
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.timing import Queue
from syq_dse.cost.units import fifo as fifos
from syq_dse.cost.units import pool as pools
from syq_dse.cost.units import requant as requants
from syq_dse.cost.units.add import add
from syq_dse.cost.units.mac import mac, sum_bits
from syq_dse.cost.units.scale import scale, scale_max
from syq_dse.cost.units.weights import weights
from syq_dse.cost.units.window import window
from syq_dse.network import Add, Flatten, MaxPool, Node
from syq_dse.scheme import LayerScheme, Tensor, weight_bits


def result_bits(geo: Geometry, layer: LayerScheme, bits: int) -> int:
    """Bits of the accumulator that meets the thresholds, or leaves the last layer."""
    return sum_bits(geo.fan_in, layer.weights, bits, geo.signed, scale_max(layer))


def window_unit(pricing: Pricing, geo: Geometry, bits: int, pe: Ints, simd: Ints) -> Resources:
    return pricing.resources("window", window(geo, bits, pe, simd))


def weights_unit(
    pricing: Pricing, geo: Geometry, codebook: str, pe: Ints, simd: Ints, style: RamStyle
) -> Resources:
    counts = weights(geo, weight_bits(codebook), pe, simd, style)
    return pricing.resources("weights", counts, style)


def mac_unit(
    pricing: Pricing,
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res: ResType,
    codes: Ints | None = None,
) -> Resources:
    """The unit with any codes or, where they are constants, with those of one folding, as `mac`."""
    counts = mac(geo, layer, bits, pe, simd, res, pricing.family.multiplier, codes)
    return pricing.resources("mac", counts)


def scale_unit(
    pricing: Pricing,
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res: ResType,
    mantissas: Sequence[int] | None = None,
) -> Resources:
    counts = scale(geo, layer, bits, pe, simd, res, pricing.family.multiplier, mantissas)
    return pricing.resources("scale", counts)


def requant_unit(
    pricing: Pricing,
    geo: Geometry,
    acc: int,
    out: Tensor,
    out_bits: int,
    pe: Ints,
    simd: Ints,
    res: ResType,
) -> Resources:
    """The cheaper of thresholds and multiply-add-shift-clip; nothing for the network's result."""
    if out.kind == "result":
        return pricing.resources("requant", Counts(lut={}, ff=pe * 0))
    options = requant_counts(pricing, geo, acc, out, out_bits, pe, simd, res)
    return pricing.cheapest([pricing.resources("requant", of) for of in options.values()])[0]


def requant_method(
    pricing: Pricing, geo: Geometry, acc: int, out: Tensor, out_bits: int, fold: Folding
) -> tuple[requants.Method, Counts]:
    """The method that `requant_unit` takes for one folding, and its counts."""
    pe, simd = ints([fold.pe]), ints([fold.simd])
    options = requant_counts(pricing, geo, acc, out, out_bits, pe, simd, fold.res_type)
    rows = [pricing.resources("requant", of) for of in options.values()]
    return list(options.items())[int(pricing.cheapest(rows)[1][0])]


def requant_counts(
    pricing: Pricing,
    geo: Geometry,
    acc: int,
    out: Tensor,
    out_bits: int,
    pe: Ints,
    simd: Ints,
    res: ResType,
) -> dict[requants.Method, Counts]:
    """What each method of requantisation takes; residual branches are signed, so they multiply."""
    period = geo.fan_in // simd
    port = pricing.family.multiplier[0]
    alike = requants.repeated(acc, geo.fan_in)
    multiplied = requants.multiply(acc, out_bits, geo.c_out, pe, period, res == "dsp", port, alike)
    found: dict[requants.Method, Counts] = {"multiply": multiplied}
    if not out.signed:
        found["thresholds"] = requants.thresholds(acc, out_bits, geo.c_out, pe, period, alike)
    return found


def input_unit(
    pricing: Pricing, geo: Geometry, bits: int, queue: Queue, pe: Ints, simd: Ints
) -> Resources:
    """The queue in front of an engine and the conversion to the words of its window."""
    word = word_channels(geo, pe, simd)
    return queue_unit(pricing, queue, bits) + convert_unit(pricing, bits, queue.lanes, word)


def output_unit(pricing: Pricing, bits: int, pe: Ints, link: int) -> Resources:
    """The conversion from an engine's PEs to the words of the stream that it writes."""
    return convert_unit(pricing, bits, pe, link)


def convert_unit(pricing: Pricing, bits: int, source: Ints | int, sink: Ints | int) -> Resources:
    """The conversion between words of different widths."""
    return pricing.resources("fifo", fifos.converter(bits, source, sink))


def queue_unit(pricing: Pricing, queue: Queue, bits: int) -> Resources:
    """The queue in front of an input."""
    return pricing.resources("fifo", fifos.fifo(queue.words, queue.lanes * bits))


def plain_units(
    pricing: Pricing,
    node: Node,
    bits: tuple[int, ...],
    out_bits: int,
    links: tuple[Queue, ...],
    link: int,
) -> dict[str, Resources]:
    """The units of a layer without weights, by name; none for flatten.

    Args:
        bits: precision of each tensor that it reads, with `links` its queues.
        link: channels a word of the stream that an addition writes; a pool keeps what it reads.
    """
    if isinstance(node.layer, Flatten):
        return {}
    width = links[0].lanes
    waiting = [queue_unit(pricing, link, b) for link, b in zip(links, bits, strict=True)]
    if isinstance(node.layer, Add):
        unit = "add"
        counts = add(node, (bits[0], bits[1]), out_bits, link)
        waiting += [
            convert_unit(pricing, b, queue.lanes, link)
            for queue, b in zip(links, bits, strict=True)
        ]
    elif isinstance(node.layer, MaxPool):
        unit, counts = "pool", pools.max_pool(node, bits[0], width)
    else:
        unit, counts = "pool", pools.mean_pool(node, bits[0], out_bits, width)
    return {unit: pricing.resources(unit, counts), "fifo": sum(waiting[1:], waiting[0])}


def engine_units(
    pricing: Pricing,
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    out: Tensor,
    out_bits: int,
    queue: Queue,
    link: int,
    fold: Folding,
) -> dict[str, Resources]:
    """The units of one folded engine, by name, one row of resources each."""
    pe, simd = ints(fold.pe), ints(fold.simd)
    acc = result_bits(geo, layer, bits)
    requant = requant_unit(pricing, geo, acc, out, out_bits, pe, simd, fold.res_type)
    return {
        "window": window_unit(pricing, geo, bits, pe, simd),
        "weights": weights_unit(pricing, geo, layer.weights, pe, simd, fold.ram_style),
        "mac": mac_unit(pricing, geo, layer, bits, pe, simd, fold.res_type),
        "scale": scale_unit(pricing, geo, layer, bits, pe, simd, fold.res_type),
        "requant": requant,
        "fifo": input_unit(pricing, geo, bits, queue, pe, simd)
        + output_unit(pricing, out_bits, pe, link),
    }
