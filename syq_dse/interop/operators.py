"""Operators of any source, and the network that they are.

Readers of ONNX and PyTorch turn a file or a module into `Operator`s, in the order of the flow,
which an `Assembly` joins: batch-norm and ReLU belong to the layer that they follow, constants
behind a layer go into its weights, quantisers become the precisions of a scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syq_dse.errors import InputError, one_line
from syq_dse.network import (
    INPUT,
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Recipe,
    Shape,
    build,
    out_shape,
)
from syq_dse.scheme import Granularity, Weights, tensors

Floats = npt.NDArray[np.float64]

Kind = Literal[
    "conv",
    "dense",
    "batch_norm",
    "relu",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "add",
    "flatten",
    "affine",
    "quantiser",
    "identity",
]

SUPPORTED = (
    "Conv, Gemm/Linear, BatchNorm, Relu/Clip, MaxPool, AveragePool, GlobalAveragePool, Add, "
    "Flatten/Reshape, Dropout, and constants behind a conv or linear layer"
)

LARGEST_NUMBER = float(np.finfo(np.float32).max)

BATCH_NORM_EPS = 1e-5
"""Epsilon of batch-norm here; another one moves into the variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCodes:
    """How weights are quantised."""

    weights: Weights
    granularity: Granularity


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator between named tensors.

    Arrays: weight (c_out, c_in / groups, k, k) or (c_out, c_in), all else (channels,) or, of an
    affine, (1,): `weight`, `bias`; `gain`, `offset`, `mean`, `variance` of batch-norm; `factor`,
    `term` of an affine, y = x * factor + term.
    """

    kind: Kind
    place: str  # what an error calls it
    inputs: tuple[str, ...]
    output: str
    label: str = ""  # name that the layer should have
    k: int = 1
    stride: int | None = None
    pads: tuple[int, int] = (0, 0)  # before and after
    groups: int = 1
    arrays: Mapping[str, Floats] = field(default_factory=dict)
    codes: WeightCodes | None = None
    bits: int = 0  # of a quantiser
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A network, its weights and, where the source has quantisers, its precisions.

    Attributes:
        arrays: as quant.model.Model.named_state names them: `layer/weight`, `layer/mean`.
        scheme: what a scheme file holds; None without quantisers.
    """

    file: NetworkFile
    arrays: Mapping[str, Floats]
    scheme: Mapping[str, Any] | None


@dataclass(slots=True)
class _Value:
    """A tensor of the source: the layer that writes it, and its shape."""

    layer: str
    shape: Shape


def refuse(operator: str, place: str, why: str) -> InputError:
    what = f"{one_line(place)}: {one_line(operator)}: {one_line(why)}"
    return InputError(f"{what}; supported are {SUPPORTED}")


class Assembly:
    """Layers so far. A layer may still change while nothing but its follower reads it.

    Args:
        input, shape: the tensor that the network reads.
        readers: how many operators read each tensor of the source, its result once more.
        quantised: whether the source has quantisers, whose scales move between tensors.
    """

    def __init__(
        self, input: str, shape: Shape, readers: Mapping[str, int], quantised: bool = False
    ) -> None:
        self.shape, self.readers, self.quantised = shape, readers, quantised
        self.values = {input: _Value(INPUT, shape)}
        self.tensors: dict[str, list[str]] = {}  # of each layer
        self.labels: dict[str, int] = {}
        self.layers: dict[str, Layer] = {}
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.arrays: dict[str, Floats] = {}
        self.codes: dict[str, WeightCodes] = {}
        self.bits: dict[str, tuple[int, bool]] = {}
        self.counts: dict[str, int] = {}

    def shape_of(self, tensor: str, place: str) -> Shape:
        """The shape of a tensor that is there already.

        Raises:
            InputError: it is not: the source is no acyclic graph in the order of its flow.
        """
        if tensor not in self.values:
            raise InputError(
                f"{one_line(place)}: reads '{one_line(tensor)}', which nothing before it writes"
            )
        return self.values[tensor].shape

    def take(self, operator: Operator) -> None:
        """Join the next operator.

        Raises:
            InputError: it stands where no layer can take it, shapes do not meet, or quantisers
                contradict each other.
        """
        for tensor in operator.inputs:
            self.shape_of(tensor, operator.place)
        if operator.output in self.values:
            raise InputError(
                f"{one_line(operator.place)}: writes '{one_line(operator.output)}' once more"
            )
        for part, array in operator.arrays.items():
            if not (np.abs(array) <= LARGEST_NUMBER).all():
                raise InputError(
                    f"{one_line(operator.place)}: {part} must be finite in 32 bit floats"
                )
        match operator.kind:
            case "batch_norm":
                self._batch_norm(operator)
            case "relu":
                self._relu(operator)
            case "affine":
                self._affine(operator)
            case "quantiser":
                self._quantiser(operator)
            case "identity":
                self._pass(operator)
            case _:
                self._layer(operator)

    def imported(self, output: str, name: str, provenance: str, recipe: Recipe) -> Imported:
        """The network whose result is a tensor.

        Raises:
            InputError: nothing writes it, or it is no vector.
        """
        self.shape_of(output, "output")
        result = self.values[output]
        last = self.layers.get(result.layer)
        if getattr(last, "relu", False):
            raise refuse("Relu", f"layer '{result.layer}'", "the result must not go through it")
        for key, array in self.arrays.items():
            if not (np.abs(array) <= LARGEST_NUMBER).all():
                raise InputError(f"{one_line(key)}: must be finite in 32 bit floats")
        file = NetworkFile(
            name=name,
            provenance=provenance,
            classes=result.shape.size,
            input=(self.shape.c, self.shape.h, self.shape.w),
            recipe=recipe,
            layers=self._finished(result),
        )
        return Imported(file=file, arrays=self.arrays, scheme=self._scheme(build(file)))

    # Operators that are layers

    def _layer(self, operator: Operator) -> None:
        read = [self.values[tensor] for tensor in operator.inputs]
        shape = read[0].shape
        if operator.kind == "flatten" and shape.pixels == 1:
            self._pass(operator)
            return
        name = self._name(operator)
        layer = self._made(operator, name)
        try:
            written = out_shape(layer, tuple(value.shape for value in read))
        except InputError as error:
            raise InputError(f"{one_line(operator.place)}: {error}") from None
        if isinstance(layer, (Conv, Dense)):
            self._weights(operator, name, shape)
        self.layers[name] = layer
        self.inputs[name] = tuple(value.layer for value in read)
        self._write(operator.output, _Value(name, written))

    def _write(self, tensor: str, value: _Value) -> None:
        self.values[tensor] = value
        self.tensors.setdefault(value.layer, []).append(tensor)

    def _name(self, operator: Operator) -> str:
        """The operator's own label, or its kind and a number; either is made unique."""
        label = "".join(c if c.isprintable() else "_" for c in operator.label).strip()[:80]
        if not label or label == INPUT:
            self.counts[operator.kind] = self.counts.get(operator.kind, 0) + 1
            label = f"{operator.kind}{self.counts[operator.kind]}"
        name, number = label, self.labels.get(label, 1)
        while name in self.layers or name == INPUT:
            number += 1
            name = f"{label}_{number}"
        self.labels[label] = number
        return name

    def _made(self, operator: Operator, name: str) -> Layer:
        before, after = operator.pads
        last = None if after == before else after
        try:
            match operator.kind:
                case "conv":
                    return Conv(
                        name=name,
                        c_out=len(operator.arrays["weight"]),
                        k=operator.k,
                        stride=1 if operator.stride is None else operator.stride,
                        pad=before,
                        pad_after=last,
                        groups=operator.groups,
                        batch_norm=False,
                        relu=False,
                    )
                case "dense":
                    c_out = len(operator.arrays["weight"])
                    return Dense(name=name, c_out=c_out, batch_norm=False, relu=False)
                case "max_pool":
                    stride = None if operator.stride == operator.k else operator.stride
                    return MaxPool(
                        name=name, k=operator.k, stride=stride, pad=before, pad_after=last
                    )
                case "avg_pool":
                    stride = None if operator.stride == operator.k else operator.stride
                    return AvgPool(name=name, k=operator.k, stride=stride)
                case "global_avg_pool":
                    return GlobalAvgPool(name=name)
                case "add":
                    first, second = (self.values[tensor].layer for tensor in operator.inputs)
                    return Add(name=name, inputs=(first, second), relu=False)
                case "flatten":
                    return Flatten(name=name)
        except InputError as error:
            raise InputError(f"{one_line(operator.place)}: {error}") from None
        raise AssertionError(operator.kind)

    def _weights(self, operator: Operator, name: str, shape: Shape) -> None:
        weight = operator.arrays["weight"]
        wanted: tuple[int, ...] = (len(weight), shape.c)
        if operator.kind == "conv":
            wanted = (len(weight), shape.c // operator.groups, operator.k, operator.k)
        if weight.shape != wanted:
            shapes = " and has ".join(str(list(of)) for of in (wanted, weight.shape))
            raise InputError(f"{one_line(operator.place)}: weight must be {shapes}")
        self.arrays[f"{name}/weight"] = weight
        if "bias" in operator.arrays:
            self.arrays[f"{name}/bias"] = _channels(operator, "bias", len(weight))
        if operator.codes is not None:
            self.codes[name] = operator.codes

    # Operators that a layer takes in

    def _pass(self, operator: Operator) -> None:
        value = self.values[operator.inputs[0]]
        shape = value.shape if operator.kind != "flatten" else Shape(value.shape.size, 1, 1)
        self._write(operator.output, replace(value, shape=shape))

    def _open(self, operator: Operator) -> str:
        """The conv or dense layer that the operator follows, which nothing else reads yet.

        Raises:
            InputError: there is none.
        """
        name = self.values[operator.inputs[0]].layer
        layer = self.layers.get(name)
        alone = self._alone(name)
        if not isinstance(layer, (Conv, Dense)) or layer.relu or name in self.bits or not alone:
            what = {"batch_norm": "BatchNorm", "affine": "a constant"}[operator.kind]
            raise refuse(
                what, operator.place, "must follow a conv or linear layer that nothing else reads"
            )
        return name

    def _batch_norm(self, operator: Operator) -> None:
        name = self._open(operator)
        layer = self.layers[name]
        assert isinstance(layer, (Conv, Dense))
        if layer.batch_norm:
            raise refuse("BatchNorm", operator.place, f"layer '{one_line(name)}' has one already")
        for part in ("gain", "offset", "mean", "variance"):
            self.arrays[f"{name}/{part}"] = _channels(operator, part, layer.c_out)
        if (self.arrays[f"{name}/variance"] < -BATCH_NORM_EPS).any():
            raise InputError(f"{one_line(operator.place)}: variances must not be negative")
        self.arrays[f"{name}/variance"] = np.maximum(self.arrays[f"{name}/variance"], 0)
        self.layers[name] = replace(layer, batch_norm=True)
        self._pass(operator)

    def _affine(self, operator: Operator) -> None:
        """Constants go into weights and bias. Between quantisers a positive factor elsewhere only
        says in which unit a tensor is, and less than half a unit added how it rounds."""
        value = self.values[operator.inputs[0]]
        layer = self.layers.get(value.layer)
        factor, term = operator.arrays.get("factor"), operator.arrays.get("term")
        plain = isinstance(layer, (Conv, Dense)) and not (layer.relu or value.layer in self.bits)
        if not plain and self.quantised:
            moves = term is None or float(np.abs(term).max(initial=0)) < 0.5
            if moves and (factor is None or (factor.size == 1 and float(factor.min()) > 0)):
                self._pass(operator)
                return
        name = self._open(operator)
        assert isinstance(layer, (Conv, Dense))
        weight = self.arrays[f"{name}/weight"]
        if factor is not None:
            of = _spread(factor, layer.c_out)
            if layer.batch_norm:
                self.arrays[f"{name}/gain"] = self.arrays[f"{name}/gain"] * of
                self.arrays[f"{name}/offset"] = self.arrays[f"{name}/offset"] * of
            else:
                self.arrays[f"{name}/weight"] = (weight.T * of).T
                if f"{name}/bias" in self.arrays:
                    self.arrays[f"{name}/bias"] = self.arrays[f"{name}/bias"] * of
        if term is not None:
            of = _spread(term, layer.c_out)
            key = f"{name}/offset" if layer.batch_norm else f"{name}/bias"
            self.arrays[key] = self.arrays.get(key, np.zeros(layer.c_out)) + of
        self._pass(operator)

    def _relu(self, operator: Operator) -> None:
        """ReLU of the layer before; a maximum, and what is not negative, hand it on."""
        value = self.values[operator.inputs[0]]
        name, tensor = value.layer, operator.inputs[0]
        if self._is_positive(name):
            self._pass(operator)
            return
        while isinstance(self.layers.get(name), (MaxPool, Flatten)) and self._alone(name):
            name = self.inputs[name][0]
        layer = self.layers.get(name)
        if self.bits.get(name, (0, False))[1]:
            raise refuse("Relu", operator.place, "must not follow a signed quantiser")
        if (
            not isinstance(layer, (Conv, Dense, Add))
            or not self._alone(name)
            or self.readers[tensor] != 1
        ):
            raise refuse(
                "Relu", operator.place, "must follow a layer that nothing else reads before it"
            )
        self.layers[name] = replace(layer, relu=True)
        self._pass(operator)

    def _alone(self, name: str) -> bool:
        """Whether a layer has one reader in the source, or none yet."""
        return all(self.readers.get(tensor, 0) <= 1 for tensor in self.tensors.get(name, ()))

    def _is_positive(self, name: str) -> bool:
        """Whether all that a layer depends on back to the last ReLUs is not negative."""
        seen, waiting = {name}, [name]
        while waiting:
            one = waiting.pop()
            layer = self.layers.get(one)
            if getattr(layer, "relu", False):
                continue
            if layer is None or isinstance(layer, (Conv, Dense)):
                return False
            waiting += set(self.inputs[one]) - seen
            seen.update(self.inputs[one])
        return True

    def _quantiser(self, operator: Operator) -> None:
        name = self.values[operator.inputs[0]].layer
        while isinstance(self.layers.get(name), (MaxPool, Flatten)):
            name = self.inputs[name][0]
        layer = self.layers.get(name)
        if not operator.signed and isinstance(layer, (Conv, Dense, Add)) and not layer.relu:
            self._relu(operator)  # codes from 0 on clip what is negative
        else:
            self._pass(operator)
        known = self.bits.setdefault(name, (operator.bits, operator.signed))
        if known[0] != operator.bits:
            raise InputError(
                f"{one_line(operator.place)}: {operator.bits} bits for a tensor that has "
                f"{known[0]} already, of layer '{one_line(name)}'; a tensor has one precision"
            )

    # The end

    def _finished(self, result: _Value) -> tuple[Layer, ...]:
        """The layers that the result depends on, with their inputs and biases as a file has them.

        The bias is left to its default where that is what it is, and so is the input where it is
        the layer before.
        """
        used: set[str] = set()
        waiting = [result.layer]
        while waiting:
            name = waiting.pop()
            if name not in used and name != INPUT:
                used.add(name)
                waiting += self.inputs[name]
        out: list[Layer] = []
        before = INPUT
        for name, layer in self.layers.items():
            if name not in used:
                continue
            if isinstance(layer, (Conv, Dense)):
                bias = f"{name}/bias" in self.arrays
                layer = replace(layer, bias=None if bias != layer.batch_norm else bias)
            if not isinstance(layer, Add) and self.inputs[name][0] != before:
                layer = replace(layer, input=self.inputs[name][0])
            out.append(layer)
            before = name
        self.arrays = {key: v for key, v in self.arrays.items() if key.rpartition("/")[0] in used}
        self.codes = {name: codes for name, codes in self.codes.items() if name in used}
        self.bits = {n: bits for n, bits in self.bits.items() if n in used or n == INPUT}
        return tuple(out)

    def _scheme(self, network: Network) -> dict[str, Any] | None:
        """The precisions as a scheme file has them; None where there is no quantiser."""
        if not (self.codes or self.bits):
            return None
        entries: dict[str, dict[str, Any]] = {}
        for name, codes in self.codes.items():
            entries.setdefault(name, {}).update(
                weights=codes.weights, granularity=codes.granularity
            )
        written = tensors(network)
        for name, (bits, _) in self.bits.items():
            kind = written[name].kind if name in written else "result"
            if name != INPUT and kind != "result":
                key = "residual_bits" if kind == "residual" else "bits"
                entries.setdefault(name, {})[key] = bits
        found: dict[str, Any] = {"layers": entries}
        if INPUT in self.bits:
            found["input_bits"] = self.bits[INPUT][0]
        return found


def _channels(operator: Operator, part: str, channels: int) -> Floats:
    array = operator.arrays[part]
    if array.shape != (channels,):
        shapes = f"{[channels]} and has {list(array.shape)}"
        raise InputError(f"{one_line(operator.place)}: {part} must be {shapes}")
    return array


def _spread(array: Floats, channels: int) -> Floats:
    """A number, or one for each channel, as one for each."""
    return np.broadcast_to(array.reshape(-1), (channels,))


def by_channel(array: Floats, rank: int, channels: int, place: str) -> Floats:
    """A constant that broadcasts to a tensor, as a number or one for each channel.

    Args:
        rank: of the tensor, whose axis 1 are the channels.

    Raises:
        InputError: it varies along other axes.
    """
    shape = (1,) * (rank - array.ndim) + array.shape
    along = [size for axis, size in enumerate(shape) if axis != 1]
    if array.size == 1 and array.ndim <= rank:
        return array.reshape(-1)
    if len(shape) != rank or any(size != 1 for size in along) or shape[1] != channels:
        raise refuse(
            "a constant",
            place,
            f"must be a number or one for each of {channels} channels, got shape "
            f"{list(array.shape)} for a tensor of {rank} axes",
        )
    return array.reshape(-1)
