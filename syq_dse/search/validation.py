"""Validation: trainings of points of a run, each in a process of its own, and their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from syq_dse import cells, records
from syq_dse.errors import InputError
from syq_dse.search import points, run
from syq_dse.search.front import Progress
from syq_dse.search.trainer import Trainer, Workers
from syq_dse.search.trainings import Options, Training, training

VALIDATION = "validation.csv"

COLUMNS = (
    "point",
    "seed",
    "top1",
    "top5",
    "loss",
    "epochs",
    "images",
    "seconds",
    "recipe",
    "part",
    "measured_images",
    "settings",
    "syq_dse",
    "torch",
)
"""Columns of validation.csv; `settings` is a digest of all that is asked for. A training whose
result is there refuses it where images have changed since."""

CONFIDENCE = 0.95


def choose(folder: Path, names: Sequence[str], top: int | None) -> list[str]:
    """Ids of the points that are named, and of the `top` that should be the most accurate.

    Raises:
        InputError: no finished run, or no such point.
    """
    front = run.read_front(folder)
    found = [points.point_of(front, name) for name in names]
    if top is not None:
        expected = dict(front.get("expected") or {})

        def hoped(row: Mapping[str, Any]) -> float:
            return float(expected.get(row["point"], row)["accuracy"])

        best = sorted(front["points"], key=hoped, reverse=True)
        found += [str(row["point"]) for row in best[:top]]
    return list(dict.fromkeys(found))


def validate(
    folder: Path,
    chosen: Sequence[str],
    seeds: int,
    workers: Workers,
    options: Options,
    progress: Progress,
) -> pd.DataFrame:
    """Train points with seeds 0 to seeds - 1, several at a time; the rows of validation.csv.

    What is there already is not trained again, and what broke off goes on. Rows are written as
    trainings end, and the run's front takes their means.

    Raises:
        InputError: the first training that failed, after the others have ended.
        KeyboardInterrupt: Ctrl-C; the trainings have saved their state.
    """
    with run.held(folder):
        run.check_described(folder)
        documents = [run.read_point(folder, point) for point in chosen]
        wanted = [
            training(folder, document, seed, options)
            for seed in range(seeds)
            for document in documents
        ]
        settings = {one.point: one.settings for one in wanted}
        failures = train_all(
            folder, wanted, workers, options, progress, lambda rows: record(folder, rows, settings)
        )
        if failures:
            raise InputError(
                failures[0] + (f" (and {len(failures) - 1} more)" * bool(failures[1:]))
            )
        rows, digests = known(folder), {one.settings for one in wanted}
        return rows[rows["settings"].isin(digests)].reset_index(drop=True)


def train_all(
    folder: Path,
    wanted: Sequence[Training],
    workers: Workers,
    options: Options,
    progress: Progress,
    after: Callable[[pd.DataFrame], None] = lambda rows: None,
) -> list[str]:
    """Train, and write each row of validation.csv as it comes; what went wrong where one failed.

    Args:
        after: called with the table after each row.
    """
    failures = []
    with Trainer(folder, workers, options, progress) as trainer:
        trainer.put(wanted)
        while trainer.open:
            for one, answer in trainer.wait():
                if isinstance(answer, str):
                    failures.append(f"{one.point}, seed {one.seed}: {answer}")
                else:
                    after(note(folder, one, answer))
    return failures


def note(folder: Path, training: Training, answer: Mapping[str, Any]) -> pd.DataFrame:
    """Write a training's row of validation.csv; the whole table."""
    rows = _with(known(folder), training, answer)
    records.write_text(folder / VALIDATION, cells.text(rows))
    return rows


def known(folder: Path) -> pd.DataFrame:
    """validation.csv of a run, or an empty table.

    Raises:
        InputError: it is broken.
    """
    path = folder / VALIDATION
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        text = {"point": str, "settings": str, "recipe": str}
        rows = cells.read_back(pd.read_csv(path, dtype=text))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if list(rows.columns) != list(COLUMNS):
        raise InputError(f"{path}: columns must be {', '.join(COLUMNS)}")
    for name in ("top1", "top5"):
        values = pd.to_numeric(rows[name], errors="coerce")
        if not values.between(0, 1).all():
            raise InputError(f"{path}: {name} must be 0 to 1")
    for name in ("seed", "epochs", "images", "measured_images"):
        if not rows.empty and not (
            pd.api.types.is_integer_dtype(rows[name]) and (rows[name] >= 0).all()
        ):
            raise InputError(f"{path}: {name} must be whole numbers")
    twice = rows[rows.duplicated(["seed", "settings"])]
    if not twice.empty:
        point, seed = twice.iloc[0][["point", "seed"]]
        raise InputError(f"{path}: {point}, seed {seed}: stands there twice; remove one row")
    return rows


def _with(rows: pd.DataFrame, training: Training, answer: Mapping[str, Any]) -> pd.DataFrame:
    """The table with a row more, or with that row in the place of an older one."""
    row = {name: answer[name] for name in COLUMNS if name in answer}
    row |= {"point": training.point, "seed": training.seed, "settings": training.settings}
    row |= {name: answer["versions"][name] for name in ("syq_dse", "torch")}
    same = (rows["seed"] == training.seed) & (rows["settings"] == training.settings)
    more = pd.DataFrame([row], columns=list(COLUMNS))
    if same.any():
        place = int(np.flatnonzero(same)[0])
        return pd.concat([rows.iloc[:place], more, rows.iloc[place + 1 :]], ignore_index=True)
    return more if rows.empty else pd.concat([rows, more], ignore_index=True)


def interval(top1: Sequence[float], images: int) -> tuple[float, float, float]:
    """The mean accuracy over seeds, and the ends of its 95 % interval.

    Of several seeds Student's, from their scatter; of one Wilson's, from the number of images
    alone: how much training scatters is not known then.

    >>> [round(x, 4) for x in interval([0.90, 0.92], 10000)]
    [0.91, 0.7829, 1.0]
    >>> [round(x, 4) for x in interval([0.9], 10000)]
    [0.9, 0.894, 0.9057]
    """
    mean = float(np.mean(top1))
    if len(top1) > 1:
        spread = float(np.std(top1, ddof=1)) / math.sqrt(len(top1))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(top1) - 1)) * spread
        return mean, max(0.0, mean - half), min(1.0, mean + half)
    found = stats.binomtest(round(mean * images), images).proportion_ci(CONFIDENCE, "wilson")
    return mean, float(found.low), float(found.high)


FIELDS = ("accuracy", "accuracy_low", "accuracy_high", "accuracy_source")
"""What a measurement changes in a row of the front."""


def expected_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the front expects."""
    return {name: row[name] for name in FIELDS}


def record(
    folder: Path,
    rows: pd.DataFrame,
    settings: Mapping[str, str],
    before: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Put measured means and intervals into front.csv, front.json and the points' documents.

    What had been expected stays, under `expected` in front.json.

    Args:
        settings: of each point that is recorded, as in the table.
        before: what had been expected of points, where it is not what the front has now.
    """
    with run.changing(folder):
        record_held(folder, rows, settings, before)


def record_held(
    folder: Path,
    rows: pd.DataFrame,
    settings: Mapping[str, str],
    before: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """`record` inside of `run.changing`."""
    front = run.read_front(folder)
    expected = {**(front.get("expected") or {}), **(before or {})}
    for row in front["points"]:
        own = rows[rows["settings"] == settings.get(row["point"], "")]
        if own.empty:
            continue
        expected.setdefault(row["point"], expected_of(row))
        found = interval(own["top1"].tolist(), int(own["measured_images"].iloc[0]))
        row.update(zip(FIELDS, (*found, "measured"), strict=True))
        _record_document(folder, row["point"], own, found)
    front["expected"] = expected
    records.write_text(folder / run.FRONT_CSV, run.csv_text(front["points"]))
    records.write_json(folder / run.FRONT_JSON, front)


def _record_document(
    folder: Path, point: str, own: pd.DataFrame, found: tuple[float, float, float]
) -> None:
    """The accuracy in points/ID.json, which export, rtl and verify read."""
    first = own.iloc[0]
    note = (
        f"measured: {first['recipe']}, {_many(int(first['epochs']), 'epoch')}, "
        f"{_many(len(own), 'seed')}, {first['measured_images']} images of the {first['part']} part"
    )
    document = run.read_point(folder, point)
    top1, low, high = found
    accuracy = {"top1": top1, "low": low, "high": high, "source": "measured", "note": note}
    records.write_json(folder / run.POINTS / f"{point}.json", {**document, "accuracy": accuracy})


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a point: seeds, mean and interval of top-1, mean of top-5, seconds."""
    found = []
    for (point, _), own in rows.groupby(["point", "settings"], sort=False):
        mean, low, high = interval(own["top1"].tolist(), int(own["measured_images"].iloc[0]))
        found.append(
            {
                "point": str(point),
                "seeds": len(own),
                "top1": mean,
                "low": low,
                "high": high,
                "top5": float(own["top5"].mean()),
                "part": str(own["part"].iloc[0]),
                "epochs": int(own["epochs"].iloc[0]),
                "seconds": float(own["seconds"].mean()),
            }
        )
    return found
