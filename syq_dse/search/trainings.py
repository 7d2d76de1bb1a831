"""Trainings of points of a run: what is asked for, and all that a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syq_dse import __version__, records
from syq_dse import network as networks
from syq_dse.cost import design
from syq_dse.network import Network
from syq_dse.search import run
from syq_dse.search.queue import Source, Task
from syq_dse.search.study import Study
from syq_dse.search.worker import folder_name
from syq_dse.train import result
from syq_dse.train.result import RESULT

TRAININGS = "trainings"
"""Folder of a run, with a folder a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How points are trained; the defaults of `syq-dse train` where None."""

    recipe: str = "modern"
    epochs: int | None = None
    dataset: str | None = None
    data: Path | None = None
    pretrained: Path | None = None
    part: str = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training that is wanted.

    Its folder and its copy of the point's document are named by `settings`, a digest of all that
    the result depends on: the same is not trained twice, whatever a point is called.
    """

    point: str
    seed: int
    settings: str
    document: Path
    folder: Path

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from others, as in the queue."""
        return self.settings, self.seed


def training(folder: Path, document: Mapping[str, Any], seed: int, options: Options) -> Training:
    """A training of a point's document, of which a copy is put beside its folder."""
    study = run.read_record(folder).study
    net = networks.load(study.network)
    settings = digest(study, net, document, options)
    path = document_of(folder, settings)
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        records.write_json(path, document)
    return known(folder, settings, seed, str(document["point"]))


def document_of(folder: Path, settings: str) -> Path:
    """The copy of a point's document that trainings of a digest have."""
    return folder / TRAININGS / f"{settings}.json"


def known(folder: Path, settings: str, seed: int, point: str) -> Training:
    """A training of a digest that has its document already."""
    return Training(
        point=point,
        seed=seed,
        settings=settings,
        document=document_of(folder, settings),
        folder=folder / TRAININGS / folder_name(settings, seed),
    )


def digest(study: Study, net: Network, document: Mapping[str, Any], options: Options) -> str:
    """Of all that the result of a training depends on, the seed and the images apart."""
    recipe, dataset, network = (
        Path(name).read_text(encoding="utf-8", errors="replace") if Path(name).is_file() else name
        for name in (options.recipe, options.dataset or "", study.network)
    )
    start = None if options.pretrained is None else records.sha256(options.pretrained)
    asked = design.of_document(net, document, f"point {document['point']}")
    depends = [
        network,
        document["scheme"],
        design.methods(net, asked, study.target),
        recipe,
        options.epochs,
        dataset,
        None if options.data is None else str(options.data.resolve()),
        options.part,
        start,
    ]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:10]


def results(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The results that lie in a run's folder."""
    found = {}
    for path in sorted((folder / TRAININGS).glob(f"*/{RESULT}")):
        settings, _, seed = path.parent.name.rpartition("-")
        if settings and seed.isdecimal():
            found[settings, int(seed)] = result.read(path)
    return found


def task(folder: Path, wanted: Training, options: Options) -> Task:
    """A training for the queue of a run.

    Raises:
        InputError: a file that it needs cannot be read.
    """
    study = run.read_record(folder).study
    dataset = networks.load(study.network).file.recipe.dataset
    start = options.pretrained
    return Task(
        settings=wanted.settings,
        seed=wanted.seed,
        point=wanted.point,
        document=records.read(wanted.document),
        network=Source.of(study.network),
        target=Source.of(study.target),
        recipe=Source.of(options.recipe),
        part=options.part,
        folder=str((folder / TRAININGS).absolute()),
        syq_dse=__version__,
        dataset=Source.of(options.dataset or dataset),
        epochs=options.epochs,
        data=None if options.data is None else str(options.data.absolute()),
        pretrained=None if start is None else str(start.absolute()),
        pretrained_sha256=None if start is None else records.sha256(start),
    )
