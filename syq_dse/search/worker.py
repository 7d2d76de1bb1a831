"""A worker: takes trainings from a queue, one at a time, each in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from syq_dse import __version__, records
from syq_dse.errors import InputError
from syq_dse.search import process, queue
from syq_dse.search.process import Process
from syq_dse.search.queue import Queue, Source, Taken, Task, Watch, Worker
from syq_dse.search.storage import patient

POLL_S = 1.0
"""Between two looks into an empty queue."""

LOOK_S = 0.5
"""Between two looks at a training that runs."""

CHECKED = 500
"""Images on which a training compares its integers with its model: a second or two."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a worker decides by itself."""

    folder: Path | None = None  # of trainings; None: the queue's
    data: Path | None = None  # folder of the data set; None: the queue's
    device: str = "cpu"
    processes: int = 1  # of torchrun, for each training


def work(
    found: Queue,
    number: int,
    own: Own,
    stop: threading.Event,
    report: Report = lambda text: None,
    idle_s: float | None = None,
) -> None:
    """Train what the queue holds until `stop` is set; then what was begun is given back.

    Args:
        number: of this worker in its process.
        idle_s: end when nothing has been there to do for so long.

    Raises:
        InputError: the storage was away for too long.
    """
    worker, watch = Worker.here(number), Watch()
    last = time.monotonic()
    told: list[str] = []
    while not stop.is_set():
        patient(lambda: watch.rescue(found), report)
        taken = patient(lambda: queue.take(found, worker, __version__), report)
        if taken is not None:
            _train(found, taken, own, stop, report)
            last = time.monotonic()
            continue
        others = patient(lambda: queue.other_versions(found, __version__), report)
        if others != told:
            told = others
            if others:
                report(f"trainings of syq-dse {', '.join(others)} are left; this is {__version__}")
        if idle_s is not None and time.monotonic() - last > idle_s:
            return
        stop.wait(POLL_S)


def _train(found: Queue, taken: Taken, own: Own, stop: threading.Event, report: Report) -> None:
    task, place = taken.task, f"{taken.task.point}, seed {taken.task.seed}"
    parent = own.folder or Path(task.folder)
    folder = parent / folder_name(task.settings, task.seed)
    report(f"{place}: begins in {folder}")
    try:
        arguments = prepare(task, parent, own)
    except InputError as error:
        reason = str(error)
        patient(lambda: queue.fail(found, taken.trial_id, reason), report)
        report(f"{place}: {reason}")
        return
    running: Process | None = None
    last, beats = 0.0, 0
    try:
        while running is None or not running.ended(LOOK_S):
            if stop.is_set():
                if running is not None:
                    running.stop()
                queue.give_back(found, taken.trial_id)
                report(f"{place}: stopped, its state is saved")
                return
            if running is None:
                if records.in_use(folder):  # the process of a worker that died, or was slow
                    time.sleep(LOOK_S)
                else:
                    running = process.start(arguments, folder, own.processes)
            if time.monotonic() - last > found.beat_s:
                beats, last = beats + 1, time.monotonic()
                said = "waits for another process" if running is None else running.said
                patient(partial(queue.beat, found, taken.trial_id, beats, said), report)
    except BaseException:
        if running is not None:
            running.stop()
        raise
    answer = running.answer()
    if running.killed:
        patient(lambda: queue.lose(found, taken.trial_id), report)
        report(f"{place}: was killed")
    elif isinstance(answer, str):
        patient(lambda: queue.fail(found, taken.trial_id, answer), report)
        report(f"{place}: {answer}")
    else:
        patient(lambda: queue.finish(found, taken, answer), report)
        report(f"{place}: top-1 {100 * float(answer['top1']):.2f} %")


def folder_name(settings: str, seed: int) -> str:
    """Of a training, in the folder of all."""
    return f"{settings}-{seed}"


def prepare(task: Task, folder: Path, own: Own) -> list[str]:
    """Write what `syq-dse train` reads of a task; its arguments, less the folder.

    Raises:
        InputError: a file cannot be written, or the float network is missing or another one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    document = folder / f"{task.settings}.json"
    if not document.is_file():
        records.write_json(document, task.document)

    def source(kind: str) -> str:
        of: Source = getattr(task, kind)
        if of.text is None:
            return of.name
        path = folder / f"{task.settings}.{kind}.toml"
        if not path.is_file() or path.read_text(encoding="utf-8") != of.text:
            records.write_text(path, of.text)
        return str(path)

    arguments = [
        str(document),
        *("--network", source("network"), "--target", source("target")),
        *("--recipe", source("recipe"), "--dataset", source("dataset")),
        *("--measure", task.part, "--device", own.device),
        *("--seed", str(task.seed), "--check", str(CHECKED)),
    ]
    if task.epochs is not None:
        arguments += ["--epochs", str(task.epochs)]
    data = own.data or task.data
    if data is not None:
        arguments += ["--data", str(data)]
    if task.pretrained is not None:
        if records.sha256(Path(task.pretrained)) != task.pretrained_sha256:
            raise InputError(f"{task.pretrained}: is not the file that the training was put for")
        arguments += ["--pretrained", task.pretrained]
    return arguments
