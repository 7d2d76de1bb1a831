"""ONNX files and their tensors; sizes are checked before anything is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper

from syq_dse.errors import InputError, one_line
from syq_dse.network import LARGEST_SIZE, Shape

Array = npt.NDArray[Any]

OPSETS = 9, 25
"""Oldest and newest opset of ONNX that is read."""

LARGEST_FILE = 1 << 31
"""Bytes: what protobuf reads at most."""

LARGEST_TENSOR = 1 << 29
"""Elements of a constant."""

DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
}

QUANTISED_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")

DOMAINS = ("", "ai.onnx", *QUANTISED_DOMAINS)

OFFERED = (
    "remedy: export in 32 bit floats, with a fixed image size, opset "
    f"{OPSETS[0]} to {OPSETS[1]}, for inference"
)


def load(path: Path) -> ModelProto:
    """The file's message, without what lies beside it.

    Raises:
        InputError: it cannot be read, or its opset is too old or too new.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{path}: must have at most {LARGEST_FILE} bytes, got {size}")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError):
        raise InputError(f"{path}: is cut or no ONNX file") from None
    # of names that are no UTF-8 protobuf gives bytes
    if not all(isinstance(text, str) for text in _texts(model)):
        raise InputError(f"{path}: is cut or no ONNX file: names must be UTF-8 text")
    if not model.graph.node:
        raise InputError(f"{path}: is no ONNX file, or has no operators")
    if model.functions:
        raise InputError(f"{path}: has functions of its own; remedy: inline them at export")
    versions = {one.domain: one.version for one in model.opset_import}
    for domain in versions:
        if domain not in DOMAINS and any(node.domain == domain for node in model.graph.node):
            known = ", ".join(repr(one) for one in DOMAINS)
            raise InputError(f"{path}: operators of domain {domain!r} are unknown; known: {known}")
    version = versions.get("", versions.get("ai.onnx"))
    if version is None or not OPSETS[0] <= version <= OPSETS[1]:
        rule = f"opset must be {OPSETS[0]} to {OPSETS[1]}"
        raise InputError(f"{path}: {rule}, got {version}; remedy: export anew, or convert it")
    return model


def _texts(model: ModelProto) -> Iterator[Any]:
    """Every name in a file that is read here."""
    for one in model.opset_import:
        yield one.domain
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    graph = model.graph
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    tensors = list(graph.initializer)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            tensors.append(attribute.t)
    for tensor in tensors:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def metadata(model: ModelProto) -> Iterator[tuple[str, str]]:
    """What the file says of itself."""
    for entry in model.metadata_props:
        yield entry.key, entry.value


def array_of(tensor: TensorProto, path: Path, place: str) -> Array:
    """A stored tensor, whose size is checked before anything is allocated.

    Raises:
        InputError: of another type, too large, or with other bytes than its shape needs.
    """
    at = f"{one_line(place)}: constant '{one_line(tensor.name)}'"
    if tensor.data_type not in DTYPES:
        known = TensorProto.DataType.keys()
        shown = tensor.data_type
        name = TensorProto.DataType.Name(shown) if shown in range(len(known)) else str(shown)
        raise InputError(f"{at}: type {name} is unknown; {OFFERED}")
    dtype = DTYPES[tensor.data_type]
    dims = list(tensor.dims)
    if any(size < 0 for size in dims):
        raise InputError(f"{at}: sizes must not be negative, got {dims}")
    count = math.prod(dims)
    if count > LARGEST_TENSOR:
        raise InputError(f"{at}: must have at most {LARGEST_TENSOR} elements, got {count}")
    if tensor.data_location == TensorProto.EXTERNAL:
        return np.frombuffer(_beside(tensor, path, at, count * dtype.itemsize), dtype).reshape(dims)
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data) / dtype.itemsize
    else:
        fields: dict[int, Sequence[float]] = {
            TensorProto.FLOAT: tensor.float_data,
            TensorProto.DOUBLE: tensor.double_data,
            TensorProto.INT32: tensor.int32_data,
            TensorProto.INT64: tensor.int64_data,
        }
        held = len(fields[tensor.data_type])
    if held != count:
        raise InputError(f"{at}: shape {dims} needs {count} elements, got {held:g}")
    return np.asarray(numpy_helper.to_array(tensor))


def _beside(tensor: TensorProto, path: Path, at: str, size: int) -> bytes:
    """The bytes of a tensor that lie in a file beside."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = Path(location)
    root = path.resolve().parent
    inside = (
        location and not where.is_absolute() and ".." not in where.parts and "\0" not in location
    )
    if not inside or not (root / where).resolve().is_relative_to(root):
        raise InputError(f"{at}: must lie beside the file, got {location!r}")
    numbers = [entries.get("offset", "0"), entries.get("length", str(size))]
    if not all(text.isascii() and text.isdecimal() and len(text) < 16 for text in numbers):
        raise InputError(f"{at}: offset and length must be numbers, got {numbers}")
    offset, length = map(int, numbers)
    if length != size:
        raise InputError(f"{at}: its shape needs {size} bytes, got {length}")
    beside = root / where
    try:
        if not beside.is_file() or beside.stat().st_size < offset + size:
            raise InputError(f"{beside}: is no file of {offset + size} bytes, which {at} needs")
        with beside.open("rb") as file:
            file.seek(offset)
            found = file.read(size)
    except OSError as error:
        raise InputError(f"{at}: {beside}: cannot be read: {error.strerror}") from None
    if len(found) != size:
        raise InputError(f"{beside}: is cut: {at} needs {offset + size} bytes")
    return found


def stored_beside(model: ModelProto) -> int:
    """Elements that a file says to lie beside it; whether they do is seen where they are read."""
    return sum(
        min(math.prod(size for size in tensor.dims if size > 0), LARGEST_TENSOR)
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    )


def input_shape(path: Path, value: onnx.ValueInfoProto) -> tuple[int, int, Shape]:
    """Images at a time, 1 where that is open; axes; and the shape of one."""
    at = f"{path}: input '{one_line(value.name)}'"
    kind = value.type.tensor_type
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        shown = kind.elem_type
        known = shown in range(len(TensorProto.DataType.keys()))
        name = TensorProto.DataType.Name(shown) if known else str(shown)
        raise InputError(f"{at}: must be 32 bit floats, got {name}; {OFFERED}")
    dims = list(kind.shape.dim)
    if len(dims) not in (2, 4):
        raise InputError(
            f"{at}: must be images (n, c, h, w) or vectors (n, c), got {len(dims)} axes"
        )
    for index, dim in enumerate(dims[1:], start=1):
        if not dim.HasField("dim_value") or dim.dim_value < 1:
            shown_dim = dim.dim_param or dim.dim_value
            raise InputError(
                f"{at}: axis {index} is dynamic ({one_line(str(shown_dim))}); {OFFERED}"
            )
    batch = dims[0].dim_value if dims[0].HasField("dim_value") and dims[0].dim_value > 0 else 1
    sizes = [dim.dim_value for dim in dims[1:]] + [1, 1]
    if max(sizes) > LARGEST_SIZE:
        raise InputError(f"{at}: sizes must be at most {LARGEST_SIZE}, got {max(sizes)}")
    return batch, len(dims), Shape(*sizes[:3])


def attributes_of(node: NodeProto, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in node.attribute:
        match one.type:
            case AttributeProto.INT:
                found[one.name] = one.i
            case AttributeProto.FLOAT:
                found[one.name] = one.f
            case AttributeProto.STRING:
                found[one.name] = one.s.decode("utf-8", "replace")
            case AttributeProto.INTS:
                found[one.name] = list(one.ints)
            case AttributeProto.FLOATS:
                found[one.name] = list(one.floats)
            case AttributeProto.TENSOR:
                found[one.name] = one.t
            case _:
                raise InputError(
                    f"{one_line(place)}: attribute '{one_line(one.name)}' is of an unknown kind"
                )
    return found
