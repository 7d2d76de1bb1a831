"""What is killed, full or away in the middle of the loop: nothing that was finished is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState

from syq_dse.search import queue
from syq_dse.search.storage import connect
from syq_dse.train import checkpoint
from tests.conftest import Postgres
from tests.train.conftest import DATASET, idx, write_data

from .workbench import SMALL_SPACE, Run, process

JOURNAL = "run/optuna.journal"
FLOAT = ("--pretrained", "float/model.safetensors")
EXPLORE = (
    "explore", "--network", "tiny.toml", "--target", "bench.toml", *SMALL_SPACE,
    "--objective", "accuracy", "--objective", "lut", "--objective", "fps",
    "--profile", "profile.csv", "--out", "run", *FLOAT,
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, its images, a float network, a profile and a recipe."""
    from .workbench import BOARD, TINY

    place = tmp_path_factory.mktemp("faults")
    write_data(place / "data")
    (place / "quarters.toml").write_text(DATASET.format(folder="data"))
    (place / "tiny.toml").write_text(TINY.replace('"mnist"', '"quarters.toml", epochs = 3'))
    (place / "bench.toml").write_text(BOARD)
    for arguments in (
        ("train", "--network", "tiny.toml", "--float", "-o", "float"),
        ("profile", "--network", "tiny.toml", *FLOAT, "--images", "20", "-o", "profile.csv"),
    ):  # fmt: skip
        child = process(*arguments, cwd=place)
        _, err = child.communicate()
        assert child.returncode == 0, err
    return place


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(prepared, tmp_path / "place"))
    monkeypatch.chdir(found)
    return found


def until(true: Callable[[], object], child: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 120
    while not true():
        assert child is None or child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def trials(storage: str = JOURNAL) -> list[TrialState]:
    return [trial.state for trial in queue.trials(queue.opened(connect(storage), "run"))]


def checkpoints() -> list[Path]:
    return sorted(Path("run/trainings").glob("*/checkpoint.safetensors"))


def test_what_killed_the_explorer_costs_no_training(place: Path, cli: Run) -> None:
    asked = (*EXPLORE, "--validate", "4", "--jobs", "1", "--epochs", "3")
    child = process(*asked, cwd=place)
    until(lambda: Path("run/validation.csv").is_file(), child)
    until(checkpoints, child)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    before = pd.read_csv("run/validation.csv")
    results = {p: p.read_bytes() for p in Path("run/trainings").glob("*/result.json")}
    done = cli(*asked, "--resume")
    assert done.code == 0, done
    rows = pd.read_csv("run/validation.csv")
    assert len(rows) == 4 and not rows.duplicated(["settings", "seed"]).any()
    kept = rows.merge(before, on=["settings", "seed"], suffixes=("", "_before"))
    assert len(kept) == len(before) and (kept["top1"] == kept["top1_before"]).all()
    assert all(p.read_bytes() == content for p, content in results.items())
    front = json.loads(Path("run/front.json").read_text())
    measured = {
        json.dumps(json.loads(Path(f"run/points/{row['point']}.json").read_text())["scheme"])
        for row in front["points"]
        if row["accuracy_source"] == "measured"
    }
    assert len(measured) == 4
    again = cli(*asked, "--resume")
    assert again.code == 0 and len(pd.read_csv("run/validation.csv")) == 4


def test_another_worker_goes_on_with_what_a_killed_one_had(place: Path, cli: Run) -> None:
    assert cli(*EXPLORE).code == 0
    asked = ("validate", "run", "--points", "knee", *FLOAT)
    waits = process(*asked, "--epochs", "400", "--jobs", "0", cwd=place)
    until(lambda: trials() == [TrialState.WAITING], waits)
    work = ("worker", "--study", "run", "--storage", JOURNAL, "--jobs", "1")
    first = process(*work, cwd=place)
    until(lambda: len(checkpoints()) == 1, first)
    first.kill()  # its training sees it, saves its state and ends
    first.communicate()
    second = process(*work, cwd=place)
    _, err = waits.communicate()
    assert waits.returncode == 0, err
    second.send_signal(signal.SIGTERM)
    said, _ = second.communicate()
    assert second.returncode == 0 and said.count("begins in") == 1
    assert trials() == [TrialState.COMPLETE]
    rows = pd.read_csv("run/validation.csv")
    assert rows["epochs"].tolist() == [400]
    assert 0 < rows["seconds"][0] < 400


def test_a_stopped_worker_gives_back_what_it_had(place: Path, cli: Run) -> None:
    assert cli(*EXPLORE).code == 0
    asked = ("validate", "run", "--points", "knee", *FLOAT)
    waits = process(*asked, "--epochs", "400", "--jobs", "0", cwd=place)
    until(lambda: trials() == [TrialState.WAITING], waits)
    work = ("worker", "--study", "run", "--storage", JOURNAL, "--jobs", "1", "-o", "elsewhere")
    child = process(*work, cwd=place)
    until(lambda: list(Path("elsewhere").glob("*/checkpoint.safetensors")), child)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    assert child.returncode == 130 and "stopped, its state is saved" in out, err
    assert trials() == [TrialState.WAITING] and not checkpoints()
    waits.send_signal(signal.SIGINT)
    out, err = waits.communicate()
    assert waits.returncode == 130 and err.splitlines()[-1].startswith("syq-dse: interrupted")
    assert trials() == [TrialState.FAIL]


def test_two_processes_of_torchrun_train_for_a_worker(place: Path, cli: Run) -> None:
    assert cli(*EXPLORE).code == 0
    waits = process("validate", "run", "--points", "knee", *FLOAT, "--jobs", "0", cwd=place)
    until(lambda: trials() == [TrialState.WAITING], waits)
    work = ("worker", "--study", "run", "--storage", JOURNAL, "--jobs", "1", "--processes", "2")
    child = process(*work, cwd=place)
    _, err = waits.communicate()
    assert waits.returncode == 0, err
    child.send_signal(signal.SIGTERM)
    assert "begins in" in child.communicate()[0] and child.returncode == 0
    assert trials() == [TrialState.COMPLETE]


def test_the_database_is_killed_in_a_training_and_comes_back(
    place: Path, cli: Run, server: Postgres
) -> None:
    url = server.database()
    assert cli(*EXPLORE, "--storage", url).code == 0
    asked = ("validate", "run", "--points", "knee", *FLOAT)
    child = process(*asked, "--epochs", "200", "--jobs", "1", "--storage", url, cwd=place)
    until(checkpoints, child)
    server.kill()
    time.sleep(3)
    server.start()
    _, err = child.communicate()
    assert child.returncode == 0, err
    assert pd.read_csv("run/validation.csv")["epochs"].tolist() == [200]
    assert trials(url) == [TrialState.COMPLETE]


@pytest.fixture
def small(place: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = place / "small"
    folder.mkdir()
    options = ["-o", "size=400k", "tmpfs", str(folder)]
    made = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_with_more(small: Path, cli: Run) -> None:
    asked = (*EXPLORE, "--out", "small/run", "--sampler", "random", "--trials", "600")
    done = cli(*asked)
    assert done.code == 1 and done.err.count("\n") == 1
    place = small / "run" / "optuna.journal"
    assert done.err == f"syq-dse: {place}: cannot be written: No space left on device\n"
    remount = ["mount", "-o", "remount,size=40m", str(small)]
    subprocess.run(remount, check=True, capture_output=True)
    assert cli(*asked, "--resume").code == 0
    assert cli(*asked, "--out", "whole").code == 0
    for name in ("front.csv", "front.json"):
        assert Path("whole", name).read_bytes() == Path("small/run", name).read_bytes()


def test_a_training_that_diverges_fails_and_the_loop_goes_on(place: Path, cli: Run) -> None:
    tensors, document = checkpoint.load(Path("float/model.safetensors"))
    tensors["conv2/weight"] *= 1e38
    checkpoint.save(Path("wild.safetensors"), tensors, document)
    asked = (*EXPLORE, "--pretrained", "wild.safetensors", "--validate", "6", "--epochs", "2")
    done = cli(*asked)
    assert done.code == 1 and done.err.splitlines()[-1].count("must be finite") == 1, done
    assert not Path("run/validation.csv").exists()
    reasons = [
        str(trial.user_attrs["reason"])
        for trial in queue.trials(queue.opened(connect(JOURNAL), "run"))
        if trial.state == TrialState.FAIL
    ]
    assert sum("must be finite" in reason for reason in reasons) >= 3
    resumed = (*EXPLORE, "--validate", "2", "--jobs", "2", "--epochs", "1", "--resume")
    assert cli(*resumed).code == 0
    assert len(pd.read_csv("run/validation.csv")) == 2


def test_images_of_another_shape_and_labels_out_of_range(place: Path, cli: Run) -> None:
    asked = (*EXPLORE, "--validate", "2", "--jobs", "1", "--epochs", "1")
    shutil.copytree("data", "good")
    for name, content in (
        ("train-labels-idx1-ubyte", np.full(400, 250, np.uint8)),
        ("train-images-idx3-ubyte", np.zeros((400, 3, 3), np.uint8)),
    ):
        shutil.rmtree("data")
        shutil.copytree("good", "data")
        (Path("data") / name).write_bytes(idx(content))
        done = cli(*asked, *(("--resume",) if Path("run").exists() else ()))
        assert done.code == 1 and done.err.splitlines()[-1].startswith("syq-dse: t0"), done
        assert not Path("run/validation.csv").exists()
