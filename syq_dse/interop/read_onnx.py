"""Networks from ONNX and QONNX files, which are not trusted: nothing in them is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from syq_dse.errors import InputError, one_line
from syq_dse.interop.onnx_file import (
    DOMAINS,
    OFFERED,
    Array,
    array_of,
    attributes_of,
    input_shape,
    stored_beside,
)
from syq_dse.interop.onnx_folding import FOLDED
from syq_dse.interop.operators import (
    BATCH_NORM_EPS,
    Assembly,
    Floats,
    Imported,
    Operator,
    WeightCodes,
    by_channel,
    refuse,
)
from syq_dse.network import Recipe, Shape
from syq_dse.scheme import Granularity, Weights

LARGEST_MADE = 1 << 25
"""Elements of all constants that are made, beyond what the file holds."""


def read(
    model: ModelProto,
    path: Path,
    name: str,
    provenance: str,
    recipe: Callable[[Shape, int], Recipe],
) -> Imported:
    """The network in a file.

    Args:
        path: of the file, beside which constants may lie.
        recipe: of the input's shape and the number of classes.

    Raises:
        InputError: the file is cut or of another kind, has dynamic shapes, 16 bit floats, an
            operator that no layer is; names the node.
    """
    with np.errstate(all="ignore"):  # what is not finite is refused by name
        reader = _Reader(model, path)
        for node in model.graph.node:
            reader.take(node)
        try:
            classes = reader.assembly.shape_of(reader.output, "output").size
            made = recipe(reader.assembly.shape, classes)
            return reader.assembly.imported(reader.output, name, provenance, made)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


QUANTISING = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold")

_BROKEN = (
    *(TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError),
    *(MemoryError, RecursionError),
)
"""What the fields of a file can do to those who read them."""


class _Quantised:
    """A constant behind a quantiser."""

    def __init__(self, array: Array, codes: WeightCodes, axis: int) -> None:
        self.array, self.codes = array, codes
        self.axis = axis  # of the output channels, where scales are of these


class _Reader:
    """Nodes to operators; constants are folded on the way."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        graph = model.graph
        self.path = path
        held = sum(tensor.ByteSize() for tensor in graph.initializer)
        self.budget = LARGEST_MADE + 2 * max(held, stored_beside(model))
        if graph.sparse_initializer:
            raise InputError(f"{path}: sparse constants are unknown; {OFFERED}")
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.constants: dict[str, Array] = {}
        self.quantised: dict[str, _Quantised] = {}
        self.origins: dict[str, str] = {}  # of folded and quantised constants: the one stored
        inputs = [one for one in graph.input if one.name not in self.stored]
        for what, tensors in (("input", inputs), ("output", list(graph.output))):
            if len(tensors) != 1:
                found = ", ".join(one_line(one.name) for one in tensors) or "none"
                raise InputError(f"{path}: one {what} is needed, got {found}")
        self.output = graph.output[0].name
        self.batch, rank, shape = input_shape(path, inputs[0])
        self.ranks = {inputs[0].name: rank}  # axes of each tensor
        counts: dict[str, int] = {self.output: 1}
        for node in graph.node:
            read = list(node.input)
            if node.op_type in ("Shape", "CastLike"):  # these look at no number
                read = read[1:-1]
            for tensor in read:
                counts[tensor] = counts.get(tensor, 0) + 1
        quantised = any(node.op_type in QUANTISING for node in graph.node)
        self.assembly = Assembly(inputs[0].name, shape, counts, quantised)

    def take(self, node: NodeProto) -> None:
        place = f"{self.path}: node '{node.name or (node.output[0] if node.output else '')}'"
        if node.domain not in DOMAINS:
            raise refuse(node.op_type or "?", place, f"domain {node.domain!r} is unknown")
        if not node.output or not node.output[0]:
            raise InputError(f"{one_line(place)}: writes nothing")
        extra = [name for name in node.output[1:] if name]
        if extra and any(name in self.assembly.readers for name in extra):
            raise refuse(node.op_type, place, f"output '{one_line(extra[0])}' is not read here")
        try:
            self._take(node, attributes_of(node, place), place)
        except _BROKEN as error:
            reason = one_line(str(error) or type(error).__name__)
            raise InputError(
                f"{one_line(place)}: {one_line(node.op_type)} has inputs or attributes of another "
                f"kind: {reason}"
            ) from None

    def _take(self, node: NodeProto, attributes: Mapping[str, Any], place: str) -> None:
        if node.op_type == "Transpose" and node.input and node.input[0] in self.quantised:
            self._transpose(node, attributes, place)
            return
        if node.op_type == "Constant" or self._foldable(node):
            self.constants[node.output[0]] = self._folded(node, attributes, place)
            if node.input:
                self.origins[node.output[0]] = self.origins.get(node.input[0], node.input[0])
            return
        if node.op_type == "Shape" and node.input:
            self.constants[node.output[0]] = self._shape(node.input[0], attributes, place)
            return
        if node.op_type in _QUANTISERS and self._is_constant(node.input[0]):
            self.quantised[node.output[0]] = self._weight_codes(node, attributes, place)
            return
        make = _OPERATORS.get(node.op_type)
        if make is None:
            raise refuse(node.op_type or "?", place, "is not supported")
        operator = make(self, node, attributes, place)
        self._spend(sum(array.size for array in operator.arrays.values()), place)
        self.assembly.take(operator)
        rank = {"dense": 2, "conv": 4}.get(operator.kind, self.ranks[operator.inputs[0]])
        self.ranks.setdefault(operator.output, rank)

    def _spend(self, elements: int, place: str) -> None:
        """Count elements of what is made of a file, which may be little.

        Raises:
            InputError: they are far more than the file holds.
        """
        self.budget -= elements
        if self.budget < 0:
            raise InputError(f"{one_line(place)}: constants grow far beyond what the file holds")

    # Constants

    def _is_constant(self, name: str) -> bool:
        return name in self.constants or name in self.stored

    def constant(self, name: str, place: str) -> Array:
        """A constant by its tensor.

        Raises:
            InputError: it is none, or broken.
        """
        if name not in self.constants and name in self.stored:
            self.constants[name] = array_of(self.stored[name], self.path, place)
        if name not in self.constants:
            raise InputError(f"{one_line(place)}: '{one_line(name)}' must be a constant")
        return self.constants[name]

    def floats(self, name: str, place: str) -> Floats:
        with np.errstate(invalid="ignore"):  # of a NaN that signals
            found = self.constant(name, place).astype(np.float64)
        if not np.isfinite(found).all():
            raise InputError(f"{one_line(place)}: '{one_line(name)}' must be finite")
        return found

    def weight(self, name: str, place: str, axis: int = 0) -> tuple[Floats, WeightCodes | None]:
        """A constant, and how it is quantised where it is.

        Args:
            axis: of the output channels.
        """
        if name not in self.quantised:
            return self.floats(name, place), None
        held = self.quantised[name]
        if held.codes.granularity == "channel" and held.axis != axis:
            raise refuse("Quant", place, "scales must be of output channels, got of inputs")
        return held.array.astype(np.float64), held.codes

    def _shape(self, name: str, attributes: Mapping[str, Any], place: str) -> Array:
        if self._is_constant(name):
            sizes = list(self.constant(name, place).shape)
        else:
            shape = self.assembly.shape_of(name, place)
            sizes = [self.batch, shape.c, shape.h, shape.w][: self.ranks[name]]
        return np.array(sizes[attributes.get("start", 0) : attributes.get("end")], np.int64)

    def _foldable(self, node: NodeProto) -> bool:
        given = [name for name in node.input if name]
        if node.op_type == "CastLike":  # what it is like need not be a constant
            given = given[:1]
        return node.op_type in FOLDED and bool(given) and all(map(self._is_constant, given))

    def _folded(self, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Array:
        if node.op_type == "Constant":
            for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
                if key in attributes:
                    value = attributes[key]
                    if isinstance(value, TensorProto):
                        return array_of(value, self.path, place)
                    return np.asarray(value)
            raise refuse("Constant", place, "must be a tensor or numbers")
        given = node.input[:1] if node.op_type == "CastLike" else node.input
        inputs = [self.constant(name, place) for name in given if name]
        found = np.asarray(FOLDED[node.op_type](inputs, attributes))
        self._spend(found.size, place)
        return found

    # Quantisers

    def _weight_codes(
        self, node: NodeProto, attributes: Mapping[str, Any], place: str
    ) -> _Quantised:
        array = self.floats(node.input[0], place)
        scale = self.floats(node.input[1], place)
        kind: Weights
        if node.op_type == "BipolarQuant":
            kind = "binary"
        else:
            bits = self.bits(node, 3, place)
            if not attributes.get("signed", 1):
                raise refuse(node.op_type, place, "weights must be signed")
            if self.floats(node.input[2], place).any():
                raise refuse(node.op_type, place, "weights must have zero point 0")
            ternary = bits == 2 and attributes.get("narrow", 1)
            names: dict[int, Weights] = {1: "binary", 3: "int3", 4: "int4", 5: "int5"}
            names |= {2: "ternary" if ternary else "int2", 6: "int6", 7: "int7", 8: "int8"}
            kind = names[bits]
        granularity, axis = _granularity(array.shape, scale.shape, place)
        self.origins[node.output[0]] = self.origins.get(node.input[0], node.input[0])
        return _Quantised(array, WeightCodes(weights=kind, granularity=granularity), axis)

    def _transpose(self, node: NodeProto, attributes: Mapping[str, Any], place: str) -> None:
        """Of a quantised matrix."""
        held = self.quantised[node.input[0]]
        if held.array.ndim != 2 or list(attributes.get("perm", [1, 0])) != [1, 0]:
            raise refuse("Transpose", place, "quantised weights must be a matrix")
        self.quantised[node.output[0]] = _Quantised(held.array.T, held.codes, 1 - held.axis)
        self.origins[node.output[0]] = self.origins.get(node.input[0], node.input[0])

    def bits(self, node: NodeProto, index: int, place: str) -> int:
        if len(node.input) <= index:
            raise InputError(f"{one_line(place)}: has {len(node.input)} inputs; some are missing")
        found = self.floats(node.input[index], place)
        if found.size != 1 or float(found.reshape(-1)[0]) not in range(1, 9):
            raise refuse(node.op_type, place, "bits must be one number, 1 to 8")
        return int(found.reshape(-1)[0])

    def label(self, node: NodeProto, weight: str | None = None) -> str:
        """What the layer of a node is called: as its weight is, or as the node."""
        if weight is not None:
            origin = self.origins.get(weight, weight)
            if origin.endswith(".weight"):
                return origin.removesuffix(".weight")
        return _path(node)


def _path(node: NodeProto) -> str:
    """The module's path in a node's name: `/layer1/layer1.0/conv1/Conv` is layer1.0.conv1."""
    parts = [part for part in node.name.split("/") if part]
    if "/" not in node.name:
        return ""
    parts = parts[:-1]
    kept = [
        part
        for part, after in zip(parts, [*parts[1:], ""], strict=True)
        if not after.startswith(f"{part}.")
    ]
    return ".".join(kept)


def _granularity(
    weight: Sequence[int], scale: Sequence[int], place: str
) -> tuple[Granularity, int]:
    """Which weights share a scale, by the shape of the scales; the axis of channels."""
    size = math.prod(scale)
    if size == 1:
        return "layer", 0
    if len(weight) == 4 and len(scale) == 4:
        known: dict[tuple[int, ...], Granularity] = {
            (1, 1, weight[2], 1): "row",
            (1, 1, weight[2], weight[3]): "pixel",
            (weight[0], 1, 1, 1): "channel",
        }
        if tuple(scale) in known:
            return known[tuple(scale)], 0
    if len(weight) == 2 and tuple(scale) in ((weight[0], 1), (1, weight[1])):
        return "channel", 0 if scale[1] == 1 else 1
    raise refuse(
        "Quant",
        place,
        "scales must be one, or one a kernel row, kernel pixel or output channel, got shape "
        f"{list(scale)} for weights {list(weight)}",
    )


# Operators

_Make = Callable[[_Reader, NodeProto, Mapping[str, Any], str], Operator]


def _square(values: Sequence[int], what: str, node: NodeProto, place: str) -> int:
    if len(values) != 2 or values[0] != values[1]:
        raise refuse(node.op_type, place, f"{what} must be square, got {list(values)}")
    return int(values[0])


def _window(
    reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], k: int, place: str
) -> tuple[int, tuple[int, int]]:
    """Stride and padding of a window, with dilation, odd paddings and rounding up refused."""
    stride = _square(attributes.get("strides", [1, 1]), "strides", node, place)
    if stride < 1 or k < 1:
        raise refuse(node.op_type, place, f"kernel and stride must be positive: {k}, {stride}")
    if any(one != 1 for one in attributes.get("dilations", [])):
        raise refuse(node.op_type, place, f"dilation must be 1, got {attributes['dilations']}")
    shape = reader.assembly.shape_of(node.input[0], place)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") and stride >= 1:
        wanted = [max(0, (-(-n // stride) - 1) * stride + k - n) for n in (shape.h, shape.w)]
        total = _square(wanted, "the padding that SAME needs", node, place)
        few, many = total // 2, total - total // 2
        pads = (few, many) if auto == "SAME_UPPER" else (many, few)
    elif auto in ("NOTSET", "VALID"):
        given = attributes.get("pads", [0] * 4) if auto == "NOTSET" else [0] * 4
        if len(given) != 4 or given[0] != given[1] or given[2] != given[3] or min(given) < 0:
            raise refuse(node.op_type, place, f"padding must be alike in rows and columns: {given}")
        pads = int(given[0]), int(given[2])
    else:
        raise refuse(node.op_type, place, f"auto_pad {auto!r} is unknown")
    if attributes.get("ceil_mode", 0) and any(
        (n + sum(pads) - k) % max(stride, 1) for n in (shape.h, shape.w)
    ):
        raise refuse(node.op_type, place, "ceil_mode must be 0 where windows do not fit evenly")
    return stride, pads


def _conv(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    _needs(node, 2, place)
    weight, codes = reader.weight(node.input[1], place)
    if weight.ndim != 4:
        raise refuse("Conv", place, f"must be over two axes, got a weight {list(weight.shape)}")
    k = _square(attributes.get("kernel_shape", weight.shape[2:]), "kernels", node, place)
    stride, pads = _window(reader, node, attributes, k, place)
    return Operator(
        kind="conv",
        place=place,
        inputs=(node.input[0],),
        output=node.output[0],
        label=reader.label(node, node.input[1]),
        k=k,
        stride=stride,
        pads=pads,
        groups=int(attributes.get("group", 1)),
        arrays={"weight": weight, **_bias(reader, node, 2, place)},
        codes=codes,
    )


def _bias(reader: _Reader, node: NodeProto, index: int, place: str) -> dict[str, Floats]:
    if len(node.input) <= index or not node.input[index]:
        return {}
    bias = reader.weight(node.input[index], place)[0].reshape(-1)
    if node.input[index] not in reader.stored and not bias.any():
        return {}  # exporters make one of zeros where there is none
    return {"bias": bias}


def _needs(node: NodeProto, inputs: int, place: str) -> None:
    if len(node.input) < inputs or not all(node.input[:inputs]):
        raise InputError(
            f"{one_line(place)}: {node.op_type} needs {inputs} inputs, got {len(node.input)}"
        )


def _gemm(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    _needs(node, 2, place)
    if attributes.get("transA", 0):
        raise refuse("Gemm", place, "transA must be 0")
    if reader.ranks.get(node.input[0]) != 2:
        raise refuse(node.op_type, place, "must read vectors; flatten before")
    turned = node.op_type == "MatMul" or not attributes.get("transB", 0)
    weight, codes = reader.weight(node.input[1], place, axis=int(turned))
    if weight.ndim != 2:
        raise refuse(node.op_type, place, f"the weight must be a matrix: {list(weight.shape)}")
    weight = weight.T if turned else weight
    alpha, beta = (float(attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    bias = {} if node.op_type == "MatMul" else _bias(reader, node, 2, place)
    if "bias" in bias and bias["bias"].size == 1:
        bias["bias"] = np.full(len(weight), bias["bias"][0])
    return Operator(
        kind="dense",
        place=place,
        inputs=(node.input[0],),
        output=node.output[0],
        label=reader.label(node, node.input[1]),
        arrays={"weight": weight * alpha, **{key: value * beta for key, value in bias.items()}},
        codes=codes,
    )


def _batch_norm(
    reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str
) -> Operator:
    _needs(node, 5, place)
    if attributes.get("training_mode", 0):
        raise refuse("BatchNormalization", place, f"is in training mode; {OFFERED}")
    names = ("gain", "offset", "mean", "variance")
    arrays = {
        name: reader.floats(tensor, place).reshape(-1)
        for name, tensor in zip(names, node.input[1:5], strict=True)
    }
    arrays["variance"] = arrays["variance"] + (attributes.get("epsilon", 1e-5) - BATCH_NORM_EPS)
    return Operator(
        kind="batch_norm",
        place=place,
        inputs=(node.input[0],),
        output=node.output[0],
        arrays=arrays,
    )


def _relu(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    _needs(node, 1, place)
    if node.op_type == "Max":
        _needs(node, 2, place)
        held = [name for name in node.input if reader._is_constant(name)]
        if len(node.input) != 2 or len(held) != 1 or reader.floats(held[0], place).any():
            raise refuse("Max", place, "must be of a tensor and 0")
        (value,) = (name for name in node.input if name not in held)
        return Operator(kind="relu", place=place, inputs=(value,), output=node.output[0])
    if node.op_type == "Clip":
        ends = [attributes.get("min"), attributes.get("max", math.inf)]
        for index, name in enumerate(node.input[1:3]):
            if name:
                ends[index] = float(reader.constant(name, place).reshape(-1)[0])
        if ends[0] != 0 or not ends[1] > 0:
            raise refuse("Clip", place, f"must be from 0 up, got {ends}")
    return _unary("relu", node, place)


def _unary(kind: Any, node: NodeProto, place: str) -> Operator:
    _needs(node, 1, place)
    return Operator(kind=kind, place=place, inputs=(node.input[0],), output=node.output[0])


def _pool(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    _needs(node, 1, place)
    if "kernel_shape" not in attributes:
        raise InputError(f"{one_line(place)}: has no kernel_shape")
    k = _square(attributes["kernel_shape"], "kernels", node, place)
    stride, pads = _window(reader, node, attributes, k, place)
    if node.op_type == "AveragePool" and any(pads):
        raise refuse("AveragePool", place, f"padding must be 0, got {list(pads)}")
    if k == stride == 1 and not any(pads):
        return _unary("identity", node, place)
    return Operator(
        kind="max_pool" if node.op_type == "MaxPool" else "avg_pool",
        place=place,
        inputs=(node.input[0],),
        output=node.output[0],
        k=k,
        stride=stride,
        pads=pads,
    )


def _mean(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    if node.op_type == "ReduceMean":
        _needs(node, 1, place)
        axes = attributes.get("axes")
        if len(node.input) > 1 and node.input[1]:
            axes = reader.constant(node.input[1], place).reshape(-1).tolist()
        if reader.ranks.get(node.input[0]) != 4 or sorted(int(axis) % 4 for axis in axes or []) != [
            2,
            3,
        ]:
            raise refuse("ReduceMean", place, f"must be over rows and columns, got axes {axes}")
        if not attributes.get("keepdims", 1):
            reader.ranks[node.output[0]] = 2
    return _unary("global_avg_pool", node, place)


def _added(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    _needs(node, 2, place)
    held = [reader._is_constant(name) for name in node.input[:2]]
    if node.op_type in ("Add", "Sum") and not any(held):
        if len(node.input) != 2:
            raise refuse("Sum", place, f"must be of two tensors, got {len(node.input)}")
        return Operator(
            kind="add", place=place, inputs=(node.input[0], node.input[1]), output=node.output[0]
        )
    data = 1 if held[0] else 0
    if not held[1 - data] or (data == 1 and node.op_type in ("Sub", "Div")):
        raise refuse(
            node.op_type, place, "one operand must be a constant, the second of Sub and Div"
        )
    rank = reader.ranks[node.input[data]]
    channels = reader.assembly.shape_of(node.input[data], place).c
    value = by_channel(reader.floats(node.input[1 - data], place), rank, channels, place)
    arrays: dict[str, Floats]
    match node.op_type:
        case "Add" | "Sum":
            arrays = {"term": value}
        case "Sub":
            arrays = {"term": -value}
        case "Mul":
            arrays = {"factor": value}
        case _:
            if not value.all():
                raise refuse("Div", place, "the constant must not be 0")
            arrays = {"factor": 1 / value}
    return Operator(
        kind="affine",
        place=place,
        inputs=(node.input[data],),
        output=node.output[0],
        arrays=arrays,
    )


def _flattened(
    reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str
) -> Operator:
    _needs(node, 1, place)
    shape = reader.assembly.shape_of(node.input[0], place)
    if node.op_type == "Flatten":
        if attributes.get("axis", 1) % reader.ranks[node.input[0]] != 1:
            raise refuse("Flatten", place, f"axis must be 1, got {attributes['axis']}")
        reader.ranks[node.output[0]] = 2
        return _unary("flatten", node, place)
    if node.op_type in ("Squeeze", "Unsqueeze"):
        axes = attributes.get("axes")
        if len(node.input) > 1 and node.input[1]:
            axes = reader.constant(node.input[1], place).reshape(-1).tolist()
        if shape.pixels != 1 or sorted(int(axis) % 4 for axis in axes or [2, 3]) != [2, 3]:
            raise refuse(node.op_type, place, f"must be of one pixel's rows and columns: {shape}")
        reader.ranks[node.output[0]] = 2 if node.op_type == "Squeeze" else 4
        return _unary("identity", node, place)
    _needs(node, 2, place)
    wanted = [int(size) for size in reader.constant(node.input[1], place).reshape(-1)]
    whole = [shape.c, shape.h, shape.w]
    images = wanted[0] if wanted else 0
    kept = images in (0, reader.batch) or (images == -1 and wanted[1:] == [shape.size])
    if len(wanted) == 2 and wanted[1] in (-1, shape.size) and kept:
        reader.ranks[node.output[0]] = 2
        return _unary("flatten", node, place)
    same = [size if size else whole[i] for i, size in enumerate(wanted[1:]) if i < 3]
    if len(wanted) == 4 and (same == whole or (same.count(-1) == 1 and wanted[0] != -1)):
        known = math.prod(size for size in same if size != -1)
        filled = [shape.size // known if size == -1 else size for size in same] if known else []
        if filled == whole:
            reader.ranks[node.output[0]] = 4
            return _unary("identity", node, place)
    raise refuse("Reshape", place, f"must flatten {shape} to a vector, got {wanted}")


def _quantiser(
    reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str
) -> Operator:
    _needs(node, 2, place)
    signed = bool(attributes.get("signed", 1))
    if node.op_type != "MultiThreshold":
        scale = reader.floats(node.input[1], place)
        if scale.size != 1 or not float(scale.min()) > 0:
            raise refuse(node.op_type, place, "the scale must be one positive number")
    if node.op_type in ("Quant", "IntQuant", "Trunc"):
        _needs(node, 4, place)
        if reader.floats(node.input[2], place).any():
            raise refuse(node.op_type, place, "the zero point must be 0")
    match node.op_type:
        case "BipolarQuant":  # two codes, which here are 0 and 1
            bits, signed = 1, False
        case "MultiThreshold":
            kind = str(attributes.get("out_dtype", ""))
            at = reader.constant(node.input[1], place)
            bits = at.shape[-1].bit_length() if at.ndim == 2 else 0
            if not (kind.startswith(("INT", "UINT")) or kind in ("BIPOLAR", "BINARY")):
                raise refuse("MultiThreshold", place, f"must write integers, got {kind!r}")
            if not 1 <= bits <= 8:
                raise refuse("MultiThreshold", place, f"must have 1 to 255 steps: {at.shape}")
            signed = kind.startswith("INT")
        case "Trunc":
            bits = reader.bits(node, 4, place)
        case _:
            bits = reader.bits(node, 3, place)
            if bits == 1 and signed:
                signed = False
    return Operator(
        kind="quantiser",
        place=place,
        inputs=(node.input[0],),
        output=node.output[0],
        bits=bits,
        signed=signed,
    )


def _same(reader: _Reader, node: NodeProto, attributes: Mapping[str, Any], place: str) -> Operator:
    if node.op_type == "Cast" and attributes.get("to") not in (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
    ):
        raise refuse("Cast", place, "must be to 32 bit floats")
    trains = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
    if trains and reader.constant(trains, place).any():
        raise refuse("Dropout", place, f"is in training mode; {OFFERED}")
    return _unary("identity", node, place)


_QUANTISERS = ("Quant", "IntQuant", "BipolarQuant")

_OPERATORS: dict[str, _Make] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "BatchNormalization": _batch_norm,
    "Relu": _relu,
    "Clip": _relu,
    "Max": _relu,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _mean,
    "ReduceMean": _mean,
    "Add": _added,
    "Sum": _added,
    "Sub": _added,
    "Mul": _added,
    "Div": _added,
    "Flatten": _flattened,
    "Reshape": _flattened,
    "Squeeze": _flattened,
    "Unsqueeze": _flattened,
    "Dropout": _same,
    "Identity": _same,
    "Cast": _same,
    "Quant": _quantiser,
    "IntQuant": _quantiser,
    "BipolarQuant": _quantiser,
    "Trunc": _quantiser,
    "MultiThreshold": _quantiser,
}
