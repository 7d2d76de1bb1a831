"""A network's sensitivity profile as a table: measured by several processes, and continued."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from syq_dse import __version__, cells, records
from syq_dse.accuracy.profile import Choice, Profiler, Row, choices
from syq_dse.accuracy.sensitivity import (
    COLUMNS,
    FIGURES,
    FLOAT,
    KEY,
    REFERENCE,
    SETTINGS,
    read,
)
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.train import dataset as datasets
from syq_dse.train import run as runs
from syq_dse.train.images import Images, split

Progress = Callable[[int, int, str], None]
Key = tuple[str, str, str, str, int]

PART = 6
"""Choices that are measured at a time; the layers before theirs are computed once for each part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is profiled, and on what."""

    network: Network
    dataset: str  # a shipped data set or a TOML file
    start: Path  # the float network
    data: Path | None = None  # folder of the data set
    images: int = 2000  # for ranges and batch-norm, and as many others to measure on
    seed: int = 0  # of the choice of images


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some choices of one item."""

    item: str
    choices: tuple[Choice, ...]


def profile(
    settings: Settings,
    out: Path,
    *,
    jobs: int = 1,
    progress: Progress = lambda done, total, what: None,
) -> pd.DataFrame:
    """Measure what is not in the table yet; the table, which is written after each part.

    Args:
        out: the table, CSV with COLUMNS; what stands in it is not measured again.
        jobs: processes, of one thread each.

    Raises:
        InputError: the table is of other settings, or a file is missing or broken.
    """
    stated = _stated(settings)
    rows: dict[Key, dict[Any, Any]] = {}
    if out.is_file():
        rows = {_key(row): row for row in read(out).to_dict("records")}
    for row in rows.values():
        for name in SETTINGS:
            if row[name] != stated[name]:
                raise InputError(
                    f"{out}: was measured with {name} {row[name]}, now {stated[name]}; "
                    "give another -o"
                )
    every = parts(settings.network)
    wanted = [_named(part.item, choice) for part in every for choice in part.choices]
    missing = [
        Part(item=part.item, choices=own)
        for part in every
        if (own := tuple(c for c in part.choices if _named(part.item, c) not in rows))
    ]

    def take(part: Part, measured: Sequence[Row]) -> None:
        for choice, row in zip(part.choices, measured, strict=True):
            key = _named(part.item, choice)
            figures = {name: getattr(row, name) for name in FIGURES}
            versions = {"syq_dse": __version__, "torch": str(torch.__version__)}
            rows[key] = dict(zip(KEY, key, strict=True)) | figures | stated | versions
        table = [rows[key] for key in wanted if key in rows]
        records.write_text(out, cells.text(pd.DataFrame(table, columns=list(COLUMNS))))
        progress(len(table), len(wanted), "choices measured")

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out.parent}: cannot be made: {error.strerror}") from None
    if jobs == 1 and missing:
        profiler = open_profiler(settings)
        for part in missing:
            take(part, measure(profiler, part))
    elif missing:
        _by_processes(settings, missing, jobs, take)
    return read(out)


def parts(network: Network) -> list[Part]:
    """All that is measured, in the order of the table."""
    found = [Part(item=FLOAT, choices=(Choice(),)), Part(item=REFERENCE, choices=(Choice(),))]
    for item, own in choices(network).items():
        for first in range(0, len(own), PART):
            found.append(Part(item=item, choices=own[first : first + PART]))
    return found


def open_profiler(settings: Settings) -> Profiler:
    """A profiler on the images that the seed draws.

    Raises:
        InputError: the data set or the float network is missing or broken, or too small.
    """
    torch.set_num_threads(1)
    network = settings.network
    found = datasets.load(network, settings.dataset, settings.data)
    train, validation = split(found.train, runs.HOLDOUT, runs.SPLIT_SEED)
    seen, _ = _drawn(train, settings, "the training part")
    images, labels = _drawn(validation, settings, "the validation part")
    return Profiler(network, runs.load_float(settings.start, network), seen, images, labels)


def _drawn(images: Images, settings: Settings, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    if len(images) < settings.images:
        raise InputError(
            f"{settings.dataset}: images must be at most {len(images)}, all of {what}, "
            f"got {settings.images}; give a smaller --images"
        )
    rng = torch.Generator().manual_seed(settings.seed)
    numbers = torch.randperm(len(images), generator=rng)[: settings.images]
    return images.batch(numbers, None), images.labels[numbers]


def measure(profiler: Profiler, part: Part) -> list[Row]:
    """The rows of a part."""
    return [profiler.float_row()] if part.item == FLOAT else profiler.measure(part.choices)


def _by_processes(
    settings: Settings, missing: Sequence[Part], jobs: int, take: Callable[[Part, list[Row]], None]
) -> None:
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(jobs, context, _open_here, (settings,)) as pool:
        waiting = {pool.submit(_measure_here, part): part for part in missing}
        try:
            for done in as_completed(waiting):
                take(waiting[done], done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_here: list[Profiler | Settings] = []
"""Of a process of the pool: the settings, then the profiler that is made of them."""


def _open_here(settings: Settings) -> None:
    _here[:] = [settings]


def _measure_here(part: Part) -> list[Row]:
    if isinstance(_here[0], Settings):  # not in _open_here, where an error would break the pool
        _here[:] = [open_profiler(_here[0])]
    (profiler,) = _here
    assert isinstance(profiler, Profiler)
    return measure(profiler, part)


def _stated(settings: Settings) -> dict[str, Any]:
    return {
        "network": settings.network.name,
        "dataset": Path(settings.dataset).stem,
        "float_sha256": records.sha256(settings.start),
        "images": settings.images,
        "seed": settings.seed,
    }


def _named(item: str, choice: Choice) -> Key:
    layer = choice.scheme
    if layer is None:
        return item, "", "", "", choice.bits
    return item, layer.weights, layer.granularity, layer.scale, 0


def _key(row: dict[Any, Any]) -> Key:
    return row["item"], row["weights"], row["granularity"], row["scale"], int(row["bits"])
