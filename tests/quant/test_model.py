"""The model against plain torch operations, and its integers against it, code by code."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from syq_dse import network as networks
from syq_dse.errors import InputError
from syq_dse.network import (
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Network,
    NetworkFile,
    Recipe,
)
from syq_dse.quant import integer
from syq_dse.quant.model import Model
from syq_dse.quant.streamline import agreement, settle, streamline
from syq_dse.scheme import GRANULARITIES, WEIGHTS, LayerScheme, Scheme, normal, tensors, uniform


def build(layers: tuple[Any, ...], shape: tuple[int, int, int], classes: int) -> Network:
    return networks.build(
        NetworkFile(
            name="small",
            provenance="test",
            classes=classes,
            input=shape,
            recipe=Recipe(dataset="none"),
            layers=layers,
        )
    )


CHAIN = build(
    (
        Conv(name="conv1", c_out=4, k=3, pad=1),
        MaxPool(name="pool1", k=3, stride=2, pad=1, pad_after=0),
        Conv(name="conv2", c_out=6, k=3, stride=2, pad=0, pad_after=1, batch_norm=False),
        Conv(name="conv3", c_out=6, k=3, pad=1, groups=3, bias=True),
        AvgPool(name="pool2", k=2),
        Flatten(name="flatten"),
        Dense(name="dense1", c_out=7),
        Dense(name="dense2", c_out=5, batch_norm=False, relu=False),
    ),
    (2, 9, 9),
    5,
)
RESIDUAL = build(
    (
        Conv(name="conv1", c_out=4, k=3, pad=1),
        Conv(name="b.conv1", c_out=4, k=3, pad=1),
        Conv(name="b.conv2", c_out=4, k=3, pad=1, relu=False),
        Add(name="b.add", inputs=("b.conv2", "conv1")),
        Conv(name="c.conv1", c_out=8, k=3, stride=2, pad=1, relu=False),
        Conv(name="c.short", input="b.add", c_out=8, k=1, stride=2, batch_norm=False, relu=False),
        Add(name="c.add", inputs=("c.conv1", "c.short")),
        GlobalAvgPool(name="mean"),
        Dense(name="fc", c_out=3, batch_norm=False, relu=False),
    ),
    (3, 6, 6),
    3,
)
ENDS_IN_A_MEAN = build(
    (
        Conv(name="conv1", c_out=4, k=3, pad=1),
        Conv(name="conv2", c_out=4, k=1),
        GlobalAvgPool(name="mean"),
    ),
    (1, 5, 5),
    4,
)
ENDS_IN_A_SUM = build(
    (
        Conv(name="conv1", c_out=4, k=5),
        Conv(name="left", c_out=4, k=1, relu=False),
        Conv(name="right", input="conv1", c_out=4, k=1),
        Add(name="sum", inputs=("left", "right"), relu=False),
    ),
    (1, 5, 5),
    4,
)
ENDS_IN_A_POOL = build(
    (
        Conv(name="conv1", c_out=3, k=2),
        MaxPool(name="pool", k=4),
        Flatten(name="flat"),
    ),
    (1, 5, 5),
    3,
)
NETWORKS = [CHAIN, RESIDUAL, ENDS_IN_A_MEAN, ENDS_IN_A_SUM, ENDS_IN_A_POOL]


def random_state(model: Model, seed: int) -> None:
    """Weights, scales, batch-norm and ranges as training could leave them, some gains negative."""
    rng = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=rng, dtype=like.dtype)

    with torch.no_grad():
        for name, value in model.named_state().items():
            kind = name.rpartition("/")[2]
            if kind == "scale":
                value.mul_(1 + 0.3 * normal(value)).abs_().add_(1e-3)
            elif kind == "variance":
                value.copy_(normal(value).abs() + 0.1)
            elif kind in ("gain", "offset", "bias", "mean"):
                value.copy_(normal(value) * (0.5 if kind == "gain" else 0.3))
            elif kind == "range" and name != "input/range":
                value.copy_(torch.exp(0.7 * normal(value)))


def random_scheme(network: Network, seed: int) -> Scheme:
    rng = np.random.default_rng(seed)
    return Scheme(
        layers={
            node.name: normal(
                node,
                LayerScheme(
                    weights=rng.choice(WEIGHTS),
                    granularity=rng.choice(GRANULARITIES),
                    scale=rng.choice(["fixed8", "shift"]),
                ),
            )
            for node in network.engines
        },
        bits={
            t.name: int(rng.integers(1 if not t.signed else 2, 9))
            for t in tensors(network).values()
            if t.kind != "result"
        },
    )


@given(st.integers(0, 1 << 20), st.sampled_from(range(len(NETWORKS))))
@settings(deadline=None, max_examples=40)
def test_integers_give_the_models_codes(seed: int, which: int) -> None:
    """By thresholds, which residuals cannot have, every code and every class."""
    network = NETWORKS[which]
    model = Model(network, random_scheme(network, seed), learned_ranges=bool(seed % 2))
    random_state(model, seed)
    methods: dict[str, integer.Method] = {
        node.name: "thresholds"
        for node in network.engines
        if model.written[node.name].kind == "activation"
    }
    integers, readout = streamline(model, methods)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (20, *network.file.input), dtype=np.uint8)
    found = agreement(model, integers, readout, images)
    assert found.images == 20
    if not any(t.kind == "residual" for t in model.written.values()):
        assert found.apart == {} and found.same_class == 20 and found.images_apart == 0


@given(st.integers(0, 1 << 20), st.sampled_from(range(len(NETWORKS))))
@settings(deadline=None, max_examples=40)
def test_by_multiply_a_code_is_off_by_the_rounding_of_its_gain(seed: int, which: int) -> None:
    """Layer by layer on the same codes: half a unit of the gain, away from the middle of codes."""
    network = NETWORKS[which]
    scheme = random_scheme(network, seed)
    model = Model(network, scheme)
    random_state(model, seed)
    model = model.double().eval()
    every: dict[str, integer.Method] = {
        node.name: "multiply"
        for node in network.engines
        if model.written[node.name].kind != "result" and model.written[node.name].name == node.name
    }
    integers, _ = streamline(model, every)
    rng = np.random.default_rng(seed)
    images = integer.random_images(network, scheme, 5, rng)
    found = integer.infer(network, scheme, integers, images, activations=True)
    steps = {name: float(model.step(name)) for name in model.bits}
    for name in every:
        node, own = network.by_name[name], integers.layers[name]
        assert isinstance(own, integer.LayerIntegers)
        assert own.gains is not None and own.offsets is not None and own.shift is not None
        codes = found[node.inputs[0]]
        read, written = steps[model.written[node.inputs[0]].name], steps[name]
        with torch.no_grad():
            raised = model.weighted[name](torch.from_numpy(codes).double(), read, written)
        wanted = raised.numpy().reshape(found[name].shape)
        acc = integer.accumulate(node, own, codes)
        gain, offset = own.gains[:, None, None], own.offsets[:, None, None]
        got = np.ldexp((acc * gain + offset).astype(float), -own.shift)
        low, high = model.code_range(name)
        reach = np.abs(
            integer.reach(node, own, model.code_range(model.written[node.inputs[0]].name))
        )
        middle = np.clip(
            ((low + high + 1) / 2 - np.ldexp(1.0 * offset, -own.shift))
            / np.where(gain == 0, 1, np.ldexp(1.0 * gain, -own.shift)),
            -reach[:, None, None],
            reach[:, None, None],
        )
        bound = np.ldexp(0.5 * (abs(acc - middle) + 4), -own.shift) + 1e-6
        # past the codes' ends a channel may lie anywhere
        ends = low - 1, high + 1
        assert (abs(np.clip(got, *ends) - np.clip(wanted, *ends)) <= bound * 1.1).all()
        width = int(reach.max()).bit_length() + 1 + integer.GAIN_BITS
        assert (abs(own.offsets) < 1 << width - 1).all()
        clipped = np.clip(np.floor(got), low, high)
        np.testing.assert_array_equal(clipped, found[name])


@given(st.integers(0, 1 << 20), st.sampled_from(range(len(NETWORKS))))
@settings(deadline=None, max_examples=30)
def test_a_settled_model_is_its_integers(seed: int, which: int) -> None:
    """By multiply, too, each code where batch-norm stands before it; and settling settles."""
    network = NETWORKS[which]
    model = Model(network, random_scheme(network, seed)).double()
    random_state(model, seed)
    every: dict[str, integer.Method] = {
        node.name: "multiply"
        for node in network.engines
        if model.written[node.name].kind != "result" and model.written[node.name].name == node.name
    }
    first, _ = streamline(model, every)
    settle(model, first)
    again, readout = streamline(model, every)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (10, *network.file.input), dtype=np.uint8)
    found = agreement(model, again, readout, images)
    bare = {n for n, layer in model.weighted.items() if layer.gain is None and n in every}
    if not bare:
        assert sum(found.apart.values()) <= 1e-5 * found.codes
    for name in set(every) - bare:
        before, after = first.layers[name], again.layers[name]
        assert isinstance(before, integer.LayerIntegers)
        assert isinstance(after, integer.LayerIntegers)
        if before.shift == after.shift:
            np.testing.assert_array_equal(before.gains, after.gains)


def plain(network: Network, model: Model, images: torch.Tensor) -> torch.Tensor:
    """The float network, operation by operation."""
    found = {"input": images / 255}
    state = model.named_state()
    for node in network.nodes:
        x, layer, name = found[node.inputs[0]], node.layer, node.name
        if isinstance(layer, (Conv, Dense)):
            bias = state.get(f"{name}/bias")
            if isinstance(layer, Dense):
                x = F.linear(x.flatten(1), state[f"{name}/weight"], bias)
            else:
                before, after = node.pad
                x = F.pad(x, (before, after, before, after))
                x = F.conv2d(x, state[f"{name}/weight"], bias, node.stride, 0, 1, node.groups)
            if layer.batch_norm:
                shape = (-1, *[1] * (x.ndim - 2))
                mean, var, gain, offset = (
                    state[f"{name}/{key}"].reshape(shape)
                    for key in ("mean", "variance", "gain", "offset")
                )
                x = (x - mean) / torch.sqrt(var + 1e-5) * gain + offset
            x = F.relu(x) if layer.relu else x
        elif isinstance(layer, Add):
            x = x + found[node.inputs[1]]
            x = F.relu(x) if layer.relu else x
        elif isinstance(layer, MaxPool):
            before, after = node.pad
            x = F.pad(x, (before, after, before, after), value=-torch.inf)
            x = F.max_pool2d(x, node.k, node.stride)
        elif isinstance(layer, AvgPool):
            x = F.avg_pool2d(x, node.k, node.stride)
        elif isinstance(layer, GlobalAvgPool):
            x = x.mean((2, 3), keepdim=True)
        else:
            x = x.flatten(1)
        found[name] = x
    return found[network.nodes[-1].name].flatten(1)


@pytest.mark.parametrize("which", range(len(NETWORKS)))
def test_a_float_model_is_plain_torch(which: int) -> None:
    network = NETWORKS[which]
    model = Model(network).double().eval()
    random_state(model, which)
    images = torch.randint(0, 256, (4, *network.file.input), dtype=torch.uint8)
    wanted = plain(network, model, images.double())
    torch.testing.assert_close(model(images), wanted)


@pytest.mark.parametrize("which", range(len(NETWORKS)))
def test_eight_bits_come_close_to_float(which: int) -> None:
    """int8 weights and 8 bits with ranges that clip nothing: the float network, nearly.

    Ranges of what is added move by up to sqrt(2) to the nearest power of two.
    """
    torch.manual_seed(which)
    network = NETWORKS[which]
    plain_model = Model(network).eval()
    scheme = Scheme(
        layers={node.name: LayerScheme(granularity="channel") for node in network.engines},
        bits={t.name: 8 for t in tensors(network).values() if t.kind != "result"},
    )
    model = Model(network, scheme).eval()
    random_state(plain_model, which)
    state = plain_model.named_state()
    images = torch.randint(0, 256, (50, *network.file.input), dtype=torch.uint8)
    values = plain_model.run(images, keep=True)
    with torch.no_grad():
        for name, value in model.named_state().items():
            if name in state:
                value.copy_(state[name])
            elif name.endswith("/range") and name != "input/range":
                value.copy_(values[name.removesuffix("/range")].abs().max().clamp(min=1e-3) * 1.42)
            elif name.endswith("/scale"):
                weight = state[name.replace("/scale", "/weight")]
                value.copy_(weight.flatten(1).abs().amax(1).reshape(value.shape) / 127)
    wanted, got = plain_model(images), model(images)
    spread = wanted.std()
    assert (got - wanted).abs().mean() < 0.06 * spread


def test_training_and_evaluation_agree_on_one_batch() -> None:
    """With batch-norm's estimates taken from the batch itself."""
    torch.manual_seed(0)
    model = Model(CHAIN, random_scheme(CHAIN, 3)).double()
    images = torch.randint(0, 256, (64, *CHAIN.file.input), dtype=torch.uint8)
    for layer in model.weighted.values():
        layer.momentum = 1.0
    trained = model.train()(images)
    for layer in model.weighted.values():
        if layer.gain is not None:  # torch estimates with n - 1, and normalises with n
            rows = 64 * layer.node.out_shape.pixels
            layer.variance.mul_((rows - 1) / rows)
    torch.testing.assert_close(model.eval()(images), trained)


def test_state_goes_round_and_is_checked() -> None:
    model, other = (Model(RESIDUAL, random_scheme(RESIDUAL, 1)) for _ in range(2))
    random_state(model, 5)
    state = {name: value.clone() for name, value in model.named_state().items()}
    other.load_named_state(state, "checkpoint")
    images = torch.randint(0, 256, (2, *RESIDUAL.file.input), dtype=torch.uint8)
    assert torch.equal(model.eval()(images), other.eval()(images))
    with pytest.raises(InputError, match="checkpoint: unknown tensor 'x/weight'"):
        other.load_named_state({**state, "x/weight": torch.ones(1)}, "checkpoint")
    cut = dict(list(state.items())[1:])
    with pytest.raises(InputError, match="checkpoint: has no 'conv1/weight', which small needs"):
        other.load_named_state(cut, "checkpoint")
    with pytest.raises(InputError, match="conv1/weight: shapes must agree"):
        other.load_named_state({**state, "conv1/weight": torch.ones(1)}, "checkpoint")
    with pytest.raises(InputError, match="conv1/weight: must be finite"):
        broken = torch.full_like(state["conv1/weight"], torch.nan)
        other.load_named_state({**state, "conv1/weight": broken}, "checkpoint")


def test_float_ends_are_float() -> None:
    model = Model(CHAIN, random_scheme(CHAIN, 2), float_ends=True)
    for name, layer in model.weighted.items():
        assert (layer.layer is None) == (name in ("conv1", "dense2"))
    weight = model.weighted["conv1"].weight
    assert torch.equal(model.weighted["conv1"].effective(), weight)
    assert "conv1/scale" not in model.named_state() and "conv2/scale" in model.named_state()
    images = torch.randint(0, 256, (3, *CHAIN.file.input), dtype=torch.uint8)
    written = model.eval().run(images, keep=True)["conv1"]
    assert torch.equal(written, written.round())  # its activations are codes
    with pytest.raises(InputError, match="conv1: has float weights and no integers"):
        streamline(model)


def test_messages_of_streamline() -> None:
    with pytest.raises(InputError, match="small: is a float model and has no integers"):
        streamline(Model(CHAIN))
    model = Model(CHAIN, random_scheme(CHAIN, 0))
    with torch.no_grad():
        model.named_state()["conv1/gain"].fill_(torch.nan)
    with pytest.raises(InputError, match="conv1: weights, scales and batch-norm must be finite"):
        streamline(model)


def test_a_step_that_falls_below_zero_is_the_least_in_model_and_integers() -> None:
    """Scales of integers are learned, and may cross zero."""
    torch.manual_seed(0)  # of other weights some lie nearer to a step than 16 bits of gain tell
    network = NETWORKS[0]
    for kind, form, granularity in itertools.product(
        ("int2", "int8"), ("fixed8", "shift"), ("row", "pixel")
    ):
        chosen = LayerScheme(weights=kind, granularity=granularity, scale=form)
        scheme = uniform(network, chosen, 4)  # by thresholds
        model = Model(network, scheme)
        random_state(model, 1)
        with torch.no_grad():
            for layer in model.weighted.values():
                if layer.scale is not None and layer.scale.numel() > 1:
                    layer.scale.flatten()[0] = -0.003
                    layer.scale.flatten()[1] = 0.0
        integers, readout = streamline(model)
        assert all(
            own.mantissas.min() >= 1
            for own in integers.layers.values()
            if isinstance(own, integer.LayerIntegers)
        )
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (10, *network.file.input), dtype=np.uint8)
        assert agreement(model, integers, readout, images).apart == {}


def test_channels_that_batch_norm_ignores() -> None:
    """Gains of zero, alone or all, and an offset that lies on a code."""
    network = NETWORKS[0]
    model = Model(network, uniform(network, LayerScheme(weights="ternary"), 2))
    random_state(model, 2)
    first = next(layer for layer in model.weighted.values() if layer.gain is not None)
    for every in (False, True):
        with torch.no_grad():
            first.gain[: None if every else 1] = 0.0
            first.offset.copy_(torch.arange(len(first.offset)) * 2 / 3)
        for method in ("thresholds", "multiply"):
            name = first.node.name
            integers, _ = streamline(model, {name: method})
            rng = np.random.default_rng(0)
            images = rng.integers(0, 256, (10, *network.file.input), dtype=np.uint8)
            settle(model, integers)
            assert agreement(model, *streamline(model, {name: method}), images).apart == {}


VECTORS = build(
    (
        Conv(name="conv1", c_out=6, k=3, pad=1),
        GlobalAvgPool(name="mean"),
        Dense(name="dense1", c_out=6, relu=False),
        Add(name="add", inputs=("dense1", "mean")),
        Conv(name="conv2", c_out=6, k=1),
        MaxPool(name="pool", k=1),
        Dense(name="dense2", c_out=5, batch_norm=False),
    ),
    (2, 8, 8),
    5,
)


@pytest.mark.parametrize("quantised", [False, True])
def test_vectors_are_maps_of_one_pixel(quantised: bool) -> None:
    """Dense layers beside convolutions and means; logits have no ReLU, whatever the layer says."""
    scheme = uniform(VECTORS, LayerScheme(weights="ternary"), 3) if quantised else None
    model = Model(VECTORS, scheme)
    random_state(model, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 2, 8, 8), dtype=np.uint8)
    model.eval()
    with torch.no_grad():
        found = model.run(torch.from_numpy(images), keep=True)
        logits = model(torch.from_numpy(images))
    assert all(found[node.name].shape[1:] == astuple(node.out_shape) for node in VECTORS.nodes)
    assert logits.shape == (10, 5) and bool((logits < 0).any())
    if quantised:
        assert agreement(model, *streamline(model), images).apart == {}
