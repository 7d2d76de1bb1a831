"""A small data set and network of our own: 8x8 images of four classes, a bright quarter each."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

CLASSES = 4


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.uint8)
    pixels = rng.integers(0, 120, (count, 8, 8)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 90
    return pixels, labels


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


def write_data(folder: Path, *, packed: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    for part, count, seed in (("train", 400, 0), ("t10k", 100, 1)):
        pixels, labels = images(count, seed)
        for name, content in (("images-idx3", idx(pixels)), ("labels-idx1", idx(labels))):
            path = folder / f"{part}-{name}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


DATASET = """
name = "quarters"
provenance = "a test"
format = "idx"
folders = ["{folder}"]
"""

NETWORK = """
name = "tiny"
provenance = "a test"
classes = 4
input = [1, 8, 8]
recipe = {{ dataset = "{dataset}", epochs = 2 }}
layers = [
  {{ name = "conv1", op = "conv", c_out = 4, k = 3, pad = 1 }},
  {{ name = "conv2", op = "conv", c_out = 4, k = 3, pad = 1, relu = false }},
  {{ name = "add", op = "add", inputs = ["conv2", "conv1"] }},
  {{ name = "pool", op = "max_pool", k = 2 }},
  {{ name = "flatten", op = "flatten" }},
  {{ name = "fc", op = "dense", c_out = 4, batch_norm = false, relu = false }},
]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The network's file, beside its data set."""
    write_data(tmp_path / "data")
    dataset = tmp_path / "quarters.toml"
    dataset.write_text(DATASET.format(folder=tmp_path / "data"))
    network = tmp_path / "tiny.toml"
    network.write_text(NETWORK.format(dataset=dataset))
    return network
