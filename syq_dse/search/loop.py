"""The loop of search and training: train what teaches most, predict anew, search again.

The front is searched by the predictor of now, and those of its points are trained from which most
hypervolume is expected. Whenever trainings have ended the predictor is fitted to all that was
trained, the front is searched again, and as many points are begun as have ended: workers do not
wait for each other. A point that was measured keeps its measured accuracy. In the end the run's
front is that of the last search and of all measured points; measured ones that others dominate are
kept, and marked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
from optuna.storages import BaseStorage

from syq_dse import cells, records, scheme
from syq_dse.accuracy import predictor, sensitivity
from syq_dse.accuracy.predictor import Trained
from syq_dse.accuracy.sensitivity import Sensitivity
from syq_dse.cost.integers import Ints
from syq_dse.errors import InputError
from syq_dse.scheme import Scheme
from syq_dse.search import losses, run, samplers, trainings, validation
from syq_dse.search import storage as storages
from syq_dse.search.front import (
    Front,
    Progress,
    exact_front,
    hypervolume,
    reference_point,
    take,
)
from syq_dse.search.points import NAMED, document_of, named_of, points_of, row_of
from syq_dse.search.problem import Problem, price_all
from syq_dse.search.process import Answer
from syq_dse.search.study import Study
from syq_dse.search.trainer import Trainer, Workers
from syq_dse.search.trainings import Options, Training

Floats = npt.NDArray[np.float64]

SAMPLES = 64
"""Accuracies drawn for each point whose gain is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When the loop ends: after so many trainings in all, or minutes."""

    trainings: int  # those that the run has with these options count
    minutes: float | None = None
    seeds: int = 1  # of each point
    batch: int = 1  # points that are under way at a time


@dataclass(frozen=True, slots=True)
class Candidate:
    """A design whose scheme is not trained yet."""

    design: Ints
    values: Floats  # its objectives, as `Problem.minimised` has them
    spread: float  # standard deviation of its accuracy


@dataclass(frozen=True, slots=True)
class Measured:
    """A point that was trained with the loop's options."""

    settings: str
    document: dict[str, Any]
    scheme: Scheme
    top1: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.top1))


@dataclass(frozen=True, slots=True)
class Asked:
    """What stays the same in a loop."""

    folder: Path
    study: Study
    problem: Problem
    profile: Sensitivity
    options: Options
    progress: Progress | None
    ours: dict[str, bool]  # digests of trainings, and whether they are of these options


@dataclass(frozen=True, slots=True)
class State:
    """A round: what is measured, and what is predicted and found from that."""

    problem: Problem
    front: Front
    measured: list[Measured]


def improve(
    folder: Path,
    budget: Budget,
    workers: Workers,
    options: Options,
    progress: Progress | None = None,
) -> int:
    """Train points of a finished run and search again, until the budget is spent.

    Returns:
        The trainings that the run has with these options; fewer than the budget where no point of
        the front is left to train.

    Raises:
        InputError: no finished run, one without a sensitivity profile, or one training after the
            other failed.
        KeyboardInterrupt: Ctrl-C; what was trained is kept.
    """
    with run.held(folder):
        run.check_described(folder)
        front = run.read_front(folder)
        study = run.read_record(folder).study
        if budget.trainings < budget.seeds:
            raise InputError(
                f"--validate must be at least --seeds, {budget.seeds}, got {budget.trainings}"
            )
        if "accuracy" not in study.objectives:
            raise InputError(f"{folder}: --validate needs accuracy among the objectives")
        path = run.profile_of(study)
        if path is None:
            raise InputError(
                f"{folder}: --validate needs a sensitivity profile of {study.network}; "
                "`syq-dse profile` measures one for --profile"
            )
        problem = run.problem_of(study, progress)
        profile = sensitivity.load(path, problem.table.network)
        net = problem.table.network
        trains = Path(options.dataset or net.file.recipe.dataset).stem
        if profile.dataset != trains:
            raise InputError(
                f"{path}: was measured on {profile.dataset}, trainings are on {trains}; "
                f"give --dataset {profile.dataset}, or the profile of the other"
            )
        report = progress or (lambda done, total, what: None)
        asked = Asked(folder, study, problem, profile, options, progress, {})
        trainer = Trainer(folder, workers, options, report)
        _collect(asked, trainer)
        state = _search(asked)
        passed: set[str] = set()
        tried: set[tuple[str, int]] = set()
        failures = 0
        started = time.monotonic()
        try:
            with trainer:
                while True:
                    if budget.minutes is None or time.monotonic() - started <= 60 * budget.minutes:
                        batch = _batch(asked, state, trainer.open, passed, tried, budget)
                        tried |= {one.key for one in batch}
                        trainer.put(batch)
                    if not trainer.open:
                        break
                    failures = _note(folder, trainer.wait(), failures, budget)
                    state = _search(asked)
        except BaseException:  # with what was trained before
            state = _search(asked)
            raise
        finally:
            _write(folder, front, study, state)
        _record(folder, trainer.queue.backend, state, progress)
        return sum(len(one.top1) for one in state.measured)


FAILURES = 3
"""Trainings that may fail one after the other, or as many as are under way at a time."""


def _note(
    folder: Path, ended: Sequence[tuple[Training, Answer]], failures: int, budget: Budget
) -> int:
    """Write what was measured; how many trainings have now failed one after the other.

    Raises:
        InputError: the last one's reason, of too many.
    """
    reason = ""
    for one, answer in ended:
        if isinstance(answer, str):
            failures += 1
            reason = f"{one.point}, seed {one.seed}: {answer}"
        else:
            failures = 0
            validation.note(folder, one, answer)
    if failures >= max(FAILURES, budget.batch * budget.seeds):
        raise InputError(reason)
    return failures


def _collect(asked: Asked, trainer: Trainer) -> None:
    """Write what has ended while nobody was there to write it."""
    known = _known(asked.folder)
    found = {**trainings.results(asked.folder), **trainer.results()}
    for (settings, seed), answer in found.items():
        document = trainings.document_of(asked.folder, settings)
        if (settings, seed) not in known and document.is_file():
            point = str(records.read(document)["point"])
            one = trainings.known(asked.folder, settings, seed, point)
            validation.note(asked.folder, one, answer)


def _known(folder: Path) -> set[tuple[str, int]]:
    """What stands in validation.csv."""
    rows = validation.known(folder)
    return {(str(s), int(n)) for s, n in zip(rows["settings"], rows["seed"], strict=True)}


def _unfinished(
    asked: Asked, measured: Sequence[Measured], tried: set[tuple[str, int]], seeds: int
) -> list[Training]:
    """Seeds that points lack which were begun: those come before other points."""
    known = _known(asked.folder)
    begun = {one.settings: one.document for one in measured}
    for path in sorted((asked.folder / trainings.TRAININGS).glob("*.json")):
        name = path.stem
        if name in begun or not any(
            trainings.known(asked.folder, name, seed, "").folder.is_dir() for seed in range(seeds)
        ):
            continue
        held = records.read(path)
        if _is_ours(asked, name, held):
            begun[name] = held
    return [
        trainings.known(asked.folder, name, seed, str(held["point"]))
        for name, held in sorted(begun.items())
        for seed in range(seeds)
        if (name, seed) not in known | tried
    ]


def _is_ours(asked: Asked, settings: str, document: Mapping[str, Any]) -> bool:
    """Whether a training is of the loop's options; its digest, which prices the board, is kept."""
    if settings not in asked.ours:
        net = asked.problem.table.network
        digest = trainings.digest(asked.study, net, document, asked.options)
        asked.ours[settings] = digest == settings and "design" in document
    return asked.ours[settings]


def _search(asked: Asked) -> State:
    """What is measured now, and the front by a predictor that has learnt from it."""
    measured = measured_of(asked)
    known = [Trained(scheme=m.scheme, top1=m.mean, seeds=len(m.top1)) for m in measured]
    made = losses.from_predictor(predictor.fit(asked.profile, known), asked.problem.table)
    problem = replace(asked.problem, losses=made)
    return State(problem, exact_front(problem, asked.progress), measured)


def measured_of(asked: Asked) -> list[Measured]:
    """What a run has trained with these options."""
    found = []
    for settings, own in validation.known(asked.folder).groupby("settings", sort=False):
        name = str(settings)
        path = trainings.document_of(asked.folder, name)
        if not path.is_file():
            continue
        held = records.read(path)
        if _is_ours(asked, name, held):
            chosen = asked.problem.table.scheme_of(held["design"])
            found.append(Measured(name, held, chosen, tuple(own["top1"].tolist())))
    return found


def _batch(
    asked: Asked,
    state: State,
    under_way: Mapping[tuple[str, int], Training],
    passed: set[str],
    tried: set[tuple[str, int]],
    budget: Budget,
) -> list[Training]:
    """Trainings to begin: as many points as are missing to a batch, each with all its seeds.

    Args:
        passed: schemes that are not to be chosen again; those that are chosen are added.
        tried: trainings that were begun by this command.
    """
    problem, front, measured = state.problem, state.front, state.measured
    left = budget.trainings - sum(len(m.top1) for m in measured) - len(under_way)
    wanted = _unfinished(asked, measured, tried, budget.seeds)[: max(0, left)]
    left -= len(wanted)
    points = {settings for settings, _ in under_way} | {one.settings for one in wanted}
    passed |= {
        repr(problem.table.scheme_of(records.read(one.document)["design"])) for one in wanted
    }
    count = min(budget.batch - len(points), left // budget.seeds)
    if count < 1:
        return wanted
    known = {repr(m.scheme) for m in measured}
    seen = known | passed
    candidates = []
    for design, values in zip(front.designs, problem.minimised(front.values), strict=True):
        chosen = problem.table.scheme_of(design.tolist())
        if repr(chosen) not in seen:
            seen.add(repr(chosen))
            spread = problem.losses.half(chosen) / predictor.normal_half()
            candidates.append(Candidate(design, values, spread))
    trained = [m.document["design"] for m in measured]
    expected = [records.read(one.document)["design"] for one in under_way.values()]
    picks = most_gain(
        candidates,
        np.vstack(
            [
                _values(problem, trained, [m.mean for m in measured]),
                _values(problem, expected),
            ]
        ),
        reference_point(problem, front),
        problem.goals.objectives.index("accuracy"),
        count,
        np.random.default_rng(len(measured)),
    )
    for number, pick in enumerate(picks, len(known | passed) + 1):
        held = document_of(problem, candidates[pick].design, f"t{number:03d}")
        passed.add(repr(problem.table.scheme_of(candidates[pick].design.tolist())))
        for seed in range(budget.seeds):
            wanted.append(trainings.training(asked.folder, held, seed, asked.options))
    return wanted


def most_gain(
    candidates: Sequence[Candidate],
    known: Floats,
    reference: Floats,
    accuracy: int,
    count: int,
    rng: np.random.Generator,
) -> list[int]:
    """The candidates of which most hypervolume is expected beyond what is known, one by one.

    Each that is taken counts as known, at the accuracy that is expected of it, before the next is
    sought: so they spread over the front. (Expected hypervolume improvement, Emmerich et al., CEC
    2011, by SAMPLES drawn accuracies; the next ones by the "Kriging believer" of Ginsbourger et
    al., 2010.)

    Args:
        known: objectives of what was measured, minimised, shape (points, objectives).
        accuracy: column of the accuracy.
    """
    picks: list[int] = []
    drawn = rng.standard_normal(SAMPLES)
    while len(picks) < min(count, len(candidates)):
        volume = _volume(known, reference)
        gains = np.full(len(candidates), -np.inf)
        for index, one in enumerate(candidates):
            if index in picks:
                continue
            each = np.repeat(one.values[None], SAMPLES, axis=0)
            each[:, accuracy] += one.spread * drawn
            gains[index] = np.mean(
                [_volume(np.vstack([known, row]), reference) - volume for row in each]
            )
        picks.append(int(np.argmax(gains)))
        known = np.vstack([known, candidates[picks[-1]].values])
    return picks


def _volume(values: Floats, reference: Floats) -> float:
    return float(moocore.hypervolume(values, ref=reference)) if len(values) else 0.0


def _values(
    problem: Problem, designs: Sequence[Sequence[int]], top1: Sequence[float] | None = None
) -> Floats:
    """Objectives of designs, minimised, with the accuracy that was measured, or is predicted."""
    if not designs:
        return np.empty((0, len(problem.goals.objectives)))
    found, prices = price_all(problem, designs)
    values = problem.values(found, prices)
    if top1 is not None:
        values[:, problem.goals.objectives.index("accuracy")] = top1
    return problem.minimised(values)


NO_POINT = "-"
"""The point of a training whose scheme is not on the front."""


def _name_of(folder: Path, problem: Problem, settings: str, names: Mapping[str, str]) -> str:
    """The point that has the scheme of a training with other options."""
    path = trainings.document_of(folder, settings)
    if not path.is_file():
        return NO_POINT
    held = records.read(path)
    chosen = scheme.read(problem.table.network, held["scheme"], str(path))
    return names.get(repr(chosen), NO_POINT)


def _record(folder: Path, backend: BaseStorage, state: State, progress: Progress | None) -> None:
    """Points that were trained, as trials of the run's study: each once, as first measured."""
    if not state.measured:
        return
    name = folder.absolute().name
    store = storages.open_study(
        *(backend, name, samplers.directions(state.problem)), state.problem.goals.objectives
    )
    had = {
        json.dumps(trial.params, sort_keys=True)
        for trial in store.study.get_trials(deepcopy=False)
        if trial.user_attrs.get("source") == MEASURED
    }
    designs, _ = price_all(state.problem, [one.document["design"] for one in state.measured])
    means = [one.mean for one in state.measured]
    trials = samplers.frozen_trials(state.problem, designs, MEASURED, measured=means)
    new = [one for one in trials if json.dumps(one.params, sort_keys=True) not in had]
    storages.write_trials(store, new, progress)


MEASURED = "measured"
"""Source of trials that were trained."""


def _write(folder: Path, before: dict[str, Any], study: Study, state: State) -> None:
    """The run's points: what no other dominates, and all that was measured."""
    problem, front, measured = state.problem, state.front, state.measured
    known = {repr(m.scheme): m for m in measured}
    own = [m.document["design"] for m in measured]
    designs, prices = price_all(problem, [*front.designs.tolist(), *own])
    _, first = np.unique(designs, axis=0, return_index=True)
    index = np.sort(first)
    values = problem.values(designs, prices)[index]
    column = problem.goals.objectives.index("accuracy")
    trained = [known.get(repr(problem.table.scheme_of(designs[i].tolist()))) for i in index]
    for row, held in zip(values, trained, strict=True):
        if held is not None:
            row[column] = held.mean
    minimised = problem.minimised(values)
    good = moocore.is_nondominated(minimised, keep_weakly=False)
    kept = [i for i in range(len(index)) if good[i] or trained[i] is not None]
    kept.sort(key=lambda i: tuple(minimised[i]))
    found = Front(designs[index[kept]], take(prices, index[kept]), values[kept], front.exact)
    points = points_of(problem, found)
    for row, i in zip(points.rows, kept, strict=True):
        row["dominated"] = not good[i]
    best = [
        {**row, "accuracy": float(values[i, column])}
        for row, i in zip(points.rows, kept, strict=True)
        if good[i]
    ]
    points = replace(
        points, named=dict(zip(NAMED, named_of(best, problem.goals.objectives), strict=True))
    )
    measures = {
        str(row["point"]): m
        for row, i in zip(points.rows, kept, strict=True)
        for m in [trained[i]]
        if m is not None
    }
    ids = {m.settings: point for point, m in measures.items()}
    rows = validation.known(folder)
    names = {
        repr(problem.table.scheme_of(found.designs[place].tolist())): str(row["point"])
        for place, row in reversed(list(enumerate(points.rows)))
    }
    rows["point"] = [
        ids[settings] if settings in ids else _name_of(folder, problem, settings, names)
        for settings in rows["settings"]
    ]
    if not rows.empty:
        records.write_text(folder / validation.VALIDATION, cells.text(rows))
    reference = reference_point(problem, front)
    summary = {
        **before["summary"],
        "hypervolume_exact": hypervolume(problem, front, reference),
        "reference_point": reference.tolist(),
    }
    expected = {p: validation.expected_of(row_of(m.document)) for p, m in measures.items()}
    settings = {point: m.settings for point, m in measures.items()}
    with run.changing(folder):
        # Killed in here, the run is one that has not finished: other points go by the same names.
        (folder / run.FRONT_JSON).unlink(missing_ok=True)
        run.write_points(folder, study, problem, points, summary)
        validation.record_held(folder, rows, settings, expected)
        for path in (folder / run.POINTS).glob("p*.json"):  # of the front before
            if path.stem not in points.documents:
                path.unlink()
