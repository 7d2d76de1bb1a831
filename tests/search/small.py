"""Networks and boards so small that every design can be listed, and what the listing says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
from hypothesis import strategies as st

from syq_dse import network
from syq_dse.accuracy import prior
from syq_dse.cost.fpga import COLUMNS, Pricing, pricing
from syq_dse.cost.table import CYCLES, DELAY, Factor, Prices, Table, price
from syq_dse.network import (
    Add,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Recipe,
)
from syq_dse.search import losses, space
from syq_dse.search.front import take
from syq_dse.search.losses import Losses
from syq_dse.search.problem import Goals, Problem
from syq_dse.search.space import Space
from syq_dse.target import Board, Capacity, Dram

CLOCK_MHZ = 100.0

LIMITED = COLUMNS[:-1]

LAST = Dense(name="last", c_out=3, batch_norm=False, relu=False)


def join(name: str, shape: tuple[int, int, int], *layers: Layer) -> Network:
    return network.build(
        NetworkFile(
            name=name,
            provenance="made up for tests",
            classes=3,
            input=shape,
            recipe=Recipe(dataset="none"),
            layers=layers,
        )
    )


NETWORKS = {
    "plain": join(
        "plain",
        (2, 6, 6),
        Conv(name="a", c_out=4, k=3, pad=1),
        MaxPool(name="pool", k=2),
        Conv(name="b", c_out=6, k=3),
        Flatten(name="flat"),
        LAST,
    ),
    "deep": join(
        "deep",
        (2, 5, 5),
        Conv(name="a", c_out=4, k=3, pad=1),
        Conv(name="b", c_out=6, k=3),
        Conv(name="c", c_out=4, k=3),
        Flatten(name="flat"),
        LAST,
    ),
    "residual": join(
        "residual",
        (3, 4, 4),
        Conv(name="a", c_out=4, k=3, pad=1),
        Conv(name="b", c_out=4, k=3, pad=1, relu=False),
        Add(name="add", inputs=("b", "a")),
        Conv(name="c", c_out=4, k=1),
        GlobalAvgPool(name="mean"),
        LAST,
    ),
    "depthwise": join(
        "depthwise",
        (2, 6, 6),
        Conv(name="a", c_out=4, k=3, pad=1),
        Conv(name="b", c_out=4, k=3, pad=1, groups=4),
        Conv(name="c", c_out=8, k=1),
        GlobalAvgPool(name="mean"),
        LAST,
    ),
    "signed": join(
        "signed",
        (2, 4, 4),
        Conv(name="a", c_out=4, k=3, pad=1, relu=False),
        Conv(name="b", c_out=4, k=2, groups=2),
        Conv(name="c", c_out=4, k=3),
        LAST,
    ),
}

SPACE = Space(
    weights=("binary", "int4"),
    granularity=("layer", "pixel"),
    scale=("fixed8",),
    bits=(1, 4),
    intervals=3,
)


def board(
    lut: int = 20800,
    ff: int = 41600,
    dsp: int = 90,
    bram18: int = 100,
    uram: int = 0,
    lutram: int = 9600,
    bandwidth_gb_s: float = 1.3,
    family: str = "xc7",
) -> Board:
    return Board(
        name="bench",
        description="a board on the bench",
        part="none",
        family=family,
        clock_mhz=CLOCK_MHZ,
        capacity=Capacity(
            lut=lut, ff=ff, dsp=dsp, bram18=bram18, uram=uram, lutram=min(lutram, lut)
        ),
        dram=Dram(bandwidth_gb_s=bandwidth_gb_s, source="a napkin"),
        source="a napkin",
    )


@cache
def table(name: str, searched: Space = SPACE) -> Table:
    return space.build(searched, NETWORKS[name], pricing(board()))


def with_capacity(priced: Table, **sizes: int) -> Table:
    """The same prices on a board of another size: what limits are taken of, alone."""
    held = priced.pricing
    offered = replace(held.board.capacity, **sizes | {"lutram": 0})
    lutram = sizes.get("lutram", held.board.capacity.lutram)
    offered = replace(offered, lutram=min(offered.lut, lutram))
    other = Pricing(replace(held.board, capacity=offered), held.family, held.lut, held.energy)
    return replace(priced, pricing=other)


def from_prior(priced: Table) -> Losses:
    return losses.from_prior(prior.load(priced.network), priced)


def problem(
    priced: Table,
    objectives: Sequence[str] = ("accuracy", "fps"),
    lost: Losses | None = None,
    limit: float = 0.8,
    fps: float | None = None,
) -> Problem:
    goals = Goals(objectives=tuple(objectives), limit=limit, clock_mhz=CLOCK_MHZ, fps=fps)
    return Problem(priced, lost or from_prior(priced), goals)


# What the listing says; everything by hand, in integers and fractions


_LISTED: dict[int, tuple[tuple[Factor, ...], np.ndarray, Prices]] = {}


def listing(priced: Table) -> tuple[np.ndarray, Prices]:
    """Every design and its price; tables that differ in the board alone share it."""
    key = id(priced.factors)
    if key not in _LISTED:
        if len(_LISTED) > 12:
            _LISTED.clear()
        designs = np.indices(priced.sizes).reshape(len(priced.sizes), -1).T.copy()
        _LISTED[key] = priced.factors, designs, price(priced, designs)
    return _LISTED[key][1:]


def true_front(asked: Problem) -> set[tuple[int, ...]]:
    """The values of the front, of all designs."""
    designs, prices = listing(asked.table)
    good = np.flatnonzero(fits(asked, designs, prices))
    return undominated(goals_of(asked, designs[good], take(prices, good))) if len(good) else set()


def undominated(values: np.ndarray) -> set[tuple[int, ...]]:
    """The distinct rows that no other row is nowhere above."""
    rows = values[np.lexsort(values.T[::-1])]
    kept = []
    while len(rows):  # an earlier row is never dominated by a later one
        first = rows[0]
        kept.append(tuple(map(int, first)))
        rows = rows[(rows < first).any(axis=1)]
    return set(kept)


def offered(asked: Problem, t: int) -> dict[str, int]:
    """What the board has at an interval, DRAM bits an image included."""
    held = asked.table.pricing.board
    bits_a_second = Fraction(str(held.dram.bandwidth_gb_s)) * 8 * 10**9
    seconds = asked.table.intervals[t] / (Fraction(asked.goals.clock_mhz) * 10**6)
    sizes = {name: getattr(held.capacity, name) for name in LIMITED if name != "dram_bits"}
    return sizes | {"dram_bits": int(bits_a_second * seconds)}


def limits_of(asked: Problem) -> np.ndarray:
    """Most of each resource at each interval, shape (intervals, LIMITED)."""
    share = Fraction(str(asked.goals.limit))
    count = len(asked.table.intervals)
    return np.array(
        [[int(size * share) for size in offered(asked, t).values()] for t in range(count)]
    )


def fits(asked: Problem, designs: np.ndarray, prices: Prices) -> np.ndarray:
    """Which designs keep the limits and the least frame rate."""
    limits = limits_of(asked)[designs[:, 0]]
    good = (prices.total[:, : len(LIMITED)] <= limits).all(axis=1)
    if asked.goals.fps is not None:
        longest = Fraction(asked.goals.clock_mhz) * 10**6 / Fraction(asked.goals.fps)
        # A frame rate is a rounded quotient: a millionth of a cycle is rounding.
        good &= prices.interval_cycles <= float(longest) + 1e-6
    return np.asarray(good)


def goals_of(asked: Problem, designs: np.ndarray, prices: Prices) -> np.ndarray:
    """The objectives as integers to be minimised, shape (designs, objectives).

    Cycles stand for fps, units of loss for accuracy, billionths for utilization.
    """
    columns = {"bram": "bram18", "energy": "energy_pj"}
    found = []
    for name in asked.goals.objectives:
        match name:
            case "accuracy":
                found.append(lost(asked, designs))
            case "fps":
                found.append(prices.interval_cycles)
            case "latency":
                found.append(prices.latency_cycles)
            case "utilization":
                found.append(filled(asked, designs, prices))
            case _:
                found.append(prices.total[:, COLUMNS.index(columns.get(name, name))])
    return np.column_stack(found)


def lost(asked: Problem, designs: np.ndarray) -> np.ndarray:
    """Units of loss."""
    total = np.zeros(len(designs), np.int64)
    for name, column in zip(asked.table.variables, designs.T, strict=True):
        if name.startswith("bits."):
            total += asked.losses.tensors[name.removeprefix("bits.")][column]
        elif name != "interval":
            total += asked.losses.engines[name][column]
    return total


def filled(asked: Problem, designs: np.ndarray, prices: Prices) -> np.ndarray:
    """The fullest resource [billionths]; 2**60 where one is used that the board has not."""
    sizes = np.array([[*offered(asked, t).values()] for t in range(len(asked.table.intervals))])
    size, used = sizes[designs[:, 0]], prices.total[:, : len(LIMITED)]
    share = np.rint(used / np.maximum(size, 1) * 1e9).astype(np.int64)
    return np.where(size > 0, share, np.where(used > 0, 2**60, 0)).max(axis=1)


# Anything that is additive


@st.composite
def random_losses(draw: st.DrawFn, priced: Table) -> Losses:
    """Any additive accuracy: no order between precisions, ties, negative losses."""
    most = draw(st.sampled_from([3, 50]))
    unit = draw(st.sampled_from([10**6, 10**10]))
    loss = st.integers(-1, most)

    def some(count: int) -> np.ndarray:
        return unit * np.array(draw(st.lists(loss, min_size=count, max_size=count)), np.int64)

    return Losses(
        base=1.0,
        engines={name: some(len(options)) for name, options in priced.choices.items()},
        tensors={name: some(len(options)) for name, options in priced.bits.items()},
        half=lambda scheme: 0.01,
        source="predicted",
        note="drawn at random",
    )


def random_costs(priced: Table, seed: int, size: int) -> Table:
    """The same choices at costs and cycles drawn at random."""
    draw = np.random.default_rng(seed)
    factors = []
    for factor in priced.factors:
        rows = draw.integers(0, size, factor.rows.shape)
        shape = rows.shape[:-1]
        longest = np.array(priced.intervals).reshape(-1, *[1] * (len(shape) - 1))
        longest = np.broadcast_to(longest, shape)
        engine = factor.picks is not None
        rows[..., CYCLES] = draw.integers(longest // 2, longest + 1) if engine else 0
        rows[..., DELAY] = draw.integers(0, 50, shape) if engine else 0
        factors.append(replace(factor, rows=rows))
    return replace(priced, factors=tuple(factors))
