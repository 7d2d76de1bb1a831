"""The integer model as ONNX, run by onnxruntime, against the integer model: every result equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from syq_dse import network as networks
from syq_dse.interop import integer_onnx
from syq_dse.interop.trained import Trained
from syq_dse.network import INPUT, Network
from syq_dse.quant import integer
from syq_dse.quant.integer import Ints

from .workbench import EVERY_OP, SMALL, images_for, random_scheme, trained

runtime = pytest.importorskip("onnxruntime")


def every_op(tmp_path: Path) -> Network:
    (tmp_path / "every-op.toml").write_text(EVERY_OP)
    return networks.load(str(tmp_path / "every-op.toml"))


def results(own: Trained, images: Ints) -> Ints:
    """Of the integer model, from pixels."""
    top = (1 << own.scheme.bits[INPUT]) - 1
    codes = (2 * images.astype(np.int64) * top + 255) // 510
    return integer.infer(own.network, own.scheme, own.integers, codes)


def check(own: Trained, out: Path, seed: int) -> None:
    (path,) = integer_onnx.write(own, "net", out)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = runtime.InferenceSession(str(path))
    images = images_for(own.network, seed).numpy()
    logits, found = session.run(["logits", "results"], {"images": images})
    wanted = results(own, images)
    np.testing.assert_array_equal(found, wanted)
    real = own.readout.logits(wanted)
    np.testing.assert_allclose(logits, real, rtol=1e-6, atol=1e-5 * max(1, abs(real).max()))


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
    check(trained(net, random_scheme(net, 3), 3), tmp_path, 3)
