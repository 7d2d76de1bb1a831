"""Storage and workers: designs recorded a second, trainings an hour, and 64 workers on paper.

    python benchmarks/workers.py record         # into a journal file
    python benchmarks/workers.py record URL     # by 4 processes: none lost, none doubled
    python benchmarks/workers.py scale          # 1 and 2 workers, fmnist-vgg, 1 epoch
    python benchmarks/workers.py simulate 80 16 12

`simulate` has workers that take trainings of random length (lognormal) from a queue that the loop
keeps `batch` long, and a loop that searches anew whenever some have ended; it prints the share of
their time that workers train. Arguments: seconds of a training, their deviation, of a search.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from syq_dse.search import run, samplers, storage, validation
from syq_dse.search.problem import Problem
from syq_dse.search.study import Study
from syq_dse.search.trainer import Workers
from syq_dse.search.trainings import Options

DESIGNS, WRITERS = 10_000, 4
POINTS = 4


def problem() -> Problem:
    return run.problem_of(Study(target="zcu102", network="fmnist-vgg"))


def write(place: str, first: int, count: int) -> None:
    """Record designs of one seed."""
    asked = problem()
    designs = np.random.default_rng(first).integers(
        0, asked.table.sizes, (count, len(asked.table.sizes))
    )
    trials = samplers.frozen_trials(asked, designs, str(first))
    store = storage.open_study(storage.connect(place), "record", samplers.directions(asked))
    started = time.monotonic()
    for at in range(0, count, storage.RECORDED):
        with storage.in_bulk(store.backend):
            store.study.add_trials(trials[at : at + storage.RECORDED])
    print(f"{count} designs in {time.monotonic() - started:.1f} s", flush=True)


def record(place: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if place is None:
            write(f"{folder}/journal", 0, DESIGNS)
            return
    storage.connect(place)  # makes the tables
    each = DESIGNS // WRITERS
    writers = [
        multiprocessing.Process(target=write, args=(place, n * each, each)) for n in range(WRITERS)
    ]
    started = time.monotonic()
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    store = storage.open_study(storage.connect(place), "record", samplers.directions(problem()))
    trials = store.study.get_trials(deepcopy=False)
    sources = [trial.user_attrs["source"] for trial in trials]
    counts = {name: sources.count(name) for name in sorted(set(sources))}
    numbers = sorted(trial.number for trial in trials)
    whole = numbers == list(range(DESIGNS)) and set(counts.values()) == {each}
    print(
        f"{WRITERS} processes: {len(trials)} designs in {time.monotonic() - started:.1f} s, "
        f"{'none lost, none doubled' if whole else f'WRONG: {counts}'}"
    )


def scale() -> None:
    """Trainings an hour; each number of workers trains other seeds of the same points."""
    print(f"{len(os.sched_getaffinity(0))} cores")
    base = 0.0
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "run"
            run.explore(
                Study(target="zcu102", network="fmnist-vgg", objectives=("accuracy", "lut")), folder
            )
            ids = [str(row["point"]) for row in run.read_front(folder)["points"]][:POINTS]
            started = time.monotonic()
            validation.validate(
                folder, ids, 1, Workers(jobs=workers), Options(epochs=1), lambda *_: None
            )
            hourly = 3600 * len(ids) / (time.monotonic() - started)
        base = base or hourly
        print(f"{workers} workers: {hourly:.0f} trainings an hour, {hourly / base:.2f} times")


def simulate(training: float, deviation: float, search: float) -> None:
    print("| workers | batch | trainings an hour | workers busy |")
    print("| --- | --- | --- | --- |")
    for workers in (1, 2, 8, 64):
        for batch in dict.fromkeys((workers, workers + max(1, workers // 4), 2 * workers)):
            count, busy = _hours(workers, batch, training, deviation, search)
            print(f"| {workers} | {batch} | {count:.0f} | {100 * busy:.0f} % |")


def _hours(
    workers: int, batch: int, training: float, deviation: float, search: float, hours: float = 20
) -> tuple[float, float]:
    """Trainings an hour, and the share of their time that workers train."""
    rng = np.random.default_rng(workers)
    sigma = np.sqrt(np.log1p((deviation / training) ** 2))
    ends: list[float] = []  # of trainings that run
    now, waiting, done, busy = 0.0, batch, 0, 0.0

    def begin(at: float) -> None:
        nonlocal waiting, busy
        while waiting and len(ends) < workers:
            length = float(rng.lognormal(np.log(training) - sigma**2 / 2, sigma))
            heapq.heappush(ends, at + length)
            busy += length
            waiting -= 1

    begin(now)
    while now < hours * 3600:
        now = heapq.heappop(ends)
        ended = 1
        begin(now)  # what waits in the queue does not wait for the search
        searched = now + search
        while ends and ends[0] <= searched:
            at = heapq.heappop(ends)
            ended += 1
            begin(at)
        now = searched
        done += ended
        waiting += ended
        begin(now)
    return done / (now / 3600), busy / (workers * now)


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else "record"
    if what == "record":
        record(sys.argv[2] if len(sys.argv) > 2 else None)
    elif what == "scale":
        scale()
    else:
        simulate(*map(float, sys.argv[2:5]))


if __name__ == "__main__":
    main()
