"""Weights: SYQ's binary and ternary codes with learned scales, and integers with a learned step.

SYQ, Faraone, Fraser, Blott, Leong, CVPR 2018 (arXiv 1807.00301): with the threshold

    eta = 0.05 * max|W| over the layer for ternary, 0 for binary,

a code is q = sign(W) where |W| >= eta, else 0, and the effective weight is alpha_g * q. Backward,

    dE/dalpha_g = sum over the subgroup g of dE/dW_eff * q
    dE/dW       = alpha_g * dE/dW_eff outside the dead zone |W| < eta,

and inside it dE/dW_eff (`code`, the authors' released program) or, as outside, times alpha_g
(`scaled`). docs/paper.md tells where paper and program part.

Integers follow LSQ, Esser et al., ICLR 2020 (arXiv 1902.08153): q = round(W / alpha_g), clipped to
the codebook; dE/dW = dE/dW_eff where nothing is clipped and 0 elsewhere; dE/dalpha_g is the sum of
dE/dW_eff * (q - W / alpha_g), without the second term where W is clipped. LSQ's factor on the
latter is left out: Adam undoes it, and a learning rate of its own does the same.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from syq_dse.quant import scales
from syq_dse.quant.activations import just_outside
from syq_dse.quant.scales import LEAST_STEP
from syq_dse.scheme import Granularity, LayerScheme, weight_max

DeadZone = Literal["code", "scaled"]

DEAD_ZONE = 0.05
"""Threshold of ternary weights, in parts of the largest magnitude of the layer."""


def has_step(kind: str) -> bool:
    """Whether weights are divided by their scale, as those of integers are."""
    return kind not in ("binary", "ternary")


def codes(weight: Tensor, scale: Tensor, kind: str) -> Tensor:
    """The code of each weight; `scale` matters for integers only."""
    if kind == "binary":
        return torch.sign(weight).mul_(2).add_(1).sign_()  # sign(0) = +1
    if kind == "ternary":
        eta = DEAD_ZONE * weight.abs().amax()
        if weight.is_cuda or torch.compiler.is_compiling():
            return torch.sign(weight) * (weight.abs() >= eta)
        # A CPU takes ten times as long for masks as for arithmetic; a GPU would have to hand over
        # the threshold as a number.
        below = torch.nextafter(eta, eta.new_zeros(()))  # hardshrink takes its threshold away too
        return F.hardshrink(weight, float(below)).sign_()
    largest = weight_max(kind)
    return torch.round(weight / scale.clamp(min=LEAST_STEP)).clamp_(-largest, largest)


class _Syq(Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        scale: Tensor,
        kind: str,
        granularity: Granularity,
        dead_zone: DeadZone,
        factor: float,
    ) -> Tensor:
        code = codes(weight, scale, kind)
        ctx.save_for_backward(code, scale)
        ctx.granularity, ctx.factor = granularity, factor
        ctx.unscaled = kind == "ternary" and dead_zone == "code"
        return code * (scale * factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        code, scale = ctx.saved_tensors
        along = grad * code
        of_scale = scales.over_subgroups(along, ctx.granularity).mul_(ctx.factor)
        if ctx.unscaled:  # code**2 is 1 outside the dead zone and 0 inside
            of_weight = torch.addcmul(grad, along.mul_(scale - 1), code).mul_(ctx.factor)
        else:
            of_weight = grad * (scale * ctx.factor)
        return of_weight, of_scale, None, None, None, None


class _Lsq(Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        scale: Tensor,
        kind: str,
        granularity: Granularity,
        factor: float,
    ) -> Tensor:
        step, largest = scale.clamp(min=LEAST_STEP), weight_max(kind)
        places = weight / step
        code = torch.round(places).clamp_(-largest, largest)
        ctx.save_for_backward(places, code)
        ctx.ends = just_outside(-largest, largest, places.dtype)
        ctx.granularity, ctx.factor = granularity, factor
        return code * (step * factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        places, code = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(grad, places, *ctx.ends)
        along = (grad * code).addcmul_(inside, places, value=-1)
        of_scale = scales.over_subgroups(along, ctx.granularity).mul_(ctx.factor)
        return inside.mul_(ctx.factor), of_scale, None, None, None, None


def quantise(
    weight: Tensor,
    scale: Tensor,
    layer: LayerScheme,
    dead_zone: DeadZone = "code",
    factor: float = 1.0,
) -> Tensor:
    """Effective weights, codes times scales, times a factor; with the gradients as above.

    Args:
        scale: shape as `scales` has it.
    """
    if not has_step(layer.weights):
        effective: Tensor = _Syq.apply(  # type: ignore[no-untyped-call]  # torch has no types there
            weight, scale, layer.weights, layer.granularity, dead_zone, factor
        )
    else:
        effective = _Lsq.apply(  # type: ignore[no-untyped-call]  # torch has no types there
            weight, scale, layer.weights, layer.granularity, factor
        )
    return effective


STEPS_TRIED = 40


def first_scales(weight: Tensor, layer: LayerScheme) -> Tensor:
    """Where the scales of a layer start, in the shape of the scales.

    Binary and ternary: mean|W| over each subgroup. Integers: of STEPS_TRIED steps up to the one
    that clips nothing, the one with the least square error over each subgroup.
    """
    weight = weight.detach()
    if not has_step(layer.weights):
        return scales.mean_magnitude(weight, layer.granularity)
    axes = scales.shared_axes(layer.granularity, weight.ndim)
    widest = weight.abs().amax(axes, keepdim=True).clamp(min=LEAST_STEP) / weight_max(layer.weights)
    best, least = widest, torch.full_like(widest, torch.inf)
    for part in range(1, STEPS_TRIED + 1):
        step = widest * (part / STEPS_TRIED)
        off = (codes(weight, step, layer.weights) * step - weight).square()
        error = scales.over_subgroups(off, layer.granularity)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best
