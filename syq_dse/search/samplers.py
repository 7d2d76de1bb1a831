"""Optuna on a priced table: the exact front as seeds, then a sampler's own proposals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, create_trial

from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.table import Choice, Table, price
from syq_dse.search.problem import MAXIMISED, Problem

Direction = Literal["minimize", "maximize"]

GENERATION = 50
"""Designs that are proposed, priced and written at once."""

FEW = 10
"""The same of samplers that learn from each design before the next."""

AT_ONCE = ("nsga2", "nsga3", "random")
"""Samplers that propose a generation without knowing how its members do."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "nsga2": lambda seed: NSGAIISampler(population_size=GENERATION, seed=seed),
    "nsga3": lambda seed: NSGAIIISampler(population_size=GENERATION, seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


def label(choice: Choice) -> str:
    """A choice as the parameter's value in Optuna: readable in its dashboard."""
    scheme = choice.scheme
    return (
        f"{scheme.weights} {scheme.granularity} {scheme.scale} {choice.res_type} {choice.ram_style}"
    )


def distributions(table: Table) -> dict[str, BaseDistribution]:
    """The parameter of every variable of a design; the interval by its index in the grid."""
    found: dict[str, BaseDistribution] = {"interval": IntDistribution(0, len(table.intervals) - 1)}
    for name, options in table.choices.items():
        found[name] = CategoricalDistribution([label(option) for option in options])
    for name, bits in table.bits.items():
        found[f"bits.{name}"] = CategoricalDistribution(bits)
    return found


def parameters(table: Table, design: Sequence[int]) -> dict[str, object]:
    """A design as Optuna's parameters."""
    named = dict(zip(table.variables, map(int, design), strict=True))
    found: dict[str, object] = {"interval": named["interval"]}
    for name, options in table.choices.items():
        found[name] = label(options[named[name]])
    for name, bits in table.bits.items():
        found[f"bits.{name}"] = bits[named[f"bits.{name}"]]
    return found


def frozen_trials(
    problem: Problem,
    designs: Ints,
    source: str,
    sampler: BaseSampler | None = None,
    measured: Sequence[float] | None = None,
) -> list[FrozenTrial]:
    """Designs as completed trials, with their limits as constraints.

    Args:
        sampler: who is to start from them; a genetic one reads only trials that have a generation.
        measured: their accuracies, where they were trained.
    """
    genetic = isinstance(sampler, (NSGAIISampler, NSGAIIISampler))
    generation = {f"{type(sampler).__name__}:generation": 0} if genetic else {}
    table = problem.table
    prices = price(table, designs)
    values = problem.values(designs, prices)
    excess = problem.excess(designs, prices)
    if measured is not None and "accuracy" in problem.goals.objectives:
        values[:, problem.goals.objectives.index("accuracy")] = measured
    spread = distributions(table)
    return [
        create_trial(
            params=parameters(table, design),
            distributions=spread,
            values=[float(v) for v in row],
            constraints=dict(zip(problem.limited, map(float, over), strict=True)),
            user_attrs={
                "source": source,
                "interval_cycles": int(cycles),
                "accuracy_source": problem.losses.source if measured is None else "measured",
            },
            system_attrs=dict(generation),  # create_trial writes into it
        )
        for design, row, over, cycles in zip(
            designs, values, excess, prices.interval_cycles, strict=True
        )
    ]


def directions(problem: Problem) -> list[Direction]:
    """Optuna's directions of the objectives."""
    return ["maximize" if n in MAXIMISED else "minimize" for n in problem.goals.objectives]


def propose(
    problem: Problem,
    sampler: str,
    seed: int,
    trials: int,
    seeds: Ints,
    progress: Callable[[int, int, str], None] | None = None,
    record: Callable[[list[FrozenTrial]], None] | None = None,
) -> Ints:
    """Designs that a sampler proposes, the seeds being the trials that it starts from.

    It works in memory, a generation at a time; `record` is called with each finished generation.

    Returns:
        The proposed designs, shape (trials, variables).
    """
    found: list[Ints] = []
    done = 0
    for designs in generations(problem, sampler, seed, trials, seeds):
        found.append(designs)
        done += len(designs)
        if record:
            record(frozen_trials(problem, designs, sampler))
        if progress:
            progress(done, trials, sampler)
    return np.concatenate([ints([]).reshape(0, len(problem.table.variables)), *found])


def generations(
    problem: Problem, sampler: str, seed: int, trials: int, seeds: Ints
) -> Iterator[Ints]:
    """What a sampler proposes, a generation at a time, as `propose` has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = SAMPLERS[sampler](seed)
        study = optuna.create_study(directions=directions(problem), sampler=made)
        study.add_trials(frozen_trials(problem, seeds, "exact", made))
    together = GENERATION if sampler in AT_ONCE else 1
    size = GENERATION if sampler in AT_ONCE else FEW
    for first in range(0, trials, size):
        found: list[list[int]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            while len(found) < min(size, trials - first):
                found.extend(_generation(problem, study, min(together, trials - first)))
        yield ints(found)


def _generation(problem: Problem, study: optuna.Study, count: int) -> list[list[int]]:
    table = problem.table
    spread = distributions(table)
    asked = [study.ask(spread) for _ in range(count)]
    designs = [_design(table, trial.params) for trial in asked]
    array = ints(designs)
    prices = price(table, array)
    values = problem.values(array, prices)
    excess = problem.excess(array, prices)
    for trial, row, over in zip(asked, values, excess, strict=True):
        for name, value in zip(problem.limited, over, strict=True):
            trial.set_constraint(name, float(value))
        study.tell(trial, [float(v) for v in row])
    return designs


def _design(table: Table, params: dict[str, object]) -> list[int]:
    design = [int(str(params["interval"]))]
    for name, options in table.choices.items():
        design.append([label(option) for option in options].index(str(params[name])))
    for name, bits in table.bits.items():
        design.append(bits.index(params[f"bits.{name}"]))
    return design
