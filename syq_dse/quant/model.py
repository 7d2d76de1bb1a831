"""A network in PyTorch, float or quantised by a scheme.

Quantised layers hand on codes, together with their step, the value of one code. A layer with
weights reads codes a of step s, and with effective weights W computes W * s conv a; batch-norm's
affine part, divided by the step of what it writes and raised by a half, stands before the codes
(activations.codes). Where two tensors meet in an addition their steps are powers of two apart, as
the hardware's shifts need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syq_dse.errors import InputError, unknown
from syq_dse.network import (
    INPUT,
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Network,
    Node,
)
from syq_dse.quant import activations, integer, scales, weights
from syq_dse.quant.weights import DeadZone
from syq_dse.scheme import LayerScheme, Scheme, tensors

Step = Tensor | float

IMAGE_MAX = 255
"""Value of a pixel that stands for 1."""

BATCH_NORM_EPS = 1e-5


class Weighted(nn.Module):
    """A conv or dense layer with its batch-norm.

    Shapes: weight (c_out, c_in / groups, k, k) or (c_out, c_in); scale as quant.scales has it;
    all else (c_out,).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, node: Node, layer: LayerScheme | None, dead_zone: DeadZone) -> None:
        super().__init__()
        assert isinstance(node.layer, (Conv, Dense))
        channels = node.out_shape.c
        shape: tuple[int, ...] = (channels, node.in_shape.c)
        if isinstance(node.layer, Conv):
            shape = (channels, node.in_shape.c // node.groups, node.k, node.k)
        self.node, self.layer, self.dead_zone = node, layer, dead_zone
        self.formats = True  # whether scales have their hardware's format in the forward pass
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu" if node.layer.relu else "linear")
        first = None if layer is None else weights.first_scales(self.weight, layer)
        self.scale = None if first is None else nn.Parameter(first)
        self.bias = nn.Parameter(torch.zeros(channels)) if node.has_bias else None
        self.gain: nn.Parameter | None = None
        self.offset: nn.Parameter | None = None
        if node.layer.batch_norm:
            self.gain = nn.Parameter(torch.ones(channels))
            self.offset = nn.Parameter(torch.zeros(channels))
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("variance", torch.ones(channels))

    def stored_scale(self) -> Tensor:
        """The scales in use: in the hardware's format where there is one, and once it is on."""
        assert self.scale is not None and self.layer is not None
        if self.formats and has_format(self.node, self.layer):
            step = weights.has_step(self.layer.weights)
            return scales.stored(self.scale, self.layer.scale, step)
        return self.scale

    def effective(self, factor: Step = 1.0) -> Tensor:
        """The weights in use, times a factor."""
        number = 1.0 if isinstance(factor, Tensor) else factor
        if self.layer is None:
            weight = self.weight if number == 1 else self.weight * number
        else:
            weight = weights.quantise(
                self.weight, self.stored_scale(), self.layer, self.dead_zone, number
            )
        return weight * factor if isinstance(factor, Tensor) else weight

    def forward(self, x: Tensor, read: Step = 1.0, written: Step | None = None) -> Tensor:
        """What it writes in real numbers or, with a step, those divided by it, plus a half.

        Args:
            read: step of x.
        """
        bias: Tensor | None = self.bias
        factor = read
        if written is not None and self.gain is None:
            factor = read / written
            bias = 0.5 + (
                self.weight.new_zeros(len(self.weight)) if bias is None else bias / written
            )
        out = self._sums(x, self.effective(factor), bias)
        if self.gain is None or self.offset is None:
            return out
        gain: Tensor = self.gain
        offset: Tensor = self.offset
        if written is not None:
            gain, offset = gain / written, offset / written + 0.5
        return F.batch_norm(
            out, self.mean, self.variance, gain, offset, self.training, self.momentum,
            BATCH_NORM_EPS,
        )  # fmt: skip

    def _sums(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        node = self.node
        if isinstance(node.layer, Dense):
            return F.linear(x.flatten(1), weight, bias)[:, :, None, None]
        before, after = node.pad
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        return F.conv2d(x, weight, bias, node.stride, before, 1, node.groups)


def has_format(node: Node, layer: LayerScheme) -> bool:
    """Whether scales stand in the hardware as integers; else they vanish into the thresholds."""
    return layer.multiplies_partial_sums and integer.entries(node, layer) > 1


class Model(nn.Module):
    """Logits (images, classes) of images (images, channels, rows, columns), pixels 0 to 255.

    Args:
        scheme: None for float.
        dead_zone: gradient of ternary weights whose code is 0.
        learned_ranges: whether the range of an activation is a parameter. One that meets others in
            an addition never is.
        float_ends: whether the first and the last layer keep float weights, as SYQ's authors had
            them; such a network has no integers.
    """

    def __init__(
        self,
        network: Network,
        scheme: Scheme | None = None,
        *,
        dead_zone: DeadZone = "code",
        learned_ranges: bool = False,
        float_ends: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.scheme, self.learned_ranges = network, scheme, learned_ranges
        self._known: tuple[Any, tuple[tuple[str, float], ...]] | None = None
        self.written = tensors(network)
        self.bits = dict(scheme.bits) if scheme is not None else {}
        layers = {} if scheme is None else dict(scheme.layers)
        if float_ends:
            for node in (network.engines[0], network.engines[-1]):
                layers.pop(node.name, None)
        self.weighted = {
            node.name: Weighted(node, layers.get(node.name), dead_zone) for node in network.engines
        }
        self.layers = nn.ModuleList(self.weighted.values())
        self.groups, self.level = _added(network) if scheme is not None else ({}, set())
        self.pooled_first = {
            name
            for name in self.weighted
            if [type(reader.layer) for reader in network.readers.get(name, ())] == [MaxPool]
        }
        self.ranges: dict[str, Tensor] = {}
        self.held = nn.ParameterList()
        for name in self._ranged() if scheme is not None else ():
            learned = learned_ranges and name not in self.groups and name != INPUT
            own = nn.Parameter(torch.ones(()), requires_grad=learned)
            self.ranges[name] = own
            self.held.append(own)

    def _ranged(self) -> Iterator[str]:
        """Tensors with a range of their own: not the result, nor means outside of additions."""
        for name in dict.fromkeys(t.name for t in self.written.values() if t.kind != "result"):
            means = name != INPUT and isinstance(
                self.network.by_name[name].layer, (AvgPool, GlobalAvgPool)
            )
            if not means or name in self.groups:
                yield name

    # Steps

    def code_range(self, name: str) -> tuple[int, int]:
        """Smallest and largest code of a tensor at its precision of now."""
        return integer.code_ends(self.bits[name], self.written[name].signed)

    def top(self, name: str) -> int:
        """The code of a tensor that stands for its range: the largest, of signed ones 2**(k-1)."""
        bits = self.bits[name]
        return 1 << bits - 1 if self.written[name].signed else (1 << bits) - 1

    def step(self, name: str) -> Tensor:
        """The value of one code of a tensor, shape ()."""
        if name not in self.ranges:  # a mean: its largest code stands for what the read one's does
            read, written = (max(1, self.code_range(n)[1]) for n in (self._meant(name), name))
            return self.step(self._meant(name)) * (read / written)
        own = self.ranges[name] / self.top(name)
        leader = self.groups.get(name, name)
        if leader != name:
            base = self.step(leader)
            power = torch.round(torch.log2(own / base))
            own = base if name in self.level else base * torch.exp2(power)
        return own

    def _learned_steps(self) -> dict[str, Step]:
        found: dict[str, Step] = {name: self.step(name) for name in self.bits}
        return found | {name: float(found[name]) for name in self.groups if name in found}

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no types there
    def _steps(self) -> tuple[tuple[str, float], ...]:
        """Of all tensors, as numbers, which are faster than tensors: nothing is learned."""
        key = tuple((value._version, value.dtype) for value in self.ranges.values())
        if self._known is None or self._known[0] != (key, tuple(self.bits.values())):
            numbers = tuple((name, float(self.step(name))) for name in self.bits)
            self._known = (key, tuple(self.bits.values())), numbers
        return self._known[1]

    def _meant(self, name: str) -> str:
        """The tensor whose mean a pool writes."""
        return self.written[self.network.by_name[name].inputs[0]].name

    # The forward pass

    def forward(self, images: Tensor) -> Tensor:
        return self.logits_of(self.run(images))

    def logits_of(self, found: Mapping[str, Tensor]) -> Tensor:
        """The logits in what `run` returned."""
        last = self.network.nodes[-1].name
        logits, tensor = found[last].flatten(1), self.written[last].name
        return logits * self.step(tensor) if tensor in self.bits else logits

    def run(
        self, images: Tensor, keep: bool = False, given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What each layer writes, codes or, of a float network and of the result, real numbers.

        A maximum commutes with rounding, clipping and ReLU, and leaves fewer numbers: layers that
        only a maximum pool reads are pooled first, as SYQ's authors do. Among equal codes the
        gradient then goes to the largest number.

        Args:
            keep: return all of them; else those that nobody reads any more are let go.
            given: what some layers write, as a run that keeps returns it; these are not computed.
        """
        steps: dict[str, Step] = (
            self._learned_steps() if self.learned_ranges else dict(self._steps())
        )
        known = given or {}
        pooled_first = set() if keep else self.pooled_first

        def layer(node: Node, inputs: list[Tensor]) -> Tensor:
            if node.name in known:
                return known[node.name]
            read = [steps.get(self.written[name].name, 1.0) for name in node.inputs]
            if node.name in pooled_first:
                return self._raised(node, inputs, read, steps)
            if node.inputs[0] in pooled_first and node.inputs[0] not in known:
                before = self.network.by_name[node.inputs[0]]
                return self._activated(before, _max_pool(node, inputs[0]), steps)
            return self._layer(node, inputs, read, steps)

        return integer.flow(self.network, self._input(images), layer, keep)

    def _input(self, images: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        # strides say "channels innermost" also of one channel, and all that follows takes them over
        pixels = torch.empty_like(images, dtype=dtype, memory_format=torch.channels_last)
        pixels.copy_(images)
        if self.scheme is None:
            return pixels / IMAGE_MAX
        top = self.top(INPUT)
        return pixels if top == IMAGE_MAX else torch.floor(pixels * top / IMAGE_MAX + 0.5)

    def _layer(
        self, node: Node, inputs: list[Tensor], read: list[Step], steps: Mapping[str, Step]
    ) -> Tensor:
        x, written = inputs[0], steps.get(node.name)
        match node.layer:
            case MaxPool():
                return _max_pool(node, x)
            case Flatten():
                return x.flatten(1)[:, :, None, None]
            case Add() if written is not None:
                factors = float(read[0]) / float(written), float(read[1]) / float(written)
                return activations.added(x, inputs[1], factors, *self.code_range(node.name))
        return self._activated(node, self._raised(node, inputs, read, steps), steps)

    def _raised(
        self, node: Node, inputs: list[Tensor], read: list[Step], steps: Mapping[str, Step]
    ) -> Tensor:
        """What stands before rounding, clipping and ReLU."""
        x = inputs[0]
        written = steps.get(node.name)  # of the result, and of float networks, there is none
        found: Tensor
        match node.layer:
            case Conv() | Dense():
                found = self.weighted[node.name](x, read[0], written)
            case Add():
                found = x * read[0] + inputs[1] * read[1] if steps else x + inputs[1]
            case _:
                found = _mean(node, x)
                if written is None:
                    return found * read[0]
                gain = self.mean_gain(node)
                found = found * (integer.mean_pixels(node) * gain.gain / 2**gain.shift) + 0.5
        return found

    def _activated(self, node: Node, raised: Tensor, steps: Mapping[str, Step]) -> Tensor:
        """Codes, or real numbers behind ReLU; logits have none, as the hardware writes sums."""
        if node.name in steps:
            return activations.codes(raised, *self.code_range(node.name))
        relu = getattr(node.layer, "relu", False) and self.written[node.name].kind != "result"
        return F.relu(raised) if not steps and relu else raised

    def mean_gain(self, node: Node) -> integer.PoolIntegers:
        """The integers with which a mean pool makes codes."""
        before = self._meant(node.name)
        if node.name not in self.ranges:
            return integer.mean_gain(node, self.code_range(before), self.code_range(node.name))
        ratio = Fraction(float(self.step(before))) / Fraction(float(self.step(node.name)))
        return integer.mean_factor(ratio / integer.mean_pixels(node))

    # State

    def named_state(self) -> dict[str, Tensor]:
        """Everything that is trained or estimated, as `layer/weight`, `layer/range`."""
        found: dict[str, Tensor] = {}
        for name, layer in self.weighted.items():
            own = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            found |= {f"{name}/{key}": value for key, value in own.items()}
        return found | {f"{name}/range": value for name, value in self.ranges.items()}

    def load_named_state(self, state: Mapping[str, Tensor], place: str) -> None:
        """Take over what `named_state` gave.

        Raises:
            InputError: a name is missing or unknown, a shape differs, a number is not finite.
        """
        own = self.named_state()
        for name in state:
            if name not in own:
                raise InputError(f"{place}: {unknown('tensor', name, own)}")
        for name, value in own.items():
            if name not in state:
                raise InputError(f"{place}: has no '{name}', which {self.network.name} needs")
            _check_state(f"{place}: {name}", state[name], value)
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])


def _check_state(at: str, got: Tensor, wanted: Tensor) -> None:
    if got.shape != wanted.shape:
        shapes = " and ".join(str(list(t.shape)) for t in (wanted, got))
        raise InputError(f"{at}: shapes must agree, needs and has {shapes}")
    if not got.is_floating_point():
        raise InputError(f"{at}: must hold floats, got {got.dtype}")
    if not bool(torch.isfinite(got).all()):
        raise InputError(f"{at}: must be finite")
    if at.endswith("/variance") and bool((got < 0).any()):
        raise InputError(f"{at}: must not be negative")


def _mean(node: Node, x: Tensor) -> Tensor:
    if isinstance(node.layer, GlobalAvgPool):  # not x.mean, whose gradient is channels outermost
        return F.avg_pool2d(x, (node.in_shape.h, node.in_shape.w))
    return F.avg_pool2d(x, node.k, node.stride)


def _max_pool(node: Node, x: Tensor) -> Tensor:
    before, after = node.pad
    if before != after or 2 * before > node.k:
        x, before = F.pad(x, (before, after, before, after), value=-math.inf), 0
    return F.max_pool2d(x, node.k, node.stride, before)


def _added(network: Network) -> tuple[dict[str, str], set[str]]:
    """Of each tensor that meets others in additions, the first of those in the flow.

    And those whose plain sum is the network's result: they need one step.
    """
    written = tensors(network)
    leader: dict[str, str] = {}
    level: set[str] = set()

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    place = {name: index for index, name in enumerate(written)}
    for node in network.nodes:
        if not isinstance(node.layer, Add):
            continue
        met = [written[name] for name in (*node.inputs, node.name)]
        heads = sorted({find(t.name) for t in met if t.kind != "result"}, key=place.__getitem__)
        for head in heads[1:]:
            leader[head] = heads[0]
        if met[-1].kind == "result":
            level |= {tensor.name for tensor in met[:-1]}
    return {name: find(name) for name in leader}, level
