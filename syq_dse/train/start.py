"""How a quantised network starts from a float one: weights, scales, ranges, batch-norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from syq_dse.network import INPUT
from syq_dse.quant import weights
from syq_dse.quant.model import Model
from syq_dse.scheme import tensors

RANGES_TRIED = 40

CALIBRATION_IMAGES = 512


@torch.no_grad()
def start_from_float(
    model: Model,
    state: Mapping[str, Tensor],
    images: Tensor,
    ranges: Literal["unit", "calibrated", "learned"],
) -> None:
    """Take over a float network's weights, and find scales and ranges for them.

    Args:
        state: `named_state` of the float network.
        images: (n, channels, rows, columns), uint8, to calibrate with.
        ranges: `unit` leaves activations 0 to 1, but residuals and what is added to them, whose
            range no batch-norm can move, are calibrated always.
    """
    own = model.named_state()
    for name, value in own.items():
        if name in state:
            value.copy_(state[name])
    first_scales(model)
    if ranges == "unit" and not model.groups:
        return
    plain = Model(model.network)
    plain.load_named_state(state, "the float network")
    calibrate(model, plain, images, everything=ranges != "unit")


@torch.no_grad()
def first_scales(model: Model) -> None:
    """Scales as they start from the weights of now."""
    for layer in model.weighted.values():
        if layer.layer is not None and layer.scale is not None:
            layer.scale.copy_(weights.first_scales(layer.weight, layer.layer))


@torch.no_grad()
def calibrate(model: Model, plain: Model, images: Tensor, everything: bool) -> None:
    """Set each range to the one of RANGES_TRIED with the least square error of its codes.

    Args:
        plain: the float network.
    """
    weight = next(iter(plain.weighted.values())).weight
    values = plain.eval().run(images.to(weight.device), keep=True)
    written = tensors(model.network)
    for name, own in model.ranges.items():
        met = name in model.groups or written[name].signed
        if name != INPUT and (everything or met):
            own.fill_(best_range(values[name], *model.code_range(name), model.top(name)))


def best_range(values: Tensor, low: int, high: int, top: int) -> float:
    """The range, value of the code `top`, with which codes from low to high are nearest to values.

    >>> best_range(torch.linspace(0, 3, 1000), 0, 255, 255)
    3.0
    """
    values = values.flatten()
    largest = float(values.abs().max() if low else values.max())
    if largest <= 0:
        return 1.0
    best, least = largest, float("inf")
    for part in range(1, RANGES_TRIED + 1):
        step = largest * part / RANGES_TRIED / top
        codes = torch.floor(values / step + 0.5).clamp_(low, high)
        error = float((codes * step - values).square().mean())
        if error < least * (1 - 1e-6):
            best, least = step * top, error
    return best
