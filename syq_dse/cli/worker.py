"""`syq-dse worker`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from syq_dse.cli import terminal
from syq_dse.cli.paths import PATH
from syq_dse.errors import InputError

LOOK_S = 0.5


@click.command()
@click.option("--study", "name", required=True, help="The run folder's name.")
@click.option("--storage", help="URL, as of explore.  [runs/STUDY/optuna.journal]")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Trainings at a time.  [processors]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Of torchrun, for each training: so many GPUs.",
)
@click.option("--data", type=PATH, help="Folder of the data set.  [that of explore]")
@click.option("--idle", type=click.FloatRange(0), help="End after so many minutes without work.")
@click.option("-o", "--out", type=PATH, help="Folder of trainings.  [the run's]")
def command(
    name: str,
    storage: str | None,
    jobs: int | None,
    device: str,
    processes: int,
    data: Path | None,
    idle: float | None,
    out: Path | None,
) -> None:
    """Take trainings of a run from its storage's queue, on this machine or another.

    Runs until Ctrl-C, which saves the state of what runs and gives it back to the queue. What a
    worker that was killed leaves behind is taken by another. Without a file system that is shared
    give --out a folder of this machine: the results go through the storage, the models stay here.

    \b
    Example: syq-dse worker --study fmnist-vgg-zcu102 --idle 0
    """
    from syq_dse.search import queue, run, worker
    from syq_dse.search import storage as storages

    place = storage or str(Path("runs") / name / run.JOURNAL)
    if "://" not in place and not Path(place).is_file():
        raise InputError(f"{place}: is not there; give the run's --storage")
    backend = storages.connect(place)
    storages.check_held(backend, place, name)
    found = storages.patient(lambda: queue.opened(backend, name), _say)
    own = worker.Own(folder=out, data=data, device=device, processes=processes)
    say = _silent if terminal.level() == "quiet" else _say  # threads have no click context
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            worker.work(found, number, own, stop, say, None if idle is None else 60 * idle)
        except BaseException as error:
            failures.append(error)
            stop.set()

    count = jobs or len(os.sched_getaffinity(0))
    say(f"takes trainings of {name}, {count} at a time; Ctrl-C ends it")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    with _terminated(stop):
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(LOOK_S)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if failures:
        raise failures[0]


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


def _silent(text: str) -> None:
    """With --quiet: what ends a worker is said as an error."""


@contextmanager
def _terminated(stop: threading.Event) -> Iterator[None]:
    """SIGTERM, by which schedulers end a job, is as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
