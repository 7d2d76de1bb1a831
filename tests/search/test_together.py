"""Two processes at one run folder: readers see the points before or after, never half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syq_dse import records
from syq_dse.errors import InputError
from syq_dse.report import comparison, front_plot, layers_plot, page, resources_plot
from syq_dse.search import export, run, settled, validation
from syq_dse.search.space import Space
from syq_dse.search.study import Study

SPACE = Space(weights=("binary", "int4"), granularity=("layer",), bits=(2, 4), intervals=4)
READERS: dict[str, Callable[[Path, Path], object]] = {
    "export": lambda folder, out: export.export_train(folder, "knee", out),
    "report": lambda folder, out: page.write(folder, out / "page.html"),
    "plot": front_plot.draw_run,
    "plot layers": layers_plot.draw_run,
    "plot resources": resources_plot.draw_run,
    "compare": lambda folder, out: comparison.compare(folder, folder),
    "verify": lambda folder, out: settled.settled_point(folder, "knee"),
}


@pytest.fixture(autouse=True, scope="module")
def _quick_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one study but for its objectives: one id is another design."""
    place = tmp_path_factory.mktemp("two")
    for name, objectives in (("a", ("accuracy", "fps")), ("b", ("accuracy", "lut"))):
        study = Study(target="pynq-z1", network="lenet5", objectives=objectives, space=SPACE)
        run.explore(study, place / name / "run")
    return place / "a" / "run", place / "b" / "run"


@pytest.fixture
def folder(two: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "run"))


def become(folder: Path, other: Path, between: Callable[[], object] = lambda: None) -> None:
    """Write the points of another run, as the loop of search and training does."""
    with run.changing(folder):
        (folder / "front.json").unlink()
        for path in sorted((other / "points").iterdir()):
            shutil.copy(path, folder / "points")
        between()
        shutil.copy(other / "front.json", folder)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_waits_for_a_write(
    reader: str, two: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    done, failed = threading.Event(), []

    def read() -> None:
        try:
            READERS[reader](folder, tmp_path)
        except BaseException as error:
            failed.append(error)
        done.set()

    thread = threading.Thread(target=read)

    def between() -> None:
        thread.start()
        assert not done.wait(0.3)

    become(folder, two[1], between)
    thread.join(60)
    assert done.is_set() and not failed
    if reader == "export":
        front = json.loads((two[1] / "front.json").read_text())
        (path,) = tmp_path.glob("lenet5-*.json")
        wanted = two[1] / "points" / f"{front['named']['knee']}.json"
        assert path.read_bytes() == wanted.read_bytes()


def test_readers_during_writes_see_one_run_or_the_other(
    two: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for other in reversed(two):
                become(folder, other)
                time.sleep(0.03)  # more than readers sleep between two looks

    knees = []
    for other in two:
        named = json.loads((other / "front.json").read_text())["named"]
        knees.append((other / "points" / f"{named['knee']}.json").read_text())
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        for number in range(30):
            path = export.export_train(folder, "knee", tmp_path / str(number))
            seen.add(knees.index(path.read_text()))
    finally:
        stop.set()
        thread.join()
    assert seen == {0, 1}


def test_readers_do_not_wait_for_each_other(folder: Path, tmp_path: Path) -> None:
    with run.unchanged(folder):
        export.export_train(folder, "knee", tmp_path)


def test_who_waits_too_long_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST_WRITE_S", 0.05)
    text = f"{folder}/points: is still being "
    with run.changing(folder), pytest.raises(InputError) as read:
        page.write(folder)
    assert str(read.value) == f"{text}written by another process; try again"
    with run.unchanged(folder), pytest.raises(InputError) as written, run.changing(folder):
        pass
    assert str(written.value) == f"{text}read by another process; try again"


def test_the_loop_writes_points_while_nobody_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[bool] = []

    @contextmanager
    def changing(place: Path) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    kept = records.write_json

    def write(path: Path, value: Any) -> None:
        assert inside, path
        kept(path, value)

    monkeypatch.setattr(run, "changing", changing)
    monkeypatch.setattr(records, "write_json", write)
    rows = validation.known(folder)
    validation.record(folder, rows, {})
    assert not inside


def test_a_writer_that_was_killed_leaves_a_run_to_go_on_with(
    two: tuple[Path, Path], folder: Path
) -> None:
    child = os.fork()
    if not child:
        become(folder, two[1], lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)  # not reached
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with pytest.raises(InputError, match="has not finished; explore --resume goes on with it"):
        page.write(folder)
    run.explore(run.read_record(folder).study, folder, resume=True)
    for name in ("front.json", "front.csv"):
        assert (folder / name).read_bytes() == (two[0] / name).read_bytes()
    page.write(folder)
