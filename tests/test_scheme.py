"""Schemes: what each tensor is, --uniform, scheme files there and back, messages."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import catalogue, network, records, scheme
from syq_dse.errors import InputError
from syq_dse.network import (
    INPUT,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Recipe,
)
from syq_dse.scheme import (
    GRANULARITIES,
    SCALES,
    WEIGHTS,
    LayerScheme,
    Scheme,
    SchemeFile,
    file_of,
    normal,
    parse_uniform,
    read,
    tensors,
    weight_bits,
    weight_max,
)

NETWORKS = catalogue.names("models")


def build(*layers: Layer) -> Network:
    end = Dense(name="fc", c_out=2, relu=False)
    return network.build(
        NetworkFile(
            name="drawn",
            provenance="a test",
            classes=2,
            input=(1, 8, 8),
            recipe=Recipe(dataset="none"),
            layers=(*layers, Flatten(name="flatten"), end),
        )
    )


def any_scheme(net: Network, seed: int) -> Scheme:
    """Every layer and every tensor drawn by itself."""
    draw = random.Random(seed)
    return Scheme(
        layers={
            node.name: LayerScheme(
                weights=draw.choice(WEIGHTS),
                granularity=draw.choice(GRANULARITIES),
                scale=draw.choice(SCALES),
            )
            for node in net.engines
        },
        bits={t.name: draw.randint(1, 8) for t in tensors(net).values() if t.kind != "result"},
    )


# Codebooks


def test_codebooks_of_the_design() -> None:
    """DESIGN section 3: binary {-1, +1}, ternary {-1, 0, +1}, symmetric int2 to int8."""
    sizes = {"binary": (1, 1), "ternary": (2, 1)}
    sizes |= {f"int{n}": (n, 2 ** (n - 1) - 1) for n in range(2, 9)}
    assert {w: (weight_bits(w), weight_max(w)) for w in WEIGHTS} == sizes


# Tensors


def test_tensors_of_resnet8() -> None:
    """Residual is what an addition reads without ReLU; the rest is unsigned, the last a result."""
    kinds = {name: tensor.kind for name, tensor in tensors(network.load("resnet8")).items()}
    assert kinds == {
        "input": "input",
        "conv1": "activation",
        "layer1.conv1": "activation",
        "layer1.conv2": "residual",
        "layer1.add": "activation",
        "layer2.conv1": "activation",
        "layer2.conv2": "residual",
        "layer2.shortcut": "residual",
        "layer2.add": "activation",
        "layer3.conv1": "activation",
        "layer3.conv2": "residual",
        "layer3.shortcut": "residual",
        "layer3.add": "activation",
        "avgpool": "activation",
        "fc": "result",
    }


def test_pools_and_flattening_hand_the_codes_on() -> None:
    net = build(
        Conv(name="conv", c_out=2, k=3, relu=False),
        MaxPool(name="max", k=2),
        AvgPool(name="mean", k=3),
    )
    found = tensors(net)
    assert found["max"] is found["conv"]
    assert (found["conv"].kind, found["conv"].signed) == ("residual", True)
    # a mean is quantised anew, and signed where what it reads is
    assert (found["mean"].name, found["mean"].kind) == ("mean", "residual")
    assert found["flatten"] is found["mean"]
    assert found["fc"].kind == "result"


@pytest.mark.parametrize("name", NETWORKS)
def test_laws_of_tensors(name: str) -> None:
    net = network.load(name)
    found = tensors(net)
    assert set(found) == {INPUT, *(node.name for node in net.nodes)}
    assert [n for n, t in found.items() if t.kind == "result"] == [net.nodes[-1].name]
    for tensor in found.values():
        assert found[tensor.name] == tensor  # named after the layer that writes the codes
        assert tensor.signed == (tensor.kind in ("residual", "result"))
    for node in net.nodes:
        relu = getattr(node.layer, "relu", None)
        if relu is not None and net.readers[node.name]:
            assert found[node.name].signed == (not relu)


# Normal form


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scale", SCALES)
def test_normal_form(granularity: str, scale: str) -> None:
    given_layer = LayerScheme(weights="ternary", granularity=granularity, scale=scale)
    net = network.load("resnet8")
    fine = granularity in ("row", "pixel")
    assert given_layer.multiplies_partial_sums == fine

    kernel = normal(net.by_name["layer1.conv1"], given_layer)
    assert kernel.granularity == granularity
    assert kernel.scale == (scale if fine else "fixed8")

    for name in ("layer2.shortcut", "fc"):  # 1x1, dense
        one = normal(net.by_name[name], given_layer)
        assert one.granularity == ("layer" if fine else granularity)
        assert one.scale == "fixed8"
    for name in ("layer1.conv1", "fc"):
        once = normal(net.by_name[name], given_layer)
        assert normal(net.by_name[name], once) == once
        assert once.weights == "ternary"


# --uniform


@pytest.mark.parametrize("name", NETWORKS)
def test_uniform_leaves_first_and_last_layer_their_defaults(name: str) -> None:
    net = network.load(name)
    found = parse_uniform(net, "ternary,3,layer")
    first, *inner, last = net.engines
    assert found.layers[first.name] == found.layers[last.name] == LayerScheme(weights="int8")
    assert {found.layers[n.name] for n in inner} <= {LayerScheme(weights="ternary")}
    written = tensors(net)
    assert found.bits[INPUT] == found.bits[written[last.inputs[0]].name] == 8
    kept = {INPUT, written[last.inputs[0]].name}
    for tensor in written.values():
        if tensor.kind == "residual":
            assert found.bits[tensor.name] == 8
        elif tensor.kind == "activation" and tensor.name not in kept:
            assert found.bits[tensor.name] == 3
    assert set(found.bits) == {t.name for t in written.values() if t.kind != "result"}


def test_uniform_reads_a_scale_format() -> None:
    net = network.load("fmnist-vgg")
    assert parse_uniform(net, "binary,1,pixel").layers["conv2"].scale == "fixed8"
    assert parse_uniform(net, "binary,1,pixel,shift").layers["conv2"] == LayerScheme(
        weights="binary", granularity="pixel", scale="shift"
    )


CODEBOOKS = ", ".join(WEIGHTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ternary,4",
            "--uniform must be WEIGHTS,BITS,GRANULARITY[,SCALE], got 'ternary,4'; "
            "for example ternary,4,pixel",
        ),
        (
            "",
            "--uniform must be WEIGHTS,BITS,GRANULARITY[,SCALE], got ''; for example "
            "ternary,4,pixel",
        ),
        (
            "ternary,4,pixel,shift,8",
            "--uniform must be WEIGHTS,BITS,GRANULARITY[,SCALE], got 'ternary,4,pixel,shift,8'; "
            "for example ternary,4,pixel",
        ),
        (
            "ternary,four,pixel",
            "--uniform WEIGHTS,BITS,GRANULARITY[,SCALE]: BITS must be 1 to 8, got 'four'",
        ),
        (
            "ternary,-1,pixel",
            "--uniform WEIGHTS,BITS,GRANULARITY[,SCALE]: BITS must be 1 to 8, got '-1'",
        ),
        ("ternary,0,pixel", "bits must be 1 to 8, got 0"),
        ("ternary,9,pixel", "bits must be 1 to 8, got 9"),
        (
            "float,4,pixel",
            f"--uniform float,4,pixel: weights: must be one of {CODEBOOKS}, got 'float'",
        ),
        (
            "ternary,4,kernel",
            "--uniform ternary,4,kernel: granularity: must be one of layer, row, pixel, channel, "
            "got 'kernel'",
        ),
        (
            "ternary,4,pixel,float",
            "--uniform ternary,4,pixel,float: scale: must be one of fixed8, shift, got 'float'",
        ),
    ],
)
def test_message_for_a_wrong_uniform(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_uniform(network.load("fmnist-vgg"), text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text", [f"ternary,{'9' * 5000},pixel", "ternary,4\nbits", "ternary,4,\u2028"]
)
def test_a_wrong_uniform_is_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_uniform(network.load("fmnist-vgg"), text)
    assert len(str(caught.value).splitlines()) == 1


# line breaks: above
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(WORDS | st.from_regex(r"[a-z0-9]{0,8}(,[a-z0-9-]{0,8}){2,3}", fullmatch=True))
def test_any_uniform_is_a_scheme_or_one_line(text: str) -> None:
    try:
        found = parse_uniform(network.load("lenet5"), text)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(1 <= bits <= 8 for bits in found.bits.values())


# Files


@pytest.mark.parametrize("name", NETWORKS)
def test_a_scheme_written_and_read_again_is_equal(name: str) -> None:
    net = network.load(name)
    for seed in range(5):
        design = any_scheme(net, seed)
        # a layer's scale and granularity are written as they are; 1x1 kernels have one form only
        design = Scheme(
            layers={n: normal(net.by_name[n], layer) for n, layer in design.layers.items()},
            bits=design.bits,
        )
        file = file_of(net, design)
        assert file.network == name
        text = json.dumps(records.plain(file))
        assert read(net, json.loads(text), "scheme.json") == design
        assert records.structure(json.loads(text), SchemeFile, "scheme.json") == file


@pytest.mark.parametrize("name", NETWORKS)
def test_an_empty_file_is_the_default_scheme(name: str) -> None:
    net = network.load(name)
    found = read(net, {"layers": {}}, "scheme.toml")
    assert set(found.layers.values()) == {LayerScheme()}
    assert set(found.bits.values()) == {8}
    assert read(net, records.plain(file_of(net, found)), "scheme.toml") == found


def test_a_file_changes_what_it_names() -> None:
    net = network.load("resnet8")
    data = {
        "network": "resnet8",
        "input_bits": 6,
        "layers": {
            "layer1.conv1": {"weights": "binary", "granularity": "row", "bits": 2},
            "layer1.conv2": {"residual_bits": 5},
            "layer1.add": {"bits": 3},
        },
    }
    found = read(net, data, "scheme.toml")
    assert found.layers["layer1.conv1"] == LayerScheme(weights="binary", granularity="row")
    assert found.layers["layer1.conv2"] == LayerScheme()
    changed = {name: bits for name, bits in found.bits.items() if bits != 8}
    assert changed == {"input": 6, "layer1.conv1": 2, "layer1.conv2": 5, "layer1.add": 3}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "s.toml: the key 'layers' is missing"),
        (
            {"layers": {}, "layer": {}},
            "s.toml: unknown key 'layer'; known: layers, network, input_bits (did you mean "
            "'layers'?)",
        ),
        (
            {"layers": {}, "network": "lenet5"},
            "s.toml: is a scheme of 'lenet5', got network 'resnet8'",
        ),
        ({"layers": {}, "input_bits": 9}, "s.toml: input_bits must be 1 to 8, got 9"),
        ({"layers": []}, "s.toml: layers: must be a table, got []"),
        (
            {"layers": {"conv9": {}}},
            "s.toml: layers.conv9: unknown layer 'conv9'; known: conv1, layer1.conv1, "
            "layer1.conv2, layer1.add, layer2.conv1, layer2.conv2, layer2.shortcut, layer2.add, "
            "layer3.conv1, layer3.conv2, layer3.shortcut, layer3.add, avgpool, fc (did you mean "
            "'conv1'?)",
        ),
        (
            {"layers": {"conv1": {"weight": "binary"}}},
            "s.toml: layers.conv1: unknown key 'weight'; known: weights, granularity, scale, bits, "
            "residual_bits (did you mean 'weights'?)",
        ),
        (
            {"layers": {"conv1": {"weights": "int9"}}},
            f"s.toml: layers.conv1.weights: must be one of {CODEBOOKS}, got 'int9'",
        ),
        (
            {"layers": {"layer1.add": {"weights": "binary"}}},
            "s.toml: layers.layer1.add: weights is for layers with weights only",
        ),
        (
            {"layers": {"avgpool": {"scale": "shift"}}},
            "s.toml: layers.avgpool: scale is for layers with weights only",
        ),
        (
            {"layers": {"fc": {"bits": 4}}},
            "s.toml: layers.fc: the last layer writes accumulators; bits does not apply",
        ),
        (
            {"layers": {"conv1": {"residual_bits": 4}}},
            "s.toml: layers.conv1: this tensor's precision is 'bits', got 'residual_bits'",
        ),
        (
            {"layers": {"layer1.conv2": {"bits": 4}}},
            "s.toml: layers.layer1.conv2: this tensor's precision is 'residual_bits', got 'bits'",
        ),
        (
            {"layers": {"conv1": {"bits": 0}}},
            "s.toml: layers.conv1.bits must be 1 to 8, got 0",
        ),
        (
            {"layers": {"layer1.conv2": {"residual_bits": 9}}},
            "s.toml: layers.layer1.conv2.residual_bits must be 1 to 8, got 9",
        ),
        (
            {"layers": {"conv1": {"bits": 4.0}}},
            "s.toml: layers.conv1.bits: must be an integer, got 4.0",
        ),
    ],
)
def test_message_for_a_wrong_file(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(network.load("resnet8"), data, "s.toml")
    assert str(caught.value) == message


def test_message_for_bits_given_twice() -> None:
    data = {"layers": {"conv1": {"bits": 4, "residual_bits": 4}}}
    with pytest.raises(InputError) as caught:
        read(network.load("resnet8"), data, "s.toml")
    assert str(caught.value) == (
        "s.toml: layers.conv1: this tensor's precision is 'bits', got 'residual_bits'"
    )


def test_message_for_bits_of_a_layer_that_hands_codes_on() -> None:
    with pytest.raises(InputError) as caught:
        read(network.load("fmnist-vgg"), {"layers": {"pool1": {"bits": 4}}}, "s.toml")
    assert str(caught.value) == (
        "s.toml: layers.pool1: hands on the codes of 'conv2'; give bits there"
    )


def test_a_mean_pool_that_ends_a_network_has_no_bits() -> None:
    net = network.build(
        NetworkFile(
            name="convolutional",
            provenance="a test",
            classes=2,
            input=(1, 8, 8),
            recipe=Recipe(dataset="none"),
            layers=(
                Conv(name="conv", c_out=2, k=3, relu=False),
                GlobalAvgPool(name="gap"),
            ),
        )
    )
    assert tensors(net)["gap"].kind == "result"
    assert set(parse_uniform(net, "ternary,4,pixel").bits) == {INPUT, "conv"}
    assert scheme.fixed_bits(net) == {INPUT: 8, "conv": 8}
