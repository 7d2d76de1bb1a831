"""The units of each layer and their resources: what estimate() and the table both add up."""

from __future__ import annotations

from collections.abc import Sequence

from syq_dse.cost.counts import Counts
from syq_dse.cost.folding import Folding, Geometry, RamStyle, ResType, word_channels
from syq_dse.cost.fpga import Pricing, Resources, resources
from syq_dse.cost.integers import Ints, ints
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
    return resources("window", window(geo, bits, pe, simd), pricing)


def weights_unit(
    pricing: Pricing, geo: Geometry, codebook: str, pe: Ints, simd: Ints, style: RamStyle
) -> Resources:
    counts = weights(geo, weight_bits(codebook), pe, simd, style)
    return resources("weights", counts, pricing, style)


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
    return resources("mac", counts, pricing)


def scale_unit(
    pricing: Pricing,
    geo: Geometry,
    layer: LayerScheme,
    bits: int,
    pe: Ints,
    simd: Ints,
    res: ResType,
    shifts: Sequence[int] | None = None,
) -> Resources:
    counts = scale(geo, layer, bits, pe, simd, res, pricing.family.multiplier, shifts)
    return resources("scale", counts, pricing)


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
        return resources("requant", Counts(lut={}, ff=pe * 0), pricing)
    options = requant_counts(pricing, geo, acc, out, out_bits, pe, simd, res)
    return pricing.cheapest([resources("requant", of, pricing) for of in options.values()])[0]


def requant_method(
    pricing: Pricing, geo: Geometry, acc: int, out: Tensor, out_bits: int, fold: Folding
) -> tuple[requants.Method, Counts]:
    """The method that `requant_unit` takes for one folding, and its counts."""
    pe, simd = ints([fold.pe]), ints([fold.simd])
    options = requant_counts(pricing, geo, acc, out, out_bits, pe, simd, fold.res_type)
    rows = [resources("requant", of, pricing) for of in options.values()]
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
    return resources("fifo", fifos.converter(bits, source, sink), pricing)


def queue_unit(pricing: Pricing, queue: Queue, bits: int) -> Resources:
    """The queue in front of an input."""
    return resources("fifo", fifos.fifo(queue.words, queue.lanes * bits), pricing)


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
    return {unit: resources(unit, counts, pricing), "fifo": sum(waiting[1:], waiting[0])}


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


def ram_styles(pricing: Pricing, geo: Geometry) -> tuple[RamStyle, ...]:
    """Where this part can keep the weights of this layer.

    Layers without reuse of their weights can stream them from DRAM.
    """
    styles: list[RamStyle] = ["distributed"]
    if pricing.board.capacity.bram18:
        styles.append("block")
    if pricing.family.uram and pricing.board.capacity.uram:
        styles.append("ultra")
    if pricing.board.dram.bandwidth_gb_s and geo.positions == 1:
        styles.append("dram")
    return tuple(styles)


def res_types(pricing: Pricing) -> tuple[ResType, ...]:
    """What can multiply on this part."""
    return ("lut", "dsp") if pricing.board.capacity.dsp else ("lut",)
