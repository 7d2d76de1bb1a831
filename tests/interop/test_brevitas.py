"""The written module of Brevitas layers against the trained model, code by code."""

from __future__ import annotations

import ast
import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from syq_dse import network as networks
from syq_dse.errors import InputError
from syq_dse.interop import brevitas
from syq_dse.interop.trained import Trained
from syq_dse.network import Conv, Dense, Flatten, Network
from syq_dse.quant import weights
from syq_dse.scheme import (
    GRANULARITIES,
    SCALES,
    WEIGHTS,
    LayerScheme,
    Scheme,
    normal,
    uniform,
    weight_bits,
)

from .workbench import (
    ENDS_IN_A_POOL,
    EVERY_OP,
    ONE_LAYER,
    SMALL,
    build,
    images_for,
    random_scheme,
    trained,
)

pytest.importorskip("brevitas")

# Steps and batch-norm are applied one by one, which the model has in one factor: that is worth some
# units in the last of 64 bits, while a code that differs is worth 1e-3 and more.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Written:
    module: Any
    files: list[Path]


def written(own: Trained, out: Path, name: str = "net") -> Written:
    files = brevitas.write(own, name, out)
    spec = importlib.util.spec_from_file_location(files[0].stem, files[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Written(module, files)


@torch.no_grad()
def compare(own: Trained, network: Any, seed: int, *, varied: bool = True) -> float:
    """The largest difference of logits; every code of every tensor must be the same.

    Args:
        varied: whether logits must differ from image to image, since else they say little.
    """
    model, images = own.model(), images_for(own.network, seed)
    codes: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Any) -> None:
            if hasattr(output, "scale"):
                codes[name.removesuffix("_act")] = output.value / output.scale

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in network.named_children()]
    logits = network(images.double())
    for handle in handles:
        handle.remove()
    found = model.run(images, keep=True)
    wanted = {
        brevitas.identifier({"input": "pixels"}.get(name, name), "layer"): value
        for name, value in found.items()
        if model.written[name].name in model.bits
    }
    assert wanted.keys() == codes.keys()
    for name, value in wanted.items():
        got = codes[name]
        assert torch.equal(got.round(), value) and (got - got.round()).abs().max() < 1e-9, name
    expected = model.logits_of(found)
    assert torch.equal(expected, model(images))
    assert logits.shape == expected.shape
    assert not varied or bool((expected != expected[:1]).any())
    return float((logits - expected).abs().max())


# The same network


def every_op(folder: Path) -> Network:
    path = folder / "every-op.toml"
    path.write_text(EVERY_OP)
    return networks.load(str(path))


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_every_op_gives_the_models_codes_and_logits(seed: int, least: int, tmp_path: Path) -> None:
    """With least 1, tensors may have one bit; logits that then say little still have codes."""
    network = every_op(tmp_path)
    own = trained(network, random_scheme(network, seed, least), seed)
    assert any(bool((v < 0).any()) for name, v in own.state.items() if name.endswith("/gain"))
    made = written(own, tmp_path / "out").module.load(dtype=torch.float64)
    assert compare(own, made, seed, varied=least > 1) < TOLERANCE


@pytest.mark.parametrize("text", ["ternary", "binary", "int4"])
@pytest.mark.parametrize("name", ["lenet5", "resnet8"])
def test_shipped_networks_give_the_models_codes_and_logits(
    name: str, text: str, tmp_path: Path
) -> None:
    network = networks.load(name)
    layer = LayerScheme(weights=text, granularity="pixel" if text == "ternary" else "row")
    own = trained(network, uniform(network, layer, 3), 1)
    made = written(own, tmp_path)
    assert compare(own, made.module.load(dtype=torch.float64), 1) < TOLERANCE


@pytest.mark.parametrize("which", SMALL)
def test_every_kind_of_end_gives_the_models_logits(which: str, tmp_path: Path) -> None:
    network = SMALL[which]
    for seed in range(4):
        own = trained(network, random_scheme(network, seed), seed)
        made = written(own, tmp_path)
        assert compare(own, made.module.load(dtype=torch.float64), seed) < TOLERANCE


@pytest.mark.parametrize("kind", WEIGHTS)
@torch.no_grad()
def test_brevitas_tells_the_precision_and_the_codes_of_weights(kind: Any, tmp_path: Path) -> None:
    network = build(
        (
            Conv(name="conv1", c_out=5, k=3, pad=1),
            Conv(name="conv2", c_out=6, k=3),
            Flatten(name="flat"),
            Dense(name="fc", c_out=4, batch_norm=False, relu=False),
        ),
        (2, 5, 5),
        4,
    )
    for granularity, form in itertools.product(GRANULARITIES, SCALES):
        layer = LayerScheme(weights=kind, granularity=granularity, scale=form)
        scheme = Scheme(
            layers={node.name: normal(node, layer) for node in network.engines},
            bits={"input": 8, "conv1": 3, "conv2": 5},
        )
        own = trained(network, scheme, 3)
        made = written(own, tmp_path).module.load(dtype=torch.float64)
        assert compare(own, made, 3) < TOLERANCE
        for name, ours in own.model().weighted.items():
            quantised = getattr(made, name).quant_weight()
            scale = ours.stored_scale()
            assert int(quantised.bit_width) == weight_bits(kind)
            assert quantised.signed and quantised.scale.shape == scale.shape
            assert torch.equal(quantised.scale, scale)
            codes = weights.codes(ours.weight, scale, kind)
            assert torch.equal(quantised.int().double(), codes)
            assert torch.equal(quantised.value, ours.effective())
        assert int(made.conv1_act.act_quant.bit_width()) == 3
        assert int(made.conv2_act.act_quant.bit_width()) == 5
        assert int(made.pixels.act_quant.bit_width()) == 8


@torch.no_grad()
def test_steps_of_integers_stay_positive(tmp_path: Path) -> None:
    layer = LayerScheme(weights="int4", granularity="channel")
    own = trained(ONE_LAYER, Scheme(layers={"conv1": layer}, bits={"input": 8}), 2)
    own.state["conv1/scale"][:3, 0, 0, 0] = torch.tensor([-1.0, 0.0, 1e-12])
    quantised = written(own, tmp_path).module.load(dtype=torch.float64).conv1.quant_weight()
    assert torch.equal(quantised.value, own.model().weighted["conv1"].effective())
    assert quantised.scale.flatten()[:3].tolist() == [1e-8] * 3


def test_in_32_bits_the_network_is_nearly_the_same(tmp_path: Path) -> None:
    """A code may fall the other way where a number lies within rounding of the step's edge."""
    network = networks.load("lenet5")
    own = trained(network, uniform(network, LayerScheme(weights="int4"), 4), 5)
    made = written(own, tmp_path).module.load()
    assert {value.dtype for value in made.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }
    images = images_for(network, 5, 20)
    with torch.no_grad():
        got, wanted = made(images.float()), own.model()(images)
    assert (got.argmax(1) == wanted.argmax(1)).float().mean() > 0.9


# Training


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", ["binary", "ternary", "int2", "int5"])
def test_gradients_are_those_of_the_model(kind: Any, granularity: Any, tmp_path: Path) -> None:
    """Of integers that are not clipped, or clipped by more than half a code: between Brevitas' and
    LSQ's gradients differ.
    """
    layer = LayerScheme(weights=kind, granularity=granularity)
    scheme = Scheme(layers={"conv1": layer}, bits={"input": 8})
    own = trained(ONE_LAYER, scheme, 7)
    if weights.has_step(kind):
        scale, weight = own.state["conv1/scale"], own.state["conv1/weight"]
        scale.fill_(0.25)
        places = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
        weight.copy_(places * weights.weight_max(kind) * 0.25)
        weight[0] *= 4
        weight[0][weight[0].abs().sub(weights.weight_max(kind) * 0.25).abs() < 0.125] = 0
    model, images = own.model(), images_for(ONE_LAYER, 7)
    made = written(own, tmp_path).module.load(dtype=torch.float64)
    into = torch.randn(len(images), 6, dtype=torch.float64)
    (model(images) * into).sum().backward()
    (made(images.double()) * into).sum().backward()
    ours, theirs = model.weighted["conv1"], made.conv1
    scale = theirs.weight_quant.tensor_quant.scaling_impl.value
    assert ours.scale is not None and ours.scale.grad is not None
    torch.testing.assert_close(theirs.weight.grad, ours.weight.grad)
    torch.testing.assert_close(scale.grad, ours.scale.grad)
    torch.testing.assert_close(theirs.bias.grad, ours.bias.grad)


def test_training_goes_on_in_brevitas(tmp_path: Path) -> None:
    network = every_op(tmp_path)
    own = trained(network, random_scheme(network, 3), 3)
    made = written(own, tmp_path).module.load().train()
    images, labels = images_for(network, 3, 32).float(), torch.arange(32) % 5
    learned = {name: value for name, value in made.named_parameters() if value.requires_grad}
    scales = [name for name in learned if name.endswith("scaling_impl.value")]
    assert len(scales) == len(network.engines)
    optimiser = torch.optim.Adam(learned.values(), 3e-3)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(made(images), labels)
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    for name, value in learned.items():
        assert value.grad is not None and bool(value.grad.abs().sum() > 0), name
    assert losses[-1] < 0.9 * losses[0]
    again = written(own, tmp_path).module.build()
    again.load_state_dict(made.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images), made.eval()(images))


def test_a_network_with_random_weights_starts_with_scales_of_its_weights(tmp_path: Path) -> None:
    own = trained(
        ONE_LAYER, Scheme(layers={"conv1": LayerScheme(weights="binary")}, bits={"input": 8}), 0
    )
    made = written(own, tmp_path).module.build()
    scale = made.conv1.weight_quant.tensor_quant.scaling_impl.value
    torch.testing.assert_close(scale.flatten()[0], made.conv1.weight.abs().mean())


# The files


HOSTILE = [
    '"""',
    "'''; import os; os.remove('x') #",
    '"); raise SystemExit("taken over") #',
    "\\",
    "\\N{BULLET}{0}{name}%s",
    "../../../tmp/x",
    "größe 模型",
    "class",
    "forward",
    "training",
    "self",
    "F",
    "images",
    "pixels",
    "__init__",
    "a",
    "a_norm",
    "a.norm",
    "9",
    "-",
]


def test_no_name_of_a_layer_does_harm(tmp_path: Path) -> None:
    layers = tuple(Conv(name=name, c_out=2, k=1) for name in HOSTILE)
    network = build((*layers, Conv(name="end", c_out=2, k=2, relu=False)), (1, 2, 2), 2)
    scheme = uniform(network, LayerScheme(weights="int8"), 8)
    own = trained(network, scheme, 11)
    name = "größe \"'\\ {x} \N{BULLET} '''"
    made = written(own, tmp_path / "out", name)
    model, images = own.model(), images_for(network, 0)
    with torch.no_grad():
        difference = made.module.load(dtype=torch.float64)(images.double()) - model(images)
    assert difference.abs().max() < TOLERANCE
    assert name == made.module.NAME
    tree = ast.parse(made.files[0].read_text("utf-8"))
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert not [text for text in strings if isinstance(text, str) and "taken over" in text]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "out", *sorted(made.files)]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("lenet5-zcu102-0123", "lenet5_zcu102_0123"),
        ("my net", "my_net"),
        ("3d", "network_3d"),
        ("模型", "network"),
        ("class", "network_class"),
        ("x" * 500, "x" * 100),
    ],
)
def test_files_are_named_by_an_identifier(name: str, stem: str, tmp_path: Path) -> None:
    own = trained(ENDS_IN_A_POOL, random_scheme(ENDS_IN_A_POOL, 0), 0)
    brevitas.write(own, name, tmp_path / "a" / "b")
    files = brevitas.write(own, name, tmp_path / "a" / "b")  # over those of before
    ends = ("py", "safetensors")
    assert files == [tmp_path / "a" / "b" / f"{stem}_brevitas.{end}" for end in ends]
    assert sorted(files) == sorted((tmp_path / "a" / "b").iterdir())


def test_the_module_stands_alone(tmp_path: Path) -> None:
    own = trained(ENDS_IN_A_POOL, random_scheme(ENDS_IN_A_POOL, 0), 0)
    text = brevitas.write(own, "net", tmp_path)[0].read_text("utf-8")
    found = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    standard = {"__future__", "math", "pathlib", "typing"}
    assert found - standard == {"torch", "brevitas", "safetensors"}


def test_nothing_is_written_of_a_step_that_is_not_positive(tmp_path: Path) -> None:
    own = trained(ENDS_IN_A_POOL, random_scheme(ENDS_IN_A_POOL, 0), 0)
    own.state["conv1/range"].fill_(-1)
    rule = (
        r"^training: conv1: the step of a code must be positive, got -\d\.\d+; remedy: train again$"
    )
    with pytest.raises(InputError, match=rule):
        brevitas.write(own, "net", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    own = trained(ENDS_IN_A_POOL, random_scheme(ENDS_IN_A_POOL, 0), 0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out: cannot be made: Not a directory$"):
        brevitas.write(own, "net", tmp_path / "file" / "out")
