"""estimate(): the cost of one design, layer by layer and unit by unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from syq_dse.cost import engine, timing
from syq_dse.cost.folding import (
    Folding,
    Geometry,
    RamStyle,
    ResType,
    can_be_folded,
    check,
    cycles,
    foldings,
    geometry,
    least_cycles,
)
from syq_dse.cost.fpga import Resources
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.units.requant import Method
from syq_dse.errors import InfeasibleError, InputError, unknown
from syq_dse.network import Network, Node
from syq_dse.scheme import LayerScheme, Scheme, normal, tensors

LIMIT = 0.8
"""Share of each resource that a design may fill: past it, place and route rarely closes timing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer of a priced design; `scheme` and `folding` are for layers with weights."""

    name: str
    units: Mapping[str, Mapping[str, int]]  # unit to column of the pricing to count, each by itself
    total: Mapping[str, int]  # by column of the pricing; LUTs that units share count once
    input_bits: int
    output_bits: int
    cycles: int  # an image
    scheme: LayerScheme | None = None
    folding: Folding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A priced design."""

    layers: tuple[LayerCost, ...]
    total: Mapping[str, int]  # by column of the pricing
    interval_cycles: int  # the largest of the layers and of the streams between them
    latency_cycles: int


def geometries(network: Network) -> dict[str, Geometry]:
    """The geometry of every engine.

    Raises:
        InputError: a layer skips so much of its input that no engine is as slow as that comes in.
    """
    written = tensors(network)
    found = {node.name: geometry(node, written[node.inputs[0]].signed) for node in network.engines}
    for name, geo in found.items():
        if not can_be_folded(geo):
            raise InputError(
                f"{network.name}: {name} has no hardware: an image comes in more slowly than one "
                f"PE works with one SIMD lane; use a smaller stride than {geo.stride}"
            )
    return found


def check_interval(network: Network, interval: int) -> None:
    """Refuse an interval that no folding meets.

    Raises:
        InfeasibleError: names the slowest layer.
    """
    least = least_intervals(network)
    name = max(least, key=lambda n: least[n])
    if interval < least[name]:
        short = least[name] - interval
        raise InfeasibleError(
            f"{network.name}: an interval of {interval} cycles is {short} less than {name} needs "
            f"with its fastest folding; the least is {least[name]}"
        )


def least_intervals(network: Network) -> dict[str, int]:
    """The least cycles of an image in each layer that sets a limit: engines, pools with padding."""
    engines = {name: least_cycles(geo) for name, geo in geometries(network).items()}
    return engines | timing.least_pool_cycles(network)


def check_foldings(network: Network, scheme: Scheme, given: Mapping[str, Folding]) -> None:
    """Refuse foldings that no hardware can have.

    Raises:
        InputError: a folding is not legal, or names no engine.
    """
    geos = geometries(network)
    for name, fold in given.items():
        if name not in geos:
            raise InputError(f"folding.{name}: {unknown('layer with weights', name, geos)}")
        check(geos[name], _layer(network.by_name[name], scheme).granularity, name, fold)


def choose(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    fixed: Mapping[str, Folding] | None = None,
) -> dict[str, Folding]:
    """The folding of every engine that meets the interval with the smallest share of the part.

    Of equal ones the first in the order of `folding.foldings`, RES_TYPES, RAM_STYLES is taken.

    Args:
        fixed: foldings that are given; they are kept whatever their cycles.

    Raises:
        InfeasibleError: no folding of a layer meets the interval.
        InputError: a given folding is not legal, or names no engine.
    """
    check_interval(network, interval)
    fixed = fixed or {}
    geos = geometries(network)
    check_foldings(network, scheme, fixed)
    for name, fold in fixed.items():
        _check_part(pricing, geos[name], name, fold)
    queues = timing.queues(network, interval)
    return {
        node.name: fixed.get(node.name)
        or _cheapest(pricing, network, scheme, node, geos[node.name], interval, queues)
        for node in network.engines
    }


def estimate(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    chosen: Mapping[str, Folding],
) -> Cost:
    """Price one design: the sum of its units, exact in every count.

    Args:
        interval: what streams and queues are sized for [cycles].
        chosen: the folding of every engine, as `choose` gives it.
    """
    written = tensors(network)
    geos = geometries(network)
    queues = timing.queues(network, interval)
    pools = timing.pool_cycles(network, interval)
    layers = []
    work = {}
    for node in network.nodes:
        bits = tuple(scheme.bits[written[name].name] for name in node.inputs)
        out = written[node.name]
        if node.has_weights:
            geo, fold, layer = geos[node.name], chosen[node.name], _layer(node, scheme)
            if out.kind == "result":
                out_bits = engine.result_bits(geo, layer, bits[0])
            else:
                out_bits = scheme.bits[out.name]
            queue = queues[node.name, node.inputs[0]]
            link = timing.stream_lanes(network, node.name, interval)
            units = engine.engine_units(
                pricing, geo, layer, bits[0], out, out_bits, queue, link, fold
            )
            pe, simd = ints(fold.pe), ints(fold.simd)
            taken = active = int(cycles(geo, pe, simd))
            work[node.name] = int(timing.busy(geo, layer.granularity, pe, simd))
        else:
            out_bits = scheme.bits.get(out.name, bits[0])
            links = tuple(queues[node.name, name] for name in node.inputs)
            link = timing.stream_lanes(network, node.name, interval)
            units = engine.plain_units(pricing, node, bits, out_bits, links, link)
            fold = None
            active = max(link_cycles(node, q.lanes) for q in links) if units else 0
            taken = max(active, pools.get(node.name, 0))
        if units:
            layers.append(
                LayerCost(
                    name=node.name,
                    units={unit: as_mapping(pricing, row, active) for unit, row in units.items()},
                    total=as_mapping(pricing, np.sum(list(units.values()), axis=0), active),
                    input_bits=max(bits),
                    output_bits=out_bits,
                    cycles=taken,
                    scheme=scheme.layers.get(node.name),
                    folding=fold,
                )
            )
    total = {column: sum(layer.total[column] for layer in layers) for column in pricing.columns}
    return Cost(
        layers=tuple(layers),
        total=total,
        interval_cycles=max(
            timing.stream_cycles(network, interval), *(layer.cycles for layer in layers)
        ),
        latency_cycles=timing.latency(network, interval, work),
    )


def link_cycles(node: Node, width: int) -> int:
    """Cycles in which a layer without weights reads one image, `width` channels a cycle."""
    return node.in_shape.size // width


def _layer(node: Node, scheme: Scheme) -> LayerScheme:
    """The scheme of a layer as its hardware is: on 1x1 kernels, row and pixel are layer."""
    return normal(node, scheme.layers[node.name])


def _check_part(pricing: Pricing, geo: Geometry, name: str, fold: Folding) -> None:
    """Refuse a folding that asks for what the part has not.

    Raises:
        InputError: names the layer and what the part has.
    """
    board = pricing.target.name
    for what, value, offered in (
        ("res_type", fold.res_type, pricing.res_types()),
        ("ram_style", fold.ram_style, pricing.ram_styles(geo)),
    ):
        if value not in offered:
            has = ", ".join(offered)
            raise InputError(f"folding.{name}.{what}: {board} offers {has}, got '{value}'")


def _cheapest(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    node: Node,
    geo: Geometry,
    interval: int,
    queues: Mapping[tuple[str, str], timing.Queue],
) -> Folding:
    written = tensors(network)
    layer = _layer(node, scheme)
    bits = scheme.bits[written[node.inputs[0]].name]
    out = written[node.name]
    acc = engine.result_bits(geo, layer, bits)
    out_bits = acc if out.kind == "result" else scheme.bits[out.name]
    pe, simd = foldings(geo, layer.granularity)
    meets = cycles(geo, pe, simd) <= interval
    pe, simd = pe[meets], simd[meets]
    queue = queues[node.name, node.inputs[0]]
    shared = engine.window_unit(pricing, geo, bits, pe, simd)
    shared = shared + engine.input_unit(pricing, geo, bits, queue, pe, simd)
    link = timing.stream_lanes(network, node.name, interval)
    shared = shared + engine.output_unit(pricing, out_bits, pe, link)
    by_res: dict[ResType, Resources] = {}
    for res in pricing.res_types():
        mac = engine.mac_unit(pricing, geo, layer, bits, pe, simd, res)
        scale = engine.scale_unit(pricing, geo, layer, bits, pe, simd, res)
        requant = engine.requant_unit(pricing, geo, acc, out, out_bits, pe, simd, res)
        by_res[res] = shared + mac + scale + requant
    by_ram: dict[RamStyle, Resources] = {
        style: engine.weights_unit(pricing, geo, layer.weights, pe, simd, style)
        for style in pricing.ram_styles(geo)
    }
    pairs = [(res, ram) for res in by_res for ram in by_ram]
    share = pricing.share_of(
        pricing.settled(np.stack([by_res[res] + by_ram[ram] for res, ram in pairs]))
    )
    index, best = np.unravel_index(int(np.argmin(share)), share.shape)
    res, ram = pairs[int(index)]
    return Folding(pe=int(pe[best]), simd=int(simd[best]), res_type=res, ram_style=ram)


def as_mapping(pricing: Pricing, row: Ints, cycles: int = 0) -> Mapping[str, int]:
    """One row of counts, settled, by column of the pricing.

    Args:
        cycles: an image, in which words go through.
    """
    settled = pricing.settled(row, cycles)
    return {name: int(value) for name, value in zip(pricing.columns, settled, strict=True)}


def utilization(total: Mapping[str, int], offered: Mapping[str, int]) -> dict[str, float]:
    """Share of each offered resource that is used; infinite where there is none of it."""
    return {
        name: total[name] / size if size else (0.0 if not total[name] else float("inf"))
        for name, size in offered.items()
    }


def tightest(used: Mapping[str, float]) -> str:
    """The fullest resource."""
    return max(used, key=lambda name: used[name])


def requant_methods(
    pricing: Pricing, network: Network, scheme: Scheme, chosen: Mapping[str, Folding]
) -> dict[str, Method]:
    """How each layer with weights but the last requantises, in some folding."""
    written = tensors(network)
    geos = geometries(network)
    found: dict[str, Method] = {}
    for node in network.engines:
        out = written[node.name]
        if out.kind == "result":
            continue
        layer = normal(node, scheme.layers[node.name])
        acc = engine.result_bits(geos[node.name], layer, scheme.bits[written[node.inputs[0]].name])
        found[node.name], _ = engine.requant_method(
            pricing, geos[node.name], acc, out, scheme.bits[out.name], chosen[node.name]
        )
    return found
