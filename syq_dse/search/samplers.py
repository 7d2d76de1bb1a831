"""Optuna on a priced table: the exact front as seeds, then a sampler's own proposals."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
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
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, create_trial

from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.table import Choice, Table, price
from syq_dse.errors import InputError
from syq_dse.records import write_bytes
from syq_dse.search.problem import LIMITED, MAXIMISED, Problem

Direction = Literal["minimize", "maximize"]

GENERATION = 50
"""Designs that are proposed, priced and written at once."""

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
    problem: Problem, designs: Ints, source: str, sampler: BaseSampler | None = None
) -> list[FrozenTrial]:
    """Designs as completed trials, with their limits as constraints.

    Args:
        sampler: who is to start from them; a genetic one reads only trials that have a generation.
    """
    genetic = isinstance(sampler, (NSGAIISampler, NSGAIIISampler))
    generation = {f"{type(sampler).__name__}:generation": 0} if genetic else {}
    table = problem.table
    prices = price(table, designs)
    values = problem.values(designs, prices)
    excess = problem.excess(designs, prices)
    spread = distributions(table)
    return [
        create_trial(
            params=parameters(table, design),
            distributions=spread,
            values=[float(v) for v in row],
            constraints=dict(zip(LIMITED, map(float, over), strict=True)),
            user_attrs={
                "source": source,
                "interval_cycles": int(cycles),
                "accuracy_source": problem.losses.source,
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = SAMPLERS[sampler](seed)
        study = optuna.create_study(directions=directions(problem), sampler=made)
        study.add_trials(frozen_trials(problem, seeds, "exact", made))
        found: list[list[int]] = []
        while len(found) < trials:
            if progress:
                progress(len(found), trials, sampler)
            count = min(GENERATION, trials - len(found))
            found.extend(_generation(problem, study, count))
            if record:
                record(frozen_trials(problem, ints(found[-count:]), sampler))
    return ints(found).reshape(-1, len(problem.table.variables))


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
        for name, value in zip(LIMITED, over, strict=True):
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


class Held(JournalFileOpenLock):
    """The lock of a journal that lies in a run folder: who writes there holds the folder already.

    Optuna's own are files, which a killed process leaves and the next one waits for.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def mend(journal: Path) -> None:
    """Cut the half line that a killed process leaves at the end; optuna would append to it."""
    if journal.is_file():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            write_bytes(journal, whole)


def connect(storage: str | Path, name: str, resume: bool) -> BaseStorage:
    """The storage of a run.

    Args:
        storage: any URL that Optuna takes, or a journal file's path; a Path if it is the journal in
            the folder that this process holds.

    Raises:
        InputError: it cannot be opened, or holds a study of this name that is not to be resumed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = re.sub(r"://[^/@]*@", "://***@", str(storage))  # a URL may hold a password
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = _backend(storage)
            names = optuna.get_all_study_names(backend)
    except Exception as error:  # any driver's own errors: one line for all of them
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = text.replace(str(storage), shown)
        raise InputError(f"storage '{shown}': cannot be opened: {text}") from error
    if name in names and not resume:
        remedy = "name the run folder otherwise with --out"
        raise InputError(f"storage '{shown}': holds a study '{name}' already; {remedy}")
    return backend


def _backend(storage: str | Path) -> BaseStorage:
    if isinstance(storage, Path):
        mend(storage)
        return JournalStorage(JournalFileBackend(str(storage), Held(str(storage))))
    if "://" in storage:
        return optuna.storages.get_storage(storage)
    # Absolute: optuna's lock is a link to this path, and dangles if it is relative.
    return JournalStorage(JournalFileBackend(str(Path(storage).absolute())))


def open_study(backend: BaseStorage, name: str, problem: Problem) -> optuna.Study:
    """The study of a run in its storage, made if it is not there yet.

    Raises:
        InputError: the storage holds a study with other objectives.
    """
    study = optuna.create_study(
        storage=backend, study_name=name, directions=directions(problem), load_if_exists=True
    )
    if [d.name.lower() for d in study.directions] != directions(problem):
        raise InputError(f"the storage's study '{name}' has other objectives")
    return study


def write_trials(study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
    """Add finished trials in bulk."""
    study.add_trials(list(trials))


def values_of(study: optuna.Study) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Objectives of every recorded trial, shape (trials, objectives)."""
    trials = study.get_trials(deepcopy=False)
    return np.asarray([trial.values for trial in trials if trial.values], dtype=np.float64)
