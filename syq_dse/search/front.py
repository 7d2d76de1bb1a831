"""The exact front: at every interval the designs that no other of the space dominates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import numpy.typing as npt

from syq_dse.cost.design import longest_interval
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.table import Prices, price
from syq_dse.errors import InfeasibleError
from syq_dse.search.exact import TooManyLabels, every_label, least_loss
from syq_dse.search.problem import LINEAR, Problem, feasible, price_all
from syq_dse.search.stages import Chain, chain, cycles_at, fastest, narrow

Progress = Callable[[int, int, str], None]

SUMS = {**LINEAR, "latency": "delay"}
"""Columns of objectives that are sums over layers; latency adds what is fixed at an interval."""

LEVELS = 12
"""Bounds tried on each further objective where the front at an interval is too large to list."""


@dataclass(frozen=True)
class Front:
    """Designs that no other dominates, best accuracy first.

    Attributes:
        designs: rows of `Table.variables`, shape (points, variables).
        values: their objectives as the user sees them, shape (points, objectives).
        exact: whether every non-dominated design of the space is there; else the further
            objectives were tried at LEVELS bounds.
    """

    designs: Ints
    prices: Prices
    values: npt.NDArray[np.float64]
    exact: bool


def exact_front(problem: Problem, progress: Progress | None = None) -> Front:
    """The front of an additive problem.

    With accuracy and fps alone, the least loss under the limits at each interval. With more
    objectives, all non-dominated partial designs are kept where they are few enough.

    Raises:
        InfeasibleError: no design keeps the limits; names the tightest and the missing amount.
    """
    further = [n for n in problem.goals.objectives if n not in ("accuracy", "fps")]
    found: list[list[int]] = []
    exact = True
    known: list[tuple[int, int]] = []  # (cycles, loss) of what was found
    intervals = [t for t in range(len(problem.table.intervals)) if _fast_enough(problem, t)]
    for done, t in enumerate(intervals):
        if progress:
            progress(done, len(intervals), f"{problem.table.intervals[t]} cycles")
        if not further:
            designs, complete = _best_at(problem, t, known)
            found.extend(designs)
            exact = exact and complete
        else:
            designs, complete = _all_at(problem, t, further)
            found.extend(designs)
            exact = exact and complete
    if not found:
        raise InfeasibleError(why_infeasible(problem))
    return front_of(problem, ints(found), exact)


def front_of(problem: Problem, designs: Ints, exact: bool = False) -> Front:
    """The feasible, bounded and non-dominated of some designs, each value once."""
    prices = price(problem.table, designs)
    values = problem.values(designs, prices)
    keep = feasible(problem.excess(designs, prices)) & _within(problem, values, prices)
    index = np.flatnonzero(keep)
    if len(index):
        chosen = problem.minimised(values[index])
        index = index[moocore.is_nondominated(chosen, keep_weakly=False)]
        index = index[np.lexsort(problem.minimised(values[index]).T[::-1])]
    return Front(designs[index], take(prices, index), values[index], exact)


def take(prices: Prices, index: npt.NDArray[np.intp]) -> Prices:
    """The cost of some of the designs."""
    return Prices(prices.total[index], prices.interval_cycles[index], prices.latency_cycles[index])


def hypervolume(problem: Problem, front: Front, reference: npt.NDArray[np.float64]) -> float:
    """Hypervolume that a front dominates, up to a reference point of minimised objectives."""
    if not len(front.values):
        return 0.0
    return float(moocore.hypervolume(problem.minimised(front.values), ref=reference))


def reference_point(problem: Problem, front: Front) -> npt.NDArray[np.float64]:
    """A tenth of the front's extent worse than its worst value in each minimised objective."""
    values = problem.minimised(front.values)
    worst, best = values.max(axis=0), values.min(axis=0)
    return np.asarray(worst + 0.1 * np.maximum(worst - best, 1e-3 * np.abs(worst) + 1e-9))


def why_infeasible(problem: Problem) -> str:
    """The limit that is missed by most when each is asked for alone, and by how much.

    Where each alone could be kept, by how much one is missed when the others are kept; where no
    single one is to blame, by how much the worst is missed when all are exceeded alike.
    """
    best: tuple[float, int, int, int] | None = None  # excess, interval, column, need
    for t in range(len(problem.table.intervals)):
        if not _fast_enough(problem, t):
            continue
        limits = problem.limits(t)
        found = chain(problem, t, problem.limited)
        least = [_least_of(found, i) or 0 for i in range(len(problem.limited))]
        over = [
            (need - int(most)) / max(int(most), 1) if need else -1.0  # none needed: never missed
            for need, most in zip(least, limits, strict=True)
        ]
        index = int(np.argmax(over))
        if best is None or over[index] < best[0]:
            best = (over[index], t, index, least[index])
    network = problem.table.network.name
    if best is None:
        least_cycles = min(fastest(problem, t) for t in range(len(problem.table.intervals)))
        reach = problem.goals.clock_mhz * 1e6 / least_cycles
        return (
            f"{network}: {problem.goals.fps:g} fps need a shorter interval than the space's least, "
            f"{least_cycles} cycles ({reach:.1f} fps)"
        )
    excess, t, index, need = best
    others = ""
    if excess <= 0:
        index, need, others = _missed_together(
            chain(problem, t, problem.limited), problem.limits(t)
        )
    name, most = problem.limited[index], int(problem.limits(t)[index])
    offer = f"{problem.goals.limit:g} of {problem.table.pricing.target.name}'s"
    unit = problem.table.pricing.units.get(name)
    if unit is not None:
        need, most, name = -(-need // unit[0]), most // unit[0], unit[1]
    text = f"needs at least {need} {name}{others}, {need - most} more than {most}, {offer}"
    cycles = problem.table.intervals[t]
    remedy = f"take fewer bits, a higher --limit or a larger {problem.table.pricing.whole}"
    return f"{network}: {text} (at {cycles} cycles an image); {remedy}"


def _missed_together(found: Chain, limits: Ints) -> tuple[int, int, str]:
    """What is missed where each limit alone could be kept: column, need, and beside what."""
    single = []
    for column in range(len(limits)):
        need = _least_of(found, column, limits)
        if need is not None:
            single.append(((need - limits[column]) / max(limits[column], 1), column, need))
    if single:
        _, column, need = min(single)
        return column, need, " within the other limits"
    low, high = 1.0, 2.0
    while (picks := least_loss(found, _scaled(limits, high))) is None:
        low, high = high, 2 * high
    while high / low > STEP:
        middle = (low * high) ** 0.5
        closer = least_loss(found, _scaled(limits, middle))
        low, high, picks = (low, middle, closer) if closer is not None else (middle, high, picks)
    stages = zip(found.stages, picks, strict=True)
    used = np.sum([stage.values[pick, 1:] for stage, pick in stages], axis=0)
    column = int(np.argmax(used / np.maximum(limits, 1)))
    return column, int(used[column]), f" where all limits are exceeded alike, by {high - 1:.0%},"


STEP = 1.02
"""Ratio to which a common excess over all limits is narrowed down."""


def _scaled(limits: Ints, factor: float) -> Ints:
    return ints((np.maximum(limits, 1) * factor).astype(np.int64))


def _least_of(found: Chain, column: int, limits: Ints | None = None) -> int | None:
    """Least sum of one column over a chain, the others within limits; None where they cannot be."""
    picks = _least_at(found, column, limits)
    return None if picks is None else int(_used(found, picks)[column])


def _least_at(found: Chain, column: int, limits: Ints | None = None) -> tuple[int, ...] | None:
    """The options with the least sum of one column, the others within limits."""
    others = [] if limits is None else [i for i in range(len(found.columns)) if i != column]
    only = Chain(
        found.interval,
        tuple(found.columns[i] for i in others),
        tuple(
            type(s)(
                s.factor,
                s.tensors,
                s.choice,
                s.bits,
                s.values[:, [column + 1, *(i + 1 for i in others)]],
            )
            for s in found.stages
        ),
        found.sizes,
        found.live,
    )
    return least_loss(only, ints([]) if limits is None else limits[others])


def _fast_enough(problem: Problem, t: int) -> bool:
    return fastest(problem, t) <= _longest(problem)


def _longest(problem: Problem) -> int:
    """Most cycles an image that the goals allow."""
    goals, longest = problem.goals, max(problem.table.intervals)
    return (
        longest if goals.fps is None else min(longest, longest_interval(goals.clock_mhz, goals.fps))
    )


def _within(
    problem: Problem, values: npt.NDArray[np.float64], prices: Prices
) -> npt.NDArray[np.bool_]:
    fps = problem.goals.fps
    if fps is None:
        return np.ones(len(values), bool)
    return np.asarray(problem.goals.clock_mhz * 1e6 / prices.interval_cycles >= fps)


def _least_possible(problem: Problem) -> int:
    """Loss of the most accurate design, whatever it costs."""
    parts = [*problem.losses.engines.values(), *problem.losses.tensors.values()]
    return sum(int(part.min()) for part in parts)


def _best_at(
    problem: Problem, t: int, known: list[tuple[int, int]]
) -> tuple[list[list[int]], bool]:
    """The designs at an interval that are better in loss or cycles than what is known.

    And whether each is proven to be the best.

    Adds what it finds to `known`. An engine's cheapest folding may be faster than the interval asks
    for, so that designs at one interval differ in cycles.
    """
    least, limits = fastest(problem, t), problem.limits(t)
    within = min(_longest(problem), max(least, problem.table.intervals[t]))
    designs: list[list[int]] = []
    doubts: list[int] = []
    while within >= least:
        rivals = [(loss, cycles) for cycles, loss in known if cycles <= within]
        most, reached = min(rivals, default=(None, least))
        picks = None
        if most is None or most > _least_possible(problem):
            found, bounds = _binding(problem, t, limits, (), within)
            most_loss = None if most is None else most - 1
            picks = least_loss(found, bounds, most_loss, lambda: doubts.append(t))
        if picks is not None:
            designs.append(design_of(problem, found, picks))
            array, prices = price_all(problem, designs[-1:])
            reached = int(prices.interval_cycles[0])
            known.append((reached, int(problem.loss(array)[0])))
        elif most is None:
            break
        within = min(within, reached) - 1
    return designs, not doubts


def _binding(
    problem: Problem, t: int, limits: Ints, wanted: Sequence[str], within: int | None = None
) -> tuple[Chain, Ints]:
    """The chain with the columns that are wanted or whose limits can be broken, and the limits."""
    every = [*problem.limited, *(name for name in wanted if name not in problem.limited)]
    full = chain(problem, t, every, within)
    most = np.sum([stage.values[:, 1:].max(axis=0) for stage in full.stages], axis=0)
    unlimited = np.iinfo(np.int64).max // 4
    given = dict(zip(problem.limited, limits, strict=True))
    bound = {**dict.fromkeys(every, unlimited), **given}
    columns = [
        name for name, top in zip(every, most, strict=True) if top > bound[name] or name in wanted
    ]
    return narrow(full, columns), ints([bound[name] for name in columns])


def _all_at(problem: Problem, t: int, further: Sequence[str]) -> tuple[list[list[int]], bool]:
    """Designs at one interval, and whether they are all that could be on the front."""
    wanted = [SUMS[name] for name in further if name in SUMS]
    if "utilization" in further:
        wanted += [name for name in problem.limited if name not in wanted]
    limits = problem.limits(t)
    try:
        return _every_at(problem, t, limits, wanted), _sums_only(problem)
    except TooManyLabels:
        pass
    found, limits = _binding(problem, t, limits, wanted)
    designs = []
    for tighter in _levels(found, limits, further, problem.limited):
        picks = least_loss(found, tighter)
        if picks is not None:
            designs.append(design_of(problem, found, picks))
    return designs, False


def _sums_only(problem: Problem) -> bool:
    """Whether every objective is a sum or a maximum: latency is one only where no paths meet."""
    meet = any(len(node.inputs) > 1 for node in problem.table.network.nodes)
    return not (meet and "latency" in problem.goals.objectives)


def _every_at(problem: Problem, t: int, limits: Ints, wanted: Sequence[str]) -> list[list[int]]:
    """All designs at one interval that no other dominates, for each number of cycles.

    Raises:
        TooManyLabels: there are too many to list.
    """
    timed = "fps" in problem.goals.objectives or problem.goals.fps is not None
    designs: list[list[int]] = []
    tried = None
    for within in reversed(cycles_at(problem, t).tolist()) if timed else [None]:
        if within is not None and within > _longest(problem):
            continue
        found, bounds = _binding(problem, t, limits, wanted, within)
        options = [stage.values.tobytes() for stage in found.stages]
        if options != tried:
            every = every_label(found, bounds, wanted)
            designs += [design_of(problem, found, picks) for picks in every]
        tried = options
    return designs


def _levels(
    found: Chain, limits: Ints, further: Sequence[str], limited: Sequence[str]
) -> Iterator[Ints]:
    """Tighter and tighter limits on the further objectives.

    They go from the least of each to what the most accurate design has of it, or the one with the
    least of another: none needs more.
    """
    yield limits
    named = [found.columns.index(SUMS[name]) for name in further if name in SUMS]
    count = max(2, round(LEVELS ** (1 / len(further))))
    ends = [least_loss(found, limits), *(_least_at(found, i, limits) for i in named)]
    used = np.stack([_used(found, picks) for picks in ends if picks is not None] or [limits])
    low, high = used.min(axis=0), used.max(axis=0)
    every = [i for i, name in enumerate(found.columns) if name in limited and limits[i]]
    alone = [(_least_of(found, i) or 0) / limits[i] for i in every]
    fullest = (used[:, every] / limits[every]).max()
    for steps in itertools.product(np.linspace(0, 1, count), repeat=len(further)):
        tighter = limits.copy()
        for name, step in zip(further, steps, strict=True):
            if name == "utilization":
                share = max(alone) + step * (fullest - max(alone))
                tighter[every] = np.minimum(
                    tighter[every], (limits[every] * share).astype(np.int64)
                )
            else:
                i = found.columns.index(SUMS[name])
                tighter[i] = min(tighter[i], low[i] + int(step * (high[i] - low[i])))
        yield tighter


def _used(found: Chain, picks: Sequence[int]) -> Ints:
    """What a design has of each column."""
    values = [s.values[i, 1:] for s, i in zip(found.stages, picks, strict=True)]
    return ints(np.sum(values, axis=0))


def design_of(problem: Problem, found: Chain, picks: Sequence[int]) -> list[int]:
    """The design that the options of all stages make."""
    column = {name: i for i, name in enumerate(problem.table.variables)}
    design = [0] * len(column)
    design[0] = found.interval
    for stage, pick in zip(found.stages, picks, strict=True):
        if stage.factor.name in column:
            design[column[stage.factor.name]] = int(stage.choice[pick])
        for axis, name in enumerate(stage.tensors):
            design[column[f"bits.{name}"]] = int(stage.bits[pick, axis])
    return design
