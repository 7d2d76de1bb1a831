"""One training as a folder: its settings, checkpoint, metrics, result and, quantised, integers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from syq_dse import __version__, catalogue, records, scheme
from syq_dse.errors import InputError, one_line
from syq_dse.network import Network
from syq_dse.quant import integer, integer_file
from syq_dse.quant.model import Model
from syq_dse.quant.streamline import agreement, settle, streamline
from syq_dse.scheme import Scheme
from syq_dse.train import checkpoint, start, training
from syq_dse.train import result as results
from syq_dse.train.dataset import Dataset
from syq_dse.train.images import Images, TensorImages, split
from syq_dse.train.recipe import Recipe
from syq_dse.train.result import RESULT
from syq_dse.train.training import Abandoned, Settings, Training

HOLDOUT = 0.1
"""Share of the training images that the validation part takes away."""

SPLIT_SEED = 0
"""All trainings of a data set share one validation part, which none of them sees."""

SAVE_SECONDS = 300.0
"""Time between two checkpoints within an epoch."""

Part = Literal["validation", "test"]

CHECKPOINT, MODEL, METRICS = "checkpoint.safetensors", "model.safetensors", "metrics.csv"
INTEGERS, READOUT = "integers.safetensors", "integers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained, and how: what a result depends on."""

    network: Network
    scheme: Scheme | None  # None: float
    recipe: Recipe
    dataset: str  # a shipped data set or a TOML file
    epochs: int
    seed: int = 0
    part: Part = "test"  # what it is measured on
    start: Path | None = None  # a float network; None: the shipped one
    methods: Mapping[str, integer.Method] | None = None  # how layers make codes

    def document(self, start_sha256: str | None, data: str, mixed: bool) -> dict[str, Any]:
        """All that the result depends on, as plain values.

        Args:
            start_sha256: of the float network's file.
            data: digest of the images.
        """
        chosen = None if self.scheme is None else scheme.file_of(self.network, self.scheme)
        return {
            "network": records.plain(self.network.file),
            "scheme": records.plain(chosen),
            "recipe": records.plain(self.recipe),
            "epochs": self.epochs,
            "seed": self.seed,
            "dataset": (
                records.read(Path(self.dataset))  # wherever the file lies
                if catalogue.is_path(self.dataset)
                else self.dataset
            ),
            "data": data,
            "mixed": mixed,
            "part": self.part,
            "start_sha256": start_sha256,
            "methods": records.plain(self.methods),
        }


def float_checkpoint(network: Network, dataset: str, given: Path | None = None) -> Path:
    """The float network to start from: the one given, or the shipped one for a data set.

    Raises:
        InputError: there is none.
    """
    if given is not None:
        return given
    path = catalogue.folder("models") / "float" / f"{network.name}-{dataset}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{network.name}: no float network for {dataset} is shipped to start from; train one "
            "with `syq-dse train --float`, of the same --network, and give it with --pretrained"
        )
    return path


def load_float(path: Path, network: Network) -> dict[str, Tensor]:
    """The state of a float network, of this program's file or of torch.save's.

    Raises:
        InputError: the file is broken or of another network.
    """
    if path.suffix in (".pt", ".pth"):
        state = {n.replace(".", "/"): v for n, v in checkpoint.load_foreign(path).items()}
        wanted = Model(network).named_state()
        whole = {name.replace(".", "/"): name for name in wanted}
        state = {whole.get(name, name): value for name, value in state.items()}
    else:
        state, document = checkpoint.load(path)
        found = document.get("network", {})
        name = found.get("name") if isinstance(found, dict) else None
        if name != network.name:
            raise InputError(f"{path}: is of network '{name}', got network '{network.name}'")
        if document.get("scheme") is not None:
            raise InputError(f"{path}: is quantised; a float network is needed to start from")
    Model(network).load_named_state(state, str(path))
    return state


def name_of(job: Job, dataset: Dataset, mixed: bool = False) -> str:
    """The folder's name: the network and a hash of all that the result depends on."""
    document = job.document(_start_hash(job), dataset.digest, mixed)
    return f"{job.network.name}-{_hash(document)[:10]}"


def _start_hash(job: Job) -> str | None:
    if not _reads_float(job):
        return None
    return records.sha256(float_checkpoint(job.network, job.dataset, job.start))


def _reads_float(job: Job) -> bool:
    """Whether a float network is the start, or the teacher."""
    return job.scheme is not None and (job.recipe.start == "float" or bool(job.recipe.distillation))


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def parts(job: Job, dataset: Dataset) -> tuple[Images, Images]:
    """What a job trains with, and what it is measured on.

    No training ever sees the validation part, not one that is measured on the test images either:
    its network may be the start and the teacher of others, which are chosen by that part.
    """
    train, validation = split(dataset.train, HOLDOUT, SPLIT_SEED)
    measured = validation if job.part == "validation" else dataset.test
    if not len(measured):
        raise InputError(
            f"{job.dataset}: {len(dataset.train)} images leave none for the validation part, a "
            "tenth of each class; give more images, or --measure test"
        )
    if job.recipe.augmentation is not None and isinstance(train, TensorImages):
        train = replace(train, augmentation=job.recipe.augmentation)
    return train, measured


Report = Callable[[Training, float], None]


def train(
    job: Job,
    dataset: Dataset,
    folder: Path,
    *,
    device: str = "cpu",
    mixed: bool = False,
    compiled: bool = False,
    checked: int | None = None,
    report: Report = lambda training, rate: None,
) -> dict[str, Any]:
    """Train, or go on from the folder's checkpoint; the result, which stands in result.json.

    A folder that has its result already gives it back.

    Args:
        checked: images on which the integers are held against the model; None for all that it is
            measured on.

    Raises:
        InputError: the folder belongs to another training, or a file cannot be read or written.
        DivergenceError: numbers that are not finite; the last checkpoint stays.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    document = job.document(_start_hash(job), dataset.digest, mixed)
    images, measured = parts(job, dataset)
    if (folder / RESULT).is_file():
        return _ended(folder, document)
    settings = Settings(
        epochs=job.epochs, seed=job.seed, device=device, mixed=mixed, compiled=compiled
    )
    run = _begin(job, images, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    first = run.rank == 0
    with records.held(folder, "training") if first else nullcontext():
        if first:
            _remove_parts(folder)
        _resume(run, folder / CHECKPOINT, document)
        _run(run, folder, document, report)
        return _finish(job, run, measured, folder, document, checked) if first else {}


def _run(run: Training, folder: Path, document: dict[str, Any], report: Report) -> None:
    """Train to the end; of several processes the first writes the state."""
    first = run.rank == 0
    board = _board(folder) if first else None
    last = time.monotonic()

    def save() -> None:
        nonlocal last
        if first:
            tensors, position = run.state()
            whole = {"job": document, "position": position}
            checkpoint.save(folder / CHECKPOINT, tensors, whole)
        last = time.monotonic()

    def after_epoch(run: Training) -> None:
        save()
        if first:
            _write_metrics(folder, run.position.history)
            if board is not None:
                row = run.position.history[-1]
                for key in ("loss", "top1", "rate", "images_per_second"):
                    board.add_scalar(key, row[key], int(row["epoch"]))

    def between(run: Training, rate: float) -> None:
        report(run, rate)
        if time.monotonic() - last > SAVE_SECONDS:
            save()

    try:
        run.train(between, after_epoch)
    except Abandoned:
        raise KeyboardInterrupt(
            f"interrupted within a step; the same command goes on from what {folder} holds"
        ) from None
    except KeyboardInterrupt:
        save()
        raise KeyboardInterrupt(
            f"interrupted; the state is saved in {folder}, the same command goes on from there"
        ) from None
    finally:
        if board is not None:
            board.close()


def _begin(job: Job, images: Images, settings: Settings) -> Training:
    torch.manual_seed(job.seed)
    recipe = job.recipe
    model = Model(
        job.network,
        job.scheme,
        dead_zone=recipe.dead_zone,
        learned_ranges=recipe.ranges == "learned",
        float_ends=recipe.float_ends,
    )
    teacher = None
    if _reads_float(job):
        state = load_float(float_checkpoint(job.network, job.dataset, job.start), job.network)
        if recipe.start == "float":
            count = min(len(images), start.CALIBRATION_IMAGES)
            seen = images.batch(torch.arange(count), None)
            start.start_from_float(model, state, seen, recipe.ranges)
        if recipe.distillation:
            teacher = Model(job.network)
            teacher.load_named_state(state, "the float network")
    return Training(model, recipe, settings, images, teacher)


def _resume(run: Training, path: Path, document: dict[str, Any]) -> None:
    """Go on from a checkpoint, where there is one."""
    if not path.is_file():
        return
    tensors, found = checkpoint.load(path)
    _same(path, found.get("job"), document)
    position = found.get("position")
    if not isinstance(position, dict):
        raise InputError(f"{path}: header: position must be a table")
    run.load_state(tensors, position, str(path))


def _same(path: Path, found: Any, wanted: dict[str, Any]) -> None:
    if found == wanted:
        return
    for key, value in wanted.items():
        other = found.get(key) if isinstance(found, dict) else None
        if other != value:
            shown = f"'{key}'"
            if not isinstance(value, dict) and not isinstance(other, dict):
                shown = f"{key} {one_line(str(other))}, now {one_line(str(value))}"
            raise InputError(
                f"{path}: is of a training with another {shown}; give another folder, or remove it"
            )


def _ended(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The result of a training that has ended.

    Raises:
        InputError: of another training, or not all of its files are there.
    """
    path = folder / RESULT
    remedy = f"remove {folder} to train again"
    try:
        result = results.read(path)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None
    _same(path, result["job"], document)
    wanted = [MODEL, *([INTEGERS, READOUT] if "integers" in result else [])]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder / missing[0]}: is missing; {remedy}")
    return result


def _remove_parts(folder: Path) -> None:
    """What a killed process left of a file that it was writing."""
    for name in (CHECKPOINT, MODEL, RESULT, METRICS, INTEGERS, READOUT):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def _write_metrics(folder: Path, rows: list[dict[str, float]]) -> None:
    records.write_text(folder / METRICS, pd.DataFrame(rows).to_csv(index=False))


def _board(folder: Path) -> Any:
    """TensorBoard's writer, where it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def _finish(
    job: Job,
    run: Training,
    measured: Images,
    folder: Path,
    document: dict[str, Any],
    checked: int | None,
) -> dict[str, Any]:
    model = run.finish()
    training.check_finite(model, "the end")
    integral = job.scheme is not None and not job.recipe.float_ends
    if integral:
        settle(model, streamline(model, job.methods)[0])
    metrics = training.evaluate(model, measured)
    at = run.position
    result: dict[str, Any] = {
        "job": document,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "loss": metrics.loss,
        "part": job.part,
        "measured_images": metrics.images,
        "epochs": job.epochs,
        "images": at.images,
        "seconds": at.seconds,
        "images_per_second": at.images / max(at.seconds, 1e-9),
        "recipe": job.recipe.name,
        "seed": job.seed,
        "versions": {
            "syq_dse": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    checkpoint.save(folder / MODEL, model.named_state(), document)
    if integral:
        count = len(measured) if checked is None else min(checked, len(measured))
        seen = measured.batch(torch.arange(count), None)
        result["integers"] = write_integers(job, model, folder, seen)
    records.write_json(folder / RESULT, result)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return result


def write_integers(job: Job, model: Model, folder: Path, images: Tensor) -> dict[str, Any]:
    """Write the integer model, and say how far it agrees with the trained one on some images.

    Two files: integers.safetensors, which rtl and verify load, and integers.json, with what a host
    does with the results and where the integers come from.
    """
    assert job.scheme is not None
    integers, readout = streamline(model, job.methods)
    integer_file.save(folder / INTEGERS, integers)
    found = agreement(model, integers, readout, images.numpy())
    agreed: dict[str, Any] = records.plain(found)
    records.write_json(
        folder / READOUT,
        {
            "network": job.network.name,
            "scheme": records.plain(scheme.file_of(job.network, job.scheme)),
            "integers": INTEGERS,
            "logits": "results * scale + offset",
            "scale": readout.scale.tolist(),
            "offset": readout.offset.tolist(),
            "agreement": agreed,
        },
    )
    return agreed
