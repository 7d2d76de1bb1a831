"""A design asked for: a scheme, foldings where given, and the interval that settles the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from syq_dse import records, scheme
from syq_dse.cost import timing
from syq_dse.cost.estimate import (
    capacity,
    check_interval,
    choose,
    estimate,
    geometries,
    utilization,
)
from syq_dse.cost.folding import Folding, cycles, foldings
from syq_dse.cost.fpga import Pricing
from syq_dse.cost.integers import ints
from syq_dse.errors import InfeasibleError, InputError
from syq_dse.network import Network
from syq_dse.scheme import Scheme

GRID = 24
"""Intervals tried where none is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A scheme as a file or the command line gives it, with what else it fixes."""

    scheme: Scheme
    folding: Mapping[str, Folding] = field(default_factory=dict)
    interval: int | None = None  # cycles
    clock_mhz: float | None = None


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
    data = records.read(path)
    interval = clock = None
    if "scheme" in data:
        if data.get("network") not in (None, network.name):
            raise InputError(
                f"{path}: is a point of '{data['network']}', got network '{network.name}'"
            )
        interval, clock = _positive(data, "interval_cycles", path), data.get("clock_mhz")
        if clock is not None and not isinstance(clock, (int, float)):
            raise InputError(f"{path}: clock_mhz must be a number, got {clock!r}")
        chosen, folding = data["scheme"], data.get("folding", {})
    else:
        chosen = {key: value for key, value in data.items() if key != "folding"}
        folding = data.get("folding", {})
    if not isinstance(chosen, Mapping):
        raise InputError(f"{path}: scheme: must be a table")
    return Asked(
        scheme=scheme.read(network, chosen, str(path)),
        folding=records.structure({"folding": folding}, _FoldingFile, str(path)).folding,
        interval=interval,
        clock_mhz=clock,
    )


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
    clock = clock_mhz or asked.clock_mhz or pricing.board.clock_mhz
    if not 1 <= clock <= 2000:
        raise InputError(f"clock must be 1 to 2000 MHz, got {clock:g}")
    if not 0 < limit <= 1:
        raise InputError(f"limit must be above 0 and at most 1, got {limit:g}")
    if fps is not None:
        if not 0 < fps < float("inf"):
            raise InputError(f"fps must be positive, got {fps:g}")
        interval = int(clock * 1e6 / fps)
        if interval < 1:
            raise InfeasibleError(f"{fps:g} fps at {clock:g} MHz leave no whole cycle an image")
    if interval is None:
        interval = asked.interval
    if interval is None and len(asked.folding) == len(network.engines):
        interval = _given_interval(network, asked.folding)
    if interval is None:
        interval = _shortest_that_fits(pricing, network, asked, clock, limit)
    folding = choose(pricing, network, asked.scheme, interval, asked.folding)
    return Settled(scheme=asked.scheme, folding=folding, interval=interval, clock_mhz=clock)


def grid(network: Network, points: int, longest: int | None = None) -> tuple[int, ...]:
    """Initiation intervals, ascending: from one output pixel a cycle to one PE and one lane.

    Evenly spaced in the logarithm, each moved to the cycles that the slowest engine really takes.

    Raises:
        InfeasibleError: no folding reaches `longest`.
    """
    geos = geometries(network)
    if longest is not None:
        check_interval(network, longest)
    least, most = timing.fastest_interval(geos), timing.slowest_interval(geos)
    most = min(most, longest) if longest is not None else most
    counts = [cycles(geo, *foldings(geo, "row")) for geo in geos.values()]
    wanted = np.rint(np.geomspace(least, most, points)).clip(least, most)
    return tuple(sorted({timing.achievable(counts, int(t)) for t in wanted}))


def _shortest_that_fits(
    pricing: Pricing, network: Network, asked: Asked, clock: float, limit: float
) -> int:
    """The first interval of the grid at which the design fits; the last where none does."""
    intervals = grid(network, GRID)
    low, high = 0, len(intervals) - 1
    while low < high:  # a longer interval never needs more of the part
        middle = (low + high) // 2
        if _fits(pricing, network, asked, intervals[middle], clock, limit):
            high = middle
        else:
            low = middle + 1
    return intervals[low]


def _fits(
    pricing: Pricing, network: Network, asked: Asked, interval: int, clock: float, limit: float
) -> bool:
    folding = choose(pricing, network, asked.scheme, interval, asked.folding)
    total = estimate(pricing, network, asked.scheme, interval, folding).total
    used = utilization(total, capacity(pricing, interval, clock))
    return all(value <= limit for value in used.values())


def _given_interval(network: Network, folding: Mapping[str, Folding]) -> int:
    geos = geometries(network)
    return max(
        int(cycles(geos[name], ints(fold.pe), ints(fold.simd))) for name, fold in folding.items()
    )


def _positive(data: Mapping[str, Any], key: str, path: Path) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{path}: {key} must be a positive integer, got {value!r}")
    return value
