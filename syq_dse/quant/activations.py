"""Activations: codes of k bits, with the gradient passed straight through inside their range.

With a step s, the value of one code, x becomes the code floor(clip(x / s, low, high) + 0.5), of
which s times the code is the value. For the unsigned codes of k bits and s = 1 / (2**k - 1) that is

    a = floor(clip(x, 0, 1) * (2**k - 1) + 0.5), value a / (2**k - 1)

of SYQ and DoReFa (Zhou et al., arXiv 1606.06160). Networks hand on codes, and the affine part of
batch-norm that stands before takes 1 / s and the half along, so that quantising is one pass.
A learned s gets LSQ's gradient: the path through 1 / s gives -x / s inside the range, the reader's
factor s gives the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _Codes(Function):
    @staticmethod
    def forward(ctx: Any, raised: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(raised)
        ctx.range = low, high
        if _has_kernels(raised):
            return _kernel("codes")(raised, low=low, high=high)
        if torch.compiler.is_compiling():  # 2.11 loses the gradient of what is changed in place
            return torch.floor(raised).clamp(low, high)
        return torch.floor(raised).clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (raised,) = ctx.saved_tensors
        low, high = just_outside(ctx.range[0] + 0.5, ctx.range[1] + 0.5, raised.dtype)
        return _inside(grads[0], raised, low, high), None, None


def _inside(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """The gradient where x is between low and high, with the strides of x.

    After a flattening the gradient has others, with which poolings take twice as long.
    """
    if torch.compiler.is_compiling():  # which lays out tensors itself
        return torch.ops.aten.hardtanh_backward(grad, x, low, high)  # type: ignore[no-any-return]  # torch has no types there
    found = torch.empty_like(x)
    torch.ops.aten.hardtanh_backward.grad_input(grad, x, low, high, grad_input=found)
    return found


def just_outside(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """The numbers next to a range: `hardtanh_backward` cuts off the ends that it gets.

    >>> just_outside(0.5, 1.0, torch.bfloat16)
    (0.498046875, 1.0078125)
    """
    eps = torch.finfo(dtype).eps
    return -_next_above(-low, eps), _next_above(high, eps)


def _next_above(x: float, eps: float) -> float:
    """The next larger number of a format that has `eps` between 1 and the next one."""
    part, power = math.frexp(x)  # 0.5 <= |part| < 1; numbers from -1/2 up are half as far apart
    return x + math.ldexp(eps, power - (2 if part == -0.5 else 1))


def codes(raised: Tensor, low: int, high: int) -> Tensor:
    """Codes of what is x / s + 0.5; the gradient passes where x / s is `low` to `high`."""
    found: Tensor = _Codes.apply(raised, low, high)  # type: ignore[no-untyped-call]  # torch has no types there
    return found


_HALF = torch.tensor(0.5)


def _total(a: Tensor, b: Tensor, of_a: float, of_b: float) -> Tensor:
    """floor(a * of_a + b * of_b + 0.5); exact, since factors are powers of two."""
    if torch.compiler.is_compiling():
        return torch.floor(a * of_a + b * of_b + 0.5)
    if _has_kernels(a):
        return _kernel("total")(a, b, of_a=of_a, of_b=of_b)
    total = torch.add(a, b, alpha=of_b / of_a)
    if of_a % 1 or of_b % 1:  # in place, since fresh memory costs twice as much
        torch.add(_HALF, total, alpha=of_a, out=total).floor_()
    elif of_a != 1:
        total.mul_(of_a)
    return total


_KERNELS = {
    "codes": """template <typename T> T codes(T x, T low, T high) {
        float code = floorf(float(x));
        return T(code < float(low) ? float(low) : code > float(high) ? float(high) : code);
    }""",
    "total": """template <typename T> T total(T a, T b, T of_a, T of_b) {
        return T(floorf(float(a) * float(of_a) + float(b) * float(of_b) + 0.5f));
    }""",
}
"""For GPUs, where each pass over memory that is saved counts; not a number stays one."""


def _has_kernels(x: Tensor) -> bool:
    return x.is_cuda and x.dtype != torch.float64 and not torch.compiler.is_compiling()


@cache
def _kernel(name: str) -> Callable[..., Tensor]:
    defaults = {"codes": {"low": 0.0, "high": 0.0}, "total": {"of_a": 0.0, "of_b": 0.0}}
    made: Callable[..., Tensor] = torch.cuda.jiterator._create_jit_fn(
        _KERNELS[name], **defaults[name]
    )
    return made


class _Added(Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, factors: tuple[float, float], low: int, high: int
    ) -> Tensor:
        total = _total(a, b, *factors)
        ctx.save_for_backward(total)
        ctx.factors, ctx.range = factors, (low, high)
        return total.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (total,) = ctx.saved_tensors
        low, high = ctx.range
        inside = _inside(grads[0], total, low - 0.5, high + 0.5)
        of_a, of_b = ctx.factors
        if of_a == of_b:
            same = inside.mul_(of_a)
            return same, same, None, None, None
        left, right = (inside if by == 1 else inside * by for by in (of_a, of_b))
        return left, right, None, None, None


def added(a: Tensor, b: Tensor, factors: tuple[float, float], low: int, high: int) -> Tensor:
    """Codes of the sum of two tensors of codes, each times a factor: the ratio of its step.

    The gradient passes where the rounded sum is low to high, which is where the hardware does not
    clip.
    """
    found: Tensor = _Added.apply(a, b, factors, low, high)  # type: ignore[no-untyped-call]  # torch has no types there
    return found


def quantise(x: Tensor, bits: int, step: Tensor | float | None = None) -> Tensor:
    """Values of the unsigned codes of `bits`; the step is 1 / (2**bits - 1) by default."""
    high = (1 << bits) - 1
    if step is None:
        return codes(x * high + 0.5, 0, high) / high
    return codes(x / step + 0.5, 0, high) * step
