"""What each unit of a design is built with: calibrations have ranges of it, manifests name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from syq_dse.cost import asic, clock, engine, folding, timing
from syq_dse.cost.clock import Reach
from syq_dse.cost.estimate import geometries, requant_methods
from syq_dse.cost.folding import Folding, Geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.units.mac import MacShape, mac_shape, subgroups, sum_bits
from syq_dse.cost.units.requant import Method
from syq_dse.network import Add, Flatten, MaxPool, Network, Node
from syq_dse.scheme import LayerScheme, Scheme, normal, tensors, weight_bits

Parameters = dict[str, int | str]


def window(geo: Geometry, bits: int, fold: Folding) -> Parameters:
    return {
        "pe": fold.pe, "simd": fold.simd, "bits": bits, "c_in": geo.c_in, "c_out": geo.c_out,
        "groups": geo.groups, "k": geo.k, "stride": geo.stride, "pad": geo.pad[0],
        "pad_after": geo.pad[1], "h_in": geo.h_in, "w_in": geo.w_in,
    }  # fmt: skip


def weights(geo: Geometry, layer: LayerScheme, fold: Folding) -> Parameters:
    return {
        "weights": layer.weights,
        "width": fold.pe * fold.simd * weight_bits(layer.weights),
        "depth": geo.c_out * geo.fan_in // (fold.pe * fold.simd),
        "ram_style": fold.ram_style,
    }


def mac(shape: MacShape, fold: Folding) -> Parameters:
    return {
        "weights": shape.codebook, "weight_bits": shape.code_bits, "bits": shape.bits,
        "pe": shape.pe, "simd": shape.simd, "groups": shape.groups, "sums": shape.sums,
        "steps": shape.steps, "constant": int(shape.constant), "res_type": fold.res_type,
    }  # fmt: skip


def scale(geo: Geometry, layer: LayerScheme, bits: int, fold: Folding) -> Parameters:
    sums, steps, terms = subgroups(geo, layer, ints(fold.simd))
    return {
        "format": layer.scale,
        "partial": sum_bits(terms, layer.weights, bits, geo.signed),
        "total": engine.result_bits(geo, layer, bits),
        "entries": geo.k if layer.granularity == "row" else geo.k * geo.k,
        "at_once": int(sums), "pe": fold.pe, "period": int(steps), "res_type": fold.res_type,
    }  # fmt: skip


def requant(geo: Geometry, method: Method, acc: int, bits: int, fold: Folding) -> Parameters:
    return {
        "method": method, "acc": acc, "bits": bits, "channels": geo.c_out, "pe": fold.pe,
        "period": geo.fan_in // fold.simd, "res_type": fold.res_type,
    }  # fmt: skip


def queue(width: int, words: int) -> Parameters:
    return {"width": width, "words": words}


def converter(bits: int, source: int, sink: int) -> Parameters:
    return {"bits": bits, "from_lanes": source, "to_lanes": sink}


def pool(node: Node, bits: int, out_bits: int, lanes: int) -> Parameters:
    return {
        "kind": "max" if isinstance(node.layer, MaxPool) else "mean",
        "c": node.in_shape.c, "h": node.in_shape.h, "w": node.in_shape.w, "k": node.k,
        "stride": node.stride, "pad": node.pad[0], "pad_after": node.pad[1], "bits": bits,
        "out_bits": out_bits, "lanes": lanes,
    }  # fmt: skip


def add(bits: tuple[int, int], out_bits: int, lanes: int) -> Parameters:
    return {"a_bits": bits[0], "b_bits": bits[1], "out_bits": out_bits, "lanes": lanes}


def warnings(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    chosen: Mapping[str, Folding],
) -> list[str]:
    """One line for each parameter of a unit outside of what was synthesised, with its layers."""
    layers: dict[str, list[str]] = {}
    for layer, unit, found in of_design(pricing, network, scheme, interval, chosen):
        for line in pricing.warnings(unit, found):
            layers.setdefault(line, []).append(layer)
    return [f"{line}: {', '.join(dict.fromkeys(where))}" for line, where in layers.items()]


def reach(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    chosen: Mapping[str, Folding],
) -> Reach | None:
    """The fastest clock of a design in silicon; None: the target is a board."""
    if not isinstance(pricing, asic.Pricing):
        return None
    units = list(of_design(pricing, network, scheme, interval, chosen))
    sram_ns = {
        layer: pricing.access_ns(int(found["width"]), int(found["depth"]))
        for layer, unit, found in units
        if unit == "weights" and found["ram_style"] == "ultra"
    }
    return clock.reach(pricing.delays, units, sram_ns)


def of_design(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    chosen: Mapping[str, Folding],
) -> Iterator[tuple[str, str, Parameters]]:
    """Layer, unit and parameters of every unit."""
    written = tensors(network)
    geos = geometries(network)
    queues = timing.queues(network, interval)
    methods = requant_methods(pricing, network, scheme, chosen)
    for node in network.nodes:
        name = node.name
        if isinstance(node.layer, Flatten):
            continue
        bits = [scheme.bits[written[source].name] for source in node.inputs]
        links = [queues[name, source] for source in node.inputs]
        for width, link in zip(bits, links, strict=True):
            yield name, "fifo", queue(width * link.lanes, link.words)
        out = written[name]
        out_bits = scheme.bits.get(out.name, bits[0])
        if not node.has_weights:
            sink = timing.stream_lanes(network, node.name, interval)
            if isinstance(node.layer, Add):
                for width, link in zip(bits, links, strict=True):
                    if link.lanes != sink:
                        yield name, "fifo", converter(width, link.lanes, sink)
                yield name, "add", add((bits[0], bits[1]), out_bits, sink)
            else:
                yield name, "pool", pool(node, bits[0], out_bits, links[0].lanes)
            continue
        geo, fold = geos[name], chosen[name]
        layer = normal(node, scheme.layers[name])
        acc = engine.result_bits(geo, layer, bits[0])
        word = int(folding.word_channels(geo, ints(fold.pe), ints(fold.simd)))
        shape = mac_shape(geo, layer, bits[0], fold, pricing.family.multiplier)
        if links[0].lanes != word:
            yield name, "fifo", converter(bits[0], links[0].lanes, word)
        yield name, "window", window(geo, bits[0], fold)
        if not shape.constant:  # else there is no such unit
            yield name, "weights", weights(geo, layer, fold)
        yield name, "mac", mac(shape, fold)
        if layer.multiplies_partial_sums:
            yield name, "scale", scale(geo, layer, bits[0], fold)
        if out.kind != "result":
            yield name, "requant", requant(geo, methods[name], acc, out_bits, fold)
        sink = timing.stream_lanes(network, node.name, interval)
        if sink != fold.pe:
            yield name, "fifo", converter(acc if out.kind == "result" else out_bits, fold.pe, sink)
