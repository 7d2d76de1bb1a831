"""Forward values and gradients against closed forms in plain numpy, and gradcheck."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.quant import activations, scales, weights
from syq_dse.scheme import GRANULARITIES, WEIGHTS, LayerScheme, Scale

Array = npt.NDArray[np.float64]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Array, Array, LayerScheme, Array]:
    """Weights, scales, scheme and a gradient of random shapes; dense layers too."""
    k = draw(st.integers(1, 5))
    shape: tuple[int, ...] = (draw(st.integers(1, 5)), draw(st.integers(1, 4)), k, k)
    if draw(st.booleans()):
        shape = shape[:2]
    granularity = draw(st.sampled_from(["layer", "channel"] if len(shape) == 2 else GRANULARITIES))
    layer = LayerScheme(weights=draw(st.sampled_from(WEIGHTS)), granularity=granularity)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    weight = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 2)
    weight[rng.random(shape) < 0.2] = 0
    scale = rng.uniform(0.1, 1, scale_shape(granularity, shape)) * abs(weight).max() + 1e-3
    return weight, scale, layer, rng.normal(size=shape)


def scale_shape(granularity: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    c_out, _, *kernel = shape
    own = {"layer": (1, 1, 1, 1), "channel": (c_out, 1, 1, 1)}
    if kernel:
        own |= {"row": (1, 1, kernel[0], 1), "pixel": (1, 1, *kernel)}
    return own[granularity][: len(shape)]


def subgroup(granularity: str, place: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """Where the scale of the weight at `place` stands."""
    o, _, *kernel = place
    of = {"layer": (0, 0, 0, 0), "channel": (o, 0, 0, 0)}
    if kernel:
        of |= {"row": (0, 0, kernel[0], 0), "pixel": (0, 0, *kernel)}
    return of[granularity][:dimensions]


def syq_by_hand(
    weight: Array, scale: Array, layer: LayerScheme, grad: Array, dead_zone: str
) -> tuple[Array, Array, Array]:
    """The effective weight and the gradients of weight and scale, weight by weight."""
    eta = 0.05 * abs(weight).max() if layer.weights == "ternary" else 0.0
    out, of_weight, of_scale = np.zeros_like(weight), np.zeros_like(weight), np.zeros_like(scale)
    for place in product(*map(range, weight.shape)):
        at = subgroup(layer.granularity, place, weight.ndim)
        w, alpha, g = weight[place], scale[at], grad[place]
        sign = (1.0 if w >= 0 else -1.0) if layer.weights == "binary" else float(np.sign(w))
        q = sign if abs(w) >= eta else 0.0
        out[place] = alpha * q
        dead = layer.weights == "ternary" and q == 0
        of_weight[place] = g if dead and dead_zone == "code" else alpha * g
        of_scale[at] += g * q
    return out, of_weight, of_scale


def lsq_by_hand(
    weight: Array, scale: Array, layer: LayerScheme, grad: Array, dead_zone: str
) -> tuple[Array, Array, Array]:
    most = 2 ** (int(layer.weights[3:]) - 1) - 1
    out, of_weight, of_scale = np.zeros_like(weight), np.zeros_like(weight), np.zeros_like(scale)
    for place in product(*map(range, weight.shape)):
        at = subgroup(layer.granularity, place, weight.ndim)
        w, alpha, g = weight[place], scale[at], grad[place]
        q = min(max(np.round(w / alpha), -most), most)
        out[place] = alpha * q
        inside = abs(w / alpha) <= most
        of_weight[place] = g if inside else 0
        of_scale[at] += g * (q - w / alpha if inside else q)
    return out, of_weight, of_scale


@given(layers(), st.sampled_from(["code", "scaled"]))
@settings(deadline=None, max_examples=150)
def test_weights_are_the_papers(
    drawn: tuple[Array, Array, LayerScheme, Array], dead_zone: weights.DeadZone
) -> None:
    weight, scale, layer, grad = drawn
    by_hand = syq_by_hand if layer.weights in ("binary", "ternary") else lsq_by_hand
    wanted = by_hand(weight, scale, layer, grad, dead_zone)
    w, s = (torch.tensor(a, requires_grad=True) for a in (weight, scale))
    out = weights.quantise(w, s, layer, dead_zone)
    out.backward(torch.tensor(grad))
    for got, want in zip((out.detach(), w.grad, s.grad), wanted, strict=True):
        assert got is not None
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-9, atol=1e-9 * abs(grad).max())


def test_scales_pass_gradcheck() -> None:
    """The effective weight is linear in SYQ's scales, so that their gradient is a true one."""
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    for kind, granularity in product(("binary", "ternary"), GRANULARITIES):
        layer = LayerScheme(weights=kind, granularity=granularity)
        scale = scales.mean_magnitude(weight, granularity).requires_grad_()

        def effective(scale: torch.Tensor, layer: LayerScheme = layer) -> torch.Tensor:
            return weights.quantise(weight, scale, layer)

        assert torch.autograd.gradcheck(effective, (scale,))


@given(layers())
@settings(deadline=None, max_examples=40)
def test_first_scales(drawn: tuple[Array, Array, LayerScheme, Array]) -> None:
    """SYQ: mean|W| of the subgroup. Integers: no step of a grid has a smaller error."""
    weight, scale, layer, _ = drawn
    found = weights.first_scales(torch.tensor(weight), layer).numpy()
    assert found.shape == scale.shape
    members: dict[tuple[int, ...], list[float]] = {}
    for place in product(*map(range, weight.shape)):
        at = subgroup(layer.granularity, place, weight.ndim)
        members.setdefault(at, []).append(float(weight[place]))
    for at, values in members.items():
        own = np.array(values)
        if layer.weights in ("binary", "ternary"):
            assert found[at] == pytest.approx(abs(own).mean(), abs=1e-12)
            continue
        most = 2 ** (int(layer.weights[3:]) - 1) - 1

        def error(step: float, own: Array = own, most: int = most) -> float:
            codes = np.clip(np.round(own / step), -most, most)
            return float(((codes * step - own) ** 2).sum())

        if abs(own).max() > 1e-6:
            others = [error(abs(own).max() / most * part / 40) for part in range(1, 41)]
            assert error(float(found[at])) <= min(others) * (1 + 1e-6) + 1e-12


@given(
    st.integers(1, 8),
    st.lists(st.floats(-1.5, 2.5), min_size=1, max_size=30),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_activations_are_the_designs(bits: int, x: list[float], dtype: torch.dtype) -> None:
    """a = floor(clip(x, 0, 1) * (2**k - 1) + 0.5); the gradient passes in [0, 1], ends included."""
    top = 2**bits - 1
    values = torch.tensor([*x, 0.0, 1.0], dtype=dtype, requires_grad=True)
    found = activations.quantise(values, bits)
    own = values.detach().numpy()
    codes = np.floor(np.clip(own, 0, 1) * np.asarray(top, own.dtype) + np.asarray(0.5, own.dtype))
    np.testing.assert_array_equal(np.rint(found.detach().numpy() * top), codes)
    grad = torch.arange(1, len(values) + 1, dtype=dtype)
    found.backward(grad)
    near = np.minimum(abs(own), abs(own - 1)) < 1e-6  # the half that is added rounds those away
    near[-2:] = False
    inside = (own >= 0) & (own <= 1)
    assert values.grad is not None
    got = values.grad.numpy()
    np.testing.assert_allclose(got[~near], (grad.numpy() * inside)[~near], rtol=1e-6)


def test_a_learned_step_has_lsqs_gradient() -> None:
    x = torch.tensor([-0.3, 0.1, 0.4, 0.8, 1.7], dtype=torch.float64)
    step = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    activations.quantise(x, 3, step).sum().backward()
    places = x.numpy() / 0.1
    codes = np.clip(np.floor(places + 0.5), 0, 7)
    inside = (places >= 0) & (places <= 7)
    assert step.grad is not None
    assert float(step.grad) == pytest.approx((codes - places * inside).sum())


@given(st.lists(st.integers(-4000, 4000), min_size=1, max_size=9), st.integers(-20, 20))
def test_fixed8_is_the_finest_that_fits(values: list[int], power: int) -> None:
    own = np.ldexp(np.array(values, np.float64), power)
    whole, exponent = (t.numpy() for t in scales.mantissas(torch.tensor(own), "fixed8"))
    if not own.any():
        assert not whole.any()
        return
    assert 63.5 <= abs(whole).max() <= 127
    assert (abs(own / 2.0**exponent - whole) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("largest", [63.5, 64.0, 126.9, 127.0, 127.1, 127.5, 128.0])
def test_the_exponent_is_the_least_that_holds_the_largest(largest: float, step: bool) -> None:
    """A step below zero is none, however large, and becomes the least."""
    scale = torch.tensor([largest, -4 * largest if step else -largest / 2, largest / 7])
    whole, exponent = scales.mantissas(scale, "fixed8", step)
    least = next(e for e in range(-9, 9) if largest / 2.0**e <= 127)
    assert exponent.item() == least
    wanted = [round(value / 2.0**least) for value in scale.tolist()]  # both to even
    assert whole.tolist() == ([max(1, m) for m in wanted] if step else wanted)


def test_steps_stay_away_from_zero_and_scales_need_not() -> None:
    for value in (-1.0, 0.0, 1e-12, scales.LEAST_STEP):
        held = scales.stored(torch.tensor([value], dtype=torch.float64), "fixed8", step=True)
        assert scales.LEAST_STEP <= held.item() <= 2 * scales.LEAST_STEP * 127
    small = torch.tensor([1e-12], dtype=torch.float64)
    assert scales.stored(small, "fixed8").item() == pytest.approx(1e-12, rel=1 / 127)


@given(st.lists(st.floats(0.01, 4), min_size=1, max_size=9), st.integers(-20, 20))
def test_shift_is_the_nearest_power(values: list[float], power: int) -> None:
    own = np.ldexp(np.array(values), power)
    whole, exponent = (t.numpy() for t in scales.mantissas(torch.tensor(own), "shift"))
    held = whole * 2.0**exponent
    assert set(whole) <= {2.0**n for n in range(8)} and whole.min() == 1
    top = max(2.0**n for n in range(-40, 40) if abs(2.0**n - own.max()) <= own.max() / 3 + 1e-300)
    for value, got in zip(own, held, strict=True):
        powers = [top / 2**n for n in range(8)]
        assert abs(got - value) <= min(abs(p - value) for p in powers) * (1 + 1e-12)


@pytest.mark.parametrize("form", ["fixed8", "shift"])
def test_formats_pass_the_gradient_through(form: Any) -> None:
    scale = torch.tensor([0.3, 0.5], requires_grad=True)
    value = scales.stored(scale, form)
    value.backward(torch.tensor([2.0, 3.0]))
    assert scale.grad is not None and scale.grad.tolist() == [2.0, 3.0]


def test_a_format_survives_zero_scales() -> None:
    forms: list[tuple[Scale, float | None]] = [("fixed8", 0.0), ("shift", None)]
    for form, wanted in forms:
        value = scales.stored(torch.zeros(3), form)
        assert torch.isfinite(value).all()
        assert wanted is None or value.tolist() == [wanted] * 3


@given(st.integers(0, 1 << 20), st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 8))
def test_added_codes_are_the_hardwares(seed: int, up: int, down: int, bits: int) -> None:
    """Shifts, half, shift and clip of integers; gradients where nothing is clipped."""
    rng = np.random.default_rng(seed)
    a, b = (torch.tensor(rng.integers(-128, 256, 40), dtype=torch.float64) for _ in range(2))
    a, b = a.requires_grad_(), b.requires_grad_()
    factors, high = (2.0**up, 2.0**down), 2**bits - 1
    out = activations.added(a, b, factors, 0, high)
    shift = max(0, -up, -down)
    total = (a.detach().numpy().astype(int) << shift + up) + (
        b.detach().numpy().astype(int) << shift + down
    )
    rounded = (total + (1 << shift >> 1)) >> shift
    np.testing.assert_array_equal(out.detach().numpy(), np.clip(rounded, 0, high))
    grad = rng.normal(size=40)
    out.backward(torch.tensor(grad))
    passed = grad * ((rounded >= 0) & (rounded <= high))
    assert a.grad is not None and b.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), passed * factors[0])
    np.testing.assert_allclose(b.grad.numpy(), passed * factors[1])


@pytest.mark.filterwarnings("ignore")  # of the inside of torch.compile
@pytest.mark.parametrize("kind", [*WEIGHTS, "codes", "added"])
def test_traced_quantisers_have_the_same_gradients(kind: str) -> None:
    """As torch.compile traces them; its translation to machine code is left out."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, generator=rng)
    given = [8 * weight, torch.randint(0, 9, weight.shape, generator=rng).float()]
    layer = LayerScheme(weights="binary" if kind in ("codes", "added") else kind)  # type: ignore[arg-type]  # a str

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if kind == "codes":
            return activations.codes(a * b, 0, 7)
        if kind == "added":
            return activations.added(a, b, (0.5, 2.0), -8, 7)
        return weights.quantise(a, b.mean().reshape(1, 1, 1, 1) / 4, layer, "scaled", 0.5)

    found = []
    for call in (function, torch.compile(function, backend="eager", fullgraph=True)):
        own = [value.clone().requires_grad_() for value in given]
        (call(*own) * weight).sum().backward()
        found.append([value.grad for value in own])
    for a, b in zip(*found, strict=True):
        assert a is not None and b is not None and a.abs().max() > 0
        torch.testing.assert_close(a, b)
    torch.compiler.reset()
