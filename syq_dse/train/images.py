"""Images by their numbers, augmented on the way: in memory, or decoded from files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from syq_dse.errors import InputError

Augmentation = Literal["none", "flip", "shift", "shift-flip"]


class Images(Protocol):
    """Images of one shape, with labels."""

    @property
    def labels(self) -> Tensor:
        """(n,), int64"""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        ...

    def __len__(self) -> int: ...

    def batch(self, numbers: Tensor, rng: torch.Generator | None) -> Tensor:
        """Images (len(numbers), channels, rows, columns), uint8; with a generator, augmented."""
        ...

    def part(self, numbers: Tensor) -> Images:
        """Some of them."""
        ...

    def digest(self) -> bytes:
        """Tells other images and labels apart; pictures in files by their names."""
        ...


@dataclass(frozen=True, eq=False)
class TensorImages:
    """Images in memory, (n, channels, rows, columns), uint8."""

    images: Tensor
    labels: Tensor
    augmentation: Augmentation = "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        _, c, h, w = self.images.shape
        return c, h, w

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, numbers: Tensor, rng: torch.Generator | None) -> Tensor:
        chosen = self.images[numbers]
        return chosen if rng is None else augment(chosen, self.augmentation, rng)

    def on(self, device: torch.device) -> TensorImages:
        """The same in a device's memory, which then augments them too."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def part(self, numbers: Tensor) -> TensorImages:
        return replace(self, images=self.images[numbers], labels=self.labels[numbers])

    def digest(self) -> bytes:
        found = hashlib.sha256(repr((tuple(self.images.shape), self.augmentation)).encode())
        found.update(self.images.contiguous().numpy().data)
        found.update(self.labels.contiguous().numpy().data)
        return found.digest()


def augment(images: Tensor, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Each image shifted by up to an eighth of its side, zeros coming in, and flipped or not."""
    n, channels, h, w = images.shape
    if "shift" in how:
        most = max(1, min(h, w) // 8)
        padded = F.pad(images, (most,) * 4)
        top, left = torch.randint(0, 2 * most + 1, (2, n, 1), generator=rng)
        rows, columns = top + torch.arange(h), left + torch.arange(w)
        places = (
            torch.arange(n)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        )
        images = padded[tuple(place.to(images.device) for place in places)]
    if "flip" in how:
        turned = (torch.rand(n, generator=rng) < 0.5).to(images.device)
        images = torch.where(turned[:, None, None, None], images.flip(3), images)
    return images


LEAST_SIDE, LARGEST_SIDE = 1.0, 308 / 224
"""Range of the shorter side before the crop, in parts of the crop: 224 to 308 of 224 pixels."""

STRETCH = 0.15
"""Each side is stretched by up to so much by itself."""

TEST_SIDE = 256 / 224
"""Shorter side of a picture before the crop of its middle."""


class FolderImages:
    """Pictures in files, decoded when they are wanted.

    Augmented as in the program that SYQ's authors released (examples/SYQ-AlexNet/syq-alexnet.py):
    the shorter side is drawn from 224 to 308 pixels, both sides are stretched by 0.85 to 1.15, a
    square of 224 is cut out anywhere, and flipped or not. Without augmentation the shorter side
    becomes 256 and the middle is cut out. Other sizes in proportion; pictures grow where they are
    smaller than the crop. Unlike there no mean is taken off: batch-norm does that.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Tensor, size: int, grey: bool, *, augment: bool
    ) -> None:
        self.paths, self.size, self.grey, self.augment = list(paths), size, grey, augment
        self._labels = labels

    @property
    def labels(self) -> Tensor:
        return self._labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1 if self.grey else 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def batch(self, numbers: Tensor, rng: torch.Generator | None) -> Tensor:
        drawn = torch.full((len(numbers), 6), 0.5)
        if rng is not None and self.augment:
            drawn = torch.rand((len(numbers), 6), generator=rng)
        moved = rng is not None and self.augment
        jobs = zip(numbers.tolist(), drawn.tolist(), strict=True)
        decoded = list(self._pool.map(lambda job: self._decode(job[0], job[1], moved), jobs))
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)

    def part(self, numbers: Tensor) -> FolderImages:
        paths = [self.paths[n] for n in numbers.tolist()]
        return FolderImages(paths, self.labels[numbers], self.size, self.grey, augment=self.augment)

    def digest(self) -> bytes:
        found = hashlib.sha256(repr((self.shape, self.augment)).encode())
        for path in self.paths:
            found.update("/".join(path.parts[-3:]).encode() + b"\n")
        found.update(self.labels.contiguous().numpy().data)
        return found.digest()

    def _decode(self, number: int, drawn: list[float], moved: bool) -> npt.NDArray[np.uint8]:
        from PIL import Image

        path, crop = self.paths[number], self.size
        try:
            with Image.open(path) as picture:
                image = picture.convert("L" if self.grey else "RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: is no whole picture: {error}") from None
        share, across, down, left, top, flip = drawn
        side = crop * (LEAST_SIDE + share * (LARGEST_SIDE - LEAST_SIDE) if moved else TEST_SIDE)
        scale = side / min(image.size)
        stretch = [1 + STRETCH * (2 * part - 1) if moved else 1.0 for part in (across, down)]
        w, h = (max(crop, round(s * scale * by)) for s, by in zip(image.size, stretch, strict=True))
        image = image.resize((w, h), Image.Resampling.BICUBIC)
        x, y = round(left * (w - crop)), round(top * (h - crop))
        pixels = np.asarray(image.crop((x, y, x + crop, y + crop)), np.uint8)
        pixels = pixels.reshape(crop, crop, -1)
        return pixels[:, ::-1].copy() if moved and flip < 0.5 else pixels


def split(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """Two parts drawn by the seed, the second with so large a share of each class."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=rng)
    labels = images.labels[order]
    held = torch.zeros(len(images), dtype=torch.bool)
    for label in torch.unique(labels):
        own = torch.nonzero(labels == label).flatten()
        held[own[: round(share * len(own))]] = True
    first, second = order[~held].sort().values, order[held].sort().values
    return images.part(first), images.part(second)
