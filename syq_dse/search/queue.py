"""Trainings as a queue of trials in Optuna's storage: put, taken, kept alive, ended, given back.

A trial waits, runs, and is complete or failed. Its attributes say what is to be trained (`task`),
who is at work (`worker`), and in the end the `result` or the `reason`. Whoever trains changes
`beat` a few times in the lease; a trial whose beat stands still for a lease, by the watcher's own
clock, waits again, and another worker goes on with it. To train twice is wasteful and does no harm:
the result of a training is one.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from syq_dse import catalogue, records
from syq_dse.errors import InputError
from syq_dse.search.storage import QUEUE, open_study

LEASE_S = 60.0
"""Without a sign of life for so long a worker is taken for dead."""

BEATS = 4
"""Signs of life in a lease."""

MOST_LOST = 3
"""Workers that may die of a training before it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A network, a board, a recipe or a data set: a shipped one's name, or a file's contents."""

    name: str
    text: str | None = None

    @classmethod
    def of(cls, name: str) -> Source:
        """What a name or a path stands for.

        Raises:
            InputError: the file cannot be read.
        """
        if not catalogue.is_path(name):
            return cls(name=name)
        path = Path(name)
        try:
            return cls(name=path.name, text=path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A training, with all that a worker on another machine needs for it but the images."""

    settings: str  # digest of all that the result depends on, but the seed
    seed: int
    point: str
    document: dict[str, Any]  # of the point
    network: Source
    target: Source
    recipe: Source
    dataset: Source
    part: str
    folder: str  # of trainings, where it was put
    syq_dse: str  # version
    epochs: int | None = None
    data: str | None = None
    pretrained: str | None = None
    pretrained_sha256: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from others."""
        return self.settings, self.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Who is at work."""

    name: str
    place: str  # of processes that see each other
    pid: int

    @classmethod
    def here(cls, number: int) -> Worker:
        """A worker of this process."""
        pid = os.getpid()
        return cls(name=f"{platform.node()}:{pid}.{number}", place=_place(), pid=pid)


def _place() -> str:
    """The machine, since when it runs, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: only the lease tells
        return f"{platform.node()} {os.getpid()}"


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of a run."""

    backend: BaseStorage
    study_id: int
    lease_s: float

    @property
    def beat_s(self) -> float:
        """Time between two signs of life."""
        return self.lease_s / BEATS


@dataclass(frozen=True, slots=True)
class Taken:
    """A task in a worker's hands."""

    trial_id: int
    task: Task
    worker: Worker


def name_of(run: str) -> str:
    """The study that holds the queue of a run."""
    return f"{run}{QUEUE}"


def opened(backend: BaseStorage, run: str, lease_s: float | None = None) -> Queue:
    """The queue of a run, made if it is not there.

    Args:
        lease_s: of a new one.
    """
    study = open_study(backend, name_of(run), ["maximize"], ("top-1",)).study
    if "lease_s" not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise InputError(
                f"the storage's study '{name_of(run)}' is of another program; "
                "name the run folder otherwise with --out"
            )
        study.set_user_attr("lease_s", lease_s or LEASE_S)
    study_id = backend.get_study_id_from_name(name_of(run))
    return Queue(backend, study_id, float(study.user_attrs["lease_s"]))


def trials(queue: Queue, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
    """Trials of a queue, the oldest first."""
    return queue.backend.get_all_trials(queue.study_id, deepcopy=False, states=states)


def newest(queue: Queue) -> dict[tuple[str, int], FrozenTrial]:
    """The last trial of each task."""
    return {key_of(trial): trial for trial in trials(queue)}


def key_of(trial: FrozenTrial) -> tuple[str, int]:
    """The task's, of a trial."""
    return str(trial.user_attrs["settings"]), int(trial.user_attrs["seed"])


def put(queue: Queue, tasks: Iterable[Task]) -> dict[tuple[str, int], int]:
    """Ids of the trials of tasks: of those that wait, run or are complete, and of new ones."""
    known, found = newest(queue), {}
    for task in tasks:
        trial = known.get(task.key)
        if trial is None or trial.state == TrialState.FAIL:
            attributes = {
                "task": records.plain(task),
                "settings": task.settings,
                "seed": task.seed,
                "point": task.point,
            }
            waiting = create_trial(state=TrialState.WAITING, user_attrs=attributes)
            found[task.key] = queue.backend.create_new_trial(queue.study_id, waiting)
        else:
            found[task.key] = trial._trial_id
    return found


def take(queue: Queue, worker: Worker, version: str) -> Taken | None:
    """The next task for a worker, which from now on has to show that it lives.

    Args:
        version: of syq-dse; tasks of another one are left to others.
    """
    for trial in trials(queue, (TrialState.WAITING,)):
        task = records.structure(trial.user_attrs["task"], Task, f"training {trial.number}")
        if task.syq_dse != version:
            continue
        if _claim(queue, trial._trial_id):
            set_attribute(queue, trial._trial_id, "worker", records.plain(worker))
            return Taken(trial._trial_id, task, worker)
    return None


def _claim(queue: Queue, trial_id: int) -> bool:
    """Whether a trial that waited is this worker's now."""
    try:
        return queue.backend.set_trial_state_values(trial_id, TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False  # another one was quick


def other_versions(queue: Queue, version: str) -> list[str]:
    """Versions of syq-dse that waiting tasks are of, and this worker is not."""
    waiting = trials(queue, (TrialState.WAITING,))
    return sorted({str(t.user_attrs["task"]["syq_dse"]) for t in waiting} - {version})


def beat(queue: Queue, trial_id: int, number: int, said: str) -> None:
    """A sign of life, with how far the training is."""
    set_attribute(queue, trial_id, "beat", {"number": number, "said": said})


def finish(queue: Queue, taken: Taken, result: Mapping[str, Any]) -> None:
    """The result of a task."""
    kept = {name: value for name, value in result.items() if name != "job"}
    set_attribute(queue, taken.trial_id, "result", kept)
    _end(queue, taken.trial_id, TrialState.COMPLETE, [float(result["top1"])])


def fail(queue: Queue, trial_id: int, reason: str) -> None:
    """Say why a task cannot be trained."""
    set_attribute(queue, trial_id, "reason", reason)
    _end(queue, trial_id, TrialState.FAIL)


def give_back(queue: Queue, trial_id: int) -> None:
    """Let another worker go on with a task."""
    set_attribute(queue, trial_id, "worker", None)  # who takes it next is not this one
    _end(queue, trial_id, TrialState.WAITING)


def lose(queue: Queue, trial_id: int) -> None:
    """What becomes of a task whose worker, or its process, was killed."""
    trial = queue.backend.get_trial(trial_id)
    if trial.state != TrialState.RUNNING:
        return
    lost = int(trial.user_attrs.get("lost", 0)) + 1
    if lost >= MOST_LOST:
        fail(queue, trial_id, f"its process was killed {lost} times, as where memory is full")
        return
    set_attribute(queue, trial_id, "lost", lost)
    give_back(queue, trial_id)


def _end(queue: Queue, trial_id: int, state: TrialState, values: list[float] | None = None) -> None:
    with suppress(UpdateFinishedTrialError):  # another worker has trained it since
        queue.backend.set_trial_state_values(trial_id, state, values)


def set_attribute(queue: Queue, trial_id: int, name: str, value: Any) -> None:
    """Of a trial that has not ended."""
    with suppress(UpdateFinishedTrialError):
        queue.backend.set_trial_user_attr(trial_id, name, value)


@dataclass
class Watch:
    """What was last seen of trials that run, and when."""

    seen: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def rescue(self, queue: Queue) -> None:
        """Let others go on with the tasks of workers that died."""
        now = time.monotonic()
        running = trials(queue, (TrialState.RUNNING,))
        for trial in running:
            attributes = trial.user_attrs
            sign = (attributes.get("worker"), attributes.get("beat"), attributes.get("lost"))
            before, since = self.seen.get(trial._trial_id, (None, now))
            if sign != before:
                since = now
            self.seen[trial._trial_id] = (sign, since)
            if now - since > queue.lease_s or _gone(attributes.get("worker")):
                lose(queue, trial._trial_id)
                self.seen.pop(trial._trial_id)
        ids = {trial._trial_id for trial in running}
        self.seen = {number: seen for number, seen in self.seen.items() if number in ids}


def _gone(worker: Mapping[str, Any] | None) -> bool:
    """Whether a worker on this machine has ended."""
    if worker is None or worker.get("place") != _place():
        return False
    try:
        os.kill(int(worker["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
