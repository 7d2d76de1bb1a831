"""The network as QONNX, run by qonnx, against the integer model; and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syq_dse import network as networks
from syq_dse import scheme
from syq_dse.interop import files, qonnx
from syq_dse.interop.trained import Trained
from syq_dse.network import Network
from syq_dse.quant.integer import Ints
from syq_dse.scheme import GRANULARITIES, WEIGHTS, LayerScheme, Scheme

from .test_onnx import every_op, results
from .workbench import SMALL, images_for, random_scheme, trained

pytest.importorskip("qonnx")

pytestmark = pytest.mark.filterwarnings("ignore")  # of qonnx and what it imports


def run(path: Path, images: Ints) -> Ints:
    """The logits of images by qonnx's own executor, one image at a time."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    model = ModelWrapper(str(path))
    return np.concatenate(
        [
            execute_onnx(model, {"images": image[None].astype(np.float32)})["logits"]
            for image in images
        ]
    )


def check(own: Trained, out: Path, seed: int, count: int = 6) -> list[Path]:
    *written, last = qonnx.write(own, "net", out)
    if last.name != "net.rounded.onnx":
        written.append(last)
    images = images_for(own.network, seed, count).numpy()
    wanted = own.readout.logits(results(own, images))
    for path in written:
        found = run(path, images)
        np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5 * max(1, abs(wanted).max()))
    return written


@pytest.mark.parametrize("seed", range(8))
def test_every_operator(seed: int, tmp_path: Path) -> None:
    net = every_op(tmp_path)
    check(trained(net, random_scheme(net, seed, least=1), seed), tmp_path, seed)


@pytest.mark.parametrize("name", SMALL)
def test_what_a_network_ends_in(name: str, tmp_path: Path) -> None:
    check(trained(SMALL[name], random_scheme(SMALL[name], 1), 1), tmp_path, 1)


@pytest.mark.parametrize("name", ["lenet5", "resnet8"])
def test_shipped_networks(name: str, tmp_path: Path) -> None:
    net = networks.load(name)
    check(trained(net, random_scheme(net, 3), 3), tmp_path, 3, count=3)


def test_quantisers_alone_are_nearly_the_network(tmp_path: Path) -> None:
    """For tools without MultiThreshold."""
    import onnx

    net = networks.load("lenet5")
    own = trained(net, scheme.uniform(net, LayerScheme(weights="int4"), 8), 1)
    path = tmp_path / "net.rounded.onnx"
    assert qonnx.write(own, "net", tmp_path)[-1] == path
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Quant" in operators and "MultiThreshold" not in operators
    images = images_for(net, 1, 20).numpy()
    wanted = own.readout.logits(results(own, images))
    found = run(path, images)
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.95
    assert abs(found - wanted).max() < 0.02 * abs(wanted).max()
    same(net, own.scheme, path)


def same(net: Network, chosen: Scheme, path: Path) -> None:
    """What comes in is the network and the scheme that went out."""
    found = files.read(str(path))
    assert found.file == net.file
    assert found.scheme is not None
    assert scheme.read(net, found.scheme, "here") == chosen


@pytest.mark.parametrize("name", ["lenet5", "resnet8", "cnv", "mobilenet-v1"])
def test_shipped_networks_come_back(name: str, tmp_path: Path) -> None:
    net = networks.load(name)
    if net.parameters > 1e7:
        pytest.skip("large")
    chosen = random_scheme(net, 5)
    same(net, chosen, qonnx.write(trained(net, chosen, 5), "net", tmp_path)[0])


@pytest.mark.parametrize("seed", range(6))
def test_every_operator_comes_back(seed: int, tmp_path: Path) -> None:
    net = every_op(tmp_path)
    chosen = random_scheme(net, seed, least=1)
    same(net, chosen, qonnx.write(trained(net, chosen, seed), "net", tmp_path)[0])


def quantisers(path: Path) -> dict[str, tuple[str, tuple[int, ...], dict[str, int]]]:
    """Of each layer's weights: the operator, the shape of its scale, its attributes."""
    import onnx

    model = onnx.load(path)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.output[0].removesuffix("/weight"): (
            node.op_type,
            shapes[node.input[1]],
            {one.name: one.i for one in node.attribute if one.type == one.INT},
        )
        for node in model.graph.node
        if node.output[0].endswith("/weight")
    }


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_have_the_quantisers_of_qonnx(
    weights: str, granularity: str, tmp_path: Path
) -> None:
    net = networks.load("lenet5")
    layer = LayerScheme(weights=weights, granularity=granularity)  # type: ignore[arg-type]
    chosen = scheme.uniform(net, layer, 4)
    written = [
        path
        for path in qonnx.write(trained(net, chosen, 2), "net", tmp_path)
        if path.name != "net.rounded.onnx"
    ]
    middle = net.engines[1]
    operator, shape, attributes = quantisers(written[0])[middle.name]
    k = middle.k
    assert operator == ("BipolarQuant" if weights == "binary" else "Quant")
    assert (
        shape
        == {
            "layer": (1, 1, 1, 1),
            "row": (1, 1, k, 1),
            "pixel": (1, 1, k, k),
            "channel": (middle.out_shape.c, 1, 1, 1),
        }[granularity]
    )
    assert attributes == ({} if weights == "binary" else {"signed": 1, "narrow": 1})
    assert len(written) == (2 if granularity in ("row", "pixel") else 1)
    if len(written) == 2:
        parts = [name for name in quantisers(written[1]) if name.startswith(f"{middle.name}/")]
        assert len(parts) == (k if granularity == "row" else k * k)
        assert {quantisers(written[1])[name][1] for name in parts} == {(1, 1, 1, 1)}
