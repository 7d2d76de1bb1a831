"""The table of all choices: the cost of every choice of every layer at every interval.

A design is a row of integers; its cost is one row of the table for each layer, added up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from syq_dse.cost import engine, timing
from syq_dse.cost.estimate import check_interval, geometries, link_cycles
from syq_dse.cost.folding import (
    Folding,
    Geometry,
    RamStyle,
    ResType,
    cycles,
    foldings,
)
from syq_dse.cost.fpga import COLUMNS, HALVES, Resources
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.pricing import Pricing
from syq_dse.network import INPUT, Network, Node
from syq_dse.scheme import LayerScheme, Scheme, Tensor, normal, tensors

CYCLES = len(COLUMNS)
DELAY = CYCLES + 1
ROW = DELAY + 1
"""A row of the table: COLUMNS, then the engine's cycles an image and its delay [cycles]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen for one engine, its folding apart: that follows from the interval."""

    scheme: LayerScheme
    res_type: ResType
    ram_style: RamStyle


@dataclass(frozen=True, slots=True)
class Factor:
    """The costs of one engine, or of an addition, as an array.

    Attributes:
        tensors: the tensors whose precision it depends on, in the order of the axes.
        rows: costs, shape (intervals, choices, *bits of each tensor, ROW).
        picks: index of the folding behind each row, shape rows.shape[:-1]; None without weights.
    """

    name: str
    tensors: tuple[str, ...]
    rows: Ints
    picks: npt.NDArray[np.int32] | None


@dataclass(frozen=True)
class Table:
    """Every choice, priced.

    A design is a row of integers: the index of its interval, the index of the choice of every
    engine in the order of the flow, the index of the bits of every tensor in the order of `bits`.
    """

    pricing: Pricing
    network: Network
    intervals: tuple[int, ...]  # cycles, ascending
    choices: Mapping[str, tuple[Choice, ...]]  # by engine
    bits: Mapping[str, tuple[int, ...]]  # by tensor
    factors: tuple[Factor, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the integers of a design."""
        return ("interval", *self.choices, *(f"bits.{name}" for name in self.bits))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each integer of a design has."""
        choices = (len(c) for c in self.choices.values())
        return (len(self.intervals), *choices, *(len(b) for b in self.bits.values()))

    @cached_property
    def flat(self) -> tuple[Ints, ...]:
        """The rows of each factor with one index axis: shape (rows, ROW)."""
        return tuple(np.ascontiguousarray(f.rows.reshape(-1, ROW)) for f in self.factors)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Index of each layer's factor."""
        return {factor.name: i for i, factor in enumerate(self.factors)}

    @cached_property
    def axes(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each factor, (column of the design, size) of each axis that has a choice."""
        column = {name: i for i, name in enumerate(self.variables)}
        found = []
        for factor in self.factors:
            names = ["interval", factor.name, *(f"bits.{t}" for t in factor.tensors)]
            sized = zip(names, factor.rows.shape[:-1], strict=True)
            found.append(
                tuple((column[n], size) for n, size in sized if size > 1 or n == "interval")
            )
        return tuple(found)

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The columns of a design that decide about its cost, the interval first."""
        return tuple(sorted({column for axes in self.axes for column, _ in axes}))

    @cached_property
    def slots(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """`axes`, with each column by its place among those used."""
        place = {column: i for i, column in enumerate(self.used)}
        return tuple(tuple((place[c], size) for c, size in axes) for axes in self.axes)

    @cached_property
    def delays(self) -> Mapping[str, Ints]:
        """Cycles of each other layer's delay at each interval; one value where all are the same."""
        found = {}
        for node in self.network.nodes:
            if not node.has_weights:
                delays = ints([timing.delay(self.network, node, t) for t in self.intervals])
                found[node.name] = delays if (delays != delays[0]).any() else delays[0]
        return found

    @cached_property
    def first_pixel(self) -> Ints:
        """Cycles until the first pixel of the input has come, at each interval."""
        pixels = self.network.input_shape.pixels
        return ints([timing.pixel_period(pixels, t) for t in self.intervals])

    @cached_property
    def tails(self) -> Ints:
        """Cycles from the first to the last pixel of the result, at each interval."""
        return ints([timing.tail(self.network, t) for t in self.intervals])

    @cached_property
    def least_cycles(self) -> Ints:
        """Cycles at each interval that some stream or engine takes whatever is chosen."""
        streams = [timing.stream_cycles(self.network, t) for t in self.intervals]
        engines = [_spread(f)[0] for f in self.factors if f.picks is not None]
        return ints(np.maximum.reduce([ints(streams), *engines]))

    @cached_property
    def may_be_slowest(self) -> frozenset[str]:
        """The engines that at some interval and choice take more than `least_cycles`."""
        engines = [f for f in self.factors if f.picks is not None]
        return frozenset(f.name for f in engines if (_spread(f)[1] > self.least_cycles).any())

    def scheme_of(self, design: Sequence[int]) -> Scheme:
        """The scheme of a design."""
        named = dict(zip(self.variables, map(int, design), strict=True))
        return Scheme(
            layers={name: options[named[name]].scheme for name, options in self.choices.items()},
            bits={name: options[named[f"bits.{name}"]] for name, options in self.bits.items()},
        )

    def foldings_of(self, design: Sequence[int]) -> dict[str, Folding]:
        """The folding of every engine of a design."""
        found = {}
        for factor, axes in zip(self.factors, self.axes, strict=True):
            if factor.picks is None:
                continue
            index = 0
            for column, size in axes:
                index = index * size + int(design[column])
            choice = self.choices[factor.name][int(design[self.variables.index(factor.name)])]
            geo = geometries(self.network)[factor.name]
            pe, simd = foldings(geo, choice.scheme.granularity)
            pick = int(factor.picks.reshape(-1)[index])
            found[factor.name] = Folding(
                pe=int(pe[pick]),
                simd=int(simd[pick]),
                res_type=choice.res_type,
                ram_style=choice.ram_style,
            )
        return found


def _normal(node: Node, choice: Choice) -> Choice:
    """The choice as its hardware is: on 1x1 kernels, row and pixel are layer."""
    return replace(choice, scheme=normal(node, choice.scheme))


def _spread(factor: Factor) -> tuple[Ints, Ints]:
    """Least and most cycles of an engine at each interval."""
    cycles_at = factor.rows[..., CYCLES].reshape(len(factor.rows), -1)
    return cycles_at.min(axis=1), cycles_at.max(axis=1)


def build(
    pricing: Pricing,
    network: Network,
    intervals: Sequence[int],
    choices: Mapping[str, Sequence[Choice]],
    bits: Mapping[str, Sequence[int]],
    progress: Callable[[int, int, str], None] | None = None,
) -> Table:
    """Price every choice.

    Args:
        intervals: cycles, ascending.
        choices: of every engine; styles that the part has not are the caller's to leave out.
        bits: of every tensor but the result.
        progress: called with layers done, layers in all, the layer's name.

    Raises:
        InfeasibleError: no folding of some layer meets the least interval.
    """
    check_interval(network, min(intervals))
    written = tensors(network)
    geos = geometries(network)
    queues = [timing.queues(network, t) for t in intervals]
    factors: list[Factor] = []
    rest: list[Factor] = []
    alike: dict[tuple[object, ...], tuple[Ints, npt.NDArray[np.int32]]] = {}
    for done, node in enumerate(network.nodes):
        if progress:
            progress(done, len(network.nodes), node.name)
        if node.has_weights:
            options = tuple(_normal(node, choice) for choice in choices[node.name])
            source, out = written[node.inputs[0]], written[node.name]
            result = out.kind == "result"
            touched = (source.name,) if result else (source.name, out.name)
            links = [
                (q[node.name, node.inputs[0]], timing.stream_lanes(network, node.name, t))
                for q, t in zip(queues, intervals, strict=True)
            ]
            waits = [timing.delay(network, node, t) for t in intervals]
            key = (
                geos[node.name],
                out.kind,
                options,
                *(tuple(bits[n]) for n in touched),
                *links,
                *waits,
            )
            if key not in alike:
                out_bits: Sequence[int | None] = [None] if result else bits[out.name]
                alike[key] = _engine_rows(
                    pricing,
                    geos[node.name],
                    out,
                    intervals,
                    links,
                    waits,
                    options,
                    bits[source.name],
                    out_bits,
                )
            factors.append(Factor(node.name, touched, *alike[key]))
        else:
            rest.extend(_plain_factor(pricing, network, node, written, intervals, queues, bits))
    return Table(
        pricing=pricing,
        network=network,
        intervals=tuple(intervals),
        choices={node.name: tuple(choices[node.name]) for node in network.engines},
        bits={name: tuple(options) for name, options in bits.items()},
        factors=tuple(_merge(factors, rest)),
    )


def _engine_rows(
    pricing: Pricing,
    geo: Geometry,
    out: Tensor,
    intervals: Sequence[int],
    links: Sequence[tuple[timing.Queue, int]],
    waits: Sequence[int],
    options: tuple[Choice, ...],
    in_bits: Sequence[int],
    out_bits: Sequence[int | None],
) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Rows and picks of one engine: for each row the folding of the smallest share of the part."""
    rows = np.zeros((len(intervals), len(options), len(in_bits), len(out_bits), ROW), np.int64)
    picks = np.zeros(rows.shape[:-1], np.int32)
    by_granularity: dict[str, list[int]] = {}
    for index, option in enumerate(options):
        by_granularity.setdefault(option.scheme.granularity, []).append(index)
    for granularity, members in by_granularity.items():
        pe, simd = foldings(geo, granularity)
        taken = cycles(geo, pe, simd)
        busy = timing.busy(geo, granularity, pe, simd)
        made = [options[i] for i in members]
        base, acc = _engine_bases(pricing, geo, made, in_bits, out, out_bits, pe, simd)
        for t, (interval, (queue, link)) in enumerate(zip(intervals, links, strict=True)):
            meets = np.flatnonzero(taken <= interval)
            joins = _joins(
                pricing, geo, in_bits, out_bits, acc, queue, link, pe[meets], simd[meets]
            )
            whole = pricing.settled(base[..., meets, :] + joins, taken[meets])
            best = np.argmin(pricing.share_of(whole), axis=-1)
            pick = meets[best]
            chosen = np.take_along_axis(whole, best[..., None, None], axis=-2)[..., 0, :]
            picks[t, members] = pick
            rows[t, members, ..., :CYCLES] = chosen
            rows[t, members, ..., CYCLES] = taken[pick]
            rows[t, members, ..., DELAY] = busy[pick] + waits[t]
    if out.kind == "result":
        return rows[..., 0, :], picks[..., 0]
    return rows, picks


def _engine_bases(
    pricing: Pricing,
    geo: Geometry,
    options: Sequence[Choice],
    in_bits: Sequence[int],
    out: Tensor,
    out_bits: Sequence[int | None],
    pe: Ints,
    simd: Ints,
) -> tuple[Resources, Ints]:
    """What does not depend on the interval: shape (options, in, out, foldings, COLUMNS
    and HALVES).

    Also the accumulator's bits, shape (options, in). Units are priced once for each of their own
    arguments.
    """
    windows = [engine.window_unit(pricing, geo, a, pe, simd) for a in in_bits]
    memory: dict[tuple[str, RamStyle], Resources] = {}
    products: dict[tuple[LayerScheme, ResType, int], Resources] = {}
    steps: dict[tuple[int, int | None, ResType], Resources] = {}
    base = np.empty(
        (len(options), len(in_bits), len(out_bits), len(pe), HALVES + 1), dtype=np.int64
    )
    acc = np.empty((len(options), len(in_bits)), dtype=np.int64)
    for i, option in enumerate(options):
        layer, res, ram = option.scheme, option.res_type, option.ram_style
        if (layer.weights, ram) not in memory:
            memory[layer.weights, ram] = engine.weights_unit(
                pricing, geo, layer.weights, pe, simd, ram
            )
        for j, a in enumerate(in_bits):
            width = engine.result_bits(geo, layer, a)
            acc[i, j] = width
            if (layer, res, a) not in products:
                products[layer, res, a] = engine.mac_unit(
                    pricing, geo, layer, a, pe, simd, res
                ) + engine.scale_unit(pricing, geo, layer, a, pe, simd, res)
            shared = windows[j] + memory[layer.weights, ram] + products[layer, res, a]
            for k, o in enumerate(out_bits):
                if (width, o, res) not in steps:
                    steps[width, o, res] = engine.requant_unit(
                        pricing, geo, width, out, o or width, pe, simd, res
                    )
                base[i, j, k] = shared + steps[width, o, res]
    return base, acc


def _joins(
    pricing: Pricing,
    geo: Geometry,
    in_bits: Sequence[int],
    out_bits: Sequence[int | None],
    acc: Ints,
    queue: timing.Queue,
    link: int,
    pe: Ints,
    simd: Ints,
) -> Resources:
    """Queues and width conversions, which depend on the interval; same axes as `_engine_bases`."""
    before = np.stack([engine.input_unit(pricing, geo, a, queue, pe, simd) for a in in_bits])
    widths = (
        sorted({int(w) for w in acc.flat}) if out_bits[0] is None else [o or 0 for o in out_bits]
    )
    after = np.stack([engine.output_unit(pricing, w, pe, link) for w in widths])
    if out_bits[0] is None:
        by_acc: Resources = after[np.searchsorted(widths, acc)][:, :, None]
        return before[None, :, None] + by_acc
    joined = before[None, :, None] + after[None, None, :]
    return np.broadcast_to(joined, (len(acc), *joined.shape[1:]))


def _plain_factor(
    pricing: Pricing,
    network: Network,
    node: Node,
    written: Mapping[str, Tensor],
    intervals: Sequence[int],
    queues: Sequence[Mapping[tuple[str, str], timing.Queue]],
    bits: Mapping[str, Sequence[int]],
) -> list[Factor]:
    """The factor of a layer without weights: one axis for each tensor that it touches."""
    sources = [written[name].name for name in node.inputs]
    out = written[node.name]
    touched = list(dict.fromkeys([*sources, *([] if out.kind == "result" else [out.name])]))
    shape = (len(intervals), 1, *(len(bits[name]) for name in touched))
    rows = np.zeros((*shape, ROW), dtype=np.int64)
    for index in np.ndindex(*shape):
        value = {name: bits[name][i] for name, i in zip(touched, index[2:], strict=True)}
        links = tuple(queues[index[0]][node.name, name] for name in node.inputs)
        read = tuple(value[name] for name in sources)
        link = timing.stream_lanes(network, node.name, intervals[index[0]])
        units = engine.plain_units(pricing, node, read, value.get(out.name, read[0]), links, link)
        if units:
            words = max(link_cycles(node, queue.lanes) for queue in links)
            rows[index][:CYCLES] = pricing.settled(np.sum(list(units.values()), axis=0), words)
    return [Factor(node.name, tuple(touched), rows, None)] if rows.any() else []


def _merge(factors: list[Factor], rest: list[Factor]) -> list[Factor]:
    """Add what touches only tensors of an engine to that engine's factor: fewer rows a design."""
    merged = list(factors)
    for factor in rest:
        for index, host in enumerate(merged):
            if set(factor.tensors) <= set(host.tensors):
                shape = [factor.rows.shape[0], 1]
                for name in host.tensors:
                    axis = factor.tensors.index(name) + 2 if name in factor.tensors else None
                    shape.append(factor.rows.shape[axis] if axis else 1)
                order = sorted(
                    range(len(factor.tensors)), key=lambda i: host.tensors.index(factor.tensors[i])
                )
                turned = factor.rows.transpose(0, 1, *(i + 2 for i in order), factor.rows.ndim - 1)
                rows = host.rows + turned.reshape(*shape, ROW)
                merged[index] = Factor(host.name, host.tensors, rows, host.picks)
                break
        else:
            merged.append(factor)
    return merged


CHUNK = 12288
"""Designs priced at once, so that what is added up stays in the cache."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The cost of many designs."""

    total: Ints  # shape (designs, COLUMNS)
    interval_cycles: Ints  # shape (designs,)
    latency_cycles: Ints  # shape (designs,)


def price(table: Table, designs: npt.NDArray[np.integer]) -> Prices:
    """The cost of many designs: a gather and a sum for each factor.

    Args:
        designs: shape (designs, variables), in the order of `Table.variables`; column-major
            (one array a variable) saves a transposition.

    Raises:
        ValueError: an integer of a design is outside its variable's range.
    """
    count = len(designs)
    total = np.empty((count, len(COLUMNS)), np.int64)
    slowest, late = np.empty((2, count), np.int64)
    _check_range(table, designs.T)
    small = np.uint8 if max(table.sizes) <= 256 else np.uint16
    variables = np.empty((len(table.used), count), small)
    for place, column in enumerate(table.used):
        variables[place] = designs[:, column]
    # Designs of one interval read one slice of the table, which stays in the cache.
    order = np.argsort(variables[0], kind="stable")
    buffers = np.empty((2, min(count, CHUNK), ROW), np.int64)
    for start in range(0, count, CHUNK):
        part = order[start : start + CHUNK]
        row, added = buffers[:, : len(part)]
        columns = np.take(variables, part, axis=1, mode="clip").astype(np.int32)
        slowest[part], late[part] = _price_chunk(table, columns, row, added)
        total[part] = added[:, :CYCLES]
    return Prices(total, slowest, late)


def _check_range(table: Table, columns: npt.NDArray[np.integer]) -> None:
    if not columns.shape[1]:
        return
    outside = (columns.min(axis=1) < 0) | (columns.max(axis=1) >= table.sizes)
    if outside.any():
        name = table.variables[int(np.argmax(outside))]
        raise ValueError(f"every design's '{name}' must be an index of its values")


def _price_chunk(
    table: Table,
    columns: npt.NDArray[np.int32],
    row: Ints,
    added: Ints,
) -> tuple[Ints, Ints]:
    """Price one chunk: resources into `added`, interval and latency returned [cycles].

    Shapes: columns (used variables, designs); row, which is scratch, and added (designs, ROW).
    Layers are visited in the order of the flow, so that arrival times follow from earlier ones.
    """
    interval = columns[0]
    added[:] = 0
    slowest = table.least_cycles[interval]
    arrival = {INPUT: table.first_pixel[interval]}
    for node in table.network.nodes:
        start = arrival[node.inputs[0]]
        for name in node.inputs[1:]:
            start = np.maximum(start, arrival[name])
        place = table.places.get(node.name)
        if place is not None:
            _gather(table, place, columns, row)
            np.add(added, row, out=added)
        if node.name in table.may_be_slowest:
            np.maximum(slowest, row[:, CYCLES], out=slowest)
        if node.has_weights:
            arrival[node.name] = start + row[:, DELAY]
        else:
            wait = table.delays[node.name]
            arrival[node.name] = start + (wait[interval] if wait.ndim else wait)
    return slowest, arrival[table.network.nodes[-1].name] + table.tails[interval]


def _gather(table: Table, place: int, columns: npt.NDArray[np.int32], row: Ints) -> None:
    """The rows of one factor. 32 bit products vectorise, 64 bit ones do not."""
    axes = table.slots[place]
    index = columns[axes[0][0]]
    for column, size in axes[1:]:
        index = index * np.int32(size)
        np.add(index, columns[column], out=index)
    np.take(table.flat[place], index.astype(np.int64), axis=0, out=row, mode="clip")
