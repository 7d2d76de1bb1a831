"""Networks from ONNX and PyTorch: the records, the weights, and what is refused."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from syq_dse import network, scheme
from syq_dse.errors import InputError
from syq_dse.interop import files, read_torch
from syq_dse.network import Conv, Dense, Recipe
from syq_dse.quant.model import Model
from syq_dse.train.run import load_float


class Block(nn.Module):
    """A residual block, as torchvision has it."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out, eps=1e-3)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += self.downsample(x)
        return F.relu(out)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = Block(8, 8)
        self.layer2 = Block(8, 16, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(self.pool(x).flatten(1))


class Plain(nn.Module):
    """Pools before ReLU, groups, biases, a reshape by the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2),
            nn.ReLU6(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, groups=8, padding=1),
            nn.BatchNorm2d(8),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Dropout(0.5),
        )
        self.hidden = nn.Linear(8 * 16, 12)
        self.norm = nn.BatchNorm1d(12)
        self.out = nn.Linear(12, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = x.view(x.size(0), -1)
        return self.out(F.relu(self.norm(self.hidden(x))))


def made(kind: type[nn.Module]) -> nn.Module:
    """A module with weights and statistics as after training, in evaluation mode."""
    torch.manual_seed(0)
    module = kind()
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert layer.running_mean is not None and layer.running_var is not None
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def exported(module: nn.Module, path: Path, fold: bool = False, **more: Any) -> Path:
    """As torch.onnx writes it, batch-norm left as it is."""
    kept = {} if fold else {"training": torch.onnx.TrainingMode.PRESERVE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False,
            do_constant_folding=fold, **kept, **more,
        )  # fmt: skip
    return path


def recipe(shape: network.Shape, classes: int) -> Recipe:
    return Recipe(dataset="own")


def from_torch(module: nn.Module) -> files.Imported:
    return read_torch.read(module, (1, 3, 16, 16), "here", "net", "here", recipe)


def logits(found: files.Imported, tmp_path: Path, images: torch.Tensor) -> torch.Tensor:
    """What the imported network says, its weights read from their file."""
    files.write(found, tmp_path / "net.toml")
    net = network.load(str(tmp_path / "net.toml"))
    state = load_float(tmp_path / "net.safetensors", net)
    model = Model(net).eval()
    model.load_named_state(state, "net")
    with torch.no_grad():
        return model(images)


KINDS = pytest.mark.parametrize("kind", [Residual, Plain])


@KINDS
def test_torch_and_onnx_are_one_record_and_compute_the_same(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    module = made(kind)
    first = from_torch(module)
    second = files.read(str(exported(module, tmp_path / "net.onnx")))
    assert first.file.layers == second.file.layers
    assert first.scheme is None and second.scheme is None
    images = torch.randint(0, 256, (4, 3, 16, 16))
    with torch.no_grad():
        wanted = module(images / 255)
    for found in (first, second):
        torch.testing.assert_close(logits(found, tmp_path, images), wanted, atol=1e-5, rtol=1e-4)


def test_layers_are_named_as_their_modules() -> None:
    names = [layer.name for layer in from_torch(made(Residual)).file.layers]
    assert names[:4] == ["stem.0", "max_pool1", "layer1.conv1", "layer1.conv2"]
    assert names[-3:] == ["add2", "global_avg_pool1", "fc"]
    assert "layer2.downsample.0" in names


def test_batch_norm_that_is_folded_is_a_bias(tmp_path: Path) -> None:
    module = made(Residual)
    found = files.read(str(exported(module, tmp_path / "net.onnx", fold=True)))
    convs = [layer for layer in found.file.layers if isinstance(layer, Conv)]
    assert [conv.name for conv in convs][:2] == ["stem.0", "layer1.conv1"]
    assert not any(conv.batch_norm for conv in convs)
    images = torch.randint(0, 256, (4, 3, 16, 16))
    with torch.no_grad():
        wanted = module(images / 255)
    torch.testing.assert_close(logits(found, tmp_path, images), wanted, atol=1e-4, rtol=1e-3)


@KINDS
def test_the_newer_exporter_gives_the_same_record(kind: type[nn.Module], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    module = made(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 3, 16, 16),), str(tmp_path / "net.onnx"), dynamo=True,
            optimize=False, external_data=True, verbose=False,
        )  # fmt: skip
    assert (tmp_path / "net.onnx.data").is_file()
    found = files.read(str(tmp_path / "net.onnx"))
    assert found.file.layers == from_torch(module).file.layers


def test_a_batch_of_any_size(tmp_path: Path) -> None:
    path = exported(
        made(Plain), tmp_path / "net.onnx", input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    assert files.read(str(path)).file.layers == from_torch(made(Plain)).file.layers


# Files made by hand


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    shape: tuple[Any, ...] = (1, 2, 8, 8),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from `x` to `y`."""
    held = [
        value
        if isinstance(value, TensorProto)
        else numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        held,
    )
    domains = {"": opset, "qonnx.custom_op.general": 1}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(made, opset_imports=imports)


def floats(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def small(**conv: Any) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """Conv, ReLU, global mean, dense."""
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], **conv}
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], name="A", **attributes),
        helper.make_node("Relu", ["a"], ["b"], name="B"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="C"),
        helper.make_node("Flatten", ["c"], ["d"], name="D"),
        helper.make_node("Gemm", ["d", "e.weight"], ["y"], name="E", transB=1),
    ]
    weights = {"a.weight": floats(4, 2, 3, 3), "a.bias": floats(4), "e.weight": floats(3, 4)}
    return nodes, weights


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], str]:
    def save(model: onnx.ModelProto) -> str:
        path = tmp_path / "made.onnx"
        path.write_bytes(model.SerializeToString())
        return str(path)

    return save


Saved = Callable[[onnx.ModelProto], str]


def test_quantisers_are_the_precisions_of_a_scheme(saved: Saved) -> None:
    quant = {"domain": "qonnx.custom_op.general"}
    weights = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    codes = {"signed": 0, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "one", "zero", "eight"], ["q"], **quant, **codes),
        helper.make_node("Quant", ["a.weight", "row", "zero", "two"], ["aw"], **quant, **weights),
        helper.make_node("Conv", ["q", "aw"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Quant", ["a", "one", "zero", "three"], ["b"], **quant, **codes),
        helper.make_node("BipolarQuant", ["c.weight", "pixel"], ["cw"], **quant),
        helper.make_node("Conv", ["b", "cw"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Quant", ["d", "one", "zero", "eight"], ["e"], **quant, **codes),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Quant", ["f", "one", "zero", "five"], ["g"], **quant, **codes),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Quant", ["i.weight", "one", "zero", "four"], ["iw"], **quant, **weights),
        helper.make_node("Gemm", ["h", "iw"], ["y"], transB=1),
    ]
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5, "eight": 8, "one": 1, "zero": 0}
    found = files.read(
        saved(
            graph(
                nodes,
                {
                    "a.weight": floats(4, 2, 3, 3),
                    "c.weight": floats(4, 4, 3, 3),
                    "i.weight": floats(3, 4),
                    "row": abs(floats(1, 1, 3, 1)),
                    "pixel": abs(floats(1, 1, 3, 3)),
                    **{name: np.float32(value) for name, value in numbers.items()},
                },
            )
        )
    )
    net = network.build(found.file)
    assert found.scheme is not None
    chosen = scheme.read(net, found.scheme, "here")
    assert [net.by_name[name].layer.relu for name in ("a", "c")] == [True, True]  # type: ignore[union-attr]
    layers = {name: (of.weights, of.granularity) for name, of in chosen.layers.items()}
    assert layers == {
        "a": ("ternary", "row"),
        "c": ("binary", "pixel"),
        "i": ("int4", "layer"),
    }
    assert dict(chosen.bits) == {"input": 8, "a": 3, "c": 8, "global_avg_pool1": 5}


def test_constants_behind_a_layer_go_into_its_weights(saved: Saved, tmp_path: Path) -> None:
    nodes, constants = small()
    nodes[4].output[0] = "e"
    nodes += [
        helper.make_node("Mul", ["e", "factor"], ["f"]),
        helper.make_node("Add", ["f", "term"], ["y"]),
    ]
    constants |= {"factor": np.float32(3), "term": np.float32([1, 2, 3])}
    found = files.read(saved(graph(nodes, constants)))
    assert found.file.layers[-1] == Dense(name="e", c_out=3, batch_norm=False, relu=False)
    np.testing.assert_allclose(found.arrays["e/weight"], 3 * constants["e.weight"], rtol=1e-6)
    np.testing.assert_allclose(found.arrays["e/bias"], [1, 2, 3])


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "dilation": (lambda: graph(*small(dilations=[2, 2])), "node 'A': Conv: dilation must be 1"),
    "kernel": (
        lambda: graph(*small(kernel_shape=[3, 1])),
        "node 'A': Conv: kernels must be square",
    ),
    "stride": (lambda: graph(*small(strides=[1, 2])), "node 'A': Conv: strides must be square"),
    "padding": (lambda: graph(*small(pads=[1, 0, 1, 1])), "padding must be alike"),
    "groups": (lambda: graph(*small(group=3)), "node 'A': groups must divide the channels"),
    "old": (lambda: graph(*small(), opset=7), "opset must be 9 to 25, got 7"),
    "new": (lambda: graph(*small(), opset=99), "opset must be 9 to 25, got 99"),
    "dynamic": (lambda: graph(*small(), shape=(1, 2, "h", 8)), "axis 2 is dynamic (h)"),
    "half": (lambda: graph(*small(), kind=TensorProto.FLOAT16), "must be 32 bit floats"),
    "rank": (lambda: graph(*small(), shape=(1, 2, 8)), "must be images"),
    "shape": (lambda: graph(*small(), shape=(1, 5, 8, 8)), "weight must be [4, 5, 3, 3]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_layer_is_refused_by_name(case: str, saved: Saved) -> None:
    make, text = REFUSED[case]
    with pytest.raises(InputError) as error:
        files.read(saved(make()))
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def changed(change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = graph(*small())
    change(model)
    return model


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "b"


def _sigmoid(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Sigmoid"


def _huge(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 31, 1 << 31])


def _short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 5


def _outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _nan(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(np.full((4, 2, 3, 3), np.nan, np.float32), tensor.name))


def _half(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(floats(4, 2, 3, 3).astype(np.float16), tensor.name))


def _two(model: onnx.ModelProto) -> None:
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "b"


CHANGED = [
    (_cycle, "reads 'b', which nothing before it writes"),
    (_sigmoid, "node 'B': Sigmoid: is not supported; supported are Conv, Gemm/Linear"),
    (_huge, "must have at most"),
    (_short, "needs 90 elements, got 72"),
    (_outside, "must lie beside the file"),
    (_nan, "must be finite"),
    (_half, "type FLOAT16 is unknown"),
    (_two, "one output is needed, got y, b"),
]


@pytest.mark.parametrize(("change", "text"), CHANGED)
def test_broken_graphs(change: Callable[[onnx.ModelProto], None], text: str, saved: Saved) -> None:
    with pytest.raises(InputError) as error:
        files.read(saved(changed(change)))
    assert text in str(error.value)


def _attribute(model: onnx.ModelProto) -> None:
    group = model.graph.node[0].attribute.add()
    group.CopyFrom(helper.make_attribute("group", [1, 2]))


def _stride(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 0]))


def _rows(model: onnx.ModelProto) -> None:
    model.graph.node[3].op_type = "Reshape"
    del model.graph.node[3].attribute[:]
    model.graph.node[3].input.append("target")
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 4]), "target"))


def _bomb(model: onnx.ModelProto) -> None:
    """A constant that doubles a hundred times."""
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1 << 10, np.float32), "c0"))
    for index in range(100):
        model.graph.node.insert(
            index,
            helper.make_node("Concat", [f"c{index}"] * 2, [f"c{index + 1}"], axis=0),
        )


def _shared(model: onnx.ModelProto) -> None:
    """One large constant, made of nothing, again and again."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 21]), "size"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    model.graph.node.insert(0, helper.make_node("Expand", ["one", "size"], ["m0"]))
    for index in range(100):
        model.graph.node.insert(
            1 + index, helper.make_node("Add", [f"m{index}", "m0"], [f"m{index + 1}"])
        )


def _pipe(model: onnx.ModelProto) -> None:
    _outside(model)
    model.graph.initializer[0].external_data[0].value = "."


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_attribute, "node 'A': Conv has inputs or attributes of another kind"),
        (_stride, "kernel and stride must be positive"),
        (_rows, "node 'D': Reshape: must flatten"),
        (_bomb, "is too large"),
        (_shared, "constants grow far beyond what the file holds"),
        (_pipe, "is no file of 288 bytes"),
    ],
)
def test_files_that_ask_for_more_than_they_hold(
    change: Callable[[onnx.ModelProto], None], text: str, saved: Saved
) -> None:
    with pytest.raises(InputError) as error:
        files.read(saved(changed(change)))
    assert text in str(error.value)


def test_sums_of_sums_take_no_time(saved: Saved) -> None:
    """Whether a sum is positive is asked of each layer once, not of each path."""
    nodes, constants = small()
    doubled = [helper.make_node("Add", [f"b{i}", f"b{i}"], [f"b{i + 1}"]) for i in range(60)]
    nodes[1].output[0] = "b0"
    nodes[2:2] = [*doubled, helper.make_node("Relu", ["b60"], ["b"])]
    found = files.read(saved(graph(nodes, constants)))
    assert sum(layer.op == "add" for layer in found.file.layers) == 60


@pytest.mark.parametrize(
    ("scale", "zero", "text"),
    [
        (np.float32(1), np.float32(3), "the zero point must be 0"),
        (np.float32(-1), np.float32(0), "the scale must be one positive number"),
        (np.float32([1, 2]), np.float32(0), "the scale must be one positive number"),
    ],
)
def test_quantisers_that_have_no_equal(scale: Any, zero: Any, text: str, saved: Saved) -> None:
    nodes, constants = small()
    quant = helper.make_node(
        "Quant", ["x", "scale", "zero", "bits"], ["q"], domain="qonnx.custom_op.general", signed=0
    )
    nodes[0].input[0] = "q"
    constants |= {"scale": scale, "zero": zero, "bits": np.float32(4)}
    with pytest.raises(InputError, match=text):
        files.read(saved(graph([quant, *nodes], constants)))


def test_names_stay_text(saved: Saved, tmp_path: Path) -> None:
    nodes, constants = small()
    name = '../../x"\n= [1]\\'
    nodes[0].input[1] = f"{name}.weight"
    constants[f"{name}.weight"] = constants.pop("a.weight")
    found = files.read(saved(graph(nodes, constants)))
    written = files.write(found, tmp_path / "out" / "net.toml")
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert network.load(str(written[0])).file == found.file
    assert found.file.layers[0].name == '../../x"_= [1]\\'


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, left out or put in; or the end cut off."""
    out = bytearray(content)
    if rng.random() < 0.1:
        return bytes(out[: rng.randrange(len(out))])
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(out))
        match rng.randrange(3):
            case 0:
                out[place] = rng.randrange(256)
            case 1:
                del out[place]
            case _:
                out.insert(place, rng.randrange(256))
    return bytes(out)


def scrambled(model: onnx.ModelProto, rng: random.Random) -> bytes:
    """The same message with some fields that hold something else."""
    for _ in range(rng.choice((1, 2, 3))):
        node = rng.choice(list(model.graph.node))
        tensor = rng.choice(list(model.graph.initializer))
        match rng.randrange(7):
            case 0:
                node.op_type = rng.choice(list(model.graph.node)).op_type
            case 1 if node.input:
                other = rng.choice(list(model.graph.node))
                node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, "", "x"])
            case 2 if node.attribute:
                one = rng.choice(list(node.attribute))
                one.i = rng.choice((-1, 0, 1, 2, 1 << 40))
                for index in range(len(one.ints)):
                    one.ints[index] = rng.choice((-1, 0, 1, 2, 3, 1 << 40))
            case 3 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((-1, 0, 1, 3, 1 << 40))
            case 4:
                tensor.data_type = rng.randrange(-1, 25)
            case 5 if node.input:
                del node.input[rng.randrange(len(node.input))]
            case _:
                model.graph.node.remove(node) if len(model.graph.node) > 1 else None
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """No traceback, whatever stands in a file."""
    path, rng = tmp_path / "made.onnx", random.Random(seed)
    nodes, constants = small()
    nodes.insert(3, helper.make_node("Shape", ["c"], ["s"]))
    nodes[4] = helper.make_node("Reshape", ["c", "target"], ["d"], name="D")
    constants["target"] = np.array([1, -1])
    model = graph(nodes, constants)
    content = model.SerializeToString()
    outcomes = set()
    for _ in range(150):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        path.write_bytes(scrambled(copy, rng) if rng.random() < 0.5 else mutated(content, rng))
        try:
            found = files.read(str(path))
            network.build(found.file)
            outcomes.add("read")
        except InputError as error:
            assert str(error).isprintable()
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


# Modules


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module `factories_here` in the folder of now."""
    (tmp_path / "factories_here.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(2, 3))\n"
        "def number():\n"
        "    return 3\n"
        "def asks(size):\n"
        "    return small()\n"
        "def odd():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid())\n"
        "def fails():\n"
        "    raise RuntimeError('two\\nlines')\n"
        "def leaves():\n"
        "    raise SystemExit(7)\n"
        "def dilated():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2))\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("factories_here", None)
    sys.path.remove(str(tmp_path)) if str(tmp_path) in sys.path else None


class Odd(nn.Module):
    """A conv and a 1x1 conv, and what is done to their results."""

    def __init__(self, change: Callable[[Odd, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.other = nn.Conv2d(1, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout()
        self.change = change
        self.columns = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(self, x).mean((2, 3))


CHANGES: dict[str, tuple[Callable[[Odd, torch.Tensor], torch.Tensor], str]] = {
    "normalised": (lambda m, x: m.conv((x - 0.1307) / 0.3081), "a constant: must follow a conv"),
    "scaled": (lambda m, x: F.relu(m.conv(x)) * 0.1, "a constant: must follow a conv"),
    "shifted": (lambda m, x: F.relu(m.conv(x)) + 0.4, "a constant: must follow a conv"),
    "columns": (lambda m, x: m.conv(x) + m.columns, "one for each of 4 channels"),
    "aliases": (
        lambda m, x: (lambda y: m.norm(m.drop(y)) + m.drop(y))(m.conv(x)),
        "that nothing else reads",
    ),
    "floor": (lambda m, x: torch.div(m.conv(x), 0.1, rounding_mode="floor"), "must not round"),
    "alpha": (lambda m, x: torch.add(m.conv(x), m.other(x), alpha=0), "alpha must be 1"),
    "training": (
        lambda m, x: F.batch_norm(m.conv(x), None, None, training=True),
        "must use its running statistics",
    ),
    "dropout": (lambda m, x: F.dropout(m.conv(x), training=True), "is in training mode"),
    "in place": (
        lambda m, x: (lambda y: (m.drop(y).add_(m.other(x)), y)[1])(m.conv(x)),
        "changes a tensor in place that others read",
    ),
    "infinite": (lambda m, x: m.conv(x) * float("inf"), "must be finite"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_modules_that_would_be_another_network_are_refused(case: str) -> None:
    change, text = CHANGES[case]
    with pytest.raises(InputError) as error:
        read_torch.read(Odd(change).eval(), (1, 1, 4, 4), "here", "net", "here", recipe)
    assert text in str(error.value)


def test_a_result_behind_a_relu_is_refused() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(InputError, match="here: layer '0': Relu: the result must not go through"):
        read_torch.read(module, (1, 4), "here", "net", "here", recipe)


def test_a_constant_of_channels_goes_into_the_bias(tmp_path: Path) -> None:
    module = Odd(lambda m, x: m.conv(x) * 2 + m.columns.reshape(4, 1, 1)).eval()
    with pytest.raises(InputError):  # what reshapes a parameter is no layer
        read_torch.read(module, (1, 1, 4, 4), "here", "net", "here", recipe)
    module = Odd(lambda m, x: m.conv(x) * 2 + 0.25).eval()
    found = read_torch.read(module, (1, 1, 4, 4), "here", "net", "here", recipe)
    images = torch.randint(0, 256, (4, 1, 4, 4))
    with torch.no_grad():
        wanted = module(images / 255)
    torch.testing.assert_close(logits(found, tmp_path, images), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("factories")
def test_a_factory_gives_a_network() -> None:
    found = files.read("factories_here:small@1,1,9,9", None)
    assert (found.file.name, found.file.input, found.file.classes) == ("small", (1, 9, 9), 3)
    assert files.read("factories_here:small", "1,1,9,9").file == found.file


BAD_MODULES = [
    ("nowhere_here:small", "cannot be imported"),
    ("factories_here:none", "has no function 'none'"),
    ("factories_here:number", "must give a torch.nn.Module, got int"),
    ("factories_here:asks", "must give a module without arguments: TypeError"),
    ("factories_here:fails", "must give a module without arguments: RuntimeError: two"),
    ("factories_here:leaves", "must give a module without arguments: SystemExit: 7"),
    (":small", "cannot be imported: ValueError"),
    ("factories_here:small@1,3,9,9", "torch.export cannot follow the module"),
    ("factories_here:small@1,x", "input must be N,C,H,W"),
    ("factories_here:odd@1,1,9,9", "aten.sigmoid.default: is not supported"),
    ("factories_here:dilated@1,1,9,9", "dilation must be 1"),
]


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(("source", "text"), BAD_MODULES)
def test_what_is_no_module_is_refused(source: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        files.read(source)
    assert text in str(error.value)
    assert str(error.value).isprintable()


def test_a_network_of_its_own_goes_through_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from syq_dse.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = exported(made(Residual), tmp_path / "net.onnx")
    run = tmp_path / "run"
    arguments = ("explore", "--network", str(path), "--target", "pynq-z2", "--out", str(run))
    monkeypatch.setattr(sys, "argv", ["syq-dse", *arguments, "--trials", "30"])
    try:
        main()
    except SystemExit as error:
        assert not error.code, capsys.readouterr().err
    assert (run / "front.csv").is_file()
    assert "net.toml" in (run / "study.toml").read_text()
