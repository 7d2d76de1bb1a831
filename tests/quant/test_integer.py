"""The integer model against loops over Python's integers, its files, and its messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from syq_dse import network as networks
from syq_dse.cost.units import requant, scale
from syq_dse.errors import InputError
from syq_dse.network import (
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Node,
    Recipe,
)
from syq_dse.quant import integer, integer_file
from syq_dse.quant.integer import (
    AddIntegers,
    Integers,
    LayerIntegers,
    NetworkIntegers,
    PoolIntegers,
)
from syq_dse.scheme import (
    GRANULARITIES,
    SCALES,
    WEIGHTS,
    LayerScheme,
    Scheme,
    Tensor,
    parse_uniform,
    tensors,
    uniform,
)

Picture = list[list[list[int]]]  # channels, rows, columns


def network_of(shape: tuple[int, int, int], *layers: Layer, classes: int) -> Network:
    recipe = Recipe(dataset="none")
    return networks.build(
        NetworkFile(
            name="tiny",
            provenance="",
            classes=classes,
            input=shape,
            recipe=recipe,
            layers=layers,
        )
    )


@st.composite
def tiny(draw: st.DrawFn) -> Network:
    """A chain of convs, pools and residual blocks, then a dense layer, a pool or an add."""

    def small(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    channels, side = small(1, 4), small(4, 6)
    start = (channels, side, small(4, 6))
    layers: list[Layer] = []
    height, width = start[1:]
    before = "input"
    for index in range(small(1, 3)):
        name = f"block{index}"
        kind = draw(st.sampled_from(["conv", "residual", "max_pool", "avg_pool"]))
        k = small(1, min(3, height, width))
        if kind == "conv":
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if channels % g == 0]))
            channels, stride = groups * small(1, 2), small(1, 2)
            pad, after = small(0, 2), small(0, 2)
            layers.append(
                Conv(
                    name=name,
                    c_out=channels,
                    k=k,
                    stride=stride,
                    pad=pad,
                    pad_after=after,
                    groups=groups,
                    relu=draw(st.booleans()),
                )
            )
        elif kind == "residual":
            branch = Conv(name=f"{name}.a", c_out=channels, k=1, relu=draw(st.booleans()))
            other = before if before != "input" else f"{name}.a"
            layers += [
                branch,
                Add(name=name, inputs=(branch.name, other), relu=draw(st.booleans())),
            ]
            k, stride, pad, after = 1, 1, 0, 0
        else:
            stride = small(1, 3)
            pad, after = small(0, k - 1), small(0, k - 1)
            if kind == "avg_pool":
                pad, after = 0, 0
                layers.append(AvgPool(name=name, k=k, stride=stride))
            else:
                layers.append(MaxPool(name=name, k=k, stride=stride, pad=pad, pad_after=after))
        height = (height + pad + after - k) // stride + 1
        width = (width + pad + after - k) // stride + 1
        before = name
    end = draw(st.sampled_from(["dense", "pooled dense", "pool", "add"]))
    if end == "dense":
        layers += [Flatten(name="flatten"), Dense(name="dense", c_out=3)]
        return network_of(start, *layers, classes=3)
    if not any(isinstance(layer, Conv) for layer in layers):
        layers.append(Conv(name="conv", c_out=channels, k=1))
    layers.append(GlobalAvgPool(name="pool"))
    if end == "pooled dense":
        layers += [Dense(name="hidden", c_out=4), Dense(name="dense", c_out=2)]
        return network_of(start, *layers, classes=2)
    if end == "add":
        layers += [Dense(name="dense", c_out=channels), Add(name="add", inputs=("dense", "pool"))]
    return network_of(start, *layers, classes=channels)


@st.composite
def schemes(draw: st.DrawFn, network: Network) -> Scheme:
    choice = st.builds(
        LayerScheme,
        weights=st.sampled_from(WEIGHTS),
        granularity=st.sampled_from(GRANULARITIES),
        scale=st.sampled_from(SCALES),
    )
    names = {t.name for t in tensors(network).values() if t.kind != "result"}
    return Scheme(
        layers={node.name: draw(choice) for node in network.engines},
        bits={name: draw(st.integers(1, 8)) for name in sorted(names)},
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Network, Scheme, NetworkIntegers, np.ndarray]:
    network = draw(tiny())
    scheme = draw(schemes(network))
    seed = draw(st.integers(0, 1000))
    unsigned = [n.name for n in network.engines if tensors(network)[n.name].kind == "activation"]
    methods = {
        name: draw(st.sampled_from(["thresholds", "multiply"]))
        for name in unsigned
        if draw(st.booleans())
    }
    integers = integer.draw(network, scheme, seed, methods)
    rng = np.random.default_rng(seed)
    layers = dict(integers.layers)
    for name, own in layers.items():
        if isinstance(own, LayerIntegers) and scheme.layers[name].scale == "fixed8":
            signs = rng.choice([-1, 1], own.mantissas.shape) if len(own.mantissas) > 1 else 1
            layers[name] = replace(own, mantissas=own.mantissas * signs)
    images = integer.random_images(network, scheme, 2, rng)
    return network, scheme, NetworkIntegers(layers=layers), images


def loops(
    network: Network, scheme: Scheme, integers: NetworkIntegers, image: Picture
) -> dict[str, Picture]:
    """What each layer writes for one image, by the definition, number by number."""
    written = {"input": image}
    kinds = tensors(network)
    for node in network.nodes:
        inputs = [written[name] for name in node.inputs]
        own = integers.layers.get(node.name)
        out = node.out_shape
        value = VALUES[type(node.layer)]
        clip = clipping(kinds[node.name], scheme)
        written[node.name] = [
            [[value(node, own, inputs, clip, c, y, x) for x in range(out.w)] for y in range(out.h)]
            for c in range(out.c)
        ]
    return written


Clip = Callable[[int], int] | None


def clipping(tensor: Tensor, scheme: Scheme) -> Clip:
    if tensor.kind == "result":
        return None
    bits = scheme.bits[tensor.name]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if tensor.signed else (0, 2**bits - 1)
    return lambda value: min(max(value, low), high)


def window(node: Node, picture: Picture, c: int, y: int, x: int) -> list[tuple[int, int, int]]:
    """The (row, column, code) of one kernel position each, where there is a pixel."""
    found = []
    for i in range(node.k):
        for j in range(node.k):
            row, column = y * node.stride - node.pad[0] + i, x * node.stride - node.pad[0] + j
            if 0 <= row < node.in_shape.h and 0 <= column < node.in_shape.w:
                found.append((i, j, picture[c][row][column]))
    return found


def engine(node: Node, own: Any, inputs: list[Picture], clip: Clip, c: int, y: int, x: int) -> int:
    ins, outs = node.in_shape.c // node.groups, node.out_shape.c // node.groups
    acc = 0
    for channel in range(ins):
        for i, j, code in window(node, inputs[0], c // outs * ins + channel, y, x):
            group = {1: 0, node.k: i, node.k**2: node.k * i + j}[len(own.mantissas)]
            acc += int(own.mantissas[group]) * int(own.codes[c, channel, i, j]) * code
    if clip is None:
        return acc
    if own.thresholds is not None:
        return sum(int(t) <= acc for t in own.thresholds[c])
    return clip((acc * int(own.gains[c]) + int(own.offsets[c])) // 2**own.shift)


def rounded(total: int, shift: int, clip: Callable[[int], int]) -> int:
    return clip((2 * total + 2**shift) // 2 ** (shift + 1))


def added(node: Node, own: Any, inputs: list[Picture], clip: Clip, c: int, y: int, x: int) -> int:
    a, b = (picture[c][y][x] for picture in inputs)
    if clip is None:
        return a + b
    return rounded(a * 2 ** own.shifts[0] + b * 2 ** own.shifts[1], own.shift, clip)


def mean(node: Node, own: Any, inputs: list[Picture], clip: Clip, c: int, y: int, x: int) -> int:
    if isinstance(node.layer, GlobalAvgPool):
        total = sum(sum(row) for row in inputs[0][c])
    else:
        total = sum(code for _, _, code in window(node, inputs[0], c, y, x))
    return total if clip is None else rounded(total * own.gain, own.shift, clip)


def largest(node: Node, _: Any, inputs: list[Picture], clip: Clip, c: int, y: int, x: int) -> int:
    return max(code for _, _, code in window(node, inputs[0], c, y, x))


def flat(node: Node, _: Any, inputs: list[Picture], clip: Clip, c: int, y: int, x: int) -> int:
    return [code for plane in inputs[0] for row in plane for code in row][c]


VALUES = {
    Conv: engine,
    Dense: engine,
    Add: added,
    AvgPool: mean,
    GlobalAvgPool: mean,
    MaxPool: largest,
    Flatten: flat,
}


@given(cases())
@settings(max_examples=60, deadline=None)
def test_every_layer_writes_what_loops_write(
    case: tuple[Network, Scheme, NetworkIntegers, np.ndarray],
) -> None:
    network, scheme, integers, images = case
    found = integer.infer(network, scheme, integers, images, activations=True)
    for index, image in enumerate(images.tolist()):
        expected = loops(network, scheme, integers, image)
        assert {name: codes[index].tolist() for name, codes in found.items()} == expected
    results = integer.infer(network, scheme, integers, images)
    last = found[network.nodes[-1].name]
    assert results.shape == (len(images), network.file.classes) and results.dtype == np.int64
    assert np.array_equal(results, last[:, :, 0, 0])


@given(cases())
@settings(max_examples=15, deadline=None)
def test_integers_come_back_from_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[Network, Scheme, NetworkIntegers, np.ndarray],
) -> None:
    network, scheme, integers, _ = case
    path = tmp_path_factory.mktemp("integers") / "tiny.safetensors"
    integer_file.save(path, integers)
    assert plain(integer_file.load(path, network, scheme)) == plain(integers)


def plain(integers: NetworkIntegers) -> dict[str, dict[str, Any]]:
    def listed(own: Integers) -> dict[str, Any]:
        values = {name: getattr(own, name) for name in own.__dataclass_fields__}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    return {name: listed(own) for name, own in integers.layers.items()}


def test_images_in_blocks_are_as_images_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    network, scheme, integers = lenet()
    images = integer.random_images(network, scheme, 5, np.random.default_rng(1))
    whole = integer.infer(network, scheme, integers, images)
    monkeypatch.setattr(integer, "COLUMN_ELEMENTS", 40_000)
    assert np.array_equal(integer.infer(network, scheme, integers, images), whole)


def test_padding_never_wins_over_negative_codes() -> None:
    network = network_of(
        (1, 3, 3),
        Conv(name="conv", c_out=1, k=1, relu=False),
        MaxPool(name="pool", k=3, stride=2, pad=1),
        Flatten(name="flatten"),
        Dense(name="dense", c_out=1),
        classes=1,
    )
    scheme = uniform(network, LayerScheme(), 8)
    drawn = integer.draw(network, scheme, 1)
    low = np.array([-200 << 8])  # every code of the conv is negative
    integers = changed(
        drawn,
        "conv",
        codes=np.ones((1, 1, 1, 1), np.int64),
        gains=np.array([256]),
        offsets=low,
        shift=8,
    )
    image = np.arange(90, 99).reshape(1, 1, 3, 3)
    found = integer.infer(network, scheme, integers, image, activations=True)
    assert found["conv"].ravel().tolist() == list(range(-110, -101))
    assert found["pool"].ravel().tolist() == [-106, -105, -103, -102]


def test_sums_stay_exact_where_they_are_largest() -> None:
    """Every term at its largest magnitude, the sum odd and past 32 bits."""
    network = network_of(
        (515, 3, 3),
        Conv(name="conv", c_out=1, k=3),
        Flatten(name="flatten"),
        Dense(name="dense", c_out=1),
        classes=1,
    )
    scheme = uniform(network, LayerScheme(weights="int8", granularity="pixel"), 8)
    scheme = replace(
        scheme,
        layers={"conv": LayerScheme(weights="int8", granularity="pixel"), "dense": LayerScheme()},
    )
    own = LayerIntegers(
        codes=np.full((1, 515, 3, 3), 127), mantissas=np.full(9, 127), thresholds=np.arange(255)
    )
    images = np.full((1, 515, 3, 3), 255)
    acc = integer.accumulate(network.by_name["conv"], own, images)
    assert acc.item() == 9 * 515 * 127 * 127 * 255 > 1 << 32
    assert scheme.layers["conv"].multiplies_partial_sums


@pytest.mark.parametrize("name", ["lenet5", "cnv", "resnet8", "cybersec-mlp"])
@pytest.mark.parametrize("choice", ["binary,1,layer", "ternary,2,pixel", "int4,4,row,shift"])
@pytest.mark.parametrize("method", ["thresholds", "multiply"])
def test_drawn_integers_use_the_codes(name: str, choice: str, method: integer.Method) -> None:
    """On new images no tensor and no channel of all of them is stuck at one code."""
    network = networks.load(name)
    scheme = parse_uniform(network, choice)
    written = tensors(network)
    methods = {n.name: method for n in network.engines if written[n.name].kind == "activation"}
    integers = integer.draw(network, scheme, 3, methods)
    for n in network.engines:
        own = integers.layers[n.name]
        assert isinstance(own, LayerIntegers)
        expected = methods.get(n.name, "multiply" if written[n.name].kind == "residual" else None)
        assert own.method == expected
    images = integer.random_images(network, scheme, 4, np.random.default_rng(9))
    found = integer.infer(network, scheme, integers, images, activations=True)
    for node in network.nodes:
        ranges = integer.code_range(scheme, written[node.name])
        codes = found[node.name]
        assert len(np.unique(codes)) >= 2
        if ranges is not None:
            assert ranges[0] <= codes.min() and codes.max() <= ranges[1]
        if node.has_weights and ranges is not None and ranges[1] - ranges[0] < 16:
            assert len(np.unique(codes)) == ranges[1] - ranges[0] + 1
    assert len(np.unique(found[network.nodes[-1].name], axis=0)) == len(images)


def test_a_seed_gives_the_same_integers() -> None:
    network, scheme, integers = lenet()
    assert plain(integer.draw(network, scheme, 1)) == plain(integers)
    assert plain(integer.draw(network, scheme, 2)) != plain(integers)


def test_formats_are_those_of_the_cost_model() -> None:
    assert integer.GAIN_BITS == requant.GAIN_BITS
    assert integer.MANTISSA_MAX == scale.MANTISSA_MAX
    assert integer.EXPONENTS == 2**scale.SHIFT_BITS


def lenet() -> tuple[Network, Scheme, NetworkIntegers]:
    network = networks.load("lenet5")
    scheme = uniform(network, LayerScheme(weights="ternary", granularity="row"), 2)
    return network, scheme, integer.draw(network, scheme, 1)


def changed(integers: NetworkIntegers, name: str, **values: Any) -> NetworkIntegers:
    return NetworkIntegers(
        layers={**integers.layers, name: replace(integers.layers[name], **values)}
    )


def broken() -> dict[str, tuple[Callable[[NetworkIntegers, LayerIntegers], Any], str]]:
    """A change of the integers of one layer, and what is said about it."""
    return {
        "shape": (
            lambda all_, own: changed(all_, "conv2", codes=own.codes[:, :, :, :4]),
            "integers: conv2: the shape of codes must be 16x6x5x5, got 16x6x5x4",
        ),
        "codebook": (
            lambda all_, own: changed(all_, "conv2", codes=own.codes * 3),
            "integers: conv2: codes of ternary must be -1 to 1, got ",
        ),
        "kind": (
            lambda all_, own: changed(all_, "conv2", codes=own.codes.astype(np.float64)),
            "integers: conv2: codes must be an array of int64, got float64",
        ),
        "mantissas": (
            lambda all_, own: changed(all_, "conv2", mantissas=own.mantissas * 0 + 200),
            "integers: conv2: mantissas of fixed8 must be -127 to 127, got 200",
        ),
        "one mantissa": (
            lambda all_, own: changed(all_, "dense1", mantissas=np.array([2])),
            "integers: dense1: mantissas by row must be 1, got 2",
        ),
        "order": (
            lambda all_, own: changed(all_, "conv2", thresholds=own.thresholds[:, ::-1]),
            "integers: conv2: thresholds must ascend, got ",
        ),
        "both": (
            lambda all_, own: changed(
                all_,
                "conv2",
                gains=np.ones(16, np.int64),
                offsets=np.ones(16, np.int64),
                shift=1,
            ),
            "integers: conv2: must have thresholds, or gains, offsets and shift; got both",
        ),
        "neither": (
            lambda all_, own: changed(all_, "conv2", thresholds=None),
            "integers: conv2: must have thresholds, or gains, offsets and shift; got neither",
        ),
        "half": (
            lambda all_, own: changed(all_, "conv2", thresholds=None, shift=1),
            "integers: conv2: gains, offsets and shift must be given together",
        ),
        "overflow": (
            lambda all_, own: changed(
                all_,
                "conv2",
                thresholds=None,
                gains=np.ones(16, np.int64),
                offsets=np.full(16, 2**63 - 1),
                shift=1,
            ),
            "integers: conv2: acc * gain + offset must fit 64 bits, got an offset of "
            "9223372036854775807 in channel 0; lower offset, gain and shift",
        ),
        "gain": (
            lambda all_, own: changed(
                all_,
                "conv2",
                thresholds=None,
                gains=np.full(16, 40000),
                offsets=np.ones(16, np.int64),
                shift=1,
            ),
            "integers: conv2: gains of 16 bits must be -32768 to 32767, got 40000",
        ),
        "result": (
            lambda all_, own: changed(all_, "dense3", thresholds=own.thresholds),
            "integers: dense3: writes the network's result and must have no thresholds",
        ),
        "unknown": (
            lambda all_, own: NetworkIntegers(layers={**all_.layers, "conv9": own}),
            "integers: unknown layer 'conv9'; known: conv1, conv2, dense1, dense2, dense3",
        ),
        "missing": (
            lambda all_, own: NetworkIntegers(layers={"conv2": own}),
            "integers: conv1: integers of this layer are missing",
        ),
        "other": (
            lambda all_, own: NetworkIntegers(
                layers={**all_.layers, "conv2": PoolIntegers(gain=1, shift=1)}
            ),
            "integers: conv2: must be LayerIntegers, got PoolIntegers",
        ),
    }


@pytest.mark.parametrize("name", broken())
def test_integers_that_break_a_rule(name: str, tmp_path: Path) -> None:
    network, scheme, integers = lenet()
    change, message = broken()[name]
    own = integers.layers["conv2"]
    assert isinstance(own, LayerIntegers)
    wrong = change(integers, own)
    images = integer.random_images(network, scheme, 1, np.random.default_rng(0))
    with pytest.raises(InputError) as error:
        integer.infer(network, scheme, wrong, images)
    assert str(error.value).startswith(message)
    if name not in ("other", "kind"):  # a file cannot hold these
        path = tmp_path / "integers"
        integer_file.save(path, wrong)
        with pytest.raises(InputError) as error:
            integer_file.load(path, network, scheme)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"conv1/kodes": [1]}, "conv1: unknown field 'kodes'; known: codes, mantissas"),
        ({"codes": [1]}, "unknown layer ''; known: conv1"),
        ({"conv1/codes": [0.5]}, "conv1: codes must be signed integers, got float64"),
        ({"conv1/mantissas": [1]}, "conv1: codes is missing"),
        ({"conv1/shift": [1, 2]}, "conv1: the shape of shift must be a single number"),
    ],
)
def test_files_that_break_a_rule(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    network, scheme, _ = lenet()
    path = tmp_path / "n.safetensors"
    save_file({name: np.array(value) for name, value in arrays.items()}, path)
    with pytest.raises(InputError) as error:
        integer_file.load(path, network, scheme)
    assert str(error.value).startswith(f"n.safetensors: {message}")


def test_files_that_are_none_of_safetensors(tmp_path: Path) -> None:
    network, scheme, integers = lenet()
    with pytest.raises(InputError, match=r"none: cannot be read: No such file"):
        integer_file.load(tmp_path / "none", network, scheme)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"text\.safetensors: is cut or no safetensors file"):
        integer_file.load(text, network, scheme)
    cut = tmp_path / "cut.safetensors"
    integer_file.save(cut, integers)
    content = cut.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.safetensors: is cut or no safetensors file"):
            integer_file.load(cut, network, scheme)


def test_images_that_do_not_fit() -> None:
    network, scheme, integers = lenet()
    shape = network.input_shape
    right = np.zeros((1, shape.c, shape.h, shape.w), np.int64)
    with pytest.raises(InputError, match=r"images: codes must be 0 to 255, got 256"):
        integer.infer(network, scheme, integers, right + 256)
    with pytest.raises(InputError, match=r"images: must be integers, got float64; quantise them"):
        integer.infer(network, scheme, integers, right + 0.5)
    with pytest.raises(
        InputError, match=r"images: the shape must be \(n, 1, 28, 28\), got 1x28x28"
    ):
        integer.infer(network, scheme, integers, right[0])


def test_methods_that_do_not_fit() -> None:
    network = networks.load("resnet8")
    scheme = uniform(network, LayerScheme(), 4)
    wrong: Any
    for wrong, message in (
        ({"conv9": "multiply"}, "methods: unknown layer 'conv9'"),
        ({"fc": "multiply"}, "methods: unknown layer 'fc'"),  # the result has none
        ({"conv1": "divide"}, "methods: unknown method 'divide'; known: thresholds, multiply"),
        ({"layer1.conv2": "thresholds"}, "methods: layer1.conv2: a residual is signed; use"),
    ):
        with pytest.raises(InputError) as error:
            integer.draw(network, scheme, 1, wrong)
        assert str(error.value).startswith(message)


def test_shifts_of_adds_and_pools_have_bounds() -> None:
    network = networks.load("resnet8")
    scheme = uniform(network, LayerScheme(), 4)
    integers = integer.draw(network, scheme, 1)
    for name, own, message in (
        ("layer1.add", AddIntegers(shifts=(0, 40), shift=1), "shifts must be 0 to 31, got 40"),
        ("layer1.add", AddIntegers(shifts=(0, 0), shift=-1), "shift must be 0 to 62, got -1"),
        ("avgpool", PoolIntegers(gain=1 << 15, shift=1), "gain must be -32768 to 32767, got 32768"),
    ):
        wrong = NetworkIntegers(layers={**integers.layers, name: own})
        with pytest.raises(InputError) as error:
            integer.check(network, scheme, wrong)
        assert str(error.value) == f"integers: {name}: {message}"
