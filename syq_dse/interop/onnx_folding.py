"""Constant expressions of ONNX: only what cannot make much out of little."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from syq_dse.interop.onnx_file import DTYPES, Array

LARGEST_FOLDED = 1 << 22
"""Elements of a constant that is made of smaller ones."""


def _broadcast(make: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def folded(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
        a, b = inputs
        _check_folded(np.broadcast_shapes(a.shape, b.shape), max(a.size, b.size))
        return make(a, b)

    return folded


def _check_folded(shape: Sequence[int], given: int) -> None:
    if math.prod(shape) > max(LARGEST_FOLDED, given):
        raise ValueError(f"the result of shape {list(shape)} is too large")


def _expanded(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    shape = np.broadcast_shapes(inputs[0].shape, [int(size) for size in inputs[1].reshape(-1)])
    _check_folded(shape, inputs[0].size)
    return np.broadcast_to(inputs[0], shape)


def _axes(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = inputs[1].reshape(-1).tolist() if len(inputs) > 1 else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _unsqueezed(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    axes = _axes(inputs, attributes)
    if axes is None:
        raise ValueError("Unsqueeze needs axes")
    return np.expand_dims(inputs[0], axes)


def _joined(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    _check_folded([sum(one.size for one in inputs)], max(one.size for one in inputs))
    return np.concatenate(inputs, attributes["axis"])


def _gathered(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    axis = attributes.get("axis", 0)
    _check_folded([inputs[0].size // max(1, inputs[0].shape[axis]), inputs[1].size], 0)
    return np.take(inputs[0], inputs[1].astype(np.int64), axis)


def _cast(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    return inputs[0].astype(DTYPES[attributes["to"]])


def _reshaped(inputs: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    wanted = [int(size) for size in inputs[1].reshape(-1)]
    return inputs[0].reshape(
        [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    )


def _divided(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        if not b.all():
            raise ValueError("a division by 0")
        return np.asarray(np.fix(a / b).astype(a.dtype))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b)


FOLDED: dict[str, Callable[[Sequence[Array], Mapping[str, Any]], Array]] = {
    "Identity": lambda x, a: x[0],
    "Cast": _cast,
    "CastLike": lambda x, a: x[0].astype(np.float32),
    "Expand": _expanded,
    "Neg": lambda x, a: -x[0],
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Transpose": lambda x, a: x[0].transpose(a.get("perm")),
    "Reshape": _reshaped,
    "Flatten": lambda x, a: x[0].reshape(math.prod(x[0].shape[: a.get("axis", 1)]), -1),
    "Unsqueeze": _unsqueezed,
    "Squeeze": lambda x, a: np.squeeze(x[0], _axes(x, a)),
    "Concat": _joined,
    "Gather": _gathered,
    "Add": _broadcast(np.add),
    "Sub": _broadcast(np.subtract),
    "Mul": _broadcast(np.multiply),
    "Div": _broadcast(_divided),
}
