"""Networks, schemes and trained states that tests of the exports share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from syq_dse import network as networks
from syq_dse.interop.trained import Trained
from syq_dse.network import Add, Conv, Flatten, MaxPool, Network, NetworkFile, Recipe
from syq_dse.quant import weights
from syq_dse.quant.model import Model
from syq_dse.quant.streamline import streamline
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, Scheme, normal, tensors

EVERY_OP = """
name = "every-op"
provenance = "test"
classes = 5
input = [2, 13, 13]
recipe = { dataset = "none" }
layers = [
  { name = "conv1", op = "conv", c_out = 6, k = 3, pad = 0, pad_after = 1 },
  { name = "pool1", op = "max_pool", k = 3, stride = 2, pad = 1, pad_after = 0 },
  { name = "conv2", op = "conv", c_out = 6, k = 3, pad = 1, groups = 3, bias = true, relu = false },
  { name = "add1", op = "add", inputs = ["conv2", "pool1"], relu = false },
  { name = "pool2", op = "max_pool", k = 2, stride = 1, pad = 1 },
  { name = "mean1", op = "avg_pool", k = 3, stride = 2 },
  { name = "conv3", op = "conv", c_out = 8, k = 2, pad = 1, batch_norm = false },
  { name = "short", op = "conv", input = "mean1", c_out = 8, k = 2, pad = 1, relu = false },
  { name = "add2", op = "add", inputs = ["conv3", "short"] },
  { name = "conv4", op = "conv", c_out = 8, k = 3, pad = 2, pad_after = 1, groups = 8 },
  { name = "mean2", op = "avg_pool", k = 2 },
  { name = "flat", op = "flatten" },
  { name = "dense1", op = "dense", c_out = 9 },
  { name = "dense2", op = "dense", c_out = 7, bias = true },
  { name = "mean3", op = "global_avg_pool" },
  { name = "dense3", op = "dense", c_out = 5, batch_norm = false, relu = false },
]
"""


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
    (Conv(name="conv1", c_out=3, k=2), MaxPool(name="pool", k=4), Flatten(name="flat")),
    (1, 5, 5),
    3,
)
ENDS_IN_A_MEAN = build(
    (Conv(name="conv1", c_out=4, k=3), networks.GlobalAvgPool(name="mean")), (1, 6, 5), 4
)
ONE_LAYER = build((Conv(name="conv1", c_out=6, k=4, batch_norm=False, relu=False),), (3, 4, 4), 6)
SMALL = {
    "sum": ENDS_IN_A_SUM,
    "pool": ENDS_IN_A_POOL,
    "mean": ENDS_IN_A_MEAN,
    "one": ONE_LAYER,
}


def images_for(network: Network, seed: int, count: int = 6) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, *network.file.input), dtype=np.uint8))


def random_scheme(network: Network, seed: int, least: int = 2) -> Scheme:
    rng = np.random.default_rng(seed)
    return Scheme(
        layers={
            node.name: normal(
                node,
                LayerScheme(
                    weights=rng.choice(WEIGHTS),
                    granularity=rng.choice(GRANULARITIES),
                    scale=rng.choice(SCALES),
                ),
            )
            for node in network.engines
        },
        bits={
            t.name: int(rng.integers(least, 9))
            for t in tensors(network).values()
            if t.kind != "result"
        },
    )


@torch.no_grad()
def trained(network: Network, scheme: Scheme, seed: int) -> Trained:
    """As training could leave it: batch-norm knows its inputs, and some gains are negative."""
    rng = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=rng, dtype=like.dtype)

    model = Model(network, scheme)
    for name, value in model.named_state().items():
        kind = name.rpartition("/")[2]
        if kind == "weight":
            value.copy_(noise(value) * (2 / value[0].numel()) ** 0.5)
        elif kind == "scale":
            own = model.weighted[name.rpartition("/")[0]]
            assert own.layer is not None
            value.copy_(weights.first_scales(own.weight, own.layer))
            if weights.has_step(own.layer.weights):
                value.mul_(1 + 0.3 * noise(value)).abs_()
            else:
                value.mul_(1 + 0.8 * noise(value))  # some are negative
        elif kind in ("gain", "offset", "bias"):
            value.copy_(noise(value) * (1 if kind == "gain" else 0.3))
        elif kind == "range" and name != "input/range":
            value.copy_(torch.exp(0.5 * noise(value)) * 1.5)
    for layer in model.weighted.values():
        layer.momentum = 1.0
    model.train()(images_for(network, seed + 1, 16))
    for name, value in model.named_state().items():
        if name.endswith(("/mean", "/variance")):
            value.mul_(1 + 0.1 * noise(value).clamp(-2, 2))
    integers, readout = streamline(model)
    return Trained(
        network=network,
        scheme=scheme,
        state={name: value.detach().clone() for name, value in model.named_state().items()},
        integers=integers,
        readout=readout,
        place="training",
    )
