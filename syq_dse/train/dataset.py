"""A data set: where its files are, whether they are the ones, and its images by their numbers."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from syq_dse import catalogue, records
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.train import formats
from syq_dse.train.images import Augmentation, FolderImages, Images, TensorImages

Progress = Callable[[int, int, str], None]

FILE_NAMES = {
    "idx": (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ),
    "cifar10": ("cifar-10-binary.tar.gz",),
    "folder": (),
}
"""Files of each format, which may be packed: .gz after those of idx."""

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """What a file must be, unpacked where it is packed."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """A data set's TOML file."""

    name: str
    provenance: str
    format: Literal["idx", "cifar10", "folder"]
    folders: tuple[str, ...] = ()  # where to look before a download
    url: str | None = None  # of the folder that has the files
    augmentation: Augmentation = "none"
    files: dict[str, FileCheck] | None = None  # none: the files are taken as they are

    def __post_init__(self) -> None:
        catalogue.check_name(self.name)
        for name in self.files or ():
            if name not in FILE_NAMES[self.format]:
                known = ", ".join(FILE_NAMES[self.format]) or "none"
                raise InputError(f"files: of format {self.format} are {known}; got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images to train with and to test with; `test` is for the report alone."""

    name: str
    train: Images
    test: Images

    @cached_property
    def digest(self) -> str:
        """Tells contents apart: of images in memory all, of pictures in files their names."""
        both = self.train.digest() + self.test.digest()
        return hashlib.sha256(both).hexdigest()[:16]


def load(
    network: Network,
    name: str | None = None,
    data: Path | None = None,
    *,
    cache: Path | None = None,
    progress: Progress = lambda done, total, what: None,
) -> Dataset:
    """A data set for a network, checked.

    Args:
        name: a shipped data set or a TOML file; None: the one that the network's file names.
        data: the folder of its files; without one the data set's own folders, then a download.
        cache: where downloads stay.

    Raises:
        InputError: a file is missing, cut or not the one, labels or shapes do not fit the network.
    """
    path = catalogue.find("dataset", name or network.file.recipe.dataset, "models", ("datasets",))
    file = records.load(path, DatasetFile)
    if file.format == "folder":
        if data is None:
            raise InputError(f"{file.name}: lies in no known folder; give it with --data FOLDER")
        train, test = _folders(network, file, data)
    else:
        where = _Where(file, data, cache or catalogue.cache_folder("data"), progress)
        train, test = _in_memory(file, where)
    found = Dataset(name=file.name, train=train, test=test)
    for part, images in (("training", train), ("test", test)):
        _check(network, f"{file.name}, {part} part", images)
    return found


@dataclass(frozen=True, slots=True)
class _Where:
    """Where the files of a data set come from."""

    file: DatasetFile
    data: Path | None
    cache: Path
    progress: Progress

    def content(self, name: str) -> tuple[str, bytes]:
        """A file's place and its bytes, unpacked and checked."""
        path = self._path(name)
        try:
            raw = path.read_bytes()
            packed = path.suffix == ".gz" and not name.endswith(".gz")
            content = gzip.decompress(raw) if packed else raw
        except OSError as error:
            problem = error.strerror or "is no whole .gz file"
            raise InputError(f"{path}: cannot be read: {problem}") from None
        except (EOFError, zlib.error):
            raise InputError(f"{path}: is cut or broken; remove it and try again") from None
        self._check(path, name, content)
        return str(path), content

    def _check(self, path: Path, name: str, content: bytes) -> None:
        wanted = (self.file.files or {}).get(name)
        if wanted is None:
            return
        if len(content) != wanted.bytes:
            raise InputError(
                f"{path}: must have {wanted.bytes} bytes to be {self.file.name}'s, "
                f"got {len(content)}"
            )
        found = hashlib.sha256(content).hexdigest()
        if found != wanted.sha256:
            raise InputError(
                f"{path}: is not the file of {self.file.name}: SHA-256 must be {wanted.sha256}, "
                f"got {found}"
            )

    def _path(self, name: str) -> Path:
        given = [self.data] if self.data is not None else [Path(f) for f in self.file.folders]
        tried = [*given] if self.data is not None else [*given, self.cache / self.file.name]
        for folder in tried:
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
        if self.data is not None and self.data.is_file() and self.data.name == name:
            return self.data
        if self.data is not None or self.file.url is None:
            raise InputError(
                f"{self.file.name}: '{name}' is not in {', '.join(map(str, tried)) or 'any folder'}"
                "; give --data FOLDER"
            )
        return self._download(name)

    def _download(self, name: str) -> Path:
        assert self.file.url is not None
        packed = name if name.endswith(".gz") else f"{name}.gz"
        url = f"{self.file.url}/{packed}"
        target = self.cache / self.file.name / packed
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                total = int(answer.headers.get("Content-Length") or 0)
                handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{packed}.")
                try:
                    with os.fdopen(handle, "wb") as stream:
                        done = 0
                        while block := answer.read(1 << 20):
                            stream.write(block)
                            done += len(block)
                            self.progress(done >> 20, total >> 20, f"MiB of {packed}")
                    if total and done != total:
                        raise InputError(f"{url}: broke off after {done} of {total} bytes")
                    os.replace(part, target)
                except BaseException:
                    os.unlink(part)
                    raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.file.name}: {url} cannot be had: {reason}; give --data FOLDER"
            ) from None
        return target


def _in_memory(file: DatasetFile, where: _Where) -> tuple[Images, Images]:
    contents = [where.content(name) for name in FILE_NAMES[file.format]]
    if file.format == "idx":
        parts = [formats.idx(*contents[0], *contents[1]), formats.idx(*contents[2], *contents[3])]
    else:
        parts = list(formats.cifar10(*contents[0]))
    train, test = parts
    return (
        TensorImages(images=train[0], labels=train[1], augmentation=file.augmentation),
        TensorImages(images=test[0], labels=test[1], augmentation="none"),
    )


def _folders(network: Network, file: DatasetFile, root: Path) -> tuple[Images, Images]:
    shape = network.input_shape
    if shape.h != shape.w or shape.c not in (1, 3):
        raise InputError(
            f"{file.name}: images of a folder become squares of 1 or 3 channels; "
            f"{network.name} reads {shape}"
        )
    train_paths, train_labels, classes = formats.folder(root / "train")
    test_paths, test_labels, _ = formats.folder(root / "val", classes)
    size, grey = shape.h, shape.c == 1
    return (
        FolderImages(train_paths, train_labels, size, grey, augment=True),
        FolderImages(test_paths, test_labels, size, grey, augment=False),
    )


def _check(network: Network, at: str, images: Images) -> None:
    shape, classes = network.input_shape, network.file.classes
    if not len(images):
        raise InputError(f"{at}: has no images")
    if images.shape != (shape.c, shape.h, shape.w):
        got = "x".join(map(str, images.shape))
        raise InputError(f"{at}: {network.name} reads images of {shape}, got {got}")
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise InputError(
            f"{at}: labels must be 0 to {classes - 1}, the classes of {network.name}; got {wrong}"
        )
