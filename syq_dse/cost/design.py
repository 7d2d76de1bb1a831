"""A design asked for: a scheme, foldings where given, and the interval that settles the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from syq_dse import records, scheme
from syq_dse.cost import table, timing
from syq_dse.cost.estimate import (
    LIMIT,
    check_foldings,
    check_interval,
    choose,
    estimate,
    geometries,
    least_intervals,
    requant_methods,
    utilization,
)
from syq_dse.cost.folding import Folding, cycles, foldings
from syq_dse.cost.integers import ints
from syq_dse.cost.pricing import Pricing, load
from syq_dse.cost.table import Choice
from syq_dse.cost.units.requant import Method
from syq_dse.errors import InfeasibleError, InputError
from syq_dse.network import Network, Node
from syq_dse.scheme import LayerScheme, Scheme

GRID = 24
"""Intervals tried where none is asked for."""

LONGEST_INTERVAL = 2**53
"""Cycles; at 2 GHz, 52 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A scheme as a file or the command line gives it, with what else it fixes."""

    scheme: Scheme
    folding: Mapping[str, Folding] = field(default_factory=dict)
    interval: int | None = None  # cycles
    clock_mhz: float | None = None
    target: Any = None  # the name of the board that the clock was chosen for, if any


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A design with nothing left to choose."""

    scheme: Scheme
    folding: Mapping[str, Folding]
    interval: int  # cycles that its streams are sized for
    clock_mhz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _FoldingFile:
    folding: dict[str, Folding]


def uniform(network: Network, text: str) -> Asked:
    """The design of `--uniform`."""
    return Asked(scheme=scheme.parse_uniform(network, text))


def read(network: Network, path: Path) -> Asked:
    """The design in a scheme file, or in a point of a run.

    A scheme file has `layers` and may have `folding`; a point has them under `scheme` and
    `folding`, and its interval.

    Raises:
        InputError: the file is broken, or of another network.
    """
    return of_document(network, records.read(path), str(path))


def of_document(network: Network, data: Mapping[str, Any], place: str) -> Asked:
    """The design in what such a file holds.

    Raises:
        InputError: it is broken, or of another network.
    """
    interval = clock = None
    if "scheme" in data:
        if data.get("network") not in (None, network.name):
            raise InputError(
                f"{place}: is a point of '{data['network']}', got network '{network.name}'"
            )
        interval, clock = _positive(data, "interval_cycles", place), data.get("clock_mhz")
        number = isinstance(clock, (int, float)) and not isinstance(clock, bool)
        if clock is not None and not (number and 1 <= clock <= 2000):
            raise InputError(f"{place}: clock_mhz must be a number, 1 to 2000, got {clock!r}")
        chosen, folding = data["scheme"], data.get("folding", {})
    else:
        chosen = {key: value for key, value in data.items() if key != "folding"}
        folding = data.get("folding", {})
    if not isinstance(chosen, Mapping):
        raise InputError(f"{place}: scheme: must be a table")
    asked = Asked(
        scheme=scheme.read(network, chosen, place),
        folding=records.structure({"folding": folding}, _FoldingFile, place).folding,
        interval=interval,
        clock_mhz=clock,
        target=data.get("target") if "scheme" in data else None,
    )
    try:
        check_foldings(network, asked.scheme, asked.folding)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return asked


def settle(
    pricing: Pricing,
    network: Network,
    asked: Asked,
    interval: int | None,
    fps: float | None,
    clock_mhz: float | None,
    limit: float,
) -> Settled:
    """Choose the interval and every folding that is left open.

    Args:
        interval: cycles; in its place `fps`, or what the file says, or the shortest that fits.

    Raises:
        InfeasibleError: no folding meets the interval.
        InputError: a value outside its range.
    """
    same_board = asked.target in (None, pricing.target.name)
    given = (clock_mhz, asked.clock_mhz if same_board else None, pricing.target.clock_mhz)
    clock = next(c for c in given if c is not None)
    if not 1 <= clock <= 2000:
        raise InputError(f"clock must be 1 to 2000 MHz, got {clock:g}")
    if not 0 < limit <= 1:
        raise InputError(f"limit must be above 0 and at most 1, got {limit:g}")
    if fps is not None:
        if not 0 < fps < float("inf"):
            raise InputError(f"fps must be positive, got {fps:g}")
        interval = longest_interval(clock, fps)
        if interval < 1:
            raise InfeasibleError(f"{fps:g} fps at {clock:g} MHz leave no whole cycle an image")
    if interval is not None:
        _check_given(network, asked.folding, interval)
    else:
        interval = asked.interval
    if interval is None and len(asked.folding) == len(network.engines):
        interval = _given_interval(network, asked.folding)
    if interval is None:
        interval = _shortest_that_fits(pricing, network, asked, clock, limit)
    if interval > LONGEST_INTERVAL:
        raise InputError(f"interval must be at most {LONGEST_INTERVAL} cycles")
    folding = choose(pricing, network, asked.scheme, interval, asked.folding)
    return Settled(scheme=asked.scheme, folding=folding, interval=interval, clock_mhz=clock)


def grid(network: Network, points: int, longest: int | None = None) -> tuple[int, ...]:
    """Initiation intervals, ascending: from the fastest foldings to one PE and one lane.

    Evenly spaced in the logarithm, each moved to the cycles that the slowest engine really takes.

    Raises:
        InfeasibleError: no folding reaches `longest`.
    """
    geos = geometries(network)
    if longest is not None:
        check_interval(network, longest)
    least, most = max(least_intervals(network).values()), timing.slowest_interval(geos)
    most = min(most, longest) if longest is not None else most
    counts = [cycles(geo, *foldings(geo, "row")) for geo in geos.values()]
    wanted = np.rint(np.geomspace(least, most, points)).clip(least, most)
    return tuple(sorted({timing.achievable(counts, int(t)) for t in wanted}))


def _shortest_that_fits(
    pricing: Pricing, network: Network, asked: Asked, clock: float, limit: float
) -> int:
    """The first interval of the grid at which the design fits; the last where none does.

    Every one is tried: a longer interval takes a smaller share of the part, but not less of each
    resource.
    """
    intervals = grid(network, GRID)
    totals: Iterator[Mapping[str, int]]
    if asked.folding:
        totals = (_total(pricing, network, asked, t) for t in intervals)
    else:
        totals = _totals(pricing, network, asked.scheme, intervals)
    for interval, total in zip(intervals, totals, strict=True):
        used = utilization(total, pricing.capacity(interval, clock))
        if all(value <= limit for value in used.values()):
            return interval
    return intervals[-1]


def _total(pricing: Pricing, network: Network, asked: Asked, interval: int) -> Mapping[str, int]:
    folding = choose(pricing, network, asked.scheme, interval, asked.folding)
    return estimate(pricing, network, asked.scheme, interval, folding).total


def _totals(
    pricing: Pricing, network: Network, chosen: Scheme, intervals: tuple[int, ...]
) -> Iterator[Mapping[str, int]]:
    """What `choose` and `estimate` give at every interval, from one table of the one scheme."""
    made = table.build(
        pricing,
        network,
        intervals,
        {
            node.name: every_choice(pricing, network, node, (chosen.layers[node.name],))
            for node in network.engines
        },
        {name: (bits,) for name, bits in chosen.bits.items()},
    )
    designs = np.zeros((len(intervals), len(made.variables)), np.int64)
    designs[:, 0] = np.arange(len(intervals))
    for column, name in enumerate(made.choices, start=1):
        rows = made.factors[made.places[name]].rows.reshape(len(intervals), -1, table.ROW)
        designs[:, column] = pricing.share_of(rows[..., : table.CYCLES]).argmin(axis=1)
    for total in table.price(made, designs).total:
        yield dict(zip(pricing.columns, total.tolist(), strict=True))


def every_choice(
    pricing: Pricing, network: Network, node: Node, schemes: Sequence[LayerScheme]
) -> tuple[Choice, ...]:
    """Some schemes of an engine, each with every way to build it that the part has."""
    geo = geometries(network)[node.name]
    return tuple(
        Choice(layer, res, ram)
        for layer in schemes
        for res in pricing.res_types()
        for ram in pricing.ram_styles(geo)
    )


def _check_given(network: Network, folding: Mapping[str, Folding], interval: int) -> None:
    """Refuse an interval that a given folding misses."""
    for name, fold in folding.items():
        taken = _given_interval(network, {name: fold})
        if taken > interval:
            raise InfeasibleError(
                f"folding.{name}: takes {taken} cycles, {taken - interval} more than {interval}"
            )


def _given_interval(network: Network, folding: Mapping[str, Folding]) -> int:
    geos = geometries(network)
    return max(
        int(cycles(geos[name], ints(fold.pe), ints(fold.simd))) for name, fold in folding.items()
    )


def _positive(data: Mapping[str, Any], key: str, place: str) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{place}: {key} must be a positive integer, got {value!r}")
    return value


def longest_interval(clock_mhz: float, fps: float) -> int:
    """Most cycles an image at which `fps` is reached, as `clock_mhz * 1e6 / cycles` rounds."""
    most = int(min(clock_mhz * 1e6 / fps, LONGEST_INTERVAL))
    return most + (clock_mhz * 1e6 / (most + 1) >= fps)


def methods(net: Network, asked: Asked, board: str | None) -> dict[str, Method] | None:
    """How a design's hardware makes codes, where its board is known."""
    if board is None:
        return None
    prices = load(board)
    settled = settle(prices, net, asked, None, None, None, LIMIT)
    return requant_methods(prices, net, settled.scheme, settled.folding)
