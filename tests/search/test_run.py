"""A run folder: what it holds, read back by other means, and what resuming it does."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import syq_dse
from syq_dse import network, records, target
from syq_dse.cost import design, estimate
from syq_dse.cost.document import document
from syq_dse.cost.fpga import pricing
from syq_dse.cost.parameters import warnings
from syq_dse.cost.table import price
from syq_dse.errors import InfeasibleError, InputError
from syq_dse.search import run
from syq_dse.search.run import explore
from syq_dse.search.space import Space
from syq_dse.search.study import Study

from .small import NETWORKS, board, fits, goals_of, undominated

CSV_COLUMNS = [
    "point",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "accuracy_source",
    "fps",
    "latency_us",
    "interval_cycles",
    "lut",
    "ff",
    "dsp",
    "bram18",
    "uram",
    "utilization",
    "energy_uj",
    "dominated",
]

FILES = {"study.toml", "optuna.journal", "front.csv", "front.json", "points", ".lock"}


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with residual.toml and bench.toml."""
    found = tmp_path_factory.mktemp("place")
    for name, record in (
        ("residual", NETWORKS["residual"].file),
        ("bench", board(lut=2600, dsp=8)),
    ):
        (found / f"{name}.toml").write_text(tomli_w.dumps(records.plain(record)))
    return found


@pytest.fixture(scope="module")
def study(place: Path) -> Study:
    return Study(
        network=str(place / "residual.toml"),
        target=str(place / "bench.toml"),
        objectives=("accuracy", "fps", "lut"),
        space=Space(weights=("binary", "int4"), scale=("fixed8",), bits=(1, 4), intervals=4),
        sampler="nsga2",
        trials=120,
        seed=5,
    )


@pytest.fixture(scope="module")
def finished(place: Path, study: Study) -> Path:
    explore(study, place / "runs" / "first")
    return place / "runs" / "first"


@pytest.fixture
def ran(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "first"))


def front_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "front.json").read_text())
    assert isinstance(found, dict)
    return found


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials, read by Optuna alone."""
    backend = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=folder.name, storage=backend).trials


def described(folder: Path) -> list[object]:
    return [(t.params, t.values, t.constraints) for t in trials_of(folder)]


def texts(folder: Path) -> dict[str, str]:
    """Every file but the journal and the lock."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("optuna.journal", ".lock")
    }


# What it holds


def test_the_folder_has_its_files_and_no_other(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    ids = [row["point"] for row in front_of(finished)["points"]]
    assert {path.name for path in (finished / "points").iterdir()} == {f"{i}.json" for i in ids}
    assert ids == [f"p{i:03d}" for i in range(1, len(ids) + 1)]
    assert len(ids) > 8


def test_the_study_says_everything_that_was_resolved(finished: Path, study: Study) -> None:
    found = tomllib.loads((finished / "study.toml").read_text())
    assert (found["format"], found["syq_dse"]) == (1, syq_dse.__version__)
    held = found["study"]
    assert held["clock_mhz"] == 100.0
    assert held["space"]["intervals"] == 4
    assert held["seed"] == 5
    assert records.structure(held, Study, "study.toml") == run.resolved(study)
    every = {field: getattr(run.resolved(study), field) for field in Study.__slots__}
    assert set(held) == {name for name, value in every.items() if value is not None}


def test_the_table_is_the_front(finished: Path) -> None:
    with (finished / "front.csv").open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert reader.fieldnames == CSV_COLUMNS
    points = front_of(finished)["points"]
    assert [list(point) for point in points] == [CSV_COLUMNS] * len(points)
    for row, point in zip(rows, points, strict=True):
        assert row == {name: str(value) for name, value in point.items()}
        assert 0 <= point["accuracy_low"] <= point["accuracy"] <= point["accuracy_high"] <= 1
        assert point["accuracy_source"] == "prior"


def test_every_point_costs_what_it_says(finished: Path, study: Study) -> None:
    """Read as `estimate --scheme` reads it, and priced anew."""
    net, bench = network.load(study.network), target.load(study.target)
    priced = pricing(bench)
    for row in front_of(finished)["points"]:
        path = finished / "points" / f"{row['point']}.json"
        held = json.loads(path.read_text())
        asked = design.read(net, path)
        made = design.settle(priced, net, asked, None, None, None, 0.8)
        cost = estimate.estimate(priced, net, made.scheme, made.interval, made.folding)
        outside = warnings(priced, net, made.scheme, made.interval, made.folding)
        again = document(priced, net.name, cost, made.interval, made.clock_mhz, 0.8, outside)
        assert again == held["cost"]
        assert again["fits"]
        assert (held["network"], held["target"]) == (net.name, bench.name)
        assert row["lut"] == again["total"]["lut"]
        assert row["fps"] == again["fps"] == 1e8 / row["interval_cycles"]
        assert row["latency_us"] == again["latency_us"]
        used = [again["total"][k] / v for k, v in again["capacity"].items() if v]
        assert row["utilization"] == pytest.approx(max(used))
        assert held["accuracy"]["top1"] == row["accuracy"]


def test_the_front_is_that_of_all_recorded_designs(finished: Path, study: Study) -> None:
    """From the parameters in the journal alone: found as designs, priced, compared."""
    problem = run.problem_of(run.resolved(study))
    priced = problem.table
    labels = {
        name: [run.samplers.label(option) for option in options]
        for name, options in priced.choices.items()
    }
    designs = np.array(
        [
            [
                t.params["interval"],
                *(labels[name].index(t.params[name]) for name in priced.choices),
                *(bits.index(t.params[f"bits.{name}"]) for name, bits in priced.bits.items()),
            ]
            for t in trials_of(finished)
        ]
    )
    prices = price(priced, designs)
    good = fits(problem, designs, prices)
    expected = undominated(goals_of(problem, designs, prices)[good])
    rows = front_of(finished)["points"]
    losses = [round((problem.losses.base - row["accuracy"]) * 1e12) for row in rows]
    mine = {
        (loss, row["interval_cycles"], row["lut"]) for loss, row in zip(losses, rows, strict=True)
    }
    assert mine == expected
    best = optuna.load_study(
        study_name="first",
        storage=JournalStorage(JournalFileBackend(str(finished / "optuna.journal"))),
    ).best_trials
    assert {tuple(t.values) for t in best} == {
        (row["accuracy"], row["fps"], row["lut"]) for row in rows
    }


def test_the_journal_holds_seeds_then_proposals(finished: Path) -> None:
    sources = [t.user_attrs["source"] for t in trials_of(finished)]
    summary = front_of(finished)["summary"]
    seeds = len(front_of(finished)["points"])  # the seeds are exact: no proposal adds a point
    assert summary["exact"]
    assert sources == ["exact"] * seeds + ["nsga2"] * 120
    assert all(t.state.name == "COMPLETE" for t in trials_of(finished))
    assert summary["trials"] == 120
    assert summary["hypervolume_merged"] == pytest.approx(summary["hypervolume_exact"])
    assert 0 < summary["hypervolume_sampler"] <= summary["hypervolume_exact"]


def test_the_same_study_is_the_same_run(finished: Path, study: Study, tmp_path: Path) -> None:
    explore(study, tmp_path / "first")
    assert texts(tmp_path / "first") == texts(finished)
    assert described(tmp_path / "first") == described(finished)


def test_every_sampler_leaves_at_least_the_exact_front(
    finished: Path, study: Study, tmp_path: Path
) -> None:
    rows = front_of(finished)["points"]
    for sampler, trials in (("exact", 7), ("random", 60), ("nsga3", 60), ("tpe", 12)):
        made = explore(replace(study, sampler=sampler, trials=trials), tmp_path / sampler)
        summary = made.summary
        assert list(made.points.rows) == rows
        expected = 0 if sampler == "exact" else trials
        assert len(trials_of(tmp_path / sampler)) == len(rows) + expected
        if sampler != "exact":
            assert summary["hypervolume_merged"] >= summary["hypervolume_exact"] * (1 - 1e-12)


# Resuming


def test_a_finished_run_is_read_back(ran: Path, study: Study) -> None:
    before = texts(ran)
    made = explore(study, ran, resume=True)
    assert list(made.points.rows) == front_of(ran)["points"]
    assert made.points.named == front_of(ran)["named"]
    assert made.summary == front_of(ran)["summary"]
    assert texts(ran) == before


def test_without_front_json_the_same_run_is_made_and_no_trial_twice(
    ran: Path, study: Study
) -> None:
    before, trials = texts(ran), described(ran)
    (ran / "front.json").unlink()
    explore(study, ran, resume=True)
    assert texts(ran) == before
    assert described(ran) == trials


@pytest.mark.parametrize("written", [0, 3, 40, 75])
def test_a_run_that_was_killed_goes_on(ran: Path, study: Study, written: int) -> None:
    """The journal ends after so many trials, in the middle of the next line."""
    before, trials = texts(ran), described(ran)
    for name in ("front.json", "front.csv"):
        (ran / name).unlink()
    shutil.rmtree(ran / "points")
    lines = (ran / "optuna.journal").read_bytes().splitlines(keepends=True)
    made = [i for i, line in enumerate(lines) if b'"op_code": 4' in line or b'"op_code":4' in line]
    assert len(made) == len(trials)
    end = made[written]
    (ran / "optuna.journal").write_bytes(b"".join(lines[:end]) + lines[end][: len(lines[end]) // 2])
    explore(study, ran, resume=True)
    assert texts(ran) == before
    assert described(ran) == trials


def test_ctrl_c_in_the_middle_goes_on(finished: Path, study: Study, tmp_path: Path) -> None:
    def stop(done: int, count: int, what: str) -> None:
        if what == "nsga2" and done >= 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(study, tmp_path / "first", progress=stop)
    assert 50 <= len(trials_of(tmp_path / "first")) < len(trials_of(finished))
    explore(study, tmp_path / "first", resume=True)
    assert texts(tmp_path / "first") == texts(finished)
    assert described(tmp_path / "first") == described(finished)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 6}, "seed: 5, not 6"),
        ({"limit": 0.5}, "limit: 0.8, not 0.5"),
        ({"fps": 10.0}, "fps: None, not 10.0"),
        ({"trials": 60, "sampler": "tpe"}, "sampler: nsga2, not tpe; trials: 120, not 60"),
        ({"clock_mhz": 90.0}, "clock_mhz: 100.0, not 90.0"),
        (
            {"objectives": ("accuracy", "fps")},
            "objectives: accuracy,fps,lut, not accuracy,fps",
        ),
    ],
)
def test_other_settings_are_refused_by_name(
    ran: Path, study: Study, changes: dict[str, Any], told: str
) -> None:
    before = texts(ran)
    with pytest.raises(InputError) as caught:
        explore(replace(study, **changes), ran, resume=True)
    assert str(caught.value) == f"{ran}: holds another study: {told}"
    assert texts(ran) == before


def test_another_space_is_refused_by_name(ran: Path, study: Study) -> None:
    other = replace(study, space=replace(study.space, bits=(1, 2), intervals=5))
    with pytest.raises(InputError) as caught:
        explore(other, ran, resume=True)
    assert str(caught.value) == (
        f"{ran}: holds another study: space.bits: 1,4, not 1,2; space.intervals: 4, not 5"
    )


# What is refused


def test_refused_folders(ran: Path, study: Study, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    rules: list[tuple[Callable[[], object], str]] = [
        (
            lambda: explore(study, ran),
            f"{ran}: is not empty; --resume goes on with a run, --out starts one",
        ),
        (
            lambda: explore(study, tmp_path / "full"),
            f"{tmp_path}/full: is not empty; --resume goes on with a run, --out starts one",
        ),
        (
            lambda: explore(study, tmp_path / "file"),
            f"{tmp_path}/file: is not a folder; give another --out",
        ),
        (
            lambda: explore(study, tmp_path / "none", resume=True),
            f"{tmp_path}/none: holds no run (study.toml is missing)",
        ),
        (
            lambda: explore(study, tmp_path / "full", resume=True),
            f"{tmp_path}/full: holds no run (study.toml is missing)",
        ),
    ]
    for call, message in rules:
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message
    assert not (tmp_path / "none").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused(ran: Path, study: Study, tmp_path: Path, resume: bool) -> None:
    folder = ran if resume else tmp_path / "empty"
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(InputError) as caught:
            explore(study, folder, resume=resume)
    finally:
        os.close(handle)
    assert str(caught.value) == (
        f"{folder}: another explore or validate is at work in this folder; wait for it or stop it"
    )


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("format = 2\n", "is of format 2, this version reads 1"),
        ("format = 1\n[study]\n", "the key"),
        ("format = ", "does not parse as TOML: "),
        ("", "the key"),
        ('format = 1\nfurther = "key"\n', "unknown key 'further'"),
    ],
)
def test_a_broken_study_is_one_line(ran: Path, study: Study, text: str, rule: str) -> None:
    (ran / "study.toml").write_text(text)
    for call in (lambda: explore(study, ran, resume=True), lambda: run.read_front(ran)):
        with pytest.raises(InputError) as caught:
            call()
        message = str(caught.value)
        assert message.startswith(f"{ran / 'study.toml'}: ")
        assert rule in message
        assert "\n" not in message


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"points": []}', "\x00"])
def test_a_broken_front_is_one_line(ran: Path, study: Study, text: str) -> None:
    (ran / "front.json").write_text(text)
    for call in (lambda: explore(study, ran, resume=True), lambda: run.read_front(ran)):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value).startswith(f"{ran / 'front.json'}: ")
        assert "\n" not in str(caught.value)


def test_a_broken_journal_is_one_line(ran: Path, study: Study) -> None:
    (ran / "front.json").unlink()
    journal = ran / "optuna.journal"
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(InputError) as caught:
        explore(study, ran, resume=True)
    assert str(caught.value).startswith(f"storage '{journal}': cannot be opened: ")
    assert "\n" not in str(caught.value)


def test_an_infeasible_study_leaves_no_folder(study: Study, tmp_path: Path) -> None:
    hopeless = replace(study, limit=0.001)
    with pytest.raises(InfeasibleError, match=r"^residual: needs at least "):
        explore(hopeless, tmp_path / "runs" / "deep" / "hopeless")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InfeasibleError):
        explore(hopeless, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_a_storage_that_holds_the_name_is_refused(study: Study, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'all.db'}"
    quick = replace(study, sampler="exact")
    explore(quick, tmp_path / "one" / "run", storage)
    with pytest.raises(InputError, match="holds a study 'run' already"):
        explore(quick, tmp_path / "two" / "run", storage)
    assert not (tmp_path / "two").exists()
    (tmp_path / "one" / "run" / "front.json").unlink()
    made = explore(quick, tmp_path / "one" / "run", storage, resume=True)
    held = optuna.load_study(study_name="run", storage=storage).trials
    assert len(held) == len(made.points.rows)


def test_the_folder_that_is_the_working_directory(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    explore(replace(study, sampler="exact"), Path())
    assert {path.name for path in Path().iterdir()} == FILES
    (name,) = optuna.get_all_study_names(
        JournalStorage(JournalFileBackend(str(Path("optuna.journal").absolute())))
    )
    assert name == "here"


def test_free_folder_takes_the_first_free_number(tmp_path: Path) -> None:
    taken = []
    for _ in range(3):
        free = run.free_folder(tmp_path, "cnv-zcu102")
        free.mkdir()
        taken.append(free.name)
    assert taken == ["cnv-zcu102", "cnv-zcu102-2", "cnv-zcu102-3"]


def test_which_profile_a_study_predicts_by(tmp_path: Path) -> None:
    shipped = Study(target="zcu102", network="fmnist-vgg")
    path = run.profile_of(shipped)
    assert path is not None and path.name == "fmnist-vgg-fashion-mnist.csv"
    assert run.profile_of(replace(shipped, profile="none")) is None
    assert run.profile_of(replace(shipped, network="cnv")) is None
    own = tmp_path / "own.csv"
    own.write_bytes(path.read_bytes())
    study = run.resolved(replace(shipped, profile=str(own)))
    assert run.profile_of(study) == own
    before = run._described(study)
    own.write_text(own.read_text().replace("0.9235", "0.9135"))
    assert run._described(study) != before
    with pytest.raises(InputError, match=r"own\.csv: is a profile of 'fmnist-vgg', not"):
        run.problem_of(replace(study, network="cnv", space=Space(intervals=1)))
    missing = replace(study, profile=str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match=r"none\.csv: cannot be read: No such file"):
        run.explore(missing, tmp_path / "run")
    assert not (tmp_path / "run").exists()
