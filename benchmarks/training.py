"""Speed of a training step: quantised against float, and against Brevitas.

    python benchmarks/training.py [network ...]
    python benchmarks/training.py --device cuda --batch 256 [--mixed] [--compile] resnet18

One thread, one process, batch 128, channels innermost, images of noise in memory. Our float and
quantised networks take turns; what counts is the median of the ratios of neighbours. The limit is
1: a quantised network computes all that the float one does. With Brevitas installed (`pip install
brevitas`), the same network of its layers, one scale a tensor, takes turns on a CPU too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from syq_dse import network, scheme
from syq_dse.network import Conv, Dense, Flatten, GlobalAvgPool, MaxPool, Network
from syq_dse.quant.model import Model
from syq_dse.search.process import MALLOC
from syq_dse.train import recipe
from syq_dse.train.images import TensorImages
from syq_dse.train.training import Settings, Training, processes

NETWORKS = ("fmnist-vgg", "lenet5", "resnet8")
STEPS, TURNS = 4, 25
BAR, BAR_GPU, BAR_PEER = 0.92, 0.9, 2.0

Turn = Callable[[], None]


def ours(net: Network, chosen: scheme.Scheme | None, batch: int, settings: Settings) -> Turn:
    """An epoch of STEPS steps of the trainer, as `syq-dse train` runs it."""
    shape = net.input_shape
    count = batch * STEPS
    images = torch.randint(0, 256, (count, shape.c, shape.h, shape.w), dtype=torch.uint8)
    labels = torch.randint(0, net.file.classes, (count,))
    how = replace(recipe.load("modern"), batch=batch)
    run = Training(Model(net, chosen), how, settings, TensorImages(images, labels))
    return lambda: run._epoch(lambda *_: None, lambda: False)


class Peer(nn.Module):
    """The network of Brevitas' layers: ternary weights, one scale a tensor, 4 bit activations."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        from brevitas import nn as qnn

        self.net, self.steps = net, nn.ModuleDict()
        last = net.engines[-1].name
        for index, node in enumerate(net.nodes):
            layer, found = node.layer, []
            bits = 8 if node.name in (net.engines[0].name, last) else 2
            if isinstance(layer, Conv):
                assert node.pad[0] == node.pad[1] or not node.pad[0]
                if node.pad[0] != node.pad[1]:
                    found.append(nn.ZeroPad2d((node.pad[0], node.pad[1]) * 2))
                found.append(
                    qnn.QuantConv2d(
                        node.in_shape.c,
                        layer.c_out,
                        node.k,
                        stride=node.stride,
                        padding=node.pad[0] if node.pad[0] == node.pad[1] else 0,
                        groups=node.groups,
                        bias=False,
                        weight_bit_width=bits,
                    )
                )
            elif isinstance(layer, Dense):
                found.append(
                    qnn.QuantLinear(node.in_shape.c, layer.c_out, bias=False, weight_bit_width=bits)
                )
            elif isinstance(layer, MaxPool):
                found.append(nn.MaxPool2d(node.k, node.stride))
            elif isinstance(layer, GlobalAvgPool):
                found.append(nn.AdaptiveAvgPool2d(1))
            elif isinstance(layer, Flatten):
                found.append(nn.Flatten())
            if isinstance(layer, (Conv, Dense)):
                if layer.batch_norm:
                    kind = nn.BatchNorm2d if isinstance(layer, Conv) else nn.BatchNorm1d
                    found.append(kind(layer.c_out))
                if node.name != last:
                    if layer.relu:
                        found.append(qnn.QuantReLU(bit_width=4))
                    else:
                        found.append(qnn.QuantIdentity(bit_width=8))
            if node.layer.op == "add":
                found.append(qnn.QuantReLU(bit_width=4))
            self.steps[str(index)] = nn.Sequential(*found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = {"input": x}
        for index, node in enumerate(self.net.nodes):
            value: Any = found[node.inputs[0]]
            if len(node.inputs) == 2:
                value = value + found[node.inputs[1]]
            if isinstance(node.layer, Dense) and value.ndim == 4:
                value = value.flatten(1)
            found[node.name] = self.steps[str(index)](value)
        return found[self.net.nodes[-1].name]


def peer(net: Network, batch: int) -> Turn:
    """STEPS steps of Brevitas' network, with the same optimizer and batches as ours."""
    shape = net.input_shape
    model = Peer(net)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub has it
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    images = torch.rand(batch * STEPS, shape.c, shape.h, shape.w)
    labels = torch.randint(0, net.file.classes, (batch * STEPS,))

    def turn() -> None:
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            logits = model(x.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()

    return turn


def measure(turns: dict[str, Turn], images: int) -> dict[str, list[float]]:
    """Images a second of each, turn by turn."""
    for turn in turns.values():
        turn()
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(TURNS):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            rates[name].append(images / (time.perf_counter() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--mixed", action="store_true", help="bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile, of both")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(
        epochs=1 << 20, device=asked.device, mixed=asked.mixed, compiled=asked.compile
    )
    has_peer = asked.device == "cpu" and importlib.util.find_spec("brevitas") is not None
    bar = BAR if asked.device == "cpu" else BAR_GPU
    for name in asked.networks:
        net = network.load(name)
        turns = {
            "float": ours(net, None, asked.batch, settings),
            "ternary,4,pixel": ours(
                net, scheme.parse_uniform(net, "ternary,4,pixel"), asked.batch, settings
            ),
        }
        if has_peer:
            turns["brevitas"] = peer(net, asked.batch)
        with processes(asked.device):
            rates = measure(turns, asked.batch * STEPS)
        medians = {k: statistics.median(v) for k, v in rates.items()}
        own = rates["ternary,4,pixel"]
        against = statistics.median(a / b for a, b in zip(own, rates["float"], strict=True))
        print(
            f"{name}: float {medians['float']:.0f}, ternary,4,pixel "
            f"{medians['ternary,4,pixel']:.0f} images/s, ratio {against:.3f} (wanted {bar})"
        )
        if has_peer:
            against = statistics.median(a / b for a, b in zip(own, rates["brevitas"], strict=True))
            print(
                f"{name}: brevitas {medians['brevitas']:.0f} images/s, ratio {against:.2f} "
                f"(wanted {BAR_PEER})"
            )
    if asked.device == "cpu" and not has_peer:
        print("brevitas is not installed: no peer was measured")


if __name__ == "__main__":
    if "GLIBC_TUNABLES" not in os.environ:  # as `validate` starts its trainings
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": MALLOC}
        )
    main()
