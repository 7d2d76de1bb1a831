"""Optuna's storage: a journal file, a database by its URL, or a gRPC proxy in front of one."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from syq_dse.errors import InputError, one_line, unknown
from syq_dse.search.front import Progress
from syq_dse.search.samplers import Direction

T = TypeVar("T")

AWAY_S = 1800.0
"""How long a database or a proxy may be away before a command gives up."""

TRY_AGAIN_S = 2.0

READY_S = 20.0
"""How long a proxy may take to answer first."""

QUEUE = ".trainings"
"""What follows a run's name in the name of the study that queues its trainings."""

Said = Callable[[str], None]


class Lock(JournalFileOpenLock):
    """The kernel's lock on a journal file.

    Optuna's own are files, which a killed process leaves and the next one waits for. Whoever gets
    this one cuts the half line that a killed process, or a full disk, has left at the end: optuna
    would append to it.
    """

    def __init__(self, journal: str) -> None:
        super().__init__(journal)
        self.journal = journal
        self.handle = -1

    def acquire(self) -> bool:
        self.handle = os.open(self.journal, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            _cut_half_line(self.handle)
        except BaseException:
            os.close(self.handle)
            raise
        return True

    def release(self) -> None:
        os.close(self.handle)


class JournalFile(JournalFileBackend):
    """A journal file whose lines need not each wait for the disk."""

    def __init__(self, path: str) -> None:
        self.path, self.lock, self.bulk = path, Lock(path), False
        super().__init__(path, self.lock)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """What stands in the file from one line on.

        Raises:
            InputError: a line is no JSON; half a line at the end is none yet.
        """
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            remedy = "restore it, or remove it and explore anew"
            raise InputError(f"{self.path}: is broken: {error}; {remedy}") from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write, and unless in bulk wait for the disk.

        Raises:
            InputError: it cannot be written; half a line may stay, which the next writer cuts.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            self.lock.acquire()
            try:
                with open(self.path, "ab") as stream:
                    stream.write(lines.encode("utf-8"))
                    stream.flush()
                    if not self.bulk:
                        os.fsync(stream.fileno())
            finally:
                self.lock.release()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None


class Journal(JournalStorage):
    """A storage in a journal file."""

    def __init__(self, path: str) -> None:
        self.file = JournalFile(path)
        super().__init__(self.file)


@contextmanager
def in_bulk(backend: BaseStorage) -> Iterator[None]:
    """Wait for the disk once, at the end; a process that is killed loses nothing by it."""
    if not isinstance(backend, Journal):
        yield
        return
    backend.file.bulk = True
    try:
        yield
    finally:
        backend.file.bulk = False
        with open(backend.file.path, "rb") as stream:
            os.fsync(stream.fileno())


BLOCK = 2**16


def _cut_half_line(handle: int) -> None:
    """Shorten a file to its last whole line."""
    size = end = os.fstat(handle).st_size
    while end:
        start = max(0, end - BLOCK)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


def shown(storage: str | Path) -> str:
    """A storage as messages name it: a URL may hold a password."""
    return re.sub(r"://[^/@]*@", "://***@", str(storage))


def connect(storage: str | Path) -> BaseStorage:
    """A storage by its URL or, of a journal, its path.

    Raises:
        InputError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = _backend(storage)
            optuna.get_all_study_names(backend)
    except Exception as error:  # any driver's own errors: one line for all of them
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = text.replace(str(storage), shown(storage))
        raise InputError(f"storage '{shown(storage)}': cannot be opened: {text}") from error
    return backend


def _backend(storage: str | Path) -> BaseStorage:
    url = str(storage)
    if isinstance(storage, Path) or "://" not in url:
        _check_journal(Path(storage))
        return Journal(str(Path(storage).absolute()))
    if url.startswith("grpc://"):
        return _proxy(url)
    # A connection that has died since, with its server, is opened anew.
    database = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    if database.engine.dialect.name == "sqlite":
        _serialise(database.engine)
    return optuna.storages.get_storage(database)


SQLITE_WAITS_S = 60


def _serialise(engine: Engine) -> None:
    """Let SQLite lock at the beginning of a transaction, not at its first write.

    It has no locks of rows: two workers would both read that a training waits, and both take it.
    """

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # or Python's driver begins by itself
        connection.execute(f"PRAGMA busy_timeout = {1000 * SQLITE_WAITS_S}")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # connections that were made before


BEGIN = b'{"op_code":'


def _check_journal(path: Path) -> None:
    """Refuse a file that is something else, of which the last line would be cut."""
    if path.is_file():
        with path.open("rb") as stream:
            first = stream.read(len(BEGIN))
        if not BEGIN.startswith(first):
            raise ValueError("is no journal of Optuna")


def _proxy(url: str) -> BaseStorage:
    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("must be grpc://HOST:PORT")
    proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(READY_S)
    return proxy


def check_new(backend: BaseStorage, storage: str | Path, name: str) -> None:
    """Refuse a storage that holds a study of this name.

    Raises:
        InputError: it does.
    """
    if name in optuna.get_all_study_names(backend):
        raise InputError(
            f"storage '{shown(storage)}': holds a study '{name}' already; "
            "name the run folder otherwise with --out"
        )


def check_held(backend: BaseStorage, storage: str | Path, name: str) -> None:
    """Refuse a storage that holds no study of this name.

    Raises:
        InputError: it holds none.
    """
    names = [found for found in optuna.get_all_study_names(backend) if not found.endswith(QUEUE)]
    if name not in names:
        known = unknown("study", name, names) if names else f"holds no study, not '{name}' either"
        raise InputError(f"storage '{shown(storage)}': {known}")


@dataclass(frozen=True, slots=True)
class Store:
    """A study and the storage that it is in."""

    backend: BaseStorage
    study: optuna.Study


def open_study(
    backend: BaseStorage, name: str, directions: list[Direction], metrics: Sequence[str] = ()
) -> Store:
    """A study in a storage, made if it is not there yet.

    Args:
        metrics: names of the objectives, which optuna-dashboard shows on its axes.

    Raises:
        InputError: the storage holds a study with other objectives.
    """
    study = optuna.create_study(
        storage=backend, study_name=name, directions=directions, load_if_exists=True
    )
    if [d.name.lower() for d in study.directions] != directions:
        raise InputError(f"the storage's study '{name}' has other objectives")
    if metrics and study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(metrics))
    return Store(backend, study)


def patient(call: Callable[[], T], said: Said = lambda text: None) -> T:
    """The result of a call, made again while the database or the proxy is away.

    Args:
        said: told what is waited for.

    Raises:
        InputError: it was away for AWAY_S.
    """
    since = time.monotonic()
    while True:
        try:
            return call()
        except Exception as error:
            if not _away(error):
                raise
            waited = time.monotonic() - since
            why = one_line(str(error.__cause__ or error))[:120]
            if waited > AWAY_S:
                raise InputError(
                    f"the storage is away for {waited / 60:.0f} minutes: {why}; "
                    "what is finished is kept, the same command goes on"
                ) from error
            said(f"the storage is away for {waited:.0f} s: {why}; trying again")
        time.sleep(TRY_AGAIN_S)


def _away(error: BaseException) -> bool:
    """Whether an error says that the storage is not there, and may come back."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, (OperationalError, InterfaceError, PendingRollbackError)):
        return True  # the last: of a session whose rollback the database did not live to see
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    code = getattr(error, "code", None)  # of grpc, which may not be installed
    return callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "UNKNOWN")


RECORDED = 200
"""Designs between two reports."""


def write_trials(
    store: Store, trials: Iterable[FrozenTrial], progress: Progress | None = None
) -> None:
    """Add finished trials; this process is the only one that adds to the study.

    Where the storage goes away and comes back, those are added that it did not take.
    """
    wanted = list(trials)
    if not wanted:
        return
    report = progress or (lambda done, total, what: None)
    done = 0

    def say(text: str) -> None:
        report(done, len(wanted), text)

    before = patient(lambda: count(store), say)

    def write() -> None:
        nonlocal done
        done = count(store) - before
        while done < len(wanted):
            report(done, len(wanted), "designs recorded")
            part = wanted[done : done + RECORDED]
            with in_bulk(store.backend):
                store.study.add_trials(part)
            done += len(part)

    patient(write, say)


def count(store: Store) -> int:
    """Trials that a study has."""
    return len(store.study.get_trials(deepcopy=False))


def values_of(store: Store) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Objectives of every recorded trial, shape (trials, objectives)."""
    trials = store.study.get_trials(deepcopy=False)
    return np.asarray([trial.values for trial in trials if trial.values], dtype=np.float64)
