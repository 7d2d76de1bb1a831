"""Sensitivity profiles: figures against models built from scratch, tables that are continued."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from syq_dse import catalogue, network
from syq_dse.accuracy import profiling, sensitivity
from syq_dse.accuracy.profile import Choice, Profiler, choices
from syq_dse.accuracy.profiling import Settings
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant.model import Model
from syq_dse.scheme import LayerScheme, Scheme, uniform
from syq_dse.train import checkpoint, run, start, training
from syq_dse.train.images import TensorImages
from tests.train.conftest import images

SHAPES = """
name = "shapes"
provenance = "a test"
classes = 4
input = [1, 8, 8]
recipe = { dataset = "mnist", epochs = 1 }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3, pad = 1 },
  { name = "pool1", op = "max_pool", k = 2 },
  { name = "conv2", op = "conv", c_out = 4, k = 3, pad = 1, relu = false },
  { name = "add", op = "add", inputs = ["conv2", "pool1"] },
  { name = "conv3", op = "conv", c_out = 6, k = 3, pad = 1, batch_norm = false },
  { name = "mean", op = "global_avg_pool" },
  { name = "flatten", op = "flatten" },
  { name = "fc", op = "dense", c_out = 4, batch_norm = false, relu = false },
]
"""


TERNARY_ROW = LayerScheme(weights="ternary", granularity="row")


def tensors_of(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = images(count, seed)
    return torch.from_numpy(pixels)[:, None], torch.from_numpy(labels).long()


@pytest.fixture
def shapes(tmp_path: Path) -> Network:
    (tmp_path / "shapes.toml").write_text(SHAPES)
    return network.load(str(tmp_path / "shapes.toml"))


def from_scratch(net: Network, state: dict[str, torch.Tensor], choice: Choice) -> torch.Tensor:
    """Logits of the network with one choice, without a reference and without shortcuts."""
    base = uniform(net, LayerScheme(), 8)
    layers, bits = dict(base.layers), dict(base.bits)
    if choice.scheme is not None:
        layers[choice.layer] = choice.scheme
    elif choice.tensor:
        bits[choice.tensor] = choice.bits
    model = Model(net, Scheme(layers=layers, bits=bits))
    seen = tensors_of(90, 0)
    start.start_from_float(model, state, seen[0], "calibrated")
    training.reestimate(model, TensorImages(*seen), torch.arange(90), 500)
    with torch.no_grad():
        return model(tensors_of(70, 1)[0])


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(layer="conv1", scheme=LayerScheme(weights="binary", granularity="pixel")),
        Choice(layer="conv2", scheme=replace(TERNARY_ROW, scale="shift")),
        Choice(layer="conv3", scheme=LayerScheme(weights="int3", granularity="channel")),
        Choice(layer="fc", scheme=LayerScheme(weights="binary", granularity="layer")),
        Choice(tensor="input", bits=2),
        Choice(tensor="conv1", bits=3),  # pooled, then added: it leads a group of steps
        Choice(tensor="conv2", bits=3),  # a residual branch
        Choice(tensor="add", bits=1),
        Choice(tensor="conv3", bits=2),
        Choice(tensor="mean", bits=4),
    ],
    ids=str,
)  # fmt: skip
def test_a_row_is_what_a_model_from_scratch_gives(shapes: Network, choice: Choice) -> None:
    torch.manual_seed(0)
    state = {k: v.clone() for k, v in Model(shapes).named_state().items()}
    pixels, labels = tensors_of(70, 1)
    own = Profiler(shapes, state, tensors_of(90, 0)[0], pixels, labels)
    other = Choice(layer="conv2", scheme=LayerScheme(weights="binary", granularity="layer"))
    before = own.measure([other])  # leaves nothing behind
    (row,) = own.measure([choice])
    assert own.measure([other]) == before
    logits = from_scratch(shapes, state, choice)
    plain = Model(shapes).eval()
    plain.load_named_state(state, "")
    with torch.no_grad():
        wanted = plain(pixels)
    classes = F.softmax(wanted.double(), 1)
    kl = (classes * (classes.log() - F.log_softmax(logits.double(), 1))).sum(1).mean()
    assert row.mse == pytest.approx(float((logits - wanted).square().mean()), rel=1e-3, abs=1e-6)
    assert row.kl == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
    assert row.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
    assert row.top1 == pytest.approx(float((logits.argmax(1) == labels).double().mean()), abs=0.02)


def test_every_choice_is_there_once(shapes: Network) -> None:
    found = choices(shapes)
    assert list(found) == [
        *("conv1", "conv2", "conv3", "fc"),
        *("bits.input", "bits.conv1", "bits.conv2", "bits.add", "bits.conv3", "bits.mean"),
    ]
    # 9 codebooks; layer, row, pixel, channel, of which row and pixel have two formats
    assert [len(found[name]) for name in ("conv1", "fc", "bits.add", "bits.conv2")] == [
        54,
        18,
        8,
        7,
    ]
    assert all(len(set(own)) == len(own) for own in found.values())


@pytest.fixture
def settings(tiny: Path) -> Settings:
    net = network.load(str(tiny))
    path = tiny.parent / "float.safetensors"
    torch.manual_seed(0)
    header = {"network": {"name": "tiny"}, "scheme": None}
    checkpoint.save(path, Model(net).named_state(), header)
    return Settings(network=net, dataset=str(tiny.parent / "quarters.toml"), start=path, images=30)


def test_a_table_is_continued(settings: Settings, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.csv", tmp_path / "new" / "broken.csv"
    table = profiling.profile(settings, whole)
    assert len(table) == 2 + sum(map(len, choices(settings.network).values()))
    assert table["item"].iloc[:2].tolist() == ["float", "reference"]

    class Break(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done > 40:
            raise Break

    with pytest.raises(Break):
        profiling.profile(settings, broken, progress=stop)
    kept = sensitivity.read(broken)
    assert 40 < len(kept) < len(table)
    kept.loc[5, "top1"] = 0.125  # is not measured again
    kept.to_csv(broken, index=False)
    again = profiling.profile(settings, broken, jobs=2)
    assert again.loc[5, "top1"] == 0.125
    again.loc[5, "top1"] = table.loc[5, "top1"]
    assert again.equals(table)


def test_tables_and_settings_that_do_not_fit(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("item,bits\nconv1,3\n")
    with pytest.raises(InputError, match="is no profile"):
        profiling.profile(settings, path)
    with pytest.raises(InputError, match="images must be at most 40"):
        profiling.profile(replace(settings, images=41), tmp_path / "new.csv")
    with pytest.raises(InputError, match="images must be at most 40"):
        profiling.profile(replace(settings, images=41), tmp_path / "new.csv", jobs=2)
    assert not (tmp_path / "new.csv").exists()
    with pytest.raises(InputError, match="cannot be read"):
        profiling.profile(replace(settings, start=tmp_path / "none"), tmp_path / "new.csv")
    with pytest.raises(InputError, match="cannot be made"):
        profiling.profile(settings, settings.start / "new.csv")
    profiling.profile(settings, tmp_path / "table2.csv")
    with pytest.raises(InputError, match="was measured with seed 0, now 1; give another -o"):
        profiling.profile(replace(settings, seed=1), tmp_path / "table2.csv")


@pytest.mark.parametrize("name", ["fmnist-vgg", "lenet5"])
def test_shipped_profiles_are_of_the_shipped_networks(name: str) -> None:
    """All choices, of the float network that is beside them."""
    net = network.load(name)
    path = catalogue.folder("models") / "profiles" / f"{name}-fashion-mnist.csv"
    table = sensitivity.read(path)
    assert len(table) == 2 + sum(map(len, choices(net).values()))
    shipped = run.float_checkpoint(net, "fashion-mnist").read_bytes()
    assert set(table["float_sha256"]) == {hashlib.sha256(shipped).hexdigest()}
    assert set(table["images"]) == {2000}
