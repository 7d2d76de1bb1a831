"""Quantisers on a GPU, which has kernels of its own, give what they give on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from syq_dse.quant import activations, weights
from syq_dse.scheme import GRANULARITIES, WEIGHTS, LayerScheme

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def both(function: Callable[..., Tensor], *given: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Values and gradients on a CPU and on a GPU."""
    found = []
    for device in ("cpu", "cuda"):
        own = [value.detach().clone().to(device).requires_grad_() for value in given]
        value = function(*own)
        weight = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
        (value * weight.to(device)).sum().backward()
        found.append([value.detach().cpu(), *(x.grad.cpu() for x in own if x.grad is not None)])
    return found[0], found[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ends", [(0, 1), (0, 15), (0, 255), (-8, 7)])
def test_codes(dtype: torch.dtype, ends: tuple[int, int]) -> None:
    x = torch.randn(3, 5, 7, 9, generator=torch.Generator().manual_seed(0)) * 2 * ends[1]
    whole = torch.arange(ends[0] - 2, ends[1] + 3).float()
    x = torch.cat([x.flatten(), whole, whole + 0.5]).to(dtype)
    found = both(lambda x: activations.codes(x, *ends), x)
    assert len(found[0]) == 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    nan = activations.codes(torch.full((3,), torch.nan, dtype=dtype, device="cuda"), *ends)
    assert bool(nan.isnan().all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.25, 1.0), (2.0, 0.5), (0.5, 0.5)])
def test_added(dtype: torch.dtype, factors: tuple[float, float]) -> None:
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randint(low, 16, (4, 6, 5, 5), generator=rng).to(dtype) for low in (-16, 0))
    found = both(lambda a, b: activations.added(a, b, factors, -8, 7), a, b)
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_weights(kind: str, granularity: str) -> None:
    layer = LayerScheme(weights=kind, granularity=granularity, scale="fixed8")  # type: ignore[arg-type]  # a str
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    scale = weights.first_scales(weight, layer)
    found = both(lambda w, s: weights.quantise(w, s, layer, "scaled"), weight, scale)
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
