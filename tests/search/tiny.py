"""Networks, boards and spaces small enough to enumerate every design."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from syq_dse import network, target
from syq_dse.accuracy import prior
from syq_dse.cost import fpga
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.table import price
from syq_dse.network import Add, Conv, Dense, Flatten, GlobalAvgPool, MaxPool, Network, NetworkFile
from syq_dse.search import losses, space
from syq_dse.search.problem import Goals, Losses, Problem, feasible
from syq_dse.search.space import Space


def file(name: str, *layers: network.Layer) -> Network:
    """A network on 4x8x8 with four classes."""
    return network.build(
        NetworkFile(
            name=name,
            provenance="test",
            classes=4,
            input=(4, 8, 8),
            recipe=network.Recipe(dataset="none"),
            layers=layers,
        )
    )


NETWORKS = {
    "chain": file(
        "chain",
        Conv(name="first", c_out=4, k=3, pad=1),
        Conv(name="inner", c_out=8, k=3, pad=1),
        MaxPool(name="pool", k=2),
        Conv(name="wide", c_out=8, k=1),
        GlobalAvgPool(name="mean"),
        Dense(name="last", c_out=4, batch_norm=False, relu=False),
    ),
    "residual": file(
        "residual",
        Conv(name="first", c_out=4, k=3, pad=1),
        Conv(name="up", c_out=8, k=3, pad=1),
        Conv(name="down", c_out=4, k=3, pad=1, relu=False),
        Add(name="add", inputs=("down", "first")),
        Flatten(name="flat"),
        Dense(name="last", c_out=4, batch_norm=False, relu=False),
    ),
    "depthwise": file(
        "depthwise",
        Conv(name="first", c_out=6, k=3, pad=1),
        Conv(name="depth", c_out=6, k=3, pad=1, groups=6),
        Conv(name="point", c_out=8, k=1, relu=False),
        Conv(name="signed", c_out=4, k=1),
        Flatten(name="flat"),
        Dense(name="last", c_out=4, batch_norm=False, relu=False),
    ),
}

SPACE = Space(
    weights=("binary", "int4"), granularity=("layer", "pixel"), scale=("shift",), bits=(1, 4),
    intervals=4,
)  # fmt: skip


def problem(
    name: str,
    objectives: tuple[str, ...] = ("accuracy", "fps"),
    capacity: dict[str, int] | None = None,
    seed: int | None = None,
    fps: float | None = None,
) -> Problem:
    """A problem on a pynq-z1 of other capacity; with a seed, losses drawn at random."""
    board = target.load("pynq-z1")
    sizes = {"lutram": 1000, **(capacity or {})}
    sizes["lutram"] = min(sizes["lutram"], sizes.get("lut", 1000))
    board = replace(board, capacity=replace(board.capacity, **sizes))
    net = NETWORKS[name]
    made = space.build(SPACE, net, fpga.pricing(board))
    expected = losses.from_prior(prior.load(net), made)
    if seed is not None:
        expected = drawn(expected, seed)
    return Problem(made, expected, Goals(objectives=objectives, clock_mhz=100.0, fps=fps))


def drawn(expected: Losses, seed: int) -> Losses:
    """Losses that follow nothing."""
    generator = np.random.default_rng(seed)

    def some(values: Ints) -> Ints:
        return generator.integers(0, 10**10, len(values))

    return replace(
        expected,
        engines={name: some(values) for name, values in expected.engines.items()},
        tensors={name: some(values) for name, values in expected.tensors.items()},
    )


def every_design(found: Problem) -> Ints:
    """All designs of a problem whose engines' choices do not repeat each other's rows."""
    table = found.table
    ranges = [range(size) for size in table.sizes]
    designs = ints(list(itertools.product(*ranges)))
    assert len(designs) < 3_000_000
    return designs


def front_values(
    found: Problem, designs: Ints
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Minimised objectives of the feasible designs that no other dominates, by plain comparison."""
    prices = price(found.table, designs)
    values = found.minimised(found.values(designs, prices))
    keep = feasible(found.excess(designs, prices))
    if found.goals.fps is not None:
        keep &= found.goals.clock_mhz * 1e6 / prices.interval_cycles >= found.goals.fps
    values = np.unique(values[keep], axis=0)
    front: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for row in values:  # sorted by the first objective, so that nothing later dominates it there
        if not any((other <= row).all() for other in front):
            front = [other for other in front if not (row <= other).all()]
            front.append(row)
    return np.asarray(front).reshape(len(front), values.shape[1])
