"""Data sets: what is read, split and augmented, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from syq_dse import network
from syq_dse.errors import InputError
from syq_dse.train import dataset
from syq_dse.train.images import FolderImages, TensorImages, augment, split
from tests.train.conftest import CLASSES, DATASET, NETWORK, idx, images, write_data


def test_idx_files_are_read(tiny: Path, tmp_path: Path) -> None:
    found = dataset.load(network.load(str(tiny)))
    pixels, labels = images(400, 0)
    assert found.train.shape == (1, 8, 8) and len(found.train) == 400 and len(found.test) == 100
    numbers = torch.tensor([3, 0, 399])
    batch = found.train.batch(numbers, None).numpy()
    np.testing.assert_array_equal(batch[:, 0], pixels[[3, 0, 399]])
    np.testing.assert_array_equal(found.train.labels.numpy(), labels)


def test_packed_files_and_a_folder_given(tiny: Path, tmp_path: Path) -> None:
    write_data(tmp_path / "packed", packed=True)
    net = network.load(str(tiny))
    a, b = dataset.load(net), dataset.load(net, data=tmp_path / "packed")
    every = torch.arange(400)
    assert torch.equal(a.train.batch(every, None), b.train.batch(every, None))


def checked(tmp_path: Path, content: bytes) -> Path:
    """A network whose data set knows its first file."""
    own = hashlib.sha256(content).hexdigest()
    file = tmp_path / "checked.toml"
    file.write_text(
        DATASET.format(folder=tmp_path / "data")
        + f'[files]\ntrain-images-idx3-ubyte = {{ bytes = {len(content)}, sha256 = "{own}" }}\n'
    )
    net = tmp_path / "net.toml"
    net.write_text(NETWORK.format(dataset=file))
    return net


def test_files_are_held_against_size_and_hash(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "train-images-idx3-ubyte"
    content = path.read_bytes()
    net = network.load(str(checked(tmp_path, content)))
    dataset.load(net)
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"must have {len(content)} bytes to be quarters's, got"):
        dataset.load(net)
    path.write_bytes(bytes([content[0], *content[1:-1], content[-1] ^ 1]))
    with pytest.raises(InputError, match="is not the file of quarters: SHA-256 must be"):
        dataset.load(net)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", "must begin with 0x00000803"),
        ("train-images-idx3-ubyte", idx(np.zeros((3, 8, 8), np.uint8))[:-5], "by its header"),
        ("train-labels-idx1-ubyte", idx(np.zeros(3, np.uint8)), "a label for each of 400 images"),
        ("train-labels-idx1-ubyte", idx(np.full(400, 9, np.uint8)), "labels must be 0 to 3"),
        ("train-labels-idx1-ubyte", idx(np.zeros((400, 1), np.uint8)), "begin with 0x00000801"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((100, 9, 8), np.uint8)), "reads images of 1x8x8"),
    ],
)
def test_files_that_do_not_fit(tiny: Path, name: str, content: bytes, message: str) -> None:
    (tiny.parent / "data" / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        dataset.load(network.load(str(tiny)))


def test_missing_and_cut_files(tiny: Path, tmp_path: Path) -> None:
    net = network.load(str(tiny))
    path = tmp_path / "data" / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match=r"quarters: 't10k-labels-idx1-ubyte' is not in .*give"):
        dataset.load(net)
    packed = gzip.compress(whole)
    path.with_name(f"{path.name}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="is cut or broken"):
        dataset.load(net)
    path.with_name(f"{path.name}.gz").write_bytes(b"no gzip at all")
    with pytest.raises(InputError, match=r"cannot be read: is no whole \.gz file"):
        dataset.load(net)


def test_a_download_is_checked_and_kept(tiny: Path, tmp_path: Path) -> None:
    away, cache = tmp_path / "away", tmp_path / "cache"
    write_data(away, packed=True)
    file = tmp_path / "far.toml"
    file.write_text(
        f'name = "far"\nprovenance = "a test"\nformat = "idx"\nurl = "{away.as_uri()}"\n'
    )
    net = network.load(str(tiny))
    found = dataset.load(net, str(file), cache=cache)
    assert len(found.train) == 400
    for path in away.iterdir():
        path.unlink()
    assert len(dataset.load(net, str(file), cache=cache).train) == 400
    with pytest.raises(InputError, match=r"far: file:.*cannot be had: .*; give --data FOLDER"):
        dataset.load(net, str(file), cache=tmp_path / "empty")


def cifar(broken: str = "") -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
        for name in names:
            if name == broken:
                continue
            records = rng.integers(0, 256, (7, 3073), dtype=np.uint8)
            records[:, 0] %= 10
            content = records.tobytes()[: -1 if broken == f"cut {name}" else None]
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_cifar(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('name = "own"\nprovenance = "a test"\nformat = "cifar10"\n')
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(cifar())
    found = dataset.load(network.load("resnet8"), str(file), tmp_path)
    assert len(found.train) == 35 and len(found.test) == 7 and found.train.shape == (3, 32, 32)
    first = np.random.default_rng(0).integers(0, 256, (7, 3073), dtype=np.uint8)[0]
    assert int(found.train.labels[0]) == first[0] % 10
    got = found.train.batch(torch.tensor([0]), None).numpy().reshape(-1)
    np.testing.assert_array_equal(got, first[1:])
    for broken, message in (
        ("test_batch", "has no file cifar-10-batches-bin/test_batch.bin"),
        ("cut data_batch_2", "must be records of 3073 bytes"),
    ):
        path.write_bytes(cifar(broken))
        with pytest.raises(InputError, match=message):
            dataset.load(network.load("resnet8"), str(file), tmp_path)
    path.write_bytes(cifar()[:400])
    with pytest.raises(InputError, match="is a broken archive"):
        dataset.load(network.load("resnet8"), str(file), tmp_path)


def pictures(root: Path) -> None:
    for part, count in (("train", 5), ("val", 2)):
        for index, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for n in range(count):
                size = (40 + 7 * n, 60 - 5 * n)
                Image.new("RGB", size, (100 * index, 50, 200)).save(root / part / name / f"{n}.png")


def test_folders_of_pictures(tmp_path: Path) -> None:
    pictures(tmp_path)
    net = network.load("resnet8")
    found = dataset.load(net, "imagenet", tmp_path)
    assert found.train.labels.tolist() == [0] * 5 + [1] * 5
    numbers = torch.tensor([0, 7])
    plain = found.test.batch(torch.tensor([0, 3]), None)
    assert plain.shape == (2, 3, 32, 32) and plain.dtype == torch.uint8
    assert plain[0, :, 0, 0].tolist() == [0, 50, 200] and plain[1, 0].min() == 100
    a, b, c = (
        found.train.batch(numbers, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b) and a.shape == c.shape
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png: is no whole picture"):
        found.train.batch(torch.tensor([0]), None)
    (tmp_path / "val" / "cow").mkdir()
    with pytest.raises(InputError, match="cow: is no class of the training part"):
        dataset.load(net, "imagenet", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        dataset.load(net, "imagenet", tmp_path / "none")
    with pytest.raises(InputError, match="imagenet: lies in no known folder; give it with"):
        dataset.load(net, "imagenet")


def test_pictures_move_as_the_authors_moved_them(tmp_path: Path) -> None:
    """A wide ramp: the crop shows at most its stretched height, never less than 224 of 308."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (128, 1))
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(path)
    found = FolderImages([path], torch.tensor([0]), 112, grey=True, augment=True)
    flipped = spans = 0
    widths = []
    for seed in range(60):
        image = found.batch(torch.tensor([0]), torch.Generator().manual_seed(seed))[0, 0]
        left, right = int(image[56, 0]), int(image[56, -1])
        flipped += left > right
        spans += min(left, right) > 20
        widths.append(abs(right - left))
    # 112 pixels out of 128 * s rows with s * 1 to 308/224, the sides stretched by 0.85 to 1.15
    assert min(widths) >= 112 / (308 / 224 * 1.15 * 112 / 128) - 12
    assert max(widths) <= 112 / (0.85 * 112 / 128) + 3
    assert 15 < flipped < 45 and 10 < spans < 60


def test_split_keeps_the_share_of_each_class() -> None:
    _, labels = images(400, 0)
    whole = TensorImages(
        torch.arange(400)[:, None, None, None].to(torch.int16), torch.tensor(labels)
    )
    for seed in (0, 1):
        first, second = split(whole, 0.1, seed)
        assert len(first) + len(second) == 400
        for label in range(CLASSES):
            own = int((whole.labels == label).sum())
            assert int((second.labels == label).sum()) == round(0.1 * own)
        numbers = [
            set(p.batch(torch.arange(len(p)), None).flatten().tolist()) for p in (first, second)
        ]
        assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 400
    again = split(whole, 0.1, 1)[1]
    assert torch.equal(again.labels, second.labels)


def test_augmentation_shifts_and_flips() -> None:
    pixels = torch.randint(1, 256, (200, 2, 16, 24), dtype=torch.uint8)
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(augment(pixels, "none", rng), pixels)
    turned = augment(pixels, "flip", rng)
    same = (turned == pixels).flatten(1).all(1)
    mirrored = (turned == pixels.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and 60 < int(same.sum()) < 140
    moved = augment(pixels, "shift", rng)
    seen = set()
    for before, after in zip(pixels, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(padded[:, y : y + 16, x : x + 24], after)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_shipped_data_sets_are_found_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'minst'.*did you mean 'mnist'"):
        dataset.load(network.load("lenet5"), "minst")
