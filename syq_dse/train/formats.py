"""Readers of image files: MNIST's idx, the binary version of CIFAR-10, folders of pictures."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from syq_dse.errors import InputError

Bytes = npt.NDArray[np.uint8]

Part = tuple[Tensor, Tensor]
"""Images (n, channels, rows, columns), uint8, and labels (n,), int64."""

IMAGES, LABELS = 0x803, 0x801
"""The first four bytes of idx files of unsigned bytes: three dimensions, and one."""

CIFAR_RECORD = 1 + 3 * 32 * 32
PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


def idx(images_at: str, images: bytes, labels_at: str, labels: bytes) -> Part:
    """One part of a data set in MNIST's format.

    Source: LeCun, Cortes, Burges, THE MNIST DATABASE, "file formats".

    Raises:
        InputError: the header or the length is wrong, or images and labels differ in number.
    """
    sizes, pixels = _idx(images_at, images, IMAGES, 3)
    (count,), classes = _idx(labels_at, labels, LABELS, 1)
    if sizes[0] != count:
        raise InputError(f"{labels_at}: must have a label for each of {sizes[0]} images, {count}")
    return (
        torch.from_numpy(pixels.reshape(sizes[0], 1, *sizes[1:]).copy()),
        torch.from_numpy(classes.astype(np.int64)),
    )


def _idx(at: str, content: bytes, magic: int, dimensions: int) -> tuple[list[int], Bytes]:
    start = 4 + 4 * dimensions
    header = np.frombuffer(content[:start], ">u4") if len(content) >= start else [0]
    if int(header[0]) != magic:
        raise InputError(f"{at}: must begin with {magic:#010x}, as idx files of bytes do")
    sizes = [int(size) for size in header[1:]]
    wanted = start + int(np.prod(sizes, dtype=object))
    if len(content) != wanted:
        raise InputError(f"{at}: must have {wanted} bytes by its header, got {len(content)}")
    return sizes, np.frombuffer(content, np.uint8, offset=start)


def cifar10(at: str, archive: bytes) -> tuple[Part, Part]:
    """Both parts in the archive of the binary version.

    Raises:
        InputError: the archive is broken, or a file is missing or cut.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
            batches = [_cifar_batch(at, found, f"cifar-10-batches-bin/{name}") for name in names]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{at}: is a broken archive: {error}") from None
    train, test = np.concatenate(batches[:5]), batches[5]
    return _cifar_part(train), _cifar_part(test)


def _cifar_batch(at: str, archive: tarfile.TarFile, name: str) -> Bytes:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise InputError(f"{at}: has no file {name}")
    content = np.frombuffer(stream.read(), np.uint8)
    if not len(content) or len(content) % CIFAR_RECORD:
        raise InputError(f"{at}: {name}: must be records of {CIFAR_RECORD} bytes, {len(content)}")
    return content.reshape(-1, CIFAR_RECORD)


def _cifar_part(records: Bytes) -> Part:
    images = records[:, 1:].reshape(-1, 3, 32, 32).copy()
    return torch.from_numpy(images), torch.from_numpy(records[:, 0].astype(np.int64))


def folder(root: Path, classes: list[str] | None = None) -> tuple[list[Path], Tensor, list[str]]:
    """The pictures of a folder that has one folder a class, with their labels and the classes.

    Args:
        classes: names in the order of their labels; without, those there are, sorted.

    Raises:
        InputError: no such folder, no pictures, or a class that is not among `classes`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; one with a folder a class must be there")
    found = sorted(path.name for path in root.iterdir() if path.is_dir())
    names = found if classes is None else classes
    for name in found:
        if name not in names:
            raise InputError(f"{root / name}: is no class of the training part")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        own = sorted(p for p in (root / name).glob("*") if p.suffix.lower() in PICTURES)
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise InputError(f"{root}: has no pictures in folders of classes")
    return paths, torch.tensor(labels, dtype=torch.int64), names
