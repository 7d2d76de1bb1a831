"""One interval of a problem as a chain of stages: what exact search works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Ints
from syq_dse.cost.table import CYCLES, ROW, Factor
from syq_dse.search.problem import Problem

AFTER = ("cycles", "delay")
"""Names of what a row of the table holds behind the columns of its pricing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The options of one factor, none dominated by another of the same precisions.

    Attributes:
        tensors: the tensors with several precisions that it touches.
        choice: index of the choice, shape (options,).
        bits: index of each tensor's precision, shape (options, tensors).
        values: loss [LOSS_UNIT], then the columns asked for, shape (options, 1 + columns).
    """

    factor: Factor
    tensors: tuple[str, ...]
    choice: Ints
    bits: Ints
    values: Ints


@dataclass(frozen=True, slots=True)
class Chain:
    """All stages of one interval, in the order of the flow.

    Attributes:
        columns: what the values after the loss are.
        sizes: number of precisions of every tensor that has several.
        live: for each stage, the tensors that it or earlier ones touch and later ones still do.
    """

    interval: int  # index
    columns: tuple[str, ...]
    stages: tuple[Stage, ...]
    sizes: dict[str, int]
    live: tuple[tuple[str, ...], ...]


def chain(
    problem: Problem, interval: int, columns: Sequence[str], within: int | None = None
) -> Chain:
    """The stages at one interval with the given columns of the pricing, or of AFTER.

    Args:
        within: only options of engines that take at most so many cycles; not below `fastest`.
    """
    table = problem.table
    sizes = {name: len(options) for name, options in table.bits.items() if len(options) > 1}
    factors = in_flow_order(problem)
    seen: set[str] = set()
    stages = []
    for factor in factors:
        stages.append(_stage(problem, factor, interval, columns, sizes, seen, within))
        seen.update(factor.tensors)
    live = []
    for index in range(len(stages)):
        before = dict.fromkeys(t for s in stages[: index + 1] for t in s.tensors)
        after = {t for s in stages[index + 1 :] for t in s.tensors}
        live.append(tuple(t for t in before if t in after))
    return Chain(interval, tuple(columns), tuple(stages), sizes, tuple(live))


def narrow(full: Chain, columns: Sequence[str]) -> Chain:
    """The chain with some of its columns, its options thinned out accordingly."""
    places = [0, *(1 + full.columns.index(name) for name in columns)]
    stages = []
    for stage in full.stages:
        values = stage.values[:, places]
        keep = np.concatenate([g[nondominated(values[g])] for g in groups(stage.bits)])
        stages.append(
            Stage(stage.factor, stage.tensors, stage.choice[keep], stage.bits[keep], values[keep])
        )
    return Chain(full.interval, tuple(columns), tuple(stages), full.sizes, full.live)


def cycles_at(problem: Problem, interval: int) -> Ints:
    """Cycles an image that designs at one interval can take, ascending.

    The slowest engine or stream decides; it is at most the interval where streams keep up.
    """
    least = fastest(problem, interval)
    found = [
        factor.rows[interval][..., CYCLES]
        for factor in problem.table.factors
        if factor.picks is not None
    ]
    every = np.unique(np.concatenate([np.unique(rows) for rows in found]))
    return np.concatenate([[least], every[every > least]])


def fastest(problem: Problem, interval: int) -> int:
    """Least cycles an image of any design at one interval."""
    return int(problem.table.least_cycles[interval])


def in_flow_order(problem: Problem) -> list[Factor]:
    """The table's factors in the order of the network's layers: few tensors are live at once."""
    order = {node.name: i for i, node in enumerate(problem.table.network.nodes)}
    return sorted(problem.table.factors, key=lambda factor: order[factor.name])


def _stage(
    problem: Problem,
    factor: Factor,
    interval: int,
    columns: Sequence[str],
    sizes: dict[str, int],
    seen: set[str],
    within: int | None,
) -> Stage:
    rows = factor.rows[interval]
    places = (*problem.table.pricing.columns, *AFTER)
    shape = rows.shape[:-1]
    flat = rows.reshape(-1, ROW)[:, [places.index(c) for c in columns]]
    index = np.indices(shape).reshape(len(shape), -1)
    loss = np.zeros(flat.shape[0], np.int64)
    if factor.name in problem.losses.engines:
        loss = loss + problem.losses.engines[factor.name][index[0]]
    for axis, name in enumerate(factor.tensors):
        if name not in seen:  # the first stage that touches a tensor counts its loss
            loss = loss + problem.losses.tensors[name][index[axis + 1]]
    axes = [i for i, name in enumerate(factor.tensors) if name in sizes]
    bits = index[[a + 1 for a in axes]].T
    values = np.column_stack([loss, flat])
    if within is not None and factor.picks is not None:
        fast = np.flatnonzero(rows[..., CYCLES].reshape(-1) <= within)
        index, bits, values = index[:, fast], bits[fast], values[fast]
    keep = np.concatenate([g[nondominated(values[g])] for g in groups(bits)])
    tensors = tuple(factor.tensors[a] for a in axes)
    return Stage(factor, tensors, index[0][keep], bits[keep], values[keep])


def groups(keys: Ints) -> list[Ints]:
    """Indices of equal rows of keys, shape (n, k), a group for each distinct row."""
    if not keys.shape[1]:
        return [np.arange(len(keys))]
    _, label = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label.ravel()))[:-1]
    return np.split(order, ends)


def nondominated(values: Ints) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, all columns minimised; of equal rows one stays."""
    varies = (values != values[0]).any(axis=0)
    if not varies.any():
        only = np.zeros(len(values), bool)
        only[0] = True
        return only
    return np.asarray(moocore.is_nondominated(values[:, varies].astype(float), keep_weakly=False))
