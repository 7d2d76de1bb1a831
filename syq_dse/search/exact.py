"""The design of least loss at one interval under several limits, proven by dynamic programming.

Partial designs are labels: loss and resources so far. A label falls when another of the same live
precisions is nowhere worse, or when no completion can stay within the limits or under the least
loss that is still open; the completion is bounded from below with a price on each resource
(Lagrangian relaxation), the prices being the dual values of the linear relaxation. Options that no
open design can have are taken out first: few are left near the bound.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from syq_dse.cost.integers import Ints
from syq_dse.search.losses import LOSS_UNIT
from syq_dse.search.stages import Chain, Stage, nondominated

Floats = npt.NDArray[np.float64]

MOST_LABELS = 400_000
"""Labels of one stage past which the integer program is the quicker way."""

MOST_STEPS = 24_000_000
"""Labels of all stages together: past sixty stages each may have fewer."""

FIRST_GAP = 2e-5
"""Distance from the bound within which the first search looks; it grows until a design is found."""

FINEST_GAP = 1e-9
"""Distance below which no shorter one is tried."""

PROGRAM_S, TIMED_OUT = 20.0, 1
"""Time of an integer program, which on hundreds of layers has no end; its status in scipy then."""

SLACK = 2
"""Loss units within which bounds in floating point count as equal."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Partial designs after a stage.

    Attributes:
        state: index of the live precisions, shape (labels,).
        values: as in `Stage.values`, added up, shape (labels, 1 + columns).
        parent: index of the label before; option: index of the stage's option.
    """

    state: Ints
    values: Ints
    parent: Ints
    option: Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """How the labels after a stage came about: as in `Labels`, in half the bytes."""

    parent: npt.NDArray[np.int32]
    option: npt.NDArray[np.int32]


class TooManyLabels(Exception):
    """More labels than MOST_LABELS after a stage."""


def least_loss(
    chain: Chain,
    limits: Ints,
    most: int | None = None,
    unproven: Callable[[], object] = lambda: None,
) -> tuple[int, ...] | None:
    """The option of every stage that together have the least loss within the limits.

    Where too many labels lie within a distance from the bound, a shorter one comes first: a design
    found there says how far one has to look.

    Args:
        limits: most of each of the chain's columns.
        most: largest loss of interest [LOSS_UNIT].
        unproven: called where there may be a design of less loss than what is returned.

    Returns:
        Indices into the stages' options, or None where nothing fits.
    """
    relaxed = relax(chain, limits)
    if relaxed is None:
        return None
    bound, prices = relaxed
    if most is None:
        most = sum(int(s.values[:, 0].max()) for s in chain.stages)
    if bound > most + SLACK:
        return None
    gap = max(FIRST_GAP / LOSS_UNIT, abs(bound) * 2e-3)
    empty, best = 0.0, None  # no design is nearer to the bound than `empty`
    while True:
        gap = min(gap, most - bound)
        try:
            found, proven = _within_gap(chain, limits, prices, bound + gap), True
        except TooManyLabels:
            nearer = max(4 * empty, FINEST_GAP / LOSS_UNIT)
            if gap > 2 * nearer:
                gap = math.sqrt(gap * nearer)
                continue
            found, proven = _by_program(chain, limits, prices, bound + gap)
        loss = None if found is None else loss_of(chain, found)
        if found is not None and (best is None or loss_of(chain, found) < loss_of(chain, best)):
            best = found
        if not proven:
            unproven()
            return best if best is not None and loss_of(chain, best) <= most else None
        if loss is not None and loss <= bound + gap + SLACK:
            # all designs of less loss were open, and none was left
            return found if loss <= most else None
        if gap >= most - bound:
            return None  # nothing of interest was left open, and none was found
        empty = gap
        gap = 3 * gap if best is None else min(3 * gap, loss_of(chain, best) - bound)


def _within_gap(chain: Chain, limits: Ints, prices: Floats, most: float) -> tuple[int, ...] | None:
    """`search` on the open options.

    Raises:
        TooManyLabels: as `search`.
    """
    kept = open_options(chain, prices, most + SLACK + float(prices @ limits))
    if not all(len(options) for options in kept):
        return None
    small = take(chain, kept)
    bounds = Bounds(prices, priced_to_go(small, prices), least_to_go(small))
    found = search(small, limits, bounds, most)
    return None if found is None else _of(kept, found)


def _by_program(
    chain: Chain, limits: Ints, prices: Floats, most: float
) -> tuple[tuple[int, ...] | None, bool]:
    """The integer program on the open options: a design, if any, and whether it had its time."""
    kept = open_options(chain, prices, most + SLACK + float(prices @ limits))
    found, proven = integer_program(take(chain, kept), limits)
    return None if found is None else _of(kept, found), proven


def _of(kept: list[Ints], found: tuple[int, ...]) -> tuple[int, ...]:
    """The options of a chain by those of what `take` has left of it."""
    return tuple(int(k[i]) for k, i in zip(kept, found, strict=True))


def open_options(chain: Chain, prices: Floats, most: float) -> list[Ints]:
    """For each stage the options that some design of at most this priced sum has."""
    weight = np.concatenate([[1.0], prices])
    togo, before, kept = priced_to_go(chain, prices), np.zeros(1), []
    for index, stage in enumerate(chain.stages):
        live, after = chain.live[index - 1] if index else (), chain.live[index]
        touched = tuple(dict.fromkeys([*live, *stage.tensors]))
        cost = stage.values @ weight
        come = _aligned(before.reshape([chain.sizes[t] for t in live]), live, touched)
        go = _aligned(togo[index].reshape([chain.sizes[t] for t in after]), after, touched)
        rest = _least_over(come + go, touched, stage.tensors)
        rest = np.broadcast_to(rest, [chain.sizes[t] for t in stage.tensors])
        kept.append(np.flatnonzero(cost + rest[tuple(stage.bits.T)] <= most))
        before = _least_over(come + _table(stage, chain, cost, touched), touched, after).reshape(-1)
    return kept


def _least_over(array: Floats, axes: tuple[str, ...], wanted: tuple[str, ...]) -> Floats:
    """The minimum over all axes but those wanted, in their order."""
    gone = tuple(i for i, name in enumerate(axes) if name not in wanted)
    left = tuple(name for name in axes if name in wanted)
    least: Floats = array.min(axis=gone).transpose([left.index(name) for name in wanted])
    return least


def take(chain: Chain, kept: list[Ints]) -> Chain:
    """The chain with some options of each stage."""
    stages = tuple(
        Stage(s.factor, s.tensors, s.choice[k], s.bits[k], s.values[k])
        for s, k in zip(chain.stages, kept, strict=True)
    )
    return Chain(chain.interval, chain.columns, stages, chain.sizes, chain.live)


def every_label(chain: Chain, limits: Ints, wanted: Sequence[str]) -> list[tuple[int, ...]]:
    """All designs within the limits that no other dominates in loss and the wanted columns.

    Raises:
        TooManyLabels: more than MOST_LABELS // 10 after a stage.
    """
    nothing = np.zeros(len(limits))
    bounds = Bounds(nothing, priced_to_go(chain, nothing), least_to_go(chain))
    counts = np.isin(chain.columns, list(wanted))
    to_come = [np.where(counts, limits, most) for most in most_to_go(chain)]
    history, last = forward(chain, limits, bounds, np.inf, MOST_LABELS // 10, to_come)
    return [trace(history, i) for i in range(len(last.state))]


def loss_of(chain: Chain, picks: tuple[int, ...]) -> int:
    """Loss of the design that the options make [LOSS_UNIT]."""
    return sum(int(s.values[i, 0]) for s, i in zip(chain.stages, picks, strict=True))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lower bounds on what completes a partial design, one array of states a stage.

    Attributes:
        prices: loss units for one of each column.
        togo: least priced sum of the stages after each one, shape (states,).
        least: least of each column that they add, shape (states, columns).
    """

    prices: Floats
    togo: list[Floats]
    least: list[Floats]


def search(chain: Chain, limits: Ints, bounds: Bounds, most: float) -> tuple[int, ...] | None:
    """A design of the least loss, if that is at most `most`.

    A returned design may have more; then it only shows that the least is not more than that.

    Raises:
        TooManyLabels: more than MOST_LABELS after a stage, or its share of MOST_STEPS.
    """
    labels_most = min(MOST_LABELS, MOST_STEPS // len(chain.stages))
    history, last = forward(chain, limits, bounds, most, labels_most, most_to_go(chain))
    return trace(history, int(np.argmin(last.values[:, 0]))) if len(last.state) else None


def forward(
    chain: Chain,
    limits: Ints,
    bounds: Bounds,
    most: float,
    labels_most: int,
    to_come: list[Ints],
) -> tuple[list[Steps], Labels]:
    """How labels came about after every stage, and the last; none where no design is left open.

    Args:
        to_come: `most_to_go`: up to there below its limit a column does not count; the limit itself
            where it always counts.

    Raises:
        TooManyLabels: more than `labels_most` after a stage.
    """
    one = np.zeros(1, np.int64)
    labels = Labels(one, np.zeros((1, 1 + len(limits)), np.int64), one, one)
    history = []
    for index in range(len(chain.stages)):
        labels = extend(chain, index, labels, limits, bounds, most, 5 * labels_most)
        labels = prune(labels, limits - to_come[index])
        if len(labels.state) > labels_most:
            raise TooManyLabels
        if not len(labels.state):
            return [], labels
        history.append(Steps(labels.parent.astype(np.int32), labels.option.astype(np.int32)))
    return history, labels


def trace(history: list[Steps], label: int) -> tuple[int, ...]:
    """The options that led to a label of the last stage."""
    picks = []
    for steps in reversed(history):
        picks.append(int(steps.option[label]))
        label = int(steps.parent[label])
    return tuple(reversed(picks))


def extend(
    chain: Chain,
    index: int,
    labels: Labels,
    limits: Ints,
    bounds: Bounds,
    most: float,
    labels_most: int,
) -> Labels:
    """Every label with every option that fits its precisions and that the bounds leave open.

    Raises:
        TooManyLabels: more than `labels_most`.
    """
    stage, weight = chain.stages[index], np.concatenate([[1.0], bounds.prices])
    before = chain.live[index - 1] if index else ()
    old = states(chain, before)
    shared = [t for t in stage.tensors if t in before]
    wanted = stage.bits[:, [stage.tensors.index(t) for t in shared]]
    have = old[:, [before.index(t) for t in shared]]
    open_to = most + SLACK + float(bounds.prices @ limits)
    so_far, adds = labels.values @ weight, stage.values @ weight
    found = []
    for state in np.unique(labels.state):
        fits = np.flatnonzero((wanted == have[state]).all(axis=1))
        members = np.flatnonzero(labels.state == state)
        after = _state_after(chain, index, old[state], fits)
        rest = adds[fits] + bounds.togo[index][after]
        row, column = np.nonzero(so_far[members][:, None] + rest <= open_to)
        parent, option = members[row], fits[column]
        values = labels.values[parent] + stage.values[option]
        room = values[:, 1:] + bounds.least[index][after[column]] <= limits
        keep = room.all(axis=1)
        found.append(Labels(after[column][keep], values[keep], parent[keep], option[keep]))
        if sum(len(part.state) for part in found) > labels_most:
            raise TooManyLabels
    return Labels(
        np.concatenate([part.state for part in found]),
        np.concatenate([part.values for part in found]),
        np.concatenate([part.parent for part in found]),
        np.concatenate([part.option for part in found]),
    )


def _state_after(chain: Chain, index: int, bits: Ints, options: Ints) -> Ints:
    """The state after a stage, from the precisions before it and each of some options."""
    stage = chain.stages[index]
    before = chain.live[index - 1] if index else ()
    state = np.zeros(len(options), np.int64)
    for name in chain.live[index]:
        if name in before:
            value = bits[before.index(name)]
        else:
            value = stage.bits[options, stage.tensors.index(name)]
        state = state * chain.sizes[name] + value
    return state


def prune(labels: Labels, harmless: Ints) -> Labels:
    """Without the labels that another one of the same state dominates.

    Args:
        harmless: amount of each column up to which no completion breaks its limit.
    """
    values = np.maximum(labels.values, np.concatenate([[np.iinfo(np.int64).min], harmless]))
    keep = [np.zeros(0, np.int64)]
    for state in np.unique(labels.state):
        members = np.flatnonzero(labels.state == state)
        keep.append(members[nondominated(values[members])])
    kept = np.concatenate(keep)
    return Labels(labels.state[kept], labels.values[kept], labels.parent[kept], labels.option[kept])


def least_to_go(chain: Chain) -> list[Floats]:
    """The least of each column that the stages after each one add, whatever the rest.

    One array a stage, shape (states, columns).
    """
    columns = [
        priced_to_go(chain, np.eye(len(chain.columns))[i], loss=0.0)
        for i in range(len(chain.columns))
    ]
    return [
        np.stack([c[i] for c in columns], axis=-1) if columns else np.zeros((len(s), 0))
        for i, s in enumerate(priced_to_go(chain, np.zeros(len(chain.columns))))
    ]


def most_to_go(chain: Chain) -> list[Ints]:
    """The most of each column that the stages after each one can add, shape (columns,) a stage."""
    found = [np.zeros(len(chain.columns), np.int64)]
    for stage in reversed(chain.stages[1:]):
        found.insert(0, found[0] + stage.values[:, 1:].max(axis=0))
    return found


def priced_to_go(chain: Chain, prices: Floats, loss: float = 1.0) -> list[Floats]:
    """The least priced sum that the stages after each one add, shape (states,) a stage."""
    weight = np.concatenate([[loss], prices])
    found = [np.zeros(1)]
    for index in range(len(chain.stages) - 1, 0, -1):
        stage = chain.stages[index]
        before, after = chain.live[index - 1], chain.live[index]
        touched = tuple(dict.fromkeys([*before, *stage.tensors]))
        later = found[0].reshape([chain.sizes[t] for t in after])
        total = _table(stage, chain, stage.values @ weight, touched)
        total = total + _aligned(later, after, touched)
        gone = tuple(i for i, t in enumerate(touched) if t not in before)
        found.insert(0, total.min(axis=gone).reshape(-1))
    return found


def relax(chain: Chain, limits: Ints) -> tuple[float, Floats] | None:
    """Bound on the loss and a price for each column, from the linear relaxation.

    Returns:
        None where even the relaxation has no solution.
    """
    objective, equal, right, uses = program(chain)
    scale = 1.0 / np.maximum(limits, 1)
    above: Any = sparse.csr_array(uses * scale[:, None]) if len(limits) else None
    matrix: Any = equal  # the stubs do not know that linprog takes sparse matrices
    result = optimize.linprog(
        objective,
        A_ub=above,
        b_ub=limits * scale if len(limits) else None,
        A_eq=matrix,
        b_eq=right,
        bounds=(0, 1),
        method="highs",
    )
    if result.status != 0:
        return None
    prices = np.maximum(0.0, -result.ineqlin.marginals * scale) if len(limits) else np.zeros(0)
    prices = prices / OBJECTIVE_UNIT
    first = chain.stages[0]
    after = _state_after(chain, 0, np.zeros(0, np.int64), np.arange(len(first.choice)))
    start = first.values @ np.concatenate([[1.0], prices])
    bound = float((start + priced_to_go(chain, prices)[0][after]).min() - prices @ limits)
    return bound, prices


def integer_program(
    chain: Chain, limits: Ints, longest_s: float = PROGRAM_S
) -> tuple[tuple[int, ...] | None, bool]:
    """`least_loss` by scipy's integer programming (HiGHS), and whether that is proven."""
    objective, equal, right, uses = program(chain)
    scale = 1.0 / np.maximum(limits, 1)
    options = sum(len(s.choice) for s in chain.stages)
    constraints = [optimize.LinearConstraint(equal, right, right)]
    if len(limits):
        rows = sparse.csr_array(uses * scale[:, None])
        constraints.append(optimize.LinearConstraint(rows, -np.inf, limits * scale))
    with _nothing_printed():
        result = optimize.milp(
            objective,
            constraints=constraints,
            integrality=(np.arange(len(objective)) < options).astype(np.int64),
            bounds=optimize.Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "time_limit": longest_s},
        )
    proven = result.status != TIMED_OUT
    if result.x is None:
        return None, proven
    picks, start = [], 0
    for stage in chain.stages:
        picks.append(int(np.argmax(result.x[start : start + len(stage.choice)])))
        start += len(stage.choice)
    return tuple(picks), proven


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Send what HiGHS prints by itself to nowhere: standard output belongs to the command."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


OBJECTIVE_UNIT = 1e-9
"""Of a loss unit: losses reach 1e12 units, and solvers want numbers near one."""


def program(chain: Chain) -> tuple[Floats, sparse.csr_array, Floats, Floats]:
    """The integer program: an option a stage, precisions that agree.

    Variables are the options of all stages, then every precision of every tensor. Returns the
    objective, the equations' matrix and right side, and the use of each column.
    """
    options = sum(len(s.choice) for s in chain.stages)
    start_of, size = {}, options
    for name, count in chain.sizes.items():
        start_of[name] = size
        size += count
    objective, uses = np.zeros(size), np.zeros((len(chain.columns), size))
    rows: list[Ints] = []
    columns: list[Ints] = []
    signs: list[Floats] = []
    right: list[float] = []
    start = 0
    for stage in chain.stages:
        here = np.arange(start, start + len(stage.choice))
        objective[here] = stage.values[:, 0] * OBJECTIVE_UNIT
        uses[:, here] = stage.values[:, 1:].T
        rows.append(np.full(len(here), len(right)))
        columns.append(here)
        signs.append(np.ones(len(here)))
        right.append(1.0)
        for axis, name in enumerate(stage.tensors):
            rows.append(len(right) + stage.bits[:, axis])
            columns.append(here)
            signs.append(np.ones(len(here)))
            values = np.arange(chain.sizes[name])
            rows.append(len(right) + values)
            columns.append(start_of[name] + values)
            signs.append(-np.ones(len(values)))
            right.extend([0.0] * len(values))
        start += len(stage.choice)
    entries = (np.concatenate(signs), (np.concatenate(rows), np.concatenate(columns)))
    equal = sparse.csr_array(entries, shape=(len(right), size))
    return objective, equal, np.asarray(right), uses


def states(chain: Chain, live: tuple[str, ...]) -> Ints:
    """The precisions of every state, shape (states, tensors)."""
    shape = tuple(chain.sizes[t] for t in live)
    count = int(np.prod(shape))
    return np.stack(np.unravel_index(np.arange(count), shape), axis=1) if shape else _NO_TENSOR


_NO_TENSOR = np.zeros((1, 0), np.int64)


def _table(stage: Stage, chain: Chain, cost: Floats, touched: tuple[str, ...]) -> Floats:
    """Least cost of a stage's options by its tensors' precisions, on the axes `touched`."""
    shape = tuple(chain.sizes[t] for t in stage.tensors)
    table = np.full(int(np.prod(shape)), np.inf)
    flat = np.zeros(len(cost), np.int64)
    for axis, size in enumerate(shape):
        flat = flat * size + stage.bits[:, axis]
    np.minimum.at(table, flat, cost)
    table = table.reshape(shape)
    return _aligned(table, stage.tensors, touched)


def _aligned(array: Floats, names: tuple[str, ...], axes: tuple[str, ...]) -> Floats:
    """The array with its axes moved to their places among `axes`, length 1 where it has none."""
    order = sorted(range(len(names)), key=lambda i: axes.index(names[i]))
    turned = array.transpose(order)
    kept = {names[i] for i in order}
    shape = iter(turned.shape)
    return turned.reshape([next(shape) if name in kept else 1 for name in axes])
