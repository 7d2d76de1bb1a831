"""Trainings of a run, in its storage's queue: workers of this process and others take them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from syq_dse.errors import InputError
from syq_dse.search import process, queue, run, storage, trainings, worker
from syq_dse.search.front import Progress
from syq_dse.search.process import Answer, Process
from syq_dse.search.queue import Queue, Watch
from syq_dse.search.storage import patient
from syq_dse.search.trainings import Options, Training
from syq_dse.train.result import RESULT

LOOK_S = 0.5
"""Between two looks at what runs."""

WITHDRAWN = "was withdrawn: it is not wanted any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who trains."""

    jobs: int = 1  # trainings at a time in this process; 0: others' only
    storage: str | None = None  # of the queue; None: the run's journal
    device: str = "cpu"
    lease_s: float | None = None  # of a new queue


class Trainer:
    """Trainings that are under way; as a context, whose end stops what runs and withdraws the rest.

    Whose result lies in the run's folder is asked for it at once, out of turn, since it is refused
    where images have changed since.
    """

    def __init__(
        self, folder: Path, workers: Workers, options: Options, progress: Progress
    ) -> None:
        self.folder, self.workers, self.options = folder, workers, options
        self.progress = progress
        self.own = worker.Own(device=workers.device)
        self.waited = ""  # why nothing happens
        self.open: dict[tuple[str, int], Training] = {}
        self.ids: dict[tuple[str, int], int] = {}
        self.ended: list[Training] = []  # whose result lies here, and is not asked for yet
        self.asked: dict[tuple[str, int], Process] = {}
        self.done = 0
        self.watch = Watch()
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        name = folder.absolute().name
        if workers.storage is None and not (folder / run.JOURNAL).is_file():
            raise InputError(
                f"{folder}: has no {run.JOURNAL}: its storage is elsewhere; give it with --storage"
            )
        self.queue: Queue = patient(
            lambda: queue.opened(
                storage.connect(workers.storage or folder / run.JOURNAL), name, workers.lease_s
            ),
            self._say,
        )
        self.threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(workers.jobs)
        ]

    def __enter__(self) -> Trainer:
        self._withdraw()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop.set()
        for one in self.asked.values():
            one.stop()
        for thread in self.threads:
            thread.join()
        if self.open:
            with suppress(Exception):  # the next command withdraws too, and this one has its error
                self._withdraw()

    def _work(self, number: int) -> None:
        try:
            worker.work(self.queue, number, self.own, self.stop)
        except BaseException as error:
            self.failures.append(error)

    def _say(self, text: str) -> None:
        self.waited = text
        self._show([])

    def _withdraw(self) -> None:
        """Take back what waits: of an interrupted command nobody wants it now."""
        for trial in queue.trials(self.queue, (TrialState.WAITING,)):
            queue.fail(self.queue, trial._trial_id, WITHDRAWN)

    def put(self, wanted: Sequence[Training]) -> None:
        """Have trainings made."""
        tasks = []
        for one in wanted:
            self.open[one.key] = one
            if (one.folder / RESULT).is_file():
                self.ended.append(one)
            else:
                tasks.append(trainings.task(self.folder, one, self.options))
        self.ids |= patient(lambda: queue.put(self.queue, tasks), self._say)

    def results(self) -> dict[tuple[str, int], dict[str, Any]]:
        """What is complete in the queue."""
        trials = patient(lambda: queue.trials(self.queue, (TrialState.COMPLETE,)), self._say)
        return {queue.key_of(trial): dict(trial.user_attrs["result"]) for trial in trials}

    def _ask(self) -> None:
        """Ask for results that lie here, as many at a time as may train."""
        while self.ended and len(self.asked) < max(1, self.workers.jobs):
            one = self.ended.pop(0)
            task = trainings.task(self.folder, one, self.options)
            arguments = worker.prepare(task, one.folder.parent, self.own)
            self.asked[one.key] = process.start(arguments, one.folder)

    def wait(self) -> list[tuple[Training, Answer]]:
        """Trainings that have ended since, at least one, each with its answer.

        Raises:
            InputError: the storage is away for too long.
        """
        while True:
            self._ask()
            trials = patient(lambda: queue.trials(self.queue), self._say)
            by_id = {trial._trial_id: trial for trial in trials}
            patient(lambda: self.watch.rescue(self.queue), self._say)
            self.waited = ""
            found = [(one, answer) for one in list(self.open.values())
                     if (answer := self._answer(one, by_id)) is not None]  # fmt: skip
            for one, _ in found:
                del self.open[one.key]
            self.done += len(found)
            self._show(trials)
            if found:
                return found
            if self.failures:
                raise self.failures[0]
            time.sleep(LOOK_S)

    def _answer(self, one: Training, trials: dict[int, FrozenTrial]) -> Answer | None:
        if one in self.ended:
            return None
        if one.key in self.asked:
            running = self.asked[one.key]
            if not running.ended(0):
                return None
            del self.asked[one.key]
            return running.answer()
        trial = trials[self.ids[one.key]]
        if trial.state == TrialState.COMPLETE:
            return dict(trial.user_attrs["result"])
        if trial.state == TrialState.FAIL:
            return str(trial.user_attrs.get("reason", "failed, and nothing says why"))
        return None

    def _show(self, trials: Sequence[FrozenTrial]) -> None:
        said = [self.waited] if self.waited else []
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                beat = trial.user_attrs.get("beat") or {"said": "..."}
                point, seed = trial.user_attrs["point"], trial.user_attrs["seed"]
                said.append(f"{point}, seed {seed}: {beat['said']}")
        if not said and self.open and not self.workers.jobs:
            place = storage.shown(self.workers.storage or self.folder / run.JOURNAL)
            name = self.folder.absolute().name
            said = [f"nobody trains: `syq-dse worker --storage {place} --study {name}`"]
        total = self.done + len(self.open)
        self.progress(self.done, total, "; ".join(["trainings", *said]))
