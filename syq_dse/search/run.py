"""A run folder: the study, its storage, the front and its points; written atomically, resumable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

import syq_dse
from syq_dse import catalogue, network, records
from syq_dse.accuracy import predictor, prior, sensitivity
from syq_dse.cost import pricing
from syq_dse.cost.design import longest_interval
from syq_dse.errors import InputError, SyqDseError, unknown
from syq_dse.search import losses, samplers, space
from syq_dse.search import storage as storages
from syq_dse.search.comparison import Compared, compare, in_the_end
from syq_dse.search.front import (
    Front,
    Progress,
    exact_front,
    front_of,
    hypervolume,
    reference_point,
)
from syq_dse.search.points import NAMED, Points, points_of
from syq_dse.search.problem import Goals, Problem, check_objectives
from syq_dse.search.study import NONE, SHIPPED, Study, differences

STUDY, FRONT_CSV, FRONT_JSON, JOURNAL = "study.toml", "front.csv", "front.json", "optuna.journal"
SAMPLERS_CSV = "samplers.csv"
POINTS = "points"

VERSION = 1
"""Format of the run folder; a newer one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """study.toml of a run: the settings, resolved, and what they were run with."""

    format: int
    syq_dse: str
    python: str
    described: str | None = None  # digest of what the network's and the board's files said
    study: Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How the front was found, in front.json; the last three where a sampler ran."""

    exact: bool
    hypervolume_exact: float
    reference_point: tuple[float, ...]
    sampler: str
    trials: int | None = None
    hypervolume_sampler: float | None = None
    hypervolume_merged: float | None = None
    samplers: tuple[Compared, ...] | None = None  # where all were compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point in front.json: a row of front.csv, with the resources of its kind of target."""

    point: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_source: str
    fps: float
    latency_us: float
    interval_cycles: int
    utilization: float
    energy_uj: float
    ff: int
    lut: int | None = None
    dsp: int | None = None
    bram18: int | None = None
    uram: int | None = None
    area_um2: float | None = None
    gate_equivalents: int | None = None
    sram_bits: int | None = None
    sram_um2: float | None = None
    dominated: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"p[0-9]{3,9}", self.point):
            raise InputError(f"point must be an id such as p001, got {self.point!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a point that was measured had been expected to reach."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontFile:
    """front.json."""

    network: str
    target: str
    clock_mhz: float
    limit: float
    objectives: tuple[str, ...]
    accuracy_note: str
    provenance: dict[str, str]
    summary: Summary
    named: dict[str, str]
    points: tuple[Row, ...]
    expected: dict[str, Expected] | None = None  # of points that were measured since

    def __post_init__(self) -> None:
        catalogue.check_name(self.network)
        catalogue.check_name(self.target)
        ids = [row.point for row in self.points]
        for name in self.named:
            if name not in NAMED:
                raise InputError(f"named: {unknown('name', name, NAMED)}")
        for name in NAMED:
            point = self.named.get(name)
            if point not in ids:
                raise InputError(f"named.{name} must be a point of the front, got {point!r}")
        if not self.objectives:
            raise InputError("objectives must have at least one, got []")
        if not {"lut", "area"} & set(self.provenance):
            raise InputError(f"provenance must have lut or area, got {[*self.provenance]}")


@dataclass(frozen=True, slots=True)
class Result:
    """What `explore` found: the points, and how the sampler did against the exact front."""

    folder: Path
    points: Points
    summary: dict[str, Any]


def problem_of(study: Study, progress: Progress | None = None) -> Problem:
    """The priced table, the accuracy and the goals of a study."""
    net = network.load(study.network)
    prices = pricing.load(study.target, study.area_mm2, study.node_nm)
    clock = prices.target.clock_mhz if study.clock_mhz is None else study.clock_mhz
    goals = Goals(objectives=study.objectives, limit=study.limit, clock_mhz=clock, fps=study.fps)
    longest = None if study.fps is None else longest_interval(clock, study.fps)
    path = profile_of(study)
    known = None if path is None else predictor.fit(sensitivity.load(path, net))
    made = space.build(study.space, net, prices, longest, progress)
    if known is None:
        return Problem(made, losses.from_prior(prior.load(net), made), goals)
    return Problem(made, losses.from_predictor(known, made), goals)


def profile_of(study: Study) -> Path | None:
    """The sensitivity profile that a study predicts by."""
    if study.profile == NONE:
        return None
    if study.profile != SHIPPED:
        return Path(study.profile)
    if study.network not in catalogue.names("models"):
        return None
    net = network.load(study.network)
    return sensitivity.shipped(net, net.file.recipe.dataset)


def explore(
    study: Study,
    folder: Path,
    storage: str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Search and leave a run folder.

    Args:
        storage: where Optuna keeps the study; None: a journal file in the folder.
        resume: go on with the run that the folder holds.

    Raises:
        InputError: the folder holds something else, or is in use, or cannot be written.
        InfeasibleError: no design keeps the limits.
    """
    study = resolved(study)
    name = folder.absolute().name  # that of the working directory, too
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with locked(folder, resume, study):
        if resume and finished(folder):
            return read_result(folder)
        _write_study(folder, study)
        try:
            place = storage or folder / JOURNAL
            backend = storages.connect(place)
            if not resume:
                storages.check_new(backend, place, name)
            problem = problem_of(study, progress)
            front = exact_front(problem, progress)
        except SyqDseError:
            if not resume:  # nothing was found: leave nothing behind
                _clear(folder, made)
            raise
        store = storages.open_study(
            backend, name, samplers.directions(problem), problem.goals.objectives
        )
        have = storages.count(store)
        seeds = samplers.frozen_trials(problem, front.designs, "exact")
        storages.write_trials(store, seeds[have:], progress)
        summary, front = _sample(
            folder, problem, study, front, store, max(0, have - len(seeds)), progress
        )
        points = points_of(problem, front)
        write_points(folder, study, problem, points, summary)
        return Result(folder, points, summary)


def _clear(folder: Path, made: list[Path]) -> None:
    """Remove what a run that found nothing has written, and the folders that it made."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with suppress(OSError):  # another run has begun in one of them
        for place in made:
            place.rmdir()


def resolved(study: Study) -> Study:
    """The study with its defaults filled in; loads what it names, so that a wrong name shows first.

    Raises:
        InputError: an unknown network or board, objectives or limits outside their range.
    """
    net = network.load(study.network)
    prices = pricing.load(study.target, study.area_mm2, study.node_nm)
    clock = prices.target.clock_mhz if study.clock_mhz is None else study.clock_mhz
    Goals(objectives=study.objectives, limit=study.limit, clock_mhz=clock, fps=study.fps)
    check_objectives(prices, study.objectives)
    grid = replace(study.space, intervals=space.points(study.space, net))
    own = study.profile not in (SHIPPED, NONE)
    found = replace(
        study,
        network=catalogue.whole(study.network),
        target=catalogue.whole(study.target),
        profile=str(Path(study.profile).absolute()) if own else study.profile,
        clock_mhz=clock,
        space=grid,
    )
    if own:
        sensitivity.load(Path(found.profile), net)
    return found


def _sample(
    folder: Path,
    problem: Problem,
    study: Study,
    front: Front,
    store: storages.Store,
    recorded: int,
    progress: Progress | None,
) -> tuple[dict[str, Any], Front]:
    """Run the sampler, if any, and compare what it found with the exact front."""
    reference = reference_point(problem, front)
    whole = hypervolume(problem, front, reference)
    summary: dict[str, Any] = {
        "exact": front.exact,
        "hypervolume_exact": whole,
        "reference_point": reference.tolist(),
        "sampler": study.sampler,
    }
    if study.sampler == "exact" or not study.trials:
        return summary, front
    if study.sampler == "all":
        found = compare(problem, front, study.trials, study.repeats, study.seeded, progress)
        rows = pd.DataFrame(records.plain(found))
        records.write_text(folder / SAMPLERS_CSV, rows.to_csv(index=False))
        return summary | {"samplers": records.plain(in_the_end(found))}, front
    proposed = samplers.propose(
        problem,
        study.sampler,
        study.seed,
        study.trials,
        front.designs if study.seeded else front.designs[:0],
        progress,
        _Recorder(store, recorded, progress),
    )
    alone = front_of(problem, proposed)
    merged = front_of(problem, np.concatenate([front.designs, proposed]), front.exact)
    summary |= {
        "trials": len(proposed),
        "hypervolume_sampler": hypervolume(problem, alone, reference),
        "hypervolume_merged": hypervolume(problem, merged, reference),
    }
    return summary, merged


class _Recorder:
    """Writes generations, less the trials that an interrupted run of the same seed has recorded."""

    def __init__(self, store: storages.Store, recorded: int, progress: Progress | None) -> None:
        self.store, self.progress = store, progress
        self.recorded, self.seen = recorded, 0

    def __call__(self, trials: list[Any]) -> None:
        known = max(0, self.recorded - self.seen)
        storages.write_trials(self.store, trials[known:], self.progress)
        self.seen += len(trials)


def finished(folder: Path) -> bool:
    """Whether a folder holds a complete run: front.json is written last."""
    return (folder / FRONT_JSON).is_file()


@contextmanager
def locked(folder: Path, resume: bool, study: Study) -> Iterator[None]:
    """Hold a run folder for one process, having checked that it may be written."""
    _check_folder(folder, resume, study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / POINTS).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
    with held(folder):
        yield


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder for one process.

    Raises:
        InputError: another one holds it, it cannot be written, or a link in it leads out of it.
    """
    for name in (POINTS, JOURNAL):
        path = folder / name
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{path}: is a link out of the run folder, where nothing is written; put "
                f"{'the folder' if name == POINTS else 'the file'} itself there"
            )
    with records.held(folder, "explore or validate"):
        yield


def _check_folder(folder: Path, resume: bool, study: Study) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give another --out")
    if not resume:
        real = folder.resolve()  # new/.. is a folder that is there, though new is not
        if real.is_dir() and not _unused(real):
            raise InputError(
                f"{folder}: is not empty; --resume goes on with a run, --out starts one"
            )
        return
    held = read_record(folder)
    different = differences(held.study, study)
    if different:
        raise InputError(f"{folder}: holds another study: {'; '.join(different)}")
    check_described(folder)


def check_described(folder: Path) -> None:
    """Refuse a run whose network, board or profile has changed since.

    Raises:
        InputError: one of them has.
    """
    held = read_record(folder)
    if held.described not in (None, _described(held.study)):
        what = f"'{held.study.network}', '{held.study.target}' or the profile"
        raise InputError(f"{folder}: {what} has changed since; --out starts a new run")


def _described(study: Study) -> str:
    """A digest of the network and the board that a study names."""
    files = network.load(study.network).file, pricing.read(study.target)
    path = profile_of(study)
    described = [*records.plain(files), None if path is None else records.sha256(path)]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _unused(folder: Path) -> bool:
    """Whether a folder is empty, or has what a run leaves that died before its first file."""
    points = folder / POINTS
    names = {entry.name for entry in folder.iterdir()}
    return names <= {".lock", POINTS} and not (points.is_dir() and any(points.iterdir()))


def read_record(folder: Path) -> Record:
    """study.toml of a run folder.

    Raises:
        InputError: it is missing, broken, or of a newer format.
    """
    path = folder / STUDY
    if not path.is_file():
        raise InputError(f"{folder}: holds no run ({STUDY} is missing)")
    data = records.read(path)
    check_format(data, path)
    return records.structure(data, Record, str(path))


def check_format(data: Mapping[str, Any], path: Path) -> None:
    """Refuse a study.toml of a newer format.

    Raises:
        InputError: it is.
    """
    if isinstance(data.get("format"), int) and data["format"] > VERSION:
        raise InputError(f"{path}: is of format {data['format']}, this version reads {VERSION}")


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Read front and points of a run as they belong together; waits while they are written.

    Raises:
        InputError: they are written for too long.
    """
    with records.together(folder / POINTS, write=False):
        yield


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Write front and points of a run; waits until nobody reads them.

    Raises:
        InputError: they are read for too long.
    """
    with records.together(folder / POINTS, write=True):
        yield


def read_front(folder: Path) -> dict[str, Any]:
    """front.json of a finished run.

    Raises:
        InputError: the folder holds no run, or one that has not finished.
    """
    read_record(folder)
    if not finished(folder):
        raise InputError(f"{folder}: the run has not finished; explore --resume goes on with it")
    data = records.read(folder / FRONT_JSON)
    records.structure(data, FrontFile, str(folder / FRONT_JSON))
    return data


def read_point(folder: Path, name: str) -> dict[str, Any]:
    """points/ID.json of a point by id.

    Raises:
        InputError: it is missing, or not that point.
    """
    path = folder / POINTS / f"{name}.json"
    data = records.read(path)
    if data.get("point") != name:
        raise InputError(f"{path}: is not point '{name}'")
    return data


def read_result(folder: Path) -> Result:
    """A finished run, read back."""
    data = read_front(folder)
    rows = tuple(data["points"])
    return Result(folder, Points(rows, data["named"], {}), data["summary"])


def _write_study(folder: Path, study: Study) -> None:
    record = Record(
        format=VERSION,
        syq_dse=syq_dse.__version__,
        python=platform.python_version(),
        described=_described(study),
        study=study,
    )
    records.write_text(folder / STUDY, tomli_w.dumps(records.plain(record)))


def write_points(
    folder: Path, study: Study, problem: Problem, points: Points, summary: Mapping[str, Any]
) -> None:
    """Points first, the table next, front.json last: its presence says that all is there."""
    for name, found in points.documents.items():
        records.write_json(folder / POINTS / f"{name}.json", found)
    records.write_text(folder / FRONT_CSV, csv_text(points.rows))
    records.write_json(
        folder / FRONT_JSON,
        {
            "network": problem.table.network.name,
            "target": problem.table.pricing.target.name,
            "clock_mhz": problem.goals.clock_mhz,
            "limit": problem.goals.limit,
            "objectives": list(study.objectives),
            "accuracy_note": problem.losses.note,
            "provenance": problem.table.pricing.provenance(),
            "summary": dict(summary),
            "named": points.named,
            "points": list(points.rows),
        },
    )


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """front.csv: one row a point."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def free_folder(root: Path, name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and on where that is taken."""
    candidate, number = root / name, 1
    while candidate.exists():
        number += 1
        candidate = root / f"{name}-{number}"
    return candidate


def json_text(value: Any) -> str:
    """A document for standard output."""
    return json.dumps(records.plain(value), indent=1, allow_nan=False)
