"""The queue of trainings in each kind of storage: who takes what, and what is lost with whom."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import run_grpc_proxy_server
from optuna.trial import TrialState

from syq_dse import __version__
from syq_dse.errors import InputError
from syq_dse.search import process, queue, storage, trainer, worker
from syq_dse.search.queue import Queue, Source, Task, Watch, Worker
from syq_dse.search.storage import connect
from syq_dse.search.trainer import Trainer, Workers
from syq_dse.search.trainings import Options, Training
from tests.conftest import Postgres

RESULT = {"top1": 0.75, "top5": 1.0, "loss": 0.5, "job": {"large": "document"}}
KINDS = ("journal", "sqlite", "postgresql", "grpc")


def task(number: int = 0, seed: int = 0) -> Task:
    return Task(
        settings=f"digest{number}",
        seed=seed,
        point=f"p{number:03d}",
        document={"point": f"p{number:03d}", "scheme": {"layers": {}}},
        network=Source(name="tiny.toml", text='name = "tiny"\n'),
        target=Source(name="zcu102"),
        recipe=Source(name="modern"),
        dataset=Source(name="mnist"),
        part="validation",
        folder="nowhere",
        syq_dse=__version__,
    )


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A storage of each kind."""
    kind = request.param
    if kind == "journal":
        yield str(tmp_path / "journal")
    elif kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'base'}"
    elif kind == "postgresql":
        yield request.getfixturevalue("server").database()
    else:
        place = request.getfixturevalue("proxy")
        yield place
        optuna.delete_study(study_name=queue.name_of("run"), storage=connect(place))


@pytest.fixture(scope="module")
def proxy(server: Postgres) -> Iterator[str]:
    """Optuna's gRPC proxy in front of a database."""
    pytest.importorskip("grpc")
    base, port = server.database(), server.port + 1
    optuna.storages.get_storage(base)  # makes the tables
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(base, port))
    child.start()
    yield f"grpc://127.0.0.1:{port}"
    child.terminate()
    child.join()


def serve(base: str, port: int) -> None:
    run_grpc_proxy_server(optuna.storages.get_storage(base), host="127.0.0.1", port=port)


@pytest.fixture
def found(url: str) -> Queue:
    return queue.opened(connect(url), "run", lease_s=0.4)


def states(found: Queue) -> list[TrialState]:
    return [trial.state for trial in queue.trials(found)]


HERE = Worker.here(0)


def test_a_task_is_taken_once_and_its_result_is_there(found: Queue, url: str) -> None:
    ids = queue.put(found, [task(1), task(2), task(1, seed=1)])
    assert len(set(ids.values())) == 3
    assert queue.put(found, [task(2)]) == {task(2).key: ids[task(2).key]}
    first = queue.take(found, HERE, __version__)
    assert first is not None and first.task == task(1)
    other = queue.opened(connect(url), "run")
    assert other.lease_s == found.lease_s == 0.4
    second = queue.take(other, HERE, __version__)
    assert second is not None and second.task == task(2)
    queue.beat(found, first.trial_id, 1, "epoch 1")
    queue.finish(found, first, RESULT)
    queue.fail(other, second.trial_id, "NaN")
    assert states(found) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    trial = queue.newest(other)[task(1).key]
    assert trial.user_attrs["result"] == {"top1": 0.75, "top5": 1.0, "loss": 0.5}
    assert trial.values == [0.75] and trial.user_attrs["beat"]["said"] == "epoch 1"
    again = queue.put(found, [task(1), task(2)])
    assert again[task(1).key] == ids[task(1).key] and again[task(2).key] != ids[task(2).key]
    queue.finish(found, first, {**RESULT, "top1": 0.1})  # who comes second changes nothing
    assert queue.newest(found)[task(1).key].values == [0.75]


def test_eight_workers_take_each_task_once(found: Queue, url: str) -> None:
    queue.put(found, [task(number) for number in range(40)])

    def work(number: int) -> list[str]:
        own = queue.opened(connect(url), "run")
        taken = []
        here = Worker.here(number)  # SQLite says that it is locked where many write
        while one := storage.patient(lambda: queue.take(own, here, __version__)):
            storage.patient(partial(queue.finish, own, one, RESULT))
            taken.append(one.task.settings)
        return taken

    with ThreadPoolExecutor(8) as pool:
        names = [name for taken in pool.map(work, range(8)) for name in taken]
    assert sorted(names) == sorted(task(number).settings for number in range(40))
    assert states(found) == [TrialState.COMPLETE] * 40


def test_tasks_of_another_version_are_left(found: Queue) -> None:
    queue.put(found, [replace(task(1), syq_dse="0.0.9"), task(2)])
    taken = queue.take(found, HERE, __version__)
    assert taken is not None and taken.task == task(2)
    assert queue.take(found, HERE, __version__) is None
    assert queue.other_versions(found, __version__) == ["0.0.9"]


def test_a_worker_whose_beat_stands_still_is_taken_for_dead(found: Queue) -> None:
    queue.put(found, [task(1)])
    elsewhere = Worker(name="far:1.0", place="another machine", pid=1)
    taken = queue.take(found, elsewhere, __version__)
    assert taken is not None
    watch = Watch()
    for number in range(4):
        watch.rescue(found)
        time.sleep(0.15)
        queue.beat(found, taken.trial_id, number, "")
    watch.rescue(found)
    assert states(found) == [TrialState.RUNNING]
    time.sleep(0.5)
    watch.rescue(found)
    assert states(found) == [TrialState.WAITING]
    again = queue.take(found, HERE, __version__)
    assert again is not None and again.trial_id == taken.trial_id
    queue.finish(found, taken, RESULT)  # the first was only slow: it is done, all the same
    assert states(found) == [TrialState.COMPLETE]


def test_of_a_worker_that_ended_here_nobody_waits_for_the_lease(found: Queue) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = replace(HERE, pid=child.pid)
    queue.put(found, [task(1)])
    for _ in range(queue.MOST_LOST - 1):
        assert queue.take(found, gone, __version__) is not None
        Watch().rescue(found)
        assert states(found) == [TrialState.WAITING]
    assert queue.take(found, gone, __version__) is not None
    Watch().rescue(found)
    assert states(found) == [TrialState.FAIL]
    reason = queue.trials(found)[0].user_attrs["reason"]
    assert reason == "its process was killed 3 times, as where memory is full"
    queue.put(found, [task(1)])  # a new command may try again
    assert queue.take(found, HERE, __version__) is not None
    Watch().rescue(found)
    assert states(found) == [TrialState.FAIL, TrialState.RUNNING]


class Stub:
    """A process that trains: says something, ends when it is told."""

    started: list[Stub]

    def __init__(self, arguments: list[str], folder: Path, processes: int = 1) -> None:
        self.arguments, self.folder, self.processes = arguments, folder, processes
        self.said, self.killed, self.stopped = "epoch 1 of 2", False, False
        self.outcome: process.Answer | None = None
        Stub.started.append(self)

    def ended(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while self.outcome is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.outcome is not None

    def stop(self) -> None:
        self.stopped, self.outcome = True, "interrupted"

    def answer(self) -> process.Answer:
        assert self.outcome is not None
        return self.outcome


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    Stub.started = []
    monkeypatch.setattr(process, "start", Stub)
    monkeypatch.setattr(worker, "POLL_S", 0.05)
    monkeypatch.setattr(trainer, "LOOK_S", 0.05)
    return Stub


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_worker_trains_what_there_is_until_it_is_stopped(
    tmp_path: Path, stub: type[Stub]
) -> None:
    found = queue.opened(connect(tmp_path / "journal"), "run", lease_s=0.4)
    said: list[str] = []
    stop = threading.Event()
    own = worker.Own(folder=tmp_path / "own", data=Path("images"), device="cuda:1", processes=2)
    thread = threading.Thread(target=worker.work, args=(found, 0, own, stop, said.append))
    thread.start()
    queue.put(found, [task(number) for number in range(4)])
    endings: list[tuple[process.Answer, bool]] = [
        (dict(RESULT), False), ("the loss must be finite", False), ("", True), ("", True),
    ]  # fmt: skip
    for number, (outcome, killed) in enumerate(endings, 1):
        until(lambda number=number: len(stub.started) == number)
        stub.started[-1].killed = killed
        stub.started[-1].outcome = outcome
    until(lambda: len(stub.started) == 5)
    assert states(found)[:2] == [TrialState.COMPLETE, TrialState.FAIL]
    first = stub.started[0]
    assert first.folder == tmp_path / "own" / "digest0-0" and first.processes == 2
    arguments = " ".join(first.arguments)
    network = tmp_path / "own" / "digest0.network.toml"
    assert f"--network {network} --target zcu102 --recipe modern" in arguments
    assert "--device cuda:1 --seed 0 --check 500 --data images" in arguments
    assert network.read_text() == 'name = "tiny"\n'
    until(lambda: any("beat" in t.user_attrs for t in queue.trials(found, (TrialState.RUNNING,))))
    stop.set()
    thread.join()
    assert stub.started[-1].stopped
    assert states(found)[2:] == [TrialState.WAITING] * 2  # killed, which is not its fault
    assert "p000, seed 0: top-1 75.00 %" in said
    assert "p001, seed 0: the loss must be finite" in said
    assert "p002, seed 0: was killed" in said


def test_a_worker_without_work_ends_after_a_while(tmp_path: Path, stub: type[Stub]) -> None:
    found = queue.opened(connect(tmp_path / "journal"), "run")
    worker.work(found, 0, worker.Own(), threading.Event(), idle_s=0.1)


def test_another_float_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "float").write_bytes(b"weights")
    asked = replace(task(), pretrained=str(tmp_path / "float"), pretrained_sha256="0")
    with pytest.raises(InputError, match="float: is not the file that the training was put for"):
        worker.prepare(asked, tmp_path, worker.Own())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Training]:
    """Trainings whose tasks are made up."""

    def one(number: int) -> Training:
        folder = tmp_path / "run" / "trainings" / f"digest{number}-0"
        return Training(
            point=f"p{number:03d}", seed=0, settings=f"digest{number}",
            document=folder.with_suffix(".json"), folder=folder,
        )  # fmt: skip

    def asked(folder: Path, wanted: Training, options: Options) -> Task:
        own = str(tmp_path / "run" / "trainings")
        return replace(task(int(wanted.settings[6:])), folder=own)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "optuna.journal").touch()
    monkeypatch.setattr(trainer.trainings, "task", asked)
    return one


def test_the_trainer_waits_for_workers_here_and_elsewhere(
    tmp_path: Path, stub: type[Stub], made: Callable[[int], Training]
) -> None:
    said: list[str] = []

    def progress(done: int, total: int, what: str) -> None:
        said.append(f"{done}/{total} {what}")

    folder = tmp_path / "run"
    with Trainer(folder, Workers(jobs=1, lease_s=0.4), Options(), progress) as at_work:
        at_work.put([made(0), made(1)])
        until(lambda: len(stub.started) == 1)
        far = queue.opened(connect(folder / "optuna.journal"), "run")
        taken = queue.take(far, replace(HERE, place="another machine"), __version__)
        assert taken is not None and taken.task.point == "p001"
        queue.beat(far, taken.trial_id, 1, "epoch 2 of 2")
        queue.finish(far, taken, RESULT)
        assert at_work.wait() == [(made(1), {"top1": 0.75, "top5": 1.0, "loss": 0.5})]
        stub.started[0].outcome = "the loss must be finite"
        assert at_work.wait() == [(made(0), "the loss must be finite")]
        assert not at_work.open
    assert "1/2 trainings; p000, seed 0: ..." in said or any("epoch 1 of 2" in s for s in said)


def test_what_is_complete_in_the_storage_is_not_trained_again(
    tmp_path: Path, stub: type[Stub], made: Callable[[int], Training]
) -> None:
    folder = tmp_path / "run"
    found = queue.opened(connect(folder / "optuna.journal"), "run")
    queue.put(found, [task(0)])
    taken = queue.take(found, HERE, __version__)
    assert taken is not None
    queue.finish(found, taken, RESULT)
    with Trainer(folder, Workers(jobs=1), Options(), lambda *_: None) as at_work:
        at_work.put([made(0)])
        assert at_work.wait() == [(made(0), {"top1": 0.75, "top5": 1.0, "loss": 0.5})]
    assert not stub.started


def test_whose_result_lies_here_is_asked_for_it(
    tmp_path: Path, stub: type[Stub], made: Callable[[int], Training]
) -> None:
    """The training refuses it where images have changed."""
    made(0).folder.mkdir(parents=True)
    (made(0).folder / "result.json").write_text("{}")

    def end_first() -> None:
        until(lambda: stub.started)
        stub.started[0].outcome = dict(RESULT)

    with Trainer(tmp_path / "run", Workers(jobs=0), Options(), lambda *_: None) as at_work:
        at_work.put([made(0)])
        thread = threading.Thread(target=end_first)
        thread.start()
        assert at_work.wait() == [(made(0), RESULT)]
        thread.join()
        assert not queue.trials(at_work.queue)


def test_an_interrupted_command_stops_what_runs_and_withdraws_the_rest(
    tmp_path: Path, stub: type[Stub], made: Callable[[int], Training]
) -> None:
    folder = tmp_path / "run"
    with (
        pytest.raises(KeyboardInterrupt),
        Trainer(folder, Workers(jobs=1), Options(), lambda *_: None) as at_work,
    ):
        at_work.put([made(0), made(1)])
        until(lambda: len(stub.started) == 1)
        raise KeyboardInterrupt
    assert not at_work.failures
    assert stub.started[0].stopped and len(stub.started) == 1
    assert states(at_work.queue) == [TrialState.FAIL] * 2
    with Trainer(folder, Workers(jobs=1), Options(), lambda *_: None) as at_work:
        at_work.put([made(1)])
        until(lambda: len(stub.started) == 2)
        stub.started[1].outcome = dict(RESULT)
        assert [one for one, _ in at_work.wait()] == [made(1)]


def test_without_workers_it_says_how_to_start_some(
    tmp_path: Path, stub: type[Stub], made: Callable[[int], Training]
) -> None:
    said: list[str] = []

    def progress(done: int, total: int, what: str) -> None:
        said.append(what)
        if len(said) > 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with (
        pytest.raises(KeyboardInterrupt),
        Trainer(folder, Workers(jobs=0), Options(), progress) as at_work,
    ):
        at_work.put([made(0)])
        at_work.wait()
    place = folder / "optuna.journal"
    assert said[-1] == f"trainings; nobody trains: `syq-dse worker --storage {place} --study run`"


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    for text in ("my notes, one line without an end", "{}", "{", ""):
        notes.write_text(text)
        if '{"op_code":'.startswith(text):
            connect(notes)
            continue
        with pytest.raises(InputError, match=r"cannot be opened: is no journal of Optuna"):
            connect(notes)
        assert notes.read_text() == text


def test_a_study_of_another_program_is_no_queue(tmp_path: Path) -> None:
    backend = connect(tmp_path / "journal")
    study = optuna.create_study(storage=backend, study_name="run.trainings", direction="maximize")
    study.enqueue_trial({"x": 1})
    with pytest.raises(InputError, match=r"study 'run\.trainings' is of another program"):
        queue.opened(backend, "run")


def test_only_runs_are_offered_in_place_of_an_unknown_one(tmp_path: Path) -> None:
    backend = connect(tmp_path / "journal")
    storage.open_study(backend, "run", ["minimize"])
    queue.opened(backend, "run")
    storage.check_held(backend, "journal", "run")
    with pytest.raises(InputError, match="unknown study 'ran'; known: run") as found:
        storage.check_held(backend, "journal", "ran")
    assert "trainings" not in str(found.value)


def test_a_run_whose_storage_is_elsewhere_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its storage is elsewhere; give it with --storage"):
        Trainer(tmp_path, Workers(), Options(), lambda *_: None)


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import DatabaseError, OperationalError, PendingRollbackError

    monkeypatch.setattr(storage, "TRY_AGAIN_S", 0.01)
    away = OperationalError("SELECT", {}, Exception("server closed the connection"))
    wrapped = optuna.exceptions.StorageInternalError("during the commit")
    wrapped.__cause__ = away
    after = optuna.exceptions.StorageInternalError("during the commit")
    after.__cause__ = PendingRollbackError("Can't reconnect until it is rolled back")
    cut = DatabaseError("SELECT", {}, Exception("cut"), connection_invalidated=True)
    whole = DatabaseError("SELECT", {}, Exception("a value is too long"))
    left: list[Exception] = [cut, after, away, wrapped]
    said: list[str] = []

    def call() -> str:
        if left:
            raise left.pop()
        return "there"

    assert storage.patient(call, said.append) == "there"
    assert len(said) == 4 and "server closed the connection" in said[0]
    with pytest.raises(KeyError):
        storage.patient(lambda: {}["never away"])
    left.append(whole)
    with pytest.raises(DatabaseError):
        storage.patient(call)
    monkeypatch.setattr(storage, "AWAY_S", 0.05)

    def never() -> Any:
        raise away

    with pytest.raises(InputError, match=r"the storage is away for 0 minutes: .*; what is"):
        storage.patient(never)


def test_the_database_dies_and_comes_back(server: Postgres, tmp_path: Path) -> None:
    url = server.database()
    found = queue.opened(connect(url), "run")
    queue.put(found, [task(0)])
    taken = queue.take(found, HERE, __version__)
    assert taken is not None
    server.kill()
    timer = threading.Timer(1.0, server.start)
    timer.start()
    said: list[str] = []
    storage.patient(lambda: queue.finish(found, taken, RESULT), said.append)
    timer.join()
    assert said and states(found) == [TrialState.COMPLETE]


def test_four_workers_write_into_one_database(server: Postgres) -> None:
    """None lost, none doubled."""
    url = server.database()
    store = storage.open_study(connect(url), "run", ["maximize"])

    def write(number: int) -> None:
        own = storage.open_study(connect(url), "run", ["maximize"])
        for index in range(50):
            trial = optuna.trial.create_trial(value=0.0, user_attrs={"who": [number, index]})
            own.study.add_trial(trial)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = [tuple(t.user_attrs["who"]) for t in store.study.get_trials(deepcopy=False)]
    assert sorted(found) == [(number, index) for number in range(4) for index in range(50)]
    assert sorted(t.number for t in store.study.get_trials(deepcopy=False)) == list(range(200))


def test_processes_share_a_journal_and_one_is_killed_in_a_write(tmp_path: Path) -> None:
    """Its half line is cut by the next who writes; whole lines stay."""
    path = tmp_path / "journal"
    store = storage.open_study(connect(path), "run", ["maximize"])
    script = (
        "import sys, optuna; from syq_dse.search import storage;"
        "own = storage.open_study(storage.connect(sys.argv[1]), 'run', ['maximize']);"
        "[own.study.add_trial(optuna.trial.create_trial(value=float(n))) for n in range(10**6)]"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)])
        before = path.stat().st_size
        until(lambda before=before: path.stat().st_size > before + 2000)
        child.kill()
        child.wait()
        with path.open("ab") as half:  # what the kernel may leave
            half.write(b'{"op_code":4,"worker')
        have = storage.count(storage.open_study(connect(path), "run", ["maximize"]))
        store.study.add_trial(optuna.trial.create_trial(value=0.0))
        assert storage.count(store) == have + 1
    assert os.path.getsize(path) and path.read_bytes().endswith(b"\n")
