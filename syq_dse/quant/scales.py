"""Scales of weights: which weights share one, where they start, how hardware holds them.

A layer's weights (c_out, c_in / groups, k, k), of a dense layer (c_out, c_in), form subgroups that
share a scale: all of them, those of a kernel row, of a kernel pixel, or of an output channel.
A tensor of scales has the shape that broadcasts to the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from syq_dse.quant.integer import EXPONENTS, MANTISSA_MAX
from syq_dse.scheme import Granularity, Scale

SHARED_AXES: dict[Granularity, tuple[int, ...]] = {
    "layer": (0, 1, 2, 3),
    "row": (0, 1, 3),
    "pixel": (0, 1),
    "channel": (1, 2, 3),
}
"""Axes of the weights along which a scale is shared."""


def shared_axes(granularity: Granularity, dimensions: int) -> tuple[int, ...]:
    """Those of so many dimensions."""
    return tuple(axis for axis in SHARED_AXES[granularity] if axis < dimensions)


def over_subgroups(values: Tensor, granularity: Granularity) -> Tensor:
    """The sum over each subgroup, in the shape of the scales.

    >>> over_subgroups(torch.ones(8, 4, 3, 3), "row").flatten().tolist()
    [96.0, 96.0, 96.0]
    """
    return values.sum(shared_axes(granularity, values.ndim), keepdim=True)


def mean_magnitude(weight: Tensor, granularity: Granularity) -> Tensor:
    """mean|W| over each subgroup, all its weights counted: where SYQ's scales start."""
    return weight.abs().mean(shared_axes(granularity, weight.ndim), keepdim=True)


LEAST_STEP = 1e-8
"""Steps of integers stay above; a learned one that falls to zero would divide by it."""


def mantissas(scale: Tensor, form: Scale, step: bool = False) -> tuple[Tensor, Tensor]:
    """Integers m and one exponent e a layer, with which hardware holds a scale as m * 2**e.

    `fixed8`: the exponent is the least at which the largest mantissa is at most 127, the mantissas
    are the nearest. `shift`: the nearest powers of two, from the largest down to a 128th of it;
    scales that are not positive become the least.

    Args:
        step: of integers, which weights are divided by: mantissas are at least 1.

    >>> m, e = mantissas(torch.tensor([0.5, -0.124, 0.0]), "fixed8")
    >>> m.tolist(), e.item()
    ([64.0, -16.0, 0.0], -7.0)
    >>> mantissas(torch.tensor([0.5, -0.124, 0.0]), "fixed8", step=True)[0].tolist()
    [64.0, 1.0, 1.0]
    >>> m, e = mantissas(torch.tensor([0.7, 0.8, 0.1]), "shift")
    >>> m.tolist(), e.item()
    ([4.0, 8.0, 1.0], -3.0)
    """
    tiny = torch.finfo(scale.dtype).tiny
    if form == "fixed8":
        least = LEAST_STEP if step else tiny
        largest = (scale.max() if step else scale.abs().max()).clamp(min=least * MANTISSA_MAX)
        part, power = torch.frexp(largest)  # exact in any precision, which a logarithm is not
        over = part > MANTISSA_MAX / (MANTISSA_MAX + 1)
        exponent = (power + over - MANTISSA_MAX.bit_length()).to(scale.dtype)
        whole = torch.round(scale / torch.exp2(exponent))
        return whole.clamp(1 if step else -MANTISSA_MAX, MANTISSA_MAX), exponent
    fraction, above = torch.frexp(scale.clamp(min=tiny))
    power = (above - (fraction < 0.75).to(above.dtype)).to(scale.dtype)
    power = torch.maximum(power, power.max() - (EXPONENTS - 1))
    return torch.exp2(power - power.min()), power.min()


class _Stored(Function):
    @staticmethod
    def forward(ctx: Any, scale: Tensor, form: Scale, step: bool) -> Tensor:
        whole, exponent = mantissas(scale, form, step)
        return whole * torch.exp2(exponent)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


def stored(scale: Tensor, form: Scale, step: bool = False) -> Tensor:
    """The scale that hardware holds, as `mantissas`; the gradient passes straight through."""
    value: Tensor = _Stored.apply(scale, form, step)  # type: ignore[no-untyped-call]  # torch has no types there
    return value
