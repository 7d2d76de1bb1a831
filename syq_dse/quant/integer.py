"""A quantised network in plain integer arithmetic: the reference for the hardware.

Every tensor holds codes, (images, channels, rows, columns). A layer with weights computes

    acc = sum over subgroups g of m_g * (sum over i in g of q_i * a_i)

with codes q, mantissas m and input codes a, and makes codes of it either by thresholds,
y = number of t <= acc, or by y = clip((acc * gain + offset) >> shift). The network's result are the
accumulators themselves.

All of it is exact. Sums of products are formed in 64 bit floats: a term is below 2**22 (7 bits of a
code, 7 of a mantissa, 8 of an activation), and a layer has at most 2**30 of them, so that every
partial sum is an integer below 2**53, which floats hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from syq_dse.errors import InputError, one_line, unknown
from syq_dse.network import INPUT, Add, AvgPool, Flatten, GlobalAvgPool, MaxPool, Network, Node
from syq_dse.scheme import LayerScheme, Scheme, Tensor, tensors, weight_max

Ints = npt.NDArray[np.int64]
Method = Literal["thresholds", "multiply"]

GAIN_BITS = 16
"""Signed bits of a gain."""

LARGEST_SHIFT = 62

MANTISSA_MAX = 127
"""Largest magnitude of the mantissa of a `fixed8` scale."""

EXPONENTS = 8
"""A `shift` scale is 2**0 to 2**7."""

COLUMN_ELEMENTS = 1 << 24
"""Inputs that a layer lays out as columns at once; more images follow in further blocks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerIntegers:
    """The integers of a conv or dense layer.

    Shapes: codes (c_out, c_in / groups, k, k), of a dense layer (c_out, c_in, 1, 1);
    mantissas (1,), (k,) by row or (k * k,) by pixel, row-major; thresholds (c_out, 2**bits - 1);
    gains and offsets (c_out,).

    What makes codes of the accumulator is either thresholds or gains, offsets and shift; neither
    where the accumulator is the network's result.
    """

    codes: Ints
    mantissas: Ints
    thresholds: Ints | None = None  # ascending along each row
    gains: Ints | None = None
    offsets: Ints | None = None
    shift: int | None = None

    @property
    def method(self) -> Method | None:
        if self.thresholds is not None:
            return "thresholds"
        return None if self.gains is None else "multiply"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddIntegers:
    """y = clip(((a << shifts[0]) + (b << shifts[1]) + half) >> shift), half of what is cut off."""

    shifts: tuple[int, int]
    shift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolIntegers:
    """y = clip((sum * gain + half) >> shift), half of what is cut off."""

    gain: int
    shift: int


Integers = LayerIntegers | AddIntegers | PoolIntegers


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkIntegers:
    """The integers of every conv, dense, add and mean pool, by the layer's name.

    An add or mean pool that is the network's result writes its plain sum, and has none.
    """

    layers: Mapping[str, Integers]


@overload
def infer(
    network: Network, scheme: Scheme, integers: NetworkIntegers, images: npt.ArrayLike
) -> Ints: ...
@overload
def infer(
    network: Network,
    scheme: Scheme,
    integers: NetworkIntegers,
    images: npt.ArrayLike,
    *,
    activations: Literal[True],
) -> dict[str, Ints]: ...
def infer(
    network: Network,
    scheme: Scheme,
    integers: NetworkIntegers,
    images: npt.ArrayLike,
    *,
    activations: bool = False,
) -> Ints | dict[str, Ints]:
    """The results (images, classes) of images of codes (images, channels, rows, columns).

    Args:
        activations: return what every layer writes instead, by its name, "input" too.

    Raises:
        InputError: integers or images do not fit the network and the scheme.
    """
    check(network, scheme, integers)
    written = tensors(network)

    def step(node: Node, inputs: list[Ints]) -> Ints:
        own = integers.layers.get(node.name)
        return _layer(node, own, inputs, code_range(scheme, written[node.name]))

    found = flow(network, _images(network, scheme, images), step, activations)
    results = found[network.nodes[-1].name]
    return found if activations else results.reshape(len(results), -1)


T = TypeVar("T")


def flow(
    network: Network, images: T, step: Callable[[Node, list[T]], T], keep: bool
) -> dict[str, T]:
    """What each layer writes, by its name; without `keep` only as long as somebody reads it."""
    found = {INPUT: images}
    waiting = {name: len(readers) for name, readers in network.readers.items()}
    for node in network.nodes:
        found[node.name] = step(node, [found[name] for name in node.inputs])
        for name in node.inputs:
            waiting[name] -= 1
            if not keep and not waiting[name]:
                del found[name]
    return found


def code_range(scheme: Scheme, tensor: Tensor) -> tuple[int, int] | None:
    """Smallest and largest code of a tensor; None for the network's result, never clipped."""
    if tensor.kind == "result":
        return None
    return code_ends(scheme.bits[tensor.name], tensor.signed)


def code_ends(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of so many bits."""
    return _signed(bits) if signed else (0, (1 << bits) - 1)


def accumulate(node: Node, integers: LayerIntegers, codes: Ints) -> Ints:
    """The accumulators (images, c_out, rows, columns) of a layer with weights, exact."""
    held = weights(node, integers).reshape(node.groups, -1, node.fan_in).astype(np.float64)
    windows = _windows(codes, node, 0)  # (images, channels, rows, columns, k, k)
    shape = (node.groups, node.fan_in, -1)
    out = np.empty((len(codes), *windows.shape[2:4], node.out_shape.c), np.int64)
    block = max(1, COLUMN_ELEMENTS // (node.in_shape.c * node.k**2 * node.out_shape.pixels))
    for first in range(0, len(codes), block):
        columns = windows[first : first + block].transpose(1, 4, 5, 0, 2, 3)
        sums = held @ columns.astype(np.float64).reshape(shape)
        part = out[first : first + block]
        part[...] = sums.reshape(node.out_shape.c, -1).T.reshape(part.shape)
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2))


def requantise(integers: LayerIntegers, acc: Ints, ranges: tuple[int, int]) -> Ints:
    """The codes of accumulators (images, c_out, rows, columns)."""
    if integers.thresholds is not None:
        codes = np.empty_like(acc)
        for channel, steps in enumerate(integers.thresholds):
            codes[:, channel] = np.searchsorted(steps, acc[:, channel], side="right")
        return codes
    assert integers.gains is not None and integers.offsets is not None
    assert integers.shift is not None
    scaled = acc * integers.gains[:, None, None] + integers.offsets[:, None, None]
    return _clip(scaled >> integers.shift, ranges)


def _layer(
    node: Node, own: Integers | None, inputs: list[Ints], ranges: tuple[int, int] | None
) -> Ints:
    match node.layer, own:
        case _, LayerIntegers():
            acc = accumulate(node, own, inputs[0])
            return acc if ranges is None else requantise(own, acc, ranges)
        case Add(), AddIntegers():
            total = (inputs[0] << own.shifts[0]) + (inputs[1] << own.shifts[1])
            return _rounded(total, own.shift, ranges)
        case Add(), None:
            return inputs[0] + inputs[1]
        case ((AvgPool() | GlobalAvgPool()), None):
            return pool_sums(node, inputs[0])
        case ((AvgPool() | GlobalAvgPool()), PoolIntegers()):
            return _rounded(pool_sums(node, inputs[0]) * own.gain, own.shift, ranges)
        case MaxPool(), _:
            lowest = np.iinfo(np.int64).min
            largest: Ints = _windows(inputs[0], node, lowest).max(axis=(4, 5))
            return largest
        case Flatten(), _:
            return inputs[0].reshape(len(inputs[0]), -1, 1, 1)
    raise AssertionError(f"{node.name}: {own}")


def pool_sums(node: Node, codes: Ints) -> Ints:
    """The sums (images, channels, rows, columns) over the windows of a mean pool."""
    if isinstance(node.layer, GlobalAvgPool):
        sums: Ints = codes.sum(axis=(2, 3), keepdims=True)
    else:
        sums = _windows(codes, node, 0).sum(axis=(4, 5))
    return sums


def _rounded(value: Ints, shift: int, ranges: tuple[int, int] | None) -> Ints:
    """value / 2**shift to the nearest, halves up, clipped."""
    assert ranges is not None
    half = 1 << shift - 1 if shift else 0
    return _clip(value + half >> shift, ranges)


def _clip(value: Ints, ranges: tuple[int, int]) -> Ints:
    clipped: Ints = np.clip(value, *ranges)
    return clipped


def weights(node: Node, integers: LayerIntegers) -> Ints:
    """Codes times mantissas (c_out, c_in / groups, k, k)."""
    entries = len(integers.mantissas)
    by_pixel = entries == node.k**2 and node.k > 1
    shape = (node.k, node.k) if by_pixel else (entries, 1)
    return integers.codes * integers.mantissas.reshape(shape)


def _windows(codes: Ints, node: Node, padding: int) -> Ints:
    """Every window (images, channels, rows, columns, k, k), a view where nothing is padded."""
    if any(node.pad):
        codes = np.pad(codes, ((0, 0), (0, 0), node.pad, node.pad), constant_values=padding)
    found = np.lib.stride_tricks.sliding_window_view(codes, (node.k, node.k), axis=(2, 3))
    windows: Ints = found[:, :, :: node.stride, :: node.stride]
    return windows


def _images(network: Network, scheme: Scheme, images: npt.ArrayLike) -> Ints:
    found = np.asarray(images)
    shape = network.input_shape
    if found.ndim != 4 or found.shape[1:] != (shape.c, shape.h, shape.w):
        raise InputError(
            f"images: the shape must be (n, {shape.c}, {shape.h}, {shape.w}), "
            f"got {_shape(found.shape)}"
        )
    if not np.issubdtype(found.dtype, np.integer):
        raise InputError(f"images: must be integers, got {found.dtype}; quantise them before")
    ranges = code_range(scheme, tensors(network)[INPUT])
    assert ranges is not None
    _check_range("images", "codes", found, *ranges)
    return found.astype(np.int64)


# Checks


def check(
    network: Network, scheme: Scheme, integers: NetworkIntegers, place: str = "integers"
) -> None:
    """Hold the integers against the network and the scheme.

    Raises:
        InputError: a layer is missing or unknown, shapes do not fit, codes lie outside the
            codebook, thresholds do not ascend, or products would leave 64 bits.
    """
    kinds = kinds_of(network)
    for name in integers.layers:
        if name not in kinds:
            raise InputError(f"{place}: {unknown('layer', name, kinds)}")
    written = tensors(network)
    for name, kind in kinds.items():
        at, node, tensor = f"{place}: {one_line(name)}", network.by_name[name], written[name]
        if name not in integers.layers:
            raise InputError(f"{at}: integers of this layer are missing")
        own = integers.layers[name]
        if not isinstance(own, kind):
            raise InputError(f"{at}: must be {kind.__name__}, got {type(own).__name__}")
        if isinstance(own, LayerIntegers):
            read = code_range(scheme, written[node.inputs[0]])
            assert read is not None
            _check_weights(at, node, scheme.layers[name], own)
            _check_steps(at, node, tensor, own, scheme.bits.get(tensor.name, 0), read)
        elif isinstance(own, AddIntegers):
            for shift in own.shifts:
                _between(at, "shifts", shift, 0, LARGEST_SHIFT // 2)
            _between(at, "shift", own.shift, 0, LARGEST_SHIFT)
        else:
            _between(at, "gain", own.gain, *_signed(GAIN_BITS))
            _between(at, "shift", own.shift, 0, LARGEST_SHIFT)


def kinds_of(network: Network) -> dict[str, type[Integers]]:
    """What each layer with integers holds."""
    written = tensors(network)
    found: dict[str, type[Integers]] = {}
    for node in network.nodes:
        if node.has_weights:
            found[node.name] = LayerIntegers
        elif written[node.name].kind != "result":
            if isinstance(node.layer, Add):
                found[node.name] = AddIntegers
            elif isinstance(node.layer, (AvgPool, GlobalAvgPool)):
                found[node.name] = PoolIntegers
    return found


def entries(node: Node, layer: LayerScheme) -> int:
    """Mantissas of a layer: k by row, k * k by pixel, else 1."""
    return {"row": node.k, "pixel": node.k**2}.get(layer.granularity, 1)


def _check_weights(at: str, node: Node, layer: LayerScheme, own: LayerIntegers) -> None:
    check_array(
        at, "codes", own.codes, (node.out_shape.c, node.in_shape.c // node.groups, node.k, node.k)
    )
    largest = weight_max(layer.weights)
    _check_range(at, f"codes of {layer.weights}", own.codes, -largest, largest)
    if layer.weights == "binary" and not np.all(own.codes):
        raise InputError(f"{at}: codes of binary must be -1 or 1, got 0; ternary has a 0")
    check_array(at, "mantissas", own.mantissas, (entries(node, layer),))
    if not layer.multiplies_partial_sums or entries(node, layer) == 1:
        _check_range(at, f"mantissas by {layer.granularity}", own.mantissas, 1, 1)
    elif layer.scale == "fixed8":
        _check_range(at, "mantissas of fixed8", own.mantissas, -MANTISSA_MAX, MANTISSA_MAX)
    else:
        wrong = ~np.isin(own.mantissas, 1 << np.arange(EXPONENTS))
        if wrong.any():
            rule = f"must be powers of two from 1 to {1 << EXPONENTS - 1}"
            raise InputError(f"{at}: mantissas of shift {rule}, got {own.mantissas[wrong][0]}")


def _check_steps(
    at: str, node: Node, tensor: Tensor, own: LayerIntegers, bits: int, read: tuple[int, int]
) -> None:
    """What makes codes of the accumulator; `read` are the smallest and largest code read."""
    multiplies = [own.gains is not None, own.offsets is not None, own.shift is not None]
    if any(multiplies) and not all(multiplies):
        raise InputError(f"{at}: gains, offsets and shift must be given together")
    if tensor.kind == "result":
        if own.thresholds is not None or any(multiplies):
            raise InputError(
                f"{at}: writes the network's result and must have no thresholds or gains"
            )
        return
    if (own.thresholds is not None) == any(multiplies):
        got = "both" if any(multiplies) else "neither"
        raise InputError(f"{at}: must have thresholds, or gains, offsets and shift; got {got}")
    channels = node.out_shape.c
    if own.thresholds is not None:
        if tensor.signed:
            fix = "give gains, offsets and shift"
            raise InputError(f"{at}: thresholds must write unsigned codes, got a residual; {fix}")
        check_array(at, "thresholds", own.thresholds, (channels, (1 << bits) - 1))
        falls = np.argwhere(np.diff(own.thresholds, axis=1) < 0)
        if len(falls):
            channel, step = (int(index) for index in falls[0])
            pair = own.thresholds[channel, step : step + 2].tolist()
            raise InputError(
                f"{at}: thresholds must ascend, got {pair[0]} before {pair[1]} in channel {channel}"
            )
        return
    assert own.gains is not None and own.offsets is not None and own.shift is not None
    check_array(at, "gains", own.gains, (channels,))
    check_array(at, "offsets", own.offsets, (channels,))
    _check_range(at, f"gains of {GAIN_BITS} bits", own.gains, *_signed(GAIN_BITS))
    _between(at, "shift", own.shift, 0, LARGEST_SHIFT)
    sums = reach(node, own, read)
    for channel in range(channels):
        largest = int(sums[channel]) * abs(int(own.gains[channel]))
        if largest + abs(int(own.offsets[channel])) >= 1 << 63:
            raise InputError(
                f"{at}: acc * gain + offset must fit 64 bits, got an offset of "
                f"{own.offsets[channel]} in channel {channel}; lower offset, gain and shift"
            )


def reach(node: Node, own: LayerIntegers, read: tuple[int, int]) -> Ints:
    """Largest magnitude (c_out,) that an accumulator can take, from the codes that it reads."""
    sums: Ints = np.abs(weights(node, own)).sum(axis=(1, 2, 3)) * max(-read[0], read[1])
    return sums


def check_array(at: str, what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is no array of int64 of a shape."""
    if not isinstance(value, np.ndarray) or value.dtype != np.int64:
        got = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"{at}: {what} must be an array of int64, got {got}")
    if value.shape != shape:
        raise InputError(
            f"{at}: the shape of {what} must be {_shape(shape)}, got {_shape(value.shape)}"
        )


def _check_range(at: str, what: str, value: npt.NDArray[Any], low: int, high: int) -> None:
    wrong = (value < low) | (value > high)
    if wrong.any():
        allowed = f"{low} to {high}" if low < high else str(low)
        raise InputError(f"{at}: {what} must be {allowed}, got {value[wrong][0]}")


def _between(at: str, what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{at}: {what} must be {low} to {high}, got {value}")


def _signed(bits: int) -> tuple[int, int]:
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


# Random integers

DRAWN_IMAGES = 8
"""Random images whose accumulators place the thresholds."""


def draw(
    network: Network, scheme: Scheme, seed: int, methods: Mapping[str, Method] | None = None
) -> NetworkIntegers:
    """Random integers that exercise hardware: codes spread over each tensor's range.

    Codes of weights are uniform over the codebook. Thresholds, gains and shifts follow from the
    accumulators of a few random images, channel by channel, each channel a little off centre.

    Args:
        methods: how layers make codes; the rest by thresholds, or by multiply where signed.

    Raises:
        InputError: methods of unknown layers, thresholds for signed codes.
    """
    methods = methods or {}
    written = tensors(network)
    usual = {n.name for n in network.engines if written[n.name].kind != "result"}
    for name, method in methods.items():
        if name not in usual:
            raise InputError(f"methods: {unknown('layer', name, sorted(usual))}")
        if method not in ("thresholds", "multiply"):
            raise InputError(f"methods: {unknown('method', method, ('thresholds', 'multiply'))}")
        if method == "thresholds" and written[name].signed:
            raise InputError(f"methods: {name}: a residual is signed; use 'multiply'")
    rng = np.random.default_rng(seed)
    kinds = kinds_of(network)
    layers: dict[str, Integers] = {}

    def step(node: Node, inputs: list[Ints]) -> Ints:
        tensor = written[node.name]
        ranges, kind = code_range(scheme, tensor), kinds.get(node.name)
        if kind is LayerIntegers:
            own = _draw_weights(node, scheme.layers[node.name], rng)
            if ranges is not None:
                method = methods.get(node.name, "multiply" if tensor.signed else "thresholds")
                read = code_range(scheme, written[node.inputs[0]])
                assert read is not None
                acc = accumulate(node, own, inputs[0])
                own = DRAWS[method](own, acc, reach(node, own, read), ranges, rng)
            layers[node.name] = own
        elif kind is AddIntegers and ranges is not None:
            layers[node.name] = _draw_add(inputs[0], inputs[1], ranges, rng)
        elif kind is PoolIntegers and ranges is not None:
            read = code_range(scheme, written[node.inputs[0]])
            assert read is not None
            layers[node.name] = mean_gain(node, read, ranges)
        return _layer(node, layers.get(node.name), inputs, ranges)

    flow(network, random_images(network, scheme, DRAWN_IMAGES, rng), step, keep=False)
    return NetworkIntegers(layers=layers)


def random_images(network: Network, scheme: Scheme, count: int, rng: np.random.Generator) -> Ints:
    """Images (count, channels, rows, columns) of codes, each pixel drawn by itself."""
    shape = network.input_shape
    size = (count, shape.c, shape.h, shape.w)
    return rng.integers(0, 1 << scheme.bits[INPUT], size, dtype=np.int64)


def _draw_weights(node: Node, layer: LayerScheme, rng: np.random.Generator) -> LayerIntegers:
    largest = weight_max(layer.weights)
    shape = (node.out_shape.c, node.in_shape.c // node.groups, node.k, node.k)
    codes = rng.integers(-largest, largest + 1, shape, dtype=np.int64)
    if layer.weights == "binary":
        codes = 2 * rng.integers(0, 2, shape, dtype=np.int64) - 1
    count = entries(node, layer)
    mantissas = np.ones(count, np.int64)
    if count > 1 and layer.scale == "fixed8":
        mantissas = rng.integers(1, MANTISSA_MAX + 1, count, dtype=np.int64)
    elif count > 1:  # powers of two below the largest of the layer, which has the largest
        exponents = rng.integers(0, EXPONENTS, count)
        exponents[rng.integers(count)] = EXPONENTS - 1
        mantissas = np.int64(1) << exponents
    return LayerIntegers(codes=codes, mantissas=mantissas)


OFF_CENTRE = 0.7
"""Standard deviations by which the codes of a channel lie off the middle at most."""


def _centre_and_spread(acc: Ints, rng: np.random.Generator) -> tuple[Any, Any]:
    """Of each channel's accumulators: a value near their mean, and their standard deviation."""
    spread = np.maximum(acc.std(axis=(0, 2, 3)), 0.5)
    off = rng.uniform(-OFF_CENTRE, OFF_CENTRE, len(spread))
    return acc.mean(axis=(0, 2, 3)) + off * spread, spread


def _draw_thresholds(
    own: LayerIntegers, acc: Ints, reach: Ints, ranges: tuple[int, int], rng: np.random.Generator
) -> LayerIntegers:
    """Thresholds at even steps over two standard deviations to both sides, shaken a little."""
    centre, spread = _centre_and_spread(acc, rng)
    count = ranges[1]
    steps = np.arange(count) - (count - 1) / 2 + rng.uniform(-0.5, 0.5, (len(centre), count))
    places = centre[:, None] + spread[:, None] * steps * (4 / (count + 1))
    most = np.maximum(reach, 1)[:, None]
    thresholds = np.clip(np.rint(places).astype(np.int64), 1 - most, most)
    return LayerIntegers(
        codes=own.codes, mantissas=own.mantissas, thresholds=np.sort(thresholds, axis=1)
    )


def _draw_multiply(
    own: LayerIntegers, acc: Ints, reach: Ints, ranges: tuple[int, int], rng: np.random.Generator
) -> LayerIntegers:
    """Gains that spread the codes over two standard deviations to both sides."""
    centre, spread = _centre_and_spread(acc, rng)
    factors = (ranges[1] - ranges[0] + 1) / (4 * spread)
    most = (1 << GAIN_BITS - 1) - 1
    shift = int(np.clip(np.floor(np.log2(most / factors.max())), 0, 40))
    gains = np.clip(np.rint(factors * 2.0**shift), 1, most).astype(np.int64)
    middle = (ranges[0] + ranges[1] + 1) / 2
    offsets = np.rint(middle * 2.0**shift - centre * gains)
    bound = np.maximum(reach, 1).astype(np.float64) * most
    return LayerIntegers(
        codes=own.codes,
        mantissas=own.mantissas,
        gains=gains,
        offsets=np.clip(offsets, -bound, bound).astype(np.int64),
        shift=shift,
    )


_Draw = Callable[
    [LayerIntegers, Ints, Ints, tuple[int, int], np.random.Generator],
    LayerIntegers,
]
DRAWS: Mapping[Method, _Draw] = {"thresholds": _draw_thresholds, "multiply": _draw_multiply}


def _draw_add(a: Ints, b: Ints, ranges: tuple[int, int], rng: np.random.Generator) -> AddIntegers:
    """Random shifts of the two, then one that brings nearly all sums into the range."""
    shifts = rng.integers(0, 3, 2)
    size = float(np.quantile(np.abs((a << shifts[0]) + (b << shifts[1])), 0.95))
    by = round(float(np.log2(max(size, 1) / (ranges[1] + 1))))
    up = max(0, -by)
    return AddIntegers(shifts=(int(shifts[0]) + up, int(shifts[1]) + up), shift=max(0, by))


def mean_gain(node: Node, read: tuple[int, int], ranges: tuple[int, int]) -> PoolIntegers:
    """What makes of a sum of codes the code of their mean: the largest of both stand for one value.

    Args:
        read: range of the codes that are summed.
        ranges: range of the codes that are written.
    """
    return mean_factor(Fraction(max(1, ranges[1]), mean_pixels(node) * max(1, read[1])))


def mean_pixels(node: Node) -> int:
    """Pixels of a window of a mean pool."""
    return node.k**2 if isinstance(node.layer, AvgPool) else node.in_shape.pixels


def mean_factor(factor: Fraction) -> PoolIntegers:
    """The largest gain, and its shift, with which gain / 2**shift is the nearest to a factor."""

    def rounded(shift: int) -> int:
        return (2 * (factor.numerator << shift) + factor.denominator) // (2 * factor.denominator)

    shift = 0
    while rounded(shift + 1) < 1 << GAIN_BITS - 1 and shift < LARGEST_SHIFT:
        shift += 1
    return PoolIntegers(gain=rounded(shift), shift=shift)
