"""hls4ml's own code reads what is written for it, up to where it would call a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hls4ml")

import yaml

from syq_dse import network
from syq_dse.cost import estimate
from syq_dse.cost.folding import Folding
from syq_dse.errors import InputError
from syq_dse.interop import hls4ml
from syq_dse.network import Conv, Dense, Flatten, Layer, MaxPool, Network, NetworkFile, Recipe
from syq_dse.scheme import LayerScheme, uniform

from .quantised import exported, point

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of numpy, in qonnx and hls4ml
    pytest.mark.filterwarnings("ignore:Failed to propagate quantization bias:UserWarning"),
    pytest.mark.filterwarnings("ignore:Assuming [24]D input is:UserWarning"),
    # it compares a strategy with its own small letters
    pytest.mark.filterwarnings("ignore:Overriding attribute 'strategy':UserWarning"),
]


def made(*layers: Layer, shape: tuple[int, int, int] = (3, 16, 16)) -> Network:
    recipe = Recipe(dataset="cifar10")
    file = NetworkFile(
        name="made", provenance="", classes=10, input=shape, recipe=recipe, layers=layers
    )
    return network.build(file)


FC = Dense(name="fc", c_out=10, batch_norm=False, relu=False)

DEPTHWISE = made(
    Conv(name="conv 1: #'\"", c_out=8, k=3, pad=1),
    Conv(name="depth", c_out=8, k=3, pad=1, groups=8),
    Conv(name="point", c_out=16, k=1),
    MaxPool(name="pool", k=2),
    Flatten(name="flatten"),
    FC,
)


def cleaned(net: Network, chosen: Any, out: Path) -> Any:
    """The model as hls4ml's documentation has it prepared."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(ModelWrapper(str(exported(net, chosen, out))))
    if net.input_shape.pixels > 1:
        model = model.transform(ConvertToChannelsLastAndClean())
    return cleanup_model(model.transform(GemmToMatMul()))


@pytest.mark.parametrize(
    ("name", "weights", "bits", "slower"),
    [
        ("lenet5", "ternary", 4, 3),
        ("cnv", "int4", 2, 20),
        ("resnet8", "binary", 4, 50),
        ("cybersec-mlp", "ternary", 2, 100),
        ("depthwise", "int3", 4, 9),
    ],
)
def test_hls4ml_knows_and_uses_it(
    name: str, weights: Any, bits: int, slower: int, tmp_path: Path
) -> None:
    import hls4ml as tool

    net = DEPTHWISE if name == "depthwise" else network.load(name)
    chosen = uniform(net, LayerScheme(weights=weights), bits)
    least = max(estimate.least_intervals(net).values())
    asked = point(net, chosen, slower * least)
    (path,) = hls4ml.write(asked, tmp_path)
    config = yaml.safe_load(path.read_text())
    model = cleaned(net, chosen, tmp_path)
    known = tool.utils.config_from_onnx_model(model, granularity="name", backend="Vitis")
    assert set(config) <= set(known)
    assert set(config["Model"]) <= set(known["Model"])
    assert set(config["LayerName"]) <= set(known["LayerName"])
    graph = tool.converters.convert_from_onnx_model(
        model,
        output_dir=str(tmp_path / "hls"),
        backend="Vitis",
        io_type="io_stream",
        part="xczu9eg-ffvb1156-2-e",
        hls_config=config,
    )
    found = {layer.name: layer for layer in graph.get_layers()}
    named = hls4ml.names(asked)
    for node in net.engines:
        kind = "Dense_"
        if isinstance(node.layer, Conv):
            kind = "DepthwiseConv2D_" if node.groups > 1 else "Conv2D_"
        layer = found[kind + named[node.name]]
        channels = layer.get_attr("n_in"), layer.get_attr("n_out")
        if isinstance(node.layer, Conv):
            channels = layer.get_attr("n_chan"), layer.get_attr("n_filt")
        assert channels == (node.in_shape.c, node.out_shape.c)
        given = config["LayerName"][named[node.name]]
        assert layer.get_attr("reuse_factor") == given["ReuseFactor"]
        assert layer.get_attr("strategy") == given["Strategy"].lower()
        fold = asked.design.folding[node.name]
        if given["ReuseFactor"] * fold.pe * fold.simd == node.weights:
            taken = given["ReuseFactor"] * node.out_shape.pixels
            assert taken == node.macs // (fold.pe * fold.simd)


@pytest.mark.parametrize(("c_in", "c_out", "k"), [(6, 10, 1), (3, 8, 3), (16, 4, 1), (7, 5, 1)])
def test_reuse_is_what_hls4ml_would_take(c_in: int, c_out: int, k: int) -> None:
    from hls4ml.backends import get_backend

    backend = get_backend("Vitis")
    layers = (Conv(name="a", c_out=c_in, k=1), Conv(name="b", c_out=c_out, k=k))
    net = made(*layers, Flatten(name="f"), FC)
    node = net.by_name["b"]
    legal = backend.get_valid_reuse_factors(node.fan_in, c_out)
    for pe in (n for n in range(1, c_out + 1) if c_out % n == 0):
        for simd in (n for n in range(1, c_in + 1) if c_in % n == 0):
            fold = Folding(pe=pe, simd=simd)
            asked = point(net, uniform(net, LayerScheme(), 4), 10**6, folding={"b": fold})
            wanted = node.weights // (pe * simd)
            expected = backend.get_closest_reuse_factor(legal, wanted)
            if wanted in legal:
                expected = wanted
            assert hls4ml.reuse_factor(asked, node) == expected


def test_file(tmp_path: Path) -> None:
    chosen = uniform(DEPTHWISE, LayerScheme(weights="binary"), 4)
    asked = point(DEPTHWISE, chosen, 2304)
    (path,) = hls4ml.write(asked, tmp_path)
    assert path.name == "made-zcu102-1_hls4ml.yml"
    text = path.read_text()
    assert "# part='xczu9eg-ffvb1156-2-e', clock_period=5\n" in text
    assert "  Conv_0:  # conv 1: #'\"\n" in text
    config = yaml.safe_load(text)
    assert list(config["LayerName"]) == ["Conv_0", "Conv_1", "Conv_2", "MatMul_0"]
    precision = {"weight": "ap_int<2>", "bias": "auto", "accum": "auto", "result": "auto"}
    assert config["LayerName"]["Conv_2"]["Precision"] == precision
    sums = 9 * 15  # codes of 4 bits times -1 and 1
    wide = f"ap_fixed<{sums.bit_length() + 1 + 16},{sums.bit_length() + 1}>"
    assert config["LayerName"]["Conv_1"]["Precision"]["accum"] == wide


def test_rows_and_groups_are_refused(tmp_path: Path) -> None:
    rows = uniform(DEPTHWISE, LayerScheme(weights="ternary", granularity="row"), 4)
    with pytest.raises(InputError) as caught:
        hls4ml.write(point(DEPTHWISE, rows, 2304), tmp_path)
    assert str(caught.value) == (
        "made-zcu102-1: depth: hls4ml scales a layer or a channel as one, got granularity 'row'; "
        "explore with --granularity layer,channel"
    )
    layers = (Conv(name="a", c_out=8, k=3), Conv(name="b", c_out=8, k=3, groups=2))
    net = made(*layers, Flatten(name="f"), FC)
    with pytest.raises(InputError) as caught:
        hls4ml.write(point(net, uniform(net, LayerScheme(), 4), 10**6), tmp_path)
    assert str(caught.value) == (
        "made-zcu102-1: b: hls4ml convolves all channels or each by itself, got groups=2, c_in=8, "
        "c_out=8; change the network"
    )
    assert not list(tmp_path.iterdir())
