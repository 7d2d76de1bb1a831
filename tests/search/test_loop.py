"""The loop of search and training, with trainings whose results are made up."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from syq_dse import network, records, scheme
from syq_dse.accuracy import predictor, sensitivity
from syq_dse.errors import InputError
from syq_dse.search import loop, queue, run, validation
from syq_dse.search.loop import Budget, Candidate, most_gain
from syq_dse.search.space import Space
from syq_dse.search.storage import connect
from syq_dse.search.study import Study
from syq_dse.search.trainer import Workers
from syq_dse.search.trainings import Options, Training

STUDY = Study(
    target="pynq-z1",
    network="fmnist-vgg",
    objectives=("accuracy", "lut"),
    fps=1000.0,
    space=Space(
        weights=("binary", "ternary", "int8"), granularity=("layer",), bits=(1, 2, 8), intervals=4
    ),
)
OPTIONS = Options(epochs=1)
WORKERS = Workers()


def truth(document: dict[str, Any]) -> float:
    """Half of what the profile expects to be lost."""
    net = network.load("fmnist-vgg")
    path = sensitivity.shipped(net, "fashion-mnist")
    assert path is not None
    profile = sensitivity.load(path, net)
    said, _ = predictor.fit(profile).accuracy(scheme.read(net, document["scheme"], "a test"))
    return 0.93 - (profile.float_top1 - said) / 2


class Trainer:
    """In the place of workers: two trainings end at a time."""

    def __init__(self) -> None:
        self.trained: list[Training] = []
        self.fails: set[int] = set()  # numbers of trainings
        self.open: dict[tuple[str, int], Training] = {}
        self.queue: queue.Queue
        self.most = 0  # that were open at a time
        self.ended: dict[tuple[str, int], dict[str, Any]] = {}  # while nobody was there

    def __call__(self, folder: Path, *_: Any) -> Trainer:
        self.open = {}
        self.queue = queue.opened(connect(folder / run.JOURNAL), folder.name)
        return self

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def results(self) -> dict[tuple[str, int], dict[str, Any]]:
        return self.ended

    def put(self, wanted: list[Training]) -> None:
        self.open |= {one.key: one for one in wanted}
        self.most = max(self.most, len(self.open))

    def wait(self) -> list[tuple[Training, Any]]:
        return [self._train(self.open.pop(key)) for key in list(self.open)[:2]]

    def _train(self, one: Training) -> tuple[Training, Any]:
        self.trained.append(one)
        if len(self.trained) in self.fails:
            return one, "the loss must be finite"
        top1 = truth(records.read(one.document)) + 0.0005 * one.seed
        return (
            one,
            {
                "top1": top1, "top5": 1.0, "loss": 0.3, "epochs": 1, "images": 54000,
                "seconds": 9.0, "recipe": "modern", "part": "validation",
                "measured_images": 6000, "versions": {"syq_dse": "0", "torch": "0"}, "job": {},
                "images_per_second": 6000.0, "seed": one.seed,
            },
        )  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop") / "run"
    run.explore(STUDY, folder)
    return folder


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(loop, "Trainer", made)
    return made


def test_the_budget_is_spent_and_what_was_measured_stands_on_the_front(
    folder: Path, trainer: Trainer
) -> None:
    before = run.read_front(folder)
    loop.improve(folder, Budget(trainings=7, seeds=2, batch=2), WORKERS, OPTIONS)
    assert len(trainer.trained) == 6  # a seventh would be half a point
    assert [one.seed for one in trainer.trained] == [0, 1] * 3
    front = run.read_front(folder)
    rows = {row["point"]: row for row in front["points"]}
    measured = {p: row for p, row in rows.items() if row["accuracy_source"] == "measured"}
    table = validation.known(folder)
    assert set(measured) == set(table["point"]) and len(measured) == 3
    for point, row in measured.items():
        held = records.read(folder / "points" / f"{point}.json")
        assert row["accuracy"] == pytest.approx(truth(held) + 0.00025)
        assert (held["accuracy"]["top1"], held["accuracy"]["source"]) == (
            row["accuracy"],
            "measured",
        )
        assert held["accuracy"]["note"].startswith(
            "measured: modern, 1 epoch, 2 seeds, 6000 images"
        )
        expected = front["expected"][point]
        assert expected["accuracy_source"] == "predicted"
        assert expected["accuracy_low"] < expected["accuracy"] < expected["accuracy_high"]
    assert "3 trained points" in front["accuracy_note"]
    assert set(front["named"].values()) <= {p for p, row in rows.items() if not row["dominated"]}
    names = sorted(path.stem for path in (folder / "points").iterdir())
    assert names == sorted(rows)
    csv = pd.read_csv(folder / "front.csv")
    assert csv["point"].tolist() == list(rows)
    assert front["points"] != before["points"]


def test_the_study_has_what_was_measured(folder: Path, trainer: Trainer) -> None:
    for trainings in (3, 5, 5):
        loop.improve(folder, Budget(trainings=trainings), WORKERS, OPTIONS)
    backend = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    trials = optuna.load_study(study_name="run", storage=backend).trials
    own = [trial for trial in trials if trial.user_attrs["source"] == "measured"]
    rows = run.read_front(folder)["points"]
    measured = [row["accuracy"] for row in rows if row["accuracy_source"] == "measured"]
    assert sorted(trial.values[0] for trial in own) == sorted(measured) and len(own) == 5
    assert {trial.user_attrs["accuracy_source"] for trial in own} == {"measured"}


def test_what_ended_while_nobody_was_there_counts(folder: Path, trainer: Trainer) -> None:
    """An explorer that was killed: results in the queue, and in the run's folder."""
    loop.improve(folder, Budget(trainings=4, seeds=2), WORKERS, OPTIONS)
    table = validation.known(folder)
    last = trainer.trained[-1]
    answer = trainer._train(last)[1]
    kept = table[(table["settings"] != last.settings) | (table["seed"] != last.seed)]
    assert len(kept) == 3
    (folder / "validation.csv").write_text(kept.to_csv(index=False))
    trainer.ended = {last.key: answer}
    count = len(trainer.trained)
    assert loop.improve(folder, Budget(trainings=4, seeds=2), WORKERS, OPTIONS) == 4
    assert len(trainer.trained) == count
    (folder / "validation.csv").write_text(kept.to_csv(index=False))
    trainer.ended = {}
    last.folder.mkdir()
    records.write_json(last.folder / "result.json", answer)
    assert loop.improve(folder, Budget(trainings=4, seeds=2), WORKERS, OPTIONS) == 4
    assert len(trainer.trained) == count


def test_seeds_that_a_point_lacks_come_first(folder: Path, trainer: Trainer) -> None:
    loop.improve(folder, Budget(trainings=2), WORKERS, OPTIONS)
    loop.improve(folder, Budget(trainings=6, seeds=2), WORKERS, OPTIONS)
    assert [one.seed for one in trainer.trained] == [0, 0, 1, 1, 0, 1]
    first, second = trainer.trained[:2]
    assert {one.settings for one in trainer.trained[2:4]} == {first.settings, second.settings}
    assert len({one.settings for one in trainer.trained}) == 3


def test_designs_of_one_scheme_have_one_accuracy(folder: Path, trainer: Trainer) -> None:
    """And the front can be had from what is written."""
    loop.improve(folder, Budget(trainings=9, batch=3), WORKERS, OPTIONS)
    loop.improve(folder, Budget(trainings=1), WORKERS, replace(OPTIONS, epochs=2))
    rows = run.read_front(folder)["points"]
    found: dict[str, set[tuple[float, str]]] = {}
    for row in rows:
        held = records.read(folder / "points" / f"{row['point']}.json")
        key = json.dumps(held["scheme"], sort_keys=True)
        found.setdefault(key, set()).add((row["accuracy"], row["accuracy_source"]))
    assert all(len(kinds) == 1 for kinds in found.values())
    values = np.array([[-row["accuracy"], row["lut"]] for row in rows])
    good = moocore.is_nondominated(values, keep_weakly=False)
    assert [not row["dominated"] for row in rows] == good.tolist()
    table = validation.known(folder)
    for point, settings in zip(table["point"], table["settings"], strict=True):
        trained = records.read(folder / "trainings" / f"{settings}.json")["scheme"]
        if point != "-":
            assert records.read(folder / "points" / f"{point}.json")["scheme"] == trained


def test_dominated_is_what_another_point_beats(folder: Path, trainer: Trainer) -> None:
    loop.improve(folder, Budget(trainings=8, batch=4), WORKERS, OPTIONS)
    rows = run.read_front(folder)["points"]
    values = np.array([[-row["accuracy"], row["lut"]] for row in rows])
    good = moocore.is_nondominated(values, keep_weakly=False)
    assert [not row["dominated"] for row in rows] == good.tolist()
    assert all(row["accuracy_source"] == "measured" for row in rows if row["dominated"])


def test_it_learns_the_truth(folder: Path, trainer: Trainer) -> None:
    off = []
    for trainings in (1, 12):
        loop.improve(folder, Budget(trainings=trainings), WORKERS, OPTIONS)
        rows = run.read_front(folder)["points"]
        documents = [records.read(folder / "points" / f"{row['point']}.json") for row in rows]
        predicted = [
            abs(row["accuracy"] - truth(held))
            for row, held in zip(rows, documents, strict=True)
            if row["accuracy_source"] == "predicted"
        ]
        off.append(np.mean(predicted))
    assert off[1] < 0.5 * off[0]


def test_the_same_command_goes_on_to_the_same_budget(folder: Path, trainer: Trainer) -> None:
    loop.improve(folder, Budget(trainings=3), WORKERS, OPTIONS)
    loop.improve(folder, Budget(trainings=5), WORKERS, OPTIONS)
    assert len(trainer.trained) == 5
    assert len({one.settings for one in trainer.trained}) == 5
    loop.improve(folder, Budget(trainings=5), WORKERS, OPTIONS)
    assert len(trainer.trained) == 5
    loop.improve(folder, Budget(trainings=1), WORKERS, replace(OPTIONS, epochs=2))
    assert len(trainer.trained) == 6  # trainings of other options do not count
    loop.improve(folder, Budget(trainings=9, minutes=0.0), WORKERS, OPTIONS)
    assert len(trainer.trained) == 6


def test_as_many_points_are_under_way_as_the_batch_has(folder: Path, trainer: Trainer) -> None:
    """Two end at a time, and two more begin."""
    assert loop.improve(folder, Budget(trainings=9, batch=4), WORKERS, OPTIONS) == 9
    assert trainer.most == 4 and len(trainer.trained) == 9


def test_nothing_is_left_to_train(folder: Path, trainer: Trainer) -> None:
    made = loop.improve(folder, Budget(trainings=500, batch=50), WORKERS, OPTIONS)
    rows = run.read_front(folder)["points"]
    assert made == len(trainer.trained) < 500
    assert all(row["accuracy_source"] == "measured" for row in rows)


def test_a_scheme_that_failed_is_not_chosen_again(folder: Path, trainer: Trainer) -> None:
    trainer.fails = {1, 3, 5}
    loop.improve(folder, Budget(trainings=4, batch=2), WORKERS, OPTIONS)
    assert len({one.settings for one in trainer.trained}) == len(trainer.trained) == 7


def test_a_training_that_fails_is_left_out(folder: Path, trainer: Trainer) -> None:
    trainer.fails = {1}
    loop.improve(folder, Budget(trainings=3, batch=2), WORKERS, OPTIONS)
    assert len(validation.known(folder)) == 3
    trainer.fails = set(range(100))
    with pytest.raises(InputError, match=r"t\d+, seed 0: the loss must be finite"):
        loop.improve(folder, Budget(trainings=9, batch=2), WORKERS, OPTIONS)
    measured = [r for r in run.read_front(folder)["points"] if r["accuracy_source"] == "measured"]
    assert len(measured) == 3


def test_what_it_cannot_do_without(folder: Path, tmp_path: Path, trainer: Trainer) -> None:
    with pytest.raises(InputError, match=r"was measured on fashion-mnist, trainings are on mnist"):
        loop.improve(folder, Budget(trainings=1), WORKERS, replace(OPTIONS, dataset="mnist"))
    other = tmp_path / "other"
    run.explore(replace(STUDY, profile="none"), other)
    with pytest.raises(InputError, match="--validate needs a sensitivity profile of fmnist-vgg"):
        loop.improve(other, Budget(trainings=1), WORKERS, OPTIONS)
    with pytest.raises(InputError, match="--validate must be at least --seeds, 3, got 2"):
        loop.improve(folder, Budget(trainings=2, seeds=3), WORKERS, OPTIONS)
    third = tmp_path / "third"
    run.explore(replace(STUDY, objectives=("fps", "lut")), third)
    with pytest.raises(InputError, match="--validate needs accuracy among the objectives"):
        loop.improve(third, Budget(trainings=1), WORKERS, OPTIONS)
    assert not trainer.trained


def candidates(values: list[tuple[float, float]], spread: float = 0.0) -> list[Candidate]:
    return [Candidate(np.array([i]), np.array(v), spread) for i, v in enumerate(values)]


def test_the_first_pick_has_the_most_volume_and_the_next_the_most_beyond_it() -> None:
    made = candidates([(-0.9, 9.0), (-0.8, 5.0), (-0.79, 5.1), (-0.5, 1.0)])
    reference, none = np.array([0.0, 10.0]), np.empty((0, 2))
    picks = most_gain(made, none, reference, 0, 3, np.random.default_rng(0))
    assert picks == [3, 1, 0]  # 4.5, then 0.8 * 5 beyond it, then 0.1 * 1; the third is dominated
    known = np.array([(-0.5, 1.0)])
    assert most_gain(made, known, reference, 0, 1, np.random.default_rng(0)) == [1]
    assert most_gain(made, none, reference, 0, 9, np.random.default_rng(0))[:1] == [3]


def test_what_is_uncertain_gains_more() -> None:
    sure, unsure = candidates([(-0.8, 5.0)])[0], candidates([(-0.8, 5.0)], 0.1)[0]
    known = np.array([(-0.8, 5.0)])
    picks = most_gain([sure, unsure], known, np.array([0.0, 10.0]), 0, 1, np.random.default_rng(0))
    assert picks == [1]


def test_a_document_says_where_it_stands_in_the_table(searched: Path) -> None:
    problem = run.problem_of(run.read_record(searched).study)
    for path in (searched / "points").iterdir():
        held = json.loads(path.read_text())
        chosen = problem.table.scheme_of(held["design"])
        assert chosen == scheme.read(problem.table.network, held["scheme"], str(path))
