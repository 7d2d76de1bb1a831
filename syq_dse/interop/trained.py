"""A network that was trained and goes out: its floats and its integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from syq_dse import records, scheme
from syq_dse.errors import InputError
from syq_dse.interop.point import Point
from syq_dse.network import Network
from syq_dse.quant import integer_file
from syq_dse.quant.integer import NetworkIntegers
from syq_dse.quant.model import Model
from syq_dse.quant.streamline import Readout
from syq_dse.scheme import Scheme
from syq_dse.search.trainings import TRAININGS
from syq_dse.train import checkpoint
from syq_dse.train.result import RESULT
from syq_dse.train.run import INTEGERS, MODEL, READOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network that was trained by a scheme, as floats and as integers."""

    network: Network
    scheme: Scheme
    state: Mapping[str, Tensor]  # as Model.named_state has it
    integers: NetworkIntegers
    readout: Readout
    place: str  # the folder of the training

    def model(self) -> Model:
        """The trained model, evaluating, in 64 bit floats."""
        model = Model(self.network, self.scheme)
        model.load_named_state(self.state, self.place)
        return model.double().eval()


def trained(folder: Path, point: Point, training: Path | None = None) -> Trained:
    """The training of a point: the one given, or that of the least seed in its run.

    Raises:
        InputError: there is none, or it is of another network or scheme.
    """
    if training is not None:
        found = read_training(training, point.network)
        if _plain(found.network, found.scheme) != _plain(point.network, point.scheme):
            raise InputError(f"{training}: is of another scheme than point {point.name}")
        return found
    return read_training(training_of(folder, point), point.network)


def training_of(folder: Path, point: Point) -> Path:
    """The folder of a point's training in its run, of the least seed.

    Raises:
        InputError: there is none.
    """
    wanted = _plain(point.network, point.scheme)
    for path in sorted((folder / TRAININGS).glob(f"*/{RESULT}"), key=_seed):
        job = records.read(path).get("job")
        if isinstance(job, dict) and job.get("scheme") == wanted:
            return path.parent
    name = point.name.rpartition("-")[2]
    raise InputError(
        f"{folder}: point {name} has not been trained; remedy: `syq-dse validate {folder} --points "
        f"{name}`, or give what `syq-dse train` has left of it"
    )


def _seed(path: Path) -> tuple[int, str]:
    seed = path.parent.name.rpartition("-")[2]
    return (int(seed) if seed.isdecimal() else 0, path.parent.name)


def _plain(network: Network, chosen: Scheme) -> object:
    return records.plain(scheme.file_of(network, chosen))


def read_training(folder: Path, network: Network) -> Trained:
    """What `syq-dse train` has left of a network that has integers.

    Raises:
        InputError: the training has not ended, is of another network, or has float layers.
    """
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f"{folder}: has no {RESULT}; a training that has ended is needed")
    job = records.read(path).get("job")
    if not isinstance(job, dict) or job.get("network") != records.plain(network.file):
        raise InputError(f"{path}: is of another network than {network.name}")
    if not isinstance(job.get("scheme"), dict) or not (folder / INTEGERS).is_file():
        raise InputError(f"{folder}: is a training with float layers; it has no {INTEGERS}")
    chosen = scheme.read(network, job["scheme"], str(path))
    state, _ = checkpoint.load(folder / MODEL)
    read = records.read(folder / READOUT)
    numbers = {key: np.asarray(read.get(key), np.float64) for key in ("scale", "offset")}
    for key, value in numbers.items():
        if value.shape != (network.file.classes,) or not np.isfinite(value).all():
            raise InputError(f"{folder / READOUT}: {key} must be {network.file.classes} numbers")
    return Trained(
        network=network,
        scheme=chosen,
        state=state,
        integers=integer_file.load(folder / INTEGERS, network, chosen),
        readout=Readout(**numbers),
        place=str(folder),
    )
