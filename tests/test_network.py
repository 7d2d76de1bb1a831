"""Shapes, MACs and parameters against published numbers and torch; what mistakes read like."""

from __future__ import annotations

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from syq_dse import catalogue, network, records
from syq_dse.errors import InputError
from syq_dse.network import INPUT, Add, AvgPool, Conv, Dense, Flatten, GlobalAvgPool, MaxPool

NETWORKS = catalogue.names("models")


# Published and hand-counted numbers


COUNTED = {  # network: MACs, parameters, where the numbers come from
    "alexnet": (
        54**2 * 96 * 3 * 12**2
        + 54**2 * 256 * 48 * 5**2
        + 27**2 * 384 * 256 * 3**2
        + 14**2 * (384 * 192 * 3**2 + 256 * 192 * 3**2)
        + 9216 * 4096
        + 4096 * 4096
        + 4096 * 1000,
        96 * 3 * 12**2
        + 256 * 48 * 5**2
        + 384 * 256 * 3**2
        + 384 * 192 * 3**2
        + 256 * 192 * 3**2
        + 9216 * 4096
        + 4096 * 4096
        + 4096 * 1000
        + 1000  # bias of fct
        + 2 * (256 + 384 + 384 + 256 + 4096 + 4096),  # batch-norm
        "by hand, from syq-alexnet.py",
    ),
    "cnv": (
        30**2 * 64 * 3 * 9
        + 28**2 * 64 * 64 * 9
        + 12**2 * 128 * 64 * 9
        + 10**2 * 128 * 128 * 9
        + 3**2 * 256 * 128 * 9
        + 1**2 * 256 * 256 * 9
        + 256 * 512
        + 512 * 512
        + 512 * 10,
        1_542_848 + 2 * (2 * 64 + 2 * 128 + 2 * 256 + 2 * 512),
        "by hand, from CNV.py of Brevitas; 1,542,848 weights as in BNN-PYNQ",
    ),
    "cybersec-mlp": (
        593 * 64 + 64 * 64 + 64 * 64 + 64,
        46_208 + (64 + 64 + 64 + 1) + 2 * (64 + 64 + 64),
        "by hand, from FINN's cybersecurity notebook 1",
    ),
    "fmnist-vgg": (
        28**2 * 16 * (1 + 16) * 9 + 14**2 * 32 * (16 + 32) * 9 + 1568 * 128 + 1280,
        16 * (1 + 16) * 9
        + 32 * (16 + 32) * 9
        + 1568 * 128
        + 1280
        + 10
        + 2 * (2 * 16 + 2 * 32 + 128),
        "by hand",
    ),
    "lenet5": (
        28**2 * 6 * 25 + 10**2 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10,
        6 * 25 + 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10 + 10 + 2 * (6 + 16 + 120 + 84),
        "by hand; 416,520 MACs is the number that is quoted for LeNet-5",
    ),
    "mobilenet-v1": (
        567_716_352 + 1024 * 1000,
        4_253_864 - 21_888,
        (
            "MACs: mobilenet_v1.py of TensorFlow-Slim, and its last layer; parameters: Keras' "
            "summary of MobileNet, all less the running means and variances"
        ),
    ),
    "resnet18": (1_814_073_344, 11_689_512, "torchvision documentation: num_params, GFLOPS 1.81"),
    "resnet34": (3_663_761_408, 21_797_672, "torchvision documentation: num_params, GFLOPS 3.66"),
    "resnet50": (4_089_184_256, 25_557_032, "torchvision documentation: num_params, GFLOPS 4.09"),
    "resnet8": (
        32**2 * 16 * (3 + 16 + 16) * 9
        + 16**2 * 32 * (16 * 9 + 32 * 9 + 16)
        + 8**2 * 64 * (32 * 9 + 64 * 9 + 32)
        + 64 * 10,
        78_186,
        "MACs by hand; parameters: training_log.txt of mlcommons/tiny, 'Trainable params'",
    ),
}


def test_every_shipped_network_is_counted() -> None:
    assert sorted(COUNTED) == NETWORKS


@pytest.mark.parametrize("name", COUNTED)
def test_macs_and_parameters_are_the_published_ones(name: str) -> None:
    macs, parameters, _source = COUNTED[name]
    net = network.load(name)
    assert (net.macs, net.parameters) == (macs, parameters)


PUBLISHED_SHAPES = [
    # by hand: (224 - 12) / 4 + 1 = 54; SAME halves and rounds up; (14 - 3) // 2 + 1 = 6
    ("alexnet", "conv0", "96x54x54"),
    ("alexnet", "conv1", "256x54x54"),
    ("alexnet", "pool1", "256x27x27"),
    ("alexnet", "conv2", "384x27x27"),
    ("alexnet", "pool2", "384x14x14"),
    ("alexnet", "conv4", "256x14x14"),
    ("alexnet", "pool4", "256x6x6"),
    ("alexnet", "flatten", "9216x1x1"),
    # Umuroglu et al., FINN, 2017: unpadded 3x3 kernels down to one pixel
    ("cnv", "pool1", "64x14x14"),
    ("cnv", "pool2", "128x5x5"),
    ("cnv", "conv6", "256x1x1"),
    # LeCun et al., 1998, figure 2: C1, S2, C3, S4
    ("lenet5", "conv1", "6x28x28"),
    ("lenet5", "pool1", "6x14x14"),
    ("lenet5", "conv2", "16x10x10"),
    ("lenet5", "pool2", "16x5x5"),
    # Howard et al., 2017, table 1
    ("mobilenet-v1", "conv0", "32x112x112"),
    ("mobilenet-v1", "conv2.pointwise", "128x56x56"),
    ("mobilenet-v1", "conv4.pointwise", "256x28x28"),
    ("mobilenet-v1", "conv6.pointwise", "512x14x14"),
    ("mobilenet-v1", "conv13.pointwise", "1024x7x7"),
    # He et al., 2016, table 1
    *[
        (name, layer, shape)
        for name, last, wide in (("resnet18", 1, 1), ("resnet34", 2, 1), ("resnet50", 2, 4))
        for layer, shape in (
            ("conv1", "64x112x112"),
            ("maxpool", "64x56x56"),
            ("layer1.0.add", f"{64 * wide}x56x56"),
            ("layer2.0.add", f"{128 * wide}x28x28"),
            ("layer3.0.add", f"{256 * wide}x14x14"),
            (f"layer4.{last}.add", f"{512 * wide}x7x7"),
            ("avgpool", f"{512 * wide}x1x1"),
        )
    ],
    # training_log.txt of mlcommons/tiny
    ("resnet8", "layer1.add", "16x32x32"),
    ("resnet8", "layer2.shortcut", "32x16x16"),
    ("resnet8", "layer3.add", "64x8x8"),
]


@pytest.mark.parametrize(("name", "layer", "shape"), PUBLISHED_SHAPES)
def test_shapes_are_the_published_ones(name: str, layer: str, shape: str) -> None:
    assert str(network.load(name).shape_of(layer)) == shape


def test_mobilenet_has_the_macs_of_tensorflow_slim_layer_by_layer() -> None:
    published = [10_838_016]  # head of mobilenet_v1.py, 100% at 224x224: depthwise, pointwise
    for depthwise, pointwise in (
        (3_612_672, 25_690_112),
        (1_806_336, 25_690_112),
        (3_612_672, 51_380_224),
        (903_168, 25_690_112),
        (1_806_336, 51_380_224),
        (451_584, 25_690_112),
        *[(903_168, 51_380_224)] * 5,
        (225_792, 25_690_112),
        (451_584, 51_380_224),
    ):
        published += [depthwise, pointwise]
    assert [node.macs for node in network.load("mobilenet-v1").engines] == [*published, 1_024_000]


def test_resnet8_has_the_parameters_of_keras_layer_by_layer() -> None:
    published = {  # training_log.txt of mlcommons/tiny: convolution, batch-norm (half is trained)
        "conv1": 448 + 64 // 2,
        "layer1.conv1": 2_320 + 64 // 2,
        "layer1.conv2": 2_320 + 64 // 2,
        "layer2.conv1": 4_640 + 128 // 2,
        "layer2.conv2": 9_248 + 128 // 2,
        "layer2.shortcut": 544,
        "layer3.conv1": 18_496 + 256 // 2,
        "layer3.conv2": 36_928 + 256 // 2,
        "layer3.shortcut": 2_112,
        "fc": 650,
    }
    assert {node.name: node.parameters for node in network.load("resnet8").engines} == published


# The same network in torch


class Sum(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def torch_module(layer: network.Layer, x: torch.Tensor) -> nn.Module:
    """The torch module of one layer that reads `x`; nothing here asks syq_dse for a size."""
    c_in = x.shape[1]
    match layer:
        case Conv():
            after = layer.pad if layer.pad_after is None else layer.pad_after
            bias = not layer.batch_norm if layer.bias is None else layer.bias
            parts = [
                nn.ZeroPad2d((layer.pad, after, layer.pad, after)),
                nn.Conv2d(c_in, layer.c_out, layer.k, layer.stride, groups=layer.groups, bias=bias),
            ]
            if layer.batch_norm:
                parts.append(nn.BatchNorm2d(layer.c_out))
            return nn.Sequential(*parts, *[nn.ReLU()] * layer.relu)
        case Dense():
            bias = not layer.batch_norm if layer.bias is None else layer.bias
            parts = [nn.Flatten(), nn.Linear(c_in, layer.c_out, bias=bias)]
            if layer.batch_norm:
                parts.append(nn.BatchNorm1d(layer.c_out))
            return nn.Sequential(*parts, *[nn.ReLU()] * layer.relu, nn.Unflatten(1, (-1, 1, 1)))
        case MaxPool():
            after = layer.pad if layer.pad_after is None else layer.pad_after
            pad = nn.ConstantPad2d((layer.pad, after, layer.pad, after), float("-inf"))
            return nn.Sequential(pad, nn.MaxPool2d(layer.k, layer.stride))
        case AvgPool():
            return nn.AvgPool2d(layer.k, layer.stride)
        case GlobalAvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case Flatten():
            return nn.Sequential(nn.Flatten(), nn.Unflatten(1, (-1, 1, 1)))
        case Add():
            return Sum()


def run_in_torch(file: network.NetworkFile) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Shape (c, h, w), parameters and MACs of every layer, measured on a zero image."""
    tensors = {INPUT: torch.zeros(1, *file.input)}
    before, found = INPUT, {}
    for layer in file.layers:
        reads = layer.inputs if isinstance(layer, Add) else (layer.input or before,)
        x = [tensors[name] for name in reads]
        module = torch_module(layer, x[0]).eval()
        with torch.no_grad():
            y = module(*x)
        weights = sum(
            m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)
        )
        parameters = sum(p.numel() for p in module.parameters())
        found[layer.name] = (tuple(y.shape[1:]), parameters, weights * y.shape[2] * y.shape[3])
        tensors[layer.name], before = y, layer.name
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_finds_the_same_shapes_parameters_and_macs(name: str) -> None:
    net = network.load(name)
    ours = {
        node.name: (
            (node.out_shape.c, node.out_shape.h, node.out_shape.w),
            node.parameters,
            node.macs,
        )
        for node in net.nodes
    }
    assert ours == run_in_torch(net.file)


@given(data=st.data())
@settings(derandomize=True, max_examples=150, deadline=None)
def test_torch_agrees_on_any_window(data: st.DataObject) -> None:
    """Odd sizes, uneven padding, groups: the same shape and counts, or both refuse."""
    small = st.integers(1, 4)
    k, pad, pad_after = data.draw(small), data.draw(st.integers(0, 3)), None
    if data.draw(st.booleans()):
        pad_after = data.draw(st.integers(0, 3))
    layer: network.Layer
    match data.draw(st.sampled_from(["conv", "max_pool", "avg_pool"])):
        case "conv":
            stride, groups = data.draw(small), data.draw(st.sampled_from([1, 2, 4]))
            layer = Conv(
                name="w", c_out=8, k=k, stride=stride, pad=pad, pad_after=pad_after, groups=groups
            )
        case "max_pool":
            k = max(k, 1 + max(pad, pad_after or 0))  # a window of padding alone has no maximum
            step = data.draw(st.none() | small)
            layer = MaxPool(name="w", k=k, stride=step, pad=pad, pad_after=pad_after)
        case _:
            layer = AvgPool(name="w", k=k, stride=data.draw(st.none() | small))
    end = GlobalAvgPool(name="mean"), Dense(name="end", c_out=3)
    file = network.NetworkFile(
        name="any",
        provenance="drawn",
        classes=3,
        input=(4, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))),
        recipe=network.Recipe(dataset="none"),
        layers=(layer, *end),
    )
    try:
        net = network.build(file)
    except InputError:
        with pytest.raises(RuntimeError):
            run_in_torch(file)
    else:
        node = net.by_name["w"]
        shape = (node.out_shape.c, node.out_shape.h, node.out_shape.w)
        assert (shape, node.parameters, node.macs) == run_in_torch(file)["w"]


# Laws of the graph


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_comes_after_what_it_reads(name: str) -> None:
    seen = {INPUT}
    for node in network.load(name).nodes:
        assert seen.issuperset(node.inputs)
        seen.add(node.name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_is_the_files_where_that_is_an_order_of_the_flow(name: str) -> None:
    net = network.load(name)
    assert [node.layer for node in net.nodes] == list(net.file.layers)


@given(data=st.data())
@settings(derandomize=True, max_examples=100, deadline=None)
def test_the_order_is_the_first_layer_of_the_file_whose_inputs_are_done(
    data: st.DataObject,
) -> None:
    net = network.load(data.draw(st.sampled_from(["resnet8", "fmnist-vgg"])))
    layers = [  # each names its input, so that the file can be shuffled
        node.layer if isinstance(node.layer, Add) else replace(node.layer, input=node.inputs[0])
        for node in net.nodes
    ]
    waiting = data.draw(st.permutations(layers))
    shuffled = network.build(replace(net.file, layers=tuple(waiting)))
    done, expected = {INPUT}, []
    while waiting:
        first = next(x for x in waiting if done.issuperset(net.by_name[x.name].inputs))
        waiting.remove(first)
        done.add(first.name)
        expected.append(first.name)
    assert [node.name for node in shuffled.nodes] == expected
    assert all(shuffled.shape_of(name) == net.shape_of(name) for name in expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_readers_are_inputs_the_other_way_round(name: str) -> None:
    net = network.load(name)
    forth = {(source, node.name) for node in net.nodes for source in node.inputs}
    back = {(source, node.name) for source, nodes in net.readers.items() for node in nodes}
    assert forth == back


@pytest.mark.parametrize("name", NETWORKS)
def test_residual_branches_are_added_before_the_relu(name: str) -> None:
    """What only an addition reads is signed, and so is the output; all else is rectified."""
    net = network.load(name)
    for node in net.engines:
        assert isinstance(node.layer, Conv | Dense)
        readers = net.readers[node.name]
        assert node.layer.relu == any(not isinstance(reader.layer, Add) for reader in readers)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_written_and_read_again_is_equal(name: str) -> None:
    file = network.load(name).file
    assert records.structure(records.plain(file), network.NetworkFile, name) == file
    assert (
        records.structure(json.loads(json.dumps(records.plain(file))), network.NetworkFile, name)
        == file
    )


def test_published_accuracies_are_of_shipped_networks() -> None:
    with (catalogue.folder("models") / "published_accuracy.csv").open(newline="") as stream:
        for row in csv.DictReader(stream, strict=True):
            assert row["dataset"] == network.load(row["network"]).file.recipe.dataset
            assert row["weight_bits"] in {"1", "2", "3", "4", "8", "32"}
            assert 1 <= int(row["activation_bits"]) <= 32
            assert 0 < float(row["top1"]) < float(row["top5"] or 100) <= 100
            assert row["method"] and row["source"]
            assert None not in row  # where csv puts what an unquoted comma leaves over


# What a user reads


HEAD = """\
name = "net"
provenance = "a test"
classes = 10
input = [1, 8, 8]
recipe = { dataset = "mnist" }
"""
CONV = '{ name = "a", op = "conv", c_out = 4, k = 3 }'
END = '{ name = "flat", op = "flatten" }, { name = "end", op = "dense", c_out = 10 }'
OPS = "conv, dense, max_pool, avg_pool, global_avg_pool, add, flatten"

LAYER_MISTAKES = {  # the layers, and the message after "net.toml: "
    "no layers": ("", "a network must have at least one layer"),
    "unknown key": (
        '{ name = "a", op = "conv", c_out = 4, dilation = 2 }',
        (
            "layers[0]: unknown key 'dilation'; known: op, name, input, c_out, k, stride, pad, "
            "pad_after, groups, batch_norm, relu, bias"
        ),
    ),
    "misspelt key": (
        '{ name = "a", op = "dense", cout = 4 }',
        (
            "layers[0]: unknown key 'cout'; known: op, name, input, c_out, batch_norm, relu, bias "
            "(did you mean 'c_out'?)"
        ),
    ),
    "missing key": ('{ name = "a", op = "conv", k = 3 }', "layers[0]: the key 'c_out' is missing"),
    "unknown op": (
        '{ name = "a", op = "convolution", c_out = 4, k = 3 }',
        f"layers[0]: unknown op 'convolution'; known: {OPS}",
    ),
    "no op": ('{ name = "a" }', f"layers[0]: the key 'op' is missing; known: {OPS}"),
    "unknown input": (
        f'{CONV}, {{ name = "b", op = "conv", input = "flats", c_out = 4, k = 3 }}, {END}',
        "layers[1]: unknown input 'flats'; known: a, b, end, flat, input (did you mean 'flat'?)",
    ),
    "unknown addend": (
        f'{CONV}, {{ name = "b", op = "add", inputs = ["a", "q"] }}, {END}',
        "layers[1]: unknown input 'q'; known: a, b, end, flat, input",
    ),
    "one addend": (
        f'{CONV}, {{ name = "b", op = "add", inputs = ["a"] }}, {END}',
        "layers[1].inputs: must have 2 items, got 1",
    ),
    "duplicate name": (
        f"{CONV}, {CONV}, {END}",
        "layers[1]: names must differ, be printable, non-empty and not 'input', got 'a'",
    ),
    "blank name": (
        '{ name = " ", op = "flatten" }',
        "layers[0]: names must differ, be printable, non-empty and not 'input', got ' '",
    ),
    "the input's name": (
        '{ name = "input", op = "flatten" }',
        "layers[0]: names must differ, be printable, non-empty and not 'input', got 'input'",
    ),
    "cycle": (
        (
            '{ name = "a", op = "conv", input = "b", c_out = 1, k = 1 }, '
            f'{{ name = "b", op = "conv", c_out = 1, k = 1 }}, {END}'
        ),
        "the layers form a cycle: a <- b <- a",
    ),
    "own input": (
        f'{{ name = "a", op = "conv", input = "a", c_out = 1, k = 1 }}, {END}',
        "the layers form a cycle: a <- a",
    ),
    "kernel larger than the input": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 11, pad = 1 }}, {END}',
        "a: the kernel must fit the padded input, got k=11, h_in=8, w_in=8, pad=1",
    ),
    "window larger than the input": (
        f'{{ name = "a", op = "avg_pool", k = 9 }}, {END}',
        "a: the kernel must fit the padded input, got k=9, h_in=8, w_in=8, pad=0",
    ),
    "groups that do not divide c_in": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 1, groups = 2 }}, {END}',
        "a: groups must divide the channels, got 2, c_in=1, c_out=4",
    ),
    "groups that do not divide c_out": (
        f'{CONV}, {{ name = "b", op = "conv", c_out = 6, k = 1, groups = 4 }}, {END}',
        "b: groups must divide the channels, got 4, c_in=4, c_out=6",
    ),
    "zero kernel": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 0 }}, {END}',
        "layers[0]: k must be 1 to 1048576, got 0",
    ),
    "negative channels": (
        f'{{ name = "a", op = "dense", c_out = -4 }}, {END}',
        "layers[0]: c_out must be 1 to 1048576, got -4",
    ),
    "negative padding": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 3, pad = -1 }}, {END}',
        "layers[0]: pad must be 0 to 1048576, got -1",
    ),
    "zero stride": (
        f'{{ name = "a", op = "max_pool", k = 2, stride = 0 }}, {END}',
        "layers[0]: stride must be 1 to 1048576, got 0",
    ),
    "too many channels": (
        f'{{ name = "a", op = "conv", c_out = 1048577, k = 1 }}, {END}',
        "layers[0]: c_out must be 1 to 1048576, got 1048577",
    ),
    "window of padding alone": (
        f'{{ name = "a", op = "max_pool", k = 2, pad = 2 }}, {END}',
        "layers[0]: pad must be smaller than k=2, got 2",
    ),
    "a fraction": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 3.0 }}, {END}',
        "layers[0].k: must be an integer, got 3.0",
    ),
    "a word for a switch": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 3, relu = "no" }}, {END}',
        "layers[0].relu: must be true or false, got 'no'",
    ),
    "dense on a map": (
        '{ name = "end", op = "dense", c_out = 10 }',
        "end: a dense layer reads a vector, got 1x8x8; put a flatten before",
    ),
    "add of two shapes": (
        (
            f'{CONV}, {{ name = "b", op = "conv", c_out = 4, k = 3 }}, '
            f'{{ name = "c", op = "add", inputs = ["a", "b"] }}, {END}'
        ),
        "c: the two inputs must have one shape, got 4x6x6, 4x4x4",
    ),
    "two outputs": (
        f'{CONV}, {{ name = "b", op = "conv", input = "input", c_out = 4, k = 3 }}, {END}',
        "one layer must be the output, got a, end",
    ),
    "wrong classes": (
        f'{CONV}, {{ name = "flat", op = "flatten" }}, {{ name = "end", op = "dense", c_out = 9 }}',
        "the output must have classes=10 channels, got 9",
    ),
    "nothing to quantise": (
        '{ name = "pool", op = "max_pool", k = 2 }, { name = "flat", op = "flatten" }',
        "a network must have at least one conv or dense layer",
    ),
    "pad_after too large": (
        f'{{ name = "a", op = "max_pool", k = 2, pad_after = 3 }}, {END}',
        "layers[0]: pad_after must be smaller than k=2, got 3",
    ),
    "kernel larger than an unevenly padded input": (
        f'{{ name = "a", op = "conv", c_out = 4, k = 12, pad = 1, pad_after = 2 }}, {END}',
        "a: the kernel must fit the padded input, got k=12, h_in=8, w_in=8, pad=1, pad_after=2",
    ),
    "input without a name": (
        f'{CONV}, {{ name = "b", op = "conv", input = "", c_out = 4, k = 3 }}, {END}',
        "layers[1]: unknown input ''; known: a, b, end, flat, input",
    ),
    "a map for an output": (
        '{ name = "a", op = "conv", c_out = 10, k = 3 }',
        "the output must be a vector, got 10x6x6; put a flatten or global_avg_pool before",
    ),
    "a line break in a name": (
        f'{{ name = "a\\nb", op = "conv", c_out = 4, k = 9 }}, {END}',
        "layers[0]: names must differ, be printable, non-empty and not 'input', got 'a\\nb'",
    ),
    "a line break in a key": (
        f'{{ name = "a", op = "flatten", "b\\nc" = 1 }}, {END}',
        "layers[0]: unknown key 'b\\nc'; known: op, name, input",
    ),
    "a line break in an unknown input's neighbour": (
        f'{CONV}, {{ name = "a2", op = "conv", input = "q", c_out = 4, k = 1 }}, '
        f'{{ name = "b\\nc", op = "flatten" }}, {END}',
        "layers[1]: unknown input 'q'; known: a, a2, 'b\\nc', end, flat, input",
    ),
}

HEAD_MISTAKES = {  # what is replaced in a good file, by what, and the message after "net.toml: "
    "not a list": (f"[{CONV}, {END}]", "3", "layers: must be a list, got 3"),
    "input not a list": ("[1, 8, 8]", '"1x8x8"', "input: must be a list, got '1x8x8'"),
    "input of two sizes": ("[1, 8, 8]", "[8, 8]", "input: must have 3 items, got 2"),
    "empty input": ("[1, 8, 8]", "[1, 0, 8]", "input sizes must be 1 to 1048576, got [1, 0, 8]"),
    "recipe not a table": (
        '{ dataset = "mnist" }',
        '"mnist"',
        "recipe: must be a table, got 'mnist'",
    ),
    "no epochs": (
        '"mnist" }',
        '"mnist", epochs = 0 }',
        "recipe: epochs must be 1 to 1048576, got 0",
    ),
    "negative classes": ("classes = 10", "classes = -1", "classes must be 1 to 1048576, got -1"),
    "unknown top key": (
        "classes",
        "class",
        (
            "unknown key 'class'; known: name, provenance, classes, input, recipe, layers "
            "(did you mean 'classes'?)"
        ),
    ),
}


def message(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        network.load(str(path))
    return str(error.value)


@pytest.mark.parametrize("mistake", LAYER_MISTAKES)
def test_a_mistake_in_a_layer_is_named(mistake: str, tmp_path: Path) -> None:
    layers, expected = LAYER_MISTAKES[mistake]
    text = f"{HEAD}layers = [{layers}]\n"
    assert message(tmp_path / "net.toml", text) == f"net.toml: {expected}"


@pytest.mark.parametrize("mistake", HEAD_MISTAKES)
def test_a_mistake_in_the_head_is_named(mistake: str, tmp_path: Path) -> None:
    old, new, expected = HEAD_MISTAKES[mistake]
    good = f"{HEAD}layers = [{CONV}, {END}]\n"
    assert good.count(old) == 1
    assert message(tmp_path / "net.toml", good.replace(old, new)) == f"net.toml: {expected}"


def test_the_file_without_a_mistake_loads(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(f"{HEAD}layers = [{CONV}, {END}]\n", encoding="utf-8")
    assert network.load(str(tmp_path / "net.toml")).macs == 36 * 4 * 9 + 144 * 10


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    where = "Invalid value (at line 2, column 13)"
    assert message(path, 'name = "net"\nclasses = 10x\ninput = ?\n').startswith(
        f"{path}: does not parse as TOML: "
    )
    assert (
        message(path, 'name = "net"\ninput    =  ?\n') == f"{path}: does not parse as TOML: {where}"
    )


def test_a_json_file_that_is_not_a_table(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    assert message(path, "[1, 2]") == f"{path}: must hold a table of keys, got [1, 2]"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    with pytest.raises(InputError) as error:
        network.load(str(path))
    assert str(error.value) == f"network '{path}': no such file"


def test_a_name_that_is_not_shipped() -> None:
    with pytest.raises(InputError) as error:
        network.load("lenet")
    assert str(error.value) == (
        f"unknown network 'lenet'; known: {', '.join(NETWORKS)} (did you mean 'lenet5'?); "
        "a path to a .toml file works too"
    )


# Any mistake


TEXT = st.text(st.characters(exclude_categories=[]), max_size=8) | st.just("a\nb")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.integers()
    | st.floats()
    | TEXT
    # names that mean something in the files that are mutated
    | st.sampled_from([*OPS.split(", "), INPUT, "conv1", "fc", "layer1.add"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a nest of dicts and lists."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path for k, v in items for path in [(*here, k), *places(v, (*here, k))]]


@given(data=st.data())
@settings(derandomize=True, max_examples=400, deadline=None)
def test_any_mistake_is_one_line_with_the_files_name(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keys deleted, other types, negative and huge numbers: a network or an InputError."""
    name = data.draw(st.sampled_from(["lenet5", "resnet8"]))
    content = copy.deepcopy(records.plain(network.load(name).file))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(content)))
        parent = content
        for key in way:
            parent = parent[key]
        match data.draw(st.sampled_from(["delete", "replace", "negate"])):
            case "delete":
                del parent[last]
            case "negate" if isinstance(parent[last], int):
                parent[last] = -parent[last]
            case _:
                parent[last] = data.draw(VALUES)
        if not places(content):
            break
    path = tmp_path_factory.getbasetemp() / "mutant.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        net = network.load(str(path))
    except InputError as error:
        assert "mutant.json" in str(error)
        assert str(error).isprintable()
    else:
        assert net.macs > 0
